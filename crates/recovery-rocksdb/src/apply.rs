//! Carries a plan out: core places files, this makes those that only the engine can make.

use recovery_core::{Context, Error, Output, Plan, Receipt, Result, Sources, Target, WriteStep, apply as core_apply};
use serde::de::DeserializeOwned;

use crate::engine::refuse_if_locked;
use crate::format::current;
use crate::inspect::gather::record_limit;
use crate::plan::{BlobArgs, WalArgs};
use crate::rewrite::{self, MemtableArgs, MergedArgs, TableArgs, open};
use crate::writer::manifest::{self, NewVersion};
use crate::writer::wal;

fn args<T: DeserializeOwned>(step: &WriteStep) -> Result<T> {
    serde_json::from_value(step.args.clone()).map_err(|e| Error::Usage(format!("plan: step {}: {e}", step.to)))
}

/// Carries `plan` out.
///
/// # Errors
///
/// A refusal when the database is open or the target holds something else; reading and writing.
pub(crate) fn apply(sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
    refuse_if_locked(sources)?;
    core_apply::run(sources, plan, target, cx, &|step, out| write(sources, plan, step, out, cx))
}

fn write(sources: &Sources, plan: &Plan, step: &WriteStep, out: &mut dyn Output, cx: &Context) -> Result<()> {
    let failed = |e: std::io::Error| Error::write(&step.to, "write", e);
    match step.what.as_str() {
        "manifest" => {
            let version = plan.result.get("version").cloned().unwrap_or_default();
            let version: NewVersion =
                serde_json::from_value(version).map_err(|e| Error::Usage(format!("plan: version: {e}")))?;
            let bytes = manifest::encode(&version).map_err(|e| Error::Usage(e.to_string()))?;
            out.write_all(&bytes).map_err(failed)
        }
        "current" => {
            let number = step.args.get("manifest").and_then(serde_json::Value::as_u64);
            let number = number.ok_or_else(|| Error::Usage("plan: CURRENT without a MANIFEST number".to_owned()))?;
            out.write_all(&current::encode(number)).map_err(failed)
        }
        "identity" => {
            let id = step.args.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
            out.write_all(id.as_bytes()).map_err(failed)
        }
        "table" => {
            let args: TableArgs = args(step)?;
            let done = rewrite::table(sources, &args, cx, &mut std::io::BufWriter::new(out))?;
            check_size(step, done.written.map_or(0, |w| w.size))
        }
        "merged" => {
            let args: MergedArgs = args(step)?;
            let done = rewrite::merged(sources, &args, cx, &mut std::io::BufWriter::new(out))?;
            check_size(step, done.written.map_or(0, |w| w.size))
        }
        "memtable" => {
            let args: MemtableArgs = args(step)?;
            let done = rewrite::memtable(sources, &args, cx, &mut std::io::BufWriter::new(out))?;
            check_size(step, done.map_or(0, |w| w.size))
        }
        "blob" => {
            let args: BlobArgs = args(step)?;
            let blob = open(sources, args.source, &args.object)?;
            rewrite::blob(&blob, &mut std::io::BufWriter::new(out))
        }
        "wal" => {
            let args: WalArgs = args(step)?;
            let blob = open(sources, args.source, &args.object)?;
            let size = wal::rewrite(blob.as_ref(), args.number, record_limit(cx), &args.keep, out)?;
            check_size(step, size)
        }
        other => Err(Error::Usage(format!("plan: step {}: nobody knows how to make a {other}", step.to))),
    }
}

/// The MANIFEST of the plan holds the size: a file of another size would not open.
fn check_size(step: &WriteStep, size: u64) -> Result<()> {
    if size == step.size {
        return Ok(());
    }
    Err(Error::Internal(format!("{}: {size} bytes were made, the plan says {}", step.to, step.size)))
}

//! Base and logs to a state, and the state to a metadata file: what `mfsmetarestore -m` of 1.6 does.
//!
//! `cargo run --release --example moosefs_replay -- DIALECT METADATA OUT LOG...`
//!
//! run: 3 fixtures/moosefs/v3_rare_ops/in/metadata.mfs.back NEW fixtures/moosefs/v3_rare_ops/in/changelog.0.mfs

use std::sync::Arc;

use recovery_core::{Blob, Context, FileBlob};
use recovery_moosefs::model::store::StoreOptions;
use recovery_moosefs::run::{Job, Log, build};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dialect, base, out, logs @ ..] = args.as_slice() else {
        return Err("moosefs_replay DIALECT METADATA OUT LOG...".into());
    };
    let open = |path: &str| -> Result<Arc<dyn Blob>, recovery_core::ReadError> {
        Ok(Arc::new(FileBlob::open(path.as_ref(), path)?))
    };
    let mut inputs = Vec::new();
    for log in logs {
        inputs.push(Log { blob: open(log)?, skip: Vec::new(), use_rest: true });
    }
    let threads = std::env::var("THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(2);
    let cx = Context::with_threads(threads);
    let job = Job {
        base: Some(open(base)?),
        logs: inputs,
        dialect: dialect.parse()?,
        until: u64::MAX,
        salvage: false,
        checksums: false,
        past_gaps: false,
        witnesses: Vec::new(),
    };
    let built = build(&job, &cx)?;
    if let Some(stop) = &built.stop {
        return Err(format!("stopped after {} changes: {stop:?}", built.applied).into());
    }
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(out)?);
    let now = u32::try_from(cx.now_ms / 1000)?;
    cx.pool().install(|| built.model.store(&mut file, StoreOptions { now }))?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

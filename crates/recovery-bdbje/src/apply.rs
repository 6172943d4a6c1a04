//! Building the result in a new place, and proving it.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use recovery_core::{
    Context, Error, MemBlob, Output, Plan, Receipt, Report, Result, Severity, Source, Sources, Target, WriteStep,
};
use serde_json::Value;

use crate::inspect;
use crate::model::{Environment, Group, Role};
use crate::plan::{Decided, Made, Options, Recipe, Work, summarise, write_again};
use crate::reader::scan::ScanOptions;
use crate::reader::{Log, LogFile, scan_log};

/// Carries a plan out.
///
/// # Errors
///
/// When it cannot be carried out; nothing is then visible in the new place.
pub fn apply(sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
    let decided: Decided = serde_json::from_value(plan.result.clone())
        .map_err(|e| Error::Usage(format!("the plan's result is not of this engine: {e}")))?;
    if decided.recipe == Recipe::Scratch {
        return scratch(sources, plan, &decided, target, cx);
    }
    let make = |step: &WriteStep, out: &mut dyn Output| match given(step)? {
        Some(bytes) => write(out, &bytes, &step.to),
        None => Err(Error::Usage(format!("{}: the plan does not say what it holds", step.to))),
    };
    recovery_core::apply::run(sources, plan, target, cx, &make)
}

/// The bytes that stand in a plan.
fn given(step: &WriteStep) -> Result<Option<Vec<u8>>> {
    let text = |k: &str| step.args.get(k).and_then(Value::as_str);
    if let Some(hex) = text("hex") {
        let bytes = recovery_core::unhex(hex);
        return bytes.map(Some).ok_or_else(|| Error::Usage(format!("{}: bad bytes in the plan", step.to)));
    }
    Ok(text("text").map(|t| t.as_bytes().to_vec()))
}

/// How many files may wait to be written.
const WAITING: usize = 1;

/// Writes a new environment: one thread reads the records and makes file after file, this one writes them, so that no
/// more than a few files are in memory.
fn scratch(sources: &Sources, plan: &Plan, decided: &Decided, target: &dyn Target, cx: &Context) -> Result<Receipt> {
    let options: Options = recovery_core::options(&plan.options)?;
    // Threads of the caller's pool wait for files: they must not be the ones that make them.
    let mut own = Context::with_limits(cx.limits);
    own.cancel = Arc::clone(&cx.cancel);
    own.check = cx.check;
    let (start, started) = mpsc::channel::<()>();
    let (send, files) = mpsc::sync_channel::<Result<(u32, Bytes)>>(WAITING);
    let produce = move || {
        // Nothing is made for a result that is already there.
        if started.recv().is_err() {
            return;
        }
        let gone = || Error::Interrupted;
        let made = inspect::inspect(sources, &own).and_then(|(seen, _)| {
            let mut sink = |number, bytes| send.send(Ok((number, bytes))).map_err(|_| gone());
            write_again(&seen, &options, decided, &own, &mut sink)
        });
        if let Err(e) = made {
            // Nobody listens any more when the other side has failed.
            let _ = send.send(Err(e));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(produce);
        let ends = Mutex::new((start, files));
        let make = |step: &WriteStep, out: &mut dyn Output| -> Result<()> {
            if let Some(bytes) = given(step)? {
                return write(out, &bytes, &step.to);
            }
            let number = step.args.get("file").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
            let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            // A second start is not heard and not needed.
            let _ = ends.0.send(());
            loop {
                let Ok(next) = ends.1.recv() else {
                    return Err(Error::Usage(format!("{}: the plan names a file that is not made", step.to)));
                };
                let (n, bytes) = next?;
                if Some(n) == number {
                    return write(out, &bytes, &step.to);
                }
            }
        };
        let receipt = recovery_core::apply::run_in_order(sources, plan, target, cx, &make);
        drop(ends);
        receipt
    })
}

fn write(out: &mut dyn Output, bytes: &[u8], to: &str) -> Result<()> {
    let out: &mut dyn Write = out;
    out.write_all(bytes).map_err(|e| Error::write(to, "write", e))
}

/// Opens what will be written as JE would, and compares it with the plan.
///
/// # Errors
///
/// When the result would not hold what the plan says: nothing is then written.
pub fn prove(work: &Work, kept: &Log, alone: bool, cx: &Context) -> Result<()> {
    let mut log = kept.clone();
    for (number, made) in &work.made {
        let Made::Bytes(bytes) = made else { continue };
        let name = crate::reader::log::file_name(*number);
        let blob = Arc::new(MemBlob::new(name.clone(), bytes.clone()));
        log.files.insert(*number, LogFile::new(*number, name, blob));
    }
    let scan = scan_log(&log, ScanOptions::default(), cx)?;
    if let Some((f, b)) = scan.bad().next() {
        return Err(Error::Internal(format!("the result would hold {} in {} at {:#x}", b.error, f.name, b.offset)));
    }
    let t = scan.all();
    let env = Environment::open(log, t.ckpt_end, t.db_tree, Role::Standalone, cx)?;
    compare(&env, &work.decided, alone, cx)
}

fn compare(env: &Environment, decided: &Decided, alone: bool, cx: &Context) -> Result<()> {
    let wrong = |what: String| Err(Error::Internal(format!("the result would not be what was planned: {what}")));
    if let Some(p) = env.problems.first() {
        return wrong(p.to_string());
    }
    for (name, id) in &env.names {
        let dropped = env.rootless_changes(*id);
        if dropped > 0 && !name.starts_with("_je") {
            return wrong(format!("JE would drop {dropped} records of {name}: its tree has no root"));
        }
    }
    let records = summarise(env, cx)?;
    if records != decided.records {
        let differs = decided.records.iter().find(|(n, s)| records.get(*n) != Some(s)).map(|(n, _)| n.as_str());
        return wrong(format!("database {} differs", differs.unwrap_or("list")));
    }
    if decided.recipe == Recipe::Copy {
        return Ok(());
    }
    let group = Group::read(env, cx)?;
    let members: Vec<&str> = group.members().map(|m| m.name.as_str()).collect();
    let own = group.members().find(|m| m.name == decided.node.name);
    match own {
        Some(m) if m.quorum_ack && m.host == decided.node.host && m.port == decided.node.port => {}
        _ => return wrong(format!("{} is not in the group {members:?}", decided.node.name)),
    }
    if alone && members.len() != 1 {
        return wrong(format!("the group has the members {members:?}"));
    }
    Ok(())
}

/// Inspects a result strictly, and compares its records with the plan's.
///
/// # Errors
///
/// For reasons to stop.
pub fn verify(result: &Arc<dyn Source>, receipt: &Receipt, cx: &Context) -> Result<Report> {
    let sources = Sources::one(Arc::clone(result));
    let mut report = inspect::report(&sources, cx)?;
    let seen = report.state::<inspect::Inspected>();
    let decided: Option<Decided> = serde_json::from_value(receipt.result.clone()).ok();
    let node = seen.as_ref().and_then(|s| s.nodes.first()).and_then(|n| n.je.as_ref());
    if let (Some(decided), Some(env)) = (decided, node)
        && let Err(e) = compare(env, &decided, !decided.group_kept, cx)
    {
        let finding = recovery_core::Finding::new(&crate::codes::LOST_RECORDS, Severity::Lost, "");
        report.findings.push(finding.summary(e.to_string()));
        report.findings_total = report.findings_total.saturating_add(1);
        report.verdict = recovery_core::Verdict::Lossy;
        report.exit = report.verdict.exit();
    }
    Ok(report)
}

//! Building the result in a new place, and proving it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use recovery_core::{
    Context, Error, MemBlob, Output, Plan, Receipt, Report, Result, Severity, Source, Sources, Target, WriteStep,
};

use crate::inspect;
use crate::model::{Environment, Group, Role};
use crate::plan::{Decided, Options, Work, decide, drawn_of, summarise};
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
    let made: OnceLock<std::result::Result<BTreeMap<u32, Vec<u8>>, String>> = OnceLock::new();
    let remake = || -> Result<BTreeMap<u32, Vec<u8>>> {
        let options: Options = recovery_core::options(&plan.options)?;
        let (seen, _) = inspect::inspect(sources, cx)?;
        let work = decide(&seen, &options, &drawn_of(&decided)?, cx)?;
        if work.decided.records != decided.records {
            return Err(Error::Internal("the records differ from those of the plan".to_owned()));
        }
        Ok(work.made.into_iter().collect())
    };
    let make = |step: &WriteStep, out: &mut dyn Output| -> Result<()> {
        let text = |k: &str| step.args.get(k).and_then(serde_json::Value::as_str);
        if let Some(hex) = text("hex") {
            let bytes =
                recovery_core::unhex(hex).ok_or_else(|| Error::Usage(format!("{}: bad bytes in the plan", step.to)))?;
            return write(out, &bytes, &step.to);
        }
        if let Some(t) = text("text") {
            return write(out, t.as_bytes(), &step.to);
        }
        let number = step.args.get("file").and_then(serde_json::Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let files = made.get_or_init(|| remake().map_err(|e| e.to_string()));
        let files = files.as_ref().map_err(|e| Error::Internal(e.clone()))?;
        let bytes = number.and_then(|n| files.get(&n));
        let bytes =
            bytes.ok_or_else(|| Error::Usage(format!("{}: the plan names a file that is not made", step.to)))?;
        write(out, bytes, &step.to)
    };
    recovery_core::apply::run(sources, plan, target, cx, &make)
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
pub fn prove(work: &Work, kept: Option<&Log>, alone: bool, cx: &Context) -> Result<()> {
    let mut log = kept.cloned().unwrap_or_default();
    for (number, bytes) in &work.made {
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
    if decided.recipe == crate::plan::Recipe::Copy {
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
    let (seen, _) = inspect::inspect(&sources, cx)?;
    let mut report = inspect::report(&sources, cx)?;
    let decided: Option<Decided> = serde_json::from_value(receipt.result.clone()).ok();
    let node = seen.nodes.first().and_then(|n| n.je.as_ref());
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

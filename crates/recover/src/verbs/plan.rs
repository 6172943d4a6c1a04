//! `recover plan`: the decision as a file.
//!
//! A plan of more than ten thousand steps keeps them in a JSON Lines file beside it, named and hashed in the plan.

use std::io::Write;
use std::path::{Path, PathBuf};

use recovery_core::{Context, Error, Plan, Reason, Recover, Report, Result, Sources, Verdict, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Call;
use crate::failure::Failure;
use crate::{human, open};

/// Steps that stand in the plan itself.
const STEPS_INSIDE: usize = 10_000;

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let (cx, options) = (open::context(call.args, &call.cancel)?, open::options(call.args)?);
    let paths = open::absolute(&open::paths(call.args));
    let first = paths.first().ok_or_else(|| Error::Usage("name a path".to_owned()))?;
    let cli = open::engine(call.engines, call.args, first, &options, &cx)?;
    let sources = open::sources(cli.engine(), call.args, &paths, &options, &cx)?;
    let (_, plan) = make(cli.engine(), &sources, &cli.options_json(call.args)?, &cx)?;
    let file = call.args.get_one::<PathBuf>("out").ok_or_else(|| Error::Usage("--out is missing".to_owned()))?;
    save(&plan, file)?;
    if call.json {
        super::json(call, out, &plan)?;
    } else {
        human::plan(out, &plan)?;
        let accept: String =
            plan.consents.iter().map(|c| format!(" --accept {}", recovery_core::names::shell(c))).collect();
        let shown = file.display().to_string();
        writeln!(out, "\nNext\n  recover apply {} --into NEWDIR{accept}", recovery_core::names::shell(&shown))?;
    }
    Ok(plan.exit)
}

/// Inspects and decides.
pub(super) fn make(engine: &dyn Recover, sources: &Sources, options: &Value, cx: &Context) -> Result<(Report, Plan)> {
    let report = engine.inspect(sources, options, cx)?;
    if report.verdict == Verdict::Unusable {
        let why = report.findings.first().map(|f| format!("{}: {}", f.object, f.summary)).unwrap_or_default();
        return Err(Error::Unusable(format!("{}: nothing here can be saved; {why}", report.sources.join(", "))));
    }
    let mut plan = engine.plan(sources, &report, options, cx)?;
    plan.exit = report.exit;
    Ok((report, plan))
}

fn new_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::refuse(Reason::TargetNotEmpty, format!("{}: exists; nothing is ever overwritten", path.display()))
        }
        _ => Error::write(path.display(), "create", e),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| Error::write(path.display(), "write", e))
}

fn steps_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".steps.jsonl");
    PathBuf::from(name)
}

fn save(plan: &Plan, path: &Path) -> Result<()> {
    let bad = |e: serde_json::Error| Error::Internal(format!("plan: {e}"));
    let mut value = serde_json::to_value(plan).map_err(bad)?;
    if plan.steps.len() > STEPS_INSIDE {
        let mut lines = Vec::new();
        for step in &plan.steps {
            serde_json::to_writer(&mut lines, step).map_err(bad)?;
            lines.push(b'\n');
        }
        let beside = steps_file(path);
        new_file(&beside, &lines)?;
        if let Some(plan) = value.as_object_mut() {
            let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
            plan.insert("steps".to_owned(), json!([]));
            plan.insert("steps_file".to_owned(), json!({"name": name, "sha256": hex(&Sha256::digest(&lines))}));
        }
    }
    new_file(path, format!("{value:#}\n").as_bytes())
}

/// Reads a plan, and the file of its steps if they stand beside it.
pub(super) fn load(path: &Path) -> Result<Plan> {
    let usage = |e: &dyn std::fmt::Display| Error::Usage(format!("{}: {e}", path.display()));
    let text = std::fs::read(path).map_err(|e| usage(&e))?;
    let mut value: Value = serde_json::from_slice(&text).map_err(|e| usage(&e))?;
    let beside = value.as_object_mut().and_then(|o| o.remove("steps_file"));
    let mut plan: Plan = serde_json::from_value(value).map_err(|e| usage(&e))?;
    if plan.schema != recovery_core::PLAN_SCHEMA {
        return Err(usage(&format!("its schema is {:?}, expected {:?}", plan.schema, recovery_core::PLAN_SCHEMA)));
    }
    if let Some(beside) = beside {
        let lines = std::fs::read(steps_file(path)).map_err(|e| usage(&e))?;
        if beside.get("sha256").and_then(Value::as_str) != Some(hex(&Sha256::digest(&lines)).as_str()) {
            return Err(usage(&"the file of its steps is not the one it was written with"));
        }
        let lines = lines.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        plan.steps = lines.map(|l| serde_json::from_slice(l).map_err(|e| usage(&e))).collect::<Result<_>>()?;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use recovery_core::Step;

    #[test]
    fn a_large_plan_comes_back_whole_and_a_changed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.json");
        let mut plan = Plan::new("rocksdb", Value::Null, &Sources::default());
        plan.steps = (0..STEPS_INSIDE + 1).map(|i| Step::Mkdir { to: format!("d{i}"), mode: None }).collect();
        save(&plan, &file).unwrap();
        assert_eq!(load(&file).unwrap(), plan);
        assert!(save(&plan, &file).is_err(), "nothing is overwritten");
        let lines = std::fs::read_to_string(steps_file(&file)).unwrap();
        std::fs::write(steps_file(&file), lines.replace("d17\"", "d18\"")).unwrap();
        assert!(load(&file).is_err());
    }
}

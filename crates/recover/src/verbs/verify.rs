//! `recover verify`: receipt, sums, strict inspection.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Context, DirSource, Error, Receipt, Recover, Report, Result, Source, Verdict};
use serde_json::json;

use super::Call;
use crate::failure::Failure;
use crate::{human, open};

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let cx = open::context(call.args, &call.cancel)?;
    let place = call.args.get_one::<PathBuf>("result").ok_or_else(|| Error::Usage("name a result".to_owned()))?;
    let receipt = Receipt::load(&DirSource::open(place)?)?;
    let cli = open::by_name(call.engines, &receipt.engine)?;
    let engine = cli.engine();
    let (report, problems) = result(engine, place, &cx)?;
    let exit = if problems.is_empty() { report.exit } else { report.exit.max(4) };
    if call.json {
        let mut document = serde_json::to_value(&report).map_err(|e| Error::Internal(e.to_string()))?;
        if let Some(o) = document.as_object_mut() {
            o.insert("exit".to_owned(), json!(exit));
            o.insert("receipt_problems".to_owned(), json!(problems));
        }
        super::json(call, out, &document)?;
    } else {
        for problem in &problems {
            writeln!(out, "NOT AS BUILT: {}", recovery_core::names::terminal(problem))?;
        }
        human::report(out, &report, &cli.summary(&report))?;
    }
    Ok(exit)
}

/// Checks a result: its receipt and sums, then the engine's strict inspection.
pub(super) fn result(engine: &dyn Recover, place: &Path, cx: &Context) -> Result<(Report, Vec<String>)> {
    let source: Arc<dyn Source> = Arc::new(DirSource::open(place)?);
    let receipt = Receipt::load(source.as_ref())?;
    let problems = receipt.check(source.as_ref(), cx)?;
    Ok((engine.verify(&source, &receipt, cx)?, problems))
}

/// A result that does not verify right after it was built is our failure, and said so.
pub(super) fn must_hold(report: &Report, problems: &[String], place: &str) -> Result<()> {
    if let Some(problem) = problems.first() {
        return Err(Error::Internal(format!("{place}: the result differs from its receipt: {problem}; do not use it")));
    }
    if report.verdict >= Verdict::Lossy {
        let why = report.findings.first().map(|f| format!("{}: {}", f.object, f.summary)).unwrap_or_default();
        return Err(Error::Internal(format!(
            "{place}: the result does not pass its inspection ({why}); do not use it"
        )));
    }
    Ok(())
}

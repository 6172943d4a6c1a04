//! Facts and next commands of a report.

use recovery_core::{Plan, ReportBuilder, Sources, names};
use serde_json::{Value, json};

use super::Case;
use crate::dialect::Dialect;
use crate::plan::losses;
use crate::survey::CrcState;

pub(super) fn facts(report: &mut ReportBuilder, case: &Case) {
    let path = |source: u16, name: &str| if source == 0 { name.to_owned() } else { format!("{source}:{name}") };
    let bases: Vec<Value> = case
        .survey
        .bases
        .iter()
        .map(|b| {
            let o = b.outline.as_ref().ok();
            json!({
                "path": path(b.source, &b.entry.name),
                "signature": o.map(|o| o.signature.text()),
                "dialect": o.and_then(|o| o.dialect).map(Dialect::name),
                "metaversion": b.version(),
                "metaid": o.map(|o| o.header.metaid),
                "crc": b.crc.name(),
            })
        })
        .collect();
    let logs: Vec<Value> = case
        .survey
        .logs
        .iter()
        .map(|l| {
            json!({
                "path": path(l.source, &l.entry.name),
                "first": l.scan.first,
                "last": l.scan.last,
                "lines": l.scan.complete.then_some(l.scan.lines),
                "gaps": l.scan.gaps,
                "tail": l.scan.tail.name(),
            })
        })
        .collect();
    let best = case.way.as_ref().map(|w| {
        let base = w.base.and_then(|i| case.survey.bases.get(i)).map(|b| path(b.source, &b.entry.name));
        let used: Vec<String> =
            w.logs.iter().filter_map(|&i| case.survey.logs.get(i)).map(|l| path(l.source, &l.entry.name)).collect();
        let version = case.built.as_ref().map_or(w.reach, |b| b.model.version());
        json!({"base": base, "version": version, "logs": used, "dialect": w.dialect.map(Dialect::name)})
    });
    let totals = case.built.as_ref().map(|b| b.model.totals());
    report.facts(json!({
        "bases": bases,
        "logs": logs,
        "best": best,
        "inodes": totals.map(|t| t.inodes),
        "edges": totals.map(|t| t.edges),
        "chunks": totals.map(|t| t.chunks),
    }));
}

pub(super) fn next(report: &mut ReportBuilder, case: &Case, sources: &Sources) {
    let dirs: Vec<String> = sources.rivals.iter().map(|s| names::shell(&s.describe()).into_owned()).collect();
    let mut dirs = dirs.join(" ");
    if case.until < u64::MAX {
        dirs.push_str(&format!(" --until {}", case.until));
    }
    if case.way.as_ref().is_some_and(|w| w.past_gaps) {
        dirs.push_str(" --past-gaps");
    }
    let Some(way) = &case.way else {
        report.next("nothing can be restored from these files alone: add the directories of metaloggers and backups");
        report.next(format!("recover inspect {dirs} OTHERDIR..."));
        return;
    };
    if way.dialect.is_none() {
        report
            .next(format!("recover rescue {dirs} --as 4 --into NEWDIR      (or --as 3, 2, 1.6: the product that ran)"));
        return;
    }
    let complete = case.built.as_ref().is_some_and(|b| b.applied == 0 && b.stop.is_none() && b.issues.is_empty());
    if complete && case.base().is_some_and(|b| b.entry.file_name() == "metadata.mfs" && b.crc != CrcState::Bad) {
        report.next("nothing has to be restored: metadata.mfs is the state to start from");
        report.next("mfsmaster start      (without -a)");
        return;
    }
    let mut plan = Plan::new("moosefs", Value::Null, sources);
    losses(&mut plan, case);
    if plan.consents.is_empty() {
        report.next(format!("recover rescue {dirs} --into NEWDIR"));
    } else {
        report.next(format!(
            "look for the missing changes first, in the directories of metaloggers and backups: recover inspect {dirs} OTHERDIR..."
        ));
        let accept: String = plan.consents.iter().map(|c| format!(" --accept {c}")).collect();
        report.next(format!("recover rescue {dirs} --into NEWDIR{accept}"));
    }
    report.next(
        "put NEWDIR/metadata.mfs into an empty data directory of the master, then: mfsmaster start      (without -a)",
    );
}

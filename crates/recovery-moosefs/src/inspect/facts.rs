//! Facts and next commands of a report.

use recovery_core::{ReportBuilder, Sources, names};
use serde_json::{Value, json};

use super::Case;
use crate::dialect::Dialect;

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
    let dirs = dirs.join(" ");
    match &case.way {
        None => report
            .next("nothing can be restored from these files alone: add the directories of metaloggers and backups"),
        Some(w) if w.dialect.is_none() => report.next(format!("recover rescue {dirs} --as 4 --into NEWDIR")),
        Some(_) => {
            report.next(format!("recover rescue {dirs} --into NEWDIR"));
            report.next("put NEWDIR/metadata.mfs into an empty data directory of the master and start it without -a");
        }
    }
}

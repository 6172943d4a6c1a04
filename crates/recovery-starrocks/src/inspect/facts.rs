//! What the report says: facts, what stock RESTORE would do, what to type next.

use recovery_core::{IfStarted, ReportBuilder, Sources, names::shell};
use serde_json::{Value, json};

use crate::model::schema::KeysType;

use super::{Inspection, SnapshotVerdict, TableVerdict};

/// Damaged tablets of a table that stand in the facts.
const SHOWN: usize = 100;

pub(super) fn fill(inspection: &Inspection, sources: &Sources, report: &mut ReportBuilder) {
    report.facts(facts(inspection));
    for snapshot in inspection.stock() {
        for action in restore(snapshot) {
            report.if_started(action);
        }
    }
    next(inspection, sources, report);
}

/// Whether stock RESTORE restores a table of the copy as it lies, without the files of other copies.
fn as_it_lies(inspection: &Inspection, s: &SnapshotVerdict, t: &TableVerdict) -> bool {
    let own = inspection.stock().iter().find(|o| o.label == s.label && o.timestamp == s.timestamp);
    own.and_then(|o| Some((o, o.tables.iter().find(|x| x.name == t.name)?))).is_some_and(|(o, x)| o.restorable(x))
}

pub(crate) fn facts(inspection: &Inspection) -> Value {
    let loaded = &inspection.loaded;
    let snapshots: Vec<Value> = inspection.snapshots.iter().map(|s| snapshot_facts(inspection, s)).collect();
    json!({
        "repository": {
            "name": loaded.name(),
            "prefix": loaded.prefix().text(),
            "location": loaded.repository.source.describe(),
        },
        "snapshots": snapshots,
    })
}

fn snapshot_facts(inspection: &Inspection, s: &SnapshotVerdict) -> Value {
    let tables: Vec<Value> = s.tables.iter().map(|t| table_facts(t, as_it_lies(inspection, s, t))).collect();
    json!({
        "label": s.label,
        "timestamp": s.timestamp,
        "backup_time_ms": s.backup_time_ms,
        "database": s.database,
        "finished": s.finished,
        "problems": s.problems,
        "tables": tables,
    })
}

fn table_facts(t: &TableVerdict, restorable: bool) -> Value {
    let mut facts = json!({
        "name": t.name,
        "keys_type": t.keys.map(crate::model::schema::KeysType::name),
        "partitions": t.partitions,
        "tablets": t.tablets,
        "rows": t.rows,
        "rows_exact": t.rows_exact,
        "bytes": t.bytes,
        "restorable": restorable,
        "after_rescue": after_rescue(t),
    });
    if let (Some(map), false) = (facts.as_object_mut(), t.damaged.is_empty()) {
        let shown = t.damaged.iter().take(SHOWN);
        let list = shown.map(|(p, why)| json!({"tablet": p.tablet, "partition": p.partition, "why": why}));
        map.insert("damaged".into(), list.collect());
        map.insert("damaged_partitions".into(), json!(t.damaged_partitions));
        map.insert("lost_rows_at_most".into(), json!(t.lost_rows));
    }
    facts
}

/// What `rescue` can make of a table.
fn after_rescue(t: &TableVerdict) -> &'static str {
    if t.damaged_partitions.is_empty() {
        "whole"
    } else if t.keys.is_some_and(|k| k != KeysType::Primary) {
        "without-rows"
    } else if (t.damaged_partitions.len() as u64) < t.partitions {
        "without-partitions"
    } else {
        "export-only"
    }
}

fn restore(s: &SnapshotVerdict) -> Vec<IfStarted> {
    let name = format!("{}@{}", s.label, s.timestamp);
    if !s.problems.is_empty() {
        return vec![IfStarted::new("refuses", name, format!("RESTORE fails: {}", s.problems.join("; ")))];
    }
    let damaged = s.tables.iter().filter(|t| !t.damaged.is_empty());
    damaged
        .map(|t| {
            let first = t.damaged.first().and_then(|d| d.1.first()).cloned().unwrap_or_default();
            let object = format!("{name}: {}", t.name);
            if t.late {
                let why = format!("RESTORE over an existing table replaces its data before it finds: {first}");
                IfStarted::new("deletes", object, why).loses(t.lost_rows, 0)
            } else {
                IfStarted::new("refuses", object, format!("RESTORE fails and retries until its timeout: {first}"))
            }
        })
        .collect()
}

fn next(inspection: &Inspection, sources: &Sources, report: &mut ReportBuilder) {
    let place = shell(&inspection.loaded.repository.source.describe()).into_owned();
    let all = sources.all().map(|(number, s)| (number, shell(&s.describe()).into_owned()));
    // The chosen copy first; every other one may heal it.
    let also: Vec<String> =
        all.filter(|(n, _)| *n != inspection.number).map(|(_, other)| format!(" --also {other}")).collect();
    let also = also.concat();
    let broken = |s: &SnapshotVerdict| !s.problems.is_empty() || s.tables.iter().any(|t| !t.damaged.is_empty());
    if inspection.stock().iter().any(broken) || !inspection.taken.is_empty() {
        report.next(format!("recover rescue {place}{also} --into NEWDIR"));
    }
    for s in &inspection.snapshots {
        let label = shell(&s.label).into_owned();
        let own = inspection.stock().iter().find(|o| o.label == s.label && o.timestamp == s.timestamp);
        if own.is_some_and(|o| !broken(o)) {
            report.next(format!("recover starrocks restore-sql {place} --snapshot {label}"));
        }
        for t in s.tables.iter().filter(|t| !t.damaged.is_empty()) {
            let table = shell(&t.name).into_owned();
            report.next(format!(
                "recover starrocks export {place}{also} --snapshot {label} --table {table} --salvage --format parquet --out DIR"
            ));
        }
    }
}

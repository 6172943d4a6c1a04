//! What is wrong with a snapshot as a whole, table by table.

use std::collections::BTreeSet;

use recovery_core::{Evidence, Finding, Severity};

use super::{Fate, Inspection, TabletVerdict, tablets};
use crate::codes;
use crate::format::info::{Info, InfoTable};
use crate::format::names::TabletPath;
use crate::model::schema::{KeysType, TabletSchema};
use crate::model::table::{TableDef, physical_type};
use crate::model::tablet::Origin;
use crate::reader::load::{InfoOrigin, LoadedSnapshot};

/// What is known of a table in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableVerdict {
    /// Name.
    pub name: String,
    /// Id.
    pub id: i64,
    /// Key model, where it is known.
    pub keys: Option<KeysType>,
    /// Kind: `OLAP`, `VIEW`, ...
    pub kind: String,
    /// Partitions.
    pub partitions: u64,
    /// Tablets.
    pub tablets: u64,
    /// Rows of the base index as the headers count them.
    pub rows: u64,
    /// Whether that is the number of rows a query would count.
    pub rows_exact: bool,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Tablets that cannot be restored, with the reasons.
    pub damaged: Vec<(TabletPath, Vec<String>)>,
    /// Partitions that hold such tablets.
    pub damaged_partitions: BTreeSet<String>,
    /// Whether all of that can be healed.
    pub healable: bool,
    /// Rows lost at most.
    pub lost_rows: u64,
    /// Whether RESTORE finds out only after it has replaced the old data.
    pub late: bool,
}

/// What is known of a snapshot at one timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotVerdict {
    /// Label.
    pub label: String,
    /// Timestamp.
    pub timestamp: String,
    /// Milliseconds since 1970.
    pub backup_time_ms: i64,
    /// Database.
    pub database: String,
    /// Whether the job finished: its description is there under a finished name.
    pub finished: bool,
    /// What keeps the server from restoring any table of it; empty when nothing does.
    pub problems: Vec<String>,
    /// Tables.
    pub tables: Vec<TableVerdict>,
}

impl SnapshotVerdict {
    /// Whether stock RESTORE restores a table of it, whole, as it lies there.
    #[must_use]
    pub fn restorable(&self, table: &TableVerdict) -> bool {
        self.problems.is_empty() && table.damaged.is_empty()
    }
}

pub(super) fn judge(inspection: &mut Inspection, snapshot: &LoadedSnapshot, out: &mut Vec<Finding>) {
    out.extend(snapshot.findings.iter().cloned());
    let strays = inspection.loaded.repository.listing.snapshots.get(&snapshot.label).map(|d| d.strays.clone());
    out.extend(strays.iter().flatten().map(super::foreign));
    if let Some((functions, catalogs)) = snapshot.meta.as_ref().map(|m| m.meta.others()).filter(|o| o.0 > 0 || o.1 > 0)
    {
        out.push(
            Finding::new(&codes::OTHER_OBJECTS, Severity::Note, snapshot.dir.clone())
                .summary(format!("{functions} functions and {catalogs} catalogs stand in __meta and are not checked")),
        );
    }
    top_fates(inspection, snapshot);
    let mut seen = BTreeSet::new();
    for at in 0..snapshot.infos.len() {
        let Some(loaded) = snapshot.infos.get(at) else { continue };
        let mut verdict = SnapshotVerdict {
            label: snapshot.label.clone(),
            timestamp: loaded.timestamp.clone(),
            backup_time_ms: loaded.info.backup_time_ms,
            database: loaded.info.database.clone(),
            finished: loaded.origin == InfoOrigin::File && loaded.info.succeeded,
            problems: top_problems(snapshot, loaded.origin),
            tables: Vec::new(),
        };
        for table in &loaded.info.tables {
            let judged = judge_table(inspection, snapshot, &loaded.info, table, &mut seen, out);
            verdict.tables.push(judged);
        }
        inspection.snapshots.push(verdict);
    }
    orphans(inspection, snapshot, &seen, out);
}

/// What of definitions and descriptions is to be left out of a repaired repository.
fn top_fates(inspection: &mut Inspection, snapshot: &LoadedSnapshot) {
    let loaded = std::sync::Arc::clone(&inspection.loaded);
    let Some(dir) = loaded.repository.listing.snapshots.get(&snapshot.label) else { return };
    let kept = |name: &str| {
        snapshot.meta.as_ref().is_some_and(|m| m.file.entry.name == name)
            || snapshot
                .infos
                .iter()
                .any(|i| i.origin != InfoOrigin::Rebuilt && i.file.as_ref().is_some_and(|f| f.entry.name == name))
    };
    for file in dir.metas.iter().chain(&dir.infos) {
        if !kept(&file.entry.name) {
            inspection.fates.insert(file.entry.name.clone(), Fate::Debris);
        }
    }
}

fn top_problems(snapshot: &LoadedSnapshot, origin: InfoOrigin) -> Vec<String> {
    let mut problems = Vec::new();
    match origin {
        InfoOrigin::File => {}
        InfoOrigin::Doubtful => problems.push("the job description has a wrong name or label".to_owned()),
        InfoOrigin::Part => problems.push("the job description was not renamed from .part".to_owned()),
        InfoOrigin::Rebuilt => problems.push("there is no usable job description".to_owned()),
    }
    for finding in &snapshot.findings {
        let fatal =
            [codes::META_MISSING.code, codes::META_DAMAGED.code, codes::META_SEVERAL.code, codes::INFO_SEVERAL.code];
        if fatal.contains(&finding.code) {
            problems.push(finding.summary.clone());
        }
    }
    problems.dedup();
    problems
}

fn judge_table(
    inspection: &mut Inspection,
    snapshot: &LoadedSnapshot,
    info: &Info,
    table: &InfoTable,
    seen: &mut BTreeSet<TabletPath>,
    out: &mut Vec<Finding>,
) -> TableVerdict {
    let definition = snapshot.definition(&table.name, table.id);
    let schema = snapshot.header_schema(table.id, definition.map(|d| d.base_index).filter(|i| *i != 0));
    let keys = definition.and_then(|d| d.keys).or_else(|| schema.as_ref().map(|s| s.keys));
    let mut verdict = TableVerdict {
        name: table.name.clone(),
        id: table.id,
        keys,
        kind: definition.map_or_else(|| "OLAP".to_owned(), |d| d.kind.clone()),
        partitions: table.partitions.len() as u64,
        healable: true,
        rows_exact: matches!(keys, Some(KeysType::Duplicate | KeysType::Primary)),
        ..TableVerdict::default()
    };
    if snapshot.meta.is_some() && definition.is_none() {
        out.push(
            Finding::new(&codes::META_DISAGREES, Severity::Damaged, snapshot.dir.clone())
                .summary(format!("table {:?} of the job description is not in __meta", table.name)),
        );
        verdict.damaged_partitions.extend(table.partitions.iter().map(|p| p.name.clone()));
        verdict.healable = false;
    }
    let base = base_index(snapshot, table, definition);
    for partition in &table.partitions {
        for physical in &partition.physical {
            for index in &physical.indexes {
                compare_definition(snapshot, table, physical.id, index.id, &index.tablets, definition, out);
                for tablet in &index.tablets {
                    let path = TabletPath {
                        database: info.database_id,
                        table: table.id,
                        partition: physical.id,
                        index: index.id,
                        tablet: tablet.id,
                    };
                    let judged = judge_tablet(inspection, snapshot, path, physical.version, seen, out);
                    add(&mut verdict, &judged, path, &partition.name, index.id == base);
                    if index.id == base && has_deletes(snapshot, &path) {
                        verdict.rows_exact = false;
                    }
                }
            }
        }
    }
    if let (Some(definition), Some(schema)) = (definition, &schema) {
        compare_schema(snapshot, table, definition, schema, out);
    }
    verdict
}

fn has_deletes(snapshot: &LoadedSnapshot, path: &TabletPath) -> bool {
    snapshot
        .tablet(path)
        .is_some_and(|t| t.tablet.origin == Origin::Guessed || t.tablet.rowsets.iter().any(|r| r.delete.is_some()))
}

fn base_index(snapshot: &LoadedSnapshot, table: &InfoTable, definition: Option<&TableDef>) -> i64 {
    let defined = definition.map(|d| d.base_index).filter(|i| *i != 0);
    let indexes = || table.partitions.iter().flat_map(|p| &p.physical).flat_map(|p| &p.indexes);
    let listed = defined.filter(|id| indexes().any(|i| i.id == *id));
    let named = || indexes().find(|i| i.name == table.name).map(|i| i.id);
    listed.or_else(named).unwrap_or_else(|| crate::reader::load::base_index(snapshot, table.id))
}

fn add(verdict: &mut TableVerdict, tablet: &TabletVerdict, path: TabletPath, partition: &str, base: bool) {
    verdict.tablets = verdict.tablets.saturating_add(1);
    verdict.bytes = verdict.bytes.saturating_add(tablet.bytes);
    if base {
        verdict.rows = verdict.rows.saturating_add(tablet.rows);
    }
    if !tablet.restorable() {
        verdict.damaged.push((path, tablet.problems.clone()));
        if !tablet.healable {
            verdict.damaged_partitions.insert(partition.to_owned());
        }
        verdict.healable &= tablet.healable;
        verdict.late |= tablet.late;
        verdict.lost_rows = verdict.lost_rows.saturating_add(tablet.lost_rows);
    }
}

fn judge_tablet(
    inspection: &mut Inspection,
    snapshot: &LoadedSnapshot,
    path: TabletPath,
    version: i64,
    seen: &mut BTreeSet<TabletPath>,
    out: &mut Vec<Finding>,
) -> TabletVerdict {
    let loaded = std::sync::Arc::clone(&inspection.loaded);
    let found = snapshot.tablet(&path).cloned();
    let dir = found
        .as_ref()
        .and_then(|t| loaded.repository.listing.snapshots.get(&snapshot.label)?.tablets.get(&t.tablet.path));
    let usable = dir.filter(|d| d.files.iter().any(|f| f.file.finished()));
    let (Some(tablet), Some(dir)) = (found, usable) else {
        let object = format!("{}/{}/{path}", snapshot.dir, crate::format::names::CONTENT);
        let why = format!("tablet {} is not there: \"get nothing from remote path\"", path.tablet);
        out.push(
            Finding::new(&codes::TABLET_MISSING, Severity::Lost, object)
                .summary(why.clone())
                .evidence(Evidence::Missing { what: format!("__{}", path.tablet) }),
        );
        seen.insert(path);
        return TabletVerdict { problems: vec![why], ..TabletVerdict::default() };
    };
    let key = (snapshot.label.clone(), dir.path);
    let first = seen.insert(dir.path);
    if !first && let Some(known) = inspection.tablets.get(&key) {
        return known.clone();
    }
    let verdict = tablets::judge(inspection, dir, &tablet, Some(version), out);
    inspection.tablets.insert(key, verdict.clone());
    verdict
}

/// Tablets of `__info` against those of `__meta`.
fn compare_definition(
    snapshot: &LoadedSnapshot,
    table: &InfoTable,
    physical: i64,
    index: i64,
    tablets: &[crate::format::info::InfoTablet],
    definition: Option<&TableDef>,
    out: &mut Vec<Finding>,
) {
    let Some(definition) = definition else { return };
    let defined = definition.partitions.iter().flat_map(|p| &p.physical).filter(|p| p.id == physical);
    let defined = defined.flat_map(|p| &p.indexes).find(|i| i.0 == index);
    let Some((_, defined)) = defined else { return };
    let listed: Vec<i64> = tablets.iter().map(|t| t.id).collect();
    if *defined != listed {
        out.push(Finding::new(&codes::META_DISAGREES, Severity::Suspect, snapshot.dir.clone()).summary(format!(
            "table {:?}, index {index}: __info lists {} tablets, __meta {} or in another order",
            table.name,
            listed.len(),
            defined.len()
        )));
    }
}

/// Columns of the headers against those of `__meta`; a rename changes names only, so they are matched by id if possible.
fn compare_schema(
    snapshot: &LoadedSnapshot,
    table: &InfoTable,
    definition: &TableDef,
    schema: &TabletSchema,
    out: &mut Vec<Finding>,
) {
    let word = |t: &str| t.split(['(', '<']).next().unwrap_or_default().replace("DECIMALV2", "DECIMAL");
    let mut differences = Vec::new();
    for column in &definition.columns {
        let same = |c: &&crate::model::schema::Column| {
            (column.unique_id >= 0 && c.unique_id == column.unique_id) || c.name.eq_ignore_ascii_case(&column.name)
        };
        match schema.columns.iter().find(same) {
            None => differences.push(format!("{} is not in the headers", column.name)),
            Some(c) => {
                let (a, b) = (word(&column.sql_type), word(&physical_type(c, 0)));
                if a != b && !(a == "STRING" && b == "VARCHAR") {
                    differences.push(format!("{} is {a} in __meta and {b} in the headers", column.name));
                }
            }
        }
    }
    if !differences.is_empty() {
        out.push(Finding::new(&codes::SCHEMA_DISAGREES, Severity::Suspect, snapshot.dir.clone()).summary(format!(
            "table {:?}: {}",
            table.name,
            differences.join("; ")
        )));
    }
}

fn orphans(
    inspection: &mut Inspection,
    snapshot: &LoadedSnapshot,
    seen: &BTreeSet<TabletPath>,
    out: &mut Vec<Finding>,
) {
    let loaded = std::sync::Arc::clone(&inspection.loaded);
    let Some(dir) = loaded.repository.listing.snapshots.get(&snapshot.label) else { return };
    for (path, tablet_dir) in &dir.tablets {
        if seen.contains(path) {
            continue;
        }
        let files = tablet_dir.files.iter().map(|f| &f.file.entry).chain(&tablet_dir.manifest);
        let bytes = files.clone().fold(0u64, |sum, e| sum.saturating_add(e.size));
        out.push(
            Finding::new(&codes::ORPHAN_TABLET, Severity::Suspect, tablet_dir.dir.clone())
                .summary(format!("no job description names tablet {}: {bytes} bytes", path.tablet)),
        );
        if let Some(tablet) = snapshot.tablets.get(path) {
            // Its files are read like others, but nothing is lost with them.
            let mut inner = Vec::new();
            drop(tablets::judge(inspection, tablet_dir, tablet, None, &mut inner));
            out.extend(inner.into_iter().filter(|f| f.severity >= Severity::Suspect));
        }
        for entry in files {
            inspection.fates.insert(entry.name.clone(), Fate::Debris);
        }
    }
}

//! Picks the right `__info_*` of a snapshot, and rebuilds one that is lost.

use std::collections::BTreeMap;

use recovery_core::{Context, Evidence, Finding, Severity, Source};
use serde_json::Value;

use super::{InfoOrigin, LoadedInfo, LoadedSnapshot, md5_evidence, read_named, unreadable};
use crate::codes;
use crate::format::info::{Info, InfoIndex, InfoPartition, InfoPhysical, InfoTable, InfoTablet};
use crate::format::meta_json::Form;
use crate::format::names::{self, TabletPath, Timestamp};
use crate::model::repository::{Named, SnapshotDir};
use crate::model::schema::KeysType;
use crate::model::table::TableDef;
use crate::reader::repository::Repository;

pub(super) fn read(source: &dyn Source, dir: &SnapshotDir, cx: &Context, out: &mut LoadedSnapshot) {
    if dir.infos.is_empty() {
        out.findings.push(
            Finding::new(&codes::INFO_MISSING, Severity::Damaged, dir.dir.clone())
                .evidence(Evidence::Missing { what: format!("{}<timestamp>", names::INFO) }),
        );
        return;
    }
    let mut by_time: BTreeMap<&str, Vec<&Named>> = BTreeMap::new();
    for file in &dir.infos {
        by_time.entry(&file.base).or_default().push(file);
    }
    let times: Vec<&str> = by_time.keys().copied().collect();
    for (time, files) in by_time {
        read_time(source, time, &files, cx, out);
        if let Some(longer) = times.iter().find(|t| t.len() > time.len() && t.starts_with(time)) {
            let name = files.first().map_or_else(String::new, |f| f.entry.name.clone());
            out.findings.push(
                Finding::new(&codes::INFO_SEVERAL, Severity::Damaged, name)
                    .summary(format!("the timestamp {time} is the beginning of {longer}; the server finds two files")),
            );
        }
    }
}

fn read_time(source: &dyn Source, time: &str, files: &[&Named], cx: &Context, out: &mut LoadedSnapshot) {
    let mut weighed: Vec<_> = files.iter().map(|file| weigh(source, file, cx, out)).collect();
    weighed.sort_by_key(|w| std::cmp::Reverse((w.0.is_some(), w.2 == InfoOrigin::File, w.3.finished())));
    let several = weighed.len() > 1;
    let mut weighed = weighed.into_iter();
    let Some((info, complaint, origin, file)) = weighed.next() else { return };
    for (_, why, _, other) in weighed {
        let part = !other.finished() && file.finished();
        let code = if part { &codes::STRAY_PART } else { &codes::INFO_SEVERAL };
        let why = why.map_or_else(String::new, |w| format!(": {}", w.summary));
        out.findings.push(
            Finding::new(code, Severity::Damaged, other.entry.name.clone())
                .summary(format!("a second file for the timestamp {time}; the server insists on one{why}")),
        );
    }
    let _ = several;
    out.findings.extend(complaint);
    if let Some(info) = info {
        out.infos.push(LoadedInfo { timestamp: time.to_owned(), file: Some(file), origin, info });
    } else {
        // Kept for its timestamp; `complete` fills it.
        out.infos.push(LoadedInfo {
            timestamp: time.to_owned(),
            file: Some(file),
            origin: InfoOrigin::Rebuilt,
            info: empty(&out.label),
        });
    }
}

type Weighed = (Option<Info>, Option<Finding>, InfoOrigin, Named);

fn weigh(source: &dyn Source, file: &Named, cx: &Context, out: &mut LoadedSnapshot) -> Weighed {
    let (bytes, checked) = read_named(source, file, cx);
    let computed = checked.md5;
    out.checked.push(checked);
    let name = file.entry.name.clone();
    let damaged = || Finding::new(&codes::INFO_DAMAGED, Severity::Damaged, name.clone());
    let info = match bytes {
        Err(e) => return (None, Some(unreadable(&e)), InfoOrigin::Rebuilt, file.clone()),
        Ok(bytes) => Info::decode(&bytes),
    };
    let info = match info {
        Ok(info) => info,
        Err(e) => {
            let finding = if file.finished() {
                damaged().at(0, file.entry.size).summary(format!("{e}; the description must be rebuilt"))
            } else {
                Finding::new(&codes::INFO_PART, Severity::Damaged, name.clone()).summary(format!("unfinished, and {e}"))
            };
            return (None, Some(finding.effect(0, file.entry.size)), InfoOrigin::Rebuilt, file.clone());
        }
    };
    let (complaint, origin) = match (file.md5(), computed) {
        (Some(stored), Some(computed)) if stored != computed => (
            Some(
                damaged()
                    .at(0, file.entry.size)
                    .summary("the description parses, but its MD5 is not the one in the name")
                    .evidence(md5_evidence(&stored, &computed)),
            ),
            InfoOrigin::Doubtful,
        ),
        (None, _) => (
            Some(Finding::new(&codes::INFO_PART, Severity::Damaged, name.clone()).summary(
                "the description is complete, but the file was not renamed: the server shows no finished snapshot",
            )),
            InfoOrigin::Part,
        ),
        _ if info.name != out.label => (
            Some(
                Finding::new(&codes::INFO_LABEL, Severity::Note, name.clone())
                    .evidence(Evidence::value("name", &info.name, &out.label)),
            ),
            InfoOrigin::File,
        ),
        _ => (None, InfoOrigin::File),
    };
    (Some(info), complaint, origin, file.clone())
}

fn empty(label: &str) -> Info {
    Info {
        name: label.to_owned(),
        database: String::new(),
        database_id: 0,
        backup_time_ms: 0,
        meta_version: None,
        starrocks_meta_version: None,
        succeeded: true,
        tables: Vec::new(),
        raw: Value::Null,
    }
}

/// Rebuilds the descriptions that are lost, once all labels are read: a sibling may know the database's name.
pub(super) fn complete(snapshots: &mut [LoadedSnapshot], repository: &Repository, cx: &Context) {
    let mut databases: BTreeMap<i64, (String, Option<i64>)> = BTreeMap::new();
    let mut zone = None;
    for info in snapshots.iter().flat_map(|s| &s.infos).filter(|i| i.origin != InfoOrigin::Rebuilt) {
        databases.insert(info.info.database_id, (info.info.database.clone(), info.info.meta_version));
        zone = Timestamp::parse(&info.timestamp)
            .map(|t| t.local_millis().saturating_sub(info.info.backup_time_ms))
            .or(zone);
    }
    for snapshot in snapshots {
        let known = snapshot.infos.iter().any(|i| i.origin != InfoOrigin::Rebuilt);
        if snapshot.infos.is_empty() && (snapshot.meta.is_some() || !snapshot.tablets.is_empty()) {
            let time = last_change(repository, &snapshot.label).unwrap_or(cx.now_ms);
            let time = i64::try_from(time).unwrap_or(0).saturating_add(zone.unwrap_or(0));
            snapshot.infos.push(LoadedInfo {
                timestamp: Timestamp::from_millis(time).to_string(),
                file: None,
                origin: InfoOrigin::Rebuilt,
                info: empty(&snapshot.label),
            });
        }
        let Some(at) = snapshot.infos.iter().rposition(|i| i.origin == InfoOrigin::Rebuilt) else { continue };
        // Several lost descriptions of one label cannot be told apart: only the newest is rebuilt.
        let mut index = 0usize;
        snapshot.infos.retain(|i| {
            let keep = i.origin != InfoOrigin::Rebuilt || (index == at && !known);
            index = index.saturating_add(1);
            keep
        });
        let Some(slot) = snapshot.infos.iter().position(|i| i.origin == InfoOrigin::Rebuilt) else { continue };
        let timestamp = snapshot.infos.get(slot).map_or_else(String::new, |i| i.timestamp.clone());
        let info = rebuild_info(snapshot, &databases, &timestamp, zone.unwrap_or(0));
        if let Some(loaded) = snapshot.infos.get_mut(slot) {
            loaded.info = info;
        }
    }
}

fn last_change(repository: &Repository, label: &str) -> Option<u64> {
    let dir = repository.listing.snapshots.get(label)?;
    let files = dir.tablets.values().flat_map(|t| &t.files).map(|f| &f.file.entry);
    let times = files.chain(dir.metas.iter().map(|m| &m.entry)).filter_map(|e| e.mtime);
    times.max().and_then(|ns| u64::try_from(ns / 1_000_000).ok())
}

/// Builds a job description from table definitions and tablets, or from the tablets alone.
#[must_use]
pub fn rebuild_info(
    snapshot: &LoadedSnapshot,
    databases: &BTreeMap<i64, (String, Option<i64>)>,
    timestamp: &str,
    zone_ms: i64,
) -> Info {
    let database_id = snapshot.tablets.keys().map(|p| p.database).next().unwrap_or(0);
    let known = databases.get(&database_id);
    let form = snapshot.meta.as_ref().map_or(Form::Json, |m| m.meta.form);
    let tables = match &snapshot.meta {
        Some(meta) => meta.tables.iter().filter_map(|t| table_of(snapshot, t)).collect(),
        None => guess_tables(snapshot),
    };
    let mut info = Info {
        name: snapshot.label.clone(),
        database: known.map_or_else(|| format!("db_{database_id}"), |k| k.0.clone()),
        database_id,
        backup_time_ms: Timestamp::parse(timestamp).map_or(0, |t| t.local_millis().saturating_sub(zone_ms)),
        meta_version: Some(known.and_then(|k| k.1).or_else(|| databases.values().find_map(|d| d.1)).unwrap_or(92)),
        starrocks_meta_version: Some(if form == Form::Json { 4 } else { 3 }),
        succeeded: true,
        tables,
        raw: Value::Null,
    };
    info.raw = info.tree(form == Form::Json);
    info
}

fn table_of(snapshot: &LoadedSnapshot, table: &TableDef) -> Option<InfoTable> {
    let has_tablets = snapshot.tablets.keys().any(|p| p.table == table.id);
    if !has_tablets && table.kind != "VIEW" {
        return None;
    }
    let partitions = table
        .partitions
        .iter()
        .map(|p| {
            let physical: Vec<InfoPhysical> = p
                .physical
                .iter()
                .map(|sub| {
                    let indexes =
                        sub.indexes.iter().map(|(id, tablets)| index_of(snapshot, table, *id, tablets)).collect();
                    let ids: Vec<i64> = sub.indexes.iter().flat_map(|i| &i.1).copied().collect();
                    InfoPhysical {
                        id: sub.id,
                        version: version_of(snapshot, table.id, &ids).unwrap_or(sub.version),
                        indexes,
                    }
                })
                .collect();
            let version = physical.iter().map(|p| p.version).max().unwrap_or(1);
            InfoPartition { name: p.name.clone(), id: p.id, version, physical }
        })
        .collect();
    Some(InfoTable { name: table.name.clone(), id: table.id, partitions })
}

/// The highest version that every tablet of a physical partition reaches.
fn version_of(snapshot: &LoadedSnapshot, table: i64, tablets: &[i64]) -> Option<i64> {
    let of = snapshot.tablets.iter().filter(|(p, _)| p.table == table && tablets.contains(&p.tablet));
    of.filter(|(_, t)| t.tablet.origin != crate::model::tablet::Origin::Guessed).map(|(_, t)| t.tablet.version).min()
}

fn index_of(snapshot: &LoadedSnapshot, table: &TableDef, id: i64, tablets: &[i64]) -> InfoIndex {
    let def = table.indexes.iter().find(|i| i.id == id);
    let listed = snapshot.meta.as_ref().is_some_and(|m| m.meta.form == Form::Binary);
    InfoIndex {
        name: def.map_or_else(|| table.name.clone(), |d| d.name.clone()),
        id,
        schema_hash: def.map_or(0, |d| d.schema_hash),
        tablets: tablets
            .iter()
            .map(|t| InfoTablet { id: *t, files: file_names(snapshot, table.id, *t, listed) })
            .collect(),
    }
}

/// Old job descriptions list a tablet's files; new ones do not.
fn file_names(snapshot: &LoadedSnapshot, table: i64, tablet: i64, listed: bool) -> Vec<String> {
    if !listed {
        return Vec::new();
    }
    let of = snapshot.tablets.iter().find(|(p, _)| p.table == table && p.tablet == tablet);
    let Some((_, loaded)) = of else { return Vec::new() };
    let mut names: Vec<String> =
        loaded.tablet.rowsets.iter().flat_map(|r| &r.segments).map(|s| s.name.clone()).collect();
    names.push(format!("{tablet}.hdr"));
    names.sort();
    names
}

/// Without definitions and description: names are made from ids, the widest index of a table is its base.
fn guess_tables(snapshot: &LoadedSnapshot) -> Vec<InfoTable> {
    let mut tables: BTreeMap<i64, Vec<TabletPath>> = BTreeMap::new();
    for path in snapshot.tablets.keys() {
        tables.entry(path.table).or_default().push(*path);
    }
    tables
        .into_iter()
        .map(|(id, paths)| {
            let base = base_index(snapshot, id);
            let name = format!("tbl_{id}");
            let mut partitions: BTreeMap<i64, Vec<TabletPath>> = BTreeMap::new();
            for path in paths {
                partitions.entry(path.partition).or_default().push(path);
            }
            let single = partitions.len() == 1;
            let partitions = partitions
                .into_iter()
                .map(|(part, paths)| guess_partition(snapshot, part, &paths, base, &name, single))
                .collect();
            InfoTable { name, id, partitions }
        })
        .collect()
}

fn guess_partition(
    snapshot: &LoadedSnapshot,
    id: i64,
    paths: &[TabletPath],
    base: i64,
    table: &str,
    single: bool,
) -> InfoPartition {
    let mut indexes: BTreeMap<i64, Vec<TabletPath>> = BTreeMap::new();
    for path in paths {
        indexes.entry(path.index).or_default().push(*path);
    }
    let indexes = indexes
        .into_iter()
        .map(|(index, paths)| {
            let hash = paths.iter().find_map(|p| snapshot.tablets.get(p)?.tablet.schema_hash).unwrap_or(0);
            InfoIndex {
                name: if index == base { table.to_owned() } else { format!("rollup_{index}") },
                id: index,
                schema_hash: i64::from(hash),
                tablets: paths.iter().map(|p| InfoTablet { id: p.tablet, files: Vec::new() }).collect(),
            }
        })
        .collect();
    let tablets: Vec<i64> = paths.iter().map(|p| p.tablet).collect();
    let table_id = paths.first().map_or(0, |p| p.table);
    let version = version_of(snapshot, table_id, &tablets).unwrap_or(1);
    InfoPartition {
        name: if single { table.to_owned() } else { format!("p{id}") },
        id,
        version,
        physical: vec![InfoPhysical { id, version, indexes }],
    }
}

/// The index with the most columns; among equals the duplicate or unique one with the smallest id.
pub(crate) fn base_index(snapshot: &LoadedSnapshot, table: i64) -> i64 {
    let of = snapshot.tablets.iter().filter(|(p, _)| p.table == table);
    let key = |(path, loaded): &(&TabletPath, &std::sync::Arc<super::LoadedTablet>)| {
        let schema = loaded.tablet.schema.as_ref();
        let columns = schema.map_or(0, |s| s.columns.len());
        let aggregated = schema.is_some_and(|s| s.keys == KeysType::Aggregate);
        (columns, !aggregated, std::cmp::Reverse(path.index))
    };
    of.max_by_key(key).map_or(0, |(p, _)| p.index)
}

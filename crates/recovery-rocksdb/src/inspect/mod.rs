//! Checks of a whole directory: what it is, what is wrong, what RocksDB itself would do to it.

pub mod blobs;
mod derived;
mod findings;
pub mod gather;
mod heal;
mod ranges;
mod references;
pub(crate) mod scattered;
pub mod started;
pub mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Check, Class as Bytes, Context, Coverage, Error, Report, ReportBuilder, Source, Sources};
use serde_json::{Value, json};

use crate::engine::EngineOptions;
use crate::format::file_name::FileKind;
use crate::reader::log::EndKind;
use crate::witness::{self, Class, Resolved, Trust};
use gather::{CurrentState, Gathered, Item};

/// What an inspection knows: kept in the report for planning.
#[derive(Debug)]
pub struct Inspection {
    /// The files.
    pub gathered: Gathered,
    /// The merged state.
    pub resolved: Resolved,
    /// Whether any finding says that something is damaged, missing or doubtful.
    pub sound: bool,
    /// Inspections of the donors.
    pub donors: Vec<Donor>,
    /// Undamaged copies of damaged WALs: by number, source and name there.
    pub wal_donors: BTreeMap<u64, (u16, String)>,
}

/// A place that may heal: another directory, or what an earlier repair and the archive left below this one.
#[derive(Debug)]
pub struct Donor {
    /// Directory below its source, empty or ending in a slash.
    pub below: String,
    /// What it holds.
    pub gathered: Gathered,
}

impl Inspection {
    /// Whether the MANIFEST can stay as it is.
    #[must_use]
    pub fn manifest_stays(&self) -> bool {
        let r = &self.resolved;
        let tables = r.families.values().flat_map(|f| f.tables.values());
        let blobs = r.families.values().flat_map(|f| f.blobs.values());
        r.trust == Trust::Whole
            && r.base.is_some()
            && r.missing.is_empty()
            && tables.into_iter().all(|t| !t.damaged && t.on_disk == Some(t.number))
            && blobs.into_iter().all(|b| b.present && !b.damaged)
            && !self.needed_wals().any(|w| w.is_damaged() || w.end == EndKind::Torn && !self.is_last_wal(w.number))
            && r.families.values().all(|f| !f.unnamed)
            && self.no_wal_is_missing()
            && findings::overlaps(r).is_empty()
    }

    fn no_wal_is_missing(&self) -> bool {
        let mut missing = Vec::new();
        findings::missing_wals(self, &mut missing);
        missing.is_empty()
    }

    /// The first WAL that has to be replayed.
    #[must_use]
    pub fn first_needed_wal(&self) -> u64 {
        let logs = self.resolved.families.values().map(|f| f.log_number).min().unwrap_or(0);
        let kept = self.resolved.version.min_log;
        let two_phase = self.gathered.wals.values().any(|w| !w.marks.is_empty());
        match self.resolved.trust {
            Trust::Whole if kept > 0 => kept.min(logs),
            Trust::Whole => logs,
            // A commit may stand in a later log than what it commits.
            _ if two_phase => 0,
            _ => logs,
        }
    }

    /// The WALs that have to be replayed.
    pub fn needed_wals(&self) -> impl Iterator<Item = &crate::reader::wal::WalSummary> {
        let first = self.first_needed_wal();
        self.gathered.wals.values().filter(move |w| w.number >= first && !self.is_foreign_wal(w))
    }

    /// Whether this WAL is the last one that is needed.
    #[must_use]
    pub fn is_last_wal(&self, number: u64) -> bool {
        self.needed_wals().map(|w| w.number).max() == Some(number)
    }

    /// A file with a WAL's name, a number far off, and nothing in it that is a record.
    #[must_use]
    pub fn is_foreign_wal(&self, wal: &crate::reader::wal::WalSummary) -> bool {
        let tables = self.resolved.families.values().flat_map(|f| f.tables.keys().copied()).max().unwrap_or(0);
        let wals = self.gathered.wals.values().filter(|w| w.records > 0).map(|w| w.number).max().unwrap_or(0);
        let far = tables.max(wals).max(self.resolved.version.next_file).saturating_mul(2).saturating_add(1000);
        wal.records == 0 && wal.size > 0 && wal.end != EndKind::ZeroTail && wal.number > far
    }

    /// Whether bytes of a file are damaged or could not be read.
    #[must_use]
    pub fn has_bad_bytes(&self, item: &Item) -> bool {
        coverage_of(self, item).is_some_and(|c| {
            let totals = c.totals();
            totals.damaged > 0 || totals.unread > 0
        })
    }

    /// Class of any file of the directory.
    #[must_use]
    pub fn class_of(&self, item: &Item) -> Class {
        let g = &self.gathered;
        let n = item.name.number.unwrap_or(0);
        match item.name.kind {
            FileKind::Table | FileKind::OldTable => self.resolved.classes.get(&n).copied().unwrap_or(Class::Foreign),
            FileKind::Blob => self.resolved.blob_classes.get(&n).copied().unwrap_or(Class::Foreign),
            FileKind::Wal => match g.wals.get(&n) {
                Some(w) if self.is_foreign_wal(w) => Class::Foreign,
                Some(_) if n < self.first_needed_wal() => Class::Obsolete,
                Some(w) if w.is_damaged() => Class::Damaged,
                Some(_) => Class::Live,
                None => Class::Damaged,
            },
            FileKind::Manifest => match self.resolved.base {
                Some(base)
                    if base == n && g.manifests.get(&n).is_some_and(crate::reader::manifest::Manifest::is_whole) =>
                {
                    Class::Live
                }
                Some(base) if base == n => Class::Damaged,
                _ => Class::Obsolete,
            },
            FileKind::Current => {
                if matches!(g.current, CurrentState::Names(_)) {
                    Class::Live
                } else {
                    Class::Damaged
                }
            }
            FileKind::Options | FileKind::Identity | FileKind::Lock | FileKind::InfoLog => Class::Live,
            FileKind::Temporary | FileKind::Auxiliary => Class::Obsolete,
            FileKind::Foreign => Class::Foreign,
        }
    }
}

/// The findings that speak of losses outside tables and blob files.
#[must_use]
pub fn losses(i: &Inspection) -> Vec<recovery_core::Finding> {
    findings::losses(i)
}

/// Gathers and merges one directory.
///
/// # Errors
///
/// Interruption.
pub fn inspect_one(
    source: &Arc<dyn Source>,
    number: u16,
    options: &EngineOptions,
    cx: &Context,
) -> Result<Inspection, Error> {
    let gathered = gather::gather_with(source, number, options.mend, cx)?;
    let mut resolved = witness::resolve_with(&gathered, &options.name_family, &options.table_family);
    derived::settle(&gathered, &mut resolved, cx)?;
    references::settle(&gathered, &mut resolved, cx)?;
    Ok(Inspection { gathered, resolved, sound: false, donors: Vec::new(), wal_donors: BTreeMap::new() })
}

/// Whether nothing in the directory is of this engine.
fn is_nothing(g: &Gathered) -> bool {
    let of_use = g.manifests.values().any(|m| m.records > 0)
        || g.wals.values().any(|w| w.records > 0)
        || g.tables.values().any(|t| matches!(t.state, tables::TableState::Good) || t.salvage.is_some())
        || g.blobs.values().any(|b| !b.is_nothing());
    !of_use
}

/// Inspects the best of the rivals.
///
/// # Errors
///
/// Interruption; a directory with nothing of RocksDB in it.
pub fn inspect(sources: &Sources, options: &EngineOptions, cx: &Context) -> Result<Report, Error> {
    let mut rivals = Vec::new();
    for (number, source) in (0u16..).zip(&sources.rivals) {
        rivals.push(inspect_one(source, number, options, cx)?);
    }
    let mut best = 0;
    let rank = |i: &Inspection| {
        (!is_nothing(&i.gathered), i.manifest_stays(), i.resolved.trust == Trust::Whole, i.resolved.last_sequence)
    };
    for (i, rival) in rivals.iter().enumerate() {
        if rivals.get(best).is_some_and(|b| rank(rival) > rank(b)) {
            best = i;
        }
    }
    let mut builder = ReportBuilder::new("rocksdb", sources, cx.limits.findings);
    if rivals.len() > 1 {
        candidates(&rivals, best, &mut builder);
    }
    if best >= rivals.len() {
        return Err(Error::Usage("no directory was given".to_owned()));
    }
    let mut inspection = rivals.swap_remove(best);
    heal::find(&mut inspection, sources, cx)?;
    scattered::refuse(&inspection)?;
    if is_nothing(&inspection.gathered) {
        builder.unusable();
    }
    let found = findings::all(&inspection, cx);
    let worst = found.iter().map(|f| f.severity).max();
    inspection.sound = worst.is_none_or(|s| s == recovery_core::Severity::Note);
    builder.findings(found);
    for action in started::simulate(&inspection) {
        builder.if_started(action);
    }
    objects(&inspection, &mut builder);
    if cx.check == Check::Structure {
        builder.incomplete();
    }
    builder.facts(facts(&inspection));
    next(&inspection, &mut builder);
    builder.state(Arc::new(inspection));
    Ok(builder.finish())
}

fn candidates(rivals: &[Inspection], best: usize, builder: &mut ReportBuilder) {
    for (i, rival) in rivals.iter().enumerate() {
        let r = &rival.resolved;
        let mut reasons = vec![format!("last sequence {}", r.last_sequence)];
        reasons.push(match r.trust {
            Trust::Whole => "its MANIFEST is whole".to_owned(),
            Trust::Partial => "its MANIFEST is damaged".to_owned(),
            Trust::None => "it has no MANIFEST".to_owned(),
        });
        builder.candidate(recovery_core::Candidate {
            source: rival.gathered.number,
            name: rival.gathered.source.describe(),
            rank: if i == best { 1 } else { 2 },
            reasons,
            facts: json!({"last_sequence": r.last_sequence, "missing": r.missing.len()}),
        });
    }
}

fn text_value(bytes: &[u8], key: &str, out: &mut serde_json::Map<String, Value>) {
    out.insert(key.to_owned(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        out.insert(format!("{key}_hex"), recovery_core::hex(bytes).into());
    }
}

fn family_facts(inspection: &Inspection) -> Vec<Value> {
    let r = &inspection.resolved;
    let mut out: BTreeMap<u32, Value> = BTreeMap::new();
    for family in r.families.values() {
        let entries: u64 = family.tables.values().filter_map(|t| t.entries).fold(0, u64::saturating_add);
        let mut map = serde_json::Map::new();
        map.insert("id".into(), family.id.into());
        text_value(&family.name, "name", &mut map);
        map.insert("comparator".into(), family.comparator.clone().into());
        map.insert("state".into(), if family.unnamed { "unnamed" } else { "live" }.into());
        map.insert("files".into(), family.tables.len().into());
        map.insert("entries".into(), entries.into());
        map.insert("log_number".into(), family.log_number.into());
        out.insert(family.id, map.into());
    }
    for (id, name) in &r.dropped {
        let value = json!({"id": id, "name": name, "comparator": null, "state": "dropped", "files": 0, "entries": 0});
        out.entry(*id).or_insert(value);
    }
    out.into_values().collect()
}

fn file_facts(inspection: &Inspection) -> Vec<Value> {
    let (g, r) = (&inspection.gathered, &inspection.resolved);
    let mut out = Vec::new();
    for item in &g.items {
        let Some(number) = item.name.number else { continue };
        let in_version =
            |n: u64| r.families.values().find_map(|f| f.tables.values().find(|t| t.on_disk == Some(n)).map(|t| (f, t)));
        let (mut family, mut level) = (None, None);
        match item.name.kind {
            FileKind::Table | FileKind::OldTable => {
                if let Some((f, t)) = in_version(number) {
                    (family, level) = (Some(f.shown()), t.level);
                } else {
                    let properties = g.tables.get(&number).and_then(|t| t.properties.as_ref());
                    family = properties.and_then(|p| p.family_name.clone());
                }
            }
            FileKind::Blob => {
                family =
                    r.families.values().find(|f| f.blobs.contains_key(&number)).map(witness::ResolvedFamily::shown);
            }
            _ => {}
        }
        let class = inspection.class_of(item).word();
        out.push(json!({"number": number, "kind": item.name.kind.word(), "family": family, "level": level, "size": item.entry.size, "class": class}));
    }
    for number in &r.missing {
        let family = r.family_of(*number).and_then(|id| r.families.get(&id));
        let table = family.and_then(|f| f.tables.get(number));
        out.push(json!({"number": number, "kind": "table", "family": family.map(witness::ResolvedFamily::shown), "level": table.and_then(|t| t.level), "size": table.map(|t| t.size), "class": "missing"}));
    }
    for family in r.families.values() {
        for number in family.blobs.iter().filter(|(_, b)| !b.present).map(|(n, _)| n) {
            out.push(json!({"number": number, "kind": "blob", "family": family.shown(), "level": null, "size": null, "class": "missing"}));
        }
    }
    out
}

fn facts(inspection: &Inspection) -> Value {
    let (g, r) = (&inspection.gathered, &inspection.resolved);
    let manifest = r
        .base
        .and_then(|n| g.manifests.get(&n))
        .map(|m| json!({"number": m.number, "records": m.records, "bad": m.faults.len()}));
    let wals: Vec<Value> = g
        .wals
        .values()
        .map(|w| json!({"number": w.number, "records": w.records, "end": w.end_word(), "entries": w.entries}))
        .collect();
    let transactions = crate::model::transactions::follow(inspection.needed_wals());
    let in_doubt: Vec<String> = transactions.in_doubt.iter().map(|p| recovery_core::hex(&p.id)).collect();
    json!({
        "db_id": r.db_id,
        "manifest": manifest,
        "last_sequence": r.last_sequence,
        "families": family_facts(inspection),
        "files": file_facts(inspection),
        "wals": wals,
        "transactions_in_doubt": in_doubt,
        "witnesses": r.claims,
    })
}

fn log_coverage(at: u64, size: u64, damage: &[(u64, u64)], unread: &[std::ops::Range<u64>], torn: bool) -> Coverage {
    let mut coverage = Coverage::new(size);
    coverage.mark(0..at, Bytes::Verified);
    // What comes behind the last record is free space, another log's records, or the beginning of a record.
    coverage.mark(at..size, if torn { Bytes::Parsed } else { Bytes::Free });
    for (from, to) in damage {
        coverage.mark(*from..*to, Bytes::Damaged);
    }
    for range in unread {
        coverage.mark(range.clone(), Bytes::Unread);
    }
    coverage
}

fn coverage_of(inspection: &Inspection, item: &Item) -> Option<Coverage> {
    let g = &inspection.gathered;
    let n = item.name.number.unwrap_or(0);
    Some(match item.name.kind {
        FileKind::Table | FileKind::OldTable => g.tables.get(&n)?.coverage.clone(),
        FileKind::Blob => g.blobs.get(&n)?.coverage.clone(),
        FileKind::Wal => {
            let Some(w) = g.wals.get(&n) else { return Some(Coverage::all(item.entry.size, Bytes::Unread)) };
            let bad = w.bad_batches.iter().map(|b| (b.at, b.end));
            let damage: Vec<_> = w.damage.iter().map(|d| (d.at, d.end)).chain(bad).collect();
            log_coverage(w.end_at, w.size, &damage, &w.unread, w.end == EndKind::Torn)
        }
        FileKind::Manifest => {
            let Some(m) = g.manifests.get(&n) else { return Some(Coverage::all(item.entry.size, Bytes::Unread)) };
            let damage: Vec<_> = m.faults.iter().map(crate::reader::manifest::Fault::range).collect();
            log_coverage(m.end_at, m.size, &damage, &m.unread, m.end == EndKind::Torn)
        }
        _ => Coverage::all(item.entry.size, Bytes::Parsed),
    })
}

fn objects(inspection: &Inspection, builder: &mut ReportBuilder) {
    let number = inspection.gathered.number;
    for item in &inspection.gathered.items {
        let class = inspection.class_of(item);
        match coverage_of(inspection, item) {
            Some(coverage) if class != Class::Foreign => {
                builder.object(number, item.entry.name.clone(), class.word(), coverage);
            }
            _ => builder.foreign(number, item.entry.name.clone(), "foreign", item.entry.size),
        }
    }
    for item in &inspection.gathered.below {
        builder.foreign(number, item.entry.name.clone(), "foreign", item.entry.size);
    }
}

fn next(inspection: &Inspection, builder: &mut ReportBuilder) {
    let path = recovery_core::names::shell(&inspection.gathered.source.describe()).into_owned();
    if inspection.sound {
        builder.next(format!("ldb --db={path} scan   # or simply start the application"));
    } else {
        builder.next(format!("recover rescue {path} --into NEWDIR"));
    }
    if inspection.gathered.lock.is_some() {
        builder.next("stop the process that holds the lock before anything else");
    }
}

//! Which table files are part of the database, in which family, on which level.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Evidence, Finding, Severity};

use super::resolved::{BlobEntry, Class, LiveTable, Resolved, Trust, pad_timestamp};
use crate::codes;
use crate::format::file_name;
use crate::format::properties::UNKNOWN_FAMILY;
use crate::format::version_edit::NewFile;
use crate::inspect::gather::Gathered;
use crate::inspect::tables::{TableFacts, TableState};
use crate::model::version::Version;

/// The witness of tables that nothing but their files speaks for.
pub(crate) const FOUND: &str = "found in the directory";

/// A table that the log says is installed and live, that is there, and of which a MANIFEST said to be whole has never
/// heard: then the MANIFEST is cut at the border of a record, which nothing in the file itself shows.
#[must_use]
pub fn ends_early(g: &Gathered, version: &Version) -> Option<u64> {
    let known: BTreeSet<u64> = version.files().map(|(_, f)| f.number).chain(version.deleted.iter().copied()).collect();
    let logged = g.log.tables.iter().filter(|(_, t)| t.is_live()).map(|(n, _)| *n);
    let dropped = |n: &u64| {
        let id = g.log.tables.get(n).and_then(|t| t.creation.as_ref()?.family_id);
        id.is_some_and(|id| version.dropped.contains_key(&id))
    };
    logged.filter(|n| g.tables.contains_key(n) && !known.contains(n) && !dropped(n)).min()
}

/// The number a file really has: its original number, where names were swapped.
///
/// Ingested and imported files keep another database's number in their properties, so a name is only corrected when
/// both sides of the exchange agree: the file under the original number says that it belongs elsewhere too.
fn swapped_names(g: &Gathered) -> BTreeMap<u64, u64> {
    let original = |n: u64| {
        let p = g.tables.get(&n)?.properties.as_ref()?;
        if p.external_version.is_some() {
            return None;
        }
        Some((p.original_file_number.filter(|o| *o > 0)?, p.session_id.clone()?))
    };
    let mut out = BTreeMap::new();
    for &number in g.tables.keys() {
        let Some((target, session)) = original(number) else { continue };
        if target == number {
            continue;
        }
        let logged = g.log.tables.get(&target).and_then(|t| t.creation.as_ref()).map(|c| c.size);
        let fits_log = logged.is_some_and(|size| g.tables.get(&number).is_some_and(|t| t.size == size));
        match original(target) {
            // The place is taken by a file that is not at home there either.
            Some((other, other_session)) if other != target && other_session == session => {
                out.insert(number, target);
            }
            None if !g.tables.contains_key(&target) && fits_log => {
                out.insert(number, target);
            }
            _ => {}
        }
    }
    let targets: BTreeSet<u64> = out.values().copied().collect();
    // Only whole exchanges: two files must not end under one number.
    out.retain(|from, to| targets.contains(from) || !g.tables.contains_key(to));
    out
}

/// Second copies of a table: same session, same original number, same size. The copy under its own number stays.
fn duplicates(g: &Gathered) -> BTreeMap<u64, u64> {
    let mut first: BTreeMap<(String, u64, u64), u64> = BTreeMap::new();
    let mut out = BTreeMap::new();
    for (&number, table) in &g.tables {
        let Some(p) = &table.properties else { continue };
        let (Some(session), Some(original)) = (&p.session_id, p.original_file_number) else { continue };
        if p.external_version.is_some() || table.state != TableState::Good {
            continue;
        }
        let key = (session.clone(), original, table.size);
        match first.get(&key).copied() {
            None => {
                first.insert(key, number);
            }
            Some(kept) if number == original => {
                out.insert(kept, number);
                first.insert(key, number);
            }
            Some(kept) => {
                out.insert(number, kept);
            }
        }
    }
    out
}

/// Point entries by the properties.
fn points(facts: &TableFacts) -> Option<u64> {
    let p = facts.properties.as_ref()?;
    Some(p.num_entries?.saturating_sub(p.num_range_deletions.unwrap_or(0)))
}

fn live(number: u64, on_disk: u64, facts: &TableFacts, g: &Gathered) -> LiveTable {
    let logged = g.log.tables.get(&number);
    let creation = logged.and_then(|t| t.creation.as_ref());
    let said = creation.and_then(|c| c.seqnos);
    let seqnos = match (facts.seqnos, said) {
        (Some((Some(a), b)), _) => (a, b),
        (_, Some(said)) => said,
        (Some((None, b)), None) => (0, b),
        (None, None) => (0, 0),
    };
    LiveTable {
        number,
        on_disk: Some(on_disk),
        size: facts.size,
        smallest: facts.smallest.clone().unwrap_or_default(),
        largest: facts.largest.clone().unwrap_or_default(),
        seqnos,
        exact: said.is_some() || facts.seqnos.is_some_and(|(a, _)| a.is_some()),
        global_seqno: logged.and_then(|t| t.global_seqno),
        oldest_blob: creation.and_then(|c| c.oldest_blob).or(facts.oldest_blob),
        entries: creation.and_then(|c| c.entries).or_else(|| points(facts)),
        tombstones: creation.and_then(|c| c.tombstones).or_else(|| facts.properties.as_ref()?.num_range_deletions),
        damaged: !matches!(facts.state, TableState::Good | TableState::Unsupported(_)),
        stripped: facts.properties.as_ref().is_some_and(|p| p.timestamps_persisted == Some(false))
            || facts.salvage.as_ref().is_some_and(|s| s.stripped),
        ..LiveTable::default()
    }
}

/// A table of the version, with what the file itself and the MANIFEST say about it.
fn listed(entry: &NewFile, facts: Option<(u64, &TableFacts)>, g: &Gathered, base: &str) -> LiveTable {
    let mut table = match facts {
        Some((on_disk, facts)) => live(entry.number, on_disk, facts, g),
        None => LiveTable { number: entry.number, ..LiveTable::default() },
    };
    let creation = g.log.tables.get(&entry.number).and_then(|t| t.creation.as_ref());
    table.entries = table.entries.or_else(|| creation.and_then(|c| c.entries));
    table.tombstones = table.tombstones.or_else(|| creation.and_then(|c| c.tombstones));
    table.level = Some(entry.level);
    table.smallest.clone_from(&entry.smallest);
    table.largest.clone_from(&entry.largest);
    table.seqnos = (entry.smallest_seqno, entry.largest_seqno);
    table.exact = true;
    table.oldest_blob = entry.oldest_blob();
    let external =
        facts.and_then(|(_, f)| f.properties.as_ref()).is_some_and(crate::format::TableProperties::takes_global_seqno);
    table.global_seqno = external.then_some(entry.largest_seqno);
    table.size = entry.size;
    table.stripped |= !entry.timestamps_persisted();
    table.entry = Some(entry.clone());
    table.witness = base.to_owned();
    // Another size is another file, or a cut one.
    table.damaged |= facts.is_some_and(|(_, f)| f.size != entry.size);
    table
}

struct Decision<'a> {
    g: &'a Gathered,
    renames: BTreeMap<u64, u64>,
    copies: BTreeMap<u64, u64>,
    known: BTreeSet<u64>,
    told: &'a BTreeMap<u64, String>,
}

impl Decision<'_> {
    fn family_of(&self, number: u64, facts: &TableFacts, out: &Resolved) -> Option<u32> {
        let by_properties = facts.properties.as_ref().and_then(|p| p.family_id).filter(|id| *id != UNKNOWN_FAMILY);
        let creation = || {
            let c = self.g.log.tables.get(&number)?.creation.as_ref()?;
            c.family_id.or_else(|| self.g.log.id_of(&c.family))
        };
        // An ingested file names no family: only the log tells, or there is just one it can be of.
        let only = || {
            let comparator = facts.properties.as_ref().and_then(|p| p.comparator.as_deref());
            let mut fits = out
                .families
                .values()
                .filter(|f| comparator.is_none() || f.comparator.is_none() || f.comparator.as_deref() == comparator);
            let first = fits.next()?;
            fits.next().is_none().then_some(first.id)
        };
        let told = || {
            let name = self.told.get(&number)?.as_bytes();
            out.families.values().find(|f| f.name == name).map(|f| f.id)
        };
        by_properties.or_else(creation).or_else(told).or_else(only)
    }

    /// What becomes of a table that the version does not list.
    fn unlisted(&self, number: u64, facts: &TableFacts, out: &Resolved) -> (Class, String) {
        let logged = self.g.log.tables.get(&number);
        let witness = logged.map(|t| t.witness.clone()).unwrap_or_default();
        if out.version.deleted.contains(&number) {
            return (Class::Obsolete, "the MANIFEST took it out".to_owned());
        }
        if out.trust == Trust::Whole {
            return match facts.state {
                TableState::Good | TableState::Damaged(_) => {
                    (Class::Obsolete, "the MANIFEST does not list it".to_owned())
                }
                _ => (Class::Foreign, "neither listed nor a table".to_owned()),
            };
        }
        let id = self.family_of(number, facts, out);
        if id.is_some_and(|id| out.dropped.contains_key(&id)) {
            return (Class::Obsolete, "its family was dropped".to_owned());
        }
        if let Some(t) = logged {
            if t.consumed {
                return (Class::Obsolete, format!("{witness} says that a compaction consumed it"));
            }
            if t.installed {
                return (Class::Live, witness);
            }
            if t.creation.is_some() && self.content_is_in_wals(t.creation.as_ref().and_then(|c| c.seqnos)) {
                return (
                    Class::Orphan,
                    format!("{witness} tells of its writing, nothing of its installation, and the WALs hold the same"),
                );
            }
        }
        match &facts.state {
            TableState::Good => (Class::Live, FOUND.to_owned()),
            TableState::Unsupported(_) => (Class::Live, FOUND.to_owned()),
            TableState::Damaged(_) | TableState::Empty | TableState::Nothing | TableState::Unread(_) => {
                let near = number <= out.version.next_file.max(self.ordinary_end());
                let class = if near && (logged.is_some() || matches!(facts.state, TableState::Damaged(_))) {
                    Class::Live
                } else {
                    Class::Foreign
                };
                (class, FOUND.to_owned())
            }
        }
    }

    /// A number that the database's own files do not exceed by far.
    fn ordinary_end(&self) -> u64 {
        let tables = self.g.tables.iter().filter(|(_, t)| t.state == TableState::Good).map(|(n, _)| *n);
        let wals = self.g.wals.iter().filter(|(_, w)| w.records > 0).map(|(n, _)| *n);
        let most = tables.chain(wals).chain(self.g.manifests.keys().copied()).max().unwrap_or(0);
        most.saturating_mul(2).saturating_add(1000)
    }

    fn content_is_in_wals(&self, seqnos: Option<(u64, u64)>) -> bool {
        let Some((first, last)) = seqnos else { return false };
        let wals =
            self.g.wals.values().filter(|w| !w.is_damaged()).filter_map(|w| w.first_sequence.zip(w.last_sequence));
        let (mut low, mut high) = (u64::MAX, 0);
        for (a, b) in wals {
            (low, high) = (low.min(a), high.max(b));
        }
        low <= first && last <= high
    }
}

/// Fills the tables of every family, the classes of all table files, and the missing ones.
pub fn resolve(g: &Gathered, told: &BTreeMap<u64, String>, out: &mut Resolved) {
    let base = out.base.map(file_name::manifest).unwrap_or_default();
    let known: BTreeSet<u64> = out.version.files().map(|(_, f)| f.number).collect();
    let renames = if out.trust == Trust::Whole && known.iter().all(|n| fits(g, &out.version, *n)) {
        BTreeMap::new()
    } else {
        swapped_names(g)
    };
    let decision = Decision { g, renames, copies: duplicates(g), known, told };
    for (from, to) in &decision.renames {
        out.findings.push(
            Finding::new(&codes::SWAPPED_NAME, Severity::Damaged, file_name::table(*from))
                .summary(format!("the properties say that this is table {to}; it gets its name back"))
                .evidence(Evidence::value("original file number", to, from)),
        );
    }
    let mut by_number: BTreeMap<u64, u64> = g.tables.keys().map(|n| (*n, *n)).collect();
    for (from, to) in &decision.renames {
        by_number.insert(*to, *from);
    }
    listed_tables(g, out, &by_number, &base);
    unlisted_tables(g, out, &decision, &by_number);
    for family in out.families.values_mut() {
        let size = family.order.as_ref().map_or(0, crate::format::KeyOrder::timestamp_size);
        for table in family.tables.values_mut().filter(|t| t.stripped && t.entry.is_some()) {
            table.smallest = pad_timestamp(&table.smallest, size);
            table.largest = pad_timestamp(&table.largest, size);
        }
    }
    blobs(g, out);
}

/// Whether a listed table's file has the size the MANIFEST gives it.
fn fits(g: &Gathered, version: &Version, number: u64) -> bool {
    let size = version.files().find(|(_, f)| f.number == number).map(|(_, f)| f.size);
    g.tables.get(&number).is_none_or(|t| Some(t.size) == size)
}

fn listed_tables(g: &Gathered, out: &mut Resolved, by_number: &BTreeMap<u64, u64>, base: &str) {
    let listed_files: Vec<(u32, NewFile)> = out.version.files().map(|(id, f)| (id, f.clone())).collect();
    for (id, entry) in listed_files {
        let number = entry.number;
        let logged = g.log.tables.get(&number);
        let on_disk = by_number.get(&number).copied();
        // Behind the end of a cut MANIFEST the log may know of the compaction that consumed the table.
        if out.trust != Trust::Whole && logged.is_some_and(|t| t.consumed) && !out.families.is_empty() {
            let witness = logged.map(|t| t.witness.clone()).unwrap_or_default();
            out.claim(format!("table {number} was consumed after the MANIFEST's last good record"), witness);
            if let Some(n) = on_disk {
                out.classes.insert(n, Class::Obsolete);
            }
            continue;
        }
        let Some(family) = out.families.get_mut(&id) else {
            if let Some(n) = on_disk {
                out.classes.insert(n, Class::Obsolete);
            }
            continue;
        };
        let facts = on_disk.and_then(|n| Some((n, g.tables.get(&n)?)));
        let mut table = listed(&entry, facts, g, base);
        if out.trust != Trust::Whole
            && let Some(level) = logged.filter(|t| t.is_live()).and_then(|t| t.level)
        {
            // Later moves are only in the log.
            table.level = Some(level.max(entry.level));
        }
        match facts {
            Some((n, _)) => {
                out.classes.insert(n, if table.damaged { Class::Damaged } else { Class::Live });
            }
            None => {
                out.missing.insert(number);
            }
        }
        family.tables.insert(number, table);
    }
}

fn unlisted_tables(g: &Gathered, out: &mut Resolved, decision: &Decision<'_>, by_number: &BTreeMap<u64, u64>) {
    let back: BTreeMap<u64, u64> = by_number.iter().map(|(n, d)| (*d, *n)).collect();
    for (&on_disk, facts) in &g.tables {
        let number = decision.renames.get(&on_disk).or_else(|| back.get(&on_disk)).copied().unwrap_or(on_disk);
        if decision.known.contains(&number) {
            continue;
        }
        if let Some(kept) = decision.copies.get(&on_disk) {
            out.classes.insert(on_disk, Class::Obsolete);
            out.findings.push(
                Finding::new(&codes::SECOND_COPY, Severity::Note, facts.object.clone())
                    .summary(format!("a second copy of table {kept}: same session and original number; not used")),
            );
            continue;
        }
        let (class, why) = decision.unlisted(number, facts, out);
        if class != Class::Live {
            out.classes.insert(on_disk, class);
            if out.trust != Trust::Whole {
                out.claim(format!("table {number} is {}", class.word()), why);
            }
            continue;
        }
        let Some(id) = decision.family_of(number, facts, out) else {
            out.classes.insert(on_disk, Class::Orphan);
            out.familyless.insert(on_disk);
            out.findings.push(
                Finding::new(&codes::NO_FAMILY, Severity::Lost, facts.object.clone())
                    .summary(format!("no witness tells the family of this table; a rescue keeps it in lost/, --table-family {number}=NAME makes it part of one"))
                    .effect(facts.entries.unwrap_or(0), facts.size),
            );
            continue;
        };
        let mut table = live(number, on_disk, facts, g);
        table.level = g.log.tables.get(&number).filter(|t| t.is_live()).and_then(|t| t.level);
        out.claim(format!("table {number} is live"), why.clone());
        table.witness = why;
        out.classes.insert(on_disk, if table.damaged { Class::Damaged } else { Class::Live });
        if let Some(family) = out.families.get_mut(&id) {
            family.tables.insert(number, table);
        }
    }
    logged_but_missing(g, out, by_number);
}

/// Tables that the log says are live, that no MANIFEST lists any more, and that are not there.
fn logged_but_missing(g: &Gathered, out: &mut Resolved, by_number: &BTreeMap<u64, u64>) {
    if out.trust == Trust::Whole {
        return;
    }
    for (&number, logged) in &g.log.tables {
        let Some(creation) = logged.creation.as_ref().filter(|c| logged.is_live() && c.size > 0) else { continue };
        if by_number.contains_key(&number) || out.version.deleted.contains(&number) || out.family_of(number).is_some() {
            continue;
        }
        let Some(id) = creation.family_id.or_else(|| g.log.id_of(&creation.family)) else { continue };
        let Some(family) = out.families.get_mut(&id) else { continue };
        out.missing.insert(number);
        let table = LiveTable {
            number,
            size: creation.size,
            level: logged.level,
            seqnos: creation.seqnos.unwrap_or_default(),
            exact: creation.seqnos.is_some(),
            entries: creation.entries,
            tombstones: creation.tombstones,
            witness: logged.witness.clone(),
            ..LiveTable::default()
        };
        family.tables.insert(number, table);
    }
}

/// Blob files: those the MANIFEST lists, else every one that is there and that the log does not call dead.
fn blobs(g: &Gathered, out: &mut Resolved) {
    for (id, family) in &out.version.families {
        let Some(resolved) = out.families.get_mut(id) else { continue };
        for (number, blob) in &family.blobs {
            let found = g.blobs.get(number);
            let entry = BlobEntry {
                count: blob.added.count,
                bytes: blob.added.bytes,
                garbage_count: blob.garbage_count,
                garbage_bytes: blob.garbage_bytes,
                present: found.is_some(),
                damaged: found.is_some_and(|f| !f.is_whole()),
                donor: None,
            };
            if let Some(f) = found {
                out.blob_classes.insert(*number, if f.is_whole() { Class::Live } else { Class::Damaged });
            }
            resolved.blobs.insert(*number, entry);
        }
    }
    for (&number, facts) in &g.blobs {
        if out.blob_classes.contains_key(&number) {
            continue;
        }
        let header = facts.walk.as_ref().and_then(|w| w.header.as_ref().ok());
        let family = header.map(|h| h.family).or_else(|| g.log.blobs.get(&number).and_then(|b| g.log.id_of(&b.family)));
        let class = match (out.trust, family) {
            _ if facts.is_nothing() => Class::Foreign,
            (Trust::Whole, _) => Class::Obsolete,
            (_, Some(id)) if out.families.contains_key(&id) => {
                if facts.is_whole() {
                    Class::Live
                } else {
                    Class::Damaged
                }
            }
            _ => Class::Orphan,
        };
        out.blob_classes.insert(number, class);
        let walk = facts.walk.as_ref();
        if let (Class::Live | Class::Damaged, Some(resolved), Some(walk)) =
            (class, family.and_then(|id| out.families.get_mut(&id)), walk)
        {
            let entry = BlobEntry {
                count: walk.records(),
                bytes: walk.bytes(),
                present: true,
                damaged: class == Class::Damaged,
                ..BlobEntry::default()
            };
            resolved.blobs.insert(number, entry);
        }
    }
}

//! What can replace damaged and missing files: donors, `lost/` and `archive/` below the directory, and WALs that still
//! hold what a lost table was flushed from.

use std::path::PathBuf;
use std::sync::Arc;

use recovery_core::{Blob, Context, Depth, Entries, Entry, Error, ReadError, Source, Sources};

use super::gather::{self, Gathered};
use super::tables::{TableFacts, TableState};
use super::{Donor, Inspection};
use crate::reader::wal::WalSummary;
use crate::witness::LiveTable;

/// A directory below a source, as a source.
struct Below {
    inner: Arc<dyn Source>,
    prefix: String,
}

impl Source for Below {
    fn describe(&self) -> String {
        format!("{}/{}", self.inner.describe(), self.prefix.trim_end_matches('/'))
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        let root = format!("{}{dir}", self.prefix);
        let strip = move |entry: Result<Entry, ReadError>| {
            entry.map(|mut e| {
                e.name = e.name.strip_prefix(&self.prefix).map(str::to_owned).unwrap_or(e.name);
                e
            })
        };
        Box::new(self.inner.list(root.trim_end_matches('/'), depth).map(strip))
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        let entry = self.inner.stat(&format!("{}{name}", self.prefix))?;
        Ok(entry.map(|e| Entry { name: name.to_owned(), ..e }))
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        self.inner.open(&Entry { name: format!("{}{}", self.prefix, entry.name), ..entry.clone() })
    }

    fn local_path(&self, entry: &Entry) -> Option<PathBuf> {
        self.inner.local_path(&Entry { name: format!("{}{}", self.prefix, entry.name), ..entry.clone() })
    }
}

/// Whether a donor's table is the table that is damaged or missing here: same session and original number where ours
/// can still be read, else same database, number and size.
pub(super) fn is_same(
    table: &LiveTable,
    ours: Option<&TableFacts>,
    theirs: &TableFacts,
    db_id: Option<&str>,
    whole: bool,
) -> bool {
    let Some(p) = &theirs.properties else { return false };
    if (whole && theirs.state != TableState::Good) || (table.entry.is_some() && theirs.size != table.size) {
        return false;
    }
    let own = ours.and_then(|f| f.properties.as_ref());
    if let Some(own) = own.filter(|o| o.session_id.is_some() && o.original_file_number.is_some()) {
        return own.session_id == p.session_id && own.original_file_number == p.original_file_number;
    }
    if !whole {
        // Of a damaged copy only the properties are sure.
        return theirs.size == table.size
            && p.original_file_number == Some(table.number)
            && p.db_id.as_deref() == db_id;
    }
    let key = |k: &[u8]| crate::format::key::user_key(k).to_vec();
    let bounds = theirs.smallest.as_deref().map(key).zip(theirs.largest.as_deref().map(key));
    let same_bounds = bounds == Some((key(&table.smallest), key(&table.largest)));
    if theirs.size != table.size {
        return false;
    }
    match &table.entry {
        // The MANIFEST has the ends, and the name is the donor's name for it too.
        Some(_) => same_bounds && theirs.object == crate::format::file_name::table(table.number),
        None => p.original_file_number == Some(table.number) && p.db_id.as_deref() == db_id,
    }
}

fn is_same_wal(ours: &WalSummary, theirs: &WalSummary) -> bool {
    let longer = theirs.records >= ours.records.saturating_add(ours.damage.len() as u64);
    !theirs.is_damaged()
        && longer
        && theirs.first_sequence.is_some()
        && (ours.first_sequence.is_none() || theirs.first_sequence <= ours.first_sequence)
}

/// Finds what heals, and notes it in the state.
pub(super) fn find(i: &mut Inspection, sources: &Sources, cx: &Context) -> Result<(), Error> {
    let own = i.gathered.number;
    for name in ["lost/", "archive/"] {
        if i.gathered.below.iter().any(|it| it.entry.name.starts_with(name)) {
            let source: Arc<dyn Source> =
                Arc::new(Below { inner: Arc::clone(&i.gathered.source), prefix: name.to_owned() });
            i.donors.push(Donor { below: name.to_owned(), gathered: gather::gather(&source, own, cx)? });
        }
    }
    for (number, source) in sources.all().skip(sources.rivals.len()) {
        i.donors.push(Donor { below: String::new(), gathered: gather::gather(source, number, cx)? });
    }
    files(i);
    wals(i);
    super::ranges::find(i, sources, cx)
}

fn files(i: &mut Inspection) {
    let Inspection { gathered, resolved, donors, wal_donors, .. } = i;
    let db_id = resolved.db_id.clone();
    for family in resolved.families.values_mut() {
        for table in family.tables.values_mut().filter(|t| t.damaged || t.on_disk.is_none()) {
            let ours = table.on_disk.and_then(|n| gathered.tables.get(&n));
            table.donor = donors
                .iter()
                .find_map(|d| {
                    let theirs =
                        d.gathered.tables.values().find(|t| is_same(table, ours, t, db_id.as_deref(), true))?;
                    Some((d.gathered.number, format!("{}{}", d.below, theirs.object), theirs))
                })
                .map(|(n, object, theirs)| {
                    // Its ends say what the lost file's no longer do.
                    if table.entry.is_none() {
                        table.size = theirs.size;
                        table.smallest = theirs.smallest.clone().unwrap_or_default();
                        table.largest = theirs.largest.clone().unwrap_or_default();
                    }
                    (n, object)
                });
        }
        for (number, blob) in family.blobs.iter_mut().filter(|(_, b)| b.damaged || !b.present) {
            let fits = |d: &&Donor| {
                let theirs = d.gathered.blobs.get(number);
                theirs.is_some_and(|t| {
                    t.is_whole()
                        && t.walk.as_ref().is_some_and(|w| w.records() >= blob.count && w.bytes() >= blob.bytes)
                })
            };
            blob.donor = donors.iter().find(fits).and_then(|d| {
                Some((d.gathered.number, format!("{}{}", d.below, d.gathered.blobs.get(number)?.object)))
            });
        }
    }
    for wal in gathered.wals.values().filter(|w| w.is_damaged()) {
        let found = donors.iter().find_map(|d| {
            let theirs = d.gathered.wals.get(&wal.number).filter(|t| is_same_wal(wal, t))?;
            Some((d, theirs.number))
        });
        if let Some((d, number)) = found {
            wal_donors.insert(
                wal.number,
                (d.gathered.number, format!("{}{}", d.below, crate::format::file_name::wal(number))),
            );
        }
    }
}

/// The WALs of a directory that hold every sequence number from `first` to `last`, none damaged.
fn covering(g: &Gathered, below: &str, first: u64, last: u64) -> Option<Vec<(u16, String, u64)>> {
    let mut at = first;
    let mut out = Vec::new();
    for w in g.wals.values() {
        let (Some(from), Some(to)) = (w.first_sequence, w.last_sequence) else { continue };
        if to < at {
            continue;
        }
        // A number that no record of the log uses belongs to something else, an ingestion say.
        let dense = to.checked_sub(from).and_then(|n| n.checked_add(1)) == Some(w.entries);
        if from > at || w.is_damaged() || !dense {
            return None;
        }
        out.push((g.number, format!("{below}{}", crate::format::file_name::wal(w.number)), w.number));
        if to >= last {
            return Some(out);
        }
        at = to.saturating_add(1);
    }
    None
}

/// A table straight from a flush holds the writes of one span of sequence numbers; WALs that still hold the span hold
/// the table. Compactions mix spans and zero numbers: their outputs are not made again this way.
fn wals(i: &mut Inspection) {
    let Inspection { gathered, resolved, donors, .. } = i;
    let two_phase = gathered.wals.values().any(|w| !w.marks.is_empty());
    if two_phase {
        return;
    }
    for family in resolved.families.values_mut() {
        let log_number = family.log_number;
        for table in family.tables.values_mut().filter(|t| (t.damaged || t.on_disk.is_none()) && t.donor.is_none()) {
            let (first, last) = table.seqnos;
            let complete = table
                .on_disk
                .and_then(|n| gathered.tables.get(&n))
                .and_then(|f| f.salvage.as_ref())
                .is_some_and(|s| s.complete);
            let ingested = first == last && table.entries != Some(1);
            if complete
                || ingested
                || table.level != Some(0)
                || !table.exact
                || first == 0
                || table.oldest_blob.is_some()
                || table.global_seqno.is_some()
            {
                continue;
            }
            let own = covering(gathered, "", first, last);
            let found = own.or_else(|| donors.iter().find_map(|d| covering(&d.gathered, &d.below, first, last)));
            // A WAL that is replayed anyway must not be in a table too: its merges would count twice.
            table.wals = found.unwrap_or_default().into_iter().filter(|(_, _, n)| *n < log_number).collect();
            let whole = table.wals.len() == covering_len(gathered, donors, first, last);
            if !whole {
                table.wals.clear();
            }
        }
    }
}

fn covering_len(g: &Gathered, donors: &[Donor], first: u64, last: u64) -> usize {
    let own = covering(g, "", first, last);
    own.or_else(|| donors.iter().find_map(|d| covering(&d.gathered, &d.below, first, last)))
        .map_or(usize::MAX, |v| v.len())
}

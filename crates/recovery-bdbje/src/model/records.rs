//! Records of a database: bottom nodes in key order, merged with what happened behind the checkpoint, their values
//! fetched many at a time.

use std::ops::Bound;

use bytes::Bytes;
use recovery_core::{Context, Cursor, Result as CoreResult, parallel};

use super::Problem;
use super::env::Database;
use super::replay::{Change, Overlay};
use super::tree::{self, Leaf, LeafRef};
use crate::format::header::{self, MAX_HEADER};
use crate::format::ln::LnEntry;
use crate::format::{EntryHeader, FormatError, Lsn, packed};
use crate::reader::{Log, OwnedEntry};

/// Bytes between two records of a batch that are read along rather than skipped.
const GAP: u64 = 32 << 10;
/// Largest stretch read at once.
const STRETCH: u64 = 2 << 20;
/// What a record of unknown size is first expected to have.
const GUESS: u64 = 512;
/// Records of one bottom node that are larger together are read in parts of this size.
const LARGE: u64 = 8 << 20;

/// A live or dead key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Complete key; in a database with duplicates the two-part key.
    pub key: Vec<u8>,
    /// Place of the record.
    pub lsn: Lsn,
    /// Deleted.
    pub dead: bool,
    /// Data, when they do not have to be fetched.
    pub data: Option<Vec<u8>>,
    /// VLSN, when known.
    pub vlsn: Option<i64>,
    /// Size of the entry, as a hint.
    pub size: Option<i32>,
    /// The transaction is still open.
    pub open: bool,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Key; in a database with duplicates the first part.
    pub key: Bytes,
    /// Data; in a database with duplicates the second part.
    pub data: Bytes,
    /// Place.
    pub lsn: Lsn,
    /// Place in the replication stream.
    pub vlsn: Option<i64>,
    /// The transaction is still open.
    pub open: bool,
}

/// A record, seen where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Key; in a database with duplicates the first part.
    pub key: &'a [u8],
    /// Data; in a database with duplicates the second part.
    pub data: &'a [u8],
    /// Place.
    pub lsn: Lsn,
    /// Place in the replication stream.
    pub vlsn: Option<i64>,
    /// The transaction is still open.
    pub open: bool,
}

/// Records that follow one another, and what could not be read among them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Records in key order.
    pub records: Vec<Record>,
    /// Records that are lost.
    pub problems: Vec<Problem>,
}

fn from_leaf(leaf: Leaf) -> Slot {
    let dead = leaf.dead();
    Slot { key: leaf.key, lsn: leaf.lsn, dead, data: leaf.data, vlsn: leaf.vlsn, size: leaf.size, open: false }
}

/// Applies what happened behind the checkpoint to a slot; `None` when nothing of the key is left.
fn apply(slot: Option<Slot>, key: &[u8], change: &Change) -> Option<Slot> {
    let mut slot = slot;
    for undo in &change.undo {
        let hit = slot.as_ref().is_some_and(|s| s.lsn == undo.lsn);
        if hit {
            slot = undo.abort_lsn.some().map(|lsn| Slot {
                key: key.to_vec(),
                lsn,
                dead: undo.abort_deleted,
                data: undo.abort_data.as_deref().map(<[u8]>::to_vec),
                vlsn: None,
                size: None,
                open: false,
            });
        }
    }
    match change.redo {
        Some(redo) if slot.as_ref().is_none_or(|s| s.lsn.is_null() || s.lsn < redo.lsn) => Some(Slot {
            key: key.to_vec(),
            lsn: redo.lsn,
            dead: redo.dead,
            data: None,
            vlsn: None,
            size: i32::try_from(redo.size).ok().filter(|n| *n > 0),
            open: redo.open,
        }),
        _ => slot,
    }
}

/// The slots of one bottom node, merged with the changes in its range.
fn merge(leaves: Vec<Leaf>, leaf: &LeafRef, overlay: &Overlay) -> Vec<Slot> {
    if overlay.is_empty() {
        return leaves.into_iter().map(from_leaf).collect();
    }
    let low = leaf.from.as_deref().map_or(Bound::Unbounded, Bound::Included);
    let high = leaf.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let inverted = matches!((&leaf.from, &leaf.to), (Some(a), Some(b)) if a >= b);
    if inverted {
        return leaves.into_iter().map(from_leaf).collect();
    }
    let mut changes = overlay.range::<[u8], _>((low, high)).peekable();
    let mut out = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        while let Some((key, change)) = changes.next_if(|(k, _)| k.as_ref() < leaf.key.as_slice()) {
            out.extend(apply(None, key, change));
        }
        match changes.next_if(|(k, _)| k.as_ref() == leaf.key.as_slice()) {
            Some((key, change)) => out.extend(apply(Some(from_leaf(leaf)), key, change)),
            None => out.push(from_leaf(leaf)),
        }
    }
    for (key, change) in changes {
        out.extend(apply(None, key, change));
    }
    out
}

fn leaf_refs(log: &Log, root: Option<Lsn>, db: i64, problems: &mut Vec<Problem>) -> Vec<LeafRef> {
    let mut refs = match root.and_then(Lsn::some) {
        Some(root) => tree::bottoms(log, root, db, &mut |lsn, error| {
            problems.push(Problem::new("tree node", lsn, Some(db), error));
        }),
        None => Vec::new(),
    };
    if refs.is_empty() {
        refs.push(LeafRef { lsn: Lsn::NULL, from: None, to: None });
    }
    // Whatever could not be read, the changes of its range must still be seen.
    if let Some(first) = refs.first_mut() {
        first.from = None;
    }
    refs
}

fn read_leaf(log: &Log, leaf: &LeafRef, overlay: &Overlay, db: i64) -> (Vec<Slot>, Option<Problem>) {
    if leaf.lsn.is_null() {
        return (merge(Vec::new(), leaf, overlay), None);
    }
    match tree::bottom(log, leaf.lsn) {
        Ok(leaves) => (merge(leaves, leaf, overlay), None),
        Err(e) => (merge(Vec::new(), leaf, overlay), Some(Problem::new("bottom node (BIN)", leaf.lsn, Some(db), e))),
    }
}

/// Calls `sink` for every slot of a tree, in key order, dead ones included.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn each_slot(
    log: &Log,
    root: Option<Lsn>,
    db: i64,
    overlay: &Overlay,
    cx: &Context,
    sink: &mut dyn FnMut(Slot),
    problems: &mut Vec<Problem>,
) -> CoreResult<()> {
    let refs = leaf_refs(log, root, db, problems);
    let window = cx.limits.threads.saturating_mul(8);
    let work = |leaf: LeafRef| read_leaf(log, &leaf, overlay, db);
    parallel::stream(cx, refs.into_iter(), window, work, |(slots, problem)| {
        problems.extend(problem);
        slots.into_iter().for_each(&mut *sink);
        Ok(())
    })
}

/// Calls `sink` for batch after batch of live records.
///
/// # Errors
///
/// The first error of `sink`, or that the caller asked to stop.
pub fn stream(
    log: &Log,
    db: &Database,
    overlay: &Overlay,
    cx: &Context,
    sink: &mut dyn FnMut(Batch) -> CoreResult<()>,
    problems: &mut Vec<Problem>,
) -> CoreResult<()> {
    let part = |slots: Vec<Slot>| fetch(log, db.id, slots, db.config.duplicates());
    let take = &mut |mut batch: Batch, problem: Option<Problem>| {
        batch.problems.extend(problem);
        sink(batch)
    };
    parts(log, db, overlay, cx, &part, take, problems)
}

/// Calls `each` for every live record where it was read, many at once, and `sink` with what was made of the records of
/// one stretch of keys, in key order, and with what could not be read among them.
///
/// # Errors
///
/// The first error of `sink`, or that the caller asked to stop.
pub fn visit<R: Default + Send>(
    log: &Log,
    db: &Database,
    overlay: &Overlay,
    cx: &Context,
    each: &(dyn Fn(&mut R, RecordRef<'_>) + Sync),
    sink: &mut dyn FnMut(R, Vec<Problem>) -> CoreResult<()>,
    problems: &mut Vec<Problem>,
) -> CoreResult<()> {
    let part = |slots: Vec<Slot>| {
        let (mut made, mut problems) = (R::default(), Vec::new());
        each_value(log, db.id, slots, db.config.duplicates(), &mut |r| each(&mut made, r), &mut problems);
        (made, problems)
    };
    let take = &mut |(made, mut found): (R, Vec<Problem>), problem: Option<Problem>| {
        found.extend(problem);
        sink(made, found)
    };
    parts(log, db, overlay, cx, &part, take, problems)
}

/// Bottom node after bottom node; the records of one that are large together are read in parts, one after the other,
/// so that memory does not grow with them.
fn parts<R: Send>(
    log: &Log,
    db: &Database,
    overlay: &Overlay,
    cx: &Context,
    part: &(dyn Fn(Vec<Slot>) -> R + Sync),
    sink: &mut dyn FnMut(R, Option<Problem>) -> CoreResult<()>,
    problems: &mut Vec<Problem>,
) -> CoreResult<()> {
    enum Done<R> {
        Made(R),
        Large(Vec<Slot>),
    }
    let refs = leaf_refs(log, db.root, db.id, problems);
    // Without a tree everything is in one range: cut it, so that the work is shared and memory bounded.
    let refs = split(refs, overlay);
    let window = cx.limits.threads.saturating_mul(4);
    let work = |leaf: LeafRef| {
        let (slots, problem) = read_leaf(log, &leaf, overlay, db.id);
        let weight = slots.iter().fold(0u64, |n, s| n.saturating_add(weight(s)));
        (if weight <= LARGE { Done::Made(part(slots)) } else { Done::Large(slots) }, problem)
    };
    parallel::stream(cx, refs.into_iter(), window, work, |(done, mut problem)| match done {
        Done::Made(made) => sink(made, problem),
        Done::Large(slots) => {
            let mut rest = slots.into_iter().peekable();
            while rest.peek().is_some() {
                let mut left = LARGE;
                let mut some = Vec::new();
                while let Some(s) = rest.next_if(|s| some.is_empty() || weight(s) <= left) {
                    left = left.saturating_sub(weight(&s));
                    some.push(s);
                }
                sink(part(some), problem.take())?;
            }
            Ok(())
        }
    })
}

/// What the value of a slot is expected to take.
fn weight(slot: &Slot) -> u64 {
    match (&slot.data, slot.size) {
        (Some(d), _) => d.len() as u64,
        (None, Some(n)) if !slot.dead => u64::try_from(n).unwrap_or(0),
        _ => GUESS,
    }
}

fn split(refs: Vec<LeafRef>, overlay: &Overlay) -> Vec<LeafRef> {
    const PART: usize = 256;
    match refs.as_slice() {
        [only] if only.lsn.is_null() && overlay.len() > PART => {
            let mut borders: Vec<Option<Vec<u8>>> =
                overlay.keys().step_by(PART).skip(1).map(|k| Some(k.to_vec())).collect();
            borders.push(None);
            let mut from = None;
            borders
                .into_iter()
                .map(|to| LeafRef { lsn: Lsn::NULL, from: std::mem::replace(&mut from, to.clone()), to })
                .collect()
        }
        _ => refs,
    }
}

/// Fetches the values of slots that have none.
#[must_use]
pub fn fetch(log: &Log, db: i64, slots: Vec<Slot>, duplicates: bool) -> Batch {
    let mut batch = Batch { records: Vec::with_capacity(slots.len()), problems: Vec::new() };
    let Batch { records, problems } = &mut batch;
    let mut keep = |r: RecordRef<'_>| {
        records.push(Record {
            key: Bytes::copy_from_slice(r.key),
            data: Bytes::copy_from_slice(r.data),
            lsn: r.lsn,
            vlsn: r.vlsn,
            open: r.open,
        });
    };
    each_value(log, db, slots, duplicates, &mut keep, problems);
    batch
}

/// Calls `sink` for every live record among the slots; their entries are read many at a time.
fn each_value(
    log: &Log,
    db: i64,
    slots: Vec<Slot>,
    duplicates: bool,
    sink: &mut dyn FnMut(RecordRef<'_>),
    problems: &mut Vec<Problem>,
) {
    // Of a record that lies in its slot only the VLSN is missing, which the header of its entry holds, if that is still
    // there. Local databases have none.
    let bare = |s: &Slot| s.data.is_some() && s.vlsn.is_none() && db < 0 && !s.lsn.is_null();
    let size = |s: &Slot| if s.data.is_some() { MAX_HEADER as u64 } else { hint(s) };
    let wanted = slots.iter().filter(|s| !s.dead && (s.data.is_none() || bare(s)));
    let mut wanted: Vec<(Lsn, u64)> = wanted.map(|s| (s.lsn, size(s))).collect();
    wanted.sort_unstable();
    let stretches = read_stretches(log, &wanted);
    for slot in slots.into_iter().filter(|s| !s.dead) {
        let lsn = slot.lsn;
        let mut alone = None;
        let got = match &slot.data {
            Some(data) => {
                let vlsn = if bare(&slot) { header_vlsn(&stretches, lsn) } else { slot.vlsn };
                Ok((Some(data.as_slice()), vlsn))
            }
            None => value(log, &stretches, &slot, &mut alone),
        };
        let done = got.and_then(|(data, vlsn)| {
            // The record itself may turn out to be a deletion where the slot did not say so.
            let Some(data) = data else { return Ok(()) };
            let (key, data) = if duplicates { packed::split_two_part(&slot.key)? } else { (slot.key.as_slice(), data) };
            sink(RecordRef { key, data, lsn, vlsn, open: slot.open });
            Ok(())
        });
        if let Err(error) = done {
            problems.push(problem(db, slot.key, lsn, error));
        }
    }
}

fn hint(slot: &Slot) -> u64 {
    slot.size.and_then(|n| u64::try_from(n).ok()).unwrap_or(GUESS)
}

/// VLSN of a record whose data lie in its slot, where its own entry is still there.
fn header_vlsn(stretches: &[Stretch], lsn: Lsn) -> Option<i64> {
    let header = EntryHeader::decode(&mut Cursor::new(within(stretches, lsn)?, lsn.offset().into())).ok()?;
    header.vlsn.filter(|_| header.kind.is_user_ln())
}

fn problem(db: i64, key: Vec<u8>, lsn: Lsn, error: FormatError) -> Problem {
    Problem { what: "record".to_owned(), lsn, db: Some(db), key: Some(key), error }
}

/// A stretch of one file.
struct Stretch {
    from: Lsn,
    bytes: Bytes,
}

fn read_stretches(log: &Log, wanted: &[(Lsn, u64)]) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    let mut open: Option<(Lsn, u64)> = None;
    let close = |open: Option<(Lsn, u64)>, out: &mut Vec<Stretch>| {
        let Some((from, end)) = open else { return };
        let Some(file) = log.files.get(&from.file()) else { return };
        let end = end.min(file.len);
        let start = u64::from(from.offset());
        if start < end
            && let Ok(bytes) = file.blob.bytes(start..end)
        {
            out.push(Stretch { from, bytes });
        }
    };
    for (lsn, size) in wanted {
        let at = u64::from(lsn.offset());
        let end = at.saturating_add((*size).max(MAX_HEADER as u64));
        match &mut open {
            Some((from, to))
                if from.file() == lsn.file()
                    && at <= to.saturating_add(GAP)
                    && end.saturating_sub(from.offset().into()) <= STRETCH =>
            {
                *to = end.max(*to);
            }
            _ => {
                close(open.take(), &mut out);
                open = Some((*lsn, end));
            }
        }
    }
    close(open, &mut out);
    out
}

/// The bytes from a place on, as far as they were read.
fn within(stretches: &[Stretch], lsn: Lsn) -> Option<&[u8]> {
    let before = stretches.partition_point(|s| s.from <= lsn).checked_sub(1)?;
    let near = stretches.get(before).filter(|s| s.from.file() == lsn.file())?;
    near.bytes.get(usize::try_from(lsn.offset().checked_sub(near.from.offset())?).ok()?..)
}

/// Data and VLSN of the record of a slot; no data when it is a deletion.
fn value<'s>(
    log: &Log,
    stretches: &'s [Stretch],
    slot: &Slot,
    alone: &'s mut Option<OwnedEntry>,
) -> Result<(Option<&'s [u8]>, Option<i64>), FormatError> {
    let lsn = slot.lsn;
    let at = u64::from(lsn.offset());
    if let Some(window) = within(stretches, lsn)
        && let Ok(header) = EntryHeader::decode(&mut Cursor::new(window, at))
        && let Ok(total) = usize::try_from(header.total())
        && let Some(entry) = window.get(..total)
    {
        header::verify(&header, entry, at)?;
        let version = log.files.get(&lsn.file()).map_or(0, crate::reader::LogFile::version);
        return data_of(&header, entry, version, at, &slot.key);
    }
    let e = alone.insert(log.entry_hinted(lsn, hint(slot))?);
    data_of(&e.header, &e.bytes, e.version, at, &slot.key)
}

fn data_of<'e>(
    header: &EntryHeader,
    entry: &'e [u8],
    version: u8,
    at: u64,
    key: &[u8],
) -> Result<(Option<&'e [u8]>, Option<i64>), FormatError> {
    if !header.kind.is_ln() {
        return Err(FormatError::BadType { found: header.kind.number(), at });
    }
    let item = entry.get(header.size()..).unwrap_or_default();
    let ln = LnEntry::decode(&mut Cursor::new(item, at), header.kind, version)?;
    if ln.key != key {
        return Err(FormatError::Invalid { field: "key of the record", at, found: -1 });
    }
    Ok((ln.data.filter(|_| !ln.is_deletion()), header.vlsn))
}

//! Records of a database: bottom nodes in key order, merged with what happened behind the checkpoint, their values
//! fetched many at a time.

use std::ops::Bound;

use bytes::Bytes;
use recovery_core::{Context, Result as CoreResult, parallel};

use super::Problem;
use super::env::Database;
use super::replay::{Change, Overlay};
use super::tree::{self, Leaf, LeafRef};
use crate::format::header::{self, MAX_HEADER};
use crate::format::ln::LnEntry;
use crate::format::{EntryHeader, FormatError, Lsn, packed};
use crate::reader::Log;

/// Bytes between two records of a batch that are read along rather than skipped.
const GAP: u64 = 32 << 10;
/// Largest stretch read at once.
const STRETCH: u64 = 2 << 20;
/// What a record of unknown size is first expected to have.
const GUESS: u64 = 512;

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
            size: None,
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
    stream_with(log, db, overlay, cx, &|batch| batch, sink, problems)
}

/// As [`stream`]; what is made of each batch is made where it was read, many at once.
///
/// # Errors
///
/// The first error of `sink`, or that the caller asked to stop.
pub fn stream_with<R: Send>(
    log: &Log,
    db: &Database,
    overlay: &Overlay,
    cx: &Context,
    make: &(dyn Fn(Batch) -> R + Sync),
    sink: &mut dyn FnMut(R) -> CoreResult<()>,
    problems: &mut Vec<Problem>,
) -> CoreResult<()> {
    let refs = leaf_refs(log, db.root, db.id, problems);
    let (id, duplicates) = (db.id, db.config.duplicates());
    // Without a tree everything is in one range: cut it, so that the work is shared and memory bounded.
    let refs = split(refs, overlay);
    let window = cx.limits.threads.saturating_mul(4);
    let work = |leaf: LeafRef| {
        let (slots, problem) = read_leaf(log, &leaf, overlay, id);
        let mut batch = fetch(log, id, slots, duplicates);
        batch.problems.extend(problem);
        make(batch)
    };
    parallel::stream(cx, refs.into_iter(), window, work, sink)
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
    let mut wanted: Vec<(Lsn, u64)> = slots
        .iter()
        .filter(|s| !s.dead && s.data.is_none())
        .map(|s| (s.lsn, s.size.and_then(|n| u64::try_from(n).ok()).unwrap_or(GUESS)))
        .collect();
    wanted.sort_unstable();
    let stretches = read_stretches(log, &wanted);
    for slot in slots {
        if slot.dead {
            continue;
        }
        let lsn = slot.lsn;
        let got = match slot.data {
            Some(data) => Ok((Some(Bytes::from(data)), slot.vlsn.or_else(|| header_vlsn(log, db, lsn)))),
            None => value(log, &stretches, &slot),
        };
        match got {
            // The record itself may turn out to be a deletion where the slot did not say so.
            Ok((None, _)) => {}
            Ok((Some(data), vlsn)) => match parts(&slot.key, data, duplicates) {
                Ok((key, data)) => batch.records.push(Record { key, data, lsn, vlsn, open: slot.open }),
                Err(error) => batch.problems.push(problem(db, slot.key, lsn, error)),
            },
            Err(error) => batch.problems.push(problem(db, slot.key, lsn, error)),
        }
    }
    batch
}

/// VLSN of a record whose data lie in its slot, where its own entry is still there.
fn header_vlsn(log: &Log, db: i64, lsn: Lsn) -> Option<i64> {
    let file = log.files.get(&lsn.file()).filter(|_| db < 0 && !lsn.is_null())?;
    let at = u64::from(lsn.offset());
    let mut bytes = [0; MAX_HEADER];
    file.blob.read_exact_at(at, &mut bytes).ok()?;
    let header = EntryHeader::decode(&mut recovery_core::Cursor::new(&bytes, at)).ok()?;
    header.vlsn.filter(|_| header.kind.is_user_ln())
}

fn problem(db: i64, key: Vec<u8>, lsn: Lsn, error: FormatError) -> Problem {
    Problem { what: "record".to_owned(), lsn, db: Some(db), key: Some(key), error }
}

fn parts(key: &[u8], data: Bytes, duplicates: bool) -> Result<(Bytes, Bytes), FormatError> {
    if !duplicates {
        return Ok((Bytes::copy_from_slice(key), data));
    }
    let (first, second) = packed::split_two_part(key)?;
    Ok((Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)))
}

/// A stretch of one file.
struct Stretch {
    from: Lsn,
    end: u64,
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
            out.push(Stretch { from, end, bytes });
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

/// Data and VLSN of the record of a slot; no data when it is a deletion.
fn value(log: &Log, stretches: &[Stretch], slot: &Slot) -> Result<(Option<Bytes>, Option<i64>), FormatError> {
    let lsn = slot.lsn;
    let i = stretches.partition_point(|s| s.from <= lsn);
    let near = i.checked_sub(1).and_then(|i| stretches.get(i)).filter(|s| s.from.file() == lsn.file());
    let at = u64::from(lsn.offset());
    if let Some(s) = near
        && at < s.end
    {
        let skip = usize::try_from(at.saturating_sub(s.from.offset().into())).unwrap_or(usize::MAX);
        let window = s.bytes.get(skip..).unwrap_or_default();
        let mut c = recovery_core::Cursor::new(window, at);
        if let Ok(header) = EntryHeader::decode(&mut c)
            && let Ok(total) = usize::try_from(header.total())
            && let Some(entry) = window.get(..total)
        {
            header::verify(&header, entry, at)?;
            let file = log.files.get(&lsn.file()).map_or(0, crate::reader::LogFile::version);
            let bytes = s.bytes.slice(skip..skip.saturating_add(total));
            return data_of(&header, &bytes, file, at, &slot.key);
        }
    }
    let e = log.entry_hinted(lsn, slot.size.and_then(|n| u64::try_from(n).ok()).unwrap_or(GUESS))?;
    data_of(&e.header, &e.bytes, e.version, at, &slot.key)
}

fn data_of(
    header: &EntryHeader,
    entry: &Bytes,
    version: u8,
    at: u64,
    key: &[u8],
) -> Result<(Option<Bytes>, Option<i64>), FormatError> {
    if !header.kind.is_ln() {
        return Err(FormatError::BadType { found: header.kind.number(), at });
    }
    let item = entry.get(header.size()..).unwrap_or_default();
    let ln = LnEntry::decode(&mut recovery_core::Cursor::new(item, at), header.kind, version)?;
    if ln.key != key {
        return Err(FormatError::Invalid { field: "key of the record", at, found: -1 });
    }
    let data = if ln.is_deletion() { None } else { ln.data.map(|d| entry.slice_ref(d)) };
    Ok((data, header.vlsn))
}

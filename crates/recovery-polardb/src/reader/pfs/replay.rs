//! Replay of a range of the journal: the newest image of each object rules.
//!
//! Blocks of the ring are read and checked in parallel; a block without any fault is reduced to its
//! newest images before it is handed over, so the replay of a full ring costs hardly more than
//! reading it.

use std::collections::HashSet;

use recovery_core::parallel;
use recovery_core::{Context, Result};

use super::device::Device;
use super::metadata::{Metadata, Origin};
use super::ring::{Part, Ring, Slot, SlotFault};
use crate::format::pfs::entry::{ENTRY_LEN, Entry, EntryHead};

/// A range of the ring that is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// First entry, counted from the start of the ring.
    pub(super) slot: u64,
    /// Entries.
    pub(super) count: u64,
    /// Log sequence number of the first.
    pub(super) lsn: u64,
}

/// What replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Entries applied.
    pub entries: u64,
    /// Transaction of the last entry applied.
    pub last_txid: Option<u64>,
    /// Log sequence number of the last entry applied.
    pub last_lsn: Option<u64>,
    /// Entries that were left out or not reached.
    pub lost: u64,
    /// Whether replay stopped before the end because of damage.
    pub stopped: bool,
    /// Whether the last transaction applied was complete.
    pub complete: bool,
    /// Device ranges of the entries that were applied.
    pub applied: Vec<std::ops::Range<u64>>,
    /// Entries whose transaction number does not follow the one before.
    pub disorder: u64,
}

/// A damaged entry, for the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryDamage {
    /// Device byte, if known.
    pub(super) at: Option<u64>,
    /// Expected log sequence number.
    pub(super) lsn: u64,
    /// What is wrong; `None` = one bit, corrected.
    pub(super) fault: Option<SlotFault>,
    /// The bit that was corrected.
    pub(super) bit: usize,
}

#[derive(Clone, Copy)]
struct Link {
    txid: u64,
    more: bool,
}

enum Checked {
    /// No fault: newest images up to the last complete transaction, and the entries of the one that goes on.
    Clean {
        part: Part,
        first: Link,
        last: Link,
        body: Vec<Entry>,
        tail: Vec<Entry>,
        lsn: u64,
    },
    Mixed {
        part: Part,
        slots: Vec<Slot>,
        lsn: u64,
    },
}

fn follows(before: Link, after: u64) -> bool {
    if before.more { after == before.txid } else { before.txid.checked_add(1) == Some(after) }
}

fn check(device: &Device, part: Part, lsn: u64) -> Checked {
    let clean = part.read(device).filter(|p| p.missing.is_empty()).and_then(|p| clean(&p.bytes, part, lsn));
    // The slow way names and corrects what is wrong.
    clean.unwrap_or_else(|| Checked::Mixed { part, slots: part.slots(device, |i| lsn.checked_add(i)), lsn })
}

/// A part in which every entry is whole, in its place, and continues the one before.
fn clean(bytes: &[u8], part: Part, lsn: u64) -> Option<Checked> {
    let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
    let mut heads = Vec::with_capacity(entries.len());
    let mut before = None;
    for (entry, i) in entries.iter().zip(0u64..) {
        let head = EntryHead::check(entry).ok()?;
        let link = Link { txid: head.txid, more: head.more };
        if head.lsn != lsn.checked_add(i)? || before.is_some_and(|b| !follows(b, head.txid)) {
            return None;
        }
        before = Some(link);
        heads.push((head.kind, head.number, link));
    }
    let (first, last) = (heads.first()?.2, heads.last()?.2);
    let complete = heads.iter().rposition(|(_, _, l)| !l.more).map_or(0, |i| i.saturating_add(1));
    let mut seen = HashSet::with_capacity(1024);
    let whole = entries.iter().zip(&heads).take(complete).rev();
    let newest = whole.filter(|(_, (kind, number, _))| seen.insert((*kind, *number)));
    let mut body: Vec<Entry> = newest.filter_map(|(bytes, _)| Entry::decode(bytes).ok()).collect();
    body.reverse();
    let tail = entries.iter().skip(complete).filter_map(|bytes| Entry::decode(bytes).ok()).collect();
    Some(Checked::Clean { part, first, last, body, tail, lsn })
}

struct Fold<'a> {
    metadata: &'a mut Metadata,
    strict: bool,
    pending: Vec<Entry>,
    before: Option<Link>,
    done: Replayed,
    damage: Vec<EntryDamage>,
    origin: fn(u64) -> Origin,
}

impl Fold<'_> {
    fn put(&mut self, entry: &Entry) {
        if let Some(kind) = entry.object.kind() {
            self.metadata.apply(kind, &entry.object, (self.origin)(entry.lsn));
        }
    }

    fn flush(&mut self) {
        for entry in std::mem::take(&mut self.pending) {
            self.put(&entry);
        }
    }

    fn stop(&mut self) {
        self.done.stopped = true;
        self.done.lost = self.done.lost.saturating_add(self.pending.len() as u64);
        self.done.entries = self.done.entries.saturating_sub(self.pending.len() as u64);
        self.pending.clear();
    }

    fn ordered(&mut self, txid: u64) {
        if self.before.is_some_and(|b| !follows(b, txid)) {
            self.done.disorder = self.done.disorder.saturating_add(1);
        }
    }

    fn take(&mut self, checked: Checked) {
        match checked {
            Checked::Clean { part, .. } | Checked::Mixed { part, .. } if self.done.stopped => {
                self.done.lost = self.done.lost.saturating_add(part.count);
            }
            Checked::Clean { part, first, last, body, tail, lsn } => {
                self.ordered(first.txid);
                if !body.is_empty() {
                    self.flush();
                }
                for entry in &body {
                    self.put(entry);
                }
                self.pending.extend(tail);
                self.before = Some(last);
                self.note(part.address, part.count, last, lsn.saturating_add(part.count).saturating_sub(1));
            }
            Checked::Mixed { part, slots, lsn } => {
                for (slot, i) in slots.into_iter().zip(0u64..) {
                    let at = part.address.map(|a| a.saturating_add(i.saturating_mul(ENTRY_LEN as u64)));
                    self.slot(slot, at, lsn.saturating_add(i));
                }
            }
        }
    }

    fn note(&mut self, at: Option<u64>, count: u64, last: Link, lsn: u64) {
        self.done.entries = self.done.entries.saturating_add(count);
        self.done.last_txid = Some(last.txid);
        self.done.last_lsn = Some(lsn);
        self.done.complete = !last.more;
        let Some(at) = at else { return };
        let end = at.saturating_add(count.saturating_mul(ENTRY_LEN as u64));
        match self.done.applied.last_mut() {
            Some(range) if range.end == at => range.end = end,
            _ => self.done.applied.push(at..end),
        }
    }

    fn slot(&mut self, slot: Slot, at: Option<u64>, lsn: u64) {
        if self.done.stopped {
            self.done.lost = self.done.lost.saturating_add(1);
            return;
        }
        let entry = match slot {
            Slot::Good(entry) => entry,
            Slot::Corrected(entry, bit) => {
                self.damage.push(EntryDamage { at, lsn, fault: None, bit });
                entry
            }
            Slot::Bad(fault) => {
                self.damage.push(EntryDamage { at, lsn, fault: Some(fault), bit: 0 });
                self.done.lost = self.done.lost.saturating_add(1);
                if self.strict {
                    self.stop();
                }
                self.before = None;
                return;
            }
        };
        self.ordered(entry.txid);
        let link = Link { txid: entry.txid, more: entry.more };
        self.pending.push(entry);
        if !entry.more {
            self.flush();
        }
        self.before = Some(link);
        self.note(at, 1, link, lsn);
    }
}

/// Applies the entries of `live`. With `strict`, stops before the transaction that holds the first
/// damaged entry; else leaves damaged entries out.
pub(super) fn run(
    device: &Device,
    ring: &Ring,
    live: Live,
    metadata: &mut Metadata,
    strict: bool,
    origin: fn(u64) -> Origin,
    cx: &Context,
) -> Result<(Replayed, Vec<EntryDamage>)> {
    let done = Replayed { complete: true, ..Replayed::default() };
    let mut fold = Fold { metadata, strict, pending: Vec::new(), before: None, done, damage: Vec::new(), origin };
    let mut lsn = live.lsn;
    let parts = ring.parts(live.slot, live.count).map(|part| {
        let first = lsn;
        lsn = lsn.saturating_add(part.count);
        (part, first)
    });
    let window = cx.limits.threads.saturating_mul(2);
    parallel::stream(
        cx,
        parts,
        window,
        |(part, first)| check(device, part, first),
        |checked| {
            fold.take(checked);
            Ok(())
        },
    )?;
    // The leader record vouches for the last transaction even when its last entry says that more follows.
    fold.flush();
    Ok((fold.done, fold.damage))
}

//! Replay of a range of the journal: the newest image of each object rules.
//!
//! Blocks of the ring are read and checked in parallel; a block without any fault is reduced to its
//! newest images before it is handed over, so the replay of a full ring costs hardly more than
//! reading it.

use std::cell::RefCell;

use recovery_core::parallel;
use recovery_core::{Context, Result};

use super::device::Device;
use super::metadata::{Metadata, Origin};
use super::ring::{Part, Ring, Slot, SlotFault};
use crate::format::pfs::entry::{ENTRY_LEN, Entry, EntryHead};
use crate::format::pfs::object::Object;

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

impl Link {
    const fn of(head: &EntryHead) -> Self {
        Self { txid: head.txid, more: head.more }
    }
}

fn follows(before: Link, after: u64) -> bool {
    if before.more { after == before.txid } else { before.txid.checked_add(1) == Some(after) }
}

thread_local! {
    /// One block of the ring; kept, because getting fresh memory for each costs as much as reading it.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn check(device: &Device, part: Part, lsn: u64) -> Checked {
    let clean = BUFFER.with_borrow_mut(|buf| {
        let len = usize::try_from(part.count.saturating_mul(ENTRY_LEN as u64)).ok()?;
        if buf.len() < len {
            buf.resize(len, 0);
        }
        clean(device, buf.get_mut(..len)?, part, lsn)
    });
    // The slow way names and corrects what is wrong.
    clean.unwrap_or_else(|| Checked::Mixed { part, slots: part.slots(device, |i| lsn.checked_add(i)), lsn })
}

/// A part in which every entry is whole, in its place, and continues the one before.
fn clean(device: &Device, buf: &mut [u8], part: Part, lsn: u64) -> Option<Checked> {
    /// Read at once: what is checked next is still in the core's own cache.
    const WINDOW: usize = 256 << 10;
    let mut heads: Vec<EntryHead> = Vec::with_capacity(buf.len() / ENTRY_LEN);
    let mut at = part.address?;
    for window in buf.chunks_mut(WINDOW) {
        device.blob().read_exact_at(at, window).ok()?;
        at = at.checked_add(window.len() as u64)?;
        for entry in window.as_chunks::<ENTRY_LEN>().0 {
            let head = EntryHead::check(entry).ok()?;
            let expected = lsn.checked_add(heads.len() as u64)?;
            let fits = heads.last().is_none_or(|b| follows(Link::of(b), head.txid));
            if head.lsn != expected || !fits {
                return None;
            }
            heads.push(head);
        }
    }
    let (first, last) = (Link::of(heads.first()?), Link::of(heads.last()?));
    let complete = heads.iter().rposition(|h| !h.more).map_or(0, |i| i.saturating_add(1));
    let entries = buf.as_chunks::<ENTRY_LEN>().0;
    let entry = |i: usize| {
        let (bytes, head) = (entries.get(i)?, heads.get(i)?);
        let object = Object::from_bytes(*bytes.first_chunk()?);
        Some(Entry { object, lsn: head.lsn, txid: head.txid, more: head.more })
    };
    let body = newest(heads.get(..complete)?)?.into_iter().filter_map(entry).collect();
    let tail = (complete..heads.len()).filter_map(entry).collect();
    Some(Checked::Clean { part, first, last, body, tail, lsn })
}

/// Places of the newest image of each object; nothing when a number is beyond any device.
fn newest(heads: &[EntryHead]) -> Option<Vec<usize>> {
    const PLACE_BITS: u32 = 14;
    const NUMBER_BITS: u32 = 48;
    let mut keys = Vec::with_capacity(heads.len());
    for (head, place) in heads.iter().zip(0u64..) {
        if head.number >> NUMBER_BITS != 0 || place >> PLACE_BITS != 0 {
            return None;
        }
        let kind = u64::from(head.kind as u8) & 3;
        keys.push(kind << (NUMBER_BITS + PLACE_BITS) | head.number << PLACE_BITS | place);
    }
    keys.sort_unstable();
    let object = |key: u64| key >> PLACE_BITS;
    let next = keys.iter().skip(1).map(|k| object(*k)).map(Some).chain(std::iter::once(None));
    let last_of = keys.iter().zip(next).filter(|(k, next)| *next != Some(object(**k)));
    Some(last_of.filter_map(|(k, _)| usize::try_from(k & ((1 << PLACE_BITS) - 1)).ok()).collect())
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

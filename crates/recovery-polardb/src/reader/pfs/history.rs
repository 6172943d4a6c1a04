//! The journal read as history: every transaction that the ring still holds, oldest first.
//!
//! The ring is overwritten only when it is full, so what lies behind the tail usually goes back to the birth of the
//! file system. An entry belongs to this history when its log sequence number fits its distance from the head; what
//! continues the journal behind the head was never committed.

use recovery_core::{Context, Result, parallel};

use super::open::Pfs;
use super::replay::Live;
use super::ring::{Part, Slot, SlotFault};
use crate::format::pfs::entry::{ENTRY_LEN, Entry, EntryFault};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Committed; its objects were written in their places.
    Trimmed,
    /// Committed; a mount replays it.
    Live,
    /// All of its entries stand behind the head: the commit never happened.
    Uncommitted,
    /// Only its first entries stand behind the head.
    Torn,
}

impl Fate {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Live => "live",
            Self::Uncommitted => "uncommitted",
            Self::Torn => "torn",
        }
    }

    /// Whether it is part of what the file system is.
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::Trimmed | Self::Live)
    }
}

/// An entry of the journal and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The entry.
    pub entry: Entry,
    /// Device byte, when the place of the journal is known.
    pub at: Option<u64>,
    /// The bit that had to be corrected.
    pub corrected: Option<usize>,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number.
    pub txid: u64,
    /// Its entries, in order.
    pub entries: Vec<Logged>,
    /// What became of it.
    pub fate: Fate,
    /// Entries of it that are damaged, missing or overwritten; where numbers do not tell how many, at least one.
    pub missing: u64,
}

/// How far the history goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First transaction of which anything is left; 0 when the ring is empty.
    pub first_txid: u64,
    /// Last committed one.
    pub last_txid: u64,
    /// First log sequence number that is left.
    pub first_lsn: u64,
    /// Entries that are damaged between the first and the last.
    pub gaps: u64,
}

impl Span {
    /// Whether it goes back to the first entry ever written, without a gap.
    #[must_use]
    pub const fn whole(&self) -> bool {
        self.first_lsn == 1 && self.gaps == 0
    }
}

/// Takes the transactions, in order.
pub type TransactionSink<'a> = dyn FnMut(Transaction) -> Result<()> + 'a;

struct Grouper<'a, 'b> {
    sink: &'a mut TransactionSink<'b>,
    tail_txid: u64,
    open: Option<Transaction>,
    span: Span,
    /// Damaged entries since the last good one.
    gap: u64,
}

impl Grouper<'_, '_> {
    fn slot(&mut self, slot: Slot, at: Option<u64>) -> Result<()> {
        let (entry, corrected) = match slot {
            Slot::Good(entry) => (entry, None),
            Slot::Corrected(entry, bit) => (entry, Some(bit)),
            Slot::Bad(_) => {
                // Before the oldest entry there is nothing to be missed.
                if self.span.first_lsn > 0 {
                    self.gap = self.gap.saturating_add(1);
                }
                return Ok(());
            }
        };
        if self.span.first_lsn == 0 {
            (self.span.first_lsn, self.span.first_txid) = (entry.lsn, entry.txid);
        }
        let gap = std::mem::take(&mut self.gap);
        self.span.gaps = self.span.gaps.saturating_add(gap);
        if self.open.as_ref().is_some_and(|t| t.txid != entry.txid) {
            // It never said that it was complete: its end is among the damaged entries.
            self.close(1)?;
        }
        let first = self.open.is_none() && entry.lsn == self.span.first_lsn && entry.lsn > 1;
        let fate = if entry.txid > self.tail_txid { Fate::Live } else { Fate::Trimmed };
        let new = Transaction { txid: entry.txid, entries: Vec::new(), fate, missing: u64::from(first) };
        let open = self.open.get_or_insert(new);
        open.missing = open.missing.saturating_add(gap);
        open.entries.push(Logged { entry, at, corrected });
        self.span.last_txid = entry.txid;
        if entry.more { Ok(()) } else { self.close(0) }
    }

    fn close(&mut self, missing: u64) -> Result<()> {
        match self.open.take() {
            Some(mut t) => {
                t.missing = t.missing.saturating_add(missing);
                (self.sink)(t)
            }
            None => Ok(()),
        }
    }
}

impl Pfs {
    /// The last entry that counts: its slot in the ring and its log sequence number.
    fn head(&self) -> Option<(u64, u64)> {
        let leader = self.leader.record().filter(|l| l.head_lsn > 0)?;
        let slots = self.ring.slots().max(1);
        let slot = (leader.head_offset / ENTRY_LEN as u64).saturating_add(slots).saturating_sub(1) % slots;
        Some((slot, leader.head_lsn))
    }

    /// Gives every committed transaction that the ring holds, oldest first.
    ///
    /// Of the oldest one the first entries may have been overwritten; it then counts one as missing.
    ///
    /// # Errors
    ///
    /// What `sink` says, or that the caller asked to stop.
    pub fn history(&self, cx: &Context, sink: &mut TransactionSink<'_>) -> Result<Span> {
        let Some((slot, lsn)) = self.head() else { return Ok(Span::default()) };
        let slots = self.ring.slots();
        let count = slots.min(lsn);
        let back = count.saturating_sub(1);
        let first = slot.saturating_add(slots).saturating_sub(back).checked_rem(slots).unwrap_or(0);
        let live = Live { slot: first, count, lsn: lsn.saturating_sub(back) };
        let tail_txid = self.leader.record().map_or(0, |l| l.tail_txid);
        let mut groups = Grouper { sink, tail_txid, open: None, span: Span::default(), gap: 0 };
        let mut next = live.lsn;
        let parts = self.ring.parts(live.slot, live.count).map(|part| {
            let lsn = next;
            next = next.saturating_add(part.count);
            (part, lsn)
        });
        let parts: Vec<(Part, u64)> = parts.collect();
        let read = |(part, lsn): (Part, u64)| (part.slots(&self.device, |i| lsn.checked_add(i)), part);
        parallel::stream(cx, parts.into_iter(), cx.limits.threads.saturating_mul(2), read, |(found, part)| {
            for (slot, i) in found.into_iter().zip(0u64..) {
                groups.slot(slot, part.address.map(|a| a.saturating_add(i.saturating_mul(ENTRY_LEN as u64))))?;
            }
            Ok(())
        })?;
        groups.close(1)?;
        Ok(groups.span)
    }

    /// Transactions that continue the journal behind its head: none of them was ever committed.
    #[must_use]
    pub fn uncommitted(&self) -> Vec<Transaction> {
        let (Some((slot, lsn)), Some(leader)) = (self.head(), self.leader.record()) else { return Vec::new() };
        let mut out: Vec<Transaction> = Vec::new();
        let mut open: Option<Transaction> = None;
        let (mut expected, mut txid) = (lsn, leader.head_txid);
        let room = self.ring.slots().saturating_sub(leader.live_entries());
        'ring: for part in self.ring.parts(slot.saturating_add(1), room) {
            let base = expected.saturating_add(1);
            for (found, i) in part.slots(&self.device, |i| base.checked_add(i)).into_iter().zip(0u64..) {
                let Slot::Good(entry) = found else { break 'ring };
                let wanted = if open.is_some() { txid } else { txid.saturating_add(1) };
                if entry.txid != wanted {
                    break 'ring;
                }
                txid = entry.txid;
                expected = entry.lsn;
                let at = part.address.map(|a| a.saturating_add(i.saturating_mul(ENTRY_LEN as u64)));
                let new = Transaction { txid, entries: Vec::new(), fate: Fate::Torn, missing: 0 };
                let t = open.get_or_insert(new);
                t.entries.push(Logged { entry, at, corrected: None });
                if !entry.more
                    && let Some(t) = open.take()
                {
                    out.push(Transaction { fate: Fate::Uncommitted, ..t });
                }
            }
        }
        out.extend(open.map(|t| Transaction { missing: 1, ..t }));
        out
    }

    /// Places of the ring whose bytes the engine would abort on: device byte, and the entry with its one wrong bit
    /// corrected where that is possible.
    pub(crate) fn invalid_entries(&self) -> Vec<(u64, Option<Entry>)> {
        let mut out = Vec::new();
        for part in self.ring.parts(0, self.ring.slots()) {
            for (found, i) in part.slots(&self.device, |_| None).into_iter().zip(0u64..) {
                let whole = match found {
                    Slot::Good(_) | Slot::Bad(SlotFault::Entry(EntryFault::Absent)) => continue,
                    Slot::Corrected(entry, _) => Some(entry),
                    Slot::Bad(_) => None,
                };
                out.extend(part.address.map(|a| (a.saturating_add(i.saturating_mul(ENTRY_LEN as u64)), whole)));
            }
        }
        out
    }
}

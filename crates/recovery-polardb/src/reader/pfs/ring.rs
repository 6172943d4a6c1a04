//! Where the ring of journal entries lies, and its entries.

use std::collections::BTreeMap;

use super::device::{Device, Piece};
use super::metadata::Metadata;
use crate::format::pfs::entry::{ENTRY_LEN, Entry, EntryFault};
use crate::format::pfs::{BLOCK, JOURNAL_INO, Kind, block_address, block_of_tag, striped_journal_block, tag_of_block};

/// Entries of one block.
pub(super) const PER_BLOCK: u64 = BLOCK / ENTRY_LEN as u64;

/// The place of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Device block of each block of the ring whose tag is known.
    pub known: BTreeMap<u64, u64>,
    /// Chunks over which `mkfs` laid out the rest, when tags are missing.
    pub stripe: Option<u64>,
    /// Bytes of the ring.
    pub size: u64,
}

/// Consecutive entries that lie in one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// First entry, counted from the start of the ring.
    pub(super) slot: u64,
    /// Entries.
    pub(super) count: u64,
    /// Device byte, if it is known.
    pub(super) address: Option<u64>,
}

/// What stands in one place of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Good(Entry),
    Corrected(Entry, usize),
    Bad(SlotFault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SlotFault {
    #[error("{0}")]
    Entry(EntryFault),
    #[error("the entry could not be read")]
    Unread,
    #[error("log sequence number is {found}, expected {expected}")]
    Sequence { found: u64, expected: u64 },
}

impl Ring {
    /// Entries that the ring holds.
    #[must_use]
    pub fn slots(&self) -> u64 {
        self.size / ENTRY_LEN as u64
    }

    /// Device block of a block of the ring.
    #[must_use]
    pub fn block(&self, index: u64) -> Option<u64> {
        self.known.get(&index).copied().or_else(|| self.stripe.map(|n| striped_journal_block(index, n)))
    }

    /// Device byte of an entry.
    #[must_use]
    pub fn address(&self, slot: u64) -> Option<u64> {
        let block = self.block(slot / PER_BLOCK)?;
        block_address(block)?.checked_add((slot % PER_BLOCK).saturating_mul(ENTRY_LEN as u64))
    }

    /// The parts of `count` entries from `first` on, around the end of the ring.
    pub(super) fn parts(&self, first: u64, count: u64) -> impl Iterator<Item = Part> + '_ {
        let slots = self.slots();
        let mut left = count.min(slots);
        let mut slot = if slots == 0 { 0 } else { first % slots };
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let to_border = PER_BLOCK.saturating_sub(slot % PER_BLOCK);
            let n = left.min(to_border).min(slots.saturating_sub(slot));
            let part = Part { slot, count: n, address: self.address(slot) };
            left = left.saturating_sub(n);
            slot = slot.saturating_add(n);
            if slot >= slots {
                slot = 0;
            }
            Some(part)
        })
    }

    /// The block tags in place that say where the journal lies.
    pub(super) fn from_tags(metadata: &Metadata, size: u64) -> Self {
        let mut known = BTreeMap::new();
        for (number, held) in &metadata.tags.used {
            let tag = held.object.tag();
            if tag.ino == JOURNAL_INO && number & 0xFFF != 0 {
                known.entry(tag.blkid).or_insert_with(|| block_of_tag(*number));
            }
        }
        Self { known, stripe: None, size }
    }

    /// Whether every block of the ring has its tag.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        let blocks = self.size.div_ceil(BLOCK);
        blocks > 0 && self.known.range(..blocks).count() as u64 == blocks
    }

    /// The number of chunks that `mkfs` saw, as far as the known tags agree with one.
    pub(super) fn stripe_of_tags(&self, most: u64) -> Option<u64> {
        let fits = |n: u64| self.known.iter().all(|(i, b)| striped_journal_block(*i, n) == *b);
        if self.known.is_empty() { None } else { (1..=most).find(|n| fits(*n)) }
    }

    /// The number of chunks under which the entries on the device continue each other best; where several do equally
    /// well, the largest: `mkfs` usually saw the whole device.
    pub(super) fn stripe_of_entries(&self, device: &Device, most: u64) -> Option<u64> {
        let best = (1..=most).map(|n| (stripe_score(device, n), n)).max()?;
        (best.0 > 0).then_some(best.1)
    }

    /// Where a ring of estimated length ends at the latest: before the first block that is known to be no part of it.
    pub(super) fn end_by_tags(&self, metadata: &Metadata) -> u64 {
        let blocks = self.size.div_ceil(BLOCK);
        let is_other = |index: &u64| {
            let Some(block) = self.block(*index) else { return true };
            let number = tag_of_block(block);
            match metadata.tags.get(number) {
                Some(object) => object.tag().ino != JOURNAL_INO,
                None => !metadata.is_unknown(Kind::BlockTag, number),
            }
        };
        let end = (0..blocks).find(is_other).unwrap_or(blocks);
        if end == blocks { self.size } else { end.saturating_mul(BLOCK) }
    }
}

/// How many borders between blocks are continued under the layout for `n` chunks, plus valid first entries.
fn stripe_score(device: &Device, n: u64) -> u64 {
    let (mut score, mut blanks, mut before) = (0u64, 0, None::<u64>);
    for index in 0..4096 {
        let Some(address) = block_address(striped_journal_block(index, n)) else { break };
        if address >= device.len() {
            break;
        }
        let first = entry_at(device, address);
        let last = entry_at(device, address.saturating_add(BLOCK - ENTRY_LEN as u64));
        match (&first, before) {
            (Some(e), Some(lsn)) if e.lsn == lsn.saturating_add(1) => score = score.saturating_add(4),
            (Some(_), _) => score = score.saturating_add(1),
            (None, _) => blanks += 1,
        }
        if blanks > 2 {
            break;
        }
        before = last.map(|e| e.lsn);
    }
    score
}

fn entry_at(device: &Device, address: u64) -> Option<Entry> {
    let piece = device.read(address, ENTRY_LEN);
    Entry::decode(piece.bytes.first_chunk()?).ok()
}

impl Part {
    pub(super) fn read(&self, device: &Device) -> Option<Piece> {
        let len = usize::try_from(self.count.saturating_mul(ENTRY_LEN as u64)).ok()?;
        Some(device.read(self.address?, len))
    }

    /// The entries, each with its place in the part; `expected` gives the log sequence number of a place.
    pub(super) fn slots(&self, device: &Device, expected: impl Fn(u64) -> Option<u64>) -> Vec<Slot> {
        let Some(piece) = self.read(device) else {
            return (0..self.count).map(|_| Slot::Bad(SlotFault::Unread)).collect();
        };
        let address = self.address.unwrap_or(0);
        let whole = piece.missing.is_empty();
        let entries = piece.bytes.chunks_exact(ENTRY_LEN).zip(0u64..);
        entries
            .map(|(bytes, i)| {
                let at = address.saturating_add(i.saturating_mul(ENTRY_LEN as u64));
                if !whole && piece.lacks(&(at..at.saturating_add(ENTRY_LEN as u64))) {
                    return Slot::Bad(SlotFault::Unread);
                }
                bytes.first_chunk().map_or(Slot::Bad(SlotFault::Unread), |b| slot_of(b, expected(i)))
            })
            .collect()
    }
}

/// Reads one place of the ring.
pub(super) fn slot_of(bytes: &[u8; ENTRY_LEN], expected: Option<u64>) -> Slot {
    match Entry::decode(bytes) {
        Ok(entry) => match expected {
            Some(lsn) if lsn != entry.lsn => Slot::Bad(SlotFault::Sequence { found: entry.lsn, expected: lsn }),
            _ => Slot::Good(entry),
        },
        Err(EntryFault::Absent) => Slot::Bad(SlotFault::Entry(EntryFault::Absent)),
        Err(fault) => match Entry::correct(bytes) {
            Some((entry, bit)) if expected.is_some_and(|lsn| lsn == entry.lsn) => Slot::Corrected(entry, bit),
            _ => Slot::Bad(SlotFault::Entry(fault)),
        },
    }
}

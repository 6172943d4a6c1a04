//! Which parts of a device were read already, so that a pass over all data reads what is left and nothing twice.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::format::pfs::BLOCK;

/// Smallest part that is remembered; what is read in smaller parts is read again.
const UNIT: u64 = 8192;
const WORDS: usize = (BLOCK / UNIT / 64) as usize;

/// The parts of one block.
#[derive(Debug)]
enum Parts {
    Whole,
    Some(Box<[u64; WORDS]>),
}

/// Parts of a device that were read without an error. Shared by all threads.
#[derive(Debug, Default)]
pub struct Tracker {
    blocks: Mutex<HashMap<u64, Parts>>,
}

/// The units of a block, counted from its beginning, that lie inside a range of the device.
fn units(block: u64, range: &Range<u64>) -> Range<u64> {
    let start = block.saturating_mul(BLOCK);
    let from = range.start.saturating_sub(start).div_ceil(UNIT);
    let to = range.end.saturating_sub(start).min(BLOCK) / UNIT;
    from..to.max(from)
}

impl Tracker {
    /// Remembers a range that was read.
    pub fn mark(&self, range: &Range<u64>) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            let units = units(block, range);
            if units.is_empty() {
                continue;
            }
            let parts = blocks.entry(block).or_insert_with(|| Parts::Some(Box::new([0; WORDS])));
            let Parts::Some(words) = parts else { continue };
            for unit in units {
                let index = usize::try_from(unit / 64).unwrap_or(usize::MAX);
                if let Some(word) = words.get_mut(index) {
                    *word |= 1 << (unit % 64);
                }
            }
            if words.iter().all(|w| *w == u64::MAX) {
                *parts = Parts::Whole;
            }
        }
    }

    /// The parts of a range that were not read, in order, neighbours joined.
    #[must_use]
    pub fn left(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out: Vec<Range<u64>> = Vec::new();
        let mut push = |part: Range<u64>| match out.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => out.push(part),
        };
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            let start = block.saturating_mul(BLOCK);
            let (from, to) = (range.start.max(start), range.end.min(start.saturating_add(BLOCK)));
            let words = match blocks.get(&block) {
                Some(Parts::Whole) => continue,
                Some(Parts::Some(words)) => words,
                None => {
                    push(from..to);
                    continue;
                }
            };
            let mut at = from;
            while at < to {
                let unit = at.saturating_sub(start) / UNIT;
                let next = start.saturating_add(unit.saturating_add(1).saturating_mul(UNIT)).min(to);
                let word = usize::try_from(unit / 64).ok().and_then(|i| words.get(i)).copied().unwrap_or(0);
                if word >> (unit % 64) & 1 == 0 {
                    push(at..next);
                }
                at = next;
            }
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_not_left() {
        let t = Tracker::default();
        let all = 3 * BLOCK..5 * BLOCK + 100;
        assert_eq!(t.left(&all), std::slice::from_ref(&all));
        t.mark(&(3 * BLOCK + UNIT..4 * BLOCK + UNIT));
        assert_eq!(t.left(&all), [3 * BLOCK..3 * BLOCK + UNIT, 4 * BLOCK + UNIT..5 * BLOCK + 100]);
        t.mark(&(3 * BLOCK..4 * BLOCK));
        assert_eq!(t.left(&all), [4 * BLOCK + UNIT..5 * BLOCK + 100]);
        // Less than a unit is not remembered, and never taken for more.
        t.mark(&(5 * BLOCK..5 * BLOCK + 100));
        t.mark(&(4 * BLOCK + UNIT + 1..4 * BLOCK + 3 * UNIT - 1));
        assert_eq!(t.left(&all), [4 * BLOCK + UNIT..5 * BLOCK + 100]);
    }
}

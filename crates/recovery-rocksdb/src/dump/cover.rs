//! Range tombstones as disjoint stretches, each with the newest sequence number that covers it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::format::key::{KeyOrder, SequenceNumber};
use crate::reader::Tombstone;

use super::view::Bound;

/// One stretch of keys under the newest tombstone that covers it.
#[derive(Clone, Debug)]
struct Stretch {
    start: Bound,
    end: Bound,
    sequence: SequenceNumber,
    timestamp: Vec<u8>,
}

/// All tombstones of a family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover {
    stretches: Vec<Stretch>,
}

/// A tombstone with its bounds, cut to those of its table.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) start: Bound,
    pub(crate) end: Bound,
    pub(crate) sequence: SequenceNumber,
    pub(crate) timestamp: Vec<u8>,
}

impl Piece {
    /// Cuts the tombstone to the bounds of the table it stands in: outside of them it may have been compacted away.
    ///
    /// Upstream: `db/range_del_aggregator.cc` (`TruncatedRangeDelIterator`).
    pub(crate) fn new(
        tombstone: &Tombstone,
        order: &KeyOrder,
        lower: Option<&Bound>,
        upper: Option<&Bound>,
    ) -> Option<Self> {
        let bare = |key: &[u8]| order.without_timestamp(key).to_vec();
        let mut start = Bound { key: bare(&tombstone.start), after: false };
        let mut end = Bound { key: bare(&tombstone.end), after: false };
        if let Some(lower) = lower.filter(|lower| start.compare(lower, order).is_lt()) {
            start = lower.clone();
        }
        if let Some(upper) = upper.filter(|upper| upper.compare(&end, order).is_lt()) {
            end = upper.clone();
        }
        let cut = tombstone.start.len().saturating_sub(order.timestamp_size());
        let timestamp = tombstone.start.get(cut..).unwrap_or_default().to_vec();
        start.compare(&end, order).is_lt().then_some(Self { start, end, sequence: tombstone.sequence, timestamp })
    }
}

impl Cover {
    pub(crate) fn new(pieces: &[Piece], order: &KeyOrder) -> Self {
        let mut edges: Vec<(&Bound, bool, &Piece)> = Vec::with_capacity(pieces.len().saturating_mul(2));
        for piece in pieces {
            edges.push((&piece.start, true, piece));
            edges.push((&piece.end, false, piece));
        }
        edges.sort_by(|a, b| a.0.compare(b.0, order));
        let mut open: BTreeMap<(SequenceNumber, &[u8]), usize> = BTreeMap::new();
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut at: Option<&Bound> = None;
        for (bound, begins, piece) in edges {
            if let (Some(start), Some(((sequence, timestamp), _))) = (at, open.last_key_value())
                && start.compare(bound, order).is_lt()
            {
                push(&mut stretches, start, bound, *sequence, timestamp);
            }
            at = Some(bound);
            let entry = (piece.sequence, &piece.timestamp[..]);
            if begins {
                let count = open.entry(entry).or_default();
                *count = count.saturating_add(1);
            } else if let Some(count) = open.get_mut(&entry) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    open.remove(&entry);
                }
            }
        }
        Self { stretches }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// The stretch a key lies in: the sequence number below which entries are deleted, and the tombstone's timestamp.
    pub(crate) fn find(&self, key: &[u8], order: &KeyOrder) -> Option<(SequenceNumber, &[u8])> {
        let found = self.stretches.binary_search_by(|stretch| {
            if stretch.end.is_at_or_before(key, order) {
                Ordering::Less
            } else if stretch.start.is_at_or_before(key, order) {
                Ordering::Equal
            } else {
                Ordering::Greater
            }
        });
        let stretch = self.stretches.get(found.ok()?)?;
        Some((stretch.sequence, &stretch.timestamp))
    }
}

fn push(stretches: &mut Vec<Stretch>, start: &Bound, end: &Bound, sequence: SequenceNumber, timestamp: &[u8]) {
    if let Some(last) = stretches.last_mut()
        && last.end == *start
        && last.sequence == sequence
        && last.timestamp == timestamp
    {
        last.end = end.clone();
        return;
    }
    stretches.push(Stretch { start: start.clone(), end: end.clone(), sequence, timestamp: timestamp.to_vec() });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_asking_every_tombstone(list: Vec<(u8, u8, u64)>, key: u8) {
            let order = KeyOrder::Bytewise;
            let tombstones: Vec<Tombstone> = list
                .iter()
                .map(|(a, b, s)| Tombstone { start: vec![*a], end: vec![*b], sequence: SequenceNumber(s >> 8) })
                .collect();
            let pieces: Vec<Piece> = tombstones.iter().filter_map(|t| Piece::new(t, &order, None, None)).collect();
            let want = tombstones.iter().filter(|t| t.start[0] <= key && key < t.end[0]).map(|t| t.sequence).max();
            let cover = Cover::new(&pieces, &order);
            prop_assert_eq!(cover.find(&[key], &order).map(|(s, _)| s), want);
        }
    }

    #[test]
    fn a_tombstone_ends_with_its_table() {
        let order = KeyOrder::Bytewise;
        let tombstone = Tombstone { start: b"a".to_vec(), end: b"z".to_vec(), sequence: SequenceNumber(9) };
        let upper = Bound { key: b"m".to_vec(), after: true };
        let piece = Piece::new(&tombstone, &order, None, Some(&upper)).unwrap();
        let cover = Cover::new(&[piece], &order);
        assert!(cover.find(b"m", &order).is_some());
        assert!(cover.find(b"m0", &order).is_none());
    }
}

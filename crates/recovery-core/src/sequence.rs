//! A monotone sequence with holes, duplicates and forks: VLSNs, change ids, WAL segments, journal ids.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Which numbers of a sequence are there.
///
/// ```
/// use recovery_core::SequenceSet;
/// let mut set = SequenceSet::default();
/// for n in [1, 2, 3, 7, 8, 3] { set.insert(n); }
/// assert_eq!(set.holes().collect::<Vec<_>>(), [4..=6]);
/// assert_eq!((set.first(), set.last(), set.duplicates()), (Some(1), Some(8), 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSet {
    /// First to last of each unbroken run.
    runs: BTreeMap<u64, u64>,
    duplicates: u64,
}

impl SequenceSet {
    /// Adds a number; says whether it was new.
    pub fn insert(&mut self, n: u64) -> bool {
        if self.contains(n) {
            self.duplicates = self.duplicates.saturating_add(1);
            return false;
        }
        let (mut first, mut last) = (n, n);
        if let Some((&start, &end)) = self.runs.range(..n).next_back()
            && end.checked_add(1) == Some(n)
        {
            first = start;
        }
        if let Some(after) = n.checked_add(1)
            && let Some(end) = self.runs.remove(&after)
        {
            last = end;
        }
        self.runs.insert(first, last);
        true
    }

    /// Whether the number is there.
    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        self.runs.range(..=n).next_back().is_some_and(|(_, &end)| end >= n)
    }

    /// The smallest number.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.runs.first_key_value().map(|(&f, _)| f)
    }

    /// The largest number.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.runs.last_key_value().map(|(_, &l)| l)
    }

    /// How often a number came that was already there.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The unbroken runs.
    pub fn runs(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.runs.iter().map(|(&f, &l)| f..=l)
    }

    /// What is missing between the first and the last.
    pub fn holes(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let next = self.runs.keys().skip(1);
        self.runs.values().zip(next).map(|(&end, &start)| end.saturating_add(1)..=start.saturating_sub(1))
    }

    /// How far an unbroken run reaches that holds `from`; `None` when it is not there.
    #[must_use]
    pub fn reach(&self, from: u64) -> Option<u64> {
        self.runs.range(..=from).next_back().map(|(_, &end)| end).filter(|&end| end >= from)
    }
}

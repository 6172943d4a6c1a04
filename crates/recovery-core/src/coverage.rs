//! Every input byte is accounted for.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

/// What is known of a byte. The order is the rule of merging: where two marks meet, the greater one stays, so the
/// result does not depend on the order of marking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Nobody could tell what it is.
    Unknown,
    /// Belongs to nothing: padding, free blocks, a preallocated tail.
    Free,
    /// Its place in the structure is known; no checksum covers it.
    Parsed,
    /// Covered by a checksum that was computed and matches.
    Verified,
    /// Covered by a checksum that does not match, or impossible where it stands.
    Damaged,
    /// The medium did not give it, or nobody read it.
    Unread,
}

/// Totals by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// All bytes.
    pub bytes: u64,
    /// See [`Class::Verified`].
    pub verified: u64,
    /// See [`Class::Parsed`].
    pub parsed: u64,
    /// See [`Class::Free`].
    pub free: u64,
    /// See [`Class::Unknown`].
    pub unknown: u64,
    /// See [`Class::Damaged`].
    pub damaged: u64,
    /// See [`Class::Unread`].
    pub unread: u64,
}

impl Totals {
    fn slot(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Unknown => &mut self.unknown,
            Class::Free => &mut self.free,
            Class::Parsed => &mut self.parsed,
            Class::Verified => &mut self.verified,
            Class::Damaged => &mut self.damaged,
            Class::Unread => &mut self.unread,
        }
    }

    /// Adds another object's totals.
    pub fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        let mut other = *other;
        for class in [Class::Unknown, Class::Free, Class::Parsed, Class::Verified, Class::Damaged, Class::Unread] {
            let more = *other.slot(class);
            let slot = self.slot(class);
            *slot = slot.saturating_add(more);
        }
    }
}

/// What is known of each byte of one object.
///
/// ```
/// use recovery_core::{Class, Coverage};
/// let mut c = Coverage::new(100);
/// c.mark(0..60, Class::Verified);
/// c.mark(50..70, Class::Damaged);
/// let t = c.totals();
/// assert_eq!((t.verified, t.damaged, t.unknown), (50, 20, 30));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    len: u64,
    /// Start to (end, class); disjoint, touching ranges of one class joined; what is missing is unknown.
    ranges: BTreeMap<u64, (u64, Class)>,
}

impl Coverage {
    /// An object of `len` bytes of which nothing is known yet.
    #[must_use]
    pub const fn new(len: u64) -> Self {
        Self { len, ranges: BTreeMap::new() }
    }

    /// An object that is of one class throughout.
    #[must_use]
    pub fn all(len: u64, class: Class) -> Self {
        let mut coverage = Self::new(len);
        coverage.mark(0..len, class);
        coverage
    }

    /// Length of the object.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the object has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Says of a range what it is; a greater class that is already there stays. Bytes past the end are ignored.
    pub fn mark(&mut self, range: Range<u64>, class: Class) {
        let end = range.end.min(self.len);
        if range.start >= end || class == Class::Unknown {
            return;
        }
        if self.append(range.start, end, class) {
            return;
        }
        let mut at = range.start;
        while at < end {
            at = self.mark_piece(at, end, class);
        }
    }

    /// The quick way: behind everything that is there.
    fn append(&mut self, start: u64, end: u64, class: Class) -> bool {
        match self.ranges.last_entry() {
            Some(mut last) if last.get().0 == start && last.get().1 == class => {
                last.get_mut().0 = end;
                true
            }
            Some(last) if last.get().0 > start => false,
            _ => {
                self.ranges.insert(start, (end, class));
                true
            }
        }
    }

    /// Marks up to the next border of an existing range, and says where that is.
    fn mark_piece(&mut self, at: u64, end: u64, class: Class) -> u64 {
        if let Some((&start, &(stop, there))) = self.ranges.range(..=at).next_back()
            && stop > at
        {
            let stop = stop.min(end);
            if there < class {
                self.replace(start, at..stop, class);
            }
            return stop;
        }
        let border = self.ranges.range(at..).next().map_or(end, |(&s, _)| s.min(end));
        self.insert_joined(at, border, class);
        border
    }

    /// Gives `part`, which lies in the range that starts at `start`, another class.
    fn replace(&mut self, start: u64, part: Range<u64>, class: Class) {
        let Some((stop, there)) = self.ranges.remove(&start) else { return };
        if start < part.start {
            self.ranges.insert(start, (part.start, there));
        }
        if part.end < stop {
            self.ranges.insert(part.end, (stop, there));
        }
        self.insert_joined(part.start, part.end, class);
    }

    fn insert_joined(&mut self, mut start: u64, mut end: u64, class: Class) {
        if let Some((&before, &(stop, there))) = self.ranges.range(..start).next_back()
            && stop == start
            && there == class
        {
            self.ranges.remove(&before);
            start = before;
        }
        if let Some(&(stop, there)) = self.ranges.get(&end)
            && there == class
        {
            self.ranges.remove(&end);
            end = stop;
        }
        self.ranges.insert(start, (end, class));
    }

    /// All ranges in order, the unknown ones included.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<u64>, Class)> + '_ {
        let mut at = 0;
        let known = self.ranges.iter().map(|(&s, &(e, c))| (s..e, c));
        known.chain(std::iter::once((self.len..self.len, Class::Unknown))).flat_map(move |(range, class)| {
            let gap = at..range.start;
            at = range.end;
            [(gap, Class::Unknown), (range, class)].into_iter().filter(|(r, _)| !r.is_empty())
        })
    }

    /// The ranges of one class.
    pub fn of(&self, class: Class) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges().filter(move |(_, c)| *c == class).map(|(r, _)| r)
    }

    /// Bytes by class.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { bytes: self.len, ..Totals::default() };
        for (range, class) in self.ranges() {
            let slot = totals.slot(class);
            *slot = slot.saturating_add(range.end.saturating_sub(range.start));
        }
        totals
    }

    /// Takes over the marks of another coverage of the same object.
    pub fn merge(&mut self, other: &Self) {
        for (range, class) in other.ranges() {
            self.mark(range, class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLASSES: [Class; 6] =
        [Class::Unknown, Class::Free, Class::Parsed, Class::Verified, Class::Damaged, Class::Unread];

    proptest! {
        #[test]
        fn agrees_with_one_class_per_byte(marks in prop::collection::vec((0u64..40, 0u64..40, 0usize..6), 0..30)) {
            let mut coverage = Coverage::new(32);
            let mut bytes = [Class::Unknown; 32];
            for (start, end, class) in marks {
                coverage.mark(start..end, CLASSES[class]);
                for byte in bytes.iter_mut().take(usize::try_from(end).unwrap()).skip(usize::try_from(start).unwrap()) {
                    *byte = (*byte).max(CLASSES[class]);
                }
            }
            let mut seen = Vec::new();
            for (range, class) in coverage.ranges() {
                seen.extend(range.map(|_| class));
            }
            prop_assert_eq!(seen, bytes.to_vec());
            let joined: Vec<_> = coverage.ranges().collect();
            prop_assert!(joined.windows(2).all(|w| w[0].1 != w[1].1), "neighbours of one class are joined");
            prop_assert_eq!(coverage.totals().bytes, 32);
        }
    }
}

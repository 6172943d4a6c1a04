//! On which level each table goes.
//!
//! A read takes the first version of a key it meets, level 0 from the newest epoch on, then level after level. So of two
//! tables with a key in common the one with the newer version must lie above, and on levels from 1 on no two tables may
//! overlap: RocksDB accepts a MANIFEST that breaks the second rule, opens the family empty, and deletes its files.
//!
//! Levels that a witness knows are kept when they obey both rules. Otherwise every table goes to the deepest level that
//! lies above all older tables it overlaps, and to level 0, in order of age, when there is none left.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use recovery_core::{Error, Reason};

use crate::format::key::{KeyOrder, packed, user_key};
use crate::witness::LiveTable;

/// Which of two overlapping tables is the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// The first.
    First,
    /// The second.
    Second,
    /// No key in common: either order is right.
    Free,
    /// Each has newer versions of some keys.
    Mixed,
    /// Every common entry is the same entry: one was made from the other.
    Same,
}

impl Age {
    /// The age of two groups, from the ages of their members.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Free | Self::Same, age) | (age, Self::Free | Self::Same) => age,
            (Self::First, Self::First) => Self::First,
            (Self::Second, Self::Second) => Self::Second,
            _ => Self::Mixed,
        }
    }
}

/// Looks into two tables when their sequence numbers do not decide; may read both.
pub type Compare<'a> = dyn Fn(&LiveTable, &LiveTable) -> Result<Age, Error> + 'a;

/// Where a table goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Level.
    pub level: u32,
    /// Epoch number: orders level 0, larger is newer.
    pub epoch: u64,
}

/// The places of one family's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// By table number.
    pub places: BTreeMap<u64, Place>,
    /// Whether the levels are those a witness knows.
    pub kept: bool,
    /// Pairs that no order makes right: they must be merged into one.
    pub mixed: Vec<(u64, u64)>,
}

/// Whether two tables may share a user key. An upper bound that is a range tombstone's end is exclusive.
#[must_use]
pub fn overlap(order: &KeyOrder, a: &LiveTable, b: &LiveTable) -> bool {
    !before(order, a, b) && !before(order, b, a)
}

fn before(order: &KeyOrder, a: &LiveTable, b: &LiveTable) -> bool {
    let bare = |key: &[u8]| order.without_timestamp(user_key(key)).to_vec();
    match order.compare_without_timestamp(&bare(&a.largest), &bare(&b.smallest)) {
        Ordering::Less => true,
        Ordering::Equal => packed(&a.largest) >> 8 == crate::format::write_batch::MAX_SEQUENCE,
        Ordering::Greater => false,
    }
}

/// Whether `a` may lie directly left of `b` on one level: upstream compares internal keys, so that two tables may touch
/// at one user key when the newer version is in the left one (`db/version_builder.cc`, `CheckConsistencyDetails`).
fn may_follow(order: &KeyOrder, a: &LiveTable, b: &LiveTable) -> bool {
    order.compare_internal(&a.largest, &b.smallest) == Ordering::Less
}

fn by_sequence(a: &LiveTable, b: &LiveTable) -> Option<Age> {
    if a.exact && a.seqnos.0 > b.seqnos.1 {
        Some(Age::First)
    } else if b.exact && b.seqnos.0 > a.seqnos.1 {
        Some(Age::Second)
    } else {
        None
    }
}

/// The pairs of one family that overlap, found by a sweep over their boundaries.
fn overlapping(order: &KeyOrder, tables: &[&LiveTable]) -> Vec<(usize, usize)> {
    let mut by_start: Vec<usize> = (0..tables.len()).collect();
    let key = |i: &usize| tables.get(*i).map(|t| t.smallest.as_slice()).unwrap_or_default();
    by_start.sort_by(|a, b| order.compare_internal(key(a), key(b)));
    let (mut out, mut open): (Vec<(usize, usize)>, Vec<usize>) = (Vec::new(), Vec::new());
    for i in by_start {
        let Some(table) = tables.get(i) else { continue };
        open.retain(|j| tables.get(*j).is_some_and(|other| !before(order, other, table)));
        for j in &open {
            if tables.get(*j).is_some_and(|other| overlap(order, other, table)) {
                out.push((*j.min(&i), *j.max(&i)));
            }
        }
        open.push(i);
    }
    out
}

/// Two tables of one level ≥ 1 that overlap: RocksDB would empty the family.
#[must_use]
pub fn conflict<'t>(order: &KeyOrder, tables: &[(u32, &'t LiveTable)]) -> Option<(&'t LiveTable, &'t LiveTable)> {
    let mut levels: BTreeMap<u32, Vec<&LiveTable>> = BTreeMap::new();
    for (level, table) in tables.iter().filter(|(level, _)| *level > 0) {
        levels.entry(*level).or_default().push(table);
    }
    for tables in levels.values_mut() {
        tables.sort_by(|a, b| order.compare_internal(&a.smallest, &b.smallest));
        let pairs = tables.iter().zip(tables.iter().skip(1));
        if let Some((a, b)) = pairs.into_iter().find(|(a, b)| !may_follow(order, a, b)) {
            return Some((a, b));
        }
    }
    None
}

/// Whether what is known of sequence numbers contradicts the levels: an upper table that is older throughout.
fn contradicts(pairs: &[(usize, usize)], tables: &[&LiveTable]) -> bool {
    pairs.iter().any(|(i, j)| {
        let (Some(a), Some(b)) = (tables.get(*i), tables.get(*j)) else { return false };
        let (Some(la), Some(lb)) = (a.level, b.level) else { return false };
        let found = (by_sequence(a, b), la.cmp(&lb));
        matches!(found, (Some(Age::First), Ordering::Greater) | (Some(Age::Second), Ordering::Less))
    })
}

/// Epochs of level 0: by what the MANIFEST says when it says so for all, else by sequence numbers.
fn level0(tables: &[&LiveTable]) -> Vec<u64> {
    let mut at0: Vec<&&LiveTable> = tables.iter().filter(|t| t.level == Some(0)).collect();
    at0.sort_by_key(|t| (t.seqnos.1, t.seqnos.0, t.number));
    at0.iter().map(|t| t.number).collect()
}

fn known(order: &KeyOrder, tables: &[&LiveTable], levels: u32) -> Option<Placement> {
    let placed: Option<Vec<(u32, &LiveTable)>> = tables.iter().map(|t| Some((t.level?, *t))).collect();
    let placed = placed?;
    if placed.iter().any(|(level, _)| *level >= levels.max(1)) || conflict(order, &placed).is_some() {
        return None;
    }
    let pairs = overlapping(order, tables);
    if contradicts(&pairs, tables) {
        return None;
    }
    // Tables of level 0 whose sequence numbers interleave have no order that every version accepts.
    let at0: Vec<&LiveTable> = tables.iter().copied().filter(|t| t.level == Some(0)).collect();
    let all_epochs = tables.iter().all(|t| t.entry.as_ref().is_some_and(|e| e.epoch().is_some_and(|n| n > 0)));
    if !all_epochs && !ordered_by_sequence(&at0) {
        return None;
    }
    let mut places = BTreeMap::new();
    let order0 = level0(tables);
    for table in tables {
        let level = table.level.unwrap_or(0);
        let rank = order0.iter().position(|n| *n == table.number).map_or(1, |i| (i as u64).saturating_add(2));
        let epoch = table.entry.as_ref().and_then(|e| e.epoch()).filter(|_| all_epochs).unwrap_or(rank);
        places.insert(table.number, Place { level, epoch });
    }
    Some(Placement { places, kept: true, mixed: Vec::new() })
}

/// Whether the tables have disjoint ranges of sequence numbers.
fn ordered_by_sequence(tables: &[&LiveTable]) -> bool {
    let mut sorted: Vec<&&LiveTable> = tables.iter().collect();
    sorted.sort_by_key(|t| (t.seqnos.1, t.seqnos.0));
    sorted
        .iter()
        .zip(sorted.iter().skip(1))
        .all(|(a, b)| a.seqnos.1 < b.seqnos.0 || (a.seqnos.1 <= b.seqnos.0 && b.global_seqno.is_some()))
}

/// Places the tables of one family. `levels` is the number of levels its options give it.
///
/// # Errors
///
/// A refusal when the comparator is unknown and key comparison would be needed; what `compare` gives.
pub fn place(
    order: Option<&KeyOrder>,
    family: &str,
    tables: &[&LiveTable],
    levels: u32,
    trusted: bool,
    compare: &Compare<'_>,
) -> Result<Placement, Error> {
    let Some(order) = order else { return without_order(family, tables, trusted) };
    if let Some(placement) = known(order, tables, levels) {
        return Ok(placement);
    }
    let mut newer: Vec<Vec<usize>> = vec![Vec::new(); tables.len()];
    let mut older: Vec<usize> = vec![0; tables.len()];
    let mut mixed = Vec::new();
    for (i, j) in overlapping(order, tables) {
        let (Some(a), Some(b)) = (tables.get(i), tables.get(j)) else { continue };
        let age = match by_sequence(a, b) {
            Some(age) => age,
            None => compare(a, b)?,
        };
        let (below, above) = match age {
            Age::First => (j, i),
            Age::Second => (i, j),
            // Any order is right; that of their newest entries fits level 0 best.
            Age::Free | Age::Same => {
                if (a.seqnos.1, a.seqnos.0, a.number) > (b.seqnos.1, b.seqnos.0, b.number) {
                    (j, i)
                } else {
                    (i, j)
                }
            }
            Age::Mixed => {
                mixed.push((a.number, b.number));
                continue;
            }
        };
        if let (Some(list), Some(count)) = (newer.get_mut(below), older.get_mut(above)) {
            list.push(above);
            *count = count.saturating_add(1);
        }
    }
    let (places, stuck) = from_the_bottom(tables, levels, &newer, &mut older);
    mixed.extend(stuck);
    Ok(Placement { places, kept: false, mixed })
}

/// Takes the oldest tables first and gives each the deepest level above everything older it overlaps.
fn from_the_bottom(
    tables: &[&LiveTable],
    levels: u32,
    newer: &[Vec<usize>],
    older: &mut [usize],
) -> (BTreeMap<u64, Place>, Vec<(u64, u64)>) {
    let bottom = levels.saturating_sub(1);
    let mut ceiling: Vec<u32> = vec![bottom; tables.len()];
    let age = |i: &usize| tables.get(*i).map(|t| (t.seqnos.1, t.seqnos.0, t.number));
    let mut ready: std::collections::BTreeSet<(Option<(u64, u64, u64)>, usize)> =
        older.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| (age(&i), i)).collect();
    let mut places = BTreeMap::new();
    let mut epoch = 1u64;
    while let Some((_, i)) = ready.pop_first() {
        let Some(table) = tables.get(i) else { continue };
        epoch = epoch.saturating_add(1);
        let level = ceiling.get(i).copied().unwrap_or(0);
        places.insert(table.number, Place { level, epoch });
        for above in newer.get(i).into_iter().flatten() {
            if let (Some(limit), Some(count)) = (ceiling.get_mut(*above), older.get_mut(*above)) {
                *limit = (*limit).min(level.saturating_sub(1));
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.insert((age(above), *above));
                }
            }
        }
    }
    // What is left stands in a circle: each is newer than the next.
    let stuck: Vec<u64> = tables.iter().map(|t| t.number).filter(|n| !places.contains_key(n)).collect();
    let pairs = stuck.iter().copied().zip(stuck.iter().copied().skip(1)).collect();
    (places, pairs)
}

/// Without a comparator keys cannot be compared: levels a MANIFEST knows stay, and tables with disjoint sequence numbers
/// may go to level 0 in their order. Nothing else is safe.
fn without_order(family: &str, tables: &[&LiveTable], trusted: bool) -> Result<Placement, Error> {
    if trusted && tables.iter().all(|t| t.level.is_some() && t.entry.is_some()) {
        let order0 = level0(tables);
        let all_epochs = tables.iter().all(|t| t.entry.as_ref().is_some_and(|e| e.epoch().is_some()));
        let place = |t: &&LiveTable| {
            let rank = order0.iter().position(|n| *n == t.number).map_or(1, |i| (i as u64).saturating_add(2));
            let epoch = t.entry.as_ref().and_then(|e| e.epoch()).filter(|_| all_epochs).unwrap_or(rank);
            (t.number, Place { level: t.level.unwrap_or(0), epoch })
        };
        return Ok(Placement { places: tables.iter().map(place).collect(), kept: true, mixed: Vec::new() });
    }
    if ordered_by_sequence(tables) {
        let mut sorted: Vec<&&LiveTable> = tables.iter().collect();
        sorted.sort_by_key(|t| (t.seqnos.1, t.seqnos.0));
        let place = |(i, t): (usize, &&&LiveTable)| (t.number, Place { level: 0, epoch: (i as u64).saturating_add(2) });
        return Ok(Placement {
            places: sorted.iter().enumerate().map(place).collect(),
            kept: false,
            mixed: Vec::new(),
        });
    }
    Err(Error::refuse(
        Reason::Unsafe,
        format!(
            "family {family}: its comparator is not built in, its levels are lost, and the sequence numbers of its tables overlap, so their order cannot be known without comparing keys; a program that registers it (KeyOrder::register) can make the plan"
        ),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::format::key::InternalKey;
    use crate::format::{SequenceNumber, ValueType};

    fn table(number: u64, from: &str, to: &str, seqnos: (u64, u64), level: Option<u32>) -> LiveTable {
        let key = |k: &str, s: u64| InternalKey::new(k.as_bytes(), SequenceNumber(s), ValueType::Value).into_bytes();
        LiveTable {
            number,
            level,
            smallest: key(from, seqnos.1),
            largest: key(to, seqnos.0),
            seqnos,
            exact: true,
            ..LiveTable::default()
        }
    }

    fn never(_: &LiveTable, _: &LiveTable) -> Result<Age, Error> {
        panic!("sequence numbers decide")
    }

    #[test]
    fn levels_that_are_right_stay() {
        let t = [
            table(1, "a", "m", (1, 5), Some(6)),
            table(2, "n", "z", (2, 6), Some(6)),
            table(3, "a", "z", (7, 9), Some(0)),
        ];
        let p = place(Some(&KeyOrder::Bytewise), "f", &t.iter().collect::<Vec<_>>(), 7, true, &never).unwrap();
        assert!(p.kept);
        assert_eq!(p.places.get(&3).unwrap().level, 0);
    }

    #[test]
    fn overlapping_levels_are_worked_out_anew() {
        let t = [
            table(1, "a", "m", (1, 5), Some(6)),
            table(2, "k", "z", (6, 9), Some(6)),
            table(3, "p", "q", (10, 11), None),
        ];
        let p = place(Some(&KeyOrder::Bytewise), "f", &t.iter().collect::<Vec<_>>(), 7, true, &never).unwrap();
        assert!(!p.kept);
        let levels: Vec<u32> = [1, 2, 3].iter().map(|n| p.places.get(n).unwrap().level).collect();
        assert_eq!(levels, [6, 5, 4]);
    }

    #[test]
    fn when_levels_run_out_level_0_keeps_the_order() {
        let t: Vec<_> = (0..9u64).map(|i| table(i, "a", "z", (i * 10, i * 10 + 9), None)).collect();
        let p = place(Some(&KeyOrder::Bytewise), "f", &t.iter().collect::<Vec<_>>(), 4, true, &never).unwrap();
        let levels: Vec<u32> = (0..9).map(|n| p.places.get(&n).unwrap().level).collect();
        assert_eq!(levels, [3, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert!((3..8).all(|n| p.places.get(&n).unwrap().epoch < p.places.get(&(n + 1)).unwrap().epoch));
    }

    #[test]
    fn an_unknown_comparator_is_never_guessed() {
        let t = [table(1, "a", "m", (1, 9), None), table(2, "k", "z", (5, 12), None)];
        let err = place(None, "f", &t.iter().collect::<Vec<_>>(), 7, false, &never).unwrap_err();
        assert_eq!(err.exit(), 6);
        let t = [table(1, "a", "m", (1, 4), None), table(2, "k", "z", (5, 12), None)];
        let p = place(None, "f", &t.iter().collect::<Vec<_>>(), 7, false, &never).unwrap();
        assert!(p.places.values().all(|p| p.level == 0));
    }
}

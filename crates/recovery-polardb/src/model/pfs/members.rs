//! Who belongs to whom: the list of an inode against the members' own word.

use std::collections::HashSet;

use crate::format::pfs::ROOT_INO;
use crate::format::pfs::object::{Kind, Object};
use crate::reader::pfs::Table;

/// (owner, member) pairs, sorted: all members by owner.
pub(super) struct Groups {
    pairs: Vec<(u64, u64)>,
}

impl Groups {
    /// Block tags in use by the inode they name.
    pub(super) fn of_tags(tags: &Table) -> Self {
        let owned = |n: &u64| Kind::BlockTag.index(*n) != 0;
        Self::new(tags.used.iter().filter(|(n, _)| owned(n)).map(|(n, h)| (h.object.tag().ino, *n)))
    }

    /// Head entries in use by the directory they name. Entry 0 belongs to the root itself.
    pub(super) fn of_entries(entries: &Table) -> Self {
        Self::new(entries.used.iter().filter_map(|(n, h)| {
            let entry = h.object.direntry();
            (*n != 0 && !entry.is_extension()).then_some((entry.dirino, *n))
        }))
    }

    fn new(pairs: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        Self { pairs }
    }

    /// The members of an owner, by number.
    pub(super) fn of(&self, owner: u64) -> &[(u64, u64)] {
        let start = self.pairs.partition_point(|(o, _)| *o < owner);
        let rest = self.pairs.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|(o, _)| *o == owner)).unwrap_or_default()
    }

    /// All owners, each once.
    pub(super) fn owners(&self) -> impl Iterator<Item = u64> + '_ {
        self.pairs.chunk_by(|a, b| a.0 == b.0).filter_map(|g| g.first()).map(|(owner, _)| *owner)
    }
}

/// The members of one inode in the order of its list, and what is wrong with that list.
pub(super) struct Members {
    pub(super) numbers: Vec<u64>,
    pub(super) fault: Option<ListFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListFault {
    #[error("the list comes back to {kind} {at}", kind = .kind.name())]
    Loop { kind: Kind, at: u64 },
    #[error("the list leads to {kind} {at}, which is not its own", kind = .kind.name())]
    Foreign { kind: Kind, at: u64 },
    #[error("the list holds {listed} of {owned} members")]
    Short { listed: u64, owned: u64 },
    #[error("{kind} {at} does not name the member before it", kind = .kind.name())]
    Back { kind: Kind, at: u64 },
    #[error("the list ends at {found}, the inode says {expected}")]
    Tail { found: u64, expected: u64 },
}

/// Follows the list that starts in `owner` and compares it with the members' own word.
pub(super) fn members(table: &Table, owner: Option<&Object>, own: &[(u64, u64)]) -> Members {
    let mut numbers: Vec<u64> = Vec::with_capacity(own.len());
    let mut fault = None;
    let is_own = |n: u64| own.binary_search_by_key(&n, |(_, m)| *m).is_ok();
    let mut note = |f: ListFault| fault = fault.or(Some(f));
    let kind = table.kind;
    let (mut at, mut before) = (owner.map_or(0, Object::next), 0);
    while at != 0 {
        // A list without a loop has no more members than there are.
        if numbers.len() >= own.len() && is_own(at) {
            note(ListFault::Loop { kind, at });
            break;
        }
        let Some(object) = table.get(at).filter(|_| is_own(at)) else {
            note(ListFault::Foreign { kind, at });
            break;
        };
        if object.prev() != before {
            note(ListFault::Back { kind, at });
        }
        numbers.push(at);
        (before, at) = (at, object.next());
    }
    if let Some(owner) = owner.filter(|o| o.prev() != before) {
        note(ListFault::Tail { found: before, expected: owner.prev() });
    }
    let mut seen: HashSet<u64> = HashSet::with_capacity(numbers.len());
    let listed = numbers.len();
    numbers.retain(|n| seen.insert(*n));
    if listed != numbers.len() {
        note(ListFault::Loop { kind, at: before });
    }
    if numbers.len() < own.len() {
        if owner.is_some() {
            note(ListFault::Short { listed: numbers.len() as u64, owned: own.len() as u64 });
        }
        numbers.extend(own.iter().map(|(_, n)| *n).filter(|n| !seen.contains(n)));
    }
    Members { numbers, fault: fault.filter(|_| owner.is_some()) }
}

/// Entries of the root that its size does not count: `.pfs-paxos` and `.pfs-journal`.
pub(super) fn uncounted(ino: u64) -> u64 {
    if ino == ROOT_INO { 2 } else { 0 }
}

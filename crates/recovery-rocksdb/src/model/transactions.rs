//! Two-phase commit across WALs: which prepared transactions were committed, rolled back, or are in doubt.

use std::collections::BTreeMap;

use crate::reader::wal::{Mark, Prepared, WalSummary};

/// Outcome of the transactions in a sequence of WALs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Prepared and committed.
    pub committed: u64,
    /// Prepared and rolled back.
    pub rolled_back: u64,
    /// Prepared and neither: their writes are kept apart and never applied.
    pub in_doubt: Vec<Prepared>,
    /// Commits or rollbacks of ids that no WAL prepares.
    pub unprepared: u64,
}

/// Follows every mark through `wals`, which must be in number order.
pub fn follow<'a>(wals: impl IntoIterator<Item = &'a WalSummary>) -> Outcomes {
    let mut out = Outcomes::default();
    let mut open: BTreeMap<Vec<u8>, Prepared> = BTreeMap::new();
    for mark in wals.into_iter().flat_map(|w| &w.marks) {
        match mark {
            Mark::Prepared(p) => drop(open.insert(p.id.clone(), p.clone())),
            Mark::Resolved { id, commit } => match (open.remove(id), commit) {
                (Some(_), true) => out.committed = out.committed.saturating_add(1),
                (Some(_), false) => out.rolled_back = out.rolled_back.saturating_add(1),
                (None, _) => out.unprepared = out.unprepared.saturating_add(1),
            },
        }
    }
    out.in_doubt = open.into_values().collect();
    out
}

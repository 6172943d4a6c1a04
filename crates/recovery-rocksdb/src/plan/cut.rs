//! The newest state at which every family is complete.
//!
//! Damage takes writes out of the middle: a later write of one family may be there while an earlier one of another is
//! not. Every write has a sequence number, so a state is a number, and the state is complete when nothing at or below it
//! is lost. Entries above it are left out. What lay under them may have been dropped by a flush or a compaction since;
//! the plan says how many entries go.

use recovery_core::{Error, Reason, Result};
use serde_json::{Value, json};

use crate::codes;
use crate::inspect::{self, Inspection};
use crate::witness::LiveTable;

/// Where the cut lies, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The last sequence number of the result.
    pub(super) sequence: u64,
    /// What is lost right behind it.
    pub(super) why: String,
}

/// Finds the cut; `None` when nothing is lost and nothing has to be cut.
///
/// # Errors
///
/// A refusal when no such state can be shown.
pub(super) fn find(i: &Inspection) -> Result<Option<Cut>> {
    let mut bounds: Vec<(Option<u64>, String)> = Vec::new();
    for w in i.needed_wals().filter(|w| w.is_damaged() && !i.wal_donors.contains_key(&w.number)) {
        let from = w.gaps.first().and_then(|gap| gap.from).or(w.first_sequence);
        let before = i.needed_wals().filter(|o| o.number < w.number).filter_map(|o| o.last_sequence).max();
        let bound = from.map(|n| n.saturating_sub(1)).or(before).or_else(|| flushed_by_all(i));
        bounds.push((bound, format!("records of WAL {:06}.log are damaged", w.number)));
    }
    for table in i.resolved.families.values().flat_map(|f| f.tables.values()).filter(|t| loses(i, t)) {
        let bound = (table.exact && table.seqnos.0 > 0).then(|| table.seqnos.0.saturating_sub(1));
        bounds.push((bound, format!("entries of table {:06}.sst are lost", table.number)));
    }
    if inspect::losses(i).iter().any(|f| f.code == codes::WAL_MISSING.code) {
        bounds.push((flushed_by_all(i), "a WAL is missing".to_owned()));
    }
    let blobs = i.resolved.families.values().flat_map(|f| f.blobs.values());
    if blobs.into_iter().any(|b| b.donor.is_none() && (!b.present || b.damaged)) {
        bounds.push((None, "values of blob files are lost, and nothing tells when they were written".to_owned()));
    }
    if !i.resolved.familyless.is_empty() {
        bounds.push((None, "tables of no known family are left out".to_owned()));
    }
    let Some((lowest, why)) = bounds.into_iter().min_by_key(|(bound, _)| bound.unwrap_or(0)) else { return Ok(None) };
    match lowest.filter(|n| *n > 0) {
        Some(sequence) => Ok(Some(Cut { sequence, why })),
        None => Err(Error::refuse(
            Reason::Unsafe,
            format!("--consistent: no state can be shown at which every family is complete: {why}"),
        )),
    }
}

/// Whether entries or tombstones of a table are gone for good.
fn loses(i: &Inspection, table: &LiveTable) -> bool {
    let bad = table.damaged || table.on_disk.is_none();
    if !bad || table.donor.is_some() || !table.wals.is_empty() {
        return false;
    }
    let salvage = table.on_disk.and_then(|n| i.gathered.tables.get(&n)?.salvage.as_ref());
    table.lost(salvage) != Some(0) || table.lost_tombstones(salvage).is_none_or(|n| n > 0)
}

/// The sequence number up to which every family that has tables has written them.
fn flushed_by_all(i: &Inspection) -> Option<u64> {
    let newest = |tables: &std::collections::BTreeMap<u64, LiveTable>| tables.values().map(|t| t.seqnos.1).max();
    let families = i.resolved.families.values().filter(|f| !f.tables.is_empty());
    families.filter_map(|f| newest(&f.tables)).min()
}

impl Cut {
    /// The cut as the plan shows it: the number, and the times between which it lies by the info log, in microseconds
    /// since 1970.
    pub(super) fn facts(&self, i: &Inspection) -> Value {
        let made = i.gathered.log.tables.values().filter_map(|t| t.creation.as_ref());
        let timed: Vec<(u64, u64, u64)> =
            made.filter_map(|c| Some((c.seqnos?.0, c.seqnos?.1, c.time_micros?))).collect();
        let not_before = timed.iter().filter(|(_, last, _)| *last <= self.sequence).map(|(.., time)| *time).max();
        let not_after = timed.iter().filter(|(first, ..)| *first > self.sequence).map(|(.., time)| *time).min();
        json!({"sequence": self.sequence, "why": self.why, "not_before_us": not_before, "not_after_us": not_after})
    }
}

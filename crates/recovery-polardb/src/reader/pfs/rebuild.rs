//! Head of the journal without a leader record: by the order of its entries.
//!
//! Two neighbours of the ring belong together when the log sequence number grows by one and the
//! transaction number stays while the first says that more follows, and grows by one otherwise.
//! Maximal stretches under this rule are *runs*. The run with the greatest number holds the head,
//! unless it only continues the numbers of its neighbour without continuing its transactions: that
//! is what is left of an uncommitted transaction whose place was taken by a later one.

use recovery_core::parallel;
use recovery_core::{Context, Result};

use super::device::Device;
use super::replay::Live;
use super::ring::{Part, Ring};
use crate::format::pfs::entry::{ENTRY_LEN, Entry};

/// Consecutive entries that continue each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    slot: u64,
    len: u64,
    first_lsn: u64,
    first_txid: u64,
    last_txid: u64,
    more: bool,
    /// Entries up to the last one that ends a transaction.
    complete: u64,
    /// Transaction of that entry.
    complete_txid: u64,
}

impl Run {
    fn of(slot: u64, e: &Entry) -> Self {
        let complete = u64::from(!e.more);
        Self {
            slot,
            len: 1,
            first_lsn: e.lsn,
            first_txid: e.txid,
            last_txid: e.txid,
            more: e.more,
            complete,
            complete_txid: e.txid,
        }
    }

    fn last_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(self.len).saturating_sub(1)
    }

    fn end(&self, slots: u64) -> u64 {
        self.slot.saturating_add(self.len) % slots.max(1)
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        let txid = if self.more { Some(self.last_txid) } else { self.last_txid.checked_add(1) };
        self.last_lsn().checked_add(1) == Some(next.first_lsn) && txid == Some(next.first_txid)
    }

    fn join(&mut self, next: &Self) {
        if next.complete > 0 {
            self.complete = self.len.saturating_add(next.complete);
            self.complete_txid = next.complete_txid;
        }
        self.len = self.len.saturating_add(next.len);
        (self.last_txid, self.more) = (next.last_txid, next.more);
    }
}

/// What the ring says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Everything that is to be applied, from the oldest entry still there to the last complete transaction.
    pub(super) live: Live,
    /// Last complete transaction.
    pub(super) txid: u64,
    /// Oldest transaction in the ring.
    pub(super) first_txid: u64,
    /// Entries behind the head that belong to an incomplete transaction.
    pub(super) torn: u64,
    /// Entries in the range that do not fit their place or are damaged.
    pub(super) gaps: u64,
    /// Entries elsewhere with numbers of another history.
    pub(super) foreign: u64,
}

impl Head {
    /// Log sequence number of the last entry.
    pub(super) fn lsn(&self) -> u64 {
        self.live.lsn.saturating_add(self.live.count).saturating_sub(1)
    }
}

fn runs_of(device: &Device, part: Part) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let Some(piece) = part.read(device) else { return runs };
    let mut touching = false;
    for (bytes, i) in piece.bytes.chunks_exact(ENTRY_LEN).zip(0u64..) {
        let Some(entry) = bytes.first_chunk().and_then(|b| Entry::decode(b).ok()) else {
            touching = false;
            continue;
        };
        push(&mut runs, Run::of(part.slot.saturating_add(i), &entry), touching);
        touching = true;
    }
    runs
}

fn push(runs: &mut Vec<Run>, run: Run, touching: bool) {
    match runs.last_mut() {
        Some(last) if touching && last.is_continued_by(&run) => last.join(&run),
        _ => runs.push(run),
    }
}

/// Finds the head of the journal and the oldest entry that leads up to it.
///
/// `Ok(None)` when the ring holds no complete transaction. The size of the ring is corrected when it
/// was only estimated and its entries go round at an earlier place.
pub(super) fn run(device: &Device, ring: &mut Ring, estimated: bool, cx: &Context) -> Result<Option<Head>> {
    let mut runs: Vec<Run> = Vec::new();
    let window = cx.limits.threads.saturating_mul(2);
    let parts: Vec<Part> = ring.parts(0, ring.slots()).collect();
    parallel::stream(
        cx,
        parts.into_iter(),
        window,
        |part| runs_of(device, part),
        |more| {
            for run in more {
                let touching = runs.last().is_some_and(|l| l.slot.saturating_add(l.len) == run.slot);
                push(&mut runs, run, touching);
            }
            Ok(())
        },
    )?;
    if estimated {
        shrink(ring, &runs);
    }
    close(&mut runs, ring.slots());
    Ok(head_of(&runs, ring.slots()))
}

/// A ring whose size was estimated ends behind its last entry if that one is continued by the first.
fn shrink(ring: &mut Ring, runs: &[Run]) {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return };
    if first.slot == 0 && last.is_continued_by(first) {
        ring.size = last.slot.saturating_add(last.len).saturating_mul(ENTRY_LEN as u64);
    }
}

/// Joins the last run with the first one around the end of the ring.
fn close(runs: &mut Vec<Run>, slots: u64) {
    let [first, .., last] = runs.as_slice() else { return };
    let (first, mut last) = (*first, *last);
    if first.slot == 0 && last.slot.saturating_add(last.len) == slots && last.is_continued_by(&first) {
        last.join(&first);
        runs.pop();
        if let Some(place) = runs.first_mut() {
            *place = last;
        }
    }
}

fn head_of(runs: &[Run], slots: u64) -> Option<Head> {
    let mut best = runs.iter().max_by_key(|r| r.last_lsn())?;
    let mut torn = 0u64;
    // Each step goes to a run with smaller numbers, so this ends.
    loop {
        // A run that starts at slot 0 was split by the end of the ring, not by a break in it.
        let before = runs.iter().filter(|_| best.slot != 0).find(|r| {
            r.end(slots) == best.slot && r.last_lsn().checked_add(1) == Some(best.first_lsn) && r.len < slots
        });
        match before {
            Some(run) => best = run,
            None if best.complete == 0 => {
                torn = torn.saturating_add(best.len);
                let lower = runs.iter().filter(|r| r.last_lsn() < best.first_lsn);
                best = lower.max_by_key(|r| r.last_lsn())?;
            }
            None => break,
        }
    }
    torn = torn.saturating_add(best.len.saturating_sub(best.complete));
    let head_lsn = best.first_lsn.saturating_add(best.complete).saturating_sub(1);
    let head_slot = best.slot.saturating_add(best.complete).saturating_sub(1) % slots.max(1);
    Some(gather(runs, slots, head_lsn, head_slot, best.complete_txid, torn))
}

/// Everything whose number fits its distance from the head.
fn gather(runs: &[Run], slots: u64, head_lsn: u64, head_slot: u64, txid: u64, torn: u64) -> Head {
    let distance = |slot: u64| (head_slot.saturating_add(slots).saturating_sub(slot)) % slots.max(1);
    let fits = |r: &&Run| head_lsn.checked_sub(distance(r.slot)) == Some(r.first_lsn) && r.first_lsn <= head_lsn;
    let (mut oldest, mut first_txid, mut have, mut foreign) = (head_lsn, txid, 0u64, 0u64);
    for run in runs {
        if fits(&run) {
            let part = run.len.min(head_lsn.saturating_sub(run.first_lsn).saturating_add(1));
            have = have.saturating_add(part);
            if run.first_lsn <= oldest {
                (oldest, first_txid) = (run.first_lsn, run.first_txid);
            }
        } else if run.last_lsn() <= head_lsn {
            foreign = foreign.saturating_add(run.len);
        }
    }
    let count = head_lsn.saturating_sub(oldest).saturating_add(1).min(slots);
    let back = count.saturating_sub(1);
    let slot = head_slot.saturating_add(slots).saturating_sub(back) % slots.max(1);
    let live = Live { slot, count, lsn: head_lsn.saturating_sub(back) };
    Head { live, txid, first_txid, torn, gaps: count.saturating_sub(have.min(count)), foreign }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    fn run(slot: u64, len: u64, lsn: u64, txid: u64, more: bool) -> Run {
        let complete = if more { len.saturating_sub(1) } else { len };
        let complete_txid = if more { txid.saturating_sub(1) } else { txid };
        Run { slot, len, first_lsn: lsn, first_txid: txid, last_txid: txid, more, complete, complete_txid }
    }

    #[test]
    fn leftovers_that_only_continue_the_numbers_are_not_the_head() {
        // Entries 1..=10 are true; 11 and 12 are what a later commit left of an uncommitted transaction.
        let runs = [run(0, 10, 1, 5, false), run(10, 2, 11, 5, false)];
        let head = head_of(&runs, 64).unwrap();
        assert_eq!((head.lsn(), head.txid, head.live.slot), (10, 5, 0));
    }

    #[test]
    fn a_wrapped_ring_starts_behind_its_head() {
        let runs = [run(0, 10, 65, 30, false), run(10, 54, 11, 10, false)];
        let head = head_of(&runs, 64).unwrap();
        assert_eq!(head.live, Live { slot: 10, count: 64, lsn: 11 });
        assert_eq!(head.gaps, 0);
    }

    #[test]
    fn a_torn_transaction_is_dropped() {
        let head = head_of(&[run(0, 10, 1, 5, true)], 64).unwrap();
        assert_eq!((head.lsn(), head.txid, head.torn), (9, 4, 1));
    }
}

//! What stands right behind the head of the journal: an uncommitted transaction, leftovers, garbage,
//! or committed transactions that a stale leader record does not know.

use super::device::Device;
use super::ring::{Part, Ring, Slot, SlotFault};
use crate::format::pfs::entry::EntryFault;

/// How many entries are looked at in one read.
const STEP: u64 = 1024;
/// Entries of the 16 KiB in which the engine reads and checks the journal.
const ENGINE_STEP: u64 = 64;

/// Entries behind the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Entries that continue the journal.
    pub(super) entries: u64,
    /// Of these, entries of complete transactions.
    pub(super) complete: u64,
    /// Complete transactions.
    pub(super) transactions: u64,
    /// Last complete transaction.
    pub(super) txid: u64,
}

/// Counts the entries that continue the journal behind `slot`, at most `most`.
pub(super) fn continued(device: &Device, ring: &Ring, slot: u64, lsn: u64, txid: u64, most: u64) -> Behind {
    let mut this = Behind { txid, ..Behind::default() };
    let mut current = None::<u64>;
    let mut done = 0u64;
    while done < most {
        let first = slot.saturating_add(done);
        let mut looked = 0u64;
        for part in ring.parts(first, STEP.min(most.saturating_sub(done))) {
            let base = lsn.saturating_add(done).saturating_add(looked).saturating_add(1);
            for found in part.slots(device, |i| base.checked_add(i)) {
                let Slot::Good(entry) = found else { return this };
                if entry.txid != current.unwrap_or_else(|| this.txid.saturating_add(1)) {
                    return this;
                }
                this.entries = this.entries.saturating_add(1);
                if entry.more {
                    current = Some(entry.txid);
                } else {
                    current = None;
                    this.transactions = this.transactions.saturating_add(1);
                    (this.complete, this.txid) = (this.entries, entry.txid);
                }
            }
            looked = looked.saturating_add(part.count);
        }
        if looked == 0 {
            break;
        }
        done = done.saturating_add(looked);
    }
    this
}

/// Device ranges of damaged entries that the engine checks together with the last live ones, although
/// they lie behind the head.
pub(super) fn garbage(device: &Device, ring: &Ring, tail: u64, live: u64) -> Vec<(u64, u64)> {
    if live == 0 {
        return Vec::new();
    }
    let read = live.div_ceil(ENGINE_STEP).saturating_mul(ENGINE_STEP).min(ring.slots());
    let first = tail.saturating_add(live);
    let mut out: Vec<(u64, u64)> = Vec::new();
    for part in ring.parts(first, read.saturating_sub(live)) {
        collect(device, part, &mut out);
    }
    out
}

fn collect(device: &Device, part: Part, out: &mut Vec<(u64, u64)>) {
    let Some(address) = part.address else { return };
    for (slot, i) in part.slots(device, |_| None).into_iter().zip(0u64..) {
        let at = address.saturating_add(i.saturating_mul(256));
        if let Slot::Bad(SlotFault::Entry(EntryFault::Checksum { .. })) = slot {
            match out.last_mut() {
                Some((start, len)) if start.saturating_add(*len) == at => *len = len.saturating_add(256),
                _ => out.push((at, 256)),
            }
        }
    }
}

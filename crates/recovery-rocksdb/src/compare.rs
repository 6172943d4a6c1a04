//! Looks into two overlapping tables to tell which is the newer one, key by key.

use std::cmp::Ordering;
use std::sync::Arc;

use recovery_core::{Context, Error};

use crate::format::SequenceNumber;
use crate::format::file_name::FileKind;
use crate::format::key::{KeyOrder, packed, user_key};
use crate::inspect::gather::{Gathered, record_limit};
use crate::placement::Age;
use crate::reader::{TableOptions, TableReader, TableScan, Tombstone};
use crate::witness::LiveTable;

struct Side {
    scan: TableScan,
    tombstones: Vec<Tombstone>,
    there: bool,
    low: u64,
    high: u64,
    key: Vec<u8>,
}

fn open(g: &Gathered, order: &KeyOrder, table: &LiveTable, cx: &Context) -> Result<Option<Side>, Error> {
    let Some(item) = table.on_disk.and_then(|n| g.item(FileKind::Table, n)) else { return Ok(None) };
    let blob = g.source.open(&item.entry)?;
    let options = TableOptions {
        global_seqno: table.global_seqno.map(SequenceNumber),
        block_limit: record_limit(cx),
        timestamp_size: order.timestamp_size(),
        ..TableOptions::default()
    };
    let (scan, tombstones) = if table.damaged {
        let Ok(salvaged) = crate::salvage::Salvaged::run(&Arc::clone(&blob), &options, None, cx) else {
            return Ok(None);
        };
        (salvaged.scan(), salvaged.tombstones)
    } else {
        let reader = TableReader::open(blob, options)?;
        (reader.scan()?, reader.tombstones()?)
    };
    Ok(Some(Side { scan, tombstones, there: true, low: 0, high: 0, key: Vec::new() }))
}

impl Side {
    /// Moves to the next user key and gathers the sequence numbers of all its versions.
    fn group(&mut self, order: &KeyOrder, fresh: bool) -> Result<bool, Error> {
        if fresh && !self.scan.advance()? {
            self.there = false;
            return Ok(false);
        }
        if !self.there {
            return Ok(false);
        }
        self.key.clear();
        self.key.extend_from_slice(user_key(self.scan.key()));
        (self.low, self.high) = (u64::MAX, 0);
        loop {
            let sequence = packed(self.scan.key()) >> 8;
            self.low = self.low.min(sequence);
            self.high = self.high.max(sequence);
            if !self.scan.advance()? {
                self.there = false;
                return Ok(true);
            }
            if order.compare(user_key(self.scan.key()), &self.key) != Ordering::Equal {
                return Ok(true);
            }
        }
    }

    fn deletes(&self, key: &[u8], order: &KeyOrder, older_than: u64) -> bool {
        let covers = |t: &Tombstone| {
            t.sequence.0 > older_than && order.compare(&t.start, key).is_le() && order.compare(key, &t.end).is_lt()
        };
        self.tombstones.iter().any(covers)
    }
}

/// Tells which of two tables must lie above the other.
///
/// # Errors
///
/// When one of them cannot be read.
pub(crate) fn compare(
    g: &Gathered,
    order: &KeyOrder,
    a: &LiveTable,
    b: &LiveTable,
    cx: &Context,
) -> Result<Age, Error> {
    let (Some(mut a), Some(mut b)) = (open(g, order, a, cx)?, open(g, order, b, cx)?) else { return Ok(Age::Free) };
    let (mut first, mut second, mut common, mut same) = (true, true, 0u64, 0u64);
    let mut have_a = a.group(order, true)?;
    let mut have_b = b.group(order, true)?;
    let mut steps = 0u64;
    while have_a || have_b {
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(4096) {
            cx.cancelled()?;
        }
        let side = match (have_a, have_b) {
            (true, true) => order.compare(&a.key, &b.key),
            (true, false) => Ordering::Less,
            _ => Ordering::Greater,
        };
        // A tombstone deletes what lies below it; a key above it that is older would be seen again.
        if side.is_le() && b.deletes(&a.key, order, a.low) {
            first = false;
        }
        if side.is_ge() && a.deletes(&b.key, order, b.low) {
            second = false;
        }
        if side == Ordering::Equal {
            common = common.saturating_add(1);
            if a.low == b.low && a.high == b.high && a.high > 0 {
                same = same.saturating_add(1);
            } else {
                first &= a.low > b.high;
                second &= b.low > a.high;
            }
        }
        if side.is_le() {
            have_a = a.there && a.group(order, false)?;
        }
        if side.is_ge() {
            have_b = b.there && b.group(order, false)?;
        }
    }
    Ok(match (first, second) {
        (true, true) if common > 0 && same == common => Age::Same,
        (true, true) => Age::Free,
        (true, false) => Age::First,
        (false, true) => Age::Second,
        (false, false) => Age::Mixed,
    })
}

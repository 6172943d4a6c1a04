//! One flipped bit, one cut, one unreadable sector: what it may cost, and what must be said about it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recovery_core::{Blob, Class, Context, MemBlob};
use recovery_rocksdb::reader::{TableOptions, TableReader};
use recovery_rocksdb::salvage::{Depth, TableCheck, check_table};

type Entry = (Vec<u8>, Vec<u8>);

struct Table {
    name: String,
    data: Vec<u8>,
    /// Entries of each data block, with its range.
    blocks: Vec<(std::ops::Range<u64>, Vec<Entry>)>,
    /// Which bytes a checksum covers.
    covered: Vec<bool>,
}

fn blob(data: &[u8]) -> Arc<dyn Blob> {
    Arc::new(MemBlob::new("000001.sst", data.to_vec()))
}

fn tables() -> Vec<Table> {
    let folder = recovery_testkit::fixtures("rocksdb").join("tables");
    let files = recovery_testkit::load(&folder);
    files.files().iter().filter(|(name, _)| name.ends_with(".sst")).map(|(name, data)| table(name, data)).collect()
}

fn table(name: &str, data: &[u8]) -> Table {
    let cx = Context::with_threads(1);
    let reader = TableReader::open(blob(data), TableOptions::default()).unwrap();
    let index = reader.index().unwrap();
    let mut blocks = Vec::new();
    for (number, handle) in index.handles().iter().enumerate() {
        let mut scan = reader.scan_blocks(index.handles().into(), number..number + 1);
        let mut entries = Vec::new();
        while scan.advance().unwrap() {
            entries.push((scan.key().to_vec(), scan.value().to_vec()));
        }
        blocks.push((handle.range(), entries));
    }
    let check = check_table(&blob(data), &TableOptions::default(), None, Depth::Checksums, &cx).unwrap();
    let mut covered = vec![false; data.len()];
    for range in check.coverage.of(Class::Verified) {
        covered[range.start as usize..range.end as usize].fill(true);
    }
    Table { name: name.to_owned(), data: data.to_vec(), blocks, covered }
}

/// Entries that a check of damaged bytes leaves.
fn left(check: &TableCheck, data: &[u8]) -> BTreeSet<Entry> {
    let mut out = BTreeSet::new();
    let scan = match &check.salvaged {
        Some(salvaged) => Some(salvaged.scan()),
        None if check.nothing || check.unsupported.is_some() => None,
        None => TableReader::open(blob(data), TableOptions::default()).and_then(|t| t.scan()).ok(),
    };
    let Some(mut scan) = scan else { return out };
    while scan.advance().unwrap_or(false) {
        out.insert((scan.key().to_vec(), scan.value().to_vec()));
    }
    out
}

fn check(data: &[u8], cx: &Context) -> TableCheck {
    check_table(&blob(data), &TableOptions::default(), None, Depth::Checksums, cx).unwrap()
}

fn budget() -> Duration {
    Duration::from_secs(recovery_testkit::seconds(1))
}

/// Every byte gets one of its bits flipped (all eight when time allows): nothing under a checksum goes unnoticed, the
/// report names the place, at most one block is lost, nothing is invented.
#[test]
fn one_flipped_bit_costs_one_block_at_most() {
    let cx = Context::with_threads(1);
    for table in tables() {
        let (started, mut tried) = (Instant::now(), 0);
        let bits = table.data.len() * 8;
        // A stride that is odd visits every bit once, bytes far apart first.
        let stride = 8 * 1021 + 3;
        let mut bit = 5;
        while tried < bits && started.elapsed() < budget() {
            bit = (bit + stride) % bits;
            tried += 1;
            flip(&table, bit, &cx);
        }
        println!("{}: {tried} of {bits} bits flipped", table.name);
    }
}

fn flip(table: &Table, bit: usize, cx: &Context) {
    let (name, place) = (&table.name, bit / 8);
    let mut data = table.data.clone();
    data[place] ^= 1 << (bit % 8);
    let check = check(&data, cx);
    if table.covered[place] {
        assert!(!check.is_good(), "{name}: bit {bit} at {place:#x} went unnoticed");
        let named = check.damages.iter().any(|d| d.range.contains(&(place as u64)));
        assert!(named, "{name}: no finding covers bit {bit} at {place:#x}: {:?}", check.damages);
    }
    let checksums = table.covered.iter().filter(|c| **c).count() > table.data.len() / 2;
    // A dictionary that is gone takes every block that needs it along.
    let dictionary = check.damages.iter().any(|d| d.what == "compression dictionary");
    if !checksums || dictionary || check.unsupported.is_some() {
        return;
    }
    let left = left(&check, &data);
    for (range, entries) in &table.blocks {
        let kept = entries.iter().filter(|e| left.contains(*e)).count();
        let hit = range.contains(&(place as u64));
        assert!(hit || kept == entries.len(), "{name}: bit {bit} at {place:#x} costs the block at {range:?}");
    }
    let all: BTreeSet<&Entry> = table.blocks.iter().flat_map(|(_, entries)| entries).collect();
    assert!(left.iter().all(|e| all.contains(e)), "{name}: bit {bit} at {place:#x}: an entry was invented");
}

/// Every length the file can be cut to, while time allows: whole blocks before the cut are kept.
#[test]
fn a_cut_costs_what_lies_behind_it() {
    let cx = Context::with_threads(1);
    for table in tables() {
        let (started, mut tried) = (Instant::now(), 0);
        let all = table.data.len();
        let mut length = 0;
        while tried < all && started.elapsed() < budget() {
            length = (length + 1021) % all;
            tried += 1;
            let data = &table.data[..length];
            let check = check(data, &cx);
            assert!(!check.is_good(), "{}: cut to {length} went unnoticed", table.name);
            let whole = table.blocks.iter().filter(|(range, _)| range.end <= length as u64);
            let want: Vec<&Entry> = whole.flat_map(|(_, entries)| entries).collect();
            // A context needs two blocks to be found again, so one block alone may stay unreadable.
            let contexts = table.name.starts_with("v6");
            let dictionary = table.name.starts_with("dictionary");
            let enough =
                table.blocks.iter().filter(|(r, _)| r.end <= length as u64).count() >= if contexts { 2 } else { 1 };
            let checksums = !table.name.contains("nochecksum");
            if enough && checksums && !dictionary {
                let left = left(&check, data);
                let missing = want.iter().filter(|e| !left.contains(**e)).count();
                assert_eq!(missing, 0, "{}: cut to {length} loses {missing} of {}", table.name, want.len());
            }
        }
        println!("{}: {tried} of {all} lengths", table.name);
    }
}

/// A zeroed or unreadable sector costs the blocks it touches.
#[test]
fn a_lost_sector_costs_the_blocks_it_touches() {
    let cx = Context::with_threads(1);
    for table in tables() {
        if table.name.contains("nochecksum") {
            continue;
        }
        let started = Instant::now();
        for start in (0..table.data.len()).step_by(512) {
            if started.elapsed() > budget() {
                break;
            }
            let end = (start + 512).min(table.data.len());
            let mut data = table.data.clone();
            data[start..end].fill(0);
            if data == table.data {
                continue;
            }
            let check = check(&data, &cx);
            let touched = |r: &std::ops::Range<u64>| r.start < end as u64 && (start as u64) < r.end;
            assert!(!check.is_good(), "{}: sector {start:#x} went unnoticed", table.name);
            // A dictionary that is gone takes every block that needs it along.
            if table.name.starts_with("dictionary") {
                continue;
            }
            let left = left(&check, &data);
            for (range, entries) in table.blocks.iter().filter(|(r, _)| !touched(r)) {
                let kept = entries.iter().filter(|e| left.contains(*e)).count();
                assert_eq!(kept, entries.len(), "{}: sector {start:#x} costs the block at {range:?}", table.name);
            }
        }
    }
}

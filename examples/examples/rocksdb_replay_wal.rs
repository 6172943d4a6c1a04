//! A write-ahead log replayed into a structure of one's own, past damage: what `ldb dump_wal` shows, as data.
//!
//! `cargo run --release --example rocksdb_replay_wal -- NUMBER.log`
//!
//! run: fixtures/rocksdb/unflushed_families/db/000008.log
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;

use recovery_core::FileBlob;
use recovery_rocksdb::format::file_name::FileName;
use recovery_rocksdb::format::write_batch::{DataKind, Record};
use recovery_rocksdb::reader::wal;

/// The newest value of each key of each family; `None` where it was deleted.
#[derive(Default)]
struct Tables(BTreeMap<u32, BTreeMap<Vec<u8>, Option<Vec<u8>>>>);

impl Tables {
    fn apply(&mut self, kind: DataKind, family: u32, key: &[u8], value: &[u8]) {
        let rows = self.0.entry(family).or_default();
        match kind {
            DataKind::Deletion | DataKind::SingleDeletion => drop(rows.insert(key.to_vec(), None)),
            DataKind::RangeDeletion => {
                // For a range deletion the value is the end.
                rows.range_mut(key.to_vec()..value.to_vec().max(key.to_vec())).for_each(|(_, v)| *v = None);
            }
            // A real program would keep operands apart; here the last one stands for the value.
            _ => drop(rows.insert(key.to_vec(), Some(value.to_vec()))),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("rocksdb_replay_wal NUMBER.log")?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let number = FileName::parse(name).number.ok_or("the name of a log holds its number")?;
    let blob = FileBlob::open(path.as_ref(), path.clone())?;
    let mut tables = Tables::default();
    let summary = wal::scan(&blob, number, 64 << 20, |batch| {
        for record in batch.batch.records() {
            if let Record::Data { kind, family, key, value } = record? {
                tables.apply(kind, family, key, value);
            }
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    println!("{} batches, {} writes, ends {}", summary.records, summary.entries, summary.end_word());
    for damage in &summary.damage {
        println!("damaged {:#x}..{:#x}: {}", damage.at, damage.end, damage.why.phrase());
    }
    for (family, rows) in &tables.0 {
        let live = rows.values().flatten().count();
        println!("family {family}: {live} rows, {} deleted", rows.len() - live);
    }
    Ok(())
}

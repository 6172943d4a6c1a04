//! Every entry of a table, each block checked before it is used: what `sst_dump --command=scan` does.
//!
//! `cargo run --release --example rocksdb_scan_table -- FILE.sst`
//!
//! run: fixtures/rocksdb/tables/v5_range_deletions.sst
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use recovery_core::FileBlob;
use recovery_rocksdb::format::ParsedKey;
use recovery_rocksdb::reader::{TableOptions, TableReader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("rocksdb_scan_table FILE.sst")?;
    let blob = Arc::new(FileBlob::open(path.as_ref(), path.clone())?);
    let table = TableReader::open(blob, TableOptions::default())?;
    let p = table.properties();
    println!("family {:?}, comparator {:?}, {:?} entries", p.family_name, p.comparator, p.num_entries);
    for t in table.tombstones()? {
        println!("{:?}..{:?} @{} deleted", t.start.escape_ascii(), t.end.escape_ascii(), t.sequence);
    }
    let (mut entries, mut bytes) = (0_u64, 0_usize);
    let mut scan = table.scan()?;
    while scan.advance()? {
        let key = ParsedKey::parse(scan.key()).ok_or("not an internal key")?;
        if entries < 5 {
            println!(
                "{} @{} {}: {} bytes",
                key.user_key.escape_ascii(),
                key.sequence,
                key.value_type.name(),
                scan.value().len()
            );
        }
        entries += 1;
        bytes += scan.value().len();
    }
    println!("{entries} entries, {bytes} bytes of values");
    Ok(())
}

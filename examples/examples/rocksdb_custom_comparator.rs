//! A database with a comparator of the application's own, repaired after its MANIFEST was lost: the library is told the
//! order, where `ldb repair` has no way to.
//!
//! `cargo run --release --example rocksdb_custom_comparator -- NEWDIR`
//!
//! run: NEW
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::cmp::Ordering;
use std::sync::Arc;

use recovery_core::{Context, DirTarget, MemSource, Recover, Sources};
use recovery_rocksdb::RocksDb;
use recovery_rocksdb::format::{InternalKey, KeyOrder, SequenceNumber, TableProperties, ValueType};
use recovery_rocksdb::writer::{TableWriter, WriterOptions};
use serde_json::Value;

const NAME: &str = "com.example.ByLength";

/// Shorter keys first.
fn by_length(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A table of the broken database: `n` keys from `first` on, written at `sequence`.
fn table(order: &KeyOrder, first: u64, n: u64, sequence: u64) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut properties = TableProperties::default();
    properties.family_id = Some(0);
    properties.family_name = Some("default".to_owned());
    properties.comparator = Some(NAME.to_owned());
    let options = WriterOptions { order: order.clone(), properties, ..WriterOptions::default() };
    let mut out = Vec::new();
    let mut writer = TableWriter::new(&mut out, options);
    for n in first..first + n {
        let key = InternalKey::new(n.to_string().as_bytes(), SequenceNumber(sequence + n), ValueType::Value);
        writer.add(key.as_bytes(), format!("value {n}").as_bytes())?;
    }
    writer.finish()?;
    Ok(out)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let into = std::env::args().nth(1).ok_or("rocksdb_custom_comparator NEWDIR")?;
    // From here on databases that name this comparator are read and repaired in its order.
    let engine = RocksDb::with_comparator(NAME, 0, by_length);
    let order = KeyOrder::by_name(NAME).ok_or("just registered")?;
    // Two tables whose keys and sequence numbers overlap, and nothing else: without the order nobody could place them.
    let mut broken = MemSource::default();
    broken.insert("000007.sst", table(&order, 0, 600, 1000)?);
    broken.insert("000009.sst", table(&order, 500, 600, 900)?);
    let sources = Sources::one(Arc::new(broken));
    let cx = Context::with_threads(2);
    let report = engine.inspect(&sources, &Value::Null, &cx)?;
    println!("{}: {} findings", report.verdict.as_str(), report.findings.len());
    let plan = engine.plan(&sources, &report, &Value::Null, &cx)?;
    let receipt = engine.apply(&sources, &plan, &DirTarget::new(&into)?, &cx)?;
    println!("{into}: {} files", receipt.files.len());
    Ok(())
}

//! Inspects a directory with one engine's library and prints the verdict and every finding: the same answer as
//! `recover inspect DIR`, and what to build a health check on.
//!
//! run: fixtures/rocksdb/demo
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use recovery_core::{Context, DirSource, Recover, Sources};
use recovery_rocksdb::RocksDb;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a directory")?;
    let sources = Sources::one(Arc::new(DirSource::open(path)?));
    let report = RocksDb.inspect(&sources, &serde_json::Value::Null, &Context::default())?;
    println!("{}: {} of {} bytes verified", report.verdict.as_str(), report.coverage.verified, report.coverage.bytes);
    for finding in &report.findings {
        println!("{} {:?} {}: {}", finding.code, finding.severity, finding.object, finding.summary);
    }
    Ok(())
}

//! A database verified in the background, with progress and a way to stop: for a service that checks its own files at
//! night. `sst_dump --command=verify` does the tables of this.
//!
//! `cargo run --release --example rocksdb_verify_job -- DB`
//!
//! run: fixtures/rocksdb/leveled/db
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recovery_core::{Context, DirSource, Progress, Recover, Sources};
use recovery_rocksdb::RocksDb;

/// What the job has done so far; the service's own status page would show it.
#[derive(Debug, Default)]
struct Status {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Status {
    fn begin(&self, _: &str, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("rocksdb_verify_job DB")?;
    let sources = Sources::one(Arc::new(DirSource::open(&path)?));
    let status = Arc::new(Status::default());
    let mut cx = Context::with_threads(2);
    cx.progress = status.clone();
    // Setting this, from a signal or a shutdown, ends the job at its next step with `Error::Interrupted`.
    let cancel = Arc::clone(&cx.cancel);
    let job = std::thread::spawn(move || RocksDb.inspect(&sources, &serde_json::Value::Null, &cx));
    while !job.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        println!("{} of {} bytes", status.done.load(Ordering::Relaxed), status.total.load(Ordering::Relaxed));
        if std::env::var_os("STOP").is_some() {
            cancel.store(true, Ordering::Relaxed);
        }
    }
    let report = job.join().map_err(|_| "the job panicked")??;
    println!("{}: {} findings", report.verdict.as_str(), report.findings.len());
    for finding in &report.findings {
        println!("  {} {}: {}", finding.code, finding.object, finding.summary);
    }
    Ok(())
}

//! Lists the snapshots of a StarRocks repository, with what a RESTORE would make of each table. Only names, definitions
//! and headers are read.
//!
//! `cargo run --example starrocks_list_snapshots -- REPO`, REPO a directory or `s3://bucket/path` (credentials from the
//! usual environment).
//!
//! run: fixtures/starrocks/repos/v3_tree
#![allow(clippy::print_stdout, reason = "a program for the command line")]

use recovery_core::cli::{OpenOptions, open};
use recovery_core::{Check, Context, Recover as _, Sources};
use recovery_starrocks::STARROCKS;
use recovery_starrocks::inspect::Inspection;
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1).ok_or("usage: REPO")?;
    let how = OpenOptions { env: |name| std::env::var(name).ok(), ..OpenOptions::default() };
    let sources = Sources::one(open(&STARROCKS, &place, &how)?);
    let mut cx = Context::default();
    cx.check = Check::Structure;
    let report = STARROCKS.inspect(&sources, &Value::Null, &cx)?;
    let inspection = report.state::<Inspection>().ok_or("not a StarRocks repository")?;
    println!("repository {}", inspection.loaded.name());
    for snapshot in &inspection.snapshots {
        println!("{} {} of database {}", snapshot.label, snapshot.timestamp, snapshot.database);
        for problem in &snapshot.problems {
            println!("  RESTORE fails: {problem}");
        }
        for table in &snapshot.tables {
            let state = if snapshot.restorable(table) { "restorable" } else { "not restorable as it lies" };
            println!(
                "  {}: {} tablets, {} rows, {} bytes, {state}",
                table.name, table.tablets, table.rows, table.bytes
            );
        }
    }
    Ok(())
}

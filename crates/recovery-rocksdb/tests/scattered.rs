//! Databases of which only one directory was given: what lies elsewhere is neither lost nor passed over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use common::case;
use recovery_core::{Context, Error, MemSource, Recover, Sources, Verdict};
use recovery_rocksdb::RocksDb;
use serde_json::Value;

fn inspect(db: MemSource) -> Result<Verdict, Error> {
    RocksDb.inspect(&Sources::one(Arc::new(db)), &Value::Null, &Context::with_threads(1)).map(|r| r.verdict)
}

/// Says in the LOG, as the database does at every open, where its files are.
fn log_line(db: &mut MemSource, line: &str) {
    let mut text = db.remove("LOG").expect("a LOG").to_vec();
    text.extend_from_slice(format!("2026/11/21-22:40:31.451522 139892204329856 {line}\n").as_bytes());
    db.insert("LOG", text);
}

fn drop_files(db: &mut MemSource, suffix: &str) {
    let names: Vec<String> = db.files().keys().filter(|n| n.ends_with(suffix)).cloned().collect();
    assert!(!names.is_empty(), "no {suffix}");
    for name in names {
        db.remove(&name);
    }
}

fn refusal(db: MemSource) -> String {
    match inspect(db) {
        Err(e @ Error::Unsupported { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn logs_in_another_directory_are_named() {
    let mut db = case("unflushed_families");
    log_line(&mut db, "Write Ahead Log file in /fast/wal: 000004.log size: 0 ; ");
    inspect(db.clone()).expect("all its logs are here, wherever they were");
    drop_files(&mut db, ".log");
    assert!(refusal(db).contains("/fast/wal"));
}

#[test]
fn logs_that_are_gone_are_a_loss() {
    let mut db = case("unflushed_families");
    drop_files(&mut db, ".log");
    assert_eq!(inspect(db).unwrap(), Verdict::Lossy);
}

#[test]
fn tables_in_another_directory_are_named() {
    let mut db = case("leveled");
    log_line(&mut db, "SST files in /slow/db dir, Total Num: 1, files: 000009.sst ");
    inspect(db.clone()).expect("all its tables are here, wherever they were");
    let table = db.files().keys().find(|n| n.ends_with(".sst")).cloned().unwrap();
    db.remove(&table);
    assert!(refusal(db).contains("/slow/db"));
}

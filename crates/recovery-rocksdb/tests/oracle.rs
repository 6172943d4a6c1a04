//! The real program, where it is installed (Debian's `rocksdb-tools`): it makes a database, loses its MANIFEST, and
//! reads what the rescue gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use recovery_core::{DirSource, DirTarget, Recover, Sources};
use recovery_rocksdb::RocksDb;
use serde_json::Value;

fn ldb(db: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("ldb");
    command.arg(format!("--db={}", db.display())).args(args);
    let out = match command.output() {
        Ok(out) => out,
        Err(_) => {
            println!("skipped: ldb is not installed");
            return None;
        }
    };
    assert!(out.status.success(), "ldb {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Writes through the real program in several sessions, so that there are tables and a WAL.
fn make(db: &Path) -> Option<String> {
    for session in 0..4 {
        let mut args = vec!["--create_if_missing".to_owned(), "batchput".to_owned()];
        for i in 0..200 {
            args.push(format!("key{:04}", (i * 7 + session * 31) % 500));
            args.push(format!("value {session} {i}"));
        }
        ldb(db, &args.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    ldb(db, &["delete", "key0007"])?;
    ldb(db, &["scan"])
}

fn remove(db: &Path, prefix: &str) {
    for entry in std::fs::read_dir(db).unwrap().filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn the_real_program_reads_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let Some(want) = make(&db) else { return };
    for (n, lose) in
        [&["MANIFEST-"][..], &["CURRENT"], &["MANIFEST-", "CURRENT", "LOG", "OPTIONS", "IDENTITY"]].iter().enumerate()
    {
        lose.iter().for_each(|prefix| remove(&db, prefix));
        let sources = Sources::one(Arc::new(DirSource::open(&db).unwrap()));
        let cx = common::context();
        let report = RocksDb.inspect(&sources, &Value::Null, &cx).unwrap();
        let plan = RocksDb.plan(&sources, &report, &Value::Null, &cx).unwrap();
        let into = dir.path().join(format!("rescued{n}"));
        RocksDb.apply(&sources, &plan, &DirTarget::new(&into).unwrap(), &cx).unwrap();
        assert_eq!(ldb(&into, &["scan"]).unwrap(), want, "after losing {lose:?}");
    }
}

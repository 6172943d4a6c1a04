//! A crash at any operation of a rescue leaves nothing or a whole result, and the same plan finishes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use recovery_core::{DirSource, Recover, Sources};
use recovery_rocksdb::RocksDb;
use serde_json::Value;

#[test]
fn every_prefix_of_a_rebuild_can_be_finished() {
    let mut db = common::case("ingested");
    let manifest = common::named(&db, "MANIFEST-");
    db.remove(&manifest);
    let dir = tempfile::tempdir().unwrap();
    recovery_testkit::store(&db, dir.path());
    let sources = Sources::one(Arc::new(DirSource::open(dir.path()).unwrap()));
    let cx = common::context();
    let report = RocksDb.inspect(&sources, &Value::Null, &cx).unwrap();
    let plan = RocksDb.plan(&sources, &report, &Value::Null, &cx).unwrap();
    recovery_testkit::crash::sweep(&RocksDb, &sources, &plan, 40);
}

//! A rescue that is cut off at any moment leaves nothing or a whole result, and the same command finishes it.
#![allow(clippy::unwrap_used, missing_docs)]

mod pg_common;

use std::sync::Arc;

use recovery_core::{Context, Recover, Sources};
use recovery_polardb::PolarDb;
use serde_json::json;

#[test]
fn every_moment_of_a_rescue() {
    let mut small = pg_common::case("pg_small");
    // Few files, so that most moments can be tried.
    let names: Vec<String> = small
        .files()
        .keys()
        .filter(|n| n.starts_with("base/") || n.ends_with("_fsm") || n.ends_with("_vm"))
        .cloned()
        .collect();
    for name in names.iter().skip(1) {
        small.remove(name);
    }
    let sources = Sources::one(Arc::new(small));
    let cx = Context::with_threads(1);
    let options = json!({"vanilla": true});
    let report = PolarDb.inspect(&sources, &options, &cx).unwrap();
    let plan = PolarDb.plan(&sources, &report, &options, &cx).unwrap();
    recovery_testkit::crash::sweep(&PolarDb, &sources, &plan, 8);
}

//! A rescue that is killed at any operation leaves nothing or the whole result, and the next run finishes it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;

use recovery_core::{Context, Recover, Sources};
use recovery_moosefs::MooseFs;
use serde_json::Value;

#[test]
fn every_crash_leaves_nothing_or_all() {
    for case in ["v4_real_lock_wait_stops_replay", "v16_base_cut"] {
        let folder = recovery_testkit::fixtures("moosefs").join(case).join("in");
        let sources = Sources::one(Arc::new(recovery_testkit::load(&folder)));
        let cx = Context::with_threads(1);
        let report = MooseFs.inspect(&sources, &Value::Null, &cx).unwrap();
        let plan = MooseFs.plan(&sources, &report, &Value::Null, &cx).unwrap();
        recovery_testkit::crash::sweep(&MooseFs, &sources, &plan, 40);
    }
}

//! A rescue that is cut off at any moment leaves nothing or a whole, and goes on when it is called again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::{healthy, sources};
use recovery_core::{Context, Recover as _};
use recovery_starrocks::STARROCKS;
use serde_json::Value;

#[test]
fn a_cut_off_rescue_is_nothing_or_whole() {
    let mut source = healthy("v2");
    let info = source.files().keys().find(|n| n.contains("__ss_ss_models/__info_")).unwrap().clone();
    source.remove(&info);
    let sources = sources(source);
    let cx = Context::with_threads(1);
    let report = STARROCKS.inspect(&sources, &Value::Null, &cx).unwrap();
    let plan = STARROCKS.plan(&sources, &report, &Value::Null, &cx).unwrap();
    recovery_testkit::crash::sweep(&STARROCKS, &sources, &plan, 40);
}

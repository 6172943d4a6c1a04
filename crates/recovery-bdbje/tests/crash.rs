#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
//! The work cut off at every operation.

mod common;

use common::{case_of, fixtures, source};
use recovery_bdbje::engine::Engine;
use recovery_core::{Context, Recover, Sources};
use serde_json::Value;

fn sweep(kind: &str, name: &str, most: usize) {
    let case = case_of(&fixtures(), kind, name);
    let sources = Sources::one(source(&case.files));
    let cx = Context::with_threads(1);
    let report = Engine.inspect(&sources, &Value::Null, &cx).unwrap();
    let plan = Engine.plan(&sources, &report, &Value::Null, &cx).unwrap();
    recovery_testkit::crash::sweep(&Engine, &sources, &plan, most);
}

#[test]
fn an_appended_reset_appears_whole_or_not_at_all() {
    sweep("envs", "v18_single", 12);
}

#[test]
fn a_new_environment_appears_whole_or_not_at_all() {
    sweep("damaged", "single__flip_mid_ln", 12);
}

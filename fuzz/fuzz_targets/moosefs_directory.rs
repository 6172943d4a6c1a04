//! A whole data directory: a base and two logs, inspected and planned.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use recovery_core::{Context, MemSource, Recover, Sources};
use recovery_moosefs::MooseFs;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let parts: Vec<&[u8]> = data.splitn(3, |&b| b == 0xFE).collect();
    let names = ["metadata.mfs.back", "changelog.0.mfs", "changelog_ml.0.mfs"];
    let files = names.iter().zip(parts).map(|(n, b)| ((*n).to_owned(), b.to_vec()));
    let sources = Sources::one(Arc::new(MemSource::new(files)));
    let cx = Context::with_threads(1);
    if let Ok(report) = MooseFs.inspect(&sources, &Value::Null, &cx) {
        let _ = MooseFs.plan(&sources, &report, &Value::Null, &cx);
    }
});

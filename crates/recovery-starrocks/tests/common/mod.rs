//! What the tests share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Context, MemSource, Recover as _, Report, Source, Sources};
use recovery_starrocks::STARROCKS;
use serde_json::Value;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/starrocks")
}

/// The larger collection beside the project, if it is there.
pub fn shared() -> Option<PathBuf> {
    recovery_testkit::shared("starrocks")
}

pub fn unpack(path: &Path) -> MemSource {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    let mut source = MemSource::default();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().unwrap().to_str().unwrap().trim_start_matches("./").to_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        source.insert(name, data);
    }
    source
}

pub fn healthy(version: &str) -> MemSource {
    unpack(&fixtures().join(format!("repos/{version}_healthy.tar.zst")))
}

pub fn json(name: &str) -> Value {
    let path = fixtures().join("repos").join(name);
    let file = std::fs::File::open(path).unwrap();
    if name.ends_with(".zst") {
        serde_json::from_reader(zstd::Decoder::new(file).unwrap()).unwrap()
    } else {
        serde_json::from_reader(file).unwrap()
    }
}

pub fn sources(source: MemSource) -> Sources {
    Sources::one(Arc::new(source) as Arc<dyn Source>)
}

pub fn inspect(source: &MemSource) -> Report {
    inspect_with(source, &Context::with_threads(2))
}

pub fn inspect_with(source: &MemSource, cx: &Context) -> Report {
    STARROCKS.inspect(&sources(source.clone()), &Value::Null, cx).unwrap()
}

/// Every snapshot's tables as `label.table: restorable`.
pub fn restorable(report: &Report) -> Vec<(String, bool)> {
    let mut out = Vec::new();
    for s in report.facts["snapshots"].as_array().unwrap() {
        for t in s["tables"].as_array().unwrap() {
            let name = format!("{}.{}", s["label"].as_str().unwrap(), t["name"].as_str().unwrap());
            out.push((name, t["restorable"].as_bool().unwrap()));
        }
    }
    out
}

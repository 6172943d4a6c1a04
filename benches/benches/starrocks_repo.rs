//! Verification of a repository: one pass of MD5, page CRC and footers over every file, and the definitions alone.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::{Check, Context, MemSource, Recover as _, Source, Sources};
use recovery_starrocks::STARROCKS;
use serde_json::Value;

fn repository() -> MemSource {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/starrocks/repos/v3_healthy.tar.zst");
    let mut archive = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap());
    let mut source = MemSource::default();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().trim_start_matches("./").to_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        if entry.header().entry_type().is_file() {
            source.insert(name, data);
        }
    }
    source
}

/// The repository with many copies of its segments, so that bytes weigh more than definitions.
fn large() -> (MemSource, u64) {
    let mut source = repository();
    let segments: Vec<_> =
        source.files().iter().filter(|(n, _)| n.contains(".dat.")).map(|(n, b)| (n.clone(), b.clone())).collect();
    for copy in 0..400 {
        for (name, bytes) in &segments {
            let (dir, file) = name.rsplit_once('/').unwrap();
            source.insert(format!("{dir}/{copy:04}{file}"), bytes.clone());
        }
    }
    let bytes = source.files().values().map(|b| b.len() as u64).sum();
    (source, bytes)
}

fn verify(c: &mut Criterion) {
    let (source, bytes) = large();
    let sources = Sources::one(Arc::new(source) as Arc<dyn Source>);
    let mut group = c.benchmark_group("starrocks_repo");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    for threads in [1, 2] {
        let cx = Context::with_threads(threads);
        group.bench_function(format!("inspect_full_{threads}_threads"), |b| {
            b.iter(|| black_box(STARROCKS.inspect(&sources, &Value::Null, &cx).unwrap()));
        });
    }
    group.finish();
    let sources = Sources::one(Arc::new(repository()) as Arc<dyn Source>);
    let mut cx = Context::with_threads(1);
    cx.check = Check::Structure;
    c.bench_function("starrocks_repo/definitions", |b| {
        b.iter(|| black_box(STARROCKS.inspect(&sources, &Value::Null, &cx).unwrap()));
    });
}

criterion_group!(benches, verify);
criterion_main!(benches);

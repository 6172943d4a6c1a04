//! Tables: verification of every block, a scan of every entry, and the walk without an index.
#![allow(missing_docs, clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::{Blob, Context, MemBlob};
use recovery_rocksdb::format::Compression;
use recovery_rocksdb::format::key::{InternalKey, SequenceNumber, ValueType};
use recovery_rocksdb::reader::{TableOptions, TableReader};
use recovery_rocksdb::salvage::{Depth, Salvaged, check_table};
use recovery_rocksdb::writer::{TableWriter, WriterOptions};

/// A table of 100-byte values, half of each compressible.
fn table(compression: Compression) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = TableWriter::new(&mut bytes, WriterOptions { compression, ..WriterOptions::default() });
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..200_000_u64 {
        let mut value = vec![b'v'; 100];
        for byte in value.iter_mut().take(50) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        let key = InternalKey::new(format!("{n:016}").as_bytes(), SequenceNumber(n), ValueType::Value);
        writer.add(key.as_bytes(), &value).expect("memory");
    }
    writer.finish().expect("memory");
    bytes
}

fn tables(c: &mut Criterion) {
    let cx = Context::default();
    for compression in [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let bytes = table(compression);
        let mut group = c.benchmark_group(format!("rocksdb_sst/{}", compression.name()));
        group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(20);
        let cut = bytes.get(..bytes.len().saturating_sub(53)).unwrap_or_default().to_vec();
        let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("000001.sst", bytes));
        let cut: Arc<dyn Blob> = Arc::new(MemBlob::new("000001.sst", cut));
        group.bench_function("verify", |b| {
            b.iter(|| {
                check_table(&blob, &TableOptions::default(), None, Depth::Checksums, &cx).expect("not cancelled")
            });
        });
        group.bench_function("scan", |b| {
            b.iter(|| {
                let table = TableReader::open(Arc::clone(&blob), TableOptions::default()).expect("a good table");
                let mut scan = table.scan().expect("a good index");
                while scan.advance().expect("good blocks") {
                    black_box(scan.key());
                }
            });
        });
        group.bench_function("walk without index", |b| {
            b.iter(|| Salvaged::run(&cut, &TableOptions::default(), None, &cx).expect("good blocks").entries());
        });
        group.finish();
    }
}

criterion_group!(benches, tables);
criterion_main!(benches);

//! WAL replay: framing, checksums and write batches of a log as an application with 100-byte values writes it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::MemBlob;
use recovery_rocksdb::format::log_frame::FrameWriter;
use recovery_rocksdb::format::write_batch::{BatchBuilder, DataKind, Record};
use recovery_rocksdb::reader::{manifest, wal};

const SIZE: usize = 32 << 20;

fn log(values: usize) -> Vec<u8> {
    let (mut out, mut writer) = (Vec::with_capacity(SIZE + 4096), FrameWriter::default());
    let value = vec![b'v'; values];
    let mut sequence = 1u64;
    while out.len() < SIZE {
        let mut batch = BatchBuilder::new(sequence);
        let key = format!("key{sequence:013}");
        batch.push(&Record::Data { kind: DataKind::Value, family: 0, key: key.as_bytes(), value: &value });
        writer.record(&batch.finish(), &mut out);
        sequence += 1;
    }
    out
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("rocksdb/wal");
    for values in [100, 4000] {
        let bytes = log(values);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let blob = MemBlob::new("000004.log", bytes);
        group.bench_function(format!("replay, {values}-byte values"), |b| {
            b.iter(|| {
                let mut keys = 0u64;
                let Ok(summary) = wal::scan(&blob, 4, 1 << 30, |batch| {
                    keys += u64::from(batch.batch.count);
                    Ok::<(), Infallible>(())
                });
                black_box((summary.entries, keys))
            });
        });
    }
    group.finish();
}

fn version_edits(c: &mut Criterion) {
    use recovery_rocksdb::format::version_edit::{Field, NewFile, VersionEdit};
    let (mut out, mut writer) = (Vec::new(), FrameWriter::default());
    for number in 0..20_000u64 {
        let key = |n: u64| [format!("key{n:013}").as_bytes(), &(n << 8 | 1).to_le_bytes()].concat();
        let file = NewFile {
            tag: 103,
            level: 6,
            number,
            size: 1 << 26,
            smallest: key(number),
            largest: key(number + 1),
            ..NewFile::default()
        };
        writer.record(&VersionEdit { fields: vec![Field::NewFile(file)] }.encode(), &mut out);
    }
    let mut group = c.benchmark_group("rocksdb/manifest");
    group.throughput(Throughput::Elements(20_000));
    let blob = MemBlob::new("MANIFEST-000005", out);
    group.bench_function("replay, tables", |b| {
        b.iter(|| black_box(manifest::read(&blob, 5, 1 << 20).version.files().count()));
    });
    group.finish();
}

criterion_group!(benches, replay, version_edits);
criterion_main!(benches);

//! Log scanning and record listing of JE environments.
//!
//! The environment is written by the library: `RECOVER_JE_RECORDS` records (default 100,000) of about 1.2 KiB, or it is
//! the directory named by `RECOVER_JE_DIR`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_bdbje::format::database::DatabaseImpl;
use recovery_bdbje::format::group::{GroupRecord, NodeRecord, NodeType};
use recovery_bdbje::model::{Environment, Role, env::last_checkpoint};
use recovery_bdbje::reader::scan::ScanOptions;
use recovery_bdbje::reader::{Log, scan_log};
use recovery_bdbje::writer::scratch::{Scratch, ScratchWriter};
use recovery_core::{Context, DirSource, MemSource, Source};

fn written(records: u64) -> Arc<dyn Source> {
    let group =
        GroupRecord { name: "G".into(), uuid: [1, 2], format: 3, change: 1, sequence: 1, min_je: Some("6.0.1".into()) };
    let node = NodeRecord {
        name: "n".into(),
        id: 1,
        format: 3,
        kind: NodeType::Electable,
        quorum_ack: true,
        removed: false,
        host: "127.0.0.1".into(),
        port: 9010,
        cbvlsn: -1,
        barrier_time: 0,
        change: 1,
        je_version: Some("18.3.20".into()),
    };
    let scratch = Scratch { version: 17, now: 0, first_vlsn: 1, group, node, file_max: 10_000_000 };
    let mut w = ScratchWriter::begin(&scratch);
    w.database("1", &DatabaseImpl::new(-258, Some(b"1"), 4, 17));
    let mut data = vec![0u8; 1200];
    for i in 1..=records {
        data.iter_mut().zip(i.to_le_bytes()).for_each(|(to, from)| *to = from);
        w.record(&(i | 1 << 63).to_be_bytes(), &data);
    }
    let files = w.finish().0.into_iter().enumerate().map(|(i, f)| (format!("{i:08x}.jdb"), f));
    Arc::new(MemSource::new(files))
}

fn source() -> Arc<dyn Source> {
    match std::env::var_os("RECOVER_JE_DIR") {
        Some(dir) => Arc::new(DirSource::open(PathBuf::from(dir)).unwrap()),
        None => {
            let n = std::env::var("RECOVER_JE_RECORDS").ok().and_then(|n| n.parse().ok());
            written(n.unwrap_or(100_000))
        }
    }
}

fn benches(c: &mut Criterion) {
    let source = source();
    let cx = Context::default();
    let log = Log::open(source.as_ref(), "");
    let mut group = c.benchmark_group("bdbje");
    group.throughput(Throughput::Bytes(log.bytes())).sample_size(10);
    group.bench_function("scan, every checksum", |b| {
        b.iter(|| black_box(scan_log(&log, ScanOptions::default(), &cx).unwrap().all().last_commit));
    });
    group.bench_function("list all live records", |b| {
        b.iter(|| {
            let (ckpt, tree) = last_checkpoint(&log);
            let env = Environment::open(log.clone(), ckpt, tree, Role::Standalone, &cx).unwrap();
            let mut n = 0usize;
            for db in env.databases.values() {
                let mut sink = |batch: recovery_bdbje::model::Batch| {
                    n += batch.records.len();
                    Ok(())
                };
                env.records(db, &cx, &mut sink, &mut Vec::new()).unwrap();
            }
            black_box(n)
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);

//! A cluster's log and pages: what `pg_waldump --stats` and `pg_checksums --check` do on the same data.
//!
//! `RECOVER_PG_DATA` names a data directory of PostgreSQL 15 to measure on (give the real programs the same one); without
//! it a log and pages are made in memory, 64 MiB of each.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, clippy::indexing_slicing)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::{Context, DirSource, MemSource, Source};
use recovery_polardb::format::pg::wal_page::{CONTRECORD, LONG, LongPart, PageHeader};
use recovery_polardb::format::pg::{Lsn, SegmentSize, page, wal_record};
use recovery_polardb::reader::pg::pages::{PageRules, relations, verify};
use recovery_polardb::reader::pg::wal::{Expect, WalDir};
use recovery_polardb::reader::pg::wal_scan::{ScanOptions, scan};
use recovery_polardb::reader::pg::{Cluster, find_clusters};

const SEGMENT: u64 = 64 << 20;

/// One full segment of records: many small ones, some with the size of a page image.
fn made_log() -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(SEGMENT as usize);
    let head = |at: u64, rem: u32| {
        let long =
            (at == 0).then_some(LongPart { system_identifier: 7, segment_size: SEGMENT as u32, block_size: 8192 });
        let info = if long.is_some() { LONG } else { 0 } | if rem > 0 { CONTRECORD } else { 0 };
        PageHeader { magic: 0xD110, info, tli: 1, address: Lsn(SEGMENT + at), rem_len: rem, long }.encode()
    };
    let mut prev = Lsn(0x100);
    for i in 0u32.. {
        let size = if i.is_multiple_of(20) { 7000 } else { 60 + (i % 90) as usize };
        if out.len() + size + 9000 > SEGMENT as usize {
            break;
        }
        if out.len().is_multiple_of(8192) {
            out.extend(head(out.len() as u64, 0));
        }
        let r = wal_record::build(10, 0, i, prev, &vec![i as u8; size]);
        prev = Lsn(SEGMENT + out.len() as u64);
        let mut rest = &r[..];
        loop {
            let room = 8192 - out.len() % 8192;
            let (now, later) = rest.split_at(room.min(rest.len()));
            out.extend_from_slice(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
            out.extend(head(out.len() as u64, rest.len() as u32));
        }
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out.resize(SEGMENT as usize, 0);
    out
}

fn made_pages() -> Vec<u8> {
    let mut out = Vec::with_capacity(64 << 20);
    let mut page = [0u8; 8192];
    for block in 0..8192u32 {
        for (i, b) in page.iter_mut().enumerate() {
            *b = (i as u32).wrapping_mul(block | 1) as u8 | 1;
        }
        let sum = page::checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&page);
    }
    out
}

fn cluster() -> (Cluster, Option<u64>) {
    if let Some(path) = std::env::var_os("RECOVER_PG_DATA").map(PathBuf::from) {
        let source: Arc<dyn Source> = Arc::new(DirSource::open(path).unwrap());
        return (find_clusters(&source).unwrap().remove(0), None);
    }
    let source: Arc<dyn Source> =
        Arc::new(MemSource::new([("pg_wal/000000010000000000000001", made_log()), ("base/5/16384", made_pages())]));
    (Cluster { source, root: String::new() }, Some(SEGMENT))
}

fn log(c: &mut Criterion) {
    let (cluster, made) = cluster();
    let control = cluster.control().trusted().map(|d| d.control.clone());
    let size =
        made.map_or_else(|| control.as_ref().unwrap().segment_size().unwrap(), |s| SegmentSize::new(s as u32).unwrap());
    let wal = WalDir::open(Arc::clone(&cluster.source), "pg_wal", size, Expect::default()).unwrap();
    let start = wal.segments.keys().next().map(|(_, n)| size.start(*n)).unwrap();
    let tli = wal.segments.keys().next().unwrap().0;
    let options = ScanOptions { tli, start, until: Lsn(u64::MAX), heal: false, asked: None };
    let mut group = c.benchmark_group("polardb wal");
    group.sample_size(10);
    for threads in [1, 2] {
        let cx = Context::with_threads(threads);
        let found = scan(&wal, &options, &cx).unwrap();
        group.throughput(Throughput::Bytes(found.end.0 - start.0));
        group.bench_function(format!("scan, {threads} threads"), |b| {
            b.iter(|| black_box(scan(&wal, &options, &cx).unwrap().summary.records));
        });
    }
}

fn pages(c: &mut Criterion) {
    let (cluster, _) = cluster();
    let files = relations(&cluster).unwrap().files;
    let rules = PageRules { checksums: true, relseg_size: 131_072, wal_end: None };
    let mut group = c.benchmark_group("polardb pages");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(files.iter().map(|f| f.entry.size).sum()));
    for threads in [1, 2] {
        let cx = Context::with_threads(threads);
        group.bench_function(format!("verify, {threads} threads"), |b| {
            b.iter(|| black_box(verify(&cluster.source, &files, rules, &cx).unwrap().bad));
        });
    }
}

criterion_group!(benches, log, pages);
criterion_main!(benches);

//! PFS disks: opening and listing, replay of a long journal, extraction.
//!
//! `RECOVER_PFS_JOURNAL` sets the bytes of the journal that is replayed (64 MiB unless set; the engine's own is 1 GiB),
//! `RECOVER_PFS_DATA` the bytes of the files that are extracted (256 MiB unless set), `RECOVER_PFS_DIR` the folder of
//! the image and the result (best a memory file system, so that the disk is not measured).
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::{Blob, Context, DirTarget, FileSource, MemBlob, Source, Sources};
use recovery_polardb::PfsSource;
use recovery_polardb::extract::{self, ExtractOptions, Unhashed};
use recovery_polardb::format::pfs::{ENTRY_LEN, Entry, Kind, LEADER_AT, Leader, ROOT_INO};
use recovery_polardb::reader::pfs::{OpenOptions, Pfs};
use recovery_polardb::writer::pfs::{ImageOptions, ImageSink, ImageWriter, Placement};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn folder() -> PathBuf {
    std::env::var_os("RECOVER_PFS_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Bytes that do not repeat.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn image(path: &Path, options: ImageOptions, files: u64, size: u64) {
    let _ = std::fs::remove_file(path);
    let sink = std::fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let mut writer = ImageWriter::new(sink, options).unwrap();
    writer.directory("base", 1).unwrap();
    for i in 0..files {
        let data = noise(size as usize, i + 1);
        writer.file(&format!("base/{i}"), 1, &MemBlob::new("f", data)).unwrap();
    }
    writer.finish().unwrap();
}

fn blob(path: &Path) -> Arc<dyn Blob> {
    FileSource::new(path).open_name(path.file_name().unwrap().to_str().unwrap()).unwrap().unwrap()
}

fn open_and_list(c: &mut Criterion) {
    let path = folder().join("recover-bench-list.img");
    let placement = Placement::Journal { slot: 0, lsn: 1, txid: 1, per_transaction: 4 };
    image(&path, ImageOptions { placement, ..ImageOptions::default() }, 1000, 100);
    let (blob, cx) = (blob(&path), Context::default());
    c.bench_function("pfs/open and list 1000 files", |b| {
        b.iter(|| {
            let pfs = Pfs::open(Arc::clone(&blob), OpenOptions::default(), &cx).unwrap();
            pfs.files.walk(ROOT_INO).count()
        });
    });
    std::fs::remove_file(path).unwrap();
}

/// Fills the whole ring with transactions of four entries over a thousand objects.
fn replay(c: &mut Criterion) {
    let size = setting("RECOVER_PFS_JOURNAL", 64 << 20);
    let path = folder().join("recover-bench-replay.img");
    image(&path, ImageOptions { log_size: size, ..ImageOptions::default() }, 900, 100);
    let cx = Context::default();
    let pfs = Pfs::open(blob(&path), OpenOptions::default(), &cx).unwrap();
    let objects: Vec<_> =
        Kind::ALL.iter().flat_map(|k| pfs.metadata.table(*k).used.values()).map(|h| h.object).collect();
    let objects: Vec<_> = objects.into_iter().filter(|o| o.number() > 2).collect();
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    let live = size / ENTRY_LEN as u64 - 4;
    for first in (0..live).step_by(16384) {
        let mut buf = Vec::new();
        for i in first..live.min(first + 16384) {
            let object = objects[i as usize % objects.len()];
            buf.extend_from_slice(&Entry { object, lsn: i + 1, txid: i / 4 + 1, more: i % 4 != 3 }.encode());
        }
        ImageSink::write_at(&mut file, pfs.ring.address(first).unwrap(), &buf).unwrap();
    }
    let leader = Leader {
        head_txid: live / 4,
        head_lsn: live,
        head_offset: live * ENTRY_LEN as u64,
        ..*pfs.leader.record().unwrap()
    };
    ImageSink::write_at(&mut file, LEADER_AT, &leader.encode()).unwrap();
    let blob = blob(&path);
    let mut group = c.benchmark_group("pfs/replay");
    group.throughput(Throughput::Bytes(size)).sample_size(10);
    group.bench_function("a full journal", |b| {
        b.iter(|| {
            let pfs = Pfs::open(Arc::clone(&blob), OpenOptions::default(), &cx).unwrap();
            assert_eq!(pfs.replayed.entries, live);
        });
    });
    group.bench_function("reading it only", |b| {
        let start = pfs.ring.address(0).unwrap();
        b.iter(|| read_all(blob.as_ref(), start, start + size));
    });
    group.finish();
    std::fs::remove_file(path).unwrap();
}

fn read_all(blob: &dyn Blob, mut at: u64, end: u64) {
    let mut buf = vec![0; 1 << 20];
    while at < end {
        blob.read_exact_at(at, &mut buf).unwrap();
        at += 1 << 20;
    }
}

fn extraction(c: &mut Criterion) {
    let bytes = setting("RECOVER_PFS_DATA", 256 << 20);
    let (files, size) = (bytes / (16 << 20), 16 << 20);
    let path = folder().join("recover-bench-extract.img");
    image(&path, ImageOptions::default(), files, size);
    let cx = Context::default();
    let sources = Sources::one(Arc::new(FileSource::new(&path)));
    let source = PfsSource::open(blob(&path), &cx).unwrap();
    let mut group = c.benchmark_group("pfs/extract");
    group.throughput(Throughput::Bytes(files * size)).sample_size(10);
    let out = folder().join("recover-bench-out");
    let mut run = |name: &str, hashed: bool| {
        group.bench_function(name, |b| {
            b.iter_with_setup(
                || drop(std::fs::remove_dir_all(&out)),
                |()| {
                    let plan = extract::plan(&sources, &source, &ExtractOptions::default()).unwrap();
                    let target = DirTarget::new(&out).unwrap();
                    if hashed {
                        extract::run(&sources, &source, plan, &target, None, &cx).unwrap();
                    } else {
                        extract::run(&sources, &source, plan, &Unhashed::new(target), None, &cx).unwrap();
                    }
                },
            );
        });
    };
    run("with sums", true);
    run("without sums", false);
    let device = blob(&path);
    group.bench_function("reading the same bytes only", |b| {
        b.iter(|| read_all(device.as_ref(), 1 << 26, (1 << 26) + files * size));
    });
    group.finish();
    let _ = std::fs::remove_dir_all(&out);
    std::fs::remove_file(path).unwrap();
}

criterion_group!(benches, open_and_list, replay, extraction);
criterion_main!(benches);

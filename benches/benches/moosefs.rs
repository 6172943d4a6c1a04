//! MooseFS: parsing of change lines, load and store of a metadata file, replay of long logs.
//!
//! `RECOVER_MFS_FILES` sets the files of the generated filesystem (200,000 unless set; the figures in the README are
//! taken with 3,000,000), `RECOVER_MFS_LINES` the mixed changes on top of it. With `RECOVER_MFS_DIR` the generated
//! data is also written there, as data directories: `a/` a new filesystem and its log, `b/` the metadata file that log
//! leads to and the mixed log, for a run of the real program beside ours.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use recovery_core::{Blob, Context, Limits, MemBlob};
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::model::store::StoreOptions;
use recovery_moosefs::run::{Job, Log, build};
use recovery_moosefs::{Dialect, changelog};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }
}

#[derive(Clone)]
struct File {
    inode: u64,
    dir: u64,
    name: String,
    chunk: u64,
    gone: bool,
}

/// Writes logs that 3.x and 4.x accept.
struct Generator {
    log: String,
    id: u64,
    ts: u64,
    inode: u64,
    chunk: u64,
    dirs: Vec<u64>,
    files: Vec<File>,
    numbers: Numbers,
}

impl Generator {
    fn line(&mut self, text: &str) {
        self.id += 1;
        writeln!(self.log, "{}: {}|{text}", self.id, self.ts).unwrap();
    }

    fn new_filesystem(files: u64) -> Self {
        let mut g = Self {
            log: String::new(),
            id: 0,
            ts: 1_700_000_000,
            inode: 1,
            chunk: 0,
            dirs: vec![1],
            files: Vec::new(),
            numbers: Numbers(1),
        };
        g.line("SETMETAID(7710753367642177442)");
        for i in 0..(files / 100).max(10) {
            g.inode += 1;
            let below = if i > 50 { g.dirs.len() as u64 } else { 1 };
            let dir = g.dirs[g.numbers.next(below) as usize];
            let inode = g.inode;
            g.line(&format!("CREATE({dir},dir_{i:06},2,493,18,{},{},0):{inode}", 1000 + i % 50, 100 + i % 10));
            g.dirs.push(inode);
        }
        for i in 0..files {
            g.ts += u64::from(i % 1000 == 0);
            g.inode += 1;
            let (inode, dir) = (g.inode, g.dirs[(i * 7919 % g.dirs.len() as u64) as usize]);
            let name = format!("file_{i:08}.dat");
            g.line(&format!("CREATE({dir},{name},1,420,18,{},{},0):{inode}", 1000 + i % 50, 100 + i % 10));
            let mut chunk = 0;
            if i % 5 < 2 {
                g.chunk += 1;
                chunk = g.chunk;
                g.line(&format!("WRITE({inode},0,1,1):{chunk}"));
                let length = 1 + g.numbers.next(60_000_000);
                g.line(&format!("LENGTH({inode},{length},0)"));
                g.line(&format!("UNLOCK({chunk})"));
            }
            g.files.push(File { inode, dir, name, chunk, gone: false });
        }
        g
    }

    fn mixed(&mut self, lines: u64) {
        let end = self.id + lines;
        let mut k = 0u64;
        while self.id < end {
            k += 1;
            self.ts += u64::from(k.is_multiple_of(500));
            let at = self.numbers.next(self.files.len() as u64) as usize;
            let f = self.files[at].clone();
            if f.gone {
                continue;
            }
            let (i, ts) = (f.inode, self.ts);
            match self.numbers.next(100) {
                0..45 => {
                    let mode = [384, 420, 436, 493][self.numbers.next(4) as usize];
                    let (u, g) = (self.numbers.next(2000), self.numbers.next(500));
                    self.line(&format!("ATTR({i},{mode},{u},{g},{ts},{},0,0)", ts - 5));
                }
                45..60 => {
                    let dir = self.dirs[self.numbers.next(self.dirs.len() as u64) as usize];
                    let name = format!("mv_{k:08}");
                    self.line(&format!("MOVE({},{},{dir},{name}):{i}", f.dir, f.name));
                    (self.files[at].dir, self.files[at].name) = (dir, name);
                }
                60..68 if f.chunk != 0 => {
                    self.line(&format!("UNLINK({},{}):{i}", f.dir, f.name));
                    self.files[at].gone = true;
                }
                68..88 if f.chunk != 0 => {
                    self.line(&format!("WRITE({i},0,1,1):{}", f.chunk));
                    self.line(&format!("UNLOCK({})", f.chunk));
                }
                88..93 => self.line(&format!("SETXATTR({i},user.k{},v{k}%2C%00%FF,0)", k % 17)),
                93..97 => self.line(&format!("ACCESS({i})")),
                _ => {
                    self.inode += 1;
                    let (inode, name) = (self.inode, format!("new_{k:08}"));
                    self.line(&format!("CREATE({},{name},1,420,18,1,1,0):{inode}", f.dir));
                    self.files.push(File { inode, dir: f.dir, name, chunk: 0, gone: false });
                }
            }
        }
    }
}

fn context(threads: usize) -> Context {
    Context::with_limits(Limits { memory: 64 << 30, threads, ..Limits::default() })
}

fn job(base: Option<&Arc<dyn Blob>>, log: &Arc<dyn Blob>, dialect: Dialect) -> Job {
    let logs = vec![Log { blob: Arc::clone(log), skip: Vec::new(), use_rest: false }];
    Job {
        base: base.cloned(),
        logs,
        dialect,
        until: u64::MAX,
        salvage: false,
        checksums: false,
        past_gaps: false,
        witnesses: Vec::new(),
    }
}

fn blob(name: &str, bytes: Vec<u8>) -> Arc<dyn Blob> {
    Arc::new(MemBlob::new(name, bytes))
}

fn benches(c: &mut Criterion) {
    let mut g = Generator::new_filesystem(setting("RECOVER_MFS_FILES", 200_000));
    let first = std::mem::take(&mut g.log);
    let lines = g.id;
    g.mixed(setting("RECOVER_MFS_LINES", 150_000));
    let (second, mixed) = (std::mem::take(&mut g.log), g.id - lines);
    let a = blob("changelog.0.mfs", first.clone().into_bytes());
    let b = blob("changelog.0.mfs", second.clone().into_bytes());
    for dialect in [Dialect::V3, Dialect::V4] {
        let built = build(&job(None, &a, dialect), &context(2)).unwrap();
        let mut bytes = Vec::new();
        built.model.store(&mut bytes, StoreOptions { now: 1_800_000_000 }).unwrap();
        if let Some(dir) = std::env::var_os("RECOVER_MFS_DIR").map(|d| PathBuf::from(d).join(dialect.name())) {
            for (sub, base, log) in [("a", b"MFSM NEW".to_vec(), &first), ("b", bytes.clone(), &second)] {
                std::fs::create_dir_all(dir.join(sub)).unwrap();
                std::fs::write(dir.join(sub).join("metadata.mfs.back"), base).unwrap();
                std::fs::write(dir.join(sub).join("changelog.0.mfs"), log).unwrap();
            }
        }
        let base = blob("metadata.mfs", bytes);
        let mut group = c.benchmark_group(format!("moosefs {}.x", dialect.name()));
        group.sample_size(10);
        for threads in [1, 2] {
            let cx = context(threads);
            group.throughput(Throughput::Bytes(base.len()));
            group.bench_function(format!("load and store, {threads} threads"), |bench| {
                let options = LoadOptions { salvage: false, dialect: Some(dialect), checksums: false };
                bench.iter(|| {
                    cx.pool().install(|| {
                        let loaded = load(base.as_ref(), &options).unwrap();
                        loaded.model.store(&mut std::io::sink(), StoreOptions { now: 1_800_000_000 }).unwrap()
                    })
                });
            });
            group.throughput(Throughput::Elements(mixed));
            group.bench_function(format!("replay mixed lines on a base, {threads} threads"), |bench| {
                let run = || build(&job(Some(&base), &b, dialect), &cx).unwrap();
                bench.iter_batched(|| (), |()| run(), BatchSize::PerIteration);
            });
            group.throughput(Throughput::Elements(lines));
            group.bench_function(format!("replay from a new filesystem, {threads} threads"), |bench| {
                let run = || build(&job(None, &a, dialect), &cx).unwrap();
                bench.iter_batched(|| (), |()| run(), BatchSize::PerIteration);
            });
        }
        group.finish();
    }
    let mut group = c.benchmark_group("moosefs parser");
    group.throughput(Throughput::Elements(mixed));
    group.bench_function("mixed lines", |bench| {
        bench.iter(|| second.lines().filter(|l| changelog::parse(l.as_bytes()).is_ok()).count());
    });
    group.finish();
}

criterion_group!(moosefs, benches);
criterion_main!(moosefs);

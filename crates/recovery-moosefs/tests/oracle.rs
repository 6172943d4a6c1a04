//! Random valid logs, replayed by us and by the real program of Debian (3.0.117, package `moosefs-master`), compared
//! byte for byte; and what we write, taken by the real program as it is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use recovery_core::MemBlob;
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::model::store::StoreOptions;
use recovery_moosefs::{Dialect, Model, Replayer, changelog};

const PROGRAM: &str = "/usr/sbin/mfsmaster";

fn present() -> bool {
    let there = Path::new(PROGRAM).exists();
    if !there {
        println!("skipped: {PROGRAM} (Debian package moosefs-master) is not installed");
    }
    there
}

/// Runs `mfsmaster restore` over a directory; the metadata it leaves, or its words.
fn restore(dir: &Path) -> Result<Vec<u8>, String> {
    let user = std::process::Command::new("id")
        .arg("-un")
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let user = user.unwrap_or_else(|_| "root".into());
    let cfg = dir.join("mfsmaster.cfg");
    let exports = dir.join("mfsexports.cfg");
    std::fs::write(&exports, "* / rw\n").unwrap();
    let text = format!(
        "DATA_PATH={}\nWORKING_USER={user}\nWORKING_GROUP={user}\nEXPORTS_FILENAME={}\nLOCK_MEMORY=0\n",
        dir.join("data").display(),
        exports.display()
    );
    std::fs::write(&cfg, text).unwrap();
    let out = Command::new(PROGRAM).args(["-c", cfg.to_str().unwrap(), "restore"]).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    if !out.status.success() {
        return Err(words);
    }
    std::fs::read(dir.join("data/metadata.mfs")).map_err(|e| format!("{e}: {words}"))
}

/// Keeps just enough of a filesystem to write valid lines.
#[derive(Default)]
struct Writer {
    log: String,
    id: u64,
    ts: u32,
    inode: u32,
    chunk: u64,
    dirs: Vec<u32>,
    /// Inode, directory, name, chunk, whether it is open by session 1.
    files: Vec<(u32, u32, String, u64, bool)>,
    trash: Vec<u32>,
    names: u32,
    /// Directory, name and inode of snapshots.
    copies: Vec<(u32, String, u32)>,
}

/// Highest inode after all lines so far: how many nodes a snapshot makes, only replay can tell.
fn highest_inode(log: &str) -> u32 {
    let bytes = ours(log);
    let at = bytes.windows(8).position(|w| w == b"NODE 1.4").unwrap() + 16;
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Writer {
    fn new() -> Self {
        let mut w = Self { id: 0, ts: 1_700_000_000, inode: 1, dirs: vec![1], ..Self::default() };
        w.line("SETMETAID(7710753672121694945)");
        w.line("SESADD(#12731907408925802024,1,8,0000,0,0,999,999,1,9,0,4294967295,0x00000000,184438017,/mnt/a%2Cb):1");
        w
    }

    fn line(&mut self, text: &str) {
        self.id += 1;
        let (id, ts) = (self.id, self.ts);
        writeln!(self.log, "{id}: {ts}|{text}").unwrap();
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n%2C{}%25", self.names)
    }

    /// A copy of a tree or file, into the root or over an earlier copy.
    ///
    /// With one group: of each group in the list form `[5,6]`, 3.0.117 drops the first digit when it replays.
    fn snapshot(&mut self, a: u32, b: u32) {
        let tree = a.is_multiple_of(2) || self.files.is_empty();
        let source = match tree {
            true if self.dirs.len() < 2 => return,
            true => self.dirs[1 + a as usize / 2 % (self.dirs.len() - 1)],
            false => self.files[a as usize % self.files.len()].0,
        };
        let (uid, mode) = (if b.is_multiple_of(4) { 1000 } else { 0 }, (b >> 2) & 0b1010);
        let again = self.copies.iter().find(|c| c.2 == source).cloned();
        if let Some((p, n, _)) = again {
            self.line(&format!("SNAPSHOT({source},{p},{n},{},0,{uid},7,18)", mode | 1));
        } else {
            let n = self.name();
            self.line(&format!("SNAPSHOT({source},1,{n},{mode},0,{uid},7,18)"));
            if uid == 0 {
                // another user may be unable to read it, and then no copy is made
                self.copies.push((1, n, source));
            }
        }
        self.inode = highest_inode(&self.log);
        // chunks are shared now, and a write would copy them
        self.files.retain(|f| f.3 == 0);
    }

    fn step(&mut self, op: u8, a: u32, b: u32) {
        self.ts += u32::from(b.is_multiple_of(7));
        let ts = self.ts;
        let dir = self.dirs[a as usize % self.dirs.len()];
        let at = if self.files.is_empty() { None } else { Some(b as usize % self.files.len()) };
        match (op % 28, at) {
            (0..=3, _) => {
                self.inode += 1;
                let (n, i) = (self.name(), self.inode);
                self.line(&format!("CREATE({dir},{n},1,{},18,{},{},0):{i}", a & 0o7777, a % 3, b % 3));
                self.files.push((i, dir, n, 0, false));
            }
            (4, _) => {
                self.inode += 1;
                let (n, i) = (self.name(), self.inode);
                self.line(&format!("CREATE({dir},{n},2,493,18,0,0,0):{i}"));
                self.dirs.push(i);
            }
            (5, _) => {
                self.inode += 1;
                let (n, i) = (self.name(), self.inode);
                self.line(&format!("SYMLINK({dir},{n},../a%28b%29,1,2):{i}"));
            }
            (6 | 7, Some(f)) => {
                let (i, _, _, c, _) = self.files[f];
                let chunk = if c == 0 {
                    self.chunk += 1;
                    self.chunk
                } else {
                    c
                };
                self.files[f].3 = chunk;
                self.line(&format!("WRITE({i},0,{},{}):{chunk}", a % 2, b % 2));
                self.line(&format!("LENGTH({i},{},{})", 1 + a % 67_108_864, b % 2));
                self.line(&format!("UNLOCK({chunk})"));
            }
            (8, Some(f)) => {
                let i = self.files[f].0;
                self.line(&format!("ATTR({i},{},{},{},{ts},{ts},{})", a & 0o7777, a % 5, b % 5, a & 0o7777 | 0o10000));
            }
            (9, Some(f)) => {
                let n = self.name();
                let (i, p, old, _, _) = self.files[f].clone();
                self.line(&format!("MOVE({p},{old},{dir},{n}):{i}"));
                (self.files[f].1, self.files[f].2) = (dir, n);
            }
            (10 | 11, Some(f)) => {
                let (i, p, n, _, _) = self.files.swap_remove(f);
                self.line(&format!("UNLINK({p},{n}):{i}"));
                self.trash.push(i);
            }
            (12, Some(f)) => {
                let i = self.files[f].0;
                self.line(&format!("SETXATTR({i},user.k{},v{a}%00%FF,0)", b % 4));
            }
            (13, Some(f)) => {
                let i = self.files[f].0;
                self.line(&format!("AMTIME({i},{a},{b},{ts})"));
            }
            (14, Some(f)) if !self.files[f].4 => {
                self.files[f].4 = true;
                let i = self.files[f].0;
                self.line(&format!("ACQUIRE(1,{i})"));
            }
            (15, Some(f)) if self.files[f].4 => {
                self.files[f].4 = false;
                let i = self.files[f].0;
                self.line(&format!("FLOCK({i},1,{a},W)"));
                self.line(&format!("POSIXLOCK({i},1,{a},R,0,{},7)", 10 + u64::from(b)));
                // the master writes these before the file is closed
                self.line(&format!("FLOCK({i},1,{a},U)"));
                self.line(&format!("POSIXLOCK({i},1,{a},U,0,{},7)", 10 + u64::from(b)));
                self.line(&format!("RELEASE(1,{i})"));
            }
            (16, Some(f)) => {
                let (i, _, _, c, _) = self.files[f];
                let other = self.files.iter().find(|o| o.0 != i && o.3 != 0).map(|o| o.0);
                if let (0, Some(o)) = (c, other) {
                    // after this both share a chunk: writing to either would copy it, so this one is left alone
                    self.line(&format!("APPEND({i},{o})"));
                    let keep: Vec<_> = self.files.iter().filter(|x| x.0 != i && x.0 != o).cloned().collect();
                    self.files = keep;
                }
            }
            (17, _) if !self.trash.is_empty() => {
                let i = self.trash.swap_remove(b as usize % self.trash.len());
                match a % 3 {
                    0 => self.line(&format!("PURGE({i})")),
                    1 => {
                        let n = self.name();
                        self.line(&format!("SETPATH({i},{n}/deep/{n})"));
                        self.trash.push(i);
                    }
                    _ => {
                        let n = self.name();
                        self.line(&format!("SETPATH({i},{n}/up/{n})"));
                        self.line(&format!("UNDEL({i})"));
                        self.inode += 2;
                    }
                }
            }
            (18, Some(f)) => {
                let i = self.files[f].0;
                let v = 1 + a % 9;
                self.line(&format!("SETSCLASS({i},0,1,{v},0):{}", if v == 2 { "0,1,0" } else { "1,0,0" }));
                self.files.swap_remove(f);
            }
            (19, _) => self.line(&format!("QUOTA({dir},0,17,0,{a},{b},0,0,0,0,0,0,604800)")),
            (20, Some(f)) => {
                let i = self.files[f].0;
                self.line(&format!("SETACL({i},{},1,1,6,4,0,7,1,0,%00%00%00%{:02X}%00%06)", a & 0o777, b % 200));
            }
            (21, Some(f)) => {
                let (i, n) = (self.files[f].0, self.name());
                self.line(&format!("LINK({i},{dir},{n})"));
                // two names: unlinking one would not send it to the trash
                self.files.swap_remove(f);
            }
            (22, Some(f)) => {
                let i = self.files[f].0;
                self.line(&format!("ACCESS({i})"));
            }
            (23, _) => self.line(&format!("CSDBOP(0,{},{},0)", 1 + self.id, 1000 + b % 1000)),
            (24..=26, _) => self.snapshot(a, b),
            (27, _) if !self.copies.is_empty() => {
                let (p, n, _) = self.copies.swap_remove(b as usize % self.copies.len());
                let uid = if a.is_multiple_of(3) { 1000 } else { 0 };
                self.line(&format!("SNAPSHOT(0,{p},{n},{},0,{uid},7,18)", 0x80 | (a % 2) << 2));
            }
            _ => self.line("IDLE()"),
        }
    }
}

fn ours(log: &str) -> Vec<u8> {
    let mut r = Replayer::new(Model::new_filesystem(Dialect::V3));
    for line in log.lines() {
        r.apply(&changelog::parse(line.as_bytes()).unwrap()).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    let mut out = Vec::new();
    r.model.store(&mut out, StoreOptions { now: u32::MAX }).unwrap();
    out
}

/// Chunk locks depend on the clock of the run, and a new root has the time of the restore until a line touches it.
fn without_locks(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut p = bytes.windows(8).position(|w| w == b"CHNK 1.1").unwrap() + 24;
    while p + 17 <= out.len() {
        out[p + 12..p + 16].fill(0);
        p += 17;
    }
    let at = out.windows(6).position(|w| w == [2, 0, 0, 0, 1, 2]).unwrap() + 17;
    out[at..at + 12].fill(0);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_logs_give_the_same_bytes(ops in prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 20..400)) {
        if !present() {
            return Ok(());
        }
        let mut w = Writer::new();
        for (op, a, b) in ops {
            w.step(op, a, b);
        }
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("metadata.mfs"), b"MFSM NEW").unwrap();
        std::fs::write(data.join("changelog.0.mfs"), &w.log).unwrap();
        let theirs = match restore(dir.path()) {
            Ok(bytes) => bytes,
            Err(words) => panic!("the real program refuses: {words}\n{}", w.log),
        };
        let mine = ours(&w.log);
        prop_assert!(without_locks(&theirs) == without_locks(&mine), "{}", w.log);
        // what we write is taken as it is, and comes back the same
        let again = tempfile::tempdir().unwrap();
        let data = again.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("metadata.mfs"), &mine).unwrap();
        let back = restore(again.path()).unwrap();
        let options = LoadOptions { salvage: false, dialect: Some(Dialect::V3), checksums: false };
        let mut expected = Vec::new();
        load(&MemBlob::new("mine", mine), &options).unwrap().model.store(&mut expected, StoreOptions { now: u32::MAX }).unwrap();
        prop_assert!(without_locks(&back) == without_locks(&expected));
    }
}

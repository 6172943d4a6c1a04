#![allow(clippy::print_stdout)]
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub
)]
//! Recorded environments: small ones in the project, larger ones in the shared folder when it is there.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use recovery_bdbje::model::{Environment, Role};
use recovery_bdbje::reader::scan::ScanOptions;
use recovery_bdbje::reader::{Log, LogScan, scan_log};
use recovery_core::{Context, MemSource, Source};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub type Files = BTreeMap<String, Vec<u8>>;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/bdbje")
}

pub fn shared() -> Option<PathBuf> {
    let dir = match std::env::var_os("RECOVER_SHARED") {
        Some(d) => PathBuf::from(d).join("bdbje"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/bdbje"),
    };
    dir.join("envs").is_dir().then_some(dir)
}

/// A flat tar, compressed.
pub fn untar(path: &Path) -> Files {
    let packed = std::fs::read(path).unwrap();
    let mut tar = Vec::new();
    zstd::stream::read::Decoder::new(&packed[..]).unwrap().read_to_end(&mut tar).unwrap();
    let mut out = Files::new();
    let mut at = 0;
    while at + 512 <= tar.len() && tar[at] != 0 {
        let text = |r: std::ops::Range<usize>| {
            let b = &tar[at + r.start..at + r.end];
            String::from_utf8_lossy(&b[..b.iter().position(|x| *x == 0).unwrap_or(b.len())]).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        let name = text(0..100);
        let name = name.rsplit('/').next().unwrap().to_owned();
        if tar[at + 156] == b'0' || tar[at + 156] == 0 {
            out.insert(name, tar[at + 512..at + 512 + size].to_vec());
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    out
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// A file, or its compressed form.
pub fn read(path: &Path) -> Vec<u8> {
    if let Ok(b) = std::fs::read(path) {
        return b;
    }
    let packed = std::fs::read(format!("{}.zst", path.display())).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut out = Vec::new();
    zstd::stream::read::Decoder::new(&packed[..]).unwrap().read_to_end(&mut out).unwrap();
    out
}

fn hex(s: &str) -> Vec<u8> {
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
}

/// Applies a case's byte operations.
pub fn damage(files: &mut Files, spec: &Value) {
    for op in spec["ops"].as_array().unwrap() {
        let s = |k: &str| op[k].as_str().unwrap_or_default().to_owned();
        let n = |k: &str| op[k].as_u64().unwrap_or_default() as usize;
        match op["op"].as_str().unwrap() {
            "truncate" => files.get_mut(&s("file")).unwrap().resize(n("size"), 0),
            "append" => {
                let more = if op["zeros"].is_u64() { vec![0; n("zeros")] } else { hex(&s("hex")) };
                files.get_mut(&s("file")).unwrap().extend(more);
            }
            "write" => {
                let b = hex(&s("hex"));
                files.get_mut(&s("file")).unwrap()[n("offset")..][..b.len()].copy_from_slice(&b);
            }
            "zero" => files.get_mut(&s("file")).unwrap()[n("offset")..][..n("len")].fill(0),
            "xor" => files.get_mut(&s("file")).unwrap()[n("offset")] ^= n("mask") as u8,
            "delete" => drop(files.remove(&s("file"))),
            "create" => drop(files.insert(s("file"), hex(&s("hex")))),
            "rename" => {
                let b = files.remove(&s("from")).unwrap();
                files.insert(s("to"), b);
            }
            "copy" => {
                let b = files[&s("from")].clone();
                files.insert(s("to"), b);
            }
            other => panic!("{other}"),
        }
    }
}

/// One recorded case: its name, where its answers lie, its files.
pub struct Case {
    pub name: String,
    pub dir: PathBuf,
    pub files: Files,
}

pub fn case_of(root: &Path, kind: &str, name: &str) -> Case {
    let dir = root.join(kind).join(name);
    let files = match kind {
        "damaged" => {
            let spec = json(&dir.join("damage.json"));
            let base = spec["base"].as_str().unwrap();
            let mut files = untar(&root.join("envs").join(format!("{base}.tar.zst")));
            damage(&mut files, &spec);
            files
        }
        "written" => untar(&dir.join("out.tar.zst")),
        _ => untar(&root.join(kind).join(format!("{name}.tar.zst"))),
    };
    Case { name: name.to_owned(), dir, files }
}

/// All cases of a kind, from the shared folder when it is there, else those in the project.
pub fn cases(kind: &str) -> Vec<Case> {
    let root = shared().unwrap_or_else(|| {
        println!("no shared folder: only the project's own fixtures");
        fixtures()
    });
    let mut names: Vec<String> = std::fs::read_dir(root.join(kind))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.into_iter().map(|n| case_of(&root, kind, &n)).collect()
}

pub fn source(files: &Files) -> Arc<dyn Source> {
    let files = files.iter().map(|(n, b)| (n.clone(), Bytes::from(b.clone())));
    Arc::new(MemSource::new(files))
}

pub fn scanned(files: &Files, cx: &Context) -> (Log, LogScan) {
    let source = source(files);
    let log = Log::open(source.as_ref(), "");
    let scan = scan_log(&log, ScanOptions { decode: true, digests: false }, cx).unwrap();
    (log, scan)
}

/// The environment as JE would open it.
pub fn as_je(log: &Log, scan: &LogScan, cx: &Context) -> Environment {
    let end = scan.je_end().unwrap();
    let cut = log.cut(end);
    let t = recovery_bdbje::inspect::tally_to(scan, end);
    Environment::open(cut, t.ckpt_end, t.db_tree, Role::Standalone, cx).unwrap()
}

/// Number of records and their hash, as the recorded answers have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub records: u64,
    pub sha256: String,
}

#[derive(Default)]
pub struct Sum {
    n: u64,
    hash: Sha256,
}

impl Sum {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.n += 1;
        self.hash.update((key.len() as i32).to_be_bytes());
        self.hash.update((value.len() as i32).to_be_bytes());
        self.hash.update(key);
        self.hash.update(value);
    }

    pub fn finish(self) -> Summary {
        let sha256 = self.hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Summary { records: self.n, sha256 }
    }
}

/// Live records of every named database.
pub fn summaries(env: &Environment, cx: &Context) -> BTreeMap<String, Result<Summary, String>> {
    let mut out = BTreeMap::new();
    for (name, id) in &env.names {
        let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut problems = Vec::new();
        let Some(db) = env.databases.get(id) else {
            out.insert(name.clone(), Err("no description".to_owned()));
            continue;
        };
        let mut sink = |b: recovery_bdbje::model::Batch| {
            all.extend(b.records.iter().map(|r| (r.key.to_vec(), r.data.to_vec())));
            if let Some(p) = b.problems.first() {
                return Err(recovery_core::Error::Damaged(p.to_string()));
            }
            Ok(())
        };
        let done = env.records(db, cx, &mut sink, &mut problems).map_err(|e| e.to_string());
        let done = done.and_then(|()| problems.first().map_or(Ok(()), |p| Err(p.to_string())));
        all.sort();
        let mut sum = Sum::default();
        all.iter().for_each(|(k, v)| sum.add(k, v));
        out.insert(name.clone(), done.map(|()| sum.finish()));
    }
    out
}

/// The answers in a `live.jsonl`: summaries by name, names with errors, whether JE opened at all.
pub struct Live {
    pub dbs: BTreeMap<String, Summary>,
    pub errors: Vec<String>,
    pub opened: bool,
}

pub fn live(text: &[u8]) -> Live {
    let mut out = Live { dbs: BTreeMap::new(), errors: Vec::new(), opened: true };
    for line in String::from_utf8_lossy(text).lines().filter(|l| l.starts_with('{')) {
        let v: Value = serde_json::from_str(line).unwrap();
        if let Some(name) = v["db_summary"].as_str() {
            let s =
                Summary { records: v["records"].as_u64().unwrap(), sha256: v["sha256"].as_str().unwrap().to_owned() };
            out.dbs.insert(name.to_owned(), s);
        } else if let Some(name) = v["db_error"].as_str() {
            out.errors.push(name.to_owned());
        } else if v["open_error"].is_string() {
            out.opened = false;
        }
    }
    out
}

/// Whether a file is there, as it is or compressed.
pub fn exists(path: &Path) -> bool {
    path.exists() || Path::new(&format!("{}.zst", path.display())).exists()
}

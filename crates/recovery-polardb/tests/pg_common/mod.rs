//! What several test programs need.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use recovery_core::{DirSource, MemSource, Source};

/// Unpacks a `.tar.zst` (sparse files included) with the system's tar; says so where there is none.
pub fn unpack(archive: &Path, into: &Path) -> bool {
    let Ok(mut tar) = Command::new("tar").args(["-xSf", "-", "-C"]).arg(into).stdin(Stdio::piped()).spawn() else {
        println!("skipped: no tar on this machine");
        return false;
    };
    let file = std::fs::File::open(archive).unwrap();
    let mut decoder = zstd::Decoder::new(file).unwrap();
    decoder.window_log_max(31).unwrap();
    let mut stdin = tar.stdin.take().unwrap();
    std::io::copy(&mut decoder, &mut stdin).unwrap();
    drop(stdin);
    assert!(tar.wait().unwrap().success());
    true
}

/// The larger fixtures, which lie outside the repository.
pub fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let path = std::env::var_os("RECOVER_SHARED").map_or_else(beside, PathBuf::from).join("polardb");
    if !path.is_dir() {
        println!("skipped: {} is not there (set RECOVER_SHARED to the folder of larger fixtures)", path.display());
        return None;
    }
    Some(path)
}

/// The committed fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/polardb")
}

pub fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let plain =
        if path.extension().is_some_and(|e| e == "zst") { zstd::decode_all(&bytes[..]).unwrap() } else { bytes };
    String::from_utf8(plain).unwrap()
}

pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&text(path)).unwrap()
}

/// The data directory of the killed server, unpacked; nothing when the larger fixtures are not there.
pub fn crash1() -> Option<(tempfile::TempDir, PathBuf, PathBuf)> {
    let shared = shared()?.join("pg");
    let dir = tempfile::tempdir().unwrap();
    if !unpack(&shared.join("crash1.tar.zst"), dir.path()) {
        return None;
    }
    let data = dir.path().join("crash1");
    Some((dir, data, shared))
}

pub fn dir(path: &Path) -> Arc<dyn Source> {
    Arc::new(DirSource::open(path).unwrap())
}

/// A committed case: files named as in the directory, `.zst` ones unpacked.
pub fn case(name: &str) -> MemSource {
    let root = fixtures().join(name);
    let mut out = MemSource::default();
    let mut stack = vec![root.clone()];
    while let Some(dir) = stack.pop() {
        for e in std::fs::read_dir(&dir).unwrap() {
            let path = e.unwrap().path();
            if path.is_dir() {
                stack.push(path);
                continue;
            }
            let rel = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&path).unwrap();
            match rel.strip_suffix(".zst") {
                Some(plain) => out.insert(plain, zstd::decode_all(&bytes[..]).unwrap()),
                None => out.insert(rel, bytes),
            }
        }
    }
    out
}

pub fn say(line: &str) {
    println!("{line}");
}

//! The damage, crash and oracle harness that every engine plugs its fixtures into.
//!
//! An engine's `tests/damage.rs` builds a [`Harness`] from one of its fixtures and runs the sweeps; `tests/crash.rs`
//! gives a plan to [`crash::sweep`]; `tests/golden.rs` compares with recorded answers through [`golden`].
//!
//! What the sweeps assert is the same for every engine: no panic, an end within ten times the clean run, memory within
//! 64 MiB and four times the input, never `sound` when a byte changed that a checksum covers, and a finding whose place
//! covers the damage. Which bytes a checksum covers is taken from the engine's own report of the undamaged fixture, so
//! a reader that claims more than it checks fails.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test harness ends by panicking and says what it skipped"
)]

pub mod crash;
mod damage;
mod harness;
mod sweep;

use std::path::{Path, PathBuf};

use recovery_core::MemSource;

pub use damage::{Damage, FileFault, SectorFault};
pub use harness::{Harness, Items};
pub use peak_alloc::PeakAlloc;
pub use sweep::Sweep;

/// Root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The committed fixtures of an engine.
#[must_use]
pub fn fixtures(engine: &str) -> PathBuf {
    workspace().join("fixtures").join(engine)
}

/// The larger fixtures of an engine, which lie outside the repository: under `RECOVER_SHARED`, else beside the
/// workspace. Says that they are skipped when they are not there.
#[must_use]
pub fn shared(engine: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RECOVER_SHARED").map_or_else(|| workspace().join("../shared/fixtures"), PathBuf::from);
    let path = root.join(engine);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there (set RECOVER_SHARED to the folder of larger fixtures)", path.display());
    None
}

/// Whether the larger fixtures are to be used at all; sweeps look at their time budget instead.
#[must_use]
pub fn seconds(default: u64) -> u64 {
    std::env::var("RECOVER_SWEEP_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

/// The sub-folders of a folder, by name.
#[must_use]
pub fn cases(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let dirs = entries.filter_map(Result::ok).filter(|e| e.path().is_dir());
    let mut cases: Vec<_> = dirs.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect();
    cases.sort();
    cases
}

/// Reads a directory into memory, files by their path below it.
///
/// # Panics
///
/// When it cannot be read.
#[must_use]
pub fn load(folder: &Path) -> MemSource {
    fn walk(at: &Path, prefix: &str, into: &mut MemSource) {
        for entry in std::fs::read_dir(at).expect("fixture folder").filter_map(Result::ok) {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), into);
            } else {
                into.insert(name, std::fs::read(entry.path()).expect("fixture file"));
            }
        }
    }
    let mut source = MemSource::default();
    walk(folder, "", &mut source);
    source
}

/// Writes a memory source out as a directory.
///
/// # Panics
///
/// When it cannot be written.
pub fn store(source: &MemSource, folder: &Path) {
    for (name, data) in source.files() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("make folder");
        std::fs::write(path, data).expect("write file");
    }
}

/// Compares an answer with the recorded one; `RECOVER_RENEW=1` records it instead, for a person to read the diff.
///
/// # Panics
///
/// When they differ, showing the first differing line.
pub fn golden(recorded: &Path, answer: &str) {
    if std::env::var_os("RECOVER_RENEW").is_some() {
        std::fs::create_dir_all(recorded.parent().expect("a file has a folder")).expect("make folder");
        std::fs::write(recorded, answer).expect("record the answer");
        return;
    }
    let expected = std::fs::read_to_string(recorded).unwrap_or_default();
    if expected == answer {
        return;
    }
    let mut lines = (1..).zip(expected.lines().map(Some).chain(std::iter::repeat(None)).zip(answer.lines()));
    let first = lines.find(|(_, (e, a))| *e != Some(*a));
    panic!("{} differs from the recorded answer at {first:?}; RECOVER_RENEW=1 records anew", recorded.display());
}

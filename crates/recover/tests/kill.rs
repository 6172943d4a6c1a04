//! A rescue killed at any moment: nothing half-built is ever visible, and the same command finishes the work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Slow enough that the kills fall into every stage of a rescue.
const RATE: &str = "600K";
const KILLS: u64 = 12;

fn rescue(source: &Path, into: &Path, slow: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recover"));
    command.args(["rescue", "--copy", "--quiet"]).arg(source).arg("--into").arg(into);
    if slow {
        command.args(["--io-limit", RATE]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(source: &Path, into: &Path) -> i32 {
    let output = rescue(source, into, false).wait_with_output().unwrap();
    let code = output.status.code().unwrap();
    assert!(matches!(code, 0 | 3), "{}: {}", into.display(), String::from_utf8_lossy(&output.stderr));
    code
}

/// Every file of a result but the tool's own.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap().map(Result::unwrap) {
            if entry.file_name() == ".recover" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(dir).unwrap().to_owned();
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_killed_rescue_shows_nothing_and_resumes() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rocksdb/demo");
    let before = files(&source);
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let code = finish(&source, &whole);
    let expected = files(&whole);
    let mut cut = 0;
    for n in 0..KILLS {
        let into = dir.path().join(format!("killed-{n}"));
        let mut child = rescue(&source, &into, true);
        std::thread::sleep(Duration::from_millis(n * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        if into.exists() {
            assert_eq!(files(&into), expected, "what is visible is whole");
        } else {
            cut += 1;
        }
        assert_eq!(finish(&source, &into), code);
        assert_eq!(files(&into), expected);
        assert_eq!(finish(&source, &into), code, "a second run changes nothing");
        assert!(!dir.path().join(format!(".killed-{n}.recover-part")).exists());
        let verify = Command::new(env!("CARGO_BIN_EXE_recover")).arg("verify").arg(&into).output().unwrap();
        assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stdout));
    }
    assert!(cut > 0, "no kill fell into the work");
    assert_eq!(files(&source), before, "the source is untouched");
}

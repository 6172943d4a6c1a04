//! A mount point cannot be renamed over: the result is staged inside and its entries are moved in, the entry file last.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use recovery_core::{Context, DirSource, DirTarget, Error, Plan, Sources, Step, WriteStep, apply};

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().unwrap();
    }
}

#[test]
fn an_empty_file_system_is_filled_and_a_cut_off_run_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(from.join("data"), b"0123456789").unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&to).output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        println!("skipped: may not mount a file system here");
        return;
    }
    let _mounted = Mounted(&to);
    std::fs::create_dir(to.join("lost+found")).unwrap();
    let sources = Sources::one(Arc::new(DirSource::open(&from).unwrap()));
    let mut plan = Plan::new("example", serde_json::Value::Null, &sources);
    plan.steps = vec![
        Step::Link { source: 0, object: "data".into(), to: "sub/data".into(), size: 10 },
        Step::Write(WriteStep { to: "CURRENT".into(), what: "entry".into(), last: true, ..Default::default() }),
    ];
    plan.seal(&sources, &[]).unwrap();
    let cx = Context::default();
    let target = DirTarget::new(&to).unwrap();
    assert!(target.staging().starts_with(&to), "staged inside");
    let failed = apply::run(&sources, &plan, &target, &cx, &|_, _| Err(Error::Interrupted));
    assert!(failed.is_err());
    assert!(!to.join("CURRENT").exists() && !to.join("sub").exists(), "nothing is visible");
    let target = DirTarget::new(&to).unwrap();
    apply::run(&sources, &plan, &target, &cx, &|_, out| {
        out.write_all(b"x").map_err(|e| Error::write("CURRENT", "write", e))
    })
    .unwrap();
    assert_eq!(std::fs::read(to.join("sub/data")).unwrap(), b"0123456789");
    assert_eq!(std::fs::read(to.join("CURRENT")).unwrap(), b"x");
    assert!(!target.staging().exists());
    assert!(to.join(".recover/RECEIPT.json").is_file());
}

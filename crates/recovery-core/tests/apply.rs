//! Carrying out a plan: links, copies, made files, resume, refusals.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use recovery_core::{
    Context, DirSource, DirTarget, Error, How, Plan, Reason, Receipt, Source, Sources, Step, WriteStep, apply,
};

struct Case {
    dir: tempfile::TempDir,
    sources: Sources,
    plan: Plan,
}

fn case() -> Case {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("data"), b"never written in place").unwrap();
    std::fs::write(from.join("log"), b"0123456789").unwrap();
    let sources = Sources::one(Arc::new(DirSource::open(&from).unwrap()));
    let mut plan = Plan::new("example", serde_json::Value::Null, &sources);
    let (object, range) = ("log".to_owned(), Some((2, 5)));
    plan.steps = vec![
        Step::Mkdir { to: "sub/empty".into(), mode: None },
        Step::Link { source: 0, object: "data".into(), to: "sub/data".into(), size: 22 },
        Step::Copy { source: 0, object, to: "log".into(), size: 5, range, mode: Some(0o600), last: false },
        Step::Write(WriteStep {
            to: "CURRENT".into(),
            what: "entry".into(),
            size: 5,
            last: true,
            ..Default::default()
        }),
    ];
    plan.seal(&sources, &[]).unwrap();
    Case { dir, sources, plan }
}

fn run(case: &Case, to: &Path) -> Result<Receipt, Error> {
    let target = DirTarget::new(to)?;
    apply::run(&case.sources, &case.plan, &target, &Context::default(), &|step, out| {
        assert_eq!(step.what, "entry");
        out.hole(3).and_then(|()| out.write_all(b"ok")).map_err(|e| Error::write("CURRENT", "write", e))
    })
}

fn reason(result: Result<Receipt, Error>) -> Reason {
    match result.unwrap_err() {
        Error::Refusal(r) => r.reason,
        other => panic!("{other}"),
    }
}

#[test]
fn builds_the_result_and_a_second_run_does_nothing() {
    let case = case();
    let to = case.dir.path().join("to");
    let receipt = run(&case, &to).unwrap();
    assert_eq!(std::fs::read(to.join("CURRENT")).unwrap(), b"\0\0\0ok");
    assert_eq!(std::fs::read(to.join("log")).unwrap(), b"23456");
    assert_eq!(std::fs::metadata(to.join("log")).unwrap().mode() & 0o777, 0o600);
    assert!(to.join("sub/empty").is_dir());
    let linked = receipt.files.iter().find(|f| f.path == "sub/data").unwrap();
    assert_eq!(linked.how, How::Linked);
    let inode = |p: &Path| std::fs::metadata(p).unwrap().ino();
    assert_eq!(inode(&to.join("sub/data")), inode(&case.dir.path().join("from/data")));
    assert_eq!(run(&case, &to).unwrap(), receipt);

    let result: Arc<dyn Source> = Arc::new(DirSource::open(&to).unwrap());
    let cx = Context::default();
    assert_eq!(Receipt::load(result.as_ref()).unwrap().check(result.as_ref(), &cx).unwrap(), [""; 0]);
    std::fs::write(to.join("CURRENT"), b"\0\0\0no").unwrap();
    assert_eq!(receipt.check(result.as_ref(), &cx).unwrap().len(), 1);
}

#[test]
fn a_place_that_holds_something_is_refused() {
    let case = case();
    let to = case.dir.path().join("to");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), b"").unwrap();
    assert_eq!(reason(run(&case, &to)), Reason::TargetNotEmpty);
    assert_eq!(reason(run(&case, &to.join("mine"))), Reason::TargetNotEmpty);
    assert_eq!(std::fs::read_dir(case.dir.path()).unwrap().count(), 2, "nothing was left behind");
}

#[test]
fn a_changed_input_is_refused() {
    let case = case();
    std::fs::write(case.dir.path().join("from/log"), b"0123456788").unwrap();
    assert_eq!(reason(run(&case, &case.dir.path().join("to"))), Reason::InputChanged);
}

#[test]
fn a_failed_run_is_invisible_and_is_taken_up_again() {
    let case = case();
    let to = case.dir.path().join("to");
    let target = DirTarget::new(&to).unwrap();
    let failed = apply::run(&case.sources, &case.plan, &target, &Context::default(), &|_, _| {
        Err(Error::Internal("the power is gone".into()))
    });
    assert!(failed.is_err());
    assert!(!to.exists());
    let before = std::fs::metadata(target.staging().join("log")).unwrap().ino();
    run(&case, &to).unwrap();
    assert_eq!(std::fs::metadata(to.join("log")).unwrap().ino(), before, "finished steps are not done again");
    assert!(!target.staging().exists());
}

#[test]
fn another_plan_does_not_take_up_the_work() {
    let mut case = case();
    let to = case.dir.path().join("to");
    run(&case, &to).unwrap();
    case.plan.result = serde_json::json!("another");
    assert_eq!(reason(run(&case, &to)), Reason::TargetNotEmpty);
}

#[test]
fn a_plan_cannot_write_outside() {
    let mut case = case();
    for bad in ["../evil", "/etc/evil", "a/../../evil", ".recover/plan.json"] {
        case.plan.steps = vec![Step::Write(WriteStep { to: bad.into(), ..Default::default() })];
        let to = case.dir.path().join("to");
        assert!(matches!(run(&case, &to), Err(Error::Usage(_))), "{bad}");
        assert!(!to.exists());
    }
}

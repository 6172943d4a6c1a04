//! The harness itself must be able to fail: a small engine, honest and dishonest.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use recovery_core::{
    Class, CodeInfo, Context, Coverage, Error, Evidence, Finding, LossInfo, MemSource, Plan, Probe, Receipt, Recover,
    Report, ReportBuilder, Result, Severity, Source, Sources, Step, Target, WriteStep, apply, sha256,
};
use recovery_testkit::{Harness, crash};
use serde_json::Value;

const BAD_SUM: CodeInfo = CodeInfo { code: "TOY-0001", title: "the sum does not match", explanation: "…" };
const UNREAD: CodeInfo = CodeInfo { code: "TOY-0002", title: "cannot be read", explanation: "…" };

/// Files `NAME` whose SHA-256 stands in `NAME.sum`.
struct Toy {
    looks: bool,
    panics: bool,
}

impl Toy {
    fn file(&self, name: &str, source: &dyn Source, report: &mut ReportBuilder) {
        let Ok(Some(blob)) = source.open_name(name) else {
            report.finding(Finding::new(&UNREAD, Severity::Lost, name));
            return;
        };
        let sum = source.open_name(&format!("{name}.sum")).ok().flatten();
        let stored = sum.and_then(|b| b.bytes(0..b.len()).ok()).unwrap_or_default();
        let Ok(computed) = sha256(blob.as_ref()) else {
            report.finding(Finding::new(&UNREAD, Severity::Lost, name).at(0, blob.len()));
            return;
        };
        assert!(!self.panics || stored == computed.as_bytes(), "the toy's sum is wrong");
        let good = stored == computed.as_bytes() || !self.looks;
        if !good {
            let evidence = Evidence::value("sha256", computed, String::from_utf8_lossy(&stored));
            report.finding(Finding::new(&BAD_SUM, Severity::Lost, name).at(0, blob.len()).evidence(evidence));
        }
        report.object(0, name, "live", Coverage::all(blob.len(), if good { Class::Verified } else { Class::Damaged }));
    }
}

impl Recover for Toy {
    fn engine(&self) -> &'static str {
        "toy"
    }
    fn codes(&self) -> &'static [CodeInfo] {
        &[BAD_SUM, UNREAD]
    }
    fn losses(&self) -> &'static [LossInfo] {
        &[]
    }
    fn probe(&self, _: &dyn Source) -> Probe {
        Probe::no()
    }
    fn inspect(&self, sources: &Sources, _: &Value, _: &Context) -> Result<Report> {
        let mut report = ReportBuilder::new("toy", sources, 10);
        self.file("a", sources.first().unwrap().as_ref(), &mut report);
        Ok(report.finish())
    }
    fn plan(&self, sources: &Sources, _: &Report, options: &Value, _: &Context) -> Result<Plan> {
        let mut plan = Plan::new("toy", options.clone(), sources);
        let (object, to) = ("a".to_owned(), "deep/er/a".to_owned());
        plan.steps = vec![
            Step::Mkdir { to: "empty".into(), mode: None },
            Step::Copy { source: 0, object, to, size: 3000, range: None, mode: None, last: false },
            Step::Write(WriteStep { to: "CURRENT".into(), what: "entry".into(), last: true, ..Default::default() }),
        ];
        plan.seal(sources, &[])?;
        Ok(plan)
    }
    fn apply(&self, sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
        apply::run(sources, plan, target, cx, &|_, out| {
            out.write_all(b"en").and_then(|()| out.write_all(b"try")).map_err(|e| Error::write("CURRENT", "write", e))
        })
    }
}

fn source() -> MemSource {
    let data = vec![7u8; 3000];
    let sum = sha256(&recovery_core::MemBlob::new("a", data.clone())).unwrap();
    MemSource::new([("a", data), ("a.sum", sum.into_bytes())])
}

#[test]
fn an_honest_engine_passes_every_sweep() {
    let harness = Harness::new(&Toy { looks: true, panics: false }, source());
    harness.flips(4096, 0).finish();
    harness.cuts(4096, 0).finish();
    harness.sectors().finish();
    harness.file_sets().finish();
    harness.chunking();
}

#[test]
fn an_engine_that_does_not_look_fails() {
    let harness = Harness::new(&Toy { looks: false, panics: false }, source());
    assert!(harness.flips(0, 50).failed > 0);
    assert!(harness.cuts(0, 50).failed > 0);
    assert!(harness.sectors().failed > 0);
}

#[test]
fn an_engine_that_panics_fails() {
    let harness = Harness::new(&Toy { looks: true, panics: true }, source());
    assert!(harness.flips(0, 50).failed > 0);
}

#[test]
fn a_crash_at_any_operation_leaves_nothing_or_everything() {
    let toy = Toy { looks: true, panics: false };
    let sources = Sources::one(Arc::new(source()));
    let cx = Context::with_threads(1);
    let plan = toy.plan(&sources, &toy.inspect(&sources, &Value::Null, &cx).unwrap(), &Value::Null, &cx).unwrap();
    crash::sweep(&toy, &sources, &plan, usize::MAX);
}

//! Copying, comparing and removing snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{healthy, restorable};
use recovery_core::{Context, DirSource, Error, MemSource, Reason, Recover as _, Report, Source, Sources, Verdict};
use recovery_starrocks::copy::{self, Request, copy};
use recovery_starrocks::depot::{Depot as _, Directory, Remover};
use recovery_starrocks::diff::diff;
use recovery_starrocks::inspect::{Inspection, Options};
use recovery_starrocks::prune::{self, PrunePlan, Rules};
use recovery_starrocks::reader::load::load;
use recovery_starrocks::reader::repository::Repository;
use recovery_starrocks::{STARROCKS, md5_hex};
use serde_json::{Value, json};

const REPO: &str = "__starrocks_repository_prod_bk";

fn shared(source: &MemSource) -> Arc<dyn Source> {
    Arc::new(source.clone())
}

fn look(source: &Arc<dyn Source>) -> Arc<Inspection> {
    copy::look(Arc::clone(source), &Options::default(), &Context::with_threads(2)).unwrap()
}

fn directory(path: &Path) -> Arc<dyn Source> {
    Arc::new(DirSource::open(path).unwrap())
}

fn inspect(path: &Path) -> Report {
    STARROCKS.inspect(&Sources::one(directory(path)), &Value::Null, &Context::with_threads(2)).unwrap()
}

fn request(snapshot: &str) -> Request {
    Request { snapshot: snapshot.to_owned(), ..Request::default() }
}

#[test]
fn a_copy_is_the_snapshot_file_for_file() {
    for (version, repo) in [("v2", "__palo_repository_old_bk"), ("v3", REPO)] {
        let source = healthy(version);
        let inspection = look(&shared(&source));
        let place = tempfile::tempdir().unwrap();
        let depot = Directory::new(place.path().join("new"));
        let cx = Context::with_threads(2);
        let done = copy(&inspection, &depot, &request("ss_models"), &cx).unwrap();
        assert_eq!((done.directory.as_str(), done.kept), (repo, 0));
        let copied = recovery_testkit::load(&place.path().join("new"));
        for (name, bytes) in source.files().iter().filter(|(n, _)| n.contains("__ss_ss_models/")) {
            assert_eq!(copied.files().get(name), Some(bytes), "{name}");
        }
        assert_eq!(inspect(&place.path().join("new")).verdict, Verdict::Sound);
        // Again: nothing is missing. The other snapshot joins it.
        let again = copy(&inspection, &depot, &request("ss_models"), &cx).unwrap();
        assert_eq!((again.files, again.kept), (0, done.files));
        let second = inspection.loaded.snapshots.iter().find(|s| s.label != "ss_models").unwrap().label.clone();
        copy(&inspection, &depot, &request(&second), &cx).unwrap();
        let report = inspect(&place.path().join("new"));
        assert_eq!(report.verdict, Verdict::Sound);
        assert_eq!(restorable(&report), restorable(&common::inspect(&source)));
    }
}

#[test]
fn label_and_repository_are_renamed() {
    let source = healthy("v3");
    let inspection = look(&shared(&source));
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("__starrocks_repository_cold");
    let cx = Context::with_threads(1);
    let wanted = Request { label: Some("ss_2024".into()), ..request("ss_events") };
    let done = copy(&inspection, &Directory::new(&path), &wanted, &cx).unwrap();
    assert_eq!((done.repository.as_str(), done.directory.as_str()), ("cold", ""));
    let report = inspect(&path);
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
    assert_eq!(report.facts["repository"]["name"], "cold");
    assert_eq!(report.facts["snapshots"][0]["label"], "ss_2024");
    assert!(!report.findings.iter().any(|f| f.code == "SRS-0014"), "the description says the new label");
    for bad in ["a/b", "", "..", "x y", &"l".repeat(129)] {
        let wanted = Request { label: Some(bad.into()), ..request("ss_events") };
        assert!(matches!(copy(&inspection, &Directory::new(&path), &wanted, &cx), Err(Error::Usage(_))), "{bad:?}");
    }
    // Another snapshot under the same label is not mixed in.
    let wanted = Request { label: Some("ss_2024".into()), ..request("ss_models") };
    let refused = copy(&inspection, &Directory::new(&path), &wanted, &cx).unwrap_err();
    assert!(matches!(refused, Error::Refusal(r) if r.reason == Reason::TargetNotEmpty));
}

#[test]
fn damage_is_not_copied() {
    let clean = healthy("v3");
    let segments = clean.files().keys().filter(|n| n.contains("ss_events") && n.contains(".dat."));
    let segment = segments.max().unwrap().clone();
    let place = tempfile::tempdir().unwrap();
    let depot = Directory::new(place.path().join("new"));
    let cx = Context::with_threads(1);
    let mut bad = clean.clone();
    let mut bytes = clean.files()[&segment].to_vec();
    bytes[20] ^= 1;
    bad.insert(segment.clone(), bytes);
    let error = copy(&look(&shared(&bad)), &depot, &request("ss_events"), &cx).unwrap_err();
    assert!(matches!(&error, Error::Damaged(m) if m.contains(&segment)), "{error}");
    let copied = recovery_testkit::load(&place.path().join("new"));
    assert!(!copied.files().keys().any(|n| n.contains("__info_") || n.ends_with(".part") || *n == segment));
    // With the right file the same copy is finished.
    let done = copy(&look(&shared(&clean)), &depot, &request("ss_events"), &cx).unwrap();
    assert!(done.kept > 0 && done.files > 0);
    assert_eq!(inspect(&place.path().join("new")).verdict, Verdict::Sound);
    let mut missing = clean.clone();
    missing.remove(&segment);
    let refused = copy(&look(&shared(&missing)), &depot, &request("ss_events"), &cx).unwrap_err();
    assert!(matches!(refused, Error::Refusal(r) if r.reason == Reason::Unsafe));
}

/// The repository with snapshots of other days: copies of one, `days` before it.
fn series(days: &[i64]) -> MemSource {
    let mut source = healthy("v3");
    let clean = source.clone();
    for day in days {
        let label = format!("daily_{day:03}");
        for (name, bytes) in clean.files().iter().filter(|(n, _)| n.contains("__ss_ss_models/")) {
            let name = name.replace("__ss_ss_models/", &format!("__ss_{label}/"));
            if !name.contains("/__info_") {
                source.insert(name, bytes.to_vec());
                continue;
            }
            let mut info: Value = serde_json::from_slice(bytes).unwrap();
            info["name"] = json!(label);
            let time = info["backup_time"].as_i64().unwrap() - day * 86_400_000;
            info["backup_time"] = json!(time);
            let stamp = recovery_starrocks::format::names::Timestamp::from_millis(time);
            let text = info.to_string();
            let dir = name.rsplit_once('/').unwrap().0;
            source.insert(format!("{dir}/__info_{stamp}.{}", md5_hex(text.as_bytes())), text.into_bytes());
        }
    }
    source
}

fn plan(source: &Arc<dyn Source>, rules: &Rules) -> recovery_core::Result<PrunePlan> {
    prune::plan(&look(source), rules, &Context::with_threads(1))
}

fn removed(plan: &PrunePlan) -> Vec<&str> {
    plan.remove.iter().map(|r| r.label.as_str()).collect()
}

#[test]
fn rules_keep_the_newest() {
    let source = shared(&series(&[1, 2, 3, 40]));
    let all = |rules: Rules| plan(&source, &rules).unwrap();
    let last = all(Rules { keep_last: Some(3), ..Rules::default() });
    assert_eq!(removed(&last), ["daily_040", "daily_003", "daily_002"], "oldest first; {:#?}", last.keep);
    let within = all(Rules { keep_within_ms: Some(30 * 86_400_000), ..Rules::default() });
    assert_eq!(removed(&within), ["daily_040"]);
    let daily = all(Rules { keep_daily: Some(2), ..Rules::default() });
    assert!(removed(&daily).contains(&"daily_040") && daily.keep.len() >= 2);
    let both = all(Rules { keep_last: Some(1), keep_within_ms: Some(2 * 86_400_000), ..Rules::default() });
    assert!(!removed(&both).contains(&"daily_001") && removed(&both).contains(&"daily_003"));
    let named = all(Rules { snapshots: vec!["daily_002".into()], ..Rules::default() });
    assert_eq!(removed(&named), ["daily_002"]);
    assert!(matches!(plan(&source, &Rules::default()), Err(Error::Usage(_))));
    let unknown = Rules { snapshots: vec!["nothing".into()], ..Rules::default() };
    assert!(matches!(plan(&source, &unknown), Err(Error::Usage(_))));
}

#[test]
fn unfinished_and_young_snapshots_stay() {
    let mut source = series(&[1]);
    let info = source.files().keys().find(|n| n.contains("__ss_daily_001/__info_")).unwrap().clone();
    source.remove(&info);
    let source = shared(&source);
    let named = Rules { snapshots: vec!["daily_001".into()], ..Rules::default() };
    assert!(matches!(plan(&source, &named).unwrap_err(), Error::Refusal(r) if r.reason == Reason::Unsafe));
    let rules = Rules { keep_last: Some(1), ..Rules::default() };
    assert!(!removed(&plan(&source, &rules).unwrap()).contains(&"daily_001"));
    let mut cx = Context::with_threads(1);
    let inspection = look(&source);
    let newest = inspection.snapshots.iter().map(|s| s.backup_time_ms).max().unwrap();
    cx.now_ms = u64::try_from(newest).unwrap() + 3_600_000;
    let all: Vec<String> = inspection.snapshots.iter().map(|s| s.label.clone()).collect();
    let young = inspection.snapshots.iter().find(|s| s.backup_time_ms == newest).unwrap().label.clone();
    assert!(all.contains(&young));
    let named = Rules { snapshots: vec![young], ..Rules::default() };
    assert!(matches!(prune::plan(&inspection, &named, &cx), Err(Error::Refusal(r)) if r.reason == Reason::Unsafe));
}

/// Fails at the `left`th removal, before or after doing it.
struct Failing {
    inner: Directory,
    left: AtomicUsize,
    after: bool,
}

impl Remover for Failing {
    fn remove(&self, name: &str) -> recovery_core::Result<bool> {
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        let crash = || Error::write(name, "remove", std::io::Error::other("power cut"));
        if left == 0 && !self.after {
            return Err(crash());
        }
        let done = self.inner.remove(name)?;
        if left == 0 { Err(crash()) } else { Ok(done) }
    }

    fn settle(&self, directories: &[String]) -> recovery_core::Result<()> {
        self.inner.settle(directories)
    }

    fn tidy(&self, directory: &str, top: &str) {
        self.inner.tidy(directory, top);
    }
}

/// Killed between any two steps, the run after it finishes; in between no snapshot is there in part.
#[test]
fn a_prune_that_is_killed_is_finished_by_the_next() {
    let whole = series(&[1, 2]);
    let rules = Rules { snapshots: vec!["daily_001".into(), "daily_002".into()], ..Rules::default() };
    let cx = Context::with_threads(1);
    let mut steps = None;
    let mut at = 0usize;
    while steps.is_none_or(|n| at < n) {
        let after = at % 2 == 1;
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("r");
        std::fs::create_dir(&root).unwrap();
        recovery_testkit::store(&whole, &root);
        let source = directory(&root);
        let plan = plan(&source, &rules).unwrap();
        steps = Some(usize::try_from(plan.files).unwrap());
        let journal = place.path().join("plan.journal");
        let failing = Failing { inner: Directory::new(&root), left: AtomicUsize::new(at), after };
        prune::apply(&plan, &source, &failing, &journal, &cx).unwrap_err();
        let report = inspect(&root);
        for s in report.facts["snapshots"].as_array().unwrap() {
            let (label, finished) = (s["label"].as_str().unwrap(), s["finished"].as_bool().unwrap());
            let good = s["tables"].as_array().unwrap().iter().all(|t| t["restorable"].as_bool().unwrap());
            assert!(!finished || good, "step {at}: {label} is finished and not whole");
            assert!(label.starts_with("daily") || good);
        }
        let done = prune::apply(&plan, &directory(&root), &Directory::new(&root), &journal, &cx).unwrap();
        assert_eq!(done.snapshots + done.before, 2, "step {at}");
        let left = recovery_testkit::load(&root);
        assert_eq!(left.files(), healthy("v3").files(), "step {at}");
        assert!(!root.join(REPO).join("__ss_daily_001").exists());
        // A third run has nothing to do.
        let again = prune::apply(&plan, &directory(&root), &Directory::new(&root), &journal, &cx).unwrap();
        assert_eq!((again.files, again.before), (0, 2));
        at += 3;
    }
}

#[test]
fn a_changed_repository_is_not_pruned() {
    let whole = series(&[1]);
    let rules = Rules { snapshots: vec!["daily_001".into()], ..Rules::default() };
    let cx = Context::with_threads(1);
    for change in 0..4 {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("r");
        std::fs::create_dir(&root).unwrap();
        recovery_testkit::store(&whole, &root);
        let mut plan = plan(&directory(&root), &rules).unwrap();
        let label = root.join(REPO).join("__ss_daily_001");
        match change {
            0 => std::fs::write(label.join("new"), b"x").unwrap(),
            1 => std::fs::remove_file(root.join(&plan.remove[0].content[0].name)).unwrap(),
            2 => std::fs::write(root.join(&plan.remove[0].definitions[0].name), b"other").unwrap(),
            _ => plan.location = "/elsewhere".into(),
        }
        let before = recovery_testkit::load(&root);
        let journal = place.path().join("journal");
        let error = prune::apply(&plan, &directory(&root), &Directory::new(&root), &journal, &cx).unwrap_err();
        assert!(matches!(error, Error::Refusal(r) if r.reason == Reason::InputChanged), "{change}");
        assert_eq!(recovery_testkit::load(&root).files(), before.files());
    }
    // A plan is text from outside: what it names outside of its snapshot is not touched.
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("r");
    std::fs::create_dir(&root).unwrap();
    recovery_testkit::store(&whole, &root);
    let mut plan = plan(&directory(&root), &rules).unwrap();
    plan.remove[0].directory = REPO.to_owned();
    let journal = place.path().join("journal");
    assert!(prune::apply(&plan, &directory(&root), &Directory::new(&root), &journal, &cx).is_err());
    assert_eq!(recovery_testkit::load(&root).files(), whole.files());
}

#[test]
fn differences_are_told_by_content() {
    let mut source = series(&[1]);
    let loaded = |s: &MemSource| load(Repository::open(shared(s), None).unwrap(), &Context::with_threads(1)).unwrap();
    let same = diff(&loaded(&source), "ss_models", "daily_001").unwrap();
    assert!(same.equal(), "{same:#?}");
    let gone = source
        .files()
        .keys()
        .find(|n| n.contains("__ss_daily_001/") && n.contains("__tbl_10522") && n.contains(".dat."))
        .unwrap()
        .clone();
    source.remove(&gone);
    let less = diff(&loaded(&source), "ss_models", "daily_001").unwrap();
    let logs = less.tables.iter().find(|t| t.name == "logs").unwrap();
    assert_eq!((logs.data.first.files, logs.data.second.files), (1, 0));
    assert_eq!(less.tables.iter().filter(|t| !t.equal()).count(), 1);
    let other = diff(&loaded(&source), "ss_models", "ss_events").unwrap();
    assert!(other.tables.iter().all(|t| t.first_rows.is_none() || t.second_rows.is_none()));
    assert!(diff(&loaded(&source), "ss_models", "nothing").is_err());
    let place = tempfile::tempdir().unwrap();
    assert!(Directory::new(place.path().join("x")).source().unwrap().is_none());
}

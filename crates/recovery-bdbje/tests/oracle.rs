#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]
//! What the real program did when it opened the recorded cases, against what is foreseen; and results of a rescue,
//! read back.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Files, case_of, cases, json, live, source};
use recovery_bdbje::engine::Engine;
use recovery_bdbje::inspect::Inspected;
use recovery_core::{Context, DirTarget, Receipt, Recover, Sources, Verdict};
use serde_json::{Value, json as object};

fn inspected(files: &Files, cx: &Context) -> (recovery_core::Report, std::sync::Arc<Inspected>) {
    let report = Engine.inspect(&Sources::one(source(files)), &Value::Null, cx).unwrap();
    let state = report.state::<Inspected>().unwrap();
    (report, state)
}

#[test]
fn what_je_did_is_what_is_foreseen() {
    let cx = Context::default();
    let mut all = cases("envs");
    all.extend(cases("damaged"));
    let mut checked = 0;
    for case in all.iter().filter(|c| c.dir.join("je_open.txt").exists()) {
        let text = std::fs::read_to_string(case.dir.join("je_open.txt")).unwrap();
        let (report, state) = inspected(&case.files, &cx);
        let node = &state.nodes[0];
        let name = &case.name;
        let refused = text.contains("OPEN FAILED");
        assert_eq!(node.started.refuses, refused, "{name}: {:?}", report.if_started);
        if !refused {
            let after = live(text.as_bytes());
            for (db, sum) in after.dbs.iter().filter(|(n, _)| !n.starts_with("_je") && *n != "epochDB") {
                let mine = node.view.records.get(db).copied();
                let broken = node.view.unreadable > 0 || !node.view.problems.is_empty();
                assert!(mine == Some(sum.records) || broken, "{name}: {db}: {mine:?} foreseen, {} there", sum.records);
            }
        }
        checked += 1;
    }
    assert!(checked >= 5, "only {checked}");
}

#[test]
fn damage_is_classified_as_it_is() {
    let cx = Context::default();
    let mut checked = 0;
    for case in cases("damaged") {
        let truth = json(&case.dir.join("truth.json"));
        let (report, _) = inspected(&case.files, &cx);
        let codes: Vec<&str> = report.findings.iter().map(|f| f.code).collect();
        let name = &case.name;
        for d in truth["damage"].as_array().unwrap() {
            let (last, behind) = (d["is_last_file"] == true, d["valid_entries_after"].as_u64().unwrap());
            let torn =
                d["reason"].as_str().unwrap().contains("past end") || d["reason"].as_str().unwrap().contains("short");
            let want: &[&str] = match (last, behind > 0, torn) {
                (true, true, _) => &["JE-0010"],
                (true, false, true) => &["JE-0001", "JE-0024"],
                (true, false, false) => &["JE-0002", "JE-0003"],
                (false, ..) => &["JE-0011"],
            };
            assert!(want.iter().any(|w| codes.contains(w)), "{name}: {codes:?}, expected one of {want:?}");
        }
        if truth["damage"].as_array().unwrap().iter().any(|d| d["valid_entries_after"].as_u64().unwrap() > 0) {
            assert!(report.verdict >= Verdict::Recoverable, "{name}: {:?}", report.verdict);
        }
        checked += 1;
    }
    assert!(checked >= 3);
}

#[test]
fn undamaged_environments_are_sound() {
    let cx = Context::default();
    for case in cases("envs") {
        let (report, _) = inspected(&case.files, &cx);
        assert_eq!(report.verdict, Verdict::Sound, "{}: {:?}", case.name, report.findings);
    }
}

const LOSSES: [&str; 8] = [
    "in-doubt",
    "lost-records",
    "stale-records",
    "lost-operations",
    "after-until",
    "diverged-branch",
    "newer-commits",
    "missing-image",
];

fn rescue(
    files: &[&Files],
    options: &Value,
    into: &Path,
    cx: &Context,
) -> (recovery_core::Plan, Receipt, recovery_core::Report) {
    let rivals = files.iter().map(|f| source(f)).collect();
    let sources = Sources { rivals, donors: Vec::new() };
    let report = Engine.inspect(&sources, options, cx).unwrap();
    let plan = Engine.plan(&sources, &report, options, cx).unwrap();
    let accepted = LOSSES.iter().map(|l| ((*l).to_owned(), None)).collect();
    plan.check_consents(&accepted).unwrap();
    let target = DirTarget::new(into).unwrap();
    let receipt = Engine.apply(&sources, &plan, &target, cx).unwrap();
    let result = recovery_core::cli::open_path(into, &Default::default()).unwrap();
    let verify = Engine.verify(&result, &receipt, cx).unwrap();
    (plan, receipt, verify)
}

fn records(result: &Value) -> BTreeMap<String, u64> {
    let all = result["records"].as_object().unwrap();
    all.iter().map(|(n, s)| (n.clone(), s["records"].as_u64().unwrap())).collect()
}

/// Every recorded case is rescued; the result is read back and must hold what was planned, and what JE lists where JE
/// lists all that is there.
#[test]
fn results_hold_what_was_planned() {
    let cx = Context::default();
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<(bool, common::Case)> = cases("envs").into_iter().map(|c| (false, c)).collect();
    all.extend(cases("damaged").into_iter().map(|c| (true, c)));
    for (damaged, case) in &all {
        let into = dir.path().join(&case.name);
        let (plan, _, verify) = rescue(&[&case.files], &Value::Null, &into, &cx);
        let name = &case.name;
        let lost = verify.findings.iter().any(|f| f.code == "JE-0054");
        assert!(!lost && verify.verdict != Verdict::Lossy || *damaged, "{name}: {:?}", verify.findings);
        assert!(!verify.findings.iter().any(|f| f.summary.contains("planned")), "{name}: {:?}", verify.findings);
        if !damaged && common::exists(&case.dir.join("live.jsonl")) {
            let want = live(&common::read(&case.dir.join("live.jsonl")));
            let want: BTreeMap<String, u64> =
                want.dbs.iter().filter(|(n, _)| !n.starts_with("_je")).map(|(n, s)| (n.clone(), s.records)).collect();
            assert_eq!(records(&plan.result), want, "{name}");
            assert_eq!(verify.verdict, Verdict::Sound, "{name}: {:?}", verify.findings);
        }
    }
}

/// Results written by another implementation of the same recipes, which real JE accepted: ours must come to the same.
#[test]
fn recipes_agree_with_results_that_je_accepted() {
    let cx = Context::default();
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = common::shared() else { return };
    for case in cases("written") {
        let recipe = json(&case.dir.join("recipe.json"));
        let want = live(&common::read(&case.dir.join("live.jsonl")));
        let (_, state) = inspected(&case.files, &cx);
        let node = &state.nodes[0];
        if recipe["options"].as_array().unwrap().iter().any(|o| o == "noroot") {
            assert!(!node.view.rootless.is_empty(), "{}: JE drops these records, and that must be said", case.name);
            continue;
        }
        assert!(node.view.rootless.keys().all(|n| n.starts_with("_je")), "{}", case.name);
        let (kind, base) = recipe["source"].as_str().unwrap().split_once('/').unwrap();
        let base = case_of(&root, kind, base);
        let host = format!("{}:{}", recipe["host"].as_str().unwrap(), recipe["port"]);
        let mut options = object!({"node_name": recipe["node_name"], "host": host});
        let section = recipe["section"].as_str().unwrap();
        if section == "9.3" {
            options["keep_group"] = true.into();
        }
        let (plan, _, verify) = rescue(&[&base.files], &options, &dir.path().join(&case.name), &cx);
        let mine = records(&plan.result);
        // A cut keeps less than we do: then ours must hold at least as much.
        let cut = section.starts_with("10.1");
        for (db, sum) in want.dbs.iter().filter(|(n, _)| !n.starts_with("_je")) {
            match mine.get(db) {
                Some(n) => assert!(*n == sum.records || cut && *n >= sum.records, "{}: {db} {n}", case.name),
                None => assert!(cut, "{}: {db} is missing", case.name),
            }
        }
        assert!(verify.verdict <= Verdict::Recoverable, "{}: {:?}", case.name, verify.findings);
    }
}

#[test]
fn until_keeps_what_comes_before() {
    let cx = Context::default();
    let dir = tempfile::tempdir().unwrap();
    let Some(case) = cases("envs").into_iter().find(|c| c.name == "single") else { return };
    let (plan, _, verify) = rescue(&[&case.files], &object!({"until": "journal:30"}), &dir.path().join("j"), &cx);
    assert_eq!(plan.losses[0].name, "after-until");
    let nodes = verify.facts["nodes"][0].clone();
    assert_eq!(nodes["max_journal_id"], 30, "{:?}", plan.result);
    let (plan, ..) = rescue(&[&case.files], &object!({"until": "60"}), &dir.path().join("v"), &cx);
    assert_eq!(plan.result["recipe"], "append");
    assert!(plan.result["last_vlsn"].as_i64().unwrap() <= 66);
}

#[test]
fn nodes_are_ranked_and_heal_one_another() {
    let cx = Context::default();
    let get = |n: &str| cases("envs").into_iter().find(|c| c.name == n);
    let (Some(lagging), Some(old), Some(new)) =
        (get("group_n3_lagging"), get("group_n1_old_master_crashed"), get("group_new_master_crashed"))
    else {
        return;
    };
    let rivals = [&lagging.files, &old.files, &new.files].map(source).to_vec();
    let report = Engine.inspect(&Sources { rivals, donors: Vec::new() }, &Value::Null, &cx).unwrap();
    assert_eq!(report.candidates[0].source, 2);
    assert_eq!(report.facts["diverged"][0]["vlsn"], 140, "{}", report.facts["diverged"]);
    // The same stretch destroyed on one node is filled from the other.
    let mut torn = new.files.clone();
    let file = torn.get_mut("00000000.jdb").unwrap();
    let at = file.len() / 2;
    file[at..at + 3000].fill(0);
    let rivals = [&torn, &new.files].map(source).to_vec();
    let report = Engine.inspect(&Sources { rivals, donors: Vec::new() }, &Value::Null, &cx).unwrap();
    let state = report.state::<Inspected>().unwrap();
    let whole = &state.nodes[1].view.records;
    let healed = state.nodes[0].scavenged.as_ref().unwrap();
    for (db, n) in whole.iter().filter(|(n, _)| !n.starts_with("_je")) {
        let [live, ..] = healed.databases[db].counts();
        assert_eq!(live, *n, "{db}");
    }
}

/// What real JE listed when it opened our result as the only node of its group: first, and after writing to it, closing
/// it and opening it again, when `DbVerify` and `DbVerifyLog` found nothing wrong either.
#[test]
fn results_hold_what_real_je_listed_from_them() {
    let cx = Context::default();
    let dir = tempfile::tempdir().unwrap();
    let accepted = json(&common::fixtures().join("accepted.json"));
    let mut compared = 0;
    let mut all = cases("envs");
    all.extend(cases("damaged"));
    for case in &all {
        let Some(want) = accepted["results"].get(&case.name) else { continue };
        let (plan, ..) = rescue(&[&case.files], &Value::Null, &dir.path().join(&case.name), &cx);
        let name = &case.name;
        assert_eq!(plan.result["recipe"], want["recipe"], "{name}");
        assert_eq!(plan.result["je_log_version"], want["je_log_version"], "{name}");
        for (db, sum) in plan.result["records"].as_object().unwrap() {
            let mine = format!("{}:{}", sum["records"], sum["sha256"].as_str().unwrap());
            assert_eq!(Some(mine.as_str()), want["records"][db].as_str(), "{name}: {db}");
        }
        let dbs = plan.result["records"].as_object().unwrap().len();
        assert_eq!(dbs, want["records"].as_object().unwrap().len(), "{name}");
        compared += 1;
    }
    assert!(compared >= 15, "only {compared}");
}

/// A node that is behind is not taken without a word because the other is damaged.
#[test]
fn what_only_a_damaged_node_holds_is_never_dropped_silently() {
    let cx = Context::default();
    let dir = tempfile::tempdir().unwrap();
    let get = |n: &str| cases("envs").into_iter().find(|c| c.name == n);
    let (Some(lagging), Some(ahead)) = (get("group_n3_lagging"), get("group_new_master_crashed")) else { return };
    let mut torn = ahead.files.clone();
    let file = torn.get_mut("00000000.jdb").unwrap();
    let at = file.len() / 2;
    file[at..at + 3000].fill(0);
    let rivals = [&torn, &lagging.files];
    let (plan, _, verify) = rescue(&rivals, &Value::Null, &dir.path().join("m"), &cx);
    assert!(!plan.losses.is_empty(), "{:?}", plan.result);
    assert_eq!(plan.result["source"], 0, "{:?}", plan.losses);
    assert!(verify.verdict <= Verdict::Lossy);
    // Almost everything destroyed: the union with the node that is behind holds all that this one has.
    let mut gone = ahead.files.clone();
    let file = gone.get_mut("00000000.jdb").unwrap();
    let end = file.len() - 400;
    file[300..end].fill(0);
    let into = dir.path().join("b");
    let (plan, ..) = rescue(&[&gone, &lagging.files], &Value::Null, &into, &cx);
    assert!(!plan.losses.is_empty(), "{:?}", plan.result);
    let (behind, whole) = (listed(&lagging.files, &cx), listed(&ahead.files, &cx));
    let got = listed(&of_directory(&into), &cx);
    let missing: Vec<_> = behind.intersection(&whole).filter(|r| !got.contains(*r)).collect();
    assert!(missing.is_empty(), "{missing:02x?}");
}

/// Everything the base holds, by database, key and value.
fn listed(files: &Files, cx: &Context) -> std::collections::BTreeSet<(String, Vec<u8>, Vec<u8>)> {
    let (log, scan) = common::scanned(files, cx);
    let env = common::as_je(&log, &scan, cx);
    let mut out = std::collections::BTreeSet::new();
    for (name, id) in env.names.iter().filter(|(n, _)| !n.starts_with("_je")) {
        let mut sink = |b: recovery_bdbje::model::Batch| {
            out.extend(b.records.iter().map(|r| (name.clone(), r.key.to_vec(), r.data.to_vec())));
            Ok(())
        };
        env.records(&env.databases[id], cx, &mut sink, &mut Vec::new()).unwrap();
    }
    out
}

fn of_directory(dir: &Path) -> Files {
    let all = std::fs::read_dir(dir.join("bdb")).unwrap().map(Result::unwrap);
    all.map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap())).collect()
}

/// Bytes removed from a log, or inserted into it: what lies behind is found although nothing stands where it should.
#[test]
fn a_log_whose_bytes_have_moved_is_read_on() {
    let cx = Context::default();
    let dir = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for name in ["v18_single", "single"] {
        let Some(case) = cases("envs").into_iter().find(|c| c.name == name) else { continue };
        let want = listed(&case.files, &cx);
        for (i, (permille, n, insert)) in
            [(300, 1, false), (400, 513, false), (500, 7, true), (600, 512, true), (700, 4096, true)]
                .into_iter()
                .enumerate()
        {
            let mut files = case.files.clone();
            let file = files.get_mut("00000000.jdb").unwrap();
            let at = file.len() * permille / 1000;
            if insert {
                file.splice(at..at, std::iter::repeat_n(0xa5, n)).for_each(|_| ());
            } else {
                file.drain(at..at + n).for_each(|_| ());
            }
            let into = dir.path().join(format!("{name}{i}"));
            let (report, state) = inspected(&files, &cx);
            let place = format!("{name} at {at:#x}, {n} bytes, insert {insert}");
            assert!(report.verdict >= Verdict::Recoverable, "{place}");
            let moved = if insert { -(n as i64) } else { n as i64 };
            let spots: Vec<i64> = state.nodes[0].scan.bad().map(|(_, b)| b.shift).collect();
            assert_eq!(spots, [moved], "{place}");
            let (plan, ..) = rescue(&[&files], &Value::Null, &into, &cx);
            let got = listed(&of_directory(&into), &cx);
            let invented: Vec<_> = got.difference(&want).collect();
            assert!(invented.is_empty(), "{place}: {invented:02x?}");
            let missing = want.difference(&got).count();
            // Damage of one spot: the entries of the bytes removed, and at most one transaction around them.
            assert!(missing <= 1 + n / 40 + 3, "{place}: {missing} are missing, {:?}", plan.losses);
            assert!(missing == 0 || !plan.losses.is_empty(), "{place}: {missing} are missing");
            tried += 1;
        }
    }
    assert!(tried >= 5);
}

/// The state before the first journal id lies in the image alone: without a whole one the loss is named.
#[test]
fn a_damaged_image_without_another_is_a_loss() {
    let cx = Context::default();
    let Some(base) = cases("envs").into_iter().find(|c| c.name == "single") else { return };
    let root = common::fixtures().join("meta_synthetic");
    let mut asked = 0;
    for (case, lost) in
        [("bad_footer_crc", true), ("bad_v2_checksum", false), ("good_v2", false), ("truncated_v1", true)]
    {
        let mut files: Vec<(String, Vec<u8>)> =
            base.files.iter().map(|(n, b)| (format!("bdb/{n}"), b.clone())).collect();
        for sub in ["image", "image/v2"] {
            let Ok(all) = std::fs::read_dir(root.join(case).join(sub)) else { continue };
            for e in all.map(Result::unwrap).filter(|e| e.path().is_file()) {
                let name = format!("{sub}/{}", e.file_name().to_string_lossy());
                files.push((name, std::fs::read(e.path()).unwrap()));
            }
        }
        let sources = Sources::one(std::sync::Arc::new(recovery_core::MemSource::new(files)));
        let report = Engine.inspect(&sources, &Value::Null, &cx).unwrap();
        let plan = Engine.plan(&sources, &report, &Value::Null, &cx).unwrap();
        assert_eq!(report.verdict == Verdict::Lossy, lost, "{case}: {:?}", report.findings);
        assert_eq!(plan.losses.iter().any(|l| l.name == "missing-image"), lost, "{case}: {:?}", plan.losses);
        asked += 1;
    }
    assert_eq!(asked, 4);
}

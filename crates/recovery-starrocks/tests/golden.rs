//! Recorded answers: every repository of the collection is classified as its description says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use common::{healthy, inspect, json, restorable, shared, unpack};
use recovery_core::{Context, DirSource, DirTarget, Recover as _, Severity, Source, Sources, Verdict};
use recovery_starrocks::STARROCKS;
use serde_json::Value;

/// What each kind of damage must be called: verdict, codes, whether every table stays restorable as it lies there.
fn expected(damage: &str) -> (Verdict, &'static [&'static str], bool) {
    match damage {
        "healthy" => (Verdict::Sound, &[], true),
        "flipped_bit" => (Verdict::Lossy, &["SRS-0050"], false),
        "truncated_segment" => (Verdict::Lossy, &["SRS-0050", "SRS-0052"], false),
        "missing_segment" => (Verdict::Lossy, &["SRS-0045"], false),
        "missing_hdr" => (Verdict::Lossy, &["SRS-0041"], false),
        "missing_tablet" => (Verdict::Lossy, &["SRS-0040"], false),
        "zero_length" => (Verdict::Lossy, &["SRS-0051"], false),
        "page_crc_right_md5" => (Verdict::Lossy, &["SRS-0053"], false),
        "hdr_adler_right_md5" => (Verdict::Recoverable, &["SRS-0042"], false),
        "no_info" => (Verdict::Recoverable, &["SRS-0010"], false),
        "info_part" => (Verdict::Recoverable, &["SRS-0011"], false),
        "torn_info_right_md5" => (Verdict::Recoverable, &["SRS-0012"], false),
        "no_meta" => (Verdict::Recoverable, &["SRS-0020"], false),
        "two_metas" => (Verdict::Recoverable, &["SRS-0022"], false),
        "leftover_part" => (Verdict::Recoverable, &["SRS-0030"], true),
        "orphan_tablet" => (Verdict::Recoverable, &["SRS-0032"], true),
        "no_repo_info" => (Verdict::Recoverable, &["SRS-0001"], true),
        "renamed_dir" => (Verdict::Recoverable, &["SRS-0003"], true),
        other => panic!("no answer recorded for {other}"),
    }
}

#[test]
fn every_repository_is_classified() {
    let Some(shared) = shared() else {
        println!("skipped: the larger collection is not here");
        return;
    };
    let cases = json("cases.json");
    for (name, case) in cases.as_object().unwrap() {
        let damage = name.split_once('_').unwrap().1;
        let source = unpack(&shared.join(format!("repos/{name}.tar.zst")));
        let report = inspect(&source);
        let (verdict, codes, all) = expected(damage);
        let found: Vec<_> = report.findings.iter().filter(|f| f.severity > Severity::Note).collect();
        assert_eq!(report.verdict, verdict, "{name}: {found:#?}");
        for code in codes {
            assert!(found.iter().any(|f| f.code == *code), "{name}: no {code} in {found:#?}");
        }
        assert_eq!(restorable(&report).iter().all(|r| r.1), all, "{name}: {:?}", restorable(&report));
        assert_eq!(case["verdict"] == "ok", report.verdict == Verdict::Sound, "{name}");
        // Damage is found where it was done and nowhere else.
        if let Some(target) = case["target"].as_str() {
            let base =
                target.rsplit_once('.').map_or(target, |(b, s)| if s.len() == 32 || s == "part" { b } else { target });
            for finding in &found {
                let near = finding.object.starts_with(base)
                    || base.starts_with(&finding.object)
                    || target.starts_with(&finding.object);
                assert!(near, "{name}: {} is blamed, {target} was damaged", finding.object);
            }
        }
    }
}

#[test]
fn facts_are_those_recorded() {
    for version in ["v2", "v3"] {
        let report = inspect(&healthy(version));
        let expected = json(&format!("{version}_expected.json.zst"));
        assert_eq!(report.facts["repository"]["name"], expected["repository"]);
        assert_eq!(report.facts["repository"]["prefix"], expected["prefix"]);
        for (found, wanted) in
            report.facts["snapshots"].as_array().unwrap().iter().zip(expected["snapshots"].as_array().unwrap())
        {
            assert_eq!(found["label"], wanted["label"]);
            assert_eq!(found["timestamp"], wanted["timestamp"]);
            assert_eq!(found["database"], wanted["db"]);
            assert_eq!(found["finished"], true);
            let tables = found["tables"].as_array().unwrap();
            for table in wanted["tables"].as_array().unwrap() {
                let got = tables.iter().find(|t| t["name"] == table["name"]).unwrap();
                assert_eq!(got["keys_type"], table["keys"]);
                assert_eq!(got["tablets"], table["tablets"].as_array().unwrap().len());
                let rows: usize =
                    table["tablets"].as_array().unwrap().iter().map(|t| t["rows"].as_array().map_or(0, Vec::len)).sum();
                if got["rows_exact"] == true && rows > 0 {
                    assert_eq!(got["rows"], rows, "{version} {}", table["name"]);
                }
            }
        }
        let files = json(&format!("{version}_files.json.zst"));
        let total: u64 = files.as_array().unwrap().iter().map(|f| f["size"].as_u64().unwrap()).sum();
        assert_eq!(report.coverage.bytes, total);
        assert_eq!(report.coverage.verified + report.coverage.parsed, total);
        assert!(report.complete);
    }
}

/// Rescues into a new directory and inspects what came out.
fn rescue(source: Arc<dyn Source>, options: &Value) -> (recovery_core::Plan, recovery_core::Report, tempfile::TempDir) {
    let cx = Context::with_threads(2);
    let sources = Sources::one(source);
    let report = STARROCKS.inspect(&sources, options, &cx).unwrap();
    let plan = STARROCKS.plan(&sources, &report, options, &cx).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = DirTarget::new(dir.path().join("new")).unwrap();
    STARROCKS.apply(&sources, &plan, &target, &cx).unwrap();
    let result: Arc<dyn Source> = Arc::new(DirSource::open(dir.path().join("new")).unwrap());
    let after = STARROCKS.inspect(&Sources::one(result), &Value::Null, &cx).unwrap();
    (plan, after, dir)
}

#[test]
fn every_rescue_ends_sound() {
    let Some(shared) = shared() else {
        println!("skipped: the larger collection is not here");
        return;
    };
    for name in json("cases.json").as_object().unwrap().keys() {
        let damage = name.split_once('_').unwrap().1;
        let source = unpack(&shared.join(format!("repos/{name}.tar.zst")));
        let before = inspect(&source);
        let (plan, after, _dir) = rescue(Arc::new(source), &Value::Null);
        let found: Vec<_> = after.findings.iter().filter(|f| f.severity > Severity::Note).collect();
        assert_eq!(after.verdict, Verdict::Sound, "{name}: {found:#?}");
        assert!(restorable(&after).iter().all(|r| r.1), "{name}");
        if before.verdict == Verdict::Recoverable && damage != "no_meta" {
            assert!(plan.losses.is_empty(), "{name}: {:?}", plan.losses);
            assert_eq!(restorable(&after).len(), restorable(&before).len(), "{name}");
        }
        // Everything that is whole goes on: no table and no partition is given up for what one tablet lost.
        assert_eq!(restorable(&after).len(), restorable(&before).len(), "{name}");
        let lossy = |c: &String| c == "lost-rows" || c == "rebuilt-header";
        assert_eq!(before.verdict == Verdict::Lossy, plan.consents.iter().any(lossy), "{name}");
        assert!(!plan.consents.iter().any(|c| c == "damaged-partition" || c == "lost-snapshot"), "{name}");
    }
}

#[test]
fn a_sound_repository_comes_out_file_for_file() {
    for version in ["v2", "v3"] {
        let source = healthy(version);
        let files = source.files().clone();
        let (plan, _, dir) = rescue(Arc::new(source), &Value::Null);
        assert!(plan.consents.is_empty());
        for (name, bytes) in files {
            assert_eq!(std::fs::read(dir.path().join("new").join(&name)).unwrap(), bytes, "{name}");
        }
    }
}

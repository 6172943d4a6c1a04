//! Another copy of the repository heals what one copy lost, file by file, each named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use common::{healthy, restorable};
use recovery_core::{Context, DirTarget, MemSource, Recover as _, Report, Source, Sources, Verdict};
use recovery_starrocks::STARROCKS;
use serde_json::Value;

fn both(rivals: &[&MemSource], donors: &[&MemSource]) -> Sources {
    let each = |list: &[&MemSource]| list.iter().map(|s| Arc::new((*s).clone()) as Arc<dyn Source>).collect();
    Sources { rivals: each(rivals), donors: each(donors) }
}

fn look(sources: &Sources) -> Report {
    STARROCKS.inspect(sources, &Value::Null, &Context::with_threads(2)).unwrap()
}

fn rescue(sources: &Sources) -> (Vec<String>, MemSource) {
    let cx = Context::with_threads(2);
    let report = look(sources);
    let plan = STARROCKS.plan(sources, &report, &Value::Null, &cx).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = DirTarget::new(place.path().join("new")).unwrap();
    STARROCKS.apply(sources, &plan, &target, &cx).unwrap();
    let mut out = recovery_testkit::load(&place.path().join("new"));
    let own: Vec<String> = out.files().keys().filter(|n| n.starts_with(".recover/")).cloned().collect();
    for name in own {
        out.remove(&name);
    }
    (plan.consents, out)
}

/// Half of the files of each copy is missing, and one that is there is damaged: together they are whole.
#[test]
fn two_halves_make_a_whole() {
    for version in ["v2", "v3"] {
        let clean = healthy(version);
        let (mut a, mut b) = (clean.clone(), clean.clone());
        for (i, name) in clean.files().keys().enumerate() {
            match i % 4 {
                0 => drop(a.remove(name)),
                1 => drop(b.remove(name)),
                2 => {
                    let mut bytes = clean.files()[name].to_vec();
                    let at = bytes.len() / 2;
                    bytes[at] ^= 0x20;
                    a.insert(name.clone(), bytes);
                }
                _ => b.insert(name.clone(), Vec::new()),
            }
        }
        let sources = both(&[&a], &[&b]);
        let report = look(&sources);
        assert_eq!(report.verdict, Verdict::Recoverable, "{version}: {:#?}", report.findings);
        assert!(report.findings.iter().any(|f| f.code == "SRS-0064"));
        assert!(restorable(&report).iter().all(|(_, ok)| !ok), "stock RESTORE sees only the one copy");
        let (consents, out) = rescue(&sources);
        assert!(consents.is_empty(), "{consents:?}");
        assert_eq!(out.files(), clean.files(), "{version}");
    }
}

/// Each file alone, missing and damaged in one copy.
#[test]
fn every_single_file_is_healed_and_named() {
    let clean = healthy("v3");
    for (name, bytes) in clean.files() {
        for damage in 0..3 {
            let mut bad = clean.clone();
            match damage {
                0 => drop(bad.remove(name)),
                1 => {
                    let mut bytes = bytes.to_vec();
                    let at = bytes.len() / 3;
                    bytes[at] ^= 1;
                    bad.insert(name.clone(), bytes);
                }
                _ => bad.insert(name.clone(), bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec()),
            }
            let report = look(&both(&[&bad], &[&clean]));
            assert!(report.verdict <= Verdict::Recoverable, "{name} {damage}: {:#?}", report.findings);
            let whole =
                report.facts["snapshots"].as_array().unwrap().iter().flat_map(|s| s["tables"].as_array().unwrap());
            assert!(
                whole.clone().count() > 0 && whole.clone().all(|t| t["after_rescue"] == "whole"),
                "{name} {damage}"
            );
            if report.verdict == Verdict::Recoverable && !name.ends_with("__repo_info") {
                let named = report.findings.iter().any(|f| f.code == "SRS-0064" && f.object == *name);
                let known = report.findings.iter().any(|f| f.object.starts_with(name.rsplit_once('.').unwrap().0));
                assert!(named || known, "{name} {damage}: {:#?}", report.findings);
            }
        }
    }
}

#[test]
fn a_damaged_donor_is_not_believed() {
    let clean = healthy("v3");
    let name = clean.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    let (mut a, mut b) = (clean.clone(), clean.clone());
    a.remove(&name);
    let mut bytes = clean.files()[&name].to_vec();
    bytes[50] ^= 1;
    b.insert(name.clone(), bytes);
    let report = look(&both(&[&a], &[&b]));
    assert_eq!(report.verdict, Verdict::Lossy);
    assert!(!report.findings.iter().any(|f| f.code == "SRS-0064"));
    // A third copy has it.
    assert_eq!(look(&both(&[&a], &[&b, &clean])).verdict, Verdict::Recoverable);
}

#[test]
fn rivals_are_ranked_and_the_best_is_healed() {
    let clean = healthy("v3");
    let (mut a, mut b) = (clean.clone(), clean.clone());
    let segments: Vec<String> = clean.files().keys().filter(|n| n.contains(".dat.")).cloned().collect();
    for name in &segments[..3] {
        a.remove(name);
    }
    b.remove(segments.last().unwrap());
    let report = look(&both(&[&a, &b], &[]));
    assert_eq!(report.candidates.len(), 2);
    assert_eq!(report.candidates[0].source, 1, "{:#?}", report.candidates);
    assert!(report.candidates[1].facts["divergence"].as_str().unwrap().contains(".dat."));
    assert_eq!(report.verdict, Verdict::Recoverable);
    assert!(report.findings.iter().filter(|f| f.code == "SRS-0064").all(|f| f.source == 1));
    let nothing = MemSource::default();
    let report = look(&both(&[&nothing, &b], &[]));
    assert_eq!(report.candidates[1].reasons, ["no repository here"]);
    assert_eq!(look(&both(&[&clean, &clean], &[])).verdict, Verdict::Sound);
}

#[test]
fn a_snapshot_of_another_copy_is_taken_whole() {
    let clean = healthy("v3");
    let mut a = clean.clone();
    let gone: Vec<String> = clean.files().keys().filter(|n| n.contains("__ss_ss_events/")).cloned().collect();
    for name in &gone {
        a.remove(name);
    }
    let sources = both(&[&a], &[&clean]);
    let report = look(&sources);
    assert_eq!(report.verdict, Verdict::Recoverable);
    assert!(report.findings.iter().any(|f| f.code == "SRS-0065"));
    let (consents, out) = rescue(&sources);
    assert!(consents.is_empty());
    assert_eq!(out.files(), clean.files());
}

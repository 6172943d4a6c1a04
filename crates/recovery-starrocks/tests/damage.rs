//! Systematic damage: every flip, every cut, every sector, every file, and what each may cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;

use std::sync::Arc;

use common::{healthy, sources};
use recovery_core::{Context, MemSource, Recover as _, Source, Sources, Verdict};
use recovery_starrocks::STARROCKS;
use recovery_starrocks::format::info::Info;
use recovery_starrocks::format::meta_json::Meta;
use recovery_starrocks::format::pk_meta::PrimaryMeta;
use recovery_starrocks::format::tablet_header::{ColumnGroupSnapshotPb, Frame, TabletMetaPb};
use recovery_testkit::{Damage, FileFault, Harness};
use serde_json::Value;

/// The smaller of a repository's snapshots, so that a run is short.
fn small(version: &str) -> MemSource {
    let clean = healthy(version);
    let keep = |n: &&String| !n.contains("__ss_ss_events") || version == "v3" && n.contains("__tbl_10503");
    let files = clean.files().iter().filter(|(n, _)| keep(n) && !n.contains("__ss_ss_events"));
    MemSource::new(files.map(|(n, b)| (n.clone(), b.clone())))
}

/// What no checksum covers: `__repo_info`. A stranger file is a note, and the source stays sound.
fn exempt(damage: &Damage) -> bool {
    damage.object().ends_with("__repo_info") || matches!(damage, Damage::File { fault: FileFault::Extra, .. })
}

#[test]
fn every_flip_and_cut_is_noticed() {
    for version in ["v2", "v3"] {
        let harness = Harness::new(&STARROCKS, small(version)).exempt(&exempt).seconds(8);
        harness.flips(600, 300).finish();
        harness.cuts(600, 100).finish();
    }
}

#[test]
fn sectors_and_files() {
    for version in ["v2", "v3"] {
        let harness = Harness::new(&STARROCKS, small(version)).exempt(&exempt).seconds(8);
        harness.sectors().finish();
        harness.file_sets().finish();
    }
}

#[test]
fn the_same_report_however_the_bytes_arrive() {
    for version in ["v2", "v3"] {
        Harness::new(&STARROCKS, healthy(version)).chunking();
    }
}

/// Decoders alone, over every bit and every length of every definition file.
#[test]
fn decoders_take_anything() {
    for version in ["v2", "v3"] {
        for (name, bytes) in healthy(version).files() {
            let last = name.rsplit('/').next().unwrap();
            let decode: fn(&[u8]) = if last.starts_with("__info") {
                |b| drop(Info::decode(b))
            } else if last.starts_with("__meta") {
                |b| drop(Meta::decode(b).map(|m| m.tables()))
            } else if last.starts_with("meta.") {
                |b| drop(PrimaryMeta::decode(b))
            } else if last.contains(".hdr.") {
                |b| drop(Frame::split(b).and_then(|f| TabletMetaPb::read(&f)).map(|m| m.schema.map(|s| s.to_schema())))
            } else if last.contains(".dcgs_snapshot.") {
                |b| drop(ColumnGroupSnapshotPb::decode_file(b))
            } else {
                continue;
            };
            let step = (bytes.len() / 700).max(1);
            let mut copy = bytes.to_vec();
            for bit in (0..bytes.len() * 8).step_by(step) {
                copy[bit / 8] ^= 1 << (bit % 8);
                decode(&copy);
                copy[bit / 8] ^= 1 << (bit % 8);
            }
            for cut in (0..bytes.len()).step_by(step) {
                decode(&bytes[..cut]);
            }
        }
    }
}

/// What was read comes back byte for byte when it is written.
#[test]
fn round_trips() {
    let mut seen = [0; 4];
    for version in ["v2", "v3"] {
        for (name, bytes) in healthy(version).files() {
            let last = name.rsplit('/').next().unwrap();
            if last.starts_with("__info") {
                assert_eq!(Info::decode(bytes).unwrap().encode(), *bytes, "{name}");
                seen[0] += 1;
            } else if last.starts_with("__meta") {
                assert_eq!(Meta::decode(bytes).unwrap().encode().unwrap(), *bytes, "{name}");
                seen[1] += 1;
            } else if last.starts_with("meta.") {
                let meta = PrimaryMeta::decode(bytes).unwrap();
                assert_eq!(PrimaryMeta::decode(&meta.encode()).unwrap().rowsets, meta.rowsets, "{name}");
                assert_eq!(PrimaryMeta::decode(&meta.encode()).unwrap().delete_vectors, meta.delete_vectors, "{name}");
                seen[2] += 1;
            } else if last.contains(".hdr.") {
                assert_eq!(Frame::seal(Frame::split(bytes).unwrap().check().unwrap()), *bytes, "{name}");
                seen[3] += 1;
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// The parts of a sample add up to the whole, and a flip is found by exactly one of them.
#[test]
fn samples_add_up() {
    let mut source = healthy("v3");
    let name = source.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    let mut bytes = source.files()[&name].to_vec();
    bytes[50] ^= 4;
    source.insert(name, bytes);
    let (mut found, mut read) = (0, 0);
    let whole = common::inspect(&source);
    for n in 1..=5 {
        let mut cx = Context::with_threads(1);
        cx.sample = Some((n, 5));
        let report = common::inspect_with(&source, &cx);
        assert!(!report.complete);
        found += usize::from(report.findings.iter().any(|f| f.code == "SRS-0050"));
        read += report.objects.iter().filter(|o| o.name.contains(".dat.") && o.coverage.totals().unread == 0).count();
    }
    assert_eq!(found, 1);
    assert_eq!(read, whole.objects.iter().filter(|o| o.name.contains(".dat.")).count());
}

/// An inspection that was stopped goes on where it was, and says the same.
#[test]
fn a_state_file_resumes() {
    let place = tempfile::tempdir().unwrap();
    let source = healthy("v2");
    let mut cx = Context::with_threads(1);
    cx.state_file = Some(place.path().join("state.jsonl"));
    let first = common::inspect_with(&source, &cx);
    let kept = std::fs::read(place.path().join("state.jsonl")).unwrap();
    // A run that was killed leaves half of it and a torn line.
    std::fs::write(place.path().join("state.jsonl"), &kept[..kept.len() / 2]).unwrap();
    let second = common::inspect_with(&source, &cx);
    assert_eq!(first.coverage, second.coverage);
    assert_eq!(second.verdict, Verdict::Sound);
    // What changed is read again.
    let mut changed = source.clone();
    let name = source.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    let mut bytes = changed.files()[&name].to_vec();
    bytes.push(0);
    changed.insert(name, bytes);
    assert_eq!(common::inspect_with(&changed, &cx).verdict, Verdict::Lossy);
}

/// New releases list a tablet's files beside them.
#[test]
fn a_manifest_tells_what_is_missing() {
    let mut source = healthy("v2");
    let name = source.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    let (dir, file) = name.rsplit_once('/').unwrap();
    let base = file.rsplit_once('.').unwrap().0.to_owned();
    let dir = dir.to_owned();
    source.insert(format!("{dir}/__starrocks_snapshot_manifest"), format!("{base}\n"));
    assert_eq!(common::inspect(&source).verdict, Verdict::Sound);
    source.insert(format!("{dir}/__starrocks_snapshot_manifest"), format!("{base}\n9.hdr"));
    let report = common::inspect(&source);
    assert!(report.findings.iter().any(|f| f.code == "SRS-0046"), "{:#?}", report.findings);
}

/// Several repositories in one location must be told apart; two prefixes of one name are found.
#[test]
fn locations_with_several_repositories() {
    let (v2, v3) = (healthy("v2"), healthy("v3"));
    let both = MemSource::new(v2.files().iter().chain(v3.files()).map(|(n, b)| (n.clone(), b.clone())));
    let cx = Context::with_threads(1);
    let error = STARROCKS.inspect(&sources(both.clone()), &Value::Null, &cx).unwrap_err();
    assert_eq!(error.exit(), 6, "{error}");
    let report = STARROCKS.inspect(&sources(both), &serde_json::json!({"repository": "prod_bk"}), &cx).unwrap();
    assert_eq!(report.verdict, Verdict::Sound);
    let mut twice = v2.clone();
    twice.insert("__starrocks_repository_old_bk/__repo_info", "{\"name\":\"old_bk\"}");
    let report = common::inspect(&twice);
    assert!(report.findings.iter().any(|f| f.code == "SRS-0004"));
}

/// Two files with one base name: the one that verifies is used, the other is left behind.
#[test]
fn the_file_that_verifies_wins() {
    let mut source = healthy("v3");
    let name = source.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    let base = name.rsplit_once('.').unwrap().0.to_owned();
    source.insert(format!("{base}.00000000000000000000000000000000"), "an aborted attempt");
    let report = common::inspect(&source);
    assert_eq!(report.verdict, Verdict::Recoverable, "{:#?}", report.findings);
    assert!(report.findings.iter().any(|f| f.code == "SRS-0031"));
    let sources = Sources::one(Arc::new(source) as Arc<dyn Source>);
    let plan = STARROCKS.plan(&sources, &report, &Value::Null, &Context::with_threads(1)).unwrap();
    assert!(plan.consents.is_empty());
    assert!(!plan.steps.iter().any(|s| s.to().ends_with(".00000000000000000000000000000000")));
}

/// A name that was changed while the content is right: healed by the right name.
#[test]
fn a_wrong_name_is_given_back() {
    let mut source = healthy("v3");
    let name = source.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    let base = name.rsplit_once('.').unwrap().0.to_owned();
    let bytes = source.remove(&name).unwrap();
    source.insert(format!("{base}.00000000000000000000000000000000"), bytes);
    let report = common::inspect(&source);
    assert_eq!(report.verdict, Verdict::Recoverable, "{:#?}", report.findings);
    let sources = Sources::one(Arc::new(source) as Arc<dyn Source>);
    let plan = STARROCKS.plan(&sources, &report, &Value::Null, &Context::with_threads(1)).unwrap();
    assert!(plan.steps.iter().any(|s| s.to() == name));
}

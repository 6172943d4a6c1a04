//! Systematic damage: every flip, every cut, every sector, every file, and what each may cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::sync::Arc;

use recovery_core::{Context, MemBlob, MemSource, Recover, Sources, Verdict};
use recovery_moosefs::changelog::{Op, parse};
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::{Dialect, MooseFs};
use recovery_testkit::Harness;
use serde_json::Value;

fn case(name: &str) -> MemSource {
    recovery_testkit::load(&recovery_testkit::fixtures("moosefs").join(name).join("in"))
}

/// A small filesystem of each product: a base and a log.
fn small() -> Vec<MemSource> {
    let four = case("v4_real_lock_wait_stops_replay");
    let seed = case("v16_seed_fresh_base");
    let mut short = MemSource::new(
        seed.files().iter().filter(|(n, _)| !n.starts_with("sess")).map(|(n, b)| (n.clone(), b.clone())),
    );
    let log = short.remove("changelog.0.mfs").unwrap();
    let end = log.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(12).unwrap().0 + 1;
    short.insert("changelog.0.mfs", log.slice(..end));
    vec![four, short, case("v2_written_by_2.0.91")]
}

#[test]
fn flips_and_cuts() {
    for source in small() {
        let harness = Harness::new(&MooseFs, source).seconds(6);
        harness.flips(1 << 10, 200).finish();
        harness.cuts(1 << 10, 100).finish();
    }
}

#[test]
fn sectors_and_files() {
    for source in small() {
        let harness = Harness::new(&MooseFs, source).seconds(5);
        harness.sectors().finish();
        harness.file_sets().finish();
    }
}

#[test]
fn the_same_report_however_the_bytes_arrive() {
    Harness::new(&MooseFs, case("v4_real_lock_wait_stops_replay")).chunking();
    Harness::new(&MooseFs, case("v3_cl_torn_last_line")).chunking();
}

/// Whether every line of a log follows the grammar, with ids that ascend by one from `first`.
fn plain(log: &[u8], first: u64) -> bool {
    let mut next = first;
    log.ends_with(b"\n")
        && log.split_inclusive(|&b| b == b'\n').all(|line| {
            let known =
                parse(&line[..line.len() - 1]).is_ok_and(|c| c.id == next && !matches!(c.op, Op::Unknown { .. }));
            next += 1;
            known
        })
}

/// No checksum covers a log: a change that leaves a valid line of the same id cannot be noticed. Every other one must.
#[test]
fn a_log_that_breaks_the_grammar_is_never_sound() {
    let mut broken = 0;
    for (source, first) in small().into_iter().skip(1).zip([0, 1]) {
        let log = source.files()["changelog.0.mfs"].to_vec();
        assert!(plain(&log, first));
        for at in (0..log.len()).step_by(5) {
            let mut copy = log.clone();
            copy[at] ^= 1 << (at % 8);
            if plain(&copy, first) {
                continue;
            }
            broken += 1;
            let mut damaged = source.clone();
            damaged.insert("changelog.0.mfs", copy);
            let sources = Sources::one(Arc::new(damaged));
            let report = MooseFs.inspect(&sources, &Value::Null, &Context::with_threads(1)).unwrap();
            assert!(report.verdict > Verdict::Unverified, "byte {at} of the log changed: {:?}", report.verdict);
        }
    }
    assert!(broken > 100);
}

/// A checksum file proves every changed byte of the base.
#[test]
fn a_changed_base_is_noticed_by_its_checksums() {
    let folder = recovery_testkit::fixtures("moosefs").join("v2_written_by_2.0.91/expected/metadata.mfs");
    let bytes = std::fs::read(folder).unwrap();
    let options = LoadOptions { salvage: true, dialect: Some(Dialect::V3), checksums: false };
    let model = load(&MemBlob::new("m", bytes), &options).unwrap().model;
    let mut out = Vec::new();
    let crc = model.store(&mut out, recovery_moosefs::model::store::StoreOptions { now: 0 }).unwrap();
    let source = MemSource::new([("metadata.mfs.back", out), ("metadata.crc", crc.encode())]);
    let harness = Harness::new(&MooseFs, source).seconds(8);
    harness.flips(1 << 10, 400).finish();
    harness.cuts(1 << 10, 100).finish();
}

/// Decoders alone, over bits and lengths of real files, strict and salvaging.
#[test]
fn loaders_take_anything() {
    for (name, dialect) in [("v16_healthy", Dialect::V16), ("v3_rare_ops", Dialect::V3), ("v4_rare_ops", Dialect::V4)] {
        let source = case(name);
        let bytes = &source.files()["metadata.mfs.back"];
        let step = bytes.len() * 8 / 400;
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut copy = bytes.to_vec();
            copy[bit / 8] ^= 1 << (bit % 8);
            for salvage in [false, true] {
                let options = LoadOptions { salvage, dialect: Some(dialect), checksums: true };
                drop(load(&MemBlob::new("flipped", copy.clone()), &options));
            }
        }
        for cut in (0..bytes.len()).step_by(bytes.len() / 150) {
            let options = LoadOptions { salvage: true, dialect: Some(dialect), checksums: true };
            drop(load(&MemBlob::new("cut", bytes.slice(..cut)), &options));
        }
    }
}

/// The parser over every bit and every length of real lines.
#[test]
fn the_parser_takes_anything() {
    for name in ["v16_healthy", "v3_rare_ops", "v4_rare_ops"] {
        let source = case(name);
        let log = &source.files()["changelog.0.mfs"];
        for line in log.split(|&b| b == b'\n').take(60) {
            for bit in 0..line.len() * 8 {
                let mut copy = line.to_vec();
                copy[bit / 8] ^= 1 << (bit % 8);
                drop(parse(&copy));
            }
            for cut in 0..line.len() {
                assert!(parse(&line[..cut]).map_or(true, |c| c.text.len() == cut));
            }
        }
    }
}

//! Systematic damage: every flip, every cut, every sector, every file, and what each may cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

use recovery_core::{MemBlob, MemSource};
use recovery_moosefs::changelog::parse;
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::{Dialect, MooseFs};
use recovery_testkit::{Damage, Harness};

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

/// Logs have no checksums: a damage there that leaves a line cannot be noticed. Nor can a shorter log, or one more
/// file beside the others.
fn exempt(damage: &Damage) -> bool {
    damage.object().starts_with("changelog") || !damage.object().starts_with("metadata")
}

#[test]
fn flips_and_cuts() {
    for source in small() {
        let harness = Harness::new(&MooseFs, source).exempt(&exempt).seconds(6);
        harness.flips(1 << 10, 200).finish();
        harness.cuts(1 << 10, 100).finish();
    }
}

#[test]
fn sectors_and_files() {
    for source in small() {
        let harness = Harness::new(&MooseFs, source).exempt(&|_| true).seconds(5);
        harness.sectors().finish();
        harness.file_sets().finish();
    }
}

#[test]
fn the_same_report_however_the_bytes_arrive() {
    Harness::new(&MooseFs, case("v4_real_lock_wait_stops_replay")).chunking();
    Harness::new(&MooseFs, case("v3_cl_torn_last_line")).chunking();
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
    let harness = Harness::new(&MooseFs, source).exempt(&|d| !d.object().ends_with(".back")).seconds(8);
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

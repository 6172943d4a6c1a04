//! Small damage in every place of a small cluster.

use crate::pg_common;
use recovery_core::Recover;
use recovery_polardb::PolarDb;
use recovery_testkit::{Damage, FileFault, Harness, SectorFault};

/// What nothing can notice, whoever looks.
fn exempt(damage: &Damage) -> bool {
    let relation = |o: &str| {
        o.starts_with("base/")
            || o.starts_with("global/1")
            || o.starts_with("global/2")
            || o.starts_with("global/3")
            || o.starts_with("global/4")
            || o.starts_with("global/6")
    };
    match damage {
        // A relation has no length of its own: cut between two pages it is a shorter relation.
        Damage::Cut { object, len } => relation(object) && len % 8192 == 0,
        Damage::File { object, fault: FileFault::Empty } => relation(object),
        // A page of zeros is one that was never used; a log whose tail is zero is a shorter log.
        Damage::Sector { object, fault: SectorFault::Zeroed, .. } => relation(object) || object.starts_with("pg_wal/"),
        _ => false,
    }
}

fn harness() -> Harness<'static> {
    Harness::new(&PolarDb, pg_common::case("pg_small")).exempt(&exempt)
}

#[test]
fn the_undamaged_cluster_is_sound() {
    let cx = recovery_core::Context::with_threads(2);
    let sources = recovery_core::Sources::one(std::sync::Arc::new(pg_common::case("pg_small")));
    let report = PolarDb.inspect(&sources, &serde_json::Value::Null, &cx).unwrap();
    assert_eq!(report.verdict.as_str(), "sound", "{:#?}", report.findings);
    assert!(report.coverage.verified > 1 << 20);
}

#[test]
fn flipped_bits_of_control_slots_maps_and_state_files() {
    let only = |n: &str| {
        n == "global/pg_control"
            || n.ends_with("/state")
            || n.ends_with(".map")
            || n.starts_with("pg_twophase/")
            || n.starts_with("pg_xact")
    };
    harness().only(&only).seconds(8).flips(8192, 2000).finish();
}

#[test]
fn flipped_bits_of_log_and_pages() {
    let only = |n: &str| n.starts_with("pg_wal/") || n.starts_with("base/") || n == "global/1262";
    harness().only(&only).seconds(8).flips(0, 1500).finish();
}

#[test]
fn cuts() {
    harness().seconds(6).cuts(600, 60).finish();
}

#[test]
fn bad_sectors() {
    harness().seconds(6).sectors().finish();
}

#[test]
fn files_lost_renamed_shrunk() {
    harness().seconds(6).file_sets().finish();
}

#[test]
fn the_same_report_however_the_bytes_arrive() {
    harness().chunking();
}

//! Systematic damage: every bit, every length, every sector, every file of small real databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;

use common::case;
use recovery_rocksdb::RocksDb;
use recovery_testkit::Harness;

static ENGINE: RocksDb = RocksDb;

/// Files with structure; OPTIONS and LOG are text without checksums and have their own parsers' tests.
fn structured(name: &str) -> bool {
    !name.starts_with("LOG") && !name.starts_with("OPTIONS") && !name.ends_with(".json")
}

fn logs(name: &str) -> bool {
    name.ends_with(".log") || name.starts_with("MANIFEST") || name == "CURRENT"
}

/// Ends of MANIFEST records: a cut there shows only where another witness knows what came behind it.
fn manifest_borders(db: &recovery_core::MemSource) -> Vec<(String, u64)> {
    let mut out = Vec::new();
    for (name, bytes) in db.files().iter().filter(|(n, _)| n.starts_with("MANIFEST")) {
        let blob = recovery_core::MemBlob::new(name.clone(), bytes.clone());
        let mut walker = recovery_rocksdb::reader::log::LogWalker::new(&blob, None, 1 << 20);
        while let Some(event) = walker.next_event() {
            if let recovery_rocksdb::reader::log::Event::Record { end, .. } = event {
                out.push((name.clone(), end));
            }
        }
    }
    out
}

#[test]
fn flips_of_logs_and_manifests() {
    for name in ["two_phase", "unflushed_families", "compressed_wal", "ingested"] {
        Harness::new(&ENGINE, case(name)).only(&logs).seconds(4).flips(2048, 400).finish();
    }
}

#[test]
fn cuts_of_logs_and_manifests() {
    for name in ["two_phase", "unflushed_families", "compressed_wal", "recycled_wal"] {
        // An incomplete last record of the last WAL is what every power cut leaves, and a cut between two records leaves
        // nothing to see: neither is called damage.
        let db = case(name);
        let last = db.files().keys().filter(|n| n.ends_with(".log")).max().cloned().unwrap_or_default();
        let borders = manifest_borders(&db);
        // A WAL that everything was flushed from is about to be deleted: its cut end costs nothing.
        let cx = recovery_core::Context::with_threads(1);
        let sources = recovery_core::Sources::one(std::sync::Arc::new(db.clone()));
        let report = recovery_core::Recover::inspect(&ENGINE, &sources, &serde_json::Value::Null, &cx).unwrap();
        let needless: Vec<String> =
            report.objects.iter().filter(|o| o.class == "obsolete").map(|o| o.name.clone()).collect();
        let exempt = |damage: &recovery_testkit::Damage| match damage {
            recovery_testkit::Damage::Cut { object, len } => {
                *object == last || needless.contains(object) || borders.contains(&(object.clone(), *len))
            }
            _ => false,
        };
        Harness::new(&ENGINE, case(name)).only(&logs).exempt(&exempt).seconds(4).cuts(2048, 400).finish();
    }
}

#[test]
fn flips_anywhere_in_a_small_database() {
    for name in ["leveled", "blobs", "obsolete_input"] {
        Harness::new(&ENGINE, case(name)).only(&structured).seconds(5).flips(64, 250).finish();
    }
}

#[test]
fn sectors_and_whole_files() {
    // An empty WAL is what a database leaves that was never written to since its last flush.
    let exempt = |damage: &recovery_testkit::Damage| match damage {
        recovery_testkit::Damage::File { object, fault } => {
            object.ends_with(".log") && *fault == recovery_testkit::FileFault::Empty
        }
        _ => false,
    };
    for name in ["two_phase", "compressed_wal"] {
        Harness::new(&ENGINE, case(name)).only(&logs).seconds(4).sectors().finish();
        Harness::new(&ENGINE, case(name)).exempt(&exempt).seconds(4).file_sets().finish();
    }
}

#[test]
fn the_report_does_not_depend_on_how_bytes_arrive() {
    for name in ["blobs", "compressed_wal"] {
        Harness::new(&ENGINE, case(name)).chunking();
    }
}

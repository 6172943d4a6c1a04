//! Tables of the real library: read, verified, salvaged, written again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use recovery_core::{Blob, Context, MemBlob};
use recovery_rocksdb::format::key::{KeyOrder, ParsedKey};
use recovery_rocksdb::reader::{TableOptions, TableReader, TableScan};
use recovery_rocksdb::salvage::{Depth, Salvaged, check_table};

fn blob(name: &str, bytes: impl Into<bytes::Bytes>) -> Arc<dyn Blob> {
    Arc::new(MemBlob::new(name, bytes))
}

fn small_tables() -> Vec<(String, bytes::Bytes)> {
    let folder = recovery_testkit::fixtures("rocksdb").join("tables");
    let files = recovery_testkit::load(&folder).files().clone();
    files.into_iter().filter(|(name, _)| name.ends_with(".sst")).collect()
}

/// Every table of every shared database, and the small ones of the project.
fn all_tables() -> Vec<(String, bytes::Bytes)> {
    let mut out = small_tables();
    for case in support::cases() {
        for (name, data) in case.database().files() {
            if name.ends_with(".sst") {
                out.push((format!("{}/{name}", case.name), data.clone()));
            }
        }
    }
    out
}

fn collect(mut scan: TableScan) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    while scan.advance().expect("a good block") {
        out.push((scan.key().to_vec(), scan.value().to_vec()));
    }
    out
}

fn order_of(table: &TableReader) -> KeyOrder {
    table.properties().comparator.as_deref().and_then(KeyOrder::by_name).unwrap_or_default()
}

/// A table that reads whole is verified without a finding, and every byte of it is accounted for.
#[test]
fn healthy_tables_have_no_findings_and_no_unknown_byte() {
    let cx = Context::with_threads(2);
    let (mut good, mut versions) = (0, BTreeSet::new());
    for (name, data) in all_tables() {
        let len = data.len() as u64;
        let blob = blob(&name, data);
        let Ok(table) = TableReader::open(Arc::clone(&blob), TableOptions::default()) else { continue };
        let whole = table.scan().and_then(|mut scan| {
            let mut points = 0;
            while scan.advance()? {
                points += 1;
            }
            Ok(points + table.tombstones()?.len() as u64)
        });
        let Ok(entries) = whole else { continue };
        assert_eq!(table.properties().num_entries, Some(entries), "{name}");
        let check = check_table(&blob, &TableOptions::default(), None, Depth::Entries, &cx).unwrap();
        // The damaged filter of one shared case does not keep the table from being read.
        if check.damages.iter().all(|d| d.what == "filter") && !check.damages.is_empty() {
            continue;
        }
        assert!(check.is_good() && check.damages.is_empty(), "{name}: {:?}", check.damages);
        let totals = check.coverage.totals();
        assert_eq!((totals.unknown, totals.damaged, totals.unread, totals.bytes), (0, 0, 0, len), "{name}");
        let order = order_of(&table);
        let (quick, exact) = (table.summary(&order, false).unwrap(), table.summary(&order, true).unwrap());
        assert_eq!((&quick.smallest, &quick.largest), (&exact.smallest, &exact.largest), "{name}");
        assert_eq!((quick.points, quick.largest_seqno), (exact.points, exact.largest_seqno), "{name}");
        versions.insert(table.footer().format_version);
        good += 1;
    }
    println!("{good} tables of format versions {versions:?}");
    assert_eq!(versions.len(), 7);
}

/// The walk needs neither footer nor index: it finds every entry of every table, and the tombstones.
#[test]
fn a_table_without_its_end_loses_nothing() {
    let cx = Context::with_threads(2);
    for (name, data) in all_tables() {
        let Ok(table) = TableReader::open(blob(&name, data.clone()), TableOptions::default()) else { continue };
        let Ok(scan) = table.scan() else { continue };
        let Ok(tombstones) = table.tombstones() else { continue };
        let check = check_table(&blob(&name, data.clone()), &TableOptions::default(), None, Depth::Checksums, &cx);
        if !check.unwrap().is_good() {
            continue;
        }
        let want = collect(scan);
        let mut cut = data.to_vec();
        cut.truncate(table.footer().offset as usize);
        let salvaged = Salvaged::run(&blob(&name, cut), &TableOptions::default(), None, &cx).expect("salvage");
        assert_eq!(collect(salvaged.scan()), want, "{name}");
        assert_eq!(salvaged.tombstones, tombstones, "{name}");
        assert!(salvaged.is_complete(), "{name}: {:?}", salvaged.lost);
        assert_eq!(salvaged.profile.seal, table.footer().seal, "{name}");
    }
}

/// What the damage cost is exactly what is recorded as physically gone.
#[test]
fn salvage_loses_what_is_physically_lost_and_nothing_else() {
    let cx = Context::with_threads(2);
    let mut seen = 0;
    for case in support::cases() {
        let expected = case.expected();
        let damages = match &expected["damage"] {
            serde_json::Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        for damage in damages {
            let (Some(file), Some(lost)) =
                (damage["file"].as_str(), damage["internal_entries_physically_lost"].as_array())
            else {
                continue;
            };
            let database = case.database();
            let Some(data) = database.files().get(file).filter(|data| !data.is_empty()) else { continue };
            let blob = blob(file, data.clone());
            let Ok(salvaged) = Salvaged::run(&blob, &TableOptions::default(), None, &cx) else { continue };
            let order = KeyOrder::Bytewise;
            let got = collect(salvaged.scan());
            if let Some(all) = damage["internal_entries_in_file"].as_u64() {
                let tombstones = damage["range_tombstones_lost"].as_u64().unwrap_or(0);
                let here = got.len() as u64 + salvaged.tombstones.len() as u64;
                assert_eq!(here + lost.len() as u64 + tombstones, all, "{} {file}", case.name);
            }
            if let Some(counted) = salvaged.entries_lost() {
                assert_eq!(counted, lost.len() as u64, "{} {file}", case.name);
            }
            for entry in lost {
                let key = recovery_core::unhex(entry[0].as_str().unwrap()).unwrap();
                let (seqno, kind) = (entry[1].as_u64().unwrap(), entry[2].as_u64().unwrap());
                let here = got.iter().any(|(k, _)| {
                    let parsed = ParsedKey::parse(k).unwrap();
                    parsed.user_key == key && parsed.sequence.0 == seqno && u64::from(parsed.value_type.byte()) == kind
                });
                assert!(!here, "{} {file}: invented {}", case.name, entry[0]);
                let inside = salvaged.lost.iter().any(|range| {
                    range.after.as_ref().is_none_or(|after| order.compare(after, &key).is_le())
                        && range.upto.as_ref().is_none_or(|upto| order.compare(&key, upto).is_le())
                });
                assert!(inside, "{} {file}: {} is in no lost range", case.name, entry[0]);
            }
            seen += 1;
        }
    }
    println!("{seen} damaged tables");
}

/// A salvaged table written again holds the same entries, also for the engine's own tool where that is installed.
#[test]
fn a_written_table_holds_the_same_entries() {
    let cx = Context::with_threads(2);
    let folder = tempfile::tempdir().unwrap();
    let tool = std::process::Command::new("sst_dump").arg("--version").output().is_ok();
    if !tool {
        println!("skipped: sst_dump is not installed, the written tables are read back by this crate only");
    }
    for (name, data) in small_tables() {
        let salvaged = Salvaged::run(&blob(&name, data), &TableOptions::default(), None, &cx).unwrap();
        let mut bytes = Vec::new();
        let written = salvaged.write_table(&mut bytes, &KeyOrder::Bytewise).unwrap();
        assert_eq!(written.size, bytes.len() as u64);
        let mut again = Vec::new();
        salvaged.write_table(&mut again, &KeyOrder::Bytewise).unwrap();
        assert_eq!(bytes, again, "{name}: the same input gives the same bytes");
        let check =
            check_table(&blob("new", bytes.clone()), &TableOptions::default(), None, Depth::Entries, &cx).unwrap();
        assert!(check.damages.is_empty(), "{name}: {:?}", check.damages);
        let table = TableReader::open(blob("new", bytes.clone()), TableOptions::default()).unwrap();
        assert_eq!(collect(table.scan().unwrap()), collect(salvaged.scan()), "{name}");
        assert_eq!(table.tombstones().unwrap(), salvaged.tombstones, "{name}");
        if tool {
            let path = folder.path().join("000042.sst");
            std::fs::write(&path, &bytes).unwrap();
            let run = |command: &str| {
                let file = format!("--file={}", path.display());
                let mut all = std::process::Command::new("sst_dump");
                let done = all.args([&file, command, "--output_hex"]).output().unwrap();
                String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
            };
            let lines = run("--command=scan").lines().filter(|line| line.contains(" seq:")).count();
            assert_eq!(lines, collect(salvaged.scan()).len(), "{name}");
            let verified = run("--command=verify");
            assert!(!verified.contains("orrupt"), "{name}: {verified}");
        }
    }
}

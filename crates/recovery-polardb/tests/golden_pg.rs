//! What the real programs said about real directories, and what we say.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod pg_common;

use std::path::Path;
use std::sync::Arc;

use recovery_core::{Check, Context, MemSource, Recover, Report, Severity, Source, Sources};
use recovery_polardb::PolarDb;
use recovery_polardb::cli::pg::{controldata, record_text};
use recovery_polardb::format::pg::Lsn;
use recovery_polardb::reader::pg::pages::{self, PageRules};
use recovery_polardb::reader::pg::wal::{Expect, WalDir, Walker};
use recovery_polardb::reader::pg::wal_scan::{ScanOptions, scan};
use recovery_polardb::reader::pg::{Cluster, find_clusters};
use serde_json::Value;

fn open(path: &Path) -> Cluster {
    find_clusters(&pg_common::dir(path)).unwrap().remove(0)
}

fn log(cluster: &Cluster) -> (WalDir, u32, Lsn) {
    let control = cluster.control().trusted().unwrap().control.clone();
    let expect = Expect { system_identifier: Some(control.system_identifier), magic: None, major: 0 };
    let wal =
        WalDir::open(cluster.source.clone(), &cluster.path("pg_wal"), control.segment_size().unwrap(), expect).unwrap();
    (wal, control.checkpoint_copy.this_tli, control.checkpoint_copy.redo)
}

fn same_controldata(cluster: &Cluster, said: &str) {
    let lines: Vec<String> = controldata(&cluster.control().any().unwrap().control)
        .into_iter()
        .map(|(label, value)| format!("{:<38}{value}", format!("{label}:")))
        .collect();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(lines, said);
}

/// Line by line as far as both describe: a name and blocks always, the rest for checkpoints and ends of transactions.
fn same_records(wal: &WalDir, tli: u32, start: Lsn, said: &str) -> usize {
    let cx = Context::default();
    let mut walker = Walker::new(wal, tli, start, None);
    let mut lines = said.lines();
    let mut n = 0;
    let stop = walker.run(Lsn(u64::MAX), &cx, |r| {
        let ours = record_text(r, 15);
        let theirs = lines.next().unwrap_or_else(|| panic!("no line for {ours}"));
        let head = |t: &str| t.split("desc: ").next().unwrap().to_owned();
        let name = |t: &str| t.split("desc: ").nth(1).unwrap().split([' ', ',']).next().unwrap().to_owned();
        let blocks = |t: &str| t.split(", blkref").skip(1).map(|b| b.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!((head(&ours), name(&ours), blocks(&ours)), (head(theirs), name(theirs), blocks(theirs)));
        if ours.contains("CHECKPOINT") {
            assert_eq!(ours, theirs.trim_end());
        }
        n += 1;
    });
    assert!(stop.unwrap().is_some());
    assert_eq!(lines.next(), None);
    n
}

fn inspect(path: &Path, check: Check) -> Report {
    let mut cx = Context::default();
    cx.check = check;
    PolarDb.inspect(&Sources::one(pg_common::dir(path)), &Value::Null, &cx).unwrap()
}

#[test]
fn the_committed_cluster() {
    let source: Arc<dyn Source> = Arc::new(pg_common::case("pg_small"));
    let cluster = find_clusters(&source).unwrap().remove(0);
    let answers = pg_common::fixtures().join("pg_small.answers");
    same_controldata(&cluster, &pg_common::text(&answers.join("controldata.txt")));
    let (wal, tli, redo) = log(&cluster);
    let said = pg_common::text(&answers.join("waldump.txt.zst"));
    assert_eq!(same_records(&wal, tli, redo, &said), said.lines().count());
    let report = PolarDb.inspect(&Sources::one(source), &Value::Null, &Context::default()).unwrap();
    let facts = &report.facts["clusters"][0];
    assert_eq!(
        (&facts["wal_end"], &facts["wal_stop"]),
        (&"0/92A3D8".into(), &"invalid record length at 0/92A3D8: wanted 24, got 0".into())
    );
    let open: Vec<_> = facts["prepared"].as_array().unwrap().iter().map(|p| p["gid"].as_str().unwrap()).collect();
    assert_eq!(open, ["gx", "gy"]);
}

#[test]
fn the_killed_server() {
    let Some((_keep, data, shared)) = pg_common::crash1() else { return };
    let cluster = open(&data);
    let expected = pg_common::json(&shared.join("crash1.expected.json"));
    let (wal, tli, redo) = log(&cluster);
    for threads in [1, 4] {
        let cx = Context::with_threads(threads);
        let options = ScanOptions { tli, start: redo, until: Lsn(u64::MAX), heal: true, asked: None };
        let found = scan(&wal, &options, &cx).unwrap();
        assert_eq!(found.summary.records, expected["derived_records"].as_u64().unwrap());
        assert_eq!(found.end.to_string(), expected["derived_end_of_wal"].as_str().unwrap());
        assert_eq!(found.stop.unwrap().to_string(), expected["derived_stop"].as_str().unwrap());
        assert_eq!((found.summary.bad_items, found.padding.0), (0, 0));
        assert_eq!(found.summary.prepared.len(), 1);

        let relations = pages::relations(&cluster).unwrap();
        let rules = PageRules { checksums: true, relseg_size: 131_072, wal_end: Some(found.end) };
        let totals = pages::verify(&cluster.source, &relations.files, rules, &cx).unwrap();
        let say = expected["pg_checksums"]["stdout"].as_str().unwrap();
        assert!(say.contains(&format!("Files scanned:   {}\n", totals.files)), "{} {say}", totals.files);
        assert!(say.contains(&format!("Blocks scanned:  {}\n", totals.pages)), "{} {say}", totals.pages);
        assert_eq!(totals.bad, 0);
    }
    same_controldata(&cluster, expected["pg_controldata"]["stdout"].as_str().unwrap());
    let said = pg_common::text(&shared.join("crash1.waldump.txt.zst"));
    assert_eq!(same_records(&wal, tli, redo, &said), 3574);

    let report = inspect(&data, Check::Full);
    assert_eq!((report.verdict.as_str(), report.complete), ("sound", true), "{:#?}", report.findings);
    let facts = &report.facts["clusters"][0];
    let slots: Vec<String> = facts["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{}|{}|{}", s["name"], s["type"], s["restart_lsn"]).replace('"', ""))
        .collect();
    for sql in expected["slots_sql"].as_array().unwrap() {
        let f: Vec<&str> = sql.as_str().unwrap().split('|').collect();
        assert!(slots.contains(&format!("{}|{}|{}", f[0], f[1], f[3])), "{sql} {slots:?}");
    }
    let server = expected["lsn_sql_before_stop"].as_str().unwrap().split('|').next().unwrap().to_owned();
    assert_eq!(facts["wal_end"], Value::from(server));
    let quick = inspect(&data, Check::Structure);
    assert_eq!((quick.verdict.as_str(), quick.complete), ("unverified", false));
}

/// A copy in memory with a case's patch applied.
fn patched(clean: &MemSource, case: &Value) -> Arc<dyn Source> {
    let mut copy = clean.clone();
    for p in case["patch"].as_array().unwrap() {
        let file = p["file"].as_str().unwrap();
        let mut bytes = copy.remove(file).unwrap().to_vec();
        if p["remove"].as_bool() == Some(true) {
            // In memory a directory is there as long as something is in it.
            let dir = file.rsplit_once('/').unwrap().0;
            copy.insert(format!("{dir}/nothing"), &b""[..]);
            continue;
        }
        if let Some(n) = p["truncate"].as_u64() {
            bytes.truncate(n as usize);
        } else {
            let new = recovery_core::unhex(p["hex"].as_str().unwrap()).unwrap();
            let at = p["offset"].as_u64().unwrap() as usize;
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        copy.insert(file, bytes);
    }
    Arc::new(copy)
}

fn in_memory(dir: &Path) -> MemSource {
    let source = pg_common::dir(dir);
    let files = source.list("", recovery_core::Depth::All).map(Result::unwrap).filter(recovery_core::Entry::is_file);
    MemSource::new(files.map(|e| {
        let blob = source.open(&e).unwrap();
        (e.name.clone(), blob.bytes(0..blob.len()).unwrap())
    }))
}

#[test]
fn every_damaged_copy_is_seen_for_what_it_is() {
    let Some((_keep, data, shared)) = pg_common::crash1() else { return };
    let cases = pg_common::json(&shared.join("crash1.cases.json"));
    let clean = in_memory(&data);
    for (name, case) in cases.as_object().unwrap() {
        let copy = patched(&clean, case);
        let report = PolarDb.inspect(&Sources::one(Arc::clone(&copy)), &Value::Null, &Context::default()).unwrap();
        let file = case["patch"][0]["file"].as_str().unwrap();
        let worst = report.findings.first().unwrap();
        pg_common::say(&format!("{name}: {} {} {}", report.verdict.as_str(), worst.code, worst.summary));
        // A page that was zeroed whole looks like one that was never used: pg_checksums says the same.
        if name == "page_zeroed" {
            assert_eq!(report.verdict.as_str(), "sound");
            assert!(report.facts["clusters"][0]["checksums"]["new"].as_u64().unwrap() > 30);
            continue;
        }
        assert!(report.exit >= 3, "{name}");
        let place = |o: &str| o == file || file.starts_with(o) && !o.is_empty();
        let named = report.findings.iter().any(|f| f.severity > Severity::Note && place(&f.object));
        assert!(named, "{name}: {:#?}", report.findings);
        // What pg_checksums says, page for page.
        let say = &case["real"]["pg_checksums"]["stdout"].as_str().unwrap_or_default();
        if let Some(bad) = say.split("Bad checksums:").nth(1).and_then(|t| t.lines().next()) {
            let ours = report.facts["clusters"][0]["checksums"]["bad"].as_u64().unwrap();
            assert_eq!(ours, bad.trim().parse::<u64>().unwrap(), "{name}");
        }
        // A walk without corrections ends where pg_waldump's does, and with them never earlier.
        let end = case["real"]["derived_end_of_wal"].as_str();
        if let (Some(end), true) = (end, !name.starts_with("control_")) {
            let cluster = find_clusters(&copy).unwrap().remove(0);
            let (wal, tli, redo) = log(&cluster);
            let cx = Context::default();
            let walk = |heal| {
                scan(&wal, &ScanOptions { tli, start: redo, until: Lsn(u64::MAX), heal, asked: None }, &cx).unwrap()
            };
            let plain = walk(false);
            assert_eq!(plain.end.to_string(), end, "{name}");
            assert_eq!(plain.summary.records, case["real"]["derived_records"].as_u64().unwrap(), "{name}");
            assert!(walk(true).end >= plain.end);
        }
    }
}

#[test]
fn clusters_inside_images() {
    let Some(shared) = pg_common::shared() else { return };
    for (image, answers) in [("pgclean", "clean16"), ("pgcrash", "crash1"), ("pgseg1g", "seg1g")] {
        let dir = tempfile::tempdir().unwrap();
        if !pg_common::unpack(&shared.join("pfs").join(format!("{image}.img.tar.zst")), dir.path()) {
            return;
        }
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let source = recovery_core::FileSource::new(&path);
        let expected = pg_common::json(&shared.join("pg").join(format!("{answers}.expected.json")));
        let cx = Context::default();
        let report = PolarDb.inspect(&Sources::one(std::sync::Arc::new(source)), &Value::Null, &cx).unwrap();
        pg_common::say(&format!("{image}: {}", report.verdict.as_str()));
        let facts = &report.facts["clusters"][0];
        assert_eq!(facts["path"], "/shared_data");
        assert_eq!(facts["wal_end"], expected["derived_end_of_wal"]);
        assert_eq!(facts["wal_stop"], expected["derived_stop"]);
        assert_eq!(facts["wal_records"], expected["derived_records"]);
        let say = expected["pg_checksums"]["stdout"].as_str().unwrap();
        assert!(
            say.contains(&format!("Blocks scanned:  {}\n", facts["checksums"]["pages"])),
            "{} {say}",
            facts["checksums"]
        );
        assert_eq!(facts["checksums"]["bad"], 0);
        assert_eq!(report.exit, 0, "{:#?}", report.findings);
        // Pages and records count as verified inside an image too, not as bytes known by their place.
        let pages = facts["checksums"]["pages"].as_u64().unwrap() - facts["checksums"]["new"].as_u64().unwrap();
        assert!(report.coverage.verified > pages * 8192, "{:?}", report.coverage);

        let mounted = PolarDb
            .mount(std::sync::Arc::new(recovery_core::FileBlob::open(&path, "image").unwrap()), &cx)
            .unwrap()
            .unwrap();
        let cluster = find_clusters(&mounted).unwrap().remove(0);
        same_controldata(&cluster, expected["pg_controldata"]["stdout"].as_str().unwrap());
        let (wal, tli, redo) = log(&cluster);
        let said = pg_common::text(&shared.join("pg").join(format!("{answers}.waldump.txt.zst")));
        same_records(&wal, tli, redo, &said);
    }
}

#[test]
fn a_promoted_server_recovers_on_its_own_timeline() {
    use recovery_polardb::format::pg::control;
    let mut files = pg_common::case("pg_small");
    let inspect = |files: &MemSource| {
        PolarDb.inspect(&Sources::one(Arc::new(files.clone())), &Value::Null, &Context::with_threads(2)).unwrap()
    };
    let before = inspect(&files);
    let clusters = &before.facts["clusters"][0];
    let end: Lsn = clusters["wal_end"].as_str().unwrap().parse().unwrap();
    let redo: Lsn = clusters["redo"].as_str().unwrap().parse().unwrap();
    // Promoted just behind the redo point, killed before the next checkpoint: only minRecoveryPointTLI tells.
    let found = control::decode(&files.files()["global/pg_control"]).unwrap();
    let (mut changed, layout) = (found.control, found.layout);
    changed.min_recovery_tli = 2;
    changed.checkpoint_copy.next_xid += 5;
    files.insert("global/pg_control", changed.encode(layout));
    let segment = changed.segment_size().unwrap();
    // The server begins the new timeline with a copy of the segment in which it left the old one.
    for number in segment.number(redo)..=segment.number(end) {
        let data = files.files()[&format!("pg_wal/{}", segment.name(1, number))].clone();
        files.insert(format!("pg_wal/{}", segment.name(2, number)), data);
    }
    files.insert("pg_wal/00000002.history", format!("1\t{redo}\tno recovery target specified\n").into_bytes());
    let after = inspect(&files);
    let told = |r: &Report| (r.exit, r.facts["clusters"][0]["wal_end"].clone(), r.facts["clusters"][0]["redo"].clone());
    assert_eq!(told(&after), told(&before), "{:#?}", after.findings);
    files.remove("pg_wal/00000002.history");
    assert!(inspect(&files).exit >= 3);
}

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]
//! Recorded answers of real programs beside real data.

mod common;

use common::{as_je, cases, json, live, scanned, summaries};
use recovery_bdbje::format::{Entry, Lsn};
use recovery_bdbje::reader::Walker;
use recovery_core::Context;
use serde_json::Value;

fn all_cases() -> Vec<common::Case> {
    let mut all = cases("envs");
    all.extend(cases("damaged"));
    all
}

fn number(v: &Value) -> Option<i64> {
    v.as_i64()
}

#[test]
fn figures_are_those_of_an_independent_walk() {
    let cx = Context::default();
    let mut checked = 0;
    for case in all_cases().iter().filter(|c| c.dir.join("truth.json").exists()) {
        let truth = json(&case.dir.join("truth.json"));
        let (_, scan) = scanned(&case.files, &cx);
        let name = &case.name;
        let front = scan.front();
        assert_eq!(front.first_visible, number(&truth["first_vlsn"]), "{name}: first VLSN");
        assert_eq!(front.last_visible, number(&truth["last_vlsn"]), "{name}: last VLSN");
        assert_eq!(front.last_sync, number(&truth["last_sync_vlsn"]), "{name}: last sync point");
        let commit = front.last_commit.map(|(v, l)| serde_json::json!([v, l.to_string()])).unwrap_or(Value::Null);
        assert_eq!(commit, truth["last_commit"], "{name}: last commit");
        let mps: Vec<Value> = scan
            .files
            .values()
            .flat_map(|f| f.matchpoints.iter().filter(|(_, l)| u64::from(l.offset()) < f.valid_to))
            .map(|(v, l)| serde_json::json!([v, l.to_string()]))
            .collect();
        assert_eq!(Value::Array(mps), truth["matchpoints"], "{name}: matchpoints");
        for (f, t) in scan.files.values().zip(truth["files"].as_array().unwrap()) {
            let place = format!("{name}: {}", f.name);
            assert_eq!(f.len, t["size"].as_u64().unwrap(), "{place}: size");
            if t["log_version"].as_u64().is_some_and(|v| v > 17) {
                continue;
            }
            assert_eq!(f.valid_to, t["valid_to"].as_u64().unwrap_or(0), "{place}: valid to");
            assert_eq!(f.front.entries, t["entries"].as_u64().unwrap(), "{place}: entries");
            assert_eq!(f.front.replicated, t["replicated"].as_u64().unwrap(), "{place}: replicated");
            assert_eq!(f.front.first_vlsn, number(&t["first_vlsn"]), "{place}: first");
            assert_eq!(f.front.last_vlsn, number(&t["last_vlsn"]), "{place}: last");
            assert_eq!(f.front.invisible, t["invisible"].as_u64().unwrap(), "{place}: invisible");
            for (n, count) in t["types"].as_object().unwrap() {
                let kind = recovery_bdbje::format::EntryType::from_name(n).unwrap();
                assert_eq!(f.front.count(kind), count.as_u64().unwrap(), "{place}: {n}");
            }
            assert!(f.odd.is_empty(), "{place}: {:?}", f.odd);
        }
        let mut spots = 0;
        for d in truth["damage"].as_array().unwrap() {
            let number = u32::from_str_radix(d["file"].as_str().unwrap(), 16).unwrap();
            let f = &scan.files[&number];
            let bad = f.first_bad().unwrap_or_else(|| panic!("{name}: no damage seen"));
            assert_eq!(bad.offset, d["offset"].as_u64().unwrap(), "{name}: place of damage");
            let commits = f.behind.count(recovery_bdbje::format::EntryType::COMMIT);
            assert_eq!(commits, d["commits_after"].as_u64().unwrap(), "{name}: commits behind");
            // The other walk tries every byte and takes an erased entry, which has no checksum, inside a damaged node
            // for one: where it lands in the middle of an entry, only ours is right.
            if bad.one_entry || d["resync_offset"].as_u64().is_some_and(|at| at == bad.end) {
                let theirs = d["valid_entries_after"].as_u64().unwrap();
                let inside = d["resync_offset"].as_u64().is_some_and(|at| at < bad.end);
                assert!(f.behind.entries == theirs || inside, "{name}: {} entries behind", f.behind.entries);
            } else {
                assert_eq!(f.behind.entries, d["valid_entries_after"].as_u64().unwrap(), "{name}: entries behind");
            }
            spots += 1;
        }
        assert_eq!(spots, scan.files.values().filter(|f| !f.bad.is_empty()).count(), "{name}: files with damage");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} cases");
}

#[test]
fn live_records_are_those_je_lists() {
    let cx = Context::default();
    let mut checked = 0;
    for case in all_cases().iter().filter(|c| common::exists(&c.dir.join("live.jsonl"))) {
        let want = live(&common::read(&case.dir.join("live.jsonl")));
        let name = &case.name;
        let (log, scan) = scanned(&case.files, &cx);
        if !want.opened {
            continue;
        }
        let env = as_je(&log, &scan, &cx);
        let got = summaries(&env, &cx);
        for (db, sum) in &want.dbs {
            let mine = got.get(db).unwrap_or_else(|| panic!("{name}: no database {db}"));
            assert_eq!(mine.as_ref().ok(), Some(sum), "{name}: {db} {mine:?}");
        }
        // The first bad read makes JE give up on everything; ours reads on.
        assert!(want.errors.is_empty() || got.values().any(Result::is_err), "{name}: all is readable");
        let extra: Vec<_> = got
            .keys()
            .filter(|n| !n.starts_with("_je") && !want.dbs.contains_key(*n) && !want.errors.contains(n))
            .collect();
        assert!(extra.is_empty(), "{name}: {extra:?} are not there for JE");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} cases");
}

#[test]
fn every_entry_encodes_to_its_own_bytes() {
    let cx = Context::default();
    let mut entries = 0u64;
    for case in all_cases() {
        let (log, scan) = scanned(&case.files, &cx);
        for f in log.files.values() {
            let mut walker = Walker::new(f.blob.as_ref(), f.len);
            let mut at = 0;
            while at < scan.files[&f.number].valid_to {
                let e = walker.entry(at).unwrap();
                let entry = Entry::decode(e.header.kind, f.version(), e.item(), e.item_at()).unwrap();
                let place = Lsn::new(f.number, at as u32);
                assert_eq!(entry.encode(f.version()), e.item(), "{} {place} {:?}", case.name, e.header.kind);
                let mut whole = Vec::new();
                let flags = e.header.flags & !0x10;
                recovery_bdbje::format::header::put(
                    &mut whole,
                    e.header.kind,
                    flags,
                    e.header.prev,
                    e.header.vlsn,
                    e.item(),
                );
                let mut want = e.bytes.to_vec();
                want[5] &= !0x10;
                if e.header.kind != recovery_bdbje::format::EntryType::FILE_HEADER {
                    assert_eq!(whole, want, "{} {place}", case.name);
                }
                at = e.end();
                entries += 1;
            }
        }
    }
    assert!(entries > 1000);
}

/// What a perfect salvage still knows of each case, against what ours finds.
#[test]
fn a_scavenge_finds_what_can_be_found_and_nothing_else() {
    let cx = Context::default();
    let mut checked = 0;
    for case in cases("damaged").iter().filter(|c| c.dir.join("salvage.json").exists()) {
        let want = json(&case.dir.join("salvage.json"));
        let base = json(&case.dir.join("damage.json"))["base"].as_str().unwrap().to_owned();
        let root = case.dir.parent().unwrap().parent().unwrap();
        let base = common::case_of(root, "envs", &base);
        let (base_log, base_scan) = scanned(&base.files, &cx);
        let base_env = as_je(&base_log, &base_scan, &cx);
        let name = &case.name;
        let (log, scan) = scanned(&case.files, &cx);
        let log = log.by_header().unwrap_or(log);
        let scan = recovery_bdbje::reader::scan_log(&log, Default::default(), &cx).unwrap_or(scan);
        let got = recovery_bdbje::model::scavenge(&log, &scan, &[], &cx).unwrap();
        for (db, w) in want["databases"].as_object().unwrap() {
            let n = |k: &str| w[k].as_array().unwrap().len() as u64;
            if w["intact"].as_u64().unwrap() + n("from_bin") + n("in_doubt") == 0 {
                continue;
            }
            let found = got.databases.get(db).unwrap_or_else(|| panic!("{name}: database {db} not found"));
            let mut truth = std::collections::BTreeMap::new();
            let mut sink = |b: recovery_bdbje::model::Batch| {
                truth.extend(b.records.into_iter().map(|r| (r.key.to_vec(), r.data.to_vec())));
                Ok(())
            };
            base_env.records(base_env.database(db).unwrap(), &cx, &mut sink, &mut Vec::new()).unwrap();
            let (mut sure, mut doubt) = (0u64, 0u64);
            let dups = found.config.duplicates();
            let failed = found.each(&log, false, &mut |k, v, version, in_doubt| {
                if in_doubt {
                    doubt += 1;
                    return;
                }
                sure += 1;
                if dups {
                    return;
                }
                match truth.get(k) {
                    Some(t) => assert_eq!(t, v, "{name}: {db} {k:02x?} has another value at {}", version.lsn),
                    None => panic!("{name}: {db} {k:02x?} was not live, found at {} {:?}", version.lsn, version.origin),
                }
            });
            assert!(failed.is_empty(), "{name}: {db}: {failed:02x?}");
            assert_eq!(
                sure,
                w["intact"].as_u64().unwrap() + n("from_bin"),
                "{name}: {db}: records {:?}",
                found.counts()
            );
            // A log that ends between two entries shows no damage: its last transaction is merely open.
            let visible = scan.bad().next().is_some();
            assert!(doubt >= n("in_doubt") || !visible, "{name}: {db}: {doubt} in doubt, {} expected", n("in_doubt"));
        }
        // Where a stretch of the log is missing altogether, a removal of a database may be in it.
        let spec = json(&case.dir.join("damage.json"));
        if spec["ops"].as_array().unwrap().iter().any(|o| o["op"] == "truncate" || o["op"] == "delete") {
            checked += 1;
            continue;
        }
        let extra: Vec<_> = got
            .databases
            .iter()
            .filter(|(n, f)| {
                !n.starts_with("_je") && want["databases"].get(n.as_str()).is_none() && f.counts() != [0; 4]
            })
            .map(|(n, f)| (n, f.counts()))
            .collect();
        assert!(extra.is_empty(), "{name}: {extra:?} come from nowhere");
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} cases");
}

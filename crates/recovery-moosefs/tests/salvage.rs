//! What is kept of damaged metadata, of logs with holes, and of earlier points in time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::sync::Arc;

use recovery_core::{Context, DirTarget, Error, MemBlob, MemSource, Recover, Sources};
use recovery_moosefs::model::load::{IssueKind, LoadOptions, Loaded, load};
use recovery_moosefs::{Model, MooseFs};
use serde_json::{Value, json};

fn case(name: &str) -> MemSource {
    recovery_testkit::load(&recovery_testkit::fixtures("moosefs").join(name).join("in"))
}

fn context() -> Context {
    let mut cx = Context::with_threads(1);
    cx.now_ms = 1_795_301_000_000;
    cx
}

/// The bytes of a rescue that accepts `accept`.
fn rescue(source: MemSource, options: &Value, accept: &[&str]) -> Result<Vec<u8>, Error> {
    let (cx, sources) = (context(), Sources::one(Arc::new(source)));
    let report = MooseFs.inspect(&sources, options, &cx)?;
    let plan = MooseFs.plan(&sources, &report, options, &cx)?;
    plan.check_consents(&accept.iter().map(|a| ((*a).to_owned(), None)).collect())?;
    let out = tempfile::tempdir().unwrap();
    let into = out.path().join("result");
    MooseFs.apply(&sources, &plan, &DirTarget::new(&into)?, &cx)?;
    // a plan that was written down and read again leads to the same bytes
    let again = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    let second = out.path().join("second");
    MooseFs.apply(&sources, &again, &DirTarget::new(&second)?, &cx)?;
    let bytes = std::fs::read(into.join("metadata.mfs")).unwrap();
    assert!(bytes == std::fs::read(second.join("metadata.mfs")).unwrap(), "a second apply gives other bytes");
    Ok(bytes)
}

fn salvaged(bytes: Vec<u8>) -> Loaded {
    let options = LoadOptions { salvage: true, dialect: None, checksums: false };
    load(&MemBlob::new("damaged", bytes), &options).unwrap()
}

fn strict(bytes: Vec<u8>) -> Model {
    let options = LoadOptions { salvage: false, dialect: None, checksums: false };
    load(&MemBlob::new("written", bytes), &options).unwrap().model
}

/// Start and end of the payload of a section.
fn section(bytes: &[u8], name: &[u8]) -> (usize, usize) {
    let at = bytes.windows(4).position(|w| w == name).unwrap();
    let len = u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize;
    (at + 16, at + 16 + len)
}

fn bases() -> Vec<Vec<u8>> {
    ["v3_rare_ops", "v4_rare_ops"].iter().map(|n| case(n).files()["metadata.mfs.back"].to_vec()).collect()
}

/// Starts of the records of a list of nodes of version 0x14.
fn nodes(bytes: &[u8]) -> Vec<usize> {
    let (start, _) = section(bytes, b"NODE");
    let mut at = start + 8;
    let mut out = Vec::new();
    while bytes[at] != 0 {
        out.push(at);
        let word = |p: usize| u32::from_be_bytes(bytes[p..p + 4].try_into().unwrap()) as usize;
        at += match bytes[at] {
            2 | 4 | 7 => 32,
            5 | 6 => 36,
            3 => 36 + word(at + 32),
            _ => 44 + 8 * word(at + 40),
        };
    }
    out
}

#[test]
fn one_bad_node_costs_one_node() {
    for clean in bases() {
        let all = strict(clean.clone()).totals();
        let starts = nodes(&clean);
        for &at in starts.iter().step_by(7).filter(|&&at| clean[at..].starts_with(&[1])) {
            let mut bad = clean.clone();
            bad[at] = 0x77;
            let found = salvaged(bad);
            // the node is lost, its names with it; nothing else is
            assert_eq!(found.model.totals().inodes, all.inodes - 1, "byte {at}");
            assert_eq!(found.issues.iter().filter(|i| i.kind == IssueKind::Record).count(), 1);
            assert!(found.orphans.is_empty());
            let mut out = Vec::new();
            found.model.store(&mut out, recovery_moosefs::model::store::StoreOptions { now: 0 }).unwrap();
            assert_eq!(strict(out).totals(), found.model.totals());
        }
    }
}

#[test]
fn a_wrong_length_of_a_node_costs_nothing() {
    for clean in bases() {
        let all = strict(clean.clone()).totals();
        for &at in nodes(&clean).iter().step_by(5).filter(|&&at| clean[at..].starts_with(&[1])) {
            for bit in [0x02, 0x10] {
                let mut bad = clean.clone();
                bad[at + 43] ^= bit;
                let found = salvaged(bad);
                assert_eq!(found.model.totals().inodes, all.inodes, "byte {at}");
                assert!(found.issues.iter().any(|i| i.kind == IssueKind::Repaired));
            }
        }
    }
}

#[test]
fn damaged_names_cost_themselves() {
    for clean in bases() {
        let all = strict(clean.clone()).totals();
        let (start, end) = section(&clean, b"EDGE");
        for at in (start + 8..end - 18).step_by(97) {
            let mut bad = clean.clone();
            bad[at..at + 3].fill(0xFF);
            let found = salvaged(bad);
            assert_eq!(found.model.totals().inodes, all.inodes, "byte {at}");
            let lost = all.edges.saturating_sub(found.model.totals().edges);
            assert!(lost <= 8, "byte {at}: {lost} names are lost");
        }
    }
}

#[test]
fn a_cut_chunk_table_is_rebuilt_from_the_files() {
    for clean in bases() {
        let all = strict(clean.clone()).totals();
        let (start, end) = section(&clean, b"CHNK");
        let mut bad = clean.clone();
        bad.drain(start + (end - start) / 2..end);
        let found = salvaged(bad);
        assert!(found.model.totals().chunks + 40 >= all.chunks, "{} of {}", found.model.totals().chunks, all.chunks);
        assert!(found.issues.iter().any(|i| i.kind == IssueKind::Repaired));
    }
}

/// The log without its line number `n`.
fn without(source: &MemSource, n: usize) -> MemSource {
    let log = source.files()["changelog.0.mfs"].to_vec();
    let lines: Vec<&[u8]> = log.split_inclusive(|&b| b == b'\n').collect();
    let mut out = source.clone();
    out.insert("changelog.0.mfs", [lines[..n].concat(), lines[n + 1..].concat()].concat());
    out
}

#[test]
fn changes_behind_a_hole_are_applied_when_asked() {
    for name in ["v3_rare_ops", "v4_rare_ops", "v16_healthy"] {
        let source = case(name);
        let whole = strict(rescue(source.clone(), &Value::Null, &[]).unwrap());
        let damaged = without(&source, 40);
        let options = json!({"past_gaps": true});
        match rescue(damaged.clone(), &options, &[]) {
            Err(Error::Refusal(r)) => assert!(r.consents.iter().any(|c| c == "passed-changes"), "{:?}", r.consents),
            other => panic!("{name}: {other:?}"),
        }
        let past = strict(rescue(damaged, &options, &["passed-changes"]).unwrap());
        assert_eq!(past.version(), whole.version(), "{name}");
        let (a, b) = (past.totals(), whole.totals());
        assert!(a.inodes + 30 >= b.inodes && a.edges + 30 >= b.edges, "{name}: {a:?} of {b:?}");
    }
}

#[test]
fn a_point_in_time_is_the_state_its_log_leads_to() {
    for name in ["v3_rare_ops", "v4_rare_ops", "v16_healthy"] {
        let source = case(name);
        let log = source.files()["changelog.0.mfs"].to_vec();
        let lines: Vec<&[u8]> = log.split_inclusive(|&b| b == b'\n').collect();
        let whole = strict(rescue(source.clone(), &Value::Null, &[]).unwrap());
        for n in [lines.len() / 3, lines.len() / 2, lines.len() - 2] {
            let line = String::from_utf8_lossy(lines[n]);
            let id: u64 = line.split(':').next().unwrap().parse().unwrap();
            let until = rescue(source.clone(), &json!({"until": id.to_string()}), &[]);
            let mut short = MemSource::new([("changelog.0.mfs", lines[..=n].concat())]);
            for (file, bytes) in source.files().iter().filter(|(f, _)| f.starts_with("metadata.mfs")) {
                short.insert(file.clone(), bytes.clone());
            }
            let cut = rescue(short, &Value::Null, &[]);
            match (until, cut) {
                (Ok(a), Ok(b)) => {
                    assert!(a == b, "{name} until {id}");
                    assert!(strict(a).version() <= whole.version());
                }
                // the only metadata file may be later than that
                (Err(_), _) => assert!(id < strict(source.files()["metadata.mfs.back"].to_vec()).version(), "{name}"),
                (Ok(_), Err(e)) => panic!("{name} until {id}: {e}"),
            }
        }
    }
}

/// What went away after the point in time is told.
#[test]
fn data_that_later_changes_took_is_named() {
    let head = "1: 1700000000|SETMETAID(7710753672121694945)\n";
    let made = "2: 1700000001|CREATE(1,keep,1,420,18,0,0,0):2\n3: 1700000001|WRITE(2,0,1,1):1\n\
                4: 1700000002|LENGTH(2,70000,0)\n5: 1700000002|UNLOCK(1)\n6: 1700000003|CREATE(1,gone,1,420,18,0,0,0):3\n\
                7: 1700000003|WRITE(3,0,1,1):2\n8: 1700000003|LENGTH(3,5,0)\n9: 1700000003|UNLOCK(2)\n";
    let later = "10: 1700000100|UNLINK(1,gone):3\n11: 1700000101|PURGE(3)\n12: 1700000102|CHUNKDEL(2,1)\n\
                 13: 1700000103|WRITE(2,0,1,1):1\n14: 1700000104|CREATE(1,new,1,420,18,0,0,0):4\n\
                 15: 1700000104|WRITE(4,0,1,1):3\n";
    let log = [head, made, later].concat();
    let dir = MemSource::new([("metadata.mfs.back", b"MFSM NEW".to_vec()), ("changelog.0.mfs", log.into_bytes())]);
    let (cx, sources) = (context(), Sources::one(Arc::new(dir)));
    for until in ["9", "@1700000050", "2023-11-14T22:13:50"] {
        let options = json!({"until": until, "as": "3"});
        let report = MooseFs.inspect(&sources, &options, &cx).unwrap();
        let plan = MooseFs.plan(&sources, &report, &options, &cx).unwrap();
        assert_eq!(plan.result["version"], 10);
        let after = &plan.result["after"];
        let count = |key: &str| after[key].as_u64().unwrap();
        assert_eq!((count("undone"), count("chunks_unknown")), (6, 1), "{until}");
        assert_eq!((count("chunks_gone"), count("chunks_newer"), count("files_total")), (1, 1, 2));
        let paths: Vec<&str> = after["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["gone", "keep"]);
    }
    let options = json!({"until": "0"});
    assert!(MooseFs.inspect(&sources, &options, &cx).is_ok());
}

//! Earlier times, deleted files, and repair: against what the real tool and independent decoders recorded.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;

use std::collections::BTreeMap;

use common::{Image, context, expected, find, listing, open, patch, unpack};
use recovery_core::{Reading, Severity};
use recovery_polardb::format::pfs::{JOURNAL_INO, ROOT_INO};
use recovery_polardb::reader::pfs::{Pfs, Story, deleted};
use recovery_polardb::writer::pfs::repair;
use serde_json::Value;

fn json(name: &str) -> Option<Value> {
    let path = common::folders().into_iter().map(|d| d.join(name)).find(|p| p.exists())?;
    serde_json::from_slice(&std::fs::read(path).unwrap()).ok()
}

/// What a person compares, without the engine's own files.
fn lines(files: &recovery_polardb::model::pfs::FileSystem) -> Vec<String> {
    let own = |ino: u64| (1..=JOURNAL_INO).contains(&ino);
    let line = |(path, n): (Vec<u8>, &recovery_polardb::model::pfs::Node)| {
        let path = String::from_utf8_lossy(&path).into_owned();
        let size = if n.directory { 0 } else { n.size };
        format!("{path} {} {} {size} {} {} {:?}", n.ino, n.directory, n.mtime, n.btime, n.extents)
    };
    files.walk(ROOT_INO).filter(|(_, n)| !own(n.ino)).map(line).collect()
}

#[test]
fn deleted_files_are_the_recorded_ones() {
    let cx = context(Reading::Strict);
    for name in ["undel", "mixed"] {
        let (Some(truth), Some(path)) = (json(&format!("{name}.undelete.json")), find(name)) else { continue };
        let pfs = open(&unpack(&path), Reading::Strict).unwrap();
        let (ours, span) = deleted(&pfs, &cx).unwrap();
        assert!(span.whole());
        let theirs = truth.as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let tree = pfs.tree_of(&ours);
        for (o, t) in ours.iter().zip(theirs) {
            let path = format!("/{}", t["path"].as_str().unwrap());
            assert_eq!(String::from_utf8_lossy(&o.path), path, "{name}");
            let numbers = |key: &str| t[key].as_u64();
            assert_eq!(
                (Some(o.lsn), Some(o.txid), Some(o.ino), Some(o.size), Some(o.btime), o.directory),
                (
                    numbers("lsn"),
                    numbers("txid"),
                    numbers("ino"),
                    numbers("size"),
                    numbers("btime"),
                    t["type"] == "dir"
                ),
                "{name} {path}"
            );
            if o.directory {
                continue;
            }
            let blocks: Vec<u64> = t["block_numbers"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap()).collect();
            assert_eq!(o.extents.iter().map(|e| e.block).collect::<Vec<_>>(), blocks, "{name} {path}");
            assert_eq!(Some(o.intact()), t["all_blocks_intact"].as_bool(), "{name} {path}");
            let node =
                tree.nodes.values().find(|n| !n.directory && n.extents == o.extents && n.btime == o.btime).unwrap();
            assert_eq!(node.doubts.is_empty(), o.intact());
            assert_eq!(
                common::sha256(&common::file_of(&pfs, node)),
                t["sha256_now"].as_str().unwrap(),
                "{name} {path}"
            );
        }
    }
}

#[test]
fn every_time_in_the_ring_is_what_the_transactions_up_to_it_make() {
    let cx = context(Reading::Strict);
    for name in ["undel", "mixed", "wrap", "v0", "w_wrap3", "w_journal", "real_mkfs3"] {
        let pfs = open(&unpack(&find(name).unwrap()), Reading::Strict).unwrap();
        let head = pfs.leader.record().unwrap().head_txid;
        let now = pfs.at(head, &cx).unwrap();
        assert_eq!((lines(&now.files), now.unknown), (lines(&pfs.files), 0), "{name}");
        assert!(now.overwritten.is_empty());
        // Followed one after another, the transactions lead through the same paths.
        let (mut story, span) = Story::begin(&pfs, &cx).unwrap();
        let mut times = BTreeMap::new();
        let step = (head - span.first_txid) / 3 + 1;
        pfs.history(&cx, &mut |t| {
            story.apply(&t);
            if t.txid % step == 0 {
                let past = pfs.at(t.txid, &cx)?;
                for (path, node) in past.files.walk(ROOT_INO).filter(|_| past.unknown == 0) {
                    assert_eq!(
                        String::from_utf8_lossy(&story.path(node.ino)),
                        String::from_utf8_lossy(&path),
                        "{name} {}",
                        t.txid
                    );
                }
                times.insert(t.txid, past.files.nodes.len());
            }
            Ok(())
        })
        .unwrap();
        assert!(!times.is_empty(), "{name}");
        assert!(pfs.at(head + 1, &cx).is_err());
    }
}

#[test]
fn an_earlier_image_is_what_time_travel_shows() {
    // The second image is the first one after more work.
    let (Some(first), Some(second)) = (find("flushed"), find("mixed")) else {
        return println!("skipped: the larger fixtures are not there");
    };
    let (then, now) = (unpack(&first), unpack(&second));
    let (then, now) = (open(&then, Reading::Strict).unwrap(), open(&now, Reading::Strict).unwrap());
    let past = now.at(then.leader.record().unwrap().head_txid, &context(Reading::Strict)).unwrap();
    assert_eq!(lines(&past.files), lines(&then.files));
    assert!(!past.overwritten.is_empty());
}

fn mended(image: &Image) -> (Image, Pfs) {
    let mut image = image.clone();
    let old = open(&image, Reading::Salvage).unwrap();
    repair(&old, &mut image, &context(Reading::Strict)).unwrap();
    let new = open(&image, Reading::Strict).unwrap();
    // What lies behind a stale head was not asked for, and stays.
    let bad: Vec<_> = new.findings.iter().filter(|f| f.severity > Severity::Note && f.code != "PFS-0006").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(new.findings.iter().all(|f| f.code != "PFS-0007"), "the engine would abort: {:#?}", new.findings);
    assert_eq!(new.leader.record().unwrap().live_entries(), 0);
    (image, new)
}

#[test]
fn repaired_images_hold_every_file_and_read_clean() {
    let mut names: Vec<String> =
        ["undel", "mixed", "wrap", "v0", "v1", "w_wrap3", "w_journal", "real_mkfs3"].map(str::to_owned).into();
    names.retain(|n| find(n).is_some());
    for name in names {
        let image = unpack(&find(&name).unwrap());
        let old = open(&image, Reading::Strict).unwrap();
        let (_, new) = mended(&image);
        assert_eq!(lines(&new.files), lines(&old.files), "{name}");
        let mut answer = expected(&name);
        // Directory sizes and the engine's own files are as before too.
        answer["objects"].as_array_mut().unwrap().retain(|o| o["path"].as_str().is_some());
        assert_eq!(common::differences(&new, &answer, false), [""; 0], "{name}");
        // The past is still there.
        let cx = context(Reading::Strict);
        let (before, span) = deleted(&old, &cx).unwrap();
        if span.whole() {
            assert_eq!(deleted(&new, &cx).unwrap().0, before, "{name}");
        }
    }
}

#[test]
fn damaged_images_are_repaired_to_what_can_be_read_of_them() {
    let mut done = 0;
    // The larger fixtures were gone through once; the project's own tell enough every day.
    for dir in [common::own()] {
        let Ok(text) = std::fs::read(dir.join("cases.json")) else { continue };
        let cases: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
        for (name, case) in cases {
            let Some(base) = find(case["base"].as_str().unwrap()) else { continue };
            let mut image = unpack(&base);
            patch(&mut image, &case);
            let old = open(&image, Reading::Salvage).unwrap();
            let (_, new) = mended(&image);
            let (was, is) = (lines(&old.files), lines(&new.files));
            let gone: Vec<_> = was.iter().filter(|l| !is.contains(l)).collect();
            assert!(gone.is_empty(), "{name}: {gone:#?}");
            done += 1;
        }
    }
    assert!(done >= 15, "{done}");
}

#[test]
fn orphans_get_a_name() {
    let image = unpack(&find("killed_orphan").unwrap());
    let (_, new) = mended(&image);
    assert!(new.files.orphans.is_empty());
    let node = new.files.find(b"lost+found/ino-133").unwrap();
    assert_eq!(node.size, 126);
    let again = mended(&image).1;
    assert_eq!(listing(&again), listing(&new));
}

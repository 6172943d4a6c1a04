//! Answers of real programs, recorded beside real data.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Context, DirSource, DirTarget, Error, MemBlob, Recover, Sources, Verdict};
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::model::store::StoreOptions;
use recovery_moosefs::{Dialect, MooseFs, format};
use serde_json::{Value, json};

/// The clock at which the real programs of the 2.x and 3.x cases wrote.
const NOW: u32 = 1_795_301_000;

fn context() -> Context {
    let mut cx = Context::with_threads(2);
    cx.now_ms = u64::from(NOW) * 1000;
    cx
}

fn folders() -> Vec<(String, PathBuf)> {
    let mut all = recovery_testkit::cases(&recovery_testkit::fixtures("moosefs"));
    match recovery_testkit::shared("moosefs") {
        Some(shared) => {
            let more = recovery_testkit::cases(&shared);
            all.extend(more.into_iter().filter(|(name, _)| name != "tools"));
        }
        None => println!("skipped: the shared fixtures are not here"),
    }
    all.retain(|(_, p)| p.join("in").is_dir());
    all
}

fn sources(dir: &Path) -> Sources {
    Sources::one(Arc::new(DirSource::open(dir).unwrap()))
}

/// Rescues a case; the bytes, or why not.
fn rescue(dir: &Path, options: &Value, accept: &[&str]) -> Result<Vec<u8>, Error> {
    let cx = context();
    let sources = sources(&dir.join("in"));
    let report = MooseFs.inspect(&sources, options, &cx)?;
    let plan = MooseFs.plan(&sources, &report, options, &cx)?;
    plan.check_consents(&accept.iter().map(|a| ((*a).to_owned(), None)).collect())?;
    let out = tempfile::tempdir().unwrap();
    let into = out.path().join("result");
    MooseFs.apply(&sources, &plan, &DirTarget::new(&into)?, &cx)?;
    let bytes = std::fs::read(into.join("metadata.mfs")).unwrap();
    if let Ok(crc) = std::fs::read(into.join("metadata.crc")) {
        check_crc(&bytes, &crc);
    }
    Ok(bytes)
}

fn check_crc(bytes: &[u8], crc: &[u8]) {
    let stored = format::crc::CrcFile::decode(crc).unwrap();
    let options = LoadOptions { salvage: false, dialect: None, checksums: true };
    let loaded = load(&MemBlob::new("result", bytes.to_vec()), &options).unwrap();
    assert_eq!(stored.entries, loaded.checksums);
}

/// Root times of an implied new filesystem are unknown, and 3.x takes its own clock for them.
fn without_root_times(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let flat = bytes.starts_with(b"MFSM 1.5");
    let find = |at: usize| {
        let is_dir = bytes[at] == if flat { b'd' } else { 2 };
        is_dir && bytes[at + 1..at + 5] == [0, 0, 0, 1]
    };
    let start = if flat { 24 } else { bytes.windows(4).position(|w| w == b"NODE").unwrap() + 24 };
    let at = (start..bytes.len() - 40).find(|&i| find(i)).unwrap();
    let old = bytes.windows(8).any(|w| w == b"NODE 1.3");
    let times = if flat { at + 16 } else { at + if old { 17 } else { 18 } };
    out[times..times + 12].fill(0);
    out
}

/// 3.x writes locks that have run out as 0 and takes its own clock.
fn without_locks(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let Some(at) = bytes.windows(8).position(|w| w == b"CHNK 1.1") else { return out };
    let mut p = at + 16 + 8;
    while p + 17 <= out.len() {
        out[p + 12..p + 16].fill(0);
        p += 17;
    }
    out
}

fn wanted(dir: &Path) -> Option<Vec<u8>> {
    ["right/metadata.mfs", "expected/metadata.mfs"].iter().find_map(|p| std::fs::read(dir.join(p)).ok())
}

/// Cases in which the real program's file is not the right answer, and what is right instead.
fn refused(name: &str) -> Option<&'static [&'static str]> {
    Some(match name.split_once('_').map_or("", |n| n.1) {
        "cl_gap_in_file" | "cl_gap_missing_file" | "seed_new_log_starts_late" | "log_gap" => &["gap"],
        "cl_parse_error_line" | "cl_corrupt_digit" | "log_unknown_operation" => &["replay-stop"],
        "cl_other_filesystem" => &["other-filesystem"],
        "md_two_filesystems" => &["two-filesystems"],
        "md_bitflip_uid_silent" => &["changed-base"],
        "md_edge_child_missing"
        | "md_edge_parent_missing"
        | "md_edge_section_dropped"
        | "md_cut_inside_chnk_eof_kept"
        | "md_section_from_future"
        | "base_cut_in_edges" => &["damaged-base"],
        "seed_only_changelogs" | "ml_only" if name.starts_with("v3") => &["branch"],
        _ => return None,
    })
}

fn unusable(name: &str) -> bool {
    name.ends_with("md_bad_node_type") || name.ends_with("md_truncated_alone")
}

#[test]
fn every_case_gives_the_right_answer() {
    let mut done = 0;
    let mut wrong = Vec::new();
    for (name, dir) in folders() {
        done += 1;
        if let Err(why) = one_case(&name, &dir) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    println!("{done} cases");
    assert!(wrong.is_empty(), "{} of {done}:\n{}", wrong.len(), wrong.join("\n"));
}

fn one_case(name: &str, dir: &Path) -> Result<(), String> {
    let options = if name.ends_with("new_only_setmetaid") { json!({"as": &name[1..2]}) } else { Value::Null };
    if let Some(names) = refused(name) {
        match rescue(dir, &options, &[]) {
            Err(Error::Refusal(r)) if r.consents.iter().any(|c| names.contains(&c.as_str())) => {}
            Err(Error::Refusal(r)) => return Err(format!("asks for {:?}, not for {names:?}", r.consents)),
            Err(other) => return Err(format!("{other}")),
            Ok(_) => return Err(format!("was not refused, {names:?} expected")),
        }
        let all =
            ["gap", "branch", "replay-stop", "other-filesystem", "two-filesystems", "damaged-base", "changed-base"];
        let bytes = rescue(dir, &options, &all).map_err(|e| e.to_string())?;
        if let Ok(right) = std::fs::read(dir.join("right/metadata.mfs")) {
            return same(&right, &bytes);
        }
        return Ok(());
    }
    if unusable(name) {
        return match rescue(dir, &options, &[]) {
            Ok(_) => Err("should not be usable".into()),
            Err(_) => Ok(()),
        };
    }
    let bytes = rescue(dir, &options, &[]).map_err(|e| e.to_string())?;
    let Some(want) = wanted(dir) else { return Ok(()) };
    let root_unknown =
        name.contains("seed") || name.contains("new_") || name.contains("only") || name.starts_with("v2");
    if name.contains("input_by") {
        let want = std::fs::read(dir.join("expected/metadata.mfs")).map_err(|e| e.to_string())?;
        let bytes = rescue(dir, &json!({"as": "4"}), &[]).map_err(|e| e.to_string())?;
        return same(&want, &bytes);
    }
    if name.starts_with("v2") {
        // the real master drew a filesystem id, which 2.x does not log
        let mut bytes = bytes;
        bytes[16..24].copy_from_slice(&want[16..24]);
        return same(&without_root_times(&want), &without_root_times(&bytes));
    }
    if root_unknown {
        return same(&without_root_times(&want), &without_root_times(&bytes));
    }
    same(&want, &bytes)
}

fn same(want: &[u8], have: &[u8]) -> Result<(), String> {
    let (want, have) = (without_locks(want), without_locks(have));
    if want == have {
        return Ok(());
    }
    let at = want.iter().zip(&have).position(|(a, b)| a != b).unwrap_or(want.len().min(have.len()));
    if let Some(keep) = std::env::var_os("RECOVER_KEEP") {
        std::fs::write(Path::new(&keep).join(format!("have-{}-{at}", have.len())), &have).unwrap();
        std::fs::write(Path::new(&keep).join(format!("want-{}-{at}", want.len())), &want).unwrap();
    }
    Err(format!("differs at {at}: {} bytes, {} expected", have.len(), want.len()))
}

#[test]
fn healthy_files_are_read_and_written_byte_for_byte() {
    let mut done = 0;
    for (name, dir) in folders() {
        for sub in ["expected", "right", "live"] {
            let Ok(bytes) = std::fs::read(dir.join(sub).join("metadata.mfs")) else { continue };
            let options = LoadOptions { salvage: false, dialect: None, checksums: true };
            let loaded = load(&MemBlob::new("metadata.mfs", bytes.clone()), &options);
            let Ok(loaded) = loaded else {
                assert!(name.contains("edge_section_dropped"), "{name}/{sub}: {}", loaded.unwrap_err());
                continue;
            };
            // 1.6 to 3.x turn some lists around with each load, so two loads give the file back
            let mut once = Vec::new();
            let crc = loaded.model.store(&mut once, StoreOptions { now: 0 }).unwrap();
            if loaded.model.dialect() != Dialect::V16 {
                let mut stored = crc.entries.clone();
                stored.sort_unstable();
                let mut read = loaded.checksums.clone();
                read.sort_unstable();
                assert_eq!(stored, read, "{name}/{sub}");
            }
            let again = load(&MemBlob::new("again", once), &options).unwrap();
            let mut twice = Vec::new();
            again.model.store(&mut twice, StoreOptions { now: 0 }).unwrap();
            assert!(twice == bytes, "{name}/{sub}: {} bytes became {}", bytes.len(), twice.len());
            done += 1;
        }
    }
    assert!(done > 0);
}

#[test]
fn sessions_files_are_read_and_written_byte_for_byte() {
    for (_, dir) in folders() {
        for name in ["sessions.mfs", "sessions_ml.mfs"] {
            let Ok(bytes) = std::fs::read(dir.join("in").join(name)) else { continue };
            let file = format::sessions_file::SessionsFile::decode(&bytes).unwrap();
            assert_eq!(file.encode(), bytes);
        }
    }
}

#[test]
fn verdicts_say_what_is_wrong() {
    let cx = context();
    for (name, dir) in folders() {
        let report = MooseFs.inspect(&sources(&dir.join("in")), &Value::Null, &cx).unwrap();
        let healthy =
            ["healthy", "new_all_ops", "multi_older_base", "ml_full", "clean_stop", "rare_ops", "cl_one_line"];
        let damaged =
            ["torn", "garbage", "cut", "gap", "bad_", "zero_byte", "swapped", "dropped", "bitflip", "missing"];
        if healthy.iter().any(|h| name.ends_with(h)) {
            let said: Vec<&String> = report.findings.iter().map(|f| &f.summary).collect();
            assert_eq!(report.verdict, Verdict::Sound, "{name}: {said:?}");
        }
        if damaged.iter().any(|d| name.contains(d)) {
            assert!(report.verdict > Verdict::Unverified, "{name}: {:?}", report.verdict);
        }
    }
}

//! The verbs on images: what they print, what they write, how they end.
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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Command;
use recovery_core::cli::OpenOptions;
use recovery_core::{Blob, Reading};
use recovery_polardb::cli::pfs::{commands, run, split_image};
use serde_json::Value;

/// Runs one command line; returns the exit code and the output.
fn recover(args: &[&str]) -> (u8, Vec<u8>) {
    let command = Command::new("polardb").subcommands(commands());
    let matches = command.try_get_matches_from(std::iter::once("polardb").chain(args.iter().copied())).unwrap();
    let (verb, matches) = matches.subcommand().unwrap();
    let mut out = Vec::new();
    let result = run(verb, matches, &OpenOptions::default(), &mut out, &common::context(Reading::Strict));
    match result {
        Ok(exit) => (exit.unwrap().0, out),
        Err(e) => (e.exit(), e.to_string().into_bytes()),
    }
}

fn json(args: &[&str]) -> (u8, Value) {
    let (exit, out) = recover(args);
    (exit, serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&out))))
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self, name: &str) -> String {
        let path = self.path(&format!("{name}.img"));
        common::store(&common::unpack(&common::find(name).unwrap()), &path);
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn ls_and_stat_say_what_the_real_tool_says() {
    let place = Place::new();
    let image = place.image("mixed");
    let before = std::fs::metadata(&image).unwrap().mtime_nsec();
    let expected = common::expected("mixed");
    let (exit, list) = json(&["ls", "-R", &image, "--json"]);
    assert_eq!(exit, 0);
    let ours: BTreeMap<&str, &Value> =
        list["entries"].as_array().unwrap().iter().map(|e| (e["path"].as_str().unwrap(), e)).collect();
    for e in expected["objects"].as_array().unwrap() {
        let path = format!("/{}", e["path"].as_str().unwrap());
        let o = ours[path.as_str()];
        assert_eq!((&o["size"], &o["mtime"], &o["inode"]), (&e["size"], &e["modify"], &e["ino"]), "{path}");
        assert_eq!(o["blocks"].as_u64().unwrap() * 8192, e["blocks512"].as_u64().unwrap(), "{path}");
        assert_eq!(o["type"] == "directory", e["type"] == "dir", "{path}");
    }
    assert_eq!(ours.len(), expected["objects"].as_array().unwrap().len());
    let (_, one) = json(&["ls", &format!("{image}:/after"), "--json"]);
    assert_eq!(one["entries"].as_array().unwrap().len(), 5);
    let (exit, stat) = json(&["stat", &format!("{image}:after/a1"), "--json"]);
    assert_eq!((exit, &stat["size"], &stat["nlink"]), (0, &Value::from(8), &Value::from(1)));
    let (exit, _) = recover(&["stat", &format!("{image}:/nothing")]);
    assert_eq!(exit, 2);
    for verb in ["ls", "du", "tree", "meta", "verify"] {
        let (exit, text) = recover(&[verb, &image]);
        assert_eq!((exit, text.is_empty()), (0, false), "{verb}");
        assert_eq!(json(&[verb, &image, "--json"]).0, 0);
    }
    assert_eq!(std::fs::metadata(&image).unwrap().mtime_nsec(), before, "never written");
}

#[test]
fn an_image_name_ends_at_the_first_colon_behind_a_file() {
    let place = Place::new();
    let (plain, odd) = (place.path("disk"), place.path("a:b"));
    std::fs::write(&plain, b"x").unwrap();
    std::fs::write(&odd, b"x").unwrap();
    let plain = plain.to_str().unwrap();
    assert_eq!(split_image(plain), (plain, ""));
    assert_eq!(split_image(&format!("{plain}:/a:b")), (plain, "/a:b"));
    let odd = odd.to_str().unwrap();
    assert_eq!(split_image(&format!("{odd}:/c")), (odd, "/c"));
    assert_eq!(split_image("nowhere:/x"), ("nowhere:/x", ""));
}

fn compare(dir: &Path, expected: &Value) {
    for e in expected["objects"].as_array().unwrap() {
        let Some(sum) = e["sha256"].as_str() else { continue };
        let path = dir.join(e["path"].as_str().unwrap());
        let data = std::fs::read(&path).unwrap();
        let blob = recovery_core::MemBlob::new("", data);
        assert_eq!(common::sha256(&blob), sum, "{path:?}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
}

#[test]
fn extract_gives_every_file_with_its_sum_and_is_sparse() {
    let place = Place::new();
    let image = place.image("mixed");
    let expected = common::expected("mixed");
    for (name, extra) in [("sums", &[][..]), ("fast", &["--no-verify"])] {
        let out = place.path(name);
        let mut args = vec!["extract", &image, "--out", out.to_str().unwrap(), "--json"];
        args.extend(extra);
        let (exit, report) = json(&args);
        assert_eq!((exit, report["spoiled"].as_array().unwrap().len()), (0, 0));
        compare(&out, &expected);
        let sums = std::fs::read_to_string(out.join(".recover/SHA256SUMS")).unwrap();
        assert_eq!(sums.is_empty(), !extra.is_empty());
        assert_eq!(out.join("after").metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let hole = out.join("hole1").metadata().unwrap();
        assert!(hole.blocks() * 512 < hole.size() / 2, "{} of {}", hole.blocks() * 512, hole.size());
        // The same command again does nothing and says the same.
        assert_eq!(json(&args).1["files"], report["files"]);
    }
    let part = place.path("part");
    assert_eq!(json(&["extract", &format!("{image}:/after"), "--out", part.to_str().unwrap(), "--json"]).0, 0);
    assert!(part.join("a1").is_file());
    let file = place.path("file");
    assert_eq!(json(&["extract", &format!("{image}:/after/a1"), "--out", file.to_str().unwrap(), "--json"]).0, 0);
    assert!(file.join("a1").is_file());
    // Another job does not go where the result of one lies.
    let (exit, _) = recover(&["extract", &format!("{image}:/after"), "--out", file.to_str().unwrap()]);
    assert_eq!(exit, 6);
}

#[test]
fn what_is_damaged_is_left_out_strictly_and_written_on_request() {
    let place = Place::new();
    let base = common::unpack(&common::find("mixed").unwrap());
    let mut cut = base.clone();
    cut.truncate(60 << 20);
    let path = place.path("cut.img");
    common::store(&cut, &path);
    let image = path.to_str().unwrap();
    let strict = place.path("strict");
    let (exit, report) = json(&["extract", image, "--out", strict.to_str().unwrap(), "--json"]);
    assert_eq!(exit, 4);
    let spoiled: Vec<_> = report["spoiled"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
    assert!(!spoiled.is_empty());
    assert!(spoiled.iter().all(|p| !strict.join(p.trim_start_matches('/')).exists()));
    let salvage = place.path("salvage");
    let (exit, again) = json(&["extract", image, "--out", salvage.to_str().unwrap(), "--json", "--salvage"]);
    assert_eq!(exit, 4);
    for p in &spoiled {
        let good = common::file(&common::open(&base, Reading::Strict).unwrap(), p);
        let ours = std::fs::read(salvage.join(p.trim_start_matches('/'))).unwrap();
        assert_eq!(ours.len() as u64, good.len(), "{p}");
    }
    assert_eq!(again["spoiled"].as_array().unwrap().len(), spoiled.len());
    let (exit, _) = recover(&["cat", &format!("{image}:{}", spoiled[0])]);
    assert_eq!(exit, 4);
    assert_eq!(json(&["verify", image, "--json"]).1["verdict"], "lossy");
}

#[test]
fn salvage_writes_orphans_to_lost_and_found() {
    let place = Place::new();
    let image = place.image("killed_orphan");
    let out = place.path("out");
    let (exit, report) = json(&["extract", &image, "--out", out.to_str().unwrap(), "--json", "--salvage"]);
    assert_eq!((exit, report["orphans"].as_u64()), (0, Some(1)));
    assert_eq!(std::fs::metadata(out.join("lost+found/ino-133")).unwrap().len(), 126);
    let (exit, data) = recover(&["cat", &format!("{image}:/lost+found/ino-133")]);
    assert_eq!((exit, data.len()), (0, 126));
}

#[test]
fn verdicts_follow_the_damage() {
    let place = Place::new();
    let good = common::unpack(&common::find("wrap").unwrap());
    let expect = |name: &str, image: &common::Image, verdict: &str, exit: u8| {
        let path = place.path(name);
        common::store(image, &path);
        let (code, report) = json(&["verify", path.to_str().unwrap(), "--json"]);
        assert_eq!((report["verdict"].as_str(), code), (Some(verdict), exit), "{name}: {report:#}");
        report
    };
    let report = expect("good", &good, "sound", 0);
    assert_eq!(report["coverage"]["unknown"], 0);
    assert_eq!(report["facts"]["pfs"]["version"], 2);
    let mut leader = good.clone();
    leader.zero(4 << 20, 4096);
    let report = expect("leader", &leader, "recoverable", 3);
    assert_eq!(report["if_started"][0]["action"], "refuses");
    let mut foreign = common::Image::new(1 << 30);
    foreign.put(0, b"not a file system");
    let path = place.path("foreign");
    common::store(&foreign, &path);
    assert_eq!(recover(&["ls", path.to_str().unwrap()]).0, 5);
}

#[test]
fn the_journal_tells_every_transaction() {
    let place = Place::new();
    for name in ["mixed", "wrap", "w_wrap3", "killed_orphan"] {
        let image = place.image(name);
        let (exit, out) = recover(&["journal", &image, "--json"]);
        assert_eq!(exit, 0, "{name}");
        let lines: Vec<Value> =
            out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
        let expected = common::expected(name);
        let counted: Vec<&Value> = lines.iter().filter(|l| l["state"] == "trimmed" || l["state"] == "live").collect();
        assert_eq!(counted.last().unwrap()["txid"], expected["derived"]["leader"]["head_txid"], "{name}");
        assert_eq!(counted.last().unwrap()["last_lsn"], expected["derived"]["leader"]["head_lsn"], "{name}");
        for pair in counted.windows(2) {
            let next = |v: &Value, key: &str| v[key].as_u64().unwrap() + 1;
            assert_eq!(pair[1]["txid"].as_u64().unwrap(), next(pair[0], "txid"), "{name}");
            assert_eq!(pair[1]["first_lsn"].as_u64().unwrap(), next(pair[0], "last_lsn"), "{name}");
        }
        let live: usize =
            counted.iter().filter(|l| l["state"] == "live").map(|l| l["entries"].as_array().unwrap().len()).sum();
        let said = &expected["derived"]["journal_entries_live"];
        assert!(said.is_null() || *said == live, "{name}: {said} {live}");
        let (_, text) = recover(&["journal", &image]);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().filter(|l| l.starts_with("tx ")).count(), lines.len(), "{name}");
    }
}

#[test]
fn earlier_times_and_deleted_files_are_listed_and_written() {
    let place = Place::new();
    let image = place.image("undel");
    let truth: Value =
        serde_json::from_slice(&std::fs::read(common::own().join("undel.undelete.json")).unwrap()).unwrap();
    let (exit, list) = json(&["undelete", &image, "--json"]);
    assert_eq!((exit, list["whole_history"].as_bool()), (0, Some(true)));
    let (ours, theirs) = (list["files"].as_array().unwrap(), truth.as_array().unwrap());
    assert_eq!(ours.len(), theirs.len());
    let out = place.path("out");
    assert_eq!(json(&["undelete", &image, "--out", out.to_str().unwrap(), "--json"]).0, 0);
    let before = ours.iter().map(|f| f["txid"].as_u64().unwrap()).min().unwrap() - 1;
    let then = place.path("then");
    let (exit, past) = json(&["at", &image, "--tx", &before.to_string(), "--json"]);
    assert_eq!((exit, past["unknown_objects"].as_u64()), (0, Some(0)));
    assert_eq!(json(&["at", &image, "--tx", &before.to_string(), "--out", then.to_str().unwrap(), "--json"]).0, 0);
    for (o, t) in ours.iter().zip(theirs) {
        let path = t["path"].as_str().unwrap();
        assert_eq!(
            (o["path"].as_str().unwrap(), &o["txid"], &o["lsn"]),
            (format!("/{path}").as_str(), &t["txid"], &t["lsn"])
        );
        assert!(past["entries"].as_array().unwrap().iter().any(|e| e["path"] == o["path"]), "{path}");
        if let Some(sum) = t["sha256_before_delete_by_real_tool"].as_str() {
            for dir in [&out, &then] {
                let data = std::fs::read(dir.join(path)).unwrap();
                assert_eq!(common::sha256(&recovery_core::MemBlob::new("", data)), sum, "{path}");
            }
        }
    }
    assert_eq!(recover(&["at", &image, "--tx", "99999999"]).0, 2);
    for verb in [&["undelete", &image][..], &["at", &image, "--tx", "5"]] {
        assert_eq!(recover(verb).0, 0);
    }
}

#[test]
fn a_repaired_image_is_new_whole_and_never_the_given_one() {
    let place = Place::new();
    let image = place.image("killed_orphan");
    let before = std::fs::metadata(&image).unwrap().mtime_nsec();
    let new = place.path("new.img");
    let (exit, report) = json(&["repair", &image, "--into", new.to_str().unwrap(), "--json"]);
    assert_eq!((exit, &report["lost_and_found"][0]), (0, &Value::from("/lost+found/ino-133")));
    let new = new.to_str().unwrap();
    assert_eq!(json(&["verify", new, "--json"]).1["verdict"], "sound");
    assert_eq!(recover(&["cat", &format!("{new}:/lost+found/ino-133")]).1.len(), 126);
    assert_eq!(recover(&["repair", &image, "--into", new]).0, 6);
    assert_eq!(recover(&["repair", &image, "--into", &image]).0, 6);
    assert_eq!(std::fs::metadata(&image).unwrap().mtime_nsec(), before);
    let names: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing else is left: {names:?}");
}

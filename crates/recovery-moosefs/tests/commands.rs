//! The drop-in command lines against what the real programs printed and stored.
#![cfg(feature = "cli")]
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

use recovery_core::cli::{EngineCli, OpenOptions};
use recovery_core::{Context, Error};
use recovery_moosefs::cli::Cli;

fn context() -> Context {
    let mut cx = Context::with_threads(2);
    cx.now_ms = 1_795_301_000_000;
    cx
}

/// Runs a verb as the binary does; exit code and text.
fn run(words: &[&str]) -> Result<(u8, String), Error> {
    let command = clap::Command::new("moosefs").subcommands(Cli.commands());
    let matches = command.get_matches_from(std::iter::once(&"moosefs").chain(words));
    let (verb, matches) = matches.subcommand().unwrap();
    let mut out = Vec::new();
    let exit = Cli.run(verb, matches, &OpenOptions::default(), &mut out, &context())?;
    Ok((exit.0, String::from_utf8_lossy(&out).into_owned()))
}

fn cases() -> Vec<(String, PathBuf)> {
    let mut all = recovery_testkit::cases(&recovery_testkit::fixtures("moosefs"));
    match recovery_testkit::shared("moosefs") {
        Some(shared) => all.extend(recovery_testkit::cases(&shared)),
        None => println!("skipped: the shared fixtures are not here"),
    }
    all.retain(|(_, p)| p.join("in").is_dir());
    all
}

fn named(name: &str) -> Option<PathBuf> {
    let found = cases().into_iter().find(|(n, _)| n == name).map(|(_, p)| p);
    if found.is_none() {
        println!("skipped: {name} is not here");
    }
    found
}

/// A copy of the `in` folder of a case, which commands may write to.
fn copy(case: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(case.join("in")).unwrap() {
        let entry = entry.unwrap();
        std::fs::write(dir.path().join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
    }
    dir
}

fn text(dir: &Path) -> String {
    dir.to_str().unwrap().to_owned()
}

/// Lines as the recorded ones have them: without the folder.
fn plain(said: &str, dir: &Path) -> String {
    said.replace(&format!("{}/", dir.display()), "")
}

#[test]
fn metadump_prints_what_the_real_programs_printed() {
    let mut done = 0;
    for (name, case) in cases() {
        let Ok(dump) = std::fs::read(case.join("expected/dump.txt")) else { continue };
        if name.starts_with("v2") {
            // the lines of sessions began differently in 2.0.91
            continue;
        }
        let want = String::from_utf8_lossy(&dump).into_owned();
        let (code, have) = run(&["metadump", &text(&case.join("expected/metadata.mfs"))]).unwrap();
        assert_eq!(code, 0);
        // the real programs print wrong fields of patterns and of whole-file locks, whose session they read before the
        // owner, and for a class without a description that of the class before
        let comparable = |line: &str| match line.split_once("|c:") {
            Some((head, _)) if line.starts_with("SCLASSMAIN") => head.to_owned(),
            _ if line.starts_with("PATTERN") => "PATTERN".to_owned(),
            _ if line.starts_with("FLOCK") => line.split("|s:").next().unwrap().to_owned(),
            _ => line.to_owned(),
        };
        let lines = |text: &str| text.split('\n').map(comparable).collect::<Vec<_>>();
        let (want, have) = (lines(&want), lines(&have));
        let differs = want.iter().zip(&have).position(|(a, b)| a != b);
        assert_eq!(differs.map(|i| (&want[i], &have[i])), None, "{name}");
        assert_eq!(want.len(), have.len(), "{name}");
        done += 1;
    }
    assert!(done > 0);
}

#[test]
fn metadump_of_one_section_and_of_damage() {
    let Some(case) = named("v3_rare_ops") else { return };
    let file = text(&case.join("in/metadata.mfs.back"));
    let (_, all) = run(&["metadump", &file]).unwrap();
    let (_, nodes) = run(&["metadump", "-s", "NODE", &file]).unwrap();
    assert!(all.contains(&nodes) && nodes.contains("\nNODE|") && !nodes.contains("\nEDGE|"), "{nodes}");
    assert!(matches!(run(&["metadump", "-s", "NODES", &file]), Err(Error::Usage(_))));
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(run(&["metadump", &text(&cut)]), Err(Error::Damaged(_))));
}

#[test]
fn metarestore_says_and_stores_what_the_old_program_does() {
    for name in ["v16_healthy", "v16_rare_ops"] {
        let Some(case) = named(name) else { continue };
        let dir = copy(&case);
        let (code, said) = run(&["metarestore", "-a", "-d", &text(dir.path())]).unwrap();
        assert_eq!(code, 0, "{said}");
        if let Ok(want) = std::fs::read_to_string(case.join("expected_later_build/log.txt")) {
            assert_eq!(plain(&said, dir.path()), want);
        }
        let stored = std::fs::read(dir.path().join("metadata.mfs")).unwrap();
        assert!(stored == std::fs::read(case.join("expected/metadata.mfs")).unwrap(), "{name}");
        // the files named one by one, in another order
        let out = dir.path().join("out");
        let (base, one, zero) = ("metadata.mfs.back", "changelog.1.mfs", "changelog.0.mfs");
        let path = |n: &str| text(&dir.path().join(n));
        if !dir.path().join(one).exists() {
            continue;
        }
        let (code, said) =
            run(&["metarestore", "-m", &path(base), "-o", &text(&out), &path(zero), &path(one)]).unwrap();
        assert_eq!(code, 0, "{said}");
        assert!(std::fs::read(out).unwrap() == stored, "{name}");
        // and as text
        let (_, dumped) = run(&["metarestore", "-m", &path(base), &path(zero)]).unwrap();
        assert!(dumped.ends_with(&run(&["metadump", &path("metadata.mfs")]).unwrap().1));
    }
}

#[test]
fn metarestore_stops_where_the_old_program_stops() {
    for (name, words) in [
        (
            "v16_log_gap",
            "hole in change files (entries from changelog.0.mfs:1225 to changelog.0.mfs:1228 are missing) - add more files",
        ),
        ("v16_log_unknown_operation", "changelog.0.mfs:1225: error: 32 (Data mismatch)"),
    ] {
        let Some(case) = named(name) else { continue };
        let dir = copy(&case);
        let (code, said) = run(&["metarestore", "-a", "-d", &text(dir.path())]).unwrap();
        assert_eq!(code, 1, "{said}");
        assert!(plain(&said, dir.path()).lines().any(|l| l == words), "{said}");
        assert!(!dir.path().join("metadata.mfs").exists());
        let (code, said) = run(&["metarestore", "-a", "-b", "-d", &text(dir.path())]).unwrap();
        assert_eq!(code, 0, "{said}");
        let right = std::fs::read(case.join("right/metadata.mfs")).unwrap();
        assert!(std::fs::read(dir.path().join("metadata.mfs")).unwrap() == right, "{name}");
    }
}

#[test]
fn metarestore_loses_nothing_where_the_old_program_does() {
    for name in ["v16_log_torn_last_line", "v16_base_cut", "v16_log_garbage_line", "v3_cl_torn_last_line"] {
        let Some(case) = named(name) else { continue };
        let dir = copy(&case);
        let (code, said) = run(&["metarestore", "-a", "-d", &text(dir.path())]).unwrap();
        assert_eq!(code, 0, "{said}");
        let right = std::fs::read(case.join("right/metadata.mfs")).unwrap();
        assert!(std::fs::read(dir.path().join("metadata.mfs")).unwrap() == right, "{name}: {said}");
    }
}

#[test]
fn each_change_is_told() {
    let Some(case) = named("v16_healthy") else { return };
    let dir = copy(&case);
    let (_, said) = run(&["metarestore", "-a", "-x", "-d", &text(dir.path())]).unwrap();
    let said = plain(&said, dir.path());
    assert!(said.contains("using changelog file: changelog.0.mfs (changes: 714 - 1480)\n"), "{said}");
    let told: Vec<&str> = said.lines().filter(|l| l.starts_with("changelog.0.mfs: change: ")).collect();
    let log = std::fs::read_to_string(case.join("in/changelog.0.mfs")).unwrap();
    assert_eq!(told.len(), log.lines().count());
    assert_eq!(told[0], log.lines().next().unwrap().replace("714: ", "changelog.0.mfs: change: "));
    let dir = copy(&case);
    let (_, more) = run(&["metarestore", "-a", "-xx", "-d", &text(dir.path())]).unwrap();
    let versions = "current meta version: 714 ; previous changeid: 713 ; current changeid: 714 ; change data: ";
    assert!(more.contains(versions), "{more}");
}

#[test]
fn what_was_there_is_kept() {
    let Some(case) = named("v3_cl_torn_last_line") else { return };
    let dir = copy(&case);
    let path = |n: &str| dir.path().join(n);
    std::fs::write(path("metadata.crc"), "the sums of the base").unwrap();
    std::fs::write(path("metadata.mfs"), "MFSM what?").unwrap();
    let (code, said) = run(&["metarestore", "-a", "-d", &text(dir.path())]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read_to_string(path("metadata.crc.old")).unwrap(), "the sums of the base");
    assert_eq!(std::fs::read_to_string(path("metadata.mfs.old")).unwrap(), "MFSM what?");
}

#[test]
fn a_complete_file_is_left_alone() {
    let Some(case) = named("v16_clean_stop") else { return };
    let dir = copy(&case);
    let (code, said) = run(&["metarestore", "-a", "-d", &text(dir.path())]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing to do"), "{said}");
    let stored = std::fs::read(dir.path().join("metadata.mfs")).unwrap();
    assert!(stored == std::fs::read(case.join("in/metadata.mfs")).unwrap());
}

/// Lines of the dump of the real program that begin so.
fn dumped(case: &Path, prefix: &str) -> usize {
    let dump = std::fs::read(case.join("expected/dump.txt")).unwrap();
    dump.split(|&b| b == b'\n').filter(|l| l.starts_with(prefix.as_bytes())).count()
}

#[test]
fn trees_are_those_of_the_real_dump() {
    for name in ["v3_rare_ops", "v4_rare_ops"] {
        let Some(case) = named(name) else { continue };
        let file = text(&case.join("expected/metadata.mfs"));
        let (exit, found) = run(&["find", &file]).unwrap();
        let trash = dumped(&case, "EDGE|p:      NULL");
        assert_eq!((exit, found.lines().count()), (0, dumped(&case, "EDGE|") - trash), "{name}");
        let (_, listed) = run(&["ls", &file, "/"]).unwrap();
        let top = found.lines().filter(|l| l.matches('/').count() == 1).count();
        assert_eq!(listed.lines().count(), top);
        let (_, sums) = run(&["du", &file]).unwrap();
        assert!(sums.lines().last().unwrap().trim_end().ends_with('.'));
        for path in found.lines().filter(|p| !p.contains('\\')).step_by(3) {
            let (exit, said) = run(&["stat", &file, path]).unwrap();
            assert!(exit == 0 && said.contains("inode"), "{path}");
            run(&["chunks", &file, path]).unwrap();
        }
        assert!(run(&["stat", &file, "/no such name"]).is_err());
    }
}

#[test]
fn logs_are_shown_line_by_line() {
    for name in ["v16_healthy", "v3_rare_ops", "v4_rare_ops"] {
        let Some(case) = named(name) else { continue };
        let log = std::fs::read_to_string(case.join("in/changelog.0.mfs")).unwrap();
        let dir = text(&case.join("in"));
        let count =
            |word: &str| log.lines().filter(|l| l.split_once('|').is_some_and(|t| t.1.starts_with(word))).count();
        let (exit, all) = run(&["log", &text(&case.join("in/changelog.0.mfs"))]).unwrap();
        assert_eq!((exit, all.lines().count()), (0, log.lines().count()), "{name}");
        let logs = std::fs::read_dir(case.join("in")).unwrap().flatten();
        if logs.filter(|f| f.file_name().to_string_lossy().starts_with("changelog")).count() > 1 {
            continue;
        }
        let (_, every) = run(&["log", &dir]).unwrap();
        assert_eq!(every.lines().count(), log.lines().count(), "{name}");
        let (_, unlinks) = run(&["log", "--op", "UNLINK", &dir]).unwrap();
        assert_eq!(unlinks.lines().count(), count("UNLINK("), "{name}");
        let first: u64 = log.split(':').next().unwrap().parse().unwrap();
        let to = (first + 9).to_string();
        let (_, ten) = run(&["log", "--from", &first.to_string(), "--to", &to, &dir]).unwrap();
        assert_eq!(ten.lines().count(), 10);
        let (_, trash) = run(&["undelete", &dir]).unwrap();
        assert!(trash.lines().all(|l| !l.is_empty()));
    }
}

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]
#![cfg(feature = "cli")]
//! The verbs' output against what the real tools printed.

mod common;

use std::path::Path;

use common::cases;
use recovery_bdbje::cli::Cli;
use recovery_core::Context;
use recovery_core::cli::EngineCli;

fn run(words: &[&str], dir: &Path) -> (u8, String) {
    let verbs = clap::Command::new("bdbje").subcommands(Cli.commands());
    let mut line = vec!["bdbje"];
    line.extend(words);
    line.push(dir.to_str().unwrap());
    let matches = verbs.try_get_matches_from(line).unwrap();
    let (verb, args) = matches.subcommand().unwrap();
    let mut out = Vec::new();
    let exit = Cli.run(verb, args, &Default::default(), &mut out, &Context::default()).unwrap();
    (exit.0, String::from_utf8(out).unwrap())
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect()
}

/// What the real tool wrote, when it came to an end.
fn recorded(case: &common::Case, name: &str, part: &str) -> Option<String> {
    let path = case.dir.join(name);
    let text = common::exists(&path).then(|| String::from_utf8(common::read(&path)).unwrap())?;
    let stdout = text.strip_prefix("exit=0")?.split("--- stdout").nth(1)?.to_owned();
    let mut halves = stdout.splitn(2, "--- stderr");
    let (first, second) = (halves.next()?.to_owned(), halves.next().unwrap_or_default().to_owned());
    Some(if part == "stdout" { first } else { second })
}

#[test]
fn statistics_and_distributions_are_those_of_the_real_tool() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    let mut all = cases("envs");
    all.extend(cases("damaged"));
    for case in &all {
        let at = dir.path().join(&case.name);
        std::fs::create_dir(&at).unwrap();
        case.files.iter().for_each(|(n, b)| std::fs::write(at.join(n), b).unwrap());
        if let Some(want) = recorded(case, "printlog_S.txt", "stdout") {
            let (exit, got) = run(&["printlog", "-S"], &at);
            assert!(exit == 0 || exit == 3, "{}: exit {exit}", case.name);
            let (got, want) = (lines(&got), lines(&want));
            // Where a log begins behind the start of a checkpoint, or ends in a file without an entry, the real tool
            // counts distances from places that are not there.
            let first = case.files.keys().next().is_some_and(|n| n != "00000000.jdb");
            let empty = case.files.values().next_back().is_some_and(|f| f.len() <= 38);
            let hole = case.files.values().any(Vec::is_empty);
            let part = |l: &[&str]| {
                let all = l.iter().position(|l| l.starts_with("Per checkpoint")).filter(|_| first || empty || hole);
                l.iter().take(all.unwrap_or(usize::MAX)).map(|l| (*l).to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(part(&got), part(&want), "{}", case.name);
            compared += 1;
        }
    }
    assert!(compared >= 5, "only {compared} compared");
}

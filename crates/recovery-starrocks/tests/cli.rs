//! The verbs of the command line on a repository in a directory.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

mod common;

use common::healthy;
use recovery_core::Context;
use recovery_core::cli::{EngineCli as _, OpenOptions};
use recovery_starrocks::cli::Cli;
use serde_json::Value;

fn run(line: &[&str]) -> (u8, String) {
    let command = clap::Command::new("starrocks")
        .subcommands(Cli.commands())
        .arg(clap::Arg::new("json").long("json").global(true).action(clap::ArgAction::SetTrue));
    let matches = command.try_get_matches_from(std::iter::once(&"starrocks").chain(line)).unwrap();
    let (verb, args) = matches.subcommand().unwrap();
    let mut out = Vec::new();
    let exit = Cli.run(verb, args, &OpenOptions::default(), &mut out, &Context::with_threads(1));
    let code = exit.map_or_else(
        |e| {
            println!("{e}");
            e.exit()
        },
        |e| e.0,
    );
    (code, String::from_utf8(out).unwrap())
}

fn place(version: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    recovery_testkit::store(&healthy(version), dir.path());
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn ls_and_show() {
    let (_dir, path) = place("v3");
    let (code, text) = run(&["ls", &path]);
    assert_eq!(code, 0);
    assert!(text.contains("ss_events") && text.contains("2024-07-02-11-22-33-028") && text.contains("ok"), "{text}");
    let (_, text) = run(&["ls", &path, "--json"]);
    let facts: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(facts["repository"]["name"], "prod_bk");
    let (code, text) = run(&["show", &path, "--snapshot", "ss_models@2024-07-03-01-00-00-000", "--json"]);
    assert_eq!(code, 0, "{text}");
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["tables"].as_array().unwrap().len(), 3);
    assert_eq!(run(&["show", &path, "--snapshot", "nothing"]).0, 2);
}

#[test]
fn schema_from_meta_and_from_headers() {
    for version in ["v2", "v3"] {
        let (_dir, path) = place(version);
        let (code, text) = run(&["schema", &path, "--snapshot", "ss_models", "--table", "pv_daily"]);
        assert_eq!(code, 0);
        for part in [
            "CREATE TABLE `pv_daily`",
            "`pv` bigint SUM NULL",
            "AGGREGATE KEY(`site`, `city`)",
            "DISTRIBUTED BY HASH(`site`) BUCKETS 1",
        ] {
            assert!(text.contains(part), "{version}: no {part} in {text}");
        }
    }
    let mut source = healthy("v3");
    let meta = source.files().keys().find(|n| n.contains("__ss_ss_models/__meta")).unwrap().clone();
    source.remove(&meta);
    let dir = tempfile::tempdir().unwrap();
    recovery_testkit::store(&source, dir.path());
    let (code, text) = run(&["schema", dir.path().to_str().unwrap(), "--snapshot", "ss_models", "--table", "pv_daily"]);
    assert_eq!(code, 0);
    assert!(text.contains("from the tablet headers") && text.contains("`pv` bigint SUM NULL"), "{text}");
}

#[test]
fn restore_sql_has_the_exact_values() {
    let (_dir, path) = place("v3");
    let (code, text) =
        run(&["restore-sql", &path, "--snapshot", "ss_events", "--table", "events:again", "--table", "orders"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "CREATE READ ONLY REPOSITORY `prod_bk`",
        "RESTORE SNAPSHOT `shop`.`ss_events`",
        "\"backup_timestamp\" = \"2024-07-02-11-22-33-028\"",
        "`events` AS `again`",
        "`orders` AS `orders_restored`",
        "\"replication_num\" = \"1\"",
        "primary-key tables are restored from 2.5 on",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let against = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(against.path(), "CREATE TABLE `orders` (`id` bigint NOT NULL, `nm` varchar(10)) PRIMARY KEY(`id`)")
        .unwrap();
    let file = against.path().to_str().unwrap();
    let (_, text) = run(&["restore-sql", &path, "--snapshot", "ss_events", "--table", "orders", "--against", file]);
    assert!(text.contains("the server would refuse: column amt is not in the existing table"), "{text}");
    assert_eq!(run(&["restore-sql", &path, "--snapshot", "ss_events", "--table", "nothing"]).0, 2);
}

#[test]
fn check_reads_everything() {
    let (_dir, path) = place("v2");
    let (code, text) = run(&["check", &path, "--snapshot", "ss_models"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("sound"), "{text}");
    assert_eq!(text.matches("restorable").count(), 3, "{text}");
}

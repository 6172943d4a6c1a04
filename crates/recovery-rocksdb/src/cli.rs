//! Verbs and options of the command line.

mod common;
mod dump;
mod find;
mod ls;
mod manifest;
mod repair;
mod sst;
mod verify;
mod wal;

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{EngineCli, Exit, OpenOptions};
use recovery_core::{Context, Error, Recover, Result};
use serde_json::{Value, json};

use crate::engine::RocksDb;

/// The engine's face on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cli;

static ENGINE: RocksDb = RocksDb;

/// `ID=NAME` of `--name-family`.
fn id_and_name(text: &str) -> Result<(u32, String)> {
    let usage = || Error::Usage(format!("--name-family {text}: expected ID=NAME with a numeric id"));
    let (id, name) = text.split_once('=').ok_or_else(usage)?;
    Ok((id.parse().map_err(|_| usage())?, name.to_owned()))
}

/// The engine's options as JSON.
fn options_of(args: &ArgMatches) -> Result<Value> {
    let mut out = serde_json::Map::new();
    if let Some(mode) = args.get_one::<String>("wal") {
        out.insert("wal".to_owned(), mode.clone().into());
    }
    let mut names = serde_json::Map::new();
    for text in args.get_many::<String>("name-family").into_iter().flatten() {
        let (id, name) = id_and_name(text)?;
        names.insert(id.to_string(), name.into());
    }
    if !names.is_empty() {
        out.insert("name_family".to_owned(), json!(names));
    }
    let flag = |name: &str| args.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false);
    if flag("consistent") {
        out.insert("consistent".to_owned(), true.into());
    }
    if flag("ignore-checksums") || flag("no-correction") {
        let mend = json!({"correct": !flag("no-correction"), "ignore_checksums": flag("ignore-checksums")});
        out.insert("mend".to_owned(), mend);
    }
    let mut tables = serde_json::Map::new();
    for text in args.get_many::<String>("table-family").into_iter().flatten() {
        let usage = || Error::Usage(format!("--table-family {text}: expected NUMBER=NAME"));
        let (number, name) = text.split_once('=').ok_or_else(usage)?;
        let number: u64 = number.parse().map_err(|_| usage())?;
        tables.insert(number.to_string(), name.into());
    }
    if !tables.is_empty() {
        out.insert("table_family".to_owned(), json!(tables));
    }
    Ok(if out.is_empty() { Value::Null } else { Value::Object(out) })
}

impl EngineCli for Cli {
    fn engine(&self) -> &'static dyn Recover {
        &ENGINE
    }

    fn about(&self) -> &'static str {
        "RocksDB: repair without loss, block by block"
    }

    fn commands(&self) -> Vec<Command> {
        vec![
            dump::command(),
            ls::command(),
            verify::command(),
            find::command(),
            sst::command(),
            wal::command(),
            manifest::command(),
            repair::command(),
        ]
    }

    fn run(
        &self,
        verb: &str,
        args: &ArgMatches,
        open: &OpenOptions,
        out: &mut dyn Write,
        cx: &Context,
    ) -> Result<Exit> {
        match verb {
            "dump" => dump::run(&ENGINE, args, open, out, cx),
            "ls" => ls::run(&ENGINE, args, open, out, cx),
            "verify" => verify::run(&ENGINE, args, open, out, cx),
            "find" => find::run(&ENGINE, args, open, out, cx),
            "sst" => sst::run(&ENGINE, args, open, out, cx),
            "wal" => wal::run(&ENGINE, args, open, out, cx),
            "manifest" => manifest::run(&ENGINE, args, open, out, cx),
            "repair" => repair::run(&ENGINE, args, open, out, cx),
            other => Err(Error::Usage(format!("rocksdb has no verb {other}"))),
        }
    }

    fn options(&self) -> Vec<Arg> {
        vec![
            Arg::new("wal")
                .long("wal")
                .value_name("MODE")
                .value_parser(["point-in-time", "salvage"])
                .help("RocksDB: what to do about a damaged WAL: stop at the damage (default) or leave out only what is damaged"),
            Arg::new("name-family")
                .long("name-family")
                .value_name("ID=NAME")
                .action(ArgAction::Append)
                .help("RocksDB: name a column family that nothing names"),
            Arg::new("consistent")
                .long("consistent")
                .action(ArgAction::SetTrue)
                .help("RocksDB: the newest state at which every family is complete, rather than as many rows as there are"),
            Arg::new("ignore-checksums")
                .long("ignore-checksums")
                .action(ArgAction::SetTrue)
                .help("RocksDB: use blocks that decode although their checksum does not fit; each is listed"),
            Arg::new("no-correction")
                .long("no-correction")
                .action(ArgAction::SetTrue)
                .help("RocksDB: do not turn a single wrong bit back, even where exactly one makes a checksum fit"),
            Arg::new("table-family")
                .long("table-family")
                .value_name("NUMBER=NAME")
                .action(ArgAction::Append)
                .help("RocksDB: the column family of a table that nothing gives one"),
        ]
    }

    fn options_json(&self, args: &ArgMatches) -> Result<Value> {
        options_of(args)
    }
}

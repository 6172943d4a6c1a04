//! Verbs and options of the command line.

mod log;
mod tree;
mod undelete;

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use recovery_core::cli::{EngineCli, Exit, OpenOptions};
use recovery_core::{Context, Error, FileBlob, Recover, Result};
use serde_json::{Value, json};

use crate::dialect::Dialect;
use crate::engine::MooseFs;
use crate::metadump::{DumpOptions, dump};
use crate::metarestore::{Flags, run};

/// The engine's face on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cli;

static ENGINE: MooseFs = MooseFs;

fn flag(short: char, help: &'static str) -> Arg {
    Arg::new(short.to_string()).short(short).action(ArgAction::SetTrue).help(help)
}

fn path(short: char, help: &'static str) -> Arg {
    Arg::new(short.to_string()).short(short).value_name("PATH").value_parser(value_parser!(PathBuf)).help(help)
}

fn as_option() -> Arg {
    Arg::new("as")
        .long("as")
        .value_name("DIALECT")
        .value_parser(["1.5", "1.6", "2", "3", "4"])
        .help("MooseFS: product line of the result; needed only when nothing tells it, or to convert like an upgrade")
}

fn metarestore() -> Command {
    Command::new("metarestore")
        .about("mfsmetarestore with its own flags; loses nothing it can keep")
        .arg(flag('a', "take metadata and logs from a directory"))
        .arg(path('d', "that directory (default /var/lib/mfs)"))
        .arg(path('m', "metadata file"))
        .arg(path('o', "where the result goes"))
        .arg(flag('f', "look at every log (always so here)"))
        .arg(flag('b', "store the state before an error"))
        .arg(flag('i', "pass over damage in the metadata file"))
        .arg(Arg::new("x").short('x').action(ArgAction::Count).help("tell each log; twice: more"))
        .arg(as_option())
        .arg(Arg::new("logs").value_name("LOG").num_args(0..).value_parser(value_parser!(PathBuf)))
}

fn metadump() -> Command {
    Command::new("metadump")
        .about("a metadata file as text, as mfsmetadump prints it")
        .arg(flag('d', "dots instead of bytes that do not print"))
        .arg(Arg::new("s").short('s').value_name("SECTION").help("only this section"))
        .arg(Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)))
}

/// Whether the output is JSON: an option of the binary.
fn wants_json(m: &ArgMatches) -> bool {
    m.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false)
}

impl EngineCli for Cli {
    fn engine(&self) -> &'static dyn Recover {
        &ENGINE
    }

    fn about(&self) -> &'static str {
        "MooseFS: replay that loses nothing, 1.5 to 4.59"
    }

    fn commands(&self) -> Vec<Command> {
        let mut all = vec![metarestore(), metadump(), log::command(), undelete::command()];
        all.extend(tree::commands());
        all
    }

    fn run(&self, verb: &str, m: &ArgMatches, open: &OpenOptions, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
        let one = |name: &str| m.get_one::<PathBuf>(name).cloned();
        match verb {
            "metarestore" => {
                let dialect: Option<Dialect> =
                    m.get_one::<String>("as").map(|s| s.parse().map_err(Error::Usage)).transpose()?;
                let flags = Flags {
                    auto: m.get_flag("a"),
                    dir: one("d"),
                    meta: one("m"),
                    out: one("o"),
                    logs: m.get_many::<PathBuf>("logs").into_iter().flatten().cloned().collect(),
                    best_effort: m.get_flag("b"),
                    ignore: m.get_flag("i"),
                    verbose: m.get_count("x"),
                    dialect,
                };
                run(&flags, out, cx).map(Exit)
            }
            "metadump" => {
                let file = one("file").unwrap_or_default();
                let options = DumpOptions { dots: m.get_flag("d"), section: m.get_one::<String>("s").cloned() };
                let blob = FileBlob::open(&file, file.to_string_lossy())?;
                dump(&blob, &options, out)?;
                Ok(Exit::OK)
            }
            "log" => log::run(m, open, out, cx),
            "undelete" => undelete::run(m, open, out, cx),
            "ls" | "stat" | "find" | "du" | "chunks" => tree::run(verb, m, open, out, cx),
            other => Err(Error::Usage(format!("moosefs has no verb {other}"))),
        }
    }

    fn options(&self) -> Vec<Arg> {
        vec![
            as_option(),
            Arg::new("until")
                .long("until")
                .value_name("ID|TIME")
                .help("MooseFS: last change to replay, inclusive: its id, 2026-11-22T10:30:00 (UTC) or @UNIXTIME"),
            Arg::new("past-gaps").long("past-gaps").action(ArgAction::SetTrue).help(
                "MooseFS: apply what can be applied behind missing changes and behind those that cannot be applied",
            ),
        ]
    }

    fn options_json(&self, args: &ArgMatches) -> Result<Value> {
        let mut out = serde_json::Map::new();
        if args.try_get_one::<bool>("past-gaps").ok().flatten() == Some(&true) {
            out.insert("past_gaps".to_owned(), json!(true));
        }
        for name in ["as", "until"] {
            if let Some(v) = args.get_one::<String>(name) {
                out.insert(name.to_owned(), json!(v));
            }
        }
        Ok(if out.is_empty() { Value::Null } else { Value::Object(out) })
    }
}

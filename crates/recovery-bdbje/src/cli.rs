//! Verbs and options of the command line.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{EngineCli, Exit, OpenOptions};
use recovery_core::{Context, Error, Recover, Result};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::verbs;

/// The engine's face on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cli;

static ENGINE: Engine = Engine;

fn dirs(many: bool) -> Arg {
    let arg =
        Arg::new("dir").value_name("DIR").required(true).help("meta directory, its bdb, a frontend's home or fe.conf");
    if many { arg.num_args(1..) } else { arg }
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn journal() -> Command {
    let id = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("ID")
            .allow_negative_numbers(true)
            .value_parser(clap::value_parser!(i64))
            .help(help)
    };
    Command::new("journal")
        .about("Operations of the frontend's journal as JSON Lines; length is that of the payload, without the code")
        .arg(dirs(false))
        .arg(id("from", "First journal id"))
        .arg(id("to", "Last journal id"))
        .arg(
            Arg::new("op")
                .long("op")
                .value_name("NAME")
                .value_delimiter(',')
                .allow_negative_numbers(true)
                .action(ArgAction::Append)
                .help("Only these operations, such as CREATE_TABLE_V2; a number is a code"),
        )
        .arg(
            Arg::new("product")
                .long("product")
                .value_name("P")
                .value_parser(["starrocks", "doris"])
                .default_value("starrocks")
                .help("Whose names are meant where codes differ"),
        )
        .arg(flag("epochs", "The epochs of the leaders (epochDB) in place of the journal"))
        .arg(flag("salvage", "From everything readable; records in doubt are marked"))
}

impl EngineCli for Cli {
    fn engine(&self) -> &'static dyn Recover {
        &ENGINE
    }

    fn about(&self) -> &'static str {
        "BDB JE: frontend metadata of StarRocks and Doris, ranked and made to start again without a JVM"
    }

    fn commands(&self) -> Vec<Command> {
        let short = |a: Arg, c: char| a.short(c).action(ArgAction::SetTrue);
        vec![
            Command::new("vlsn")
                .about("First and last VLSN, last commit, dtvlsn (DbPrintLog -vd), every checksum verified")
                .arg(dirs(true))
                .arg(flag("quick", "Last files only: last VLSN and last commit")),
            Command::new("printlog")
                .about("Entries of the log (DbPrintLog)")
                .arg(dirs(false))
                .arg(short(Arg::new("summary").help("Count and bytes by type"), 'S'))
                .arg(Arg::new("vd").long("vd").action(ArgAction::SetTrue).help("VLSNs of each file (also -vd)"))
                .arg(Arg::new("v").short('v').action(ArgAction::SetTrue).hide(true))
                .arg(Arg::new("d").short('d').action(ArgAction::SetTrue).hide(true))
                .arg(Arg::new("start").short('s').value_name("LSN").help("First LSN, or file number, in hex"))
                .arg(
                    Arg::new("end")
                        .short('e')
                        .value_name("LSN")
                        .help("LSN, or file number, before which to stop, in hex"),
                )
                .arg(
                    Arg::new("type")
                        .long("type")
                        .value_name("T")
                        .value_delimiter(',')
                        .action(ArgAction::Append)
                        .help("Only these types, such as Commit or INS_LN_TX"),
                )
                .arg(flag("jsonl", "JSON Lines"))
                .arg(flag("salvage", "Pass over damage instead of stopping")),
            Command::new("verify").about("Checksums, chain, trees, journal (DbVerifyLog and DbVerify)").arg(dirs(true)),
            Command::new("dump")
                .about("Live records as JSON Lines")
                .arg(dirs(false))
                .arg(Arg::new("db").long("db").value_name("NAME").help("Only this database"))
                .arg(flag("salvage", "From everything readable; records in doubt are marked"))
                .arg(
                    Arg::new("as")
                        .long("as")
                        .value_name("ROLE")
                        .value_parser(["standalone", "replica"])
                        .default_value("standalone")
                        .help("replica: records of open replicated transactions are shown, marked open"),
                ),
            journal(),
            Command::new("image")
                .about("Blocks of an image of the frontend's state, their checksums and their JSON")
                .arg(Arg::new("file").value_name("FILE").required(true).help("image.N, or a directory of images"))
                .arg(flag("list", "Blocks only, without their values")),
            Command::new("dbs").about("Databases").arg(dirs(false)),
            Command::new("group").about("Group and members").arg(dirs(false)),
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
        verbs::run(verb, args, open, out, cx)
    }

    fn options(&self) -> Vec<Arg> {
        vec![
            flag("keep-group", "BDB JE: leave the replication group as it is"),
            Arg::new("host")
                .long("host")
                .value_name("NAME:PORT")
                .help("BDB JE: address the node will announce (edit_log_port)"),
            Arg::new("node-name").long("node-name").value_name("N").help("BDB JE: name of the node, as in image/ROLE"),
            Arg::new("until")
                .long("until")
                .value_name("VLSN|journal:ID")
                .help("BDB JE: keep nothing behind this point"),
        ]
    }

    fn options_json(&self, args: &ArgMatches) -> Result<Value> {
        let mut out = serde_json::Map::new();
        if matches!(args.try_get_one::<bool>("keep-group"), Ok(Some(true))) {
            out.insert("keep_group".to_owned(), true.into());
        }
        for (name, key) in [("host", "host"), ("node-name", "node_name"), ("until", "until")] {
            if let Ok(Some(v)) = args.try_get_one::<String>(name) {
                if key == "until" && v.strip_prefix("journal:").unwrap_or(v).parse::<i64>().is_err() {
                    return Err(Error::Usage(format!("--until {v}: expected a VLSN or journal:ID")));
                }
                out.insert(key.to_owned(), json!(v));
            }
        }
        Ok(Value::Object(out))
    }
}

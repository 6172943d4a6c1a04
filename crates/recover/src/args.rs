//! The command line's form.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, builder::ValueParser};
use recovery_core::cli::EngineCli;
use recovery_core::{Error, Result};

use crate::verbs;

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn value(name: &'static str, form: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(form).help(help)
}

fn paths(help: &'static str) -> Arg {
    Arg::new("paths").value_name("PATH").num_args(1..).required(true).help(help)
}

/// Options that every verb understands.
fn common() -> Vec<Arg> {
    let heading = |a: Arg| a.global(true).help_heading("Common options");
    vec![
        flag("json", "One JSON document on standard output"),
        flag("quiet", "No progress"),
        value("threads", "N", "Threads [default: all cores]").value_parser(clap::value_parser!(u16).range(1..)),
        value("memory", "SIZE", "Memory for buffers and models, such as 512M or 4G")
            .value_parser(ValueParser::new(size)),
        value("scratch", "DIR", "Where to put what does not fit into memory [default: beside the target]")
            .value_parser(clap::value_parser!(PathBuf)),
        value("io-limit", "RATE", "Read no faster than this many bytes a second, such as 20M")
            .value_parser(ValueParser::new(size)),
        flag("mmap", "Read through memory maps: for healthy disks only, a bad sector then ends the process"),
        value("map", "OLD=NEW", "Where a path that leads out of the source is now").action(ArgAction::Append),
        flag("show-data", "Payload may appear in reports"),
        flag("show-secrets", "Secrets may appear in reports"),
    ]
    .into_iter()
    .map(heading)
    .collect()
}

fn looking() -> Vec<Arg> {
    vec![
        value("engine", "NAME", "The engine, when it cannot be told from the data"),
        value("check", "HOW", "How much to look at").value_parser(["structure", "full"]).default_value("full"),
        value("also", "PATH", "A donor: may heal, is never chosen").action(ArgAction::Append),
        value("mapfile-in", "FILE", "GNU ddrescue mapfile of the image: what was not read is not there")
            .value_parser(clap::value_parser!(PathBuf)),
    ]
}

fn placing() -> Vec<Arg> {
    vec![
        value("into", "NEWDIR", "Where to build the result: a new or empty directory")
            .required(true)
            .value_parser(clap::value_parser!(PathBuf)),
        value("accept", "LOSS[:MAX]", "Agree to a loss by its name, up to so many records").action(ArgAction::Append),
        flag("copy", "Hard-link nothing"),
        flag("hash-all", "Hash linked files too"),
    ]
}

/// Adds the engines' options; two engines may share one name, it is then one option with both helps.
fn with_engine_options(mut command: Command, engines: &[Box<dyn EngineCli>]) -> Command {
    let mut seen: BTreeSet<String> = command.get_arguments().map(|a| a.get_id().to_string()).collect();
    for engine in engines {
        for arg in engine.options() {
            if seen.insert(arg.get_id().to_string()) {
                command = command.arg(arg.help_heading(format!("Options of {}", engine.engine().engine())));
            }
        }
    }
    command
}

/// The whole command line.
pub(crate) fn command(engines: &[Box<dyn EngineCli>]) -> Command {
    let verb = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let mut root = Command::new("recover")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Rescue broken storage engines: looking never writes, results go to a new place")
        .after_help(verbs::first_aid::what_is_broken(engines))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(common())
        .subcommand(verb("probe", "What is this?").arg(paths("Directories, files, images")))
        .subcommand(with_engine_options(
            verb("inspect", "What is wrong, what would the engine do, what comes next?")
                .arg(paths("Rival copies of one thing"))
                .args(looking())
                .arg(value("report", "FILE.html", "A report for a ticket").value_parser(clap::value_parser!(PathBuf)))
                .arg(value("sample", "N/T", "Only part N of T; the T parts add up to the whole"))
                .arg(
                    value("state", "FILE", "Keeps how far a long inspection came")
                        .value_parser(clap::value_parser!(PathBuf)),
                ),
            engines,
        ))
        .subcommand(with_engine_options(
            verb("plan", "What would be built, what would it cost, what would be lost?")
                .arg(paths("Rival copies of one thing"))
                .args(looking())
                .arg(
                    value("out", "PLAN.json", "Where to write the plan")
                        .required(true)
                        .value_parser(clap::value_parser!(PathBuf)),
                ),
            engines,
        ))
        .subcommand(
            verb("apply", "Carry out a plan")
                .arg(Arg::new("plan").value_name("PLAN.json").required(true).value_parser(clap::value_parser!(PathBuf)))
                .args(placing()),
        )
        .subcommand(with_engine_options(
            verb("rescue", "Inspect, plan, apply and verify in one go")
                .arg(paths("Rival copies of one thing"))
                .args(looking())
                .args(placing()),
            engines,
        ))
        .subcommand(
            verb("verify", "Is a result still what it was when it was built?")
                .arg(Arg::new("result").value_name("NEWDIR").required(true).value_parser(clap::value_parser!(PathBuf))),
        )
        .subcommand(with_engine_options(
            verb("compare", "Candidates side by side, ranked").arg(paths("Rival copies of one thing")).args(looking()),
            engines,
        ))
        .subcommand(
            verb("explain", "What a code, a loss or a verdict means")
                .arg(Arg::new("code").value_name("CODE").required(true)),
        )
        .subcommand(verb("schema", "The documented forms of all JSON").arg(Arg::new("name").value_name("NAME")))
        .subcommand(verb("demo", "Rescue a bundled broken database into ./recover-demo/"));
    for engine in engines {
        let mount = Command::new(engine.engine().engine())
            .about(engine.about())
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(engine.commands());
        root = root.subcommand(mount);
    }
    root
}

/// A size such as `4096`, `512M`, `4G`, `1.5T`; units are powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64> {
    let bad = || Error::Usage(format!("{text}: not a size; write it like 4096, 512M or 4G"));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
    let shift = match unit.trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).filter(|n| *n > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command(&crate::engines::all()).debug_assert();
    }

    #[test]
    fn every_engine_reads_its_options_from_the_common_verbs() {
        let engines = crate::engines::all();
        let line = ["recover", "rescue", "somewhere", "--into", "elsewhere"];
        let matches = command(&engines).try_get_matches_from(line).unwrap();
        let (_, rescue) = matches.subcommand().unwrap();
        for engine in &engines {
            engine.options_json(rescue).unwrap();
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("512M").unwrap(), 512 << 20);
        assert_eq!(size("4GiB").unwrap(), 4 << 30);
        assert!(size("much").is_err() && size("0").is_err() && size("99999999999T").is_err());
    }
}

//! The engine's own verbs on the command line.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{EngineCli, Exit, OpenOptions};
use recovery_core::{Context, Error, Recover, Report, Result};
use serde_json::Value;

use crate::PolarDb;
use crate::rebuild::Options;

pub mod pfs;
pub mod pg;
mod summary;

/// The engine on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cli;

impl EngineCli for Cli {
    fn engine(&self) -> &'static dyn Recover {
        &PolarDb
    }

    fn about(&self) -> &'static str {
        "PolarDB for PostgreSQL of which only the shared disk is left: PFS images and the cluster in them"
    }

    fn commands(&self) -> Vec<Command> {
        let mut all = pfs::commands();
        all.extend(pg::commands());
        all
    }

    fn run(
        &self,
        verb: &str,
        args: &ArgMatches,
        open: &OpenOptions,
        out: &mut dyn Write,
        cx: &Context,
    ) -> Result<Exit> {
        if let Some(exit) = pfs::run(verb, args, open, out, cx)? {
            return Ok(exit);
        }
        match pg::run(verb, args, open, out, cx)? {
            Some(exit) => Ok(exit),
            None => Err(Error::Usage(format!("polardb {verb}: no such verb"))),
        }
    }

    fn options(&self) -> Vec<Arg> {
        vec![
            Arg::new("node").long("node").value_name("SPEC").action(ArgAction::Append).help(
                "a node to write: name=N,role=primary|replica|standby,hostid=H,port=P[,disk=D,datadir=P]; repeated",
            ),
            Arg::new("net")
                .long("net")
                .value_name("CIDR")
                .help("network that may connect; without it pg_hba.conf lets in this machine only"),
            Arg::new("localfs")
                .long("localfs")
                .action(ArgAction::SetTrue)
                .help("extracts the shared data and runs without PFS"),
            Arg::new("vanilla")
                .long("vanilla")
                .action(ArgAction::SetTrue)
                .help("one directory that the stock server starts"),
            Arg::new("cluster").long("cluster").value_name("PATH").help("which cluster of the source"),
        ]
    }

    fn summary(&self, report: &Report) -> Vec<String> {
        summary::lines(&report.facts)
    }

    fn options_json(&self, args: &ArgMatches) -> Result<Value> {
        let text = |name: &str| args.try_get_one::<String>(name).ok().flatten().cloned();
        let flag = |name: &str| args.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false);
        let node = args.try_get_many::<String>("node").ok().flatten().map(|n| n.cloned().collect()).unwrap_or_default();
        let options = Options {
            node,
            net: text("net"),
            localfs: flag("localfs"),
            vanilla: flag("vanilla"),
            cluster: text("cluster"),
        };
        serde_json::to_value(options).map_err(|e| Error::Internal(e.to_string()))
    }
}

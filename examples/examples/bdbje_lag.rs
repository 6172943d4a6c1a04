//! Watches the logs of several nodes and says how far each is behind the first of them: a lag monitor that needs neither
//! a running frontend nor a JVM. Only the last files are read, so a round takes milliseconds whatever the size.
//!
//! `cargo run --release --example bdbje_lag -- ROUNDS SECONDS META...`
//!
//! run: 1 0 fixtures/bdbje/nodes/n2 fixtures/bdbje/nodes/n3
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use recovery_bdbje::meta::Meta;
use recovery_bdbje::reader::scan::scan_tail;
use recovery_core::{Context, DirSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rounds, seconds, paths @ ..] = args.as_slice() else { return Err("bdbje_lag ROUNDS SECONDS META...".into()) };
    let (rounds, pause) = (rounds.parse::<u32>()?, Duration::from_secs(seconds.parse()?));
    let cx = Context::default();
    for round in 0..rounds {
        if round > 0 {
            std::thread::sleep(pause);
        }
        let mut ends = Vec::new();
        for path in paths {
            let source = DirSource::open(path)?;
            let end = scan_tail(&source, &Meta::locate(&source)?, &cx)?.all();
            ends.push((path, end.last_commit.map_or(0, |(vlsn, _)| vlsn), end.dtvlsn, end.last_commit_end));
        }
        let most = ends.iter().map(|(_, vlsn, ..)| *vlsn).max().unwrap_or(0);
        for (path, vlsn, durable, commit) in &ends {
            let time = commit.map_or(0, |c| c.time);
            println!("{path}: last commit VLSN {vlsn} at {time} ms, {} behind, dtvlsn {durable:?}", most - vlsn);
        }
    }
    Ok(())
}

//! `recover`: the command line over the recovery libraries. It mounts what the engines offer and knows no format.

mod args;
mod engines;
mod failure;
mod html;
mod human;
mod open;
mod progress;
mod verbs;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = arguments.iter().any(|a| a == "--json");
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let outcome = run(&arguments, &mut out);
    let flushed = out.flush();
    match outcome {
        Ok(code) if flushed.is_ok() => ExitCode::from(code),
        // Whoever reads our output has seen enough (`recover … | head`).
        Ok(_) => ExitCode::from(1),
        Err(error) => failure::tell(&error, json, &mut out),
    }
}

fn run(arguments: &[OsString], out: &mut dyn Write) -> Result<u8, failure::Failure> {
    let engines = engines::all();
    if arguments.len() <= 1 {
        return verbs::first_aid::run(&engines, out);
    }
    let matches = match args::command(&engines).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(e) => return failure::usage(&e),
    };
    verbs::dispatch(&engines, &matches, out)
}

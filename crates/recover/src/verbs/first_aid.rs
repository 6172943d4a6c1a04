//! What a person needs before anything else.

use std::fmt::Write as _;
use std::io::Write;

use recovery_core::cli::EngineCli;

use crate::failure::Failure;

const FIRST_AID: &str = "\
First aid
  1. Do not start it again: several engines truncate or delete what they do not understand.
  2. Do not delete anything, not even what looks like debris: it may hold the only copy.
  3. If the disk is failing, copy it first (ddrescue) and work on the copy.
  4. Inspect first. It writes nothing:   recover inspect PATH
";

/// The engines as answers to \"what is broken?\".
pub(crate) fn what_is_broken(engines: &[Box<dyn EngineCli>]) -> String {
    let mut text = String::from("What is broken?\n");
    for engine in engines {
        let name = engine.engine().engine();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:10} {}\n{:13}recover {name} --help", engine.about(), "");
    }
    text.push_str("\nExit codes: 0 sound, 3 damaged and all recoverable, 4 lossy, 5 unusable or not known, 6 refused,\n            1 could not finish, 2 usage, 130 interrupted");
    text
}

/// `recover` without arguments.
pub(crate) fn run(engines: &[Box<dyn EngineCli>], out: &mut dyn Write) -> Result<u8, Failure> {
    writeln!(out, "{FIRST_AID}\n{}", crate::args::command(engines).render_help())?;
    Ok(0)
}

//! `recover explain`: what a code, a loss or a verdict means.

use std::io::Write;

use recovery_core::{Error, names};

use super::Call;
use crate::failure::Failure;

const VERDICTS: [(&str, &str); 5] = [
    (
        "sound",
        "Everything was read; nothing is damaged, unread or unknown. What the engine's own start handles without losing anything complete (a log to replay, open transactions, an incomplete last record, a preallocated tail) is a note. Exit code 0.",
    ),
    (
        "unverified",
        "No damage in what was read, but not everything was read (--sample, --check structure) or part of it is of a kind that is recognised and not understood. Exit code 0; \"complete\" is false.",
    ),
    (
        "recoverable",
        "There is damage, and everything complete can be kept: healed, rebuilt, or kept where the engine itself would lose it. A cut that may have taken complete records counts here too. Exit code 3.",
    ),
    ("lossy", "Complete records or blocks are unreadable and nothing else holds them. Exit code 4."),
    ("unusable", "Not this engine's data, or nothing of it can be saved. Exit code 5."),
];

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let wanted = call.args.get_one::<String>("code").map(String::as_str).unwrap_or_default();
    for engine in call.engines.iter().map(|e| e.engine()) {
        if let Some(code) = engine.codes().iter().find(|c| c.code.eq_ignore_ascii_case(wanted)) {
            writeln!(out, "{} ({}): {}\n\n{}", code.code, engine.engine(), code.title, code.explanation)?;
            return Ok(0);
        }
        if let Some(loss) = engine.losses().iter().find(|l| l.name == wanted) {
            writeln!(
                out,
                "{} ({}): a loss that is agreed to with --accept {}\n\n{}",
                loss.name,
                engine.engine(),
                loss.name,
                loss.explanation
            )?;
            return Ok(0);
        }
    }
    if let Some((name, text)) = VERDICTS.iter().find(|(n, _)| *n == wanted) {
        writeln!(out, "{name}: a verdict\n\n{text}")?;
        return Ok(0);
    }
    Err(Error::Usage(format!("{}: no such code, loss or verdict", names::terminal(wanted))).into())
}

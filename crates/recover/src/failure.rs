//! How reasons to stop are told: a sentence on stderr, with `--json` a document on stdout, and the exit code.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use recovery_core::{Error, names};
use serde_json::json;

/// A reason to stop, from the engines or from the command line itself.
#[derive(Debug)]
pub(crate) enum Failure {
    /// From the core or an engine.
    Core(Error),
    /// The command line cannot be understood; the text is clap's.
    Usage(String),
    /// Standard output is gone.
    Output(std::io::Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Core(e)
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Output(e)
    }
}

impl From<recovery_core::ReadError> for Failure {
    fn from(e: recovery_core::ReadError) -> Self {
        Self::Core(e.into())
    }
}

/// Help and version are no failures; anything else clap says is one of usage.
pub(crate) fn usage(error: &clap::Error) -> Result<u8, Failure> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            error.print()?;
            Ok(0)
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print()?;
            Ok(2)
        }
        _ => Err(Failure::Usage(error.render().to_string())),
    }
}

/// Tells the failure and gives the exit code.
#[expect(clippy::print_stderr, reason = "this is where errors are told")]
pub(crate) fn tell(failure: &Failure, json: bool, out: &mut dyn Write) -> ExitCode {
    let (code, message) = match failure {
        // Whoever reads has seen enough: `recover … | head`.
        Failure::Core(Error::Write { source: e, .. }) | Failure::Output(e) if e.kind() == ErrorKind::BrokenPipe => {
            return ExitCode::from(1);
        }
        Failure::Core(e) => (e.exit(), e.to_string()),
        Failure::Usage(text) => (2, text.trim_end().trim_start_matches("error: ").to_owned()),
        Failure::Output(e) => (1, format!("standard output: {e}")),
    };
    if json {
        // Nothing can be said about a stdout that is gone.
        let _ = writeln!(out, "{:#}", document(failure, code, &message)).and_then(|()| out.flush());
    }
    eprintln!("recover: {}", names::terminal_lines(&message));
    ExitCode::from(code)
}

fn document(failure: &Failure, code: u8, message: &str) -> serde_json::Value {
    match failure {
        Failure::Core(Error::Refusal(r)) => json!({
            "schema": "recover/refusal/1", "exit": code, "reason": r.reason.as_str(),
            "consents": r.consents, "message": message,
        }),
        Failure::Core(e) => json!({
            "schema": "recover/error/1", "exit": code, "message": message, "causes": causes(e),
        }),
        _ => json!({"schema": "recover/error/1", "exit": code, "message": message, "causes": []}),
    }
}

fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

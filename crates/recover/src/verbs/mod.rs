//! The verbs that all engines share.

mod apply;
mod demo;
mod explain;
pub(crate) mod first_aid;
mod inspect;
mod plan;
mod probe;
mod rescue;
mod schema;
mod verify;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::ArgMatches;
use recovery_core::cli::EngineCli;
use recovery_core::{Error, Result, names};
use serde::Serialize;

use crate::failure::Failure;
use crate::open;

/// What a verb is given.
pub(crate) struct Call<'a> {
    /// Every engine.
    pub(crate) engines: &'a [Box<dyn EngineCli>],
    /// The verb's arguments.
    pub(crate) args: &'a ArgMatches,
    /// Set by an interrupt.
    pub(crate) cancel: Arc<AtomicBool>,
    /// Whether output is to be JSON.
    pub(crate) json: bool,
}

/// Runs the verb that was named.
pub(crate) fn dispatch(engines: &[Box<dyn EngineCli>], m: &ArgMatches, out: &mut dyn Write) -> Result<u8, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    watch_interrupts(&cancel)?;
    let Some((verb, args)) = m.subcommand() else { return first_aid::run(engines, out) };
    let call = Call { engines, args, cancel, json: open::flag(args, "json") };
    match verb {
        "probe" => probe::run(&call, out),
        "inspect" | "compare" => inspect::run(&call, verb, out),
        "plan" => plan::run(&call, out),
        "apply" => apply::run(&call, out),
        "rescue" => rescue::run(&call, out),
        "verify" => verify::run(&call, out),
        "explain" => explain::run(&call, out),
        "schema" => schema::run(&call, out),
        "demo" => demo::run(&call, out),
        engine => engine_verb(&call, engine, out),
    }
}

fn engine_verb(call: &Call<'_>, name: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    let engine = open::by_name(call.engines, name)?;
    let Some((verb, args)) = call.args.subcommand() else {
        return Err(Error::Usage(format!("{name}: name one of its verbs; see recover {name} --help")).into());
    };
    let cx = open::context(args, &call.cancel)?;
    Ok(engine.run(verb, args, &open::options(args)?, out, &cx)?.0)
}

/// The first interrupt asks the work to stop in order; a second one ends the process at once.
fn watch_interrupts(cancel: &Arc<AtomicBool>) -> Result<()> {
    let wrap = |e| Error::write("signals", "register", e);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(cancel)).map_err(wrap)?;
        signal_hook::flag::register(signal, Arc::clone(cancel)).map_err(wrap)?;
    }
    Ok(())
}

/// Writes one JSON document; secrets are hidden unless they were asked for.
pub(crate) fn json(call: &Call<'_>, out: &mut dyn Write, document: &impl Serialize) -> Result<(), Failure> {
    let mut value = serde_json::to_value(document).map_err(|e| Error::Internal(format!("JSON: {e}")))?;
    if !open::flag(call.args, "show-secrets") {
        names::redact_json(&mut value);
    }
    writeln!(out, "{value:#}")?;
    Ok(())
}

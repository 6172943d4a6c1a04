//! `recover inspect` and `recover compare`: look, and never write.

use std::io::Write;
use std::path::PathBuf;

use recovery_core::{Error, Result};

use super::Call;
use crate::failure::Failure;
use crate::{human, open};

pub(super) fn run(call: &Call<'_>, verb: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    let (cx, options) = (open::context(call.args, &call.cancel)?, open::options(call.args)?);
    if call.args.try_get_one::<PathBuf>("report").ok().flatten().is_some() {
        return Err(Error::unsupported("inspect --report: the HTML report is not built yet; use --json").into());
    }
    let paths = open::paths(call.args);
    let first = paths.first().ok_or_else(|| Error::Usage("name a path".to_owned()))?;
    let cli = open::engine(call.engines, call.args, first, &options, &cx)?;
    let engine = cli.engine();
    let sources = open::sources(engine, call.args, &paths, &options, &cx)?;
    let wanted = cli.options_json(call.args)?;
    let report = match verb {
        "compare" => engine.compare(&sources, &wanted, &cx),
        _ => engine.inspect(&sources, &wanted, &cx),
    }?;
    if call.json {
        super::json(call, out, &report)?;
    } else {
        human::report(out, &report, &cli.summary(&report))?;
    }
    Ok(report.exit)
}

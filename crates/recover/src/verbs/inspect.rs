//! `recover inspect` and `recover compare`: look, and never write.

use std::io::Write;
use std::path::PathBuf;

use recovery_core::{Error, Result, Verdict};

use super::Call;
use crate::failure::Failure;
use crate::html::{self, Page};
use crate::{human, open};

pub(super) fn run(call: &Call<'_>, verb: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    let (cx, options) = (open::context(call.args, &call.cancel)?, open::options(call.args)?);
    let paths = open::paths(call.args);
    let page = call.args.try_get_one::<PathBuf>("report").ok().flatten();
    let places: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    if let Some(page) = page {
        html::allowed(page, &places)?;
    }
    let first = paths.first().ok_or_else(|| Error::Usage("name a path".to_owned()))?;
    let cli = open::engine(call.engines, call.args, first, &options, &cx)?;
    let engine = cli.engine();
    let sources = open::sources(engine, call.args, &paths, &options, &cx)?;
    let wanted = cli.options_json(call.args)?;
    let mut report = match verb {
        "compare" => engine.compare(&sources, &wanted, &cx),
        _ => engine.inspect(&sources, &wanted, &cx),
    }?;
    if let Some(page) = page {
        html::add_bytes(&mut report, engine, &sources);
        let show_secrets = open::flag(call.args, "show-secrets");
        let damaged = matches!(report.verdict, Verdict::Recoverable | Verdict::Lossy);
        let plan = damaged.then(|| engine.plan(&sources, &report, &wanted, &cx));
        let losses = plan.as_ref().map(|p| p.as_ref().map(|p| p.losses.as_slice()).map_err(ToString::to_string));
        let explain = |code: &str| {
            let known = engine.codes().iter().find(|c| c.code == code);
            known.map(|c| (c.title, c.explanation))
        };
        let summary = cli.summary(&report);
        let explain = &explain;
        let text =
            html::page(&Page { report: &report, summary: &summary, explain, losses, now_ms: cx.now_ms, show_secrets });
        html::save(page, &text, &places)?;
    }
    if call.json {
        super::json(call, out, &report)?;
    } else {
        human::report(out, &report, &cli.summary(&report))?;
    }
    Ok(report.exit)
}

//! `recover rescue`: inspect, plan, apply and verify in one go.

use std::io::Write;

use recovery_core::{Error, Plan, Reason, Result, Target};
use serde_json::json;

use super::{Call, apply, plan, verify};
use crate::failure::Failure;
use crate::{human, open};

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let (cx, options) = (open::context(call.args, &call.cancel)?, open::options(call.args)?);
    let paths = open::absolute(&open::paths(call.args));
    let first = paths.first().ok_or_else(|| Error::Usage("name a path".to_owned()))?;
    let cli = open::engine(call.engines, call.args, first, &options, &cx)?;
    let engine = cli.engine();
    let sources = open::sources(engine, call.args, &paths, &options, &cx)?;
    let target = apply::target(call, &sources)?;
    let accepted = recovery_core::cli::accepted(call.args)?;
    // Long before the work is done the user should know that the place cannot be used.
    let found = target.found_plan()?;
    if found.is_none() {
        target.check_empty()?;
    }
    let (report, made) = plan::make(engine, &sources, &cli.options_json(call.args)?, &cx)?;
    let plan = take_up(made, found, &target.describe())?;
    plan.check_consents(&accepted)?;
    let receipt = apply::carry_out(engine, &sources, &plan, &target, &cx)?;
    let place = target.describe();
    let (verified, problems) = verify::result(engine, target.path(), &cx)?;
    verify::must_hold(&verified, &problems, &place)?;
    let exit = if plan.losses.is_empty() { report.exit } else { 4 };
    if call.json {
        let document = json!({
            "schema": "recover/rescue/1", "exit": exit, "report": report, "plan": plan,
            "receipt": receipt, "verify": verified,
        });
        super::json(call, out, &document)?;
    } else {
        human::report(out, &report, &cli.summary(&report))?;
        writeln!(out)?;
        human::receipt(out, &receipt, &place)?;
        writeln!(out, "\nThe result was inspected: {}.", verified.verdict.as_str())?;
    }
    Ok(exit)
}

/// An earlier run that was cut off left its plan: it rules, since its clock and random values are already in the files.
fn take_up(made: Plan, found: Option<Plan>, place: &str) -> Result<Plan> {
    match found {
        None => Ok(made),
        Some(found) if found.same_intent(&made) => Ok(found),
        Some(_) => Err(Error::refuse(
            Reason::TargetNotEmpty,
            format!("{place}: holds the work of another rescue; finish that one, or name another directory"),
        )),
    }
}

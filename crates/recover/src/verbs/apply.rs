//! `recover apply`: carry out a plan.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use recovery_core::cli::accepted;
use recovery_core::{Context, DirTarget, Error, How, Plan, RealFs, Receipt, Recover, Result, Sources, names};

use super::{Call, plan, verify};
use crate::failure::Failure;
use crate::{human, open};

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let (cx, options) = (open::context(call.args, &call.cancel)?, open::options(call.args)?);
    let file = call.args.get_one::<PathBuf>("plan").ok_or_else(|| Error::Usage("name a plan".to_owned()))?;
    let plan = plan::load(file)?;
    let engine = open::by_name(call.engines, &plan.engine)?.engine();
    let each =
        |names: &[String]| names.iter().map(|n| open::source(engine, n, &options, &cx)).collect::<Result<Vec<_>>>();
    let (rivals, donors) = plan.sources.split_at_checked(usize::from(plan.rivals)).unwrap_or((&plan.sources, &[]));
    let sources = Sources { rivals: each(rivals)?, donors: each(donors)? };
    let target = target(call, &sources)?;
    plan.check_consents(&accepted(call.args)?)?;
    let receipt = carry_out(engine, &sources, &plan, &target, &cx)?;
    let place = target.path().display().to_string();
    let (report, problems) = verify::result(engine, target.path(), &cx)?;
    verify::must_hold(&report, &problems, &place)?;
    if call.json {
        super::json(call, out, &receipt)?;
    } else {
        human::receipt(out, &receipt, &place)?;
    }
    Ok(if plan.losses.is_empty() { plan.exit } else { 4 })
}

/// Carries out a plan. The engine wrote its next commands before it knew the place: it says NEWDIR there.
pub(super) fn carry_out(
    engine: &dyn Recover,
    sources: &Sources,
    plan: &Plan,
    target: &DirTarget,
    cx: &Context,
) -> Result<Receipt> {
    let mut receipt = engine.apply(sources, plan, target, cx)?;
    let place = target.path().display().to_string();
    for line in &mut receipt.next {
        *line = line.replace("NEWDIR", &names::shell(&place));
    }
    receipt.next.extend(owner_advice(sources, &receipt, &place));
    Ok(receipt)
}

/// When we could not give the new files away ourselves: the command that does, for exactly those files. Linked files
/// share their owner with the source; a `chown -R` would change the evidence too.
fn owner_advice(sources: &Sources, receipt: &Receipt, place: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata(sources.first()?.root()?).ok()?;
    let mine = std::fs::metadata(place).ok()?;
    if (root.uid(), root.gid()) == (mine.uid(), mine.gid()) {
        return None;
    }
    let owner = format!("{}:{}", root.uid(), root.gid());
    let place = names::shell(place);
    if !receipt.files.iter().any(|f| f.how == How::Linked) {
        return Some(format!("chown -R {owner} {place}"));
    }
    Some(format!(
        "find {place} -links 1 -exec chown {owner} {{}} +   # not chown -R: linked files share their owner with the source"
    ))
}

/// Where the result goes; new files get the owner of what they come from when we may give them away.
pub(super) fn target(call: &Call<'_>, sources: &Sources) -> Result<DirTarget> {
    let into = call.args.get_one::<PathBuf>("into").ok_or_else(|| Error::Usage("--into is missing".to_owned()))?;
    let root = sources.first().and_then(|s| s.root());
    if root.is_some_and(|r| std::path::absolute(into).is_ok_and(|i| i.starts_with(r)) && r.is_dir()) {
        return Err(Error::Usage(format!("{}: lies in the source, which is never written to", into.display())));
    }
    DirTarget::with(into, Arc::new(RealFs::like(root)))
}

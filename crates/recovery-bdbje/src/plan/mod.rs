//! What will be built, from which node, by which recipe, and what it costs.

mod append;
mod decided;
mod group;
mod meta;
mod scratch;
mod until;

use std::sync::Arc;

use recovery_core::{Context, Error, Plan, Reason, Report, Result, Sources, Step, WriteStep};
use serde_json::{Value, json};

use crate::codes;
use crate::format::group::uuid_text;
use crate::inspect::{Inspected, Node, checks};
pub use decided::{Decided, Identity, Options, Recipe, Summary, Summing, summarise};
pub(crate) use group::{address_in_name, group_of};
pub use scratch::write_again;

/// Everything that is needed to make the files of the result.
#[derive(Debug)]
pub struct Work {
    /// Decisions.
    pub decided: Decided,
    /// Source files that are kept: number, path, bytes of it.
    pub keep: Vec<(u32, String, u64)>,
    /// Files that are made.
    pub made: Vec<(u32, Made)>,
    /// Losses: name, sentence, records.
    pub losses: Vec<(&'static str, String, u64)>,
}

/// A file that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Its length: its bytes are made when the plan is carried out.
    Later(u64),
}

fn inspected(sources: &Sources, report: &Report, cx: &Context) -> Result<Arc<Inspected>> {
    match report.state::<Inspected>() {
        Some(s) => Ok(s),
        None => Ok(Arc::new(crate::inspect::inspect(sources, cx)?.0)),
    }
}

/// Makes the plan.
///
/// # Errors
///
/// A refusal where no safe plan exists.
pub fn plan(sources: &Sources, report: &Report, options: &Value, cx: &Context) -> Result<Plan> {
    let parsed: Options = recovery_core::options(options)?;
    let seen = inspected(sources, report, cx)?;
    let drawn = Drawn { now: i64::try_from(cx.now_ms).unwrap_or(0), uuid: new_uuid(cx) };
    let work = decide(&seen, &parsed, &drawn, cx)?;
    let options = serde_json::to_value(&parsed).map_err(|e| Error::Internal(e.to_string()))?;
    let mut plan = Plan::new(crate::inspect::ENGINE, options, sources);
    plan.exit = report.exit;
    let base = base_of(&seen)?;
    plan.steps.push(Step::Mkdir { to: "bdb".to_owned(), mode: None });
    for (number, name, len) in &work.keep {
        let whole = base.log.files.values().find(|f| f.name == *name).map_or(0, |f| f.len);
        plan.steps.push(Step::Copy {
            source: base.source,
            object: name.clone(),
            to: format!("bdb/{}", crate::reader::log::file_name(*number)),
            size: *len,
            range: (*len != whole).then_some((0, *len)),
            mode: None,
            last: false,
        });
    }
    for (number, made) in &work.made {
        let (what, size, args) = match made {
            Made::Bytes(b) => ("group reset", b.len() as u64, json!({"hex": recovery_core::hex(b)})),
            Made::Later(size) => ("new log file", *size, json!({"file": number})),
        };
        plan.steps.push(Step::Write(WriteStep {
            to: format!("bdb/{}", crate::reader::log::file_name(*number)),
            what: what.to_owned(),
            size,
            args,
            mode: Some(0o644),
            last: false,
        }));
    }
    meta::image_steps(&mut plan, sources, &seen, base, &work.decided);
    if let Some((name, text, n)) = meta::missing_image(&seen, base) {
        plan.lose(name, text, n, 0);
    }
    for (name, text, n) in &work.losses {
        plan.lose(name, text.clone(), *n, 0);
    }
    plan.result = serde_json::to_value(&work.decided).map_err(|e| Error::Internal(e.to_string()))?;
    plan.next = crate::runbook::lines(&seen, base, &work.decided, &parsed);
    // A new environment is made from all files of the base.
    let more: Vec<(u16, String)> = seen
        .nodes
        .iter()
        .filter(|n| work.decided.recipe == Recipe::Scratch || n.source == base.source)
        .flat_map(|n| n.log.files.values().map(|f| (n.source, f.name.clone())))
        .collect();
    plan.seal(sources, &more)?;
    Ok(plan)
}

/// Values drawn once for a plan.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// ms since the epoch.
    pub now: i64,
    /// The group's new identity.
    pub uuid: [u64; 2],
}

fn new_uuid(cx: &Context) -> [u64; 2] {
    // Version 4, variant 1, as java.util.UUID.randomUUID sets them.
    [(cx.draw() & !0xf000) | 0x4000, (cx.draw() & !(0xc << 60)) | (0x8 << 60)]
}

/// The node the result is made from.
///
/// # Errors
///
/// When there is none.
pub fn base_of(seen: &Inspected) -> Result<&Node> {
    let best = seen.ranking.order.first().and_then(|i| seen.nodes.get(*i));
    best.filter(|n| n.all.entries > 1).ok_or_else(|| Error::Unusable("no node holds a readable log entry".to_owned()))
}

/// Decides, makes what has to be made, and proves the result by reading it back.
///
/// # Errors
///
/// A refusal where no safe plan exists.
pub fn decide(seen: &Inspected, options: &Options, drawn: &Drawn, cx: &Context) -> Result<Work> {
    let base = base_of(seen)?;
    if base.locked.is_some() {
        let text =
            format!("{}: a live process has it open; stop it, or copy the directory and rescue the copy", base.path);
        return Err(Error::refuse(Reason::Locked, text));
    }
    let mut losses = Vec::new();
    parted(seen, base, &mut losses);
    behind(seen, base, &mut losses);
    let kept_by_cut = base.view.records.iter().filter(|(n, _)| !n.starts_with("_je")).map(|(_, n)| *n).sum();
    let counts = salvage_counts(base);
    let last = match &options.until {
        Some(text) => Some(until::until(base, text, cx)?),
        None => None,
    };
    let end = last.map(|(end, _)| end);
    let whole = append::Whole { base, end, cx };
    let log = whole.appendable()?;
    let group = group::group_of(base);
    let node = group::identity(base, &group, options)?;
    let mut work = match (log, end) {
        (Some(log), _) => append::append(base, &log, &group, node, options, drawn, cx)?,
        (None, end) => {
            if options.keep_group {
                let text = "--keep-group: the log is damaged and must be written anew, which makes a new group";
                return Err(Error::refuse(Reason::Unsafe, text));
            }
            scratch::scratch(base, end, &group, node, drawn, &mut losses, cx)?
        }
    };
    if last.is_some_and(|(_, v)| base.all.last_commit.is_some_and(|(all, _)| v < all)) {
        let now: u64 = if base.scavenged.is_some() { counts.0 } else { kept_by_cut };
        let kept: u64 = work.decided.records.values().map(|s| s.records).sum();
        let text = format!("everything behind {} is left out", options.until.as_deref().unwrap_or_default());
        let cut = end.map_or(0, |end| crate::operations::operations(base, &|lsn, _| lsn >= end).total);
        losses.push((codes::LOSS_UNTIL, text, now.saturating_sub(kept).max(cut)));
    }
    work.decided.kept_by_cut = kept_by_cut;
    work.decided.kept_by_salvage = counts.0;
    work.losses = losses;
    Ok(work)
}

/// Live, in doubt, stale, lost, over user databases.
fn salvage_counts(base: &Node) -> (u64, u64, u64, u64) {
    let Some(s) = &base.scavenged else { return (0, 0, 0, 0) };
    let mut out = (0u64, 0u64, 0u64, 0u64);
    for d in s.databases.values().filter(|d| !d.name.starts_with("_je")) {
        let [a, b, c, e] = d.counts();
        out = (out.0.saturating_add(a), out.1.saturating_add(b), out.2.saturating_add(c), out.3.saturating_add(e));
    }
    out
}

/// Another node of the same branch has commits beyond the base's last.
fn behind(seen: &Inspected, base: &Node, losses: &mut Vec<(&'static str, String, u64)>) {
    let last = |n: &Node| n.all.last_commit.map_or(0, |(v, _)| v);
    let uuid = |n: &Node| n.group.group.as_ref().map(|g| g.uuid);
    let parted = |n: &Node| {
        let of = |i: usize| seen.nodes.get(i).map(|n| n.source);
        let pair = |d: &&crate::inspect::rank::Divergence| {
            let ends = [of(d.a), of(d.b)];
            ends.contains(&Some(n.source)) && ends.contains(&Some(base.source))
        };
        seen.ranking.diverged.iter().any(|d| pair(&d))
    };
    let newer = seen.nodes.iter().filter(|n| {
        let same = uuid(n).is_none() || uuid(base).is_none() || uuid(n) == uuid(base);
        n.source != base.source && same && !parted(n) && last(n) > last(base)
    });
    if let Some(n) = newer.max_by_key(|n| last(n)) {
        let (theirs, ours) = (last(n), last(base));
        let text = format!(
            "{} holds commits up to VLSN {theirs}, the base up to {ours}; more of the stream before that is destroyed there",
            n.path
        );
        let count = u64::try_from(theirs.saturating_sub(ours)).unwrap_or(0);
        losses.push((codes::LOSS_BEHIND, text, count));
    }
}

/// Another branch of a group that parted has commits of its own.
fn parted(seen: &Inspected, base: &Node, losses: &mut Vec<(&'static str, String, u64)>) {
    for d in &seen.ranking.diverged {
        let (Some(a), Some(b)) = (seen.nodes.get(d.a), seen.nodes.get(d.b)) else { continue };
        let other = match (a.source == base.source, b.source == base.source) {
            (true, _) => b,
            (_, true) => a,
            _ => continue,
        };
        let theirs = other.all.last_commit.map_or(0, |(v, _)| v);
        let n = u64::try_from(theirs.saturating_sub(d.vlsn).saturating_add(1)).unwrap_or(0);
        if n > 0 {
            let text =
                format!("{} parted at VLSN {}: its own branch up to VLSN {theirs} is left out", other.path, d.vlsn);
            losses.push((codes::LOSS_DIVERGED, text, n));
        }
    }
}

/// UUID of the plan in words.
#[must_use]
pub fn shown_uuid(hex: &str) -> String {
    let half = |r: std::ops::Range<usize>| hex.get(r).and_then(|h| u64::from_str_radix(h, 16).ok()).unwrap_or(0);
    uuid_text([half(0..16), half(16..32)])
}

/// The drawn values that a plan holds.
///
/// # Errors
///
/// When the plan is not of this form.
pub fn drawn_of(decided: &Decided) -> Result<Drawn> {
    let half = |r: std::ops::Range<usize>| decided.uuid.get(r).and_then(|h| u64::from_str_radix(h, 16).ok());
    match (half(0..16), half(16..32)) {
        (Some(a), Some(b)) => Ok(Drawn { now: decided.now_ms, uuid: [a, b] }),
        _ => Err(Error::Usage("the plan's uuid is no UUID".to_owned())),
    }
}

/// How many keys of a node are lost, for the runbook.
#[must_use]
pub fn lost(node: &Node) -> u64 {
    checks::lost_keys(node)
}

//! From a report to a plan: which base, which logs, up to which change, and what is lost by it.

use std::sync::Arc;

use recovery_core::{Context, Error, Plan, PlanState, Reason, Report, Result, Sources, Step, WriteStep};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::case::{Case, job};
use crate::codes;
use crate::dialect::Dialect;
use crate::engine::EngineOptions;
use crate::run::{Stop, Why, build};

/// The file a running master holds a lock on.
const LOCK_FILE: &str = ".mfsmaster.lock";

/// What a plan needs to build the same state again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// Source and name of the base; none is a new filesystem.
    pub(crate) base: Option<(u16, String)>,
    /// Source and name of each log, whether its unterminated last line is used, and what of it is not.
    pub(crate) logs: Vec<(u16, String, bool, Vec<(u64, u64)>)>,
    /// Rules to replay by.
    pub(crate) dialect: String,
    /// Product line of the result, if another.
    pub(crate) convert: Option<String>,
    /// Last change to replay.
    pub(crate) until: u64,
    /// Version of the result.
    pub(crate) version: u64,
    /// The clock.
    pub(crate) now: u32,
    /// Whether changes behind missing ones are applied.
    #[serde(default)]
    pub(crate) past_gaps: bool,
    /// Source and name of the logs that may know the names of nodes that lost theirs.
    #[serde(default)]
    pub(crate) witnesses: Vec<(u16, String)>,
}

/// The rules to replay by and the product line of the result.
pub(crate) fn dialects(case: &Case, asked: Option<Dialect>, cx: &Context) -> Result<(Dialect, Option<Dialect>)> {
    let way = case.way.as_ref().ok_or_else(|| Error::Unusable("there is nothing to restore from".to_owned()))?;
    let Some(own) = way.dialect else {
        return Err(Error::refuse(
            Reason::Ambiguous,
            "no metadata file and no line of the logs tells which product wrote them; give --as 1.6, 2, 3 or 4",
        ));
    };
    let Some(want) = asked.filter(|&d| d != own) else { return Ok((own, None)) };
    if want < own {
        return Err(Error::Usage(format!(
            "--as {want}: the state was written by {own}, and no product reads the files of a later one"
        )));
    }
    // 4.x reads the logs of 3.x itself, though not all lines; older logs must be replayed by their own rules first
    if let (Dialect::V3, Some(way), Some(built)) = (own, &case.way, &case.built) {
        let version = built.model.version();
        let until = version.checked_sub(1).filter(|_| built.applied > 0).unwrap_or(0);
        let trial = build(&job(&case.survey, way, want, until), cx)?;
        if trial.model.version() == version {
            return Ok((want, None));
        }
    }
    Ok((own, Some(want)))
}

pub(crate) fn plan(
    sources: &Sources,
    report: &Report,
    options: &EngineOptions,
    value: &Value,
    cx: &Context,
) -> Result<Plan> {
    refuse_if_locked(sources)?;
    let found = report.state::<Case>();
    let case = match found {
        Some(c) if c.built.is_some() || c.way.is_none() => c,
        _ => {
            let mut full = cx.clone();
            full.check = recovery_core::Check::Full;
            let again = crate::inspect::inspect(sources, options, &full)?;
            again.state::<Case>().ok_or_else(|| Error::Unusable("nothing to restore from".to_owned()))?
        }
    };
    let (dialect, convert) = dialects(&case, options.dialect()?, cx)?;
    if case.way.is_none() && case.until < u64::MAX {
        return Err(Error::Unusable(format!(
            "no metadata file is as old as change {}, and the logs do not lead there from the first change",
            case.until
        )));
    }
    let (Some(way), Some(built)) = (&case.way, &case.built) else {
        return Err(Error::Unusable(
            "no metadata file can be loaded, and the logs do not start with the first change".to_owned(),
        ));
    };
    let mut plan = Plan::new("moosefs", value.clone(), sources);
    plan.exit = report.exit;
    let base = way.base.and_then(|i| case.survey.bases.get(i));
    let version = built.model.version();
    let until = version.checked_sub(1).filter(|_| built.applied > 0).unwrap_or(0);
    let logs: Vec<(u16, String, bool, Vec<(u64, u64)>)> = if built.applied == 0 {
        Vec::new()
    } else {
        way.logs
            .iter()
            .enumerate()
            .filter_map(|(n, &i)| case.survey.logs.get(i).map(|l| (n, l)))
            .map(|(n, l)| {
                let rest = l.scan.rest_parses && !built.torn.contains(&n);
                (l.source, l.entry.name.clone(), rest, crate::case::skipped(l, way))
            })
            .collect()
    };
    losses(&mut plan, &case);
    let now = u32::try_from(cx.now_ms / 1000).unwrap_or(u32::MAX);
    let recipe = Recipe {
        base: base.map(|b| (b.source, b.entry.name.clone())),
        logs,
        dialect: dialect.name().to_owned(),
        convert: convert.map(|d| d.name().to_owned()),
        until,
        version,
        now,
        past_gaps: way.past_gaps,
        witnesses: if built.issues.iter().any(|i| i.kind == crate::model::load::IssueKind::Orphan) {
            case.survey.logs.iter().map(|l| (l.source, l.entry.name.clone())).collect()
        } else {
            Vec::new()
        },
    };
    let untouched = built.applied == 0
        && built.issues.iter().all(|i| i.kind == crate::model::load::IssueKind::NotProven)
        && convert.is_none()
        && base.is_some_and(|b| b.entry.file_name() == "metadata.mfs")
        && base.and_then(|b| b.outline.as_ref().ok()).and_then(|o| o.dialect) == Some(dialect);
    let result_dialect = convert.unwrap_or(dialect);
    let size = base.map_or(0, |b| b.entry.size);
    match base.filter(|_| untouched) {
        Some(b) => plan.steps.push(Step::Copy {
            source: b.source,
            object: b.entry.name.clone(),
            to: "metadata.mfs".to_owned(),
            size: b.entry.size,
            range: None,
            mode: None,
            last: true,
        }),
        None => {
            let log_bytes: u64 = case.survey.logs.iter().map(|l| l.entry.size).sum();
            plan.steps.push(write("metadata.mfs", "the replayed state", size.saturating_add(log_bytes), true));
        }
    }
    if !result_dialect.is_flat() {
        plan.steps.push(write("metadata.crc", "checksums of its sections", 256, false));
    }
    let totals = built.model.totals();
    plan.result = json!({
        "version": version, "metaid": built.model.metaid(), "dialect": result_dialect.name(),
        "inodes": totals.inodes, "edges": totals.edges, "chunks": totals.chunks, "recipe": recipe,
    });
    if let (Some(after), Some(result)) = (&case.after, plan.result.as_object_mut()) {
        result.insert("after".to_owned(), json!(after));
    }
    plan.next = vec![
        "chown mfs:mfs NEWDIR/metadata.mfs".to_owned(),
        "stop every mfsmaster, move the old data directory aside, put metadata.mfs into a new one".to_owned(),
        "mfsmaster start      (without -a: the state is complete)".to_owned(),
        "keep the old directory until the filesystem was checked: moving it back undoes everything".to_owned(),
    ];
    if let Some(a) = &case.after {
        if a.files_total > 0 {
            plan.next.push(format!(
                "{} files have data that later changes deleted or replaced: they are listed in result.after of NEWDIR/.recover/plan.json",
                a.files_total
            ));
        }
        if a.chunks_unknown > 0 {
            plan.next.push(format!(
                "{} chunks made later are unknown to this state; its master removes them after about a week: copy what you need out of the running filesystem before",
                a.chunks_unknown
            ));
        }
    }
    plan.seal(sources, &[])?;
    plan.state = PlanState::of(Arc::clone(&case));
    Ok(plan)
}

/// Refuses to work on the directory of a running master: what it has in memory is later than its files.
pub(crate) fn refuse_if_locked(sources: &Sources) -> Result<()> {
    for source in &sources.rivals {
        if let Some(holder) = source.lock_holder(LOCK_FILE) {
            let who = holder.pid.map_or("a running process".to_owned(), |p| format!("process {p}"));
            let text = format!(
                "{}: {LOCK_FILE} is held by {who}: a master works here; stop it, or copy the directory and use the copy",
                source.describe()
            );
            return Err(Error::refuse(Reason::Locked, text));
        }
    }
    Ok(())
}

fn write(to: &str, what: &str, size: u64, last: bool) -> Step {
    Step::Write(WriteStep { to: to.to_owned(), what: what.to_owned(), size, args: Value::Null, mode: None, last })
}

pub(crate) fn losses(plan: &mut Plan, case: &Case) {
    let (Some(way), Some(built)) = (&case.way, &case.built) else { return };
    let last = case.survey.logs.iter().filter_map(|l| l.scan.last).max().unwrap_or(0).min(case.until);
    let behind = |id: u64| last.saturating_add(1).saturating_sub(id);
    if case.survey.metaids().len() > 1 {
        plan.lose("two-filesystems", "metadata files of another filesystem are ignored", 1, 0);
    }
    if let Some(id) = case.branch.filter(|&b| built.model.version() <= b && built.stop.is_none()) {
        plan.lose("branch", format!("two histories exist from change {id} on; neither is followed"), behind(id), 0);
    }
    let passed = &built.passed;
    if !passed.is_empty() {
        let missing = passed.missing();
        let text = format!(
            "{missing} changes are missing and {} could not be applied; {} were applied with another result",
            passed.skipped, passed.doubtful
        );
        plan.lose("passed-changes", text, missing.saturating_add(passed.skipped).saturating_add(passed.doubtful), 0);
    }
    match &built.stop {
        None => {}
        Some(Stop::Gap(a, b)) => plan.lose("gap", format!("changes {a} to {b} are missing"), behind(*a), 0),
        Some(Stop::Branch(id)) => {
            plan.lose("branch", format!("two different lines have the id {id}"), behind(*id), 0);
        }
        Some(Stop::Line { id, why, .. }) => {
            let whole = case.base().is_some_and(|b| !b.lossy);
            let foreign = matches!(why, Why::Status(_)) && built.told == 0 && whole;
            let name = if foreign { "other-filesystem" } else { "replay-stop" };
            plan.lose(name, format!("change {id} cannot be applied ({why})"), behind(*id), 0);
        }
    }
    let lost: Vec<_> = built.issues.iter().filter(|i| !i.kind.keeps_everything()).collect();
    if !lost.is_empty() {
        let bytes = lost.iter().map(|i| i.length).sum();
        let first = lost.first().map_or(String::new(), |i| i.text.clone());
        plan.lose("damaged-base", first, lost.len() as u64, bytes);
    }
    if let Some(later) = case.later() {
        let (version, reached) = (later.version().unwrap_or(0), built.model.version());
        let text =
            format!("{} has the state of version {version}, but damaged; {reached} is reached", later.entry.name);
        plan.lose("older-state", text, version.saturating_sub(reached), 0);
    }
    let base = way.base.and_then(|i| case.survey.bases.get(i));
    if let Some(b) = base.filter(|b| !b.crc_bad.is_empty()) {
        let text = format!("{}: {}", b.entry.name, codes::CRC_MISMATCH.title);
        plan.lose("changed-base", text, b.crc_bad.len() as u64, 0);
    }
}

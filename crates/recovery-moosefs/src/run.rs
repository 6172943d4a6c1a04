//! From a base and logs to a state: loading, merging, replay in batches.
//!
//! Two threads share the work: one reads, merges and parses the next batch while the other applies the current one.

use std::sync::Arc;

use recovery_core::{Blob, Context, Error};

use crate::changelog::merge::{Batch, End, Input, Merger};
use crate::changelog::{LineError, Op};
use crate::dialect::Dialect;
use crate::model::load::{Issue, IssueKind, LoadError, LoadOptions, load};
use crate::model::{Model, Status};
use crate::replay::warm::GROUP;
use crate::replay::{Conflict, Replayer};

/// A log to replay.
#[derive(Clone)]
pub struct Log {
    /// Its bytes.
    pub blob: Arc<dyn Blob>,
    /// Ranges of the file that are not used.
    pub skip: Vec<(u64, u64)>,
    /// Whether an unterminated last line counts.
    pub use_rest: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("blob", &self.blob.name()).finish_non_exhaustive()
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Job {
    /// The metadata file; without, a new filesystem.
    pub base: Option<Arc<dyn Blob>>,
    /// The logs.
    pub logs: Vec<Log>,
    /// Rules to replay by.
    pub dialect: Dialect,
    /// Last change to apply.
    pub until: u64,
    /// Whether damage in the base is passed over.
    pub salvage: bool,
    /// Whether section checksums of the base are computed.
    pub checksums: bool,
    /// Whether changes behind missing ones, and behind those that cannot be applied, are applied as far as they can.
    pub past_gaps: bool,
    /// Logs that may know the names of nodes that lost theirs.
    pub witnesses: Vec<Arc<dyn Blob>>,
}

/// Where and why replay stopped before the end of the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The ids between are missing.
    Gap(u64, u64),
    /// Two different lines have this id.
    Branch(u64),
    /// A change could not be applied, or a line not be read.
    Line {
        /// Its id.
        id: u64,
        /// Number of the log.
        log: usize,
        /// Its offset.
        at: u64,
        /// Its length.
        len: u64,
        /// The line.
        text: String,
        /// Status of the real program, or what the line lacks.
        why: Why,
    },
}

/// Why a line stops replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It could not be applied.
    Status(Status),
    /// It could not be read.
    Parse(LineError),
    /// No product has such an operation.
    Unknown,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(s) => write!(f, "error: {} ({})", s.0, s.text()),
            Self::Parse(e) => e.fmt(f),
            Self::Unknown => f.write_str("unknown operation"),
        }
    }
}

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// The state.
    pub model: Model,
    /// What was wrong with the base.
    pub issues: Vec<Issue>,
    /// Section checksums of the base.
    pub checksums: Vec<([u8; 4], u64)>,
    /// Version of the base.
    pub base_version: u64,
    /// Changes applied.
    pub applied: u64,
    /// Changes applied that say something: all but `IDLE`.
    pub told: u64,
    /// Why it ended early.
    pub stop: Option<Stop>,
    /// Lock conflicts passed over.
    pub conflicts: Vec<Conflict>,
    /// Lines that are no lines: log, offset, length.
    pub garbage: Vec<(usize, u64, u64)>,
    /// Logs whose unterminated last line could not be applied and was left out.
    pub torn: Vec<usize>,
    /// Changes with `REPAIR`, at which 3.x stops its own recovery: id of the first.
    pub first_repair: Option<u64>,
    /// First change of the form of 1.6 at which newer programs stop.
    pub first_release: Option<u64>,
    /// What was passed over where changes behind it were applied.
    pub passed: Passed,
}

/// Changes that were passed over, with those behind them applied.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Missing ids, as ranges that include both ends.
    pub gaps: Vec<(u64, u64)>,
    /// Changes that could not be applied: id, operation, why. The first of them.
    pub changes: Vec<(u64, String, String)>,
    /// How many could not be applied.
    pub skipped: u64,
    /// How many were applied with another result than the log says.
    pub doubtful: u64,
}

impl Passed {
    /// Missing changes.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.gaps.iter().fold(0u64, |n, g| n.saturating_add(g.1.saturating_sub(g.0)).saturating_add(1))
    }

    /// Whether nothing was passed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gaps.is_empty() && self.skipped == 0 && self.doubtful == 0
    }
}

fn load_error(e: LoadError) -> Error {
    match e {
        LoadError::Read(e) => Error::Read(e),
        LoadError::Full(what) => {
            let limit = u64::from(u32::MAX);
            Error::Limit { what: format!("a table of {what}"), needed: limit, limit }
        }
        other => Error::Damaged(other.to_string()),
    }
}

/// Builds the state; at a change that cannot be applied, the state before it.
///
/// # Errors
///
/// When the medium fails, a limit is met, the work is cancelled, or the base cannot be loaded.
pub fn build(job: &Job, cx: &Context) -> Result<Built, Error> {
    cx.pool().install(|| {
        let mut job = job.clone();
        let mut torn = Vec::new();
        let mut first_stop = None;
        loop {
            let mut built = attempt(&job, cx)?;
            match built.stop.take() {
                Some(Stop::Line { log, id, .. }) if built.at_rest => {
                    if let Some(l) = job.logs.get_mut(log) {
                        l.use_rest = false;
                    }
                    torn.push(log);
                    job.until = job.until.min(id);
                }
                Some(stop @ Stop::Line { .. }) if first_stop.is_none() => {
                    let Stop::Line { id, .. } = &stop else { continue };
                    let Some(before) = id.checked_sub(1).filter(|_| built.built.applied > 0) else {
                        job.logs.clear();
                        first_stop = Some(stop);
                        continue;
                    };
                    job.until = before;
                    first_stop = Some(stop);
                }
                stop => {
                    let mut result = built.built;
                    result.stop = first_stop.or(stop);
                    result.torn = torn;
                    settle(&mut result, &built.orphans)?;
                    return Ok(result);
                }
            }
        }
    })
}

struct Attempt {
    built: Built,
    stop: Option<Stop>,
    /// The line that stopped replay was an unterminated one.
    at_rest: bool,
    /// Nodes that have no name yet but `lost_node_<inode>`.
    orphans: Vec<u32>,
}

/// Nodes without names go into a directory of their own when all changes are applied: before, it would take an inode
/// that the changes give to another node.
fn settle(built: &mut Built, orphans: &[u32]) -> Result<(), Error> {
    if orphans.is_empty() {
        return Ok(());
    }
    built.model.index_names();
    let full = |s: Status| Error::Internal(format!("lost+found: {}", s.text()));
    let moved = crate::salvage::lost_and_found(&mut built.model, orphans).map_err(full)?;
    if moved > 0 {
        let text = format!("{moved} nodes without a name are in /lost+found, named after their inodes");
        built.issues.push(Issue { kind: IssueKind::Repaired, at: 0, length: 0, text });
    }
    Ok(())
}

struct Started {
    model: Model,
    issues: Vec<Issue>,
    checksums: Vec<([u8; 4], u64)>,
    orphans: Vec<u32>,
}

fn start(job: &Job) -> Result<Started, Error> {
    let Some(base) = &job.base else {
        let model = Model::new_filesystem(job.dialect);
        return Ok(Started { model, issues: Vec::new(), checksums: Vec::new(), orphans: Vec::new() });
    };
    let options = LoadOptions { salvage: job.salvage, dialect: Some(job.dialect), checksums: job.checksums };
    let mut loaded = load(base.as_ref(), &options).map_err(load_error)?;
    if job.dialect.is_flat() && loaded.outline.signature == crate::format::outer::Signature::New {
        loaded.model = Model::new_filesystem(job.dialect);
    }
    let checksums = loaded.checksums.iter().map(|(n, v)| (*n, u64::from(*v))).collect();
    let (mut model, mut issues, mut orphans) = (loaded.model, loaded.issues, loaded.orphans);
    if !orphans.is_empty() && !job.witnesses.is_empty() {
        let logs: Vec<&dyn Blob> = job.witnesses.iter().map(AsRef::as_ref).collect();
        let named = crate::salvage::name_orphans(&mut model, &mut orphans, &logs)?;
        if named > 0 {
            let text = format!("{named} nodes without a name got back the one that the logs gave them last");
            issues.push(Issue { kind: IssueKind::Repaired, at: 0, length: 0, text });
        }
    }
    Ok(Started { model, issues, checksums, orphans })
}

fn attempt(job: &Job, cx: &Context) -> Result<Attempt, Error> {
    let Started { mut model, issues, checksums, orphans } = start(job)?;
    model.set_budget(cx.limits.memory);
    let base_version = model.version();
    let inputs = job
        .logs
        .iter()
        .map(|l| Input { blob: l.blob.as_ref(), skip: &l.skip, use_rest: l.use_rest })
        .collect::<Vec<_>>();
    let any = !inputs.is_empty();
    let mut merger = Merger::new(inputs, base_version, job.until);
    let mut built = Built {
        model,
        issues,
        checksums,
        base_version,
        applied: 0,
        told: 0,
        stop: None,
        conflicts: Vec::new(),
        garbage: Vec::new(),
        torn: Vec::new(),
        first_repair: None,
        first_release: None,
        passed: Passed::default(),
    };
    if !any {
        return Ok(Attempt { built, stop: None, at_rest: false, orphans });
    }
    built.model.index_names();
    merger.hash_names(built.model.names.hasher);
    let (mut current, mut next) = (Batch::default(), Batch::default());
    if !fill(&mut merger, &mut current, job.past_gaps, &mut built.passed)? {
        let stop = ended(&merger);
        built.garbage = merger.garbage;
        return Ok(Attempt { built, stop, at_rest: false, orphans });
    }
    let mut replayer = Replayer::new(built.model);
    let mut stop = None;
    let mut at_rest = false;
    loop {
        cx.cancelled()?;
        let mut gaps = Passed::default();
        let (applied, filled) = rayon::join(
            || {
                if job.past_gaps {
                    apply_past(&mut replayer, &current, &mut built.passed)
                } else {
                    apply(&mut replayer, &current)
                }
            },
            || fill(&mut merger, &mut next, job.past_gaps, &mut gaps),
        );
        built.passed.gaps.append(&mut gaps.gaps);
        built.told = built.told.saturating_add(applied.told);
        built.first_repair = built.first_repair.or(applied.first_repair);
        built.first_release = built.first_release.or(applied.first_release);
        if let Some((s, rest)) = applied.stop {
            (stop, at_rest) = (Some(s), rest);
            break;
        }
        cx.progress.advance(current.entries.len() as u64);
        if !filled? {
            break;
        }
        std::mem::swap(&mut current, &mut next);
    }
    let stop = stop.or_else(|| ended(&merger));
    built.garbage = merger.garbage;
    built.conflicts = replayer.conflicts().to_vec();
    built.model = replayer.model;
    built.applied = built.model.version().saturating_sub(base_version);
    if matches!(&stop, Some(Stop::Line { why: Why::Status(Status::OUTOFMEMORY), .. })) {
        return Err(Error::Limit {
            what: "the state that the change log builds".to_owned(),
            needed: cx.limits.memory,
            limit: cx.limits.memory,
        });
    }
    Ok(Attempt { built, stop, at_rest, orphans })
}

/// The next batch; where changes are missing, what stands behind them.
fn fill(merger: &mut Merger<'_>, batch: &mut Batch, past: bool, passed: &mut Passed) -> Result<bool, Error> {
    loop {
        if merger.fill(batch)? {
            return Ok(true);
        }
        let Some(&End::Gap(a, b)) = merger.ended().filter(|_| past) else { return Ok(false) };
        passed.gaps.push((a, b));
        merger.resume(b.saturating_add(1));
    }
}

fn ended(merger: &Merger<'_>) -> Option<Stop> {
    match merger.ended()? {
        End::Done => None,
        End::Gap(a, b) => Some(Stop::Gap(*a, *b)),
        End::Branch(id) => Some(Stop::Branch(*id)),
    }
}

#[derive(Default)]
struct Applied {
    told: u64,
    stop: Option<(Stop, bool)>,
    first_repair: Option<u64>,
    first_release: Option<u64>,
}

/// Changes that are listed one by one where they could not be applied.
const LISTED: usize = 1000;

/// Applies what can be applied.
fn apply_past(replayer: &mut Replayer, batch: &Batch, passed: &mut Passed) -> Applied {
    let mut out = Applied::default();
    for e in &batch.entries {
        let text = batch.line(e);
        let why = match &e.op {
            Err(error) => error.to_string(),
            Ok(Op::Unknown { .. }) => "unknown operation".to_owned(),
            Ok(op) => match replayer.step_past(text, e.id, e.time, op) {
                Ok(exact) => {
                    out.told = out.told.saturating_add(u64::from(!matches!(op, Op::Idle)));
                    passed.doubtful = passed.doubtful.saturating_add(u64::from(!exact));
                    continue;
                }
                Err(r) if r.0 == Status::OUTOFMEMORY => {
                    let (id, log, at, len) = (e.id, e.input, e.at, text.len() as u64);
                    let stop = Stop::Line { id, log, at, len, text: String::new(), why: Why::Status(r.0) };
                    out.stop = Some((stop, false));
                    break;
                }
                Err(r) => r.to_string(),
            },
        };
        replayer.model.version = e.id.saturating_add(1);
        passed.skipped = passed.skipped.saturating_add(1);
        if passed.changes.len() < LISTED {
            let change = text.splitn(2, |&b| b == b'|').nth(1).unwrap_or_default();
            let word = change.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'_').copied().collect();
            passed.changes.push((e.id, String::from_utf8(word).unwrap_or_default(), why));
        }
    }
    out
}

fn apply(replayer: &mut Replayer, batch: &Batch) -> Applied {
    let mut out = Applied::default();
    for (i, e) in batch.entries.iter().enumerate() {
        if i % GROUP == 0 {
            let group = batch.entries.get(i..batch.entries.len().min(i.saturating_add(GROUP)));
            replayer.warm(group.unwrap_or_default());
        }
        let text = batch.line(e);
        let why = match &e.op {
            Err(error) => Why::Parse(*error),
            Ok(Op::Unknown { .. }) => Why::Unknown,
            Ok(op) => {
                match op {
                    Op::Repair { version, .. } if *version > 0 && out.first_repair.is_none() => {
                        out.first_repair = Some(e.id);
                    }
                    Op::Release { .. } if out.first_release.is_none() => out.first_release = Some(e.id),
                    _ => {}
                }
                match replayer.step(text, e.id, e.time, op, e.hash) {
                    Ok(()) => {
                        out.told = out.told.saturating_add(u64::from(!matches!(op, Op::Idle)));
                        continue;
                    }
                    Err(r) => Why::Status(r.0),
                }
            }
        };
        let stop = Stop::Line {
            id: e.id,
            log: e.input,
            at: e.at,
            len: text.len() as u64,
            text: String::from_utf8_lossy(text.get(..text.len().min(200)).unwrap_or_default()).into_owned(),
            why,
        };
        out.stop = Some((stop, !e.terminated));
        break;
    }
    out
}

//! Carries out a plan: everything but the bytes that only the engine can make.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::blob::Blob;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::parallel;
use crate::plan::{Plan, Step, WriteStep};
use crate::receipt::{How, Placed, Receipt};
use crate::source::{Entry, Source, Sources};
use crate::target::{Begun, Done, Output, Target};

/// Bytes copied at a time.
const CHUNK: u64 = 1 << 20;

/// Makes the bytes of one [`WriteStep`].
pub type Maker<'a> = dyn Fn(&WriteStep, &mut dyn Output) -> Result<()> + Sync + 'a;

/// Carries out a plan: checks the inputs, takes up where an earlier run was cut off, places and makes the files in
/// parallel, the entry files last, and shows the result.
///
/// # Errors
///
/// A refusal when an input changed or the target holds something else; any error leaves the result invisible, and the
/// same call later goes on where this one stopped.
pub fn run(sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context, make: &Maker<'_>) -> Result<Receipt> {
    carry_out(sources, plan, target, cx, make, false)
}

/// As [`run`], but the files that the engine makes are asked for one after the other, in the plan's order: for engines
/// that make a file from where the one before ended.
///
/// # Errors
///
/// As [`run`].
pub fn run_in_order(
    sources: &Sources,
    plan: &Plan,
    target: &dyn Target,
    cx: &Context,
    make: &Maker<'_>,
) -> Result<Receipt> {
    carry_out(sources, plan, target, cx, make, true)
}

fn carry_out(
    sources: &Sources,
    plan: &Plan,
    target: &dyn Target,
    cx: &Context,
    make: &Maker<'_>,
    in_order: bool,
) -> Result<Receipt> {
    plan.check_inputs(sources)?;
    check_paths(plan)?;
    let finished: BTreeMap<u64, Placed> = match target.begin(plan, sample(sources, plan, cx).as_deref())? {
        Begun::Complete(receipt) => return Ok(*receipt),
        Begun::Resumed(done) => done.into_iter().map(|d| (d.step, d.placed)).collect(),
        Begun::Fresh => BTreeMap::new(),
    };
    for step in &plan.steps {
        if let Step::Mkdir { to, mode } = step {
            target.mkdir(to, *mode)?;
        }
    }
    cx.progress.begin("write", plan.cost.write.saturating_add(plan.cost.link));
    let work = Work { sources, target, cx, make };
    let mut files = Vec::new();
    for last in [false, true] {
        let steps = (0..).zip(&plan.steps).filter(|(_, s)| s.is_last() == last);
        let (made, placed): (Vec<(u64, &Step)>, Vec<_>) =
            steps.partition(|(_, s)| in_order && matches!(s, Step::Write(_)));
        let units: Vec<Vec<(u64, &Step)>> = std::iter::once(made).chain(placed.into_iter().map(|s| vec![s])).collect();
        for done in parallel::map(cx, &units, |_, unit| work.unit(unit, &finished))? {
            files.extend(done?);
        }
    }
    files.sort_by(|a: &Placed, b| a.path.cmp(&b.path));
    let mut receipt = Receipt::of(plan)?;
    receipt.files = files;
    let last: Vec<String> = plan.steps.iter().filter(|s| s.is_last()).map(|s| s.to().to_owned()).collect();
    target.commit(&receipt, &last)?;
    Ok(receipt)
}

/// A file that the plan links, to try whether it can be.
fn sample(sources: &Sources, plan: &Plan, cx: &Context) -> Option<PathBuf> {
    let link = |s: &Step| match s {
        Step::Link { source, object, .. } if !cx.copy => {
            let source = sources.get(*source)?;
            source.local_path(&source.stat(object).ok()??)
        }
        _ => None,
    };
    plan.steps.iter().find_map(link)
}

/// A plan may come from a file: its paths are as hostile as any input.
fn check_paths(plan: &Plan) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for step in &plan.steps {
        crate::names::relative_path(step.to())?;
        if !matches!(step, Step::Mkdir { .. }) && !seen.insert(step.to()) {
            return Err(Error::Usage(format!("{}: the plan writes it twice", crate::names::terminal(step.to()))));
        }
    }
    Ok(())
}

struct Work<'a> {
    sources: &'a Sources,
    target: &'a dyn Target,
    cx: &'a Context,
    make: &'a Maker<'a>,
}

impl Work<'_> {
    /// Steps that follow one another.
    fn unit(&self, steps: &[(u64, &Step)], finished: &BTreeMap<u64, Placed>) -> Result<Vec<Placed>> {
        let mut files = Vec::new();
        for (i, step) in steps {
            self.cx.cancelled()?;
            files.extend(self.step(*i, step, finished)?);
        }
        Ok(files)
    }

    fn step(&self, index: u64, step: &Step, finished: &BTreeMap<u64, Placed>) -> Result<Option<Placed>> {
        let size = match step {
            Step::Mkdir { .. } => return Ok(None),
            Step::Link { size, .. } | Step::Copy { size, .. } => *size,
            Step::Write(w) => w.size,
        };
        let placed = match finished.get(&index) {
            Some(placed) if placed.path == step.to() => placed.clone(),
            _ => {
                let placed = self.perform(step)?;
                self.target.done(&Done { step: index, placed: placed.clone() })?;
                placed
            }
        };
        self.cx.progress.advance(size);
        Ok(Some(placed))
    }

    fn perform(&self, step: &Step) -> Result<Placed> {
        match step {
            Step::Link { source, object, to, size } => self.take(*source, object, to, (0, *size), true, None),
            Step::Copy { source, object, to, size, range, mode, .. } => {
                self.take(*source, object, to, range.unwrap_or((0, *size)), false, *mode)
            }
            Step::Write(w) => self.target.create(&w.to, w.mode, &mut |out| (self.make)(w, out)),
            Step::Mkdir { to, .. } => Err(Error::Internal(format!("{to}: a directory is not a file"))),
        }
    }

    fn take(
        &self,
        number: u16,
        object: &str,
        to: &str,
        (start, len): (u64, u64),
        may_link: bool,
        mode: Option<u32>,
    ) -> Result<Placed> {
        let gone = || Error::Internal(format!("{object}: the plan names a file that is not there"));
        let source = self.sources.get(number).ok_or_else(gone)?;
        let entry = source.stat(object)?.ok_or_else(gone)?;
        let mode = mode.or(entry.mode);
        if (start, len) == (0, entry.size)
            && let Some(placed) = self.place(source.as_ref(), &entry, to, may_link, mode)?
        {
            return Ok(placed);
        }
        let blob = source.open(&entry)?;
        let mut placed = self.target.create(to, mode, &mut |out| copy(blob.as_ref(), start, len, out, self.cx))?;
        placed.how = How::Copied;
        Ok(placed)
    }

    fn place(
        &self,
        source: &dyn Source,
        entry: &Entry,
        to: &str,
        may_link: bool,
        mode: Option<u32>,
    ) -> Result<Option<Placed>> {
        let Some(from) = source.local_path(entry) else { return Ok(None) };
        let Some(how) = self.target.place(&from, to, may_link && !self.cx.copy, mode)? else { return Ok(None) };
        let blob: Option<Arc<dyn Blob>> = if self.cx.hash_all { Some(source.open(entry)?) } else { None };
        let sha256 = blob.map(|b| crate::receipt::sha256(b.as_ref())).transpose()?;
        Ok(Some(Placed { path: to.to_owned(), size: entry.size, how, sha256 }))
    }
}

fn copy(blob: &dyn Blob, start: u64, len: u64, out: &mut dyn Output, cx: &Context) -> Result<()> {
    let end = start.saturating_add(len);
    let mut at = start;
    while at < end {
        cx.cancelled()?;
        let next = at.saturating_add(CHUNK).min(end);
        let bytes = blob.bytes(at..next)?;
        out.write_all(&bytes).map_err(|e| Error::write(blob.name(), "copy", e))?;
        blob.done_with(at..next);
        at = next;
    }
    Ok(())
}

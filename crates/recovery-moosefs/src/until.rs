//! Going back to a point in time, and what that cannot bring back.
//!
//! Metadata can be taken back to any change, data cannot: chunks that later changes deleted are gone, those that later
//! changes wrote to hold newer data, and chunks made later are unknown to the restored master, which removes them from
//! the chunk servers after about a week.

use hashbrown::{HashMap, HashSet};
use recovery_core::{Context, Error, Result};
use serde::Serialize;

use crate::case::job;
use crate::changelog::Op;
use crate::changelog::file::LineReader;
use crate::changelog::line::line_id;
use crate::changelog::merge::{Batch, Input, Merger};
use crate::dialect::Dialect;
use crate::model::Model;
use crate::run::build;
use crate::survey::{Survey, Way};
use crate::time::Point;

/// Files that are listed one by one.
const LISTED: usize = 10_000;

/// The last change to apply for a point in time, and how many later changes carry an earlier time.
pub(crate) fn last_change(survey: &Survey, point: Point) -> Result<(u64, u64)> {
    let time = match point {
        Point::Id(id) => return Ok((id, 0)),
        Point::Time(time) => time,
    };
    let mut first_later = u64::MAX;
    let mut early: Vec<u64> = Vec::new();
    for log in &survey.logs {
        let mut reader = LineReader::new(log.blob.as_ref());
        while let Some(line) = reader.next_line()? {
            let Some((id, at)) = line_id(line.text).filter(|_| line.terminated) else { continue };
            let digits = line.text.get(at..).unwrap_or_default();
            let stamp = digits.iter().take_while(|b| b.is_ascii_digit());
            let stamp = stamp.fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')));
            if stamp > u64::from(time) {
                first_later = first_later.min(id);
            } else if id > first_later && early.len() < 1 << 20 {
                early.push(id);
            }
        }
    }
    early.sort_unstable();
    early.dedup();
    let back = early.iter().filter(|&&id| id > first_later).count() as u64;
    Ok((first_later.checked_sub(1).map_or(0, |id| if first_later == u64::MAX { u64::MAX } else { id }), back))
}

/// What happened behind the point in time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct After {
    /// The last change of the result.
    pub until: u64,
    /// Changes that are taken back.
    pub undone: u64,
    /// Changes that carry a time before the chosen one although they stand behind a later one.
    pub clock_back: u64,
    /// Why not all later changes could be looked at.
    pub stopped: Option<String>,
    /// Files with at least one chunk whose data is not what it was.
    pub files_total: u64,
    /// Chunks that are deleted.
    pub chunks_gone: u64,
    /// Chunks that hold newer data.
    pub chunks_newer: u64,
    /// Chunks that no file refers to after the later changes: chunk servers remove them.
    pub chunks_dropped: u64,
    /// Chunks that later changes made and the restored master will not know.
    pub chunks_unknown: u64,
    /// The files, as far as they are listed.
    pub files: Vec<Touched>,
}

/// A file of the result whose data is not what it was.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Touched {
    /// Inode.
    pub inode: u32,
    /// First path of the file, lossy where it is not UTF-8.
    pub path: String,
    /// Chunks of the file.
    pub chunks: u32,
    /// Of these deleted, rewritten, and dropped by all files.
    pub gone: u32,
    /// Rewritten.
    pub newer: u32,
    /// No longer referred to.
    pub dropped: u32,
}

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Newer,
    Dropped,
}

/// Compares the state at the point in time with what the later changes make of it.
pub(crate) fn after(
    survey: &Survey,
    way: &Way,
    dialect: Dialect,
    then: &Model,
    limit: u64,
    cx: &Context,
) -> Result<Option<After>> {
    let from = then.version();
    if way.reach <= from && way.gap.is_none() {
        return Ok(None);
    }
    let whole = job(survey, way, dialect, limit);
    let built = match build(&whole, cx) {
        Ok(b) => b,
        Err(e @ (Error::Limit { .. } | Error::Damaged(_))) => {
            let stopped = Some(format!("the later changes could not be followed: {e}"));
            return Ok(Some(After { until: from.saturating_sub(1), stopped, ..After::default() }));
        }
        Err(e) => return Err(e),
    };
    let now = &built.model;
    let mut out = After {
        until: from.saturating_sub(1),
        undone: now.version().saturating_sub(from),
        stopped: built
            .stop
            .as_ref()
            .map(|_| format!("the later changes can be followed to {} only", now.version().saturating_sub(1))),
        ..After::default()
    };
    let written = written(&whole, from, now.version(), cx)?;
    out.chunks_unknown = written.iter().filter(|&&id| then.chunks.get(id).is_none()).count() as u64;
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    for c in then.chunks.slots.slots().iter().filter(|c| c.id != 0 && !then.chunks.unused(c)) {
        let fate = match now.chunks.get(c.id) {
            None => Fate::Gone,
            Some(n) if n.version != c.version || written.contains(&c.id) => Fate::Newer,
            Some(n) if now.chunks.unused(n) => Fate::Dropped,
            Some(_) => continue,
        };
        fates.insert(c.id, fate);
    }
    let count = |fate: Fate| fates.values().filter(|f| **f == fate).count() as u64;
    (out.chunks_gone, out.chunks_newer, out.chunks_dropped) =
        (count(Fate::Gone), count(Fate::Newer), count(Fate::Dropped));
    files(then, &fates, &mut out);
    Ok(Some(out))
}

/// Chunks that the changes from `from` to before `to` make or write to.
fn written(job: &crate::run::Job, from: u64, to: u64, cx: &Context) -> Result<HashSet<u64>> {
    let mut out = HashSet::new();
    let Some(last) = to.checked_sub(1).filter(|&l| l >= from) else { return Ok(out) };
    let inputs = job.logs.iter().map(|l| Input { blob: l.blob.as_ref(), skip: &l.skip, use_rest: l.use_rest });
    let mut merger = Merger::new(inputs.collect(), from, last);
    let mut batch = Batch::default();
    while merger.fill(&mut batch)? {
        cx.cancelled()?;
        for e in &batch.entries {
            match &e.op {
                Ok(Op::Write { chunk, .. } | Op::Trunc { chunk, .. }) if *chunk > 0 => {
                    out.insert(*chunk);
                }
                Ok(Op::IncVersion { id } | Op::SetVersion { id, .. } | Op::ChunkAdd { id, .. }) => {
                    out.insert(*id);
                }
                _ => {}
            }
        }
    }
    Ok(out)
}

fn files(then: &Model, fates: &HashMap<u64, Fate>, out: &mut After) {
    for n in then.nodes.slots().iter().filter(|n| n.is_file()) {
        let mut t = Touched { inode: n.inode, ..Touched::default() };
        for id in then.chunk_ids(n).iter().filter(|&&id| id != 0) {
            t.chunks = t.chunks.saturating_add(1);
            let count = match fates.get(id) {
                Some(Fate::Gone) => &mut t.gone,
                Some(Fate::Newer) => &mut t.newer,
                Some(Fate::Dropped) => &mut t.dropped,
                None => continue,
            };
            *count = count.saturating_add(1);
        }
        if t.gone == 0 && t.newer == 0 && t.dropped == 0 {
            continue;
        }
        out.files_total = out.files_total.saturating_add(1);
        if out.files.len() < LISTED {
            t.path = String::from_utf8_lossy(&then.first_path(n)).into_owned();
            out.files.push(t);
        }
    }
    out.files.sort_by(|a, b| a.path.cmp(&b.path));
}

//! Following a log change by change: what each one touches, under which path, and what it removes for good.

use recovery_core::{Context, Result};

use crate::changelog::merge::{Batch, Entry, Input, Merger};
use crate::changelog::{Op, Span, unescape};
use crate::dialect::Dialect;
use crate::model::Model;
use crate::replay::Replayer;
use crate::run::Job;

/// What a line names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Inodes, as arguments or results.
    pub inodes: Vec<u32>,
    /// Names in directories, unescaped.
    pub names: Vec<(u32, Vec<u8>)>,
    /// The session.
    pub session: Option<u32>,
    /// The chunk.
    pub chunk: Option<u64>,
}

impl Named {
    /// What an operation names, by the rules of a dialect (1.6 has sessions and inodes the other way round).
    #[must_use]
    pub fn of(op: &Op, line: &[u8], dialect: Option<Dialect>) -> Self {
        let mut n = Self::default();
        n.common(op, line);
        n.others(op, line, dialect == Some(Dialect::V16));
        n
    }

    fn name(&mut self, parent: u32, span: Span, line: &[u8]) {
        let mut name = Vec::new();
        unescape(span.of(line), &mut name);
        self.names.push((parent, name));
    }

    fn common(&mut self, op: &Op, line: &[u8]) {
        match *op {
            Op::Access { inode }
            | Op::AddAttr { inode, .. }
            | Op::AmTime { inode, .. }
            | Op::ArchChg { inode, .. }
            | Op::AutoArch { inode, .. }
            | Op::Attr { inode, .. }
            | Op::Length { inode, .. }
            | Op::Purge { inode }
            | Op::TrashRemove { inode }
            | Op::Repair { inode, .. }
            | Op::Set { inode, .. }
            | Op::SetPath { inode, .. }
            | Op::SetXattr { inode, .. }
            | Op::Undel { inode } => self.inodes.push(inode),
            Op::Write { inode, chunk, .. } | Op::Trunc { inode, chunk, .. } | Op::SetFileChunk { inode, chunk, .. } => {
                self.inodes.push(inode);
                self.chunk = Some(chunk);
            }
            Op::Rollback { inode, chunk, .. } => {
                self.inodes.push(inode);
                self.chunk = Some(chunk);
            }
            Op::Create { parent, name, inode, .. }
            | Op::Symlink { parent, name, inode, .. }
            | Op::Unlink { parent, name, inode }
            | Op::Link { inode, parent, name } => {
                self.inodes.push(inode);
                self.name(parent, name, line);
            }
            Op::Move { from, name, to, new_name, inode, .. } => {
                if inode > 0 {
                    self.inodes.push(inode);
                }
                self.name(from, name, line);
                self.name(to, new_name, line);
            }
            _ => {}
        }
    }

    fn others(&mut self, op: &Op, line: &[u8], flat: bool) {
        match op {
            Op::Acquire { first, second } | Op::Release { first, second } => {
                let (session, inode) = if flat { (*second, *first) } else { (*first, *second) };
                self.inodes.push(inode);
                self.session = Some(session);
            }
            Op::Flock { inode, session, .. } | Op::PosixLock { inode, session, .. } => {
                self.inodes.push(*inode);
                self.session = Some(*session);
            }
            Op::SesAdd(s) | Op::SesChanged(s) => self.session = Some(s.id),
            Op::Session { id } | Op::SesDel { id } | Op::SesConnected { id } | Op::SesDisconnected { id } => {
                self.session = Some(*id);
            }
            Op::Append { inode, source, .. } => self.inodes.extend([*inode, *source]),
            Op::Quota(q) => self.inodes.push(q.inode),
            Op::SetAcl(a) => self.inodes.push(a.inode),
            Op::TrashRecover(r) => self.inodes.extend([r.inode, r.parent]),
            Op::Snapshot(s) => {
                if s.source > 0 {
                    self.inodes.push(s.source);
                }
                self.name(s.parent, s.name, line);
            }
            Op::Unlock { id }
            | Op::IncVersion { id }
            | Op::SetVersion { id, .. }
            | Op::ChunkAdd { id, .. }
            | Op::ChunkDel { id, .. }
            | Op::ChunkFlagsClear { id } => self.chunk = Some(*id),
            _ => {}
        }
    }

    /// The paths it names in a state, with a slash in front.
    #[must_use]
    pub fn paths(&self, model: &Model) -> Vec<Vec<u8>> {
        let mut out: Vec<Vec<u8>> = Vec::new();
        for (parent, name) in &self.names {
            let above = match model.node(*parent) {
                Ok(p) if *parent > 1 => model.first_path(p),
                _ => Vec::new(),
            };
            let sep: &[u8] = if above.is_empty() { b"" } else { b"/" };
            out.push([b"/".as_slice(), &above, sep, name].concat());
        }
        if self.names.is_empty() {
            for inode in &self.inodes {
                if let Ok(n) = model.node(*inode) {
                    out.push([b"/".as_slice(), &model.first_path(n)].concat());
                }
            }
        }
        out
    }
}

/// Sees each change before and after it is applied.
pub(crate) trait Visitor {
    /// Before a change is applied; false ends the walk.
    fn before(&mut self, model: &Model, line: &[u8], entry: &Entry) -> Result<bool>;

    /// Behind it; `error` tells why it could not be applied.
    fn after(&mut self, model: &Model, line: &[u8], entry: &Entry, error: Option<&str>) -> Result<()>;
}

/// Applies the changes of a job one by one. Changes that cannot be applied end it.
pub(crate) fn trace(model: Model, job: &Job, cx: &Context, visitor: &mut dyn Visitor) -> Result<Model> {
    let inputs = job.logs.iter().map(|l| Input { blob: l.blob.as_ref(), skip: &l.skip, use_rest: l.use_rest });
    let mut merger = Merger::new(inputs.collect(), model.version(), job.until);
    let mut replayer = Replayer::new(model);
    let mut batch = Batch::default();
    while merger.fill(&mut batch)? {
        cx.cancelled()?;
        for e in &batch.entries {
            let line = batch.line(e);
            if !visitor.before(&replayer.model, line, e)? {
                return Ok(replayer.model);
            }
            let error = match &e.op {
                Err(error) => Some(error.to_string()),
                Ok(Op::Unknown { .. }) => Some("unknown operation".to_owned()),
                Ok(op) => replayer.step(line, e.id, e.time, op, None).err().map(|r| r.to_string()),
            };
            visitor.after(&replayer.model, line, e, error.as_deref())?;
            if error.is_some() {
                return Ok(replayer.model);
            }
        }
    }
    Ok(replayer.model)
}

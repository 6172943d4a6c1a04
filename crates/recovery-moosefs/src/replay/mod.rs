//! Replay: every operation of every dialect, with the identifiers, the order and the checks of the real programs.
//!
//! Source: upstream `mfsmaster/restore.c` and the `*_mr_*` functions it calls, 2.0.91, 3.0.117, 4.59.2; `mfsmetarestore`
//! of 1.6.27.

mod attrs;
mod files;
mod misc;
mod names;
mod sessions;
mod snapshot;
mod trash;
pub(crate) mod warm;

use crate::changelog::{Change, Op, Span, unescape};
use crate::dialect::Dialect;
use crate::model::{Model, Outcome, Status};

/// Applies changes to a state.
#[derive(Debug)]
pub struct Replayer {
    /// The state.
    pub model: Model,
    scratch: [Vec<u8>; 2],
    /// Lock conflicts passed over: change id, session that held the lock, inode.
    conflicts: Vec<Conflict>,
    /// Hash of the directory and the first name of the change, if it was computed before.
    hint: Option<u32>,
}

/// A lock granted while another one was in the way.
///
/// Upstream logs it so when a waiting lock is granted because the session of the holder is being removed; the removal
/// follows in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Change that took the lock.
    pub change: u64,
    /// Session that held the other lock.
    pub session: u32,
    /// The file.
    pub inode: u32,
    /// Whether the log released the other lock afterwards.
    pub resolved: bool,
}

/// Why a change could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error: {} ({})", .0.0, .0.text())]
pub struct Refused(pub Status);

impl Replayer {
    /// Continues from a state.
    #[must_use]
    pub fn new(mut model: Model) -> Self {
        model.index_names();
        Self { model, scratch: [Vec::new(), Vec::new()], conflicts: Vec::new(), hint: None }
    }

    /// Lock conflicts passed over so far.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Applies one change whose id is the version of the state. The state counts one further.
    ///
    /// # Errors
    ///
    /// With the status at which the real program stops. The state may then hold half of the change.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<(), Refused> {
        self.step(change.text, change.id, change.time, &change.op, None)
    }

    pub(crate) fn step(&mut self, text: &[u8], id: u64, ts: u32, op: &Op, hint: Option<u32>) -> Result<(), Refused> {
        self.hint = hint;
        self.run(text, id, ts, op).map_err(Refused)?;
        self.model.version = self.model.version.saturating_add(1);
        Ok(())
    }

    /// Applies one change of whatever id, trusting the results that stand in its line where the state is not the one
    /// the line was written for. False when the results differ nevertheless.
    pub(crate) fn step_past(&mut self, text: &[u8], id: u64, ts: u32, op: &Op) -> Result<bool, Refused> {
        self.hint = None;
        match *op {
            Op::Create { inode, .. } | Op::Symlink { inode, .. } if self.model.slot(inode).is_none() => {
                self.model.inodes.force(inode);
            }
            Op::Write { chunk, .. } | Op::Trunc { chunk, .. } if self.model.chunks.get(chunk).is_none() => {
                self.model.chunks.next = self.model.chunks.next.max(chunk);
            }
            _ => {}
        }
        let outcome = self.run(text, id, ts, op);
        self.model.inodes.force(0);
        self.model.version = id.saturating_add(1);
        match outcome {
            Ok(()) => Ok(true),
            Err(Status::MISMATCH) => Ok(false),
            Err(s) => Err(Refused(s)),
        }
    }

    /// Hash of the directory and the first name of the change.
    #[inline]
    fn hashed(&self, parent: u32, name: &[u8]) -> u32 {
        self.hint.unwrap_or_else(|| self.model.names.hasher.hash(parent, name))
    }

    fn run(&mut self, text: &[u8], id: u64, ts: u32, op: &Op) -> Outcome {
        let mut names = std::mem::take(&mut self.scratch);
        let [first, second] = &mut names;
        let result = self.dispatch(text, id, ts, op, first, second);
        self.scratch = names;
        result
    }

    #[inline]
    fn dispatch(&mut self, text: &[u8], id: u64, ts: u32, op: &Op, a: &mut Vec<u8>, b: &mut Vec<u8>) -> Outcome {
        match *op {
            Op::Idle => Ok(()),
            Op::Access { inode } => self.access(ts, inode),
            Op::Attr { inode, mode, uid, gid, atime, mtime, winattr, aclmode } => {
                self.attr(ts, inode, mode, [uid, gid, atime, mtime], winattr, aclmode)
            }
            Op::Create { parent, name, kind, mode, umask, uid, gid, rdev, inode } => {
                let name = c_string(name, text, a);
                self.create(ts, parent, name, kind, mode, umask, uid, gid, rdev, inode)
            }
            Op::Write { inode, index, op_flag, can_mtime, chunk } => {
                self.write(ts, inode, index, op_flag, can_mtime, chunk)
            }
            Op::Length { inode, length, can_mtime } => self.length(ts, inode, length, can_mtime),
            Op::Unlock { id } => self.unlock(ts, id),
            Op::Acquire { first, second } => self.acquire(first, second),
            Op::Release { first, second } => self.release(first, second),
            Op::Unlink { parent, name, inode } => self.unlink_name(ts, parent, c_string(name, text, a), inode),
            Op::Move { from, name, to, new_name, mode, inode } => {
                let (name, new_name) = (c_string(name, text, a), c_string(new_name, text, b));
                self.rename(ts, from, name, to, new_name, mode, inode)
            }
            Op::Link { inode, parent, name } => self.hard_link(ts, inode, parent, c_string(name, text, a)),
            Op::AmTime { inode, atime, mtime, ctime } => self.amtime(ts, inode, [atime, mtime, ctime]),
            Op::Trunc { inode, index, chunk } => self.trunc(ts, inode, index, chunk),
            Op::Symlink { parent, name, path, uid, gid, inode } => {
                let (name, path) = (c_string(name, text, a), c_string(path, text, b));
                self.symlink(ts, parent, name, path, uid, gid, inode)
            }
            Op::SetXattr { inode, name, value, mode } => {
                unescape(value.of(text), b);
                self.set_xattr(ts, inode, c_string(name, text, a), b, mode)
            }
            _ => self.rare(text, id, ts, op, a, b),
        }
    }

    fn rare(&mut self, text: &[u8], id: u64, ts: u32, op: &Op, a: &mut Vec<u8>, b: &mut Vec<u8>) -> Outcome {
        match op {
            Op::AddAttr { inode, flags, blob } => {
                unescape(blob.of(text), a);
                self.add_attr(ts, *inode, *flags, a)
            }
            Op::Append { inode, source, slice } => self.append(ts, *inode, *source, *slice),
            Op::ArchChg { inode, uid, cmd, changed, unchanged, denied } => {
                self.archive(ts, *inode, *uid, *cmd, (*changed, *unchanged, *denied))
            }
            Op::AutoArch { inode, reftime, in_trash, arch, trash } => {
                self.auto_archive(*inode, *reftime, in_trash.unwrap_or(1), (*arch, *trash))
            }
            Op::CsdbOp { op, ip, port, arg } => self.server(*op, *ip, *port, *arg),
            Op::CsAdd { ip, port } => self.server_old(*ip, *port, true),
            Op::CsDel { ip, port } => self.server_old(*ip, *port, false),
            Op::ChunkAdd { id, version, locked } => self.chunk_add(ts, *id, *version, *locked),
            Op::ChunkDel { id, version } => self.chunk_del(ts, *id, *version),
            Op::ChunkFlagsClear { id } => self.chunk_flags(ts, *id),
            Op::IncVersion { id } => self.inc_version(*id),
            Op::SetVersion { id, version } => self.set_version(*id, *version),
            Op::NextChunkId { id } => self.next_chunk(*id),
            Op::EmptyTrash { bucket, freed, sustained, flagged, check } => {
                self.empty_trash(ts, *bucket, (*freed, *sustained), *flagged, *check)
            }
            Op::EmptySustained { bucket, freed, check } => self.empty_sustained(ts, *bucket, *freed, *check),
            Op::FreeInodes { delay, freed, sustained, check } => {
                self.free_inodes(ts, delay.unwrap_or(86_400), *freed, *sustained, *check)
            }
            Op::Flock { inode, session, owner, kind } => self.flock(id, *inode, *session, *owner, *kind),
            Op::PosixLock { .. } => self.posix_lock(id, op),
            Op::Purge { inode } | Op::TrashRemove { inode } => self.purge_trash(ts, *inode),
            Op::TrashRecover(args) => {
                unescape(args.used.of(text), b);
                self.trash_recover(ts, args, c_string(args.path, text, a), cut_at_nul(b))
            }
            Op::Undel { inode } => self.undelete(ts, *inode),
            Op::Quota(q) => self.quota(q),
            Op::Repair { inode, index, version } => self.repair(ts, *inode, *index, *version),
            Op::RenumerateEdges { next } => self.renumerate(*next),
            Op::Rollback { inode, index, previous, chunk } => self.rollback(ts, *inode, *index, *previous, *chunk),
            Op::SetFileChunk { inode, index, chunk } => self.set_file_chunk(*inode, *index, *chunk),
            Op::SetPath { inode, path } => self.set_path(*inode, c_string(*path, text, a)),
            Op::SetAcl(args) => {
                unescape(args.blob.of(text), a);
                self.set_acl(ts, args, a)
            }
            Op::Set { .. } => self.set_recursive(ts, op),
            Op::Snapshot(args) => self.snapshot(ts, args, c_string(args.name, text, a)),
            _ => self.rarest(text, ts, op, a, b),
        }
    }

    fn rarest(&mut self, text: &[u8], ts: u32, op: &Op, a: &mut Vec<u8>, b: &mut Vec<u8>) -> Outcome {
        match op {
            Op::SetMetaId { id } => self.set_meta_id(*id),
            Op::Session { id } => self.count_session(*id),
            Op::SesAdd(args) | Op::SesChanged(args) => {
                unescape(args.info.of(text), a);
                self.session(args, a, matches!(op, Op::SesAdd(_)))
            }
            Op::SesDel { id } => self.drop_session(*id),
            Op::SesConnected { id } => self.connected(*id, 0),
            Op::SesDisconnected { id } => self.connected(*id, ts),
            Op::ScSet(args) => self.class_set(args, text),
            Op::ScDup { name, new_name, source, id } => {
                self.model.classes.duplicate(c_string(*name, text, a), c_string(*new_name, text, b), *source, *id)
            }
            Op::ScRen { name, new_name, id } => {
                let (n, m) = (c_string(*name, text, a), c_string(*new_name, text, b));
                self.model.classes.rename(n, m, *id, self.model.dialect)
            }
            Op::ScDel { name, id } => self.model.classes.delete(c_string(*name, text, a), *id, self.model.dialect),
            Op::ScEcVersion { version } => self.ec_version(*version),
            Op::PatAdd(args) => self.pattern_add(args, text),
            Op::PatDel { glob, euid, egid } => {
                self.model.classes.delete_pattern(c_string(*glob, text, a), *euid, *egid)
            }
            _ => Err(Status::MISMATCH),
        }
    }

    fn is(&self, dialect: Dialect) -> bool {
        self.model.dialect == dialect
    }
}

/// The text of a span as a C string: unescaped, up to the first zero byte.
fn c_string<'t>(span: Span, text: &'t [u8], buffer: &'t mut Vec<u8>) -> &'t [u8] {
    let raw = span.of(text);
    if !raw.contains(&b'%') {
        return cut_at_nul(raw);
    }
    unescape(raw, buffer);
    cut_at_nul(buffer)
}

fn cut_at_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// Whether a name may stand in a directory.
pub(crate) fn valid_name(name: &[u8]) -> bool {
    check_name(name).is_ok()
}

/// A name that may stand in a directory.
fn check_name(name: &[u8]) -> Outcome {
    let bad = name.is_empty() || name.len() > 255 || name == b"." || name == b".." || name.contains(&b'/');
    if bad { Err(Status::EINVAL) } else { Ok(()) }
}

fn ensure(ok: bool, status: Status) -> Outcome {
    if ok { Ok(()) } else { Err(status) }
}

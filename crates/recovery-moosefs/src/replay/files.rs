//! Data of files: writes, truncation, appending, chunks.

use super::{Replayer, ensure};
use crate::dialect::Dialect;
use crate::model::tree::{BY_ATIME, BY_CTIME, BY_MTIME, SNAPSHOT};
use crate::model::{CHUNK, MAX_INDEX, Node, Outcome, Status};

/// How long a write locks its chunk.
const LOCK: u32 = 120;

impl Replayer {
    fn file(&self, inode: u32, status: Status) -> Outcome<Node> {
        let n = *self.model.node(inode)?;
        if n.is_file() { Ok(n) } else { Err(status) }
    }

    /// Length of the table in memory: 1.6 grows it in steps.
    fn table_size(&self, need: u32) -> u32 {
        if !self.is(Dialect::V16) || need < 8 {
            need
        } else if need < 64 {
            need.saturating_add(7) & !7
        } else {
            need.saturating_add(63) & !63
        }
    }

    fn grow(&mut self, inode: u32, n: &mut Node, need: u32) -> Outcome {
        if need > n.b {
            self.model.resize_table(inode, self.table_size(need))?;
            *n = *self.model.node(inode)?;
        }
        Ok(())
    }

    fn chunk_at(&self, n: &Node, index: u32) -> u64 {
        self.model.chunk_ids(n).get(index as usize).copied().unwrap_or(0)
    }

    fn new_chunk(&mut self, id: u64) -> Outcome {
        ensure(id == self.model.chunks.next, Status::MISMATCH)?;
        ensure(self.model.chunks.get(id).is_none(), Status::MISMATCH)?;
        self.model.charge(64)?;
        self.model.chunks.next = id.checked_add(1).ok_or(Status::MISMATCH)?;
        self.model.chunks.add(id).ok_or(Status::OUTOFMEMORY)?.version = 1;
        Ok(())
    }

    /// The chunk at an index as a write or truncation leaves it; `count` says whether the version is raised.
    fn modify(&mut self, ts: u32, old: u64, new: u64, class: u8, create: bool, count: bool) -> Outcome {
        if old == 0 {
            ensure(create, Status::NOCHUNK)?;
            self.new_chunk(new)?;
            self.model.chunk_add_file(new, class);
        } else {
            let c = *self.model.chunks.get(old).ok_or(Status::NOCHUNK)?;
            if self.model.chunks.single(&c) {
                ensure(new == old, Status::MISMATCH)?;
                if count && let Some(c) = self.model.chunks.get_mut(old) {
                    c.version = c.version.wrapping_add(1);
                }
            } else {
                ensure(!self.model.chunks.unused(&c), Status::CHUNKLOST)?;
                self.new_chunk(new)?;
                self.model.chunk_delete_file(old, class);
                self.model.chunk_add_file(new, class);
            }
        }
        if let Some(c) = self.model.chunks.get_mut(new) {
            c.locked = ts.wrapping_add(LOCK);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, ts: u32, inode: u32, index: u32, flag: u32, can: bool, chunk: u64) -> Outcome {
        let mut n = self.file(inode, Status::EPERM)?;
        ensure(index <= MAX_INDEX, Status::INDEXTOOBIG)?;
        self.grow(inode, &mut n, index.saturating_add(1))?;
        let old = self.chunk_at(&n, index);
        self.modify(ts, old, chunk, n.class, true, flag != 0)?;
        self.model.set_chunk(inode, index, chunk)?;
        let later = self.model.has_snapshot_bit();
        let m = self.model.node_mut(inode)?;
        if later {
            m.length = m.length.max(u64::from(index).saturating_mul(CHUNK));
            m.eattr &= !SNAPSHOT;
        }
        if can || !later {
            (m.mtime, m.ctime) = (ts, ts);
            self.model.check_archive(inode, ts, BY_CTIME | BY_MTIME);
        }
        Ok(())
    }

    pub(super) fn trunc(&mut self, ts: u32, inode: u32, index: u32, chunk: u64) -> Outcome {
        let n = self.file(inode, Status::EINVAL)?;
        ensure(index <= MAX_INDEX, Status::INDEXTOOBIG)?;
        ensure(index < n.b, Status::EINVAL)?;
        let old = self.chunk_at(&n, index);
        self.modify(ts, old, chunk, n.class, false, true)?;
        self.model.set_chunk(inode, index, chunk)
    }

    pub(super) fn length(&mut self, ts: u32, inode: u32, length: u64, can: bool) -> Outcome {
        self.file(inode, Status::EINVAL)?;
        self.model.set_length(inode, length)?;
        if can {
            let n = self.model.node_mut(inode)?;
            (n.mtime, n.ctime) = (ts, ts);
            self.model.check_archive(inode, ts, BY_CTIME | BY_MTIME);
        }
        Ok(())
    }

    pub(super) fn unlock(&mut self, ts: u32, id: u64) -> Outcome {
        let locked = if self.is(Dialect::V4) { ts.wrapping_sub(1) } else { 0 };
        self.model.chunks.get_mut(id).ok_or(Status::NOCHUNK)?.locked = locked;
        Ok(())
    }

    pub(super) fn rollback(&mut self, ts: u32, inode: u32, index: u32, previous: u64, chunk: u64) -> Outcome {
        let n = self.file(inode, Status::EPERM)?;
        ensure(index <= MAX_INDEX, Status::INDEXTOOBIG)?;
        ensure(index < n.b, Status::EINVAL)?;
        if previous != chunk {
            if previous > 0 {
                self.model.chunk_add_file(previous, n.class);
            }
            self.model.chunk_delete_file(chunk, n.class);
            self.model.set_chunk(inode, index, previous)?;
        }
        // the line counts even if the chunk is gone
        let _ = self.unlock(ts, chunk);
        Ok(())
    }

    pub(super) fn set_file_chunk(&mut self, inode: u32, index: u32, chunk: u64) -> Outcome {
        let n = *self.model.node(inode)?;
        ensure(n.is_file() && index < n.b, Status::MISMATCH)?;
        let old = self.chunk_at(&n, index);
        if old > 0 {
            self.model.chunk_delete_file(old, n.class);
        }
        self.model.set_chunk(inode, index, chunk)?;
        if chunk > 0 {
            self.model.chunk_add_file(chunk, n.class);
        }
        Ok(())
    }

    pub(super) fn repair(&mut self, ts: u32, inode: u32, index: u32, version: u32) -> Outcome {
        let n = self.file(inode, Status::EPERM)?;
        ensure(index <= MAX_INDEX, Status::INDEXTOOBIG)?;
        let id = self.chunk_at(&n, index);
        ensure(index < n.b && id > 0, Status::NOCHUNK)?;
        if version == 0 {
            ensure(self.model.chunk_delete_file(id, n.class), Status::NOCHUNK)?;
            self.model.set_chunk(inode, index, 0)?;
        } else {
            self.set_version(id, version)?;
        }
        let n = self.model.node_mut(inode)?;
        (n.mtime, n.ctime) = (ts, ts);
        self.model.check_archive(inode, ts, BY_CTIME | BY_MTIME);
        Ok(())
    }

    pub(super) fn append(&mut self, ts: u32, inode: u32, source: u32, slice: Option<(u32, u32)>) -> Outcome {
        ensure(inode != source, Status::EINVAL)?;
        let s = self.file(source, Status::EPERM)?;
        let d = self.file(inode, Status::EPERM)?;
        if self.model.has_snapshot_bit() {
            self.append_slice(ts, inode, source, &d, &s, slice)
        } else {
            self.append_whole(ts, inode, source, &d, &s)
        }
    }

    fn append_slice(&mut self, ts: u32, to: u32, from: u32, d: &Node, s: &Node, slice: Option<(u32, u32)>) -> Outcome {
        if s.length == 0 {
            return Ok(());
        }
        let last = u32::try_from((s.length - 1) / CHUNK).map_err(|_| Status::INDEXTOOBIG)?;
        let (first, end) = slice.filter(|&x| x != (u32::MAX, 0)).unwrap_or((0, last));
        ensure(end <= last && first <= end, Status::EINVAL)?;
        let count = (end - first).checked_add(1).ok_or(Status::INDEXTOOBIG)?;
        let have = u32::try_from(d.length.div_ceil(CHUNK)).map_err(|_| Status::INDEXTOOBIG)?;
        let total = have.checked_add(count).filter(|&t| t - 1 <= MAX_INDEX).ok_or(Status::INDEXTOOBIG)?;
        self.model.drop_chunks(to, have)?;
        let mut node = *d;
        self.grow(to, &mut node, total)?;
        for i in have..node.b {
            self.model.set_chunk(to, i, 0)?;
        }
        self.share(to, from, have, first, count)?;
        let base = u64::from(have).saturating_mul(CHUNK);
        let length = if end >= last {
            base.saturating_add(s.length).saturating_sub(u64::from(first).saturating_mul(CHUNK))
        } else {
            u64::from(total).saturating_mul(CHUNK)
        };
        self.appended(ts, to, from, length)
    }

    /// 1.6 and 2.x: whole files, and both tables without the zeros at their ends.
    fn append_whole(&mut self, ts: u32, to: u32, from: u32, d: &Node, s: &Node) -> Outcome {
        let used = |m: &crate::model::Model, n: &Node| {
            let ids = m.chunk_ids(n);
            u32::try_from(ids.iter().rposition(|&c| c != 0).map_or(0, |p| p.saturating_add(1))).unwrap_or(u32::MAX)
        };
        let (count, have) = (used(&self.model, s), used(&self.model, d));
        if count == 0 {
            return Ok(());
        }
        let total = have.checked_add(count).filter(|&t| t - 1 <= MAX_INDEX).ok_or(Status::INDEXTOOBIG)?;
        let mut node = *d;
        self.grow(to, &mut node, total)?;
        self.share(to, from, have, 0, count)?;
        let length = u64::from(have).saturating_mul(CHUNK).saturating_add(s.length);
        self.appended(ts, to, from, length)
    }

    fn share(&mut self, to: u32, from: u32, at: u32, first: u32, count: u32) -> Outcome {
        let class = self.model.node(to)?.class;
        for i in 0..count {
            let source = *self.model.node(from)?;
            let id = self.chunk_at(&source, first.saturating_add(i));
            self.model.set_chunk(to, at.saturating_add(i), id)?;
            if id > 0 {
                self.model.chunk_add_file(id, class);
            }
        }
        Ok(())
    }

    fn appended(&mut self, ts: u32, to: u32, from: u32, length: u64) -> Outcome {
        let n = self.model.node_mut(to)?;
        n.length = length;
        (n.mtime, n.atime) = (ts, ts);
        self.model.node_mut(from)?.atime = ts;
        self.model.check_archive(to, ts, BY_MTIME | BY_ATIME);
        self.model.check_archive(from, ts, BY_ATIME);
        Ok(())
    }

    pub(super) fn chunk_add(&mut self, ts: u32, id: u64, version: u32, locked: u32) -> Outcome {
        ensure(self.model.chunks.get(id).is_none(), Status::CHUNKEXIST)?;
        ensure(id <= self.model.chunks.next.saturating_add(1_000_000_000), Status::MISMATCH)?;
        ensure(locked == 0 || locked >= ts, Status::MISMATCH)?;
        self.model.charge(64)?;
        self.model.chunks.next = self.model.chunks.next.max(id.saturating_add(1));
        let c = self.model.chunks.add(id).ok_or(Status::OUTOFMEMORY)?;
        (c.version, c.locked) = (version, locked);
        Ok(())
    }

    pub(super) fn chunk_del(&mut self, ts: u32, id: u64, version: u32) -> Outcome {
        let c = *self.model.chunks.get(id).ok_or(Status::NOCHUNK)?;
        ensure(c.version & 0x7FFF_FFFF == version & 0x7FFF_FFFF, Status::WRONGVERSION)?;
        ensure(self.model.chunks.unused(&c), Status::ACTIVE)?;
        ensure(c.locked < ts, Status::LOCKED)?;
        self.model.chunks.remove(id);
        Ok(())
    }

    pub(super) fn chunk_flags(&mut self, ts: u32, id: u64) -> Outcome {
        let c = self.model.chunks.get_mut(id).ok_or(Status::NOCHUNK)?;
        ensure(c.locked < ts, Status::LOCKED)?;
        c.flags = 0;
        Ok(())
    }

    pub(super) fn inc_version(&mut self, id: u64) -> Outcome {
        let c = self.model.chunks.get_mut(id).ok_or(Status::NOCHUNK)?;
        c.version = c.version.wrapping_add(1);
        Ok(())
    }

    pub(super) fn set_version(&mut self, id: u64, version: u32) -> Outcome {
        let zeros = self.is(Dialect::V4);
        let c = self.model.chunks.get_mut(id).ok_or(Status::NOCHUNK)?;
        c.version = if zeros { version & 0xBFFF_FFFF } else { version };
        Ok(())
    }

    pub(super) fn next_chunk(&mut self, id: u64) -> Outcome {
        ensure(id > self.model.chunks.next, Status::MISMATCH)?;
        self.model.chunks.next = id;
        Ok(())
    }
}

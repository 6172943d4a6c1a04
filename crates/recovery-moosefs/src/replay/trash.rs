//! The trash and the sustained files.

use super::{Replayer, check_name, ensure};
use crate::changelog::op::RecoverArgs;
use crate::dialect::Dialect;
use crate::format::node::Kind;
use crate::model::arena::NONE;
use crate::model::tree::{BY_CTIME, IMMUTABLE, Node};
use crate::model::{MAX_NAME, MAX_PATH, Outcome, Status};

impl Replayer {
    fn trashed(&self, inode: u32, status: Status) -> Outcome<Node> {
        let n = *self.model.node(inode)?;
        if n.kind == Kind::Trash as u8 { Ok(n) } else { Err(status) }
    }

    pub(super) fn purge_trash(&mut self, ts: u32, inode: u32) -> Outcome {
        self.trashed(inode, Status::ENOENT)?;
        self.model.purge(ts, inode)?;
        Ok(())
    }

    pub(super) fn set_path(&mut self, inode: u32, path: &[u8]) -> Outcome {
        ensure(!path.is_empty() && path.len() <= MAX_PATH, Status::EINVAL)?;
        self.trashed(inode, Status::ENOENT)?;
        self.model.replace_path(inode, path)
    }

    /// Clears the trash flag of the chunks of a file that left the trash (4.x).
    fn clear_trash_flag(&mut self, inode: u32) -> Outcome {
        if !self.is(Dialect::V4) {
            return Ok(());
        }
        let n = *self.model.node(inode)?;
        for i in 0..n.b {
            let id = self.model.chunk_ids(&n).get(i as usize).copied().unwrap_or(0);
            if let Some(c) = self.model.chunks.get_mut(id) {
                c.flags &= 1;
            }
        }
        Ok(())
    }

    /// Takes a file out of the trash and gives it a name.
    fn restore(&mut self, ts: u32, inode: u32, parent: u32, name: &[u8]) -> Outcome {
        let old = self.model.node(inode)?.parents;
        self.model.detach(inode);
        let n = self.model.node_mut(inode)?;
        n.kind = Kind::File as u8;
        n.ctime = ts;
        self.model.check_archive(inode, ts, BY_CTIME);
        self.model.link(ts, parent, inode, name)?;
        self.model.drop_detached(ts, old)?;
        self.clear_trash_flag(inode)
    }

    pub(super) fn undelete(&mut self, ts: u32, inode: u32) -> Outcome {
        let n = self.trashed(inode, Status::ENOENT)?;
        let stored = self.model.edge_text(self.model.edges.get(n.parents)).to_vec();
        let start = stored.iter().position(|&b| b != b'/').ok_or(Status::CANTCREATEPATH)?;
        let path = stored.get(start..).unwrap_or_default();
        let parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        for p in &parts {
            let dots = p.len() <= 2 && p.iter().all(|&b| b == b'.');
            ensure(!p.is_empty() && !dots && p.len() <= MAX_NAME && !p.contains(&0), Status::CANTCREATEPATH)?;
        }
        let Some((last, dirs)) = parts.split_last() else { return Err(Status::CANTCREATEPATH) };
        let mut at = 1;
        for part in dirs {
            self.may_enter(at)?;
            at = match self.model.lookup(at, part) {
                Some(edge) => {
                    let child = self.model.edges.get(edge).child;
                    ensure(self.model.node(child)?.is_dir(), Status::CANTCREATEPATH)?;
                    child
                }
                None => self.model.create_node(ts, at, part, Kind::Directory, 0o755, 0, 0, 0, false)?,
            };
        }
        self.may_enter(at)?;
        ensure(self.model.lookup(at, last).is_none(), Status::EEXIST)?;
        self.restore(ts, inode, at, last)
    }

    fn may_enter(&self, dir: u32) -> Outcome {
        let exceeded = self.model.quotas.get(&dir).is_some_and(|(_, q)| q.exceeded != 0);
        ensure(!exceeded, Status::QUOTA)?;
        let immutable = self.model.node(dir)?.eattr & IMMUTABLE != 0 && self.model.has_snapshot_bit();
        ensure(!immutable, Status::EPERM)
    }

    pub(super) fn trash_recover(&mut self, ts: u32, a: &RecoverArgs, path: &[u8], used: &[u8]) -> Outcome {
        self.model.node(a.parent)?;
        let n = *self.model.node(a.inode)?;
        ensure(a.uid == 0 || n.uid == a.uid, Status::EPERM)?;
        ensure(n.kind == Kind::Trash as u8, Status::EINVAL)?;
        self.model.directory(a.parent)?;
        let stored = self.model.edge_text(self.model.edges.get(n.parents)).to_vec();
        let path = if path.is_empty() { &stored } else { path };
        ensure(!path.is_empty() && path.last() != Some(&b'/'), Status::EINVAL)?;
        let parts: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|p| !p.is_empty()).collect();
        for p in &parts {
            ensure(p.len() <= MAX_NAME, Status::NAMETOOLONG)?;
            check_name(p)?;
        }
        let Some((last, dirs)) = parts.split_last() else { return Err(Status::EINVAL) };
        let logged: Vec<&[u8]> = used.split(|&b| b == b'/').collect();
        let (mut at, mut taken, mut changed) = (a.parent, Vec::new(), false);
        for part in dirs {
            let child = self.model.lookup(at, part).map(|e| self.model.edges.get(e).child);
            let dir = child.filter(|&c| self.model.node(c).is_ok_and(Node::is_dir));
            let mut name = part.to_vec();
            if child.is_some() && dir.is_none() {
                (name, changed) = (self.unique_name(at, part, logged.get(taken.len()).copied())?, true);
            }
            taken.push(name.clone());
            at = match dir {
                Some(d) => d,
                None => {
                    let (umask, copy) = (a.umask, a.copy_sgid != 0);
                    self.model.create_node(ts, at, &name, Kind::Directory, 0o777, umask, a.uid, a.gid, copy)?
                }
            };
        }
        let mut name = last.to_vec();
        if self.model.lookup(at, last).is_some() {
            (name, changed) = (self.unique_name(at, last, logged.get(taken.len()).copied())?, true);
        }
        self.restore(ts, a.inode, at, &name)?;
        taken.push(name);
        let mut result = if changed { taken.join(&b'/') } else { Vec::new() };
        result.truncate(MAX_PATH);
        ensure(result == used, Status::MISMATCH)
    }

    /// `name (1).ext` to `name (9).ext`. A live master goes on with eight random hexadecimal digits, at which its own
    /// replay draws others and stops; the name that was used stands in the line.
    fn unique_name(&self, parent: u32, name: &[u8], logged: Option<&[u8]>) -> Outcome<Vec<u8>> {
        let dot = name.iter().rposition(|&b| b == b'.').filter(|&d| d > 0 && name.len() - d - 1 <= 128);
        let (base, ext) = name.split_at(dot.unwrap_or(name.len()));
        let with = |mark: &[u8]| {
            let room = MAX_NAME.saturating_sub(mark.len()).saturating_sub(ext.len());
            [base.get(..base.len().min(room)).unwrap_or_default(), mark, ext].concat()
        };
        for n in b'1'..=b'9' {
            let candidate = with(&[b' ', b'(', n, b')']);
            if self.model.lookup(parent, &candidate).is_none() {
                return Ok(candidate);
            }
        }
        let used = logged.ok_or(Status::MISMATCH)?;
        let mark = used.len().checked_sub(ext.len().saturating_add(11)).and_then(|from| used.get(from..));
        let mark = mark.and_then(|m| m.get(..11)).ok_or(Status::MISMATCH)?;
        let digits = mark.strip_prefix(b" (").and_then(|m| m.strip_suffix(b")")).ok_or(Status::MISMATCH)?;
        let drawn = digits.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b)) && with(mark) == used;
        ensure(drawn && self.model.lookup(parent, used).is_none(), Status::MISMATCH)?;
        Ok(used.to_vec())
    }

    fn bucket(&self, list: &[u32], bucket: Option<u32>) -> Vec<u32> {
        let heads: Vec<u32> = match bucket.and_then(|b| list.get(b as usize)) {
            Some(&head) => vec![head],
            None => list.to_vec(),
        };
        let mut edges = Vec::new();
        for head in heads {
            let mut at = head;
            while at != NONE {
                edges.push(self.model.edges.get(at).child);
                at = self.model.edges.get(at).next;
            }
        }
        edges
    }

    pub(super) fn empty_trash(
        &mut self,
        ts: u32,
        bucket: Option<u32>,
        expect: (u32, u32),
        flagged: Option<u32>,
        check: u32,
    ) -> Outcome {
        let unit = if self.model.dialect.retention_in_hours() { 3600u64 } else { 1 };
        let (mut freed, mut kept, mut sum) = (0u32, 0u32, 0u32);
        for inode in self.bucket(&self.model.trash, bucket) {
            let n = *self.model.node(inode)?;
            let keep = u64::from(n.retention).saturating_mul(unit);
            let newest = n.atime.max(n.mtime).max(n.ctime);
            if u64::from(newest).saturating_add(keep) < u64::from(ts) {
                sum ^= inode;
                if self.model.purge(ts, inode)? {
                    freed = freed.saturating_add(1);
                } else {
                    kept = kept.saturating_add(1);
                }
            }
        }
        let mut marked = 0u32;
        if self.is(Dialect::V4) {
            for inode in self.bucket(&self.model.trash, bucket) {
                marked = marked.saturating_add(u32::from(self.flag_trash(ts, inode)?));
            }
        }
        ensure(expect == (freed, kept), Status::MISMATCH)?;
        ensure(flagged.is_none_or(|f| f == marked), Status::MISMATCH)?;
        ensure(check == 0 || check == sum, Status::MISMATCH)
    }

    /// Marks the chunks of an entry that has been in the trash for five minutes; true if any took the mark.
    fn flag_trash(&mut self, ts: u32, inode: u32) -> Outcome<bool> {
        let n = *self.model.node(inode)?;
        if n.mtime.wrapping_add(300) >= ts || n.retention < self.model.classes.min_retention(n.class) {
            return Ok(false);
        }
        let mut any = false;
        for i in 0..n.b {
            let id = self.model.chunk_ids(&n).get(i as usize).copied().unwrap_or(0);
            let Some(c) = self.model.chunks.get(id) else { continue };
            if self.model.chunks.single(c) || self.model.chunks.unused(c) {
                any = true;
                if let Some(c) = self.model.chunks.get_mut(id) {
                    c.flags = (c.flags & 1) | 2;
                }
            }
        }
        Ok(any)
    }

    pub(super) fn empty_sustained(&mut self, ts: u32, bucket: Option<u32>, expect: u32, check: u32) -> Outcome {
        let (mut freed, mut sum) = (0u32, 0u32);
        for inode in self.bucket(&self.model.sustained, bucket) {
            if !self.model.locks.is_open(inode) {
                sum ^= inode;
                self.model.purge(ts, inode)?;
                freed = freed.saturating_add(1);
            }
        }
        ensure(freed == expect && (check == 0 || check == sum), Status::MISMATCH)
    }

    pub(super) fn free_inodes(&mut self, ts: u32, delay: u32, expect: u32, held: u32, check: u32) -> Outcome {
        self.model.fix_free_times(ts);
        let (mut freed, mut kept, mut sum) = (0u32, 0u32, 0u32);
        let mut again = Vec::new();
        while let Some(&(inode, time)) = self.model.inodes.free.front() {
            if time.wrapping_add(delay) >= ts {
                break;
            }
            self.model.inodes.free.pop_front();
            sum ^= inode;
            if held > 0 && self.model.locks.is_open(inode) {
                kept = kept.saturating_add(1);
                again.push((inode, ts));
            } else {
                freed = freed.saturating_add(1);
                self.model.inodes.unmark(inode);
            }
        }
        if self.model.inodes.free.is_empty() {
            self.model.inodes.last_free = 0;
        }
        if !again.is_empty() {
            self.model.inodes.last_free = ts;
            self.model.inodes.free.extend(again);
        }
        let wrong = if self.is(Dialect::V16) { Status::EPERM } else { Status::MISMATCH };
        ensure(freed == expect && kept == held && (check == 0 || check == sum), wrong)
    }
}

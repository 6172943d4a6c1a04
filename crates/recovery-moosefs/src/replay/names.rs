//! Names: creating, linking, renaming, unlinking.

use super::{Replayer, check_name, ensure};
use crate::dialect::Dialect;
use crate::format::node::Kind;
use crate::model::arena::NONE;
use crate::model::tree::NO_ENTRY_CACHE;
use crate::model::{Outcome, Status};

/// Longest text of a symbolic link.
const MAX_SYMLINK: usize = 4096;
const NO_REPLACE: u8 = 2;
const EXCHANGE: u8 = 1;

impl Replayer {
    #[expect(clippy::too_many_arguments, reason = "the fields of CREATE")]
    pub(super) fn create(
        &mut self,
        ts: u32,
        parent: u32,
        name: &[u8],
        kind: u8,
        mode: u16,
        umask: u16,
        uid: u32,
        gid: u32,
        rdev: u32,
        inode: u32,
    ) -> Outcome {
        let kind = Kind::from_byte(kind).ok_or(Status::EINVAL)?;
        ensure(!matches!(kind, Kind::Symlink | Kind::Trash | Kind::Sustained), Status::EINVAL)?;
        let device = matches!(kind, Kind::Block | Kind::Char);
        ensure(!device || uid == 0 || !self.is(Dialect::V4), Status::EPERM)?;
        self.model.directory(parent)?;
        check_name(name)?;
        let hash = self.hashed(parent, name);
        ensure(self.model.lookup_hashed(hash, parent, name).is_none(), Status::EEXIST)?;
        let made = self.model.create_hashed(hash, ts, parent, name, kind, mode, umask, uid, gid, false)?;
        if self.is(Dialect::V4) {
            self.match_pattern(made, uid, &[gid], name)?;
        }
        if device {
            self.model.node_mut(made)?.a = rdev;
        }
        ensure(made == inode, Status::MISMATCH)
    }

    /// Applies the first pattern that matches a new name (4.x).
    pub(super) fn match_pattern(&mut self, inode: u32, uid: u32, gids: &[u32], name: &[u8]) -> Outcome {
        let Some(p) = self.model.classes.matching(uid, gids, name) else { return Ok(()) };
        let (mask, class, retention, mut set, clear) = (p.mask, p.class, u32::from(p.retention), p.set, p.clear);
        let n = *self.model.node(inode)?;
        if matches!(n.kind, 1 | 2) {
            if mask & 1 != 0 && class != n.class {
                self.change_class(inode, class)?;
            }
            if mask & 2 != 0 {
                self.model.node_mut(inode)?.retention = retention;
            }
        }
        if mask & 4 != 0 {
            if !n.is_dir() {
                set &= !NO_ENTRY_CACHE;
            }
            let m = self.model.node_mut(inode)?;
            m.eattr = (m.eattr | set) & !clear;
        }
        Ok(())
    }

    /// Gives a node another class; a file tells its chunks.
    pub(super) fn change_class(&mut self, inode: u32, class: u8) -> Outcome {
        let n = *self.model.node(inode)?;
        if n.is_file() {
            for i in 0..n.b {
                let id = self.model.chunk_ids(&n).get(i as usize).copied().unwrap_or(0);
                if id > 0 {
                    let classes = &self.model.classes;
                    self.model.chunks.change_file(id, n.class, class, |c| classes.rank(c));
                }
            }
        }
        self.model.classes.use_class(n.class, false);
        self.model.classes.use_class(class, true);
        self.model.node_mut(inode)?.class = class;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of SYMLINK")]
    pub(super) fn symlink(
        &mut self,
        ts: u32,
        parent: u32,
        name: &[u8],
        path: &[u8],
        uid: u32,
        gid: u32,
        inode: u32,
    ) -> Outcome {
        ensure(!path.is_empty() && path.len() <= MAX_SYMLINK, Status::EINVAL)?;
        self.model.directory(parent)?;
        check_name(name)?;
        let hash = self.hashed(parent, name);
        ensure(self.model.lookup_hashed(hash, parent, name).is_none(), Status::EEXIST)?;
        let made = self.model.create_hashed(hash, ts, parent, name, Kind::Symlink, 0o777, 0, uid, gid, false)?;
        let text = self.model.texts.add(path).ok_or(Status::OUTOFMEMORY)?;
        self.model.node_mut(made)?.a = text;
        ensure(made == inode, Status::MISMATCH)
    }

    pub(super) fn hard_link(&mut self, ts: u32, inode: u32, parent: u32, name: &[u8]) -> Outcome {
        let n = *self.model.node(inode)?;
        self.model.node(parent)?;
        match Kind::from_byte(n.kind) {
            Some(Kind::Directory) => return Err(Status::EPERM),
            Some(Kind::Trash | Kind::Sustained) => return Err(Status::ENOENT),
            _ => {}
        }
        self.model.directory(parent)?;
        check_name(name)?;
        ensure(self.model.lookup(parent, name).is_none(), Status::EEXIST)?;
        self.model.link(ts, parent, inode, name)
    }

    pub(super) fn unlink_name(&mut self, ts: u32, parent: u32, name: &[u8], inode: u32) -> Outcome {
        self.model.directory(parent)?;
        check_name(name)?;
        let edge = self.model.lookup_hashed(self.hashed(parent, name), parent, name).ok_or(Status::ENOENT)?;
        let child = self.model.edges.get(edge).child;
        let n = self.model.node(child)?;
        ensure(!n.is_dir() || n.a == NONE, Status::ENOTEMPTY)?;
        ensure(child == inode, Status::MISMATCH)?;
        self.model.unlink(ts, edge)
    }

    /// Whether `above` is `below` or one of the directories over it.
    fn is_above(&self, above: u32, below: u32) -> bool {
        let mut at = below;
        for _ in 0..self.model.totals().directories {
            if at == above {
                return true;
            }
            match self.model.node(at) {
                Ok(n) if n.parents != NONE => at = self.model.edges.get(n.parents).parent,
                _ => return false,
            }
        }
        at == above
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of MOVE")]
    pub(super) fn rename(
        &mut self,
        ts: u32,
        from: u32,
        name: &[u8],
        to: u32,
        new_name: &[u8],
        mode: u8,
        inode: u32,
    ) -> Outcome {
        self.model.node(from)?;
        self.model.node(to)?;
        self.model.directory(from)?;
        check_name(name)?;
        let old = self.hashed(from, name);
        let source = self.model.lookup_hashed(old, from, name).ok_or(Status::ENOENT)?;
        let child = self.model.edges.get(source).child;
        self.model.directory(to)?;
        if self.model.node(child)?.is_dir() {
            ensure(!self.is_above(child, to), Status::EINVAL)?;
        }
        check_name(new_name)?;
        let new = self.model.names.hasher.hash(to, new_name);
        let target = self.model.lookup_hashed(new, to, new_name);
        if mode == EXCHANGE {
            let target = target.ok_or(Status::ENOENT)?;
            return self.exchange(ts, (from, name, source), (to, new_name, target), inode);
        }
        if let Some(t) = target {
            ensure(mode != NO_REPLACE, Status::EEXIST)?;
            let other = self.model.node(self.model.edges.get(t).child)?;
            ensure(!other.is_dir() || other.a == NONE, Status::ENOTEMPTY)?;
            self.model.unlink(ts, t)?;
        }
        // a name moved onto itself is gone with its target
        let source = if target.is_none() { Some(source) } else { self.model.lookup_hashed(old, from, name) };
        self.model.remove_edge(ts, source.ok_or(Status::ENOENT)?)?;
        self.model.link_hashed(new, ts, to, child, new_name)?;
        if self.is(Dialect::V4) {
            self.match_pattern(child, 0, &[], new_name)?;
        }
        ensure(child == inode, Status::MISMATCH)
    }

    fn exchange(&mut self, ts: u32, a: (u32, &[u8], u32), b: (u32, &[u8], u32), inode: u32) -> Outcome {
        let (first, second) = (self.model.edges.get(a.2).child, self.model.edges.get(b.2).child);
        ensure(a.2 != b.2, Status::EINVAL)?;
        if self.model.node(second)?.is_dir() {
            ensure(!self.is_above(second, a.0), Status::EINVAL)?;
        }
        self.model.remove_edge(ts, a.2)?;
        self.model.remove_edge(ts, b.2)?;
        self.model.link(ts, b.0, first, b.1)?;
        self.model.link(ts, a.0, second, a.1)?;
        ensure(inode == 0, Status::MISMATCH)
    }

    pub(super) fn renumerate(&mut self, expect: u64) -> Outcome {
        let mut next = crate::format::edge::NO_EDGE_IDS - 1;
        let mut stack = vec![1u32];
        let mut below = Vec::new();
        while let Some(dir) = stack.pop() {
            let head = self.model.node(dir)?.a;
            let (mut at, mut count) = (head, 0u64);
            while at != NONE {
                count = count.saturating_add(1);
                at = self.model.edges.get(at).next;
            }
            next = next.saturating_sub(count);
            let (mut at, mut id) = (head, next);
            while at != NONE {
                let e = self.model.edges.get_mut(at);
                e.id = id;
                id = id.saturating_add(1);
                if e.is_dir_edge() {
                    below.push(e.child);
                }
                at = e.next;
            }
            stack.extend(below.drain(..).rev());
        }
        self.model.next_edge = next;
        ensure(next == expect, Status::MISMATCH)
    }
}

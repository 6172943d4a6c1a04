//! `SNAPSHOT`: copying and removing trees.
//!
//! Trees are as deep as their author liked, so the walk keeps its own stack.

use hashbrown::HashMap;

use super::{Replayer, check_name, ensure};
use crate::changelog::op::SnapshotArgs;
use crate::dialect::Dialect;
use crate::format::attr::AclRecord;
use crate::format::node::Kind;
use crate::model::arena::NONE;
use crate::model::tree::{
    APPEND_ONLY, BY_ATIME, BY_CTIME, BY_MTIME, HAS_ACCESS_ACL, HAS_DEFAULT_ACL, HAS_XATTR, IMMUTABLE, KEEP_MODE,
    NO_OWNER, Node, SNAPSHOT, UNDELETABLE,
};
use crate::model::{Outcome, Status, Xattr, Xattrs};

const OVERWRITE: u32 = 1;
const LIKE_CP: u32 = 2;
const KEEP_LINKS: u32 = 8;
const DELETE: u32 = 0x80;
const IGNORE_GID: u32 = 4;
const WIN_READ_ONLY: u8 = 1;

const READ: u8 = 4;
const WRITE: u8 = 2;
const EXEC: u8 = 1;

struct Args<'a> {
    ts: u32,
    mode: u32,
    flags: u32,
    uid: u32,
    gids: &'a [u32],
    umask: u16,
}

#[derive(Default)]
struct Counts {
    sum: u32,
    removed: u32,
    same: u32,
    existing: u32,
    links: u32,
    new: u32,
}

impl Counts {
    const fn list(&self) -> [u32; 6] {
        [self.sum, self.removed, self.same, self.existing, self.links, self.new]
    }
}

fn add(n: &mut u32) {
    *n = n.wrapping_add(1);
}

impl Replayer {
    pub(super) fn snapshot(&mut self, ts: u32, s: &SnapshotArgs, name: &[u8]) -> Outcome {
        if s.old || self.is(Dialect::V16) {
            return self.snapshot_old(ts, s, name);
        }
        let umask = (s.umask & 0xFFFF) as u16;
        let a = Args { ts, mode: s.mode & 0xFF, flags: s.flags, uid: s.uid, gids: &s.gids, umask };
        let mut counts = Counts::default();
        if a.mode & DELETE != 0 {
            ensure(s.source == 0, Status::EINVAL)?;
            let dir = *self.model.node(s.parent)?;
            ensure(dir.is_dir(), Status::EPERM)?;
            check_name(name)?;
            let edge = self.model.lookup(s.parent, name).ok_or(Status::ENOENT)?;
            self.remove_snapshot(edge, &a, dir.eattr & (APPEND_ONLY | IMMUTABLE) == 0, &mut counts)?;
        } else {
            ensure(s.source != 0, Status::EINVAL)?;
            let source = *self.model.node(s.source)?;
            let dir = *self.model.node(s.parent)?;
            ensure(dir.is_dir(), Status::EPERM)?;
            ensure(!source.is_dir() || !self.above(s.source, s.parent), Status::EINVAL)?;
            check_name(name)?;
            self.test(s.source, s.source, s.parent, name, a.mode & OVERWRITE != 0)?;
            self.copy(s.source, s.parent, name, &a, &mut counts)?;
        }
        let compare = s.expect.filter(|e| e.iter().any(|&v| v != 0));
        ensure(compare.is_none_or(|e| e == counts.list()), Status::MISMATCH)
    }

    fn above(&self, dir: u32, below: u32) -> bool {
        let mut at = below;
        for _ in 0..=self.model.totals().directories {
            if at == dir {
                return true;
            }
            match self.model.node(at) {
                Ok(n) if n.parents != NONE => at = self.model.edges.get(n.parents).parent,
                _ => return false,
            }
        }
        false
    }

    fn children(&self, dir: u32) -> Vec<u32> {
        let mut list = Vec::new();
        let mut at = self.model.node(dir).map_or(NONE, |n| n.a);
        while at != NONE {
            list.push(at);
            at = self.model.edges.get(at).next;
        }
        list
    }

    /// Whether the user of the line may do all of `want` with a node.
    fn may(&self, n: &Node, a: &Args<'_>, want: u8) -> bool {
        if a.uid == 0 {
            return true;
        }
        if n.kind == Kind::File as u8 && n.winattr & WIN_READ_ONLY != 0 && self.is(Dialect::V4) && want & WRITE != 0 {
            return false;
        }
        let allows = |bits: u16| (bits & 7) & u16::from(want) == u16::from(want);
        if n.flags & HAS_ACCESS_ACL != 0 {
            return self.acl_allows(n, a, want);
        }
        if a.uid == n.uid || n.eattr & NO_OWNER != 0 {
            return allows(n.mode >> 6);
        }
        if a.flags & IGNORE_GID != 0 {
            return allows((n.mode >> 3) | n.mode);
        }
        if a.gids.contains(&n.gid) { allows(n.mode >> 3) } else { allows(n.mode) }
    }

    fn acl_allows(&self, n: &Node, a: &Args<'_>, want: u8) -> bool {
        let Some((_, l)) = self.model.acls.get(&(n.inode, 1)) else { return want == 0 };
        // the original joins the modes of all matching groups as sets of allowed requests
        let allows = |bits: u16| bits & 7 & u16::from(want) == u16::from(want);
        if a.uid == n.uid {
            return allows(l.user);
        }
        let (users, groups) = l.entries.split_at(usize::from(l.users).min(l.entries.len()));
        if let Some(e) = users.iter().find(|e| e.id == a.uid) {
            return allows(e.perm & l.mask);
        }
        let mut member = a
            .gids
            .contains(&n.gid)
            .then_some(l.group & l.mask)
            .into_iter()
            .chain(groups.iter().filter(|e| a.gids.contains(&e.id)).map(|e| e.perm & l.mask));
        match member.next() {
            Some(first) => allows(first) || member.any(allows),
            None => allows(l.other),
        }
    }

    fn remove_snapshot(&mut self, edge: u32, a: &Args<'_>, allowed: bool, c: &mut Counts) -> Outcome {
        enum Step {
            Enter(u32, bool),
            Leave(u32, u8, bool),
        }
        let mut stack = vec![Step::Enter(edge, allowed)];
        while let Some(step) = stack.pop() {
            let (edge, allowed) = match step {
                Step::Enter(edge, allowed) => {
                    let inode = self.model.edges.get(edge).child;
                    let n = *self.model.node(inode)?;
                    if n.is_dir() {
                        stack.push(Step::Leave(edge, n.eattr, allowed));
                        if self.may(&n, a, WRITE | EXEC) {
                            let inside = n.eattr & (APPEND_ONLY | IMMUTABLE) == 0;
                            let list = self.children(inode);
                            stack.extend(list.into_iter().rev().map(|e| Step::Enter(e, inside)));
                        }
                        continue;
                    }
                    (edge, allowed)
                }
                Step::Leave(edge, eattr, allowed) => {
                    let inode = self.model.edges.get(edge).child;
                    let n = self.model.node_mut(inode)?;
                    if n.a != NONE {
                        continue;
                    }
                    n.eattr = eattr;
                    (edge, allowed)
                }
            };
            let inode = self.model.edges.get(edge).child;
            let n = self.model.node_mut(inode)?;
            if n.eattr & SNAPSHOT != 0 && n.eattr & (UNDELETABLE | IMMUTABLE | APPEND_ONLY) == 0 && allowed {
                n.retention = 0;
                c.sum ^= inode;
                add(&mut c.removed);
                self.model.unlink(a.ts, edge)?;
            }
        }
        Ok(())
    }

    /// Whether a copy may be laid over what is there.
    fn test(&self, top: u32, source: u32, parent: u32, name: &[u8], overwrite: bool) -> Outcome {
        let mut stack = vec![(source, parent, name.to_vec())];
        while let Some((source, parent, name)) = stack.pop() {
            let Some(edge) = self.model.lookup(parent, &name) else { continue };
            let inode = self.model.edges.get(edge).child;
            ensure(inode != top, Status::EINVAL)?;
            let (d, s) = (*self.model.node(inode)?, *self.model.node(source)?);
            let locked = self.model.has_snapshot_bit() && d.eattr & (UNDELETABLE | IMMUTABLE | APPEND_ONLY) != 0;
            ensure(!locked && d.kind == s.kind && !matches!(s.kind, 8 | 9), Status::EPERM)?;
            if s.is_dir() {
                for e in self.children(source).into_iter().rev() {
                    let e = self.model.edges.get(e);
                    stack.push((e.child, inode, self.model.edge_text(e).to_vec()));
                }
            } else {
                ensure(overwrite, Status::EEXIST)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, source: u32, parent: u32, name: &[u8], a: &Args<'_>, c: &mut Counts) -> Outcome {
        enum Step {
            Visit {
                source: u32,
                parent: u32,
                name: Vec<u8>,
                new: bool,
            },
            /// Attributes of a directory are set when its children are there.
            Over(u32, u32),
            Made(u32, u32),
        }
        let mut copies: HashMap<u32, u32> = HashMap::new();
        let mut stack = vec![Step::Visit { source, parent, name: name.to_vec(), new: false }];
        while let Some(step) = stack.pop() {
            let (source, parent, name, new) = match step {
                Step::Visit { source, parent, name, new } => (source, parent, name, new),
                Step::Over(s, d) => {
                    self.finish_existing(s, d, a)?;
                    continue;
                }
                Step::Made(s, d) => {
                    self.finish_new(s, d, a)?;
                    continue;
                }
            };
            let s = *self.model.node(source)?;
            let recurse = s.is_dir() && self.may(&s, a, READ | EXEC);
            if s.kind == Kind::File as u8 && !self.may(&s, a, READ) {
                continue;
            }
            let there = if new { None } else { self.model.lookup(parent, &name) };
            let (target, existing) = match there {
                Some(edge) => (self.over(source, &s, parent, &name, edge, a, c)?, true),
                None => {
                    if matches!(s.kind, 8 | 9) {
                        continue;
                    }
                    let shared = a.mode & KEEP_LINKS != 0 && !s.is_dir() && !self.model.last_link(&s);
                    if let Some(&copy) = copies.get(&source).filter(|_| shared) {
                        add(&mut c.links);
                        self.model.link(a.ts, parent, copy, &name)?;
                        continue;
                    }
                    let made = self.make(source, &s, parent, &name, a, c)?;
                    if shared {
                        copies.insert(source, made);
                    }
                    (made, false)
                }
            };
            stack.push(if existing { Step::Over(source, target) } else { Step::Made(source, target) });
            if recurse {
                for e in self.children(source).into_iter().rev() {
                    let e = self.model.edges.get(e);
                    let name = self.model.edge_text(e).to_vec();
                    stack.push(Step::Visit { source: e.child, parent: target, name, new: !existing });
                }
            }
        }
        Ok(())
    }

    /// A new node with the owner and mode the line's user may give it.
    fn blank(&mut self, s: &Node, parent: u32, name: &[u8], a: &Args<'_>) -> Outcome<u32> {
        let kind = Kind::from_byte(s.kind).ok_or(Status::EINVAL)?;
        let group = a.gids.first().copied().unwrap_or(0);
        let (mode, umask, uid, gid) = if a.mode & LIKE_CP != 0 {
            (s.mode, a.umask, a.uid, group)
        } else if a.uid == 0 || a.uid == s.uid {
            (s.mode & 0xFFF, 0, s.uid, s.gid)
        } else {
            (s.mode & 0x3FF, 0, a.uid, group)
        };
        self.model.create_node(a.ts, parent, name, kind, mode, umask, uid, gid, false)
    }

    fn share_chunks(&mut self, source: u32, target: u32) -> Outcome {
        let s = *self.model.node(source)?;
        self.model.resize_table(target, s.b)?;
        let class = self.model.node(target)?.class;
        for i in 0..s.b {
            let id = self.model.chunk_ids(&s).get(i as usize).copied().unwrap_or(0);
            self.model.set_chunk(target, i, id)?;
            if id > 0 {
                self.model.chunk_add_file(id, class);
            }
        }
        self.model.node_mut(target)?.length = s.length;
        Ok(())
    }

    /// An object that is there already; the inode that stands for it afterwards.
    #[expect(clippy::too_many_arguments, reason = "one step of the copy")]
    fn over(
        &mut self,
        source: u32,
        s: &Node,
        parent: u32,
        name: &[u8],
        edge: u32,
        a: &Args<'_>,
        c: &mut Counts,
    ) -> Outcome<u32> {
        let target = self.model.edges.get(edge).child;
        let d = *self.model.node(target)?;
        match Kind::from_byte(s.kind) {
            Some(Kind::File) => {
                if d.length == s.length && self.model.chunk_ids(&d) == self.model.chunk_ids(s) {
                    add(&mut c.same);
                    return Ok(target);
                }
                c.sum ^= target;
                self.model.unlink(a.ts, edge)?;
                let made = self.blank(s, parent, name, a)?;
                add(&mut c.existing);
                c.sum ^= made;
                self.plain_class(made, s.class)?;
                self.model.node_mut(made)?.retention = s.retention;
                self.share_chunks(source, made)?;
                return Ok(made);
            }
            Some(Kind::Symlink) => {
                let path = if s.a == NONE { Vec::new() } else { self.model.texts.get(s.a).to_vec() };
                let text = self.model.texts.add(&path).ok_or(Status::OUTOFMEMORY)?;
                if d.a != NONE {
                    self.model.texts.release(d.a);
                }
                self.model.node_mut(target)?.a = text;
            }
            Some(Kind::Block | Kind::Char) => self.model.node_mut(target)?.a = s.a,
            _ => {}
        }
        add(&mut c.existing);
        Ok(target)
    }

    fn plain_class(&mut self, inode: u32, class: u8) -> Outcome {
        let n = self.model.node_mut(inode)?;
        let old = std::mem::replace(&mut n.class, class);
        self.model.classes.use_class(old, false);
        self.model.classes.use_class(class, true);
        Ok(())
    }

    fn finish_existing(&mut self, source: u32, target: u32, a: &Args<'_>) -> Outcome {
        let s = *self.model.node(source)?;
        let group = a.gids.first().copied().unwrap_or(0);
        let bits = self.model.has_snapshot_bit();
        let d = self.model.node_mut(target)?;
        if a.mode & LIKE_CP != 0 {
            (d.uid, d.gid, d.mode, d.ctime) = (a.uid, group, s.mode & !a.umask & 0xFFF, a.ts);
        } else {
            if a.uid == 0 || a.uid == s.uid {
                // 2.x takes no ctime from the source
                (d.mode, d.uid, d.gid, d.ctime) = (s.mode, s.uid, s.gid, if bits { s.ctime } else { a.ts });
            } else {
                (d.mode, d.uid, d.gid, d.ctime) = (s.mode & 0x3FF, a.uid, group, a.ts);
            }
            (d.atime, d.mtime) = (s.atime, s.mtime);
        }
        self.model.check_archive(target, a.ts, BY_CTIME | BY_MTIME | BY_ATIME);
        if bits {
            self.model.node_mut(target)?.eattr |= SNAPSHOT;
        }
        Ok(())
    }

    fn make(&mut self, source: u32, s: &Node, parent: u32, name: &[u8], a: &Args<'_>, c: &mut Counts) -> Outcome<u32> {
        let made = self.blank(s, parent, name, a)?;
        c.sum ^= made;
        add(&mut c.new);
        if a.mode & LIKE_CP == 0 {
            self.plain_class(made, s.class)?;
            let own = a.uid == 0 || a.uid == s.uid;
            let old = !self.model.has_snapshot_bit();
            let d = self.model.node_mut(made)?;
            (d.retention, d.eattr, d.winattr) = (s.retention, s.eattr, s.winattr);
            d.mode = if own { s.mode } else { s.mode & 0x3FF };
            d.flags &= !KEEP_MODE;
            if old {
                // 2.x: before the children, which touch a directory again; access lists stay behind
                (d.atime, d.mtime) = (s.atime, s.mtime);
            }
            self.copy_lists(source, made, if old { s.flags & HAS_XATTR } else { s.flags })?;
        }
        match Kind::from_byte(s.kind) {
            Some(Kind::File) => self.share_chunks(source, made)?,
            Some(Kind::Symlink) if s.a != NONE => {
                let path = self.model.texts.get(s.a).to_vec();
                let text = self.model.texts.add(&path).ok_or(Status::OUTOFMEMORY)?;
                self.model.node_mut(made)?.a = text;
            }
            Some(Kind::Block | Kind::Char) => self.model.node_mut(made)?.a = s.a,
            _ => {}
        }
        Ok(made)
    }

    fn copy_lists(&mut self, source: u32, made: u32, flags: u8) -> Outcome {
        if flags & HAS_XATTR != 0
            && let Some(mut list) = self.model.xattrs.get(&source).map(|x| x.list.clone())
        {
            let size = |x: &Xattr| x.name().len().saturating_add(x.value().len()).saturating_add(32);
            self.model.charge(list.iter().map(size).sum::<usize>() as u64)?;
            let seq = self.model.next_seq();
            for x in &mut list {
                x.seq = self.model.next_seq();
            }
            self.model.xattrs.insert(made, Xattrs { seq, list });
            self.model.node_mut(made)?.flags |= HAS_XATTR;
        }
        for (kind, bit) in [(1, HAS_ACCESS_ACL), (2, HAS_DEFAULT_ACL)] {
            if flags & bit == 0 {
                continue;
            }
            if let Some(acl) = self.model.acls.get(&(source, kind)).map(|a| a.1.clone()) {
                self.model.charge((acl.entries.len() as u64).saturating_mul(8).saturating_add(64))?;
                self.model.put_acl(AclRecord { inode: made, ..acl });
                self.model.node_mut(made)?.flags |= bit;
            }
        }
        Ok(())
    }

    fn finish_new(&mut self, source: u32, target: u32, a: &Args<'_>) -> Outcome {
        if !self.model.has_snapshot_bit() {
            return Ok(());
        }
        let s = *self.model.node(source)?;
        let d = self.model.node_mut(target)?;
        if a.mode & LIKE_CP == 0 {
            (d.atime, d.mtime, d.ctime) = (s.atime, s.mtime, s.ctime);
            self.model.check_archive(target, a.ts, BY_CTIME | BY_MTIME | BY_ATIME);
        }
        self.model.node_mut(target)?.eattr |= SNAPSHOT;
        Ok(())
    }

    /// The short form of 1.6: no permissions, no results, everything kept.
    fn snapshot_old(&mut self, ts: u32, s: &SnapshotArgs, name: &[u8]) -> Outcome {
        let top = *self.model.node(s.source)?;
        let dir = *self.model.node(s.parent)?;
        ensure(dir.is_dir(), Status::EPERM)?;
        ensure(!top.is_dir() || !self.above(s.source, s.parent), Status::EINVAL)?;
        check_name(name)?;
        self.test(s.source, s.source, s.parent, name, s.mode & OVERWRITE != 0)?;
        let mut stack = vec![(s.source, s.parent, name.to_vec(), None)];
        while let Some((source, parent, name, done)) = stack.pop() {
            if let Some((target, fresh)) = done {
                self.old_attributes(ts, source, target, fresh)?;
                continue;
            }
            let n = *self.model.node(source)?;
            if matches!(n.kind, 8 | 9) {
                continue;
            }
            let (target, fresh) = self.old_target(ts, source, &n, parent, &name)?;
            // a new directory gets its times before its children touch it, one that is there after them
            if fresh {
                self.old_attributes(ts, source, target, true)?;
            } else {
                stack.push((source, parent, Vec::new(), Some((target, false))));
            }
            if n.is_dir() {
                for e in self.children(source).into_iter().rev() {
                    let e = self.model.edges.get(e);
                    stack.push((e.child, target, self.model.edge_text(e).to_vec(), None));
                }
            }
        }
        Ok(())
    }

    /// What a copy takes from its source when its children are there; a new one keeps the owner it was made with.
    fn old_attributes(&mut self, ts: u32, source: u32, target: u32, fresh: bool) -> Outcome {
        let s = *self.model.node(source)?;
        let d = self.model.node_mut(target)?;
        if !fresh {
            (d.uid, d.gid) = (s.uid, s.gid);
        }
        d.mode = s.mode;
        (d.atime, d.mtime, d.ctime) = (s.atime, s.mtime, ts);
        Ok(())
    }

    fn old_target(&mut self, ts: u32, source: u32, s: &Node, parent: u32, name: &[u8]) -> Outcome<(u32, bool)> {
        let kind = Kind::from_byte(s.kind).ok_or(Status::EINVAL)?;
        let there = self.model.lookup(parent, name);
        let mut target = there.map(|e| self.model.edges.get(e).child);
        if let (Some(edge), Some(t), Kind::File) = (there, target, kind) {
            let d = *self.model.node(t)?;
            let trimmed = |ids: &[u64]| ids.iter().rposition(|&c| c != 0).map_or(0, |p| p.saturating_add(1));
            let (x, y) = (self.model.chunk_ids(&d), self.model.chunk_ids(s));
            let same = d.length == s.length && x.get(..trimmed(x)) == y.get(..trimmed(y));
            if !same {
                self.model.unlink(ts, edge)?;
                target = None;
            }
        }
        let fresh = there.is_none();
        let target = match target {
            Some(t) => t,
            None => {
                let made = self.model.create_node(ts, parent, name, kind, s.mode, 0, s.uid, s.gid, false)?;
                self.plain_class(made, s.class)?;
                let d = self.model.node_mut(made)?;
                (d.retention, d.eattr) = (s.retention, s.eattr);
                if kind == Kind::File {
                    self.share_chunks(source, made)?;
                }
                made
            }
        };
        if kind == Kind::Symlink && s.a != NONE {
            let path = self.model.texts.get(s.a).to_vec();
            let text = self.model.texts.add(&path).ok_or(Status::OUTOFMEMORY)?;
            self.model.node_mut(target)?.a = text;
        }
        let d = self.model.node_mut(target)?;
        if matches!(kind, Kind::Block | Kind::Char) {
            d.a = s.a;
        }
        Ok((target, fresh))
    }
}

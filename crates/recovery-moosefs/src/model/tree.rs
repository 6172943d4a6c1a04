//! The elementary changes every operation is made of.

use crate::dialect::Dialect;
use crate::format::attr::AclRecord;
use crate::format::edge::NO_EDGE_IDS;
use crate::format::node::Kind;

use super::arena::NONE;
use super::{CHUNK, MAX_PATH, Model, Outcome, Status};

pub(crate) use super::node::*;

/// Memory a node or edge takes, for the budget.
const NODE_COST: u64 = 96;
pub(super) const EDGE_COST: u64 = 64;

impl Model {
    /// Slot of an inode.
    #[inline]
    pub(crate) fn slot(&self, inode: u32) -> Option<u32> {
        self.node_index.get(u64::from(inode))
    }

    /// A node, or `ENOENT`.
    #[inline]
    pub(crate) fn node(&self, inode: u32) -> Outcome<&Node> {
        self.slot(inode).map(|s| self.nodes.get(s)).ok_or(Status::ENOENT)
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, inode: u32) -> Outcome<&mut Node> {
        let slot = self.slot(inode).ok_or(Status::ENOENT)?;
        Ok(self.nodes.get_mut(slot))
    }

    #[inline]
    pub(crate) fn directory(&self, inode: u32) -> Outcome<&Node> {
        let n = self.node(inode)?;
        if n.is_dir() { Ok(n) } else { Err(Status::ENOTDIR) }
    }

    /// Takes a node into the tables. The inode must be unused.
    pub(crate) fn add_node(&mut self, mut node: Node) -> Option<u32> {
        self.node_seq = self.node_seq.checked_add(1)?;
        node.seq = self.node_seq;
        let slot = self.nodes.add(node)?;
        self.node_index.insert(u64::from(node.inode), slot);
        let count = self.node_index.len();
        self.inodes.mark(node.inode, count);
        self.max_nodes = self.max_nodes.max(count as u64);
        self.directories = self.directories.saturating_add(u64::from(node.is_dir()));
        self.files = self.files.saturating_add(u64::from(node.is_file()));
        self.classes.use_class(node.class, true);
        Some(slot)
    }

    /// Chunk ids of a file.
    #[inline]
    pub(crate) fn chunk_ids(&self, node: &Node) -> &[u64] {
        self.tables.get(node.table())
    }

    /// Makes the chunk table of a file `len` long.
    pub(crate) fn resize_table(&mut self, inode: u32, len: u32) -> Outcome {
        let slot = self.slot(inode).ok_or(Status::ENOENT)?;
        let old = self.nodes.get(slot).table();
        if len > old.len {
            self.charge(u64::from(len - old.len).saturating_mul(16))?;
        }
        let new = self.tables.resize(old, len).ok_or(Status::OUTOFMEMORY)?;
        let n = self.nodes.get_mut(slot);
        (n.a, n.b) = (new.at, new.len);
        Ok(())
    }

    pub(crate) fn set_chunk(&mut self, inode: u32, index: u32, id: u64) -> Outcome {
        let table = self.node(inode)?.table();
        if let Some(word) = self.tables.get_mut(table).get_mut(index as usize) {
            *word = id;
        }
        Ok(())
    }

    /// One more reference from a file of this class.
    pub(crate) fn chunk_add_file(&mut self, id: u64, class: u8) -> bool {
        let classes = &self.classes;
        self.chunks.add_file(id, class, |c| classes.rank(c))
    }

    /// One reference less.
    pub(crate) fn chunk_delete_file(&mut self, id: u64, class: u8) -> bool {
        let classes = &self.classes;
        self.chunks.delete_file(id, class, |c| classes.rank(c))
    }

    /// Drops the references of table entries from `from` on.
    pub(crate) fn drop_chunks(&mut self, inode: u32, from: u32) -> Outcome {
        let node = *self.node(inode)?;
        for i in from..node.b {
            let id = self.tables.get(node.table()).get(i as usize).copied().unwrap_or(0);
            if id > 0 {
                self.chunk_delete_file(id, node.class);
            }
        }
        Ok(())
    }

    pub(crate) fn edge_text(&self, e: &Edge) -> &[u8] {
        self.texts.get(e.text())
    }

    /// Builds the table of names, which loading and storing alone do not need.
    pub(crate) fn index_names(&mut self) {
        if self.named {
            return;
        }
        self.named = true;
        let texts = &self.texts;
        self.names = super::names::NameTable::build(self.edges.slots(), |hasher, e| {
            (e.parent != 0).then(|| hasher.hash(e.parent, texts.get(e.text())))
        });
    }

    /// The edge of a name in a directory.
    #[inline]
    pub(crate) fn lookup(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.lookup_hashed(self.names.hasher.hash(parent, name), parent, name)
    }

    /// The same, with the hash of directory and name.
    #[inline]
    pub(crate) fn lookup_hashed(&self, hash: u32, parent: u32, name: &[u8]) -> Option<u32> {
        self.names.find(hash, |slot| {
            let e = self.edges.get(slot);
            e.parent == parent && self.texts.get(e.text()) == name
        })
    }

    pub(crate) fn take_edge_id(&mut self) -> u64 {
        if self.next_edge < NO_EDGE_IDS && !self.dialect.is_flat() {
            let id = self.next_edge;
            self.next_edge = self.next_edge.saturating_sub(1);
            return id;
        }
        0
    }

    /// Adds a parent to a child's list, at the head.
    pub(super) fn adopt(&mut self, child: u32, edge: u32) -> Outcome {
        let n = self.node_mut(child)?;
        let next = n.parents;
        n.parents = edge;
        self.edges.get_mut(edge).next_parent = next;
        Ok(())
    }

    fn head_mut(&mut self, e: &Edge) -> &mut u32 {
        let (trash, sustained) = (self.trash.len().max(1), self.sustained.len().max(1));
        if e.parent != 0 {
            let slot = self.slot(e.parent).unwrap_or(NONE);
            return &mut self.nodes.get_mut(slot).a;
        }
        let in_trash = self.node(e.child).is_ok_and(|n| n.kind == Kind::Trash as u8);
        let (list, len) = if in_trash { (&mut self.trash, trash) } else { (&mut self.sustained, sustained) };
        let at = (e.child as usize) % len;
        if at >= list.len() {
            list.resize(at.saturating_add(1), NONE);
        }
        match list.get_mut(at) {
            Some(head) => head,
            None => &mut self.node_seq,
        }
    }

    /// Puts an edge at the head of the list it belongs to.
    pub(super) fn push_front(&mut self, edge: u32) {
        let e = *self.edges.get(edge);
        let head = self.head_mut(&e);
        let next = *head;
        *head = edge;
        let e = self.edges.get_mut(edge);
        (e.next, e.prev) = (next, NONE);
        if next != NONE {
            self.edges.get_mut(next).prev = edge;
        }
    }

    /// Takes an edge out of its list.
    pub(super) fn unlist(&mut self, edge: u32) {
        let e = *self.edges.get(edge);
        if e.prev == NONE {
            *self.head_mut(&e) = e.next;
        } else {
            self.edges.get_mut(e.prev).next = e.next;
        }
        if e.next != NONE {
            self.edges.get_mut(e.next).prev = e.prev;
        }
    }

    /// Gives a node a name.
    pub(crate) fn link(&mut self, ts: u32, parent: u32, child: u32, name: &[u8]) -> Outcome {
        self.link_hashed(self.names.hasher.hash(parent, name), ts, parent, child, name)
    }

    /// The same, with the hash of directory and name.
    pub(crate) fn link_hashed(&mut self, hash: u32, ts: u32, parent: u32, child: u32, name: &[u8]) -> Outcome {
        self.charge(EDGE_COST.saturating_add(name.len() as u64))?;
        let id = self.take_edge_id();
        let text = self.texts.add(name).ok_or(Status::OUTOFMEMORY)?;
        let to_dir = self.node(child)?.is_dir();
        let edge = self.edges.add(Edge::new(parent, child, text, to_dir, id)).ok_or(Status::OUTOFMEMORY)?;
        self.count_edge(name.len(), true);
        self.push_front(edge);
        self.adopt(child, edge)?;
        self.names.insert(hash, edge);
        let snapshots = self.has_snapshot_bit();
        let p = self.node_mut(parent)?;
        if snapshots {
            p.eattr &= !SNAPSHOT;
        }
        if ts > 0 {
            (p.mtime, p.ctime) = (ts, ts);
            let c = self.node_mut(child)?;
            c.ctime = ts;
            self.check_archive(child, ts, BY_CTIME);
        }
        Ok(())
    }

    pub(crate) const fn has_snapshot_bit(&self) -> bool {
        self.dialect.retention_in_hours()
    }

    pub(crate) fn count_edge(&mut self, len: usize, more: bool) {
        let bytes = (len as u64).saturating_add(18);
        if more {
            self.edge_bytes = self.edge_bytes.saturating_add(bytes);
            self.edge_count = self.edge_count.saturating_add(1);
        } else {
            self.edge_bytes = self.edge_bytes.saturating_sub(bytes);
            self.edge_count = self.edge_count.saturating_sub(1);
        }
    }

    /// Takes a name away from a node.
    pub(crate) fn remove_edge(&mut self, ts: u32, edge: u32) -> Outcome {
        let e = *self.edges.get(edge);
        let snapshots = self.has_snapshot_bit();
        if e.parent != 0 {
            let p = self.node_mut(e.parent)?;
            (p.mtime, p.ctime) = (ts, ts);
            if snapshots {
                p.eattr &= !SNAPSHOT;
            }
        }
        if ts > 0 {
            self.node_mut(e.child)?.ctime = ts;
            self.check_archive(e.child, ts, BY_CTIME);
        }
        self.unlist(edge);
        self.disown(e.child, edge);
        if e.parent != 0 {
            let hash = self.names.hasher.hash(e.parent, self.texts.get(e.text()));
            self.names.remove(hash, edge);
        }
        let len = self.texts.get(e.text()).len();
        self.count_edge(len, false);
        self.budget = self.budget.saturating_add(EDGE_COST.saturating_add(len as u64));
        self.texts.release(e.text());
        self.edges.release(edge);
        Ok(())
    }

    pub(super) fn disown(&mut self, child: u32, edge: u32) {
        let after = self.edges.get(edge).next_parent;
        let Ok(n) = self.node_mut(child) else { return };
        if n.parents == edge {
            n.parents = after;
            return;
        }
        let mut at = n.parents;
        while at != NONE {
            let next = self.edges.get(at).next_parent;
            if next == edge {
                self.edges.get_mut(at).next_parent = after;
                return;
            }
            at = next;
        }
    }

    /// Whether a node has exactly one name.
    pub(crate) fn last_link(&self, n: &Node) -> bool {
        n.parents != NONE && self.edges.get(n.parents).next_parent == NONE
    }

    /// The path of an edge: names joined by '/', the first parent of each directory, the last 1024 bytes.
    pub(crate) fn path(&self, edge: u32) -> Vec<u8> {
        let mut parts = vec![self.edge_text(self.edges.get(edge))];
        let mut at = self.edges.get(edge).parent;
        let mut len = 0usize;
        while at > 1 && len < MAX_PATH {
            let Ok(n) = self.node(at) else { break };
            if n.parents == NONE {
                break;
            }
            let e = self.edges.get(n.parents);
            let text = self.edge_text(e);
            len = len.saturating_add(text.len()).saturating_add(1);
            parts.push(text);
            at = e.parent;
        }
        parts.reverse();
        let mut path = parts.join(&b'/');
        if path.len() > MAX_PATH {
            path.drain(..path.len().saturating_sub(MAX_PATH));
        }
        path
    }

    /// The first path of a node from the root, without a slash in front; for trash entries the former path.
    pub(crate) fn first_path(&self, n: &Node) -> Vec<u8> {
        let mut parts = Vec::new();
        let (mut at, mut steps) = (n.parents, self.directories.saturating_add(2));
        while at != NONE && steps > 0 {
            steps = steps.saturating_sub(1);
            let e = self.edges.get(at);
            parts.push(self.edge_text(e));
            at = if e.parent > 1 { self.node(e.parent).map_or(NONE, |p| p.parents) } else { NONE };
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// Makes a node and gives it its name.
    #[expect(clippy::too_many_arguments, reason = "the fields of CREATE")]
    pub(crate) fn create_node(
        &mut self,
        ts: u32,
        parent: u32,
        name: &[u8],
        kind: Kind,
        mode: u16,
        umask: u16,
        uid: u32,
        gid: u32,
        copy_sgid: bool,
    ) -> Outcome<u32> {
        let hash = self.names.hasher.hash(parent, name);
        self.create_hashed(hash, ts, parent, name, kind, mode, umask, uid, gid, copy_sgid)
    }

    /// The same, with the hash of directory and name.
    #[expect(clippy::too_many_arguments, reason = "the fields of CREATE")]
    pub(crate) fn create_hashed(
        &mut self,
        hash: u32,
        ts: u32,
        parent: u32,
        name: &[u8],
        kind: Kind,
        mode: u16,
        umask: u16,
        uid: u32,
        gid: u32,
        copy_sgid: bool,
    ) -> Outcome<u32> {
        self.charge(NODE_COST)?;
        let p = *self.node(parent)?;
        let inode = self.inodes.take(self.node_index.len()).ok_or(Status::OUTOFMEMORY)?;
        let inherits = matches!(kind, Kind::Directory | Kind::File);
        let other_class = if matches!(self.dialect, Dialect::V16 | Dialect::V2) { 1 } else { 0 };
        let (class, retention) =
            if inherits { (p.class, p.retention) } else { (other_class, self.dialect.default_retention()) };
        let mut lost = if kind == Kind::Directory { 0 } else { NO_ENTRY_CACHE };
        if self.has_snapshot_bit() {
            lost |= SNAPSHOT | UNDELETABLE | APPEND_ONLY | IMMUTABLE;
        }
        let mut mode = mode;
        let mut flags = 0;
        if p.flags & HAS_DEFAULT_ACL != 0 {
            flags = self.copy_default_acl(parent, inode, kind == Kind::Directory, &mut mode);
        } else {
            mode &= !umask;
        }
        let mut gid = gid;
        if p.mode & 0o2000 != 0 {
            gid = p.gid;
            if copy_sgid && kind == Kind::Directory {
                mode |= 0o2000;
            }
        }
        let node = Node {
            inode,
            kind: kind as u8,
            class,
            retention,
            eattr: p.eattr & !lost,
            mode: mode & 0xFFF,
            flags,
            uid,
            gid,
            atime: ts,
            mtime: ts,
            ctime: ts,
            ..Node::default()
        };
        self.add_node(node).ok_or(Status::OUTOFMEMORY)?;
        self.link_hashed(hash, ts, parent, inode, name)?;
        Ok(inode)
    }

    fn copy_default_acl(&mut self, parent: u32, inode: u32, directory: bool, mode: &mut u16) -> u8 {
        let Some((_, d)) = self.acls.get(&(parent, 2)) else { return 0 };
        let d = d.clone();
        let mut flags = 0;
        if d.entries.is_empty() && d.user <= 7 && d.group <= 7 && d.other <= 7 && d.mask == 0xFFFF {
            *mode &= 0xFE00 | (d.user << 6) | (d.group << 3) | d.other;
        } else {
            let (u, g, o) = ((*mode >> 6) & 7, (*mode >> 3) & 7, *mode & 7);
            let a = AclRecord {
                inode,
                kind: 1,
                user: u & d.user,
                group: d.group,
                other: o & d.other,
                mask: g & d.mask,
                ..d.clone()
            };
            *mode = (*mode & 0xFE00) | ((a.user & 7) << 6) | ((a.group & 7) << 3) | (a.other & 7);
            self.put_acl(a);
            flags |= HAS_ACCESS_ACL;
        }
        if directory {
            self.put_acl(AclRecord { inode, ..d });
            flags |= HAS_DEFAULT_ACL;
        }
        flags
    }

    /// Stores a list under its inode and type; an existing one keeps its place.
    pub(crate) fn put_acl(&mut self, acl: AclRecord) {
        let seq = self.next_seq();
        let entry = self.acls.entry((acl.inode, acl.kind)).or_insert((seq, AclRecord::default()));
        entry.1 = acl;
    }

    /// Frees a node that has no name any more.
    pub(crate) fn remove_node(&mut self, ts: u32, inode: u32) -> Outcome {
        let Some(slot) = self.slot(inode) else { return Err(Status::ENOENT) };
        let n = *self.nodes.get(slot);
        if n.parents != NONE {
            return Ok(());
        }
        if n.is_dir() {
            self.quotas.remove(&inode);
            self.directories = self.directories.saturating_sub(1);
        }
        if n.is_file() {
            self.drop_chunks(inode, 0)?;
            self.tables.release(n.table());
            self.files = self.files.saturating_sub(1);
        }
        if n.kind == Kind::Symlink as u8 && n.a != NONE {
            self.texts.release(n.a);
        }
        self.classes.use_class(n.class, false);
        self.free_inode(inode, ts);
        if n.flags & HAS_XATTR != 0 {
            self.xattrs.remove(&inode);
        }
        if n.flags & HAS_ACCESS_ACL != 0 {
            self.acls.remove(&(inode, 1));
        }
        if n.flags & HAS_DEFAULT_ACL != 0 {
            self.acls.remove(&(inode, 2));
        }
        if self.dialect.is_flat() {
            self.locks.forget_node(inode);
        }
        self.node_index.remove(u64::from(inode));
        self.nodes.release(slot);
        self.budget = self.budget.saturating_add(NODE_COST);
        Ok(())
    }

    /// Lowers all later times of the free list when the clock went back (3.x and later).
    pub(crate) fn fix_free_times(&mut self, ts: u32) {
        if self.dialect.retention_in_hours() && ts < self.inodes.last_free {
            for f in &mut self.inodes.free {
                f.1 = f.1.min(ts);
            }
            self.inodes.last_free = ts;
        }
    }

    fn free_inode(&mut self, inode: u32, ts: u32) {
        self.fix_free_times(ts);
        self.inodes.free.push_back((inode, ts));
        self.inodes.last_free = ts;
    }

    /// Sets the length of a file and drops the chunks behind it.
    pub(crate) fn set_length(&mut self, inode: u32, length: u64) -> Outcome {
        let snapshots = self.has_snapshot_bit();
        let n = self.node_mut(inode)?;
        n.length = length;
        if snapshots {
            n.eattr &= !SNAPSHOT;
        }
        let old = n.b;
        let need = length.div_ceil(CHUNK);
        if need >= u64::from(old) {
            return Ok(());
        }
        let need = u32::try_from(need).unwrap_or(u32::MAX);
        self.drop_chunks(inode, need)?;
        self.resize_table(inode, need)
    }
}

//! Nodes and names, and the elementary changes every operation is made of.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::dialect::Dialect;
use crate::format::attr::AclRecord;
use crate::format::edge::NO_EDGE_IDS;
use crate::format::node::Kind;

use super::arena::{NONE, Table};
use super::{CHUNK, MAX_PATH, Model, Outcome, Status};

/// Bits of [`Node::flags`]: what is known about a node beside its record.
pub(crate) const KEEP_MODE: u8 = 1;
pub(crate) const HAS_ACCESS_ACL: u8 = 2;
pub(crate) const HAS_DEFAULT_ACL: u8 = 4;
pub(crate) const HAS_XATTR: u8 = 8;

/// Extra attribute bits.
pub(crate) const NO_OWNER: u8 = 1;
pub(crate) const NO_ENTRY_CACHE: u8 = 4;
pub(crate) const SNAPSHOT: u8 = 0x10;
pub(crate) const UNDELETABLE: u8 = 0x20;
pub(crate) const APPEND_ONLY: u8 = 0x40;
pub(crate) const IMMUTABLE: u8 = 0x80;

/// Which times count for the reversible archive mode.
pub(crate) const BY_CTIME: u8 = 1;
pub(crate) const BY_MTIME: u8 = 2;
pub(crate) const BY_ATIME: u8 = 4;

/// A node, in one cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Node {
    pub(crate) inode: u32,
    /// 0 marks a free slot.
    pub(crate) kind: u8,
    pub(crate) class: u8,
    pub(crate) eattr: u8,
    pub(crate) winattr: u8,
    pub(crate) mode: u16,
    pub(crate) flags: u8,
    pub(crate) spare: u8,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: u32,
    pub(crate) mtime: u32,
    pub(crate) ctime: u32,
    pub(crate) retention: u32,
    /// First edge in which the node is the child.
    pub(crate) parents: u32,
    /// Order of insertion; decides the order within a bucket.
    pub(crate) seq: u32,
    /// First child edge, chunk table, text or device number.
    pub(crate) a: u32,
    /// Number of chunks in the table.
    pub(crate) b: u32,
    pub(crate) spare_word: u32,
    /// Length of a file.
    pub(crate) length: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            inode: 0,
            kind: 0,
            class: 0,
            eattr: 0,
            winattr: 0,
            mode: 0,
            flags: 0,
            spare: 0,
            uid: 0,
            gid: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            retention: 0,
            parents: NONE,
            seq: 0,
            a: NONE,
            b: 0,
            spare_word: 0,
            length: 0,
        }
    }
}

impl Node {
    #[inline]
    pub(crate) const fn is_file(&self) -> bool {
        matches!(self.kind, 1 | 8 | 9)
    }

    #[inline]
    pub(crate) const fn is_dir(&self) -> bool {
        self.kind == Kind::Directory as u8
    }

    #[inline]
    pub(crate) const fn table(&self) -> Table {
        if self.b == 0 { Table { at: 0, len: 0 } } else { Table { at: self.a, len: self.b } }
    }
}

/// One name of one node.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Edge {
    /// Directory; 0 for trash and sustained entries.
    pub(crate) parent: u32,
    pub(crate) child: u32,
    /// Next and previous in the list of the directory or bucket.
    pub(crate) next: u32,
    pub(crate) prev: u32,
    /// Next edge of the same child.
    pub(crate) next_parent: u32,
    /// The text, and in the highest bit whether the child is a directory.
    text: u32,
    pub(crate) id: u64,
}

const DIR: u32 = 1 << 31;

impl Default for Edge {
    fn default() -> Self {
        Self { parent: 0, child: 0, next: NONE, prev: NONE, next_parent: NONE, text: 0, id: 0 }
    }
}

impl Edge {
    pub(crate) const fn new(parent: u32, child: u32, text: u32, to_dir: bool, id: u64) -> Self {
        Self {
            parent,
            child,
            next: NONE,
            prev: NONE,
            next_parent: NONE,
            text: if to_dir { text | DIR } else { text },
            id,
        }
    }

    #[inline]
    pub(crate) const fn text(&self) -> u32 {
        self.text & !DIR
    }

    #[inline]
    pub(crate) const fn is_dir_edge(&self) -> bool {
        self.text & DIR != 0
    }
}

/// Memory a node or edge takes, for the budget.
const NODE_COST: u64 = 96;
const EDGE_COST: u64 = 64;

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
    fn adopt(&mut self, child: u32, edge: u32) -> Outcome {
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
    fn push_front(&mut self, edge: u32) {
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
    fn unlist(&mut self, edge: u32) {
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

    fn disown(&mut self, child: u32, edge: u32) {
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

    pub(crate) fn add_detached(&mut self, inode: u32, kind: Kind, path: &[u8]) -> Outcome {
        self.node_mut(inode)?.kind = kind as u8;
        self.charge(EDGE_COST.saturating_add(path.len() as u64))?;
        let id = self.take_edge_id();
        let text = self.texts.add(path).ok_or(Status::OUTOFMEMORY)?;
        let edge = self.edges.add(Edge::new(0, inode, text, false, id)).ok_or(Status::OUTOFMEMORY)?;
        self.count_edge(path.len(), true);
        self.push_front(edge);
        self.adopt(inode, edge)
    }

    /// Takes a name away; the last one sends a file to the trash, to the sustained files, or frees the node.
    pub(crate) fn unlink(&mut self, ts: u32, edge: u32) -> Outcome {
        let inode = self.edges.get(edge).child;
        let n = *self.node(inode)?;
        let open = self.locks.is_open(inode);
        let file = n.kind == Kind::File as u8;
        let to_trash = file && n.retention > 0 && (self.dialect != Dialect::V4 || n.length > 0 || open);
        let last = self.last_link(&n);
        let path = if last && file && (to_trash || open) { self.path(edge) } else { Vec::new() };
        self.remove_edge(ts, edge)?;
        if !last {
            return Ok(());
        }
        if to_trash {
            let n = self.node_mut(inode)?;
            n.ctime = ts;
            self.check_archive(inode, ts, BY_CTIME);
            self.add_detached(inode, Kind::Trash, &path)
        } else if file && open {
            self.add_detached(inode, Kind::Sustained, &path)
        } else {
            self.remove_node(ts, inode)
        }
    }

    /// Replaces the path of a trash entry (3.x, 4.x: by a new entry at the head).
    pub(crate) fn replace_path(&mut self, inode: u32, path: &[u8]) -> Outcome {
        let edge = self.node(inode)?.parents;
        if self.dialect.is_flat() {
            let e = *self.edges.get(edge);
            let (old, new) = (self.texts.get(e.text()).len(), self.texts.add(path).ok_or(Status::OUTOFMEMORY)?);
            self.count_edge(old, false);
            self.count_edge(path.len(), true);
            self.texts.release(e.text());
            self.edges.get_mut(edge).text = new;
            return Ok(());
        }
        self.remove_edge(0, edge)?;
        self.add_detached(inode, Kind::Trash, path)
    }

    /// Removes a trash or sustained entry for good; an open one becomes sustained. True if the node is gone.
    pub(crate) fn purge(&mut self, ts: u32, inode: u32) -> Outcome<bool> {
        let n = *self.node(inode)?;
        if n.kind == Kind::Trash as u8 && self.locks.is_open(inode) {
            self.unlist(n.parents);
            self.node_mut(inode)?.kind = Kind::Sustained as u8;
            self.push_front(n.parents);
            return Ok(false);
        }
        if n.kind == Kind::Trash as u8 || n.kind == Kind::Sustained as u8 {
            self.remove_edge(ts, n.parents)?;
            self.remove_node(ts, inode)?;
        }
        Ok(true)
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

    /// Brings a file of a class with reversible archive mode back from the archive (4.x).
    #[inline]
    pub(crate) fn check_archive(&mut self, inode: u32, ts: u32, fields: u8) {
        if self.dialect == Dialect::V4 {
            self.check_archive_mode(inode, ts, fields);
        }
    }

    fn check_archive_mode(&mut self, inode: u32, ts: u32, fields: u8) {
        let Ok(n) = self.node(inode) else { return };
        if !n.is_file() || n.flags & KEEP_MODE != 0 {
            return;
        }
        let n = *n;
        let Some((mode, hours, min_size)) = self.classes.reversible(n.class) else { return };
        if mode & fields == 0 {
            return;
        }
        if n.length >= min_size {
            let mut reference = 0;
            for (bit, time) in [(BY_CTIME, n.ctime), (BY_MTIME, n.mtime), (BY_ATIME, n.atime)] {
                if mode & bit != 0 {
                    reference = reference.max(time);
                }
            }
            if reference.checked_add(hours.saturating_mul(3600)).is_some_and(|t| t < ts) {
                return;
            }
        }
        self.set_archived(&n, false);
        if let Ok(n) = self.node_mut(inode) {
            n.flags |= KEEP_MODE;
        }
    }

    /// Sets or clears the archive flag of all chunks of a file; the number of chunks and of those changed.
    pub(crate) fn set_archived(&mut self, n: &Node, archived: bool) -> (u64, u64) {
        let (mut all, mut changed) = (0u64, 0u64);
        for i in 0..n.b {
            let id = self.tables.get(n.table()).get(i as usize).copied().unwrap_or(0);
            if id == 0 {
                continue;
            }
            all = all.saturating_add(1);
            if let Some(c) = self.chunks.get_mut(id) {
                let flags = (c.flags & 2) | u8::from(archived);
                if flags != c.flags {
                    c.flags = flags;
                    changed = changed.saturating_add(1);
                }
            }
        }
        (all, changed)
    }
}

impl Model {
    /// Ties an edge read from a file to its child.
    pub(crate) fn adopt_loaded(&mut self, edge: u32) {
        let child = self.edges.get(edge).child;
        // the child was looked up before
        let _ = self.adopt(child, edge);
    }

    /// Puts a trash or sustained entry read from a file at the head of its bucket.
    pub(crate) fn push_detached(&mut self, edge: u32) {
        self.push_front(edge);
        self.adopt_loaded(edge);
    }
}

impl Model {
    /// Takes the trash entry of a node out of its bucket, while the kind of the node still tells the bucket.
    pub(crate) fn detach(&mut self, inode: u32) {
        if let Ok(n) = self.node(inode) {
            let edge = n.parents;
            self.unlist(edge);
            let e = self.edges.get_mut(edge);
            (e.next, e.prev) = (NONE, NONE);
        }
    }

    /// Frees an entry that [`detach`](Self::detach) took out.
    pub(crate) fn drop_detached(&mut self, ts: u32, edge: u32) -> Outcome {
        let e = *self.edges.get(edge);
        if ts > 0 {
            self.node_mut(e.child)?.ctime = ts;
            self.check_archive(e.child, ts, BY_CTIME);
        }
        self.disown(e.child, edge);
        let len = self.texts.get(e.text()).len();
        self.count_edge(len, false);
        self.texts.release(e.text());
        self.edges.release(edge);
        Ok(())
    }
}

//! Unlinking, the trash and the sustained files.

use super::arena::NONE;
use super::node::{BY_CTIME, Edge};
use super::tree::EDGE_COST;
use super::{Model, Outcome, Status};
use crate::dialect::Dialect;
use crate::format::node::Kind;

impl Model {
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

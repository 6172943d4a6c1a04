//! The section `NODE`.

use recovery_core::Cursor;

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::parts::{issue, records};
use super::{Issue, IssueKind, LoadError, Loader};
use crate::format::Item;
use crate::format::crc::{Pieces, piece};
use crate::format::node::{Extra, Kind, NodeHead, NodeRecord};
use crate::model::Model;
use crate::model::arena::{Arena, Index};
use crate::model::tree::Node;

/// Reads the nodes.
pub(super) fn nodes(
    loader: &mut Loader<'_>,
    model: &mut Model,
    s: &Section,
    fver: u8,
    sum: &mut u32,
) -> Result<(), LoadError> {
    let mut feed = Feed::new(loader.blob, s.start, s.end);
    let flat = fver < 0x16;
    let sums = loader.options.checksums;
    let mut head = NodeHead { max_inode: model.inodes.max, count: 0 };
    if !flat {
        head = feed.one("NODE", |c| NodeHead::decode(c, s.version, fver))?;
        let mut bytes = Vec::new();
        head.encode(s.version, fver, &mut bytes);
        *sum ^= piece(&bytes);
    }
    let most = usize::try_from(s.size() / 32).unwrap_or(0);
    let count = if head.count == 0 { most } else { most.min(head.count as usize) };
    model.node_index = Index::with_hint(count, u64::from(head.max_inode));
    model.inodes.max = model.inodes.max.max(head.max_inode);
    let mut bulk =
        Bulk { nodes: Arena::with_capacity(count), users: [0; 256], directories: 0, files: 0, places: Vec::new() };
    let mut pieces = Pieces::default();
    let outcome = records(loader, s, &mut feed, |c, found| {
        let rest = c.rest();
        match NodeRecord::decode(c, s.version)? {
            Item::End => {
                pieces.add(&[0]);
                Ok(Flow::End)
            }
            Item::Record(r) => {
                let size = rest.len().saturating_sub(c.remaining());
                if sums {
                    add_pieces(&mut pieces, &r, s.version, rest.get(..size).unwrap_or_default());
                }
                bulk.take(model, &r, s.version, c, size, found)?;
                Ok(Flow::Go)
            }
        }
    });
    *sum ^= pieces.value();
    let mut found = Vec::new();
    bulk.claim(model, &mut found);
    for i in found {
        loader.issue(i)?;
    }
    bulk.finish(model);
    outcome
}

fn add_pieces(pieces: &mut Pieces, r: &NodeRecord<'_>, version: u8, bytes: &[u8]) {
    let (fixed, rest) = bytes.split_at(NodeRecord::fixed_size(r.kind, version).min(bytes.len()));
    pieces.add(fixed);
    match r.extra {
        Extra::File { chunks, .. } => {
            for part in chunks.chunks(65_536 * 8) {
                pieces.add(part);
            }
        }
        _ => {
            if !rest.is_empty() {
                pieces.add(rest);
            }
        }
    }
}

/// Nodes on their way into the model; what can be counted for all of them at once is counted at the end.
struct Bulk {
    nodes: Arena<Node>,
    users: [u64; 256],
    directories: u64,
    files: u64,
    /// Places of the records that are not in the index yet.
    places: Vec<(u64, usize)>,
}

/// Records taken into the index together.
const GROUP: usize = 256;

impl Bulk {
    #[inline]
    fn take(
        &mut self,
        model: &mut Model,
        r: &NodeRecord<'_>,
        version: u8,
        c: &Cursor<'_>,
        size: usize,
        found: &mut Vec<Issue>,
    ) -> Result<(), LoadError> {
        if r.inode == 0 {
            let text = "a node with inode 0; dropped".to_owned();
            found.push(issue(IssueKind::Duplicate, c, size, text));
            return Ok(());
        }
        let slot = self.nodes.next_slot().ok_or(LoadError::Full("nodes"))?;
        let mut node = record(model, r, version);
        self.directories = self.directories.saturating_add(u64::from(node.is_dir()));
        if let Some(n) = self.users.get_mut(usize::from(node.class)) {
            *n = n.saturating_add(1);
        }
        match r.extra {
            Extra::None => {}
            Extra::Device(rdev) => node.a = rdev,
            Extra::Path(path) => {
                let path = if path.len() > 4096 { &b"??? (symlink path too long)"[..] } else { path };
                node.a = model.texts.add(path).ok_or(LoadError::Full("texts"))?;
            }
            Extra::File { length, chunks, sessions } => {
                self.files = self.files.saturating_add(1);
                node.length = length;
                if !chunks.is_empty() {
                    let table = model.tables.load(chunks).ok_or(LoadError::Full("chunk tables"))?;
                    (node.a, node.b) = (table.at, table.len);
                }
                open_files(model, r.inode, sessions);
            }
        }
        node.seq = slot.saturating_add(1);
        self.nodes.add(node).ok_or(LoadError::Full("nodes"))?;
        self.places.push((c.offset().saturating_sub(size as u64), size));
        if self.places.len() >= GROUP {
            self.claim(model, found);
        }
        Ok(())
    }

    /// Takes the nodes since the last time into the index; what stands twice is dropped.
    fn claim(&mut self, model: &mut Model, found: &mut Vec<Issue>) {
        let first = self.nodes.slots().len().saturating_sub(self.places.len());
        let part = self.nodes.slots().get(first..).unwrap_or_default();
        let mut doubles = Vec::new();
        let ids = part.iter().map(|n| u64::from(n.inode));
        model.node_index.claim(ids, u32::try_from(first).unwrap_or(u32::MAX), |at, slot| doubles.push((at, slot)));
        for (at, slot) in doubles {
            let n = *self.nodes.get(slot);
            let (at, len) = self.places.get(at).copied().unwrap_or_default();
            let text = format!("inode {} stands twice; the second record is dropped", n.inode);
            found.push(Issue { kind: IssueKind::Duplicate, at, length: len as u64, text });
            self.directories = self.directories.saturating_sub(u64::from(n.is_dir()));
            self.files = self.files.saturating_sub(u64::from(n.is_file()));
            if let Some(users) = self.users.get_mut(usize::from(n.class)) {
                *users = users.saturating_sub(1);
            }
            if n.is_file() {
                model.tables.get_mut(n.table()).fill(0);
            }
            self.nodes.drop_loaded(slot);
        }
        self.places.clear();
    }

    fn finish(self, model: &mut Model) {
        let count = self.nodes.slots().len();
        model.node_seq = u32::try_from(count).unwrap_or(u32::MAX);
        model.loaded = model.node_seq;
        model.max_nodes = model.node_index.len() as u64;
        model.nodes = self.nodes;
        model.directories = self.directories;
        model.files = self.files;
        for (class, n) in (0u8..=255).zip(self.users) {
            model.classes.add_users(class, n);
        }
        model.inodes.mark_all(&model.node_index);
    }
}

/// The part of a node that stands in its record.
#[inline]
fn record(model: &Model, r: &NodeRecord<'_>, version: u8) -> Node {
    let hours = model.dialect.retention_in_hours();
    let retention = match (version >= 0x14, hours) {
        (false, true) => r.retention.saturating_add(3599) / 3600,
        (true, false) => r.retention.saturating_mul(3600),
        _ => r.retention,
    };
    let classed = r.kind.is_file() || r.kind == Kind::Directory || !hours;
    Node {
        inode: r.inode,
        kind: r.kind as u8,
        class: if classed { r.class } else { 0 },
        eattr: r.eattr,
        winattr: r.winattr,
        mode: r.mode,
        uid: r.uid,
        gid: r.gid,
        atime: r.atime,
        mtime: r.mtime,
        ctime: r.ctime,
        retention,
        ..Node::default()
    }
}

/// Sessions that hold a file open, which old versions keep with the file.
#[inline]
fn open_files(model: &mut Model, inode: u32, sessions: &[u8]) {
    for raw in sessions.as_chunks::<4>().0 {
        let session = u32::from_be_bytes(*raw);
        if model.dialect.is_flat() {
            model.locks.acquire_on_node(session, inode);
        } else {
            model.locks.acquire(session, inode);
            // newer products count each open file they import as a change
            model.version = model.version.saturating_add(1);
        }
    }
}

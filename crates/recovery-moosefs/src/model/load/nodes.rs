//! The section `NODE`.

use recovery_core::Cursor;

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::parts::issue;
use super::resync::NodeRules;
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
    let list = feed.offset();
    let mut bulk = Bulk::new(count);
    let mut pieces = Pieces::default();
    let mut found = Vec::new();
    let outcome = feed.each("NODE", |c| {
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
                bulk.take(model, &r, s.version, c, size, &mut found)?;
                Ok(Flow::Go)
            }
        }
    });
    *sum ^= pieces.value();
    bulk.claim(model, &mut found);
    let counted = s.version < 0x11 || flat || head.count as usize == model.node_index.len();
    let whole = outcome.is_ok() && feed.offset() == s.end && counted;
    if whole || !loader.options.salvage {
        for i in found {
            loader.issue(i)?;
        }
        loader.directories = bulk.finish(model);
        return super::parts::ended(loader, s, &feed, outcome);
    }
    match outcome {
        Ok(()) | Err(LoadError::Decode { .. }) => {}
        Err(other) => return Err(other),
    }
    *model = emptied(model);
    model.node_index = Index::with_hint(count, u64::from(head.max_inode));
    model.inodes.max = head.max_inode;
    resynced(loader, model, s, (list, flat), &head)
}

/// The model before the nodes: what stood in the sections before them stays.
fn emptied(model: &mut Model) -> Model {
    let mut fresh = Model::empty(model.dialect, 0, 0, 0);
    fresh.version = model.version;
    fresh.metaid = model.metaid;
    fresh.next_session = model.next_session;
    fresh.session_counters = model.session_counters;
    fresh.sessions = std::mem::take(&mut model.sessions);
    fresh.classes = std::mem::replace(&mut model.classes, crate::model::classes::Classes::before_load(model.dialect));
    fresh.seq = model.seq;
    fresh
}

/// Reads the nodes of a damaged list.
fn resynced(
    loader: &mut Loader<'_>,
    model: &mut Model,
    s: &Section,
    (list, flat): (u64, bool),
    head: &NodeHead,
) -> Result<(), LoadError> {
    let bytes = loader.blob.bytes(list..s.end)?;
    let rules = NodeRules::new(&bytes, s.version, head.max_inode, head.count, flat);
    let all = rules.find(&bytes, list);
    let mut bulk = Bulk::new(all.records.len());
    let mut found = Vec::new();
    let mut repaired = all.repaired.iter().copied().peekable();
    for (i, &(at, len)) in all.records.iter().enumerate() {
        let Some(raw) = bytes.get(at..at.saturating_add(len)) else { continue };
        let fixed = repaired.next_if_eq(&i).map(|_| with_length(raw, s.version));
        let place = list.saturating_add(at as u64);
        let mut c = Cursor::new(fixed.as_deref().unwrap_or(raw), place);
        let Ok(Item::Record(r)) = NodeRecord::decode(&mut c, s.version) else { continue };
        if fixed.is_some() {
            let text =
                format!("inode {}: the length of its record was wrong; it ends where the next one begins", r.inode);
            found.push(Issue { kind: IssueKind::Repaired, at: place, length: len as u64, text });
        }
        bulk.take(model, &r, s.version, &c, len, &mut found)?;
    }
    bulk.claim(model, &mut found);
    let nodes = bulk.nodes.slots().len();
    loader.directories = bulk.finish(model);
    let missing = (head.count as usize).saturating_sub(nodes);
    for hole in &all.holes {
        let text = format!(
            "section NODE: {} bytes hold no node that can be read; {missing} of {} nodes are lost in all",
            hole.len,
            nodes.saturating_add(missing)
        );
        found.push(Issue { kind: IssueKind::Record, at: hole.at, length: hole.len, text });
    }
    if !all.ended {
        let text = "section NODE: the end of its list is missing".to_owned();
        found.push(Issue { kind: IssueKind::Cut, at: s.end, length: 0, text });
    }
    for i in found {
        loader.issue(i)?;
    }
    Ok(())
}

/// A record whose length field says how long it is.
fn with_length(raw: &[u8], version: u8) -> Vec<u8> {
    let mut out = raw.to_vec();
    let Some(kind) = raw.first().and_then(|b| Kind::from_byte(*b)) else { return out };
    let fixed = NodeRecord::fixed_size(kind, version);
    let rest = out.len().saturating_sub(fixed);
    let (at, value) = if kind.is_file() {
        (fixed.saturating_sub(if version < 0x14 { 6 } else { 4 }), rest / 8)
    } else {
        (fixed.saturating_sub(4), rest)
    };
    let value = u32::try_from(value).unwrap_or(0).to_be_bytes();
    if let Some(field) = out.get_mut(at..at.saturating_add(4)) {
        field.copy_from_slice(&value);
    }
    if version < 0x14
        && kind.is_file()
        && let Some(field) = out.get_mut(at.saturating_add(4)..fixed)
    {
        field.fill(0);
    }
    out
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
    directories: Vec<u32>,
    files: u64,
    /// Places of the records that are not in the index yet.
    places: Vec<(u64, usize)>,
}

/// Records taken into the index together.
const GROUP: usize = 256;

impl Bulk {
    fn new(count: usize) -> Self {
        Self {
            nodes: Arena::with_capacity(count),
            users: [0; 256],
            directories: Vec::new(),
            files: 0,
            places: Vec::new(),
        }
    }

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
        if node.is_dir() {
            self.directories.push(node.inode);
        }
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
            if n.is_dir()
                && let Some(at) = self.directories.iter().rposition(|&d| d == n.inode)
            {
                self.directories.remove(at);
            }
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

    fn finish(self, model: &mut Model) -> Vec<u32> {
        let count = self.nodes.slots().len();
        model.node_seq = u32::try_from(count).unwrap_or(u32::MAX);
        model.loaded = model.node_seq;
        model.max_nodes = model.node_index.len() as u64;
        model.nodes = self.nodes;
        model.directories = self.directories.len() as u64;
        model.files = self.files;
        for (class, n) in (0u8..=255).zip(self.users) {
            model.classes.add_users(class, n);
        }
        model.inodes.mark_all(&model.node_index);
        self.directories
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

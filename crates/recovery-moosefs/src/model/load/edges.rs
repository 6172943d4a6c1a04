//! The section `EDGE`: reading names, and tying them to nodes.
//!
//! Names are read while the nodes are, so they are tied afterwards. Nearly every name leads to a node that lies
//! anywhere in memory; what tying needs of the nodes is therefore gathered in two narrow tables, and read for a group
//! of names at once.

use rayon::prelude::*;
use recovery_core::{Blob, Cursor};

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::parts::issue;
use super::resync::EdgeRules;
use super::{Issue, IssueKind, LoadError, LoadOptions, Loader, detached};
use crate::dialect::Dialect;
use crate::format::crc::{Pieces, piece};
use crate::format::edge::{EdgeRecord, NO_EDGE_IDS};
use crate::format::node::Kind;
use crate::format::{DecodeError, Item};
use crate::model::arena::{Arena, NONE, Texts};
use crate::model::tree::{Edge, Node};
use crate::model::{MAX_NAME, MAX_PATH, Model};

/// Names as read, not yet tied to nodes.
pub(super) struct RawEdges {
    next_id: u64,
    edges: Arena<Edge>,
    texts: Texts,
    /// Bytes of all names.
    bytes: u64,
    issues: Vec<Issue>,
    failed: Option<(DecodeError, u64)>,
    start: u64,
    end: u64,
    /// Where the first record lies, and where reading ended.
    list: u64,
    stop: u64,
    pub(super) sum: u32,
}

/// Reads the names; needs no nodes.
pub(super) fn edges(blob: &dyn Blob, options: LoadOptions, s: &Section, flat: bool) -> Result<RawEdges, LoadError> {
    let mut feed = Feed::new(blob, s.start, s.end);
    let mut pieces = Pieces::default();
    let mut next_id = NO_EDGE_IDS;
    if !flat && s.version >= 0x11 {
        next_id = feed.one("EDGE", |c| Ok(c.u64_be("nextedgeid")?))?;
        pieces.add_sum(piece(&next_id.to_be_bytes()));
    }
    let size = usize::try_from(s.size()).unwrap_or(0);
    let mut raw = RawEdges {
        next_id,
        edges: Arena::with_capacity(size / 32),
        texts: Texts::with_capacity(size / 2),
        bytes: 0,
        issues: Vec::new(),
        failed: None,
        start: s.start,
        end: s.end,
        list: feed.offset(),
        stop: s.end,
        sum: 0,
    };
    let outcome = feed.each("EDGE", |c| {
        let rest = c.rest();
        match EdgeRecord::decode(c, s.version)? {
            Item::End => {
                pieces.add(rest.get(..EdgeRecord::fixed_size(s.version)).unwrap_or_default());
                Ok(Flow::End)
            }
            Item::Record(e) => {
                let used = rest.len().saturating_sub(c.remaining());
                if options.checksums {
                    pieces.add(rest.get(..used).unwrap_or_default());
                }
                let most = if e.parent == 0 { MAX_PATH } else { MAX_NAME };
                if e.name.is_empty() || e.name.len() > most {
                    let (text, name) = odd_name(&e, most);
                    raw.issues.push(issue(IssueKind::Reference, c, used, text));
                    raw.add(&EdgeRecord { name: &name, ..e })?;
                } else {
                    raw.add(&e)?;
                }
                Ok(Flow::Go)
            }
        }
    });
    match outcome {
        Ok(()) => {}
        Err(LoadError::Decode { error, .. }) => raw.failed = Some((error, feed.offset())),
        Err(other) => return Err(other),
    }
    raw.sum = pieces.value();
    raw.stop = feed.offset();
    Ok(raw)
}

/// Reads the names of a damaged list, now that the nodes are known.
fn resynced(blob: &dyn Blob, model: &Model, old: &RawEdges, s: &Section) -> Result<RawEdges, LoadError> {
    let bytes = blob.bytes(old.list..old.end)?;
    let known = |inode: u32| model.node(inode).ok().map(|n| n.is_dir());
    let all = EdgeRules { version: s.version, known: &known }.find(&bytes, old.list);
    let mut raw = RawEdges {
        next_id: old.next_id,
        edges: Arena::with_capacity(all.records.len()),
        texts: Texts::with_capacity(0),
        bytes: 0,
        issues: Vec::new(),
        failed: None,
        start: old.start,
        end: old.end,
        list: old.list,
        stop: old.end,
        sum: old.sum,
    };
    let mut repaired = all.repaired.iter().copied().peekable();
    for (i, &(at, len)) in all.records.iter().enumerate() {
        let part = bytes.get(at..at.saturating_add(len)).unwrap_or_default();
        let mut own = Vec::new();
        if repaired.next_if_eq(&i).is_some() {
            own.extend_from_slice(part);
            let fixed = EdgeRecord::fixed_size(s.version);
            let length = u16::try_from(len.saturating_sub(fixed)).unwrap_or(0).to_be_bytes();
            if let Some(field) = own.get_mut(fixed.saturating_sub(2)..fixed) {
                field.copy_from_slice(&length);
            }
            let text = "section EDGE: the length of a name was wrong; it ends where the next record begins".to_owned();
            let at = old.list.saturating_add(at as u64);
            raw.issues.push(Issue { kind: IssueKind::Repaired, at, length: len as u64, text });
        }
        let mut c = Cursor::new(if own.is_empty() { part } else { &own }, 0);
        if let Ok(Item::Record(e)) = EdgeRecord::decode(&mut c, s.version) {
            raw.add(&e)?;
        }
    }
    for hole in &all.holes {
        let text = format!("section EDGE: {} bytes hold no name that can be read", hole.len);
        raw.issues.push(Issue { kind: IssueKind::Record, at: hole.at, length: hole.len, text });
    }
    if !all.ended {
        let text = "section EDGE: the end of its list is missing".to_owned();
        raw.issues.push(Issue { kind: IssueKind::Cut, at: old.end, length: 0, text });
    }
    Ok(raw)
}

/// What is wrong with a name of a length that cannot be, and what stands for it.
#[cold]
fn odd_name(e: &EdgeRecord<'_>, most: usize) -> (String, Vec<u8>) {
    if e.name.is_empty() {
        let text = format!("edge {} -> {}: empty name", e.parent, e.child);
        return (text, format!("(empty {})", e.child).into_bytes());
    }
    let text = format!("edge {} -> {}: name of {} bytes is cut", e.parent, e.child, e.name.len());
    (text, e.name.get(..most).unwrap_or(e.name).to_vec())
}

impl RawEdges {
    #[inline]
    fn add(&mut self, e: &EdgeRecord<'_>) -> Result<(), LoadError> {
        let text = self.texts.add(e.name).ok_or(LoadError::Full("names"))?;
        self.bytes = self.bytes.saturating_add(e.name.len() as u64);
        self.edges.add(Edge::new(e.parent, e.child, text, false, e.id)).ok_or(LoadError::Full("names"))?;
        Ok(())
    }
}

/// Edges whose nodes are read together.
const AHEAD: usize = 64;
const AHEAD_SLOTS: u32 = 64;

/// Ties names to nodes.
pub(super) fn link_edges(
    loader: &mut Loader<'_>,
    model: &mut Model,
    mut raw: RawEdges,
    s: &Section,
) -> Result<(), LoadError> {
    if (raw.failed.is_some() || raw.stop < raw.end) && loader.options.salvage {
        raw = resynced(loader.blob, model, &raw, s)?;
    }
    for i in raw.issues {
        loader.issue(i)?;
    }
    if let Some((error, at)) = raw.failed {
        let text = format!("section EDGE: {error}; the names behind it are lost");
        loader.found(IssueKind::Cut, at, raw.end.saturating_sub(at), text)?;
    } else if raw.stop < raw.end {
        let left = raw.end.saturating_sub(raw.stop);
        let text = format!("section EDGE: its list ends {left} bytes before the section does");
        loader.found(IssueKind::Record, raw.stop, left, text)?;
    }
    model.next_edge = raw.next_id;
    let symlinks = std::mem::replace(&mut model.texts, raw.texts);
    move_symlinks(model, &symlinks)?;
    drop(symlinks);
    model.edges = raw.edges;
    let count = u32::try_from(model.edges.slots().len()).map_err(|_| LoadError::Full("names"))?;
    model.edge_count = u64::from(count);
    model.edge_bytes = raw.bytes.saturating_add(u64::from(count).saturating_mul(18));
    let mut linker = Linker::new(model);
    let mut from = 0u32;
    while from < count {
        let to = count.min(from.saturating_add(AHEAD_SLOTS));
        linker.group(loader, model, from..to, (raw.start, raw.end))?;
        from = to;
    }
    let Linker { parents, mut waiting, .. } = linker;
    let set = |(n, p): (&mut Node, u32)| {
        n.parents = p;
        usize::from(n.kind != 0 && p == NONE)
    };
    let unnamed: usize = model.nodes.slots_mut().par_iter_mut().zip(parents).with_min_len(1 << 16).map(set).sum();
    // the root, and what is tied below
    loader.all_named = unnamed == waiting.len().saturating_add(1) && model.node(1).is_ok();
    if model.dialect == Dialect::V4 {
        waiting.reverse();
    }
    for slot in waiting {
        model.push_detached(slot);
    }
    Ok(())
}

/// Symbolic link texts were read into a block of their own while the names were read.
fn move_symlinks(model: &mut Model, old: &Texts) -> Result<(), LoadError> {
    if old.is_empty() {
        return Ok(());
    }
    for i in 0..u32::try_from(model.nodes.slots().len()).unwrap_or(0) {
        let n = model.nodes.get(i);
        if n.kind == Kind::Symlink as u8 && n.a != NONE {
            let at = model.texts.add(old.get(n.a)).ok_or(LoadError::Full("texts"))?;
            model.nodes.get_mut(i).a = at;
        }
    }
    Ok(())
}

struct Linker {
    /// Kind and first name of each node, by slot.
    kinds: Vec<u8>,
    parents: Vec<u32>,
    /// The directory whose names come now, and the last of them.
    current: u32,
    tail: u32,
    /// Last names of directories whose names ended, for those that go on later.
    tails: hashbrown::HashMap<u32, u32>,
    /// Entries of the trash and of the sustained files.
    waiting: Vec<u32>,
}

impl Linker {
    fn new(model: &Model) -> Self {
        let kinds: Vec<u8> = model.nodes.slots().par_iter().with_min_len(1 << 16).map(|n| n.kind).collect();
        let parents = vec![NONE; kinds.len()];
        let tails = hashbrown::HashMap::new();
        Self { kinds, parents, current: 0, tail: NONE, tails, waiting: Vec::new() }
    }

    fn kind(&self, slot: u32) -> u8 {
        self.kinds.get(slot as usize).copied().unwrap_or(0)
    }

    /// Ties some names. The common case is a file in the directory that the name before was in.
    fn group(
        &mut self,
        loader: &mut Loader<'_>,
        model: &mut Model,
        group: std::ops::Range<u32>,
        place: (u64, u64),
    ) -> Result<(), LoadError> {
        let mut slots = [NONE; AHEAD];
        let mut kinds = [0u8; AHEAD];
        let part = model.edges.slots().get(group.start as usize..group.end as usize).unwrap_or_default();
        for (slot, e) in slots.iter_mut().zip(part) {
            *slot = model.node_index.get(u64::from(e.child)).unwrap_or(NONE);
        }
        for (kind, &slot) in kinds.iter_mut().zip(&slots) {
            *kind = self.kind(slot);
        }
        for ((edge, &slot), &kind) in group.zip(&slots).zip(&kinds) {
            let plain = matches!(kind, 1 | 3..=7);
            let parent = model.edges.get(edge).parent;
            if !plain || parent != self.current || self.tail == NONE {
                self.odd(loader, model, edge, slot, kind, place)?;
                continue;
            }
            self.tie(model, edge, slot);
        }
        Ok(())
    }

    /// Puts a name behind the last one of the current directory.
    #[inline]
    fn tie(&mut self, model: &mut Model, edge: u32, slot: u32) {
        let tail = self.tail;
        let first = self.parents.get_mut(slot as usize).map_or(NONE, |p| std::mem::replace(p, edge));
        let e = model.edges.get_mut(edge);
        (e.prev, e.next_parent) = (tail, first);
        if tail != NONE {
            model.edges.get_mut(tail).next = edge;
        }
        self.tail = edge;
    }

    /// A directory, an entry of the trash, the first name of a directory, or damage.
    fn odd(
        &mut self,
        loader: &mut Loader<'_>,
        model: &mut Model,
        edge: u32,
        slot: u32,
        kind: u8,
        (start, end): (u64, u64),
    ) -> Result<(), LoadError> {
        let raw = *model.edges.get(edge);
        if let Err((kind, text)) = self.check(model, edge, slot, kind) {
            let name = crate::changelog::escape(model.texts.get(raw.text()));
            let text = format!("edge {},{name} -> {}: {text}", raw.parent, raw.child);
            loader.found(kind, start, end.saturating_sub(start), text)?;
            if kind == IssueKind::ChildMissing && slot == NONE && raw.parent > 0 {
                loader.dropped.push((raw.parent, model.texts.get(raw.text()).to_vec()));
            }
            if kind == IssueKind::ChildMissing || raw.parent == 0 {
                let len = model.texts.get(raw.text()).len();
                model.count_edge(len, false);
                model.texts.release(raw.text());
                model.edges.release(edge);
                return Ok(());
            }
        }
        let parent = model.edges.get(edge).parent;
        if parent == 0 {
            self.waiting.push(edge);
            return Ok(());
        }
        if parent != self.current {
            if self.tail != NONE {
                self.tails.insert(self.current, self.tail);
            }
            self.current = parent;
            self.tail = self.tails.get(&parent).copied().unwrap_or(NONE);
        }
        if self.tail == NONE {
            let dir = model.slot(parent).unwrap_or(NONE);
            model.nodes.get_mut(dir).a = edge;
        }
        self.tie(model, edge, slot);
        Ok(())
    }

    /// Child and parent of an edge exist and fit; a missing parent becomes the root.
    fn check(&self, model: &mut Model, edge: u32, slot: u32, kind: u8) -> Result<(), (IssueKind, String)> {
        if slot == NONE {
            return Err((IssueKind::ChildMissing, "there is no such node; the name is dropped".into()));
        }
        let e = *model.edges.get(edge);
        if e.parent == 0 {
            if !detached(kind) {
                return Err((IssueKind::Reference, "an entry of the trash that is a node in use; dropped".into()));
            }
            return Ok(());
        }
        let to_dir = kind == Kind::Directory as u8;
        *model.edges.get_mut(edge) = Edge::new(e.parent, e.child, e.text(), to_dir, e.id);
        let named = self.parents.get(slot as usize).is_some_and(|&p| p != NONE);
        if to_dir && named {
            return Err((
                IssueKind::ChildMissing,
                "the directory has another name already; the name is dropped".into(),
            ));
        }
        if to_dir && e.child == 1 {
            return Err((IssueKind::ChildMissing, "the root has no name; the name is dropped".into()));
        }
        if detached(kind) {
            return Err((IssueKind::ChildMissing, "a file of the trash has no place in a directory; dropped".into()));
        }
        if e.parent == self.current && self.tail != NONE {
            return Ok(());
        }
        let dir = model.slot(e.parent).is_some_and(|s| self.kind(s) == Kind::Directory as u8);
        if !dir {
            *model.edges.get_mut(edge) = Edge::new(1, e.child, e.text(), to_dir, e.id);
            return Err((IssueKind::ParentMissing, "there is no such directory; attached to the root".into()));
        }
        Ok(())
    }
}

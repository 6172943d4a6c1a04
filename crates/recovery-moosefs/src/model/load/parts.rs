//! The single sections, from bytes into the model.

use recovery_core::{Blob, Cursor};

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::{Issue, IssueKind, LoadError, LoadOptions, Loader, detached};
use crate::dialect::Dialect;
use crate::format::attr::{AclRecord, XattrRecord};
use crate::format::crc::piece;
use crate::format::edge::{EdgeRecord, NO_EDGE_IDS};
use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};
use crate::format::node::{Extra, Kind, NodeHead, NodeRecord};
use crate::format::outer::section_name;
use crate::format::sclass::{ClassTable, Rules};
use crate::format::session::{SessionHead, SessionRecord};
use crate::format::small::{ChunkRecord, FreeRecord, PatternRecord, QuotaRecord, ServerRecord};
use crate::format::{DecodeError, Item};
use crate::model::arena::{NONE, Texts};
use crate::model::classes::upgrade;
use crate::model::tree::{Edge, HAS_ACCESS_ACL, HAS_DEFAULT_ACL, HAS_XATTR, Node};
use crate::model::{MAX_NAME, MAX_PATH, Model};

/// Runs `body` over a list of records; damage is an issue when salvaging, and ends the list.
fn records(
    loader: &mut Loader<'_>,
    section: &Section,
    feed: &mut Feed<'_>,
    mut body: impl FnMut(&mut Cursor<'_>, &mut Vec<Issue>) -> Result<Flow, LoadError>,
) -> Result<(), LoadError> {
    let mut found = Vec::new();
    let outcome = feed.each(&section_name(&section.name), |c| body(c, &mut found));
    for issue in found {
        loader.issue(issue)?;
    }
    match outcome {
        Err(LoadError::Decode { error, .. }) => {
            if zero_tail(loader, section, feed.offset(), &error)? {
                return Ok(());
            }
            let kind = if matches!(error, DecodeError::Short(_)) { IssueKind::Cut } else { IssueKind::Record };
            let at = feed.offset();
            let text = format!("section {}: {error}; what follows in it is lost", section_name(&section.name));
            loader.found(kind, at, section.end.saturating_sub(at), text)
        }
        other => other,
    }
}

/// A flat file whose last end mark is cut: already known, and nothing is lost.
fn zero_tail(loader: &Loader<'_>, section: &Section, at: u64, error: &DecodeError) -> Result<bool, LoadError> {
    let short = matches!(error, DecodeError::Short(_));
    if !short || &section.name != b"CHNK" || section.stored_length != 0 || section.end.saturating_sub(at) >= 16 {
        return Ok(false);
    }
    Ok(loader.blob.bytes(at..section.end)?.iter().all(|&b| b == 0))
}

fn issue(kind: IssueKind, c: &Cursor<'_>, length: usize, text: String) -> Issue {
    Issue { kind, at: c.offset().saturating_sub(length as u64), length: length as u64, text }
}

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
    model.nodes = crate::model::arena::Arena::with_capacity(count);
    model.node_index = crate::model::arena::Index::with_hint(count, u64::from(head.max_inode));
    model.inodes.max = model.inodes.max.max(head.max_inode);
    records(loader, s, &mut feed, |c, found| {
        let rest = c.rest();
        match NodeRecord::decode(c, s.version)? {
            Item::End => {
                *sum ^= piece(&[0]);
                Ok(Flow::End)
            }
            Item::Record(r) => {
                let size = rest.len().saturating_sub(c.remaining());
                if sums {
                    *sum ^= node_sum(&r, s.version, rest.get(..size).unwrap_or_default());
                }
                if r.inode == 0 || model.slot(r.inode).is_some() {
                    let text = format!("inode {} stands twice; the second record is dropped", r.inode);
                    found.push(issue(IssueKind::Duplicate, c, size, text));
                    return Ok(Flow::Go);
                }
                put_node(model, &r, s.version)?;
                Ok(Flow::Go)
            }
        }
    })
}

fn node_sum(r: &NodeRecord<'_>, version: u8, bytes: &[u8]) -> u32 {
    let (fixed, rest) = bytes.split_at(NodeRecord::fixed_size(r.kind, version).min(bytes.len()));
    let Extra::File { chunks, .. } = r.extra else { return piece(fixed) ^ piece(rest) };
    let mut sum = piece(fixed);
    for part in chunks.chunks(65_536 * 8) {
        sum ^= piece(part);
    }
    sum
}

fn put_node(model: &mut Model, r: &NodeRecord<'_>, version: u8) -> Result<(), LoadError> {
    let hours = model.dialect.retention_in_hours();
    let retention = match (version >= 0x14, hours) {
        (false, true) => r.retention.saturating_add(3599) / 3600,
        (true, false) => r.retention.saturating_mul(3600),
        _ => r.retention,
    };
    let classed = r.kind.is_file() || r.kind == Kind::Directory || !hours;
    let mut node = Node {
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
    };
    match r.extra {
        Extra::None => {}
        Extra::Device(rdev) => node.a = rdev,
        Extra::Path(path) => {
            let path = if path.len() > 4096 { &b"??? (symlink path too long)"[..] } else { path };
            node.a = model.texts.add(path).ok_or(LoadError::Full("texts"))?;
        }
        Extra::File { length, chunks, sessions } => {
            node.length = length;
            let n = u32::try_from(chunks.len() / 8).unwrap_or(u32::MAX);
            let table = model.tables.alloc(n).ok_or(LoadError::Full("chunk tables"))?;
            for (word, raw) in model.tables.get_mut(table).iter_mut().zip(chunks.as_chunks::<8>().0) {
                *word = u64::from_be_bytes(*raw);
            }
            (node.a, node.b) = (table.at, table.len);
            for raw in sessions.as_chunks::<4>().0 {
                let session = u32::from_be_bytes(*raw);
                if model.dialect.is_flat() {
                    model.locks.acquire_on_node(session, r.inode);
                } else {
                    model.locks.acquire(session, r.inode);
                    // newer products count each open file they import as a change
                    model.version = model.version.saturating_add(1);
                }
            }
        }
    }
    model.add_node(node).ok_or(LoadError::Full("nodes"))?;
    Ok(())
}

/// Names as read, not yet tied to nodes.
pub(super) struct RawEdges {
    next_id: u64,
    edges: Vec<Edge>,
    texts: Texts,
    issues: Vec<Issue>,
    failed: Option<(DecodeError, u64)>,
    start: u64,
    end: u64,
    pub(super) sum: u32,
}

/// Reads the names; needs no nodes, so it runs beside [`nodes`].
pub(super) fn edges(blob: &dyn Blob, options: LoadOptions, s: &Section, flat: bool) -> Result<RawEdges, LoadError> {
    let mut feed = Feed::new(blob, s.start, s.end);
    let mut sum = 0;
    let mut next_id = NO_EDGE_IDS;
    if !flat && s.version >= 0x11 {
        next_id = feed.one("EDGE", |c| Ok(c.u64_be("nextedgeid")?))?;
        sum ^= piece(&next_id.to_be_bytes());
    }
    let size = usize::try_from(s.size()).unwrap_or(0);
    let mut raw = RawEdges {
        next_id,
        edges: Vec::with_capacity(size / 40),
        texts: Texts::with_capacity(size / 2),
        issues: Vec::new(),
        failed: None,
        start: s.start,
        end: s.end,
        sum,
    };
    let outcome = feed.each("EDGE", |c| {
        let rest = c.rest();
        match EdgeRecord::decode(c, s.version)? {
            Item::End => {
                raw.sum ^= piece(rest.get(..EdgeRecord::fixed_size(s.version)).unwrap_or_default());
                Ok(Flow::End)
            }
            Item::Record(e) => {
                let used = rest.len().saturating_sub(c.remaining());
                if options.checksums {
                    raw.sum ^= piece(rest.get(..used).unwrap_or_default());
                }
                let most = if e.parent == 0 { MAX_PATH } else { MAX_NAME };
                let empty = format!("(empty {})", e.child);
                let mut name = e.name;
                if name.is_empty() {
                    let text = format!("edge {} -> {}: empty name", e.parent, e.child);
                    raw.issues.push(issue(IssueKind::Reference, c, used, text));
                    name = empty.as_bytes();
                } else if name.len() > most {
                    let text = format!("edge {} -> {}: name of {} bytes is cut", e.parent, e.child, name.len());
                    raw.issues.push(issue(IssueKind::Reference, c, used, text));
                    name = name.get(..most).unwrap_or(name);
                }
                let at = raw.texts.add(name).ok_or(LoadError::Full("names"))?;
                raw.edges.push(Edge::new(e.parent, e.child, at, false, e.id));
                Ok(Flow::Go)
            }
        }
    });
    match outcome {
        Ok(()) => {}
        Err(LoadError::Decode { error, .. }) => raw.failed = Some((error, feed.offset())),
        Err(other) => return Err(other),
    }
    Ok(raw)
}

/// Ties names to nodes.
pub(super) fn link_edges(loader: &mut Loader<'_>, model: &mut Model, raw: RawEdges) -> Result<(), LoadError> {
    let RawEdges { next_id, edges, texts, issues, failed, start, end, .. } = raw;
    for i in issues {
        loader.issue(i)?;
    }
    if let Some((error, at)) = failed {
        let text = format!("section EDGE: {error}; the names behind it are lost");
        loader.found(IssueKind::Cut, at, end.saturating_sub(at), text)?;
    }
    model.next_edge = next_id;
    let symlinks = std::mem::replace(&mut model.texts, texts);
    move_symlinks(model, &symlinks)?;
    drop(symlinks);
    let mut linker = Linker { current: 0, slot: NONE, tail: NONE, root_tail: NONE };
    let reverse_detached = model.dialect != Dialect::V4;
    model.edges = crate::model::arena::Arena::with_capacity(edges.len());
    let mut waiting = Vec::new();
    for (i, &raw) in edges.iter().enumerate() {
        if i % AHEAD == 0 {
            touch(model, edges.get(i..edges.len().min(i.saturating_add(AHEAD))).unwrap_or_default());
        }
        let mut e = raw;
        if let Err((kind, text)) = linker.check(model, &mut e) {
            let name = crate::changelog::escape(model.texts.get(e.text()));
            let text = format!("edge {},{name} -> {}: {text}", raw.parent, raw.child);
            loader.found(kind, start, end.saturating_sub(start), text)?;
            if kind == IssueKind::ChildMissing || e.parent == 0 {
                model.texts.release(e.text());
                continue;
            }
        }
        let len = model.texts.get(e.text()).len();
        let slot = model.edges.add(e).ok_or(LoadError::Full("names"))?;
        model.count_edge(len, true);
        if e.parent == 0 {
            waiting.push(slot);
        } else {
            linker.append(model, slot);
        }
    }
    if !reverse_detached {
        waiting.reverse();
    }
    for slot in waiting {
        model.push_detached(slot);
    }
    Ok(())
}

/// Edges whose nodes are read together.
const AHEAD: usize = 32;

/// Reads the nodes that a group of edges leads to: one wait for memory instead of many.
fn touch(model: &Model, group: &[Edge]) {
    let mut slots = [NONE; AHEAD];
    for (slot, e) in slots.iter_mut().zip(group) {
        *slot = model.slot(e.child).unwrap_or(NONE);
    }
    let kinds = slots.iter().fold(0, |sum, &s| sum ^ model.nodes.get(s).kind);
    std::hint::black_box(kinds);
}

/// Symbolic link texts were read into a block of their own while the names were read.
fn move_symlinks(model: &mut Model, old: &Texts) -> Result<(), LoadError> {
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
    current: u32,
    slot: u32,
    tail: u32,
    root_tail: u32,
}

impl Linker {
    /// Child and parent of an edge exist and fit; a missing parent becomes the root.
    fn check(&mut self, model: &mut Model, e: &mut Edge) -> Result<(), (IssueKind, String)> {
        let Some(child) = model.slot(e.child) else {
            return Err((IssueKind::ChildMissing, "there is no such node; the name is dropped".into()));
        };
        let kind = model.nodes.get(child).kind;
        if e.parent == 0 {
            if !detached(kind) {
                return Err((IssueKind::Reference, "an entry of the trash that is a node in use; dropped".into()));
            }
            return Ok(());
        }
        let to_dir = kind == Kind::Directory as u8;
        *e = Edge::new(e.parent, e.child, e.text(), to_dir, e.id);
        if to_dir && model.nodes.get(child).parents != NONE {
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
        if e.parent == self.current && self.slot != NONE {
            return Ok(());
        }
        let slot = model.slot(e.parent).filter(|&s| model.nodes.get(s).is_dir());
        let mut outcome = Ok(());
        if slot.is_none() {
            outcome = Err((IssueKind::ParentMissing, "there is no such directory; attached to the root".into()));
            *e = Edge::new(1, e.child, e.text(), to_dir, e.id);
        }
        outcome
    }

    fn append(&mut self, model: &mut Model, edge: u32) {
        let parent = model.edges.get(edge).parent;
        if parent != self.current {
            if self.current == 1 {
                self.root_tail = self.tail;
            }
            self.current = parent;
            self.slot = model.slot(parent).unwrap_or(NONE);
            self.tail = if parent == 1 { self.root_tail } else { NONE };
            let head = model.nodes.get(self.slot).a;
            if self.tail == NONE && head != NONE {
                self.tail = last(model, head);
            }
        }
        if self.tail == NONE {
            model.nodes.get_mut(self.slot).a = edge;
        } else {
            model.edges.get_mut(self.tail).next = edge;
            model.edges.get_mut(edge).prev = self.tail;
        }
        self.tail = edge;
        model.adopt_loaded(edge);
    }
}

fn last(model: &Model, head: u32) -> u32 {
    let mut at = head;
    loop {
        let next = model.edges.get(at).next;
        if next == NONE {
            return at;
        }
        at = next;
    }
}

/// Reads one of the other sections.
pub(super) fn small(
    loader: &mut Loader<'_>,
    model: &mut Model,
    s: &Section,
    flat: bool,
    sum: &mut u32,
) -> Result<(), LoadError> {
    let mut feed = Feed::new(loader.blob, s.start, s.end);
    match &s.name {
        b"SESS" => sessions(loader, model, s, &mut feed, sum),
        b"SCLA" | b"LABS" => classes(loader, model, s, sum),
        b"PATT" => patterns(loader, model, s, &mut feed, sum),
        b"FREE" => free(loader, model, s, &mut feed, flat, sum),
        b"QUOT" => quotas(loader, model, s, &mut feed, sum),
        b"XATR" => xattrs(loader, model, s, &mut feed, sum),
        b"PACL" => acls(loader, model, s, &mut feed, sum),
        b"OPEN" => opens(loader, model, s, &mut feed, sum),
        b"FLCK" => flocks(loader, model, s, &mut feed, sum),
        b"PLCK" => plocks(loader, model, s, &mut feed, sum),
        b"CSDB" => servers(loader, model, s, &mut feed, sum),
        b"CHNK" => chunks(loader, model, s, &mut feed, sum),
        _ => Ok(()),
    }
}

/// The bytes a step used.
macro_rules! used {
    ($c:expr, $rest:expr) => {
        $rest.get(..$rest.len().saturating_sub($c.remaining())).unwrap_or_default()
    };
}

fn sessions(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    let head = feed.one("SESS", |c| SessionHead::decode(c, s.version))?;
    let mut bytes = Vec::new();
    head.encode(s.version, &mut bytes);
    *sum ^= piece(&bytes);
    m.next_session = head.next;
    m.session_counters = if m.dialect == Dialect::V4 { 0 } else { 16 };
    let keep = usize::from(m.session_counters).saturating_mul(4);
    let have = usize::from(head.counters).saturating_mul(4);
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = SessionRecord::decode(c, &head)?;
        let bytes = used!(c, rest);
        match item {
            Item::End => {
                *sum ^= piece(bytes);
                Ok(Flow::End)
            }
            Item::Record(mut r) => {
                let (fixed, info) = bytes.split_at(head.record_size().min(bytes.len()));
                *sum ^= piece(fixed);
                if !info.is_empty() {
                    *sum ^= piece(info);
                }
                let (current, last) = r.counters.split_at(have.min(r.counters.len()));
                let mut counters = Vec::with_capacity(keep.saturating_mul(2));
                for half in [current, last] {
                    let end = counters.len().saturating_add(keep);
                    counters.extend_from_slice(half.get(..half.len().min(keep)).unwrap_or_default());
                    counters.resize(end, 0);
                }
                r.counters = counters;
                let seq = m.next_seq();
                if let Some((_, old)) = m.sessions.insert(r.id, (seq, r)) {
                    let text = format!("session {} stands twice; the first record is dropped", old.id);
                    found.push(issue(IssueKind::Duplicate, c, bytes.len(), text));
                }
                Ok(Flow::Go)
            }
        }
    })
}

fn classes(l: &mut Loader<'_>, m: &mut Model, s: &Section, sum: &mut u32) -> Result<(), LoadError> {
    let bytes = l.blob.bytes(s.start..s.end)?;
    let mut c = Cursor::new(&bytes, s.start);
    let table = match ClassTable::decode(&mut c, s.version) {
        Ok(t) => t,
        Err(error) => {
            let (at, text) = (error.at(), format!("section SCLA: {error}; the storage classes are lost"));
            return l.found(IssueKind::Record, at, s.end.saturating_sub(at), text);
        }
    };
    if l.options.checksums {
        let mut out = Vec::new();
        let mut from = 0usize;
        let mut pieces = Vec::new();
        table.encode(s.version, &mut out, |end| pieces.push(end));
        for end in pieces {
            *sum ^= piece(out.get(from..end).unwrap_or_default());
            from = end;
        }
    }
    m.classes.ec_version = table.ec_version;
    for mut class in table.classes {
        if class.id == 0 || usize::from(class.id) >= crate::model::classes::MAX_CLASS {
            let text = format!("storage class {}: no such id can be; dropped", class.id);
            l.found(IssueKind::Record, s.start, s.size(), text)?;
            continue;
        }
        let masks = matches!(class.rules, Rules::Masks { .. });
        if m.dialect == Dialect::V4 && masks {
            class = upgrade(&class);
        } else {
            older_class(&mut class, s.version);
        }
        m.classes.put(class);
    }
    Ok(())
}

/// What the 3.x and 4.x programs make of the fields that older section versions do not have.
fn older_class(class: &mut crate::format::sclass::Class, version: u8) {
    match &mut class.rules {
        Rules::Masks { create, keep, archive, chunks } => {
            chunks.clear();
            if version <= 0x13 {
                create.clone_from(keep);
            }
            if version <= 0x14 {
                archive.clone_from(keep);
            }
            if class.name.is_empty() {
                class.name = if class.id < 10 {
                    class.id.to_string().into_bytes()
                } else {
                    format!("sclass_{}", class.id.saturating_sub(9)).into_bytes()
                };
            }
        }
        Rules::Expressions { modes, .. } => {
            let mode = class.mode;
            let [_, _, archive, trash] = modes.as_mut();
            for m in [archive, trash] {
                if version < 0x19 && m.ec > 1 {
                    m.ec = m.ec.saturating_sub(1);
                }
                if m.ec > 0 && m.ec >> 4 == 0 {
                    m.ec |= 0x80;
                }
                if m.ec != 0 && m.labels.is_empty() {
                    m.labels.push(Vec::new());
                }
                if version < 0x1B && mode != 0 && m.ec != 0 && m.has_labels() {
                    m.labels_mode = 0;
                }
            }
            if version < 0x1C {
                for b in &mut class.name {
                    *b = (*b).max(b' ');
                }
                let end = class.name.len().saturating_sub(1);
                for at in [0, end] {
                    if let Some(b) = class.name.get_mut(at).filter(|b| **b == b' ') {
                        *b = b'_';
                    }
                }
            }
        }
    }
}

fn patterns(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = PatternRecord::decode(c, s.version)?;
        let bytes = used!(c, rest);
        *sum ^= piece(bytes);
        match item {
            Item::End => Ok(Flow::End),
            Item::Record(p) => {
                if m.classes.add_pattern(p).is_err() {
                    found.push(issue(
                        IssueKind::Duplicate,
                        c,
                        bytes.len(),
                        "a pattern that stands twice or is void".into(),
                    ));
                }
                Ok(Flow::Go)
            }
        }
    })
}

/// A list with its length in front.
fn counted(
    l: &mut Loader<'_>,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
    mut body: impl FnMut(&mut Cursor<'_>, &mut Vec<Issue>, &mut u32) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let n = feed.one(&section_name(&s.name), |c| Ok(c.u32_be("count")?))?;
    *sum ^= piece(&n.to_be_bytes());
    let mut left = n;
    if n == 0 {
        return Ok(());
    }
    records(l, s, feed, |c, found| {
        body(c, found, sum)?;
        left = left.saturating_sub(1);
        Ok(if left == 0 { Flow::End } else { Flow::Go })
    })
}

fn free(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    flat: bool,
    sum: &mut u32,
) -> Result<(), LoadError> {
    // 3.x writes blocks of at most 1024 entries, 4.x each entry by itself
    let block = if flat || m.dialect == Dialect::V4 { 1 } else { 1024usize };
    let mut pending = Vec::new();
    let count = m.node_index.len();
    let sums = l.options.checksums;
    counted(l, s, feed, sum, |c, found, sum| {
        let r = FreeRecord::decode(c)?;
        if sums {
            r.encode(&mut pending);
            if pending.len() >= block.saturating_mul(FreeRecord::SIZE) {
                *sum ^= piece(&pending);
                pending.clear();
            }
        }
        if r.time < m.inodes.last_free {
            found.push(issue(IssueKind::Reference, c, 8, format!("free inode {}: times must ascend", r.inode)));
        }
        // A salvaged list ascends again: what we store must load without salvage.
        let time = r.time.max(m.inodes.last_free);
        m.inodes.free.push_back((r.inode, time));
        m.inodes.last_free = time;
        let total = count.saturating_add(m.inodes.free.len());
        m.inodes.mark(r.inode, total);
        Ok(())
    })?;
    if !pending.is_empty() {
        *sum ^= piece(&pending);
    }
    Ok(())
}

/// What 3.x gives a quota of a file that has no grace period for it.
const DEFAULT_GRACE: u32 = 7 * 86_400;

fn quotas(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    counted(l, s, feed, sum, |c, found, sum| {
        let rest = c.rest();
        let mut q = QuotaRecord::decode(c, s.version)?;
        if s.version == 0x10 && m.dialect == Dialect::V3 {
            q.grace = DEFAULT_GRACE;
        }
        let bytes = used!(c, rest);
        *sum ^= piece(bytes);
        if q.inode == 0 {
            return Ok(());
        }
        if m.directory(q.inode).is_err() {
            let text = format!("quota of inode {}, which is no directory; dropped", q.inode);
            found.push(issue(IssueKind::Reference, c, bytes.len(), text));
            return Ok(());
        }
        let seq = m.next_seq();
        m.quotas.insert(q.inode, (seq, q));
        Ok(())
    })
}

fn flag(m: &mut Model, inode: u32, flag: u8) -> bool {
    match m.node_mut(inode) {
        Ok(n) => {
            n.flags |= flag;
            true
        }
        Err(_) => false,
    }
}

fn xattrs(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    let sums = l.options.checksums;
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = XattrRecord::decode(c)?;
        let Item::Record(r) = item else {
            *sum ^= piece(used!(c, rest));
            return Ok(Flow::End);
        };
        if sums {
            *sum ^= piece(rest.get(..XattrRecord::FIXED).unwrap_or_default()) ^ piece(r.name);
            if !r.value.is_empty() {
                *sum ^= piece(r.value);
            }
        }
        if r.name.is_empty() || r.value.len() > 65_536 {
            let text = format!("attribute of inode {} with an empty name or too long a value; dropped", r.inode);
            found.push(issue(IssueKind::Record, c, used!(c, rest).len(), text));
            return Ok(Flow::Go);
        }
        if flag(m, r.inode, HAS_XATTR) {
            let seq = m.next_seq();
            let entry = m.xattrs.entry(r.inode).or_insert_with(|| crate::model::Xattrs { seq, list: Vec::new() });
            entry.list.push((r.name.into(), r.value.into()));
        }
        Ok(Flow::Go)
    })
}

fn acls(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = AclRecord::decode(c)?;
        let bytes = used!(c, rest);
        let (fixed, entries) = bytes.split_at(AclRecord::FIXED.min(bytes.len()));
        *sum ^= piece(fixed);
        for part in entries.chunks(600) {
            *sum ^= piece(part);
        }
        let Item::Record(mut r) = item else { return Ok(Flow::End) };
        let bit = match r.kind {
            1 => HAS_ACCESS_ACL,
            2 => HAS_DEFAULT_ACL,
            _ => {
                found.push(issue(IssueKind::Record, c, bytes.len(), format!("acl of type {}; dropped", r.kind)));
                return Ok(Flow::Go);
            }
        };
        if m.acls.contains_key(&(r.inode, r.kind)) {
            found.push(issue(IssueKind::Duplicate, c, bytes.len(), format!("acl of inode {} stands twice", r.inode)));
            return Ok(Flow::Go);
        }
        if !flag(m, r.inode, bit) {
            return Ok(Flow::Go);
        }
        if s.version == 0x10 && r.mask == 0 && m.dialect.retention_in_hours() {
            let mode = m.node(r.inode).map_or(0, |n| n.mode);
            r.user = (r.user & 0xFFF8) | ((mode >> 6) & 7);
            r.other = (r.other & 0xFFF8) | (mode & 7);
            r.mask = 7;
        }
        m.put_acl(r);
        Ok(Flow::Go)
    })
}

fn opens(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    records(l, s, feed, |c, _| {
        let rest = c.rest();
        let item = OpenRecord::decode(c)?;
        *sum ^= piece(used!(c, rest));
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.sessions.contains_key(&r.session) {
            m.locks.acquire(r.session, r.inode);
        }
        Ok(Flow::Go)
    })
}

fn flocks(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = FlockRecord::decode(c)?;
        *sum ^= piece(used!(c, rest));
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.locks.holds(r.session, r.inode) {
            m.locks.flock_add(r);
        } else {
            let text =
                format!("lock of session {} on inode {}, which it does not hold open; dropped", r.session, r.inode);
            found.push(issue(IssueKind::Reference, c, FlockRecord::SIZE, text));
        }
        Ok(Flow::Go)
    })
}

fn plocks(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = PlockRecord::decode(c)?;
        *sum ^= piece(used!(c, rest));
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.locks.holds(r.session, r.inode) {
            m.locks.plock_load(&r);
        } else {
            let text =
                format!("lock of session {} on inode {}, which it does not hold open; dropped", r.session, r.inode);
            found.push(issue(IssueKind::Reference, c, PlockRecord::SIZE, text));
        }
        Ok(Flow::Go)
    })
}

fn servers(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    counted(l, s, feed, sum, |c, found, sum| {
        let rest = c.rest();
        let r = ServerRecord::decode(c, s.version)?;
        *sum ^= piece(used!(c, rest));
        if m.servers.iter().any(|(_, o)| (o.ip, o.port) == (r.ip, r.port) || (r.id > 0 && o.id == r.id)) {
            found.push(issue(
                IssueKind::Duplicate,
                c,
                ServerRecord::size(s.version),
                "a chunk server stands twice".into(),
            ));
        }
        let seq = m.next_seq();
        m.servers.push((seq, r));
        Ok(())
    })
}

fn chunks(l: &mut Loader<'_>, m: &mut Model, s: &Section, feed: &mut Feed<'_>, sum: &mut u32) -> Result<(), LoadError> {
    m.chunks.next = feed.one("CHNK", |c| Ok(c.u64_be("nextchunkid")?))?;
    *sum ^= piece(&m.chunks.next.to_be_bytes());
    let sums = l.options.checksums;
    let by_class = m.chunks.by_class;
    let mut pairs = Vec::new();
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = ChunkRecord::decode(c, s.version)?;
        let bytes = used!(c, rest);
        if sums {
            let (fixed, dynamic) = bytes.split_at(ChunkRecord::fixed_size(s.version).min(bytes.len()));
            *sum ^= piece(fixed);
            if !dynamic.is_empty() {
                *sum ^= piece(dynamic);
            }
        }
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.chunks.get(r.id).is_some() {
            found.push(issue(IssueKind::Duplicate, c, bytes.len(), format!("chunk {:016X} stands twice", r.id)));
            return Ok(Flow::Go);
        }
        let flat = m.dialect.is_flat();
        let Some(chunk) = m.chunks.add(r.id) else { return Err(LoadError::Full("chunks")) };
        chunk.version = if flat { r.version } else { r.version & 0xBFFF_FFFF };
        chunk.locked = r.locked;
        chunk.flags = r.flags;
        if by_class && s.version >= 0x12 {
            pairs.clear();
            pairs.extend(
                r.pairs.as_chunks::<4>().0.iter().map(|&[class, a, b, n]| (class, u32::from_be_bytes([0, a, b, n]))),
            );
            m.chunks.set_pairs(r.id, &pairs, r.class);
        }
        Ok(Flow::Go)
    })
}

/// Finds the end of a section by reading its records. The inner error is the place and reason where that fails.
pub(super) fn measure(blob: &dyn Blob, s: &Section, fver: u8) -> Result<Result<u64, (u64, String)>, LoadError> {
    let mut feed = Feed::new(blob, s.start, s.end);
    let outcome = walk(blob, &mut feed, s, fver);
    match outcome {
        Ok(Some(end)) => Ok(Ok(end)),
        Ok(None) => Ok(Ok(feed.offset())),
        Err(LoadError::Decode { error, .. }) => {
            let at = if matches!(error, DecodeError::Short(_)) { feed.offset() } else { error.at() };
            Ok(Err((at, error.to_string())))
        }
        Err(other) => Err(other),
    }
}

fn walk(blob: &dyn Blob, feed: &mut Feed<'_>, s: &Section, fver: u8) -> Result<Option<u64>, LoadError> {
    fn end<T>(item: &Item<T>) -> Flow {
        if matches!(item, Item::End) { Flow::End } else { Flow::Go }
    }
    let (v, flat) = (s.version, fver < 0x16);
    let list = |feed: &mut Feed<'_>, size: usize| {
        let n = feed.one("count", |c| Ok(c.u32_be("count")?))?;
        let mut left = n;
        if n == 0 {
            return Ok(());
        }
        feed.each("list", |c| {
            c.skip(size, "entry").map_err(DecodeError::from)?;
            left = left.saturating_sub(1);
            Ok(if left == 0 { Flow::End } else { Flow::Go })
        })
    };
    match &s.name {
        b"NODE" => {
            if !flat {
                feed.one("NODE", |c| NodeHead::decode(c, v, fver))?;
            }
            feed.each("NODE", |c| Ok(end(&NodeRecord::decode(c, v)?)))?;
        }
        b"EDGE" => {
            if !flat && v >= 0x11 {
                feed.one("EDGE", |c| Ok(c.u64_be("nextedgeid")?))?;
            }
            feed.each("EDGE", |c| Ok(end(&EdgeRecord::decode(c, v)?)))?;
        }
        b"FREE" => list(feed, FreeRecord::SIZE)?,
        b"QUOT" => list(feed, QuotaRecord::size(v))?,
        b"CSDB" => list(feed, ServerRecord::size(v))?,
        b"CHNK" => {
            feed.one("CHNK", |c| Ok(c.u64_be("nextchunkid")?))?;
            feed.each("CHNK", |c| Ok(end(&ChunkRecord::decode(c, v)?)))?;
        }
        b"XATR" => feed.each("XATR", |c| Ok(end(&XattrRecord::decode(c)?)))?,
        b"PACL" => feed.each("PACL", |c| Ok(end(&AclRecord::decode(c)?)))?,
        b"OPEN" => feed.each("OPEN", |c| Ok(end(&OpenRecord::decode(c)?)))?,
        b"FLCK" => feed.each("FLCK", |c| Ok(end(&FlockRecord::decode(c)?)))?,
        b"PLCK" => feed.each("PLCK", |c| Ok(end(&PlockRecord::decode(c)?)))?,
        b"PATT" => feed.each("PATT", |c| Ok(end(&PatternRecord::decode(c, v)?)))?,
        b"SESS" => {
            let head = feed.one("SESS", |c| SessionHead::decode(c, v))?;
            feed.each("SESS", |c| Ok(end(&SessionRecord::decode(c, &head)?)))?;
        }
        b"SCLA" | b"LABS" => {
            // at most 255 classes of at most 36 expressions of 64 KiB: bounded by what is there
            let last = s.end.min(blob.len()).min(s.start.saturating_add(16 << 20));
            let bytes = blob.bytes(s.start..last)?;
            let mut c = Cursor::new(&bytes, s.start);
            ClassTable::decode(&mut c, v)?;
            return Ok(Some(c.offset()));
        }
        _ => {}
    }
    Ok(None)
}

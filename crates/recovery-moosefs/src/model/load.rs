//! From a metadata file to a [`Model`].
//!
//! The file is read once, in pieces; the two large sections, nodes and names, are read at the same time. What a
//! strict reader refuses and a salvaging one passes is collected as [`Issue`]s with their places.

mod attrs;
mod chunks;
mod edges;
pub(crate) mod feed;
mod measure;
mod nodes;
mod outline;
mod parts;
mod resync;
mod tables;

use recovery_core::{Blob, ReadError};

use crate::dialect::Dialect;
use crate::format::crc;
use crate::format::outer::{Header, Signature, TRAILER};
use crate::format::{DecodeError, node::Kind};

use super::Model;
use super::arena::NONE;

pub use outline::{Outline, Section, outline};

/// Something wrong in a metadata file, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What kind.
    pub kind: IssueKind,
    /// Offset in the file.
    pub at: u64,
    /// Bytes concerned.
    pub length: u64,
    /// What was found, what was expected, what was done.
    pub text: String,
}

/// Kinds of [`Issue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssueKind {
    /// A signature no product writes.
    Signature,
    /// A section whose length field is wrong although its records are whole.
    SectionLength,
    /// A section this library does not know.
    UnknownSection,
    /// A section of a version newer than this library.
    NewerSection,
    /// A section that every file of its kind has is not there.
    MissingSection,
    /// The end marker is missing or cut, everything before it is whole.
    Trailer,
    /// Bytes behind the end marker.
    Garbage,
    /// A record that cannot be read; the rest of its section is lost.
    Record,
    /// The file ends inside a section.
    Cut,
    /// A name of a node that does not exist.
    ChildMissing,
    /// A name in a directory that does not exist.
    ParentMissing,
    /// A node without a name.
    Orphan,
    /// A record that was wrong and could be put right from what stands beside it.
    Repaired,
    /// A record that repeats another.
    Duplicate,
    /// A record that refers to something that does not exist, or is out of order.
    Reference,
    /// Sections of this version could not be checked against files of a real program.
    NotProven,
}

impl IssueKind {
    /// Whether the state is complete in spite of it.
    #[must_use]
    pub const fn keeps_everything(self) -> bool {
        matches!(
            self,
            Self::Signature
                | Self::SectionLength
                | Self::UnknownSection
                | Self::Repaired
                | Self::Trailer
                | Self::Garbage
                | Self::NotProven
        )
    }
}

/// Why a file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The medium did not give the bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bytes are wrong.
    #[error("section {section}: {error}")]
    Decode {
        /// In which section.
        section: String,
        /// What is wrong.
        error: DecodeError,
    },
    /// A strict reader stops here.
    #[error("{}", .0.text)]
    Issue(Issue),
    /// It is no metadata file of MooseFS.
    #[error("{0}")]
    NotMetadata(String),
    /// There is no room for it.
    #[error("the tables are full: {0}")]
    Full(&'static str),
}

impl LoadError {
    /// Where in the file.
    #[must_use]
    pub fn at(&self) -> Option<u64> {
        match self {
            Self::Read(e) => Some(e.offset),
            Self::Decode { error, .. } => Some(error.at()),
            Self::Issue(i) => Some(i.at),
            Self::NotMetadata(_) | Self::Full(_) => None,
        }
    }
}

/// How to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Pass what a strict reader refuses, and collect it.
    pub salvage: bool,
    /// Rules to load by; without, those of the product that wrote the file.
    pub dialect: Option<Dialect>,
    /// Compute the section checksums of `metadata.crc`.
    pub checksums: bool,
}

/// A loaded file.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub model: Model,
    /// What was wrong.
    pub issues: Vec<Issue>,
    /// Checksums by section, if asked for.
    pub checksums: Vec<([u8; 4], u32)>,
    /// The outer structure.
    pub outline: Outline,
    /// Nodes without a name, which were given one: `lost_node_<inode>` in the root.
    pub orphans: Vec<u32>,
}

/// Loads a metadata file.
///
/// ```
/// use recovery_core::MemBlob;
/// use recovery_moosefs::{Dialect, model::load::{LoadOptions, load}};
/// let blob = MemBlob::new("metadata.mfs", b"MFSM NEW".to_vec());
/// let options = LoadOptions { dialect: Some(Dialect::V4), ..LoadOptions::default() };
/// let loaded = load(&blob, &options).unwrap();
/// assert_eq!((loaded.model.version(), loaded.model.totals().inodes), (1, 1));
/// ```
///
/// # Errors
///
/// When the medium fails, when the file is no metadata file, and, unless salvaging, at the first thing wrong.
pub fn load(blob: &dyn Blob, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let outline = outline(blob)?;
    let dialect = options.dialect.or(outline.dialect).ok_or_else(|| {
        LoadError::NotMetadata("the file does not tell which product wrote it; name the dialect".into())
    })?;
    if outline.signature == Signature::New {
        let model = Model::new_filesystem(dialect);
        return Ok(Loaded { model, issues: Vec::new(), checksums: Vec::new(), outline, orphans: Vec::new() });
    }
    let mut loader = Loader::new(blob, *options);
    for issue in &outline.issues {
        loader.issue(issue.clone())?;
    }
    let mut model = loader.sections(&outline, dialect)?;
    let orphans = finish(&mut model, &mut loader, &outline)?;
    Ok(Loaded { model, issues: loader.issues, checksums: loader.checksums, outline, orphans })
}

struct Loader<'b> {
    blob: &'b dyn Blob,
    options: LoadOptions,
    issues: Vec<Issue>,
    checksums: Vec<([u8; 4], u32)>,
    /// Directory and name of entries whose node is missing.
    dropped: Vec<(u32, Vec<u8>)>,
    /// Inodes of directories.
    directories: Vec<u32>,
    /// Whether every node but the root got a name.
    all_named: bool,
}

impl<'b> Loader<'b> {
    fn new(blob: &'b dyn Blob, options: LoadOptions) -> Self {
        Self {
            blob,
            options,
            issues: Vec::new(),
            checksums: Vec::new(),
            dropped: Vec::new(),
            directories: Vec::new(),
            all_named: false,
        }
    }
}

impl Loader<'_> {
    /// Collects an issue, or stops at it.
    fn issue(&mut self, issue: Issue) -> Result<(), LoadError> {
        let fatal = !matches!(issue.kind, IssueKind::Signature | IssueKind::NotProven);
        if fatal && !self.options.salvage {
            return Err(LoadError::Issue(issue));
        }
        self.issues.push(issue);
        Ok(())
    }

    fn found(&mut self, kind: IssueKind, at: u64, length: u64, text: String) -> Result<(), LoadError> {
        self.issue(Issue { kind, at, length, text })
    }

    fn sections(&mut self, outline: &Outline, dialect: Dialect) -> Result<Model, LoadError> {
        let flat = outline.signature.is_flat();
        let mut model = Model::empty(dialect, 0, 0, 0);
        model.version = outline.header.version;
        model.metaid = outline.header.metaid;
        if outline.fver < 0x20 {
            model.next_session = outline.header.next_session;
            model.inodes.max = outline.header.max_inode;
        }
        let mut beside = None;
        for section in &outline.sections {
            let mut sum = 0;
            match &section.name {
                b"NODE" => {
                    let (blob, options) = (self.blob, self.options);
                    let (a, b) = rayon::join(
                        || nodes::nodes(self, &mut model, section, outline.fver, &mut sum),
                        || Beside::read(blob, options, outline, dialect),
                    );
                    a?;
                    beside = Some(b);
                }
                b"EDGE" => {
                    let ready = beside.as_mut().and_then(|b| b.edges.take());
                    let raw = match ready {
                        Some(raw) => raw?,
                        None => edges::edges(self.blob, self.options, section, flat)?,
                    };
                    sum = raw.sum;
                    edges::link_edges(self, &mut model, raw, section)?;
                }
                b"CHNK" => {
                    let ready = beside.as_mut().and_then(|b| b.chunks.take());
                    let (found, issues) = match ready {
                        Some(ready) => ready,
                        None => Beside::chunks(self.blob, self.options, section, dialect),
                    };
                    for issue in issues {
                        self.issue(issue)?;
                    }
                    (model.chunks, sum) = found?;
                }
                _ => parts::small(self, &mut model, section, flat, &mut sum)?,
            }
            if self.options.checksums {
                let length = section.stored_length;
                self.checksums.push((section.name, sum ^ crc::frame(section.name, section.version, length)));
            }
        }
        Ok(model)
    }
}

/// Chunks as read, and what was wrong with them.
type RawChunks = (Result<(super::chunks::Chunks, u32), LoadError>, Vec<Issue>);

/// What is read while the nodes are read.
struct Beside {
    edges: Option<Result<edges::RawEdges, LoadError>>,
    chunks: Option<RawChunks>,
}

impl Beside {
    fn read(blob: &dyn Blob, options: LoadOptions, outline: &Outline, dialect: Dialect) -> Self {
        let flat = outline.signature.is_flat();
        let names = outline.section(b"EDGE").map(|s| edges::edges(blob, options, s, flat));
        let chunks = outline.section(b"CHNK").map(|s| Self::chunks(blob, options, s, dialect));
        Self { edges: names, chunks }
    }

    fn chunks(blob: &dyn Blob, options: LoadOptions, s: &Section, dialect: Dialect) -> RawChunks {
        let mut loader = Loader::new(blob, options);
        let found = chunks::chunks(&mut loader, s, dialect == Dialect::V4, dialect.is_flat());
        (found, loader.issues)
    }
}

/// What a loader does when all sections are read: orphans, references from files to chunks, checksums of the rest.
fn finish(model: &mut Model, loader: &mut Loader<'_>, outline: &Outline) -> Result<Vec<u32>, LoadError> {
    if loader.options.checksums {
        let mut head = Vec::new();
        outline.header.encode(outline.fver, &mut head);
        let sum = crc::piece(&outline.signature.encode()) ^ crc::piece(&head);
        loader.checksums.insert(0, (*b"HEAD", sum));
        if outline.trailer {
            loader.checksums.push((*b"TAIL", crc::piece(TRAILER)));
        }
    }
    if model.node(1).is_err() {
        let text = "the root directory (inode 1) is not there".to_owned();
        return Err(LoadError::Issue(Issue { kind: IssueKind::Reference, at: 24, length: 0, text }));
    }
    let orphans = orphans(model, loader)?;
    if loader.options.salvage {
        rebuild_chunks(model, loader, outline);
    }
    let has_refs = outline.section(b"CHNK").is_some_and(|s| s.version >= 0x12);
    if !has_refs || !model.chunks.by_class {
        chunks::count_references(model);
    }
    model.upgrade_classes(outline);
    Ok(orphans)
}

/// Directories that lie in each other and not below the root, one of each ring.
fn rings(model: &Model, directories: &[u32]) -> Vec<u32> {
    let nodes = model.nodes.slots();
    // 0 not seen, 1 seen on this way, 2 known to lead to an end
    let mut seen = vec![0u8; nodes.len()];
    let mut out = Vec::new();
    for &inode in directories {
        let mut way = Vec::new();
        let mut at = model.slot(inode);
        while let Some(slot) = at {
            match seen.get_mut(slot as usize) {
                Some(mark) if *mark == 0 => *mark = 1,
                Some(mark) if *mark == 1 => {
                    out.push(model.nodes.get(slot).inode);
                    break;
                }
                _ => break,
            }
            way.push(slot);
            let edge = model.nodes.get(slot).parents;
            at = if edge == NONE { None } else { model.slot(model.edges.get(edge).parent) };
        }
        for slot in way {
            if let Some(mark) = seen.get_mut(slot as usize) {
                *mark = 2;
            }
        }
    }
    out
}

/// Takes the name of one directory of each ring away: it has none that leads to it from the root.
fn open_rings(model: &mut Model, loader: &mut Loader<'_>) -> Result<(), LoadError> {
    let rings = rings(model, &loader.directories);
    let Some(first) = rings.first() else { return Ok(()) };
    let text = format!(
        "{} directories lie below themselves (the first is inode {first}); their names are dropped",
        rings.len()
    );
    loader.found(IssueKind::Reference, 0, rings.len() as u64, text)?;
    loader.all_named = false;
    model.index_names();
    for inode in rings {
        let Some(edge) = model.node(inode).ok().map(|n| n.parents).filter(|&e| e != NONE) else { continue };
        let parent = model.edges.get(edge).parent;
        let Ok(was) = model.node(parent).copied() else { continue };
        model.remove_edge(0, edge).map_err(|_| LoadError::Full("names"))?;
        if let Ok(p) = model.node_mut(parent) {
            (p.mtime, p.ctime, p.eattr) = (was.mtime, was.ctime, was.eattr);
        }
    }
    Ok(())
}

fn orphans(model: &mut Model, loader: &mut Loader<'_>) -> Result<Vec<u32>, LoadError> {
    open_rings(model, loader)?;
    if loader.all_named {
        return Ok(Vec::new());
    }
    let lost: Vec<u32> = model
        .nodes
        .slots()
        .iter()
        .filter(|n| n.kind != 0 && n.inode != 1 && n.parents == NONE)
        .map(|n| n.inode)
        .collect();
    if lost.is_empty() {
        return Ok(lost);
    }
    if let ([inode], [(parent, name)]) = (lost.as_slice(), loader.dropped.as_slice())
        && model.directory(*parent).is_ok()
        && model.node(*inode).is_ok_and(|n| !detached(n.kind))
    {
        let (inode, parent, name) = (*inode, *parent, name.clone());
        let text = format!(
            "the name {} leads to no node, and inode {inode} is the only node without a name: they belong together",
            crate::changelog::escape(&name)
        );
        loader.found(IssueKind::Repaired, 0, 0, text)?;
        model.index_names();
        model.link(0, parent, inode, &name).map_err(|_| LoadError::Full("names"))?;
        return Ok(Vec::new());
    }
    let text = format!(
        "{} nodes have no name (the first is inode {}); they are attached to the root as lost_node_<inode>",
        lost.len(),
        lost.first().copied().unwrap_or(0)
    );
    loader.found(IssueKind::Orphan, 0, lost.len() as u64, text)?;
    model.index_names();
    for &inode in &lost {
        if let Some(kind) = model.node(inode).ok().and_then(|n| Kind::from_byte(n.kind)).filter(|k| detached(*k as u8))
        {
            let path = format!("lost_node_{inode}");
            model.add_detached(inode, kind, path.as_bytes()).map_err(|_| LoadError::Full("names"))?;
            continue;
        }
        let mut name = format!("lost_node_{inode}");
        let mut n = 0u32;
        while model.lookup(1, name.as_bytes()).is_some() {
            n = n.saturating_add(1);
            name = format!("lost_node_{inode}.{n}");
        }
        model.link(0, 1, inode, name.as_bytes()).map_err(|_| LoadError::Full("names"))?;
    }
    Ok(lost)
}

/// Puts chunks that files refer to into a damaged chunk table. Their versions are not known.
fn rebuild_chunks(model: &mut Model, loader: &mut Loader<'_>, outline: &Outline) {
    let section = outline.section(b"CHNK");
    let (from, to) = section.map_or((0, u64::MAX), |s| (s.start.saturating_sub(16), s.end));
    let lost = |i: &Issue| !i.kind.keeps_everything() && i.kind != IssueKind::Duplicate && from <= i.at && i.at <= to;
    if section.is_some() && !loader.issues.iter().any(lost) {
        return;
    }
    let listed = model.chunks.by_class && section.is_some_and(|s| s.version >= 0x12);
    let mut added = hashbrown::HashSet::new();
    for slot in model.node_order() {
        let n = *model.nodes.get(slot);
        if !n.is_file() {
            continue;
        }
        for i in 0..n.b {
            let id = model.tables.get(n.table()).get(i as usize).copied().unwrap_or(0);
            if id == 0 {
                continue;
            }
            if model.chunks.get(id).is_none() {
                let Some(c) = model.chunks.add(id) else { return };
                c.version = 1;
                added.insert(id);
                model.chunks.next = model.chunks.next.max(id.saturating_add(1));
            }
            if listed && added.contains(&id) {
                model.chunk_add_file(id, n.class);
            }
        }
    }
    if !added.is_empty() {
        let text = format!(
            "{} chunks that files refer to are put back into the chunk table; their versions are not known and taken for 1 (mfsfilerepair corrects them)",
            added.len()
        );
        loader.issues.push(Issue { kind: IssueKind::Repaired, at: from.min(loader.blob.len()), length: 0, text });
    }
}

/// Header and signature of a file.
///
/// # Errors
///
/// When the medium fails or the bytes are no metadata file.
pub fn head(blob: &dyn Blob) -> Result<(Signature, Header), LoadError> {
    let n = blob.len().min(24);
    let bytes = blob.bytes(0..n)?;
    let mut c = recovery_core::Cursor::new(&bytes, 0);
    let bad = |error: DecodeError| LoadError::NotMetadata(format!("no metadata file of MooseFS: {error}"));
    let signature = Signature::decode(&mut c).map_err(bad)?;
    match signature {
        Signature::New => Ok((signature, Header { version: 1, ..Header::default() })),
        Signature::Version(v) => Ok((signature, Header::decode(&mut c, v).map_err(bad)?)),
    }
}

/// Whether a node of this kind may stand in the trash or among the sustained files.
pub(crate) const fn detached(kind: u8) -> bool {
    kind == Kind::Trash as u8 || kind == Kind::Sustained as u8
}

//! The state of a filesystem that replay builds: nodes, names, chunks and the small tables.

mod archive;
pub(crate) mod arena;
pub(crate) mod chunks;
pub mod classes;
pub mod glob;
pub mod load;
pub(crate) mod locks;
pub(crate) mod names;
pub(crate) mod node;
mod order;
mod pages;
pub mod store;
mod trash;
pub(crate) mod tree;

use hashbrown::HashMap;

use crate::dialect::Dialect;
use crate::format::attr::AclRecord;
use crate::format::edge::NO_EDGE_IDS;
use crate::format::node::Kind;
use crate::format::session::SessionRecord;
use crate::format::small::{QuotaRecord, ServerRecord};
use arena::{Arena, Index, NONE, Tables, Texts};
use chunks::Chunks;
use classes::Classes;
use locks::Locks;
use names::NameTable;

pub(crate) use tree::{Edge, Node};

/// Most data of one chunk.
pub(crate) const CHUNK: u64 = 1 << 26;
/// Highest index of a chunk in a file.
pub(crate) const MAX_INDEX: u32 = 0x7FFF_FFFF;
/// Longest path kept for trash and sustained files.
pub(crate) const MAX_PATH: usize = 1024;
/// Longest name.
pub(crate) const MAX_NAME: usize = 255;

/// How many of what a state holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Nodes of every kind.
    pub inodes: u64,
    /// Directories.
    pub directories: u64,
    /// Files, in the trash and sustained too.
    pub files: u64,
    /// Names, trash and sustained entries.
    pub edges: u64,
    /// Chunks.
    pub chunks: u64,
}

/// What keeps a change from being applied: the status numbers of upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

macro_rules! statuses {
    ($($name:ident $number:literal $text:literal),* $(,)?) => {
        impl Status {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// What upstream calls it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "Unknown MFS error",
                }
            }
        }
    };
}
statuses! {
    EPERM 1 "Operation not permitted", ENOTDIR 2 "Not a directory", ENOENT 3 "No such file or directory",
    EACCES 4 "Permission denied", EEXIST 5 "File exists", EINVAL 6 "Invalid argument",
    ENOTEMPTY 7 "Directory not empty", CHUNKLOST 8 "Chunk lost", OUTOFMEMORY 9 "Out of memory",
    INDEXTOOBIG 10 "Index too big", LOCKED 11 "Chunk locked", NOCHUNK 13 "No such chunk", CHUNKBUSY 14 "Chunk is busy",
    WRONGVERSION 19 "Wrong chunk version", CHUNKEXIST 20 "Chunk already exists",
    CANTCREATEPATH 31 "Can't create path", MISMATCH 32 "Data mismatch", QUOTA 34 "Quota exceeded",
    BADSESSIONID 35 "Session id not found", ENOATTR 38 "Attribute not found", ERANGE 40 "Result too large",
    NOTFOUND 41 "Not found", ACTIVE 42 "Chunk is in use", CLASSEXISTS 50 "Storage class already exists",
    CLASSLIMIT 51 "Maximum number of storage classes reached", NOSUCHCLASS 52 "No such class defined",
    CLASSINUSE 53 "Storage class in use", PATTERNEXISTS 55 "Pattern already defined",
    PATLIMIT 56 "Maximum number of patterns reached", NOSUCHPATTERN 57 "No such pattern",
    NAMETOOLONG 58 "Name too long",
}

/// Outcome of one step of replay.
pub(crate) type Outcome<T = ()> = Result<T, Status>;

/// Which inodes are used, and in which order freed ones come back.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    words: Vec<u64>,
    sparse: hashbrown::HashSet<u32>,
    search: usize,
    pub(crate) max: u32,
    pub(crate) free: std::collections::VecDeque<(u32, u32)>,
    pub(crate) last_free: u32,
    /// The inode that the next new node gets; 0 is none.
    forced: u32,
}

impl Inodes {
    /// Decides which inode the next new node gets; 0 leaves the choice.
    pub(crate) fn force(&mut self, inode: u32) {
        self.forced = inode;
    }

    /// Marks an inode as used. Bits beyond what `count` inodes justify are kept in a set.
    pub(crate) fn mark(&mut self, inode: u32, count: usize) {
        let at = (inode / 64) as usize;
        if at >= self.words.len() {
            if at > count.saturating_add(1 << 16) {
                self.sparse.insert(inode);
                return;
            }
            self.words.resize(at.saturating_add(at / 2).saturating_add(16), 0);
            let words = &mut self.words;
            self.sparse.retain(|&i| match words.get_mut((i / 64) as usize) {
                Some(w) => {
                    *w |= 1 << (i % 64);
                    false
                }
                None => true,
            });
        }
        if let Some(w) = self.words.get_mut(at) {
            *w |= 1 << (inode % 64);
        }
    }

    /// Marks all inodes of an index at once.
    pub(crate) fn mark_all(&mut self, index: &Index) {
        let (dense, others) = index.all();
        self.words.resize(self.words.len().max(dense.len().div_ceil(64)), 0);
        for (word, slots) in self.words.iter_mut().zip(dense.chunks(64)) {
            *word |= slots.iter().rev().fold(0u64, |bits, &slot| bits << 1 | u64::from(slot != 0));
        }
        for inode in others {
            self.mark(u32::try_from(inode).unwrap_or(0), index.len());
        }
    }

    pub(crate) fn unmark(&mut self, inode: u32) {
        let at = (inode / 64) as usize;
        match self.words.get_mut(at) {
            Some(w) => {
                *w &= !(1 << (inode % 64));
                self.search = self.search.min(at);
            }
            None => {
                self.sparse.remove(&inode);
            }
        }
    }

    /// The lowest free inode, now used.
    pub(crate) fn take(&mut self, count: usize) -> Option<u32> {
        if self.forced > 0 {
            let inode = std::mem::take(&mut self.forced);
            self.mark(inode, count);
            self.max = self.max.max(inode);
            return Some(inode);
        }
        while self.words.get(self.search).is_some_and(|w| *w == u64::MAX) {
            self.search = self.search.saturating_add(1);
        }
        let bit = self.words.get(self.search).map_or(0, |w| w.trailing_ones());
        let mut inode = u32::try_from(self.search.checked_mul(64)?).ok()?.checked_add(bit)?;
        while self.sparse.contains(&inode) {
            inode = inode.checked_add(1)?;
        }
        self.mark(inode, count.max(inode as usize));
        self.max = self.max.max(inode);
        Some(inode)
    }
}

/// Extended attributes of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Xattrs {
    pub(crate) seq: u64,
    pub(crate) list: Vec<Xattr>,
}

/// One extended attribute: name and value in one piece.
#[derive(Clone, Debug)]
pub(crate) struct Xattr {
    data: Box<[u8]>,
    /// Order of insertion; decides the order within a bucket of 2.x.
    pub(crate) seq: u64,
    name: u8,
}

impl Xattr {
    /// Names have at most 255 bytes.
    pub(crate) fn new(name: &[u8], value: &[u8], seq: u64) -> Self {
        let name = name.get(..name.len().min(255)).unwrap_or_default();
        Self { data: [name, value].concat().into(), seq, name: u8::try_from(name.len()).unwrap_or(u8::MAX) }
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.data.get(..usize::from(self.name)).unwrap_or_default()
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.data.get(usize::from(self.name)..).unwrap_or_default()
    }
}

/// The whole state of one filesystem.
#[derive(Debug)]
pub struct Model {
    pub(crate) dialect: Dialect,
    pub(crate) version: u64,
    pub(crate) metaid: u64,
    pub(crate) nodes: Arena<Node>,
    pub(crate) node_index: Index,
    pub(crate) node_seq: u32,
    /// Highest `seq` of a node that was read from a file; those lie in their slots in that order.
    pub(crate) loaded: u32,
    pub(crate) edges: Arena<Edge>,
    pub(crate) edge_bytes: u64,
    pub(crate) edge_count: u64,
    pub(crate) names: NameTable,
    pub(crate) named: bool,
    pub(crate) texts: Texts,
    pub(crate) tables: Tables,
    pub(crate) next_edge: u64,
    pub(crate) trash: Vec<u32>,
    pub(crate) sustained: Vec<u32>,
    pub(crate) inodes: Inodes,
    pub(crate) quotas: HashMap<u32, (u64, QuotaRecord)>,
    pub(crate) xattrs: HashMap<u32, Xattrs>,
    pub(crate) acls: HashMap<(u32, u8), (u64, AclRecord)>,
    pub(crate) locks: Locks,
    pub(crate) servers: Vec<(u64, ServerRecord)>,
    pub(crate) chunks: Chunks,
    pub(crate) sessions: HashMap<u32, (u64, SessionRecord)>,
    pub(crate) next_session: u32,
    pub(crate) session_counters: u16,
    pub(crate) classes: Classes,
    pub(crate) seq: u64,
    pub(crate) budget: u64,
    pub(crate) max_nodes: u64,
    pub(crate) directories: u64,
    pub(crate) files: u64,
}

impl Model {
    /// An empty state without a root, for a loader.
    #[must_use]
    pub(crate) fn empty(dialect: Dialect, nodes: usize, max_inode: u32, chunks: usize) -> Self {
        Self {
            dialect,
            version: dialect.first_change(),
            metaid: 0,
            nodes: Arena::with_capacity(nodes),
            node_index: Index::with_hint(nodes, u64::from(max_inode)),
            node_seq: 0,
            loaded: 0,
            edges: Arena::with_capacity(nodes),
            edge_bytes: 0,
            edge_count: 0,
            names: NameTable::new(),
            named: false,
            texts: Texts::default(),
            tables: Tables::default(),
            next_edge: NO_EDGE_IDS,
            trash: vec![NONE; dialect.trash_buckets() as usize],
            sustained: vec![NONE; dialect.sustained_buckets() as usize],
            inodes: Inodes { words: vec![1], max: 1, ..Inodes::default() },
            quotas: HashMap::new(),
            xattrs: HashMap::new(),
            acls: HashMap::new(),
            locks: Locks::default(),
            servers: Vec::new(),
            chunks: Chunks::new(chunks, chunks as u64, dialect == Dialect::V4),
            sessions: HashMap::new(),
            next_session: 1,
            session_counters: if dialect == Dialect::V4 { 0 } else { 16 },
            classes: Classes::before_load(dialect),
            seq: 0,
            budget: u64::MAX,
            max_nodes: 0,
            directories: 0,
            files: 0,
        }
    }

    /// The state that a master of this dialect makes of the signature `MFSM NEW`, before its first change.
    ///
    /// The times of the root are 0: the log does not tell them.
    #[must_use]
    pub fn new_filesystem(dialect: Dialect) -> Self {
        let mut m = Self::empty(dialect, 0, 0, 0);
        m.classes = Classes::new_filesystem(dialect);
        m.next_edge = if dialect.is_flat() { 0 } else { NO_EDGE_IDS - 1 };
        let root = Node {
            inode: 1,
            kind: Kind::Directory as u8,
            class: if dialect == Dialect::V3 { 2 } else { 1 },
            mode: 0o777,
            retention: dialect.default_retention(),
            ..Node::default()
        };
        m.add_node(root);
        m.named = true;
        m
    }

    /// The product line whose rules apply.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Id of the next change.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Identity of the filesystem; 0 is none.
    #[must_use]
    pub const fn metaid(&self) -> u64 {
        self.metaid
    }

    /// How many of what there is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            inodes: self.node_index.len() as u64,
            directories: self.directories,
            files: self.files,
            edges: self.edge_count,
            chunks: self.chunks.len() as u64,
        }
    }

    /// Sets how many bytes replay may add to what was loaded.
    pub fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    pub(crate) fn charge(&mut self, bytes: u64) -> Outcome {
        self.budget = self.budget.checked_sub(bytes).ok_or(Status::OUTOFMEMORY)?;
        Ok(())
    }

    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq = self.seq.saturating_add(1);
        self.seq
    }
}

impl Dialect {
    /// Trash retention of new nodes that inherit none, in the unit of the dialect.
    pub(crate) const fn default_retention(self) -> u32 {
        if self.retention_in_hours() { 24 } else { 86_400 }
    }
}

/// The hash by which nodes, chunks and chunk servers are put into buckets; a bijection of 32 bits.
#[must_use]
#[inline]
pub(crate) const fn hash32(k: u32) -> u32 {
    let k = (!k).wrapping_add(k << 15);
    let k = k ^ (k >> 12);
    let k = k.wrapping_add(k << 2);
    let k = k ^ (k >> 4);
    let k = k.wrapping_mul(2057);
    k ^ (k >> 16)
}

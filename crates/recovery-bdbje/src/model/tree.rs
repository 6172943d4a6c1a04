//! Reading trees from the log: nodes by their place, bottom nodes with their changes merged.

use std::collections::{BTreeMap, HashSet};

use crate::format::node::{KNOWN_DELETED, Node};
use crate::format::{Entry, EntryType, FormatError, Lsn, Result};
use crate::reader::{Log, OwnedEntry};

/// Deepest tree that is followed; JE's own trees have a handful of levels.
const MAX_DEPTH: u32 = 64;

/// A slot of a bottom node, on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Full key.
    pub key: Vec<u8>,
    /// Place of the record.
    pub lsn: Lsn,
    /// State byte.
    pub state: u8,
    /// The record, when it lies in the slot.
    pub data: Option<Vec<u8>>,
    /// VLSN of an embedded record.
    pub vlsn: Option<i64>,
    /// Size of the record's entry, as a hint.
    pub size: Option<i32>,
    /// Expiration: offset from the base of its node.
    pub expiration: Option<i32>,
}

impl Leaf {
    /// Whether the record counts as deleted.
    #[must_use]
    pub const fn dead(&self) -> bool {
        self.state & (crate::format::node::KNOWN_DELETED | crate::format::node::PENDING_DELETED) != 0
    }
}

/// A reference to a bottom node and the range of keys it is responsible for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRef {
    /// Place of the node.
    pub lsn: Lsn,
    /// First key of its range; `None` from the beginning.
    pub from: Option<Vec<u8>>,
    /// First key of the next range; `None` to the end.
    pub to: Option<Vec<u8>>,
}

/// Fetches a node.
///
/// # Errors
///
/// When there is no valid entry or it is not a node.
pub fn node_entry(log: &Log, lsn: Lsn) -> Result<OwnedEntry> {
    let entry = log.entry_hinted(lsn, 8192)?;
    if entry.header.kind.is_node() {
        Ok(entry)
    } else {
        Err(FormatError::BadType { found: entry.header.kind.number(), at: lsn.offset().into() })
    }
}

/// Decodes a fetched node.
///
/// # Errors
///
/// When it is not one.
pub fn node_of(entry: &OwnedEntry) -> Result<Box<Node<'_>>> {
    match entry.decode()? {
        Entry::Node(n) => Ok(n),
        _ => Err(FormatError::BadType { found: entry.header.kind.number(), at: entry.lsn.offset().into() }),
    }
}

/// The slots of a node on their own.
///
/// # Errors
///
/// When an embedded slot does not hold what it says.
pub fn leaves(node: &Node<'_>) -> Result<Vec<Leaf>> {
    let mut out = Vec::with_capacity(node.slots.len());
    for s in &node.slots {
        let (_, data) = s.parts()?;
        out.push(Leaf {
            key: node.key(s)?.into_owned(),
            lsn: s.lsn,
            state: s.state,
            data: data.map(<[u8]>::to_vec),
            vlsn: s.vlsn,
            size: s.size,
            expiration: s.expiration,
        });
    }
    Ok(out)
}

/// All slots of the bottom node at `lsn`; changes are merged with the full version they belong to.
///
/// # Errors
///
/// When the node or its full version cannot be read.
pub fn bottom(log: &Log, lsn: Lsn) -> Result<Vec<Leaf>> {
    let entry = node_entry(log, lsn)?;
    let node = node_of(&entry)?;
    let own = leaves(&node)?;
    if !node.is_delta() {
        return Ok(own);
    }
    let full_entry = node_entry(log, node.prev_full)?;
    let full = node_of(&full_entry)?;
    if full.is_delta() {
        let at = node.prev_full.offset().into();
        return Err(FormatError::Invalid { field: "full version of a delta", at, found: 37 });
    }
    let mut all: BTreeMap<Vec<u8>, Leaf> = leaves(&full)?.into_iter().map(|l| (l.key.clone(), l)).collect();
    all.extend(own.into_iter().map(|l| (l.key.clone(), l)));
    Ok(all.into_values().collect())
}

/// Collects the bottom nodes of a tree in key order. What cannot be read is given to `problem` with its place and
/// passed over.
pub fn bottoms(log: &Log, root: Lsn, db: i64, problem: &mut dyn FnMut(Lsn, FormatError)) -> Vec<LeafRef> {
    let mut walk = Walk { log, db, problem, found: Vec::new(), seen: HashSet::new() };
    walk.down(root, None, 0);
    let mut found = walk.found;
    let mut to = None;
    for leaf in found.iter_mut().rev() {
        leaf.to = std::mem::replace(&mut to, leaf.from.clone());
    }
    found
}

struct Walk<'a> {
    log: &'a Log,
    db: i64,
    problem: &'a mut dyn FnMut(Lsn, FormatError),
    found: Vec<LeafRef>,
    seen: HashSet<Lsn>,
}

impl Walk<'_> {
    fn down(&mut self, lsn: Lsn, from: Option<Vec<u8>>, depth: u32) {
        // Hostile references could form a net: every node is entered once.
        if !self.seen.insert(lsn) {
            let at = lsn.offset().into();
            return (self.problem)(lsn, FormatError::Invalid { field: "second reference to a node", at, found: 2 });
        }
        let entry = match node_entry(self.log, lsn) {
            Ok(e) => e,
            Err(e) => return (self.problem)(lsn, e),
        };
        let node = match node_of(&entry) {
            Ok(n) => n,
            Err(e) => return (self.problem)(lsn, e),
        };
        if node.db != self.db {
            let at = lsn.offset().into();
            return (self.problem)(lsn, FormatError::Invalid { field: "database of a node", at, found: node.db });
        }
        if node.is_bin() || node.kind == EntryType::BIN || node.is_delta() {
            self.found.push(LeafRef { lsn, from, to: None });
            return;
        }
        if depth >= MAX_DEPTH {
            let at = lsn.offset().into();
            return (self.problem)(lsn, FormatError::Invalid { field: "depth of the tree", at, found: depth.into() });
        }
        let mut first = true;
        for slot in &node.slots {
            if slot.lsn.is_null() || slot.state & KNOWN_DELETED != 0 {
                continue;
            }
            let low = if first { from.clone() } else { node.key(slot).ok().map(std::borrow::Cow::into_owned) };
            first = false;
            // Children of level 2 are bottom nodes: they need not be read to be listed.
            if node.level & 0xffff == 2 && self.seen.insert(slot.lsn) {
                self.found.push(LeafRef { lsn: slot.lsn, from: low, to: None });
            } else {
                self.down(slot.lsn, low, depth.saturating_add(1));
            }
        }
    }
}

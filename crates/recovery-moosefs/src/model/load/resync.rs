//! Reading on behind damage in the lists of nodes and names.
//!
//! A list that cannot be read to its end by itself is walked again, record by record, and where a record cannot be
//! one, the next place is looked for from which several records in a row can. Nodes are stored by bucket, so their
//! inodes tell whether a record can stand where it stands; names lead from known directories to known nodes.

use recovery_core::Cursor;

use crate::format::Item;
use crate::format::edge::EdgeRecord;
use crate::format::node::{Extra, NodeRecord};
use crate::model::hash32;
use crate::model::order::table_mask;

/// Records in a row that prove a place.
const PROOF: usize = 4;

/// A range of a section that holds nothing that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// Where the records of a damaged list lie.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Start and length of each record.
    pub(super) records: Vec<(usize, usize)>,
    /// Records whose length field is wrong: index into `records`.
    pub(super) repaired: Vec<usize>,
    pub(super) holes: Vec<Hole>,
    /// Whether the end of the list was found.
    pub(super) ended: bool,
}

/// What can stand in a list of nodes.
pub(super) struct NodeRules {
    pub(super) version: u8,
    pub(super) max_inode: u32,
    mask: u32,
    flat: bool,
    ordered: bool,
}

impl NodeRules {
    pub(super) fn new(bytes: &[u8], version: u8, max_inode: u32, count: u32, flat: bool) -> Self {
        let mut rules = Self { version, max_inode, mask: table_mask(u64::from(count)), flat, ordered: true };
        // files of other products may use other tables: their first records tell
        let (mut at, mut last, mut seen) = (0usize, 0, 0u32);
        while seen < 1000
            && let Some((r, len)) = rules.decode(bytes, at)
        {
            let bucket = rules.bucket(r.inode);
            rules.ordered &= bucket >= last || seen < 2;
            (last, seen) = (bucket, seen.saturating_add(1));
            at = at.saturating_add(len);
        }
        rules
    }

    fn bucket(&self, inode: u32) -> u32 {
        if self.flat { inode & 0x3F_FFFF } else { hash32(inode) & self.mask }
    }

    /// A record that can be one by itself.
    fn decode<'b>(&self, bytes: &'b [u8], at: usize) -> Option<(NodeRecord<'b>, usize)> {
        let rest = bytes.get(at..)?;
        let mut c = Cursor::new(rest, 0);
        let Ok(Item::Record(r)) = NodeRecord::decode(&mut c, self.version) else { return None };
        let inode = r.inode > 0 && (self.max_inode == 0 || r.inode <= self.max_inode);
        inode.then(|| (r, rest.len().saturating_sub(c.remaining())))
    }

    /// Whether records in a row, in their order, begin here; the end of the list counts as proof where it must be.
    fn proves(&self, bytes: &[u8], mut at: usize, mut last: u32) -> bool {
        for n in 0..PROOF {
            if n > 0 && at.saturating_add(1) == bytes.len() && bytes.last() == Some(&0) {
                return true;
            }
            let Some((r, len)) = self.decode(bytes, at) else { return false };
            let bucket = self.bucket(r.inode);
            if self.ordered && bucket < last {
                return false;
            }
            last = bucket;
            at = at.saturating_add(len);
        }
        true
    }

    /// Finds the records of a list from which the section header was taken off; `base` is its place in the file.
    pub(super) fn find(&self, bytes: &[u8], base: u64) -> Found {
        let mut out = Found::default();
        let (mut at, mut last) = (0usize, 0u32);
        loop {
            if at.saturating_add(1) == bytes.len() && bytes.get(at) == Some(&0) {
                out.ended = true;
                return out;
            }
            if let Some((r, len)) = self.decode(bytes, at).filter(|(r, _)| self.may_stand(r.inode, last)) {
                let bucket = self.bucket(r.inode);
                let next = at.saturating_add(len);
                last = bucket;
                if ids_of(&r) && (next >= bytes.len() || self.follows(bytes, next, bucket)) {
                    out.records.push((at, len));
                    at = next;
                    continue;
                }
                // either what follows is damaged, or the length of this one is wrong: the next good place decides
                let fixed = NodeRecord::fixed_size(r.kind, self.version);
                let first = at.saturating_add(fixed);
                let place = (first..bytes.len()).find(|&p| self.proves(bytes, p, bucket));
                match place.and_then(|p| true_end(bytes, &r, first, next, p)) {
                    Some(end) => {
                        out.repaired.push(out.records.len());
                        out.records.push((at, end.saturating_sub(at)));
                        at = end;
                        continue;
                    }
                    None if ids_of(&r) && place.is_none_or(|p| p >= next) => {
                        out.records.push((at, len));
                        at = next;
                    }
                    None => {}
                }
                let end = place.unwrap_or(bytes.len());
                out.holes.push(Hole { at: base.saturating_add(at as u64), len: end.saturating_sub(at) as u64 });
                match place {
                    Some(p) => at = p,
                    None => return out,
                }
                continue;
            }
            let from = at.saturating_add(1);
            let next = (from..bytes.len()).find(|&p| self.proves(bytes, p, last));
            let end = next.unwrap_or(bytes.len());
            out.holes.push(Hole { at: base.saturating_add(at as u64), len: end.saturating_sub(at) as u64 });
            match next {
                Some(p) => at = p,
                None => return out,
            }
        }
    }

    fn may_stand(&self, inode: u32, last: u32) -> bool {
        !self.ordered || self.bucket(inode) >= last
    }

    fn follows(&self, bytes: &[u8], at: usize, last: u32) -> bool {
        if at.saturating_add(1) == bytes.len() && bytes.get(at) == Some(&0) {
            return true;
        }
        self.decode(bytes, at).is_some_and(|(r, _)| !self.ordered || self.bucket(r.inode) >= last)
    }
}

/// Whether bytes can be ids of chunks, which count from 1: a record of a node begins with a larger number.
fn ids(part: &[u8]) -> bool {
    let (words, rest) = part.as_chunks::<8>();
    rest.is_empty() && words.iter().all(|w| u64::from_be_bytes(*w) < 1 << 40)
}

fn ids_of(r: &NodeRecord<'_>) -> bool {
    if let Extra::File { chunks, .. } = r.extra { ids(chunks) } else { true }
}

/// Where a record ends that says it ends at `stated`, when the next good place is `place`: there, if the bytes between
/// can be its own and nothing else.
fn true_end(bytes: &[u8], r: &NodeRecord<'_>, first: usize, stated: usize, place: usize) -> Option<usize> {
    let own = match r.extra {
        Extra::File { .. } => ids(bytes.get(first..place)?),
        Extra::Path(_) => place < stated,
        _ => false,
    };
    own.then_some(place)
}

/// What can stand in a list of names.
pub(super) struct EdgeRules<'a> {
    pub(super) version: u8,
    /// Whether an inode is a node, and whether it is a directory.
    pub(super) known: &'a dyn Fn(u32) -> Option<bool>,
}

impl EdgeRules<'_> {
    fn decode(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let rest = bytes.get(at..)?;
        let mut c = Cursor::new(rest, 0);
        let Ok(Item::Record(e)) = EdgeRecord::decode(&mut c, self.version) else { return None };
        let child = (self.known)(e.child);
        let fits = if e.parent == 0 {
            child == Some(false) && !e.name.is_empty() && e.name.len() <= crate::model::MAX_PATH
        } else {
            let name = !e.name.is_empty() && e.name.len() <= 255 && !e.name.iter().any(|b| matches!(b, 0 | b'/'));
            name && child.is_some() && (self.known)(e.parent) == Some(true)
        };
        fits.then(|| rest.len().saturating_sub(c.remaining()))
    }

    /// Whether the bytes up to a good place are one record, whatever its length field says: a name too short or too
    /// long for what follows, with no room for another record.
    fn is_name(&self, bytes: &[u8], at: usize, place: usize) -> bool {
        let fixed = EdgeRecord::fixed_size(self.version);
        let (Some(head), Some(name)) = (
            bytes.get(at..at.saturating_add(fixed)).and_then(|h| h.first_chunk::<8>()),
            bytes.get(at.saturating_add(fixed)..place),
        ) else {
            return false;
        };
        let [a, b, c, d, e, f, g, h] = *head;
        let (parent, child) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let stated = bytes.get(at.saturating_add(fixed).saturating_sub(1)).map_or(0, |n| usize::from(*n));
        let text = !name.is_empty() && name.len() <= 255 && !name.iter().any(|b| matches!(b, 0 | b'/'));
        let room = name.len() > stated && name.len().saturating_sub(stated) > fixed;
        text && !room && (self.known)(parent) == Some(true) && (self.known)(child).is_some()
    }

    fn is_end(&self, bytes: &[u8], at: usize) -> bool {
        let rest = bytes.get(at..).unwrap_or_default();
        rest.len() == EdgeRecord::fixed_size(self.version) && rest.iter().all(|&b| b == 0)
    }

    fn proves(&self, bytes: &[u8], mut at: usize) -> bool {
        for n in 0..PROOF {
            if n > 0 && self.is_end(bytes, at) {
                return true;
            }
            match self.decode(bytes, at) {
                Some(len) => at = at.saturating_add(len),
                None => return false,
            }
        }
        true
    }

    /// Finds the records of a list behind its header; `base` is its place in the file.
    pub(super) fn find(&self, bytes: &[u8], base: u64) -> Found {
        let mut out = Found::default();
        let mut at = 0usize;
        loop {
            if self.is_end(bytes, at) {
                out.ended = true;
                return out;
            }
            if let Some(len) = self.decode(bytes, at) {
                let next = at.saturating_add(len);
                if next >= bytes.len() || self.is_end(bytes, next) || self.decode(bytes, next).is_some() {
                    out.records.push((at, len));
                    at = next;
                    continue;
                }
            }
            let next = (at.saturating_add(1)..bytes.len()).find(|&p| self.proves(bytes, p));
            // either what follows is damaged, or the length of this name is wrong
            if let Some(p) = next.filter(|&p| self.is_name(bytes, at, p)) {
                out.repaired.push(out.records.len());
                out.records.push((at, p.saturating_sub(at)));
                at = p;
                continue;
            }
            if let Some(len) = self.decode(bytes, at).filter(|len| next.is_none_or(|p| at.saturating_add(*len) <= p)) {
                out.records.push((at, len));
                at = at.saturating_add(len);
                if next == Some(at) {
                    continue;
                }
            }
            let end = next.unwrap_or(bytes.len());
            out.holes.push(Hole { at: base.saturating_add(at as u64), len: end.saturating_sub(at) as u64 });
            match next {
                Some(p) => at = p,
                None => return out,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::format::node::Kind;

    fn list(inodes: &[u32]) -> (Vec<u8>, Vec<usize>) {
        let mut all: Vec<u32> = inodes.to_vec();
        all.sort_unstable_by_key(|i| hash32(*i) & 0xFF_FFFF);
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for inode in all {
            starts.push(bytes.len());
            let chunks = 7u64.to_be_bytes().repeat(inode as usize % 3);
            let extra = Extra::File { length: 5, chunks: &chunks, sessions: &[] };
            let r = NodeRecord {
                kind: Kind::File,
                inode,
                class: 2,
                eattr: 0,
                winattr: 0,
                mode: 0o644,
                uid: 1,
                gid: 2,
                atime: 1_700_000_000,
                mtime: 1_700_000_000,
                ctime: 1_700_000_000,
                retention: 24,
                extra,
            };
            r.encode(0x14, &mut bytes);
        }
        bytes.push(0);
        (bytes, starts)
    }

    #[test]
    fn nodes_behind_damage_are_found() {
        let inodes: Vec<u32> = (1..200).collect();
        let (bytes, starts) = list(&inodes);
        let rules = NodeRules::new(&bytes, 0x14, 199, 199, false);
        let clean = rules.find(&bytes, 0);
        assert_eq!((clean.records.len(), clean.holes.len(), clean.ended), (199, 0, true));
        // a type that cannot be: one record is lost
        let mut bad = bytes.clone();
        bad[starts[50]] = 77;
        let found = rules.find(&bad, 1000);
        assert_eq!((found.records.len(), found.holes.len(), found.ended), (198, 1, true));
        assert_eq!(found.holes[0].at, 1000 + starts[50] as u64);
        // a chunk count that cannot be: nothing is lost
        let mut bad = bytes.clone();
        bad[starts[60] + 43] ^= 4;
        let found = rules.find(&bad, 0);
        assert_eq!((found.records.len(), found.repaired.len(), found.holes.len()), (199, 1, 0));
        // zeros over several records
        let mut bad = bytes.clone();
        bad[starts[10] + 3..starts[20] + 3].fill(0);
        let found = rules.find(&bad, 0);
        assert!(found.records.len() >= 199 - 12 && found.ended, "{}", found.records.len());
    }

    #[test]
    fn names_behind_damage_are_found() {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for child in 2..100u32 {
            starts.push(bytes.len());
            let name = format!("name of {child}");
            EdgeRecord { parent: 1, child, id: u64::from(child), name: name.as_bytes() }.encode(0x11, &mut bytes);
        }
        bytes.extend_from_slice(&[0; 18]);
        let known = |i: u32| (i < 100 && i > 0).then_some(i == 1);
        let rules = EdgeRules { version: 0x11, known: &known };
        let clean = rules.find(&bytes, 0);
        assert_eq!((clean.records.len(), clean.holes.len(), clean.ended), (98, 0, true));
        for (place, byte) in [(2, 0xFF), (16, 0xFF), (17, 200), (17, 0)] {
            let mut bad = bytes.clone();
            bad[starts[40] + place] = byte;
            let found = rules.find(&bad, 0);
            assert!(found.records.len() >= 97 && found.ended, "{place}: {} {:?}", found.records.len(), found.holes);
        }
    }
}

//! What two nodes of a group must agree on.
//!
//! The same VLSN has the same type, database, transaction, key, data and master on every node. Times and places are each
//! node's own: a replica writes the commit with its own clock.

use recovery_core::Cursor;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::format::ln::{LnBody, LnEntry};
use crate::format::{Entry, EntryType, Result};
use crate::reader::EntryRef;

/// Hash of an entry's common content.
///
/// # Errors
///
/// When the item is not what its type says.
pub fn of(e: &EntryRef<'_>, version: u8) -> Result<u64> {
    let kind = e.header.kind;
    let mut h = u64::from(kind.number());
    if kind.is_ln() {
        let ln = LnEntry::decode(&mut Cursor::new(e.item(), e.item_at()), kind, version)?;
        h = number(h, ln.db);
        h = number(h, ln.txn.map_or(0, |t| t.id));
        h = bytes(h, Some(ln.key));
        h = bytes(h, ln.data);
        if let LnBody::Name { id, bits, op } = &ln.body {
            h = number(number(h, *id), i64::from(*bits));
            h = bytes(h, Some(op.name().as_bytes()));
        }
        return Ok(h);
    }
    Ok(match Entry::decode(kind, version, e.item(), e.item_at())? {
        Entry::Commit(e) | Entry::Abort(e) => number(number(h, e.txn), e.master),
        Entry::Matchpoint(m) => number(h, m.master),
        _ => number(h, i64::from(EntryType::ERASED == kind)),
    })
}

fn number(h: u64, n: i64) -> u64 {
    xxh3_64_with_seed(&n.to_le_bytes(), h)
}

fn bytes(h: u64, b: Option<&[u8]>) -> u64 {
    let h = number(h, b.map_or(-1, |b| i64::try_from(b.len()).unwrap_or(i64::MAX)));
    xxh3_64_with_seed(b.unwrap_or_default(), h)
}

/// Hashes by VLSN, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    runs: Vec<(i64, Vec<u64>)>,
}

impl Digests {
    /// Adds the next one.
    pub fn push(&mut self, vlsn: i64, digest: u64) {
        match self.runs.last_mut() {
            Some((first, run)) if i64::try_from(run.len()).ok().and_then(|n| first.checked_add(n)) == Some(vlsn) => {
                run.push(digest);
            }
            _ => self.runs.push((vlsn, vec![digest])),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.runs.iter().flat_map(|(first, run)| (*first..).zip(run.iter().copied()))
    }

    /// Gives memory back that no more will need.
    pub fn shrink(&mut self) {
        self.runs.iter_mut().for_each(|(_, run)| run.shrink_to_fit());
        self.runs.shrink_to_fit();
    }
}

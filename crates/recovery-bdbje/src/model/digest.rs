//! What two nodes of a group must agree on.
//!
//! The same VLSN has the same type, database, transaction, key, data and master on every node. Times and places are each
//! node's own: a replica writes the commit with its own clock.

use xxhash_rust::xxh3::Xxh3;

use crate::format::ln::LnBody;
use crate::format::{Entry, EntryType};

/// Hash of an entry's common content.
#[must_use]
pub fn of_entry(kind: EntryType, entry: &Entry<'_>) -> u64 {
    let mut h = Xxh3::new();
    h.update(&[kind.number()]);
    match entry {
        Entry::Ln(ln) => {
            number(&mut h, ln.db);
            number(&mut h, ln.txn.map_or(0, |t| t.id));
            bytes(&mut h, Some(ln.key));
            bytes(&mut h, ln.data);
            if let LnBody::Name { id, bits, op } = &ln.body {
                number(&mut h, *id);
                h.update(&[*bits]);
                h.update(op.name().as_bytes());
            }
        }
        Entry::Commit(e) | Entry::Abort(e) => {
            number(&mut h, e.txn);
            number(&mut h, e.master);
        }
        Entry::Matchpoint(m) => number(&mut h, m.master),
        _ => {}
    }
    h.digest()
}

fn number(h: &mut Xxh3, n: i64) {
    h.update(&n.to_le_bytes());
}

fn bytes(h: &mut Xxh3, b: Option<&[u8]>) {
    number(h, b.map_or(-1, |b| i64::try_from(b.len()).unwrap_or(i64::MAX)));
    h.update(b.unwrap_or_default());
}

//! What hangs on nodes: extended attributes, access lists, open files, locks.

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::parts::{issue, records, spent};
use super::{IssueKind, LoadError, Loader};
use crate::format::Item;
use crate::format::attr::{AclRecord, XattrRecord};
use crate::format::crc::piece;
use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};
use crate::model::Model;
use crate::model::tree::{HAS_ACCESS_ACL, HAS_DEFAULT_ACL, HAS_XATTR};

fn flag(m: &mut Model, inode: u32, flag: u8) -> bool {
    match m.node_mut(inode) {
        Ok(n) => {
            n.flags |= flag;
            true
        }
        Err(_) => false,
    }
}

pub(super) fn xattrs(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    let sums = l.options.checksums;
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = XattrRecord::decode(c)?;
        let Item::Record(r) = item else {
            *sum ^= piece(spent!(c, rest));
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
            found.push(issue(IssueKind::Record, c, spent!(c, rest).len(), text));
            return Ok(Flow::Go);
        }
        if flag(m, r.inode, HAS_XATTR) {
            let seq = m.next_seq();
            let entry = m.xattrs.entry(r.inode).or_insert_with(|| crate::model::Xattrs { seq, list: Vec::new() });
            entry.list.push(crate::model::Xattr::new(r.name, r.value, seq));
        }
        Ok(Flow::Go)
    })
}

pub(super) fn acls(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = AclRecord::decode(c)?;
        let bytes = spent!(c, rest);
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

pub(super) fn opens(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    records(l, s, feed, |c, _| {
        let rest = c.rest();
        let item = OpenRecord::decode(c)?;
        *sum ^= piece(spent!(c, rest));
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.sessions.contains_key(&r.session) {
            m.locks.acquire(r.session, r.inode);
        }
        Ok(Flow::Go)
    })
}

pub(super) fn flocks(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = FlockRecord::decode(c)?;
        *sum ^= piece(spent!(c, rest));
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.locks.holds(r.session, r.inode) {
            m.locks.flock_add(r);
        } else {
            found.push(issue(IssueKind::Reference, c, FlockRecord::SIZE, not_open(r.session, r.inode)));
        }
        Ok(Flow::Go)
    })
}

pub(super) fn plocks(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = PlockRecord::decode(c)?;
        *sum ^= piece(spent!(c, rest));
        let Item::Record(r) = item else { return Ok(Flow::End) };
        if m.locks.holds(r.session, r.inode) {
            m.locks.plock_load(&r);
        } else {
            found.push(issue(IssueKind::Reference, c, PlockRecord::SIZE, not_open(r.session, r.inode)));
        }
        Ok(Flow::Go)
    })
}

fn not_open(session: u32, inode: u32) -> String {
    format!("lock of session {session} on inode {inode}, which it does not hold open; dropped")
}

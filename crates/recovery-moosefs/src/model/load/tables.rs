//! The small tables: sessions, storage classes, patterns, free inodes, quotas, chunk servers.

use recovery_core::Cursor;

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::parts::{counted, issue, records, spent};
use super::{IssueKind, LoadError, Loader};
use crate::dialect::Dialect;
use crate::format::Item;
use crate::format::crc::piece;
use crate::format::sclass::{ClassTable, Rules};
use crate::format::session::{SessionHead, SessionRecord};
use crate::format::small::{FreeRecord, PatternRecord, QuotaRecord, ServerRecord};
use crate::model::Model;
use crate::model::classes::upgrade;

pub(super) fn sessions(
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
        let bytes = spent!(c, rest);
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

pub(super) fn classes(l: &mut Loader<'_>, m: &mut Model, s: &Section, sum: &mut u32) -> Result<(), LoadError> {
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

pub(super) fn patterns(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    records(l, s, feed, |c, found| {
        let rest = c.rest();
        let item = PatternRecord::decode(c, s.version)?;
        let bytes = spent!(c, rest);
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

pub(super) fn free(
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

pub(super) fn quotas(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    counted(l, s, feed, sum, |c, found, sum| {
        let rest = c.rest();
        let mut q = QuotaRecord::decode(c, s.version)?;
        if s.version == 0x10 && m.dialect == Dialect::V3 {
            q.grace = DEFAULT_GRACE;
        }
        let bytes = spent!(c, rest);
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

pub(super) fn servers(
    l: &mut Loader<'_>,
    m: &mut Model,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
) -> Result<(), LoadError> {
    counted(l, s, feed, sum, |c, found, sum| {
        let rest = c.rest();
        let r = ServerRecord::decode(c, s.version)?;
        *sum ^= piece(spent!(c, rest));
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

//! Attributes: times, modes, classes, extended attributes, access control lists, quotas, archive flags.

use super::{Replayer, ensure};
use crate::changelog::Op;
use crate::changelog::op::{AclArgs, Attribute, QuotaArgs};
use crate::dialect::Dialect;
use crate::format::attr::{AclEntry, AclRecord};
use crate::format::small::QuotaRecord;
use crate::model::arena::NONE;
use crate::model::tree::{
    BY_ATIME, BY_CTIME, BY_MTIME, HAS_ACCESS_ACL, HAS_DEFAULT_ACL, HAS_XATTR, IMMUTABLE, KEEP_MODE, NO_ENTRY_CACHE,
    NO_OWNER,
};
use crate::model::{Outcome, Status, Xattr, Xattrs};

const MAX_VALUE: usize = 65_536;
const RECURSIVE: u32 = 4;
const ALL_TIMES: u8 = BY_CTIME | BY_MTIME | BY_ATIME;

/// A recursive change of attributes.
struct Walk {
    what: Attribute,
    uid: u32,
    source: u32,
    value: u32,
    mode: u32,
}

impl Replayer {
    pub(super) fn access(&mut self, ts: u32, inode: u32) -> Outcome {
        self.model.node_mut(inode)?.atime = ts;
        self.model.check_archive(inode, ts, BY_ATIME);
        Ok(())
    }

    pub(super) fn amtime(&mut self, ts: u32, inode: u32, times: [u32; 3]) -> Outcome {
        let n = self.model.node_mut(inode)?;
        [n.atime, n.mtime, n.ctime] = times;
        self.model.check_archive(inode, ts, ALL_TIMES);
        Ok(())
    }

    pub(super) fn attr(&mut self, ts: u32, inode: u32, mode: u32, f: [u32; 4], winattr: u8, aclmode: u16) -> Outcome {
        let four = self.is(Dialect::V4);
        let old = !self.model.has_snapshot_bit();
        let n = self.model.node_mut(inode)?;
        let mode = (mode & 0xFFFF) as u16;
        ensure(mode <= 0o7777, Status::EINVAL)?;
        n.mode = mode;
        [n.uid, n.gid, n.atime, n.mtime] = f;
        n.ctime = ts;
        if four || winattr != 0 {
            n.winattr = winattr;
        }
        if n.flags & HAS_ACCESS_ACL != 0 {
            let m = if old || aclmode & 0x1000 != 0 { aclmode } else { (mode & 0o707) | 0o070 };
            if let Some((_, a)) = self.model.acls.get_mut(&(inode, 1)) {
                a.user = (a.user & 0xFFF8) | ((m >> 6) & 7);
                a.mask = (a.mask & 0xFFF8) | ((m >> 3) & 7);
                a.other = (a.other & 0xFFF8) | (m & 7);
            }
        }
        self.model.check_archive(inode, ts, ALL_TIMES);
        Ok(())
    }

    pub(super) fn set_recursive(&mut self, ts: u32, op: &Op) -> Outcome {
        let Op::Set { what, inode, uid, source, value, mode, expect } = op else { return Err(Status::MISMATCH) };
        let kind = mode & 3;
        let valid = mode & !7 == 0 && (kind != 3 || *what == Attribute::Class || *what == Attribute::Goal);
        ensure(valid || !self.model.has_snapshot_bit(), Status::EINVAL)?;
        if matches!(what, Attribute::Class | Attribute::Goal) {
            ensure(value & 0xFF != 0 && source & 0xFF != 0, Status::EINVAL)?;
            ensure(!matches!(kind, 1 | 2) || *value <= 9, Status::EINVAL)?;
        }
        let n = *self.model.node(*inode)?;
        let settable = n.is_dir() || n.is_file();
        ensure(settable || *what == Attribute::Eattr, Status::EPERM)?;
        let hours = self.model.dialect.retention_in_hours();
        let value = match what {
            Attribute::Retention if hours => (value.saturating_add(3599) / 3600) & 0xFFFF,
            Attribute::Retention => *value,
            _ => value & 0xFF,
        };
        let walk = Walk { what: *what, uid: *uid, source: source & 0xFF, value, mode: *mode };
        let mut counts = [0u32; 3];
        let mut stack = vec![*inode];
        while let Some(inode) = stack.pop() {
            let n = *self.model.node(inode)?;
            self.set_one(ts, inode, &walk, &mut counts)?;
            if n.is_dir() && mode & RECURSIVE != 0 {
                let mut at = n.a;
                while at != NONE {
                    let e = self.model.edges.get(at);
                    stack.push(e.child);
                    at = e.next;
                }
            }
        }
        let [changed, same, denied] = counts;
        let refused = mode & RECURSIVE == 0 && denied > 0 && changed == 0 && same == 0;
        ensure(!refused, Status::EPERM)?;
        ensure(counts == *expect, Status::MISMATCH)
    }

    fn set_one(&mut self, ts: u32, inode: u32, w: &Walk, counts: &mut [u32; 3]) -> Outcome {
        let n = *self.model.node(inode)?;
        let eattr = w.what == Attribute::Eattr;
        if !eattr && !n.is_dir() && !n.is_file() {
            return Ok(());
        }
        let protected =
            self.model.has_snapshot_bit() && n.eattr & IMMUTABLE != 0 && (!eattr || w.value & u32::from(NO_OWNER) != 0);
        if (n.eattr & NO_OWNER == 0 && w.uid != 0 && n.uid != w.uid) || protected {
            return bump(counts, 2);
        }
        let old = match w.what {
            Attribute::Class | Attribute::Goal => u32::from(n.class),
            Attribute::Retention => n.retention,
            Attribute::Eattr => u32::from(n.eattr),
        };
        let changed = if eattr {
            self.set_eattr(inode, w)?
        } else {
            let set = match w.mode & 3 {
                0 => old != w.value,
                1 => old < w.value,
                2 => old > w.value,
                _ => w.what != Attribute::Retention && old == w.source,
            };
            if set && w.what == Attribute::Retention {
                self.model.node_mut(inode)?.retention = w.value;
            } else if set {
                self.change_class(inode, (w.value & 0xFF) as u8)?;
            }
            set
        };
        if !changed {
            return bump(counts, 1);
        }
        self.model.node_mut(inode)?.ctime = ts;
        self.model.check_archive(inode, ts, BY_CTIME);
        bump(counts, 0)
    }

    fn set_eattr(&mut self, inode: u32, w: &Walk) -> Outcome<bool> {
        let n = self.model.node_mut(inode)?;
        let mut value = (w.value & 0xFF) as u8;
        if !n.is_dir() {
            n.eattr &= !NO_ENTRY_CACHE;
            value &= !NO_ENTRY_CACHE;
        }
        let new = match w.mode & 3 {
            0 => value,
            1 => n.eattr | value,
            2 => n.eattr & !value,
            _ => n.eattr,
        };
        let changed = new != n.eattr;
        n.eattr = new;
        Ok(changed)
    }

    pub(super) fn archive(&mut self, ts: u32, inode: u32, uid: u32, cmd: u8, expect: (u64, u64, u32)) -> Outcome {
        ensure(cmd <= 1, Status::EINVAL)?;
        let top = *self.model.node(inode)?;
        ensure(top.is_dir() || top.is_file(), Status::EPERM)?;
        let (mut changed, mut same, mut denied) = (0u64, 0u64, 0u32);
        let mut stack = vec![inode];
        while let Some(i) = stack.pop() {
            let n = *self.model.node(i)?;
            if n.is_dir() {
                let mut at = n.a;
                while at != NONE {
                    let e = self.model.edges.get(at);
                    stack.push(e.child);
                    at = e.next;
                }
            }
            if !n.is_file() {
                continue;
            }
            if (n.eattr & NO_OWNER == 0 && uid != 0 && n.uid != uid) || n.eattr & IMMUTABLE != 0 {
                denied = denied.saturating_add(1);
                continue;
            }
            let (all, c) = self.model.set_archived(&n, cmd == 1);
            changed = changed.saturating_add(c);
            same = same.saturating_add(all.saturating_sub(c));
            let m = self.model.node_mut(i)?;
            m.flags = if cmd == 0 { m.flags | KEEP_MODE } else { m.flags & !KEEP_MODE };
            if cmd == 0 {
                m.ctime = ts;
            }
        }
        ensure(top.is_dir() || denied == 0 || changed != 0 || same != 0, Status::EPERM)?;
        ensure((changed, same, denied) == expect, Status::MISMATCH)
    }

    pub(super) fn auto_archive(&mut self, inode: u32, reftime: u32, in_trash: u8, expect: (u32, u32)) -> Outcome {
        let n = *self.model.node(inode)?;
        ensure(n.is_file(), Status::EPERM)?;
        let (mut arch, mut trash) = (0u32, 0u32);
        for i in 0..n.b {
            let id = self.model.chunk_ids(&n).get(i as usize).copied().unwrap_or(0);
            if id == 0 {
                continue;
            }
            let c = *self.model.chunks.get(id).ok_or(Status::NOCHUNK)?;
            let mut flags = c.flags;
            if reftime > c.locked && flags & 1 == 0 {
                flags = (flags & 2) | 1;
                arch = arch.saturating_add(1);
            }
            let shared = !self.model.chunks.single(&c) && !self.model.chunks.unused(&c);
            if (in_trash == 0 || shared) && c.flags & 2 != 0 {
                flags &= 1;
                trash = trash.saturating_add(1);
            }
            if let Some(c) = self.model.chunks.get_mut(id) {
                c.flags = flags;
            }
        }
        ensure((arch, trash) == expect, Status::MISMATCH)
    }

    pub(super) fn set_xattr(&mut self, ts: u32, inode: u32, name: &[u8], value: &[u8], mode: u32) -> Outcome {
        ensure(!name.is_empty() && name.len() <= 255 && value.len() <= MAX_VALUE && mode <= 3, Status::EINVAL)?;
        self.model.node(inode)?;
        self.model.charge((name.len() as u64).saturating_add(value.len() as u64).saturating_add(64))?;
        let seq = self.model.next_seq();
        let known = self.model.xattrs.contains_key(&inode);
        ensure(known || mode < 2, Status::ENOATTR)?;
        let x = self.model.xattrs.entry(inode).or_insert_with(|| Xattrs { seq, list: Vec::new() });
        let at = x.list.iter().position(|x| x.name() == name);
        match (at, mode) {
            (Some(_), 1) => return Err(Status::EEXIST),
            (None, 2 | 3) => return Err(Status::ENOATTR),
            (Some(at), 3) => {
                x.list.remove(at);
            }
            (Some(at), _) => {
                if let Some(x) = x.list.get_mut(at) {
                    *x = Xattr::new(name, value, x.seq);
                }
            }
            (None, _) => {
                let names: usize = x.list.iter().map(|x| x.name().len().saturating_add(1)).sum();
                ensure(names.saturating_add(name.len()).saturating_add(1) <= MAX_VALUE, Status::ERANGE)?;
                x.list.insert(0, Xattr::new(name, value, seq));
            }
        }
        let empty = x.list.is_empty();
        if empty {
            self.model.xattrs.remove(&inode);
        }
        let n = self.model.node_mut(inode)?;
        n.flags = if empty { n.flags & !HAS_XATTR } else { n.flags | HAS_XATTR };
        n.ctime = ts;
        self.model.check_archive(inode, ts, BY_CTIME);
        Ok(())
    }

    /// Stores or removes a list as the original does: an access list that says no more than the mode is not kept.
    pub(super) fn store_acl(
        &mut self,
        inode: u32,
        kind: u8,
        perms: [u16; 4],
        users: u16,
        entries: Vec<AclEntry>,
    ) -> Outcome {
        let [user, group, other, mask] = perms;
        let bit = if kind == 1 { HAS_ACCESS_ACL } else { HAS_DEFAULT_ACL };
        let plain = entries.is_empty() && user <= 7 && group <= 7 && other <= 7 && mask == 0xFFFF;
        let n = self.model.node_mut(inode)?;
        if kind == 1 && plain {
            n.flags &= !bit;
            self.model.acls.remove(&(inode, kind));
        } else {
            n.flags |= bit;
            self.model.put_acl(AclRecord { inode, kind, user, group, other, mask, users, entries });
        }
        Ok(())
    }

    pub(super) fn set_acl(&mut self, ts: u32, a: &AclArgs, blob: &[u8]) -> Outcome {
        let [users, groups] = a.named;
        let count = usize::from(users).saturating_add(usize::from(groups));
        ensure(blob.len() == count.saturating_mul(AclEntry::SIZE), Status::MISMATCH)?;
        self.model.node(a.inode)?;
        ensure(matches!(a.kind, 1 | 2), Status::EINVAL)?;
        if a.perms == [0xFFFF; 4] && count == 0 {
            self.model.acls.remove(&(a.inode, a.kind));
            let bit = if a.kind == 1 { HAS_ACCESS_ACL } else { HAS_DEFAULT_ACL };
            self.model.node_mut(a.inode)?.flags &= !bit;
            return Ok(());
        }
        self.model.charge((blob.len() as u64).saturating_add(64))?;
        self.store_acl(a.inode, a.kind, a.perms, users, AclEntry::list(blob))?;
        let n = self.model.node_mut(a.inode)?;
        n.mode = a.mode & 0xFFF;
        if a.change_ctime != 0 {
            n.ctime = ts;
            self.model.check_archive(a.inode, ts, BY_CTIME);
        }
        Ok(())
    }

    pub(super) fn quota(&mut self, q: &QuotaArgs) -> Outcome {
        let n = self.model.node(q.inode)?;
        ensure(n.is_dir(), Status::EPERM)?;
        let flags = (q.flags & 0xFF) as u8;
        if flags == 0 {
            self.model.quotas.remove(&q.inode);
            return Ok(());
        }
        let seq = self.model.next_seq();
        let keep = self.is(Dialect::V3);
        let (_, r) = self.model.quotas.entry(q.inode).or_insert((seq, QuotaRecord::default()));
        let given = q.grace.unwrap_or(0);
        let grace = if keep && given == 0 { r.grace } else { given };
        *r = QuotaRecord {
            inode: q.inode,
            grace,
            exceeded: (q.exceeded & 0xFF) as u8,
            flags,
            time: q.time,
            inodes: q.inodes,
            limits: q.limits,
        };
        Ok(())
    }

    pub(super) fn add_attr(&mut self, ts: u32, inode: u32, flags: u8, blob: &[u8]) -> Outcome {
        self.model.node(inode)?;
        let parsed = super::misc::AddAttr::parse(flags, blob).ok_or(Status::EINVAL)?;
        self.model.charge(blob.len() as u64)?;
        let n = self.model.node_mut(inode)?;
        if let Some(w) = parsed.winattr {
            n.winattr = w;
        }
        if let Some(e) = parsed.eattr {
            n.eattr = e;
        }
        if let Some(list) = parsed.xattrs {
            self.replace_xattrs(inode, list)?;
        }
        if let Some([access, default]) = parsed.acls {
            self.replace_acls(ts, inode, access, default)?;
        }
        Ok(())
    }

    fn replace_xattrs(&mut self, inode: u32, list: Vec<Xattr>) -> Outcome {
        let old = self.model.xattrs.get(&inode);
        let has = |o: &Xattrs, x: &Xattr| o.list.iter().any(|y| (y.name(), y.value()) == (x.name(), x.value()));
        let same = old.is_none_or(|o| o.list.len() == list.len() && list.iter().all(|x| has(o, x)))
            && old.map_or(0, |o| o.list.len()) == list.len();
        if same {
            return Ok(());
        }
        let n = self.model.node_mut(inode)?;
        if list.is_empty() {
            n.flags &= !HAS_XATTR;
            self.model.xattrs.remove(&inode);
        } else {
            n.flags |= HAS_XATTR;
            let seq = self.model.next_seq();
            self.model.xattrs.entry(inode).or_insert_with(|| Xattrs { seq, list: Vec::new() }).list = list;
        }
        Ok(())
    }

    fn replace_acls(&mut self, ts: u32, inode: u32, access: Option<AclRecord>, default: Option<AclRecord>) -> Outcome {
        match default {
            Some(d) => self.store_acl(inode, 2, [d.user, d.group, d.other, d.mask], d.users, d.entries)?,
            None => {
                self.model.acls.remove(&(inode, 2));
                self.model.node_mut(inode)?.flags &= !HAS_DEFAULT_ACL;
            }
        }
        let Some(a) = access else {
            self.model.acls.remove(&(inode, 1));
            self.model.node_mut(inode)?.flags &= !HAS_ACCESS_ACL;
            return Ok(());
        };
        let bits = ((a.user & 7) << 6) | ((a.group & 7) << 3) | (a.other & 7);
        self.store_acl(inode, 1, [a.user, a.group, a.other, a.mask], a.users, a.entries)?;
        let n = self.model.node_mut(inode)?;
        let mode = (n.mode & 0o7000) | bits;
        if mode != n.mode {
            n.mode = mode;
            n.ctime = ts;
        }
        Ok(())
    }
}

fn bump(counts: &mut [u32; 3], at: usize) -> Outcome {
    if let Some(n) = counts.get_mut(at) {
        *n = n.saturating_add(1);
    }
    Ok(())
}

//! Storage classes, patterns, chunk servers, the identity of the filesystem, and the blob of `ADDATTR`.

use recovery_core::Cursor;

use super::{Replayer, ensure};
use crate::changelog::op::{ClassArgs, ClassSet, ModeArgs, PatternArgs};
use crate::changelog::unescape;
use crate::dialect::Dialect;
use crate::format::attr::{AclEntry, AclRecord};
use crate::format::sclass::{Class, Rules, StorageMode};
use crate::format::small::{PatternRecord, ServerRecord};
use crate::model::classes::expression;
use crate::model::{Outcome, Status, Xattr};

/// What the blob of `ADDATTR` says.
#[derive(Default)]
pub(super) struct AddAttr {
    pub(super) winattr: Option<u8>,
    pub(super) eattr: Option<u8>,
    pub(super) xattrs: Option<Vec<Xattr>>,
    /// Access and default list.
    pub(super) acls: Option<[Option<AclRecord>; 2]>,
}

impl AddAttr {
    pub(super) fn parse(flags: u8, blob: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(blob, 0);
        let mut out = Self::default();
        if flags & 1 != 0 {
            out.winattr = Some(c.u8("winattr").ok()?);
        }
        if flags & 2 != 0 {
            out.eattr = Some(c.u8("eattr").ok()?);
        }
        if flags & 4 != 0 {
            let mut list = Vec::new();
            for _ in 0..c.u16_be("count").ok()? {
                let n = c.u8("name length").ok()?;
                let name = c.take(usize::from(n), "name").ok()?;
                let v = c.u32_be("value length").ok()?;
                list.push(Xattr::new(name, c.take(v as usize, "value").ok()?, 0));
            }
            out.xattrs = Some(list);
        }
        if flags & 8 != 0 {
            let mask = c.u8("acl mask").ok()?;
            let mut lists = [None, None];
            for (slot, bit) in lists.iter_mut().zip([1u8, 2]) {
                if mask & bit != 0 {
                    *slot = Some(Self::acl(&mut c)?);
                }
            }
            out.acls = Some(lists);
        }
        c.is_empty().then_some(out)
    }

    fn acl(c: &mut Cursor<'_>) -> Option<AclRecord> {
        let mut f = [0u16; 6];
        for v in &mut f {
            *v = c.u16_be("acl").ok()?;
        }
        let [user, group, other, mask, users, groups] = f;
        let n = usize::from(users).saturating_add(usize::from(groups)).saturating_mul(AclEntry::SIZE);
        let entries = AclEntry::list(c.take(n, "acl entries").ok()?);
        Some(AclRecord { inode: 0, kind: 0, user, group, other, mask, users, entries })
    }
}

impl Replayer {
    pub(super) fn set_meta_id(&mut self, id: u64) -> Outcome {
        let old = self.model.metaid;
        if old == 0 && self.is(Dialect::V4) {
            let root = self.model.node_mut(1)?;
            (root.atime, root.mtime, root.ctime) = (0, 0, 0);
        }
        ensure(old == 0 || old == id, Status::EINVAL)?;
        self.model.metaid = id;
        Ok(())
    }

    pub(super) fn class_set(&mut self, s: &ClassSet, text: &[u8]) -> Outcome {
        let mut name = Vec::new();
        unescape(s.name.of(text), &mut name);
        let blank = |rules, admin, mode, delay| Class { id: s.id, name: Vec::new(), admin, mode, delay, rules };
        let four = self.is(Dialect::V4);
        let mut class = match &s.args {
            ClassArgs::Masks { lists, mode, delay, admin } if four => {
                let labels = |l: &Vec<[u32; 4]>| StorageMode {
                    ec: 0,
                    unique: 0,
                    labels_mode: 0xFF,
                    labels: l.iter().map(expression).collect(),
                };
                let [create, keep, archive] = lists;
                let modes = Box::new([
                    labels(create),
                    labels(keep),
                    labels(archive),
                    StorageMode { labels_mode: 0xFF, ..StorageMode::default() },
                ]);
                let rules = Rules::Expressions {
                    modes,
                    description: Vec::new(),
                    priority: 0,
                    group: u8::try_from(s.id).ok().filter(|&g| g < 10).unwrap_or(0),
                    archive_mode: 1,
                    min_size: 0,
                    min_retention: 0,
                };
                blank(rules, *admin, *mode, delay.wrapping_mul(24))
            }
            ClassArgs::Masks { lists: [create, keep, archive], mode, delay, admin } => {
                let rules = Rules::Masks {
                    create: create.clone(),
                    keep: keep.clone(),
                    archive: archive.clone(),
                    chunks: Vec::new(),
                };
                blank(rules, *admin, *mode, *delay)
            }
            ClassArgs::Expressions {
                description,
                priority,
                group,
                modes,
                labels_mode,
                archive_mode,
                delay,
                min_size,
                min_retention,
                admin,
            } => {
                ensure(four, Status::MISMATCH)?;
                let mut text_of = Vec::new();
                if let Some(d) = description {
                    unescape(d.of(text), &mut text_of);
                }
                let mode = |m: &ModeArgs| StorageMode {
                    ec: m.ec,
                    unique: m.unique,
                    labels_mode: m.labels_mode,
                    labels: m.labels.clone(),
                };
                let [c, k, a, t] = modes.as_ref();
                let rules = Rules::Expressions {
                    modes: Box::new([mode(c), mode(k), mode(a), mode(t)]),
                    description: text_of,
                    priority: *priority,
                    group: *group,
                    archive_mode: *archive_mode,
                    min_size: *min_size,
                    min_retention: *min_retention,
                };
                blank(rules, *admin, *labels_mode, *delay)
            }
        };
        class.name = name;
        self.model.classes.set(class, s.new != 0, s.id)
    }

    pub(super) fn ec_version(&mut self, version: u8) -> Outcome {
        ensure(version > self.model.classes.ec_version, Status::MISMATCH)?;
        self.model.classes.ec_version = version;
        Ok(())
    }

    pub(super) fn pattern_add(&mut self, p: &PatternArgs, text: &[u8]) -> Outcome {
        let mut glob = Vec::new();
        unescape(p.glob.of(text), &mut glob);
        self.model.classes.add_pattern(PatternRecord {
            glob,
            euid: p.euid,
            egid: p.egid,
            priority: p.priority,
            mask: p.mask,
            class: p.class,
            retention: p.retention,
            set: p.set,
            clear: p.clear,
        })
    }

    fn server_at(&mut self, ip: u32, port: u16) -> Outcome<&mut (u64, ServerRecord)> {
        self.model.servers.iter_mut().find(|(_, s)| s.ip == ip && s.port == port).ok_or(Status::MISMATCH)
    }

    pub(super) fn server(&mut self, op: u8, ip: u32, port: u16, arg: u32) -> Outcome {
        let id = u16::try_from(arg).map_err(|_| Status::MISMATCH);
        let taken = |r: &Self, id: u16| r.model.servers.iter().any(|(_, s)| s.id == id);
        match op {
            0 => {
                let id = id?;
                ensure(self.server_at(ip, port).is_err() && (id == 0 || !taken(self, id)), Status::MISMATCH)?;
                let seq = self.model.next_seq();
                self.model.charge(32)?;
                self.model.servers.push((seq, ServerRecord { ip, port, id, maintenance: 0, timeout: 0 }));
            }
            1 => {
                self.server_at(ip, port)?;
                self.model.servers.retain(|(_, s)| s.ip != ip || s.port != port);
            }
            2 => {
                let id = id?;
                let seq = self.model.next_seq();
                let found = self.model.servers.iter_mut().find(|(_, s)| s.id == id && id != 0);
                let (order, s) = found.ok_or(Status::MISMATCH)?;
                (*order, s.ip, s.port) = (seq, ip, port);
            }
            3 => {
                let id = id?;
                ensure(id != 0 && !taken(self, id), Status::MISMATCH)?;
                self.server_at(ip, port)?.1.id = id;
            }
            4..=6 => {
                let (_, s) = self.server_at(ip, port)?;
                s.maintenance = match op {
                    4 => 1,
                    5 => 0,
                    _ => 2,
                };
                s.timeout = arg;
            }
            _ => return Err(Status::MISMATCH),
        }
        Ok(())
    }

    pub(super) fn server_old(&mut self, ip: u32, port: u32, add: bool) -> Outcome {
        let port = u16::try_from(port).map_err(|_| Status::MISMATCH)?;
        self.server(u8::from(!add), ip, port, 0)
    }
}

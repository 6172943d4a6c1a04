//! The lines of single records.

use std::io::Write;

use recovery_core::Cursor;

use super::labels::{expression, masks};
use super::{Dump, end, hex, ip};
use crate::format::attr::{AclRecord, XattrRecord};
use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};
use crate::format::node::{Extra, Kind, NodeRecord};
use crate::format::sclass::{ClassTable, Rules};
use crate::format::session::{SessionHead, SessionRecord};
use crate::format::small::{ChunkRecord, FreeRecord, PatternRecord, QuotaRecord, ServerRecord};
use crate::format::{Decoded, Item};
use crate::model::load::feed::{Feed, Flow};
use crate::model::load::{LoadError, Section};

impl Dump<'_> {
    pub(super) fn node(&mut self, r: &NodeRecord<'_>, v: u8) {
        let kind = match r.kind {
            Kind::File => '-',
            Kind::Directory => 'D',
            Kind::Symlink => 'L',
            Kind::Fifo => 'F',
            Kind::Block => 'B',
            Kind::Char => 'C',
            Kind::Socket => 'S',
            Kind::Trash => 'T',
            Kind::Sustained => 'R',
        };
        put!(self, "NODE|k:{kind}|i:{:10}|#:{}|e:0x{:02X}", r.inode, r.class, r.eattr);
        if v >= 0x14 {
            put!(self, "|w:0x{:X}", r.winattr);
        }
        put!(self, "|m:0{:04o}|u:{:10}|g:{:10}", r.mode, r.uid, r.gid);
        put!(self, "|a:{:10},m:{:10},c:{:10}", r.atime, r.mtime, r.ctime);
        if v >= 0x14 {
            put!(self, "|t:{:5}h", r.retention);
        } else {
            put!(self, "|t:{:10}s", r.retention);
        }
        match r.extra {
            Extra::None => {}
            Extra::Device(d) => put!(self, "|d:{:5},{:5}", d >> 16, d & 0xFFFF),
            Extra::Path(p) => {
                put!(self, "|p:");
                self.name(p);
            }
            Extra::File { length, chunks, sessions } => {
                put!(self, "|l:{length:20}|c:(");
                self.list(chunks.as_chunks::<8>().0.iter(), |d, id| match u64::from_be_bytes(*id) {
                    0 => d.line.push(b'N'),
                    id => put!(d, "{id:016X}"),
                });
                if v < 0x14 {
                    put!(self, ")|r:(");
                    self.list(sessions.as_chunks::<4>().0.iter(), |d, s| put!(d, "{}", u32::from_be_bytes(*s)));
                }
                put!(self, ")");
            }
        }
        self.end();
    }

    /// Values with commas between them.
    pub(super) fn list<T>(&mut self, values: impl Iterator<Item = T>, mut one: impl FnMut(&mut Self, T)) {
        for (i, value) in values.enumerate() {
            if i > 0 {
                self.line.push(b',');
            }
            one(self, value);
        }
    }

    pub(super) fn sessions(&mut self, feed: &mut Feed<'_>, v: u8) -> std::result::Result<(), LoadError> {
        let h = feed.one("SESS", |c| SessionHead::decode(c, v))?;
        if v <= 0x11 {
            put!(self, "# dver: {} ; ", h.layout & 15);
        } else {
            put!(self, "# ");
        }
        putln!(self, "nextsessionid: {} ; statscount: {}", h.next, h.counters);
        self.each(feed, |d, c| {
            let item = SessionRecord::decode(c, &h)?;
            if let Item::Record(s) = &item {
                d.session(s, h.layout);
            }
            Ok(end(&item))
        })
    }

    pub(super) fn session(&mut self, s: &SessionRecord, layout: u8) {
        put!(self, "SESSION|s:{:10}", s.id);
        if layout >= 0x13 {
            put!(self, "|e:#{}", s.exports);
        }
        put!(self, "|p:{}|r:{:10}", ip(s.ip), s.root);
        if layout >= 0x14 {
            put!(self, "|f:0x{:02X}|u:0{:03o}", s.flags, s.umask);
        } else {
            put!(self, "|f:{:02X}", s.flags);
        }
        if layout >= 0x16 {
            put!(self, "|a:0x{:04X}", s.groups);
        } else {
            let [min, max] = s.goals;
            put!(self, "|g:{min}-{max}");
        }
        let ([t0, t1], [u, g, mu, mg]) = (s.trash, s.ids);
        put!(self, "|t:{t0:10}-{t1:10}|m:{u:10},{g:10},{mu:10},{mg:10}");
        if layout >= 0x15 {
            put!(self, "|x:0x{:08X}", s.disables);
        }
        if layout >= 0x11 {
            put!(self, "|d:{:10}", s.disconnected);
        }
        let counters = s.counters.as_chunks::<4>().0;
        let (now, last) = counters.split_at(counters.len() / 2);
        for (letter, half) in [('c', now), ('l', last)] {
            put!(self, "|{letter}:[");
            self.list(half.iter(), |d, n| put!(d, "{}", u32::from_be_bytes(*n)));
            put!(self, "]");
        }
        put!(self, "|i:");
        self.name(&s.info);
        self.end();
    }

    pub(super) fn classes(&mut self, c: &mut Cursor<'_>, v: u8) -> Decoded<()> {
        let t = ClassTable::decode(c, v)?;
        let mut rest = t.descriptions.as_slice();
        for letter in 'A'..='Z' {
            let Some((&len, tail)) = rest.split_first() else { break };
            let (text, tail) = tail.split_at(usize::from(len).min(tail.len()));
            put!(self, "LABELDESC|l:{letter}|n:");
            self.name(text);
            self.end();
            rest = tail;
        }
        if v >= 0x17 {
            putln!(self, "SCLASSEC|{}", t.ec_version);
        }
        for class in &t.classes {
            let (id, admin, mode, delay) = (class.id, class.admin, class.mode, class.delay);
            match &class.rules {
                Rules::Expressions { modes, description, priority, group, archive_mode, min_size, min_retention } => {
                    put!(self, "SCLASSMAIN|#:{id:5}|p:{priority}|g:{group}|x:{admin}|m:{mode}|a:0x{archive_mode:X}");
                    put!(self, "|d:{delay:5}|s:{min_size:20}|t:{min_retention:5}|n:");
                    self.name(&class.name);
                    put!(self, "|c:");
                    self.name(description);
                    self.end();
                    for (m, letter) in modes.iter().zip("CKAT".chars()) {
                        if !m.labels.is_empty() || m.ec > 0 {
                            putln!(self, "SCLASSEXPR|#:{id:5}|t:{letter}|e:{}", expression(m));
                        }
                    }
                }
                Rules::Masks { create, keep, archive, .. } => {
                    put!(self, "SCLASS|#:{id:5}|x:{admin}|m:{mode}|d:{delay:5}");
                    match v {
                        0..=0x13 => put!(self, "|c+k+a: {}", masks(keep)),
                        0x14 => put!(self, "|c: {} |k+a: {}", masks(create), masks(keep)),
                        _ => put!(self, "|c: {} |k: {} |a: {}", masks(create), masks(keep), masks(archive)),
                    }
                    if !class.name.is_empty() {
                        put!(self, " |n:");
                        self.name(&class.name);
                    }
                    self.end();
                }
            }
        }
        Ok(())
    }

    pub(super) fn patterns(&mut self, feed: &mut Feed<'_>, v: u8) -> std::result::Result<(), LoadError> {
        self.each(feed, |d, c| {
            let item = PatternRecord::decode(c, v)?;
            if let Item::Record(p) = &item {
                let class = if p.mask & 1 != 0 { format!("{:3}", p.class) } else { "---".to_owned() };
                let trash = if p.mask & 2 != 0 { format!("{:5}h", p.retention) } else { "------".to_owned() };
                let eattr = if p.mask & 4 != 0 { format!("+0x{:X}/-0x{:X}", p.set, p.clear) } else { "-".to_owned() };
                let id = |n: u32| if n == u32::MAX { "       ANY".to_owned() } else { format!("{n:10}") };
                put!(d, "PATTERN|v:{:3}|#:{class}|t:{trash}|e:{eattr}", p.priority);
                put!(d, "|u:{}|g:{}|p:", id(p.euid), id(p.egid));
                d.name(&p.glob);
                d.end();
            }
            Ok(end(&item))
        })
    }

    pub(super) fn chunks(&mut self, feed: &mut Feed<'_>, v: u8) -> std::result::Result<(), LoadError> {
        let next = feed.one("CHNK", |c| Ok(c.u64_be("nextchunkid")?))?;
        putln!(self, "# nextchunkid: {next:016X}");
        self.each(feed, |d, c| {
            let item = ChunkRecord::decode(c, v)?;
            if let Item::Record(r) = &item {
                put!(d, "CHUNK|i:0x{:016X}|v:0x{:08X}|t:{:10}|a:{}", r.id, r.version, r.locked, r.flags);
                if v >= 0x12 {
                    put!(d, "|(");
                    for (i, &[s, x, y, z]) in r.pairs.as_chunks::<4>().0.iter().enumerate() {
                        let semicolon = if i > 0 { ";" } else { "" };
                        put!(d, "{semicolon}s:{s},#:{}", u32::from_be_bytes([0, x, y, z]));
                    }
                    let class = match r.pairs {
                        [] => 0,
                        [only, _, _, _] => *only,
                        _ => r.class,
                    };
                    put!(d, ")|c:{class}");
                }
                d.end();
            }
            Ok(end(&item))
        })
    }

    /// A list with its length in front.
    pub(super) fn counted(
        &mut self,
        feed: &mut Feed<'_>,
        what: &str,
        mut one: impl FnMut(&mut Self, &mut Cursor<'_>) -> Decoded<()>,
    ) -> std::result::Result<(), LoadError> {
        let n = feed.one(what, |c| Ok(c.u32_be("count")?))?;
        putln!(self, "# {what}: {n}");
        let mut left = n;
        if n == 0 {
            return Ok(());
        }
        self.each(feed, |d, c| {
            one(d, c)?;
            left = left.saturating_sub(1);
            Ok(if left == 0 { Flow::End } else { Flow::Go })
        })
    }

    pub(super) fn small(&mut self, s: &Section, feed: &mut Feed<'_>) -> std::result::Result<(), LoadError> {
        let v = s.version;
        match &s.name {
            b"FREE" => self.counted(feed, "free nodes", |d, c| {
                let r = FreeRecord::decode(c)?;
                putln!(d, "FREEID|i:{:10}|f:{:10}", r.inode, r.time);
                Ok(())
            }),
            b"QUOT" => self.counted(feed, "quota nodes", |d, c| {
                let r = QuotaRecord::decode(c, v)?;
                d.quota(&r);
                Ok(())
            }),
            b"CSDB" => self.counted(feed, "chunk servers", |d, c| {
                let r = ServerRecord::decode(c, v)?;
                d.server(&r, v);
                Ok(())
            }),
            b"XATR" => self.each(feed, |d, c| {
                let item = XattrRecord::decode(c)?;
                if let Item::Record(r) = &item {
                    put!(d, "XATTR|i:{:10}|n:", r.inode);
                    d.name(r.name);
                    putln!(d, "|v:{}", hex(r.value));
                }
                Ok(end(&item))
            }),
            b"PACL" => self.each(feed, |d, c| {
                let item = AclRecord::decode(c)?;
                if let Item::Record(r) = &item {
                    d.acl(r);
                }
                Ok(end(&item))
            }),
            _ => self.locks(s, feed),
        }
    }

    pub(super) fn acl(&mut self, r: &AclRecord) {
        let (user, group, other, mask) = (r.user, r.group, r.other, r.mask);
        put!(self, "POSIXACL|i:{:10}|t:{}|u:0{user:05o}|g:0{group:05o}|o:0{other:05o}", r.inode, r.kind);
        put!(self, "|m:0{mask:05o}|n:(");
        let users = usize::from(r.users);
        self.list(r.entries.iter().enumerate(), |d, (i, e)| {
            let letter = if i < users { 'u' } else { 'g' };
            put!(d, "{letter}({}):0{:05o}", e.id, e.perm);
        });
        putln!(self, ")");
    }

    pub(super) fn locks(&mut self, s: &Section, feed: &mut Feed<'_>) -> std::result::Result<(), LoadError> {
        match &s.name {
            b"OPEN" => self.each(feed, |d, c| {
                let item = OpenRecord::decode(c)?;
                if let Item::Record(r) = &item {
                    putln!(d, "OPENFILE|s:{:10}|i:{:10}", r.session, r.inode);
                }
                Ok(end(&item))
            }),
            b"FLCK" => self.each(feed, |d, c| {
                let item = FlockRecord::decode(c)?;
                if let Item::Record(r) = &item {
                    let kind = if r.kind == 0 { 'R' } else { 'W' };
                    putln!(d, "FLOCK|i:{:10}|s:{:10}|o:{:016X}|t:{kind}", r.inode, r.session, r.owner);
                }
                Ok(end(&item))
            }),
            b"PLCK" => self.each(feed, |d, c| {
                let item = PlockRecord::decode(c)?;
                if let Item::Record(r) = &item {
                    let kind = match r.kind {
                        1 => 'R',
                        2 => 'W',
                        _ => '?',
                    };
                    put!(d, "POSIXLOCK|i:{:10}|s:{:10}|o:0x{:016X}", r.inode, r.session, r.owner);
                    putln!(d, "|p:{:10}|r:<{:20},{:20})|t:{kind}", r.pid, r.start, r.end);
                }
                Ok(end(&item))
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn quota(&mut self, r: &QuotaRecord) {
        let exceeded = u8::from(r.exceeded != 0);
        put!(self, "QUOTA|i:{:10}|g:{}|e:{exceeded}|f:0x{:02X}|s:{:10}", r.inode, r.grace, r.flags, r.time);
        let ([si, hi], [sl, hl, ss, hs, sr, hr]) = (r.inodes, r.limits);
        let list = [
            ("si", 1u8, u64::from(si), 10),
            ("hi", 0x10, u64::from(hi), 10),
            ("sl", 2, sl, 20),
            ("hl", 0x20, hl, 20),
            ("ss", 4, ss, 20),
            ("hs", 0x40, hs, 20),
            ("sr", 8, sr, 20),
            ("hr", 0x80, hr, 20),
        ];
        for (name, bit, value, width) in list {
            let text = if r.flags & bit != 0 { value.to_string() } else { "-".to_owned() };
            put!(self, "|{name}:{text:>width$}");
        }
        self.end();
    }

    pub(super) fn server(&mut self, r: &ServerRecord, v: u8) {
        put!(self, "CHUNKSERVER|i:{}|p:{:5}", ip(r.ip), r.port);
        if v >= 0x11 {
            put!(self, "|#:{:5}", r.id);
        }
        if v >= 0x13 {
            let m = match r.maintenance {
                0 => "off",
                1 => "on",
                2 => "temp",
                _ => "???",
            };
            put!(self, "|m:{m:>4}|t:{:10}", r.timeout);
        } else if v >= 0x12 {
            put!(self, "|m:{}", u8::from(r.maintenance != 0));
        }
        self.end();
    }
}

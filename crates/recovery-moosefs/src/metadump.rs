//! `mfsmetadump`: a metadata file as text, line by line as the program of 4.x prints it.
//!
//! Where that program misprints (patterns, descriptions of classes without one), the right values stand here.

use std::io::{self, Write};

use recovery_core::{Blob, Cursor, Error, Result};

use crate::format::attr::{AclRecord, XattrRecord};
use crate::format::edge::EdgeRecord;
use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};
use crate::format::node::{Extra, Kind, NodeHead, NodeRecord};
use crate::format::outer::{Signature, section_name};
use crate::format::sclass::{ClassTable, Rules, StorageMode};
use crate::format::session::{SessionHead, SessionRecord};
use crate::format::small::{ChunkRecord, FreeRecord, PatternRecord, QuotaRecord, ServerRecord};
use crate::format::{Decoded, Item};
use crate::model::load::{Outline, Section, outline};

const RULE: &str = "# -------------------------------------------------------------------";

/// What is printed, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct DumpOptions {
    /// Dots instead of bytes that do not print.
    pub(crate) dots: bool,
    /// Only this section.
    pub(crate) section: Option<String>,
}

struct Dump<'a> {
    out: &'a mut dyn Write,
    dots: bool,
}

/// Prints a metadata file.
pub(crate) fn dump(blob: &dyn Blob, options: &DumpOptions, out: &mut dyn Write) -> Result<()> {
    let o = outline(blob).map_err(|e| Error::Unusable(e.to_string()))?;
    let mut d = Dump { out, dots: options.dots };
    d.file(blob, &o, options.section.as_deref()).map_err(|e| Error::write("standard output", "write", e))?;
    if let Some(issue) = o.issues.iter().find(|i| !i.kind.keeps_everything()) {
        return Err(Error::Damaged(format!("{}: {}", blob.name(), issue.text)));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

fn ip(v: u32) -> String {
    let [a, b, c, d] = v.to_be_bytes();
    format!("{a:03}.{b:03}.{c:03}.{d:03}")
}

impl Dump<'_> {
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn name(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.dots {
            let shown: Vec<u8> = bytes.iter().map(|&b| if (32..=127).contains(&b) { b } else { b'.' }).collect();
            return self.out.write_all(&shown);
        }
        self.out.write_all(bytes)
    }

    fn file(&mut self, blob: &dyn Blob, o: &Outline, only: Option<&str>) -> io::Result<()> {
        let head = o.signature.encode();
        if only.is_none_or(|s| s == "HEAD") {
            self.line(&format!("# header: {} ({})", String::from_utf8_lossy(&head), hex(&head)))?;
            if o.signature == Signature::New {
                return self.line("empty file");
            }
            let h = &o.header;
            if o.fver < 0x20 {
                let text = format!(
                    "# maxnodeid: {} ; version: {} ; nextsessionid: {}",
                    h.max_inode, h.version, h.next_session
                );
                self.line(&text)?;
            } else {
                self.line(&format!("# version: {} ; fileid: 0x{:X}", h.version, h.metaid))?;
            }
        }
        let flat = o.signature.is_flat();
        for s in &o.sections {
            let name = section_name(&s.name);
            if only.is_some_and(|w| w != name) {
                continue;
            }
            self.line(RULE)?;
            if !flat {
                let v = s.version;
                let text = format!("{name} {}.{}", char::from(0x30 | (v >> 4)), char::from(0x30 | (v & 15)));
                let length = s.stored_length;
                self.line(&format!("# section header: {text} ({}) ; length: {length}", hex(text.as_bytes())))?;
                self.line(&format!("# section type: {name} ; version: 0x{v:02X}"))?;
            }
            let bytes = blob.bytes(s.start..s.end).map_err(|e| io::Error::new(e.kind, e.to_string()))?;
            let mut c = Cursor::new(&bytes, s.start);
            if let Err(e) = self.section(s, o, &mut c) {
                match e {
                    Fail::Write(e) => return Err(e),
                    Fail::Decode(e) => self.line(&format!("error reading metadata ({name}): {e}"))?,
                }
            }
        }
        if only.is_none() && !flat {
            self.line(RULE)?;
            self.line("# MFS END OF FILE MARKER")?;
        }
        if only.is_none() { self.line(RULE) } else { Ok(()) }
    }

    fn section(&mut self, s: &Section, o: &Outline, c: &mut Cursor<'_>) -> std::result::Result<(), Fail> {
        let v = s.version;
        let flat = o.signature.is_flat();
        match &s.name {
            b"NODE" => {
                if !flat {
                    let h = NodeHead::decode(c, v, o.fver)?;
                    if v >= 0x11 {
                        self.line(&format!("# maxinode: {} ; hashelements: {}", h.max_inode, h.count))?;
                    } else if o.fver >= 0x20 {
                        self.line(&format!("# maxinode: {}", h.max_inode))?;
                    }
                }
                while let Item::Record(r) = NodeRecord::decode(c, v)? {
                    self.node(&r, v)?;
                }
            }
            b"EDGE" => {
                if !flat && v >= 0x11 {
                    let next = c.u64_be("nextedgeid").map_err(crate::format::DecodeError::from)?;
                    self.line(&format!("# nextedgeid: {next:016X}"))?;
                }
                while let Item::Record(e) = EdgeRecord::decode(c, v)? {
                    let parent = if e.parent == 0 { "      NULL".to_owned() } else { format!("{:10}", e.parent) };
                    write!(self.out, "EDGE|p:{parent}|c:{:10}|i:0x{:016X}|n:", e.child, e.id)?;
                    self.name(e.name)?;
                    self.line("")?;
                }
            }
            b"SESS" => self.sessions(c, v)?,
            b"SCLA" | b"LABS" => self.classes(c, v)?,
            b"PATT" => self.patterns(c, v)?,
            b"CHNK" => self.chunks(c, v)?,
            _ => self.small(s, c)?,
        }
        Ok(())
    }

    fn node(&mut self, r: &NodeRecord<'_>, v: u8) -> io::Result<()> {
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
        write!(self.out, "NODE|k:{kind}|i:{:10}|#:{}|e:0x{:02X}", r.inode, r.class, r.eattr)?;
        if v >= 0x14 {
            write!(self.out, "|w:0x{:X}", r.winattr)?;
        }
        write!(self.out, "|m:0{:04o}|u:{:10}|g:{:10}", r.mode, r.uid, r.gid)?;
        write!(self.out, "|a:{:10},m:{:10},c:{:10}", r.atime, r.mtime, r.ctime)?;
        if v >= 0x14 {
            write!(self.out, "|t:{:5}h", r.retention)?;
        } else {
            write!(self.out, "|t:{:10}s", r.retention)?;
        }
        match r.extra {
            Extra::None => {}
            Extra::Device(d) => write!(self.out, "|d:{:5},{:5}", d >> 16, d & 0xFFFF)?,
            Extra::Path(p) => {
                write!(self.out, "|p:")?;
                self.name(p)?;
            }
            Extra::File { length, chunks, sessions } => {
                let ids: Vec<String> = chunks
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|c| u64::from_be_bytes(*c))
                    .map(|c| if c == 0 { "N".to_owned() } else { format!("{c:016X}") })
                    .collect();
                write!(self.out, "|l:{length:20}|c:({})", ids.join(","))?;
                if v < 0x14 {
                    let list: Vec<String> =
                        sessions.as_chunks::<4>().0.iter().map(|s| u32::from_be_bytes(*s).to_string()).collect();
                    write!(self.out, "|r:({})", list.join(","))?;
                }
            }
        }
        self.line("")
    }

    fn sessions(&mut self, c: &mut Cursor<'_>, v: u8) -> std::result::Result<(), Fail> {
        let h = SessionHead::decode(c, v)?;
        self.line(&format!("# nextsessionid: {} ; statscount: {}", h.next, h.counters))?;
        while let Item::Record(s) = SessionRecord::decode(c, &h)? {
            let l = h.layout;
            write!(self.out, "SESSION|s:{:10}", s.id)?;
            if l >= 0x13 {
                write!(self.out, "|e:#{}", s.exports)?;
            }
            write!(self.out, "|p:{}|r:{:10}", ip(s.ip), s.root)?;
            if l >= 0x14 {
                write!(self.out, "|f:0x{:02X}|u:0{:03o}", s.flags, s.umask)?;
            } else {
                write!(self.out, "|f:{:02X}", s.flags)?;
            }
            if l >= 0x16 {
                write!(self.out, "|a:0x{:04X}", s.groups)?;
            } else {
                let [min, max] = s.goals;
                write!(self.out, "|g:{min}-{max}")?;
            }
            let ([t0, t1], [u, g, mu, mg]) = (s.trash, s.ids);
            write!(self.out, "|t:{t0:10}-{t1:10}|m:{u:10},{g:10},{mu:10},{mg:10}")?;
            if l >= 0x15 {
                write!(self.out, "|x:0x{:08X}", s.disables)?;
            }
            if l >= 0x11 {
                write!(self.out, "|d:{:10}", s.disconnected)?;
            }
            let all: Vec<String> =
                s.counters.as_chunks::<4>().0.iter().map(|c| u32::from_be_bytes(*c).to_string()).collect();
            let (now, last) = all.split_at(all.len() / 2);
            write!(self.out, "|c:[{}]|l:[{}]|i:", now.join(","), last.join(","))?;
            self.name(&s.info)?;
            self.line("")?;
        }
        Ok(())
    }

    fn classes(&mut self, c: &mut Cursor<'_>, v: u8) -> std::result::Result<(), Fail> {
        let t = ClassTable::decode(c, v)?;
        if v >= 0x17 {
            self.line(&format!("SCLASSEC|{}", t.ec_version))?;
        }
        for class in &t.classes {
            match &class.rules {
                Rules::Expressions { modes, description, priority, group, archive_mode, min_size, min_retention } => {
                    write!(
                        self.out,
                        "SCLASSMAIN|#:{:5}|p:{priority}|g:{group}|x:{}|m:{}|a:0x{archive_mode:X}|d:{:5}|s:{min_size:20}|t:{min_retention:5}|n:",
                        class.id, class.admin, class.mode, class.delay
                    )?;
                    self.name(&class.name)?;
                    write!(self.out, "|c:")?;
                    self.name(description)?;
                    self.line("")?;
                    for (m, letter) in modes.iter().zip("CKAT".chars()) {
                        if !m.labels.is_empty() || m.ec > 0 {
                            self.line(&format!("SCLASSEXPR|#:{:5}|t:{letter}|e:{}", class.id, expression(m)))?;
                        }
                    }
                }
                Rules::Masks { create, keep, archive, .. } => {
                    write!(self.out, "SCLASS|#:{:5}|x:{}|m:{}|d:{:5}", class.id, class.admin, class.mode, class.delay)?;
                    write!(self.out, "|c: {} |k: {} |a: {} |n:", masks(create), masks(keep), masks(archive))?;
                    self.name(&class.name)?;
                    self.line("")?;
                }
            }
        }
        Ok(())
    }

    fn patterns(&mut self, c: &mut Cursor<'_>, v: u8) -> std::result::Result<(), Fail> {
        while let Item::Record(p) = PatternRecord::decode(c, v)? {
            let class = if p.mask & 1 != 0 { format!("{:3}", p.class) } else { "---".to_owned() };
            let trash = if p.mask & 2 != 0 { format!("{:5}h", p.retention) } else { "------".to_owned() };
            let eattr = if p.mask & 4 != 0 { format!("+0x{:X}/-0x{:X}", p.set, p.clear) } else { "-".to_owned() };
            let id = |n: u32| if n == u32::MAX { "       ANY".to_owned() } else { format!("{n:10}") };
            write!(self.out, "PATTERN|v:{:3}|#:{class}|t:{trash}|e:{eattr}", p.priority)?;
            write!(self.out, "|u:{}|g:{}|p:", id(p.euid), id(p.egid))?;
            self.name(&p.glob)?;
            self.line("")?;
        }
        Ok(())
    }

    fn chunks(&mut self, c: &mut Cursor<'_>, v: u8) -> std::result::Result<(), Fail> {
        let next = c.u64_be("nextchunkid").map_err(crate::format::DecodeError::from)?;
        self.line(&format!("# nextchunkid: {next:016X}"))?;
        while let Item::Record(r) = ChunkRecord::decode(c, v)? {
            write!(self.out, "CHUNK|i:0x{:016X}|v:0x{:08X}|t:{:10}|a:{}", r.id, r.version, r.locked, r.flags)?;
            if v >= 0x12 {
                let pairs: Vec<String> = r
                    .pairs
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&[s, x, y, z]| format!("s:{s},#:{}", u32::from_be_bytes([0, x, y, z])))
                    .collect();
                let class = match r.pairs {
                    [] => 0,
                    [only, _, _, _] => *only,
                    _ => r.class,
                };
                write!(self.out, "|({})|c:{class}", pairs.join(";"))?;
            }
            self.line("")?;
        }
        Ok(())
    }

    fn small(&mut self, s: &Section, c: &mut Cursor<'_>) -> std::result::Result<(), Fail> {
        let v = s.version;
        match &s.name {
            b"FREE" => {
                let n = count(c)?;
                self.line(&format!("# free nodes: {n}"))?;
                for _ in 0..n {
                    let r = FreeRecord::decode(c)?;
                    self.line(&format!("FREEID|i:{:10}|f:{:10}", r.inode, r.time))?;
                }
            }
            b"QUOT" => {
                let n = count(c)?;
                self.line(&format!("# quota nodes: {n}"))?;
                for _ in 0..n {
                    let r = QuotaRecord::decode(c, v)?;
                    self.quota(&r)?;
                }
            }
            b"CSDB" => {
                let n = count(c)?;
                self.line(&format!("# chunk servers: {n}"))?;
                for _ in 0..n {
                    let r = ServerRecord::decode(c, v)?;
                    self.server(&r, v)?;
                }
            }
            b"XATR" => {
                while let Item::Record(r) = XattrRecord::decode(c)? {
                    write!(self.out, "XATTR|i:{:10}|n:", r.inode)?;
                    self.name(r.name)?;
                    self.line(&format!("|v:{}", hex(r.value)))?;
                }
            }
            b"PACL" => {
                while let Item::Record(r) = AclRecord::decode(c)? {
                    let named: Vec<String> = r
                        .entries
                        .iter()
                        .enumerate()
                        .map(|(i, e)| {
                            let letter = if i < usize::from(r.users) { 'u' } else { 'g' };
                            format!("{letter}({}):0{:05o}", e.id, e.perm)
                        })
                        .collect();
                    self.line(&format!(
                        "POSIXACL|i:{:10}|t:{}|u:0{:05o}|g:0{:05o}|o:0{:05o}|m:0{:05o}|n:({})",
                        r.inode,
                        r.kind,
                        r.user,
                        r.group,
                        r.other,
                        r.mask,
                        named.join(",")
                    ))?;
                }
            }
            b"OPEN" => {
                while let Item::Record(r) = OpenRecord::decode(c)? {
                    self.line(&format!("OPENFILE|s:{:10}|i:{:10}", r.session, r.inode))?;
                }
            }
            b"FLCK" => {
                while let Item::Record(r) = FlockRecord::decode(c)? {
                    let kind = if r.kind == 0 { 'R' } else { 'W' };
                    self.line(&format!("FLOCK|i:{:10}|s:{:10}|o:{:016X}|t:{kind}", r.inode, r.session, r.owner))?;
                }
            }
            b"PLCK" => {
                while let Item::Record(r) = PlockRecord::decode(c)? {
                    let kind = match r.kind {
                        1 => 'R',
                        2 => 'W',
                        _ => '?',
                    };
                    self.line(&format!(
                        "POSIXLOCK|i:{:10}|s:{:10}|o:0x{:016X}|p:{:10}|r:<{:20},{:20})|t:{kind}",
                        r.inode, r.session, r.owner, r.pid, r.start, r.end
                    ))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn quota(&mut self, r: &QuotaRecord) -> io::Result<()> {
        let exceeded = u8::from(r.exceeded != 0);
        write!(self.out, "QUOTA|i:{:10}|g:{}|e:{exceeded}|f:0x{:02X}|s:{:10}", r.inode, r.grace, r.flags, r.time)?;
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
            write!(self.out, "|{name}:{text:>width$}")?;
        }
        self.line("")
    }

    fn server(&mut self, r: &ServerRecord, v: u8) -> io::Result<()> {
        write!(self.out, "CHUNKSERVER|i:{}|p:{:5}", ip(r.ip), r.port)?;
        if v >= 0x11 {
            write!(self.out, "|#:{:5}", r.id)?;
        }
        if v >= 0x13 {
            let m = match r.maintenance {
                0 => "off",
                1 => "on",
                2 => "temp",
                _ => "???",
            };
            write!(self.out, "|m:{m:>4}|t:{:10}", r.timeout)?;
        } else if v >= 0x12 {
            write!(self.out, "|m:{}", u8::from(r.maintenance != 0))?;
        }
        self.line("")
    }
}

fn count(c: &mut Cursor<'_>) -> Decoded<u32> {
    Ok(c.u32_be("count")?)
}

enum Fail {
    Write(io::Error),
    Decode(crate::format::DecodeError),
}

impl From<io::Error> for Fail {
    fn from(e: io::Error) -> Self {
        Self::Write(e)
    }
}

impl From<crate::format::DecodeError> for Fail {
    fn from(e: crate::format::DecodeError) -> Self {
        Self::Decode(e)
    }
}

fn letters(mask: u32) -> String {
    (b'A'..=b'Z').zip(0u32..).filter(|(_, k)| mask & (1 << k) != 0).map(|(c, _)| char::from(c)).collect()
}

fn masks(list: &[[u32; 4]]) -> String {
    let one = |m: &[u32; 4]| {
        let parts: Vec<String> = m.iter().take_while(|v| **v != 0).map(|&v| letters(v)).collect();
        if parts.is_empty() { "*".to_owned() } else { parts.join("+") }
    };
    list.iter().map(one).collect::<Vec<_>>().join(":")
}

/// A postfix label expression as it is typed: `A|B`, `A&B`, `~A`, `*`.
fn infix(rpn: &[u8]) -> String {
    let mut stack: Vec<(String, u8)> = Vec::new();
    for &b in rpn.iter().take_while(|&&b| b != 0) {
        match b {
            0xFF => stack.push(("*".to_owned(), 0)),
            0xC0..=0xFE => stack.push((char::from(b'A'.saturating_add(b & 0x3F)).to_string(), 0)),
            0x40..=0xBF => {
                let n = usize::from(b & 0x3F).saturating_add(2);
                let (level, sign) = if b >= 0x80 { (1, "&") } else { (2, "|") };
                let Some(at) = stack.len().checked_sub(n) else { return "ERROR".to_owned() };
                let parts: Vec<String> =
                    stack.drain(at..).map(|(s, l)| if l > level { format!("({s})") } else { s }).collect();
                stack.push((parts.join(sign), level));
            }
            1 => match stack.pop() {
                Some((s, 0)) => stack.push((format!("~{s}"), 0)),
                Some((s, _)) => stack.push((format!("~({s})"), 0)),
                None => return "ERROR".to_owned(),
            },
            _ => return "ERROR".to_owned(),
        }
    }
    match stack.as_slice() {
        [] => "*".to_owned(),
        [(only, _)] => only.clone(),
        _ => "ERROR".to_owned(),
    }
}

fn expression(m: &StorageMode) -> String {
    let mut out = String::new();
    if m.ec > 0 {
        let parts = m.ec >> 4;
        let data = if parts == 4 || parts == 8 { format!("{parts}+") } else { String::new() };
        out = format!("@{data}{}", m.ec & 15);
    }
    let mut rest = m.labels.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|l| infix(l) == infix(first)).count();
        if !out.is_empty() {
            out.push(',');
        }
        if same > 1 {
            out.push_str(&same.to_string());
        }
        out.push_str(&infix(first));
        rest = rest.get(same..).unwrap_or_default();
    }
    if m.unique != 0 {
        out.push('/');
        out.push_str(&if m.unique & (1 << 31) != 0 {
            "[IP]".to_owned()
        } else if m.unique & (1 << 30) != 0 {
            "[RACK]".to_owned()
        } else {
            letters(m.unique)
        });
    }
    match m.labels_mode {
        0 => out.push_str(":LOOSE"),
        1 => out.push_str(":STD"),
        2 => out.push_str(":STRICT"),
        _ => {}
    }
    out
}

//! `mfsmetadump`: a metadata file as text, line by line as the program of 4.x prints it.
//!
//! Where that program misprints (patterns, session and owner of whole-file locks, descriptions of classes without one),
//! the right values stand here. Sections are read in pieces: a dump of any file takes a few megabytes.

/// Appends to the collected text, which cannot fail.
macro_rules! put {
    ($d:expr, $($text:tt)*) => {{ let _ = write!($d.line, $($text)*); }};
}

/// Appends a line.
macro_rules! putln {
    ($d:expr, $($text:tt)*) => {{ put!($d, $($text)*); $d.end(); }};
}

mod labels;
mod records;

use std::io::Write;

use recovery_core::{Blob, Cursor, Error, ReadError, Result};

use crate::format::edge::EdgeRecord;
use crate::format::node::{NodeHead, NodeRecord};
use crate::format::outer::{Signature, newest, section_name};
use crate::format::{Decoded, Item};
use crate::model::load::feed::{Feed, Flow};
use crate::model::load::{LoadError, Outline, Section, outline};

const RULE: &str = "# -------------------------------------------------------------------";
/// Bytes collected before they are written.
const FULL: usize = 1 << 16;

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
    line: Vec<u8>,
    failed: Option<std::io::Error>,
    dots: bool,
}

/// Prints a metadata file.
pub(crate) fn dump(blob: &dyn Blob, options: &DumpOptions, out: &mut dyn Write) -> Result<()> {
    let only = options.section.as_deref();
    if only.is_some_and(|s| s.len() != 4) {
        return Err(Error::Usage("a section name has four letters, such as NODE".to_owned()));
    }
    let o = outline(blob).map_err(|e| match e {
        LoadError::Read(e) => Error::Read(e),
        other => Error::Unusable(format!("{}: {other}", blob.name())),
    })?;
    let flat = o.signature.is_flat();
    if flat && only.is_some_and(|s| s != "HEAD") {
        return Err(Error::unsupported("one section of a file of 1.5 or 1.6, which has no sections"));
    }
    let mut d = Dump { out, line: Vec::with_capacity(FULL.saturating_mul(2)), failed: None, dots: options.dots };
    let outcome = d.file(blob, &o, only);
    d.flush();
    if let Some(e) = d.failed {
        return Err(Error::write("standard output", "write", e));
    }
    outcome?;
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

fn end<T>(item: &Item<T>) -> Flow {
    if matches!(item, Item::End) { Flow::End } else { Flow::Go }
}

impl Dump<'_> {
    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(&self.line).err();
        }
        self.line.clear();
    }

    fn end(&mut self) {
        self.line.push(b'\n');
        if self.line.len() >= FULL {
            self.flush();
        }
    }

    fn name(&mut self, bytes: &[u8]) {
        let dots = self.dots;
        self.line.extend(bytes.iter().map(|&b| if dots && !(32..=127).contains(&b) { b'.' } else { b }));
    }

    /// Reads records until the end mark; false in `step` ends early.
    fn each(
        &mut self,
        feed: &mut Feed<'_>,
        mut step: impl FnMut(&mut Self, &mut Cursor<'_>) -> Decoded<Flow>,
    ) -> std::result::Result<(), LoadError> {
        feed.each("", |c| {
            let flow = step(self, c)?;
            Ok(if self.failed.is_some() { Flow::End } else { flow })
        })
    }

    fn file(&mut self, blob: &dyn Blob, o: &Outline, only: Option<&str>) -> std::result::Result<(), ReadError> {
        let head = o.signature.encode();
        if only.is_none_or(|s| s == "HEAD") {
            putln!(self, "# header: {} ({})", String::from_utf8_lossy(&head), hex(&head));
            if o.signature == Signature::New {
                putln!(self, "empty file");
                return Ok(());
            }
            let h = &o.header;
            if o.fver < 0x20 {
                let (most, version, next) = (h.max_inode, h.version, h.next_session);
                putln!(self, "# maxnodeid: {most} ; version: {version} ; nextsessionid: {next}");
            } else {
                putln!(self, "# version: {} ; fileid: 0x{:X}", h.version, h.metaid);
            }
        }
        let flat = o.signature.is_flat();
        let mut all: Vec<&Section> = o.sections.iter().chain(&o.others).collect();
        all.sort_by_key(|s| s.start);
        for s in all {
            let name = section_name(&s.name);
            if only.is_some_and(|w| w != name) || self.failed.is_some() {
                continue;
            }
            putln!(self, "{RULE}");
            if !flat {
                let v = s.version;
                let text = format!("{name} {}.{}", char::from(0x30 | (v >> 4)), char::from(0x30 | (v & 15)));
                putln!(self, "# section header: {text} ({}) ; length: {}", hex(text.as_bytes()), s.stored_length);
                putln!(self, "# section type: {name} ; version: 0x{v:02X}");
            }
            let mut feed = Feed::new(blob, s.start, s.end);
            let known = newest(&s.name);
            let outcome = match known {
                None => self.unknown(blob, s),
                Some(n) if s.version > n => {
                    putln!(self, "error reading metadata ({name}): version 0x{:02X} is not known", s.version);
                    Ok(())
                }
                Some(_) => self.section(s, o, blob, &mut feed),
            };
            match outcome {
                Ok(()) => {}
                Err(LoadError::Read(e)) => return Err(e),
                Err(e) => {
                    let why = if let LoadError::Decode { error, .. } = &e { error.to_string() } else { e.to_string() };
                    putln!(self, "error reading metadata ({name}): {why}");
                }
            }
        }
        if only.is_none() && !flat && o.trailer {
            putln!(self, "{RULE}");
            putln!(self, "# MFS END OF FILE MARKER");
            putln!(self, "{RULE}");
        } else if only.is_none() && !flat {
            putln!(self, "can't read section header");
        }
        Ok(())
    }

    /// The bytes of a section nobody knows, 32 a line.
    fn unknown(&mut self, blob: &dyn Blob, s: &Section) -> std::result::Result<(), LoadError> {
        putln!(self, "unknown file part");
        let mut at = s.start;
        while at < s.end {
            let part = blob.bytes(at..s.end.min(at.saturating_add(32)))?;
            for i in 0..32 {
                match part.get(i) {
                    Some(b) => put!(self, "{b:02X} "),
                    None => put!(self, "   "),
                }
            }
            put!(self, " |");
            self.name(&part);
            self.line.extend(std::iter::repeat_n(b' ', 32usize.saturating_sub(part.len())));
            putln!(self, "|");
            at = at.saturating_add(32);
        }
        Ok(())
    }

    fn section(
        &mut self,
        s: &Section,
        o: &Outline,
        blob: &dyn Blob,
        feed: &mut Feed<'_>,
    ) -> std::result::Result<(), LoadError> {
        let v = s.version;
        let flat = o.signature.is_flat();
        match &s.name {
            b"NODE" => {
                if !flat {
                    let h = feed.one("NODE", |c| NodeHead::decode(c, v, o.fver))?;
                    if v >= 0x11 {
                        putln!(self, "# maxinode: {} ; hashelements: {}", h.max_inode, h.count);
                    } else if o.fver >= 0x20 {
                        putln!(self, "# maxinode: {}", h.max_inode);
                    }
                }
                self.each(feed, |d, c| {
                    let item = NodeRecord::decode(c, v)?;
                    if let Item::Record(r) = &item {
                        d.node(r, v);
                    }
                    Ok(end(&item))
                })
            }
            b"EDGE" => {
                if !flat && v >= 0x11 {
                    let next = feed.one("EDGE", |c| Ok(c.u64_be("nextedgeid")?))?;
                    putln!(self, "# nextedgeid: {next:016X}");
                }
                self.each(feed, |d, c| {
                    let item = EdgeRecord::decode(c, v)?;
                    if let Item::Record(e) = &item {
                        match e.parent {
                            0 => put!(d, "EDGE|p:      NULL"),
                            p => put!(d, "EDGE|p:{p:10}"),
                        }
                        put!(d, "|c:{:10}|i:0x{:016X}|n:", e.child, e.id);
                        d.name(e.name);
                        d.end();
                    }
                    Ok(end(&item))
                })
            }
            b"SESS" => self.sessions(feed, v),
            b"SCLA" | b"LABS" => {
                // at most 255 classes of at most 36 expressions: bounded by what is there
                let last = s.end.min(s.start.saturating_add(16 << 20));
                let bytes = blob.bytes(s.start..last)?;
                Ok(self.classes(&mut Cursor::new(&bytes, s.start), v)?)
            }
            b"PATT" => self.patterns(feed, v),
            b"CHNK" => self.chunks(feed, v),
            _ => self.small(s, feed),
        }
    }
}

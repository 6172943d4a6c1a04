//! The outer structure of a metadata file: which sections lie where.

use recovery_core::{Blob, Cursor};

use super::{Issue, IssueKind, LoadError, measure};
use crate::dialect::Dialect;
use crate::format::outer::{self, HEAD, Header, SECTION_HEAD, SectionHead, Signature, TRAILER, UNKNOWN_LENGTH};

/// A section and where its payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Four letters.
    pub name: [u8; 4],
    /// 0x14 for ` 1.4`.
    pub version: u8,
    /// First byte of the payload.
    pub start: u64,
    /// One past the last byte of the payload, as far as it can be told.
    pub end: u64,
    /// What the length field says.
    pub stored_length: u64,
}

impl Section {
    /// Bytes of the payload.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The outer structure of a metadata file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The first 8 bytes.
    pub signature: Signature,
    /// Version of the file: 0x15, 0x20.
    pub fver: u8,
    /// The next 16 bytes.
    pub header: Header,
    /// Which product wrote it, if that can be told.
    pub dialect: Option<Dialect>,
    /// The sections; the parts of a flat file are listed as sections of version 0x10.
    pub sections: Vec<Section>,
    /// Sections that cannot be read: of an unknown name, or of a version newer than this library.
    pub others: Vec<Section>,
    /// Whether the end marker is there.
    pub trailer: bool,
    /// What is wrong with the outer structure.
    pub issues: Vec<Issue>,
}

impl Outline {
    /// The section of this name.
    #[must_use]
    pub fn section(&self, name: &[u8; 4]) -> Option<&Section> {
        self.sections.iter().find(|s| &s.name == name)
    }

    fn issue(&mut self, kind: IssueKind, at: u64, length: u64, text: String) {
        self.issues.push(Issue { kind, at, length, text });
    }
}

/// Finds the sections of a metadata file.
///
/// # Errors
///
/// When the medium fails or the file is no metadata file of MooseFS. Damage is not an error but an [`Issue`].
pub fn outline(blob: &dyn Blob) -> Result<Outline, LoadError> {
    let (signature, header) = super::head(blob)?;
    let fver = match signature {
        Signature::New => 0x20,
        Signature::Version(v) => v,
    };
    let mut o = Outline {
        signature,
        fver,
        header,
        dialect: None,
        sections: Vec::new(),
        others: Vec::new(),
        trailer: false,
        issues: Vec::new(),
    };
    if signature == Signature::New {
        if blob.len() > 8 {
            let text = format!("{} bytes behind the signature \"MFSM NEW\", which stands alone", blob.len() - 8);
            o.issue(IssueKind::Garbage, 8, blob.len() - 8, text);
        }
        return Ok(o);
    }
    if signature.is_flat() {
        o.dialect = Some(Dialect::V16);
        flat(blob, &mut o)?;
        return Ok(o);
    }
    fork(blob, &o)?;
    if !matches!(fver, 0x16 | 0x17 | 0x20) {
        let text = format!("no product writes the signature {:?}; it is read as \"MFSM 2.0\"", signature.text());
        o.issue(IssueKind::Signature, 0, 8, text);
    }
    sections(blob, &mut o)?;
    o.dialect = Some(guess(&o));
    for name in [b"NODE", b"EDGE", b"CHNK"] {
        if o.section(name).is_none() {
            let text = format!("the section {} is missing", outer::section_name(name));
            o.issue(IssueKind::MissingSection, blob.len(), 0, text);
        }
    }
    if fver < 0x20 {
        o.issue(IssueKind::NotProven, 0, 8, "no file of this version written by a real program was at hand".into());
    }
    Ok(o)
}

/// Files of a fork with the same signature but the old header.
fn fork(blob: &dyn Blob, o: &Outline) -> Result<(), LoadError> {
    if o.fver < 0x20 || blob.len() < 28 {
        return Ok(());
    }
    if blob.bytes(HEAD..HEAD + 4)?.as_ref() == b"NODE" {
        return Err(LoadError::NotMetadata(
            "a metadata file of LizardFS or SaunaFS (its first section is NODE), which MooseFS cannot read either"
                .into(),
        ));
    }
    Ok(())
}

fn guess(o: &Outline) -> Dialect {
    let version = |name: &[u8; 4]| o.section(name).map_or(0, |s| s.version);
    let four = version(b"SCLA") >= 0x17 || version(b"PATT") > 0 || version(b"SESS") >= 0x16 || version(b"CHNK") >= 0x12;
    if four {
        return Dialect::V4;
    }
    let three = version(b"SCLA") > 0
        || version(b"LABS") > 0
        || version(b"SESS") >= 0x13
        || version(b"NODE") >= 0x14
        || version(b"CHNK") >= 0x11;
    if three { Dialect::V3 } else { Dialect::V2 }
}

/// Whether a section header or the trailer can stand here.
fn plausible(blob: &dyn Blob, at: u64) -> Result<bool, LoadError> {
    let n = blob.len().saturating_sub(at).min(16);
    let bytes = blob.bytes(at..at.saturating_add(n))?;
    if TRAILER.starts_with(&bytes) && n >= 8 {
        return Ok(true);
    }
    let mut c = Cursor::new(&bytes, at);
    Ok(match SectionHead::decode(&mut c) {
        Ok(None) => true,
        Ok(Some(h)) => h.name.iter().all(u8::is_ascii_uppercase),
        Err(_) => false,
    })
}

fn sections(blob: &dyn Blob, o: &mut Outline) -> Result<(), LoadError> {
    let mut at = HEAD;
    loop {
        let n = blob.len().saturating_sub(at).min(SECTION_HEAD);
        let bytes = blob.bytes(at..at.saturating_add(n))?;
        if bytes.as_ref() == TRAILER {
            o.trailer = true;
            let end = at.saturating_add(SECTION_HEAD);
            if end < blob.len() {
                let extra = blob.len() - end;
                let text = format!("{extra} bytes behind the end marker; everything before it is whole");
                o.issue(IssueKind::Garbage, end, extra, text);
            }
            return Ok(());
        }
        if TRAILER.starts_with(&bytes) {
            let text = format!("the end marker is cut: {n} of 16 bytes; everything before it is whole");
            o.issue(IssueKind::Trailer, at, n, text);
            return Ok(());
        }
        let mut c = Cursor::new(&bytes, at);
        let head = match SectionHead::decode(&mut c) {
            Ok(Some(h)) => h,
            Ok(None) => return Ok(()),
            Err(e) => {
                let text = format!("no section header and no end marker: {e}");
                o.issue(IssueKind::Cut, at, blob.len().saturating_sub(at), text);
                return Ok(());
            }
        };
        match place(blob, o, &head, at.saturating_add(SECTION_HEAD))? {
            Some(end) => at = end,
            None => return Ok(()),
        }
    }
}

/// Finds the end of a section; `None` when nothing behind it can be read.
fn place(blob: &dyn Blob, o: &mut Outline, head: &SectionHead, start: u64) -> Result<Option<u64>, LoadError> {
    let stated = start.checked_add(head.length).filter(|&e| e <= blob.len() && head.length != UNKNOWN_LENGTH);
    let name = head.name_text();
    let known = outer::newest(&head.name);
    let mut section =
        Section { name: head.name, version: head.version, start, end: blob.len(), stored_length: head.length };
    let readable = known.is_some_and(|newest| head.version <= newest);
    let again = o.sections.iter().any(|s| s.name == head.name);
    if let Some(end) = stated.filter(|&e| plausible(blob, e).unwrap_or(false)) {
        section.end = end;
        if known.is_none() {
            let text = format!("unknown section {name} of {} bytes is skipped", head.length);
            o.issue(IssueKind::UnknownSection, start.saturating_sub(16), head.length.saturating_add(16), text);
            o.others.push(section);
        } else if !readable {
            let text = format!(
                "section {name} has version {:#x}; this library reads up to {:#x}",
                head.version,
                known.unwrap_or(0)
            );
            o.issue(IssueKind::NewerSection, start.saturating_sub(16), head.length.saturating_add(16), text);
            o.others.push(section);
        } else if again {
            let text = format!("section {name} stands twice; the second one is dropped");
            o.issue(IssueKind::Duplicate, start.saturating_sub(16), head.length.saturating_add(16), text);
            o.others.push(section);
        } else {
            o.sections.push(section);
        }
        return Ok(Some(end));
    }
    if !readable || again {
        let text = format!("section {name} cannot be read and its length {} leads nowhere", head.length);
        o.issue(IssueKind::Cut, start.saturating_sub(16), blob.len().saturating_sub(start), text);
        return Ok(None);
    }
    let measured = measure::measure(blob, &section, o.fver)?;
    match measured {
        Ok(end) if plausible(blob, end)? || end == blob.len() => {
            section.end = end;
            if head.length != UNKNOWN_LENGTH {
                let text = format!(
                    "section {name}: the length field says {}, its records end after {} bytes",
                    head.length,
                    end.saturating_sub(start)
                );
                o.issue(IssueKind::SectionLength, start.saturating_sub(8), 8, text);
            }
            section.stored_length = end.saturating_sub(start);
            o.sections.push(section);
            Ok(Some(end))
        }
        Ok(end) => {
            let text = format!("section {name} ends at {end:#x}, but neither a section nor the end marker follows");
            o.issue(IssueKind::Cut, end, blob.len().saturating_sub(end), text);
            section.end = end;
            o.sections.push(section);
            Ok(None)
        }
        Err((at, why)) => {
            let text = format!("section {name}: {why}; its length field says {}", head.length);
            let cut = at >= blob.len() || head.length == UNKNOWN_LENGTH || stated.is_none();
            o.issue(if cut { IssueKind::Cut } else { IssueKind::Record }, at, blob.len().saturating_sub(at), text);
            o.sections.push(section);
            Ok(None)
        }
    }
}

/// The four parts of a flat file, as sections without headers.
fn flat(blob: &dyn Blob, o: &mut Outline) -> Result<(), LoadError> {
    if o.fver != 0x15 {
        let text = format!("flat file with the signature {:?}", o.signature.text());
        o.issue(IssueKind::NotProven, 0, 8, text);
    }
    let mut at = HEAD;
    for name in [b"NODE", b"EDGE", b"FREE", b"CHNK"] {
        let mut s = Section { name: *name, version: 0x10, start: at, end: blob.len(), stored_length: 0 };
        match measure::measure(blob, &s, o.fver)? {
            Ok(end) => {
                s.end = end;
                o.sections.push(s);
                at = end;
            }
            Err((bad, why)) => {
                let tail = blob.len().saturating_sub(bad);
                let zeros = name == b"CHNK" && tail < 16 && blob.bytes(bad..blob.len())?.iter().all(|&b| b == 0);
                let (kind, text) = if zeros {
                    (
                        IssueKind::Trailer,
                        format!("the end mark of the chunk list is cut: {tail} of 16 bytes; the list itself is whole"),
                    )
                } else {
                    (IssueKind::Cut, format!("{} list: {why}", outer::section_name(name)))
                };
                o.issue(kind, bad, tail, text);
                o.sections.push(s);
                return Ok(());
            }
        }
    }
    o.trailer = true;
    if at < blob.len() {
        let text = format!("{} bytes behind the end mark", blob.len() - at);
        o.issue(IssueKind::Garbage, at, blob.len() - at, text);
    }
    Ok(())
}

//! What lies in the directories: bases, logs, checksums, and what could be made of them.

use std::sync::Arc;

use recovery_core::{Blob, Context, Depth, Entry, Error, Source, Sources, parallel};

use crate::changelog::file::{LogScan, heads_and_tails, log_name, scan_all};
use crate::dialect::Dialect;
use crate::format::crc::CrcFile;
use crate::format::outer::Signature;
use crate::model::load::{IssueKind, LoadError, Outline, outline};

/// How the checksums of a base stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcState {
    /// They agree.
    Ok,
    /// At least one section differs.
    Bad,
    /// There are none for this file.
    Absent,
    /// The checksums belong to another version.
    OtherVersion,
}

impl CrcState {
    /// The name used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Bad => "bad",
            Self::Absent => "absent",
            Self::OtherVersion => "other-version",
        }
    }
}

/// A metadata file.
#[derive(Clone, Debug)]
pub struct Base {
    /// Number of the source.
    pub source: u16,
    /// The file.
    pub entry: Entry,
    /// Its bytes.
    pub blob: Arc<dyn Blob>,
    /// Its outer structure.
    pub outline: Result<Outline, String>,
    /// Whether the original program would take it.
    pub upstream: bool,
    /// How its checksums stand; known after it was loaded.
    pub crc: CrcState,
    /// Sections whose checksum differs: name, stored, computed.
    pub crc_bad: Vec<([u8; 4], u32, u32)>,
    /// Whether records of it turned out to be lost when it was loaded.
    pub lossy: bool,
}

impl Base {
    /// Version of the state in it.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.outline.as_ref().ok().map(|o| o.header.version)
    }

    /// Whether all of it can be used.
    #[must_use]
    pub fn whole(&self) -> bool {
        !self.lossy && self.outline.as_ref().is_ok_and(|o| o.issues.iter().all(|i| i.kind.keeps_everything()))
    }

    /// Whether it is the signature of a new filesystem only.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.outline.as_ref().is_ok_and(|o| o.signature == Signature::New)
    }
}

/// A change log.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// Number of the source.
    pub source: u16,
    /// The file.
    pub entry: Entry,
    /// Its bytes.
    pub blob: Arc<dyn Blob>,
    /// What is in it.
    pub scan: LogScan,
    /// Which product wrote it, if its lines tell.
    pub dialect: Option<Dialect>,
}

/// Everything found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Metadata files.
    pub bases: Vec<Base>,
    /// Change logs.
    pub logs: Vec<LogFile>,
    /// Checksum files: source, entry, content or what is wrong with it.
    pub crcs: Vec<(u16, Entry, Result<CrcFile, String>)>,
    /// Other known files: source, entry, what they are.
    pub others: Vec<(u16, Entry, &'static str)>,
    /// Files of sessions (1.5, 1.6): source, entry, what is wrong with it.
    pub sessions: Vec<(u16, Entry, Result<(), String>)>,
    /// Unknown files.
    pub foreign: Vec<(u16, Entry)>,
}

/// What a file name stands for.
fn known(name: &str) -> Option<&'static str> {
    Some(match name {
        "stats.mfs" | "stats_ml.mfs" => "statistics",
        n if n.starts_with('.') && n.ends_with(".lock") => "lock",
        n if n.starts_with("RECEIPT") || n.starts_with("SHA256SUMS") => "receipt",
        _ => return None,
    })
}

/// Largest file of sessions that is read.
const SESSIONS_MAX: u64 = 64 << 20;

/// Looks at every file of the sources.
///
/// # Errors
///
/// When a medium fails or the work is cancelled.
pub fn survey(sources: &Sources, cx: &Context) -> Result<Survey, Error> {
    let mut out = Survey::default();
    let mut logs = Vec::new();
    for (number, source) in sources.all() {
        for entry in source.list("", Depth::One) {
            let entry = entry?;
            if !entry.is_file() {
                continue;
            }
            let name = entry.file_name().to_owned();
            if log_name(&name).is_some() {
                logs.push((number, Arc::clone(source), entry));
            } else if name == "metadata.crc" {
                let blob = source.open(&entry)?;
                let small = blob.len() <= 4096;
                let parsed = if small {
                    CrcFile::decode(&blob.bytes(0..blob.len())?).map_err(|e| e.to_string())
                } else {
                    Err(format!("{} bytes are too many for a checksum file", blob.len()))
                };
                out.crcs.push((number, entry, parsed));
            } else if name.starts_with("metadata") && name.len() > 8 {
                out.bases.push(base(number, source.as_ref(), entry)?);
            } else if matches!(name.as_str(), "sessions.mfs" | "sessions_ml.mfs") && entry.size <= SESSIONS_MAX {
                let bytes = source.open(&entry)?;
                let bytes = bytes.bytes(0..bytes.len())?;
                let read = crate::format::sessions_file::SessionsFile::decode(&bytes);
                out.sessions.push((number, entry, read.map(|_| ()).map_err(|e| e.to_string())));
            } else if let Some(what) = known(&name) {
                out.others.push((number, entry, what));
            } else {
                out.foreign.push((number, entry));
            }
        }
    }
    let full = cx.full();
    let scans = parallel::map(cx, &logs, |_, (number, source, entry)| -> Result<LogFile, Error> {
        let blob = source.open(entry)?;
        let scan = if full { scan_all(blob.as_ref())? } else { heads_and_tails(blob.as_ref())? };
        let dialect = guess(blob.as_ref())?;
        Ok(LogFile { source: *number, entry: entry.clone(), blob, scan, dialect })
    })?;
    for s in scans {
        out.logs.push(s?);
    }
    out.logs.sort_by_key(|l| (l.source, l.scan.first, l.entry.name.clone()));
    out.bases.sort_by_key(|b| (b.source, b.entry.name.clone()));
    Ok(out)
}

fn base(number: u16, source: &dyn Source, entry: Entry) -> Result<Base, Error> {
    let blob = source.open(&entry)?;
    let found = match outline(blob.as_ref()) {
        Ok(o) => Ok(o),
        Err(LoadError::Read(e)) => return Err(Error::Read(e)),
        Err(_) if blob.is_empty() => Err("the file is empty".to_owned()),
        Err(e) => Err(e.to_string()),
    };
    let upstream = found.as_ref().is_ok_and(|o| accepted(o, blob.as_ref()));
    let (crc, crc_bad, lossy) = (CrcState::Absent, Vec::new(), false);
    Ok(Base { source: number, entry, blob, outline: found, upstream, crc, crc_bad, lossy })
}

/// Whether the original program takes a file for a candidate: signature, size, end, version.
fn accepted(o: &Outline, blob: &dyn Blob) -> bool {
    if o.signature == Signature::New {
        return blob.len() == 8;
    }
    if blob.len() < 24 || (o.header.version == 0 && !o.signature.is_flat()) {
        return false;
    }
    if o.signature.is_flat() {
        return true;
    }
    let tail = blob.len().saturating_sub(16);
    blob.bytes(tail..blob.len()).is_ok_and(|b| b.as_ref() == crate::format::outer::TRAILER)
}

/// Which product wrote a log, as far as its first lines tell.
fn guess(blob: &dyn Blob) -> Result<Option<Dialect>, Error> {
    let head = blob.bytes(0..blob.len().min(8 << 20))?;
    let (mut least, mut most) = (Dialect::V16, Dialect::V4);
    for line in head.split(|&b| b == b'\n') {
        match line_dialect(line) {
            Some(Tell::Is(d)) => return Ok(Some(d)),
            Some(Tell::AtLeast(d)) => least = least.max(d),
            Some(Tell::AtMost(d)) => most = most.min(d),
            None => {}
        }
    }
    Ok((least >= most).then_some(least))
}

enum Tell {
    Is(Dialect),
    AtLeast(Dialect),
    AtMost(Dialect),
}

fn line_dialect(line: &[u8]) -> Option<Tell> {
    let bar = line.iter().position(|&b| b == b'|')?;
    let op = line.get(bar.saturating_add(1)..)?;
    let word_len = op.iter().position(|&b| b == b'(')?;
    let (word, args) = op.split_at(word_len);
    let has = |needle: &[u8]| args.windows(needle.len()).any(|w| w == needle);
    match word {
        b"SESSION" | b"CUSTOMER" | b"EMPTYRESERVED" => Some(Tell::Is(Dialect::V16)),
        b"CREATE" => {
            let mut fields = args.split(|&b| b == b',');
            let kind = fields.nth(2)?;
            let letter = kind.len() == 1 && kind.first().is_some_and(u8::is_ascii_lowercase);
            Some(if letter { Tell::Is(Dialect::V16) } else { Tell::AtLeast(Dialect::V2) })
        }
        b"SESADD" | b"SESCHANGED" => {
            if !has(b"#") {
                return Some(Tell::Is(Dialect::V2));
            }
            let hex = args.split(|&b| b == b',').filter(|f| f.starts_with(b"0x")).count();
            let goals = hex <= 1 && !args.split(|&b| b == b',').any(|f| f.len() == 6 && f.starts_with(b"0x"));
            Some(Tell::Is(if goals { Dialect::V3 } else { Dialect::V4 }))
        }
        b"SCSET" => Some(Tell::Is(if has(b",W") { Dialect::V3 } else { Dialect::V4 })),
        b"ADDATTR" | b"AUTOARCH" | b"CHUNKFLAGSCLR" | b"PATADD" | b"PATDEL" | b"SCECVERSION" | b"SCECON"
        | b"SCRAIDON" | b"SESCONNECTED" | b"TRASH_RECOVER" | b"TRASH_REMOVE" => Some(Tell::Is(Dialect::V4)),
        b"MOVE" => {
            let end = args.iter().position(|&b| b == b')')?;
            let commas = args.get(..end)?.iter().filter(|&&b| b == b',').count();
            Some(if commas >= 4 { Tell::Is(Dialect::V4) } else { Tell::AtMost(Dialect::V3) })
        }
        b"LENGTH" | b"WRITE" => {
            let end = args.iter().position(|&b| b == b')')?;
            let commas = args.get(..end)?.iter().filter(|&&b| b == b',').count();
            let old = if word == b"LENGTH" { 1 } else { 2 };
            (commas > old).then_some(Tell::AtLeast(Dialect::V3))
        }
        b"EMPTYTRASH" => {
            let results = args.rsplit(|&b| b == b':').next()?;
            match results.iter().filter(|&&b| b == b',').count() {
                1 => None,
                2 => Some(Tell::Is(Dialect::V3)),
                _ => Some(Tell::Is(Dialect::V4)),
            }
        }
        _ => None,
    }
}

/// One way to a state: a base, or a new filesystem, and how far the logs lead from it.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Number of the base in [`Survey::bases`]; `None` is a new filesystem that no file stands for.
    pub base: Option<usize>,
    /// Rules to replay by.
    pub dialect: Option<Dialect>,
    /// Version of the base.
    pub from: u64,
    /// Version that the logs reach without a hole.
    pub reach: u64,
    /// Numbers of the logs that lead there.
    pub logs: Vec<usize>,
    /// The first hole behind it, if later changes exist.
    pub gap: Option<(u64, u64)>,
    /// Identity of the filesystem.
    pub metaid: u64,
    /// Whether it goes on behind missing changes.
    pub past_gaps: bool,
    /// Why it stands where it stands.
    pub reasons: Vec<String>,
}

impl Survey {
    /// Ids that the logs have.
    #[must_use]
    pub fn ids(&self) -> Vec<(u64, u64, usize)> {
        let mut runs = Vec::new();
        for (i, l) in self.logs.iter().enumerate() {
            let (Some(mut a), Some(mut b)) = (l.scan.first, l.scan.last) else {
                if let Some(id) = l.scan.rest_id.filter(|_| l.scan.rest_parses) {
                    runs.push((id, id, i));
                }
                continue;
            };
            if let Some(id) = l.scan.rest_id.filter(|_| l.scan.rest_parses) {
                b = b.max(id);
            }
            for &(x, y) in &l.scan.gaps {
                if a < x {
                    runs.push((a, x.saturating_sub(1), i));
                }
                a = y.saturating_add(1);
            }
            if a <= b {
                runs.push((a, b, i));
            }
        }
        runs.sort_unstable();
        runs
    }

    /// The product the logs name.
    #[must_use]
    pub fn log_dialect(&self) -> Option<Dialect> {
        self.logs.iter().filter_map(|l| l.dialect).max().or_else(|| {
            let zero = self.logs.iter().any(|l| l.scan.first == Some(0));
            zero.then_some(Dialect::V16)
        })
    }

    fn way(&self, base: Option<usize>, runs: &[(u64, u64, usize)], asked: Option<Dialect>) -> Way {
        let b = base.and_then(|i| self.bases.get(i));
        let logs = self.log_dialect();
        let own = b.and_then(|b| b.outline.as_ref().ok()).and_then(|o| o.dialect);
        let natural = match (own, logs) {
            (Some(Dialect::V16), _) | (_, None) => own,
            (Some(o), Some(l)) => Some(o.max(l)),
            (None, Some(l)) => Some(l),
        };
        let dialect = natural.or(asked);
        let new = b.is_none_or(Base::is_new);
        let from = match (new, dialect, b.and_then(Base::version)) {
            (true, Some(d), _) => d.first_change(),
            (_, _, Some(v)) => v,
            _ => 1,
        };
        let (mut reach, mut used, mut gap) = (from, Vec::new(), None);
        for &(a, z, i) in runs {
            if z < reach {
                continue;
            }
            if a > reach {
                gap = Some((reach, a.saturating_sub(1)));
                break;
            }
            reach = z.saturating_add(1);
            if !used.contains(&i) {
                used.push(i);
            }
        }
        // every log that reaches into the range takes part: a second copy of a line is a witness
        for &(a, z, i) in runs {
            if z >= from && a < reach && !used.contains(&i) {
                used.push(i);
            }
        }
        used.sort_unstable();
        let metaid = b.and_then(|b| b.outline.as_ref().ok()).map_or(0, |o| o.header.metaid);
        Way { base, dialect, from, reach, logs: used, gap, metaid, past_gaps: false, reasons: Vec::new() }
    }

    /// All ways to the state behind the change `until`, the best first. A base with a later state is none.
    #[must_use]
    pub fn ways(&self, asked: Option<Dialect>, until: u64) -> Vec<Way> {
        let runs = self.ids();
        let end = until.saturating_add(1);
        let mut ways: Vec<(Way, u8)> = Vec::new();
        for (i, b) in self.bases.iter().enumerate() {
            let Ok(o) = &b.outline else { continue };
            let mut w = self.way(Some(i), &runs, asked);
            if w.from > end {
                continue;
            }
            let mut rank = 3;
            if !b.whole() {
                rank = 0;
                w.reasons.push("parts of the file are lost".to_owned());
            } else if b.crc == CrcState::Bad {
                rank = 1;
                w.reasons.push("a section does not match metadata.crc".to_owned());
            } else if o.issues.iter().any(|i| i.kind != IssueKind::NotProven) {
                rank = 2;
                w.reasons.push("the outer structure is damaged, nothing is lost".to_owned());
            }
            w.reasons.push(format!("state of version {}, the logs lead to version {}", w.from, w.reach));
            ways.push((w, rank));
        }
        let implied = self.way(None, &runs, asked);
        let starts = self.ids().first().is_some_and(|r| r.0 == implied.from);
        let has_new = self.bases.iter().any(Base::is_new);
        if starts && !has_new && implied.reach > implied.from && implied.from <= end {
            let mut w = implied;
            w.reasons.push(format!("no file, but logs from the first change on; they lead to version {}", w.reach));
            ways.push((w, 2));
        }
        ways.sort_by_key(|(w, rank)| {
            let lost = u8::from(*rank == 0);
            let doubtful = u8::from(*rank == 1);
            (
                lost,
                std::cmp::Reverse(w.reach.min(end)),
                doubtful,
                std::cmp::Reverse(*rank),
                std::cmp::Reverse(w.from),
                w.base,
            )
        });
        ways.into_iter().map(|w| w.0).collect()
    }

    /// Identities of the filesystems found, other than none.
    #[must_use]
    pub fn metaids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self
            .bases
            .iter()
            .filter_map(|b| b.outline.as_ref().ok())
            .map(|o| o.header.metaid)
            .filter(|&m| m != 0)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Looks at one named file, whatever its name.
///
/// # Errors
///
/// When it is not there or the medium fails.
pub fn named(source: &dyn Source, name: &str, is_base: bool, cx: &Context) -> Result<Survey, Error> {
    let entry = source.stat(name)?.ok_or_else(|| Error::Usage(format!("{name}: there is no such file")))?;
    let mut out = Survey::default();
    if is_base {
        out.bases.push(base(0, source, entry)?);
        return Ok(out);
    }
    let blob = source.open(&entry)?;
    let scan = if cx.full() { scan_all(blob.as_ref())? } else { heads_and_tails(blob.as_ref())? };
    let dialect = guess(blob.as_ref())?;
    out.logs.push(LogFile { source: 0, entry, blob, scan, dialect });
    Ok(out)
}

//! The set of log files, and entries by their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use recovery_core::{Blob, Cursor, Depth, EntryKind, ReadError, Source};

use crate::format::file_header::{FILE_HEADER_SIZE, FileHeader};
use crate::format::header::{self, MAX_HEADER};
use crate::format::{Entry, EntryHeader, EntryType, FormatError, Lsn, MAX_LOG_VERSION, MIN_LOG_VERSION, Result};

/// What is read at once when an entry is fetched by its place.
const FETCH: u64 = 1024;

/// One log file.
#[derive(Clone)]
pub struct LogFile {
    /// Number by which entries refer to it.
    pub number: u32,
    /// Path in the source.
    pub name: String,
    /// Its bytes.
    pub blob: Arc<dyn Blob>,
    /// Bytes that count: the length, or where the log is cut.
    pub len: u64,
    /// Header, when it is there and valid.
    pub header: Option<FileHeader>,
    /// Log version concluded from the entries, when there is no header.
    pub guessed: Option<u8>,
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFile").field("name", &self.name).field("len", &self.len).finish_non_exhaustive()
    }
}

impl LogFile {
    /// Opens a file and reads its header.
    #[must_use]
    pub fn new(number: u32, name: String, blob: Arc<dyn Blob>) -> Self {
        let len = blob.len();
        let header = read_file_header(blob.as_ref()).ok();
        Self { number, name, blob, len, header, guessed: None }
    }

    /// Log version of its entries; where the header does not say one that is read, the one that explains the entries
    /// best.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.stated().or(self.guessed).unwrap_or(MAX_LOG_VERSION)
    }

    /// Log version by its header or its entries; `None` where neither says anything.
    #[must_use]
    pub fn known_version(&self) -> Option<u8> {
        self.stated().or(self.guessed)
    }

    fn stated(&self) -> Option<u8> {
        let v = u8::try_from(self.header?.version).ok()?;
        (MIN_LOG_VERSION..=MAX_LOG_VERSION).contains(&v).then_some(v)
    }

    /// The version in the header, when it is not one that is read.
    #[must_use]
    pub fn foreign_version(&self) -> Option<i32> {
        self.header.map(|h| h.version).filter(|_| self.stated().is_none())
    }
}

/// Reads and checks the first entry of a file.
///
/// # Errors
///
/// When it is not a valid file header.
pub fn read_file_header(blob: &dyn Blob) -> Result<FileHeader> {
    let have = blob.len().min(FILE_HEADER_SIZE);
    let bytes = blob.bytes(0..have).map_err(|_| FormatError::Unread { start: 0, end: have })?;
    let header = EntryHeader::decode(&mut Cursor::new(&bytes, 0))?;
    if header.kind != EntryType::FILE_HEADER {
        return Err(FormatError::BadType { found: header.kind.number(), at: 0 });
    }
    let total = usize::try_from(header.total()).unwrap_or(usize::MAX);
    let end = header.total();
    let entry = bytes.get(..total).ok_or(FormatError::PastEnd { at: 0, end, len: have })?;
    header::verify(&header, entry, 0)?;
    FileHeader::decode(&mut Cursor::new(entry.get(header.size()..).unwrap_or_default(), header.size() as u64))
}

/// The number in a name such as `0000001a.jdb`.
#[must_use]
pub fn number_of(name: &str) -> Option<u32> {
    let hex = name.strip_suffix(".jdb")?;
    let digits = hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    digits.then(|| u32::from_str_radix(hex, 16).ok()).flatten()
}

/// Name of the log file with this number.
#[must_use]
pub fn file_name(number: u32) -> String {
    format!("{number:08x}.jdb")
}

/// How many entries of a file are tried.
const TRIED: usize = 300;

/// Decodes the first entries by every version. What the damaged header still says, and what the other files say, comes
/// first where several explain as much.
fn guess_version(file: &LogFile, known: u8) -> u8 {
    let mut walker = super::Walker::new(file.blob.as_ref(), file.len);
    let stored = *walker.window(34, 1).first().unwrap_or(&0);
    let mut candidates = vec![stored, known, 17, 15, 14];
    candidates.extend((MIN_LOG_VERSION..=MAX_LOG_VERSION).rev());
    candidates.retain(|v| (MIN_LOG_VERSION..=MAX_LOG_VERSION).contains(v));
    let mut at = match walker.entry(FILE_HEADER_SIZE) {
        Ok(_) => Some(FILE_HEADER_SIZE),
        Err(_) => super::resync::next_entry(&mut walker, 0, None).map(|r| r.at),
    };
    let mut failures = vec![0u32; candidates.len()];
    for _ in 0..TRIED {
        let Some(Ok(e)) = at.map(|a| walker.entry(a)) else { break };
        at = Some(e.end());
        for (v, n) in candidates.iter().zip(&mut failures) {
            let bad = Entry::decode(e.header.kind, *v, e.item(), e.item_at()).is_err();
            *n = n.saturating_add(u32::from(bad));
        }
    }
    let best = failures.iter().zip(&candidates).min_by_key(|(n, _)| **n);
    best.map_or(MAX_LOG_VERSION, |(_, v)| *v)
}

/// A name in the directory that is not part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFile {
    /// Path in the source.
    pub name: String,
    /// Length.
    pub size: u64,
    /// What it is for JE: `lock`, `info`, `set-aside`, `unused`, `foreign`.
    pub class: &'static str,
}

/// All files of one environment.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Directory in the source, "" for its root.
    pub dir: String,
    /// By number.
    pub files: BTreeMap<u32, LogFile>,
    /// Everything else there.
    pub others: Vec<OtherFile>,
    /// Names that could not be opened or listed.
    pub unreadable: Vec<ReadError>,
}

/// An entry with its bytes.
#[derive(Clone, Debug)]
pub struct OwnedEntry {
    /// Its place.
    pub lsn: Lsn,
    /// Its header.
    pub header: EntryHeader,
    /// Log version of its file.
    pub version: u8,
    /// Header and item.
    pub bytes: Bytes,
}

impl OwnedEntry {
    /// The item.
    #[must_use]
    pub fn item(&self) -> &[u8] {
        self.bytes.get(self.header.size()..).unwrap_or_default()
    }

    /// Decodes the item.
    ///
    /// # Errors
    ///
    /// When the item is not what its type says.
    pub fn decode(&self) -> Result<Entry<'_>> {
        let at = u64::from(self.lsn.offset()).saturating_add(self.header.size() as u64);
        Entry::decode(self.header.kind, self.version, self.item(), at)
    }
}

fn class_of(name: &str) -> &'static str {
    let suffix = name.rsplit('.').next().unwrap_or_default();
    match suffix {
        _ if name == "je.lck" => "lock",
        _ if name.starts_with("je.") => "info",
        "del" | "bad" | "bup" | "tmp" => "set-aside",
        "jdb" => "unused",
        _ => "foreign",
    }
}

impl Log {
    /// Lists and opens the log files of directory `dir` of a source. Nothing is written, `je.lck` is not touched.
    #[must_use]
    pub fn open(source: &dyn Source, dir: &str) -> Self {
        let mut log = Self { dir: dir.to_owned(), ..Self::default() };
        for entry in source.list(dir, Depth::One) {
            let entry = match entry {
                Ok(e) => e,
                Err(e) => {
                    log.unreadable.push(e);
                    continue;
                }
            };
            match (entry.is_file(), number_of(entry.file_name())) {
                (true, Some(number)) => match source.open(&entry) {
                    Ok(blob) => {
                        log.files.insert(number, LogFile::new(number, entry.name.clone(), blob));
                    }
                    Err(e) => log.unreadable.push(e),
                },
                _ if entry.kind == EntryKind::Directory => {}
                _ => {
                    let class = class_of(entry.file_name());
                    log.others.push(OtherFile { name: entry.name.clone(), size: entry.size, class });
                }
            }
        }
        log.guess_versions();
        log
    }

    /// The last `n` files only: what a tail-only answer needs.
    #[must_use]
    pub fn open_last(source: &dyn Source, dir: &str, n: usize) -> Self {
        let mut log = Self { dir: dir.to_owned(), ..Self::default() };
        let mut names: Vec<_> = source
            .list(dir, Depth::One)
            .flatten()
            .filter(recovery_core::Entry::is_file)
            .filter_map(|e| number_of(e.file_name()).map(|n| (n, e)))
            .collect();
        names.sort_by_key(|(n, _)| *n);
        for (number, entry) in names.into_iter().rev().take(n) {
            if let Ok(blob) = source.open(&entry) {
                log.files.insert(number, LogFile::new(number, entry.name.clone(), blob));
            }
        }
        log.guess_versions();
        log
    }

    /// Files whose header is damaged get the log version that explains their entries best.
    fn guess_versions(&mut self) {
        let known = self.version();
        for f in self.files.values_mut().filter(|f| f.stated().is_none() && f.len > FILE_HEADER_SIZE) {
            f.guessed = Some(guess_version(f, known));
        }
    }

    /// The same files under the numbers their headers give, which is how entries refer to them; `None` when they
    /// already are, or two claim one number.
    #[must_use]
    pub fn by_header(&self) -> Option<Self> {
        let mut files = BTreeMap::new();
        for f in self.files.values() {
            let number = f.header.map_or(f.number, |h| h.number);
            if files.insert(number, LogFile { number, ..f.clone() }).is_some() {
                return None;
            }
        }
        let same = files.iter().all(|(n, f)| self.files.get(n).is_some_and(|g| g.name == f.name));
        (!same).then(|| Self { files, ..self.clone() })
    }

    /// Number of the last file.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.files.keys().next_back().copied()
    }

    /// Length of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, f| sum.saturating_add(f.len))
    }

    /// The log as it is up to `end`: later files are left out, the file of `end` is cut there.
    #[must_use]
    pub fn cut(&self, end: Lsn) -> Self {
        let mut log = self.clone();
        log.files.retain(|n, _| *n <= end.file());
        if let Some(f) = log.files.get_mut(&end.file()) {
            f.len = f.len.min(end.offset().into());
        }
        log
    }

    /// Highest log version of any file.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.files.values().filter_map(LogFile::stated).max().unwrap_or(0)
    }

    /// The entry at a place, its checksum computed.
    ///
    /// # Errors
    ///
    /// When the file is missing, the bytes cannot be read or there is no valid entry.
    pub fn entry(&self, lsn: Lsn) -> Result<OwnedEntry> {
        self.entry_hinted(lsn, FETCH)
    }

    /// As [`entry`](Self::entry), for an entry that is expected to have `hint` bytes.
    ///
    /// # Errors
    ///
    /// As [`entry`](Self::entry).
    pub fn entry_hinted(&self, lsn: Lsn, hint: u64) -> Result<OwnedEntry> {
        let at = u64::from(lsn.offset());
        let missing = FormatError::PastEnd { at, end: at, len: 0 };
        let file = self.files.get(&lsn.file()).ok_or(missing)?;
        let end = at.saturating_add(hint.max(MAX_HEADER as u64)).min(file.len);
        let read = |end: u64| file.blob.bytes(at..end).map_err(|_| FormatError::Unread { start: at, end });
        if at >= file.len {
            return Err(FormatError::PastEnd { at, end: at, len: file.len });
        }
        let mut bytes = read(end)?;
        let header = EntryHeader::decode(&mut Cursor::new(&bytes, at))?;
        let stop = at.saturating_add(header.total());
        if stop > file.len {
            return Err(FormatError::PastEnd { at, end: stop, len: file.len });
        }
        if stop > end {
            bytes = read(stop)?;
        }
        bytes.truncate(usize::try_from(header.total()).unwrap_or(usize::MAX));
        header::verify(&header, &bytes, at)?;
        Ok(OwnedEntry { lsn, header, version: file.version(), bytes })
    }
}

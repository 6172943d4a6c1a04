//! Inventory: every file of a directory, named, read as far as the check asks, nothing judged yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Blob, Check, Context, Depth, Entry, Error, LockHolder, Source, parallel};

use super::blobs::{self, BlobFacts};
use super::tables::{self, TableFacts};
use crate::format::current::{self, CurrentError};
use crate::format::file_name::{FileKind, FileName};
use crate::format::info_log;
use crate::format::options::Options;
use crate::reader::manifest::{self, Manifest};
use crate::reader::wal::{self, WalSummary};
use crate::salvage::Mend;
use crate::witness::log_state::LogState;

/// Largest OPTIONS or LOG file read; larger ones are read up to here.
const TEXT_LIMIT: u64 = 256 << 20;
/// Directory in a result that belongs to the tool.
const OWN_DIR: &str = ".recover";

/// One file.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its entry; the name holds the directory.
    pub entry: Entry,
    /// What its name says.
    pub name: FileName,
}

/// What `CURRENT` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentState {
    /// It names this MANIFEST.
    Names(u64),
    /// It is not there.
    Missing,
    /// It names nothing.
    Bad(CurrentError),
    /// It cannot be read.
    Unread(String),
}

/// Everything found in one directory.
#[derive(Debug)]
pub struct Gathered {
    /// The directory.
    pub source: Arc<dyn Source>,
    /// Its number among the sources.
    pub number: u16,
    /// Files of the directory itself, by name.
    pub items: Vec<Item>,
    /// Files below it, `.recover` left out.
    pub below: Vec<Item>,
    /// Names that could not be listed, and entries that are no files.
    pub strange: Vec<(String, String)>,
    /// `CURRENT`.
    pub current: CurrentState,
    /// MANIFESTs by number.
    pub manifests: BTreeMap<u64, Manifest>,
    /// OPTIONS files by number.
    pub options: BTreeMap<u64, Options>,
    /// The info logs, replayed.
    pub log: LogState,
    /// WALs by number.
    pub wals: BTreeMap<u64, WalSummary>,
    /// Tables by the number in their name.
    pub tables: BTreeMap<u64, TableFacts>,
    /// Blob files by number.
    pub blobs: BTreeMap<u64, BlobFacts>,
    /// `IDENTITY`.
    pub identity: Option<String>,
    /// Who holds `LOCK`.
    pub lock: Option<LockHolder>,
}

impl Gathered {
    /// The newest OPTIONS file.
    #[must_use]
    pub fn newest_options(&self) -> Option<&Options> {
        self.options.last_key_value().map(|(_, o)| o)
    }

    /// The item of that kind and number.
    #[must_use]
    pub fn item(&self, kind: FileKind, number: u64) -> Option<&Item> {
        let old = kind == FileKind::Table;
        let fits = |i: &&Item| {
            i.name.number == Some(number) && (i.name.kind == kind || (old && i.name.kind == FileKind::OldTable))
        };
        self.items.iter().find(fits)
    }

    /// The largest number in any file name that could be one of the database's own.
    #[must_use]
    pub fn largest_number(&self) -> u64 {
        self.items.iter().filter_map(|i| i.name.number).max().unwrap_or(0)
    }
}

/// Bytes one record may have: the limit of the context, as the machine counts.
#[must_use]
pub fn record_limit(cx: &Context) -> usize {
    usize::try_from(cx.limits.record).unwrap_or(usize::MAX)
}

fn small(source: &dyn Source, entry: &Entry, most: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let blob = source.open(entry)?;
        let bytes = blob.bytes(0..blob.len().min(most))?;
        Ok::<_, recovery_core::ReadError>(bytes.to_vec())
    };
    read().map_err(|e| e.to_string())
}

/// Lists the directory and reads what the check asks for.
///
/// # Errors
///
/// Interruption, or when nothing of the directory can be listed.
pub fn gather(source: &Arc<dyn Source>, number: u16, cx: &Context) -> Result<Gathered, Error> {
    gather_with(source, number, Mend::default(), cx)
}

/// As [`gather`]; `mend` says what may be done about blocks that do not match their checksums.
///
/// # Errors
///
/// As [`gather`].
pub fn gather_with(source: &Arc<dyn Source>, number: u16, mend: Mend, cx: &Context) -> Result<Gathered, Error> {
    let (mut items, mut below, mut strange) = (Vec::new(), Vec::new(), Vec::new());
    for entry in source.list("", Depth::All) {
        cx.cancelled()?;
        match entry {
            Ok(entry) if entry.name == OWN_DIR || entry.name.starts_with(".recover/") || entry.is_dir() => {}
            Ok(entry) if entry.is_file() => {
                let name = if entry.raw.is_some() { "?" } else { entry.file_name() };
                let item = Item { name: FileName::parse(name), entry: entry.clone() };
                if entry.name.contains('/') { below.push(item) } else { items.push(item) }
            }
            Ok(entry) => strange.push((entry.name.clone(), format!("{:?}", entry.kind))),
            Err(e) => strange.push((e.object.clone(), e.to_string())),
        }
    }
    let mut out = Gathered {
        source: Arc::clone(source),
        number,
        items,
        below,
        strange,
        current: CurrentState::Missing,
        manifests: BTreeMap::new(),
        options: BTreeMap::new(),
        log: LogState::default(),
        wals: BTreeMap::new(),
        tables: BTreeMap::new(),
        blobs: BTreeMap::new(),
        identity: None,
        lock: None,
    };
    texts(&mut out);
    logs(&mut out, cx)?;
    data(&mut out, mend, cx)?;
    Ok(out)
}

fn texts(out: &mut Gathered) {
    let source = Arc::clone(&out.source);
    let mut info_logs: Vec<(u64, &Item)> = Vec::new();
    for item in &out.items {
        match item.name.kind {
            FileKind::Current => {
                out.current = match small(source.as_ref(), &item.entry, current::MAX_LEN) {
                    Ok(bytes) => current::parse(&bytes).map_or_else(CurrentState::Bad, CurrentState::Names),
                    Err(e) => CurrentState::Unread(e),
                };
            }
            FileKind::Identity => {
                let text = small(source.as_ref(), &item.entry, 4096)
                    .ok()
                    .map(|b| String::from_utf8_lossy(&b).trim().to_owned());
                out.identity = text.filter(|t| !t.is_empty());
            }
            FileKind::Lock => out.lock = source.lock_holder(&item.entry.name),
            FileKind::Options => {
                if let (Some(number), Ok(bytes)) = (item.name.number, small(source.as_ref(), &item.entry, TEXT_LIMIT)) {
                    out.options.insert(number, Options::parse(&String::from_utf8_lossy(&bytes)));
                }
            }
            FileKind::InfoLog => {
                // LOG is the newest; the others carry their time in the name.
                let time = item.entry.name.rsplit('.').next().and_then(|t| t.parse().ok()).unwrap_or(u64::MAX);
                info_logs.push((time, item));
            }
            _ => {}
        }
    }
    info_logs.sort_by_key(|(time, _)| *time);
    for (_, item) in info_logs {
        if let Ok(bytes) = small(source.as_ref(), &item.entry, TEXT_LIMIT) {
            out.log.replay(&item.entry.name, &info_log::parse(&bytes));
        }
    }
}

fn of_kind(out: &Gathered, kinds: &[FileKind]) -> Vec<(u64, Entry)> {
    let fits = |i: &&Item| kinds.contains(&i.name.kind);
    out.items.iter().filter(fits).filter_map(|i| Some((i.name.number?, i.entry.clone()))).collect()
}

fn open(source: &dyn Source, entry: &Entry) -> Result<Arc<dyn Blob>, String> {
    source.open(entry).map_err(|e| e.to_string())
}

fn logs(out: &mut Gathered, cx: &Context) -> Result<(), Error> {
    let limit = record_limit(cx);
    let source = Arc::clone(&out.source);
    for (number, entry) in of_kind(out, &[FileKind::Manifest]) {
        match open(source.as_ref(), &entry) {
            Ok(blob) => drop(out.manifests.insert(number, manifest::read(blob.as_ref(), number, limit))),
            Err(e) => out.strange.push((entry.name, e)),
        }
    }
    let wals = of_kind(out, &[FileKind::Wal]);
    let read = parallel::map(cx, &wals, |_, (number, entry)| {
        let blob = open(source.as_ref(), entry)?;
        wal::summarize(blob.as_ref(), *number, limit, cx).map_err(|e| e.to_string())
    })?;
    cx.cancelled()?;
    for ((number, entry), summary) in wals.into_iter().zip(read) {
        match summary {
            Ok(summary) => drop(out.wals.insert(number, summary)),
            Err(e) => out.strange.push((entry.name, e)),
        }
    }
    Ok(())
}

fn data(out: &mut Gathered, mend: Mend, cx: &Context) -> Result<(), Error> {
    let source = Arc::clone(&out.source);
    let total = out.items.iter().map(|i| i.entry.size).fold(0, u64::saturating_add);
    cx.progress.begin(if cx.check == Check::Full { "verify" } else { "read" }, total);
    let entries = of_kind(out, &[FileKind::Table, FileKind::OldTable]);
    // A table's global sequence number and comparator may come from a MANIFEST.
    let hints = tables::Hints::from(&*out);
    let facts = parallel::map(cx, &entries, |_, (number, entry)| {
        let facts = tables::look(source.as_ref(), entry, &hints.of(*number), mend, cx);
        cx.progress.advance(entry.size);
        facts
    })?;
    out.tables = entries.into_iter().map(|(n, _)| n).zip(facts).collect();
    let entries = of_kind(out, &[FileKind::Blob]);
    let facts = parallel::map(cx, &entries, |_, (_, entry)| blobs::look(source.as_ref(), entry, cx))?;
    out.blobs = entries.into_iter().map(|(n, _)| n).zip(facts).collect();
    Ok(())
}

//! Entries of a table's lost key ranges, taken from where they still stand.
//!
//! A block that is gone from one file is often somewhere else: in another copy of the file, in the tables that a
//! compaction read to write it and that were not deleted yet, in a checkpoint, in WALs. An entry is only taken where it
//! is certain that it is the newest the lost block can have held: a stale value is worse than a missing one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use recovery_core::{Blob, Context, Error, Result, Sources};
use serde::{Deserialize, Serialize};

use crate::dump::{DatabaseView, FamilyView, OpenOptions, ViewTable};
use crate::format::blob::BlobIndex;
use crate::format::key::{KeyOrder, ParsedKey, SequenceNumber, ValueType};
use crate::format::write_batch::{DataKind, Record};
use crate::format::{InternalKey, coding};
use crate::inspect::gather::record_limit;
use crate::reader::{TableOptions, Tombstone};
use crate::salvage::Salvaged;

/// A file that holds entries: source, name there, and the sequence number that all its entries take.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Number of the source.
    pub source: u16,
    /// Name of the file in it.
    pub object: String,
    /// Sequence number given at ingestion.
    pub global_seqno: Option<u64>,
}

/// Where the entries of a lost range are taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// Another copy of the table, good at this place.
    Copy(Part),
    /// Everything that the compaction which wrote the table had read.
    Inputs(Vec<Part>),
    /// Another state of the same database that has the whole range and is no older than the table.
    Database(u16),
    /// WALs (source, name, number) with every write from a sequence number on up to the table's last.
    Logs(Vec<(u16, String, u64)>, u64),
}

/// One lost range and what fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// The lost bytes of the damaged file.
    pub range: (u64, u64),
    /// First user key that may be lost, in hexadecimal; `None`: from the beginning.
    pub after: Option<String>,
    /// Last user key that may be lost, in hexadecimal; `None`: to the end.
    pub upto: Option<String>,
    /// Where the entries are.
    pub origin: Origin,
    /// Smallest and largest sequence number of the damaged table.
    pub sequences: (u64, u64),
    /// Blob files whose values can be read.
    pub blobs: BTreeSet<u64>,
    /// Only range tombstones are taken: those of the damaged file are lost, its entries are not.
    pub only_tombstones: bool,
    /// Range tombstones are taken too.
    pub tombstones: bool,
    /// Whether nothing of the range is lost any more.
    pub complete: bool,
    /// Entries it gives.
    pub entries: u64,
}

impl Fill {
    /// The files it is made of, for the plan's inputs and for people.
    #[must_use]
    pub fn files(&self) -> Vec<(u16, String)> {
        match &self.origin {
            Origin::Copy(part) => vec![(part.source, part.object.clone())],
            Origin::Inputs(parts) => parts.iter().map(|p| (p.source, p.object.clone())).collect(),
            Origin::Database(_) => Vec::new(),
            Origin::Logs(wals, _) => wals.iter().map(|(source, name, _)| (*source, name.clone())).collect(),
        }
    }

    /// Words on where the entries come from.
    #[must_use]
    pub fn from(&self) -> String {
        let named = || {
            let names: Vec<String> = self.files().into_iter().map(|(_, name)| name).collect();
            let more = names.len().saturating_sub(5);
            let list = names.into_iter().take(5).collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{list} and {more} more") } else { list }
        };
        match &self.origin {
            Origin::Copy(part) => format!("source {} has these blocks undamaged, {}", part.source, part.object),
            Origin::Inputs(_) => format!("it was made from {}, which are still there", named()),
            Origin::Database(source) => format!("source {source} has the range, as of the same time or later"),
            Origin::Logs(..) if self.complete => format!("{} hold the writes", named()),
            Origin::Logs(..) => format!("{} hold the newer part of the writes", named()),
        }
    }
}

/// What a family's fills need to know.
pub(crate) struct Filler<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) family: u32,
    pub(crate) name: &'a str,
    pub(crate) order: &'a KeyOrder,
    pub(crate) cx: &'a Context,
}

/// Entries and tombstones of a lost range.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) tombstones: Vec<Tombstone>,
    /// Whether entries had to be left out: their values are in blob files that are gone, or older operands are lost.
    pub(crate) left_out: bool,
    /// Entries of the range, those included that a compaction would have dropped.
    pub(crate) seen: u64,
    /// Whether an entry lost its sequence number in a compaction of the other database.
    pub(crate) zeroed: bool,
}

fn bound(hex: Option<&String>) -> Option<Vec<u8>> {
    hex.and_then(|h| coding::unhex(h))
}

impl Filler<'_> {
    fn open(&self, source: u16, object: &str) -> Result<Arc<dyn Blob>> {
        let missing = || Error::Usage(format!("plan: {object} is not there"));
        self.sources.get(source).ok_or_else(missing)?.open_name(object)?.ok_or_else(missing)
    }

    fn table(&self, part: &Part, salvage: bool) -> Result<ViewTable> {
        let blob = self.open(part.source, &part.object)?;
        let options = TableOptions {
            global_seqno: part.global_seqno.map(SequenceNumber),
            timestamp_size: self.order.timestamp_size(),
            block_limit: record_limit(self.cx),
            ..TableOptions::default()
        };
        let salvaged =
            if salvage { Some(Arc::new(Salvaged::run(&blob, &options, Some(self.order), self.cx)?)) } else { None };
        Ok(ViewTable { blob, options, bounds: None, extent: None, salvaged })
    }

    fn view(&self, fill: &Fill) -> Result<FamilyView> {
        let mut view = FamilyView::new(self.name, self.order.clone());
        match &fill.origin {
            Origin::Copy(part) => view.tables.push(self.table(part, true)?),
            Origin::Inputs(parts) => {
                for part in parts {
                    view.tables.push(self.table(part, false)?);
                }
            }
            Origin::Logs(wals, from) => {
                let logs = LogEntries { filler: self, first: *from, last: fill.sequences.1 };
                logs.read(wals, &mut view)?;
                view.sort_memtable();
            }
            Origin::Database(source) => {
                let missing = || Error::Usage(format!("plan: source {source} is not there"));
                let source = self.sources.get(*source).ok_or_else(missing)?;
                let opened = DatabaseView::open(source, &OpenOptions::default(), self.cx)?;
                view = opened.families.into_iter().find(|f| f.name == self.name).ok_or_else(missing)?;
            }
        }
        Ok(view)
    }

    /// What WALs write to the family between two sequence numbers, sorted, and their range tombstones.
    #[allow(clippy::type_complexity)]
    pub(crate) fn writes(
        &self,
        wals: &[(u16, String, u64)],
        first: u64,
        last: u64,
    ) -> Result<(Vec<(Vec<u8>, Vec<u8>)>, Vec<Tombstone>)> {
        let mut view = FamilyView::new(self.name, self.order.clone());
        LogEntries { filler: self, first, last }.read(wals, &mut view)?;
        view.sort_memtable();
        Ok((view.memtable, view.tombstones))
    }

    /// Takes the entries of the lost range, as a compaction would have kept them: of each key the newest version, and
    /// older ones only as far as operands need them.
    pub(crate) fn collect(&self, fill: &Fill) -> Result<Filled> {
        let (after, upto) = (bound(fill.after.as_ref()), bound(fill.upto.as_ref()));
        let view = self.view(fill)?;
        let mut taking =
            Taking { filler: self, fill, out: Filled::default(), key: Vec::new(), done: false, run: 0, bytes: 0 };
        if !fill.only_tombstones {
            let order = self.order;
            let from = after.as_deref().map(|key| order.without_timestamp(key).to_vec());
            view.visit(from, self.cx, &mut |key, value, covered| {
                let Some(parsed) = ParsedKey::parse(key) else { return Ok(true) };
                if after.as_deref().is_some_and(|after| order.compare(parsed.user_key, after).is_lt()) {
                    return Ok(true);
                }
                if upto.as_deref().is_some_and(|upto| order.compare(parsed.user_key, upto).is_gt()) {
                    return Ok(false);
                }
                taking.entry(&parsed, value, covered)?;
                Ok(true)
            })?;
            taking.end_of_key();
        }
        let mut out = taking.out;
        if fill.tombstones || fill.only_tombstones {
            let visible = view.stored_tombstones()?.into_iter().filter(|t| t.sequence.0 <= fill.sequences.1);
            out.tombstones = visible.filter_map(|t| self.clip(t, after.as_deref(), upto.as_deref())).collect();
        }
        Ok(out)
    }

    /// The part of a tombstone that lies in the lost range.
    fn clip(&self, mut t: Tombstone, after: Option<&[u8]>, upto: Option<&[u8]>) -> Option<Tombstone> {
        let order = self.order;
        if let Some(after) = after.filter(|after| order.compare(&t.start, after).is_lt()) {
            t.start = after.to_vec();
        }
        if let Some(upto) = upto {
            // The key behind the last one, where the order has one that can be named.
            let end = if *order == KeyOrder::Bytewise { [upto, &[0]].concat() } else { upto.to_vec() };
            if order.compare(&end, &t.end).is_lt() {
                t.end = end;
            }
        }
        order.compare(&t.start, &t.end).is_lt().then_some(t)
    }
}

struct Taking<'a> {
    filler: &'a Filler<'a>,
    fill: &'a Fill,
    out: Filled,
    key: Vec<u8>,
    /// The newest version of the key is complete: what follows is older.
    done: bool,
    /// Entries taken of the key.
    run: usize,
    bytes: u64,
}

impl Taking<'_> {
    fn end_of_key(&mut self) {
        // Operands whose base is not among the writes at hand would give half a value.
        if !self.done && self.run > 0 && matches!(self.fill.origin, Origin::Logs(..)) && !self.fill.complete {
            let keep = self.out.entries.len().saturating_sub(self.run);
            self.out.entries.truncate(keep);
            self.out.left_out = true;
        }
        (self.done, self.run) = (false, 0);
    }

    fn entry(&mut self, parsed: &ParsedKey<'_>, value: &[u8], covered: bool) -> Result<()> {
        let order = self.filler.order;
        let exact = matches!(self.fill.origin, Origin::Copy(_));
        let bare = order.without_timestamp(parsed.user_key);
        if self.key != bare {
            self.end_of_key();
            self.key.clear();
            self.key.extend_from_slice(bare);
        }
        self.out.seen = self.out.seen.saturating_add(1);
        let other = matches!(self.fill.origin, Origin::Database(_));
        let newer = other && self.fill.sequences.1 > 0 && parsed.sequence.0 > self.fill.sequences.1;
        if self.done || newer {
            return Ok(());
        }
        if other && parsed.value_type == ValueType::Merge {
            // It may stand in another table here too, and operands count each time.
            (self.out.left_out, self.done) = (true, true);
            self.out.entries.truncate(self.out.entries.len().saturating_sub(self.run));
            self.run = 0;
            return Ok(());
        }
        if covered && !exact {
            self.done = true;
            return Ok(());
        }
        let gone = parsed.value_type == ValueType::BlobIndex
            && matches!(BlobIndex::decode(value, 0), Ok(BlobIndex::Blob { file, .. }) if !self.fill.blobs.contains(&file));
        if gone {
            (self.out.left_out, self.done) = (true, !exact);
            return Ok(());
        }
        let mut sequence = parsed.sequence;
        if other && sequence.0 == 0 && self.fill.sequences.1 > 0 {
            // Its number was taken off when nothing older was left; here older versions may lie below.
            sequence = SequenceNumber(self.fill.sequences.1);
            self.out.zeroed = true;
        }
        self.bytes = self.bytes.saturating_add(parsed.user_key.len() as u64).saturating_add(value.len() as u64);
        let limit = self.filler.cx.limits.memory;
        if self.bytes > limit {
            return Err(Error::Limit { what: "entries of lost ranges".to_owned(), needed: self.bytes, limit });
        }
        let key = InternalKey::new(parsed.user_key, sequence, parsed.value_type).into_bytes();
        self.out.entries.push((key, value.to_vec()));
        self.run = self.run.saturating_add(1);
        let goes_on = matches!(parsed.value_type, ValueType::Merge | ValueType::SingleDeletion);
        // With timestamps every version is history of its own.
        self.done = !exact && !goes_on && order.timestamp_size() == 0;
        Ok(())
    }
}

/// Entries of one family that WALs hold between two sequence numbers.
struct LogEntries<'a> {
    filler: &'a Filler<'a>,
    first: u64,
    last: u64,
}

impl LogEntries<'_> {
    fn read(&self, wals: &[(u16, String, u64)], view: &mut FamilyView) -> Result<()> {
        let cx = self.filler.cx;
        let mut bytes = 0_u64;
        for (source, object, number) in wals {
            let blob = self.filler.open(*source, object)?;
            crate::reader::wal::scan(blob.as_ref(), *number, record_limit(cx), |batch| {
                cx.cancelled()?;
                let mut sequence = batch.batch.sequence;
                for record in batch.batch.records().map_while(std::result::Result::ok) {
                    let Record::Data { kind, family, key, value } = record else { continue };
                    let at = sequence;
                    sequence = sequence.saturating_add(1);
                    if family != self.filler.family || !(self.first..=self.last).contains(&at) {
                        continue;
                    }
                    bytes = bytes.saturating_add(key.len() as u64).saturating_add(value.len() as u64);
                    if bytes > cx.limits.memory {
                        return Err(Error::Limit { what: object.clone(), needed: bytes, limit: cx.limits.memory });
                    }
                    let number = SequenceNumber(at);
                    if kind == DataKind::RangeDeletion {
                        view.tombstones.push(Tombstone { start: key.to_vec(), end: value.to_vec(), sequence: number });
                    } else if let Some(kind) = ValueType::from_byte(kind as u8) {
                        view.memtable.push((InternalKey::new(key, number, kind).into_bytes(), value.to_vec()));
                    }
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(())
    }
}

/// Everything the fills of one table give, in order, each entry once.
///
/// # Errors
///
/// When one of their files cannot be read any more.
pub(crate) fn collect(filler: &Filler<'_>, fills: &[Fill]) -> Result<Filled> {
    let mut all = Filled::default();
    for fill in fills {
        let one = filler.collect(fill)?;
        all.entries.extend(one.entries);
        for tombstone in one.tombstones {
            if !all.tombstones.contains(&tombstone) {
                all.tombstones.push(tombstone);
            }
        }
    }
    all.entries.sort_by(|(a, _), (b, _)| filler.order.compare_internal(a, b));
    all.entries.dedup_by(|(a, _), (b, _)| a == b);
    Ok(all)
}

/// Numbers by table: what each was made from, by the MANIFEST or the info log.
pub(crate) type MadeFrom = BTreeMap<u64, BTreeSet<u64>>;

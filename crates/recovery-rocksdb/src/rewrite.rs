//! Tables and blob files made anew from the good parts of damaged ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use recovery_core::{Blob, Context, Error, Result, Sources};
use serde::{Deserialize, Serialize};

use crate::dump::Input;
use crate::fill::{self, Fill, Filled, Filler};
use crate::format::blob::{BlobFooter, BlobIndex, BlobRecord, FOOTER_LEN, HEADER_LEN, RECORD_HEADER_LEN};
use crate::format::compression::Compression;
use crate::format::key::{KeyOrder, ParsedKey};
use crate::format::{SequenceNumber, ValueType};
use crate::inspect::gather::record_limit;
use crate::reader::blob::{BlobItem, BlobWalk};
use crate::reader::{TableOptions, Tombstone};
use crate::salvage::{Mend, Salvaged};
use crate::writer::{TableWriter, WriterOptions, WrittenTable};

/// Values that are gone, by blob file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BadBlobs {
    /// Files of which nothing is left.
    pub(crate) missing: BTreeSet<u64>,
    /// Bytes that hold no good record.
    pub(crate) ranges: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl BadBlobs {
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.ranges.is_empty()
    }

    /// Whether the value at `offset` of file `number` is gone.
    fn lost(&self, number: u64, offset: u64, size: u64) -> bool {
        let end = offset.saturating_add(size);
        let hit = |(a, b): &(u64, u64)| *a < end.max(offset.saturating_add(1)) && offset < *b;
        self.missing.contains(&number) || self.ranges.get(&number).is_some_and(|r| r.iter().any(hit))
    }
}

/// Arguments of a step that writes a table anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableArgs {
    pub(crate) source: u16,
    pub(crate) object: String,
    pub(crate) family: u32,
    pub(crate) name: String,
    pub(crate) comparator: Option<String>,
    pub(crate) global_seqno: Option<u64>,
    #[serde(default)]
    pub(crate) bad_blobs: BadBlobs,
    /// What fills its lost ranges. Without a file of its own, `object` is empty and this is all there is.
    #[serde(default)]
    pub(crate) fills: Vec<Fill>,
    /// What may be done about blocks that do not match their checksums.
    #[serde(default)]
    pub(crate) mend: Mend,
    /// Entries of larger sequence numbers are left out.
    #[serde(default)]
    pub(crate) up_to: Option<u64>,
}

/// Arguments of a step that makes a lost table from the WALs it was flushed from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemtableArgs {
    pub(crate) wals: Vec<(u16, String, u64)>,
    pub(crate) family: u32,
    pub(crate) name: String,
    pub(crate) comparator: Option<String>,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Replays the WALs of a lost table into a new one, in the order of the family. `None` when they hold nothing of it.
///
/// # Errors
///
/// When a WAL cannot be read, its writes exceed the memory limit, or `out` fails.
pub(crate) fn memtable(
    sources: &Sources,
    args: &MemtableArgs,
    cx: &Context,
    out: &mut dyn Write,
) -> Result<Option<WrittenTable>> {
    let order = match args.comparator.as_deref() {
        None => KeyOrder::Bytewise,
        Some(name) => KeyOrder::by_name(name).ok_or_else(|| {
            Error::refuse(recovery_core::Reason::Unsafe, format!("{}: the comparator {name} is not known", args.name))
        })?,
    };
    let filler = Filler { sources, family: args.family, name: &args.name, order: &order, cx };
    let (mut writes, mut tombstones) = filler.writes(&args.wals, args.first, args.last)?;
    writes.dedup_by(|(a, _), (b, _)| a == b);
    tombstones.dedup();
    if writes.is_empty() && tombstones.is_empty() {
        return Ok(None);
    }
    let properties = crate::format::TableProperties {
        family_id: Some(args.family),
        family_name: Some(args.name.clone()),
        comparator: Some(order.name().to_owned()),
        ..crate::format::TableProperties::default()
    };
    let failed = |e: std::io::Error| Error::write(&args.name, "write healed table", e);
    let mut writer =
        TableWriter::new(out, WriterOptions { order: order.clone(), properties, ..WriterOptions::default() });
    for (key, value) in &writes {
        writer.add(key, value).map_err(failed)?;
    }
    for tombstone in &tombstones {
        writer.add_tombstone(tombstone);
    }
    writer.finish().map(Some).map_err(failed)
}

/// What writing a table anew gave.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// The table; `None` when nothing was left to write.
    pub(crate) written: Option<WrittenTable>,
    /// Entries left out because their values are gone.
    pub(crate) dropped: u64,
    /// Oldest blob file it refers to.
    pub(crate) oldest_blob: Option<u64>,
    /// Entries and tombstones left out because they are newer than what is wanted.
    pub(crate) cut: u64,
}

impl Rewritten {
    /// Whether an entry goes into the new table: not when its value in a blob file is gone.
    fn keeps(&mut self, args: &TableArgs, key: &[u8], value: &[u8]) -> bool {
        if args.up_to.is_some_and(|most| crate::format::key::packed(key) >> 8 > most) {
            self.cut = self.cut.saturating_add(1);
            return false;
        }
        if ParsedKey::parse(key).is_some_and(|k| k.value_type == ValueType::BlobIndex) {
            match place(value) {
                Some((number, offset, size)) if args.bad_blobs.lost(number, offset, size) => {
                    self.dropped = self.dropped.saturating_add(1);
                    return false;
                }
                Some((number, ..)) => self.oldest_blob = Some(self.oldest_blob.map_or(number, |n| n.min(number))),
                None => {}
            }
        }
        true
    }
}

/// The order to write in. The entries come in the order of the file; where the comparator is unknown, that order is
/// taken as it is and nothing is compared.
fn order_of(args: &TableArgs) -> (KeyOrder, bool) {
    match args.comparator.as_deref() {
        None => (KeyOrder::Bytewise, true),
        Some(name) => match KeyOrder::by_name(name) {
            Some(order) => (order, true),
            None => {
                let compare = Arc::new(|_: &[u8], _: &[u8]| std::cmp::Ordering::Less);
                (KeyOrder::Custom { name: name.to_owned(), timestamp_size: 0, compare }, false)
            }
        },
    }
}

/// Where entries to be written come from: the good blocks of a table, or what was found elsewhere.
struct Feed<'a> {
    input: Input<'a>,
    args: &'a TableArgs,
}

impl Feed<'_> {
    /// Number of the file: later tables have larger ones.
    fn number(&self) -> u64 {
        let name = self.args.object.rsplit('/').next().unwrap_or_default();
        crate::format::file_name::FileName::parse(name).number.unwrap_or(0)
    }

    /// Whether the entries are those of a file, rather than stand-ins for lost ones.
    const fn is_own(&self) -> bool {
        matches!(self.input, Input::Table(_))
    }
}

/// Writes the entries of all feeds in order, each once.
fn pour(
    mut feeds: Vec<Feed<'_>>,
    order: &KeyOrder,
    writer: &mut TableWriter<&mut dyn Write>,
    result: &mut Rewritten,
    cx: &Context,
) -> Result<u64> {
    let mut ready = Vec::with_capacity(feeds.len());
    for mut feed in feeds.drain(..) {
        if feed.input.advance()? {
            ready.push(feed);
        }
    }
    let (mut last, mut kept, mut steps): (Option<(Vec<u8>, Vec<u8>)>, u64, u64) = (None, 0, 0);
    let alone = ready.len() == 1;
    while let Some(at) = least(&ready, order) {
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(65_536) {
            cx.cancelled()?;
        }
        let Some(feed) = ready.get_mut(at) else { break };
        let (key, value) = (feed.input.key(), feed.input.value());
        let again = last.as_ref().filter(|(last, _)| last.as_slice() == key);
        if let Some((_, written)) = again {
            // Without sequence numbers the value of the later table, which came first here, is the newer one: the report
            // says that the other one may have been consumed.
            let stripped = crate::format::key::packed(key) >> 8 == 0;
            if written.as_slice() != value && feed.is_own() && !stripped {
                let message = format!(
                    "{}: {} holds another value under the same key and sequence number as the table it would be merged with",
                    feed.args.name, feed.args.object
                );
                return Err(Error::refuse(recovery_core::Reason::Unsafe, message));
            }
        } else if result.keeps(feed.args, key, value) {
            writer.add(key, value).map_err(|e| Error::write(&feed.args.object, "write table", e))?;
            kept = kept.saturating_add(1);
            if !alone {
                last = Some((key.to_vec(), value.to_vec()));
            }
        }
        if !feed.input.advance()? {
            ready.remove(at);
        }
    }
    Ok(kept)
}

/// The feed whose current key comes first; of the same key, a table's own entry, and that of the latest table.
fn least(feeds: &[Feed<'_>], order: &KeyOrder) -> Option<usize> {
    if feeds.len() < 2 {
        return feeds.first().map(|_| 0);
    }
    let by_key = |a: &Feed<'_>, b: &Feed<'_>| order.compare_internal(a.input.key(), b.input.key());
    let rank = |f: &Feed<'_>| (f.is_own(), f.number());
    let numbered = feeds.iter().enumerate();
    numbered.min_by(|(_, a), (_, b)| by_key(a, b).then_with(|| rank(b).cmp(&rank(a)))).map(|(i, _)| i)
}

fn options_of(args: &TableArgs, cx: &Context) -> TableOptions {
    TableOptions {
        global_seqno: args.global_seqno.map(SequenceNumber),
        block_limit: record_limit(cx),
        mend: args.mend,
        ..TableOptions::default()
    }
}

/// What the fills of a table give.
fn filled(sources: &Sources, args: &TableArgs, order: &KeyOrder, cx: &Context) -> Result<Filled> {
    if args.fills.is_empty() {
        return Ok(Filled::default());
    }
    fill::collect(&Filler { sources, family: args.family, name: &args.name, order, cx }, &args.fills)
}

/// Writes a table anew to `out`: the good entries of its file, if there is one, and what fills its lost ranges.
///
/// # Errors
///
/// When nothing of the table can be read, or `out` fails.
pub(crate) fn table(sources: &Sources, args: &TableArgs, cx: &Context, out: &mut dyn Write) -> Result<Rewritten> {
    let (order, known) = order_of(args);
    let salvaged = match args.object.as_str() {
        "" => None,
        object => {
            let blob = open(sources, args.source, object)?;
            Some(Salvaged::run(&blob, &options_of(args, cx), known.then_some(&order), cx)?)
        }
    };
    let own: &[Tombstone] = salvaged.as_ref().map_or(&[], |s| &s.tombstones);
    if !known && own.len() > 1 {
        return Err(Error::refuse(
            recovery_core::Reason::Unsafe,
            format!("{}: its range tombstones would have to be put in the order of an unknown comparator", args.object),
        ));
    }
    let stripped = salvaged.as_ref().is_some_and(Salvaged::is_stripped);
    let extra = filled(sources, args, &order, cx)?;
    let order = if stripped { order.of_stripped_keys() } else { order };
    let mut properties = salvaged.as_ref().and_then(|s| s.properties.clone()).unwrap_or_default();
    properties.family_id = Some(args.family);
    properties.family_name = Some(args.name.clone());
    properties.comparator = args.comparator.clone().or(properties.comparator);
    properties.timestamps_persisted = stripped.then_some(false);
    let compression = compression_of(&properties);
    let options = WriterOptions { compression, order: order.clone(), properties, ..WriterOptions::default() };
    let mut writer = TableWriter::new(out, options);
    let mut result = Rewritten { written: None, dropped: 0, oldest_blob: None, cut: 0 };
    let mut feeds = Vec::new();
    if let Some(salvaged) = &salvaged {
        feeds.push(Feed { input: Input::Table(Box::new(salvaged.scan_for_rewrite())), args });
    }
    if !extra.entries.is_empty() {
        feeds.push(Feed { input: Input::Memory { entries: &extra.entries, at: 0 }, args });
    }
    let kept = pour(feeds, &order, &mut writer, &mut result, cx)?;
    let tombstones: Vec<&Tombstone> = own.iter().chain(extra.tombstones.iter().filter(|t| !own.contains(t))).collect();
    for tombstone in &tombstones {
        writer.add_tombstone(tombstone);
    }
    if kept > 0 || !tombstones.is_empty() {
        result.written = Some(writer.finish().map_err(|e| Error::write(&args.object, "write table", e))?);
    }
    Ok(result)
}

/// Arguments of a step that makes one table of several that no order of tables could hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergedArgs {
    pub(crate) tables: Vec<TableArgs>,
}

/// Writes the entries of several tables of one family as one table: every version, in order.
///
/// # Errors
///
/// A refusal when two tables hold different values under one key and sequence number; when nothing of one of them can
/// be read, or `out` fails.
pub(crate) fn merged(sources: &Sources, args: &MergedArgs, cx: &Context, out: &mut dyn Write) -> Result<Rewritten> {
    let Some(first) = args.tables.first() else { return Err(Error::Usage("plan: nothing to merge".to_owned())) };
    let (order, known) = order_of(first);
    if !known {
        let message =
            format!("{}: its tables would have to be merged in the order of an unknown comparator", first.name);
        return Err(Error::refuse(recovery_core::Reason::Unsafe, message));
    }
    let (mut scans, mut tombstones, mut properties, mut stripped) = (Vec::new(), Vec::new(), None, Vec::new());
    for table in &args.tables {
        let extra = filled(sources, table, &order, cx)?;
        let mut found = extra.tombstones;
        let mut scan = None;
        if !table.object.is_empty() {
            let blob = open(sources, table.source, &table.object)?;
            let salvaged = Salvaged::run(&blob, &options_of(table, cx), Some(&order), cx)?;
            properties = properties.or_else(|| salvaged.properties.clone());
            stripped.push(salvaged.is_stripped());
            found.extend(salvaged.tombstones.iter().cloned());
            scan = Some(salvaged.scan_for_rewrite());
        }
        for tombstone in found {
            if !tombstones.contains(&tombstone) {
                tombstones.push(tombstone);
            }
        }
        scans.push((scan, extra.entries));
    }
    if stripped.iter().any(|s| Some(s) != stripped.first()) {
        let message = format!("{}: some of the tables to merge hold timestamps and some do not", first.name);
        return Err(Error::refuse(recovery_core::Reason::Unsafe, message));
    }
    let stripped = stripped.first() == Some(&true);
    let order = if stripped { order.of_stripped_keys() } else { order };
    let mut feeds = Vec::new();
    for (args, (scan, extra)) in args.tables.iter().zip(&mut scans) {
        feeds.extend(scan.take().map(|scan| Feed { input: Input::Table(Box::new(scan)), args }));
        if !extra.is_empty() {
            feeds.push(Feed { input: Input::Memory { entries: extra, at: 0 }, args });
        }
    }
    let mut properties = properties.unwrap_or_default();
    properties.family_id = Some(first.family);
    properties.family_name = Some(first.name.clone());
    properties.comparator = first.comparator.clone().or(properties.comparator);
    properties.timestamps_persisted = stripped.then_some(false);
    let compression = compression_of(&properties);
    let options = WriterOptions { compression, order: order.clone(), properties, ..WriterOptions::default() };
    let mut writer = TableWriter::new(out, options);
    let mut result = Rewritten { written: None, dropped: 0, oldest_blob: None, cut: 0 };
    let kept = pour(feeds, &order, &mut writer, &mut result, cx)?;
    for tombstone in &tombstones {
        writer.add_tombstone(tombstone);
    }
    if kept > 0 || !tombstones.is_empty() {
        result.written = Some(writer.finish().map_err(|e| Error::write(&first.object, "write merged table", e))?);
    }
    Ok(result)
}

/// A file of a source.
pub(crate) fn open(sources: &Sources, source: u16, object: &str) -> Result<Arc<dyn Blob>> {
    let missing = || Error::Usage(format!("plan: {object} is not there"));
    sources.get(source).ok_or_else(missing)?.open_name(object)?.ok_or_else(missing)
}

fn compression_of(properties: &crate::format::TableProperties) -> Compression {
    let named = properties.compression.as_deref();
    (0..=7).filter_map(Compression::from_byte).find(|c| Some(c.name()) == named).unwrap_or(Compression::None)
}

/// File, offset and size of the value a blob index points to.
pub(crate) fn place(index: &[u8]) -> Option<(u64, u64, u64)> {
    match BlobIndex::decode(index, 0).ok()? {
        BlobIndex::Blob { file, offset, size, .. } => Some((file, offset, size)),
        _ => None,
    }
}

/// What a mended blob file looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlobShape {
    pub(crate) size: u64,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) filler_count: u64,
    pub(crate) filler_bytes: u64,
}

/// Stretches of a mended file: good bytes to copy, and damaged ones to fill. Offsets must not move: tables hold them.
fn stretches(walk: &BlobWalk) -> Vec<(std::ops::Range<u64>, bool)> {
    let mut out: Vec<(std::ops::Range<u64>, bool)> = Vec::new();
    for item in &walk.items {
        let (range, good) = match item {
            BlobItem::Record { range, .. } => (range.clone(), true),
            BlobItem::Damaged { range, .. } | BlobItem::Unknown { range } | BlobItem::Unread { range, .. } => {
                (range.clone(), false)
            }
        };
        match out.last_mut() {
            Some((last, false)) if !good => last.end = range.end,
            _ => out.push((range, good)),
        }
    }
    while out.last().is_some_and(|(_, good)| !good) {
        out.pop();
    }
    out
}

/// Size and counts of the mended file.
pub(crate) fn blob_shape(walk: &BlobWalk, size: u64) -> BlobShape {
    let _ = size;
    let mut shape = BlobShape { size: HEADER_LEN as u64, ..BlobShape::default() };
    for (range, good) in stretches(walk) {
        let length = range.end.saturating_sub(range.start);
        shape.size = shape.size.saturating_add(length);
        shape.bytes = shape.bytes.saturating_add(length);
        if !good {
            shape.filler_count = shape.filler_count.saturating_add(1);
            shape.filler_bytes = shape.filler_bytes.saturating_add(length);
        }
    }
    shape.count = walk.records().saturating_add(shape.filler_count);
    shape.size = shape.size.saturating_add(FOOTER_LEN as u64);
    shape
}

/// Writes the mended file: header and good records where they were, a record of zeros over what is damaged, a footer.
///
/// # Errors
///
/// When the file cannot be read or `out` fails.
pub(crate) fn blob(blob: &Arc<dyn Blob>, out: &mut dyn Write) -> Result<()> {
    let walk = BlobWalk::run(blob);
    let failed = |e: std::io::Error| Error::write(blob.name(), "write mended blob file", e);
    let Ok(header) = &walk.header else {
        return Err(Error::Damaged(format!("{}: its header is damaged", blob.name())));
    };
    out.write_all(&header.encode()).map_err(failed)?;
    let mut count = 0u64;
    for (range, good) in stretches(&walk) {
        count = count.saturating_add(1);
        if good {
            let mut at = range.start;
            while at < range.end {
                let end = at.saturating_add(1 << 20).min(range.end);
                out.write_all(&blob.bytes(at..end)?).map_err(failed)?;
                at = end;
            }
        } else {
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
            let filler = match length.checked_sub(RECORD_HEADER_LEN) {
                Some(value) => BlobRecord::encode(b"", &vec![0; value], 0),
                None => vec![0; length],
            };
            out.write_all(&filler).map_err(failed)?;
        }
    }
    let footer = BlobFooter { count, expiration: (0, 0) };
    out.write_all(&footer.encode()).map_err(failed)
}

//! A block-based table, read strictly: every part that is used has been checked.

use std::sync::Arc;

use recovery_core::Blob;

use crate::format::block::Block;
use crate::format::compression::{Container, Dictionary};
use crate::format::footer;
use crate::format::key::{InternalKey, KeyOrder, ParsedKey, SequenceNumber};
use crate::format::{BlockHandle, Footer, FormatError, Metaindex, TableProperties, ValueType, metaindex};

use super::block::{BlockReader, Sealed, TableError};
use super::index::TableIndex;
use super::scan::{KeyRewrite, TableScan};
use crate::salvage::Mend;

/// What the reader must be told from outside.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// `largest_seqno` of the MANIFEST's entry: the global sequence number of an ingested file. Ignored for others.
    pub global_seqno: Option<SequenceNumber>,
    /// Bytes of timestamp in user keys, for tables whose timestamps were not persisted.
    pub timestamp_size: usize,
    /// Largest unpacked block accepted, in bytes.
    pub block_limit: usize,
    /// What salvage may do about blocks that do not match their checksums. Strict reading does nothing.
    pub mend: Mend,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self { global_seqno: None, timestamp_size: 8, block_limit: 1 << 30, mend: Mend::default() }
    }
}

/// A range tombstone: deletes the keys `start..end` that are older than it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// First user key deleted.
    pub start: Vec<u8>,
    /// First user key not deleted.
    pub end: Vec<u8>,
    /// Entries of a smaller sequence number are deleted.
    pub sequence: SequenceNumber,
}

/// An open table.
///
/// ```no_run
/// use recovery_core::{DirSource, Source};
/// use recovery_rocksdb::reader::{TableOptions, TableReader};
///
/// let source = DirSource::open("/var/lib/app/db")?;
/// let blob = source.open_name("000012.sst")?.ok_or("no such file")?;
/// let table = TableReader::open(blob, TableOptions::default())?;
/// let mut scan = table.scan()?;
/// while scan.advance()? {
///     println!("{:?} has {} bytes", scan.key(), scan.value().len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TableReader {
    blocks: BlockReader,
    footer: Footer,
    metaindex: Metaindex,
    properties: TableProperties,
    index: BlockHandle,
    rewrite: KeyRewrite,
}

/// The bytes that are read first: most often they hold footer, metaindex and properties.
const TAIL: u64 = 4096;

/// Reads and decodes the footer.
pub(crate) fn read_footer(blob: &dyn Blob) -> Result<Footer, TableError> {
    let len = blob.len();
    let start = len.saturating_sub(footer::LEN as u64);
    let tail = blob.bytes(start..len)?;
    Footer::decode(&tail, len).map_err(|source| TableError::format(blob.name(), source))
}

/// Reads the properties, whose checksum may be that of the block with the global sequence number zeroed.
pub(crate) fn read_properties(blocks: &BlockReader, handle: BlockHandle) -> Result<TableProperties, TableError> {
    const NAME: &str = "properties block";
    let decode = |bytes: &[u8]| {
        TableProperties::decode(bytes, handle.offset).map_err(|source| TableError::format(blocks.name(), source))
    };
    match blocks.read(handle, NAME) {
        Ok(bytes) => decode(&bytes),
        Err(error @ TableError::Format { source: FormatError::Checksum { .. }, .. }) => {
            let bytes = blocks.blob.bytes(handle.range())?;
            let mut zeroed = bytes.to_vec();
            let Some(place) = TableProperties::global_seqno_place(&zeroed) else { return Err(error) };
            if let Some(field) = zeroed.get_mut(place) {
                field.fill(0);
            }
            blocks.check(handle, &zeroed, NAME).map_err(|_| error)?;
            let payload = Sealed::split(&bytes).map_or(&[][..], |block| block.payload().0);
            decode(payload)
        }
        Err(error) => Err(error),
    }
}

/// The sequence number all keys of an ingested table take, or what contradicts itself.
///
/// Upstream: `table/block_based/block_based_table_reader.cc` (`GetGlobalSequenceNumber`).
pub(crate) fn global_seqno(
    properties: &TableProperties,
    told: Option<SequenceNumber>,
) -> Result<Option<SequenceNumber>, FormatError> {
    if !properties.takes_global_seqno() {
        return Ok(None);
    }
    let stored = properties.global_seqno.unwrap_or(0);
    let told = told.filter(|seqno| seqno.0 > 0 && *seqno <= SequenceNumber::MAX).map_or(0, |seqno| seqno.0);
    if stored > SequenceNumber::MAX.0 {
        let expected = "at most 56 bits";
        return Err(FormatError::value("properties block", "global sequence number", 0, stored, expected));
    }
    if stored != 0 && told != 0 && stored != told {
        let expected = format_args!("{told}, as the MANIFEST says");
        return Err(FormatError::value("properties block", "global sequence number", 0, stored, expected));
    }
    Ok(Some(stored.max(told)).filter(|seqno| *seqno != 0).map(SequenceNumber))
}

/// Decodes the range tombstones of a range-deletion block.
pub(crate) fn decode_tombstones(bytes: &[u8], at: u64, rewrite: KeyRewrite) -> Result<Vec<Tombstone>, FormatError> {
    let mut walk = Block::parse(bytes, at)?.entries();
    let (mut out, mut key) = (Vec::new(), Vec::new());
    while walk.advance()? {
        rewrite.apply(walk.key(), &mut key);
        let Some(parsed) = ParsedKey::parse(&key).filter(|k| k.value_type == ValueType::RangeDeletion) else {
            let found = crate::format::coding::hex(key.last_chunk::<8>().map_or(&[][..], |t| t));
            return Err(FormatError::value("range-deletion block", "internal key", at, found, "a range deletion"));
        };
        let mut end = walk.value().to_vec();
        end.resize(end.len().saturating_add(rewrite.timestamp), 0);
        out.push(Tombstone { start: parsed.user_key.to_vec(), end, sequence: parsed.sequence });
    }
    Ok(out)
}

impl TableReader {
    /// Opens a table: footer, metaindex, properties, dictionary. The index is read when it is needed.
    ///
    /// # Errors
    ///
    /// When one of these parts cannot be read, is damaged, or is of a kind that is not supported.
    pub fn open(blob: Arc<dyn Blob>, options: TableOptions) -> Result<Self, TableError> {
        let blob = with_tail(blob)?;
        let footer = read_footer(&*blob)?;
        let mut blocks = BlockReader {
            blob,
            seal: footer.seal,
            container: Container::of(footer.format_version),
            dictionary: None,
            limit: options.block_limit,
        };
        let bytes = blocks.read(footer.metaindex, "metaindex block")?;
        let named = |source| TableError::format(blocks.name(), source);
        let metaindex = Metaindex::decode(&bytes, footer.metaindex.offset).map_err(named)?;
        let properties = match metaindex.properties() {
            Some(handle) => read_properties(&blocks, handle)?,
            None => TableProperties::default(),
        };
        let index = footer.index.or_else(|| metaindex.get(metaindex::INDEX)).ok_or_else(|| {
            named(FormatError::value("metaindex", metaindex::INDEX, footer.metaindex.offset, "missing", "an entry"))
        })?;
        let rewrite = KeyRewrite {
            global_seqno: global_seqno(&properties, options.global_seqno).map_err(named)?,
            timestamp: if properties.timestamps_persisted == Some(false) { options.timestamp_size } else { 0 },
        };
        if let Some(handle) = metaindex.get(metaindex::DICTIONARY) {
            let raw = blocks.read(handle, "compression dictionary")?;
            blocks.dictionary = (!raw.is_empty()).then(|| Dictionary::new(&raw));
        }
        Ok(Self { blocks, footer, metaindex, properties, index, rewrite })
    }

    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        self.blocks.name()
    }

    /// The footer.
    #[must_use]
    pub const fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Names and places of the meta blocks.
    #[must_use]
    pub const fn metaindex(&self) -> &Metaindex {
        &self.metaindex
    }

    /// The properties.
    #[must_use]
    pub const fn properties(&self) -> &TableProperties {
        &self.properties
    }

    /// Where the index is.
    #[must_use]
    pub const fn index_handle(&self) -> BlockHandle {
        self.index
    }

    /// What reads its blocks.
    #[must_use]
    pub const fn blocks(&self) -> &BlockReader {
        &self.blocks
    }

    /// What is changed in its stored keys: the global sequence number, a missing timestamp.
    #[must_use]
    pub const fn rewrite(&self) -> KeyRewrite {
        self.rewrite
    }

    /// Reads the whole index.
    ///
    /// # Errors
    ///
    /// When a block of it is damaged.
    pub fn index(&self) -> Result<TableIndex, TableError> {
        TableIndex::read(&self.blocks, self.index, self.properties.index)
    }

    /// Reads the range tombstones.
    ///
    /// # Errors
    ///
    /// When their block is damaged.
    pub fn tombstones(&self) -> Result<Vec<Tombstone>, TableError> {
        let Some(handle) = self.metaindex.get(metaindex::RANGE_DELETIONS) else { return Ok(Vec::new()) };
        let bytes = self.blocks.read(handle, "range-deletion block")?;
        decode_tombstones(&bytes, handle.offset, self.rewrite).map_err(|source| TableError::format(self.name(), source))
    }

    /// Walks all entries from the first.
    ///
    /// # Errors
    ///
    /// When the index is damaged.
    pub fn scan(&self) -> Result<TableScan, TableError> {
        let index = self.index()?;
        Ok(self.scan_blocks(index.handles().into(), 0..index.len()))
    }

    /// Walks the entries of some blocks.
    #[must_use]
    pub fn scan_blocks(&self, handles: Arc<[BlockHandle]>, blocks: std::ops::Range<usize>) -> TableScan {
        TableScan::new(self.blocks.clone(), self.rewrite, handles, blocks)
    }

    /// Boundaries and counts. Reads only the first and the last data block when the properties hold the sequence
    /// numbers and counts, everything otherwise (or when `exact` is asked for).
    ///
    /// # Errors
    ///
    /// When a block it needs is damaged.
    pub fn summary(&self, order: &KeyOrder, exact: bool) -> Result<TableSummary, TableError> {
        let index = self.index()?;
        let mut summary = TableSummary::default();
        let handles: Arc<[BlockHandle]> = index.handles().into();
        let known = self.seqno_bounds();
        if exact || known.is_none() || self.properties.num_entries.is_none() {
            let mut scan = self.scan_blocks(handles, 0..index.len());
            while scan.advance()? {
                summary.add(scan.key());
            }
            summary.exact = true;
        } else {
            self.summary_of_ends(&mut summary, &handles, known)?;
        }
        for tombstone in self.tombstones()? {
            summary.add_tombstone(&tombstone, order);
        }
        Ok(summary)
    }

    /// Boundaries, and the counts of the properties: reads the first and the last data block and nothing else. The
    /// sequence numbers are those of the properties, if they hold any.
    ///
    /// # Errors
    ///
    /// When a block it needs is damaged.
    pub fn ends(&self, order: &KeyOrder) -> Result<TableSummary, TableError> {
        let index = self.index()?;
        let mut summary = TableSummary::default();
        self.summary_of_ends(&mut summary, &index.handles().into(), self.seqno_bounds())?;
        let known = (summary.smallest_seqno, summary.largest_seqno);
        for tombstone in self.tombstones()? {
            summary.add_tombstone(&tombstone, order);
        }
        if known.1.is_none() {
            (summary.smallest_seqno, summary.largest_seqno) = known;
        }
        Ok(summary)
    }

    /// Smallest (if known) and largest sequence number without reading data.
    fn seqno_bounds(&self) -> Option<(Option<SequenceNumber>, SequenceNumber)> {
        if let Some(global) = self.rewrite.global_seqno {
            return Some((Some(global), global));
        }
        let largest = self.properties.largest_seqno.filter(|seqno| *seqno <= SequenceNumber::MAX.0)?;
        Some((self.properties.smallest_seqno.map(SequenceNumber), SequenceNumber(largest)))
    }

    fn summary_of_ends(
        &self,
        summary: &mut TableSummary,
        handles: &Arc<[BlockHandle]>,
        known: Option<(Option<SequenceNumber>, SequenceNumber)>,
    ) -> Result<(), TableError> {
        let mut first = self.scan_blocks(Arc::clone(handles), 0..1);
        if first.advance()? {
            summary.smallest = Some(InternalKey::from_bytes(first.key()));
        }
        let mut last = self.scan_blocks(Arc::clone(handles), handles.len().saturating_sub(1)..handles.len());
        let mut key = Vec::new();
        while last.advance()? {
            key.clear();
            key.extend_from_slice(last.key());
        }
        summary.largest = (!handles.is_empty()).then(|| InternalKey::from_bytes(key));
        if let Some((smallest, largest)) = known {
            summary.smallest_seqno = smallest;
            summary.largest_seqno = Some(largest);
        }
        let ranges = self.properties.num_range_deletions.unwrap_or(0);
        summary.points = self.properties.num_entries.unwrap_or(0).saturating_sub(ranges);
        Ok(())
    }
}

/// Puts a memory copy of the file's end before the file, so that opening costs one read.
fn with_tail(blob: Arc<dyn Blob>) -> Result<Arc<dyn Blob>, TableError> {
    let start = blob.len().saturating_sub(TAIL);
    let tail = blob.bytes(start..blob.len())?;
    Ok(Arc::new(TailBlob { inner: blob, start, tail }))
}

struct TailBlob {
    inner: Arc<dyn Blob>,
    start: u64,
    tail: bytes::Bytes,
}

impl Blob for TailBlob {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, recovery_core::ReadError> {
        self.inner.read_at(offset, buf)
    }

    fn bytes(&self, range: std::ops::Range<u64>) -> Result<bytes::Bytes, recovery_core::ReadError> {
        let place = range.start.checked_sub(self.start).zip(range.end.checked_sub(self.start));
        let part = place.and_then(|(a, b)| Some(usize::try_from(a).ok()?..usize::try_from(b).ok()?));
        match part.filter(|part| part.start <= part.end && part.end <= self.tail.len()) {
            Some(part) => Ok(self.tail.slice(part)),
            None => self.inner.bytes(range),
        }
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn local_path(&self) -> Option<&std::path::Path> {
        self.inner.local_path()
    }

    fn done_with(&self, range: std::ops::Range<u64>) {
        self.inner.done_with(range);
    }
}

/// Boundaries and counts of a table, as a MANIFEST entry needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSummary {
    /// Smallest internal key, range tombstones included.
    pub smallest: Option<InternalKey>,
    /// Largest internal key; a range tombstone's end counts as an exclusive bound, with the largest sequence number.
    pub largest: Option<InternalKey>,
    /// Smallest sequence number; `None` when only a scan could tell.
    pub smallest_seqno: Option<SequenceNumber>,
    /// Largest sequence number.
    pub largest_seqno: Option<SequenceNumber>,
    /// Point entries.
    pub points: u64,
    /// Range tombstones.
    pub range_deletions: u64,
    /// Deletions and single deletions (only counted by a scan).
    pub deletions: u64,
    /// Merge operands (only counted by a scan).
    pub merges: u64,
    /// Whether every entry was looked at.
    pub exact: bool,
}

impl TableSummary {
    /// Takes in the next point entry, in order.
    pub fn add(&mut self, key: &[u8]) {
        if let Some(parsed) = ParsedKey::parse(key) {
            self.widen_seqno(parsed.sequence);
            match parsed.value_type {
                ValueType::Deletion | ValueType::SingleDeletion | ValueType::DeletionWithTimestamp => {
                    self.deletions = self.deletions.saturating_add(1);
                }
                ValueType::Merge => self.merges = self.merges.saturating_add(1),
                _ => {}
            }
        }
        self.points = self.points.saturating_add(1);
        if self.smallest.is_none() {
            self.smallest = Some(InternalKey::from_bytes(key));
        }
        match &mut self.largest {
            Some(largest) => largest.set(key),
            None => self.largest = Some(InternalKey::from_bytes(key)),
        }
    }

    /// Takes in a range tombstone; its bounds may lie outside the points.
    pub fn add_tombstone(&mut self, tombstone: &Tombstone, order: &KeyOrder) {
        self.range_deletions = self.range_deletions.saturating_add(1);
        self.widen_seqno(tombstone.sequence);
        let start = InternalKey::new(&tombstone.start, tombstone.sequence, ValueType::RangeDeletion);
        let end = InternalKey::new(&tombstone.end, SequenceNumber::MAX, ValueType::RangeDeletion);
        let below = |a: &InternalKey, b: &InternalKey| order.compare_internal(a.as_bytes(), b.as_bytes()).is_lt();
        if self.smallest.as_ref().is_none_or(|key| below(&start, key)) {
            self.smallest = Some(start);
        }
        if self.largest.as_ref().is_none_or(|key| below(key, &end)) {
            self.largest = Some(end);
        }
    }

    fn widen_seqno(&mut self, seqno: SequenceNumber) {
        // A smallest number that nobody knew stays unknown beside a largest that somebody did.
        if self.smallest_seqno.is_some() || self.largest_seqno.is_none() {
            self.smallest_seqno = Some(self.smallest_seqno.map_or(seqno, |s| s.min(seqno)));
        }
        self.largest_seqno = Some(self.largest_seqno.map_or(seqno, |s| s.max(seqno)));
    }
}

//! A writer of block-based tables, for salvaged entries.
//!
//! It writes what the oldest reader understands: format version 2, CRC-32C, a plain index of internal keys, no filter.
//! Blocks are compressed as in the table the entries come from, where this crate can.
//!
//! The properties that readers insist on are written: with `num.entries` present, upstream divides by the raw sizes
//! when a table is opened, so they must stand beside it and not both be 0.

use std::io::{self, Write};

use crate::format::block::BlockBuilder;
use crate::format::checksum::{ChecksumType, Seal};
use crate::format::compression::{self, Compression};
use crate::format::key::{InternalKey, KeyOrder, ValueType};
use crate::format::properties::TableProperties;
use crate::format::{BlockHandle, Footer, IndexFormat, Metaindex, metaindex};
use crate::reader::{TableSummary, Tombstone};

/// What a new table says about itself.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Unpacked bytes after which a data block is closed.
    pub block_size: usize,
    /// Compression of data blocks; one that cannot be written becomes none.
    pub compression: Compression,
    /// The family's comparator.
    pub order: KeyOrder,
    /// Properties taken over: family, comparator and merge operator names, times. Counts and sizes are computed.
    pub properties: TableProperties,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            block_size: 4096,
            compression: Compression::None,
            order: KeyOrder::default(),
            properties: TableProperties::default(),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenTable {
    /// Bytes of the file.
    pub size: u64,
    /// Boundaries and counts, as a MANIFEST entry needs them.
    pub summary: TableSummary,
}

/// Writes one table to a stream.
#[derive(Debug)]
pub struct TableWriter<W: Write> {
    out: W,
    at: u64,
    options: WriterOptions,
    block: BlockBuilder,
    index: BlockBuilder,
    data_blocks: u64,
    raw_key_size: u64,
    raw_value_size: u64,
    summary: TableSummary,
    tombstones: Vec<(InternalKey, Vec<u8>)>,
}

impl<W: Write> TableWriter<W> {
    /// Starts a table at the beginning of `out`.
    pub fn new(out: W, options: WriterOptions) -> Self {
        Self {
            out,
            at: 0,
            options,
            block: BlockBuilder::new(16),
            index: BlockBuilder::new(1),
            data_blocks: 0,
            raw_key_size: 0,
            raw_value_size: 0,
            summary: TableSummary { exact: true, ..TableSummary::default() },
            tombstones: Vec::new(),
        }
    }

    /// Appends a point entry; internal keys must come in order.
    ///
    /// # Errors
    ///
    /// When the key is not behind the one before, or the stream does not take the bytes.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(last) = &self.summary.largest
            && !self.options.order.compare_internal(last.as_bytes(), key).is_lt()
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "keys of a table must come in order"));
        }
        if self.block.count() > 0 && self.block.size() >= self.options.block_size {
            self.flush()?;
        }
        self.block.add(key, value);
        self.summary.add(key);
        self.raw_key_size = self.raw_key_size.saturating_add(key.len() as u64);
        self.raw_value_size = self.raw_value_size.saturating_add(value.len() as u64);
        Ok(())
    }

    /// Adds a range tombstone; they may come in any order, before [`Self::finish`].
    pub fn add_tombstone(&mut self, tombstone: &Tombstone) {
        let key = InternalKey::new(&tombstone.start, tombstone.sequence, ValueType::RangeDeletion);
        self.raw_key_size = self.raw_key_size.saturating_add(key.as_bytes().len() as u64);
        self.raw_value_size = self.raw_value_size.saturating_add(tombstone.end.len() as u64);
        self.tombstones.push((key, tombstone.end.clone()));
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.count() == 0 {
            return Ok(());
        }
        let last = self.block.last_key().to_vec();
        let raw = self.block.finish();
        let handle = self.write_block(&raw, self.options.compression)?;
        let mut value = Vec::new();
        handle.encode(&mut value);
        self.index.add(&last, &value);
        self.data_blocks = self.data_blocks.saturating_add(1);
        Ok(())
    }

    fn write_block(&mut self, raw: &[u8], kind: Compression) -> io::Result<BlockHandle> {
        let (mut block, kind) = match compression::pack(kind, raw) {
            Some(packed) => (packed, kind),
            None => (raw.to_vec(), Compression::None),
        };
        let handle = BlockHandle { offset: self.at, size: block.len() as u64 };
        block.push(kind.byte());
        let checksum = SEAL.compute(handle.offset, &block);
        block.extend_from_slice(&checksum.to_le_bytes());
        self.out.write_all(&block)?;
        self.at = handle.end();
        Ok(handle)
    }

    /// Writes tombstones, index, properties and footer.
    ///
    /// # Errors
    ///
    /// When the table would be empty, or the stream does not take the bytes.
    pub fn finish(mut self) -> io::Result<WrittenTable> {
        if self.summary.points == 0 && self.tombstones.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a table must hold at least one entry"));
        }
        self.flush()?;
        let data_size = self.at;
        let mut entries = Vec::new();
        let index_raw = self.index.finish();
        let index = self.write_block(&index_raw, Compression::None)?;
        if let Some(handle) = self.write_tombstones()? {
            entries.push((metaindex::RANGE_DELETIONS.to_owned(), handle));
        }
        let properties = self.properties(data_size, index.size).encode();
        entries.push((metaindex::PROPERTIES.to_owned(), self.write_block(&properties, Compression::None)?));
        let metaindex = self.write_block(&Metaindex { entries }.encode(), Compression::None)?;
        let footer =
            Footer { format_version: FORMAT_VERSION, seal: SEAL, metaindex, index: Some(index), offset: self.at };
        let footer = footer.encode();
        self.out.write_all(&footer)?;
        self.out.flush()?;
        Ok(WrittenTable { size: self.at.saturating_add(footer.len() as u64), summary: self.summary })
    }

    fn write_tombstones(&mut self) -> io::Result<Option<BlockHandle>> {
        if self.tombstones.is_empty() {
            return Ok(None);
        }
        let mut tombstones = std::mem::take(&mut self.tombstones);
        let order = self.options.order.clone();
        tombstones.sort_by(|(a, _), (b, _)| order.compare_internal(a.as_bytes(), b.as_bytes()));
        let mut block = BlockBuilder::new(1);
        for (key, end) in &tombstones {
            block.add(key.as_bytes(), end);
            if let Some(parsed) = key.parse() {
                let tombstone =
                    Tombstone { start: parsed.user_key.to_vec(), end: end.clone(), sequence: parsed.sequence };
                self.summary.add_tombstone(&tombstone, &order);
            }
        }
        let raw = block.finish();
        self.write_block(&raw, Compression::None).map(Some)
    }

    fn properties(&self, data_size: u64, index_size: u64) -> TableProperties {
        let summary = &self.summary;
        let deletions = summary.deletions.saturating_add(summary.range_deletions);
        let flag = |text: &str, value: &str| (text.to_owned(), value.as_bytes().to_vec());
        let from = &self.options.properties;
        TableProperties {
            data_size: Some(data_size),
            index_size: Some(index_size),
            filter_size: Some(0),
            raw_key_size: Some(self.raw_key_size),
            raw_value_size: Some(self.raw_value_size),
            num_data_blocks: Some(self.data_blocks),
            num_entries: Some(summary.points.saturating_add(summary.range_deletions)),
            num_deletions: Some(deletions),
            num_merge_operands: Some(summary.merges),
            num_range_deletions: Some(summary.range_deletions),
            largest_seqno: summary.largest_seqno.map(|seqno| seqno.0),
            family_id: from.family_id,
            family_name: from.family_name.clone(),
            comparator: Some(from.comparator.clone().unwrap_or_else(|| self.options.order.name().to_owned())),
            merge_operator: from.merge_operator.clone(),
            prefix_extractor: from.prefix_extractor.clone(),
            compression: Some(self.options.compression.name().to_owned()),
            creation_time: from.creation_time,
            file_creation_time: from.file_creation_time,
            oldest_key_time: from.oldest_key_time,
            timestamps_persisted: from.timestamps_persisted,
            index: IndexFormat::default(),
            index_type: Some(0),
            other: vec![
                flag("rocksdb.block.based.table.prefix.filtering", "0"),
                flag("rocksdb.block.based.table.whole.key.filtering", "1"),
                ("rocksdb.fixed.key.length".to_owned(), vec![0]),
                ("rocksdb.format.version".to_owned(), vec![0]),
            ],
            ..TableProperties::default()
        }
    }
}

const FORMAT_VERSION: u32 = 2;
const SEAL: Seal = Seal { algorithm: ChecksumType::Crc32c, base: 0 };

impl crate::salvage::Salvaged {
    /// Writes what was salvaged as a new table: the same keys, sequence numbers and tombstones.
    ///
    /// # Errors
    ///
    /// When there is nothing to write, the table cannot be read any more, or `out` does not take the bytes.
    pub fn write_table(&self, out: impl Write, order: &KeyOrder) -> io::Result<WrittenTable> {
        let mut properties = self.properties.clone().unwrap_or_default();
        properties.timestamps_persisted = self.is_stripped().then_some(false);
        let compression = properties.compression.as_deref().and_then(compression_by_name).unwrap_or(Compression::None);
        let order = if self.is_stripped() { order.of_stripped_keys() } else { order.clone() };
        let options = WriterOptions { compression, order, properties, ..WriterOptions::default() };
        let mut writer = TableWriter::new(out, options);
        let mut scan = self.scan_for_rewrite();
        while scan.advance().map_err(io::Error::other)? {
            writer.add(scan.key(), scan.value())?;
        }
        for tombstone in &self.tombstones {
            writer.add_tombstone(tombstone);
        }
        writer.finish()
    }
}

fn compression_by_name(name: &str) -> Option<Compression> {
    (0..=7).filter_map(Compression::from_byte).find(|kind| kind.name() == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::key::SequenceNumber;
    use crate::reader::{TableOptions, TableReader};
    use proptest::prelude::*;
    use recovery_core::MemBlob;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn a_written_table_reads_back(
            rows in prop::collection::btree_map(prop::collection::vec(0_u8..4, 0..6), (1_u64..1000, prop::collection::vec(any::<u8>(), 0..300)), 1..80),
            kind in 0_u8..8,
        ) {
            let compression = Compression::from_byte(kind).unwrap();
            let options = WriterOptions { block_size: 256, compression, ..WriterOptions::default() };
            let mut bytes = Vec::new();
            let mut writer = TableWriter::new(&mut bytes, options);
            let mut want = BTreeMap::new();
            for (key, (seqno, value)) in rows {
                let key = InternalKey::new(&key, SequenceNumber(seqno), ValueType::Value);
                writer.add(key.as_bytes(), &value).unwrap();
                want.insert(key.into_bytes(), value);
            }
            let tombstone = Tombstone { start: b"a".to_vec(), end: b"b".to_vec(), sequence: SequenceNumber(7) };
            writer.add_tombstone(&tombstone);
            let written = writer.finish().unwrap();
            prop_assert_eq!(written.size, bytes.len() as u64);
            let table = TableReader::open(Arc::new(MemBlob::new("t", bytes)), TableOptions::default()).unwrap();
            prop_assert_eq!(table.tombstones().unwrap(), vec![tombstone]);
            let mut scan = table.scan().unwrap();
            let mut got = BTreeMap::new();
            while scan.advance().unwrap() {
                got.insert(scan.key().to_vec(), scan.value().to_vec());
            }
            prop_assert_eq!(got, want);
            prop_assert_eq!(table.summary(&KeyOrder::Bytewise, true).unwrap(), written.summary);
        }
    }

    #[test]
    fn keys_out_of_order_are_refused() {
        let mut writer = TableWriter::new(Vec::new(), WriterOptions::default());
        let key = |k: &[u8]| InternalKey::new(k, SequenceNumber(1), ValueType::Value).into_bytes();
        writer.add(&key(b"b"), b"").unwrap();
        assert!(writer.add(&key(b"a"), b"").is_err());
        assert!(TableWriter::new(Vec::new(), WriterOptions::default()).finish().is_err());
    }
}

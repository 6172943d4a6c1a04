//! Properties block: what the writer of a table knew about it.
//!
//! A block of entries, never compressed: name -> value, in the order of the names. Numbers are varint64, strings raw,
//! four values fixed32 or fixed64 (noted at their fields).
//!
//! Upstream: `table/table_properties.cc`, `table/meta_blocks.cc` (`ParsePropertiesBlock`),
//! `table/sst_file_writer_collectors.h`, `table/block_based/block_based_table_factory.h`.

use super::block::{Block, BlockBuilder};
use super::coding::{fixed32, fixed64, put_varint, varint64};
use super::error::FormatError;
use super::index::{IndexFormat, IndexType};

/// Family id of tables whose writer knew no family (`SstFileWriter`).
pub const UNKNOWN_FAMILY: u32 = 0x7fff_ffff;

const NAME: &str = "properties block";
const GLOBAL_SEQNO: &str = "rocksdb.external_sst_file.global_seqno";

/// Table properties. A field is `None` when the table does not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableProperties {
    /// Id of the database that wrote the table.
    pub db_id: Option<String>,
    /// Id of the session (one open of the database) that wrote it.
    pub session_id: Option<String>,
    /// Host that wrote it.
    pub host: Option<String>,
    /// File number under which it was written.
    pub original_file_number: Option<u64>,
    /// Bytes of all data blocks with trailers.
    pub data_size: Option<u64>,
    /// Bytes of the index (all partitions).
    pub index_size: Option<u64>,
    /// Bytes of the filter.
    pub filter_size: Option<u64>,
    /// Sum of the key lengths before compression.
    pub raw_key_size: Option<u64>,
    /// Sum of the value lengths before compression.
    pub raw_value_size: Option<u64>,
    /// Number of data blocks.
    pub num_data_blocks: Option<u64>,
    /// Point entries and range tombstones.
    pub num_entries: Option<u64>,
    /// Deletions of every kind, range tombstones included.
    pub num_deletions: Option<u64>,
    /// Merge operands.
    pub num_merge_operands: Option<u64>,
    /// Range tombstones.
    pub num_range_deletions: Option<u64>,
    /// Id of the family; [`UNKNOWN_FAMILY`] when the writer knew none.
    pub family_id: Option<u32>,
    /// Name of the family.
    pub family_name: Option<String>,
    /// Name of the comparator.
    pub comparator: Option<String>,
    /// Name of the merge operator.
    pub merge_operator: Option<String>,
    /// Name of the prefix extractor.
    pub prefix_extractor: Option<String>,
    /// Name of the filter policy.
    pub filter_policy: Option<String>,
    /// Name of the compression asked for; single blocks may be stored otherwise.
    pub compression: Option<String>,
    /// When the table was created, in seconds since 1970 (flush: time of the oldest key).
    pub creation_time: Option<u64>,
    /// When the file was created, in seconds since 1970.
    pub file_creation_time: Option<u64>,
    /// Time of the oldest key, in seconds since 1970.
    pub oldest_key_time: Option<u64>,
    /// Largest sequence number.
    pub largest_seqno: Option<u64>,
    /// Smallest sequence number.
    pub smallest_seqno: Option<u64>,
    /// Offset behind the last data block.
    pub tail_start: Option<u64>,
    /// How the index is encoded.
    pub index: IndexFormat,
    /// Index type number as stored (fixed32), also when it is not known here.
    pub index_type: Option<u32>,
    /// Version of files made to be ingested (fixed32): 2 means that all keys take the global sequence number.
    pub external_version: Option<u32>,
    /// Global sequence number (fixed64); 0 when only the MANIFEST has it.
    pub global_seqno: Option<u64>,
    /// `false`: timestamps were cut off the keys.
    pub timestamps_persisted: Option<bool>,
    /// Everything else, as stored.
    pub other: Vec<(String, Vec<u8>)>,
}

impl TableProperties {
    /// Decodes the unpacked block.
    ///
    /// # Errors
    ///
    /// When an entry of the block or a number in a value does not decode.
    pub fn decode(bytes: &[u8], at: u64) -> Result<Self, FormatError> {
        let mut walk = Block::parse(bytes, at)?.entries();
        let mut out = Self::default();
        while walk.advance()? {
            let name = String::from_utf8_lossy(walk.key()).into_owned();
            if !out.number(&name, walk.value(), at)? && !out.text(&name, walk.value()) {
                out.special(name, walk.value(), at)?;
            }
        }
        Ok(out)
    }

    fn number(&mut self, name: &str, value: &[u8], at: u64) -> Result<bool, FormatError> {
        let Some(field) = self.number_field(name) else { return Ok(false) };
        let (number, used) = varint64(value).ok_or_else(|| bad(at, "number", value))?;
        if used != value.len() {
            return Err(bad(at, "number", value));
        }
        *field = Some(number);
        Ok(true)
    }

    fn number_field(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "rocksdb.original.file.number" => &mut self.original_file_number,
            "rocksdb.data.size" => &mut self.data_size,
            "rocksdb.index.size" => &mut self.index_size,
            "rocksdb.filter.size" => &mut self.filter_size,
            "rocksdb.raw.key.size" => &mut self.raw_key_size,
            "rocksdb.raw.value.size" => &mut self.raw_value_size,
            "rocksdb.num.data.blocks" => &mut self.num_data_blocks,
            "rocksdb.num.entries" => &mut self.num_entries,
            "rocksdb.deleted.keys" => &mut self.num_deletions,
            "rocksdb.merge.operands" => &mut self.num_merge_operands,
            "rocksdb.num.range-deletions" => &mut self.num_range_deletions,
            "rocksdb.creation.time" => &mut self.creation_time,
            "rocksdb.file.creation.time" => &mut self.file_creation_time,
            "rocksdb.oldest.key.time" => &mut self.oldest_key_time,
            "rocksdb.key.largest.seqno" => &mut self.largest_seqno,
            "rocksdb.key.smallest.seqno" => &mut self.smallest_seqno,
            "rocksdb.tail.start.offset" => &mut self.tail_start,
            _ => return None,
        })
    }

    fn text(&mut self, name: &str, value: &[u8]) -> bool {
        let field = match name {
            "rocksdb.creating.db.identity" => &mut self.db_id,
            "rocksdb.creating.session.identity" => &mut self.session_id,
            "rocksdb.creating.host.identity" => &mut self.host,
            "rocksdb.column.family.name" => &mut self.family_name,
            "rocksdb.comparator" => &mut self.comparator,
            "rocksdb.merge.operator" => &mut self.merge_operator,
            "rocksdb.prefix.extractor.name" => &mut self.prefix_extractor,
            "rocksdb.filter.policy" => &mut self.filter_policy,
            "rocksdb.compression" => &mut self.compression,
            _ => return false,
        };
        *field = Some(String::from_utf8_lossy(value).into_owned());
        true
    }

    fn special(&mut self, name: String, value: &[u8], at: u64) -> Result<(), FormatError> {
        let varint = |what| varint64(value).map(|(n, _)| n).ok_or_else(|| bad(at, what, value));
        match name.as_str() {
            "rocksdb.column.family.id" => {
                self.family_id = Some(u32::try_from(varint("family id")?).unwrap_or(UNKNOWN_FAMILY));
            }
            "rocksdb.index.key.is.user.key" => self.index.user_keys = varint("index key flag")? != 0,
            "rocksdb.index.value.is.delta.encoded" => self.index.delta = varint("index value flag")? != 0,
            "rocksdb.user.defined.timestamps.persisted" => {
                self.timestamps_persisted = Some(varint("timestamp flag")? != 0);
            }
            "rocksdb.block.based.table.index.type" => {
                let number = fixed32(value).ok_or_else(|| bad(at, "index type", value))?;
                self.index_type = Some(number);
                self.index.kind = IndexType::from_number(number).unwrap_or_default();
            }
            "rocksdb.external_sst_file.version" => {
                self.external_version = Some(fixed32(value).ok_or_else(|| bad(at, "external version", value))?);
            }
            GLOBAL_SEQNO => {
                self.global_seqno = Some(fixed64(value).ok_or_else(|| bad(at, "global sequence number", value))?);
            }
            _ => self.other.push((name, value.to_vec())),
        }
        Ok(())
    }

    /// Were all keys of this table written with sequence number 0, to take the global one?
    #[must_use]
    pub fn takes_global_seqno(&self) -> bool {
        self.external_version.is_some_and(|version| version >= 2)
    }

    /// Value of a property that has no field of its own.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.other.iter().find(|(n, _)| n == name).map(|(_, value)| &value[..])
    }

    /// Offset inside the raw block of the 8 bytes of the global sequence number.
    ///
    /// Old versions wrote that number into the finished file, so the block's checksum is that of the block with these
    /// bytes zero.
    #[must_use]
    pub fn global_seqno_place(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
        let name = GLOBAL_SEQNO.as_bytes();
        let tail = name.len().min(16);
        // Keys may share a prefix with the one before, so the end of the name is what surely stands there.
        let suffix = name.get(name.len().checked_sub(tail)?..)?;
        let start = bytes.windows(suffix.len()).position(|w| w == suffix)?.checked_add(suffix.len())?;
        let end = start.checked_add(8)?;
        (end <= bytes.len()).then_some(start..end)
    }

    /// The stored form, of what a table written by this crate says about itself.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut entries: Vec<(String, Vec<u8>)> = self.other.clone();
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                entries.push((name.to_owned(), bytes));
            }
        };
        number("rocksdb.column.family.id", self.family_id.map(u64::from));
        number("rocksdb.index.key.is.user.key", Some(u64::from(self.index.user_keys)));
        number("rocksdb.index.value.is.delta.encoded", Some(u64::from(self.index.delta)));
        number("rocksdb.user.defined.timestamps.persisted", self.timestamps_persisted.filter(|p| !p).map(u64::from));
        let mut numbers = self.clone();
        for name in NUMBERS {
            if let Some(value) = numbers.number_field(name) {
                number(name, *value);
            }
        }
        for (name, value) in [
            ("rocksdb.creating.db.identity", &self.db_id),
            ("rocksdb.creating.session.identity", &self.session_id),
            ("rocksdb.creating.host.identity", &self.host),
            ("rocksdb.column.family.name", &self.family_name),
            ("rocksdb.comparator", &self.comparator),
            ("rocksdb.merge.operator", &self.merge_operator),
            ("rocksdb.prefix.extractor.name", &self.prefix_extractor),
            ("rocksdb.filter.policy", &self.filter_policy),
            ("rocksdb.compression", &self.compression),
        ] {
            entries.extend(value.as_ref().map(|value| (name.to_owned(), value.clone().into_bytes())));
        }
        let fixed = |name: &str, value: Option<u32>| value.map(|v| (name.to_owned(), v.to_le_bytes().to_vec()));
        entries.extend(fixed("rocksdb.block.based.table.index.type", self.index_type));
        entries.extend(fixed("rocksdb.external_sst_file.version", self.external_version));
        entries.extend(self.global_seqno.map(|seqno| (GLOBAL_SEQNO.to_owned(), seqno.to_le_bytes().to_vec())));
        entries.sort();
        let mut builder = BlockBuilder::new(1);
        for (name, value) in &entries {
            builder.add(name.as_bytes(), value);
        }
        builder.finish()
    }
}

const NUMBERS: [&str; 17] = [
    "rocksdb.original.file.number",
    "rocksdb.data.size",
    "rocksdb.index.size",
    "rocksdb.filter.size",
    "rocksdb.raw.key.size",
    "rocksdb.raw.value.size",
    "rocksdb.num.data.blocks",
    "rocksdb.num.entries",
    "rocksdb.deleted.keys",
    "rocksdb.merge.operands",
    "rocksdb.num.range-deletions",
    "rocksdb.creation.time",
    "rocksdb.file.creation.time",
    "rocksdb.oldest.key.time",
    "rocksdb.key.largest.seqno",
    "rocksdb.key.smallest.seqno",
    "rocksdb.tail.start.offset",
];

#[cold]
fn bad(at: u64, field: &'static str, value: &[u8]) -> FormatError {
    FormatError::value(NAME, field, at, super::coding::hex(value.get(..16).unwrap_or(value)), "a whole number")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn properties_come_back() {
        let properties = TableProperties {
            num_entries: Some(300),
            family_id: Some(7),
            family_name: Some("users".into()),
            comparator: Some("leveldb.BytewiseComparator".into()),
            external_version: Some(2),
            global_seqno: Some(0),
            index_type: Some(3),
            index: IndexFormat { kind: IndexType::WithFirstKey, user_keys: true, delta: true },
            other: vec![("app.note".into(), b"x".to_vec())],
            ..TableProperties::default()
        };
        let bytes = properties.encode();
        assert_eq!(TableProperties::decode(&bytes, 0).unwrap(), properties);
        let place = TableProperties::global_seqno_place(&bytes).unwrap();
        let mut patched = bytes;
        patched[place].copy_from_slice(&55_u64.to_le_bytes());
        assert_eq!(TableProperties::decode(&patched, 0).unwrap().global_seqno, Some(55));
    }
}

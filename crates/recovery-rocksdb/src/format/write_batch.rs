//! Write batch: the payload of one logical WAL record (upstream `db/write_batch.cc`).
//!
//! | offset | size | type   | field    | meaning                                                      |
//! | -----: | ---: | ------ | -------- | ------------------------------------------------------------ |
//! |      0 |    8 | u64 LE | sequence | sequence number of the first data record                     |
//! |      8 |    4 | u32 LE | count    | data records; log data, no-ops and transaction marks do not count |
//! |     12 |    - | -      | records  | tag byte, then the fields of the tag                          |
//!
//! | tag                                | fields                                          |
//! | ---------------------------------- | ----------------------------------------------- |
//! | 0x00 0x07                          | key                                             |
//! | 0x04 0x08                          | varint32 family, key                            |
//! | 0x01 0x02 0x0F 0x11 0x16 0x18      | key, value (0x0F: begin, end)                   |
//! | 0x05 0x06 0x0E 0x10 0x17 0x19      | varint32 family, key, value                     |
//! | 0x03                               | blob                                            |
//! | 0x09 0x12 0x13 0x0D                | nothing                                         |
//! | 0x0A 0x0B 0x0C                     | transaction id                                  |
//! | 0x15                               | commit timestamp, transaction id                |
//!
//! Keys, values and ids are a varint32 length and bytes. Data record `i` of a batch has sequence `sequence + i`,
//! whatever its family, in databases that number every write (the default).

use recovery_core::{Cursor, Short, VarintError};

/// Bytes before the first record.
pub const HEADER: usize = 12;

/// Type of a data record, numbered as in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DataKind {
    /// Delete a key.
    Deletion = 0x00,
    /// Put a value.
    Value = 0x01,
    /// A merge operand.
    Merge = 0x02,
    /// Delete a key written exactly once.
    SingleDeletion = 0x07,
    /// Delete `[key, value)`.
    RangeDeletion = 0x0F,
    /// Value in a blob file.
    BlobIndex = 0x11,
    /// Wide-column entity.
    WideColumnEntity = 0x16,
    /// Value with a preferred sequence number (`TimedPut`).
    ValuePreferredSeqno = 0x18,
}

impl DataKind {
    /// Whether applying the record a second time may change what is read.
    #[must_use]
    pub const fn must_not_repeat(self) -> bool {
        matches!(self, Self::Merge | Self::SingleDeletion | Self::RangeDeletion)
    }

    const fn long_tag(self) -> u8 {
        match self {
            Self::Deletion => 0x04,
            Self::Value => 0x05,
            Self::Merge => 0x06,
            Self::SingleDeletion => 0x08,
            Self::RangeDeletion => 0x0E,
            Self::BlobIndex => 0x10,
            Self::WideColumnEntity => 0x17,
            Self::ValuePreferredSeqno => 0x19,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deletion => "delete",
            Self::Value => "put",
            Self::Merge => "merge",
            Self::SingleDeletion => "single-delete",
            Self::RangeDeletion => "range-delete",
            Self::BlobIndex => "blob-index",
            Self::WideColumnEntity => "wide-columns",
            Self::ValuePreferredSeqno => "timed-put",
        }
    }

    /// Whether a value stands behind the key: for a range deletion, its end.
    #[must_use]
    pub const fn has_value(self) -> bool {
        !matches!(self, Self::Deletion | Self::SingleDeletion)
    }
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A write to a family; it consumes a sequence number.
    Data {
        /// What is written.
        kind: DataKind,
        /// Column family id.
        family: u32,
        /// User key (with its timestamp, where the family has them); begin of a range deletion.
        key: &'a [u8],
        /// Value, merge operand, blob index, or end of a range deletion; empty for deletions.
        value: &'a [u8],
    },
    /// Application data that is not stored in tables.
    LogData(&'a [u8]),
    /// Nothing.
    Noop,
    /// A prepared transaction's records begin.
    BeginPrepare {
        /// The tag as written: 0x09, 0x12 (persisted) or 0x13 (unprepared).
        tag: u8,
    },
    /// A prepared transaction's records end.
    EndPrepare(&'a [u8]),
    /// The transaction is committed.
    Commit(&'a [u8]),
    /// The transaction is committed at a timestamp.
    CommitWithTimestamp {
        /// Transaction id.
        id: &'a [u8],
        /// Commit timestamp.
        timestamp: &'a [u8],
    },
    /// The transaction is rolled back.
    Rollback(&'a [u8]),
}

/// Why a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It ends inside a field.
    #[error(transparent)]
    Short(#[from] Short),
    /// A number does not fit.
    #[error(transparent)]
    Varint(#[from] VarintError),
    /// A tag that no known version writes.
    #[error("write batch: tag {tag:#04x} at {at:#x} is unknown")]
    Tag {
        /// Offset of the tag in the payload.
        at: u64,
        /// The tag.
        tag: u8,
    },
    /// The header promises another number of records.
    #[error("write batch: the header counts {stored} records, the batch holds {found}")]
    Count {
        /// Number in the header.
        stored: u32,
        /// Number found.
        found: u32,
    },
    /// The sequence number leaves the 56 bits that exist.
    #[error("write batch: sequence {sequence} with {count} records exceeds 56 bits")]
    Sequence {
        /// First sequence.
        sequence: u64,
        /// Number of records.
        count: u32,
    },
}

/// Largest sequence number (upstream `kMaxSequenceNumber`).
pub const MAX_SEQUENCE: u64 = (1 << 56) - 1;

/// A batch whose header is read; the records are read by [`records`](Self::records).
#[derive(Clone, Copy, Debug)]
pub struct WriteBatch<'a> {
    /// Sequence number of the first data record.
    pub sequence: u64,
    /// Number of data records.
    pub count: u32,
    body: Cursor<'a>,
}

impl<'a> WriteBatch<'a> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// When the payload is too short for a header or its sequence numbers cannot exist.
    pub fn parse(payload: &'a [u8]) -> Result<Self, BatchError> {
        let mut c = Cursor::new(payload, 0);
        let sequence = c.u64_le("write batch sequence")?;
        let count = c.u32_le("write batch count")?;
        if sequence > MAX_SEQUENCE || sequence.saturating_add(u64::from(count)) > MAX_SEQUENCE {
            return Err(BatchError::Sequence { sequence, count });
        }
        Ok(Self { sequence, count, body: c })
    }

    /// The records in order; ends after the first error.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records { body: self.body, failed: false }
    }

    /// Reads every record and compares their number with the header.
    ///
    /// # Errors
    ///
    /// When a record cannot be read or the count differs.
    pub fn check(&self) -> Result<(), BatchError> {
        let mut found = 0u32;
        for record in self.records() {
            if let Record::Data { .. } = record? {
                found = found.saturating_add(1);
            }
        }
        if found == self.count { Ok(()) } else { Err(BatchError::Count { stored: self.count, found }) }
    }
}

/// Iterator over the records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: Cursor<'a>,
    failed: bool,
}

#[inline]
fn slice<'a>(c: &mut Cursor<'a>, field: &'static str) -> Result<&'a [u8], BatchError> {
    let n = c.varint32(field)?;
    Ok(c.take_u64(u64::from(n), field)?)
}

#[inline]
fn data<'a>(c: &mut Cursor<'a>, kind: DataKind, long: bool) -> Result<Record<'a>, BatchError> {
    let family = if long { c.varint32("column family")? } else { 0 };
    let key = slice(c, "key")?;
    let value = if kind.has_value() { slice(c, "value")? } else { &[] };
    Ok(Record::Data { kind, family, key, value })
}

fn record<'a>(c: &mut Cursor<'a>) -> Result<Record<'a>, BatchError> {
    let at = c.offset();
    let tag = c.u8("write batch tag")?;
    match tag {
        0x01 => data(c, DataKind::Value, false),
        0x05 => data(c, DataKind::Value, true),
        0x00 => data(c, DataKind::Deletion, false),
        0x04 => data(c, DataKind::Deletion, true),
        0x02 => data(c, DataKind::Merge, false),
        0x06 => data(c, DataKind::Merge, true),
        0x07 => data(c, DataKind::SingleDeletion, false),
        0x08 => data(c, DataKind::SingleDeletion, true),
        0x0F => data(c, DataKind::RangeDeletion, false),
        0x0E => data(c, DataKind::RangeDeletion, true),
        0x11 => data(c, DataKind::BlobIndex, false),
        0x10 => data(c, DataKind::BlobIndex, true),
        0x16 => data(c, DataKind::WideColumnEntity, false),
        0x17 => data(c, DataKind::WideColumnEntity, true),
        0x18 => data(c, DataKind::ValuePreferredSeqno, false),
        0x19 => data(c, DataKind::ValuePreferredSeqno, true),
        0x03 => Ok(Record::LogData(slice(c, "log data")?)),
        0x0D => Ok(Record::Noop),
        0x09 | 0x12 | 0x13 => Ok(Record::BeginPrepare { tag }),
        0x0A => Ok(Record::EndPrepare(slice(c, "transaction id")?)),
        0x0B => Ok(Record::Commit(slice(c, "transaction id")?)),
        0x0C => Ok(Record::Rollback(slice(c, "transaction id")?)),
        0x15 => {
            let timestamp = slice(c, "commit timestamp")?;
            Ok(Record::CommitWithTimestamp { id: slice(c, "transaction id")?, timestamp })
        }
        _ => Err(BatchError::Tag { at, tag }),
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.body.is_empty() {
            return None;
        }
        let result = record(&mut self.body);
        self.failed = result.is_err();
        Some(result)
    }
}

/// Builds the payload of a batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl BatchBuilder {
    /// An empty batch whose first data record gets `sequence`.
    #[must_use]
    pub fn new(sequence: u64) -> Self {
        let mut bytes = sequence.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, count: 0 }
    }

    /// Number of data records so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    fn slice(&mut self, bytes: &[u8]) {
        put_varint(&mut self.bytes, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) {
        match *record {
            Record::Data { kind, family, key, value } => {
                self.count = self.count.saturating_add(1);
                if family == 0 {
                    self.bytes.push(kind as u8);
                } else {
                    self.bytes.push(kind.long_tag());
                    put_varint(&mut self.bytes, u64::from(family));
                }
                self.slice(key);
                if kind.has_value() {
                    self.slice(value);
                }
            }
            Record::LogData(blob) => self.tagged(0x03, blob),
            Record::Noop => self.bytes.push(0x0D),
            Record::BeginPrepare { tag } => self.bytes.push(tag),
            Record::EndPrepare(id) => self.tagged(0x0A, id),
            Record::Commit(id) => self.tagged(0x0B, id),
            Record::Rollback(id) => self.tagged(0x0C, id),
            Record::CommitWithTimestamp { id, timestamp } => {
                self.tagged(0x15, timestamp);
                self.slice(id);
            }
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.slice(bytes);
    }

    /// The payload with its count filled in.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if let Some(field) = self.bytes.get_mut(8..HEADER) {
            field.copy_from_slice(&self.count.to_le_bytes());
        }
        self.bytes
    }
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    super::coding::put_varint(out, value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Vec<u8> {
        let mut b = BatchBuilder::new(77);
        b.push(&Record::Noop);
        b.push(&Record::BeginPrepare { tag: 0x09 });
        for kind in [
            DataKind::Deletion,
            DataKind::Value,
            DataKind::Merge,
            DataKind::SingleDeletion,
            DataKind::RangeDeletion,
            DataKind::BlobIndex,
            DataKind::WideColumnEntity,
            DataKind::ValuePreferredSeqno,
        ] {
            for family in [0, 300] {
                let value: &[u8] = if kind.has_value() { b"value" } else { b"" };
                b.push(&Record::Data { kind, family, key: b"key", value });
            }
        }
        b.push(&Record::LogData(b"note"));
        b.push(&Record::EndPrepare(b"x1"));
        b.push(&Record::Commit(b"x1"));
        b.push(&Record::Rollback(b"x2"));
        b.push(&Record::CommitWithTimestamp { id: b"x3", timestamp: b"12345678" });
        b.finish()
    }

    #[test]
    fn every_tag_comes_back_as_written() {
        let bytes = sample();
        let batch = WriteBatch::parse(&bytes).unwrap();
        assert_eq!((batch.sequence, batch.count), (77, 16));
        batch.check().unwrap();
        let mut again = BatchBuilder::new(77);
        for record in batch.records() {
            again.push(&record.unwrap());
        }
        assert_eq!(again.finish(), bytes);
    }

    #[test]
    fn every_cut_inside_the_data_is_an_error() {
        let bytes = sample();
        let marks = b"\x03\x04note";
        let data_end = bytes.windows(marks.len()).position(|w| w == marks).unwrap();
        for len in 0..data_end {
            let cut = bytes.get(..len).unwrap();
            assert!(WriteBatch::parse(cut).and_then(|b| b.check()).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn an_unknown_tag_names_its_place() {
        let mut bytes = BatchBuilder::new(1).finish();
        bytes.push(0x7f);
        let err = WriteBatch::parse(&bytes).unwrap().check().unwrap_err();
        assert_eq!(err, BatchError::Tag { at: 12, tag: 0x7f });
    }
}

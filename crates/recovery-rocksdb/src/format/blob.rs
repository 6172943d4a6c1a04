//! Blob file: values kept apart from their keys.
//!
//! ```text
//! header (30) | record ... | footer (32, only after a clean close)
//! ```
//!
//! | header | size | field                        |   | record | size | field                                   |
//! | -----: | ---: | ---------------------------- | - | -----: | ---: | --------------------------------------- |
//! |      0 |    4 | magic `0x00248f37`           |   |      0 |    8 | key length                              |
//! |      4 |    4 | version, 1                   |   |      8 |    8 | value length                            |
//! |      8 |    4 | column family id             |   |     16 |    8 | expiration                              |
//! |     12 |    1 | flags: bit 0 has expirations |   |     24 |    4 | masked CRC-32C of bytes 0..24           |
//! |     13 |    1 | compression of the values    |   |     28 |    4 | masked CRC-32C of key and value         |
//! |     14 |   16 | expiration range             |   |     32 |      | key, then value (compressed)            |
//!
//! Footer: magic (4), record count (8), expiration range (16), masked CRC-32C of the 28 bytes before (4).
//! No checksum covers the header of the file.
//!
//! A *blob index* in a table or log names a value:
//!
//! | type | fields                                                               |
//! | ---: | -------------------------------------------------------------------- |
//! |    0 | varint64 expiration, value                                           |
//! |    1 | varint64 file number, offset, size; compression byte                 |
//! |    2 | varint64 expiration, then as 1                                       |
//!
//! The offset is that of the value's bytes; the record starts `key length + 32` bytes before.
//!
//! Upstream: `db/blob/blob_log_format.h`, `blob_index.h`.

use recovery_core::Cursor;

use super::checksum::masked_crc32c;
use super::coding::put_varint;
use super::error::FormatError;

/// Length of the file header.
pub const HEADER_LEN: usize = 30;
/// Length of the header of each record.
pub const RECORD_HEADER_LEN: usize = 32;
/// Length of the footer.
pub const FOOTER_LEN: usize = 32;
/// First bytes of header and footer.
pub const MAGIC: u32 = 0x0024_8f37;

/// The head of a blob file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHeader {
    /// Family the values belong to.
    pub family: u32,
    /// Whether values expire (stacked BlobDB).
    pub has_ttl: bool,
    /// Compression type byte of the values.
    pub compression: u8,
    /// Earliest and latest expiration.
    pub expiration: (u64, u64),
}

impl BlobHeader {
    /// Decodes the first 30 bytes of a file.
    ///
    /// # Errors
    ///
    /// When they are too few, or magic or version are others.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const NAME: &str = "blob file header";
        let mut c = Cursor::new(bytes, 0);
        let magic = c.u32_le("magic number")?;
        if magic != MAGIC {
            return Err(FormatError::value(NAME, "magic number", 0, format_args!("{magic:#010x}"), "0x00248f37"));
        }
        let version = c.u32_le("version")?;
        if version != 1 {
            return Err(FormatError::value(NAME, "version", 4, version, 1));
        }
        let family = c.u32_le("column family id")?;
        let flags = c.u8("flags")?;
        let compression = c.u8("compression")?;
        let expiration = (c.u64_le("expiration")?, c.u64_le("expiration")?);
        Ok(Self { family, has_ttl: flags & 1 != 0, compression, expiration })
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        for word in [MAGIC, 1, self.family] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&[u8::from(self.has_ttl), self.compression]);
        out.extend_from_slice(&self.expiration.0.to_le_bytes());
        out.extend_from_slice(&self.expiration.1.to_le_bytes());
        out
    }
}

/// The head of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// Bytes of key.
    pub key_len: u64,
    /// Bytes of value as stored.
    pub value_len: u64,
    /// When the value expires; 0 for never.
    pub expiration: u64,
    /// Masked CRC-32C of key and value.
    pub blob_crc: u32,
}

impl BlobRecord {
    /// Decodes the 32 bytes before a key, and checks their own checksum.
    ///
    /// # Errors
    ///
    /// When they are too few or the checksum differs.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let at = cursor.offset();
        let head = cursor.take(RECORD_HEADER_LEN, "blob record header")?;
        let mut c = Cursor::new(head, at);
        let (key_len, value_len) = (c.u64_le("key length")?, c.u64_le("value length")?);
        let expiration = c.u64_le("expiration")?;
        let stored = c.u32_le("header checksum")?;
        let computed = masked_crc32c(head.get(..24).unwrap_or_default());
        if stored != computed {
            let (structure, algorithm) = ("blob record header", "crc32c");
            return Err(FormatError::Checksum { structure, at, length: 32, algorithm, stored, computed });
        }
        Ok(Self { key_len, value_len, expiration, blob_crc: c.u32_le("blob checksum")? })
    }

    /// Header, key and value together; `None` when the lengths overflow.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.key_len.checked_add(self.value_len)?.checked_add(RECORD_HEADER_LEN as u64)
    }

    /// A whole record.
    #[must_use]
    pub fn encode(key: &[u8], value: &[u8], expiration: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(key.len().saturating_add(value.len()).saturating_add(RECORD_HEADER_LEN));
        for number in [key.len() as u64, value.len() as u64, expiration] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let header_crc = masked_crc32c(&out);
        let blob_crc = super::checksum::mask(super::checksum::crc32c_append(super::checksum::crc32c(key), value));
        out.extend_from_slice(&header_crc.to_le_bytes());
        out.extend_from_slice(&blob_crc.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        out
    }
}

/// The foot of a cleanly closed blob file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobFooter {
    /// Number of records.
    pub count: u64,
    /// Earliest and latest expiration.
    pub expiration: (u64, u64),
}

impl BlobFooter {
    /// Decodes the last 32 bytes of a file.
    ///
    /// # Errors
    ///
    /// When they are too few, the magic is another or the checksum differs.
    pub fn decode(bytes: &[u8], at: u64) -> Result<Self, FormatError> {
        const NAME: &str = "blob file footer";
        let mut c = Cursor::new(bytes, at);
        let magic = c.u32_le("magic number")?;
        if magic != MAGIC {
            return Err(FormatError::value(NAME, "magic number", at, format_args!("{magic:#010x}"), "0x00248f37"));
        }
        let count = c.u64_le("record count")?;
        let expiration = (c.u64_le("expiration")?, c.u64_le("expiration")?);
        let stored = c.u32_le("footer checksum")?;
        let computed = masked_crc32c(bytes.get(..28).unwrap_or_default());
        if stored != computed {
            let algorithm = "crc32c";
            return Err(FormatError::Checksum { structure: NAME, at, length: 32, algorithm, stored, computed });
        }
        Ok(Self { count, expiration })
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_le_bytes().to_vec();
        for number in [self.count, self.expiration.0, self.expiration.1] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = masked_crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}

/// What a blob index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobIndex<'a> {
    /// The value itself, with its expiration.
    Inlined {
        /// When it expires, in seconds since 1970.
        expiration: u64,
        /// The value.
        value: &'a [u8],
    },
    /// A value in a blob file.
    Blob {
        /// When it expires; `None` for never.
        expiration: Option<u64>,
        /// Number of the blob file; 0 means this very table (embedded blobs, not read).
        file: u64,
        /// Offset of the value's bytes.
        offset: u64,
        /// Length of the value as stored.
        size: u64,
        /// Compression type byte.
        compression: u8,
    },
}

impl<'a> BlobIndex<'a> {
    /// Decodes the value of an entry of type blob index.
    ///
    /// # Errors
    ///
    /// When it is cut, has bytes left over, or its type is unknown.
    pub fn decode(bytes: &'a [u8], at: u64) -> Result<Self, FormatError> {
        const NAME: &str = "blob index";
        let mut c = Cursor::new(bytes, at);
        let kind = c.u8("type")?;
        let expiration = match kind {
            0 | 2 => Some(c.varint64("expiration")?),
            1 => None,
            other => return Err(FormatError::value(NAME, "type", at, other, "0, 1 or 2")),
        };
        if kind == 0 {
            return Ok(Self::Inlined { expiration: expiration.unwrap_or_default(), value: c.rest() });
        }
        let (file, offset, size) = (c.varint64("file number")?, c.varint64("offset")?, c.varint64("size")?);
        let compression = c.u8("compression")?;
        if !c.is_empty() {
            return Err(FormatError::value(NAME, "length", at, bytes.len(), "nothing behind the compression byte"));
        }
        Ok(Self::Blob { expiration, file, offset, size, compression })
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Inlined { expiration, value } => {
                out.push(0);
                put_varint(&mut out, expiration);
                out.extend_from_slice(value);
            }
            Self::Blob { expiration, file, offset, size, compression } => {
                out.push(if expiration.is_some() { 2 } else { 1 });
                for number in expiration.into_iter().chain([file, offset, size]) {
                    put_varint(&mut out, number);
                }
                out.push(compression);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_comes_back(key: Vec<u8>, value: Vec<u8>, numbers: [u64; 4], compression: u8) {
            let [a, b, count, file] = numbers;
            let header = BlobHeader { family: 3, has_ttl: a % 2 == 0, compression, expiration: (a, b) };
            prop_assert_eq!(BlobHeader::decode(&header.encode()).unwrap(), header);
            let footer = BlobFooter { count, expiration: (a, b) };
            prop_assert_eq!(BlobFooter::decode(&footer.encode(), 0).unwrap(), footer);
            let record = BlobRecord::encode(&key, &value, a);
            let head = BlobRecord::decode(&mut Cursor::new(&record, 0)).unwrap();
            prop_assert_eq!(head.size(), Some(record.len() as u64));
            prop_assert_eq!(masked_crc32c(&record[RECORD_HEADER_LEN..]), head.blob_crc);
            for expiration in [None, Some(a)] {
                let index = BlobIndex::Blob { expiration, file, offset: b, size: count, compression };
                let bytes = index.encode();
                prop_assert_eq!(BlobIndex::decode(&bytes, 0).unwrap(), index);
            }
            let index = BlobIndex::Inlined { expiration: a, value: &value };
            let bytes = index.encode();
            prop_assert_eq!(BlobIndex::decode(&bytes, 0).unwrap(), index);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_head_or_footer_is_noticed() {
        let record = BlobRecord::encode(b"key", b"value", 0);
        let footer = BlobFooter { count: 9, expiration: (0, 0) }.encode();
        for bit in 0..28 * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlobRecord::decode(&mut Cursor::new(&bad, 0)).is_err());
        }
        for bit in 0..footer.len() * 8 {
            let mut bad = footer.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlobFooter::decode(&bad, 0).is_err());
        }
    }
}

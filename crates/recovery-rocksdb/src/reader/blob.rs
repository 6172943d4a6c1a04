//! Blob files: values by their blob index, and a walk over the records that goes on behind damage.

use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Blob, Cursor};

use crate::format::FormatError;
use crate::format::blob::{BlobFooter, BlobHeader, BlobRecord, FOOTER_LEN, HEADER_LEN, RECORD_HEADER_LEN};
use crate::format::checksum::{crc32c, crc32c_append, mask};
use crate::format::compression::{Container, Decompressor};

use super::block::TableError;

/// Bytes read at once by a walk.
const READ_AHEAD: u64 = 256 << 10;

/// A blob file whose header is intact.
#[derive(Clone, Debug)]
pub struct BlobFile {
    blob: Arc<dyn Blob>,
    header: BlobHeader,
}

impl BlobFile {
    /// Reads the header. The footer is not needed for reading values.
    ///
    /// # Errors
    ///
    /// When the header cannot be read or is not one.
    pub fn open(blob: Arc<dyn Blob>) -> Result<Self, TableError> {
        let bytes = blob.bytes(0..blob.len().min(HEADER_LEN as u64))?;
        let header = BlobHeader::decode(&bytes).map_err(|source| TableError::format(blob.name(), source))?;
        Ok(Self { blob, header })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BlobHeader {
        &self.header
    }

    /// Reads the value at `offset` of stored length `size`, checks its record and the key, and unpacks it.
    ///
    /// # Errors
    ///
    /// When the record does not lie in the file, does not match its checksums or the key, or does not unpack.
    pub fn value(&self, user_key: &[u8], offset: u64, size: u64, limit: usize) -> Result<Vec<u8>, TableError> {
        let wrong = |field, found: String, expected: String| {
            TableError::format(self.blob.name(), FormatError::value("blob record", field, offset, found, expected))
        };
        let head_len = (user_key.len() as u64).saturating_add(RECORD_HEADER_LEN as u64);
        let range = offset.checked_sub(head_len).zip(offset.checked_add(size)).map(|(start, end)| start..end);
        let Some(range) = range.filter(|r| r.start >= HEADER_LEN as u64 && r.end <= self.blob.len()) else {
            let expected = format!("a record inside the {} bytes of the file", self.blob.len());
            return Err(wrong("place", format!("{size} bytes"), expected));
        };
        let bytes = self.blob.bytes(range.clone())?;
        let mut c = Cursor::new(&bytes, range.start);
        let record = BlobRecord::decode(&mut c).map_err(|source| TableError::format(self.blob.name(), source))?;
        let (key, value) = c.rest().split_at_checked(user_key.len()).unwrap_or_default();
        if record.key_len != key.len() as u64 || record.value_len != size || key != user_key {
            return Err(wrong("key and lengths", "others".to_owned(), "those of the blob index".to_owned()));
        }
        self.check_blob(&record, range.start, key, value)?;
        let mut out = Vec::new();
        let structure = "blob record";
        Decompressor::default()
            .unpack(self.header.compression, value, Container::Sized, None, limit, &mut out)
            .map_err(|source| TableError::Unpack {
                object: self.blob.name().to_owned(),
                structure,
                at: offset,
                source,
            })?;
        Ok(out)
    }

    fn check_blob(&self, record: &BlobRecord, at: u64, key: &[u8], value: &[u8]) -> Result<(), TableError> {
        let computed = mask(crc32c_append(crc32c(key), value));
        if computed == record.blob_crc {
            return Ok(());
        }
        let source = FormatError::Checksum {
            structure: "blob record",
            at,
            length: record.size().unwrap_or(u64::MAX),
            algorithm: "crc32c",
            stored: record.blob_crc,
            computed,
        };
        Err(TableError::format(self.blob.name(), source))
    }
}

/// One stretch of a blob file, as a walk met it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobItem {
    /// A record whose both checksums match.
    Record {
        /// Header, key and value.
        range: Range<u64>,
        /// Bytes of key.
        key_len: u64,
    },
    /// A record whose header is intact, but key or value are not.
    Damaged {
        /// Header, key and value.
        range: Range<u64>,
        /// The checksum in the file.
        stored: u32,
        /// The checksum of the bytes in the file.
        computed: u32,
    },
    /// Bytes in which no record header verifies.
    Unknown {
        /// Where.
        range: Range<u64>,
    },
    /// Bytes that the medium did not give.
    Unread {
        /// Where.
        range: Range<u64>,
        /// The system's words.
        message: String,
    },
}

/// What a walk over a whole blob file found.
#[derive(Clone, Debug)]
pub struct BlobWalk {
    /// The header, or why there is none.
    pub header: Result<BlobHeader, TableError>,
    /// The footer; an error also when the file just has none (it was not closed).
    pub footer: Result<BlobFooter, FormatError>,
    /// Everything between, in order.
    pub items: Vec<BlobItem>,
}

impl BlobWalk {
    /// Walks a whole file. Behind damage it looks for the next record header byte by byte.
    #[must_use]
    pub fn run(blob: &Arc<dyn Blob>) -> Self {
        let header = BlobFile::open(Arc::clone(blob)).map(|file| file.header);
        let len = blob.len();
        let start = (HEADER_LEN as u64).min(len);
        let foot = len.saturating_sub(FOOTER_LEN as u64).max(start);
        let footer = match blob.bytes(foot..len) {
            Ok(bytes) => BlobFooter::decode(&bytes, foot),
            Err(error) => Err(FormatError::value("blob file footer", "bytes", foot, error, "readable bytes")),
        };
        let end = if footer.is_ok() { foot } else { len };
        let mut walk = Walk { blob, window: Vec::new(), window_at: 0, end, items: Vec::new() };
        walk.records(start);
        Self { header, footer, items: walk.items }
    }

    /// Number of good records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.items.iter().filter(|item| matches!(item, BlobItem::Record { .. })).count() as u64
    }

    /// Bytes of good records, headers included: the number a MANIFEST holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |item: &BlobItem| match item {
            BlobItem::Record { range, .. } => range.end.saturating_sub(range.start),
            _ => 0,
        };
        self.items.iter().map(size).fold(0, u64::saturating_add)
    }

    /// Did everything between header and footer verify?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.header.is_ok() && self.items.iter().all(|item| matches!(item, BlobItem::Record { .. }))
    }
}

struct Walk<'a> {
    blob: &'a Arc<dyn Blob>,
    window: Vec<u8>,
    window_at: u64,
    end: u64,
    items: Vec<BlobItem>,
}

impl Walk<'_> {
    fn records(&mut self, mut at: u64) {
        while at < self.end {
            at = match self.record(at) {
                Ok(Some((item, next))) => {
                    self.items.push(item);
                    next
                }
                Ok(None) => self.resync(at),
                Err(error) => {
                    let next = (at / 4096).saturating_add(1).saturating_mul(4096).min(self.end);
                    self.items.push(BlobItem::Unread { range: at..next, message: error.message });
                    self.resync(next)
                }
            };
        }
    }

    /// The bytes at `at`, as many as the window gives, at least `n` unless the file ends.
    fn look(&mut self, at: u64, n: u64) -> Result<&[u8], recovery_core::ReadError> {
        let have = self.window_at.saturating_add(self.window.len() as u64);
        let want = at.saturating_add(n).min(self.end);
        if at < self.window_at || want > have {
            let end = at.saturating_add(READ_AHEAD).min(self.end).max(want);
            self.window.resize(usize::try_from(end.saturating_sub(at)).unwrap_or(0), 0);
            self.window_at = at;
            let mut read = self.blob.read_exact_at(at, &mut self.window);
            if read.is_err() && want < end {
                // A bad sector further on must not take this record with it.
                self.window.truncate(usize::try_from(want.saturating_sub(at)).unwrap_or(0));
                read = self.blob.read_exact_at(at, &mut self.window);
            }
            if let Err(error) = read {
                self.window.clear();
                return Err(error);
            }
        }
        let skip = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        Ok(self.window.get(skip..).unwrap_or_default())
    }

    /// The record at `at`, if its header verifies and it lies in the file, and where the next one starts.
    fn record(&mut self, at: u64) -> Result<Option<(BlobItem, u64)>, recovery_core::ReadError> {
        let Ok(record) = BlobRecord::decode(&mut Cursor::new(self.look(at, RECORD_HEADER_LEN as u64)?, at)) else {
            return Ok(None);
        };
        let Some(end) = record.size().and_then(|size| at.checked_add(size)).filter(|end| *end <= self.end) else {
            return Ok(None);
        };
        let range = at..end;
        let computed = match self.body_crc(at.saturating_add(RECORD_HEADER_LEN as u64)..end) {
            Ok(crc) => crc,
            Err(error) => return Ok(Some((BlobItem::Unread { range, message: error.message }, end))),
        };
        let item = if computed == record.blob_crc {
            BlobItem::Record { range, key_len: record.key_len }
        } else {
            BlobItem::Damaged { range, stored: record.blob_crc, computed }
        };
        Ok(Some((item, end)))
    }

    fn body_crc(&mut self, body: Range<u64>) -> Result<u32, recovery_core::ReadError> {
        let (mut at, mut crc) = (body.start, 0);
        while at < body.end {
            let left = body.end.saturating_sub(at);
            let piece = self.look(at, left.min(READ_AHEAD))?;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            if n == 0 {
                break;
            }
            crc = crc32c_append(crc, piece.get(..n).unwrap_or_default());
            at = at.saturating_add(n as u64);
        }
        Ok(mask(crc))
    }

    /// Finds the next offset behind `from` at which a record header verifies; reports what lies between.
    fn resync(&mut self, from: u64) -> u64 {
        let mut at = from.saturating_add(1).min(self.end);
        let found = loop {
            if at.saturating_add(RECORD_HEADER_LEN as u64) > self.end {
                break self.end;
            }
            let end = self.end;
            match self.look(at, RECORD_HEADER_LEN as u64) {
                Ok(bytes) => match next_header(bytes, at, end) {
                    Some(found) => break found,
                    // The last bytes looked at may be the beginning of a header.
                    None => {
                        let seen = (bytes.len() as u64).saturating_sub(RECORD_HEADER_LEN as u64 - 1).max(1);
                        at = at.saturating_add(seen);
                    }
                },
                Err(_) => at = (at / 512).saturating_add(1).saturating_mul(512),
            }
        };
        let found = found.min(self.end);
        if found > from {
            self.items.push(BlobItem::Unknown { range: from..found });
        }
        found
    }
}

fn next_header(bytes: &[u8], at: u64, end: u64) -> Option<u64> {
    bytes.windows(RECORD_HEADER_LEN).zip(at..).find_map(|(window, place)| {
        // The high bytes of both lengths are zero in any real file: a cheap test before the checksum.
        let plausible = window.get(6..8) == Some(&[0, 0]) && window.get(14..16) == Some(&[0, 0]);
        let record = plausible.then(|| BlobRecord::decode(&mut Cursor::new(window, place)).ok())??;
        place.checked_add(record.size()?).filter(|e| *e <= end).map(|_| place)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use recovery_core::MemBlob;

    fn file(footer: bool) -> (Vec<u8>, Vec<Range<u64>>) {
        let header = BlobHeader { family: 0, has_ttl: false, compression: 0, expiration: (0, 0) };
        let mut bytes = header.encode();
        let mut ranges = Vec::new();
        for n in 0..20_usize {
            let start = bytes.len() as u64;
            bytes.extend(BlobRecord::encode(format!("key{n}").as_bytes(), &vec![b'v'; n * 7], 0));
            ranges.push(start..bytes.len() as u64);
        }
        if footer {
            bytes.extend(BlobFooter { count: 20, expiration: (0, 0) }.encode());
        }
        (bytes, ranges)
    }

    fn walk(bytes: Vec<u8>) -> BlobWalk {
        BlobWalk::run(&(Arc::new(MemBlob::new("000001.blob", bytes)) as Arc<dyn Blob>))
    }

    #[test]
    fn whole_files_are_whole() {
        for footer in [true, false] {
            let (bytes, ranges) = file(footer);
            let walk = walk(bytes);
            assert!(walk.is_whole());
            assert_eq!((walk.records(), walk.footer.is_ok()), (20, footer));
            assert_eq!(walk.bytes(), ranges.last().unwrap().end - 30);
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_record_at_most() {
        let (bytes, ranges) = file(true);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let place = (bit / 8) as u64;
            let walk = walk(bad);
            for range in &ranges {
                let good = walk.items.iter().any(|i| matches!(i, BlobItem::Record { range: r, .. } if r == range));
                assert_eq!(good, !range.contains(&place), "bit {bit}, record {range:?}");
            }
        }
    }

    #[test]
    fn a_cut_costs_the_cut_record() {
        let (bytes, ranges) = file(false);
        for n in 30..bytes.len() {
            let walk = walk(bytes[..n].to_vec());
            let whole = ranges.iter().filter(|r| r.end <= n as u64).count() as u64;
            assert_eq!(walk.records(), whole, "cut at {n}");
        }
    }
}

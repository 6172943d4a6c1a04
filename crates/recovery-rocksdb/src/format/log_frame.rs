//! Framing of WAL and MANIFEST files (upstream `db/log_format.h`, `log_writer.cc`, `log_reader.cc`).
//!
//! A log is cut into blocks of 32,768 bytes from the start of the file. A physical record never crosses a block; when
//! fewer bytes than a header are left in a block they are zero.
//!
//! | offset | size | type   | field      | meaning                                                        |
//! | -----: | ---: | ------ | ---------- | -------------------------------------------------------------- |
//! |      0 |    4 | u32 LE | crc        | masked CRC-32C of everything from `type` to the end of payload |
//! |      4 |    2 | u16 LE | length     | bytes of payload                                               |
//! |      6 |    1 | u8     | type       | see [`RecordType`]                                             |
//! |      7 |    4 | u32 LE | log number | only in recyclable types: low half of the log's file number    |
//! | 7 / 11 |    - | bytes  | payload    |                                                                |
//!
//! A logical record is one `Full` record or `First`, any number of `Middle`, and `Last`. The length is not covered by
//! the checksum, but a wrong one moves the bytes that are.

use super::checksum::masked_crc32c;

/// Size of a block.
pub const BLOCK: usize = 32_768;
/// Size of an ordinary header.
pub const HEADER: usize = 7;
/// Size of the header of a recyclable record.
pub const RECYCLABLE_HEADER: usize = 11;

/// Part that a physical record is of its logical record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Full,
    /// The beginning.
    First,
    /// Neither beginning nor end.
    Middle,
    /// The end.
    Last,
}

/// Type byte of a physical record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// 1-4, or 5-8 in recyclable form: user data.
    Data(Part),
    /// 9: the rest of the log is compressed; payload is the compression type as fixed32.
    SetCompression,
    /// 10 or 11: sizes of user-defined timestamps, `(fixed32 family, fixed16 size)*`.
    TimestampSizes,
    /// 130 or 131: number, size and last sequence of the log before this one.
    Predecessor,
    /// Another type with bit 7 set: to be skipped by readers that do not know it.
    Ignorable(u8),
}

impl RecordType {
    /// The type for a type byte and whether it is a recyclable one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<(Self, bool)> {
        Some(match byte {
            1 => (Self::Data(Part::Full), false),
            2 => (Self::Data(Part::First), false),
            3 => (Self::Data(Part::Middle), false),
            4 => (Self::Data(Part::Last), false),
            5 => (Self::Data(Part::Full), true),
            6 => (Self::Data(Part::First), true),
            7 => (Self::Data(Part::Middle), true),
            8 => (Self::Data(Part::Last), true),
            9 => (Self::SetCompression, false),
            10 => (Self::TimestampSizes, false),
            11 => (Self::TimestampSizes, true),
            130 => (Self::Predecessor, false),
            131 => (Self::Predecessor, true),
            other if other & 0x80 != 0 => (Self::Ignorable(other), false),
            _ => return None,
        })
    }
}

/// One physical record whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Physical<'a> {
    /// What it is.
    pub kind: RecordType,
    /// Number of the log it was written for, in recyclable types.
    pub log_number: Option<u32>,
    /// Its payload.
    pub payload: &'a [u8],
    /// Bytes of header and payload.
    pub size: usize,
}

/// Why the bytes at a place are no physical record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Fewer bytes than a header are left in the window.
    NoHeader,
    /// Type 0 and length 0: preallocated space, or a hole.
    Zero,
    /// The type byte is not known.
    Type(u8),
    /// The record would reach past the end of the window.
    Length {
        /// Bytes of payload by the header.
        length: u16,
        /// Bytes there are for it.
        room: usize,
    },
    /// The checksum does not fit.
    Checksum {
        /// As stored, unmasked form not applied.
        stored: u32,
        /// As the bytes give it, masked likewise.
        computed: u32,
    },
}

/// Splits a header into crc, length and type.
#[inline]
fn header(bytes: &[u8]) -> Option<(u32, u16, u8)> {
    let [a, b, c, d, e, f, kind] = bytes.first_chunk::<HEADER>()?;
    Some((u32::from_le_bytes([*a, *b, *c, *d]), u16::from_le_bytes([*e, *f]), *kind))
}

/// Reads the physical record at the beginning of `window`, which ends where the block or the file ends.
///
/// # Errors
///
/// When the bytes are no record that its writer would have left; nothing is guessed.
#[inline]
pub fn decode(window: &[u8]) -> Result<Physical<'_>, Reject> {
    let Some((stored, length, kind)) = header(window) else { return Err(Reject::NoHeader) };
    if kind == 0 && length == 0 {
        return Err(Reject::Zero);
    }
    let Some((record_type, recyclable)) = RecordType::from_byte(kind) else { return Err(Reject::Type(kind)) };
    let head = if recyclable { RECYCLABLE_HEADER } else { HEADER };
    let size = head.saturating_add(usize::from(length));
    let Some(covered) = window.get(6..size) else {
        return Err(Reject::Length { length, room: window.len().saturating_sub(head) });
    };
    let computed = masked_crc32c(covered);
    if computed != stored {
        return Err(Reject::Checksum { stored, computed });
    }
    let log_number = if recyclable { stored_log_number(window) } else { None };
    let payload = window.get(head..size).unwrap_or_default();
    Ok(Physical { kind: record_type, log_number, payload, size })
}

/// The log-number field of a recyclable record, whether or not its checksum is right.
#[inline]
#[must_use]
pub fn stored_log_number(window: &[u8]) -> Option<u32> {
    let field = window.get(HEADER..RECYCLABLE_HEADER)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// Whether `window` begins with a record whose header was damaged but whose payload is whole when it is read with
/// another type, length or log number: the two header fields that no other byte repeats.
///
/// Only records that end exactly where `window` ends are tried for the length, since nothing else bounds them.
#[must_use]
pub fn is_record_with_wrong_header(window: &[u8], log_number: Option<u32>) -> bool {
    let Some((stored, length, kind)) = header(window) else { return false };
    let matches = |kind: u8, size: usize, number: Option<u32>| {
        let Some(body) = window.get(HEADER..size) else { return false };
        let mut covered = Vec::with_capacity(size);
        covered.push(kind);
        covered.extend_from_slice(body);
        if let (Some(number), Some(field)) = (number, covered.get_mut(1..5)) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        masked_crc32c(&covered) == stored
    };
    let recyclable = log_number.is_some();
    let kinds = if recyclable { 5u8..=8 } else { 1u8..=4 };
    let head = if recyclable { RECYCLABLE_HEADER } else { HEADER };
    let size = head.saturating_add(usize::from(length));
    kinds.into_iter().any(|k| matches(k, size, None))
        || matches(kind, window.len(), None)
        || (recyclable && matches(kind, size, log_number))
}

/// Cuts `payload` into physical records and appends them to a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameWriter {
    at: u64,
}

impl FrameWriter {
    /// Bytes written so far.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// Appends one logical record to `out`.
    pub fn record(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let mut rest = payload;
        let mut first = true;
        loop {
            let room = self.room(HEADER, out);
            let (piece, after) = rest.split_at(rest.len().min(room));
            let kind = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            self.emit(kind, piece, out);
            rest = after;
            first = false;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Appends a record of timestamp sizes (type 10).
    pub fn timestamp_sizes(&mut self, sizes: &[(u32, u16)], out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(sizes.len().saturating_mul(6));
        for (family, size) in sizes {
            payload.extend_from_slice(&family.to_le_bytes());
            payload.extend_from_slice(&size.to_le_bytes());
        }
        for piece in payload.chunks(BLOCK / 2 / 6 * 6) {
            if self.room(HEADER, out) < piece.len() {
                self.fill_block(out);
            }
            self.emit(10, piece, out);
        }
    }

    fn block_left(&self) -> usize {
        BLOCK - usize::try_from(self.at % BLOCK as u64).unwrap_or(0)
    }

    fn fill_block(&mut self, out: &mut Vec<u8>) {
        let left = self.block_left();
        out.resize(out.len().saturating_add(left), 0);
        self.at = self.at.saturating_add(left as u64);
    }

    fn room(&mut self, head: usize, out: &mut Vec<u8>) -> usize {
        if self.block_left() < head {
            self.fill_block(out);
        }
        self.block_left().saturating_sub(head)
    }

    fn emit(&mut self, kind: u8, piece: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&length.to_le_bytes());
        out.push(kind);
        out.extend_from_slice(piece);
        let crc = masked_crc32c(out.get(start.saturating_add(6)..).unwrap_or_default());
        if let Some(field) = out.get_mut(start..start.saturating_add(4)) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        self.at = self.at.saturating_add(out.len().saturating_sub(start) as u64);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn one_flipped_bit_is_always_rejected() {
        let mut log = Vec::new();
        FrameWriter::default().record(b"payload of a record", &mut log);
        assert_eq!(decode(&log).unwrap().payload, b"payload of a record");
        for bit in 0..log.len() * 8 {
            let mut bad = log.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_header_is_told_from_a_torn_record() {
        let mut log = Vec::new();
        FrameWriter::default().record(b"payload of a record", &mut log);
        for bit in 4 * 8..7 * 8 {
            let mut bad = log.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(is_record_with_wrong_header(&bad, None), "bit {bit}");
        }
        assert!(!is_record_with_wrong_header(&log[..log.len() - 1], None));
    }

    #[test]
    fn long_records_are_cut_at_blocks() {
        for len in [0, 1, BLOCK - HEADER, BLOCK - HEADER + 1, 3 * BLOCK] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut log = Vec::new();
            let mut w = FrameWriter::default();
            w.record(&payload, &mut log);
            w.record(b"next", &mut log);
            assert_eq!(w.offset(), log.len() as u64);
            let mut got = Vec::new();
            let mut at = 0;
            while at < log.len() {
                let end = log.len().min((at / BLOCK + 1) * BLOCK);
                if end - at < HEADER {
                    at = end;
                    continue;
                }
                let p = decode(&log[at..end]).unwrap();
                got.extend_from_slice(p.payload);
                at += p.size;
            }
            assert_eq!(got.len(), len + 4);
            assert_eq!(&got[..len], &payload[..]);
        }
    }
}

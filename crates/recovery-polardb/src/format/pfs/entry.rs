//! Journal entry: the whole new image of one metadata object.
//!
//! | offset | size | type | field      | meaning                                                  |
//! | -----: | ---: | ---- | ---------- | -------------------------------------------------------- |
//! |      0 |  128 | -    | object     | the object with its own checksum                         |
//! |    128 |    8 | u64  | lsn        | one more than the entry before                           |
//! |    136 |    8 | u64  | sector_bda | device byte of the sector that holds the object          |
//! |    144 |    8 | u64  | txid       | transaction                                              |
//! |    152 |    4 | u32  | obj_idx    | object in that sector, 0..32                             |
//! |    156 |    4 | u32  | checksum   | over the 256 bytes; 0 = written without one              |
//! |    160 |    4 | u32  | more       | 1 = an entry of the same transaction follows             |
//! |    164 |   92 | -    | unused     |                                                          |
//!
//! Source: `pfs_logentry_phy_t` in `pfs_log.h`, `pfs_log_check` and `pfs_log_replay` in `pfs_log.cc`.

use std::sync::LazyLock;

use super::{Corrector, Kind, Object, SECTOR, checksum, raw};

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 256;
const CHECKSUM: usize = 156;

static CORRECTOR: LazyLock<Corrector> = LazyLock::new(|| Corrector::of_struct(ENTRY_LEN, CHECKSUM));

/// One entry of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The new image of the object.
    pub object: Object,
    /// Log sequence number.
    pub lsn: u64,
    /// Transaction.
    pub txid: u64,
    /// Another entry of the same transaction follows.
    pub more: bool,
}

/// Why 256 bytes are not a journal entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// Nothing but zeros: never written, or wiped.
    #[error("the entry is all zero")]
    Absent,
    /// The bytes do not match their checksum.
    #[error("checksum of the entry is {stored:#010x}, bytes give {computed:#010x}")]
    Checksum {
        /// The value read.
        stored: u32,
        /// The value of the bytes.
        computed: u32,
    },
    /// The object is of no known kind or has an impossible number.
    #[error("the entry is for object {number} of type {kind}, which cannot be")]
    Object {
        /// Type byte of the object.
        kind: u8,
        /// Number of the object.
        number: u64,
    },
    /// The entry is for another place than its object belongs to.
    #[error("the entry is for device byte {found:#x}, its object belongs at {expected:#x}")]
    Place {
        /// The place named by the entry.
        found: u64,
        /// The place of the object.
        expected: u64,
    },
}

/// An entry without its object: what a scan of millions looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// Kind of the object.
    pub kind: Kind,
    /// Number of the object.
    pub number: u64,
    /// Log sequence number.
    pub lsn: u64,
    /// Transaction.
    pub txid: u64,
    /// Another entry of the same transaction follows.
    pub more: bool,
}

impl EntryHead {
    /// Checks an entry without copying its object.
    ///
    /// # Errors
    /// As [`Entry::decode`].
    #[inline]
    pub fn check(bytes: &[u8; ENTRY_LEN]) -> Result<Self, EntryFault> {
        let stored = raw::u32_at(bytes, CHECKSUM);
        let computed = checksum::of_struct(bytes, CHECKSUM);
        if stored != computed {
            if stored != 0 {
                return Err(EntryFault::Checksum { stored, computed });
            }
            if bytes.iter().all(|b| *b == 0) {
                return Err(EntryFault::Absent);
            }
        }
        let (kind_byte, number) = (raw::u8_at(bytes, 32), raw::u64_at(bytes, 0));
        let wrong = EntryFault::Object { kind: kind_byte, number };
        let kind = Kind::from_byte(kind_byte).ok_or(wrong)?;
        let expected = kind.address(number).ok_or(wrong)?;
        let index = u64::from(raw::u32_at(bytes, 152));
        let found = raw::u64_at(bytes, 136).saturating_add(index.saturating_mul(128));
        if found != expected || index >= SECTOR / 128 {
            return Err(EntryFault::Place { found, expected });
        }
        let more = raw::u32_at(bytes, 160) != 0;
        Ok(Self { kind, number, lsn: raw::u64_at(bytes, 128), txid: raw::u64_at(bytes, 144), more })
    }
}

impl Entry {
    /// Reads and checks an entry.
    ///
    /// # Errors
    /// When it is blank, its checksum is wrong, or it does not agree with its object.
    pub fn decode(bytes: &[u8; ENTRY_LEN]) -> Result<Self, EntryFault> {
        let head = EntryHead::check(bytes)?;
        let object = bytes.first_chunk().map_or(Object::ZERO, |b| Object::from_bytes(*b));
        Ok(Self { object, lsn: head.lsn, txid: head.txid, more: head.more })
    }

    /// Reads an entry in which one bit was turned; returns the bit too. The caller knows which lsn
    /// belongs in this place and must compare it.
    #[must_use]
    pub fn correct(bytes: &[u8; ENTRY_LEN]) -> Option<(Self, usize)> {
        let stored = raw::u32_at(bytes, CHECKSUM);
        let computed = checksum::of_struct(bytes, CHECKSUM);
        let (fixed, bit) = CORRECTOR.correct(bytes, stored, computed)?;
        Some((Self::decode(&fixed).ok()?, bit))
    }

    /// The 256 bytes of this entry, sealed. An object of no known kind gives device byte 0.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut out = [0; ENTRY_LEN];
        raw::put(&mut out, 0, self.object.as_bytes());
        let address = self.object.kind().and_then(|k| k.address(self.object.number())).unwrap_or(0);
        raw::put(&mut out, 128, &self.lsn.to_le_bytes());
        raw::put(&mut out, 136, &(address - address % SECTOR).to_le_bytes());
        raw::put(&mut out, 144, &self.txid.to_le_bytes());
        let index = u32::try_from(address % SECTOR / 128).unwrap_or(0);
        raw::put(&mut out, 152, &index.to_le_bytes());
        raw::put(&mut out, 160, &u32::from(self.more).to_le_bytes());
        let crc = checksum::of_struct(&out, CHECKSUM);
        raw::put(&mut out, CHECKSUM, &crc.to_le_bytes());
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry { object: Object::free(Kind::Inode, (3 << 11) | 77), lsn: 815, txid: 42, more: true }
    }

    #[test]
    fn decodes_what_it_encodes() {
        assert_eq!(Entry::decode(&entry().encode()), Ok(entry()));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_corrected() {
        let good = entry().encode();
        for bit in 0..ENTRY_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::decode(&bad).is_err(), "bit {bit}");
            assert_eq!(Entry::correct(&bad), Some((entry(), bit)));
        }
    }

    #[test]
    fn zeros_are_no_entry_without_a_checksum() {
        assert_eq!(Entry::decode(&[0; ENTRY_LEN]), Err(EntryFault::Absent));
    }

    #[test]
    fn an_entry_for_another_place_is_refused() {
        let mut bytes = entry().encode();
        raw::put(&mut bytes, 136, &4096u64.to_le_bytes());
        let crc = checksum::of_struct(&bytes, CHECKSUM);
        raw::put(&mut bytes, CHECKSUM, &crc.to_le_bytes());
        assert!(matches!(Entry::decode(&bytes), Err(EntryFault::Place { .. })));
    }
}

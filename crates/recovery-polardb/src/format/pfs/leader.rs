//! Leader record: sector 0 of `.pfs-paxos`, rewritten at every commit. It says which part of the
//! journal is true: the transactions after `tail` up to `head`.
//!
//! | offset | size | type | field       | meaning                                              |
//! | -----: | ---: | ---- | ----------- | ---------------------------------------------------- |
//! |      0 |    4 | u32  | magic       | 0xBABABABA; 0x11282016 = cleared                     |
//! |      4 |    4 | u32  | version     | 0x00010002, the high half is checked                 |
//! |      8 |    4 | u32  | flags       | 0                                                    |
//! |     12 |    4 | u32  | sector      | 4096                                                 |
//! |     16 |    8 | u64  | num_hosts   |                                                      |
//! |     24 |    8 | u64  | max_hosts   |                                                      |
//! |     32 |  176 | -    | unused      |                                                      |
//! |    208 |    8 | u64  | tail_txid   | all transactions up to it are in place               |
//! |    216 |    8 | u64  | head_txid   | last committed transaction                           |
//! |    224 |    8 | u64  | tail_offset | ring byte of the first entry of tail_txid + 1        |
//! |    232 |    8 | u64  | head_offset | ring byte of the next entry                          |
//! |    240 |    8 | u64  | log_size    | bytes of the ring                                    |
//! |    248 |    8 | u64  | head_lsn    | lsn of the last entry                                |
//! |    256 |    4 | u32  | checksum    | over bytes 0..256                                    |
//!
//! Source: `pfs_leader_record_t` in `pfs_paxos.h`, `verify_leader` in `pfs_paxos.cc`.

use std::sync::LazyLock;

use super::{Corrector, ENTRY_LEN, checksum, raw};

/// Bytes of the record with its checksum.
pub const LEADER_LEN: usize = 260;
const COVERED: usize = 256;
/// Magic of a live record.
pub const MAGIC: u32 = 0xBABA_BABA;
/// Magic of a record that was cleared.
pub const CLEARED: u32 = 0x1128_2016;
const VERSION: u32 = 0x0001_0002;

static CORRECTOR: LazyLock<Corrector> = LazyLock::new(|| Corrector::of_prefix(COVERED));

/// A leader record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Hosts the file system was made for.
    pub num_hosts: u64,
    /// Hosts it can have.
    pub max_hosts: u64,
    /// All transactions up to this one are in place.
    pub tail_txid: u64,
    /// Last committed transaction.
    pub head_txid: u64,
    /// Ring byte of the first entry that is not in place.
    pub tail_offset: u64,
    /// Ring byte of the entry to be written next.
    pub head_offset: u64,
    /// Bytes of the ring.
    pub log_size: u64,
    /// Log sequence number of the last entry.
    pub head_lsn: u64,
}

/// Why a sector is not a leader record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaderFault {
    /// Nothing but zeros.
    #[error("the leader record is all zero")]
    Absent,
    /// Cleared on purpose, or another magic.
    #[error("magic of the leader record is {found:#x}, expected {MAGIC:#x}")]
    Magic {
        /// The value read.
        found: u32,
    },
    /// Another layout.
    #[error("version of the leader record is {found:#x}, expected {VERSION:#x}")]
    Version {
        /// The value read.
        found: u32,
    },
    /// The bytes do not match their checksum.
    #[error("checksum of the leader record is {stored:#010x}, bytes give {computed:#010x}")]
    Checksum {
        /// The value read.
        stored: u32,
        /// The value of the bytes.
        computed: u32,
    },
    /// The fields contradict each other although the checksum is right.
    #[error("{field} of the leader record is {found}, which cannot be")]
    Value {
        /// Name of the field.
        field: &'static str,
        /// The value read.
        found: u64,
    },
}

impl Leader {
    /// Reads and checks a record.
    ///
    /// # Errors
    /// When it is no record, its checksum is wrong, or its fields contradict each other.
    pub fn decode(bytes: &[u8; LEADER_LEN]) -> Result<Self, LeaderFault> {
        if bytes.iter().all(|b| *b == 0) {
            return Err(LeaderFault::Absent);
        }
        let stored = raw::u32_at(bytes, COVERED);
        let computed = checksum::of_prefix(bytes.get(..COVERED).unwrap_or(bytes));
        let magic = raw::u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(LeaderFault::Magic { found: magic });
        }
        if stored != computed {
            return Err(LeaderFault::Checksum { stored, computed });
        }
        let version = raw::u32_at(bytes, 4);
        if version >> 16 != VERSION >> 16 {
            return Err(LeaderFault::Version { found: version });
        }
        let this = Self {
            num_hosts: raw::u64_at(bytes, 16),
            max_hosts: raw::u64_at(bytes, 24),
            tail_txid: raw::u64_at(bytes, 208),
            head_txid: raw::u64_at(bytes, 216),
            tail_offset: raw::u64_at(bytes, 224),
            head_offset: raw::u64_at(bytes, 232),
            log_size: raw::u64_at(bytes, 240),
            head_lsn: raw::u64_at(bytes, 248),
        };
        this.check()?;
        Ok(this)
    }

    /// Reads a record in which one bit was turned; returns the bit too.
    #[must_use]
    pub fn correct(bytes: &[u8; LEADER_LEN]) -> Option<(Self, usize)> {
        let stored = raw::u32_at(bytes, COVERED);
        let computed = checksum::of_prefix(bytes.get(..COVERED)?);
        let (fixed, bit) = CORRECTOR.correct(bytes, stored, computed)?;
        Some((Self::decode(&fixed).ok()?, bit))
    }

    fn check(&self) -> Result<(), LeaderFault> {
        let entry = ENTRY_LEN as u64;
        let bad = |field, found| Err(LeaderFault::Value { field, found });
        if self.log_size == 0 || !self.log_size.is_multiple_of(entry) || self.log_size > 1 << 50 {
            return bad("log_size", self.log_size);
        }
        if self.tail_offset >= self.log_size || !self.tail_offset.is_multiple_of(entry) {
            return bad("tail_offset", self.tail_offset);
        }
        if self.head_offset >= self.log_size || !self.head_offset.is_multiple_of(entry) {
            return bad("head_offset", self.head_offset);
        }
        if self.head_txid < self.tail_txid {
            return bad("head_txid", self.head_txid);
        }
        let live = self.live_entries();
        if self.head_lsn < live {
            return bad("head_lsn", self.head_lsn);
        }
        if self.head_txid.saturating_sub(self.tail_txid) > live {
            return bad("tail_txid", self.tail_txid);
        }
        Ok(())
    }

    /// Entries of the ring that are not in place yet.
    #[must_use]
    pub fn live_entries(&self) -> u64 {
        if self.tail_txid == self.head_txid {
            return 0;
        }
        let span = if self.head_offset > self.tail_offset {
            self.head_offset.saturating_sub(self.tail_offset)
        } else {
            self.log_size.saturating_sub(self.tail_offset).saturating_add(self.head_offset)
        };
        span / ENTRY_LEN as u64
    }

    /// The 260 bytes of this record, sealed.
    #[must_use]
    pub fn encode(&self) -> [u8; LEADER_LEN] {
        let mut out = [0; LEADER_LEN];
        raw::put(&mut out, 0, &MAGIC.to_le_bytes());
        raw::put(&mut out, 4, &VERSION.to_le_bytes());
        raw::put(&mut out, 12, &4096u32.to_le_bytes());
        let fields = [
            (16, self.num_hosts),
            (24, self.max_hosts),
            (208, self.tail_txid),
            (216, self.head_txid),
            (224, self.tail_offset),
            (232, self.head_offset),
            (240, self.log_size),
            (248, self.head_lsn),
        ];
        for (at, value) in fields {
            raw::put(&mut out, at, &value.to_le_bytes());
        }
        let crc = checksum::of_prefix(out.get(..COVERED).unwrap_or(&[]));
        raw::put(&mut out, COVERED, &crc.to_le_bytes());
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
mod tests {
    use super::*;

    fn leader() -> Leader {
        Leader {
            num_hosts: 30,
            max_hosts: 254,
            tail_txid: 5,
            head_txid: 9,
            tail_offset: 512 * 256 - 1280,
            head_offset: 2560,
            log_size: 512 * 256,
            head_lsn: 4711,
        }
    }

    #[test]
    fn decodes_what_it_encodes() {
        assert_eq!(Leader::decode(&leader().encode()), Ok(leader()));
        assert_eq!(leader().live_entries(), 15);
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_corrected() {
        let good = leader().encode();
        for bit in 0..LEADER_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Leader::decode(&bad).is_err(), "bit {bit}");
            assert_eq!(Leader::correct(&bad), Some((leader(), bit)), "bit {bit}");
        }
    }

    #[test]
    fn contradictions_are_refused_under_a_right_checksum() {
        for broken in [
            Leader { log_size: 0, ..leader() },
            Leader { head_offset: 512 * 256, ..leader() },
            Leader { tail_offset: 100, ..leader() },
            Leader { head_txid: 4, ..leader() },
            Leader { head_lsn: 3, ..leader() },
            Leader { head_txid: u64::MAX, ..leader() },
        ] {
            assert!(matches!(Leader::decode(&broken.encode()), Err(LeaderFault::Value { .. })));
        }
    }
}

//! `pg_filenode.map`: which file holds each mapped catalog.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 4 | magic 0x592717 (16 and later: 0x592718) |
//! | 4 | 4 | number of mappings |
//! | 8 | 8 each | relation OID, file number: 62 of them (64) |
//! | 504 (520) | 4 | CRC-32C of everything before |
//!
//! Upstream: `src/backend/utils/cache/relmapper.c`.

use recovery_core::{Cursor, Short};

use super::{le32, put};

const OLD: (u32, usize) = (0x59_2717, 62);
const NEW: (u32, usize) = (0x59_2718, 64);

/// The mapping of one database (or of the shared catalogs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelMap {
    /// (OID, file number).
    pub entries: Vec<(u32, u32)>,
}

/// Why a map cannot be used; no connection to that database is possible then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelMapError {
    /// The file ends too early.
    #[error(transparent)]
    Short(#[from] Short),
    /// Not a map.
    #[error("wrong magic {0:#x}, expected 0x592717")]
    Magic(u32),
    /// More mappings than the file can hold.
    #[error("{0} mappings, more than the file can hold")]
    Count(u32),
    /// The bytes changed since they were written.
    #[error("checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
}

/// Reads a map.
///
/// # Errors
///
/// When the server would refuse it.
pub fn decode(bytes: &[u8]) -> Result<RelMap, RelMapError> {
    let mut c = Cursor::new(bytes, 0);
    let magic = c.u32_le("magic")?;
    let room = match magic {
        m if m == OLD.0 => OLD.1,
        m if m == NEW.0 => NEW.1,
        other => return Err(RelMapError::Magic(other)),
    };
    let count = c.u32_le("num_mappings")?;
    let mut entries = Vec::with_capacity(room);
    for i in 0..room {
        let pair = (c.u32_le("mapoid")?, c.u32_le("mapfilenumber")?);
        if (i as u64) < u64::from(count) {
            entries.push(pair);
        }
    }
    let stored = c.u32_le("crc")?;
    let computed = crc32c::crc32c(bytes.get(..8 + room * 8).unwrap_or_default());
    if stored != computed {
        return Err(RelMapError::Crc { stored, computed });
    }
    if count as usize > room {
        return Err(RelMapError::Count(count));
    }
    Ok(RelMap { entries })
}

impl RelMap {
    /// The 512 bytes 11 to 15 write; mappings beyond 62 are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; 512];
        let used = self.entries.len().min(OLD.1);
        put(&mut b, 0, &OLD.0.to_le_bytes());
        put(&mut b, 4, &u32::try_from(used).unwrap_or(0).to_le_bytes());
        for (i, (oid, file)) in self.entries.iter().take(used).enumerate() {
            put(&mut b, 8 + i * 8, &oid.to_le_bytes());
            put(&mut b, 12 + i * 8, &file.to_le_bytes());
        }
        let crc = crc32c::crc32c(b.get(..504).unwrap_or_default());
        put(&mut b, 504, &crc.to_le_bytes());
        debug_assert_eq!(le32(&b, 0), OLD.0);
        b
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn comes_back_and_every_flipped_bit_is_seen() {
        let map = RelMap { entries: vec![(1262, 1262), (1260, 16_400)] };
        let bytes = map.encode();
        assert_eq!(decode(&bytes).unwrap(), map);
        for bit in 0..508 * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }
}

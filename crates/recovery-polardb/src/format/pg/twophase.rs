//! A prepared transaction: `pg_twophase/XXXXXXXX`, and the main data of a PREPARE record.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 4 | magic 0x57F94534 |
//! | 4 | 4 | total length, checksum included |
//! | 8, 12 | 4 | transaction, database |
//! | 16 | 8 | time, microseconds since 2000 |
//! | 24 | 4 | owner |
//! | 28, 32, 36 | 4 | counts: subtransactions, files dropped at commit, at abort |
//! | 40, 44 | 4 | 15 on: statistics dropped at commit, at abort |
//! | 40 (48) | 4 | count of invalidations |
//! | 44 (52) | 1 | init file invalid |
//! | 46 (54) | 2 | length of the name, its NUL included |
//! | 48 (56) | 16 | origin LSN and time |
//! | 64 (72) | | name, then the rest; a file ends in a CRC-32C of everything before |
//!
//! Upstream: `xl_xact_prepare` in `src/include/access/xact.h`, `src/backend/access/transam/twophase.c` (`ReadTwoPhaseFile`).

use recovery_core::{Cursor, Short};
use serde::Serialize;

use super::fixed_name;

/// First four bytes.
pub const MAGIC: u32 = 0x57F9_4534;

/// What identifies a prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prepared {
    /// Transaction id.
    pub xid: u32,
    /// Name given to PREPARE TRANSACTION.
    pub gid: String,
    /// Database.
    pub database: u32,
    /// User.
    pub owner: u32,
    /// Microseconds since 2000.
    pub prepared_at: i64,
}

/// Why a state file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwoPhaseError {
    /// It ends too early.
    #[error(transparent)]
    Short(#[from] Short),
    /// Not a state file.
    #[error("wrong magic {0:#010x}, expected {MAGIC:#010x}")]
    Magic(u32),
    /// The length inside is another than the file's.
    #[error("the length inside is {inside}, the file has {file}")]
    Length {
        /// As stored.
        inside: u32,
        /// Of the file.
        file: u64,
    },
    /// The bytes changed since they were written.
    #[error("checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
}

/// Reads the header that file and record share.
///
/// # Errors
///
/// When the magic is wrong or the bytes end before.
pub fn decode_state(bytes: &[u8], major: u32) -> Result<(Prepared, u32), TwoPhaseError> {
    let mut c = Cursor::new(bytes, 0);
    let magic = c.u32_le("magic")?;
    if magic != MAGIC {
        return Err(TwoPhaseError::Magic(magic));
    }
    let total = c.u32_le("total_len")?;
    let (xid, database) = (c.u32_le("xid")?, c.u32_le("database")?);
    let prepared_at = c.i64_le("prepared_at")?;
    let owner = c.u32_le("owner")?;
    c.skip(if major >= 15 { 20 } else { 12 }, "counts")?;
    c.skip(4, "ninvalmsgs")?;
    c.skip(2, "initfileinval")?;
    let name = c.u16_le("gidlen")?;
    c.skip(16, "origin")?;
    let gid = fixed_name(c.take(usize::from(name), "gid")?);
    Ok((Prepared { xid, gid, database, owner, prepared_at }, total))
}

/// Reads a whole state file.
///
/// # Errors
///
/// When the server would refuse it.
pub fn decode_file(bytes: &[u8], major: u32) -> Result<Prepared, TwoPhaseError> {
    let (prepared, total) = decode_state(bytes, major)?;
    if u64::from(total) != bytes.len() as u64 {
        return Err(TwoPhaseError::Length { inside: total, file: bytes.len() as u64 });
    }
    let (body, tail) = bytes.split_last_chunk::<4>().ok_or(TwoPhaseError::Magic(0))?;
    let (stored, computed) = (u32::from_le_bytes(*tail), crc32c::crc32c(body));
    if stored == computed { Ok(prepared) } else { Err(TwoPhaseError::Crc { stored, computed }) }
}

/// Transaction of a state file's name: 8 hexadecimal digits, 16 from version 17 on.
#[must_use]
pub fn xid_of(name: &str) -> Option<u64> {
    let fine =
        (name.len() == 8 || name.len() == 16) && name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    if fine { u64::from_str_radix(name, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names() {
        assert_eq!(xid_of("000002D5"), Some(0x2d5));
        assert_eq!(xid_of("2d5"), None);
        assert_eq!(xid_of("0000000A000002D5"), Some(0xA_0000_02D5));
    }
}

//! PostgreSQL's structures on disk, as vanilla 11 to 17 and PolarDB 11 and 15 write them.
//!
//! Everything is little-endian with the natural alignment of x86-64 and aarch64. Each module holds one structure,
//! decoding beside encoding; nothing here reads a file.
//!
//! | module | structure | upstream |
//! |---|---|---|
//! | [`control`] | `global/pg_control` | `src/include/catalog/pg_control.h` |
//! | [`checkpoint`] | the checkpoint, in the control file and in WAL | `src/include/catalog/pg_control.h` |
//! | [`wal_page`], [`wal_record`], [`rmgr`] | write-ahead log | `src/include/access/xlog_internal.h`, `xlogrecord.h`, `rmgrlist.h` |
//! | [`xact`], [`twophase`] | commit records, prepared transactions | `src/include/access/xact.h`, `src/backend/access/transam/twophase.c` |
//! | [`slot`] | `pg_replslot/NAME/state` | `src/backend/replication/slot.c` |
//! | [`page`], [`relfile`] | data pages and the names of their files | `src/include/storage/bufpage.h`, `checksum_impl.h`, `src/common/relpath.c` |
//! | [`relmap`] | `pg_filenode.map` | `src/backend/utils/cache/relmapper.c` |
//! | [`history`], [`backup_label`], [`version`] | text files | `timeline.c`, `xlogbackup.c`, `PG_VERSION` |
//! | [`logindex`] | PolarDB's `pg_logindex/log_index_meta` | PolarDB 11 `polar_logindex` |

pub mod backup_label;
pub mod checkpoint;
pub mod control;
pub mod history;
pub mod logindex;
pub mod lsn;
pub mod page;
pub mod relfile;
pub mod relmap;
pub mod rmgr;
pub mod slot;
pub mod time;
pub mod twophase;
pub mod version;
pub mod wal_page;
pub mod wal_record;
pub mod xact;

pub use lsn::{Lsn, SegmentSize};

/// Size of a data page; PostgreSQL can be built otherwise, no PolarDB release is.
pub const BLOCK: usize = 8192;
/// Size of a WAL page.
pub const WAL_BLOCK: usize = 8192;

/// A NUL-terminated name in a fixed field, lossy where it is not UTF-8.
pub(crate) fn fixed_name(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

/// A little-endian number at a fixed offset, 0 where the bytes end before.
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |b| u32::from_le_bytes(*b))
}

/// A little-endian number at a fixed offset, 0 where the bytes end before.
pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<8>).map_or(0, |b| u64::from_le_bytes(*b))
}

/// A little-endian number at a fixed offset, 0 where the bytes end before.
pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |b| u16::from_le_bytes(*b))
}

/// Writes `value` at `at`; a place behind the end is left alone.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at.saturating_add(value.len())) {
        to.copy_from_slice(value);
    }
}

//! The PolarDB file system (PFS): one block device cut into chunks of 10 GiB.
//!
//! ```text
//! chunk   = 2560 blocks of 4 MiB; block 0 of each chunk is metadata, the others are data
//! block 0 : 0x0000   4 KiB    chunk header            (header.rs)
//!           0x1000   320 KiB  2560 block tags         (object.rs), 128 bytes each, 32 a sector
//!           0x51000  256 KiB  2048 directory entries
//!           0x91000  256 KiB  2048 inodes
//!           0xD1000           never written
//! chunk 0 : block 1 is `.pfs-paxos`: the leader record  (leader.rs)
//!           `.pfs-journal`: a ring of 256-byte entries  (entry.rs), found through inode 2
//! ```
//! Every change of metadata goes to the journal first and becomes true when the leader record is
//! rewritten. The objects in block 0 follow much later, so a healthy disk has most of its metadata
//! in the journal only. All integers are little-endian.
//!
//! Sources of the facts: ApsaraDB/PolarDB-FileSystem `src/pfs_core/pfs_meta.h`, `pfs_impl.h`,
//! `pfs_log.cc`, `pfs_paxos.cc`, checked against images written by that program.

pub mod checksum;
pub mod entry;
pub mod header;
pub mod leader;
pub mod object;
mod raw;

pub use checksum::Corrector;
pub use entry::{ENTRY_LEN, Entry, EntryFault, EntryHead};
pub use header::{ChunkHeader, HEADER_LEN, HeaderFault};
pub use leader::{LEADER_LEN, Leader, LeaderFault};
pub use object::{BlockTag, Direntry, Inode, InodeKind, Kind, OBJECT_LEN, Object, ObjectFault};

/// Bytes of one chunk.
pub const CHUNK: u64 = 10 << 30;
/// Bytes of one block.
pub const BLOCK: u64 = 4 << 20;
/// Bytes of one sector.
pub const SECTOR: u64 = 4096;
/// Blocks in one chunk.
pub const BLOCKS_PER_CHUNK: u64 = 2560;
/// First byte of the metadata objects in a chunk.
pub const META_START: u64 = 0x1000;
/// Bytes of all metadata objects of a chunk.
pub const META_LEN: u64 = 208 * SECTOR;
/// Device byte of the leader record: block 1 of chunk 0, always.
pub const LEADER_AT: u64 = BLOCK;
/// Inode of the root directory.
pub const ROOT_INO: u64 = 0;
/// Inode of `.pfs-paxos`.
pub const PAXOS_INO: u64 = 1;
/// Inode of `.pfs-journal`.
pub const JOURNAL_INO: u64 = 2;
/// The value of a number field that names nothing (an unlinked inode, a free entry).
pub const NONE: u64 = u64::MAX;
/// The longest file name in bytes.
pub const NAME_MAX: usize = 255;
/// The longest path the engine accepts, in bytes.
pub const PATH_MAX: usize = 4095;
/// The newest on-disk version whose layout is known.
pub const VERSION_MAX: u64 = 3;

/// Block number on the device of the block that a tag stands for.
#[must_use]
pub fn block_of_tag(tag: u64) -> u64 {
    (tag >> 12).saturating_mul(BLOCKS_PER_CHUNK).saturating_add(tag & 0xFFF)
}

/// Number of the tag of a block, the inverse of [`block_of_tag`].
#[must_use]
pub fn tag_of_block(block: u64) -> u64 {
    (block / BLOCKS_PER_CHUNK) << 12 | (block % BLOCKS_PER_CHUNK)
}

/// Device byte where a block starts; `None` past 2^64.
#[must_use]
pub fn block_address(block: u64) -> Option<u64> {
    block.checked_mul(BLOCK)
}

/// Place of block `index` of the journal when `mkfs` ran on `chunks` chunks: the k-th block that
/// `mkfs` takes goes to chunk k mod n, and `.pfs-paxos` is k = 0.
#[must_use]
pub fn striped_journal_block(index: u64, chunks: u64) -> u64 {
    let n = chunks.max(1);
    let k = index.saturating_add(1);
    (k % n).saturating_mul(BLOCKS_PER_CHUNK).saturating_add(1).saturating_add(k / n)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_blocks_are_inverse() {
        for block in [0, 1, 2559, 2560, 2561, 5120, 1_000_000] {
            assert_eq!(block_of_tag(tag_of_block(block)), block);
        }
        assert_eq!(block_of_tag(1 << 12), 2560);
    }

    #[test]
    fn the_journal_of_one_chunk_is_contiguous_behind_the_leader() {
        assert_eq!((0..4).map(|i| striped_journal_block(i, 1)).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!((0..4).map(|i| striped_journal_block(i, 3)).collect::<Vec<_>>(), [2561, 5121, 2, 2562]);
    }
}

//! Metadata object: a block tag, a directory entry or an inode; 128 bytes.
//!
//! | offset | size | type | field    | meaning                                                       |
//! | -----: | ---: | ---- | -------- | ------------------------------------------------------------- |
//! |      0 |    8 | u64  | number   | chunk << 12 (tags) or << 11, plus the index in the chunk      |
//! |      8 |    8 | u64  | version  | 0                                                             |
//! |     16 |    8 | u64  | next     | next member of the list; inode: head of its list; 0 = none    |
//! |     24 |    8 | u64  | prev     | member before; inode: tail of its list                        |
//! |     32 |    1 | u8   | kind     | 1 block tag, 2 directory entry, 3 inode, set when free too    |
//! |     33 |    1 | u8   | used     | 1 in use, 0 free                                              |
//! |     34 |    2 | -    | padding  |                                                               |
//! |     36 |    4 | u32  | checksum | over the 128 bytes; 0 = written without one                   |
//! |     40 |   88 | -    | payload  | below                                                         |
//!
//! Block tag: 40 `ino`, 48 `blkid` (block of the file), 56 `dstatus` u32, 60 `ndiscard` u32,
//! 64 `holelen` i32, 68 `holeoff` i32. A positive `holelen` says that the block was written up to
//! `holeoff` only: the device bytes behind belong to deleted files and read as zero.
//!
//! Directory entry: 40 `name` (64 bytes), 104 `ino` (an extension: its head entry), 112 `dirino` (parent
//! inode), 120 `extdeno` (next extension, 0 = none). A name is the fields of the head and of its
//! extensions together, up to the first NUL.
//!
//! Inode: 40 `type` u8 (1 file, 2 directory), 41 `flags` u8, 44 `pvtid` u32, 48 `deno` (its entry,
//! -1 = unlinked), 56 `nlink`, 64 `nblock`, 72 `size`, 80 `atime`, 88 `ctime`, 96 `mtime` (seconds),
//! 104 `btime` (microseconds, the identity of this incarnation of the number).
//!
//! Source: `pfs_metaobj_phy_t`, `pfs_blktag_phy_t`, `pfs_direntry_phy_t`, `pfs_inode_phy_t` in `pfs_meta.h`.

mod payload;

use std::sync::LazyLock;

use super::{CHUNK, Corrector, META_START, NONE, SECTOR, checksum, raw};

pub use payload::{BlockTag, Direntry, Inode, InodeKind, Payload};

/// Bytes of an object.
pub const OBJECT_LEN: usize = 128;
const CHECKSUM: usize = 36;
/// Bytes of the name field of one entry.
pub const NAME_FIELD: usize = 64;

static CORRECTOR: LazyLock<Corrector> = LazyLock::new(|| Corrector::of_struct(OBJECT_LEN, CHECKSUM));

/// The three kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One for each block of the device.
    BlockTag = 1,
    /// One for each 64 bytes of a name.
    Direntry = 2,
    /// One for each file or directory.
    Inode = 3,
}

impl Kind {
    /// In the order they have in a chunk.
    pub const ALL: [Self; 3] = [Self::BlockTag, Self::Direntry, Self::Inode];

    /// The kind of a type byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::BlockTag),
            2 => Some(Self::Direntry),
            3 => Some(Self::Inode),
            _ => None,
        }
    }

    /// Byte of the first object, from the start of the chunk.
    #[must_use]
    pub fn start(self) -> u64 {
        match self {
            Self::BlockTag => META_START,
            Self::Direntry => 0x51000,
            Self::Inode => 0x91000,
        }
    }

    /// Sectors that hold the objects of a chunk.
    #[must_use]
    pub fn sectors(self) -> u32 {
        match self {
            Self::BlockTag => 80,
            Self::Direntry | Self::Inode => 64,
        }
    }

    /// Objects of a chunk.
    #[must_use]
    pub fn per_chunk(self) -> u64 {
        u64::from(self.sectors()) * (SECTOR / OBJECT_LEN as u64)
    }

    /// Bits that the index takes in an object number.
    #[must_use]
    pub fn shift(self) -> u32 {
        if self == Self::BlockTag { 12 } else { 11 }
    }

    /// Number of the object at `index` of a chunk.
    #[must_use]
    pub fn number(self, chunk: u64, index: u64) -> u64 {
        chunk << self.shift() | index
    }

    /// Chunk of an object.
    #[must_use]
    pub fn chunk(self, number: u64) -> u64 {
        number >> self.shift()
    }

    /// Index of an object in its chunk.
    #[must_use]
    pub fn index(self, number: u64) -> u64 {
        number & ((1 << self.shift()) - 1)
    }

    /// Device byte of an object; `None` when no such object can exist.
    #[must_use]
    pub fn address(self, number: u64) -> Option<u64> {
        let index = self.index(number);
        if index >= self.per_chunk() {
            return None;
        }
        self.chunk(number).checked_mul(CHUNK)?.checked_add(self.start() + index * OBJECT_LEN as u64)
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BlockTag => "block tag",
            Self::Direntry => "directory entry",
            Self::Inode => "inode",
        }
    }
}

/// Why 128 bytes are not the object that belongs in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectFault {
    /// Nothing but zeros: wiped or never formatted.
    #[error("the object is all zero")]
    Absent,
    /// The bytes could not be read.
    #[error("the object could not be read")]
    Unread,
    /// Its state of an earlier time is not in the journal any more.
    #[error("the journal does not hold its state of that time any more")]
    Past,
    /// The bytes do not match their checksum.
    #[error("checksum is {stored:#010x}, bytes give {computed:#010x}")]
    Checksum {
        /// The value read.
        stored: u32,
        /// The value of the bytes.
        computed: u32,
    },
    /// An object of another kind.
    #[error("type is {found}, expected {expected}")]
    Kind {
        /// The value read.
        found: u8,
        /// The type of this place.
        expected: u8,
    },
    /// An object of another place.
    #[error("number is {found}, expected {expected}")]
    Number {
        /// The value read.
        found: u64,
        /// The number of this place.
        expected: u64,
    },
}

/// The 128 bytes of an object, with names for its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Object {
    bytes: [u8; OBJECT_LEN],
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("kind", &self.kind())
            .field("number", &self.number())
            .field("used", &self.used())
            .field("next", &self.next())
            .field("prev", &self.prev())
            .finish_non_exhaustive()
    }
}

impl Object {
    /// All zero: not an object.
    pub const ZERO: Self = Self { bytes: [0; OBJECT_LEN] };

    /// Takes the bytes as they are, unchecked.
    #[must_use]
    pub fn from_bytes(bytes: [u8; OBJECT_LEN]) -> Self {
        Self { bytes }
    }

    /// The bytes as on disk.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; OBJECT_LEN] {
        &self.bytes
    }

    /// Object number.
    #[must_use]
    pub fn number(&self) -> u64 {
        raw::u64_at(&self.bytes, 0)
    }

    /// Next member of the list, or head of the list of an inode.
    #[must_use]
    pub fn next(&self) -> u64 {
        raw::u64_at(&self.bytes, 16)
    }

    /// Member before, or tail of the list of an inode.
    #[must_use]
    pub fn prev(&self) -> u64 {
        raw::u64_at(&self.bytes, 24)
    }

    /// Kind by the type byte.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_byte(raw::u8_at(&self.bytes, 32))
    }

    /// In use.
    #[must_use]
    pub fn used(&self) -> bool {
        raw::u8_at(&self.bytes, 33) != 0
    }

    /// Whether a checksum is stored at all.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        raw::u32_at(&self.bytes, CHECKSUM) != 0
    }

    /// Whether this is the object `number` of `kind`, intact.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, kind: Kind, number: u64) -> Result<(), ObjectFault> {
        let stored = raw::u32_at(&self.bytes, CHECKSUM);
        let computed = checksum::of_struct(&self.bytes, CHECKSUM);
        if stored != computed {
            if stored != 0 {
                return Err(ObjectFault::Checksum { stored, computed });
            }
            if self.bytes == [0; OBJECT_LEN] {
                return Err(ObjectFault::Absent);
            }
        }
        let found = raw::u8_at(&self.bytes, 32);
        if found != kind as u8 {
            return Err(ObjectFault::Kind { found, expected: kind as u8 });
        }
        if self.number() != number {
            return Err(ObjectFault::Number { found: self.number(), expected: number });
        }
        Ok(())
    }

    /// The object with the one bit turned that its checksum asks for.
    #[must_use]
    pub fn correct(&self, kind: Kind, number: u64) -> Option<(Self, usize)> {
        let stored = raw::u32_at(&self.bytes, CHECKSUM);
        let computed = checksum::of_struct(&self.bytes, CHECKSUM);
        let (bytes, bit) = CORRECTOR.correct(&self.bytes, stored, computed)?;
        let fixed = Self { bytes };
        fixed.check(kind, number).ok()?;
        Some((fixed, bit))
    }

    /// The fields of a block tag.
    #[must_use]
    pub fn tag(&self) -> BlockTag {
        let b = &self.bytes;
        BlockTag {
            ino: raw::u64_at(b, 40),
            blkid: raw::u64_at(b, 48),
            dstatus: raw::u32_at(b, 56),
            ndiscard: raw::u32_at(b, 60),
            holelen: raw::i32_at(b, 64),
            holeoff: raw::i32_at(b, 68),
        }
    }

    /// The fields of a directory entry.
    #[must_use]
    pub fn direntry(&self) -> Direntry {
        let b = &self.bytes;
        let mut name = [0; NAME_FIELD];
        if let Some(field) = b.get(40..104).and_then(|f| f.first_chunk()) {
            name = *field;
        }
        Direntry { name, ino: raw::u64_at(b, 104), dirino: raw::u64_at(b, 112), extdeno: raw::u64_at(b, 120) }
    }

    /// The fields of an inode.
    #[must_use]
    pub fn inode(&self) -> Inode {
        let b = &self.bytes;
        Inode {
            kind: match raw::u8_at(b, 40) {
                1 => InodeKind::File,
                2 => InodeKind::Directory,
                0 => InodeKind::None,
                other => InodeKind::Other(other),
            },
            flags: raw::u8_at(b, 41),
            pvtid: raw::u32_at(b, 44),
            deno: raw::u64_at(b, 48),
            nlink: raw::u64_at(b, 56),
            nblock: raw::u64_at(b, 64),
            size: raw::u64_at(b, 72),
            atime: raw::u64_at(b, 80),
            ctime: raw::u64_at(b, 88),
            mtime: raw::u64_at(b, 96),
            btime: raw::u64_at(b, 104),
        }
    }

    /// A sealed object. `payload` is a [`BlockTag`], [`Direntry`] or [`Inode`].
    #[must_use]
    pub fn new(payload: &Payload, number: u64, used: bool, next: u64, prev: u64) -> Self {
        let mut bytes = [0; OBJECT_LEN];
        raw::put(&mut bytes, 0, &number.to_le_bytes());
        raw::put(&mut bytes, 16, &next.to_le_bytes());
        raw::put(&mut bytes, 24, &prev.to_le_bytes());
        raw::put(&mut bytes, 32, &[payload.kind() as u8, u8::from(used)]);
        payload.put(&mut bytes);
        let crc = checksum::of_struct(&bytes, CHECKSUM);
        raw::put(&mut bytes, CHECKSUM, &crc.to_le_bytes());
        Self { bytes }
    }

    /// The free object that `mkfs` writes in a place.
    #[must_use]
    pub fn free(kind: Kind, number: u64) -> Self {
        let payload = match kind {
            Kind::BlockTag => Payload::BlockTag(BlockTag::default()),
            Kind::Direntry => {
                Payload::Direntry(Direntry { name: [0; NAME_FIELD], ino: NONE, dirino: NONE, extdeno: 0 })
            }
            Kind::Inode => Payload::Inode(Inode { deno: NONE, ..Inode::default() }),
        };
        Self::new(&payload, number, false, 0, 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
mod tests {
    use super::*;
    use crate::format::pfs::BLOCK;

    #[test]
    fn payloads_come_back() {
        let tag = BlockTag { ino: 9, blkid: 3, dstatus: 1, ndiscard: 2, holelen: 4096, holeoff: (4 << 20) - 4096 };
        assert_eq!(Object::new(&Payload::BlockTag(tag), 5, true, 1, 2).tag(), tag);
        assert_eq!(tag.written(), BLOCK - 4096);
        assert!(tag.hole_is_sane());
        let inode = Inode { kind: InodeKind::File, deno: 4, nlink: 1, size: 77, btime: 3, ..Inode::default() };
        let object = Object::new(&Payload::Inode(inode), 5, true, 1, 2);
        assert_eq!(object.inode(), inode);
        assert_eq!((object.number(), object.next(), object.prev(), object.used()), (5, 1, 2, true));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_corrected() {
        for kind in Kind::ALL {
            let good = Object::free(kind, kind.number(2, 100));
            for bit in 0..OBJECT_LEN * 8 {
                let mut bytes = *good.as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let bad = Object::from_bytes(bytes);
                assert!(bad.check(kind, good.number()).is_err(), "bit {bit}");
                assert_eq!(bad.correct(kind, good.number()), Some((good, bit)));
            }
        }
    }

    #[test]
    fn holes_that_cannot_be_are_told() {
        for (holelen, holeoff) in [(-1, 0), (1, 0), (4 << 20, 4 << 20), (0, -5), (i32::MAX, i32::MAX)] {
            assert!(!BlockTag { holelen, holeoff, ..BlockTag::default() }.hole_is_sane());
        }
        assert_eq!(BlockTag { holelen: 5, holeoff: i32::MIN, ..BlockTag::default() }.written(), 0);
    }

    #[test]
    fn addresses_follow_the_layout() {
        assert_eq!(Kind::BlockTag.address(0), Some(0x1000));
        assert_eq!(Kind::Direntry.address(1 << 11 | 33), Some(CHUNK + 0x51000 + 33 * 128));
        assert_eq!(Kind::Inode.address(2047), Some(0x91000 + 2047 * 128));
        assert_eq!(Kind::BlockTag.address(2560), None);
        assert_eq!(Kind::Inode.address(u64::MAX), None);
    }
}

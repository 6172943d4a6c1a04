//! Index block: where the data blocks are, and the keys that separate them.
//!
//! | type | index                                                       |
//! | ---: | ----------------------------------------------------------- |
//! |    0 | binary search: one entry per data block                     |
//! |    1 | hash search: the same, with two meta blocks that are ignored |
//! |    2 | two-level: entries point to index blocks (partitions)       |
//! |    3 | as 0, and each value ends in the block's first internal key |
//!
//! The key of an entry separates its block from the next one: at or after the block's last key, before the next
//! block's first. It is an internal key, or a bare user key where `index_key_is_user_key` is set.
//!
//! Values are block handles. With `index_value_is_delta_encoded` an entry has no value length: it is
//! `shared, non_shared, key suffix, value`, and when `shared` is not 0 the value is a zig-zag varint64, the difference
//! of the block's size to the one before; the offset follows from the previous block and its trailer.
//!
//! Upstream: `table/block_based/index_builder.h`, `table/format.cc` (`IndexValue::DecodeFrom`), `block_builder.cc`.

use recovery_core::Cursor;

use super::block::Block;
use super::coding::{lenstr, varint32, varint64, zigzag};
use super::error::FormatError;
use super::handle::BlockHandle;

const NAME: &str = "index block";

/// The property `rocksdb.block.based.table.index.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the module's table says it all
pub enum IndexType {
    #[default]
    BinarySearch,
    HashSearch,
    TwoLevel,
    WithFirstKey,
}

impl IndexType {
    /// The type a property value stands for.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::BinarySearch,
            1 => Self::HashSearch,
            2 => Self::TwoLevel,
            3 => Self::WithFirstKey,
            _ => return None,
        })
    }
}

/// How the index of a table is encoded; three of its properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IndexFormat {
    /// One or two levels, with first keys or without.
    pub kind: IndexType,
    /// Keys are user keys, without the 8-byte number.
    pub user_keys: bool,
    /// Values are delta-encoded.
    pub delta: bool,
}

/// One entry of an index, as lent by a walk over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry<'a> {
    /// The separator: at or after the last key of the block.
    pub separator: &'a [u8],
    /// The block.
    pub handle: BlockHandle,
    /// First internal key of the block, where the index stores it.
    pub first_key: Option<&'a [u8]>,
}

impl IndexFormat {
    /// Walks all entries of one index block (for two-level indexes: of the top, or of one partition).
    ///
    /// # Errors
    ///
    /// At the first entry that does not decode; those before have been given to `sink`.
    pub fn walk(&self, bytes: &[u8], at: u64, mut sink: impl FnMut(IndexEntry<'_>)) -> Result<(), FormatError> {
        let block = Block::parse(bytes, at)?;
        if self.delta {
            return self.walk_delta(block.entry_bytes(), at, sink);
        }
        let mut entries = block.entries();
        while entries.advance()? {
            let mut c = Cursor::new(entries.value(), at);
            let handle = BlockHandle::decode(&mut c)?;
            let (first_key, rest) = self.first_key(c.rest(), at)?;
            if !rest.is_empty() {
                return Err(wrong(at, "entry value", rest.len(), "a block handle and nothing after it"));
            }
            sink(IndexEntry { separator: entries.key(), handle, first_key });
        }
        Ok(())
    }

    fn walk_delta(&self, mut rest: &[u8], at: u64, mut sink: impl FnMut(IndexEntry<'_>)) -> Result<(), FormatError> {
        let mut key = Vec::new();
        let mut last = BlockHandle::default();
        while !rest.is_empty() {
            let (shared, suffix, body) = delta_key(rest).ok_or_else(|| wrong(at, "entry", "cut", "a whole entry"))?;
            if shared > key.len() {
                return Err(wrong(at, "shared length", shared, key.len()));
            }
            key.truncate(shared);
            key.extend_from_slice(suffix);
            let (handle, body) = delta_handle(shared, last, body, at)?;
            let (first_key, body) = self.first_key(body, at)?;
            sink(IndexEntry { separator: &key, handle, first_key });
            last = handle;
            rest = body;
        }
        Ok(())
    }

    fn first_key<'a>(&self, body: &'a [u8], at: u64) -> Result<(Option<&'a [u8]>, &'a [u8]), FormatError> {
        if self.kind != IndexType::WithFirstKey {
            return Ok((None, body));
        }
        let (key, rest) = lenstr(body).ok_or_else(|| wrong(at, "first key", body.len(), "a length and a key"))?;
        Ok((Some(key), rest))
    }
}

fn delta_key(bytes: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (shared, a) = varint32(bytes)?;
    let bytes = bytes.get(a..)?;
    let (non_shared, b) = varint32(bytes)?;
    let (suffix, body) = bytes.get(b..)?.split_at_checked(usize::try_from(non_shared).ok()?)?;
    Some((usize::try_from(shared).ok()?, suffix, body))
}

/// The value of a delta-encoded entry. Whether it is a difference depends on `shared` alone, not on restarts.
fn delta_handle(shared: usize, last: BlockHandle, body: &[u8], at: u64) -> Result<(BlockHandle, &[u8]), FormatError> {
    if shared == 0 {
        let mut c = Cursor::new(body, at);
        return Ok((BlockHandle::decode(&mut c)?, c.rest()));
    }
    let (delta, used) = varint64(body).ok_or_else(|| wrong(at, "size difference", "cut", "a varint"))?;
    let size = last.size.checked_add_signed(zigzag(delta));
    let size = size.ok_or_else(|| wrong(at, "block size", "negative or too large", "a size"))?;
    Ok((BlockHandle { offset: last.end(), size }, body.get(used..).unwrap_or_default()))
}

#[cold]
fn wrong(at: u64, field: &'static str, found: impl ToString, expected: impl ToString) -> FormatError {
    FormatError::value(NAME, field, at, found, expected)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::block::BlockBuilder;
    use super::super::coding::{put_varint, put_zigzag};
    use super::*;

    #[test]
    fn deltas_follow_the_shared_length() {
        // Three entries: whole handle, difference, whole handle again because nothing is shared.
        let mut bytes = Vec::new();
        let mut entry = |shared: u64, suffix: &[u8]| {
            put_varint(&mut bytes, shared);
            put_varint(&mut bytes, suffix.len() as u64);
            bytes.extend_from_slice(suffix);
            if shared == 0 {
                BlockHandle { offset: if suffix == b"ab" { 0 } else { 500 }, size: 100 }.encode(&mut bytes);
            } else {
                put_zigzag(&mut bytes, -7);
            }
        };
        entry(0, b"ab");
        entry(1, b"c");
        entry(0, b"x");
        for word in [0_u32, 1] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let format = IndexFormat { kind: IndexType::BinarySearch, user_keys: true, delta: true };
        let mut got = Vec::new();
        format.walk(&bytes, 0, |e| got.push((e.separator.to_vec(), e.handle))).unwrap();
        let handle = |offset, size| BlockHandle { offset, size };
        assert_eq!(
            got,
            [(b"ab".to_vec(), handle(0, 100)), (b"ac".to_vec(), handle(105, 93)), (b"x".to_vec(), handle(500, 100)),]
        );
    }

    #[test]
    fn a_value_with_something_behind_the_handle_is_refused() {
        let mut builder = BlockBuilder::new(1);
        builder.add(b"k", &[1, 2, 3]);
        assert!(IndexFormat::default().walk(&builder.finish(), 0, |_| ()).is_err());
    }
}

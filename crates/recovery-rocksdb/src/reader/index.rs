//! The whole index of a table in memory, partitions joined.

use std::ops::Range;

use crate::format::key::user_key;
use crate::format::{BlockHandle, IndexFormat, IndexType, KeyOrder};

use super::block::{BlockReader, TableError};

/// Data blocks of a table in file order, with their separators; one allocation for all keys.
#[derive(Clone, Debug, Default)]
pub struct TableIndex {
    handles: Vec<BlockHandle>,
    keys: Vec<u8>,
    ends: Vec<usize>,
    user_keys: bool,
    partitions: Vec<BlockHandle>,
}

impl TableIndex {
    /// Reads the index at `top`, and its partitions if it has two levels.
    ///
    /// # Errors
    ///
    /// When a block of it cannot be read or does not decode.
    pub fn read(reader: &BlockReader, top: BlockHandle, format: IndexFormat) -> Result<Self, TableError> {
        let mut index = Self { user_keys: format.user_keys, ..Self::default() };
        let bytes = reader.read(top, "index block")?;
        let named = |source| TableError::format(reader.name(), source);
        if format.kind != IndexType::TwoLevel {
            index.add_block(format, &bytes, top.offset).map_err(named)?;
            return Ok(index);
        }
        let mut partitions = Vec::new();
        format.walk(&bytes, top.offset, |entry| partitions.push(entry.handle)).map_err(named)?;
        for handle in &partitions {
            let bytes = reader.read(*handle, "index partition")?;
            index.add_block(format, &bytes, handle.offset).map_err(named)?;
        }
        index.partitions = partitions;
        Ok(index)
    }

    fn add_block(&mut self, format: IndexFormat, bytes: &[u8], at: u64) -> Result<(), crate::format::FormatError> {
        format.walk(bytes, at, |entry| self.push(entry.handle, entry.separator))
    }

    /// An index over blocks found without one; the separators are their last internal keys.
    pub(crate) fn from_blocks<'a>(blocks: impl Iterator<Item = (BlockHandle, &'a [u8])>) -> Self {
        let mut index = Self::default();
        for (handle, last_key) in blocks {
            index.push(handle, last_key);
        }
        index
    }

    fn push(&mut self, handle: BlockHandle, separator: &[u8]) {
        self.handles.push(handle);
        self.keys.extend_from_slice(separator);
        self.ends.push(self.keys.len());
    }

    /// Number of data blocks.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there is no data block (a table of range tombstones only).
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// The data blocks in order.
    #[must_use]
    pub fn handles(&self) -> &[BlockHandle] {
        &self.handles
    }

    /// The index partitions, for two-level indexes.
    #[must_use]
    pub fn partitions(&self) -> &[BlockHandle] {
        &self.partitions
    }

    /// The separator behind block `block`, as stored.
    #[must_use]
    pub fn separator(&self, block: usize) -> Option<&[u8]> {
        let end = *self.ends.get(block)?;
        let start = block.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.keys.get(start..end)
    }

    /// The user key of the separator behind block `block`.
    #[must_use]
    pub fn separator_user_key(&self, block: usize) -> Option<&[u8]> {
        self.separator(block).map(|key| if self.user_keys { key } else { user_key(key) })
    }

    /// The blocks that can hold user keys in `lower..upper` (both without timestamp, `None` for open). `stripped`:
    /// the keys of this table were stored without their timestamps.
    #[must_use]
    pub fn blocks_between(
        &self,
        order: &KeyOrder,
        stripped: bool,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Range<usize> {
        let below = |block: usize, bound: &[u8]| {
            let key = self.separator_user_key(block).unwrap_or_default();
            let key = if stripped { key } else { order.without_timestamp(key) };
            order.compare_without_timestamp(key, bound).is_lt()
        };
        let first_not_below = |bound: &[u8]| partition_point(self.len(), |block| below(block, bound));
        let start = lower.map_or(0, first_not_below);
        let end = upper.map_or(self.len(), |bound| first_not_below(bound).saturating_add(1).min(self.len()));
        start..end.max(start)
    }
}

fn partition_point(len: usize, mut holds: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    low
}

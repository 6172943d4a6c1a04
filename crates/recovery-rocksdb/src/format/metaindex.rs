//! Metaindex block: names of the meta blocks and where they are.
//!
//! A block of entries, never compressed: name -> block handle, in the order of the names.
//!
//! Upstream: `table/meta_blocks.cc` (`MetaIndexBuilder`, `FindMetaBlock`).

use recovery_core::Cursor;

use super::block::{Block, BlockBuilder};
use super::error::FormatError;
use super::handle::BlockHandle;

/// The properties block.
pub const PROPERTIES: &str = "rocksdb.properties";
/// The properties block of very old tables.
pub const OLD_PROPERTIES: &str = "rocksdb.stats";
/// The index block, from format version 6 on.
pub const INDEX: &str = "rocksdb.index";
/// The compression dictionary.
pub const DICTIONARY: &str = "rocksdb.compression_dict";
/// The range-deletion block.
pub const RANGE_DELETIONS: &str = "rocksdb.range_del";

/// The entries of a metaindex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metaindex {
    /// Name and place of each meta block, in the order of the file.
    pub entries: Vec<(String, BlockHandle)>,
}

impl Metaindex {
    /// Decodes the unpacked block.
    ///
    /// # Errors
    ///
    /// When an entry does not decode or its value is not exactly a handle.
    pub fn decode(bytes: &[u8], at: u64) -> Result<Self, FormatError> {
        let mut walk = Block::parse(bytes, at)?.entries();
        let mut entries = Vec::new();
        while walk.advance()? {
            let mut c = Cursor::new(walk.value(), at);
            let handle = BlockHandle::decode(&mut c)?;
            if !c.is_empty() {
                return Err(FormatError::value("metaindex", "entry value", at, c.remaining(), "a handle only"));
            }
            entries.push((String::from_utf8_lossy(walk.key()).into_owned(), handle));
        }
        Ok(Self { entries })
    }

    /// Where the block of that name is.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<BlockHandle> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, handle)| *handle)
    }

    /// Where the properties are, under their new or old name.
    #[must_use]
    pub fn properties(&self) -> Option<BlockHandle> {
        self.get(PROPERTIES).or_else(|| self.get(OLD_PROPERTIES))
    }

    /// The stored form; entries are put in the order of their names.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut sorted: Vec<_> = self.entries.iter().collect();
        sorted.sort();
        let mut builder = BlockBuilder::new(1);
        for (name, handle) in sorted {
            let mut value = Vec::new();
            handle.encode(&mut value);
            builder.add(name.as_bytes(), &value);
        }
        builder.finish()
    }
}

/// What a meta block is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetaKind {
    /// Table properties.
    Properties,
    /// The index.
    Index,
    /// The compression dictionary.
    Dictionary,
    /// Range tombstones.
    RangeDeletions,
    /// A filter, of any policy, or the index of a partitioned one.
    Filter,
    /// A help for hash search.
    HashIndex,
    /// Something this crate does not know; it is checked and left alone.
    Other,
}

impl MetaKind {
    /// The kind a name stands for.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            PROPERTIES | OLD_PROPERTIES => Self::Properties,
            INDEX => Self::Index,
            DICTIONARY => Self::Dictionary,
            RANGE_DELETIONS => Self::RangeDeletions,
            _ if name.starts_with("rocksdb.hashindex.") => Self::HashIndex,
            _ if ["fullfilter.", "partitionedfilter.", "filter."].iter().any(|p| name.starts_with(p)) => Self::Filter,
            _ => Self::Other,
        }
    }

    /// The word for it in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Properties => "properties",
            Self::Index => "index",
            Self::Dictionary => "compression dictionary",
            Self::RangeDeletions => "range deletions",
            Self::Filter => "filter",
            Self::HashIndex => "hash index",
            Self::Other => "meta block",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_metaindex_comes_back_in_order() {
        let handle = |offset| BlockHandle { offset, size: 9 };
        let entries = vec![(RANGE_DELETIONS.to_owned(), handle(1)), (PROPERTIES.to_owned(), handle(2))];
        let back = Metaindex::decode(&Metaindex { entries }.encode(), 0).unwrap();
        assert_eq!(back.properties(), Some(handle(2)));
        assert_eq!(back.entries.first().unwrap().0, PROPERTIES);
        assert_eq!(MetaKind::of("fullfilter.rocksdb.BuiltinBloomFilter"), MetaKind::Filter);
    }
}

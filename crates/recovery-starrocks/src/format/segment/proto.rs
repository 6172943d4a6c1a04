//! The protobuf messages of a segment (`gensrc/proto/segment.proto`), as far as they are read here.
//!
//! Unknown fields are skipped, absent ones take the default; repeated numbers are accepted packed and unpacked.

use prost::Message;

/// Where a page lies in the file.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PagePointer {
    /// First byte.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Length with footer and checksum.
    #[prost(uint32, tag = "2")]
    pub size: u32,
}

impl PagePointer {
    /// First byte behind the page.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.size))
    }
}

/// Root of an index tree.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BTreeMeta {
    /// The root.
    #[prost(message, optional, tag = "1")]
    pub root_page: Option<PagePointer>,
    /// Whether the root is the only data page instead of an index page.
    #[prost(bool, tag = "2")]
    pub is_root_data_page: bool,
}

/// A column of index entries, with pages of its own.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IndexedColumnMeta {
    /// Type code.
    #[prost(int32, tag = "1")]
    pub data_type: i32,
    /// Encoding code.
    #[prost(int32, tag = "2")]
    pub encoding: i32,
    /// Number of entries.
    #[prost(int64, tag = "3")]
    pub num_values: i64,
    /// Pages by ordinal.
    #[prost(message, optional, tag = "4")]
    pub ordinal_index: Option<BTreeMeta>,
    /// Pages by value.
    #[prost(message, optional, tag = "5")]
    pub value_index: Option<BTreeMeta>,
    /// Compression code.
    #[prost(int32, tag = "6")]
    pub compression: i32,
    /// Bytes.
    #[prost(uint64, tag = "7")]
    pub size: u64,
}

/// The ordinal index of a column.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct OrdinalIndex {
    /// Its tree.
    #[prost(message, optional, tag = "1")]
    pub root: Option<BTreeMeta>,
}

/// Smallest and largest value, as text.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ZoneMap {
    /// Smallest value.
    #[prost(bytes = "vec", tag = "1")]
    pub min: Vec<u8>,
    /// Largest value.
    #[prost(bytes = "vec", tag = "2")]
    pub max: Vec<u8>,
    /// Whether there are NULLs.
    #[prost(bool, tag = "3")]
    pub has_null: bool,
    /// Whether there is anything else.
    #[prost(bool, tag = "4")]
    pub has_not_null: bool,
}

/// Zone maps of a column.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ZoneMapIndex {
    /// Of the whole segment.
    #[prost(message, optional, tag = "1")]
    pub segment: Option<ZoneMap>,
    /// Of every page.
    #[prost(message, optional, tag = "2")]
    pub pages: Option<IndexedColumnMeta>,
}

/// A bitmap index.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BitmapIndex {
    /// Kind of bitmap; 1 is Roaring.
    #[prost(int32, tag = "1")]
    pub bitmap_type: i32,
    /// Whether a last bitmap holds the NULL rows.
    #[prost(bool, tag = "2")]
    pub has_null: bool,
    /// Sorted distinct values.
    #[prost(message, optional, tag = "3")]
    pub dict_column: Option<IndexedColumnMeta>,
    /// One bitmap of row numbers for each.
    #[prost(message, optional, tag = "4")]
    pub bitmap_column: Option<IndexedColumnMeta>,
}

/// A bloom filter index.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BloomIndex {
    /// Hash; 0 is Murmur3 x64 64.
    #[prost(int32, tag = "1")]
    pub hash_strategy: i32,
    /// Algorithm; 0 is the block split filter.
    #[prost(int32, tag = "2")]
    pub algorithm: i32,
    /// One filter for each data page.
    #[prost(message, optional, tag = "3")]
    pub filters: Option<IndexedColumnMeta>,
}

/// One index of a column.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ColumnIndex {
    /// 1 ordinal, 2 zone map, 3 bitmap, 4 bloom, 5 inverted.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Ordinal index.
    #[prost(message, optional, tag = "7")]
    pub ordinal: Option<OrdinalIndex>,
    /// Zone maps.
    #[prost(message, optional, tag = "8")]
    pub zone_map: Option<ZoneMapIndex>,
    /// Bitmap index.
    #[prost(message, optional, tag = "9")]
    pub bitmap: Option<BitmapIndex>,
    /// Bloom filters.
    #[prost(message, optional, tag = "10")]
    pub bloom: Option<BloomIndex>,
}

/// How a JSON column was flattened.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JsonMeta {
    /// Version of the value format.
    #[prost(uint32, tag = "1")]
    pub format_version: u32,
    /// Whether paths were extracted into columns.
    #[prost(bool, tag = "2")]
    pub is_flat: bool,
    /// Whether a last child holds what was not extracted.
    #[prost(bool, tag = "3")]
    pub has_remain: bool,
}

/// A column of a segment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ColumnMeta {
    /// Position in the schema at write time.
    #[prost(uint32, tag = "1")]
    pub column_id: u32,
    /// Identity across schema changes.
    #[prost(uint32, tag = "2")]
    pub unique_id: u32,
    /// Type code.
    #[prost(int32, tag = "3")]
    pub type_code: i32,
    /// Declared length.
    #[prost(int32, tag = "4")]
    pub length: i32,
    /// Encoding code.
    #[prost(int32, tag = "5")]
    pub encoding: i32,
    /// Compression code.
    #[prost(int32, tag = "6")]
    pub compression: i32,
    /// Whether NULL may occur.
    #[prost(bool, tag = "7")]
    pub is_nullable: bool,
    /// Its indexes.
    #[prost(message, repeated, tag = "8")]
    pub indexes: Vec<ColumnIndex>,
    /// Its dictionary.
    #[prost(message, optional, tag = "9")]
    pub dict_page: Option<PagePointer>,
    /// Children of a complex column.
    #[prost(message, repeated, tag = "10")]
    pub children: Vec<ColumnMeta>,
    /// Rows, where the writer stored it.
    #[prost(uint64, optional, tag = "11")]
    pub num_rows: Option<u64>,
    /// Whether every page uses the dictionary.
    #[prost(bool, optional, tag = "30")]
    pub all_dict_encoded: Option<bool>,
    /// How JSON was flattened.
    #[prost(message, optional, tag = "32")]
    pub json_meta: Option<JsonMeta>,
    /// Path of a flattened JSON column.
    #[prost(bytes = "vec", optional, tag = "33")]
    pub name: Option<Vec<u8>>,
}

/// The footer of a segment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SegmentFooter {
    /// Storage format, 1 or 2.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Columns in schema order.
    #[prost(message, repeated, tag = "2")]
    pub columns: Vec<ColumnMeta>,
    /// Rows.
    #[prost(uint64, tag = "3")]
    pub num_rows: u64,
    /// The short key index.
    #[prost(message, optional, tag = "9")]
    pub short_key_page: Option<PagePointer>,
}

/// Footer of a data page.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DataPageFooter {
    /// Ordinal of the first value.
    #[prost(uint64, tag = "1")]
    pub first_ordinal: u64,
    /// Values, NULLs included.
    #[prost(uint64, tag = "2")]
    pub num_values: u64,
    /// Bytes of the null map at the end of the body.
    #[prost(uint32, tag = "3")]
    pub nullmap_size: u32,
    /// Size pages of lists: the element ordinal behind the page.
    #[prost(uint64, optional, tag = "4")]
    pub corresponding_element_ordinal: Option<u64>,
    /// 1 (or absent): NULLs have no value; 2: they have a placeholder.
    #[prost(uint32, optional, tag = "20")]
    pub format_version: Option<u32>,
    /// How the null map of format 2 is encoded.
    #[prost(int32, optional, tag = "21")]
    pub null_encoding: Option<i32>,
}

/// Footer of an index page.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IndexPageFooter {
    /// Entries.
    #[prost(uint32, tag = "1")]
    pub num_entries: u32,
    /// 1 leaf, 2 internal.
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

/// Footer of a dictionary page.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DictPageFooter {
    /// Encoding code.
    #[prost(int32, tag = "1")]
    pub encoding: i32,
}

/// Footer of the short key page.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ShortKeyFooter {
    /// Keys.
    #[prost(uint32, tag = "1")]
    pub num_items: u32,
    /// Bytes of the keys.
    #[prost(uint32, tag = "2")]
    pub key_bytes: u32,
    /// Bytes of the offsets.
    #[prost(uint32, tag = "3")]
    pub offset_bytes: u32,
    /// Segment number.
    #[prost(uint32, tag = "4")]
    pub segment_id: u32,
    /// Rows for each key.
    #[prost(uint32, tag = "5")]
    pub rows_per_block: u32,
    /// Rows of the segment.
    #[prost(uint32, tag = "6")]
    pub num_rows: u32,
}

/// Footer of any page.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PageFooter {
    /// 1 data, 2 index, 3 dictionary, 4 short key.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Length of the body when decompressed.
    #[prost(uint32, tag = "2")]
    pub uncompressed_size: u32,
    /// Data page.
    #[prost(message, optional, tag = "7")]
    pub data: Option<DataPageFooter>,
    /// Index page.
    #[prost(message, optional, tag = "8")]
    pub index: Option<IndexPageFooter>,
    /// Dictionary page.
    #[prost(message, optional, tag = "9")]
    pub dict: Option<DictPageFooter>,
    /// Short key page.
    #[prost(message, optional, tag = "10")]
    pub short_key: Option<ShortKeyFooter>,
}

/// Page kinds of [`PageFooter::kind`].
pub mod page_kind {
    /// Values of a column.
    pub const DATA: i32 = 1;
    /// Index entries.
    pub const INDEX: i32 = 2;
    /// A dictionary.
    pub const DICTIONARY: i32 = 3;
    /// The short key index.
    pub const SHORT_KEY: i32 = 4;
}

/// Encodings of [`ColumnMeta::encoding`].
pub mod encoding {
    /// Parents of complex columns, which have no pages.
    pub const DEFAULT: i32 = 1;
    /// Values as they are.
    pub const PLAIN: i32 = 2;
    /// Strings sharing prefixes.
    pub const PREFIX: i32 = 3;
    /// Runs.
    pub const RLE: i32 = 4;
    /// Codes into a dictionary page.
    pub const DICT: i32 = 5;
    /// Transposed bits under LZ4.
    pub const BIT_SHUFFLE: i32 = 6;
    /// Frames of reference.
    pub const FOR: i32 = 7;
}

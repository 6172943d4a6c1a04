//! The physical schema of a tablet: what columns its segments hold and how rows with equal keys combine.
//!
//! Filled from `TabletSchemaPB` of a tablet header (`gensrc/proto/tablet_schema.proto`), or built by hand by an
//! embedder that has only a segment.

use std::sync::Arc;

/// How rows with equal keys combine (`KeysType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeysType {
    /// Every row stays.
    #[default]
    Duplicate,
    /// The newest row wins.
    Unique,
    /// Value columns are folded by their aggregation.
    Aggregate,
    /// One live row per key; replaced rows are marked in delete vectors.
    Primary,
}

impl KeysType {
    /// From the number in `TabletSchemaPB.keys_type`.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Duplicate),
            1 => Some(Self::Unique),
            2 => Some(Self::Aggregate),
            10 => Some(Self::Primary),
            _ => None,
        }
    }

    /// The name the front end writes (`DUP_KEYS`, ...).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "DUP_KEYS",
            Self::Unique => "UNIQUE_KEYS",
            Self::Aggregate => "AGG_KEYS",
            Self::Primary => "PRIMARY_KEYS",
        }
    }
}

/// How a value column of an aggregate table is folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aggregation {
    /// Key columns and columns of duplicate tables.
    #[default]
    None,
    /// Sum; NULL is skipped.
    Sum,
    /// Smallest; NULL is skipped.
    Min,
    /// Largest; NULL is skipped.
    Max,
    /// The newest value, NULL included.
    Replace,
    /// The newest value that is not NULL.
    ReplaceIfNotNull,
    /// Union of HLL registers.
    HllUnion,
    /// Union of bitmap members.
    BitmapUnion,
    /// Merge of t-digests.
    PercentileUnion,
    /// An aggregation this crate cannot fold (`AGG_STATE_UNION` and whatever comes later), by its name.
    Other(String),
}

impl Aggregation {
    /// From the text in `ColumnPB.aggregation`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "" | "NONE" => Self::None,
            "SUM" => Self::Sum,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            "REPLACE" => Self::Replace,
            "REPLACE_IF_NOT_NULL" => Self::ReplaceIfNotNull,
            "HLL_UNION" => Self::HllUnion,
            "BITMAP_UNION" => Self::BitmapUnion,
            "PERCENTILE_UNION" => Self::PercentileUnion,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The text the engine writes.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::None => "NONE",
            Self::Sum => "SUM",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::Replace => "REPLACE",
            Self::ReplaceIfNotNull => "REPLACE_IF_NOT_NULL",
            Self::HllUnion => "HLL_UNION",
            Self::BitmapUnion => "BITMAP_UNION",
            Self::PercentileUnion => "PERCENTILE_UNION",
            Self::Other(name) => name,
        }
    }
}

macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal $(| $alias:literal)*;)*) => {
        /// A column type, by the code in `ColumnMetaPB.type` or the name in `ColumnPB.type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ColumnType { $($(#[$doc])* $variant,)* }

        impl ColumnType {
            /// From the code a segment stores (`LogicalType`, `be/src/types/logical_type.h`).
            #[must_use]
            pub const fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The code a segment stores.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(Self::$variant => $code,)* }
            }

            /// From the name a tablet header stores; case does not matter.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name.to_ascii_uppercase().as_str() {
                    $($name $(| $alias)* => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name a tablet header stores.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

types! {
    /// A type this release does not know; the column is named when it is asked for.
    Unknown = -1, "UNKNOWN";
    /// 1 byte, signed.
    TinyInt = 1, "TINYINT";
    /// 1 byte, unsigned (inside the engine only).
    UnsignedTinyInt = 2, "UNSIGNED_TINYINT";
    /// 2 bytes, signed.
    SmallInt = 3, "SMALLINT";
    /// 2 bytes, unsigned (inside the engine only).
    UnsignedSmallInt = 4, "UNSIGNED_SMALLINT";
    /// 4 bytes, signed.
    Int = 5, "INT";
    /// 4 bytes, unsigned (inside the engine only).
    UnsignedInt = 6, "UNSIGNED_INT";
    /// 8 bytes, signed.
    BigInt = 7, "BIGINT";
    /// 8 bytes, unsigned (inside the engine only).
    UnsignedBigInt = 8, "UNSIGNED_BIGINT";
    /// 16 bytes, signed.
    LargeInt = 9, "LARGEINT";
    /// IEEE 754, 4 bytes.
    Float = 10, "FLOAT";
    /// IEEE 754, 8 bytes.
    Double = 11, "DOUBLE";
    /// Zero-padded text.
    Char = 13, "CHAR";
    /// 3-byte date of storage format 1.
    DateV1 = 14, "DATE";
    /// Decimal `yyyymmddHHMMSS` of storage format 1.
    DatetimeV1 = 15, "DATETIME";
    /// 12-byte decimal of storage format 1.
    DecimalV1 = 16, "DECIMAL";
    /// Text.
    Varchar = 17, "VARCHAR" | "STRING";
    /// Named fields.
    Struct = 18, "STRUCT";
    /// A list.
    Array = 19, "ARRAY";
    /// Keys and values.
    Map = 20, "MAP";
    /// HyperLogLog registers.
    Hll = 23, "HLL";
    /// One byte, 0 or 1.
    Boolean = 24, "BOOLEAN" | "BOOL";
    /// A bitmap.
    Object = 25, "OBJECT" | "BITMAP";
    /// 32-byte decimal.
    Decimal256 = 26, "DECIMAL256";
    /// 32-byte integer.
    Int256 = 27, "INT256";
    /// Bytes.
    Varbinary = 46, "VARBINARY" | "BINARY";
    /// 4-byte decimal.
    Decimal32 = 47, "DECIMAL32";
    /// 8-byte decimal.
    Decimal64 = 48, "DECIMAL64";
    /// 16-byte decimal.
    Decimal128 = 49, "DECIMAL128";
    /// Julian day number.
    Date = 50, "DATE_V2";
    /// Julian day and microseconds.
    Datetime = 51, "TIMESTAMP" | "DATETIME_V2";
    /// 16-byte decimal with nine digits behind the point.
    DecimalV2 = 52, "DECIMAL_V2";
    /// A t-digest.
    Percentile = 53, "PERCENTILE";
    /// A velocypack value.
    Json = 54, "JSON";
}

/// A column of a tablet (`ColumnPB`).
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Identity across schema changes; segments are matched by it.
    pub unique_id: i64,
    /// Name; children of complex columns carry their field name.
    pub name: String,
    /// Type.
    pub kind: ColumnType,
    /// Whether it belongs to the key.
    pub is_key: bool,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// How it is folded in aggregate tables.
    pub aggregation: Aggregation,
    /// Text of the default value; a segment older than the column takes it for every row.
    pub default_value: Option<Vec<u8>>,
    /// Digits of a decimal.
    pub precision: Option<u8>,
    /// Digits behind the point of a decimal.
    pub scale: Option<u8>,
    /// Declared length.
    pub length: i64,
    /// Bytes of the column in the short key.
    pub index_length: i64,
    /// Whether queries see it.
    pub visible: bool,
    /// Whether it has a bitmap index.
    pub has_bitmap_index: bool,
    /// Whether it has a bloom filter.
    pub is_bloom_filter: bool,
    /// Whether the engine fills it.
    pub is_auto_increment: bool,
    /// Element, key and value, or fields.
    pub children: Vec<Column>,
    /// The type's name, where it is not known here.
    pub unknown_type: Option<String>,
}

impl Column {
    /// A visible, nullable value column without a default.
    #[must_use]
    pub fn new(unique_id: i64, name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            unique_id,
            name: name.into(),
            kind,
            is_key: false,
            nullable: true,
            aggregation: Aggregation::None,
            default_value: None,
            precision: None,
            scale: None,
            length: 0,
            index_length: 0,
            visible: true,
            has_bitmap_index: false,
            is_bloom_filter: false,
            is_auto_increment: false,
            children: Vec::new(),
            unknown_type: None,
        }
    }
}

/// Schema of a tablet (`TabletSchemaPB`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TabletSchema {
    /// Key model.
    pub keys: KeysType,
    /// Columns, keys first.
    pub columns: Vec<Column>,
    /// How many columns make the short key.
    pub short_key_columns: u32,
    /// Rows between two short keys.
    pub rows_per_block: u32,
    /// Sort key of primary-key tables, as positions in `columns`; empty: the key columns.
    pub sort_key: Vec<u32>,
    /// Compression code new segments are written with.
    pub compression: i32,
    /// The next unique id.
    pub next_unique_id: i64,
    /// Version of the schema, where the engine keeps one.
    pub version: i32,
    /// Identity of the schema, where the engine keeps one.
    pub id: i64,
}

/// A DELETE that stands in a rowset of its own (`DeletePredicatePB`). All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletePredicate {
    /// Conditions as text: `k>=5`, `c IS NULL`.
    pub conditions: Vec<String>,
    /// Lists: column, whether negated, values.
    pub lists: Vec<InList>,
}

/// `column [NOT] IN (values)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InList {
    /// Column name.
    pub column: String,
    /// NOT IN.
    pub negated: bool,
    /// Values as text.
    pub values: Vec<String>,
}

/// A schema shared by many readers.
pub type SharedSchema = Arc<TabletSchema>;

//! Internal keys: what tables and memtables sort by.
//!
//! | bytes     | field                                    |
//! | --------- | ---------------------------------------- |
//! | `0..n-8`  | user key (with its timestamp, if any)    |
//! | `n-8..n`  | fixed64 `(sequence << 8) \| value type`   |
//!
//! Order: user key ascending by the family's comparator, then the 8-byte number descending: newest first.
//! With user-defined timestamps the last bytes of the user key are the timestamp; larger timestamps sort first.
//!
//! Upstream: `db/dbformat.h` (`ValueType`, `ParsedInternalKey`, `InternalKeyComparator::Compare`).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A sequence number: the place of an entry in the history of the whole database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// The largest that fits the 56 bits of an internal key. Range bounds use it as a sentinel.
    pub const MAX: Self = Self((1 << 56) - 1);
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
#[allow(missing_docs)] // the names are upstream's, and the table in the module of the write batch explains them
pub enum ValueType {
    Deletion = 0x00,
    Value = 0x01,
    Merge = 0x02,
    LogData = 0x03,
    FamilyDeletion = 0x04,
    FamilyValue = 0x05,
    FamilyMerge = 0x06,
    SingleDeletion = 0x07,
    FamilySingleDeletion = 0x08,
    BeginPrepare = 0x09,
    EndPrepare = 0x0A,
    Commit = 0x0B,
    Rollback = 0x0C,
    Noop = 0x0D,
    FamilyRangeDeletion = 0x0E,
    RangeDeletion = 0x0F,
    FamilyBlobIndex = 0x10,
    BlobIndex = 0x11,
    BeginPersistedPrepare = 0x12,
    BeginUnprepare = 0x13,
    DeletionWithTimestamp = 0x14,
    CommitWithTimestamp = 0x15,
    WideColumnEntity = 0x16,
    FamilyWideColumnEntity = 0x17,
    ValuePreferredSeqno = 0x18,
    FamilyValuePreferredSeqno = 0x19,
    /// The exclusive upper bound upstream uses when seeking; stands in index separators, never in data.
    MaxValid = 0x1A,
}

impl ValueType {
    /// The type a tag byte stands for.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x00 => Self::Deletion,
            0x01 => Self::Value,
            0x02 => Self::Merge,
            0x03 => Self::LogData,
            0x04 => Self::FamilyDeletion,
            0x05 => Self::FamilyValue,
            0x06 => Self::FamilyMerge,
            0x07 => Self::SingleDeletion,
            0x08 => Self::FamilySingleDeletion,
            0x09 => Self::BeginPrepare,
            0x0A => Self::EndPrepare,
            0x0B => Self::Commit,
            0x0C => Self::Rollback,
            0x0D => Self::Noop,
            0x0E => Self::FamilyRangeDeletion,
            0x0F => Self::RangeDeletion,
            0x10 => Self::FamilyBlobIndex,
            0x11 => Self::BlobIndex,
            0x12 => Self::BeginPersistedPrepare,
            0x13 => Self::BeginUnprepare,
            0x14 => Self::DeletionWithTimestamp,
            0x15 => Self::CommitWithTimestamp,
            0x16 => Self::WideColumnEntity,
            0x17 => Self::FamilyWideColumnEntity,
            0x18 => Self::ValuePreferredSeqno,
            0x19 => Self::FamilyValuePreferredSeqno,
            0x1A => Self::MaxValid,
            _ => return None,
        })
    }

    /// The tag byte.
    #[inline]
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// May it stand in a data block (or, for range deletions, in a range-deletion block) of a table?
    #[inline]
    #[must_use]
    pub const fn in_table(self) -> bool {
        matches!(
            self,
            Self::Deletion
                | Self::Value
                | Self::Merge
                | Self::SingleDeletion
                | Self::RangeDeletion
                | Self::BlobIndex
                | Self::DeletionWithTimestamp
                | Self::WideColumnEntity
                | Self::ValuePreferredSeqno
        )
    }

    /// The name used in dumps.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deletion | Self::FamilyDeletion => "delete",
            Self::Value | Self::FamilyValue => "put",
            Self::Merge | Self::FamilyMerge => "merge",
            Self::LogData => "log-data",
            Self::SingleDeletion | Self::FamilySingleDeletion => "single-delete",
            Self::BeginPrepare => "begin-prepare",
            Self::EndPrepare => "end-prepare",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Noop => "noop",
            Self::FamilyRangeDeletion | Self::RangeDeletion => "range-delete",
            Self::FamilyBlobIndex | Self::BlobIndex => "blob-index",
            Self::BeginPersistedPrepare => "begin-persisted-prepare",
            Self::BeginUnprepare => "begin-unprepare",
            Self::DeletionWithTimestamp => "delete-with-timestamp",
            Self::CommitWithTimestamp => "commit-with-timestamp",
            Self::WideColumnEntity | Self::FamilyWideColumnEntity => "wide-columns",
            Self::ValuePreferredSeqno | Self::FamilyValuePreferredSeqno => "timed-put",
            Self::MaxValid => "seek-bound",
        }
    }
}

/// The 8-byte number behind a user key.
#[inline]
#[must_use]
pub const fn pack(sequence: SequenceNumber, value_type: ValueType) -> u64 {
    (sequence.0 << 8) | value_type as u64
}

/// An internal key taken apart; borrows the user key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParsedKey<'a> {
    /// The application's key, with its timestamp where the family has one.
    pub user_key: &'a [u8],
    /// When it was written.
    pub sequence: SequenceNumber,
    /// What it does.
    pub value_type: ValueType,
}

impl fmt::Debug for ParsedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", super::coding::hex(self.user_key), self.sequence, self.value_type.name())
    }
}

impl<'a> ParsedKey<'a> {
    /// Takes an internal key apart; `None` when it is shorter than 8 bytes or its type is unknown.
    #[inline]
    #[must_use]
    pub fn parse(key: &'a [u8]) -> Option<Self> {
        let (user_key, tail) = key.split_last_chunk::<8>()?;
        let packed = u64::from_le_bytes(*tail);
        let value_type = ValueType::from_byte(tail[0])?;
        Some(Self { user_key, sequence: SequenceNumber(packed >> 8), value_type })
    }

    /// The stored form.
    #[must_use]
    pub fn to_key(&self) -> InternalKey {
        InternalKey::new(self.user_key, self.sequence, self.value_type)
    }
}

/// An internal key in its stored form.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct InternalKey(Vec<u8>);

impl InternalKey {
    /// Puts a key together.
    #[must_use]
    pub fn new(user_key: &[u8], sequence: SequenceNumber, value_type: ValueType) -> Self {
        let mut key = Vec::with_capacity(user_key.len().saturating_add(8));
        key.extend_from_slice(user_key);
        key.extend_from_slice(&pack(sequence, value_type).to_le_bytes());
        Self(key)
    }

    /// Takes stored bytes as they are; [`Self::parse`] says whether they are a key.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Replaces the key, keeping its memory.
    pub fn set(&mut self, bytes: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(bytes);
    }

    /// The stored bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The stored bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The parts; `None` when this is no internal key.
    #[must_use]
    pub fn parse(&self) -> Option<ParsedKey<'_>> {
        ParsedKey::parse(&self.0)
    }

    /// The user key; empty when the bytes are no internal key.
    #[must_use]
    pub fn user_key(&self) -> &[u8] {
        user_key(&self.0)
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Some(parsed) => parsed.fmt(f),
            None => write!(f, "raw {}", super::coding::hex(&self.0)),
        }
    }
}

/// The user key of an internal key; empty when it has fewer than 8 bytes.
#[inline]
#[must_use]
pub fn user_key(key: &[u8]) -> &[u8] {
    key.split_last_chunk::<8>().map_or(&[], |(user, _)| user)
}

/// The packed number of an internal key; 0 when it has fewer than 8 bytes.
#[inline]
#[must_use]
pub fn packed(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |tail| u64::from_le_bytes(*tail))
}

/// A comparator supplied by the embedding program.
pub type CompareFn = Arc<dyn Fn(&[u8], &[u8]) -> Ordering + Send + Sync>;

/// The order of user keys in a family: its comparator.
///
/// ```
/// use recovery_rocksdb::format::key::KeyOrder;
/// let order = KeyOrder::by_name("rocksdb.ReverseBytewiseComparator").unwrap();
/// assert!(order.compare(b"b", b"a").is_lt());
/// assert!(KeyOrder::by_name("com.example.MyComparator").is_none());
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum KeyOrder {
    /// `leveldb.BytewiseComparator`, the default.
    #[default]
    Bytewise,
    /// `rocksdb.ReverseBytewiseComparator`.
    Reverse,
    /// `leveldb.BytewiseComparator.u64ts`: keys end in an 8-byte little-endian timestamp, larger sorts first.
    BytewiseU64Ts,
    /// `rocksdb.ReverseBytewiseComparator.u64ts`.
    ReverseU64Ts,
    /// An application's own, given as a closure under its name.
    Custom {
        /// The name stored in the database.
        name: String,
        /// Bytes of timestamp at the end of each user key; 0 for none.
        timestamp_size: usize,
        /// The order of whole user keys.
        compare: CompareFn,
    },
}

/// Comparators that the embedding program made known. A name means one order throughout a process, as it does to RocksDB.
static REGISTERED: RwLock<BTreeMap<String, KeyOrder>> = RwLock::new(BTreeMap::new());

impl fmt::Debug for KeyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyOrder({})", self.name())
    }
}

impl PartialEq for KeyOrder {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl KeyOrder {
    /// The comparator of that name, built in or registered; an unknown name is never guessed.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "leveldb.BytewiseComparator" => Self::Bytewise,
            "rocksdb.ReverseBytewiseComparator" => Self::Reverse,
            "leveldb.BytewiseComparator.u64ts" => Self::BytewiseU64Ts,
            "rocksdb.ReverseBytewiseComparator.u64ts" => Self::ReverseU64Ts,
            _ => return REGISTERED.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned(),
        })
    }

    /// Makes an application's comparator known under its name, for this process, as upstream's object registry does:
    /// from then on databases that name it are read, repaired and written in its order. `timestamp_size` is the number
    /// of bytes of timestamp at the end of each user key, 0 for none.
    ///
    /// The first registration of a name stays; `false` says that the name was taken.
    ///
    /// ```
    /// use recovery_rocksdb::format::key::KeyOrder;
    /// // Shorter keys first.
    /// assert!(KeyOrder::register("com.example.ByLength", 0, |a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b))));
    /// let order = KeyOrder::by_name("com.example.ByLength").unwrap();
    /// assert!(order.compare(b"b", b"aa").is_lt());
    /// ```
    pub fn register(
        name: impl Into<String>,
        timestamp_size: usize,
        compare: impl Fn(&[u8], &[u8]) -> Ordering + Send + Sync + 'static,
    ) -> bool {
        let name = name.into();
        if Self::by_name(&name).is_some() {
            return false;
        }
        let order = Self::Custom { name: name.clone(), timestamp_size, compare: Arc::new(compare) };
        REGISTERED.write().unwrap_or_else(PoisonError::into_inner).insert(name, order);
        true
    }

    /// The name stored in MANIFEST, OPTIONS and table properties.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Bytewise => "leveldb.BytewiseComparator",
            Self::Reverse => "rocksdb.ReverseBytewiseComparator",
            Self::BytewiseU64Ts => "leveldb.BytewiseComparator.u64ts",
            Self::ReverseU64Ts => "rocksdb.ReverseBytewiseComparator.u64ts",
            Self::Custom { name, .. } => name,
        }
    }

    /// Bytes of timestamp at the end of each user key.
    #[must_use]
    pub fn timestamp_size(&self) -> usize {
        match self {
            Self::Bytewise | Self::Reverse => 0,
            Self::BytewiseU64Ts | Self::ReverseU64Ts => 8,
            Self::Custom { timestamp_size, .. } => *timestamp_size,
        }
    }

    /// The part of a user key before its timestamp.
    #[must_use]
    pub fn without_timestamp<'a>(&self, user_key: &'a [u8]) -> &'a [u8] {
        let end = user_key.len().saturating_sub(self.timestamp_size());
        user_key.get(..end).unwrap_or_default()
    }

    /// The order of keys whose timestamps were not persisted: the same comparator over what is left of them.
    #[must_use]
    pub fn of_stripped_keys(&self) -> Self {
        match self {
            Self::Bytewise | Self::BytewiseU64Ts => Self::Bytewise,
            Self::Reverse | Self::ReverseU64Ts => Self::Reverse,
            Self::Custom { timestamp_size: 0, .. } => self.clone(),
            Self::Custom { name, timestamp_size, compare } => {
                let (size, whole) = (*timestamp_size, Arc::clone(compare));
                let compare: CompareFn = Arc::new(move |a: &[u8], b: &[u8]| {
                    let pad = |key: &[u8]| [key, &vec![0; size]].concat();
                    whole(&pad(a), &pad(b))
                });
                Self::Custom { name: name.clone(), timestamp_size: 0, compare }
            }
        }
    }

    /// Compares two user keys.
    #[inline]
    #[must_use]
    pub fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Bytewise => a.cmp(b),
            Self::Reverse => b.cmp(a),
            Self::BytewiseU64Ts => {
                let ((a, at), (b, bt)) = (split_u64ts(a), split_u64ts(b));
                a.cmp(b).then_with(|| bt.cmp(&at))
            }
            Self::ReverseU64Ts => {
                let ((a, at), (b, bt)) = (split_u64ts(a), split_u64ts(b));
                b.cmp(a).then_with(|| bt.cmp(&at))
            }
            Self::Custom { compare, .. } => compare(a, b),
        }
    }

    /// Compares two user keys that carry no timestamp (or had it cut off): how bounds of scans compare.
    #[must_use]
    pub fn compare_without_timestamp(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Bytewise | Self::BytewiseU64Ts => a.cmp(b),
            Self::Reverse | Self::ReverseU64Ts => b.cmp(a),
            Self::Custom { timestamp_size: 0, compare, .. } => compare(a, b),
            Self::Custom { timestamp_size, compare, .. } => {
                let pad = |key: &[u8]| [key, &vec![0; *timestamp_size]].concat();
                compare(&pad(a), &pad(b))
            }
        }
    }

    /// Compares two internal keys: user keys by [`Self::compare`], then newest first.
    #[inline]
    #[must_use]
    pub fn compare_internal(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.compare(user_key(a), user_key(b)).then_with(|| packed(b).cmp(&packed(a)))
    }
}

/// Splits the 8-byte timestamp off; a key too short for one has timestamp 0.
#[inline]
fn split_u64ts(key: &[u8]) -> (&[u8], u64) {
    key.split_last_chunk::<8>().map_or((key, 0), |(key, ts)| (key, u64::from_le_bytes(*ts)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newest_first() {
        let order = KeyOrder::Bytewise;
        let new = InternalKey::new(b"k", SequenceNumber(9), ValueType::Value);
        let old = InternalKey::new(b"k", SequenceNumber(8), ValueType::Deletion);
        let next = InternalKey::new(b"l", SequenceNumber(1), ValueType::Value);
        assert!(order.compare_internal(new.as_bytes(), old.as_bytes()).is_lt());
        assert!(order.compare_internal(old.as_bytes(), next.as_bytes()).is_lt());
    }

    #[test]
    fn larger_timestamps_first() {
        let key = |k: &[u8], ts: u64| [k, &ts.to_le_bytes()].concat();
        for (order, asc) in [(KeyOrder::BytewiseU64Ts, true), (KeyOrder::ReverseU64Ts, false)] {
            assert!(order.compare(&key(b"a", 300), &key(b"a", 2)).is_lt());
            assert_eq!(order.compare(&key(b"a", 1), &key(b"b", 1)).is_lt(), asc);
            assert_eq!(order.without_timestamp(&key(b"a", 1)), b"a");
        }
    }

    proptest! {
        #[test]
        fn keys_come_back(user: Vec<u8>, sequence in 0..=SequenceNumber::MAX.0, byte in 0_u8..=0x1a) {
            let value_type = ValueType::from_byte(byte).unwrap();
            let key = InternalKey::new(&user, SequenceNumber(sequence), value_type);
            let parsed = key.parse().unwrap();
            prop_assert_eq!(parsed, ParsedKey { user_key: &user, sequence: SequenceNumber(sequence), value_type });
            prop_assert_eq!(parsed.to_key(), key);
            prop_assert_eq!(value_type.byte(), byte);
        }
    }
}

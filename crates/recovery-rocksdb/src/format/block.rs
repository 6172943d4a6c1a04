//! Block of entries: data, index, metaindex, properties and range-deletion blocks.
//!
//! ```text
//! entries | restart offsets (fixed32 each) | [hash index] | footer word (fixed32)
//! ```
//!
//! | footer bits | meaning                                              |
//! | ----------- | ---------------------------------------------------- |
//! | 0..=27      | number of restart offsets                            |
//! | 28          | keys and values stored apart                         |
//! | 29          | keys are uniform (a hint)                            |
//! | 31          | a hash index stands before the footer word           |
//!
//! Entry: varint32 shared, varint32 non-shared, varint32 value length, key suffix, value. The key is the first
//! `shared` bytes of the previous key and the suffix. At a restart offset `shared` is 0.
//!
//! The hash index, `buckets: u8[n] | n: fixed16`, only speeds up point reads and is skipped here.
//!
//! Upstream: `table/block_based/block_builder.cc`, `block.h`, `data_block_footer.cc`.

use super::coding::{fixed32, varint32};
use super::error::FormatError;

const NAME: &str = "block";
const RESTARTS: u32 = (1 << 28) - 1;
const SEPARATED: u32 = 1 << 28;
const UNIFORM: u32 = 1 << 29;
const HASH_INDEX: u32 = 1 << 31;

/// A block taken apart into its sections.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    entries: &'a [u8],
    restarts: &'a [u8],
    at: u64,
}

impl<'a> Block<'a> {
    /// Takes the unpacked bytes of a block apart. `at` is where its packed form lies in the file, for messages.
    ///
    /// # Errors
    ///
    /// When the sections do not fit, a feature bit is unknown, or keys and values are stored apart.
    pub fn parse(bytes: &'a [u8], at: u64) -> Result<Self, FormatError> {
        let short = |what: &'static str, found: usize| FormatError::value(NAME, what, at, found, "more bytes");
        let (rest, word) = bytes.split_last_chunk::<4>().ok_or_else(|| short("length", bytes.len()))?;
        let word = u32::from_le_bytes(*word);
        if word & SEPARATED != 0 {
            return Err(FormatError::unsupported(NAME, at, "keys and values stored apart"));
        }
        if word & !(RESTARTS | UNIFORM | HASH_INDEX) != 0 {
            let found = format_args!("{word:#010x}");
            return Err(FormatError::value(NAME, "footer word", at, found, "no bit above 27 but 29 and 31"));
        }
        let rest = if word & HASH_INDEX == 0 { rest } else { before_hash_index(rest, at)? };
        let count = usize::try_from(word & RESTARTS).unwrap_or(usize::MAX);
        let start = count.checked_mul(4).and_then(|size| rest.len().checked_sub(size));
        let (entries, restarts) = start
            .and_then(|start| rest.split_at_checked(start))
            .ok_or_else(|| FormatError::value(NAME, "restart count", at, count, "at most what the block holds"))?;
        if count == 0 && !entries.is_empty() {
            return Err(FormatError::value(NAME, "restart count", at, 0, "at least 1"));
        }
        Ok(Self { entries, restarts, at })
    }

    /// The bytes of all entries.
    #[must_use]
    pub const fn entry_bytes(&self) -> &'a [u8] {
        self.entries
    }

    /// Offsets of the entries that store their key whole.
    pub fn restarts(&self) -> impl Iterator<Item = u32> + 'a {
        self.restarts.chunks_exact(4).filter_map(fixed32)
    }

    /// Walks the entries from the first.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries { bytes: self.entries, walk: EntryWalk { at: self.at, ..EntryWalk::default() } }
    }

    /// Checks what readers rely on and a checksum cannot say: entries fill the block, restarts point at whole keys.
    ///
    /// # Errors
    ///
    /// At the first entry or restart offset that is wrong.
    pub fn check(&self) -> Result<u64, FormatError> {
        let mut restarts = self.restarts().peekable();
        let mut entries = self.entries();
        let mut count = 0_u64;
        loop {
            let position = u32::try_from(entries.position()).unwrap_or(u32::MAX);
            if !entries.advance()? {
                break;
            }
            count = count.saturating_add(1);
            if restarts.next_if_eq(&position).is_some() && entries.walk.shared != 0 {
                return Err(FormatError::value(NAME, "shared length at a restart", self.at, entries.walk.shared, 0));
            }
        }
        // An empty block has one restart at 0 that points at nothing.
        restarts.next_if_eq(&0);
        match restarts.next() {
            Some(left) => Err(FormatError::value(NAME, "restart offset", self.at, left, "the offset of an entry")),
            None => Ok(count),
        }
    }
}

fn before_hash_index(rest: &[u8], at: u64) -> Result<&[u8], FormatError> {
    let (rest, count) = rest
        .split_last_chunk::<2>()
        .ok_or_else(|| FormatError::value(NAME, "hash index", at, rest.len(), "at least 2 bytes"))?;
    let count = usize::from(u16::from_le_bytes(*count));
    let end = rest.len().checked_sub(count);
    end.and_then(|end| rest.get(..end))
        .ok_or_else(|| FormatError::value(NAME, "hash bucket count", at, count, "at most what the block holds"))
}

/// A walk over the entries of a block. The key is rebuilt in place, so it is lent, not given.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    walk: EntryWalk,
}

impl<'a> Entries<'a> {
    /// Moves to the next entry; `false` at the end.
    ///
    /// # Errors
    ///
    /// When an entry does not decode; the walk is then over.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, FormatError> {
        self.walk.advance(self.bytes)
    }

    /// Offset inside the unpacked block of the entry that comes next.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.walk.next
    }

    /// The key of the current entry.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.walk.key
    }

    /// The value of the current entry.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.bytes.get(self.walk.value.clone()).unwrap_or_default()
    }
}

/// The state of a walk, apart from the bytes walked over, so that a scan can own both.
#[derive(Clone, Debug, Default)]
pub struct EntryWalk {
    next: usize,
    key: Vec<u8>,
    value: std::ops::Range<usize>,
    shared: usize,
    at: u64,
}

impl EntryWalk {
    /// Starts anew, on a block whose packed form lies at `at`.
    pub fn restart(&mut self, at: u64) {
        self.next = 0;
        self.key.clear();
        self.value = 0..0;
        self.at = at;
    }

    /// Moves to the next entry of `bytes`, the entry section of a block; `false` at the end.
    ///
    /// # Errors
    ///
    /// When an entry does not decode; the walk is then over.
    #[inline]
    pub fn advance(&mut self, bytes: &[u8]) -> Result<bool, FormatError> {
        let rest = bytes.get(self.next..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        let Some((shared, non_shared, value_len, body)) = header(rest) else {
            return Err(self.broken(bytes, "entry header"));
        };
        let Some((suffix, tail)) = body.split_at_checked(non_shared) else {
            return Err(self.broken(bytes, "key length"));
        };
        if value_len > tail.len() {
            return Err(self.broken(bytes, "value length"));
        }
        if shared > self.key.len() {
            return Err(self.broken(bytes, "shared length"));
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        // Neither subtraction nor sum can wrap: all are parts of `bytes`.
        let start = bytes.len().wrapping_sub(tail.len());
        let end = start.wrapping_add(value_len);
        self.value = start..end;
        self.next = end;
        self.shared = shared;
        Ok(true)
    }

    #[cold]
    fn broken(&mut self, bytes: &[u8], field: &'static str) -> FormatError {
        let found = format!("wrong in the entry at {}", self.next);
        self.next = bytes.len();
        FormatError::value(NAME, field, self.at, found, "an entry that fits")
    }

    /// The key of the current entry.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Where the value of the current entry lies in the bytes walked over.
    #[inline]
    #[must_use]
    pub fn value(&self) -> std::ops::Range<usize> {
        self.value.clone()
    }
}

/// The three lengths before an entry, and what follows them.
#[inline]
fn header(bytes: &[u8]) -> Option<(usize, usize, usize, &[u8])> {
    if let [shared, non_shared, value, rest @ ..] = bytes
        && (shared | non_shared | value) & 0x80 == 0
    {
        return Some((usize::from(*shared), usize::from(*non_shared), usize::from(*value), rest));
    }
    let (shared, a) = varint32(bytes)?;
    let bytes = bytes.get(a..)?;
    let (non_shared, b) = varint32(bytes)?;
    let bytes = bytes.get(b..)?;
    let (value, c) = varint32(bytes)?;
    let usize_of = |n: u32| usize::try_from(n).ok();
    Some((usize_of(shared)?, usize_of(non_shared)?, usize_of(value)?, bytes.get(c..)?))
}

/// Builds a block of entries.
#[derive(Clone, Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    last: Vec<u8>,
    interval: usize,
    since: usize,
    count: u64,
}

impl BlockBuilder {
    /// A builder that stores every `interval`-th key whole.
    #[must_use]
    pub fn new(interval: usize) -> Self {
        Self { bytes: Vec::new(), restarts: vec![0], last: Vec::new(), interval: interval.max(1), since: 0, count: 0 }
    }

    /// Appends an entry; keys must come in order.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut shared = 0;
        if self.since >= self.interval {
            self.restarts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            self.since = 0;
        } else if self.since > 0 {
            shared = key.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        }
        let suffix = key.get(shared..).unwrap_or_default();
        for length in [shared, suffix.len(), value.len()] {
            super::coding::put_varint(&mut self.bytes, length as u64);
        }
        self.bytes.extend_from_slice(suffix);
        self.bytes.extend_from_slice(value);
        self.last.clear();
        self.last.extend_from_slice(key);
        self.since = self.since.saturating_add(1);
        self.count = self.count.saturating_add(1);
    }

    /// Bytes the block would have now.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len().saturating_add(self.restarts.len().saturating_mul(4)).saturating_add(4)
    }

    /// Entries so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The key added last.
    #[must_use]
    pub fn last_key(&self) -> &[u8] {
        &self.last
    }

    /// The finished block; the builder starts anew.
    pub fn finish(&mut self) -> Vec<u8> {
        let fresh = Self::new(self.interval);
        let done = std::mem::replace(self, fresh);
        let mut out = done.bytes;
        for restart in &done.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        let count = u32::try_from(done.restarts.len()).unwrap_or(RESTARTS);
        out.extend_from_slice(&count.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn collect(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, FormatError> {
        let block = Block::parse(bytes, 0)?;
        let mut entries = block.entries();
        let mut out = Vec::new();
        while entries.advance()? {
            out.push((entries.key().to_vec(), entries.value().to_vec()));
        }
        Ok(out)
    }

    proptest! {
        #[test]
        fn entries_come_back(map: std::collections::BTreeMap<Vec<u8>, Vec<u8>>, interval in 1_usize..20) {
            let mut builder = BlockBuilder::new(interval);
            for (key, value) in &map {
                builder.add(key, value);
            }
            let bytes = builder.finish();
            let want: Vec<_> = map.into_iter().collect();
            prop_assert_eq!(Block::parse(&bytes, 0).unwrap().check().unwrap(), want.len() as u64);
            prop_assert_eq!(collect(&bytes).unwrap(), want);
        }

        #[test]
        fn garbage_ends(garbage: Vec<u8>) {
            if let Ok(block) = Block::parse(&garbage, 0) {
                let _ = block.check();
            }
        }
    }

    #[test]
    fn a_hash_index_is_skipped() {
        let mut builder = BlockBuilder::new(16);
        builder.add(b"k", b"v");
        let mut bytes = builder.finish();
        bytes.truncate(bytes.len() - 4);
        bytes.extend_from_slice(&[255, 0, 254, 3, 0]);
        bytes.extend_from_slice(&(1_u32 | 1 << 31).to_le_bytes());
        assert_eq!(collect(&bytes).unwrap(), vec![(b"k".to_vec(), b"v".to_vec())]);
    }

    #[test]
    fn a_wrong_restart_is_found() {
        let mut builder = BlockBuilder::new(1);
        builder.add(b"a", b"1");
        builder.add(b"b", b"2");
        let mut bytes = builder.finish();
        assert!(Block::parse(&bytes, 0).unwrap().check().is_ok());
        let place = bytes.len() - 8;
        bytes[place] = 3;
        assert!(Block::parse(&bytes, 0).unwrap().check().is_err());
    }
}

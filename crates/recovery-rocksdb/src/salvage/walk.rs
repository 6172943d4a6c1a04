//! A walk over the blocks of a table that needs neither footer nor index.
//!
//! Blocks follow each other from offset 0, with zero padding between them in block-aligned tables. At each place the
//! payload's structure gives the lengths it may have ([`super::extent`]) and the checksum decides. Where no length
//! fits, every length is tried against the checksum while the budget lasts; then the walk moves on byte by byte until
//! a block verifies again. What lies between is reported.

use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Blob, Cursor, ReadError};

use crate::format::block::Block;
use crate::format::compression::{Compression, Decompressor, Dictionary};
use crate::format::handle::{TRAILER, TRAILER_LEN};
use crate::format::index::{IndexFormat, IndexType};
use crate::format::key::ParsedKey;
use crate::format::{BlockHandle, ChecksumType, Metaindex, TableProperties, ValueType, metaindex};

use super::extent::{self, Effort};
use super::profile::{NEAR, Profile, next_sector};

/// Longest block that is looked for, in bytes of payload.
const LONGEST: u64 = 32 << 20;
/// Longest block that is looked for by trying every length.
const TRIED: usize = 128 << 10;
/// Bytes that may be hashed by trying every length, beside a share of the file's own.
const BUDGET: u64 = 2 << 30;
/// Bytes read at once.
const READ_AHEAD: u64 = 1 << 20;

/// What a block is, judged by its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// Internal keys of point entries.
    Data {
        /// Its first internal key, as stored.
        first: Vec<u8>,
        /// Its last internal key, as stored.
        last: Vec<u8>,
        /// Number of entries.
        entries: u64,
    },
    /// Handles of blocks that the walk has met.
    Index,
    /// Table properties.
    Properties,
    /// Names and handles of meta blocks.
    Metaindex,
    /// Range tombstones.
    RangeDeletions,
    /// Verified, but of no kind that shows: a filter, a dictionary, a hash index.
    Opaque,
}

/// A block that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBlock {
    /// Where it is.
    pub handle: BlockHandle,
    /// What it is.
    pub kind: FoundKind,
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct TableWalk {
    /// Blocks that verified, in file order.
    pub blocks: Vec<FoundBlock>,
    /// Zero bytes between blocks.
    pub padding: Vec<Range<u64>>,
    /// Bytes in which no block verified.
    pub damaged: Vec<Range<u64>>,
    /// Bytes the medium did not give.
    pub unread: Vec<Range<u64>>,
}

/// A moving view of a file.
pub(crate) struct Window<'a> {
    blob: &'a Arc<dyn Blob>,
    bytes: Vec<u8>,
    at: u64,
    end: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(blob: &'a Arc<dyn Blob>, end: u64) -> Self {
        Self { blob, bytes: Vec::new(), at: 0, end: end.min(blob.len()) }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.end
    }

    /// The bytes at `at`: at least `n` unless the file ends before or cannot be read so far; never none.
    pub(crate) fn look(&mut self, at: u64, n: u64) -> Result<&[u8], ReadError> {
        let have = self.at.saturating_add(self.bytes.len() as u64);
        let want = at.saturating_add(n).min(self.end);
        if at < self.at || want > have || at >= have {
            self.fill(at, at.saturating_add(n.max(READ_AHEAD)).min(self.end))?;
        }
        let skip = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }

    fn fill(&mut self, at: u64, end: u64) -> Result<(), ReadError> {
        let mut length = end.saturating_sub(at);
        self.at = at;
        loop {
            self.bytes.resize(usize::try_from(length).unwrap_or(0), 0);
            match self.blob.read_exact_at(at, &mut self.bytes) {
                Ok(()) => return Ok(()),
                // Come closer to the bad sector; bytes before it are good.
                Err(_) if length > 512 => length /= 2,
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
    }
}

/// Says what an unpacked block is. `known` are the blocks met so far, in order: an index points at them.
pub(crate) fn classify(raw: &[u8], at: u64, known: &[BlockHandle]) -> FoundKind {
    let Ok(block) = Block::parse(raw, at) else { return FoundKind::Opaque };
    if is_index(raw, at, known) {
        return FoundKind::Index;
    }
    if let Ok(meta) = Metaindex::decode(raw, at)
        && (meta.properties().is_some() || meta.get(metaindex::INDEX).is_some())
    {
        return FoundKind::Metaindex;
    }
    let mut entries = block.entries();
    let (mut first, mut last, mut count, mut ranges) = (None, Vec::new(), 0_u64, 0_u64);
    loop {
        match entries.advance() {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return FoundKind::Opaque,
        }
        if count == 0 && entries.key().starts_with(b"rocksdb.") && TableProperties::decode(raw, at).is_ok() {
            return FoundKind::Properties;
        }
        let Some(key) = ParsedKey::parse(entries.key()).filter(|k| k.value_type.in_table()) else {
            return FoundKind::Opaque;
        };
        if key.value_type == ValueType::RangeDeletion {
            ranges = ranges.saturating_add(1);
        }
        count = count.saturating_add(1);
        first.get_or_insert_with(|| entries.key().to_vec());
        last.clear();
        last.extend_from_slice(entries.key());
    }
    match first {
        Some(_) if ranges == count => FoundKind::RangeDeletions,
        Some(first) if ranges == 0 && block.check().is_ok() => FoundKind::Data { first, last, entries: count },
        _ => FoundKind::Opaque,
    }
}

/// An index points only at blocks that are there; a data block's values do so by no accident.
fn is_index(raw: &[u8], at: u64, known: &[BlockHandle]) -> bool {
    if known.is_empty() {
        return false;
    }
    [
        (false, IndexType::BinarySearch),
        (true, IndexType::BinarySearch),
        (false, IndexType::WithFirstKey),
        (true, IndexType::WithFirstKey),
    ]
    .into_iter()
    .any(|(delta, kind)| {
        let format = IndexFormat { kind, user_keys: true, delta };
        let (mut entries, mut hits) = (0_u64, 0_u64);
        let walked = format.walk(raw, at, |entry| {
            entries = entries.saturating_add(1);
            if known.binary_search(&entry.handle).is_ok() {
                hits = hits.saturating_add(1);
            }
        });
        // Blocks that are damaged are not known, so not every entry has to hit.
        walked.is_ok() && hits > 0 && hits.saturating_mul(2) >= entries
    })
}

impl TableWalk {
    /// Walks the bytes `range` of a file whose blocks are sealed and wrapped as `profile` says.
    #[must_use]
    pub fn run(
        blob: &Arc<dyn Blob>,
        range: Range<u64>,
        profile: Profile,
        dictionary: Option<&Dictionary>,
        limit: usize,
    ) -> Self {
        let budget = BUDGET.saturating_add(range.end.saturating_sub(range.start).saturating_mul(16));
        let mut walker = Walker {
            window: Window::new(blob, range.end),
            profile,
            dictionary: dictionary.cloned(),
            limit,
            budget,
            known: Vec::new(),
            kinds: std::collections::BTreeSet::new(),
            out: Self::default(),
        };
        walker.run(range.start);
        walker.out
    }

    /// The data blocks.
    pub fn data(&self) -> impl Iterator<Item = &FoundBlock> {
        self.blocks.iter().filter(|block| matches!(block.kind, FoundKind::Data { .. }))
    }

    /// The first block of a kind.
    #[must_use]
    pub fn find(&self, kind: &FoundKind) -> Option<BlockHandle> {
        self.blocks.iter().find(|block| block.kind == *kind).map(|block| block.handle)
    }
}

struct Walker<'a> {
    window: Window<'a>,
    profile: Profile,
    dictionary: Option<Dictionary>,
    limit: usize,
    budget: u64,
    known: Vec<BlockHandle>,
    /// Type bytes of the blocks met.
    kinds: std::collections::BTreeSet<u8>,
    out: TableWalk,
}

impl Walker<'_> {
    fn run(&mut self, mut at: u64) {
        while at < self.window.len() {
            let before = at;
            at = self.padding(at);
            if at >= self.window.len() {
                break;
            }
            at = match self.block_at(at, Effort::Start) {
                Ok(Some((handle, kind))) => self.accept(handle, kind),
                Ok(None) => self.resync(at),
                Err(_) => {
                    let next = next_sector(at).min(self.window.len());
                    push(&mut self.out.unread, at..next);
                    next
                }
            };
            debug_assert!(at > before);
        }
    }

    fn accept(&mut self, handle: BlockHandle, kind: FoundKind) -> u64 {
        self.known.push(handle);
        self.out.blocks.push(FoundBlock { handle, kind });
        handle.end()
    }

    /// Moves over zeros; they are padding when at least eight follow each other or they end the file.
    fn padding(&mut self, at: u64) -> u64 {
        let mut end = at;
        while end < self.window.len() {
            let Ok(bytes) = self.window.look(end, 4096) else { break };
            let zeros = bytes.iter().take_while(|b| **b == 0).count();
            end = end.saturating_add(zeros as u64);
            if zeros < bytes.len() {
                break;
            }
        }
        end = end.min(self.window.len());
        let run = end.saturating_sub(at);
        // A raw block starts with the zero of its first entry's shared length, perhaps with an empty key behind it.
        let keep = if end == self.window.len() { 0 } else { self.leading_zeros(at, end) };
        let end = end.saturating_sub(keep);
        if run >= 8 && end > at {
            push(&mut self.out.padding, at..end);
            return end;
        }
        at
    }

    /// How many of the zeros before `end` belong to the block behind them.
    fn leading_zeros(&mut self, at: u64, end: u64) -> u64 {
        let most = end.saturating_sub(at).min(3);
        let fits =
            |this: &mut Self, n: &u64| matches!(this.block_at(end.saturating_sub(*n), Effort::Slide), Ok(Some(_)));
        (0..=most).find(|n| fits(self, n)).unwrap_or(0)
    }

    /// The block that starts at `at`, if one verifies there.
    fn block_at(&mut self, at: u64, effort: Effort) -> Result<Option<(BlockHandle, FoundKind)>, ReadError> {
        let (profile, limit, thorough) = (self.profile, self.limit, effort == Effort::Start);
        let dictionary = self.dictionary.clone();
        let end = self.window.len();
        let mut bytes = self.window.look(at, 64 << 10)?;
        let mut lengths = extent::lengths(bytes, profile.container, dictionary.as_ref(), effort);
        if lengths.is_empty() && thorough && at.saturating_add(bytes.len() as u64) < end {
            bytes = self.window.look(at, LONGEST)?;
            lengths = extent::lengths(bytes, profile.container, dictionary.as_ref(), effort);
        }
        let mut hit = lengths.into_iter().find(|n| verifies(profile, bytes, *n, at));
        if hit.is_none() && thorough && profile.seal.algorithm != ChecksumType::None {
            let head = bytes.get(..TRIED.min(bytes.len())).unwrap_or_default();
            let cost = (head.len() as u64).saturating_mul(head.len() as u64) / 64;
            if cost <= self.budget {
                hit = extent::every_length(head).find(|n| verifies(profile, head, *n, at));
                self.budget = self.budget.saturating_sub(cost);
            }
        }
        let Some(length) = hit else { return Ok(None) };
        let handle = BlockHandle { offset: at, size: length as u64 };
        let (payload, kind) = (bytes.get(..length).unwrap_or_default(), bytes.get(length).copied().unwrap_or(0));
        self.kinds.insert(kind);
        let mut raw = Vec::new();
        let unpack = |dictionary: Option<&Dictionary>, raw: &mut Vec<u8>| {
            Decompressor::default().unpack(kind, payload, profile.container, dictionary, limit, raw)
        };
        if unpack(dictionary.as_ref(), &mut raw).is_err() && unpack(None, &mut raw).is_err() {
            let opaque = profile.seal.algorithm != ChecksumType::None;
            return Ok(opaque.then_some((handle, FoundKind::Opaque)));
        }
        let found = classify(&raw, at, &self.known);
        // Without a checksum only a block that decodes whole is believed.
        if profile.seal.algorithm == ChecksumType::None && found == FoundKind::Opaque {
            return Ok(None);
        }
        Ok(Some((handle, found)))
    }

    /// Goes on behind bytes in which nothing verifies; gives the start of the next block or the end.
    fn resync(&mut self, from: u64) -> u64 {
        let mut at = from.saturating_add(1);
        while at < self.window.len() {
            match self.plausible(at) {
                Ok(false) => at = at.saturating_add(1),
                Ok(true) => match self.block_at(at, self.effort_at(at.saturating_sub(from))) {
                    Ok(Some((_, kind))) if kind != FoundKind::Opaque => break,
                    _ => at = at.saturating_add(1),
                },
                Err(_) => break,
            }
        }
        let end = at.min(self.window.len());
        if let Some(handle) = self.single_block(from, end) {
            return self.accept(handle, FoundKind::Opaque);
        }
        push(&mut self.out.damaged, from..end);
        end
    }

    /// Deflate is tried far from the last good block only where deflated blocks have been met, or none at all.
    fn effort_at(&self, slid: u64) -> Effort {
        let deflated = self.kinds.contains(&Compression::Zlib.byte()) || self.known.is_empty() && slid < 16 * NEAR;
        if slid < NEAR || deflated { Effort::Slide } else { Effort::Hurry }
    }

    /// Is everything between two blocks one block that no structure shows (a filter, a dictionary)?
    fn single_block(&mut self, from: u64, end: u64) -> Option<BlockHandle> {
        let size = end.checked_sub(from)?.checked_sub(TRAILER)?;
        if size > LONGEST || self.profile.seal.algorithm == ChecksumType::None {
            return None;
        }
        let profile = self.profile;
        let bytes = self.window.look(from, size.saturating_add(TRAILER)).ok()?;
        let length = usize::try_from(size).ok()?;
        let known = bytes.get(length).is_some_and(|kind| Compression::from_byte(*kind).is_some());
        (known && verifies(profile, bytes, length, from)).then_some(BlockHandle { offset: from, size })
    }

    /// A cheap first look at a place: could a block start here at all?
    fn plausible(&mut self, at: u64) -> Result<bool, ReadError> {
        let bytes = self.window.look(at, 16)?;
        let raw = bytes.first() == Some(&0) && bytes.get(1).is_some_and(|n| *n >= 1);
        let mut c = Cursor::new(bytes, at);
        let packed = c.varint32("size").is_ok_and(|size| size > 0 && u64::from(size) <= LONGEST.saturating_mul(4));
        Ok(raw || packed)
    }
}

pub(crate) fn verifies(profile: Profile, bytes: &[u8], length: usize, at: u64) -> bool {
    let end = length.saturating_add(TRAILER_LEN);
    bytes
        .get(..end)
        .and_then(|block| block.split_last_chunk::<4>())
        .is_some_and(|(sealed, stored)| profile.seal.fits(at, sealed, u32::from_le_bytes(*stored)))
}

fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

//! Salvage of one table: every good block, its tombstones, and the lost key ranges.

use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Blob, Context, Error, parallel};

use crate::format::block::Block;
use crate::format::compression::{Container, Decompressor, Dictionary};
use crate::format::key::{KeyOrder, ParsedKey, SequenceNumber, user_key};
use crate::format::{BlockHandle, Footer, FormatError, Metaindex, TableProperties, metaindex};
use crate::reader::table::{decode_tombstones, global_seqno, read_footer, read_properties};
use crate::reader::{BlockReader, KeyRewrite, TableError, TableIndex, TableOptions, TableScan, Tombstone};

use super::mend::{Mend, Mended, Mender, PatchedBlob, Patches};
use super::profile::Profile;
use super::walk::{FoundKind, TableWalk, Window};

/// A part of a table other than its data blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TablePart {
    Footer,
    Metaindex,
    Properties,
    Index,
    Dictionary,
    RangeDeletions,
}

impl TablePart {
    /// The word for it in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Footer => "footer",
            Self::Metaindex => "metaindex",
            Self::Properties => "properties",
            Self::Index => "index",
            Self::Dictionary => "compression dictionary",
            Self::RangeDeletions => "range deletions",
        }
    }
}

/// A data block that verified and decodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodBlock {
    /// Where it is.
    pub handle: BlockHandle,
    /// Its first internal key, as stored.
    pub first: Vec<u8>,
    /// Its last internal key, as stored.
    pub last: Vec<u8>,
    /// Number of entries.
    pub entries: u64,
}

/// A stretch of the table whose entries are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Bytes of the file.
    pub range: Range<u64>,
    /// Lost user keys are at or behind this one (the last good key before, which older versions of the same key may
    /// follow); `None`: from the beginning.
    pub after: Option<Vec<u8>>,
    /// Lost user keys are at or before this one; `None`: to the end.
    pub upto: Option<Vec<u8>>,
}

/// What could be had from one table.
#[derive(Clone, Debug)]
pub struct Salvaged {
    blocks: BlockReader,
    rewrite: KeyRewrite,
    stripped: bool,
    /// The footer, when it is intact.
    pub footer: Option<Footer>,
    /// How blocks are sealed and wrapped: from the footer, or from the blocks themselves.
    pub profile: Profile,
    /// The properties, when they are intact.
    pub properties: Option<TableProperties>,
    /// Good data blocks in file order.
    pub good: Vec<GoodBlock>,
    /// What is lost, in file order.
    pub lost: Vec<LostRange>,
    /// Range tombstones.
    pub tombstones: Vec<Tombstone>,
    /// Range tombstones that are gone; `None` when nobody knows how many there were.
    pub tombstones_lost: Option<u64>,
    /// Blocks that do not match their checksums and were had all the same.
    pub mended: Vec<Mended>,
    /// Parts that are damaged, and how.
    pub broken: Vec<(TablePart, TableError)>,
    /// The walk over the file, when the index did not serve.
    pub walk: Option<TableWalk>,
    /// Good blocks that were set aside because their keys do not follow the ones before.
    pub out_of_order: Vec<BlockHandle>,
}

/// What can be read of a table's frame, each part on its own.
pub(crate) struct Frame {
    pub(crate) footer: Result<Footer, TableError>,
    pub(crate) blocks: Option<BlockReader>,
    pub(crate) metaindex: Option<Result<Metaindex, TableError>>,
    pub(crate) properties: Option<Result<TableProperties, TableError>>,
    pub(crate) dictionary: Option<TableError>,
    pub(crate) index: Option<Result<TableIndex, TableError>>,
}

impl Frame {
    pub(crate) fn read(blob: &Arc<dyn Blob>, limit: usize) -> Self {
        let mut frame = Self {
            footer: read_footer(&**blob),
            blocks: None,
            metaindex: None,
            properties: None,
            dictionary: None,
            index: None,
        };
        let Ok(footer) = &frame.footer else { return frame };
        let footer = *footer;
        let mut blocks = BlockReader {
            blob: Arc::clone(blob),
            seal: footer.seal,
            container: Container::of(footer.format_version),
            dictionary: None,
            limit,
        };
        let metaindex = blocks.read(footer.metaindex, "metaindex block").and_then(|bytes| {
            Metaindex::decode(&bytes, footer.metaindex.offset).map_err(|e| TableError::format(blocks.name(), e))
        });
        if let Ok(meta) = &metaindex {
            frame.properties = meta.properties().map(|handle| read_properties(&blocks, handle));
            if let Some(handle) = meta.get(metaindex::DICTIONARY) {
                match blocks.read(handle, "compression dictionary") {
                    Ok(raw) => blocks.dictionary = (!raw.is_empty()).then(|| Dictionary::new(&raw)),
                    Err(error) => frame.dictionary = Some(error),
                }
            }
            frame.index = frame.read_index(&blocks, footer.index.or_else(|| meta.get(metaindex::INDEX)));
        } else {
            frame.index = frame.read_index(&blocks, footer.index);
        }
        frame.metaindex = Some(metaindex);
        frame.blocks = Some(blocks);
        frame
    }

    /// Without properties nobody says how the index is encoded; a wrong guess must not decode by luck, so the walk
    /// takes over then.
    fn read_index(&self, blocks: &BlockReader, handle: Option<BlockHandle>) -> Option<Result<TableIndex, TableError>> {
        let Some(Ok(properties)) = &self.properties else { return None };
        if properties.index_type.is_some_and(|n| crate::format::IndexType::from_number(n).is_none()) {
            let what = format!("index type {}", properties.index_type.unwrap_or_default());
            let at = handle.map_or(0, |h| h.offset);
            let source = FormatError::unsupported("index block", at, what);
            return Some(Err(TableError::format(blocks.name(), source)));
        }
        handle.map(|handle| TableIndex::read(blocks, handle, properties.index))
    }
}

impl Salvaged {
    /// Takes everything good out of a table, however damaged its frame is.
    ///
    /// `order` is the family's comparator where it is known; it guards against blocks that do not belong.
    ///
    /// # Errors
    ///
    /// When the table is of a kind that is not supported, nothing in it decodes, or the caller asked to stop.
    pub fn run(
        blob: &Arc<dyn Blob>,
        options: &TableOptions,
        order: Option<&KeyOrder>,
        cx: &Context,
    ) -> Result<Self, Error> {
        let frame = Frame::read(blob, options.block_limit);
        if let Err(error) = &frame.footer
            && error.is_unsupported()
        {
            return Err(error.clone().into());
        }
        let mut out = Self::start(blob, &frame, options)?;
        let order = order
            .cloned()
            .or_else(|| out.properties.as_ref().and_then(|p| p.comparator.as_deref()).and_then(KeyOrder::by_name));
        match &frame.index {
            Some(Ok(index)) => {
                out.by_index(index, order.as_ref(), options.mend, cx)?;
                if out.good.is_empty() && !out.lost.is_empty() {
                    out.retry_container(index, cx)?;
                }
            }
            _ => out.by_walk(&frame, options)?,
        }
        out.read_tail(&frame, options)?;
        out.infer_stripped(order.as_ref(), options);
        out.check_order(order.as_ref());
        out.infer_global_seqno(options);
        Ok(out)
    }

    fn start(blob: &Arc<dyn Blob>, frame: &Frame, options: &TableOptions) -> Result<Self, Error> {
        let mut broken = Vec::new();
        let mut note = |part, error: Option<&TableError>| {
            if let Some(error) = error {
                broken.push((part, error.clone()));
            }
        };
        note(TablePart::Footer, frame.footer.as_ref().err());
        note(TablePart::Metaindex, frame.metaindex.as_ref().and_then(|r| r.as_ref().err()));
        note(TablePart::Properties, frame.properties.as_ref().and_then(|r| r.as_ref().err()));
        note(TablePart::Index, frame.index.as_ref().and_then(|r| r.as_ref().err()));
        note(TablePart::Dictionary, frame.dictionary.as_ref());
        // A wrong version in an unchecked footer shows in payloads that verify and do not unpack.
        let unpacks = !matches!(frame.index, Some(Err(TableError::Unpack { .. })));
        let trusted = matches!(frame.metaindex, Some(Ok(_))) && unpacks;
        let from_footer = frame
            .footer
            .as_ref()
            .ok()
            .map(|footer| Profile { seal: footer.seal, container: Container::of(footer.format_version) });
        let profile =
            match from_footer {
                Some(profile) if trusted => profile,
                other => Profile::guess(&mut Window::new(blob, blob.len()), options.block_limit).or(other).ok_or_else(
                    || Error::Unusable(format!("{}: no block in this file decodes as part of a table", blob.name())),
                )?,
            };
        let blocks = BlockReader {
            blob: Arc::clone(blob),
            seal: profile.seal,
            container: profile.container,
            dictionary: frame.blocks.as_ref().and_then(|b| b.dictionary.clone()),
            limit: options.block_limit,
        };
        Ok(Self {
            blocks,
            rewrite: KeyRewrite::default(),
            stripped: false,
            footer: frame.footer.as_ref().ok().copied(),
            profile,
            properties: frame.properties.as_ref().and_then(|r| r.as_ref().ok()).cloned(),
            good: Vec::new(),
            lost: Vec::new(),
            tombstones: Vec::new(),
            tombstones_lost: Some(0),
            mended: Vec::new(),
            broken,
            walk: None,
            out_of_order: Vec::new(),
        })
    }

    /// The index is intact: every block's place is known, each is judged on its own, in parallel.
    fn by_index(&mut self, index: &TableIndex, order: Option<&KeyOrder>, how: Mend, cx: &Context) -> Result<(), Error> {
        let numbers: Vec<usize> = (0..index.len()).collect();
        let handles = index.handles();
        let mender = Mender::new(&self.blocks, order, how);
        let judge = |_: usize, block: &usize| {
            let handle = handles.get(*block).copied().unwrap_or_default();
            match examine(&self.blocks, handle) {
                Ok(good) => Some((good, None)),
                Err(error) => {
                    let before = block.checked_sub(1).and_then(|b| index.separator_user_key(b));
                    let (good, mended, patches) =
                        mender.mend(handle, &error, (before, index.separator_user_key(*block)))?;
                    Some((good, Some((mended, patches))))
                }
            }
        };
        let judged = parallel::map(cx, &numbers, judge)?;
        let mut after = None;
        let mut all = Patches::new();
        for ((number, handle), good) in handles.iter().enumerate().zip(judged) {
            match good {
                Some((block, mended)) => {
                    self.good.push(block);
                    if let Some((mended, patches)) = mended {
                        self.mended.push(mended);
                        all.extend(patches);
                    }
                }
                None => self.lost.push(LostRange {
                    range: handle.range(),
                    after: after.clone(),
                    upto: index.separator_user_key(number).map(<[u8]>::to_vec),
                }),
            }
            after = index.separator_user_key(number).map(<[u8]>::to_vec);
        }
        if !all.is_empty() {
            self.blocks.blob = Arc::new(PatchedBlob::new(Arc::clone(&self.blocks.blob), all));
        }
        Ok(())
    }

    /// Every block failed: perhaps the version in an unchecked footer is wrong, and with it the container.
    fn retry_container(&mut self, index: &TableIndex, cx: &Context) -> Result<(), Error> {
        let lost = std::mem::take(&mut self.lost);
        let before = self.profile.container;
        self.profile.container = match before {
            Container::Legacy => Container::Sized,
            Container::Sized => Container::Legacy,
        };
        self.blocks.container = self.profile.container;
        self.by_index(index, None, Mend { correct: false, ignore_checksums: false }, cx)?;
        if self.good.is_empty() {
            self.lost = lost;
            self.profile.container = before;
            self.blocks.container = before;
        }
        Ok(())
    }

    /// No index: the walk finds the blocks, and the keys around a gap bound what is lost in it.
    fn by_walk(&mut self, frame: &Frame, options: &TableOptions) -> Result<(), Error> {
        let blob = Arc::clone(&self.blocks.blob);
        let end = frame.footer.as_ref().map_or(blob.len(), |footer| footer.offset);
        let run = |dictionary: Option<&Dictionary>, profile: Profile| {
            TableWalk::run(&blob, 0..end, profile, dictionary, options.block_limit)
        };
        let mut walk = run(self.blocks.dictionary.as_ref(), self.profile);
        if self.blocks.dictionary.is_none()
            && let Some(dictionary) = self.find_dictionary(&walk)
        {
            walk = run(Some(&dictionary), self.profile);
            self.blocks.dictionary = Some(dictionary);
        }
        self.good = walk
            .blocks
            .iter()
            .filter_map(|block| match &block.kind {
                FoundKind::Data { first, last, entries } => Some(GoodBlock {
                    handle: block.handle,
                    first: first.clone(),
                    last: last.clone(),
                    entries: *entries,
                }),
                _ => None,
            })
            .collect();
        if self.properties.is_none()
            && let Some(handle) = walk.find(&FoundKind::Properties)
        {
            self.properties = read_properties(&self.blocks, handle).ok();
        }
        self.lose_gaps(&walk);
        self.walk = Some(walk);
        if self.good.is_empty() && self.walk.as_ref().is_none_or(|w| w.blocks.is_empty()) {
            let message = format!("{}: no block of this file verifies", self.blocks.name());
            return Err(Error::Unusable(message));
        }
        Ok(())
    }

    /// Data blocks that verify and do not unpack want a dictionary: one of the blocks that show no structure.
    fn find_dictionary(&self, walk: &TableWalk) -> Option<Dictionary> {
        let opaque = || walk.blocks.iter().filter(|b| b.kind == FoundKind::Opaque).map(|b| b.handle);
        let first = opaque().next()?;
        opaque().skip(1).take(64).find_map(|handle| {
            let raw = self.blocks.raw(handle, "compression dictionary").ok()?;
            let (payload, kind) = crate::reader::Sealed::split(&raw)?.payload();
            let dictionary = (kind == 0 && !payload.is_empty()).then(|| Dictionary::new(payload))?;
            let reader = BlockReader { dictionary: Some(dictionary.clone()), ..self.blocks.clone() };
            examine(&reader, first).ok().map(|_| dictionary)
        })
    }

    /// Where data can be missing: damage before the last data block, and behind it when nothing shows where data ends.
    fn lose_gaps(&mut self, walk: &TableWalk) {
        let tail_start = self.properties.as_ref().and_then(|p| p.tail_start.or(p.data_size));
        let first_meta = walk
            .blocks
            .iter()
            .find(|b| !matches!(b.kind, FoundKind::Data { .. } | FoundKind::Opaque) && self.behind_data(b.handle));
        let data_end = tail_start.or(first_meta.map(|b| b.handle.offset)).unwrap_or(u64::MAX);
        let opaque = walk.blocks.iter().filter(|b| b.kind == FoundKind::Opaque && !self.behind_data(b.handle));
        let mut gaps: Vec<Range<u64>> = opaque.map(|b| b.handle.range()).collect();
        gaps.extend(walk.damaged.iter().chain(&walk.unread).cloned());
        gaps.sort_by_key(|gap| gap.start);
        for gap in gaps.into_iter().filter(|gap| gap.start < data_end) {
            let before = self.good.iter().rev().find(|b| b.handle.offset < gap.start);
            let behind = self.good.iter().find(|b| b.handle.offset >= gap.end);
            self.lost.push(LostRange {
                after: before.map(|b| user_key(&b.last).to_vec()),
                upto: behind.map(|b| user_key(&b.first).to_vec()),
                range: gap.start..gap.end.min(data_end.max(gap.start)),
            });
        }
    }

    fn behind_data(&self, handle: BlockHandle) -> bool {
        self.good.last().is_none_or(|last| handle.offset > last.handle.offset)
    }

    /// Properties, dictionary and tombstones that the metaindex could not give are looked for behind the data.
    fn read_tail(&mut self, frame: &Frame, options: &TableOptions) -> Result<(), Error> {
        let known = frame.metaindex.as_ref().and_then(|r| r.as_ref().ok());
        if (known.is_none() || self.properties.is_none()) && self.walk.is_none() {
            let start = self.good.last().map_or(0, |b| b.handle.end());
            let start = self.lost.last().map_or(start, |lost| lost.range.end.max(start));
            let end = self.footer.map_or(self.blocks.blob.len(), |footer| footer.offset);
            let blob = &self.blocks.blob;
            self.walk = Some(TableWalk::run(blob, start..end, self.profile, None, options.block_limit));
        }
        let found = |kind: &FoundKind| self.walk.as_ref().and_then(|walk| walk.find(kind));
        if self.properties.is_none()
            && let Some(handle) = found(&FoundKind::Properties)
        {
            self.properties = read_properties(&self.blocks, handle).ok();
        }
        let handle = match known {
            Some(meta) => meta.get(metaindex::RANGE_DELETIONS),
            None => found(&FoundKind::RangeDeletions),
        };
        self.set_rewrite(options)?;
        let read = handle.map(|handle| {
            self.blocks.read(handle, "range-deletion block").and_then(|bytes| {
                decode_tombstones(&bytes, handle.offset, self.rewrite)
                    .map_err(|source| TableError::format(self.blocks.name(), source))
            })
        });
        let expected = self.properties.as_ref().map(|p| p.num_range_deletions.unwrap_or(0));
        match read {
            Some(Ok(tombstones)) => self.tombstones = tombstones,
            Some(Err(error)) => {
                self.broken.push((TablePart::RangeDeletions, error));
                self.tombstones_lost = expected;
            }
            // The tail was looked through without meeting any.
            None if known.is_none() => self.tombstones_lost = expected,
            None => {}
        }
        Ok(())
    }

    /// Whether the timestamps of its keys were not persisted.
    pub(crate) const fn is_stripped(&self) -> bool {
        self.stripped
    }

    /// Properties are lost: blocks whose keys ascend only as keys without timestamps hold such keys.
    fn infer_stripped(&mut self, order: Option<&KeyOrder>, options: &TableOptions) {
        let Some(order) = order.filter(|o| self.properties.is_none() && o.timestamp_size() > 0) else { return };
        let bare = order.of_stripped_keys();
        let ascend = |order: &KeyOrder| {
            let inside = |b: &GoodBlock| b.entries < 2 || order.compare_internal(&b.first, &b.last).is_lt();
            let pairs = self.good.iter().zip(self.good.iter().skip(1));
            self.good.iter().all(inside)
                && pairs.into_iter().all(|(a, b)| order.compare_internal(&a.last, &b.first).is_lt())
        };
        if !ascend(order) && ascend(&bare) {
            self.stripped = true;
            self.rewrite.timestamp = options.timestamp_size;
        }
    }

    fn set_rewrite(&mut self, options: &TableOptions) -> Result<(), Error> {
        let Some(properties) = &self.properties else { return Ok(()) };
        let stripped = properties.timestamps_persisted == Some(false);
        self.stripped = stripped;
        self.rewrite = KeyRewrite {
            global_seqno: global_seqno(properties, options.global_seqno)
                .map_err(|source| TableError::format(self.blocks.name(), source))?,
            timestamp: if stripped { options.timestamp_size } else { 0 },
        };
        Ok(())
    }

    /// Properties are lost: a table of nothing but sequence number 0 that the MANIFEST gives one number is ingested.
    fn infer_global_seqno(&mut self, options: &TableOptions) {
        let Some(told) = options.global_seqno.filter(|seqno| seqno.0 > 0) else { return };
        if self.properties.is_some() || self.good.is_empty() {
            return;
        }
        let zero = |key: &[u8]| ParsedKey::parse(key).is_some_and(|k| k.sequence == SequenceNumber(0));
        if !self.good.iter().all(|b| zero(&b.first) && zero(&b.last)) {
            return;
        }
        let mut scan = self.scan();
        while scan.advance().unwrap_or(false) {
            if !zero(scan.key()) {
                return;
            }
        }
        self.rewrite.global_seqno = Some(told);
    }

    /// Sets blocks aside whose keys do not come behind those before: they verify, but belong to something else.
    fn check_order(&mut self, order: Option<&KeyOrder>) {
        let Some(order) = order else { return };
        if self.walk.is_none() {
            return;
        }
        let stripped = self.is_stripped().then(|| order.of_stripped_keys());
        let order = stripped.as_ref().unwrap_or(order);
        let mut last: Option<Vec<u8>> = None;
        let mut aside = Vec::new();
        self.good.retain(|block| {
            let follows = last.as_ref().is_none_or(|last| order.compare_internal(last, &block.first).is_lt());
            if follows {
                last = Some(block.last.clone());
            } else {
                aside.push(block.handle);
            }
            follows
        });
        self.out_of_order = aside;
    }

    /// Point entries in the good blocks.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.good.iter().map(|block| block.entries).fold(0, u64::saturating_add)
    }

    /// Point entries that are gone, where the properties tell how many there were.
    #[must_use]
    pub fn entries_lost(&self) -> Option<u64> {
        let properties = self.properties.as_ref()?;
        let all = properties.num_entries?.saturating_sub(properties.num_range_deletions.unwrap_or(0));
        Some(all.saturating_sub(self.entries()))
    }

    /// Is every entry and every tombstone there?
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.tombstones_lost == Some(0) && self.entries_lost().unwrap_or(0) == 0
    }

    /// Walks the good entries, keys as readers see them.
    #[must_use]
    pub fn scan(&self) -> TableScan {
        self.scan_with(self.rewrite)
    }

    /// Walks the good entries for a new table: the global sequence number in place, timestamps left as stored.
    pub(crate) fn scan_for_rewrite(&self) -> TableScan {
        self.scan_with(KeyRewrite { timestamp: 0, ..self.rewrite })
    }

    /// What a view needs to read the good blocks.
    pub(crate) fn parts(&self) -> (BlockReader, KeyRewrite) {
        (self.blocks.clone(), self.rewrite)
    }

    fn scan_with(&self, rewrite: KeyRewrite) -> TableScan {
        let handles: Arc<[BlockHandle]> = self.good.iter().map(|block| block.handle).collect();
        let all = 0..handles.len();
        TableScan::new(self.blocks.clone(), rewrite, handles, all)
    }
}

/// Reads one data block to its last entry.
pub(crate) fn examine(reader: &BlockReader, handle: BlockHandle) -> Result<GoodBlock, TableError> {
    let bytes = reader.raw(handle, "data block")?;
    let mut raw = Vec::new();
    let dictionary = reader.dictionary.as_ref();
    reader.unpack(&mut Decompressor::default(), handle, &bytes, "data block", dictionary, &mut raw)?;
    let named = |source| TableError::format(reader.name(), source);
    let block = Block::parse(&raw, handle.offset).map_err(named)?;
    block.check().map_err(named)?;
    let mut entries = block.entries();
    let mut good = GoodBlock { handle, first: Vec::new(), last: Vec::new(), entries: 0 };
    while entries.advance().map_err(named)? {
        if ParsedKey::parse(entries.key()).is_none_or(|key| !key.value_type.in_table()) {
            let found = crate::format::coding::hex(entries.key().last_chunk::<8>().map_or(&[][..], |t| t));
            let expected = "a known value type";
            return Err(named(FormatError::value("data block", "internal key", handle.offset, found, expected)));
        }
        if good.entries == 0 {
            good.first = entries.key().to_vec();
        }
        good.entries = good.entries.saturating_add(1);
        good.last.clear();
        good.last.extend_from_slice(entries.key());
    }
    Ok(good)
}

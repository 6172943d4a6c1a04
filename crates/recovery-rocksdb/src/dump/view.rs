//! The inputs of a family's rows, and the cut of its key space into shards.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use recovery_core::{Blob, Context, Error, parallel};

use crate::format::key::{InternalKey, KeyOrder, ParsedKey, SequenceNumber};
use crate::format::{BlockHandle, ValueType};
use crate::reader::{
    BlobFile, BlockReader, KeyRewrite, TableError, TableIndex, TableOptions, TableReader, TableScan, Tombstone,
};
use crate::salvage::Salvaged;

use super::cover::{Cover, Piece};
use super::merge::{Input, Merge};
use super::operator::MergeOperator;
use super::rows::{Row, Rows};

/// A place between keys: before the key, or (`after`) behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// A user key without timestamp.
    pub key: Vec<u8>,
    /// Behind the key rather than before it.
    pub after: bool,
}

impl Bound {
    /// The order of places.
    #[must_use]
    pub fn compare(&self, other: &Self, order: &KeyOrder) -> Ordering {
        order.compare_without_timestamp(&self.key, &other.key).then_with(|| self.after.cmp(&other.after))
    }

    /// Does the key lie behind this place (or at it, for one before a key)?
    #[must_use]
    pub fn is_at_or_before(&self, key: &[u8], order: &KeyOrder) -> bool {
        match order.compare_without_timestamp(&self.key, key) {
            Ordering::Less => true,
            Ordering::Equal => !self.after,
            Ordering::Greater => false,
        }
    }
}

/// One table of a view.
#[derive(Clone, Debug)]
pub struct ViewTable {
    /// The file.
    pub blob: Arc<dyn Blob>,
    /// Its global sequence number and limits.
    pub options: TableOptions,
    /// Smallest and largest internal key as the version holds them; range tombstones do not reach past them.
    pub bounds: Option<(InternalKey, InternalKey)>,
    /// Smallest and largest internal key it can hold, where they are known: shards beside them do not open it.
    pub extent: Option<(InternalKey, InternalKey)>,
    /// What was salvaged of it, if it is damaged.
    pub salvaged: Option<Arc<Salvaged>>,
}

/// Blob files by their number.
#[derive(Debug, Default)]
pub struct BlobSet {
    files: BTreeMap<u64, Arc<dyn Blob>>,
    open: Mutex<BTreeMap<u64, Arc<BlobFile>>>,
}

impl BlobSet {
    /// Blob files by their number.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = (u64, Arc<dyn Blob>)>) -> Self {
        Self { files: files.into_iter().collect(), open: Mutex::default() }
    }

    /// A value by its blob index.
    ///
    /// # Errors
    ///
    /// When the file is missing or the record is damaged.
    pub fn value(&self, user_key: &[u8], file: u64, offset: u64, size: u64, limit: usize) -> Result<Vec<u8>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = match open.get(&file) {
            Some(blob) => Arc::clone(blob),
            None => {
                let found = self.files.get(&file).ok_or_else(|| {
                    Error::Damaged(format!("blob file {file:06}.blob is missing; a value at {offset:#x} in it is lost"))
                })?;
                let blob = Arc::new(BlobFile::open(Arc::clone(found))?);
                open.insert(file, Arc::clone(&blob));
                blob
            }
        };
        drop(open);
        Ok(blob.value(user_key, offset, size, limit)?)
    }
}

/// The inputs of one family's rows.
#[derive(Debug, Default)]
pub struct FamilyView {
    /// Name of the family.
    pub name: String,
    /// Its comparator.
    pub order: KeyOrder,
    /// Its tables, in any order.
    pub tables: Vec<ViewTable>,
    /// Point entries of WALs: internal key and value, sorted by [`KeyOrder::compare_internal`].
    pub memtable: Vec<(Vec<u8>, Vec<u8>)>,
    /// Range tombstones of WALs.
    pub tombstones: Vec<Tombstone>,
    /// Name of its merge operator, with parameters where OPTIONS give them.
    pub operator_name: Option<String>,
    /// Blob files its entries refer to.
    pub blobs: Arc<BlobSet>,
    /// Sequence numbers of transactions that were written and not committed: no reader sees their entries.
    pub hidden: Arc<BTreeSet<u64>>,
    cache: Mutex<Vec<(usize, Arc<OpenTable>)>>,
}

/// What rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct RowOptions {
    /// First user key (without timestamp).
    pub from: Option<Vec<u8>>,
    /// First user key no longer wanted.
    pub to: Option<Vec<u8>>,
    /// Only keys that begin so.
    pub prefix: Vec<u8>,
    /// Operator to evaluate operands with; without one they are listed.
    pub operator: Option<MergeOperator>,
    /// The state at this sequence number rather than the newest.
    pub as_of: Option<SequenceNumber>,
    /// Values are not needed: blob files stay unread.
    pub keys_only: bool,
    /// Pass over damage instead of stopping at it.
    pub salvage: bool,
}

/// A stretch of the key space, small enough to be merged in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// First user key without timestamp; `None`: from the beginning.
    pub lower: Option<Vec<u8>>,
    /// First user key of the next shard; `None`: to the end.
    pub upper: Option<Vec<u8>>,
}

/// A table with its index in memory.
#[derive(Debug)]
struct OpenTable {
    reader: BlockReader,
    rewrite: KeyRewrite,
    handles: Arc<[BlockHandle]>,
    index: TableIndex,
    tombstones: Vec<Tombstone>,
}

/// An entry as stored, for dumps of all versions.
#[derive(Clone, Copy, Debug)]
pub struct InternalEntry<'a> {
    /// Its key.
    pub key: ParsedKey<'a>,
    /// Its value; for a range tombstone the end key.
    pub value: &'a [u8],
}

/// Bytes of table a shard is made of, about.
const SHARD: u64 = 2 << 20;
/// Tables kept open.
const OPEN_TABLES: usize = 128;

impl OpenTable {
    fn open(table: &ViewTable) -> Result<Self, TableError> {
        if let Some(salvaged) = &table.salvaged {
            let (reader, rewrite) = salvaged.parts();
            let handles = salvaged.good.iter().map(|block| block.handle).collect();
            let index = TableIndex::from_blocks(salvaged.good.iter().map(|b| (b.handle, &b.last[..])));
            return Ok(Self { reader, rewrite, handles, index, tombstones: salvaged.tombstones.clone() });
        }
        let reader = TableReader::open(Arc::clone(&table.blob), table.options.clone())?;
        let index = reader.index()?;
        let tombstones = reader.tombstones()?;
        let handles = index.handles().into();
        Ok(Self { reader: reader.blocks().clone(), rewrite: reader.rewrite(), handles, index, tombstones })
    }

    fn scan(&self, order: &KeyOrder, lower: Option<&[u8]>, upper: Option<&[u8]>) -> Option<TableScan> {
        let stripped = self.rewrite.timestamp > 0;
        let blocks = self.index.blocks_between(order, stripped, lower, upper);
        (!blocks.is_empty())
            .then(|| TableScan::new(self.reader.clone(), self.rewrite, Arc::clone(&self.handles), blocks))
    }
}

impl FamilyView {
    /// A view without any input yet.
    #[must_use]
    pub fn new(name: impl Into<String>, order: KeyOrder) -> Self {
        Self { name: name.into(), order, ..Self::default() }
    }

    fn table(&self, number: usize) -> Result<Arc<OpenTable>, TableError> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, open)) = lock().iter().find(|(n, _)| *n == number) {
            return Ok(Arc::clone(open));
        }
        let Some(table) = self.tables.get(number) else {
            return Err(TableError::format(
                &self.name,
                crate::format::FormatError::value("view", "table", 0, number, "a table of the view"),
            ));
        };
        let open = Arc::new(OpenTable::open(table)?);
        let mut cache = lock();
        if cache.len() >= OPEN_TABLES {
            cache.remove(0);
        }
        cache.push((number, Arc::clone(&open)));
        Ok(open)
    }

    /// Where the range of a table begins and ends, as the version says.
    fn bounds_of(&self, table: &ViewTable) -> (Option<Bound>, Option<Bound>) {
        let Some((smallest, largest)) = &table.bounds else { return (None, None) };
        let bare = |key: &InternalKey| self.order.without_timestamp(key.user_key()).to_vec();
        // An end that is only a tombstone's is not part of the table.
        let exclusive = largest.parse().is_some_and(|key| key.sequence == SequenceNumber::MAX);
        let lower = Bound { key: bare(smallest), after: false };
        (Some(lower), Some(Bound { key: bare(largest), after: !exclusive }))
    }

    /// All range tombstones, cut to their tables.
    fn cover(&self, options: &RowOptions) -> Result<Cover, TableError> {
        let as_of = options.as_of.unwrap_or(SequenceNumber::MAX);
        let mut pieces = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            let open = match self.table(number) {
                Ok(open) => open,
                Err(_) if options.salvage => continue,
                Err(error) => return Err(error),
            };
            let (lower, upper) = self.bounds_of(table);
            let visible = open.tombstones.iter().filter(|t| t.sequence <= as_of);
            pieces.extend(visible.filter_map(|t| Piece::new(t, &self.order, lower.as_ref(), upper.as_ref())));
        }
        let visible = self.tombstones.iter().filter(|t| t.sequence <= as_of);
        pieces.extend(visible.filter_map(|t| Piece::new(t, &self.order, None, None)));
        Ok(Cover::new(&pieces, &self.order))
    }

    /// Cuts the wanted part of the key space at separators of the tables' indexes.
    ///
    /// # Errors
    ///
    /// When an index is damaged and damage is not passed over.
    pub fn shards(&self, options: &RowOptions) -> Result<Vec<Shard>, TableError> {
        let (from, to) = self.wanted(options);
        let mut cuts: Vec<Vec<u8>> = Vec::new();
        for number in 0..self.tables.len() {
            match self.table(number) {
                Ok(open) => self.cuts_of(&open, &mut cuts),
                Err(_) if options.salvage => {}
                Err(error) => return Err(error),
            }
        }
        let order = &self.order;
        cuts.retain(|cut| {
            let above = from.as_ref().is_none_or(|from| order.compare_without_timestamp(from, cut).is_lt());
            above && to.as_ref().is_none_or(|to| order.compare_without_timestamp(cut, to).is_lt())
        });
        cuts.sort_by(|a, b| order.compare_without_timestamp(a, b));
        cuts.dedup();
        let mut shards = Vec::with_capacity(cuts.len().saturating_add(1));
        let mut lower = from;
        for cut in cuts {
            shards.push(Shard { lower: lower.replace(cut.clone()), upper: Some(cut) });
        }
        shards.push(Shard { lower, upper: to });
        Ok(shards)
    }

    fn cuts_of(&self, open: &OpenTable, cuts: &mut Vec<Vec<u8>>) {
        let mut bytes = 0_u64;
        for (number, handle) in open.handles.iter().enumerate() {
            bytes = bytes.saturating_add(handle.size);
            if bytes >= SHARD {
                bytes = 0;
                let key = open.index.separator_user_key(number).unwrap_or_default();
                let key = if open.rewrite.timestamp > 0 { key } else { self.order.without_timestamp(key) };
                cuts.push(key.to_vec());
            }
        }
    }

    /// First and last wanted key; a prefix narrows them where keys sort bytewise.
    fn wanted(&self, options: &RowOptions) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let (mut from, mut to) = (options.from.clone(), options.to.clone());
        let bytewise = matches!(self.order, KeyOrder::Bytewise | KeyOrder::BytewiseU64Ts);
        if bytewise && !options.prefix.is_empty() {
            from = Some(from.unwrap_or_default().max(options.prefix.clone()));
            let mut next = options.prefix.clone();
            while next.last() == Some(&0xff) {
                next.pop();
            }
            if let Some(last) = next.last_mut() {
                *last = last.saturating_add(1);
                to = Some(to.map_or(next.clone(), |to| to.min(next)));
            }
        }
        (from, to)
    }

    fn inputs<'a>(
        &'a self,
        shard: &Shard,
        salvage: bool,
        damage: &mut Vec<TableError>,
    ) -> Result<Vec<Input<'a>>, TableError> {
        let (lower, upper) = (shard.lower.as_deref(), shard.upper.as_deref());
        let mut inputs = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            if self.is_outside(table, shard) {
                continue;
            }
            match self.table(number) {
                Ok(open) => {
                    inputs.extend(open.scan(&self.order, lower, upper).map(|scan| Input::Table(Box::new(scan))));
                }
                Err(error) if salvage => damage.push(error),
                Err(error) => return Err(error),
            }
        }
        let below = |entry: &(Vec<u8>, Vec<u8>), bound: &[u8]| {
            let key = self.order.without_timestamp(crate::format::key::user_key(&entry.0));
            self.order.compare_without_timestamp(key, bound).is_lt()
        };
        let start = lower.map_or(0, |bound| self.memtable.partition_point(|entry| below(entry, bound)));
        let end = upper.map_or(self.memtable.len(), |bound| self.memtable.partition_point(|entry| below(entry, bound)));
        let entries = self.memtable.get(start..end).unwrap_or_default();
        if !entries.is_empty() {
            inputs.push(Input::Memory { entries, at: 0 });
        }
        Ok(inputs)
    }

    fn is_outside(&self, table: &ViewTable, shard: &Shard) -> bool {
        let Some((smallest, largest)) = table.extent.as_ref().or(table.bounds.as_ref()) else { return false };
        let order = &self.order;
        let bare = |key: &InternalKey| order.without_timestamp(key.user_key()).to_vec();
        let before = |bound: &Vec<u8>| order.compare_without_timestamp(&bare(largest), bound).is_lt();
        let behind = |bound: &Vec<u8>| order.compare_without_timestamp(&bare(smallest), bound).is_ge();
        shard.lower.as_ref().is_some_and(before) || shard.upper.as_ref().is_some_and(behind)
    }

    fn shard_rows(
        &self,
        shard: &Shard,
        cover: &Cover,
        options: &RowOptions,
        sink: &mut dyn FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<Vec<TableError>, Error> {
        let mut damage = Vec::new();
        let inputs = self.inputs(shard, options.salvage, &mut damage)?;
        let merge = Merge::new(inputs, &self.order, shard.lower.as_deref(), options.salvage)?;
        let upper = shard.upper.clone().map(|key| Bound { key, after: false });
        let rows = Rows {
            order: &self.order,
            cover,
            operator: options.operator.as_ref(),
            blobs: &self.blobs,
            as_of: options.as_of.unwrap_or(SequenceNumber::MAX),
            upper: upper.as_ref(),
            block_limit: self.block_limit(),
            keys_only: options.keys_only,
            hidden: &self.hidden,
            salvage: options.salvage,
        };
        let prefix = &options.prefix[..];
        damage.extend(rows.run(merge, &mut |row| if row.key.starts_with(prefix) { sink(row) } else { Ok(()) })?);
        Ok(damage)
    }

    fn block_limit(&self) -> usize {
        self.tables.first().map_or(TableOptions::default().block_limit, |table| table.options.block_limit)
    }

    /// Hands every wanted row to `sink` in key order, on this thread. Gives back the damage passed over.
    ///
    /// # Errors
    ///
    /// The first damage (unless it is passed over), or the sink's error.
    pub fn rows(
        &self,
        options: &RowOptions,
        mut sink: impl FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<Vec<TableError>, Error> {
        let cover = self.cover(options)?;
        let mut damage = Vec::new();
        for shard in self.shards(options)? {
            damage.extend(self.shard_rows(&shard, &cover, options, &mut sink)?);
        }
        Ok(damage)
    }

    /// Formats every wanted row in parallel: `each` appends a row's text to a shard's buffer, `sink` gets the buffers
    /// in key order. Gives back the damage passed over.
    ///
    /// # Errors
    ///
    /// The first damage (unless it is passed over), the sink's error, or that the caller asked to stop.
    pub fn write_rows(
        &self,
        options: &RowOptions,
        cx: &Context,
        each: impl Fn(&Row<'_>, &mut Vec<u8>) + Sync,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Vec<TableError>, Error> {
        let cover = self.cover(options)?;
        let shards = self.shards(options)?;
        let window = cx.limits.threads.max(1).saturating_mul(2);
        let work = |shard: Shard| {
            let mut text = Vec::new();
            let damage = self.shard_rows(&shard, &cover, options, &mut |row| {
                each(row, &mut text);
                Ok(())
            });
            damage.map(|damage| (text, damage))
        };
        let mut all = Vec::new();
        parallel::stream(cx, shards.into_iter(), window, work, |done| {
            let (text, damage) = done?;
            all.extend(damage);
            sink(&text)
        })?;
        Ok(all)
    }

    /// Formats every stored entry (all versions, deletions too, range tombstones first) in parallel, as
    /// [`Self::write_rows`] does rows.
    ///
    /// # Errors
    ///
    /// As [`Self::write_rows`].
    pub fn write_entries(
        &self,
        options: &RowOptions,
        cx: &Context,
        each: impl Fn(&InternalEntry<'_>, &mut Vec<u8>) + Sync,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Vec<TableError>, Error> {
        let as_of = options.as_of.unwrap_or(SequenceNumber::MAX);
        let mut text = Vec::new();
        for tombstone in self.all_tombstones(options)? {
            let (user_key, sequence) = (&tombstone.start[..], tombstone.sequence);
            if sequence <= as_of && self.order.without_timestamp(user_key).starts_with(&options.prefix) {
                let key = ParsedKey { user_key, sequence, value_type: ValueType::RangeDeletion };
                each(&InternalEntry { key, value: &tombstone.end }, &mut text);
            }
        }
        sink(&text)?;
        let window = cx.limits.threads.max(1).saturating_mul(2);
        let mut all = Vec::new();
        let work = |shard: Shard| self.shard_entries(&shard, options, &each);
        parallel::stream(cx, self.shards(options)?.into_iter(), window, work, |done| {
            let (text, damage) = done?;
            all.extend(damage);
            sink(&text)
        })?;
        Ok(all)
    }

    fn shard_entries(
        &self,
        shard: &Shard,
        options: &RowOptions,
        each: &(impl Fn(&InternalEntry<'_>, &mut Vec<u8>) + Sync),
    ) -> Result<(Vec<u8>, Vec<TableError>), TableError> {
        let as_of = options.as_of.unwrap_or(SequenceNumber::MAX);
        let (mut text, mut damage) = (Vec::new(), Vec::new());
        let inputs = self.inputs(shard, options.salvage, &mut damage)?;
        let mut merge = Merge::new(inputs, &self.order, shard.lower.as_deref(), options.salvage)?;
        let upper = shard.upper.clone().map(|key| Bound { key, after: false });
        while let Some(input) = merge.current() {
            if let Some(key) = ParsedKey::parse(input.key()) {
                let bare = self.order.without_timestamp(key.user_key);
                if upper.as_ref().is_some_and(|upper| upper.is_at_or_before(bare, &self.order)) {
                    break;
                }
                if key.sequence <= as_of && bare.starts_with(&options.prefix) {
                    each(&InternalEntry { key, value: input.value() }, &mut text);
                }
            }
            merge.advance()?;
        }
        damage.extend(merge.damage.take().unwrap_or_default());
        Ok((text, damage))
    }

    /// Hands every stored point entry from a user key (without timestamp) on to `sink`, in order, with a word on whether
    /// a newer range tombstone of the view deletes it. `sink` gives `false` to stop.
    pub(crate) fn visit(
        &self,
        from: Option<Vec<u8>>,
        cx: &Context,
        sink: &mut dyn FnMut(&[u8], &[u8], bool) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let options = RowOptions { from, ..RowOptions::default() };
        let cover = self.cover(&options)?;
        for shard in self.shards(&options)? {
            cx.cancelled()?;
            let inputs = self.inputs(&shard, false, &mut Vec::new())?;
            let mut merge = Merge::new(inputs, &self.order, shard.lower.as_deref(), false)?;
            let upper = shard.upper.clone().map(|key| Bound { key, after: false });
            while let Some(input) = merge.current() {
                if let Some(key) = ParsedKey::parse(input.key()) {
                    let bare = self.order.without_timestamp(key.user_key);
                    if upper.as_ref().is_some_and(|upper| upper.is_at_or_before(bare, &self.order)) {
                        break;
                    }
                    let covered = !cover.is_empty()
                        && cover.find(bare, &self.order).is_some_and(|(sequence, _)| sequence > key.sequence);
                    if !sink(input.key(), input.value(), covered)? {
                        return Ok(());
                    }
                }
                merge.advance()?;
            }
        }
        Ok(())
    }

    /// Every range tombstone of tables and WALs.
    pub(crate) fn stored_tombstones(&self) -> Result<Vec<Tombstone>, TableError> {
        self.all_tombstones(&RowOptions::default())
    }

    fn all_tombstones(&self, options: &RowOptions) -> Result<Vec<Tombstone>, TableError> {
        let mut out = self.tombstones.clone();
        for number in 0..self.tables.len() {
            match self.table(number) {
                Ok(open) => out.extend(open.tombstones.iter().cloned()),
                Err(_) if options.salvage => {}
                Err(error) => return Err(error),
            }
        }
        out.sort_by(|a, b| self.order.compare(&a.start, &b.start).then(b.sequence.cmp(&a.sequence)));
        Ok(out)
    }

    /// Sorts the memtable, as every other method expects it.
    pub fn sort_memtable(&mut self) {
        let order = self.order.clone();
        self.memtable.sort_by(|(a, _), (b, _)| order.compare_internal(a, b));
    }
}

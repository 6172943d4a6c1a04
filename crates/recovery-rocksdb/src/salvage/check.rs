//! Verification of a table: every block, every byte accounted for.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Blob, Check, Class, CodeInfo, Context, Coverage, Error, Evidence, Finding, Severity, parallel};

use crate::format::key::KeyOrder;
use crate::format::{BlockHandle, ChecksumType, Footer, FormatError, MetaKind, Metaindex, TableProperties};
use crate::reader::{BlockReader, READ_AHEAD, TableError, TableIndex, TableOptions};

use super::table::{Frame, Salvaged, TablePart, examine};

/// How closely a table is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Footer, metaindex, properties, index and the other meta blocks; data blocks stay unread.
    Structure,
    /// The checksum of every block. Tables without checksums are decoded instead.
    #[default]
    Checksums,
    /// Every entry: decoding, key order, the counts of the properties.
    Entries,
}

impl From<Check> for Depth {
    fn from(check: Check) -> Self {
        match check {
            Check::Structure => Self::Structure,
            Check::Full => Self::Checksums,
        }
    }
}

/// One thing wrong with a table.
#[derive(Clone, Debug)]
pub struct TableDamage {
    /// What is concerned, such as `data block` or `filter`.
    pub what: &'static str,
    /// Where.
    pub range: Range<u64>,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub summary: String,
    /// The error that shows it.
    pub error: Option<TableError>,
    /// Entries lost by it, where they can be counted for this damage alone.
    pub records: u64,
    /// For lost data: user keys at or behind the first, at or before the second; `None` is open.
    pub keys: Option<(Option<Vec<u8>>, Option<Vec<u8>>)>,
}

impl TableDamage {
    fn new(what: &'static str, range: Range<u64>, severity: Severity, summary: impl Into<String>) -> Self {
        Self { what, range, severity, summary: summary.into(), error: None, records: 0, keys: None }
    }

    fn of(what: &'static str, range: Range<u64>, severity: Severity, error: &TableError) -> Self {
        Self { error: Some(error.clone()), ..Self::new(what, range, severity, format!("{what}: {error}")) }
    }

    /// As a finding. Keys are payload: they appear only when the context allows data to be shown.
    #[must_use]
    pub fn finding(&self, code: &CodeInfo, object: &str, cx: &Context) -> Finding {
        let length = self.range.end.saturating_sub(self.range.start);
        let bytes = if self.severity == Severity::Lost { length } else { 0 };
        let mut finding = Finding::new(code, self.severity, object)
            .at(self.range.start, length)
            .summary(self.summary.clone())
            .effect(self.records, bytes);
        if let Some(TableError::Format { source: FormatError::Checksum { algorithm, stored, computed, .. }, .. }) =
            &self.error
        {
            finding = finding.evidence(Evidence::checksum(algorithm, *stored, *computed));
        }
        if let Some((after, upto)) = &self.keys {
            let found = format!("from {} to {}", shown(after.as_deref(), cx), shown(upto.as_deref(), cx));
            finding = finding.evidence(Evidence::value("lost keys", found, "readable"));
        }
        finding
    }
}

/// A key in a report: itself where data may be shown, else its length and hash.
fn shown(key: Option<&[u8]>, cx: &Context) -> String {
    match key {
        None => "the end".to_owned(),
        Some(key) if cx.show_data => format!("hex:{}", crate::format::coding::hex(key)),
        Some(key) => {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(key);
            let head = crate::format::coding::hex(digest.get(..8).unwrap_or_default());
            format!("#{}:{head}", key.len())
        }
    }
}

/// The result of a verification.
#[derive(Clone, Debug)]
pub struct TableCheck {
    /// What is known of each byte.
    pub coverage: Coverage,
    /// What is wrong, in no particular order.
    pub damages: Vec<TableDamage>,
    /// Set when the table is of a kind that is recognised and not read.
    pub unsupported: Option<String>,
    /// Nothing in the file is part of a table.
    pub nothing: bool,
    /// The footer, when it is intact.
    pub footer: Option<Footer>,
    /// The properties, when they are intact.
    pub properties: Option<TableProperties>,
    /// Number of data blocks the index names.
    pub data_blocks: Option<u64>,
    /// Entries (points and tombstones) that are gone; `None` when nobody can tell.
    pub lost: Option<u64>,
    /// What could be had from it, when something is damaged.
    pub salvaged: Option<Arc<Salvaged>>,
}

impl TableCheck {
    /// Is nothing damaged and everything of a known kind?
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damages.iter().all(|d| d.severity == Severity::Note) && self.unsupported.is_none() && !self.nothing
    }

    /// Would the engine refuse entries of this table? Damage to filters alone does not keep rows from being read by a
    /// scan, any other does.
    #[must_use]
    pub fn needs_rewrite(&self) -> bool {
        self.damages.iter().any(|d| d.severity > Severity::Note)
    }

    /// All damages as findings of one code, those that cost tombstones of another.
    #[must_use]
    pub fn findings(&self, code: &CodeInfo, tombstones: &CodeInfo, object: &str, cx: &Context) -> Vec<Finding> {
        let pick = |d: &TableDamage| if d.what == TablePart::RangeDeletions.name() { tombstones } else { code };
        self.damages.iter().map(|damage| damage.finding(pick(damage), object, cx)).collect()
    }
}

/// Verifies one table. Blocks are checked in parallel on the context's pool; memory is a few read buffers.
///
/// `order` is the family's comparator where it is known.
///
/// # Errors
///
/// Only when the caller asked to stop: damage is in the result.
pub fn check_table(
    blob: &Arc<dyn Blob>,
    options: &TableOptions,
    order: Option<&KeyOrder>,
    depth: Depth,
    cx: &Context,
) -> Result<TableCheck, Error> {
    let frame = Frame::read(blob, options.block_limit);
    let mut out = TableCheck {
        coverage: Coverage::new(blob.len()),
        damages: Vec::new(),
        unsupported: None,
        nothing: false,
        footer: frame.footer.as_ref().ok().copied(),
        properties: frame.properties.as_ref().and_then(|r| r.as_ref().ok()).cloned(),
        data_blocks: None,
        lost: Some(0),
        salvaged: None,
    };
    if let Some(error) = unsupported(&frame) {
        out.unsupported = Some(error.to_string());
        return Ok(out);
    }
    match (&frame.footer, &frame.metaindex, &frame.index, &frame.blocks) {
        (Ok(footer), Some(Ok(meta)), Some(Ok(index)), Some(blocks)) if frame.dictionary.is_none() => {
            let check = Checker { blocks, footer, meta, index, order, depth, cx };
            check.run(&mut out)?;
            if out.damages.iter().any(|d| d.severity > Severity::Note) {
                out.salvage(blob, options, order, cx, true)?;
            }
        }
        _ => out.salvage(blob, options, order, cx, false)?,
    }
    cx.progress.advance(blob.len());
    Ok(out)
}

fn unsupported(frame: &Frame) -> Option<TableError> {
    let errors = [
        frame.footer.as_ref().err(),
        frame.index.as_ref().and_then(|r| r.as_ref().err()),
        frame.properties.as_ref().and_then(|r| r.as_ref().err()),
    ];
    errors.into_iter().flatten().find(|error| error.is_unsupported()).cloned()
}

struct Checker<'a> {
    blocks: &'a BlockReader,
    footer: &'a Footer,
    meta: &'a Metaindex,
    index: &'a TableIndex,
    order: Option<&'a KeyOrder>,
    depth: Depth,
    cx: &'a Context,
}

impl Checker<'_> {
    fn run(&self, out: &mut TableCheck) -> Result<(), Error> {
        out.data_blocks = Some(self.index.len() as u64);
        self.footer(out);
        let checked = self.sealed_class();
        out.coverage.mark(self.footer.metaindex.range(), checked);
        for handle in self.footer.index.iter().chain(self.index.partitions()) {
            out.coverage.mark(handle.range(), checked);
        }
        for (name, handle) in &self.meta.entries {
            self.meta_block(name, *handle, out);
        }
        if self.depth == Depth::Structure {
            // Neighbours are marked together: a table has thousands of blocks, and few gaps between them.
            let mut run: Option<Range<u64>> = None;
            for range in self.index.handles().iter().map(BlockHandle::range) {
                match &mut run {
                    Some(run) if run.end == range.start => run.end = range.end,
                    _ => {
                        if let Some(done) = run.replace(range) {
                            out.coverage.mark(done, Class::Unread);
                        }
                    }
                }
            }
            if let Some(done) = run {
                out.coverage.mark(done, Class::Unread);
            }
            return Ok(());
        }
        self.data(out)?;
        if self.depth == Depth::Entries && out.damages.is_empty() {
            self.entries(out);
        }
        self.gaps(out);
        Ok(())
    }

    /// The class of a block that is right: without checksums nothing is verified.
    fn sealed_class(&self) -> Class {
        if self.footer.seal.algorithm == ChecksumType::None { Class::Parsed } else { Class::Verified }
    }

    fn footer(&self, out: &mut TableCheck) {
        let range = self.footer.offset..self.blocks.blob.len();
        let covered = self.footer.format_version >= 6;
        out.coverage.mark(range.clone(), if covered { self.sealed_class() } else { Class::Parsed });
        if let Ok(tail) = self.blocks.blob.bytes(range.clone())
            && !self.footer.padding_is_zero(&tail)
        {
            let summary = "the footer is not zero behind its handles; no checksum covers it and no reader looks there";
            out.damages.push(TableDamage::new(TablePart::Footer.name(), range.clone(), Severity::Damaged, summary));
            out.coverage.mark(range, Class::Damaged);
        }
    }

    fn meta_block(&self, name: &str, handle: BlockHandle, out: &mut TableCheck) {
        let kind = MetaKind::of(name);
        // Read and checked before, with its own rule for the sequence number written in place.
        if kind == MetaKind::Properties {
            out.coverage.mark(handle.range(), self.sealed_class());
            return;
        }
        match self.blocks.raw(handle, kind.name()) {
            Ok(bytes) => {
                out.coverage.mark(handle.range(), self.sealed_class());
                if name.starts_with("partitionedfilter.") {
                    self.filter_partitions(handle, out);
                }
                if kind == MetaKind::RangeDeletions {
                    self.tombstones(handle, &bytes, out);
                }
            }
            Err(error) => {
                let severity = if kind == MetaKind::RangeDeletions { Severity::Lost } else { Severity::Damaged };
                let mut damage = TableDamage::of(kind.name(), self.inside(handle), severity, &error);
                if severity == Severity::Lost {
                    damage.records = self.expected_tombstones(out);
                    out.lost = out.lost.map(|lost| lost.saturating_add(damage.records));
                }
                out.coverage.mark(damage.range.clone(), bad_class(&error));
                out.damages.push(damage);
            }
        }
    }

    fn expected_tombstones(&self, out: &TableCheck) -> u64 {
        out.properties.as_ref().and_then(|p| p.num_range_deletions).unwrap_or(0)
    }

    fn tombstones(&self, handle: BlockHandle, bytes: &[u8], out: &mut TableCheck) {
        let payload = crate::reader::Sealed::split(bytes).map_or(&[][..], |block| block.payload().0);
        let rewrite = crate::reader::KeyRewrite::default();
        if let Err(source) = crate::reader::table::decode_tombstones(payload, handle.offset, rewrite) {
            let error = TableError::format(self.blocks.name(), source);
            let what = TablePart::RangeDeletions.name();
            out.damages.push(TableDamage::of(what, handle.range(), Severity::Lost, &error));
            out.coverage.mark(handle.range(), Class::Damaged);
        }
    }

    /// The block behind a partitioned filter's name is an index of the partitions.
    fn filter_partitions(&self, top: BlockHandle, out: &mut TableCheck) {
        let Ok(bytes) = self.blocks.read(top, "filter index") else { return };
        let format = crate::format::IndexFormat {
            kind: crate::format::IndexType::BinarySearch,
            ..out.properties.as_ref().map(|p| p.index).unwrap_or_default()
        };
        let mut handles = Vec::new();
        if format.walk(&bytes, top.offset, |entry| handles.push(entry.handle)).is_err() {
            return;
        }
        for handle in handles {
            match self.blocks.raw(handle, "filter partition") {
                Ok(_) => out.coverage.mark(handle.range(), self.sealed_class()),
                Err(error) => {
                    let range = self.inside(handle);
                    out.coverage.mark(range.clone(), bad_class(&error));
                    out.damages.push(TableDamage::of("filter", range, Severity::Damaged, &error));
                }
            }
        }
    }

    /// The range of a handle, cut to the file.
    fn inside(&self, handle: BlockHandle) -> Range<u64> {
        let end = handle.end().min(self.blocks.blob.len());
        handle.offset.min(end)..end
    }

    fn data(&self, out: &mut TableCheck) -> Result<(), Error> {
        let handles = self.index.handles();
        let groups = group(handles);
        let decode = self.footer.seal.algorithm == ChecksumType::None;
        let judge = |_: usize, part: &Range<usize>| {
            let part = handles.get(part.clone()).unwrap_or_default();
            if decode { decode_blocks(self.blocks, part) } else { check_blocks(self.blocks, part) }
        };
        for judged in parallel::map(self.cx, &groups, judge)? {
            for range in judged.good {
                out.coverage.mark(range, self.sealed_class());
            }
            for (handle, error) in judged.bad {
                let range = self.inside(handle);
                out.coverage.mark(range.clone(), bad_class(&error));
                let mut damage = TableDamage::of("data block", range, Severity::Lost, &error);
                damage.keys = Some(self.keys_of(handle));
                out.damages.push(damage);
            }
        }
        Ok(())
    }

    fn keys_of(&self, handle: BlockHandle) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let number = self.index.handles().iter().position(|h| *h == handle);
        let key = |n: Option<usize>| n.and_then(|n| self.index.separator_user_key(n)).map(<[u8]>::to_vec);
        (key(number.and_then(|n| n.checked_sub(1))), key(number))
    }

    /// Walks every entry in key order and counts.
    fn entries(&self, out: &mut TableCheck) {
        let order = self
            .order
            .cloned()
            .or_else(|| out.properties.as_ref().and_then(|p| p.comparator.as_deref()).and_then(KeyOrder::by_name));
        let stripped = out.properties.as_ref().is_some_and(|p| p.timestamps_persisted == Some(false));
        let order = if stripped { order.map(|o| o.of_stripped_keys()) } else { order };
        let handles: Arc<[BlockHandle]> = self.index.handles().into();
        let all = 0..handles.len();
        let mut scan =
            crate::reader::TableScan::new(self.blocks.clone(), crate::reader::KeyRewrite::default(), handles, all);
        let (mut last, mut count) = (Vec::new(), 0_u64);
        loop {
            match scan.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let range = scan.handle().map_or(0..0, |h| self.inside(h));
                    out.coverage.mark(range.clone(), Class::Damaged);
                    out.damages.push(TableDamage::of("data block", range, Severity::Lost, &error));
                    continue;
                }
            }
            if count > 0 && order.as_ref().is_some_and(|o| !o.compare_internal(&last, scan.key()).is_lt()) {
                let range = scan.handle().map_or(0..0, |h| self.inside(h));
                let summary = "a key does not come behind the one before it: the table is not sorted";
                out.damages.push(TableDamage::new("data block", range, Severity::Damaged, summary));
            }
            last.clear();
            last.extend_from_slice(scan.key());
            count = count.saturating_add(1);
        }
        let expected = out
            .properties
            .as_ref()
            .and_then(|p| Some(p.num_entries?.saturating_sub(p.num_range_deletions.unwrap_or(0))));
        if let Some(expected) = expected.filter(|expected| *expected != count) {
            let summary = format!("the table holds {count} entries, its properties say {expected}");
            let range = 0..self.blocks.blob.len();
            out.damages.push(TableDamage::new("table", range, Severity::Suspect, summary));
        }
    }

    /// What no handle names: zero padding of aligned blocks, or bytes nobody can tell.
    fn gaps(&self, out: &mut TableCheck) {
        let gaps: Vec<Range<u64>> = out.coverage.of(Class::Unknown).collect();
        for gap in gaps {
            match is_zero(self.blocks, gap.clone()) {
                Ok(true) => out.coverage.mark(gap, Class::Free),
                Ok(false) => {
                    let summary = "bytes between blocks that no index or metaindex names";
                    out.damages.push(TableDamage::new("unnamed bytes", gap, Severity::Note, summary));
                }
                Err(error) => {
                    out.coverage.mark(gap.clone(), Class::Unread);
                    out.damages.push(TableDamage::of("unnamed bytes", gap, Severity::Note, &error));
                }
            }
        }
    }
}

fn is_zero(blocks: &BlockReader, range: Range<u64>) -> Result<bool, TableError> {
    let mut at = range.start;
    while at < range.end {
        let end = at.saturating_add(READ_AHEAD).min(range.end);
        if blocks.blob.bytes(at..end)?.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

fn bad_class(error: &TableError) -> Class {
    if matches!(error, TableError::Read(_)) { Class::Unread } else { Class::Damaged }
}

/// Bytes of data handed to one task.
const TASK: u64 = 4 << 20;

/// Splits the blocks into runs of about [`TASK`] bytes.
fn group(handles: &[BlockHandle]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (number, handle) in handles.iter().enumerate() {
        bytes = bytes.saturating_add(handle.size);
        if bytes >= TASK {
            let end = number.saturating_add(1);
            out.push(start..end);
            (start, bytes) = (end, 0);
        }
    }
    if start < handles.len() {
        out.push(start..handles.len());
    }
    out
}

#[derive(Default)]
struct Judged {
    good: Vec<Range<u64>>,
    bad: Vec<(BlockHandle, TableError)>,
}

impl Judged {
    fn add(&mut self, handle: BlockHandle, result: Result<(), TableError>) {
        match (result, self.good.last_mut()) {
            (Ok(()), Some(last)) if last.end == handle.offset => last.end = handle.end(),
            (Ok(()), _) => self.good.push(handle.range()),
            (Err(error), _) => self.bad.push((handle, error)),
        }
    }
}

thread_local! {
    /// One read buffer a thread: a fresh one for every read costs more than the checksums.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Checks consecutive blocks, as many with one read as fit the buffer.
fn check_blocks(blocks: &BlockReader, handles: &[BlockHandle]) -> Judged {
    BUFFER.with_borrow_mut(|buffer| {
        let mut judged = Judged::default();
        let mut rest = handles;
        while let Some(first) = rest.first() {
            let run = run_length(blocks, rest);
            let (now, later) = rest.split_at_checked(run.max(1)).unwrap_or((rest, &[]));
            rest = later;
            let end = now.last().map_or(first.end(), BlockHandle::end);
            check_run(blocks, now, first.offset..end, buffer, &mut judged);
        }
        judged
    })
}

/// How many of the first blocks lie close together and fit one read.
fn run_length(blocks: &BlockReader, handles: &[BlockHandle]) -> usize {
    let Some(first) = handles.first() else { return 0 };
    let mut end = first.offset;
    let fits = |handle: &&BlockHandle| {
        let ok = handle.offset >= end
            && handle.fits(blocks.blob.len())
            && handle.end().saturating_sub(first.offset) <= READ_AHEAD;
        end = handle.end();
        ok
    };
    handles.iter().take_while(fits).count()
}

fn check_run(
    blocks: &BlockReader,
    handles: &[BlockHandle],
    range: Range<u64>,
    buffer: &mut Vec<u8>,
    judged: &mut Judged,
) {
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let whole = handles.iter().all(|handle| handle.fits(blocks.blob.len()));
    if whole && buffer.len() < length {
        buffer.resize(length, 0);
    }
    let bytes = buffer.get_mut(..length).filter(|_| whole);
    let read = bytes.and_then(|bytes| blocks.blob.read_exact_at(range.start, bytes).ok().map(|()| &*bytes));
    for handle in handles {
        let start = usize::try_from(handle.offset.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let end = usize::try_from(handle.end().saturating_sub(range.start)).unwrap_or(usize::MAX);
        let result = match read.and_then(|bytes| bytes.get(start..end)) {
            Some(bytes) => blocks.check(*handle, bytes, "data block"),
            // A bad sector, or a handle that cannot be: each block on its own.
            None => blocks.raw(*handle, "data block").map(drop),
        };
        judged.add(*handle, result);
    }
}

/// Tables without checksums: a block is right when it decodes to its last entry.
fn decode_blocks(blocks: &BlockReader, handles: &[BlockHandle]) -> Judged {
    let mut judged = Judged::default();
    for handle in handles {
        judged.add(*handle, examine(blocks, *handle).map(drop));
    }
    judged
}

impl TableCheck {
    /// Something is damaged: find out exactly what remains. `known` says that the damages are listed already.
    fn salvage(
        &mut self,
        blob: &Arc<dyn Blob>,
        options: &TableOptions,
        order: Option<&KeyOrder>,
        cx: &Context,
        known: bool,
    ) -> Result<(), Error> {
        match Salvaged::run(blob, options, order, cx) {
            Ok(salvaged) => {
                if !known {
                    self.list(&salvaged, blob.len());
                }
                self.say_mended(&salvaged);
                self.count(&salvaged);
                self.properties = self.properties.take().or_else(|| salvaged.properties.clone());
                self.salvaged = Some(Arc::new(salvaged));
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) if known => {
                self.damages.push(TableDamage::new("table", 0..blob.len(), Severity::Lost, error.to_string()));
                self.lost = None;
            }
            Err(error) => {
                self.nothing = true;
                self.lost = None;
                self.coverage.mark(0..blob.len(), Class::Damaged);
                self.damages.push(TableDamage::new("table", 0..blob.len(), Severity::Lost, error.to_string()));
            }
        }
        Ok(())
    }

    /// Damages and coverage of a table whose frame is broken.
    fn list(&mut self, salvaged: &Salvaged, len: u64) {
        let moved = self.footer_lies(salvaged);
        for (part, error) in &salvaged.broken {
            let part = if moved { TablePart::Footer } else { *part };
            let range = part_range(part, error, salvaged, len);
            let severity = if part == TablePart::RangeDeletions { Severity::Lost } else { Severity::Damaged };
            let mut damage = TableDamage::of(part.name(), range.clone(), severity, error);
            if part == TablePart::RangeDeletions {
                damage.records = salvaged.tombstones_lost.unwrap_or(0);
            }
            self.coverage.mark(range, bad_class(error));
            if !(moved && self.damages.iter().any(|d| d.what == damage.what)) {
                self.damages.push(damage);
            }
        }
        if let Some(missing) = salvaged.tombstones_lost.filter(|n| *n > 0)
            && !salvaged.broken.iter().any(|(part, _)| *part == TablePart::RangeDeletions)
        {
            let summary = format!("{missing} range tombstones are gone: the block that held them was not found");
            let mut damage = TableDamage::new(TablePart::RangeDeletions.name(), 0..len, Severity::Lost, summary);
            damage.records = missing;
            self.damages.push(damage);
        }
        for lost in &salvaged.lost {
            let summary = format!(
                "data at {:#x}, {} bytes: no block verifies",
                lost.range.start,
                lost.range.end.saturating_sub(lost.range.start)
            );
            let mut damage = TableDamage::new("data block", lost.range.clone(), Severity::Lost, summary);
            damage.keys = Some((lost.after.clone(), lost.upto.clone()));
            self.coverage.mark(lost.range.clone(), Class::Damaged);
            self.damages.push(damage);
        }
        self.cover(salvaged, len);
    }

    /// A footer without checksum that points where no metaindex is, while there is one elsewhere.
    fn footer_lies(&self, salvaged: &Salvaged) -> bool {
        let Some(footer) = self.footer.filter(|f| f.format_version < 6) else { return false };
        let found = salvaged.walk.as_ref().and_then(|walk| walk.find(&super::walk::FoundKind::Metaindex));
        let broken = |part| salvaged.broken.iter().any(|(p, _)| *p == part);
        let metaindex = broken(TablePart::Metaindex) && found.is_some();
        let index = broken(TablePart::Index)
            && salvaged.walk.as_ref().is_some_and(|w| {
                w.damaged.is_empty() && footer.index.is_some_and(|h| !w.blocks.iter().any(|b| b.handle == h))
            });
        metaindex || index || salvaged.profile.seal != footer.seal
    }

    fn cover(&mut self, salvaged: &Salvaged, len: u64) {
        let sealed = salvaged.profile.seal.algorithm != ChecksumType::None;
        let checked = if sealed { Class::Verified } else { Class::Parsed };
        for block in &salvaged.good {
            self.coverage.mark(block.handle.range(), checked);
        }
        if let Some(walk) = &salvaged.walk {
            for block in &walk.blocks {
                self.coverage.mark(block.handle.range(), checked);
            }
            for range in &walk.padding {
                self.coverage.mark(range.clone(), Class::Free);
            }
            for range in &walk.damaged {
                self.coverage.mark(range.clone(), Class::Damaged);
                let covered = |d: &TableDamage| d.range.start <= range.start && range.end <= d.range.end;
                if !self.damages.iter().any(covered) {
                    let summary = "bytes in which no block verifies";
                    self.damages.push(TableDamage::new("meta block", range.clone(), Severity::Damaged, summary));
                }
            }
            for range in &walk.unread {
                self.coverage.mark(range.clone(), Class::Unread);
            }
        }
        if let Some(footer) = salvaged.footer {
            self.coverage.mark(footer.offset..len, Class::Parsed);
        }
    }

    /// Blocks that were had in spite of their checksums cost nothing; each is said.
    fn say_mended(&mut self, salvaged: &Salvaged) {
        for mended in &salvaged.mended {
            let severity = if mended.bit.is_some() { Severity::Damaged } else { Severity::Suspect };
            let here = |d: &&mut TableDamage| d.what == "data block" && d.range.start == mended.range.start;
            match self.damages.iter_mut().find(here) {
                Some(damage) => {
                    damage.severity = severity;
                    damage.keys = None;
                    damage.summary = format!("{}; {}", damage.summary, mended.phrase());
                }
                None => {
                    let summary = format!("data block at {:#x}: {}", mended.range.start, mended.phrase());
                    self.damages.push(TableDamage::new("data block", mended.range.clone(), severity, summary));
                }
            }
            self.coverage.mark(mended.range.clone(), Class::Damaged);
        }
    }

    fn count(&mut self, salvaged: &Salvaged) {
        let points = salvaged.entries_lost();
        self.lost = points.zip(salvaged.tombstones_lost).map(|(a, b)| a.saturating_add(b));
        let mut data = self.damages.iter_mut().filter(|d| d.what == "data block" && d.severity == Severity::Lost);
        // The properties give the total only: it stands at the first of several lost blocks.
        if let (Some(first), Some(points)) = (data.next(), points) {
            first.records = points;
        }
    }
}

/// Where a broken part is: its block, or for a footer the end of the file.
fn part_range(part: TablePart, error: &TableError, salvaged: &Salvaged, len: u64) -> Range<u64> {
    let place = match error {
        TableError::Format { source: FormatError::Checksum { at, length, .. }, .. } => {
            *at..at.saturating_add(*length).min(len)
        }
        TableError::Read(error) => error.offset..error.offset.saturating_add(error.length).min(len),
        other => other.at()..other.at().saturating_add(1).min(len),
    };
    if part == TablePart::Footer {
        let start = salvaged.footer.map_or(len.saturating_sub(crate::format::footer::LEN as u64), |f| f.offset);
        return start..len;
    }
    // A block that verifies and does not decode: the walk knows its end.
    let block = salvaged.walk.as_ref().and_then(|w| w.blocks.iter().find(|b| b.handle.offset == place.start));
    let index = salvaged.footer.and_then(|f| f.index).filter(|h| h.offset == place.start);
    block.map(|b| b.handle).or(index).map_or(place, |h| h.range())
}

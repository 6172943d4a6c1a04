//! Pages of one stored column, one behind the other.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use bytes::Bytes;

use super::segment::{ReadOptions, Segment};
use super::sink::{Dictionary, Sink, Target};
use crate::format::segment::data_page::{self, DataPage, Layout};
use crate::format::segment::index::{self, PageRef};
use crate::format::segment::proto::{BTreeMeta, ColumnMeta, IndexedColumnMeta, PagePointer, encoding, page_kind};
use crate::format::segment::{Codec, Fault, Fixed, RawPage, Shape, Values, Why, strings};

/// Rows of a batch that a leaf could not read.
#[derive(Clone, Debug)]
pub(super) struct LostPart {
    pub(super) rows: Range<usize>,
    pub(super) fault: Fault,
    pub(super) healed_by: Option<&'static str>,
}

/// Reads pages through a window that is filled ahead.
#[derive(Debug)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn page(&mut self, segment: &Segment, pointer: PagePointer, ahead: u64) -> Result<RawPage, Fault> {
        segment.check_pointer(pointer)?;
        let within = |start: u64, len: usize| {
            let from = pointer.offset.checked_sub(start)?;
            let to = from.checked_add(u64::from(pointer.size))?;
            (to <= len as u64).then(|| usize::try_from(from).ok().zip(usize::try_from(to).ok())).flatten()
        };
        if let Some((from, to)) = within(self.start, self.bytes.len()) {
            return RawPage::check(&self.bytes.slice(from..to), pointer.offset);
        }
        let end = pointer.end().max(pointer.offset.saturating_add(ahead).min(segment.data_end()));
        match segment.blob().bytes(pointer.offset..end) {
            Ok(bytes) => {
                (self.start, self.bytes) = (pointer.offset, bytes);
                let size = pointer.size as usize;
                RawPage::check(&self.bytes.slice(..size.min(self.bytes.len())), pointer.offset)
            }
            // The page itself may be readable where what lies behind it is not.
            Err(_) => segment.page(pointer),
        }
    }
}

/// The data pages an ordinal index names, in order.
pub(super) fn data_pages(segment: &Segment, root: BTreeMeta, limit: u64) -> Result<Vec<PageRef>, Fault> {
    let Some(pointer) = root.root_page else { return Err(Fault::value("ordinal index", 0, "no root page")) };
    if let Some(found) = segment.found() {
        let pages = usize::try_from(pointer.offset).ok().and_then(|i| found.get(i));
        return pages.cloned().ok_or_else(|| Fault::value("found pages", 0, "a column without a place"));
    }
    if root.is_root_data_page {
        return Ok(vec![PageRef { first_ordinal: 0, pointer }]);
    }
    let mut pages = Vec::new();
    let mut budget = segment.data_end();
    descend(segment, pointer, limit, &mut budget, 4, &mut pages)?;
    if pages.windows(2).any(|w| matches!(w, [a, b] if a.first_ordinal >= b.first_ordinal)) {
        return Err(Fault::value("ordinal index", pointer.offset, "ordinals do not ascend"));
    }
    Ok(pages)
}

/// Takes an index page from what index pages may take together: in a sound file each is named once.
fn spend(budget: &mut u64, page: PagePointer) -> Result<(), Fault> {
    let left = budget.checked_sub(u64::from(page.size));
    *budget = left.ok_or_else(|| Fault::value("index page", page.offset, "pages are named more than once"))?;
    Ok(())
}

fn descend(
    segment: &Segment,
    pointer: PagePointer,
    limit: u64,
    budget: &mut u64,
    depth: u32,
    pages: &mut Vec<PageRef>,
) -> Result<(), Fault> {
    spend(budget, pointer)?;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Fault::value("ordinal index", pointer.offset, "nested too deep"));
    };
    // Index pages are stored as they are; LZ4 is what a later writer would take first.
    let (page, body) = segment.page_body(pointer, Codec::Lz4, limit)?;
    let (leaf, entries) = index::decode_entries(&page.footer, &body).map_err(|f| f.in_page(pointer.offset))?;
    if leaf {
        pages.extend(index::ordinals(&entries).map_err(|f| f.in_page(pointer.offset))?);
        return Ok(());
    }
    if entries.iter().any(|e| e.pointer.offset >= pointer.offset) {
        return Err(Fault::value("ordinal index", pointer.offset, "a child page does not lie before its parent"));
    }
    entries.iter().try_for_each(|entry| descend(segment, entry.pointer, limit, budget, depth, pages))
}

/// Data pages below an index page, whatever its keys are.
fn pointers_below(
    segment: &Segment,
    page: PagePointer,
    limit: u64,
    budget: &mut u64,
    depth: u32,
    into: &mut Vec<PagePointer>,
) -> Result<(), Fault> {
    spend(budget, page)?;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Fault::value("index page", page.offset, "nested too deep"));
    };
    let (raw, body) = segment.page_body(page, Codec::Lz4Frame, limit)?;
    let (leaf, entries) = index::decode_entries(&raw.footer, &body).map_err(|f| f.in_page(page.offset))?;
    for entry in entries {
        if entry.pointer.offset >= page.offset {
            return Err(Fault::value("index page", page.offset, "a child page does not lie before its parent"));
        }
        if leaf {
            into.push(entry.pointer);
        } else {
            pointers_below(segment, entry.pointer, limit, budget, depth, into)?;
        }
    }
    Ok(())
}

/// The ordinal index of a column.
pub(super) fn ordinal_root(meta: &ColumnMeta) -> Option<BTreeMeta> {
    meta.indexes.iter().find_map(|i| i.ordinal.as_ref()).and_then(|o| o.root)
}

/// All values of an index's own column.
pub(super) fn indexed_column(
    segment: &Segment,
    meta: &IndexedColumnMeta,
    shape: Shape,
    limit: u64,
) -> Result<Vec<Values>, Fault> {
    // Sorted columns (dictionaries) have an index by value only; its leaves name the same pages in the same order.
    let root = meta.ordinal_index.or(meta.value_index).and_then(|r| r.root_page.map(|p| (p, r.is_root_data_page)));
    let (root, is_data) = root.ok_or_else(|| Fault::value("indexed column", 0, "no index"))?;
    let mut pointers = Vec::new();
    if is_data {
        pointers.push(root);
    } else {
        let mut budget = segment.data_end();
        pointers_below(segment, root, limit, &mut budget, 4, &mut pointers)?;
    }
    let layout = Layout { encoding: meta.encoding, shape, limit: usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut out = Vec::new();
    let mut seen = 0u64;
    for pointer in pointers {
        let at = pointer.offset;
        let (raw, body) = segment.page_body(pointer, Codec::from_code(meta.compression), limit)?;
        let decoded = data_page::decode(&raw.footer, &body, layout).map_err(|f| f.in_page(at))?;
        if decoded.first_ordinal != seen {
            return Err(Fault::value(
                "indexed column",
                at,
                format!("a page begins at entry {}, expected {seen}", decoded.first_ordinal),
            ));
        }
        seen = seen.saturating_add(decoded.len() as u64);
        out.push(decoded.values);
    }
    if i64::try_from(seen).ok() != Some(meta.num_values) {
        return Err(Fault::value("indexed column", 0, format!("{seen} entries, the meta says {}", meta.num_values)));
    }
    Ok(out)
}

/// Reads the values of one stored column in order.
#[derive(Debug)]
pub(super) struct Leaf {
    segment: Arc<Segment>,
    meta: ColumnMeta,
    layout: Layout,
    codec: Codec,
    pages: Vec<PageRef>,
    next: usize,
    current: Option<DataPage>,
    row: u64,
    /// Rows of the column, where that is known before its last page is read.
    rows: Option<u64>,
    dict: Option<Arc<Dictionary>>,
    window: Window,
    sink: Sink,
    options: ReadOptions,
    index_fault: Option<Fault>,
}

impl Leaf {
    pub(super) fn new(
        segment: &Arc<Segment>,
        meta: &ColumnMeta,
        target: Target,
        rows: Option<u64>,
        options: ReadOptions,
    ) -> Result<Self, Fault> {
        let limit = options.page_limit;
        let layout = Layout {
            encoding: meta.encoding,
            shape: target.shape,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let codec = Codec::from_code(meta.compression);
        let (mut pages, mut index_fault) = (Vec::new(), None);
        match ordinal_root(meta) {
            Some(root) => match data_pages(segment, root, limit) {
                Ok(found) => pages = found,
                Err(fault) if options.salvage && !fault.is_unsupported() => index_fault = Some(fault),
                Err(fault) => return Err(fault),
            },
            // Children of lists that have no element at all may have no page either.
            None if rows.unwrap_or(0) == 0 => {}
            None => return Err(Fault::value("column meta", 0, "no ordinal index")),
        }
        if segment.found().is_none() && pages.first().is_some_and(|p| p.first_ordinal != 0) {
            let first = pages.first().map_or(0, |p| p.first_ordinal);
            return Err(Fault::value("ordinal index", 0, format!("the first page begins at row {first}")));
        }
        let mut leaf = Self {
            segment: Arc::clone(segment),
            meta: meta.clone(),
            layout,
            codec,
            pages,
            next: 0,
            current: None,
            row: 0,
            rows,
            dict: None,
            window: Window { start: 0, bytes: Bytes::new() },
            sink: Sink::new(target, options.nesting, options.lossy_text),
            options,
            index_fault,
        };
        if leaf.index_fault.is_some() {
            leaf.pages = super::salvage::pages_of(segment, meta).unwrap_or_default();
        }
        Ok(leaf)
    }

    /// Ordinal of the next row.
    pub(super) fn position(&self) -> u64 {
        self.row
    }

    fn dictionary(&mut self) -> Result<Option<Arc<Dictionary>>, Fault> {
        if let Some(dict) = &self.dict {
            return Ok(Some(Arc::clone(dict)));
        }
        let Some(pointer) = self.meta.dict_page.filter(|_| self.layout.encoding == encoding::DICT) else {
            return Ok(None);
        };
        let (page, body) = self.segment.page_body(pointer, self.codec, self.options.page_limit)?;
        if page.footer.kind != page_kind::DICTIONARY {
            return Err(Fault::value(
                "dictionary page",
                pointer.offset,
                format!("a page of kind {}", page.footer.kind),
            ));
        }
        let decode = || match self.layout.shape {
            Shape::Strings => strings::decode_plain(&body).map(Dictionary::Strings),
            Shape::Fixed(width) => crate::format::segment::fixed::decode_bit_shuffle(&body, width, self.layout.limit)
                .map(Dictionary::Fixed),
            Shape::Bits => Err(Fault::unsupported("dictionary page", 0, "a dictionary of booleans")),
        };
        let dict = Arc::new(decode().map_err(|f| f.in_page(pointer.offset))?);
        self.dict = Some(Arc::clone(&dict));
        Ok(Some(dict))
    }

    fn load(&mut self, page: PageRef) -> Result<DataPage, Fault> {
        let at = page.pointer.offset;
        let raw = self.window.page(&self.segment, page.pointer, self.options.read_ahead)?;
        let body = raw.decompressed(self.codec, self.options.page_limit)?;
        let decoded = data_page::decode(&raw.footer, &body, self.layout).map_err(|f| f.in_page(at))?;
        if decoded.first_ordinal != page.first_ordinal {
            let why = format!("begins at row {}, its index says {}", decoded.first_ordinal, page.first_ordinal);
            return Err(Fault::value("data page", at, why));
        }
        if let Some(end) = self.end_of(self.next)
            && (decoded.first_ordinal.saturating_add(decoded.len() as u64) > end
                || (self.segment.found().is_none()
                    && decoded.first_ordinal.saturating_add(decoded.len() as u64) != end))
        {
            let why = format!("holds {} rows, the next page begins at row {end}", decoded.len());
            return Err(Fault::value("data page", at, why));
        }
        if matches!(decoded.values, Values::Codes(_)) {
            self.dictionary()?;
        }
        Ok(decoded)
    }

    /// The row behind page `i`, by its successor or the number of rows.
    fn end_of(&self, i: usize) -> Option<u64> {
        match self.pages.get(i.saturating_add(1)) {
            Some(next) => Some(next.first_ordinal),
            None => self.rows,
        }
    }

    /// Reads the next `n` rows; with salvage, rows of damaged pages come as NULL and are named in `lost`.
    pub(super) fn read(&mut self, n: usize, lost: &mut Vec<LostPart>) -> Result<ArrayRef, Fault> {
        let mut done = 0usize;
        while done < n {
            done = done.saturating_add(self.step(n.saturating_sub(done), done, lost)?);
        }
        self.sink.finish()
    }

    /// Appends up to `want` rows, all from one page.
    fn step(&mut self, want: usize, done: usize, lost: &mut Vec<LostPart>) -> Result<usize, Fault> {
        if let Some(page) = &self.current {
            let from = usize::try_from(self.row.saturating_sub(page.first_ordinal)).unwrap_or(usize::MAX);
            if from < page.len() {
                let to = from.saturating_add(want).min(page.len());
                let at = self.pages.get(self.next.saturating_sub(1)).map_or(0, |p| p.pointer.offset);
                let appended = self.sink.append(page, self.dict.as_deref(), from, to).map_err(|f| f.in_page(at));
                let n = to.saturating_sub(from);
                self.row = self.row.saturating_add(n as u64);
                if let Err(fault) = appended {
                    return self.replace_sink(fault, n, done, lost);
                }
                return Ok(n);
            }
        }
        let Some(page) = self.pages.get(self.next).copied() else { return self.no_more_pages(want, done, lost) };
        if page.first_ordinal > self.row {
            // Only found pages have holes between them.
            let fault = self.index_fault.clone().unwrap_or_else(|| Fault::value("column", 0, "a page is missing"));
            return Ok(self.lose(fault, page.first_ordinal, want, done, lost));
        }
        match self.load(page) {
            Ok(decoded) => {
                self.current = Some(decoded);
                self.next = self.next.saturating_add(1);
                Ok(0)
            }
            Err(fault) if self.options.salvage && !matches!(fault.why, Why::Limit { .. }) => {
                let end = self.end_of(self.next).unwrap_or(u64::MAX);
                let n = self.heal_or_lose(&fault, end, want, done, lost);
                if self.row >= end {
                    self.next = self.next.saturating_add(1);
                    self.current = None;
                }
                Ok(n)
            }
            Err(fault) => Err(fault),
        }
    }

    /// A value that cannot be converted spoils what the sink holds of this batch; it is made again.
    fn replace_sink(&mut self, fault: Fault, n: usize, done: usize, lost: &mut Vec<LostPart>) -> Result<usize, Fault> {
        if !self.options.salvage || matches!(fault.why, Why::Limit { .. }) {
            return Err(fault);
        }
        let target = self.sink.target().clone();
        let mut sink = Sink::new(target, self.options.nesting, self.options.lossy_text);
        sink.append_nulls(done.saturating_add(n));
        self.sink = sink;
        lost.push(LostPart { rows: 0..done.saturating_add(n), fault, healed_by: None });
        Ok(n)
    }

    fn no_more_pages(&mut self, want: usize, done: usize, lost: &mut Vec<LostPart>) -> Result<usize, Fault> {
        let fault = self.index_fault.clone().unwrap_or_else(|| {
            Fault::value("column", 0, format!("its pages end at row {}, {want} more are needed", self.row))
        });
        if !self.options.salvage {
            return Err(fault);
        }
        Ok(self.lose(fault, u64::MAX, want, done, lost))
    }

    fn lose(&mut self, fault: Fault, end: u64, want: usize, done: usize, lost: &mut Vec<LostPart>) -> usize {
        let left = usize::try_from(end.saturating_sub(self.row)).unwrap_or(usize::MAX);
        let n = want.min(left);
        self.sink.append_nulls(n);
        self.row = self.row.saturating_add(n as u64);
        lost.push(LostPart { rows: done..done.saturating_add(n), fault, healed_by: None });
        n
    }

    fn heal_or_lose(&mut self, fault: &Fault, end: u64, want: usize, done: usize, lost: &mut Vec<LostPart>) -> usize {
        let rebuilt =
            super::salvage::from_bitmap_index(&self.segment, &self.meta, self.layout, self.row..end, self.options);
        if let Some(page) = rebuilt {
            let to = want.min(page.len());
            if self.sink.append(&page, None, 0, to).is_ok() {
                self.row = self.row.saturating_add(to as u64);
                let rows = done..done.saturating_add(to);
                lost.push(LostPart { rows, fault: fault.clone(), healed_by: Some("bitmap index") });
                return to;
            }
        }
        self.lose(fault.clone(), end, want, done, lost)
    }
}

/// Values of several pages as one.
pub(super) fn concat_fixed(parts: &[Values]) -> Option<Fixed> {
    let mut out: Option<Fixed> = None;
    for part in parts {
        let Values::Fixed(v) = part else { return None };
        match &mut out {
            Some(all) => all.bytes.extend_from_slice(&v.bytes),
            None => out = Some(v.clone()),
        }
    }
    out
}

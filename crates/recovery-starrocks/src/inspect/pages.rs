//! Where the pages of a segment lie, by its own footer and indexes.

use std::collections::BTreeSet;
use std::ops::Range;

use recovery_core::{Blob, Context, ReadError};

use crate::reader::load::store_failed;

use crate::format::segment::footer::{self, TRAILER, Trailer};
use crate::format::segment::index::{IndexEntry, decode_entries};
use crate::format::segment::proto::{BTreeMeta, ColumnMeta, IndexedColumnMeta, PagePointer, SegmentFooter};
use crate::format::segment::{Codec, RawPage};

pub use crate::format::segment::crc32c;

/// Deepest tree of index pages; the engine writes one level.
const DEEPEST: u32 = 8;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Place in the file.
    pub offset: u64,
    /// Length, its CRC included.
    pub size: u64,
    /// What it belongs to.
    pub what: String,
    /// Unique id of the column.
    pub column: Option<i64>,
    /// First row and number of rows, for data pages whose rows are the segment's.
    pub rows: Option<(u64, u64)>,
    /// Whether values are lost with it.
    pub data: bool,
}

/// The pages of a segment.
#[derive(Clone, Debug)]
pub struct Map {
    /// Rows.
    pub rows: u64,
    /// Pages by offset, without overlap.
    pub spans: Vec<Span>,
    /// Columns whose pages could not be found, with the reason.
    pub lost_columns: Vec<String>,
    /// Footer, lengths, checksum and magic.
    pub footer: Range<u64>,
}

/// Why a segment has no map.
#[derive(Clone, Debug)]
pub enum Complaint {
    /// The medium or the store did not give the bytes.
    Read(ReadError),
    /// The footer cannot be used.
    Wrong(String),
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(e) => e.fmt(f),
            Self::Wrong(why) => f.write_str(why),
        }
    }
}

fn wrong(why: impl ToString) -> Complaint {
    Complaint::Wrong(why.to_string())
}

/// Reads footer and indexes.
///
/// # Errors
///
/// With what is wrong, when the footer cannot be used.
pub fn map(blob: &dyn Blob, cx: &Context) -> Result<Map, Complaint> {
    let len = blob.len();
    let at = len.saturating_sub(TRAILER);
    let last = blob.bytes(at..len).map_err(Complaint::Read)?;
    let trailer = Trailer::decode(&last, len).map_err(wrong)?;
    let start = at.saturating_sub(u64::from(trailer.length));
    if u64::from(trailer.length) > cx.limits.memory / 64 {
        return Err(wrong(format!("the footer has {} bytes, more than the memory limit allows", trailer.length)));
    }
    let message = blob.bytes(start..at).map_err(Complaint::Read)?;
    let footer = footer::decode(trailer, &message, start).map_err(wrong)?;
    let mut walk = Walk {
        blob,
        end: start,
        limit: cx.limits.record,
        spans: Vec::new(),
        lost: Vec::new(),
        seen: BTreeSet::new(),
        failed: None,
    };
    walk.segment(&footer);
    if let Some(error) = walk.failed {
        return Err(Complaint::Read(error));
    }
    let mut spans = walk.spans;
    spans.sort_by_key(|s| (s.offset, s.size));
    let mut lost = walk.lost;
    let mut reached = 0u64;
    spans.retain(|s| {
        let fits = s.offset >= reached;
        if fits {
            reached = s.offset.saturating_add(s.size);
        } else {
            lost.push(format!("{}: its page at {:#x} lies over another", s.what, s.offset));
        }
        fits
    });
    Ok(Map { rows: footer.num_rows, spans, lost_columns: lost, footer: start..len })
}

struct Walk<'a> {
    blob: &'a dyn Blob,
    end: u64,
    limit: u64,
    spans: Vec<Span>,
    lost: Vec<String>,
    seen: BTreeSet<(u64, u32)>,
    /// The store failed: what is missing then means nothing.
    failed: Option<ReadError>,
}

impl Walk<'_> {
    fn segment(&mut self, footer: &SegmentFooter) {
        for column in &footer.columns {
            self.column(column, i64::from(column.unique_id), Some(footer.num_rows), 0);
        }
        if let Some(page) = footer.short_key_page {
            self.page(page, "short key index", None, None, false);
        }
    }

    fn column(&mut self, column: &ColumnMeta, id: i64, rows: Option<u64>, depth: u32) {
        if let Some(page) = column.dict_page {
            self.page(page, "dictionary", Some(id), None, true);
        }
        for index in &column.indexes {
            if let Some(root) = index.ordinal.and_then(|o| o.root) {
                self.ordinal(root, "data", Some(id), rows, true, column.compression);
            }
            let zones = index.zone_map.as_ref().and_then(|z| z.pages);
            let bitmap = index.bitmap.as_ref();
            let named = [
                ("zone map", zones),
                ("bitmap index values", bitmap.and_then(|b| b.dict_column)),
                ("bitmap index rows", bitmap.and_then(|b| b.bitmap_column)),
                ("bloom filters", index.bloom.as_ref().and_then(|b| b.filters)),
            ];
            for (what, meta) in named {
                if let Some(meta) = meta {
                    self.indexed(&meta, what, id);
                }
            }
        }
        if depth < 64 {
            for child in &column.children {
                self.column(child, id, None, depth.saturating_add(1));
            }
        }
    }

    fn indexed(&mut self, meta: &IndexedColumnMeta, what: &str, id: i64) {
        for tree in [meta.ordinal_index, meta.value_index].into_iter().flatten() {
            self.ordinal(tree, what, Some(id), None, false, meta.compression);
        }
    }

    /// A tree of index pages down to data pages, or a single data page.
    fn ordinal(
        &mut self,
        tree: BTreeMeta,
        what: &str,
        id: Option<i64>,
        rows: Option<u64>,
        data: bool,
        compression: i32,
    ) {
        let Some(root) = tree.root_page else { return };
        if tree.is_root_data_page {
            self.page(root, what, id, rows.map(|n| (0, n)), data);
            return;
        }
        let mut leaves = Vec::new();
        if let Err(why) = self.leaves(root, what, id, compression, DEEPEST, &mut leaves) {
            self.lost.push(format!("{}: {why}", describe(what, id)));
        }
        for (i, (first, pointer)) in leaves.iter().enumerate() {
            let next = leaves.get(i.saturating_add(1)).and_then(|l| l.0).or(rows);
            let of = rows.and(first.zip(next)).map(|(from, to)| (from, to.saturating_sub(from)));
            self.page(*pointer, what, id, of, data);
        }
    }

    fn leaves(
        &mut self,
        pointer: PagePointer,
        what: &str,
        id: Option<i64>,
        compression: i32,
        depth: u32,
        out: &mut Vec<(Option<u64>, PagePointer)>,
    ) -> Result<(), String> {
        if !self.page(pointer, &format!("{what} index"), id, None, false) {
            return Ok(());
        }
        let bytes = self.blob.bytes(pointer.offset..pointer.end()).map_err(|e| {
            let text = e.to_string();
            if store_failed(&e) {
                self.failed = Some(e);
            }
            text
        })?;
        let page = RawPage::check(&bytes, pointer.offset).map_err(|e| e.to_string())?;
        let codec = Codec::from_code(compression);
        let body = page.decompressed(codec, self.limit).map_err(|e| e.to_string())?;
        let (leaf, entries) = decode_entries(&page.footer, &body).map_err(|e| e.to_string())?;
        for entry in &entries {
            if leaf {
                out.push((ordinal_of(entry), entry.pointer));
            } else if depth > 0 {
                self.leaves(entry.pointer, what, id, compression, depth.saturating_sub(1), out)?;
            } else {
                return Err("index pages nest deeper than the engine writes".into());
            }
        }
        Ok(())
    }

    /// Notes a page; says whether it is new and lies where pages lie.
    fn page(
        &mut self,
        pointer: PagePointer,
        what: &str,
        id: Option<i64>,
        rows: Option<(u64, u64)>,
        data: bool,
    ) -> bool {
        let what = describe(what, id);
        if pointer.size < 8 || pointer.end() > self.end {
            self.lost.push(format!(
                "{what}: a page of {} bytes at {:#x} is not inside the pages, which end at {:#x}",
                pointer.size, pointer.offset, self.end
            ));
            return false;
        }
        if !self.seen.insert((pointer.offset, pointer.size)) {
            return false;
        }
        self.spans.push(Span { offset: pointer.offset, size: u64::from(pointer.size), what, column: id, rows, data });
        true
    }
}

fn describe(what: &str, id: Option<i64>) -> String {
    id.map_or_else(|| what.to_owned(), |id| format!("column {id}, {what}"))
}

fn ordinal_of(entry: &IndexEntry<'_>) -> Option<u64> {
    entry.key.try_into().ok().map(u64::from_be_bytes)
}

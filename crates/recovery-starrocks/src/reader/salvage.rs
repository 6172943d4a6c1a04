//! Ways around damage: a column rebuilt from its bitmap index, pages found without an ordinal index, and a segment read
//! without its footer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use recovery_core::Blob;

use super::leaf::{concat_fixed, data_pages, indexed_column, ordinal_root};
use super::segment::{ReadOptions, Segment};
use crate::format::segment::index::PageRef;
use crate::format::segment::proto::{
    BTreeMeta, BitmapIndex, ColumnIndex, ColumnMeta, DataPageFooter, OrdinalIndex, PagePointer, SegmentFooter,
    encoding, page_kind,
};
use crate::format::segment::walk::{Piece, walk};
use crate::format::segment::{
    Codec, DataPage, Fault, Fixed, Layout, RawPage, Shape, Strings, Values, fixed, roaring, strings,
};
use crate::model::schema::{Column, ColumnType, TabletSchema};

fn whole(segment: &Segment) -> Option<Vec<Piece>> {
    segment.blob().bytes(0..segment.data_end()).ok().map(|data| walk(&data))
}

fn claims(segment: &Segment, meta: &ColumnMeta, except: &ColumnMeta, into: &mut Vec<u64>) {
    if !std::ptr::eq(meta, except)
        && meta != except
        && let Some(root) = ordinal_root(meta)
    {
        let pages = data_pages(segment, root, 1 << 30).unwrap_or_default();
        into.extend(pages.iter().map(|p| p.pointer.offset));
    }
    meta.children.iter().for_each(|child| claims(segment, child, except, into));
}

fn reference(page: &RawPage) -> Option<(PageRef, u64)> {
    let data = page.footer.data.filter(|_| page.footer.kind == page_kind::DATA)?;
    let pointer = PagePointer { offset: page.offset, size: page.size };
    Some((PageRef { first_ordinal: data.first_ordinal, pointer }, data.num_values))
}

/// The data pages of a column whose ordinal index is damaged: the run that no other column claims.
pub(super) fn pages_of(segment: &Segment, meta: &ColumnMeta) -> Option<Vec<PageRef>> {
    let mut claimed = Vec::new();
    segment.footer().columns.iter().for_each(|c| claims(segment, c, meta, &mut claimed));
    claimed.sort_unstable();
    let (mut run, mut end) = (Vec::new(), 0u64);
    for piece in whole(segment)? {
        let Piece::Page(page) = piece else { continue };
        let Some((found, rows)) = reference(&page).filter(|(p, _)| claimed.binary_search(&p.pointer.offset).is_err())
        else {
            continue;
        };
        if found.first_ordinal != end {
            if run.is_empty() { continue } else { break }
        }
        end = end.saturating_add(rows);
        run.push(found);
        if end >= segment.num_rows() {
            break;
        }
    }
    (!run.is_empty()).then_some(run)
}

/// Rows of a column from its bitmap index, which holds every value with the rows it stands in.
///
/// `None` when there is no such index, it is damaged too, or it does not name every row exactly once.
pub(super) fn from_bitmap_index(
    segment: &Segment,
    meta: &ColumnMeta,
    layout: Layout,
    rows: Range<u64>,
    options: ReadOptions,
) -> Option<DataPage> {
    let index: BitmapIndex = meta.indexes.iter().find_map(|i| i.bitmap)?;
    let limit = options.page_limit;
    let dict = indexed_column(segment, &index.dict_column?, layout.shape, limit).ok()?;
    let maps = indexed_column(segment, &index.bitmap_column?, Shape::Strings, limit).ok()?;
    let (from, to) = (u32::try_from(rows.start).ok()?, u32::try_from(rows.end).ok()?);
    let n = usize::try_from(to.checked_sub(from)?).ok()?;
    // 0 not named yet, 1 NULL, 2.. the value's place in the dictionary plus 2
    let mut place = vec![0usize; n];
    let dict_len: usize = dict.iter().map(Values::len).sum();
    let maps = maps.iter().flat_map(|m| match m {
        Values::Strings(s) => s.iter().collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let mut count = 0usize;
    for (i, bytes) in maps.enumerate() {
        let (map, _) = roaring::native(bytes, "bitmap index", 0).ok()?;
        let mark = if i < dict_len { i.checked_add(2)? } else { 1 };
        for row in map.range(from..to) {
            let cell = place.get_mut(usize::try_from(row.checked_sub(from)?).ok()?)?;
            if *cell != 0 {
                return None;
            }
            *cell = mark;
        }
        count = i.checked_add(1)?;
    }
    let expected = dict_len.checked_add(usize::from(index.has_null))?;
    if count != expected || place.contains(&0) {
        return None;
    }
    let values = match layout.shape {
        Shape::Strings => {
            let all: Vec<&[u8]> = dict
                .iter()
                .flat_map(|d| match d {
                    Values::Strings(s) => s.iter().collect::<Vec<_>>(),
                    _ => Vec::new(),
                })
                .collect();
            let value = |p: &usize| p.checked_sub(2).and_then(|i| all.get(i).copied()).unwrap_or_default();
            Values::Strings(place.iter().map(value).collect::<Strings>())
        }
        Shape::Fixed(width) => {
            let all = concat_fixed(&dict)?;
            let mut bytes = vec![0; n.checked_mul(width)?];
            for (p, cell) in place.iter().zip(bytes.chunks_exact_mut(width)) {
                if let Some(value) = p.checked_sub(2).and_then(|i| all.bytes.chunks_exact(width).nth(i)) {
                    cell.copy_from_slice(value);
                }
            }
            Values::Fixed(Fixed { width, bytes })
        }
        Shape::Bits => return None,
    };
    let present: BooleanBuffer = place.iter().map(|p| *p != 1).collect();
    let present = (present.count_set_bits() != n).then_some(present);
    Some(DataPage { first_ordinal: rows.start, values, present, footer: DataPageFooter::default() })
}

/// A stored column without children, in the order of writing.
struct Leaf {
    kind: Kind,
    /// Has one value for each row of the segment.
    top: bool,
    pages: Vec<PageRef>,
    dict: Option<PagePointer>,
    guess: Option<Guess>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Value(ColumnType),
    /// NULL flags of a complex column.
    Flags,
    /// Lengths of lists.
    Sizes,
}

/// What a page says about its column.
#[derive(Clone, Copy)]
struct Guess {
    kind: ColumnType,
    encoding: i32,
    codec: i32,
}

fn leaf(leaves: &mut Vec<Leaf>, kind: Kind, top: bool, nullable: bool) -> ColumnMeta {
    let id = leaves.len() as u64;
    leaves.push(Leaf { kind, top, pages: Vec::new(), dict: None, guess: None });
    // The place in the list of found pages stands where a page pointer belongs; no real page has size 0.
    let root = BTreeMeta { root_page: Some(PagePointer { offset: id, size: 0 }), is_root_data_page: false };
    let index = ColumnIndex { kind: 1, ordinal: Some(OrdinalIndex { root: Some(root) }), ..ColumnIndex::default() };
    ColumnMeta { is_nullable: nullable, indexes: vec![index], ..ColumnMeta::default() }
}

/// The meta of a column as its writer would have made it; leaves are numbered in the order of writing: NULL flags,
/// sizes, then values.
fn build(column: &Column, leaves: &mut Vec<Leaf>, top: bool) -> ColumnMeta {
    let parent = |children| ColumnMeta {
        type_code: column.kind.code(),
        encoding: encoding::DEFAULT,
        is_nullable: column.nullable,
        children,
        ..ColumnMeta::default()
    };
    let flags = |leaves: &mut Vec<Leaf>| column.nullable.then(|| leaf(leaves, Kind::Flags, top, false));
    match column.kind {
        ColumnType::Array | ColumnType::Map => {
            let flags = flags(leaves);
            let sizes = leaf(leaves, Kind::Sizes, top, false);
            let mut children: Vec<ColumnMeta> = column.children.iter().map(|c| build(c, leaves, false)).collect();
            children.extend(flags);
            children.push(sizes);
            parent(children)
        }
        ColumnType::Struct => {
            let flags = flags(leaves);
            let mut children: Vec<ColumnMeta> = column.children.iter().map(|c| build(c, leaves, top)).collect();
            children.extend(flags);
            parent(children)
        }
        kind => leaf(leaves, Kind::Value(kind), top, column.nullable),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk::<4>().map(|w| u32::from_le_bytes(*w) as usize)
}

/// Whether bytes begin with the header of a bit shuffle page of this width.
fn shuffled(body: &[u8], width: usize) -> bool {
    let header = (word(body, 0), word(body, 4), word(body, 8), word(body, 12));
    matches!(header, (Some(n), Some(total), Some(rounded), Some(w))
        if w == width && rounded == n.saturating_add(7) & !7 && (16..=body.len()).contains(&total))
}

/// What a page of this kind of column could be; `None` when it cannot be one.
fn guess(kind: Kind, page: &RawPage) -> Option<Guess> {
    let data = page.footer.data?;
    let stored = page.body.len() as u64 == u64::from(page.footer.uncompressed_size);
    let codecs = if stored { vec![Codec::None] } else { Codec::sniff(&page.body) };
    codecs.into_iter().find_map(|codec| {
        let body = page.decompressed(codec, 64 << 20).ok()?;
        let body = body.slice(..body.len().checked_sub(data.nullmap_size as usize)?);
        let (kind, encoding) = shape_of(kind, &body, &data)?;
        let codec = match codec {
            Codec::Snappy => 3,
            Codec::Lz4 => 4,
            Codec::Lz4Frame => 5,
            Codec::Zlib => 6,
            Codec::Zstd => 7,
            Codec::Gzip => 8,
            Codec::None | Codec::Other(_) => 0,
        };
        Some(Guess { kind, encoding, codec })
    })
}

fn shape_of(kind: Kind, body: &bytes::Bytes, data: &DataPageFooter) -> Option<(ColumnType, i32)> {
    use ColumnType as T;
    let runs = |body: &[u8]| word(body, 0).is_some_and(|n| n as u64 <= data.num_values) && !shuffled(body, 1);
    let of_width = |types: &[(usize, T)]| {
        let plain = types.iter().find(|(w, _)| shuffled(body, *w)).map(|(_, t)| (*t, encoding::BIT_SHUFFLE));
        let coded = || (word(body, 0) == Some(5) && shuffled(body.get(4..)?, 4)).then_some(types.first()?.1);
        plain.or_else(|| coded().map(|t| (t, encoding::DICT)))
    };
    match kind {
        Kind::Flags if shuffled(body, 1) => Some((T::TinyInt, encoding::BIT_SHUFFLE)),
        Kind::Flags => runs(body).then_some((T::Boolean, encoding::RLE)),
        Kind::Sizes => of_width(&[(4, T::Int)]),
        Kind::Value(T::Boolean) => runs(body).then_some((T::Boolean, encoding::RLE)),
        Kind::Value(t @ (T::Char | T::Varchar | T::Varbinary | T::Json | T::Hll | T::Object | T::Percentile)) => {
            let rest = body.get(4..)?;
            match word(body, 0) {
                Some(5) if shuffled(rest, 4) => return Some((t, encoding::DICT)),
                Some(2) if strings::decode_plain(&body.slice(4..)).is_ok() && strings::decode_plain(body).is_err() => {
                    return Some((t, encoding::DICT));
                }
                _ => {}
            }
            strings::decode_plain(body).is_ok().then_some((t, encoding::PLAIN))
        }
        Kind::Value(T::Date | T::DateV1) => of_width(&[(4, T::Date), (3, T::DateV1)]),
        Kind::Value(T::DecimalV1 | T::DecimalV2) => of_width(&[(16, T::DecimalV2), (12, T::DecimalV1)]),
        Kind::Value(T::Datetime | T::DatetimeV1) => {
            let (_, encoding) = of_width(&[(8, T::Datetime)])?;
            // Decimal yyyymmddHHMMSS stays below 2^47; a Julian day shifted by 40 bits does not.
            let values = fixed::decode_bit_shuffle(body, 8, 64 << 20).ok()?;
            let packed = values.bytes.as_chunks::<8>().0.iter().any(|b| i64::from_le_bytes(*b) >= 1 << 48);
            Some((if packed { T::Datetime } else { T::DatetimeV1 }, encoding))
        }
        Kind::Value(t) => {
            let width = match t {
                T::TinyInt | T::UnsignedTinyInt => 1,
                T::SmallInt | T::UnsignedSmallInt => 2,
                T::Int | T::UnsignedInt | T::Float | T::Decimal32 => 4,
                T::BigInt | T::UnsignedBigInt | T::Double | T::Decimal64 => 8,
                T::LargeInt | T::Decimal128 => 16,
                T::Decimal256 | T::Int256 => 32,
                _ => return None,
            };
            of_width(&[(width, t)])
        }
    }
}

/// The number of rows that most of the first `columns` runs of pages end at; behind them come pages of indexes.
fn usual_rows(pieces: &[Piece], columns: usize) -> Option<u64> {
    let mut ends: BTreeMap<u64, u32> = BTreeMap::new();
    let (mut end, mut runs) = (0u64, 0usize);
    for (found, rows) in pieces.iter().filter_map(|p| match p {
        Piece::Page(page) => reference(page),
        Piece::Gap(_) => None,
    }) {
        if found.first_ordinal == 0 && end > 0 {
            let n = ends.entry(end).or_default();
            *n = n.saturating_add(1);
            runs = runs.saturating_add(1);
            if runs >= columns {
                break;
            }
        }
        end = found.first_ordinal.saturating_add(rows);
    }
    if runs < columns {
        let n = ends.entry(end).or_default();
        *n = n.saturating_add(1);
    }
    ends.into_iter().max_by_key(|(rows, n)| (*n, *rows)).map(|(rows, _)| rows)
}

struct Attribution<'a> {
    leaves: &'a mut Vec<Leaf>,
    rows: u64,
    current: Option<usize>,
    end: u64,
    gap: bool,
}

impl Attribution<'_> {
    fn complete(&self) -> bool {
        match self.current.and_then(|i| self.leaves.get(i)) {
            Some(leaf) if leaf.top => self.end >= self.rows,
            _ => true,
        }
    }

    fn awaits_dictionary(&self) -> bool {
        let leaf = self.current.and_then(|i| self.leaves.get(i));
        leaf.is_some_and(|l| l.dict.is_none() && l.guess.is_some_and(|g| g.encoding == encoding::DICT))
    }

    fn next(&self) -> usize {
        self.current.map_or(0, |i| i.saturating_add(1))
    }

    fn data(&mut self, page: &RawPage) -> Option<()> {
        let (found, rows) = reference(page)?;
        let first = found.first_ordinal;
        let goes_on = self.current.is_some()
            && first > 0
            && (first == self.end || (self.gap && first > self.end))
            && (!self.complete() || self.leaves.get(self.current?).is_some_and(|l| !l.top));
        let (at, guessed) = if goes_on {
            let at = self.current?;
            (at, guess(self.leaves.get(at)?.kind, page)?)
        } else {
            // A gap behind a complete column took (at least) a column of one page, or its dictionary.
            let skip = usize::from(self.gap && self.complete() && !self.awaits_dictionary());
            let candidates =
                (self.next().saturating_add(skip)..self.leaves.len()).chain(self.next()..self.leaves.len());
            let fits = |i: usize| self.leaves.get(i).and_then(|l| guess(l.kind, page)).map(|g| (i, g));
            // Without a gap nothing can be missing.
            let found = if self.gap { candidates.into_iter().find_map(fits) } else { fits(self.next()) };
            found?
        };
        let leaf = self.leaves.get_mut(at)?;
        match &mut leaf.guess {
            Some(known) => {
                // A page stored as it is says nothing about the compression of the others.
                known.codec = known.codec.max(guessed.codec);
                if guessed.kind != known.kind && guessed.kind == ColumnType::Datetime {
                    known.kind = guessed.kind;
                }
            }
            none => *none = Some(guessed),
        }
        leaf.pages.push(found);
        self.current = Some(at);
        self.end = first.saturating_add(rows);
        self.gap = false;
        Some(())
    }

    fn dictionary(&mut self, page: &RawPage) {
        let at =
            if self.gap && self.complete() && !self.awaits_dictionary() { Some(self.next()) } else { self.current };
        if let Some(leaf) = at.and_then(|i| self.leaves.get_mut(i)) {
            leaf.dict = Some(PagePointer { offset: page.offset, size: page.size });
            if page.body.len() as u64 != u64::from(page.footer.uncompressed_size)
                && let Some(known) = leaf.guess.as_mut().filter(|g| g.codec == 0)
            {
                known.codec = match Codec::sniff(&page.body).first() {
                    Some(Codec::Lz4Frame) => 5,
                    Some(Codec::Zstd) => 7,
                    Some(Codec::Zlib) => 6,
                    _ => 4,
                };
            }
            self.current = at;
            self.end = self.rows;
            self.gap = false;
        }
    }
}

fn fill(meta: &mut ColumnMeta, leaves: &[Leaf]) {
    let id = ordinal_root(meta).and_then(|r| r.root_page).and_then(|p| usize::try_from(p.offset).ok());
    if let Some(leaf) = id.and_then(|i| leaves.get(i)) {
        let guess = leaf.guess.unwrap_or(Guess {
            kind: match leaf.kind {
                Kind::Value(kind) => kind,
                Kind::Flags => ColumnType::Boolean,
                Kind::Sizes => ColumnType::Int,
            },
            encoding: encoding::PLAIN,
            codec: 0,
        });
        meta.type_code = guess.kind.code();
        meta.encoding = guess.encoding;
        meta.compression = guess.codec;
        meta.dict_page = leaf.dict;
    }
    meta.children.iter_mut().for_each(|child| fill(child, leaves));
}

/// A segment read without its footer: pages are found by their checksums and given to the columns of `schema` in the
/// order writers write them. `rows` is the number of rows where it is known.
///
/// # Errors
///
/// When no page belongs to any column.
pub fn without_footer(blob: &Arc<dyn Blob>, schema: &TabletSchema, rows: Option<u64>) -> Result<Arc<Segment>, Fault> {
    let nothing = || Fault::value("segment without its footer", blob.len(), "no page with a right checksum was found");
    let data = blob.bytes(0..blob.len()).map_err(|_| nothing())?;
    let pieces = walk(&data);
    let mut leaves = Vec::new();
    let mut columns: Vec<ColumnMeta> = Vec::new();
    for (i, column) in (0u32..).zip(&schema.columns) {
        let mut meta = build(column, &mut leaves, true);
        meta.column_id = i;
        meta.unique_id = u32::try_from(column.unique_id).unwrap_or(i);
        columns.push(meta);
    }
    let rows = rows.or_else(|| usual_rows(&pieces, leaves.len())).filter(|r| *r > 0).ok_or_else(nothing)?;
    let mut attribution = Attribution { leaves: &mut leaves, rows, current: None, end: 0, gap: false };
    for piece in &pieces {
        match piece {
            Piece::Gap(_) => attribution.gap = true,
            Piece::Page(page) if page.footer.kind == page_kind::DICTIONARY => attribution.dictionary(page),
            Piece::Page(page) if page.footer.kind == page_kind::DATA => {
                if attribution.data(page).is_none() && attribution.next() >= attribution.leaves.len() {
                    break;
                }
            }
            Piece::Page(_) => {}
        }
    }
    if leaves.iter().all(|l| l.pages.is_empty()) {
        return Err(nothing());
    }
    columns.iter_mut().for_each(|meta| fill(meta, &leaves));
    let footer = SegmentFooter { version: 2, columns, num_rows: rows, short_key_page: None };
    let found = leaves.into_iter().map(|l| l.pages).collect();
    Ok(Arc::new(Segment::with_pages(Arc::clone(blob), footer, found)))
}

//! A data page: encoded values, then the null map.
//!
//! Format 1 stores nothing for NULL rows and keeps one bit a row in a run-length stream; format 2 stores a
//! placeholder and keeps one byte a row, bit shuffled or as an LZ4 block. The last `nullmap_size` bytes of the body are
//! the null map; writers before 2024 gave its bit-shuffled form its worst-case size, so what follows the meaningful
//! bytes is garbage. Source: `be/src/storage/rowset/page_handle_fwd.h`, `parsed_page.cpp`, `column_writer.cpp`.

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use recovery_core::Cursor;

use super::fault::{Fault, Why};
use super::fixed::{self, Fixed};
use super::proto::{DataPageFooter, PageFooter, encoding, page_kind};
use super::strings::{self, Strings};
use super::{bitshuffle, rle};

/// The shape of a column's values on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Values of so many bytes.
    Fixed(usize),
    /// One bit.
    Bits,
    /// Strings of any length.
    Strings,
}

/// Values of a page, one for each row.
#[derive(Clone, Debug)]
pub enum Values {
    /// Fixed width.
    Fixed(Fixed),
    /// Booleans.
    Bits(BooleanBuffer),
    /// Strings.
    Strings(Strings),
    /// Places in the column's dictionary, 4 bytes each.
    Codes(Fixed),
}

impl Values {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Fixed(v) | Self::Codes(v) => v.len(),
            Self::Bits(v) => v.len(),
            Self::Strings(v) => v.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn spread(&self, present: &BooleanBuffer) -> Option<Self> {
        match self {
            Self::Fixed(v) => v.spread(present).map(Self::Fixed),
            Self::Codes(v) => v.spread(present).map(Self::Codes),
            Self::Strings(v) => v.spread(present).map(Self::Strings),
            Self::Bits(v) => {
                let mut source = v.iter();
                let mut short = false;
                let bits = present.iter().map(|has| {
                    has && source.next().unwrap_or_else(|| {
                        short = true;
                        false
                    })
                });
                let out: BooleanBuffer = bits.collect();
                (!short && source.next().is_none()).then_some(Self::Bits(out))
            }
        }
    }
}

/// A decoded data page.
#[derive(Clone, Debug)]
pub struct DataPage {
    /// Ordinal of its first row.
    pub first_ordinal: u64,
    /// Values, one for each row; those of NULL rows mean nothing.
    pub values: Values,
    /// A bit for each row that is not NULL; `None` when none is.
    pub present: Option<BooleanBuffer>,
    /// Its footer.
    pub footer: DataPageFooter,
}

impl DataPage {
    /// Rows of the page.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// How to decode the pages of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Encoding code of the column.
    pub encoding: i32,
    /// Shape of its values.
    pub shape: Shape,
    /// Bytes a page may take when decoded.
    pub limit: usize,
}

const WHAT: &str = "data page";

/// Decodes the (decompressed) body of a data page.
///
/// # Errors
///
/// When the body does not hold what its footer says.
pub fn decode(footer: &PageFooter, body: &Bytes, layout: Layout) -> Result<DataPage, Fault> {
    let Some(data) = footer.data.filter(|_| footer.kind == page_kind::DATA) else {
        return Err(Fault::value(WHAT, 0, format!("a page of kind {} where a data page belongs", footer.kind)));
    };
    let rows = usize::try_from(data.num_values).unwrap_or(usize::MAX);
    if rows / 8 > layout.limit {
        let why = Why::Limit { need: data.num_values / 8, limit: layout.limit as u64 };
        return Err(Fault { what: WHAT, page: None, at: 0, why });
    }
    let map = data.nullmap_size as usize;
    let Some(split) = body.len().checked_sub(map) else {
        return Err(Fault::short("null map", 0, map as u64, body.len() as u64));
    };
    let dense = data.format_version.unwrap_or(1) < 2;
    let null = if map == 0 { None } else { Some(null_map(&data, &body.slice(split..), rows, dense, layout.limit)?) };
    let present = null.as_ref().map(|null| !null);
    let stored = match &present {
        Some(present) if dense => present.count_set_bits(),
        _ => rows,
    };
    let values = values(&body.slice(..split), layout, stored)?;
    let values = match &present {
        Some(present) if dense => values
            .spread(present)
            .ok_or_else(|| Fault::value(WHAT, 0, "the number of values does not fit the null map"))?,
        _ => values,
    };
    if values.len() != rows {
        return Err(Fault::value(WHAT, 0, format!("{} values, the page footer says {rows}", values.len())));
    }
    let present = present.filter(|p| p.count_set_bits() != rows);
    Ok(DataPage { first_ordinal: data.first_ordinal, values, present, footer: data })
}

fn null_map(data: &DataPageFooter, map: &[u8], rows: usize, dense: bool, limit: usize) -> Result<BooleanBuffer, Fault> {
    const WHAT: &str = "null map";
    if dense {
        return rle::decode_bits(map, rows);
    }
    if rows > limit {
        return Err(Fault {
            what: WHAT,
            page: None,
            at: 0,
            why: Why::Limit { need: rows as u64, limit: limit as u64 },
        });
    }
    let mut flags = Vec::new();
    match data.null_encoding.unwrap_or(0) {
        0 => {
            bitshuffle::decode(map, rows.saturating_add(7) & !7, 1, &mut flags)?;
            flags.truncate(rows);
        }
        1 => {
            if rows > map.len().saturating_mul(256).saturating_add(64) {
                return Err(Fault::short(WHAT, 0, rows as u64 / 256, map.len() as u64));
            }
            flags.resize(rows, 0);
            let n = lz4_flex::block::decompress_into(map, &mut flags)
                .map_err(|e| Fault::value(WHAT, 0, format!("LZ4: {e}")))?;
            if n != rows {
                return Err(Fault::value(WHAT, 0, format!("{n} flags for {rows} rows")));
            }
        }
        other => return Err(Fault::unsupported(WHAT, 0, format!("null encoding {other}"))),
    }
    pack_flags(&flags)
}

/// One bit for each byte, which must be 0 or 1.
fn pack_flags(flags: &[u8]) -> Result<BooleanBuffer, Fault> {
    let mut bits = Vec::with_capacity(flags.len().div_ceil(8));
    let (words, tail) = flags.as_chunks::<8>();
    let mut seen = 0u64;
    for word in words {
        let word = u64::from_le_bytes(*word);
        seen |= word;
        bits.push(word.wrapping_mul(0x0102_0408_1020_4080).to_be_bytes()[0]);
    }
    bits.push(tail.iter().enumerate().fold(0u8, |byte, (i, flag)| byte | ((flag & 1) << i)));
    if seen & !0x0101_0101_0101_0101 != 0 || tail.iter().any(|f| *f > 1) {
        return Err(Fault::value("null map", 0, "a flag is neither 0 nor 1"));
    }
    Ok(BooleanBuffer::new(bits.into(), 0, flags.len()))
}

fn values(body: &Bytes, layout: Layout, stored: usize) -> Result<Values, Fault> {
    let checked = |values: Values| -> Result<Values, Fault> {
        // Codes and values of a page with NULLs only may be missing altogether.
        if values.len() == stored {
            return Ok(values);
        }
        Err(Fault::value(WHAT, 0, format!("{} values stored, {stored} expected", values.len())))
    };
    if stored == 0 && body.is_empty() {
        return Ok(empty(layout.shape));
    }
    checked(match (layout.encoding, layout.shape) {
        (encoding::PLAIN, Shape::Strings) => Values::Strings(strings::decode_plain(body)?),
        (encoding::PLAIN, Shape::Fixed(width)) => Values::Fixed(fixed::decode_plain(body, width)?),
        (encoding::PLAIN, Shape::Bits) => Values::Bits(flags_as_bits(&fixed::decode_plain(body, 1)?)),
        (encoding::PREFIX, Shape::Strings) => Values::Strings(strings::decode_prefix(body, layout.limit)?),
        (encoding::RLE, Shape::Bits) => {
            let mut c = Cursor::new(body, 0);
            let count = c.u32_le("run-length page")? as usize;
            if count != stored {
                return Err(Fault::value("run-length page", 0, format!("{count} values stored, {stored} expected")));
            }
            Values::Bits(rle::decode_bits(c.rest(), count)?)
        }
        (encoding::BIT_SHUFFLE, Shape::Fixed(width)) => {
            Values::Fixed(fixed::decode_bit_shuffle(body, width, layout.limit)?)
        }
        (encoding::BIT_SHUFFLE, Shape::Bits) => {
            Values::Bits(flags_as_bits(&fixed::decode_bit_shuffle(body, 1, layout.limit)?))
        }
        (encoding::FOR, Shape::Fixed(width)) => Values::Fixed(fixed::decode_frames(body, width)?),
        (encoding::DICT, shape @ (Shape::Strings | Shape::Fixed(_))) => dictionary_page(body, shape, layout.limit)?,
        (encoding, shape) => return Err(Fault::unsupported(WHAT, 0, format!("encoding {encoding} of {shape:?}"))),
    })
}

fn empty(shape: Shape) -> Values {
    match shape {
        Shape::Fixed(width) => Values::Fixed(Fixed { width, bytes: Vec::new() }),
        Shape::Bits => Values::Bits(BooleanBuffer::new_unset(0)),
        Shape::Strings => Values::Strings(std::iter::empty::<&[u8]>().collect()),
    }
}

fn flags_as_bits(flags: &Fixed) -> BooleanBuffer {
    flags.bytes.iter().map(|b| *b != 0).collect()
}

/// `u32 LE` encoding of this page: DICT, then codes; or what the column fell back to when the dictionary was full.
fn dictionary_page(body: &Bytes, shape: Shape, limit: usize) -> Result<Values, Fault> {
    let kind = Cursor::new(body, 0).u32_le("dictionary-coded page")?;
    let rest = body.slice(4..);
    Ok(match (i32::try_from(kind).unwrap_or(0), shape) {
        (encoding::DICT, _) => Values::Codes(fixed::decode_bit_shuffle(&rest, 4, limit)?),
        (encoding::PLAIN, Shape::Strings) => Values::Strings(strings::decode_plain(&rest)?),
        (encoding::BIT_SHUFFLE, Shape::Fixed(width)) => Values::Fixed(fixed::decode_bit_shuffle(&rest, width, limit)?),
        (other, _) => {
            return Err(Fault::value("dictionary-coded page", 0, format!("page encoding {other} for {shape:?}")));
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )]
    use super::*;

    fn footer(rows: u64, map: u32, format: u32, null_encoding: Option<i32>) -> PageFooter {
        let data = DataPageFooter {
            first_ordinal: 0,
            num_values: rows,
            nullmap_size: map,
            corresponding_element_ordinal: None,
            format_version: Some(format),
            null_encoding,
        };
        PageFooter { kind: page_kind::DATA, data: Some(data), ..PageFooter::default() }
    }

    const INTS: Layout = Layout { encoding: encoding::BIT_SHUFFLE, shape: Shape::Fixed(4), limit: 1 << 20 };

    #[test]
    fn format_1_has_no_value_for_null() {
        let mut body = fixed::encode_bit_shuffle(&[7, 0, 0, 0, 9, 0, 0, 0], 4);
        let map = rle::encode_bits(&[true, false, true, false]);
        body.extend_from_slice(&map);
        let page = decode(&footer(4, map.len() as u32, 1, None), &body.into(), INTS).unwrap();
        let Values::Fixed(v) = &page.values else { unreachable!() };
        assert_eq!(v.bytes, [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(page.present.unwrap().iter().collect::<Vec<_>>(), [false, true, false, true]);
    }

    #[test]
    fn format_2_ignores_garbage_behind_the_null_map() {
        let values: Vec<u8> = (0..9u32).flat_map(u32::to_le_bytes).collect();
        let mut body = fixed::encode_bit_shuffle(&values, 4);
        let mut flags = [0u8; 16];
        flags[3] = 1;
        let mut map = bitshuffle::encode(&flags, 1);
        map.extend_from_slice(&[0xAB; 40]);
        body.extend_from_slice(&map);
        let page = decode(&footer(9, map.len() as u32, 2, Some(0)), &body.into(), INTS).unwrap();
        let present = page.present.unwrap();
        assert_eq!((present.len(), present.count_set_bits(), present.value(3)), (9, 8, false));
    }

    #[test]
    fn counts_must_agree() {
        let body = Bytes::from(fixed::encode_bit_shuffle(&[0; 16], 4));
        assert!(decode(&footer(4, 0, 2, None), &body, INTS).is_ok());
        assert!(decode(&footer(5, 0, 2, None), &body, INTS).is_err());
        assert!(decode(&footer(4, 1000, 2, None), &body, INTS).is_err());
        assert!(decode(&footer(u64::MAX, 0, 2, None), &body, INTS).is_err());
    }
}

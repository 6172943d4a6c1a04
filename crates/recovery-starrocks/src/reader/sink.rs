//! Stored values to Arrow arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, make_array};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::DataType;

use crate::format::segment::fixed::signed;
use crate::format::segment::objects::velocypack;
use crate::format::segment::{DataPage, Fault, Fixed, Shape, Strings, Values};
use crate::model::schema::{Column, ColumnType};

/// Julian day number of 1970-01-01.
const EPOCH_JULIAN: i64 = 2_440_588;
const DAY_MICROS: i64 = 86_400_000_000;
/// Days of 0000-01-01 and 9999-12-31 relative to 1970-01-01, the range the engine allows.
const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// What is done with a stored value on its way to Arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Convert {
    /// The stored bytes are Arrow's.
    Copy,
    Bits,
    Bytes,
    Char,
    Json,
    Date,
    DateV1,
    Datetime,
    DatetimeV1,
    DecimalV1,
    /// Sign extension to so many bytes.
    Widen(usize),
}

/// Type of stored values: shape on disk, Arrow type, and the way between.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) shape: Shape,
    pub(super) data_type: DataType,
    convert: Convert,
}

impl Target {
    /// For a stored type code; precision and scale come from the schema.
    pub(super) fn of(kind: ColumnType, column: &Column) -> Result<Self, Fault> {
        use ColumnType as T;
        let own = Column { kind, children: Vec::new(), ..column.clone() };
        let data_type = || super::arrow_type::data_type(&own, 2);
        let (shape, convert) = match kind {
            ColumnType::Unknown => return Err(Fault::unsupported("column type", 0, "a type that is not known here")),
            T::TinyInt | T::UnsignedTinyInt => (Shape::Fixed(1), Convert::Copy),
            T::SmallInt | T::UnsignedSmallInt => (Shape::Fixed(2), Convert::Copy),
            T::Int | T::UnsignedInt | T::Float => (Shape::Fixed(4), Convert::Copy),
            T::BigInt | T::UnsignedBigInt | T::Double => (Shape::Fixed(8), Convert::Copy),
            T::LargeInt => (Shape::Fixed(16), Convert::Widen(32)),
            T::Int256 | T::Decimal256 => (Shape::Fixed(32), Convert::Copy),
            T::Boolean => (Shape::Bits, Convert::Bits),
            T::Char => (Shape::Strings, Convert::Char),
            T::Varchar | T::Varbinary | T::Hll | T::Object | T::Percentile => (Shape::Strings, Convert::Bytes),
            T::Json => (Shape::Strings, Convert::Json),
            T::Date => (Shape::Fixed(4), Convert::Date),
            T::DateV1 => (Shape::Fixed(3), Convert::DateV1),
            T::Datetime => (Shape::Fixed(8), Convert::Datetime),
            T::DatetimeV1 => (Shape::Fixed(8), Convert::DatetimeV1),
            T::DecimalV1 => (Shape::Fixed(12), Convert::DecimalV1),
            T::DecimalV2 | T::Decimal128 => (Shape::Fixed(16), Convert::Copy),
            T::Decimal32 => (Shape::Fixed(4), Convert::Widen(16)),
            T::Decimal64 => (Shape::Fixed(8), Convert::Widen(16)),
            T::Array | T::Map | T::Struct => {
                return Err(Fault::value("column meta", 0, format!("{} where values belong", kind.name())));
            }
        };
        let data_type = data_type().map_err(|e| Fault::unsupported("column type", 0, e.to_string()))?;
        Ok(Self { shape, data_type, convert })
    }

    /// NULL flags of complex columns: one byte or one bit, 1 is NULL.
    pub(super) fn flags(kind: ColumnType) -> Self {
        let shape = if kind == ColumnType::Boolean { Shape::Bits } else { Shape::Fixed(1) };
        let convert = if kind == ColumnType::Boolean { Convert::Bits } else { Convert::Copy };
        let data_type = if kind == ColumnType::Boolean { DataType::Boolean } else { DataType::Int8 };
        Self { shape, data_type, convert }
    }
}

/// Collects values of a column.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    nesting: usize,
    lossy: bool,
    fixed: MutableBuffer,
    bits: BooleanBufferBuilder,
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    validity: NullBufferBuilder,
    len: usize,
}

/// A column's dictionary.
#[derive(Debug)]
pub(super) enum Dictionary {
    Strings(Strings),
    Fixed(Fixed),
}

impl Sink {
    pub(super) fn new(target: Target, nesting: u32, lossy: bool) -> Self {
        Self {
            target,
            nesting: nesting as usize,
            lossy,
            fixed: MutableBuffer::new(0),
            bits: BooleanBufferBuilder::new(0),
            offsets: vec![0],
            bytes: Vec::new(),
            validity: NullBufferBuilder::new(0),
            len: 0,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Appends rows `from..to` of a page.
    pub(super) fn append(
        &mut self,
        page: &DataPage,
        dict: Option<&Dictionary>,
        from: usize,
        to: usize,
    ) -> Result<(), Fault> {
        let present = page.present.as_ref().map(|p| p.slice(from, to.saturating_sub(from)));
        let has = |i: usize| present.as_ref().is_none_or(|p| p.value(i));
        match (&page.values, dict) {
            (Values::Fixed(v), _) => self.fixed(v, from, to, &has)?,
            (Values::Bits(v), _) => self.bits.append_buffer(&v.slice(from, to.saturating_sub(from))),
            (Values::Strings(v), _) => self.strings(v, from, to, &has)?,
            (Values::Codes(codes), Some(Dictionary::Strings(dict))) => self.gather(codes, dict, from, to, &has)?,
            (Values::Codes(codes), Some(Dictionary::Fixed(dict))) => {
                let plain = gather_fixed(codes, dict, from, to, &has)?;
                self.fixed(&plain, 0, to.saturating_sub(from), &has)?;
            }
            (Values::Codes(_), None) => {
                return Err(Fault::value("data page", 0, "dictionary codes in a column without a dictionary"));
            }
        }
        match present {
            Some(present) => self.validity.append_buffer(&NullBuffer::new(present)),
            None => self.validity.append_n_non_nulls(to.saturating_sub(from)),
        }
        self.len = self.len.saturating_add(to.saturating_sub(from));
        Ok(())
    }

    /// Appends rows without a value.
    pub(super) fn append_nulls(&mut self, n: usize) {
        match self.target.shape {
            Shape::Bits => self.bits.append_n(n, false),
            Shape::Strings => {
                let last = self.offsets.last().copied().unwrap_or(0);
                self.offsets.extend(std::iter::repeat_n(last, n));
            }
            Shape::Fixed(_) => self.fixed.extend_zeros(n.saturating_mul(self.out_width())),
        }
        self.validity.append_n_nulls(n);
        self.len = self.len.saturating_add(n);
    }

    fn out_width(&self) -> usize {
        self.target.data_type.primitive_width().unwrap_or(1)
    }

    fn fixed(&mut self, v: &Fixed, from: usize, to: usize, has: &dyn Fn(usize) -> bool) -> Result<(), Fault> {
        let at = |i: usize| i.saturating_mul(v.width);
        let bytes = v.bytes.get(at(from)..at(to)).unwrap_or_default();
        let out = &mut self.fixed;
        let wrong = |what: &str, i: usize| {
            Err(Fault::value(
                "value",
                0,
                format!("{what} of row {} of the page is out of range", from.saturating_add(i)),
            ))
        };
        match self.target.convert {
            Convert::Copy => out.extend_from_slice(bytes),
            Convert::Widen(16) if v.width == 4 => {
                let wide: Vec<i128> =
                    bytes.as_chunks::<4>().0.iter().map(|b| i128::from(i32::from_le_bytes(*b))).collect();
                out.extend_from_slice(&wide);
            }
            Convert::Widen(16) if v.width == 8 => {
                let wide: Vec<i128> =
                    bytes.as_chunks::<8>().0.iter().map(|b| i128::from(i64::from_le_bytes(*b))).collect();
                out.extend_from_slice(&wide);
            }
            Convert::Widen(width) => {
                out.reserve(bytes.len().saturating_mul(width / v.width.max(1)));
                for value in bytes.chunks_exact(v.width) {
                    let fill = if value.last().is_some_and(|b| *b >= 0x80) { 0xFF } else { 0 };
                    let mut wide = [fill; 32];
                    for (to, from) in wide.iter_mut().zip(value) {
                        *to = *from;
                    }
                    out.extend_from_slice(wide.get(..width).unwrap_or_default());
                }
            }
            Convert::Date => {
                let mut days = Vec::with_capacity(bytes.len() / 4);
                for (i, b) in bytes.as_chunks::<4>().0.iter().enumerate() {
                    let day = i64::from(i32::from_le_bytes(*b)).wrapping_sub(EPOCH_JULIAN);
                    if !DAYS.contains(&day) && has(i) {
                        return wrong("the date", i);
                    }
                    days.push(i32::try_from(day).unwrap_or(0));
                }
                out.extend_from_slice(&days);
            }
            Convert::DateV1 => {
                for (i, b) in bytes.as_chunks::<3>().0.iter().enumerate() {
                    let word = u32::from_le_bytes([b[0], b[1], b[2], 0]);
                    let day = days_from_civil(i64::from(word >> 9), i64::from(word >> 5 & 15), i64::from(word & 31));
                    if day.is_none() && has(i) {
                        return wrong("the date", i);
                    }
                    out.push(day.and_then(|d| i32::try_from(d).ok()).unwrap_or(0));
                }
            }
            Convert::Datetime => {
                let mut micros = Vec::with_capacity(bytes.len() / 8);
                for (i, b) in bytes.as_chunks::<8>().0.iter().enumerate() {
                    let word = i64::from_le_bytes(*b);
                    let (day, time) = ((word >> 40).wrapping_sub(EPOCH_JULIAN), word & 0xFF_FFFF_FFFF);
                    if (!DAYS.contains(&day) || time >= DAY_MICROS) && has(i) {
                        return wrong("the time", i);
                    }
                    micros.push(day.wrapping_mul(DAY_MICROS).wrapping_add(time));
                }
                out.extend_from_slice(&micros);
            }
            Convert::DatetimeV1 => {
                for (i, b) in bytes.as_chunks::<8>().0.iter().enumerate() {
                    let micros = datetime_v1(i64::from_le_bytes(*b));
                    if micros.is_none() && has(i) {
                        return wrong("the time", i);
                    }
                    out.push(micros.unwrap_or(0));
                }
            }
            Convert::DecimalV1 => {
                for b in bytes.as_chunks::<12>().0 {
                    let (whole, nanos) = b.split_at(8);
                    out.push(signed(whole).wrapping_mul(1_000_000_000).wrapping_add(signed(nanos)));
                }
            }
            Convert::Bits | Convert::Bytes | Convert::Char | Convert::Json => {
                return Err(Fault::value("data page", 0, "fixed-width values in a column of another shape"));
            }
        }
        Ok(())
    }

    fn text(&mut self, value: &[u8], present: bool) -> Result<(), Fault> {
        match self.target.convert {
            _ if !present => {}
            Convert::Char => {
                let end = value.iter().rposition(|b| *b != 0).map_or(0, |i| i.saturating_add(1));
                self.bytes.extend_from_slice(value.get(..end).unwrap_or_default());
            }
            Convert::Json => {
                let json = velocypack::decode(value, self.nesting)?;
                serde_json::to_writer(&mut self.bytes, &json)
                    .map_err(|e| Fault::value("JSON value", 0, e.to_string()))?;
            }
            _ => self.bytes.extend_from_slice(value),
        }
        self.end_string()
    }

    fn end_string(&mut self) -> Result<(), Fault> {
        let end = i32::try_from(self.bytes.len());
        let end = end.map_err(|_| Fault {
            what: "a batch of strings (take fewer rows a batch)",
            page: None,
            at: 0,
            why: crate::format::segment::Why::Limit {
                need: self.bytes.len() as u64,
                limit: u64::from(i32::MAX.unsigned_abs()),
            },
        })?;
        self.offsets.push(end);
        Ok(())
    }

    fn strings(&mut self, v: &Strings, from: usize, to: usize, has: &dyn Fn(usize) -> bool) -> Result<(), Fault> {
        if self.target.convert == Convert::Bytes
            && let Some((bytes, offsets)) = v.run(from, to)
        {
            let first = offsets.first().copied().unwrap_or(0);
            let base = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
            self.bytes.extend_from_slice(bytes);
            if i32::try_from(self.bytes.len()).is_ok() {
                let shift = |o: &u32| base.wrapping_add(o.wrapping_sub(first)).cast_signed();
                self.offsets.extend(offsets.iter().skip(1).map(shift));
                return Ok(());
            }
            return self.end_string();
        }
        for i in from..to {
            self.text(v.get(i).unwrap_or_default(), has(i.saturating_sub(from)))?;
        }
        Ok(())
    }

    fn gather(
        &mut self,
        codes: &Fixed,
        dict: &Strings,
        from: usize,
        to: usize,
        has: &dyn Fn(usize) -> bool,
    ) -> Result<(), Fault> {
        let words = codes.bytes.as_chunks::<4>().0;
        let plain = self.target.convert == Convert::Bytes;
        for (i, word) in words.get(from..to).unwrap_or_default().iter().enumerate() {
            let code = u32::from_le_bytes(*word) as usize;
            match dict.get(code) {
                Some(value) if plain && has(i) => {
                    self.bytes.extend_from_slice(value);
                    self.end_string()?;
                }
                Some(value) => self.text(value, has(i))?,
                None if !has(i) => self.end_string()?,
                None => {
                    return Err(Fault::value("data page", 0, format!("code {code} in a dictionary of {}", dict.len())));
                }
            }
        }
        Ok(())
    }

    /// The array of everything appended since the last call.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, Fault> {
        let len = std::mem::take(&mut self.len);
        let validity = self.validity.finish();
        match self.target.shape {
            Shape::Bits => Ok(Arc::new(BooleanArray::new(self.bits.finish(), validity))),
            Shape::Strings => {
                let offsets = std::mem::replace(&mut self.offsets, vec![0]);
                let bytes = std::mem::take(&mut self.bytes);
                self.string_array(offsets, bytes, validity)
            }
            Shape::Fixed(_) => {
                let buffer: Buffer = std::mem::replace(&mut self.fixed, MutableBuffer::new(0)).into();
                let data =
                    ArrayData::builder(self.target.data_type.clone()).len(len).add_buffer(buffer).nulls(validity);
                data.build().map(make_array).map_err(|e| Fault::value("values", 0, e.to_string()))
            }
        }
    }

    fn string_array(&self, offsets: Vec<i32>, bytes: Vec<u8>, nulls: Option<NullBuffer>) -> Result<ArrayRef, Fault> {
        use arrow::array::{BinaryArray, StringArray};
        use arrow::buffer::OffsetBuffer;
        let offsets = OffsetBuffer::new(offsets.into());
        if self.target.data_type == DataType::Binary {
            let array = BinaryArray::try_new(offsets, bytes.into(), nulls);
            return array.map(|a| Arc::new(a) as ArrayRef).map_err(|e| Fault::value("strings", 0, e.to_string()));
        }
        let values: Buffer = bytes.into();
        match StringArray::try_new(offsets.clone(), values.clone(), nulls.clone()) {
            Ok(array) => Ok(Arc::new(array)),
            Err(_) => {
                let raw = BinaryArray::try_new(offsets, values, nulls)
                    .map_err(|e| Fault::value("strings", 0, e.to_string()))?;
                self.not_utf8(&raw)
            }
        }
    }

    #[cold]
    fn not_utf8(&self, raw: &arrow::array::BinaryArray) -> Result<ArrayRef, Fault> {
        if !self.lossy
            && let Some(i) = (0..raw.len()).find(|i| raw.is_valid(*i) && std::str::from_utf8(raw.value(*i)).is_err())
        {
            let why = format!("row {i} of the batch is not UTF-8 (salvage replaces what is not)");
            return Err(Fault::value("text", 0, why));
        }
        // Placeholders of NULL rows need not be text.
        let texts = (0..raw.len()).map(|i| raw.is_valid(i).then(|| String::from_utf8_lossy(raw.value(i))));
        Ok(Arc::new(texts.collect::<arrow::array::StringArray>()))
    }
}

fn gather_fixed(
    codes: &Fixed,
    dict: &Fixed,
    from: usize,
    to: usize,
    has: &dyn Fn(usize) -> bool,
) -> Result<Fixed, Fault> {
    let words = codes.bytes.as_chunks::<4>().0;
    let mut bytes = Vec::with_capacity(to.saturating_sub(from).saturating_mul(dict.width));
    for (i, word) in words.get(from..to).unwrap_or_default().iter().enumerate() {
        let code = u32::from_le_bytes(*word) as usize;
        let start = code.saturating_mul(dict.width);
        match dict.bytes.get(start..start.saturating_add(dict.width)) {
            Some(value) => bytes.extend_from_slice(value),
            None if !has(i) => bytes.resize(bytes.len().saturating_add(dict.width), 0),
            None => return Err(Fault::value("data page", 0, format!("code {code} in a dictionary of {}", dict.len()))),
        }
    }
    Ok(Fixed { width: dict.width, bytes })
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, `None` when there is no such date.
#[must_use]
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(0..=9999).contains(&year) || !(1..=last).contains(&day) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Microseconds since 1970-01-01 of `yyyymmddHHMMSS`.
fn datetime_v1(word: i64) -> Option<i64> {
    if word < 0 {
        return None;
    }
    let (date, time) = (word / 1_000_000, word % 1_000_000);
    let day = days_from_civil(date / 10_000, date / 100 % 100, date % 100)?;
    let (h, m, s) = (time / 10_000, time / 100 % 100, time % 100);
    (h < 24 && m < 60 && s < 60).then(|| day * DAY_MICROS + (h * 3600 + m * 60 + s) * 1_000_000)
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

    #[test]
    fn calendar() {
        assert_eq!(days_from_civil(1970, 1, 1), Some(0));
        assert_eq!(days_from_civil(2000, 2, 29), Some(11_016));
        assert_eq!(days_from_civil(0, 1, 1), Some(*DAYS.start()));
        assert_eq!(days_from_civil(9999, 12, 31), Some(*DAYS.end()));
        assert_eq!(days_from_civil(1900, 2, 29), None);
        assert_eq!(datetime_v1(19_700_102_000_001), Some(DAY_MICROS + 1_000_000));
    }
}

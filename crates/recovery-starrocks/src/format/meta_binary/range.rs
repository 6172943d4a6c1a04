//! Bounds of range partitions, as both forms of `__meta` hold them.
//!
//! Sources: `catalog/{RangePartitionInfo,PartitionKey}.java`, `common/util/RangeUtils.java`, `analysis/DateLiteral.java`
//! (packed dates).

use serde_json::Value;

use super::R;
use crate::format::FormatError;
use crate::format::java::{Reader, Writer};

/// A value in a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `MAXVALUE`.
    Max,
    /// Integers up to 64 bits and booleans.
    Int(i64),
    /// `yyyy-MM-dd` or `yyyy-MM-dd HH:mm:ss`, packed by the engine; the flag is 1 for a date.
    Date {
        /// 0 DATETIME, 1 DATE; absent in files that hold the packed number alone.
        flag: Option<i16>,
        /// The packed number.
        packed: i64,
    },
    /// Text, and integers of 128 bits.
    Text(String),
}

/// One bound: whether it is closed, and the key with the type name of each value.
pub type Bound = (bool, Vec<(String, Literal)>);

/// A range of partition keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Lower bound.
    pub lower: Option<Bound>,
    /// Upper bound.
    pub upper: Option<Bound>,
}

impl Range {
    /// From the byte array of the JSON form: numbers, or base64 text.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let bytes: Vec<u8> = match value {
            Value::Array(list) => list
                .iter()
                .map(|v| v.as_i64().and_then(|n| i8::try_from(n).ok()).map(i8::cast_unsigned))
                .collect::<Option<_>>()?,
            Value::String(text) => base64(text)?,
            _ => return None,
        };
        let mut r = Reader::new(&bytes, 0);
        let range = Self::read(&mut r).ok()?;
        (r.remaining() == 0).then_some(range)
    }

    pub(super) fn read(r: &mut Reader<'_>) -> R<Self> {
        let lower = if r.bool("has lower bound")? { Some(read_bound(r)?) } else { None };
        let upper = if r.bool("has upper bound")? { Some(read_bound(r)?) } else { None };
        Ok(Self { lower, upper })
    }

    pub(super) fn write(&self, w: &mut Writer) -> R<()> {
        for bound in [&self.lower, &self.upper] {
            w.bool(bound.is_some());
            if let Some((closed, key)) = bound {
                w.bool(*closed);
                write_key(w, key)?;
            }
        }
        Ok(())
    }
}

fn read_bound(r: &mut Reader<'_>) -> R<Bound> {
    let closed = r.bool("bound is closed")?;
    let mut key = Vec::new();
    for _ in 0..r.count("key values", 5)? {
        let kind = r.text("key type")?.to_owned();
        let value = if r.bool("is max")? { Literal::Max } else { read_literal(r, &kind)? };
        key.push((kind, value));
    }
    Ok((closed, key))
}

fn read_literal(r: &mut Reader<'_>, kind: &str) -> R<Literal> {
    Ok(match kind {
        "TINYINT" | "SMALLINT" | "INT" | "BIGINT" | "BOOLEAN" => Literal::Int(r.i64("int literal")?),
        "DATE" | "DATETIME" => {
            let mut ahead = r.clone();
            // A packed date of this age never starts with two bytes 0 or 1, so the flag can be told from it.
            match ahead.i16("date flag")? {
                flag @ 0..=1 => {
                    *r = ahead;
                    Literal::Date { flag: Some(flag), packed: r.i64("date literal")? }
                }
                _ => Literal::Date { flag: None, packed: r.i64("date literal")? },
            }
        }
        "CHAR" | "VARCHAR" | "LARGEINT" => Literal::Text(r.text("text literal")?.to_owned()),
        other => {
            return Err(FormatError::new("key type", r.offset(), format!("{other:?} cannot be a partition key")));
        }
    })
}

fn write_key(w: &mut Writer, key: &[(String, Literal)]) -> R<()> {
    w.count(key.len())?;
    for (kind, value) in key {
        w.text(kind)?;
        w.bool(*value == Literal::Max);
        match value {
            Literal::Max => {}
            Literal::Int(v) => w.i64(*v),
            Literal::Date { flag, packed } => {
                if let Some(flag) = flag {
                    w.i16(*flag);
                }
                w.i64(*packed);
            }
            Literal::Text(t) => w.text(t)?,
        }
    }
    Ok(())
}

/// Text of a packed date: `((year * 13 + month) << 5 | day) << 17 | time`, shifted left by 24.
#[must_use]
pub fn date_text(packed: i64, date_only: bool) -> String {
    let ymdhms = packed >> 24;
    let (ymd, hms) = (ymdhms >> 17, ymdhms & 0x1ffff);
    let (day, ym) = (ymd & 31, ymd >> 5);
    let (year, month) = (ym / 13, ym % 13);
    if date_only {
        return format!("{year:04}-{month:02}-{day:02}");
    }
    let (hour, minute, second) = (hms >> 12, (hms >> 6) & 63, hms & 63);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut have) = (0u32, 0u32);
    for c in text.bytes().filter(|c| *c != b'=' && *c != b'\n') {
        let v = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(v);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from((bits >> have) & 0xff).ok()?);
            bits &= (1 << have) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn ranges() {
        let key = |v| vec![("DATE".to_owned(), v)];
        let packed = ((((2021i64 * 13 + 12) << 5) | 8) << 17) << 24;
        let range = Range {
            lower: Some((true, key(Literal::Date { flag: Some(1), packed }))),
            upper: Some((false, key(Literal::Max))),
        };
        let mut w = Writer::default();
        range.write(&mut w).unwrap();
        let bytes = w.finish();
        assert_eq!(Range::from_value(&super::super::signed_bytes(&bytes)).unwrap(), range);
        assert_eq!(date_text(packed, true), "2021-12-08");
        assert_eq!(base64("AAH/").unwrap(), [0, 1, 255]);
    }
}

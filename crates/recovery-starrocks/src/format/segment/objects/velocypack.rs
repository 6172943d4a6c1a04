//! The part of velocypack that JSON columns use.
//!
//! The first byte of a value decides its kind; arrays and objects carry their length, and mostly an index table at
//! their end. Items are given in the order they are stored, which is the order they were inserted in.
//! Source: the velocypack specification; `be/src/util/json.h`.

use recovery_core::Cursor;
use serde_json::{Map, Number, Value};

use super::super::fault::Fault;

const WHAT: &str = "JSON value";

/// Decodes one value that fills `bytes`, nested at most `depth` deep.
///
/// # Errors
///
/// When the bytes are no velocypack value of the kinds JSON has.
pub fn decode(bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let mut c = Cursor::new(bytes, 0);
    let value = value(&mut c, depth)?;
    if !c.is_empty() {
        return Err(Fault::value(WHAT, c.offset(), format!("{} bytes behind the value", c.remaining())));
    }
    Ok(value)
}

fn uint(c: &mut Cursor<'_>, width: usize) -> Result<u64, Fault> {
    let bytes = c.take(width, WHAT)?;
    Ok(bytes.iter().rev().fold(0u64, |n, b| (n << 8) | u64::from(*b)))
}

fn value(c: &mut Cursor<'_>, depth: usize) -> Result<Value, Fault> {
    let at = c.offset();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Fault::value(WHAT, at, "nested too deep"));
    };
    let start = *c;
    let head = c.u8(WHAT)?;
    let width = |base: u8| usize::from(head.wrapping_sub(base)).saturating_add(1);
    Ok(match head {
        0x18 => Value::Null,
        0x19 => Value::Bool(false),
        0x1a => Value::Bool(true),
        0x1b => float(f64::from_le_bytes(c.array::<8>(WHAT)?)),
        0x20..=0x27 => {
            let n = width(0x20);
            let bits = 64u32.saturating_sub(u32::try_from(n).unwrap_or(8).saturating_mul(8));
            let raw = uint(c, n)?;
            // Sign of the top byte that is there.
            Value::from((raw << bits).cast_signed() >> bits)
        }
        0x28..=0x2f => Value::from(uint(c, width(0x28))?),
        0x30..=0x39 => Value::from(head.wrapping_sub(0x30)),
        0x3a..=0x3f => Value::from(i64::from(head).wrapping_sub(0x40)),
        0x40..=0xbf => Value::String(string(c, head, at)?),
        0x01 => Value::Array(Vec::new()),
        0x0a => Value::Object(Map::new()),
        0x02..=0x05 => equal_items(start, c, 1 << head.wrapping_sub(0x02), depth)?,
        0x06..=0x09 => indexed(start, c, 1 << head.wrapping_sub(0x06), false, depth)?,
        0x0b..=0x0e => indexed(start, c, 1 << head.wrapping_sub(0x0b), true, depth)?,
        0x0f..=0x12 => indexed(start, c, 1 << head.wrapping_sub(0x0f), true, depth)?,
        0x13 | 0x14 => compact(start, c, head == 0x14, depth)?,
        other => return Err(Fault::value(WHAT, at, format!("kind {other:#04x}"))),
    })
}

fn float(x: f64) -> Value {
    // JSON has no word for these; the engine prints them as text too.
    Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number)
}

fn string(c: &mut Cursor<'_>, head: u8, at: u64) -> Result<String, Fault> {
    let len = if head == 0xbf { uint(c, 8)? } else { u64::from(head.wrapping_sub(0x40)) };
    let bytes = c.take_u64(len, WHAT)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| Fault::value(WHAT, at, format!("string: {e}")))
}

/// Moves `c` behind the container that begins at `start` and is `total` bytes long; returns it.
fn container<'a>(start: Cursor<'a>, c: &mut Cursor<'a>, total: u64) -> Result<&'a [u8], Fault> {
    let mut whole = start;
    let bytes = whole.take_u64(total, WHAT)?;
    if whole.offset() < c.offset() {
        return Err(Fault::value(WHAT, start.offset(), "a container shorter than its head"));
    }
    *c = whole;
    Ok(bytes)
}

fn equal_items<'a>(start: Cursor<'a>, c: &mut Cursor<'a>, width: usize, depth: usize) -> Result<Value, Fault> {
    let total = uint(c, width)?;
    let head = width.saturating_add(1);
    let bytes = container(start, c, total)?;
    let rest = bytes.get(head..).unwrap_or_default();
    let padding = rest.iter().take_while(|b| **b == 0).count();
    let at = start.offset().saturating_add(head as u64).saturating_add(padding as u64);
    let mut items = Cursor::new(rest.get(padding..).unwrap_or_default(), at);
    let mut out = Vec::new();
    while !items.is_empty() {
        out.push(value(&mut items, depth)?);
    }
    Ok(Value::Array(out))
}

fn indexed<'a>(
    start: Cursor<'a>,
    c: &mut Cursor<'a>,
    width: usize,
    object: bool,
    depth: usize,
) -> Result<Value, Fault> {
    let base = start.offset();
    let total = uint(c, width)?;
    let mut count = if width < 8 { uint(c, width)? } else { 0 };
    let head = c.offset().saturating_sub(base);
    let bytes = container(start, c, total)?;
    let mut end = bytes.len();
    if width == 8 {
        let Some(at) = end.checked_sub(8) else { return Err(Fault::value(WHAT, base, "no room for the item count")) };
        count = uint(&mut Cursor::new(bytes.get(at..).unwrap_or_default(), base), 8)?;
        end = at;
    }
    let table_len = usize::try_from(count).ok().and_then(|n| n.checked_mul(width));
    let Some(table_at) = table_len.and_then(|n| end.checked_sub(n)).filter(|at| *at as u64 >= head) else {
        return Err(Fault::value(WHAT, base, format!("{count} items do not fit {} bytes", bytes.len())));
    };
    let mut table = Cursor::new(bytes.get(table_at..end).unwrap_or_default(), base);
    let mut offsets = Vec::new();
    for _ in 0..count {
        offsets.push(uint(&mut table, width)?);
    }
    // Objects list their items by key; they are stored in the order of insertion.
    if object {
        offsets.sort_unstable();
    }
    let mut free = head;
    let (mut map, mut list) = (Map::new(), Vec::new());
    for offset in offsets {
        // Items never overlap: a table that repeats one could make a small value explode.
        if offset < free || offset > table_at as u64 {
            return Err(Fault::value(WHAT, base, format!("an item at {offset}, expected {free}..{table_at}")));
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut item = Cursor::new(bytes.get(from..table_at).unwrap_or_default(), base.saturating_add(offset));
        if object {
            let key = key(&mut item)?;
            map.insert(key, value(&mut item, depth)?);
        } else {
            list.push(value(&mut item, depth)?);
        }
        free = item.offset().saturating_sub(base);
    }
    Ok(if object { Value::Object(map) } else { Value::Array(list) })
}

fn key(c: &mut Cursor<'_>) -> Result<String, Fault> {
    let at = c.offset();
    match c.u8(WHAT)? {
        head @ 0x40..=0xbf => string(c, head, at),
        other => Err(Fault::value(WHAT, at, format!("an object key of kind {other:#04x}"))),
    }
}

fn compact<'a>(start: Cursor<'a>, c: &mut Cursor<'a>, object: bool, depth: usize) -> Result<Value, Fault> {
    let base = start.offset();
    let total = c.varint64(WHAT)?;
    let head = usize::try_from(c.offset().saturating_sub(base)).unwrap_or(usize::MAX);
    let bytes = container(start, c, total)?;
    let (mut count, mut shift, mut end) = (0u64, 0u32, bytes.len());
    loop {
        let Some(at) = end.checked_sub(1).filter(|at| *at >= head && shift < 64) else {
            return Err(Fault::value(WHAT, base, "no item count at the end"));
        };
        let byte = bytes.get(at).copied().unwrap_or(0);
        count |= u64::from(byte & 0x7F) << shift;
        (end, shift) = (at, shift.saturating_add(7));
        if byte < 0x80 {
            break;
        }
    }
    let mut items = Cursor::new(bytes.get(head..end).unwrap_or_default(), base.saturating_add(head as u64));
    let (mut map, mut list) = (Map::new(), Vec::new());
    for _ in 0..count {
        if object {
            let key = key(&mut items)?;
            map.insert(key, value(&mut items, depth)?);
        } else {
            list.push(value(&mut items, depth)?);
        }
    }
    Ok(if object { Value::Object(map) } else { Value::Array(list) })
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
    use serde_json::json;

    fn get(bytes: &[u8]) -> Value {
        decode(bytes, 32).unwrap()
    }

    #[test]
    fn values_of_each_kind() {
        assert_eq!(get(&[0x18]), Value::Null);
        assert_eq!(get(&[0x3a]), json!(-6));
        assert_eq!(get(&[0x3f]), json!(-1));
        assert_eq!(get(&[0x39]), json!(9));
        assert_eq!(get(&[0x20, 0x80]), json!(-128));
        assert_eq!(get(&[0x21, 0x00, 0x80]), json!(-32768));
        assert_eq!(get(&[0x27, 0, 0, 0, 0, 0, 0, 0, 0x80]), json!(i64::MIN));
        assert_eq!(get(&[0x2f, 255, 255, 255, 255, 255, 255, 255, 255]), json!(u64::MAX));
        assert_eq!(get(&[0x42, b'h', b'i']), json!("hi"));
        assert_eq!(get(&[0x02, 0x04, 0x31, 0x32]), json!([1, 2]));
        assert_eq!(get(&[0x06, 0x08, 0x02, 0x31, 0x41, b'x', 0x03, 0x04]), json!([1, "x"]));
        assert_eq!(
            get(&[0x0b, 0x0b, 0x02, 0x41, b'b', 0x31, 0x41, b'a', 0x18, 0x06, 0x03]),
            json!({"b": 1, "a": null})
        );
        assert_eq!(get(&[0x13, 0x05, 0x31, 0x32, 0x02]), json!([1, 2]));
        assert_eq!(get(&[0x14, 0x06, 0x41, b'k', 0x1a, 0x01]), json!({"k": true}));
        assert_eq!(get(&[0x01]), json!([]));
        assert_eq!(get(&[0x0a]), json!({}));
    }

    #[test]
    fn hostile_ones_end() {
        let mut deep = vec![0x31];
        for _ in 0..100 {
            let len = deep.len() + 3;
            let mut outer = vec![0x13, len as u8];
            outer.append(&mut deep);
            outer.push(1);
            deep = outer;
            if len > 120 {
                break;
            }
        }
        assert!(decode(&deep, 16).is_err());
        assert!(decode(&[0x06, 0x08, 0x02, 0x31, 0x41, b'x', 0x03, 0x03], 9).is_err());
        assert!(decode(&[0x02, 0xFF], 9).is_err());
        assert!(decode(&[0xbf, 255, 255, 255, 255, 255, 255, 255, 255], 9).is_err());
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let _ = decode(&[first, second, 0x31, 0x41, 0x01, 0x03, 0x02, 0x01], 9);
            }
        }
    }
}

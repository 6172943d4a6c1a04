//! Wide-column entity: several named values under one key.
//!
//! Version 1: varint32 version, varint32 count, per column (lenstr name, varint32 value length), then all values.
//!
//! Version 2: varint32 each of version, count, bytes of name sizes, bytes of value sizes, bytes of names; one type byte
//! per column; the name sizes; the value sizes; the names; the values. A column of type `0x11` holds a blob index.
//! Version 2 is known from upstream's source only; no file written by a release was at hand.
//!
//! Columns stand in the order of their names; the empty name is the default column.
//!
//! Upstream: `db/wide/wide_column_serialization.h`.

use recovery_core::Cursor;

use super::coding::{put_lenstr, put_varint};
use super::error::FormatError;
use super::key::ValueType;

const NAME: &str = "wide-column entity";

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name; empty for the default column.
    pub name: &'a [u8],
    /// Its value, or a blob index.
    pub value: &'a [u8],
    /// Whether the value is a blob index (version 2 only).
    pub blob_index: bool,
}

/// Decodes all columns of an entity.
///
/// # Errors
///
/// When the bytes are cut or left over, or the version is unknown.
pub fn decode(bytes: &[u8], at: u64) -> Result<Vec<Column<'_>>, FormatError> {
    let mut c = Cursor::new(bytes, at);
    let version = c.varint32("version")?;
    let columns = match version {
        1 => decode_1(&mut c)?,
        2 => decode_2(&mut c)?,
        other => return Err(FormatError::value(NAME, "version", at, other, "1 or 2")),
    };
    if c.is_empty() {
        return Ok(columns);
    }
    Err(FormatError::value(NAME, "length", c.offset(), c.remaining(), "nothing behind the last value"))
}

fn decode_1<'a>(c: &mut Cursor<'a>) -> Result<Vec<Column<'a>>, FormatError> {
    let count = c.varint32("column count")?;
    let mut sizes = Vec::new();
    for _ in 0..count {
        let length = c.varint32("name length")?;
        let name = c.take_u64(u64::from(length), "column name")?;
        sizes.push((name, c.varint32("value length")?));
    }
    let mut columns = Vec::with_capacity(sizes.len());
    for (name, size) in sizes {
        columns.push(Column { name, value: c.take_u64(u64::from(size), "column value")?, blob_index: false });
    }
    Ok(columns)
}

fn decode_2<'a>(c: &mut Cursor<'a>) -> Result<Vec<Column<'a>>, FormatError> {
    let count = c.varint32("column count")?;
    let name_sizes = c.varint32("bytes of name sizes")?;
    let value_sizes = c.varint32("bytes of value sizes")?;
    let names = c.varint32("bytes of names")?;
    let types = c.take_u64(u64::from(count), "column types")?;
    let mut window = |n: u32, field| -> Result<Cursor<'a>, FormatError> {
        let at = c.offset();
        Ok(Cursor::new(c.take_u64(u64::from(n), field)?, at))
    };
    let (mut name_sizes, mut value_sizes) = (window(name_sizes, "name sizes")?, window(value_sizes, "value sizes")?);
    let mut names = window(names, "names")?;
    let mut columns = Vec::with_capacity(types.len());
    for kind in types {
        let name_len = name_sizes.varint32("name size")?;
        let value_len = value_sizes.varint32("value size")?;
        let name = names.take_u64(u64::from(name_len), "column name")?;
        let value = c.take_u64(u64::from(value_len), "column value")?;
        columns.push(Column { name, value, blob_index: *kind == ValueType::BlobIndex.byte() });
    }
    for left in [name_sizes, value_sizes, names] {
        if !left.is_empty() {
            return Err(FormatError::value(
                NAME,
                "section length",
                left.offset(),
                left.remaining(),
                "nothing left over",
            ));
        }
    }
    Ok(columns)
}

/// The stored form, version 1.
#[must_use]
pub fn encode(columns: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, 1);
    put_varint(&mut out, columns.len() as u64);
    for (name, value) in columns {
        put_lenstr(&mut out, name);
        put_varint(&mut out, value.len() as u64);
    }
    for (_, value) in columns {
        out.extend_from_slice(value);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_come_back(columns: Vec<(Vec<u8>, Vec<u8>)>) {
            let pairs: Vec<(&[u8], &[u8])> = columns.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            let bytes = encode(&pairs);
            let back: Vec<_> = decode(&bytes, 0).unwrap().into_iter().map(|c| (c.name, c.value)).collect();
            prop_assert_eq!(back, pairs);
            for n in 0..bytes.len() {
                prop_assert!(decode(bytes.get(..n).unwrap(), 0).is_err());
            }
        }

        #[test]
        fn garbage_ends(garbage: Vec<u8>) {
            let _ = decode(&garbage, 0);
        }
    }

    #[test]
    fn version_2_as_the_source_describes_it() {
        let bytes = [2, 2, 2, 2, 1, 0x01, 0x11, 0, 1, 3, 2, b'n', b'a', b'b', b'c', b'x', b'y'];
        let columns = decode(&bytes, 0).unwrap();
        assert_eq!(
            columns,
            [
                Column { name: b"", value: b"abc", blob_index: false },
                Column { name: b"n", value: b"xy", blob_index: true },
            ]
        );
    }
}

//! Index pages: the ordinal index, the short key index, zone maps, bitmap and bloom indexes.
//!
//! An index page holds entries `varint key length, key, varint page offset, varint page size`; keys of the ordinal
//! index are 8-byte big-endian ordinals. The short key page holds the keys back to back, then one varint offset each.
//! Source: `be/src/storage/rowset/index_page.cpp`, `ordinal_page_index.cpp`, `storage/short_key_index.cpp`.

use bytes::Bytes;
use recovery_core::Cursor;

use super::fault::Fault;
use super::proto::{PageFooter, PagePointer, page_kind};

/// Where a data page of a column lies, and the ordinal of its first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Ordinal of the first row.
    pub first_ordinal: u64,
    /// The page.
    pub pointer: PagePointer,
}

/// An entry of an index page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Page.
    pub pointer: PagePointer,
}

/// Decodes the entries of an index page; internal pages point to index pages.
///
/// # Errors
///
/// When the page is no index page or the entries do not fill it.
pub fn decode_entries<'a>(footer: &PageFooter, body: &'a [u8]) -> Result<(bool, Vec<IndexEntry<'a>>), Fault> {
    const WHAT: &str = "index page";
    let Some(index) = footer.index.filter(|_| footer.kind == page_kind::INDEX) else {
        return Err(Fault::value(WHAT, 0, format!("a page of kind {} where an index page belongs", footer.kind)));
    };
    let leaf = match index.kind {
        2 => false,
        0 | 1 => true,
        other => return Err(Fault::value(WHAT, 0, format!("index page type {other}"))),
    };
    let mut c = Cursor::new(body, 0);
    let mut entries = Vec::new();
    for _ in 0..index.num_entries {
        let len = c.varint32(WHAT)? as usize;
        let key = c.take(len, WHAT)?;
        let offset = c.varint64(WHAT)?;
        let size = c.varint32(WHAT)?;
        entries.push(IndexEntry { key, pointer: PagePointer { offset, size } });
    }
    if !c.is_empty() {
        return Err(Fault::value(WHAT, c.offset(), format!("{} bytes behind the last entry", c.remaining())));
    }
    Ok((leaf, entries))
}

/// Decodes the leaf entries of an ordinal index.
///
/// # Errors
///
/// When a key is no ordinal or the ordinals do not ascend.
pub fn ordinals(entries: &[IndexEntry<'_>]) -> Result<Vec<PageRef>, Fault> {
    const WHAT: &str = "ordinal index";
    let mut pages: Vec<PageRef> = Vec::with_capacity(entries.len());
    for entry in entries {
        let key: [u8; 8] = entry
            .key
            .try_into()
            .map_err(|_| Fault::value(WHAT, 0, format!("a key of {} bytes, expected 8", entry.key.len())))?;
        let first_ordinal = u64::from_be_bytes(key);
        if pages.last().is_some_and(|last| last.first_ordinal >= first_ordinal) {
            return Err(Fault::value(WHAT, 0, format!("ordinal {first_ordinal} does not follow its predecessor")));
        }
        pages.push(PageRef { first_ordinal, pointer: entry.pointer });
    }
    Ok(pages)
}

/// The short key index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortKeys {
    /// Encoded key of the first row of every block.
    pub keys: Vec<Vec<u8>>,
    /// Rows of a block.
    pub rows_per_block: u32,
    /// Rows of the segment.
    pub num_rows: u32,
}

/// Decodes the short key page.
///
/// # Errors
///
/// When the page is no short key page or its parts do not fit.
pub fn decode_short_keys(footer: &PageFooter, body: &Bytes) -> Result<ShortKeys, Fault> {
    const WHAT: &str = "short key page";
    let Some(meta) = footer.short_key.filter(|_| footer.kind == page_kind::SHORT_KEY) else {
        return Err(Fault::value(WHAT, 0, format!("a page of kind {} where the short keys belong", footer.kind)));
    };
    let whole = u64::from(meta.key_bytes).saturating_add(u64::from(meta.offset_bytes));
    if whole != body.len() as u64 {
        return Err(Fault::value(WHAT, 0, format!("{} bytes, the footer says {whole}", body.len())));
    }
    let mut c = Cursor::new(body, 0);
    let keys = c.take(meta.key_bytes as usize, WHAT)?;
    let mut starts = Vec::new();
    for _ in 0..meta.num_items {
        starts.push(c.varint32(WHAT)? as usize);
    }
    let mut out = Vec::with_capacity(starts.len());
    let ends = starts.iter().skip(1).copied().chain(std::iter::once(keys.len()));
    for (from, to) in starts.iter().zip(ends) {
        let key = keys.get(*from..to).ok_or_else(|| Fault::value(WHAT, *from as u64, "key offsets do not ascend"))?;
        out.push(key.to_vec());
    }
    Ok(ShortKeys { keys: out, rows_per_block: meta.rows_per_block, num_rows: meta.num_rows })
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
    use super::super::proto::{IndexPageFooter, ShortKeyFooter};
    use super::*;

    #[test]
    fn ordinal_entries() {
        let mut body = vec![8];
        body.extend_from_slice(&0u64.to_be_bytes());
        body.extend_from_slice(&[10, 20, 8]);
        body.extend_from_slice(&300u64.to_be_bytes());
        body.extend_from_slice(&[0x80, 1, 7]);
        let index = Some(IndexPageFooter { num_entries: 2, kind: 1 });
        let footer = PageFooter { kind: page_kind::INDEX, index, ..PageFooter::default() };
        let (leaf, entries) = decode_entries(&footer, &body).unwrap();
        assert!(leaf);
        let pages = ordinals(&entries).unwrap();
        assert_eq!(pages[1], PageRef { first_ordinal: 300, pointer: PagePointer { offset: 128, size: 7 } });
        assert!(decode_entries(&footer, &body[..body.len() - 1]).is_err());
    }

    #[test]
    fn short_keys() {
        let body = Bytes::from_static(&[2, 1, 2, 9, 9, 0, 2]);
        let short_key = Some(ShortKeyFooter {
            num_items: 2,
            key_bytes: 5,
            offset_bytes: 2,
            rows_per_block: 1024,
            ..Default::default()
        });
        let footer = PageFooter { kind: page_kind::SHORT_KEY, short_key, ..PageFooter::default() };
        let got = decode_short_keys(&footer, &body).unwrap();
        assert_eq!(got.keys, [vec![2, 1], vec![2, 9, 9]]);
    }
}

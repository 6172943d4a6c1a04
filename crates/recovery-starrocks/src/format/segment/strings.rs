//! Encodings of strings: plain pages and prefix pages.
//!
//! ```text
//! PLAIN:  bytes of all strings | u32 LE offset of each | u32 LE count
//! PREFIX: (varint shared, varint unshared, bytes)* | u32 count | u8 restart interval | u32 restart offset each | u32 restarts
//! ```
//! Source: `be/src/storage/rowset/binary_plain_page.h`, `binary_prefix_page.h`.

use bytes::{Bytes, BytesMut};
use recovery_core::Cursor;

use super::fault::Fault;

/// Strings of a page: offsets into one run of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    data: Bytes,
    /// One more than there are strings, ascending.
    offsets: Vec<u32>,
}

impl Strings {
    /// Strings that end where the next begins; the offsets must ascend and stay inside.
    fn new(data: Bytes, offsets: Vec<u32>) -> Self {
        Self { data, offsets }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string `i`.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let from = *self.offsets.get(i)? as usize;
        let to = *self.offsets.get(i.checked_add(1)?)? as usize;
        self.data.get(from..to)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets.windows(2).map(|w| match w {
            [from, to] => self.data.get(*from as usize..*to as usize).unwrap_or_default(),
            _ => &[],
        })
    }

    /// The bytes of the strings `from..to`, and their offsets (one more than strings).
    #[must_use]
    pub fn run(&self, from: usize, to: usize) -> Option<(&[u8], &[u32])> {
        let offsets = self.offsets.get(from..to.checked_add(1)?)?;
        let (first, last) = (*offsets.first()? as usize, *offsets.last()? as usize);
        Some((self.data.get(first..last)?, offsets))
    }

    /// Puts an empty string at every place where `present` has no bit; `None` when the numbers of bits and strings differ.
    #[cfg(feature = "arrow")]
    #[must_use]
    pub fn spread(&self, present: &arrow::buffer::BooleanBuffer) -> Option<Self> {
        let mut offsets = Vec::with_capacity(present.len().saturating_add(1));
        let mut source = self.offsets.iter();
        let mut at = *source.next()?;
        offsets.push(at);
        for has in present {
            if has {
                at = *source.next()?;
            }
            offsets.push(at);
        }
        if source.next().is_some() {
            return None;
        }
        Some(Self::new(self.data.clone(), offsets))
    }
}

impl<'a> FromIterator<&'a [u8]> for Strings {
    fn from_iter<T: IntoIterator<Item = &'a [u8]>>(iter: T) -> Self {
        let (mut data, mut offsets) = (Vec::new(), vec![0]);
        for s in iter {
            data.extend_from_slice(s);
            offsets.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        Self::new(data.into(), offsets)
    }
}

/// Decodes a PLAIN page of strings.
///
/// # Errors
///
/// When the offsets do not ascend inside the page.
pub fn decode_plain(body: &Bytes) -> Result<Strings, Fault> {
    const WHAT: &str = "plain string page";
    let len = body.len();
    let Some(count_at) = len.checked_sub(4) else { return Err(Fault::short(WHAT, 0, 4, len as u64)) };
    let count = Cursor::new(body.get(count_at..).unwrap_or_default(), count_at as u64).u32_le(WHAT)?;
    let table = u64::from(count).saturating_mul(4);
    let Some(table_at) = usize::try_from(table).ok().and_then(|n| count_at.checked_sub(n)) else {
        return Err(Fault::short(WHAT, count_at as u64, table.saturating_add(4), len as u64));
    };
    let words = body.get(table_at..count_at).unwrap_or_default();
    let mut offsets = Vec::with_capacity(words.len() / 4 + 1);
    let mut before = 0u32;
    for (i, word) in words.as_chunks::<4>().0.iter().enumerate() {
        let offset = u32::from_le_bytes(*word);
        if offset < before || offset as usize > table_at {
            let at = table_at.saturating_add(i.saturating_mul(4)) as u64;
            return Err(Fault::value(
                WHAT,
                at,
                format!("offset {offset} of string {i} is outside {before}..={table_at}"),
            ));
        }
        before = offset;
        offsets.push(offset);
    }
    offsets.push(u32::try_from(table_at).map_err(|_| Fault::value(WHAT, 0, "the page is longer than 4 GiB"))?);
    if offsets.first().is_some_and(|first| *first != 0) {
        return Err(Fault::value(WHAT, table_at as u64, "the page does not begin with its first string"));
    }
    Ok(Strings::new(body.slice(..table_at), offsets))
}

/// Encodes a PLAIN page of strings.
#[must_use]
pub fn encode_plain<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut out, mut offsets) = (Vec::new(), Vec::new());
    let mut count = 0u32;
    for s in strings {
        offsets.extend_from_slice(&u32::try_from(out.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(s);
        count = count.saturating_add(1);
    }
    out.extend_from_slice(&offsets);
    out.extend_from_slice(&count.to_le_bytes());
    out
}

/// Decodes a PREFIX page; at most `limit` bytes may come out.
///
/// # Errors
///
/// When an entry shares more than its predecessor has, or the trailer does not fit.
pub fn decode_prefix(body: &[u8], limit: usize) -> Result<Strings, Fault> {
    const WHAT: &str = "prefix string page";
    let len = body.len();
    let word_at = |end: usize| -> Result<(u32, usize), Fault> {
        let at = end.checked_sub(4).ok_or_else(|| Fault::short(WHAT, end as u64, 4, end as u64))?;
        let word = Cursor::new(body.get(at..end).unwrap_or_default(), at as u64).u32_le(WHAT)?;
        Ok((word, at))
    };
    let (restarts, restarts_at) = word_at(len)?;
    let table = usize::try_from(u64::from(restarts).saturating_mul(4)).unwrap_or(usize::MAX);
    let head = table.checked_add(5).and_then(|n| restarts_at.checked_sub(n));
    let Some(head) = head else { return Err(Fault::short(WHAT, restarts_at as u64, table as u64, len as u64)) };
    let mut trailer = Cursor::new(body.get(head..restarts_at).unwrap_or_default(), head as u64);
    let count = trailer.u32_le(WHAT)?;
    let interval = trailer.u8(WHAT)?;
    if interval == 0 {
        return Err(Fault::value(WHAT, head as u64, "restart interval 0"));
    }
    let mut c = Cursor::new(body.get(..head).unwrap_or_default(), 0);
    let mut data = BytesMut::with_capacity(len);
    let mut offsets = vec![0u32];
    let mut last = 0usize;
    for i in 0..count {
        let at = c.offset();
        let shared = c.varint32(WHAT)? as usize;
        let unshared = c.varint32(WHAT)? as usize;
        if i % u32::from(interval) == 0 {
            let restart = trailer.u32_le(WHAT)?;
            if u64::from(restart) != at || shared != 0 {
                return Err(Fault::value(
                    WHAT,
                    at,
                    format!("entry {i} is a restart but shares {shared} bytes or is not at {restart}"),
                ));
            }
        }
        let bytes = c.take(unshared, WHAT)?;
        let end = data.len();
        if shared > end.saturating_sub(last) {
            return Err(Fault::value(WHAT, at, format!("entry {i} shares {shared} bytes with a shorter one")));
        }
        if end.saturating_add(shared).saturating_add(unshared) > limit {
            return Err(Fault {
                what: WHAT,
                page: None,
                at,
                why: super::fault::Why::Limit { need: end.saturating_add(shared) as u64, limit: limit as u64 },
            });
        }
        data.resize(end.saturating_add(shared), 0);
        let (before, new) = data.split_at_mut(end);
        if let Some(from) = before.get(last..last.saturating_add(shared)) {
            new.copy_from_slice(from);
        }
        data.extend_from_slice(bytes);
        last = end;
        offsets.push(u32::try_from(data.len()).map_err(|_| Fault::value(WHAT, at, "longer than 4 GiB"))?);
    }
    Ok(Strings::new(data.freeze(), offsets))
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
    fn plain_comes_back() {
        let strings: [&[u8]; 4] = [b"alpha", b"", b"gamma", b"\xff\x00"];
        let page = Bytes::from(encode_plain(strings));
        let got = decode_plain(&page).unwrap();
        assert_eq!(got.iter().collect::<Vec<_>>(), strings);
        assert_eq!(got.get(4), None);
        assert!(decode_plain(&Bytes::from_static(&[1, 0, 0])).is_err());
        assert!(decode_plain(&Bytes::from_static(&[9, 0, 0, 0, 1, 0, 0, 0])).is_err());
    }

    #[test]
    fn prefixes_are_shared() {
        let mut page = vec![0, 3, b'a', b'b', b'c', 2, 1, b'd', 3, 0];
        page.extend_from_slice(&3u32.to_le_bytes());
        page.push(16);
        page.extend_from_slice(&0u32.to_le_bytes());
        page.extend_from_slice(&1u32.to_le_bytes());
        let got = decode_prefix(&page, 1000).unwrap();
        assert_eq!(got.iter().collect::<Vec<_>>(), [b"abc", b"abd", b"abd"]);
        assert!(decode_prefix(&page, 4).is_err());
        page[5] = 4;
        assert!(decode_prefix(&page, 1000).is_err());
    }
}

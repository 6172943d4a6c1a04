//! Reading around bad sectors.

use std::ops::Range;

use crate::blob::Blob;

/// How small the pieces become around a place that cannot be read.
const SMALL: u64 = 4096;

/// How large the pieces are between whole and small.
const MIDDLE: u64 = 64 * 1024;

/// Reads a range although parts of it cannot be read; those are zero in the result and listed.
///
/// One large read first; only where it fails smaller ones, each tried once: a dying disk is not asked again and again.
/// The caller bounds the range.
#[must_use]
pub fn read_around(blob: &dyn Blob, range: Range<u64>) -> (Vec<u8>, Vec<Range<u64>>) {
    let end = range.end.min(blob.len());
    let size = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
    let mut buf = vec![0; size];
    let mut unread = Vec::new();
    fill(blob, range.start, &mut buf, &[MIDDLE, SMALL], &mut unread);
    (buf, unread)
}

fn fill(blob: &dyn Blob, at: u64, buf: &mut [u8], sizes: &[u64], unread: &mut Vec<Range<u64>>) {
    if buf.is_empty() || blob.read_exact_at(at, buf).is_ok() {
        return;
    }
    let end = at.saturating_add(buf.len() as u64);
    let Some((&size, smaller)) = sizes.split_first() else {
        buf.fill(0);
        match unread.last_mut() {
            Some(last) if last.end == at => last.end = end,
            _ => unread.push(at..end),
        }
        return;
    };
    let mut rest = buf;
    let mut at = at;
    while !rest.is_empty() {
        // Up to the next multiple of the piece size, so that pieces lie on sectors.
        let to_border = size.saturating_sub(at % size);
        let n = usize::try_from(to_border).unwrap_or(usize::MAX).min(rest.len());
        let (piece, tail) = rest.split_at_mut(n);
        fill(blob, at, piece, smaller, unread);
        at = at.saturating_add(n as u64);
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::source::{Fault, FaultySource, MemSource, Source};
    use std::sync::Arc;

    #[test]
    fn only_the_bad_sectors_are_lost() {
        let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8 + 1).collect();
        let source = FaultySource::new(Arc::new(MemSource::new([("d", data.clone())])))
            .with("d", Fault::Unreadable(100_000..100_001))
            .with("d", Fault::ShortReads(1000));
        let blob = source.open_name("d").unwrap().unwrap();
        let (got, unread) = read_around(blob.as_ref(), 10..300_000);
        let bad = 98_304u64..102_400;
        assert_eq!(unread, std::slice::from_ref(&bad));
        for (i, byte) in got.iter().enumerate() {
            let at = i as u64 + 10;
            let expect = if bad.contains(&at) { 0 } else { data[i + 10] };
            assert_eq!(*byte, expect, "at {at}");
        }
    }
}

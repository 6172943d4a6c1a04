//! Cutting a segment into pages without its footer.
//!
//! Pages lie one behind the other from the first byte of the file. A page ends with its footer message, the length of
//! that message and the checksum, and the message begins with its type and uncompressed size (fields 1 and 2), so an
//! end can be guessed from a few bytes and proven by the checksum. After a damaged page the walk goes on at the first
//! pair of plausible ends between which a checksum fits.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::page::RawPage;
use super::proto::{PageFooter, page_kind};

/// Longest page footer that is believed.
const LONGEST_FOOTER: usize = 80;

/// A piece of a file as the walk saw it.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A page with a right checksum.
    Page(RawPage),
    /// Bytes that belong to no such page.
    Gap(Range<u64>),
}

/// Whether a page could end at `end`: its footer message has a believable length and beginning.
fn plausible(data: &[u8], end: usize) -> bool {
    let Some(length_at) = end.checked_sub(8) else { return false };
    let Some(word) = data.get(length_at..).and_then(|d| d.first_chunk::<4>()) else { return false };
    let length = u32::from_le_bytes(*word) as usize;
    if !(4..LONGEST_FOOTER).contains(&length) {
        return false;
    }
    let Some(message) = length_at.checked_sub(length).and_then(|at| data.get(at..length_at)) else { return false };
    matches!(message, [0x08, 1..=4, 0x10, ..]) && PageFooter::decode(message).is_ok()
}

/// Cuts a file, held in memory, into pages. `data` must not include the segment footer when its place is known.
#[must_use]
pub fn walk(data: &Bytes) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = 0usize;
    let mut gap: Option<usize> = None;
    while start < data.len() {
        let ends = ends(data, start);
        if let Some(page) = ends.iter().find_map(|end| checked(data, start, *end)) {
            if let Some(from) = gap.take() {
                pieces.push(Piece::Gap(from as u64..start as u64));
            }
            start = start.saturating_add(page.1);
            pieces.push(Piece::Page(page.0));
            continue;
        }
        gap.get_or_insert(start);
        // The damaged page ends at one of the plausible ends; the page behind it proves which.
        match resume(data, start) {
            Some(next) => start = next,
            None => break,
        }
    }
    if let Some(from) = gap {
        pieces.push(Piece::Gap(from as u64..data.len() as u64));
    }
    pieces
}

fn checked(data: &Bytes, start: usize, end: usize) -> Option<(RawPage, usize)> {
    let bytes = data.slice(start..end);
    let page = RawPage::check(&bytes, start as u64).ok()?;
    let known = match page.footer.kind {
        page_kind::DATA => page.footer.data.is_some(),
        page_kind::INDEX => page.footer.index.is_some(),
        page_kind::DICTIONARY => page.footer.dict.is_some(),
        page_kind::SHORT_KEY => page.footer.short_key.is_some(),
        _ => false,
    };
    known.then_some((page, bytes.len()))
}

/// Ends worth a checksum: few at a time, as nearly every plausible end is a true one.
const TRIED: usize = 4;

fn ends(data: &Bytes, start: usize) -> Vec<usize> {
    let first = start.saturating_add(12);
    (first..=data.len()).filter(|end| plausible(data, *end)).take(TRIED).collect()
}

/// How many ends behind a damaged page are tried as the end of the next good one.
const RESUMED: usize = 64;

/// How many beginnings are tried for one end.
const STARTS: usize = 512;

/// Where the damaged page at `start` could end, before `end`: where the length of a footer message, or the message
/// itself, still stands. One of the two may be what was hit.
fn possible_ends(data: &[u8], start: usize, end: usize) -> Vec<usize> {
    let window = data.get(start..end).unwrap_or_default();
    let mut out = Vec::new();
    for (i, word) in window.windows(4).enumerate() {
        if let [low, 0, 0, 0] = word
            && (4..LONGEST_FOOTER).contains(&usize::from(*low))
        {
            out.push(start.saturating_add(i).saturating_add(8));
        }
        if let [0x08, 1..=4, 0x10, _] = word {
            let message = start.saturating_add(i);
            out.extend((4..LONGEST_FOOTER).map(|length| message.saturating_add(length).saturating_add(8)));
        }
    }
    out.retain(|s| s.saturating_add(12) <= end);
    out.sort_unstable();
    out.dedup();
    // The page before `end` is mostly not much longer than the others.
    out.reverse();
    out.truncate(STARTS);
    out
}

fn resume(data: &Bytes, start: usize) -> Option<usize> {
    let ends = (start.saturating_add(1)..=data.len()).filter(|end| plausible(data, *end));
    let mut last = None;
    let mut from = start;
    for end in ends.take(RESUMED) {
        if let Some(s) = possible_ends(data, from, end).into_iter().find(|s| checked(data, *s, end).is_some()) {
            return Some(s);
        }
        // The next page begins behind this end, or this end is the damaged page's own.
        from = end.saturating_sub(LONGEST_FOOTER.saturating_add(8)).max(start);
        last = Some(end);
    }
    last.filter(|end| *end < data.len())
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
    use super::super::page;
    use super::super::proto::DataPageFooter;
    use super::*;

    fn file() -> (Vec<u8>, Vec<usize>) {
        let (mut file, mut starts) = (Vec::new(), Vec::new());
        for i in 0..5u64 {
            starts.push(file.len());
            let body: Vec<u8> = (0..200u32).map(|b| (b as u8).wrapping_mul(i as u8 + 3)).collect();
            let data = DataPageFooter { first_ordinal: i * 10, num_values: 10, ..Default::default() };
            let footer = PageFooter { kind: 1, uncompressed_size: 200, data: Some(data), ..Default::default() };
            file.extend_from_slice(&page::encode(&body, &footer));
        }
        (file, starts)
    }

    #[test]
    fn whole_and_damaged() {
        let (file, starts) = file();
        let pieces = walk(&Bytes::from(file.clone()));
        assert_eq!(pieces.len(), 5);
        for flip in 0..file.len() {
            let mut bad = file.clone();
            bad[flip] ^= 0x10;
            let hit = starts.iter().rposition(|s| *s <= flip).unwrap();
            let good = walk(&Bytes::from(bad)).iter().filter(|p| matches!(p, Piece::Page(_))).count();
            assert_eq!(good, 4, "flip at {flip} in page {hit}");
        }
    }
}

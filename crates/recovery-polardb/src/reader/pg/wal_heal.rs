//! Corrections that let the walk go on: one flipped bit in a record, a damaged page header, pages of another copy.
//!
//! A record's CRC tells whether a correction is right, and its link to the record before is a second, independent
//! witness. A page header has no checksum, but all of it can be foretold; the record on the page is the witness.

use super::wal::{Stop, WalDir, Walker};
use crate::format::pg::wal_page::{self, PageHeader};
use crate::format::pg::wal_record::{self, RecordHeader};
use crate::format::pg::{Lsn, WAL_BLOCK};

/// Longest record searched bit by bit (a record with one page image fits).
const LONGEST: usize = 24 << 10;
/// Most bits of a page header that may differ from what is foretold.
const HEADER_BITS: u32 = 16;

/// A correction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// Record or page it concerns.
    pub at: Lsn,
    /// Bytes changed: position in the log, and the bits that are flipped.
    pub bytes: Vec<(Lsn, u8)>,
    /// Why it was needed.
    pub stop: Stop,
    /// Whether the bytes are those of another copy of the log.
    pub donated: bool,
}

/// Tries to correct what the walk stopped at; the correction is in force when it is returned.
#[must_use]
pub fn heal(wal: &WalDir, tli: u32, next: Lsn, prev: Option<Lsn>, stop: &Stop) -> Option<Healed> {
    let tries = match stop {
        Stop::Crc { .. } | Stop::Length { .. } | Stop::Manager { .. } | Stop::Prev { .. } => bit(wal, tli, next, prev),
        Stop::Page { at, zero: false, .. } => header(wal, tli, *at, next),
        Stop::NoContinuation { page, .. } | Stop::ContinuationLength { page, .. } => header(wal, tli, *page, next),
        _ => None,
    };
    let own = tries.map(|bytes| Healed { at: stop.at(), bytes, stop: stop.clone(), donated: false });
    own.filter(|h| holds(wal, tli, next, prev, &h.bytes)).or_else(|| {
        (0..wal.donors.len()).find_map(|donor| {
            let bytes = donated(wal, donor, tli, next, stop)?;
            let healed = Healed { at: stop.at(), bytes, stop: stop.clone(), donated: true };
            holds(wal, tli, next, prev, &healed.bytes).then_some(healed)
        })
    })
}

/// Puts corrections in force, and takes them back unless the record then agrees.
fn holds(wal: &WalDir, tli: u32, next: Lsn, prev: Option<Lsn>, bytes: &[(Lsn, u8)]) -> bool {
    let turn = || bytes.iter().for_each(|(lsn, flip)| wal.patch(lsn.0, *flip));
    turn();
    let good = Walker::new(wal, tli, next, prev).step().is_ok();
    if !good {
        turn();
    }
    good
}

/// Most pages of one record that are taken from another copy.
const MOST_PAGES: u64 = 8192;

/// How another copy differs on the pages of the record that begins at `next`, up to the one at which the walk stopped and
/// as far as its length reaches.
fn donated(wal: &WalDir, donor: usize, tli: u32, next: Lsn, stop: &Stop) -> Option<Vec<(Lsn, u8)>> {
    let (source, dir) = wal.donors.get(donor)?;
    let start = wal.record_start(next);
    let mut walker = Walker::new(wal, tli, next, None);
    let mut open = None;
    let (mut out, mut page, mut end) = (Vec::new(), next.page(), stop.extent().1.max(next.page().plus(8192)));
    let mut pages = 0;
    while page < end && pages < MOST_PAGES {
        let number = wal.segment.number(page);
        if open.as_ref().is_none_or(|(n, _)| *n != number) {
            let name = wal.file(tli, number)?.file_name();
            let blob = source.open_name(&format!("{dir}/{name}")).ok().flatten()?;
            open = Some((number, blob));
        }
        let mut theirs = [0; WAL_BLOCK];
        open.as_ref()?.1.read_exact_at(wal.segment.offset(page), &mut theirs).ok()?;
        let ours = walker.page_bytes(page).unwrap_or_else(|| vec![0; WAL_BLOCK]);
        let pairs = (0u64..).zip(ours.iter().zip(&theirs)).filter(|(_, (a, b))| a != b);
        out.extend(pairs.map(|(i, (a, b))| (page.plus(i), a ^ b)));
        if page == start.page() {
            // The record may reach further than the place at which its damage showed.
            let at = usize::try_from(start.in_page()).ok()?;
            let length = theirs.get(at..)?.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
            let reach = u64::from(length).saturating_add(u64::from(length) / 256).saturating_add(8192);
            end = end.max(start.plus(reach.min(MOST_PAGES * 8192)).page().plus(8192).min(wal.present_end(tli)));
        }
        page = page.plus(8192);
        pages += 1;
    }
    (!out.is_empty()).then_some(out)
}

/// Position in the log of every byte of the record that begins at `at`, as far as its pages reach.
fn places(wal: &WalDir, at: Lsn, length: usize) -> Vec<Lsn> {
    let mut out = Vec::with_capacity(length);
    let mut lsn = at;
    while out.len() < length {
        lsn = wal.record_start(lsn);
        out.push(lsn);
        lsn = lsn.plus(1);
    }
    out
}

fn gather(walker: &mut Walker<'_>, places: &[Lsn]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(places.len());
    let mut page = Vec::new();
    let mut page_at = None;
    for lsn in places {
        if page_at != Some(lsn.page()) {
            page = walker.page_bytes(lsn.page())?;
            page_at = Some(lsn.page());
        }
        out.push(*page.get(usize::try_from(lsn.in_page()).ok()?)?);
    }
    Some(out)
}

/// One flipped bit in the record that should begin at `next`.
fn bit(wal: &WalDir, tli: u32, next: Lsn, prev: Option<Lsn>) -> Option<Vec<(Lsn, u8)>> {
    let at = wal.record_start(next);
    let mut walker = Walker::new(wal, tli, next, prev);
    let head = gather(&mut walker, &places(wal, at, wal_record::HEADER))?;
    let stored = RecordHeader::of(&head).tot_len;
    // The length itself may be the damaged field: try it as it stands, and with each of its bits flipped.
    let lengths = std::iter::once(None).chain((0..32).map(Some));
    for flipped in lengths {
        let length = stored ^ flipped.map_or(0, |b| 1u32 << b);
        let length = usize::try_from(length).ok().filter(|l| (wal_record::HEADER..=LONGEST).contains(l));
        let Some(length) = length else { continue };
        let places = places(wal, at, length);
        let Some(mut bytes) = gather(&mut walker, &places) else { continue };
        if let Some(b) = flipped {
            flip(&mut bytes, b);
            if agrees(&bytes, at, prev) {
                return Some(vec![(*places.get(b / 8)?, 1 << (b % 8))]);
            }
            continue;
        }
        if let Some(bit) = single(&mut bytes, at, prev) {
            return Some(vec![(*places.get(bit / 8)?, 1 << (bit % 8))]);
        }
    }
    None
}

/// Whether a record can follow the one before; where that is not known, any earlier one will do.
fn linked(h: &RecordHeader, at: Lsn, prev: Option<Lsn>) -> bool {
    prev.map_or(h.prev < at, |p| p == h.prev)
}

fn agrees(record: &[u8], at: Lsn, prev: Option<Lsn>) -> bool {
    let h = RecordHeader::of(record);
    linked(&h, at, prev) && h.tot_len as usize == record.len() && wal_record::crc(record) == h.crc
}

fn single(bytes: &mut [u8], at: Lsn, prev: Option<Lsn>) -> Option<usize> {
    // A wrong link can only be mended inside the link: then nothing else may be wrong.
    let link_bits = 64..128;
    let candidates = if linked(&RecordHeader::of(bytes), at, prev) { 0..bytes.len() * 8 } else { link_bits };
    for bit in candidates {
        flip(bytes, bit);
        if agrees(bytes, at, prev) {
            return Some(bit);
        }
        flip(bytes, bit);
    }
    None
}

fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(b) = bytes.get_mut(bit / 8) {
        *b ^= 1 << (bit % 8);
    }
}

/// The header a page should have, given the record that begins at `next` and runs into it or begins on it.
fn header(wal: &WalDir, tli: u32, page: Lsn, next: Lsn) -> Option<Vec<(Lsn, u8)>> {
    let mut walker = Walker::new(wal, tli, next, None);
    let bytes = walker.page_bytes(page)?;
    let found = PageHeader::decode(&bytes).ok();
    let long = wal.segment.offset(page) == 0;
    let size = if long { wal_page::LONG_HEADER } else { wal_page::SHORT_HEADER };
    let begins_here = next.page() == page;
    let rem_len = if begins_here { found.map_or(0, |f| f.rem_len) } else { remaining(wal, &mut walker, page, next)? };
    let keep = found.map_or(0, |f| f.info & 4);
    let continued = if begins_here { found.map_or(0, |f| f.info & wal_page::CONTRECORD) } else { wal_page::CONTRECORD };
    let part = wal_page::LongPart {
        system_identifier: wal.expect.system_identifier.unwrap_or_default(),
        segment_size: u32::try_from(wal.segment.bytes()).ok()?,
        block_size: u32::try_from(WAL_BLOCK).ok()?,
    };
    if long && wal.expect.system_identifier.is_none() {
        return None;
    }
    let info = keep | continued | if long { wal_page::LONG } else { 0 };
    // A page keeps the timeline of the file it lies in; an older one is tried as it stands.
    let tli = found.filter(|f| f.tli > 0 && f.tli < tli).map_or(tli, |f| f.tli);
    let right =
        PageHeader { magic: wal.expect.magic?, info, tli, address: page, rem_len, long: long.then_some(part) }.encode();
    let differing: Vec<(Lsn, u8)> = (0u64..)
        .zip(right.iter().zip(bytes.get(..size)?))
        .filter(|(i, _)| *i < 20 || *i >= 24)
        .filter(|(_, (a, b))| a != b)
        .map(|(i, (a, b))| (page.plus(i), a ^ b))
        .collect();
    let bits: u32 = differing.iter().map(|(_, f)| f.count_ones()).sum();
    (1..=HEADER_BITS).contains(&bits).then_some(differing)
}

/// Bytes of the record at `next` that are left when `page` begins.
fn remaining(wal: &WalDir, walker: &mut Walker<'_>, page: Lsn, next: Lsn) -> Option<u32> {
    let at = wal.record_start(next);
    let first = walker.page_bytes(at.page())?;
    let off = usize::try_from(at.in_page()).ok()?;
    let total = first.get(off..).and_then(<[u8]>::first_chunk::<4>).map(|b| u32::from_le_bytes(*b))?;
    let mut gone = 8192u64.checked_sub(at.in_page())?;
    let mut p = at.page().plus(8192);
    while p < page {
        gone = gone.saturating_add(8192 - wal_page::header_size(p, wal.segment) as u64);
        p = p.plus(8192);
        if gone >= u64::from(total) {
            return None;
        }
    }
    u32::try_from(u64::from(total).checked_sub(gone)?).ok().filter(|&r| r > 0)
}

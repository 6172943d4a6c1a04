//! How long is the block that starts here? Answered from the payload's own structure.
//!
//! Without an index nothing says where a block ends. Trying every length against the checksum works, but only where
//! the start is certain. A payload knows its own end, though: a Snappy or LZ4 block when it has produced as many bytes
//! as it declares, a zstd frame, a deflate or bzip2 stream by their end marks, a raw block by its restart array. That
//! gives at most one length per way of reading, found in one pass, and a checksum then decides.

use std::cell::RefCell;
use std::ops::Range;

use crate::format::block::EntryWalk;
use crate::format::coding::{fixed32, fixed64, varint32};
use crate::format::compression::{Compression, Container, Dictionary};
use crate::format::handle::TRAILER_LEN;

/// How much is tried at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A block surely starts here: an LZ4 block may also refer to a dictionary that is not at hand.
    Start,
    /// One place of many.
    Slide,
    /// One place of very many: deflate, which is dear to try and shows no mark, is left out.
    Hurry,
}

/// Lengths of payload that the bytes at the head of `bytes` may have, each with a fitting type byte behind it.
pub(crate) fn lengths(
    bytes: &[u8],
    container: Container,
    dictionary: Option<&Dictionary>,
    effort: Effort,
) -> Vec<usize> {
    let mut out = Vec::new();
    let mut offer = |length: Option<usize>, kinds: &[u8]| {
        if let Some(length) = length
            && bytes.len() >= length.saturating_add(TRAILER_LEN)
            && bytes.get(length).is_some_and(|kind| kinds.contains(kind))
            && !out.contains(&length)
        {
            out.push(length);
        }
    };
    raw(bytes, |length| offer(Some(length), &[0]));
    offer(snappy(bytes), &[1]);
    offer(lz4(bytes, container, effort == Effort::Start || dictionary.is_some()), &[4, 5]);
    offer(zstd_frame(bytes), &[7, 0x40]);
    offer(bzip2(bytes, container), &[3]);
    if effort != Effort::Hurry {
        offer(zlib(bytes, container, dictionary), &[2]);
    }
    out
}

/// Words and buckets that are looked at in search of one raw block's restart arrays. Values full of zeros look like the
/// beginning of an array at every entry; the right one costs its own length.
const WORDS: usize = 256 << 10;

/// A raw block of entries: entries up to a restart array whose count fits.
fn raw(bytes: &[u8], mut found: impl FnMut(usize)) {
    // The first entry stores its whole key.
    if bytes.first() != Some(&0) {
        return;
    }
    let mut walk = EntryWalk::default();
    let mut end = 0;
    let mut budget = WORDS;
    loop {
        if fixed32(bytes.get(end..).unwrap_or_default()) == Some(0)
            && let Some(length) = restart_array(bytes, end, &mut budget)
        {
            found(length);
        }
        match walk.advance(bytes) {
            Ok(true) => end = walk.value().end,
            Ok(false) | Err(_) => return,
        }
    }
}

/// The length of the block if a restart array starts at `start`.
fn restart_array(bytes: &[u8], start: usize, budget: &mut usize) -> Option<usize> {
    let mut last = None;
    let mut count = 0_u32;
    let mut at = start;
    loop {
        *budget = budget.checked_sub(1)?;
        let word = fixed32(bytes.get(at..)?)?;
        let next = at.checked_add(4)?;
        if count > 0 && word & 0x0fff_ffff == count && word & 0x5000_0000 == 0 {
            if word >> 31 == 0 {
                return Some(next);
            }
        } else if count > 0 && last.is_some_and(|last| word <= last) || usize::try_from(word).ok()? > start {
            return hash_index(bytes, at, count, budget);
        }
        last = Some(word);
        count = count.checked_add(1)?;
        at = next;
    }
}

/// The length of the block if a hash index starts at `start`: buckets, their number, a footer word with `count`.
///
/// A bucket holds the number of a restart, 255 for none, or 254 for several, so the search ends at the first byte that
/// is neither.
fn hash_index(bytes: &[u8], start: usize, count: u32, budget: &mut usize) -> Option<usize> {
    let tail = bytes.get(start..)?;
    for buckets in 0..=usize::from(u16::MAX) {
        *budget = budget.checked_sub(1)?;
        let behind = tail.get(buckets..)?;
        let word = fixed32(behind.get(2..)?)?;
        if word >> 31 == 1 && word & 0x0fff_ffff == count {
            let number = u16::from_le_bytes(*behind.first_chunk::<2>()?);
            if usize::from(number) == buckets {
                return start.checked_add(buckets)?.checked_add(6);
            }
        }
        let bucket = *behind.first()?;
        if bucket < 254 && u32::from(bucket) >= count {
            return None;
        }
    }
    None
}

/// A Snappy block: a varint of the output's length, then elements until it is reached.
fn snappy(bytes: &[u8]) -> Option<usize> {
    let (want, mut at) = varint32(bytes)?;
    let want = u64::from(want);
    let mut done = 0_u64;
    while done < want {
        let tag = *bytes.get(at)?;
        at = at.checked_add(1)?;
        let high = u64::from(tag >> 2);
        match tag & 3 {
            0 => {
                let (length, extra) = match high {
                    0..=59 => (high, 0),
                    n => (little(bytes.get(at..)?, usize::try_from(n).ok()?.checked_sub(59)?)?, n.checked_sub(59)?),
                };
                let length = length.checked_add(1)?;
                at = at.checked_add(usize::try_from(extra.checked_add(length)?).ok()?)?;
                done = done.checked_add(length)?;
            }
            kind => {
                let (length, offset, extra) = match kind {
                    1 => {
                        let low = u64::from(*bytes.get(at)?);
                        ((high & 7).checked_add(4)?, u64::from(tag >> 5) << 8 | low, 1)
                    }
                    2 => (high.checked_add(1)?, little(bytes.get(at..)?, 2)?, 2),
                    _ => (high.checked_add(1)?, little(bytes.get(at..)?, 4)?, 4),
                };
                if offset == 0 || offset > done {
                    return None;
                }
                at = at.checked_add(extra)?;
                done = done.checked_add(length)?;
            }
        }
    }
    (done == want && want > 0).then_some(at)
}

fn little(bytes: &[u8], n: usize) -> Option<u64> {
    let mut out = [0; 8];
    out.get_mut(..n)?.copy_from_slice(bytes.get(..n)?);
    Some(u64::from_le_bytes(out))
}

/// An LZ4 block: sequences until the declared length is reached. With a dictionary, offsets may reach 64 KiB into it.
fn lz4(bytes: &[u8], container: Container, dictionary: bool) -> Option<usize> {
    let (want, mut at) = match container {
        Container::Sized => varint32(bytes).map(|(n, used)| (u64::from(n), used))?,
        Container::Legacy => (fixed64(bytes)?, 8),
    };
    let mut done = 0_u64;
    loop {
        let token = *bytes.get(at)?;
        at = at.checked_add(1)?;
        let literals = lz4_length(bytes, &mut at, token >> 4)?;
        at = at.checked_add(usize::try_from(literals).ok()?)?;
        done = done.checked_add(literals)?;
        if done >= want {
            return (done == want && want > 0).then_some(at);
        }
        let offset = little(bytes.get(at..)?, 2)?;
        at = at.checked_add(2)?;
        if offset == 0 || !dictionary && offset > done {
            return None;
        }
        let matched = lz4_length(bytes, &mut at, token & 15)?;
        done = done.checked_add(matched)?.checked_add(4)?;
    }
}

fn lz4_length(bytes: &[u8], at: &mut usize, nibble: u8) -> Option<u64> {
    let mut length = u64::from(nibble);
    if nibble == 15 {
        loop {
            let more = *bytes.get(*at)?;
            *at = at.checked_add(1)?;
            length = length.checked_add(u64::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

fn zstd_frame(bytes: &[u8]) -> Option<usize> {
    let (_, used) = varint32(bytes)?;
    let frame = bytes.get(used..)?;
    if fixed32(frame)? != 0xfd2f_b528 {
        return None;
    }
    used.checked_add(zstd::zstd_safe::find_frame_compressed_size(frame).ok()?)
}

/// Uncompressed bytes beyond which a stream is not followed.
const FOLLOWED: u64 = 16 << 20;

fn bzip2(bytes: &[u8], container: Container) -> Option<usize> {
    let used = if container == Container::Sized { varint32(bytes)?.1 } else { 0 };
    let body = bytes.get(used..)?;
    if body.get(..3)? != b"BZh" {
        return None;
    }
    let mut stream = bzip2::Decompress::new(false);
    let mut out = vec![0; 16 << 10];
    loop {
        let before = (stream.total_in(), stream.total_out());
        let rest = body.get(usize::try_from(before.0).ok()?..)?;
        if stream.decompress(rest, &mut out).ok()? == bzip2::Status::StreamEnd {
            return used.checked_add(usize::try_from(stream.total_in()).ok()?);
        }
        if before == (stream.total_in(), stream.total_out()) || before.1 > FOLLOWED {
            return None;
        }
    }
}

thread_local! {
    /// Setting a stream up costs far more than finding that most places hold none.
    static INFLATE: RefCell<(flate2::Decompress, Vec<u8>)> =
        RefCell::new((flate2::Decompress::new(false), vec![0; 16 << 10]));
}

fn zlib(bytes: &[u8], container: Container, dictionary: Option<&Dictionary>) -> Option<usize> {
    let (want, used) = match container {
        Container::Sized => varint32(bytes).map(|(n, used)| (Some(u64::from(n)), used))?,
        Container::Legacy => (None, 0),
    };
    let body = bytes.get(used..)?;
    if want == Some(0) || !may_be_deflate(body) {
        return None;
    }
    INFLATE.with_borrow_mut(|(stream, out)| {
        stream.reset(false);
        if let Some(dictionary) = dictionary {
            stream.set_dictionary(dictionary.raw()).ok()?;
        }
        used.checked_add(deflate_end(body, want, stream, out)?)
    })
}

/// A first look at a deflate stream: the head of its first block (RFC 1951, section 3.2).
fn may_be_deflate(body: &[u8]) -> bool {
    let Some(&[a, b, c, d, e]) = body.first_chunk::<5>() else { return false };
    match a >> 1 & 3 {
        0 => b == !d && c == !e,
        1 => true,
        // At most 286 literal and 30 distance codes.
        2 => a >> 3 <= 29 && b & 31 <= 29,
        _ => false,
    }
}

fn deflate_end(body: &[u8], want: Option<u64>, stream: &mut flate2::Decompress, out: &mut [u8]) -> Option<usize> {
    loop {
        let before = (stream.total_in(), stream.total_out());
        let rest = body.get(usize::try_from(before.0).ok()?..)?;
        let status = stream.decompress(rest, out, flate2::FlushDecompress::None).ok()?;
        if status == flate2::Status::StreamEnd {
            let whole = want.is_none_or(|want| want == stream.total_out());
            return if whole { usize::try_from(stream.total_in()).ok() } else { None };
        }
        let over = want.unwrap_or(FOLLOWED).min(FOLLOWED);
        if before == (stream.total_in(), stream.total_out()) || before.1 > over {
            return None;
        }
    }
}

/// Lengths to try against a checksum where the structure says nothing: those with a known type byte behind them.
pub(crate) fn every_length(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let range: Range<usize> = 1..bytes.len().saturating_sub(TRAILER_LEN.saturating_sub(1)).max(1);
    range.filter(|n| bytes.get(*n).is_some_and(|kind| Compression::from_byte(*kind).is_some()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::block::BlockBuilder;
    use crate::format::compression::pack;

    fn block() -> Vec<u8> {
        let mut builder = BlockBuilder::new(4);
        for n in 0..60 {
            builder.add(format!("key{n:04}12345678").as_bytes(), b"a value that repeats, repeats");
        }
        builder.finish()
    }

    #[test]
    fn every_payload_knows_its_end() {
        let raw = block();
        let mut all = vec![(Compression::None, raw.clone())];
        for kind in [Compression::Snappy, Compression::Zlib, Compression::Lz4, Compression::Zstd] {
            all.push((kind, pack(kind, &raw).unwrap()));
        }
        for (kind, payload) in all {
            let mut bytes = payload.clone();
            bytes.push(kind.byte());
            bytes.extend_from_slice(&[9; 400]);
            assert!(lengths(&bytes, Container::Sized, None, Effort::Slide).contains(&payload.len()), "{}", kind.name());
        }
    }

    #[test]
    fn a_hash_index_belongs_to_the_block() {
        let mut bytes = block();
        let restarts = bytes.len();
        bytes.truncate(restarts - 4);
        bytes.extend_from_slice(&[255, 1, 2, 254, 4, 0]);
        bytes.extend_from_slice(&(15_u32 | 1 << 31).to_le_bytes());
        let length = bytes.len();
        bytes.extend_from_slice(&[0; 30]);
        assert!(lengths(&bytes, Container::Sized, None, Effort::Slide).contains(&length));
    }
}

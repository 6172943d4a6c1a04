//! `metadata.crc`: one checksum a section of the last state saved.
//!
//! ```text
//! [4.x: u64 metaversion, u64 metaid], then 8 bytes an entry: 4 name, 4 value; names HEAD, every section, TAIL
//! ```
//! A value is the exclusive or of the CRC-32 (zlib polynomial) of every piece the writer wrote: the section header
//! with an unknown length, each record, the end, and last the 8 length bytes. It does not depend on the order of the
//! records, and two equal records cancel each other. No upstream program compares it with the file.
//! Source: upstream `mfsmaster/metadata.c` (`meta_store_chunk`), `bio.c` (`bio_crc`).

use recovery_core::Cursor;

use super::outer::{SectionHead, UNKNOWN_LENGTH};
use super::{Decoded, Put};

/// Checksum of one piece.
#[must_use]
#[inline]
pub fn piece(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Longest piece that is folded; longer ones are summed one by one.
const LONGEST: usize = 1 << 11;

/// The exclusive or of the checksums of many pieces, without a checksum of each.
///
/// CRC-32 is affine: the exclusive or of the checksums of pieces of one length is the checksum of the exclusive or of
/// the pieces, and where their number is even, that of as many zeros on top. So pieces are folded by length, and one
/// checksum a length is computed at the end.
///
/// ```
/// use recovery_moosefs::format::crc::{Pieces, piece};
/// let mut all = Pieces::default();
/// for p in [&b"one"[..], b"two", b"three"] {
///     all.add(p);
/// }
/// assert_eq!(all.value(), piece(b"one") ^ piece(b"two") ^ piece(b"three"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    lanes: Vec<Lane>,
    sum: u32,
}

/// Pieces of one length.
#[derive(Clone, Debug, Default)]
struct Lane {
    folded: Vec<u8>,
    odd: bool,
}

impl Lane {
    #[inline]
    fn fold(&mut self, bytes: &[u8]) {
        let (a, rest) = self.folded.as_chunks_mut::<8>();
        let (b, tail) = bytes.as_chunks::<8>();
        for (x, y) in a.iter_mut().zip(b) {
            *x = (u64::from_ne_bytes(*x) ^ u64::from_ne_bytes(*y)).to_ne_bytes();
        }
        for (x, y) in rest.iter_mut().zip(tail) {
            *x ^= y;
        }
    }
}

impl Pieces {
    /// Takes a piece in.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        match self.lanes.get_mut(bytes.len()) {
            Some(lane) if !lane.folded.is_empty() => {
                lane.fold(bytes);
                lane.odd = !lane.odd;
            }
            _ => self.first(bytes),
        }
    }

    #[cold]
    fn first(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || bytes.len() > LONGEST {
            self.sum ^= piece(bytes);
            return;
        }
        if self.lanes.len() <= bytes.len() {
            self.lanes.resize(bytes.len().saturating_add(1), Lane::default());
        }
        if let Some(lane) = self.lanes.get_mut(bytes.len()) {
            (lane.folded, lane.odd) = (bytes.to_vec(), true);
        }
    }

    /// Takes in a checksum that is known.
    #[inline]
    pub const fn add_sum(&mut self, sum: u32) {
        self.sum ^= sum;
    }

    /// Takes in what another one holds.
    pub fn merge(&mut self, other: &Self) {
        self.sum ^= other.sum;
        for lane in other.lanes.iter().filter(|l| !l.folded.is_empty()) {
            let odd = self.lanes.get(lane.folded.len()).is_some_and(|l| l.odd);
            self.add(&lane.folded);
            if let Some(mine) = self.lanes.get_mut(lane.folded.len()) {
                mine.odd = odd != lane.odd;
            }
        }
    }

    /// The exclusive or of all checksums.
    #[must_use]
    pub fn value(&self) -> u32 {
        let lanes = self.lanes.iter().filter(|l| !l.folded.is_empty());
        lanes.fold(self.sum, |sum, l| {
            let even = if l.odd { 0 } else { piece(&vec![0; l.folded.len()]) };
            sum ^ piece(&l.folded) ^ even
        })
    }
}

/// What the header, the length and the trailer of a section add to its sum.
#[must_use]
pub fn frame(name: [u8; 4], version: u8, length: u64) -> u32 {
    piece(&SectionHead { name, version, length: UNKNOWN_LENGTH }.encode()) ^ piece(&length.to_be_bytes())
}

/// A list of section checksums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrcFile {
    /// Version and id of the state, stored by 4.x only.
    pub state: Option<(u64, u64)>,
    /// Name and value of each section, in file order.
    pub entries: Vec<([u8; 4], u32)>,
}

impl CrcFile {
    /// Reads a whole file; the entries start with `HEAD`.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut c = Cursor::new(bytes, 0);
        let mut file = Self::default();
        if !bytes.starts_with(b"HEAD") {
            file.state = Some((c.u64_be("crc metaversion")?, c.u64_be("crc metaid")?));
        }
        while !c.is_empty() {
            file.entries.push((c.array("crc name")?, c.u32_be("crc value")?));
        }
        Ok(file)
    }

    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len().saturating_mul(8).saturating_add(16));
        if let Some((version, id)) = self.state {
            out.u64(version);
            out.u64(id);
        }
        for (name, value) in &self.entries {
            out.extend_from_slice(name);
            out.u32(*value);
        }
        out
    }

    /// The value of a section.
    #[must_use]
    pub fn get(&self, name: &[u8; 4]) -> Option<u32> {
        self.entries.iter().find(|(n, _)| n == name).map(|e| e.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_gives_the_sum_of_the_pieces() {
        let text: Vec<u8> = (0..9000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (mut all, mut halves, mut expected) = (Pieces::default(), [Pieces::default(), Pieces::default()], 0);
        for n in 0..700usize {
            let len = [44, 36, n % 61, 2048, 2049, 0][n % 6];
            let part = text.get(n * 7..n * 7 + len).unwrap_or_default();
            expected ^= piece(part);
            all.add(part);
            if let Some(h) = halves.get_mut(n % 2) {
                h.add(part);
            }
        }
        assert_eq!(all.value(), expected);
        let [mut a, b] = halves;
        a.merge(&b);
        assert_eq!(a.value(), expected);
    }
}

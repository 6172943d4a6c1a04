//! Data blocks that do not match their checksum and can be had all the same: with one bit turned back, where exactly
//! one makes the checksum fit, or, when the caller asks for it, just as they are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recovery_core::{Blob, ReadError};

use crate::format::key::{KeyOrder, user_key};
use crate::format::{BlockHandle, ChecksumType, FormatError, Seal};
use crate::reader::{BlockReader, TableError};

use super::table::{GoodBlock, examine};

/// What may be done about a block that does not match its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mend {
    /// Turn a single bit back where that makes the checksum fit.
    pub correct: bool,
    /// Use blocks that decode whole although their checksum does not fit. What they hold may never have been written.
    pub ignore_checksums: bool,
}

impl Default for Mend {
    fn default() -> Self {
        Self { correct: true, ignore_checksums: false }
    }
}

/// A block that was had in spite of its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The block with its trailer.
    pub range: Range<u64>,
    /// Byte of the file and the bit in it that was turned back; `None`: the checksum was ignored.
    pub bit: Option<(u64, u8)>,
}

impl Mended {
    /// A phrase for messages.
    #[must_use]
    pub fn phrase(&self) -> String {
        match self.bit {
            Some((at, mask)) => {
                format!(
                    "corrected: with bit {} of the byte at {at:#x} turned back the checksum fits",
                    mask.trailing_zeros()
                )
            }
            None => "used all the same, as --ignore-checksums asks: it decodes whole".to_owned(),
        }
    }
}

/// Bytes of a file to change when it is read: where, and the bits.
pub(crate) type Patches = BTreeMap<u64, u8>;

/// A file as it is once some of its bits are turned over.
pub(crate) struct PatchedBlob {
    inner: Arc<dyn Blob>,
    patches: Patches,
}

impl PatchedBlob {
    pub(crate) fn new(inner: Arc<dyn Blob>, patches: Patches) -> Self {
        Self { inner, patches }
    }

    fn patch(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        for (at, mask) in self.patches.range(offset..end) {
            let place = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= mask;
            }
        }
    }
}

impl Blob for PatchedBlob {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let n = self.inner.read_at(offset, buf)?;
        if let Some(read) = buf.get_mut(..n) {
            self.patch(offset, read);
        }
        Ok(n)
    }

    fn bytes(&self, range: Range<u64>) -> Result<bytes::Bytes, ReadError> {
        let bytes = self.inner.bytes(range.clone())?;
        if self.patches.range(range.clone()).next().is_none() {
            return Ok(bytes);
        }
        let mut changed = bytes.to_vec();
        self.patch(range.start, &mut changed);
        Ok(changed.into())
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn done_with(&self, range: Range<u64>) {
        self.inner.done_with(range);
    }
}

/// Bytes hashed for all blocks of one table, at most: trying every bit of a block hashes it eight times its length.
const BUDGET: u64 = 8 << 30;

/// Mends the blocks of one table.
pub(crate) struct Mender<'a> {
    pub(crate) blocks: &'a BlockReader,
    pub(crate) order: Option<&'a KeyOrder>,
    pub(crate) how: Mend,
    spent: AtomicU64,
}

impl<'a> Mender<'a> {
    pub(crate) const fn new(blocks: &'a BlockReader, order: Option<&'a KeyOrder>, how: Mend) -> Self {
        Self { blocks, order, how, spent: AtomicU64::new(0) }
    }

    /// The block at `handle`, which failed with `error`, and the bytes to change for it. `keys` are the separators
    /// before and behind it.
    pub(crate) fn mend(
        &self,
        handle: BlockHandle,
        error: &TableError,
        keys: (Option<&[u8]>, Option<&[u8]>),
    ) -> Option<(GoodBlock, Mended, Patches)> {
        if !matches!(error, TableError::Format { source: FormatError::Checksum { .. }, .. }) {
            return None;
        }
        let bytes = self.blocks.blob.bytes(handle.range()).ok()?;
        let corrected = self.how.correct.then(|| self.one_bit(handle, &bytes)).flatten().and_then(|(at, mask)| {
            let patches = Patches::from([(at, mask)]);
            let good = self.examine(handle, &patches)?;
            Some((good, Mended { range: handle.range(), bit: Some((at, mask)) }, patches))
        });
        corrected.or_else(|| {
            let patches = self.how.ignore_checksums.then(|| self.as_it_is(handle, &bytes))??;
            let good = self.examine(handle, &patches).filter(|good| self.belongs(good, keys))?;
            Some((good, Mended { range: handle.range(), bit: None }, patches))
        })
    }

    fn patched(&self, patches: &Patches) -> BlockReader {
        let blob = Arc::new(PatchedBlob::new(Arc::clone(&self.blocks.blob), patches.clone()));
        BlockReader { blob, ..self.blocks.clone() }
    }

    fn examine(&self, handle: BlockHandle, patches: &Patches) -> Option<GoodBlock> {
        examine(&self.patched(patches), handle).ok()
    }

    /// The one bit of the block that makes its checksum fit; `None` when there is none, or more than one.
    fn one_bit(&self, handle: BlockHandle, bytes: &[u8]) -> Option<(u64, u8)> {
        if self.blocks.seal.algorithm == ChecksumType::None {
            return None;
        }
        let cost = (bytes.len() as u64).saturating_mul(bytes.len() as u64).saturating_mul(8);
        let spent = self.spent.fetch_add(cost, Ordering::Relaxed);
        if spent.saturating_add(cost) > BUDGET {
            return None;
        }
        let (place, mask) = single_bit(self.blocks.seal, handle.offset, bytes)?;
        Some((handle.offset.checked_add(place as u64)?, mask))
    }

    /// Changes that make the stored checksum fit what is there.
    fn as_it_is(&self, handle: BlockHandle, bytes: &[u8]) -> Option<Patches> {
        let (sealed, stored) = bytes.split_last_chunk::<4>()?;
        let wanted = self.blocks.seal.compute(handle.offset, sealed).to_le_bytes();
        let start = handle.offset.checked_add(sealed.len() as u64)?;
        let changes = stored.iter().zip(wanted).map(|(a, b)| a ^ b);
        Some((start..).zip(changes).filter(|(_, mask)| *mask != 0).collect())
    }

    /// Whether the keys of a block whose checksum does not fit are those its place in the index allows.
    fn belongs(&self, good: &GoodBlock, (after, upto): (Option<&[u8]>, Option<&[u8]>)) -> bool {
        let Some(order) = self.order else { return false };
        let ascends = good.entries < 2 || order.compare_internal(&good.first, &good.last).is_lt();
        let behind = after.is_none_or(|after| order.compare(user_key(&good.first), after).is_ge());
        let before = upto.is_none_or(|upto| order.compare(user_key(&good.last), upto).is_le());
        ascends && behind && before
    }
}

/// The one bit of `bytes` (payload, type and checksum of a block at `offset`) whose turning makes the checksum fit.
fn single_bit(seal: Seal, offset: u64, bytes: &[u8]) -> Option<(usize, u8)> {
    let (sealed, stored) = bytes.split_last_chunk::<4>()?;
    let stored = u32::from_le_bytes(*stored);
    let difference = stored ^ seal.compute(offset, sealed);
    if difference.is_power_of_two() {
        let bit = difference.trailing_zeros();
        let place = sealed.len().checked_add(usize::try_from(bit / 8).ok()?)?;
        return Some((place, 1_u8 << (bit % 8)));
    }
    let mut trial = sealed.to_vec();
    let mut found = None;
    for place in 0..trial.len() {
        for bit in 0..8 {
            let mask = 1_u8 << bit;
            *trial.get_mut(place)? ^= mask;
            let fits = seal.compute(offset, &trial) == stored;
            *trial.get_mut(place)? ^= mask;
            if fits {
                if found.is_some() {
                    return None;
                }
                found = Some((place, mask));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn one_bit_is_found_and_two_are_not() {
        for algorithm in ChecksumType::ALL.into_iter().filter(|a| *a != ChecksumType::None) {
            let seal = Seal { algorithm, base: 77 };
            let mut bytes: Vec<u8> = (0..300_u32).map(|n| (n * 7) as u8).collect();
            bytes.push(0);
            bytes.extend(seal.compute(4096, &bytes).to_le_bytes());
            for bit in (0..bytes.len() * 8).step_by(37) {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(single_bit(seal, 4096, &bad), Some((bit / 8, 1 << (bit % 8))));
                bad[(bit / 8 + 9) % 300] ^= 4;
                assert_eq!(single_bit(seal, 4096, &bad), None);
            }
        }
    }
}

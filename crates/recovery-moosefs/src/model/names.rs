//! From (directory, name) to an edge.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use rayon::prelude::*;

/// Tables the names are spread over. Each fits into a cache while it is filled, and grows by itself.
const SHARDS: usize = 256;

/// Names hashed by one task.
const PART: usize = 1 << 16;

/// Hashes names; copies hash alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHasher {
    seed: u64,
}

impl NameHasher {
    /// A hasher that no file can foresee.
    pub(crate) fn random() -> Self {
        Self { seed: RandomState::new().hash_one(0u8) }
    }

    #[inline]
    pub(crate) fn hash(self, parent: u32, name: &[u8]) -> u32 {
        let seed = self.seed ^ u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let h = xxhash_rust::xxh3::xxh3_64_with_seed(name, seed);
        u32::try_from(((h >> 32) ^ h) & 0xFFFF_FFFF).unwrap_or(0)
    }
}

/// 32 bits of hash beside the slot, so that growing touches no edge.
#[derive(Debug)]
pub(crate) struct NameTable {
    shards: Vec<HashTable<(u32, u32)>>,
    pub(crate) hasher: NameHasher,
}

const fn shard(hash: u32) -> usize {
    (hash >> 24) as usize
}

#[inline]
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl NameTable {
    pub(crate) fn new() -> Self {
        Self { shards: vec![HashTable::new(); SHARDS], hasher: NameHasher::random() }
    }

    /// A table of many names at once: hashes are sorted by table first, then each table is filled.
    pub(crate) fn build<T: Sync>(items: &[T], hash: impl Fn(NameHasher, &T) -> Option<u32> + Sync) -> Self {
        let mut names = Self::new();
        let hasher = names.hasher;
        let parts: Vec<(Vec<(u32, u32)>, Vec<usize>)> = items
            .par_chunks(PART)
            .enumerate()
            .map(|(i, part)| sorted(part.iter().zip(i.saturating_mul(PART)..), |item| hash(hasher, item)))
            .collect();
        names.shards.par_iter_mut().enumerate().for_each(|(i, shard)| {
            let of = |p: &(Vec<(u32, u32)>, Vec<usize>)| {
                let from = i.checked_sub(1).and_then(|i| p.1.get(i)).copied().unwrap_or(0);
                from..p.1.get(i).copied().unwrap_or(from)
            };
            let total: usize = parts.iter().map(|p| of(p).len()).sum();
            shard.reserve(total.saturating_add(total / 8), |&(h, _)| spread(h));
            for p in &parts {
                for &(h, slot) in p.0.get(of(p)).unwrap_or_default() {
                    shard.insert_unique(spread(h), (h, slot), |&(h, _)| spread(h));
                }
            }
        });
        names
    }

    #[inline]
    pub(crate) fn find(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards.get(shard(hash))?.find(spread(hash), |&(h, slot)| h == hash && same(slot)).map(|e| e.1)
    }

    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, slot: u32) {
        if let Some(shard) = self.shards.get_mut(shard(hash)) {
            shard.insert_unique(spread(hash), (hash, slot), |&(h, _)| spread(h));
        }
    }

    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        let shard = self.shards.get_mut(shard(hash));
        if let Some(Ok(entry)) = shard.map(|s| s.find_entry(spread(hash), |&(_, s)| s == slot)) {
            entry.remove();
        }
    }
}

/// Hashes of some items with their slots, by table; and where each table ends.
fn sorted<'a, T: 'a>(
    items: impl Iterator<Item = (&'a T, usize)>,
    hash: impl Fn(&T) -> Option<u32>,
) -> (Vec<(u32, u32)>, Vec<usize>) {
    let mut all: Vec<(u32, u32)> =
        items.filter_map(|(item, slot)| Some((hash(item)?, u32::try_from(slot).ok()?))).collect();
    let mut ends = vec![0usize; SHARDS];
    for &(h, _) in &all {
        if let Some(n) = ends.get_mut(shard(h)) {
            *n = n.saturating_add(1);
        }
    }
    let mut starts = Vec::with_capacity(SHARDS);
    let mut sum = 0usize;
    for n in &mut ends {
        starts.push(sum);
        sum = sum.saturating_add(*n);
        *n = sum;
    }
    let mut out = vec![(0, 0); all.len()];
    for pair in all.drain(..) {
        if let Some(at) = starts.get_mut(shard(pair.0))
            && let Some(slot) = out.get_mut(*at)
        {
            *slot = pair;
            *at = at.saturating_add(1);
        }
    }
    (out, ends)
}

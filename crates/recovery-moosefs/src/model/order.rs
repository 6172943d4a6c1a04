//! The orders in which a master writes: nodes and chunks by bucket, names by directory.
//!
//! What was read from a file of the same product lies in its slots in the order of the file, which is that of the
//! buckets; only what replay added has to be sorted in.

use rayon::prelude::*;

use super::arena::NONE;
use super::{Model, Node, hash32};

/// Slots looked at by one task.
const PART: usize = 1 << 16;

/// A slot on its way into the order.
struct Seen {
    bucket: u32,
    seq: u32,
    size: u64,
}

/// What one task found in its slots.
#[derive(Default)]
struct Part {
    /// Slots that came from the file, and their buckets.
    slots: Vec<u32>,
    buckets: Vec<u32>,
    /// Everything else: bucket and age, slot.
    others: Vec<(u64, u32)>,
    sorted: bool,
    size: u64,
}

/// The newest first within a bucket.
const fn key(bucket: u32, seq: u32) -> u64 {
    (bucket as u64) << 32 | (u32::MAX - seq) as u64
}

fn part<T>(items: &[T], first: usize, from_file: u32, see: &(impl Fn(&T) -> Option<Seen> + Sync)) -> Part {
    let mut p = Part { sorted: true, ..Part::default() };
    if from_file > 0 {
        p.slots.reserve(items.len());
        p.buckets.reserve(items.len());
    }
    let mut last = 0;
    for (item, slot) in items.iter().zip(first..) {
        let Some(s) = see(item) else { continue };
        let slot = u32::try_from(slot).unwrap_or(NONE);
        p.size = p.size.saturating_add(s.size);
        if s.seq <= from_file {
            p.sorted &= s.bucket >= last;
            last = s.bucket;
            p.slots.push(slot);
            p.buckets.push(s.bucket);
        } else {
            p.others.push((key(s.bucket, s.seq), slot));
        }
    }
    p
}

/// Slots by bucket, the newest first in each; and the sum of the sizes.
fn by_bucket<T: Sync>(items: &[T], from_file: u32, see: impl Fn(&T) -> Option<Seen> + Sync) -> (Vec<u32>, u64) {
    let parts: Vec<Part> = items
        .par_chunks(PART)
        .enumerate()
        .map(|(i, part_of)| part(part_of, i.saturating_mul(PART), from_file, &see))
        .collect();
    let size = parts.iter().fold(0u64, |sum, p| sum.saturating_add(p.size));
    let joins = parts.iter().filter(|p| !p.buckets.is_empty());
    let ends: Vec<(u32, u32)> =
        joins.filter_map(|p| Some((p.buckets.first().copied()?, p.buckets.last().copied()?))).collect();
    let sorted = parts.iter().all(|p| p.sorted) && ends.is_sorted_by(|a, b| a.1 <= b.0);
    let total: usize = parts.iter().map(|p| p.slots.len().saturating_add(p.others.len())).sum();
    let mut others: Vec<(u64, u32)> = Vec::new();
    let (mut slots, mut buckets) = (Vec::new(), Vec::new());
    if sorted {
        slots.reserve(total);
    }
    for p in parts {
        if sorted {
            slots.extend_from_slice(&p.slots);
            buckets.extend_from_slice(&p.buckets);
        } else {
            // slots from a file stand in the order of their age
            others.extend(p.slots.iter().zip(&p.buckets).map(|(&s, &b)| (key(b, s.saturating_add(1)), s)));
        }
        others.extend(p.others);
    }
    others.par_sort_unstable();
    newest_first(&mut slots, &buckets);
    if others.is_empty() {
        return (slots, size);
    }
    if slots.is_empty() {
        return (others.into_iter().map(|o| o.1).collect(), size);
    }
    (merge(&slots, &buckets, &others), size)
}

/// Turns runs of one bucket around: in the file the newest stood first, and each load put it behind the others.
fn newest_first(slots: &mut [u32], buckets: &[u32]) {
    let mut start = 0usize;
    for run in buckets.chunk_by(|a, b| a == b) {
        let end = start.saturating_add(run.len());
        if run.len() > 1
            && let Some(part) = slots.get_mut(start..end)
        {
            part.reverse();
        }
        start = end;
    }
}

/// What replay added is newer than all of the file: within a bucket it comes first.
fn merge(slots: &[u32], buckets: &[u32], others: &[(u64, u32)]) -> Vec<u32> {
    let mut out = Vec::with_capacity(slots.len().saturating_add(others.len()));
    let mut at = 0usize;
    for &(key, slot) in others {
        let bucket = u32::try_from(key >> 32).unwrap_or(u32::MAX);
        let rest = buckets.get(at..).unwrap_or_default();
        let n = rest.iter().take_while(|&&b| b < bucket).count();
        let end = at.saturating_add(n);
        out.extend_from_slice(slots.get(at..end).unwrap_or_default());
        out.push(slot);
        at = end;
    }
    out.extend_from_slice(slots.get(at..).unwrap_or_default());
    out
}

/// Buckets of a table that grows with what it holds.
pub(super) fn table_mask(elements: u64) -> u32 {
    let mut size: u64 = 1 << 24;
    while elements > size && size < 1 << 31 {
        size <<= 1;
    }
    u32::try_from(size.saturating_sub(1)).unwrap_or(u32::MAX)
}

impl Model {
    /// Slots of the nodes in the order a master writes them.
    pub(crate) fn node_order(&self) -> Vec<u32> {
        self.nodes_by_bucket(|_| 0).0
    }

    /// The same, and the sum of what `size` gives for each.
    pub(super) fn nodes_by_bucket(&self, size: impl Fn(&Node) -> u64 + Sync) -> (Vec<u32>, u64) {
        let mask = table_mask(self.max_nodes);
        let flat = self.dialect.is_flat();
        by_bucket(self.nodes.slots(), self.loaded, |n| {
            let bucket = if flat { n.inode & 0x3F_FFFF } else { hash32(n.inode) & mask };
            (n.kind != 0).then(|| Seen { bucket, seq: n.seq, size: size(n) })
        })
    }

    /// Slots of the chunks in the order a master writes them.
    pub(super) fn chunk_order(&self) -> Vec<u32> {
        let mask = table_mask(self.chunks.len() as u64);
        let flat = self.dialect.is_flat();
        let see = |c: &super::chunks::Chunk| {
            let low = (c.id & 0xFFFF_FFFF) as u32;
            let bucket = if flat { low & 0xF_FFFF } else { hash32(low) & mask };
            (c.id != 0).then_some(Seen { bucket, seq: c.seq, size: 0 })
        };
        by_bucket(self.chunks.slots.slots(), self.chunks.from_file, see).0
    }

    /// Slots of the edges in the order a master writes them.
    pub(crate) fn edge_order(&self) -> Vec<u32> {
        let lists = self.lists();
        let mut order = Vec::with_capacity(usize::try_from(self.edge_count).unwrap_or(0));
        let mut stack = vec![1u32];
        while let Some(dir) = stack.pop() {
            let Some((list, below)) = self.slot(dir).and_then(|s| lists.of(s)) else { continue };
            order.extend_from_slice(list);
            stack.extend(below.iter().rev());
        }
        for &head in self.trash.iter().chain(&self.sustained) {
            let mut at = head;
            while at != NONE {
                order.push(at);
                at = self.edges.get(at).next;
            }
        }
        order
    }

    /// The names of every directory. A list waits for memory at each step, so several are followed at once.
    fn lists(&self) -> Lists {
        let nodes = self.nodes.slots();
        let dirs: Vec<(u32, u32)> =
            (0u32..).zip(nodes).filter(|(_, n)| n.is_dir() && n.a != NONE).map(|(slot, n)| (slot, n.a)).collect();
        let parts = dirs.par_chunks(LISTS * 16).map(|group| self.follow(group)).collect();
        Lists { part: LISTS * 16, dirs, parts }
    }

    fn follow(&self, dirs: &[(u32, u32)]) -> Vec<List> {
        let mut out: Vec<List> = dirs.iter().map(|_| List::default()).collect();
        for (group, lists) in dirs.chunks(LISTS).zip(out.chunks_mut(LISTS)) {
            let mut at: Vec<u32> = group.iter().map(|d| d.1).collect();
            let mut open = true;
            while open {
                open = false;
                for (at, list) in at.iter_mut().zip(lists.iter_mut()).filter(|(at, _)| **at != NONE) {
                    let e = self.edges.get(*at);
                    list.slots.push(*at);
                    if e.is_dir_edge() {
                        list.below.push(e.child);
                    }
                    *at = e.next;
                    open = true;
                }
            }
        }
        out
    }
}

/// Lists followed at the same time.
const LISTS: usize = 16;

/// The names of a directory, and the directories among its children.
#[derive(Default)]
struct List {
    slots: Vec<u32>,
    below: Vec<u32>,
}

/// The names of all directories that have any.
struct Lists {
    part: usize,
    /// Slot and first name of each, by slot.
    dirs: Vec<(u32, u32)>,
    parts: Vec<Vec<List>>,
}

impl Lists {
    fn of(&self, slot: u32) -> Option<(&[u32], &[u32])> {
        let i = self.dirs.binary_search_by_key(&slot, |d| d.0).ok()?;
        let list = self.parts.get(i / self.part)?.get(i % self.part)?;
        Some((&list.slots, &list.below))
    }
}

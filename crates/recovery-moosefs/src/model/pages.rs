//! A growing array; when it gets large, large pages of the machine stand behind it.
//!
//! The tables of a filesystem of millions of nodes are hundreds of megabytes that are visited in no order. In pages
//! of 4 KiB, taking them from the system and finding them again costs a third of the time of a load.

use memmap2::{Advice, MmapMut, MmapOptions};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What can lie in such an array: any bytes are a value, and zeros are one that means nothing.
pub(crate) trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy> Plain for T {}

/// Smaller arrays lie on the heap.
const LARGE: usize = 4 << 20;

/// The array.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    heap: Vec<T>,
    /// Zeros behind `len` items.
    map: Option<MmapMut>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), map: None, len: 0 }
    }
}

fn map(bytes: usize) -> Option<MmapMut> {
    let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().ok()?;
    // without large pages it works as well, only slower
    let _ = map.advise(Advice::HugePage);
    Some(map)
}

impl<T: Plain> Pages<T> {
    pub(crate) fn with_capacity(n: usize) -> Self {
        let bytes = n.saturating_mul(size_of::<T>());
        if bytes >= LARGE
            && let Some(map) = map(bytes.saturating_mul(4)).or_else(|| map(bytes))
        {
            return Self { heap: Vec::new(), map: Some(map), len: 0 };
        }
        Self { heap: Vec::with_capacity(n), map: None, len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        if self.map.is_some() { self.len } else { self.heap.len() }
    }

    #[inline]
    pub(crate) fn all(&self) -> &[T] {
        match &self.map {
            None => &self.heap,
            Some(map) => {
                let bytes = map.get(..self.len.saturating_mul(size_of::<T>())).unwrap_or_default();
                <[T]>::ref_from_bytes(bytes).unwrap_or_default()
            }
        }
    }

    #[inline]
    pub(crate) fn all_mut(&mut self) -> &mut [T] {
        match &mut self.map {
            None => &mut self.heap,
            Some(map) => {
                let bytes = map.get_mut(..self.len.saturating_mul(size_of::<T>())).unwrap_or_default();
                <[T]>::mut_from_bytes(bytes).unwrap_or_default()
            }
        }
    }

    /// `n` more items, all zeros; nothing where there is no memory for them.
    #[inline]
    pub(crate) fn more(&mut self, n: usize) -> &mut [T]
    where
        T: Default,
    {
        let from = self.len();
        let end = from.saturating_add(n);
        if self.map.is_none() && end > self.heap.capacity() {
            self.grow_heap(end);
        }
        match &self.map {
            None => self.heap.resize(end, T::default()),
            Some(map) => {
                if end.saturating_mul(size_of::<T>()) > map.len() {
                    self.grow_map(end);
                }
                self.len = end;
            }
        }
        self.all_mut().get_mut(from..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T)
    where
        T: Default,
    {
        if self.map.is_none() && self.heap.len() < self.heap.capacity() {
            self.heap.push(item);
        } else if let [slot] = self.more(1) {
            *slot = item;
        }
    }

    #[cold]
    fn grow_heap(&mut self, end: usize) {
        let want = end.max(self.heap.capacity().saturating_mul(2)).max(16);
        let bytes = want.saturating_mul(size_of::<T>());
        if bytes >= LARGE
            && let Some(mut map) = map(bytes.saturating_mul(2))
        {
            copy(&mut map, self.heap.as_bytes());
            (self.len, self.map) = (self.heap.len(), Some(map));
            self.heap = Vec::new();
            return;
        }
        self.heap.reserve_exact(want.saturating_sub(self.heap.len()));
    }

    #[cold]
    fn grow_map(&mut self, end: usize) {
        let want = end.saturating_mul(size_of::<T>());
        let have = self.map.as_ref().map_or(0, |m| m.len());
        // address space is free, memory is taken when it is written to
        let new = map(want.max(have.saturating_mul(4))).or_else(|| map(want));
        match new {
            Some(mut new) => {
                copy(&mut new, self.all().as_bytes());
                self.map = Some(new);
            }
            None => {
                let mut heap = Vec::with_capacity(end);
                heap.extend_from_slice(self.all());
                (self.heap, self.map) = (heap, None);
            }
        }
    }
}

fn copy(to: &mut [u8], from: &[u8]) {
    if let Some(to) = to.get_mut(..from.len()) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grows_over_all_bounds() {
        for start in [0, 10, LARGE / 8] {
            let mut p: Pages<u64> = Pages::with_capacity(start);
            for i in 0..(LARGE as u64) {
                p.push(i);
            }
            assert_eq!(p.more(3), [0; 3]);
            assert_eq!(p.len(), LARGE + 3);
            assert!(p.all().iter().take(LARGE).copied().eq(0..LARGE as u64));
            *p.all_mut().first_mut().unwrap() = 7;
            assert_eq!(p.all().first(), Some(&7));
        }
    }
}

//! Compact storage: slots addressed by 32-bit numbers, names in one block of bytes, chunk tables in one block of words.
//!
//! A metadata file of three million nodes must fit into a few hundred megabytes, so nothing here is a pointer.

use hashbrown::HashMap;

use super::pages::{Pages, Plain};

/// "No slot".
pub(crate) const NONE: u32 = u32::MAX;

/// Slots of one type, with the freed ones used again.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    items: Pages<T>,
    spare: T,
    free: Vec<u32>,
}

impl<T: Plain + Default> Arena<T> {
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self { items: Pages::with_capacity(n), spare: T::default(), free: Vec::new() }
    }

    /// A new slot, or `None` when 2^32-1 slots are in use.
    #[inline]
    pub(crate) fn add(&mut self, item: T) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            *self.get_mut(slot) = item;
            return Some(slot);
        }
        let slot = u32::try_from(self.items.len()).ok().filter(|&s| s != NONE)?;
        self.items.push(item);
        Some(slot)
    }

    /// The slot that the next item gets while none was freed.
    #[inline]
    pub(crate) fn next_slot(&self) -> Option<u32> {
        u32::try_from(self.items.len()).ok().filter(|&s| s != NONE)
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [T] {
        self.items.all_mut()
    }

    /// Empties a slot without giving it to another item: slots filled from a file keep their order.
    pub(crate) fn drop_loaded(&mut self, slot: u32) {
        *self.get_mut(slot) = T::default();
    }

    pub(crate) fn release(&mut self, slot: u32) {
        if (slot as usize) < self.items.len() {
            *self.get_mut(slot) = T::default();
            self.free.push(slot);
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &T {
        self.items.all().get(slot as usize).unwrap_or(&self.spare)
    }

    /// The slot; a slot that does not exist yields a scratch value that is never read.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut T {
        match self.items.all_mut().get_mut(slot as usize) {
            Some(item) => item,
            None => {
                self.spare = T::default();
                &mut self.spare
            }
        }
    }

    pub(crate) fn slots(&self) -> &[T] {
        self.items.all()
    }
}

/// From an identifier to a slot: a plain table where identifiers are dense, a hash map beyond.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Slots, counted from 1.
    dense: Pages<u32>,
    sparse: HashMap<u64, u32>,
    count: usize,
}

impl Index {
    /// Room for `count` identifiers of which `highest` is the highest; neither is trusted beyond `count`.
    pub(crate) fn with_hint(count: usize, highest: u64) -> Self {
        let want = usize::try_from(highest.saturating_add(1)).unwrap_or(usize::MAX);
        let n = want.min(count.saturating_mul(4).saturating_add(1 << 16));
        let mut dense = Pages::with_capacity(n);
        dense.more(n);
        Self { dense, ..Self::default() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn get(&self, id: u64) -> Option<u32> {
        match usize::try_from(id).ok().and_then(|i| self.dense.all().get(i)) {
            Some(&slot) => slot.checked_sub(1),
            None => self.sparse.get(&id).copied(),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, id: u64, slot: u32) {
        self.count = self.count.saturating_add(1);
        let at = usize::try_from(id).unwrap_or(usize::MAX);
        if let Some(entry) = self.dense.all_mut().get_mut(at) {
            *entry = slot.saturating_add(1);
            return;
        }
        if at < self.count.saturating_mul(4).saturating_add(1 << 16) {
            self.grow(at);
            if let Some(entry) = self.dense.all_mut().get_mut(at) {
                *entry = slot.saturating_add(1);
            }
            return;
        }
        self.sparse.insert(id, slot);
    }

    /// Takes identifiers into the table that belong to the slots from `first` on; those that are there already are
    /// left out and told to `double`, with their place in the group.
    ///
    /// A group is taken at once because each of them waits for memory, and they wait together.
    #[inline]
    pub(crate) fn claim(
        &mut self,
        ids: impl Iterator<Item = u64> + Clone,
        first: u32,
        mut double: impl FnMut(usize, u32),
    ) {
        let dense = self.dense.all_mut();
        let (mut new, mut odd) = (0usize, false);
        for (id, slot) in ids.clone().zip(first..) {
            match usize::try_from(id).ok().and_then(|i| dense.get_mut(i)) {
                Some(entry) if *entry == 0 => {
                    *entry = slot.saturating_add(1);
                    new = new.saturating_add(1);
                }
                _ => odd = true,
            }
        }
        self.count = self.count.saturating_add(new);
        if !odd {
            return;
        }
        for ((id, slot), at) in ids.zip(first..).zip(0usize..) {
            match self.get(id) {
                Some(known) if known == slot => {}
                Some(_) => double(at, slot),
                None => self.insert(id, slot),
            }
        }
    }

    /// Slots by identifier, counted from 1, as far as identifiers are dense, and the other identifiers.
    pub(crate) fn all(&self) -> (&[u32], impl Iterator<Item = u64>) {
        (self.dense.all(), self.sparse.keys().copied())
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        let cap = self.count.saturating_mul(4).saturating_add(1 << 16);
        let len = at.saturating_add(at / 2).saturating_add(1).min(cap).max(at.saturating_add(1));
        self.dense.more(len.saturating_sub(self.dense.len()));
        let dense = self.dense.all_mut();
        self.sparse.retain(|&id, &mut slot| match usize::try_from(id).ok().and_then(|i| dense.get_mut(i)) {
            Some(entry) => {
                *entry = slot.saturating_add(1);
                false
            }
            None => true,
        });
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.count = self.count.saturating_sub(1);
        match usize::try_from(id).ok().and_then(|i| self.dense.all_mut().get_mut(i)) {
            Some(entry) => *entry = 0,
            None => {
                self.sparse.remove(&id);
            }
        }
    }
}

/// Names and paths, each with a length in front, at multiples of four bytes. Freed pieces are used again.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Pages<u8>,
    free: Vec<Vec<u32>>,
}

const UNIT: usize = 4;

impl Texts {
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self { bytes: Pages::with_capacity(n), free: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }

    const fn units(len: usize) -> usize {
        (len + 2).div_ceil(UNIT)
    }

    /// Stores a text of at most 65,535 bytes; `None` when 4 Gi units are in use.
    #[inline]
    pub(crate) fn add(&mut self, text: &[u8]) -> Option<u32> {
        let len = u16::try_from(text.len()).ok()?;
        let units = Self::units(text.len());
        let slot = match self.free.get_mut(units).and_then(Vec::pop) {
            Some(at) => {
                let start = (at as usize).saturating_mul(UNIT);
                (at, self.bytes.all_mut().get_mut(start..)?)
            }
            None => {
                let at = u32::try_from(self.bytes.len() / UNIT).ok().filter(|&a| a < NONE >> 1)?;
                (at, self.bytes.more(units.saturating_mul(UNIT)))
            }
        };
        let (head, tail) = slot.1.split_first_chunk_mut::<2>()?;
        *head = len.to_ne_bytes();
        tail.get_mut(..text.len())?.copy_from_slice(text);
        Some(slot.0)
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> &[u8] {
        let start = (at as usize).saturating_mul(UNIT);
        let Some(rest) = self.bytes.all().get(start..) else { return &[] };
        let Some((head, tail)) = rest.split_first_chunk::<2>() else { return &[] };
        tail.get(..usize::from(u16::from_ne_bytes(*head))).unwrap_or_default()
    }

    pub(crate) fn release(&mut self, at: u32) {
        let units = Self::units(self.get(at).len());
        if self.free.len() <= units {
            self.free.resize(units.saturating_add(1), Vec::new());
        }
        if let Some(list) = self.free.get_mut(units) {
            list.push(at);
        }
    }
}

/// Chunk tables: runs of words, of capacities that are powers of two.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    words: Pages<u64>,
    free: Vec<Vec<u32>>,
}

/// Where a chunk table lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

impl Tables {
    fn class(len: u32) -> usize {
        if len <= 1 { 0 } else { 32usize.saturating_sub(len.saturating_sub(1).leading_zeros() as usize) }
    }

    /// A table of `len` zeros; `None` when there is no room for it.
    pub(crate) fn alloc(&mut self, len: u32) -> Option<Table> {
        if len == 0 {
            return Some(Table::default());
        }
        let class = Self::class(len);
        let size = 1usize.checked_shl(u32::try_from(class).ok()?)?;
        let at = match self.free.get_mut(class).and_then(Vec::pop) {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.words.len()).ok()?;
                self.words.more(size);
                at
            }
        };
        let table = Table { at, len };
        self.get_mut(table).fill(0);
        Some(table)
    }

    /// A table of the ids that stand in a file, eight bytes each.
    #[inline]
    pub(crate) fn load(&mut self, ids: &[u8]) -> Option<Table> {
        if let &[a, b, c, d, e, f, g, h] = ids {
            let at = u32::try_from(self.words.len()).ok()?;
            self.words.push(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
            return Some(Table { at, len: 1 });
        }
        let table = self.alloc(u32::try_from(ids.len() / 8).ok()?)?;
        for (word, raw) in self.get_mut(table).iter_mut().zip(ids.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*raw);
        }
        Some(table)
    }

    /// All words, those of freed tables too.
    pub(crate) fn words(&self) -> &[u64] {
        self.words.all()
    }

    #[inline]
    pub(crate) fn get(&self, t: Table) -> &[u64] {
        let start = t.at as usize;
        self.words.all().get(start..start.saturating_add(t.len as usize)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, t: Table) -> &mut [u64] {
        let start = t.at as usize;
        self.words.all_mut().get_mut(start..start.saturating_add(t.len as usize)).unwrap_or_default()
    }

    pub(crate) fn release(&mut self, t: Table) {
        if t.len > 0 {
            let class = Self::class(t.len);
            if self.free.len() <= class {
                self.free.resize(class.saturating_add(1), Vec::new());
            }
            if let Some(list) = self.free.get_mut(class) {
                list.push(t.at);
            }
        }
    }

    /// Makes the table `len` long, with zeros at the end where it grows.
    pub(crate) fn resize(&mut self, t: Table, len: u32) -> Option<Table> {
        if len == t.len {
            return Some(t);
        }
        if t.len > 0 && len > 0 && Self::class(t.len) == Self::class(len) {
            let grown = Table { at: t.at, len };
            if let Some(new) = self.get_mut(grown).get_mut(t.len as usize..) {
                new.fill(0);
            }
            return Some(grown);
        }
        let new = self.alloc(len)?;
        for i in 0..(t.len.min(len) as usize) {
            let v = self.get(t).get(i).copied().unwrap_or(0);
            if let Some(slot) = self.get_mut(new).get_mut(i) {
                *slot = v;
            }
        }
        self.release(t);
        Some(new)
    }
}

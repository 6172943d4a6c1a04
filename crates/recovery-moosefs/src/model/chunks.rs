//! Chunks and who refers to them.

use hashbrown::HashMap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::arena::{Arena, Index};

/// Most references that one entry of a list counts.
const FULL: u32 = 0xFF_FFFF;
/// References beyond this are kept as a list by 4.x, even of a single class.
const INLINE: u32 = 4;
const LIST: u32 = 1 << 31;

/// A chunk.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) id: u64,
    pub(crate) version: u32,
    pub(crate) locked: u32,
    refs: u32,
    pub(crate) seq: u32,
    pub(crate) flags: u8,
    pub(crate) class: u8,
    spare: [u8; 6],
}

/// All chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    pub(crate) slots: Arena<Chunk>,
    pub(crate) index: Index,
    pub(crate) next: u64,
    seq: u32,
    lists: HashMap<u32, Vec<(u8, u32)>>,
    next_list: u32,
    /// Whether references are listed by class, as 4.x stores them.
    pub(crate) by_class: bool,
    /// Highest `seq` of a chunk that was read from a file; those lie in their slots in that order.
    pub(crate) from_file: u32,
}

impl Chunks {
    pub(crate) fn new(count: usize, highest: u64, by_class: bool) -> Self {
        Self {
            slots: Arena::with_capacity(count),
            index: Index::with_hint(count, highest),
            next: 1,
            seq: 0,
            lists: HashMap::new(),
            next_list: 0,
            by_class,
            from_file: 0,
        }
    }

    /// A chunk read from a file, not in the index yet; `None` when there is no room.
    #[inline]
    pub(crate) fn push(&mut self, id: u64) -> Option<(u32, &mut Chunk)> {
        let slot = self.slots.next_slot()?;
        self.seq = slot.checked_add(1)?;
        self.slots.add(Chunk { id, seq: self.seq, ..Chunk::default() })?;
        Some((slot, self.slots.get_mut(slot)))
    }

    /// Takes the chunks from a slot on into the index; those that stand twice are dropped and told by their place.
    pub(crate) fn claim(&mut self, first: u32, mut double: impl FnMut(usize, u64)) {
        let mut doubles = Vec::new();
        let part = self.slots.slots().get(first as usize..).unwrap_or_default();
        self.index.claim(part.iter().map(|c| c.id), first, |at, slot| doubles.push((at, slot)));
        for (at, slot) in doubles {
            double(at, self.slots.get(slot).id);
            let refs = self.slots.get(slot).refs;
            if refs & LIST != 0 {
                self.lists.remove(&(refs & !LIST));
            }
            self.slots.drop_loaded(slot);
        }
    }

    /// Sets the references of a chunk read from a file.
    pub(crate) fn load_pairs(&mut self, slot: u32, pairs: &[(u8, u32)], class: u8) {
        let refs = match pairs {
            [] => 0,
            [(_, n)] if *n <= INLINE => *n,
            list => self.new_list(list.to_vec()),
        };
        let class = if let [(c, _)] = pairs { *c } else { class };
        let c = self.slots.get_mut(slot);
        (c.refs, c.class) = (refs, class);
    }

    /// All chunks of a file were read.
    pub(crate) fn loaded(&mut self) {
        self.from_file = self.seq;
    }

    /// One more file refers to the chunk, where references are not listed by class.
    #[inline]
    pub(crate) fn count_file(&mut self, id: u64) {
        if let Some(slot) = self.index.get(id) {
            let c = self.slots.get_mut(slot);
            c.refs = c.refs.saturating_add(1).min(LIST - 1);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// A new chunk; `None` when there is no room.
    pub(crate) fn add(&mut self, id: u64) -> Option<&mut Chunk> {
        self.seq = self.seq.checked_add(1)?;
        let slot = self.slots.add(Chunk { id, seq: self.seq, ..Chunk::default() })?;
        self.index.insert(id, slot);
        Some(self.slots.get_mut(slot))
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Chunk> {
        self.index.get(id).map(|slot| self.slots.get(slot))
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Chunk> {
        let slot = self.index.get(id)?;
        Some(self.slots.get_mut(slot))
    }

    pub(crate) fn remove(&mut self, id: u64) {
        if let Some(slot) = self.index.get(id) {
            let refs = self.slots.get(slot).refs;
            if refs & LIST != 0 {
                self.lists.remove(&(refs & !LIST));
            }
            self.index.remove(id);
            self.slots.release(slot);
        }
    }

    /// Whether exactly one file refers to the chunk.
    pub(crate) fn single(&self, c: &Chunk) -> bool {
        c.refs == 1
    }

    /// Whether nothing refers to the chunk.
    pub(crate) fn unused(&self, c: &Chunk) -> bool {
        c.refs == 0
    }

    /// Calls `f` with each (class, count) pair in list order.
    pub(crate) fn pairs(&self, c: &Chunk, mut f: impl FnMut(u8, u32)) {
        if c.refs & LIST != 0 {
            for &(class, n) in self.lists.get(&(c.refs & !LIST)).map_or(&[][..], Vec::as_slice) {
                f(class, n);
            }
        } else if c.refs > 0 {
            f(c.class, c.refs);
        }
    }

    fn new_list(&mut self, list: Vec<(u8, u32)>) -> u32 {
        loop {
            let key = self.next_list & !LIST;
            self.next_list = self.next_list.wrapping_add(1);
            if !self.lists.contains_key(&key) {
                self.lists.insert(key, list);
                return key | LIST;
            }
        }
    }

    /// One more file of this class refers to the chunk. False if there is no such chunk.
    pub(crate) fn add_file(&mut self, id: u64, class: u8, rank: impl Fn(u8) -> u64) -> bool {
        let Some(slot) = self.index.get(id) else { return false };
        let c = *self.slots.get(slot);
        let (mut refs, mut new_class) = (c.refs, class);
        if !self.by_class {
            refs = refs.saturating_add(1).min(LIST - 1);
        } else if refs == 0 {
            refs = 1;
        } else if refs < INLINE && class == c.class {
            refs = refs.saturating_add(1);
        } else if refs < INLINE {
            refs = self.new_list(vec![(c.class, refs), (class, 1)]);
            (refs, new_class) = self.settle(refs, c.class, rank);
        } else {
            if refs & LIST == 0 {
                refs = self.new_list(vec![(c.class, refs)]);
            }
            if let Some(list) = self.lists.get_mut(&(refs & !LIST)) {
                match list.iter_mut().find(|e| e.0 == class && e.1 < FULL) {
                    Some(e) => e.1 = e.1.saturating_add(1),
                    None => list.insert(0, (class, 1)),
                }
            }
            (refs, new_class) = self.settle(refs, c.class, rank);
        }
        let c = self.slots.get_mut(slot);
        (c.refs, c.class) = (refs, new_class);
        true
    }

    /// One file of this class less refers to the chunk. False if it did not.
    pub(crate) fn delete_file(&mut self, id: u64, class: u8, rank: impl Fn(u8) -> u64) -> bool {
        let Some(slot) = self.index.get(id) else { return false };
        let c = *self.slots.get(slot);
        let (mut refs, mut new_class) = (c.refs, c.class);
        if refs == 0 {
            return false;
        }
        if refs & LIST == 0 {
            refs = refs.saturating_sub(1);
            if refs == 0 {
                new_class = 0;
            }
        } else {
            let Some(list) = self.lists.get_mut(&(refs & !LIST)) else { return false };
            let Some(at) = list.iter().position(|e| e.0 == class) else { return false };
            if let Some(e) = list.get_mut(at) {
                e.1 = e.1.saturating_sub(1);
                if e.1 == 0 {
                    list.remove(at);
                }
            }
            (refs, new_class) = self.settle(refs, c.class, rank);
        }
        let c = self.slots.get_mut(slot);
        (c.refs, c.class) = (refs, new_class);
        true
    }

    /// A file that refers to the chunk changes its class.
    pub(crate) fn change_file(&mut self, id: u64, from: u8, to: u8, rank: impl Fn(u8) -> u64) -> bool {
        let Some(slot) = self.index.get(id) else { return false };
        let c = *self.slots.get(slot);
        if from == to || !self.by_class {
            return true;
        }
        let (mut refs, mut class) = (c.refs, to);
        if refs == 0 {
            return false;
        }
        if refs != 1 {
            if refs & LIST == 0 {
                refs = self.new_list(vec![(c.class, refs.saturating_sub(1)), (to, 1)]);
            } else if let Some(list) = self.lists.get_mut(&(refs & !LIST)) {
                shift(list, from, to);
            }
            (refs, class) = self.settle(refs, c.class, rank);
        }
        let c = self.slots.get_mut(slot);
        (c.refs, c.class) = (refs, class);
        true
    }

    /// Shrinks a list to a count where upstream does, and finds the class in effect.
    fn settle(&mut self, refs: u32, class: u8, rank: impl Fn(u8) -> u64) -> (u32, u8) {
        let key = refs & !LIST;
        let Some(list) = self.lists.get(&key) else { return (refs, class) };
        match list.as_slice() {
            [] => {
                self.lists.remove(&key);
                (0, 0)
            }
            &[(only, n)] => {
                if n <= INLINE {
                    self.lists.remove(&key);
                    return (n, only);
                }
                (refs, only)
            }
            many => (refs, many.iter().map(|e| (rank(e.0), e.0)).fold((0, 0), |a, b| if b.0 > a.0 { b } else { a }).1),
        }
    }
}

fn shift(list: &mut Vec<(u8, u32)>, from: u8, to: u8) {
    let (mut taken, mut given, mut i) = (false, false, 0);
    while let Some(e) = list.get_mut(i) {
        if taken && given {
            break;
        }
        if e.0 == from && !taken {
            taken = true;
            e.1 = e.1.saturating_sub(1);
            if e.1 == 0 {
                list.remove(i);
                continue;
            }
        } else if e.0 == to && e.1 < FULL && !given {
            given = true;
            e.1 = e.1.saturating_add(1);
        }
        i = i.saturating_add(1);
    }
    if !given {
        list.insert(0, (to, 1));
    }
}

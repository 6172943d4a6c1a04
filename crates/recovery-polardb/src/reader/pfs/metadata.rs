//! The metadata objects of all chunks: as they stand in place, then as replay and healing leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use recovery_core::parallel;
use recovery_core::{Blob, Context, Result};

use super::device::Device;
use crate::format::pfs::object::{Kind, OBJECT_LEN, Object, ObjectFault};
use crate::format::pfs::{CHUNK, META_LEN, META_START};

/// Where the image of an object was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In its place, with the right checksum.
    InPlace,
    /// In the live part of the journal.
    Journal {
        /// Log sequence number of the entry.
        lsn: u64,
    },
    /// In a part of the journal that was already trimmed.
    History {
        /// Log sequence number of the entry.
        lsn: u64,
    },
    /// In its place, with one wrong bit.
    Corrected {
        /// The bit.
        bit: usize,
    },
    /// As `mkfs` makes it.
    Layout,
    /// In its place, with a wrong checksum: nothing vouches for it.
    Doubtful,
}

/// An object in use.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The object.
    pub object: Object,
    /// Where it comes from.
    pub origin: Origin,
}

/// An object that is not intact in its place.
#[derive(Clone, Copy, Debug)]
pub struct Bad {
    /// What is wrong.
    pub fault: ObjectFault,
    /// The bytes that stand there.
    pub object: Object,
    /// What replaced it, if anything did.
    pub healed: Option<Origin>,
}

/// The objects of one kind.
#[derive(Clone, Debug)]
pub struct Table {
    /// Kind of all of them.
    pub kind: Kind,
    /// Those in use, by number.
    pub used: BTreeMap<u64, Held>,
    /// Those damaged in place, by number.
    pub bad: BTreeMap<u64, Bad>,
}

impl Table {
    fn new(kind: Kind) -> Self {
        Self { kind, used: BTreeMap::new(), bad: BTreeMap::new() }
    }

    /// An object in use.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Object> {
        self.used.get(&number).map(|h| &h.object)
    }

    /// Whether the object's origin proves it.
    #[must_use]
    pub fn is_doubtful(&self, number: u64) -> bool {
        self.used.get(&number).is_some_and(|h| h.origin == Origin::Doubtful)
    }
}

/// What a chunk's metadata area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// Objects.
    Loaded,
    /// Nothing but zeros.
    Blank,
    /// Nothing that could be read.
    Missing,
}

/// All metadata objects.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Block tags.
    pub tags: Table,
    /// Directory entries.
    pub entries: Table,
    /// Inodes.
    pub inodes: Table,
    /// Chunks that hold no objects, and why.
    pub without: BTreeMap<u64, ChunkState>,
    /// Objects of such chunks that the journal says are free.
    freed: BTreeSet<(Kind, u64)>,
    /// Intact objects in place.
    pub intact: u64,
    /// Of these, how many carry no checksum.
    pub unsealed: u64,
    /// Metadata that could not be read.
    pub unread: Vec<Range<u64>>,
}

struct Loaded {
    chunk: u64,
    state: ChunkState,
    used: Vec<(Kind, u64, Object)>,
    bad: Vec<(Kind, u64, Bad)>,
    intact: u64,
    unsealed: u64,
    unread: Vec<Range<u64>>,
}

/// The metadata of a chunk whose objects begin at `start`, when all of it can be read.
pub(super) fn area(blob: &dyn Blob, start: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(META_LEN).unwrap_or(0)];
    blob.read_exact_at(start, &mut bytes).is_ok().then_some(bytes)
}

fn load_chunk(device: &Device, chunk: u64) -> Loaded {
    let base = chunk.saturating_mul(CHUNK);
    let start = base.saturating_add(META_START);
    let mut this = Loaded {
        chunk,
        state: ChunkState::Loaded,
        used: Vec::new(),
        bad: Vec::new(),
        intact: 0,
        unsealed: 0,
        unread: Vec::new(),
    };
    if start >= device.len() {
        this.state = ChunkState::Missing;
        return this;
    }
    let piece = device.read(start, usize::try_from(META_LEN).unwrap_or(0));
    let mut objects = piece.bytes.chunks_exact(OBJECT_LEN).zip((start..).step_by(OBJECT_LEN));
    for kind in Kind::ALL {
        for index in 0..kind.per_chunk() {
            let Some((bytes, at)) = objects.next() else { break };
            let object = bytes.first_chunk().map_or(Object::ZERO, |b| Object::from_bytes(*b));
            let number = kind.number(chunk, index);
            let missing = !piece.missing.is_empty() && piece.lacks(&(at..at.saturating_add(OBJECT_LEN as u64)));
            let checked = if missing { Err(ObjectFault::Unread) } else { object.check(kind, number) };
            match checked {
                Ok(()) => {
                    this.intact += 1;
                    this.unsealed += u64::from(!object.is_sealed());
                    if object.used() {
                        this.used.push((kind, number, object));
                    }
                }
                Err(fault) => this.bad.push((kind, number, Bad { fault, object, healed: None })),
            }
        }
    }
    if this.intact == 0 && this.bad.iter().all(|(_, _, b)| b.fault == ObjectFault::Absent) {
        this.state = ChunkState::Blank;
    } else if this.bad.iter().all(|(_, _, b)| b.fault == ObjectFault::Unread) && this.intact == 0 {
        this.state = ChunkState::Missing;
    }
    if this.state != ChunkState::Loaded {
        this.bad.clear();
    }
    this.unread = piece.missing;
    this
}

impl Metadata {
    /// No objects at all.
    pub(super) fn empty() -> Self {
        Self {
            tags: Table::new(Kind::BlockTag),
            entries: Table::new(Kind::Direntry),
            inodes: Table::new(Kind::Inode),
            without: BTreeMap::new(),
            freed: BTreeSet::new(),
            intact: 0,
            unsealed: 0,
            unread: Vec::new(),
        }
    }

    /// Reads the objects of `present` chunks in place; the others up to `chunks` are missing.
    pub(super) fn load(device: &Device, present: u64, cx: &Context) -> Result<Self> {
        let mut this = Self::empty();
        parallel::stream(
            cx,
            0..present,
            cx.limits.threads.saturating_mul(2),
            |c| load_chunk(device, c),
            |loaded| {
                this.take(loaded);
                Ok(())
            },
        )?;
        Ok(this)
    }

    fn take(&mut self, loaded: Loaded) {
        if loaded.state != ChunkState::Loaded {
            self.without.insert(loaded.chunk, loaded.state);
        }
        self.intact = self.intact.saturating_add(loaded.intact);
        self.unsealed = self.unsealed.saturating_add(loaded.unsealed);
        for (kind, number, object) in loaded.used {
            self.table_mut(kind).used.insert(number, Held { object, origin: Origin::InPlace });
        }
        for (kind, number, bad) in loaded.bad {
            self.table_mut(kind).bad.insert(number, bad);
        }
        self.unread.extend(loaded.unread);
    }

    /// The table of a kind.
    #[must_use]
    pub fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::BlockTag => &self.tags,
            Kind::Direntry => &self.entries,
            Kind::Inode => &self.inodes,
        }
    }

    pub(super) fn table_mut(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::BlockTag => &mut self.tags,
            Kind::Direntry => &mut self.entries,
            Kind::Inode => &mut self.inodes,
        }
    }

    /// Puts the newest image of an object in the place of what was known.
    pub(super) fn apply(&mut self, kind: Kind, object: &Object, origin: Origin) {
        let number = object.number();
        let no_place = !self.without.is_empty() && self.without.contains_key(&kind.chunk(number));
        let table = self.table_mut(kind);
        if object.used() {
            table.used.insert(number, Held { object: *object, origin });
        } else {
            table.used.remove(&number);
        }
        if let Some(bad) = table.bad.get_mut(&number) {
            bad.healed = Some(origin);
        }
        if no_place && !object.used() {
            self.freed.insert((kind, number));
        }
    }

    /// Takes an object back: its state of the time asked for is gone.
    pub(super) fn forget(&mut self, kind: Kind, number: u64) {
        let table = self.table_mut(kind);
        table.used.remove(&number);
        table.bad.insert(number, Bad { fault: ObjectFault::Past, object: Object::ZERO, healed: None });
        self.freed.remove(&(kind, number));
    }

    /// Whether nothing is known of an object: damaged in place, or of a chunk without objects, and not replaced.
    #[must_use]
    pub fn is_unknown(&self, kind: Kind, number: u64) -> bool {
        let table = self.table(kind);
        if let Some(bad) = table.bad.get(&number) {
            return bad.healed.is_none();
        }
        self.without.contains_key(&kind.chunk(number))
            && !table.used.contains_key(&number)
            && !self.freed.contains(&(kind, number))
    }

    /// Whether any object is damaged and not replaced yet.
    #[must_use]
    pub fn needs_healing(&self) -> bool {
        !self.without.is_empty() || Kind::ALL.iter().any(|k| self.table(*k).bad.values().any(|b| b.healed.is_none()))
    }
}

//! The objects of a new file system: handed out, linked, and turned into bytes.

use std::collections::BTreeMap;

use recovery_core::{Error, Result};

use crate::format::pfs::object::{BlockTag, Direntry, Inode, InodeKind, Kind, NAME_FIELD, Object, Payload};
use crate::format::pfs::{BLOCK, JOURNAL_INO, NAME_MAX, NONE, PAXOS_INO, ROOT_INO, block_of_tag, tag_of_block};
use crate::model::pfs::Node;
use crate::reader::pfs::Metadata;

/// A linked object that is not sealed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) payload: Payload,
    pub(super) next: u64,
    pub(super) prev: u64,
}

/// Objects in use, by kind and number, and how many of each chunk are taken.
#[derive(Debug)]
pub(super) struct Objects {
    drafts: BTreeMap<(Kind, u64), Draft>,
    /// Next index to hand out and how many are left, for each chunk.
    free: BTreeMap<(Kind, u64), u64>,
    chunks: u64,
    pub(super) time: u64,
    births: u64,
}

impl Objects {
    pub(super) fn new(chunks: u64, time: u64) -> Self {
        Self { drafts: BTreeMap::new(), free: BTreeMap::new(), chunks, time, births: 0 }
    }

    /// What `mkfs` makes: the root, the leader's file, the journal.
    pub(super) fn mkfs(&mut self, log_size: u64, journal: &[u64]) -> Result<()> {
        for chunk in 0..self.chunks {
            let number = Kind::BlockTag.number(chunk, 0);
            self.put(Kind::BlockTag, number, Payload::BlockTag(BlockTag::default()));
        }
        let inode = |kind, deno, nblock, size| Inode {
            kind,
            deno,
            nlink: 1,
            nblock,
            size,
            ctime: self.time,
            mtime: self.time,
            ..Inode::default()
        };
        let root = inode(InodeKind::Directory, 0, 0, 0);
        let paxos = inode(InodeKind::File, 1, 0, BLOCK);
        let ring = inode(InodeKind::File, 2, 0, log_size);
        let own = Direntry { name: [0; NAME_FIELD], ino: ROOT_INO, dirino: NONE, extdeno: 0 };
        self.put(Kind::Direntry, 0, Payload::Direntry(own));
        for (number, payload) in [(ROOT_INO, root), (PAXOS_INO, paxos), (JOURNAL_INO, ring)] {
            self.put(Kind::Inode, number, Payload::Inode(payload));
        }
        for (number, name, ino) in [(1, &b".pfs-paxos"[..], PAXOS_INO), (2, b".pfs-journal", JOURNAL_INO)] {
            self.put(Kind::Direntry, number, Payload::Direntry(entry(name, ino, ROOT_INO, 0)));
            self.append(ROOT_INO, Kind::Direntry, number);
        }
        self.map(PAXOS_INO, 0, 1, BLOCK)?;
        for (block, blkid) in journal.iter().zip(0..) {
            self.map(JOURNAL_INO, blkid, *block, BLOCK)?;
        }
        // The root's size does not count the engine's own two files.
        self.inode(ROOT_INO, |i| i.size = 0);
        Ok(())
    }

    fn put(&mut self, kind: Kind, number: u64, payload: Payload) {
        self.drafts.insert((kind, number), Draft { payload, next: 0, prev: 0 });
        let taken = self.free.entry((kind, kind.chunk(number))).or_insert(0);
        *taken = taken.saturating_add(1);
    }

    fn inode(&mut self, ino: u64, change: impl FnOnce(&mut Inode)) {
        if let Some(Draft { payload: Payload::Inode(inode), .. }) = self.drafts.get_mut(&(Kind::Inode, ino)) {
            change(inode);
        }
    }

    /// Adds a member at the end of an inode's list.
    fn append(&mut self, owner: u64, kind: Kind, number: u64) {
        let Some(inode) = self.drafts.get_mut(&(Kind::Inode, owner)) else { return };
        let tail = inode.prev;
        inode.prev = number;
        if tail == 0 {
            inode.next = number;
        }
        if let Payload::Inode(i) = &mut inode.payload {
            match kind {
                Kind::BlockTag => i.nblock = i.nblock.saturating_add(1),
                _ => i.size = i.size.saturating_add(128),
            }
        }
        if let Some(last) = self.drafts.get_mut(&(kind, tail)).filter(|_| tail != 0) {
            last.next = number;
        }
        if let Some(new) = self.drafts.get_mut(&(kind, number)) {
            new.prev = tail;
        }
    }

    /// A free number, from the chunk with most of them, as the engine chooses.
    fn allocate(&mut self, kind: Kind) -> Result<u64> {
        let left = |chunk: u64, this: &Self| {
            kind.per_chunk().saturating_sub(this.free.get(&(kind, chunk)).copied().unwrap_or(0))
        };
        let best = (0..self.chunks).max_by_key(|c| (left(*c, self), std::cmp::Reverse(*c))).unwrap_or(0);
        if left(best, self) == 0 {
            let what = format!("a file system with more {}s than {} chunks hold", kind.name(), self.chunks);
            return Err(Error::Limit { what, needed: self.chunks.saturating_add(1), limit: self.chunks });
        }
        let taken = self.free.get(&(kind, best)).copied().unwrap_or(0);
        let is_free = |i: &u64| !self.drafts.contains_key(&(kind, kind.number(best, *i)));
        // Numbers are handed out in ascending order; those that mkfs took lie anywhere, so look from a safe start.
        let start = if taken > 300 { taken.saturating_sub(300) } else { 0 };
        let index = (start..kind.per_chunk()).find(is_free).or_else(|| (0..start).find(is_free));
        index
            .map(|i| kind.number(best, i))
            .ok_or_else(|| Error::Internal("no free object where one was counted".into()))
    }

    /// A new block for place `blkid` of a file; returns the device block.
    pub(super) fn block(&mut self, ino: u64, blkid: u64, written: u64) -> Result<u64> {
        let number = self.allocate(Kind::BlockTag)?;
        self.map(ino, blkid, block_of_tag(number), written)?;
        Ok(block_of_tag(number))
    }

    fn map(&mut self, ino: u64, blkid: u64, block: u64, written: u64) -> Result<()> {
        let number = tag_of_block(block);
        let offset = i32::try_from(written).map_err(|_| Error::Internal("a block of more than 4 MiB".into()))?;
        let (holelen, holeoff) = if written < BLOCK { ((4 << 20) - offset, offset) } else { (0, 0) };
        let tag = BlockTag { ino, blkid, holelen, holeoff, ..BlockTag::default() };
        self.put(Kind::BlockTag, number, Payload::BlockTag(tag));
        self.append(ino, Kind::BlockTag, number);
        Ok(())
    }

    /// A new file or directory in `parent`; returns its inode.
    pub(super) fn create(&mut self, parent: u64, name: &[u8], kind: InodeKind, mtime: u64, long: bool) -> Result<u64> {
        let bad = name.is_empty() || name.len() > NAME_MAX || name.contains(&b'/') || name.contains(&0);
        if bad || (!long && name.len() >= NAME_FIELD) {
            let shown = String::from_utf8_lossy(name);
            return Err(Error::Usage(format!("{shown:?} is no name that this version of PFS can hold")));
        }
        let ino = self.allocate(Kind::Inode)?;
        self.births = self.births.saturating_add(1);
        let btime = self.time.saturating_mul(1_000_000).saturating_add(self.births);
        let inode = Inode { kind, nlink: 1, ctime: mtime, mtime, btime, ..Inode::default() };
        self.put(Kind::Inode, ino, Payload::Inode(inode));
        let deno = self.allocate(Kind::Direntry)?;
        self.put(Kind::Direntry, deno, Payload::Direntry(entry(name, ino, parent, 0)));
        self.extensions(deno, name)?;
        self.inode(ino, |i| i.deno = deno);
        self.append(parent, Kind::Direntry, deno);
        Ok(ino)
    }

    /// A name needs one more entry for each further 64 bytes, its NUL included.
    fn extensions(&mut self, head: u64, name: &[u8]) -> Result<()> {
        let mut before = head;
        let mut rest = name.get(NAME_FIELD..);
        while let Some(part) = rest {
            let number = self.allocate(Kind::Direntry)?;
            self.put(Kind::Direntry, number, Payload::Direntry(entry(part, head, NONE, 0)));
            if let Some(Draft { payload: Payload::Direntry(d), .. }) = self.drafts.get_mut(&(Kind::Direntry, before)) {
                d.extdeno = number;
            }
            before = number;
            rest = part.get(NAME_FIELD..);
        }
        Ok(())
    }

    /// Takes over every object in use as it is.
    pub(super) fn keep(&mut self, metadata: &Metadata) {
        for kind in Kind::ALL {
            for (number, held) in &metadata.table(kind).used {
                let object = &held.object;
                let payload = match kind {
                    Kind::BlockTag => Payload::BlockTag(object.tag()),
                    Kind::Direntry => Payload::Direntry(object.direntry()),
                    Kind::Inode => Payload::Inode(object.inode()),
                };
                self.put(kind, *number, payload);
                if let Some(draft) = self.drafts.get_mut(&(kind, *number)) {
                    (draft.next, draft.prev) = (object.next(), object.prev());
                }
            }
        }
    }

    /// Takes over a file or directory with its number, its times and its blocks; it has no name yet. Of the engine's own
    /// three only the times are taken.
    pub(super) fn adopt(&mut self, node: &Node) -> Result<()> {
        let times = |inode: &mut Inode| {
            (inode.atime, inode.ctime, inode.mtime, inode.btime) = (node.atime, node.ctime, node.mtime, node.btime);
        };
        if node.ino <= JOURNAL_INO {
            self.inode(node.ino, times);
            return Ok(());
        }
        let kind = if node.directory { InodeKind::Directory } else { InodeKind::File };
        let size = if node.directory { 0 } else { node.size };
        let mut inode = Inode { kind, deno: NONE, nlink: 1, size, ..Inode::default() };
        times(&mut inode);
        self.put(Kind::Inode, node.ino, Payload::Inode(inode));
        for extent in &node.extents {
            self.map(node.ino, extent.blkid, extent.block, extent.written)?;
        }
        Ok(())
    }

    /// Gives an adopted file or directory its name.
    pub(super) fn link(&mut self, parent: u64, name: &[u8], ino: u64) -> Result<()> {
        let deno = self.allocate(Kind::Direntry)?;
        self.put(Kind::Direntry, deno, Payload::Direntry(entry(name, ino, parent, 0)));
        self.extensions(deno, name)?;
        self.inode(ino, |i| (i.deno, i.nlink) = (deno, 1));
        self.append(parent, Kind::Direntry, deno);
        Ok(())
    }

    /// Whether a number is taken.
    pub(super) fn holds(&self, kind: Kind, number: u64) -> bool {
        self.drafts.contains_key(&(kind, number))
    }

    pub(super) fn set_size(&mut self, ino: u64, size: u64) {
        self.inode(ino, |i| i.size = size);
    }

    /// Every object in use, sealed.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (Kind, Object)> + '_ {
        self.drafts.iter().map(|((kind, number), d)| (*kind, Object::new(&d.payload, *number, true, d.next, d.prev)))
    }

    /// The object of a place, free or in use.
    pub(super) fn at(&self, kind: Kind, number: u64) -> Object {
        match self.drafts.get(&(kind, number)) {
            Some(d) => Object::new(&d.payload, number, true, d.next, d.prev),
            None => Object::free(kind, number),
        }
    }
}

fn entry(name: &[u8], ino: u64, dirino: u64, extdeno: u64) -> Direntry {
    let mut field = [0; NAME_FIELD];
    field.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    Direntry { name: field, ino, dirino, extdeno }
}

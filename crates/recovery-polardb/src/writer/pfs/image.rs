//! The image: data as it comes, metadata and leader record at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use recovery_core::{Blob, Error, Result};

use super::objects::Objects;
use crate::format::pfs::object::{InodeKind, Kind, OBJECT_LEN};
use crate::format::pfs::{
    BLOCK, CHUNK, ChunkHeader, ENTRY_LEN, Entry, LEADER_AT, Leader, META_LEN, META_START, ROOT_INO, block_address,
    striped_journal_block,
};

/// Where an image is written.
pub trait ImageSink {
    /// Sets the length; what is new is zero.
    ///
    /// # Errors
    /// What the medium says.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// What the medium says.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl ImageSink for File {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

/// How the blocks of the journal lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalLayout {
    /// One behind the other in chunk 0.
    #[default]
    Contiguous,
    /// Over all chunks, as `mkfs` does it.
    Striped,
}

/// Where the metadata stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// In its place; the journal is empty.
    #[default]
    InPlace,
    /// In the journal only; in place stands what `mkfs` left.
    Journal {
        /// First entry, counted from the start of the ring.
        slot: u64,
        /// First log sequence number.
        lsn: u64,
        /// First transaction.
        txid: u64,
        /// Entries of a transaction; 0 = one transaction with all of them.
        per_transaction: u64,
    },
}

/// What kind of image is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageOptions {
    /// Chunks of 10 GiB.
    pub chunks: u32,
    /// On-disk version, 0 to 2.
    pub version: u64,
    /// Bytes of the journal, a multiple of 256.
    pub log_size: u64,
    /// How the blocks of the journal lie.
    pub layout: JournalLayout,
    /// Where the metadata stands.
    pub placement: Placement,
    /// Seconds since 1970, for the engine's own files.
    pub time: u64,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            chunks: 1,
            version: 2,
            log_size: 32 << 20,
            layout: JournalLayout::Contiguous,
            placement: Placement::InPlace,
            time: 1_700_000_000,
        }
    }
}

/// Writes one image.
#[derive(Debug)]
pub struct ImageWriter<S> {
    sink: S,
    options: ImageOptions,
    fresh: Objects,
    objects: Objects,
    directories: BTreeMap<Vec<u8>, u64>,
    journal: Vec<u64>,
}

fn failed(error: io::Error) -> Error {
    Error::write("image", "write", error)
}

impl<S: ImageSink> ImageWriter<S> {
    /// Begins an image.
    ///
    /// # Errors
    /// When the options contradict each other or the image cannot be written.
    pub fn new(mut sink: S, options: ImageOptions) -> Result<Self> {
        let room = u64::from(options.chunks).saturating_mul(2559).saturating_sub(1);
        let blocks = options.log_size.div_ceil(BLOCK);
        let bad = options.chunks == 0
            || options.version > 2
            || options.log_size == 0
            || !options.log_size.is_multiple_of(ENTRY_LEN as u64)
            || blocks >= room
            || (options.layout == JournalLayout::Contiguous && blocks >= 2558);
        if bad {
            return Err(Error::Usage(format!("no file system can be made of {options:?}")));
        }
        let stripe = if options.layout == JournalLayout::Striped { u64::from(options.chunks) } else { 1 };
        let journal: Vec<u64> = (0..blocks).map(|i| striped_journal_block(i, stripe)).collect();
        let make = || -> Result<Objects> {
            let mut objects = Objects::new(u64::from(options.chunks), options.time);
            objects.mkfs(options.log_size, &journal)?;
            Ok(objects)
        };
        sink.set_len(u64::from(options.chunks).saturating_mul(CHUNK)).map_err(failed)?;
        let directories = BTreeMap::from([(Vec::new(), ROOT_INO)]);
        Ok(Self { sink, options, fresh: make()?, objects: make()?, directories, journal })
    }

    fn create(&mut self, path: &str, kind: InodeKind, mtime: u64) -> Result<u64> {
        let path = path.trim_matches('/').as_bytes();
        let split = path.iter().rposition(|b| *b == b'/');
        let (dir, name) = match split {
            Some(i) => (path.get(..i).unwrap_or_default(), path.get(i.saturating_add(1)..).unwrap_or_default()),
            None => (&[][..], path),
        };
        let parent = self.directories.get(dir).copied();
        let shown = || String::from_utf8_lossy(path).into_owned();
        let parent = parent.ok_or_else(|| Error::Usage(format!("{}: its directory was not made", shown())))?;
        self.objects.create(parent, name, kind, mtime, self.options.version >= 2)
    }

    /// Makes a directory; the one that holds it must have been made.
    ///
    /// # Errors
    /// When the name cannot be held or the image is full.
    pub fn directory(&mut self, path: &str, mtime: u64) -> Result<u64> {
        let ino = self.create(path, InodeKind::Directory, mtime)?;
        self.directories.insert(path.trim_matches('/').as_bytes().to_vec(), ino);
        Ok(ino)
    }

    /// Makes a file with these contents. Blocks of zeros take no room; zeros at the end of a block are a hole, except in
    /// version 0, which knows none.
    ///
    /// # Errors
    /// When the contents cannot be read, the name cannot be held, or the image is full.
    pub fn file(&mut self, path: &str, mtime: u64, contents: &dyn Blob) -> Result<u64> {
        let ino = self.create(path, InodeKind::File, mtime)?;
        let size = contents.len();
        let mut buf = vec![0; usize::try_from(BLOCK.min(size)).unwrap_or(0)];
        for blkid in 0..size.div_ceil(BLOCK) {
            let start = blkid.saturating_mul(BLOCK);
            let len = usize::try_from(BLOCK.min(size.saturating_sub(start))).unwrap_or(0);
            let part = buf.get_mut(..len).unwrap_or_default();
            contents.read_exact_at(start, part)?;
            let Some(last) = part.iter().rposition(|b| *b != 0) else { continue };
            let written = last.saturating_add(1);
            let hole = if self.options.version == 0 { BLOCK } else { written as u64 };
            let block = self.objects.block(ino, blkid, hole)?;
            let at = block_address(block).unwrap_or(u64::MAX);
            self.sink.write_at(at, part.get(..written).unwrap_or_default()).map_err(failed)?;
        }
        self.objects.set_size(ino, size);
        Ok(ino)
    }

    /// Writes the metadata and the leader record, and gives the image back.
    ///
    /// # Errors
    /// When the journal is too short for what it is to hold, or the image cannot be written.
    pub fn finish(mut self) -> Result<S> {
        let leader = match self.options.placement {
            Placement::InPlace => {
                self.in_place(false)?;
                self.leader(0, 0, 0, 0, 0)
            }
            Placement::Journal { slot, lsn, txid, per_transaction } => {
                self.in_place(true)?;
                self.in_journal(slot, lsn, txid, per_transaction)?
            }
        };
        self.sink.write_at(LEADER_AT, &leader.encode()).map_err(failed)?;
        for number in 0..self.options.chunks {
            let number = u64::from(number);
            let header = ChunkHeader { number, chunks: self.options.chunks, version: self.options.version };
            self.sink.write_at(number.saturating_mul(CHUNK), &header.encode()).map_err(failed)?;
        }
        Ok(self.sink)
    }

    fn leader(&self, tail_txid: u64, head_txid: u64, tail: u64, head: u64, head_lsn: u64) -> Leader {
        Leader {
            num_hosts: 30,
            max_hosts: 254,
            tail_txid,
            head_txid,
            tail_offset: tail.saturating_mul(ENTRY_LEN as u64),
            head_offset: head.saturating_mul(ENTRY_LEN as u64),
            log_size: self.options.log_size,
            head_lsn,
        }
    }

    fn in_place(&mut self, fresh: bool) -> Result<()> {
        let objects = if fresh { &self.fresh } else { &self.objects };
        let mut area = Vec::new();
        for chunk in 0..u64::from(self.options.chunks) {
            area.clear();
            for kind in Kind::ALL {
                for index in 0..kind.per_chunk() {
                    area.extend_from_slice(objects.at(kind, kind.number(chunk, index)).as_bytes());
                }
            }
            debug_assert_eq!(area.len() as u64, META_LEN, "{OBJECT_LEN} bytes an object");
            self.sink.write_at(chunk.saturating_mul(CHUNK).saturating_add(META_START), &area).map_err(failed)?;
        }
        Ok(())
    }

    fn in_journal(&mut self, slot: u64, lsn: u64, txid: u64, per_transaction: u64) -> Result<Leader> {
        let changed: Vec<_> =
            self.objects.sealed().filter(|(kind, object)| self.fresh.at(*kind, object.number()) != *object).collect();
        let (count, slots) = (changed.len() as u64, self.options.log_size / ENTRY_LEN as u64);
        if count >= slots {
            return Err(Error::Limit { what: "entries of the journal".into(), needed: count, limit: slots });
        }
        let per = if per_transaction == 0 { count.max(1) } else { per_transaction };
        let mut last_txid = txid.saturating_sub(1);
        for ((_, object), i) in changed.into_iter().zip(0u64..) {
            last_txid = txid.saturating_add(i / per);
            let more = i.saturating_add(1) < count && i.saturating_add(1) % per != 0;
            let entry = Entry { object, lsn: lsn.saturating_add(i), txid: last_txid, more };
            let at = slot.saturating_add(i) % slots;
            let per_block = BLOCK / ENTRY_LEN as u64;
            let block = self.journal.get(usize::try_from(at / per_block).unwrap_or(usize::MAX));
            let base = block.and_then(|b| block_address(*b)).unwrap_or(u64::MAX);
            let place = base.saturating_add((at % per_block).saturating_mul(ENTRY_LEN as u64));
            self.sink.write_at(place, &entry.encode()).map_err(failed)?;
        }
        let head = slot.saturating_add(count) % slots;
        Ok(self.leader(
            txid.saturating_sub(1),
            last_txid,
            slot % slots,
            head,
            lsn.saturating_add(count).saturating_sub(1),
        ))
    }
}

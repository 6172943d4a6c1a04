//! A walk over the entries of a table: read ahead in large pieces, every block checked before it is used.

use std::ops::Range;
use std::sync::Arc;

use crate::format::block::{Block, EntryWalk};
use crate::format::compression::Decompressor;
use crate::format::key::{ParsedKey, SequenceNumber};
use crate::format::{BlockHandle, FormatError};

use super::block::{BlockReader, TableError};

/// Bytes read at once: large enough for the system call not to count, small enough to stay in a core's cache.
pub(crate) const READ_AHEAD: u64 = 256 << 10;

/// What readers change in the stored keys of some tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRewrite {
    /// The sequence number that replaces every stored one (ingested files).
    pub global_seqno: Option<SequenceNumber>,
    /// Bytes of zero timestamp to put back where timestamps were not persisted.
    pub timestamp: usize,
}

impl KeyRewrite {
    /// Leaves keys as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Writes the key as readers see it into `out`.
    pub fn apply(&self, key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let (user, tail) = key.split_last_chunk::<8>().map_or((key, [0; 8]), |(user, tail)| (user, *tail));
        out.extend_from_slice(user);
        out.resize(out.len().saturating_add(self.timestamp), 0);
        match self.global_seqno {
            Some(seqno) => out.extend_from_slice(&(seqno.0 << 8 | u64::from(tail[0])).to_le_bytes()),
            None => out.extend_from_slice(&tail),
        }
    }
}

/// A walk over the entries of consecutive data blocks.
///
/// Keys and values are lent until the next step. After an error the walk can go on: the block is skipped.
#[derive(Debug)]
pub struct TableScan {
    reader: BlockReader,
    rewrite: KeyRewrite,
    handles: Arc<[BlockHandle]>,
    blocks: Range<usize>,
    current: Option<usize>,
    ahead: Vec<u8>,
    ahead_at: u64,
    block: Vec<u8>,
    entries: usize,
    walk: EntryWalk,
    rewritten: Vec<u8>,
    decompressor: Decompressor,
}

impl TableScan {
    /// A walk over `blocks` of `handles`.
    #[must_use]
    pub fn new(reader: BlockReader, rewrite: KeyRewrite, handles: Arc<[BlockHandle]>, blocks: Range<usize>) -> Self {
        Self {
            reader,
            rewrite,
            blocks: blocks.start..blocks.end.min(handles.len()),
            handles,
            current: None,
            ahead: Vec::new(),
            ahead_at: 0,
            block: Vec::new(),
            entries: 0,
            walk: EntryWalk::default(),
            rewritten: Vec::new(),
            decompressor: Decompressor::default(),
        }
    }

    /// Moves to the next entry; `false` at the end.
    ///
    /// # Errors
    ///
    /// When a block cannot be read, does not match its checksum, does not unpack or decode, or an entry's key is no
    /// internal key. The next call goes on behind that block.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, TableError> {
        loop {
            let bytes = self.block.get(..self.entries).unwrap_or_default();
            match self.walk.advance(bytes) {
                Ok(true) => return self.accept(),
                Ok(false) => {
                    if !self.next_block()? {
                        return Ok(false);
                    }
                }
                Err(source) => {
                    self.entries = 0;
                    return Err(TableError::format(self.reader.name(), source));
                }
            }
        }
    }

    #[inline]
    fn accept(&mut self) -> Result<bool, TableError> {
        let key = self.walk.key();
        match ParsedKey::parse(key) {
            Some(parsed) if parsed.value_type.in_table() => {}
            _ => {
                self.entries = 0;
                return Err(self.bad_key());
            }
        }
        if !self.rewrite.is_identity() {
            self.rewrite.apply(key, &mut self.rewritten);
        }
        Ok(true)
    }

    #[cold]
    fn bad_key(&self) -> TableError {
        let key = self.walk.key();
        let tail = key.last_chunk::<8>().map_or_else(|| "a short key".to_owned(), |t| crate::format::coding::hex(t));
        let at = self.handle().map_or(0, |h| h.offset);
        let source = FormatError::value("data block", "internal key", at, tail, "a known value type");
        TableError::format(self.reader.name(), source)
    }

    fn next_block(&mut self) -> Result<bool, TableError> {
        self.entries = 0;
        let Some(number) = self.blocks.next() else {
            self.current = None;
            return Ok(false);
        };
        self.current = Some(number);
        let Some(handle) = self.handles.get(number).copied() else { return Ok(false) };
        self.read_ahead(number, handle)?;
        let start = usize::try_from(handle.offset.saturating_sub(self.ahead_at)).unwrap_or(usize::MAX);
        let length = usize::try_from(handle.end().saturating_sub(handle.offset)).unwrap_or(usize::MAX);
        let bytes = self.ahead.get(start..start.saturating_add(length)).unwrap_or_default();
        self.reader.check(handle, bytes, "data block")?;
        let dictionary = self.reader.dictionary.as_ref();
        self.reader.unpack(&mut self.decompressor, handle, bytes, "data block", dictionary, &mut self.block)?;
        let block = Block::parse(&self.block, handle.offset)
            .map_err(|source| TableError::format(self.reader.name(), source))?;
        self.entries = block.entry_bytes().len();
        self.walk.restart(handle.offset);
        Ok(true)
    }

    /// Has the bytes of block `number` in memory, with as many of the following blocks as fit one read.
    fn read_ahead(&mut self, number: usize, handle: BlockHandle) -> Result<(), TableError> {
        let have = self.ahead_at..self.ahead_at.saturating_add(self.ahead.len() as u64);
        if have.start <= handle.offset && handle.end() <= have.end {
            return Ok(());
        }
        if !handle.fits(self.reader.blob.len()) {
            let found = format_args!("{} bytes", handle.size);
            let source = FormatError::value("data block", "size", handle.offset, found, "a block inside the file");
            return Err(TableError::format(self.reader.name(), source));
        }
        let mut end = handle.end();
        for next in self.handles.get(number.saturating_add(1)..self.blocks.end).unwrap_or_default() {
            let in_order = next.offset >= end && next.end().saturating_sub(handle.offset) <= READ_AHEAD;
            if !in_order || !next.fits(self.reader.blob.len()) {
                break;
            }
            end = next.end();
        }
        let read = |to: u64, ahead: &mut Vec<u8>| {
            ahead.resize(usize::try_from(to.saturating_sub(handle.offset)).unwrap_or(0), 0);
            self.reader.blob.read_exact_at(handle.offset, ahead)
        };
        self.ahead_at = handle.offset;
        let done = read(end, &mut self.ahead).or_else(|error| {
            // A bad sector in a later block must not take this one with it.
            if end == handle.end() { Err(error) } else { read(handle.end(), &mut self.ahead) }
        });
        if done.is_err() {
            self.ahead.clear();
        }
        Ok(done?)
    }

    /// The current internal key as readers see it.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        if self.rewrite.is_identity() { self.walk.key() } else { &self.rewritten }
    }

    /// The current value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.block.get(self.walk.value()).unwrap_or_default()
    }

    /// The block the walk is in.
    #[must_use]
    pub fn handle(&self) -> Option<BlockHandle> {
        self.handles.get(self.current?).copied()
    }

    /// Number of the block the walk is in.
    #[must_use]
    pub const fn block_number(&self) -> Option<usize> {
        self.current
    }
}

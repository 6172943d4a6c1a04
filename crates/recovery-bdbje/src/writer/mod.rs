//! Writing logs that real JE accepts: one appended file that resets the group, and whole environments from nothing.

pub mod append;
pub mod scratch;

use crate::format::file_header::FileHeader;
use crate::format::ln::{LnEntry, LnTxn};
use crate::format::node::{DIRTY, Node, Slot};
use crate::format::txn::TxnEnd;
use crate::format::{Entry, EntryType, Lsn, header};

/// JE's own default.
pub const FILE_MAX: u64 = 10_000_000;
/// Flags of an entry of the replication stream.
pub const STREAM: u8 = header::REPLICATED | header::HAS_VLSN;

/// Log versions that are written: the ones real programs confirmed.
#[must_use]
pub const fn writable(version: u8) -> u8 {
    match version {
        0..=14 => 14,
        15 => 15,
        _ => 17,
    }
}

/// Appends entries, file after file.
#[derive(Debug)]
pub struct LogWriter {
    version: u8,
    now: i64,
    max: u64,
    number: u32,
    full: Vec<Vec<u8>>,
    file: Vec<u8>,
    prev: u32,
}

impl LogWriter {
    /// Begins file `first`; `last_in_prev` is the place of the last entry of the file before.
    #[must_use]
    pub fn new(version: u8, first: u32, last_in_prev: u32, now: i64, max: u64) -> Self {
        let file = header(version, first, last_in_prev, now);
        Self { version, now, max, number: first, full: Vec::new(), file, prev: 0 }
    }

    /// Log version.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// Place of the next entry, if it fits the file.
    fn here(&self) -> Lsn {
        Lsn::new(self.number, u32::try_from(self.file.len()).unwrap_or(u32::MAX))
    }

    /// Begins the next file when an entry of this size does not fit.
    fn make_room(&mut self, size: usize) {
        let full = (self.file.len() as u64).saturating_add(size as u64) > self.max;
        if full && self.prev != 0 {
            self.number = self.number.saturating_add(1);
            let next = header(self.version, self.number, self.prev, self.now);
            self.full.push(std::mem::replace(&mut self.file, next));
            self.prev = 0;
        }
    }

    /// Appends an entry, in a new file when this one is full.
    pub fn put(&mut self, kind: EntryType, flags: u8, vlsn: Option<i64>, item: &[u8]) -> Lsn {
        self.make_room(item.len().saturating_add(header::MAX_HEADER));
        let lsn = self.here();
        header::put(&mut self.file, kind, flags, self.prev, vlsn, item);
        self.prev = lsn.offset();
        lsn
    }

    /// The files that are full and were not taken before: whoever writes much takes them as they come.
    #[must_use]
    pub fn take_full(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.full)
    }

    /// Appends a decoded entry.
    pub fn entry(&mut self, kind: EntryType, flags: u8, vlsn: Option<i64>, entry: &Entry<'_>) -> Lsn {
        let item = entry.encode(self.version);
        self.put(kind, flags, vlsn, &item)
    }

    /// Appends an empty bottom node and a root above it, which recovery demands before the first record of a database.
    pub fn root(&mut self, db: i64, node_id: i64, key: &[u8], mapping: bool) {
        let tree = if mapping { 0x2_0000 } else { 0x1_0000 };
        let mut node = Node {
            kind: EntryType::BIN,
            db,
            prev_full: Lsn::NULL,
            prev_delta: Lsn::NULL,
            expiration_base: -1,
            id: node_id,
            id_key: Some(key),
            flags: 0,
            prefix: None,
            level: tree | 1,
            capacity: 128,
            base_file: None,
            compact: 0,
            slots: Vec::new(),
            delta: None,
            dup: None,
        };
        let bin = self.entry(EntryType::BIN, header::PROVISIONAL, None, &Entry::Node(Box::new(node.clone())));
        node.kind = EntryType::IN;
        node.id = node_id.saturating_add(1);
        node.level = tree | 2;
        node.flags = 1;
        node.slots = vec![Slot { raw_key: key, lsn: bin, state: DIRTY, size: None, vlsn: None, expiration: None }];
        self.entry(EntryType::IN, 0, None, &Entry::Node(Box::new(node)));
    }

    /// The number of the last file, and the files that were not taken before.
    #[must_use]
    pub fn finish(mut self) -> (u32, Vec<Vec<u8>>) {
        self.full.push(self.file);
        (self.number, self.full)
    }
}

/// The begin of a file.
fn header(version: u8, number: u32, last_in_prev: u32, now: i64) -> Vec<u8> {
    let item = FileHeader { time: now, number, last_entry_in_prev: last_in_prev.into(), version: version.into() };
    let mut file = Vec::new();
    header::put(&mut file, EntryType::FILE_HEADER, 0, 0, None, &item.encode());
    file
}

/// A transaction being written.
#[derive(Debug)]
pub struct TxnWriter {
    /// Id.
    pub id: i64,
    /// Last record.
    pub last: Lsn,
    /// Records so far.
    pub records: u64,
}

impl TxnWriter {
    /// Begins one.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self { id, last: Lsn::NULL, records: 0 }
    }

    /// Appends a record.
    pub fn record(&mut self, w: &mut LogWriter, vlsn: Option<i64>, mut ln: LnEntry<'_>) -> Lsn {
        ln.txn = Some(LnTxn { id: self.id, prev: self.last });
        let flags = if vlsn.is_some() { STREAM } else { 0 };
        let kind = ln.kind;
        self.last = w.entry(kind, flags, vlsn, &Entry::Ln(Box::new(ln)));
        self.records = self.records.saturating_add(1);
        self.last
    }

    /// Appends the commit.
    pub fn commit(self, w: &mut LogWriter, vlsn: Option<i64>, time: i64, master: i64) -> Lsn {
        let flags = if vlsn.is_some() { STREAM } else { 0 };
        let end = TxnEnd { last_lsn: self.last, txn: self.id, time, master, dtvlsn: Some(vlsn.unwrap_or(0)) };
        w.entry(EntryType::COMMIT, flags, vlsn, &Entry::Commit(end))
    }
}

/// The VLSN index of what is written: buckets, none of which spans two files or more than
/// [`BUCKET_SIZE`](crate::format::vlsn_index::BUCKET_SIZE) VLSNs.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    range: Option<(i64, i64)>,
    open: Vec<(i64, Lsn)>,
    done: Vec<(i64, Vec<u8>)>,
}

impl IndexBuilder {
    /// Takes note of an entry of the stream; VLSNs come without holes.
    pub fn add(&mut self, vlsn: i64, lsn: Lsn) {
        let size = usize::try_from(crate::format::vlsn_index::BUCKET_SIZE).unwrap_or(500);
        let other = self.open.first().is_some_and(|(_, l)| l.file() != lsn.file());
        if other || self.open.len() >= size {
            self.close();
        }
        self.open.push((vlsn, lsn));
        self.range = Some((self.range.map_or(vlsn, |(first, _)| first), vlsn));
    }

    /// First and last VLSN.
    #[must_use]
    pub const fn range(&self) -> Option<(i64, i64)> {
        self.range
    }

    fn close(&mut self) {
        use crate::format::vlsn_index::{Bucket, STRIDE};
        let stride = usize::try_from(STRIDE).unwrap_or(10);
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else { return };
        let bucket = Bucket::Real {
            file: first.1.file().into(),
            stride: STRIDE,
            first: first.0,
            last: last.0,
            last_lsn: last.1,
            offsets: self.open.iter().step_by(stride).map(|(_, l)| l.offset()).collect(),
        };
        self.done.push((first.0, bucket.encode()));
        self.open.clear();
    }

    /// The buckets with their first VLSNs.
    #[must_use]
    pub fn buckets(mut self) -> Vec<(i64, Vec<u8>)> {
        self.close();
        self.done
    }
}

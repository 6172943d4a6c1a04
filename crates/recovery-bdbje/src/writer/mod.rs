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
    first: u32,
    files: Vec<Vec<u8>>,
    prev: u32,
}

impl LogWriter {
    /// Begins file `first`; `last_in_prev` is the place of the last entry of the file before.
    #[must_use]
    pub fn new(version: u8, first: u32, last_in_prev: u32, now: i64, max: u64) -> Self {
        let mut w = Self { version, now, max, first, files: Vec::new(), prev: 0 };
        w.begin(last_in_prev);
        w
    }

    fn begin(&mut self, last_in_prev: u32) {
        let number = self.first.saturating_add(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        let item = FileHeader {
            time: self.now,
            number,
            last_entry_in_prev: last_in_prev.into(),
            version: self.version.into(),
        };
        let mut file = Vec::new();
        header::put(&mut file, EntryType::FILE_HEADER, 0, 0, None, &item.encode());
        self.files.push(file);
        self.prev = 0;
    }

    /// Log version.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// Place of the next entry, if it fits the file.
    fn here(&self) -> Lsn {
        let n = u32::try_from(self.files.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let at = self.files.last().map_or(0, Vec::len);
        Lsn::new(self.first.saturating_add(n), u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Number of the file the next entry of this size goes to.
    fn make_room(&mut self, size: usize) {
        let len = self.files.last().map_or(0, Vec::len);
        let full = (len as u64).saturating_add(size as u64) > self.max;
        if full && self.prev != 0 {
            let last = self.prev;
            self.begin(last);
        }
    }

    /// Appends an entry, in a new file when this one is full.
    pub fn put(&mut self, kind: EntryType, flags: u8, vlsn: Option<i64>, item: &[u8]) -> Lsn {
        self.make_room(item.len().saturating_add(header::MAX_HEADER));
        let lsn = self.here();
        if let Some(file) = self.files.last_mut() {
            header::put(file, kind, flags, self.prev, vlsn, item);
        }
        self.prev = lsn.offset();
        lsn
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

    /// The files and the number of the first.
    #[must_use]
    pub fn finish(self) -> (u32, Vec<Vec<u8>>) {
        (self.first, self.files)
    }
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

/// The VLSNs of one file, as the index wants them.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    places: Vec<(i64, Lsn)>,
}

impl IndexBuilder {
    /// Takes note of an entry of the stream; VLSNs come without holes.
    pub fn add(&mut self, vlsn: i64, lsn: Lsn) {
        self.places.push((vlsn, lsn));
    }

    /// First and last VLSN.
    #[must_use]
    pub fn range(&self) -> Option<(i64, i64)> {
        Some((self.places.first()?.0, self.places.last()?.0))
    }

    /// Buckets: none spans two files or more than [`BUCKET_SIZE`](crate::format::vlsn_index::BUCKET_SIZE) VLSNs.
    #[must_use]
    pub fn buckets(&self) -> Vec<(i64, Vec<u8>)> {
        use crate::format::vlsn_index::{BUCKET_SIZE, Bucket, STRIDE};
        let mut out = Vec::new();
        let size = usize::try_from(BUCKET_SIZE).unwrap_or(500);
        let stride = usize::try_from(STRIDE).unwrap_or(10);
        for file in self.places.chunk_by(|a, b| a.1.file() == b.1.file()) {
            for part in file.chunks(size) {
                let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
                let bucket = Bucket::Real {
                    file: first.1.file().into(),
                    stride: STRIDE,
                    first: first.0,
                    last: last.0,
                    last_lsn: last.1,
                    offsets: part.iter().step_by(stride).map(|(_, l)| l.offset()).collect(),
                };
                out.push((first.0, bucket.encode()));
            }
        }
        out
    }
}

//! A PFS image as a [`Source`]: what reads PostgreSQL directories reads them from inside unchanged.

use std::sync::Arc;

use recovery_core::{Blob, Context, Depth, Entries, Entry, EntryKind, ReadError, Result, Source};

use crate::format::pfs::{ChunkHeader, HEADER_LEN, LEADER_AT, LEADER_LEN, Leader};
use crate::model::pfs::{FileSystem, LOST_AND_FOUND, Node};
use crate::reader::pfs::{Copy, Device, OpenOptions, Pfs, PfsFile, Tracker};

/// The files of a PFS disk.
///
/// Names are paths without a leading '/'. With [`with_lost_and_found`](Self::with_lost_and_found) what has no place in
/// the tree is listed below `lost+found/`; it can be opened by that name in any case.
#[derive(Clone, Debug)]
pub struct PfsSource {
    pfs: Arc<Pfs>,
    shown: String,
    lost: bool,
    tracker: Option<Arc<Tracker>>,
}

impl PfsSource {
    /// Opens a disk or image.
    ///
    /// # Errors
    ///
    /// As [`Pfs::open`].
    pub fn open(blob: Arc<dyn Blob>, cx: &Context) -> Result<Self> {
        Ok(Self::new(Arc::new(Pfs::open(blob, OpenOptions::default(), cx)?)))
    }

    /// Opens a blob if it is a PFS disk; `None` if nothing on it is.
    ///
    /// # Errors
    ///
    /// As [`Pfs::open`], except that a blob without anything of PFS is no error.
    pub fn mount(blob: Arc<dyn Blob>, cx: &Context) -> Result<Option<Self>> {
        if probe(blob.as_ref()).0 == 0 {
            return Ok(None);
        }
        match Self::open(blob, cx) {
            Err(recovery_core::Error::Unusable(_)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The files of an opened disk.
    #[must_use]
    pub fn new(pfs: Arc<Pfs>) -> Self {
        let shown = pfs.device.name().to_owned();
        Self { pfs, shown, lost: false, tracker: None }
    }

    /// The same files; what is read of them through this source is remembered in `tracker`.
    #[must_use]
    pub fn tracked(&self, tracker: &Arc<Tracker>) -> Self {
        Self { tracker: Some(Arc::clone(tracker)), ..self.clone() }
    }

    /// Lists what has no place in the tree below `lost+found/` too.
    #[must_use]
    pub fn with_lost_and_found(mut self) -> Self {
        self.lost = true;
        self
    }

    /// The same files read from another copy of the disk, by the metadata of this one. The mapfile that lies beside the
    /// copy is heeded.
    ///
    /// # Errors
    ///
    /// When there is a mapfile that cannot be understood.
    pub fn over(&self, copy: &Arc<dyn Blob>) -> Result<Self> {
        let mut pfs = Pfs::clone(&self.pfs);
        pfs.device = Device::of_copies(vec![Copy::with_mapfile_beside(Arc::clone(copy))?]);
        Ok(Self::new(Arc::new(pfs)))
    }

    /// The opened disk.
    #[must_use]
    pub fn pfs(&self) -> &Arc<Pfs> {
        &self.pfs
    }

    /// A file by its node.
    #[must_use]
    pub fn file(&self, node: &Node, name: &str) -> PfsFile {
        let file = PfsFile::new(name, Arc::clone(self.pfs.device.blob()), &node.extents, node.size);
        file.tracked(self.tracker.clone())
    }

    fn files(&self) -> &FileSystem {
        &self.pfs.files
    }

    fn lost_listed(&self) -> bool {
        self.lost
            && self.files().find(LOST_AND_FOUND.as_bytes()).is_none()
            && !(self.files().orphans.is_empty() && self.files().unreachable.is_empty())
    }

    fn below_lost(&self, depth: Depth) -> Vec<Entry> {
        let mut out = Vec::new();
        let lost = self.files().orphans.iter().chain(&self.files().unreachable);
        for node in lost.filter_map(|ino| self.files().node(*ino)) {
            out.push(entry(&self.files().path(node.ino), node));
            if depth == Depth::All {
                out.extend(self.files().walk(node.ino).map(|(path, node)| entry(&path, node)));
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }
}

/// The entry of a node at a path that begins with '/'.
fn entry(path: &[u8], node: &Node) -> Entry {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let name = String::from_utf8_lossy(path).into_owned();
    let raw = (name.as_bytes() != path).then(|| path.to_vec());
    Entry {
        raw,
        kind: if node.directory { EntryKind::Directory } else { EntryKind::File },
        mtime: i64::try_from(node.mtime).ok().and_then(|s| s.checked_mul(1_000_000_000)),
        // The disk holds no modes; these are what PostgreSQL insists on.
        mode: Some(if node.directory { 0o700 } else { 0o600 }),
        inode: Some((0, node.ino)),
        ..Entry::file(name, if node.directory { 0 } else { node.size })
    }
}

impl Source for PfsSource {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        if self.files().is_lost_and_found(dir) {
            return Box::new(self.below_lost(depth).into_iter().map(Ok));
        }
        let Some(node) = self.files().find(dir.as_bytes()).filter(|n| n.directory) else {
            return Box::new(std::iter::empty());
        };
        let is_root = node.ino == crate::format::pfs::ROOT_INO;
        let mut lost = Vec::new();
        if is_root && self.lost_listed() {
            lost.push(Entry::directory(LOST_AND_FOUND));
            if depth == Depth::All {
                lost.extend(self.below_lost(depth));
            }
        }
        let lost = lost.into_iter().map(Ok);
        if depth == Depth::All {
            return Box::new(self.files().walk(node.ino).map(|(path, node)| Ok(entry(&path, node))).chain(lost));
        }
        let mut base = self.files().path(node.ino);
        if base != b"/" {
            base.push(b'/');
        }
        let mut names: Vec<_> = node.children.iter().collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let entries = names.into_iter().filter_map(move |child| {
            let path = [base.as_slice(), &child.name].concat();
            self.files().node(child.ino).map(|node| Ok(entry(&path, node)))
        });
        Box::new(entries.chain(lost))
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        if self.files().is_lost_and_found(name) {
            return Ok(self.lost_listed().then(|| Entry::directory(LOST_AND_FOUND)));
        }
        let path = name.trim_matches('/');
        Ok(self.files().find(path.as_bytes()).map(|node| entry(path.as_bytes(), node)))
    }

    fn open(&self, wanted: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        let path = wanted.raw.as_deref().unwrap_or(wanted.name.as_bytes());
        match self.files().find(path).filter(|n| !n.directory) {
            Some(node) => Ok(Arc::new(self.file(node, &wanted.name))),
            None => Err(ReadError::new(&wanted.name, 0, 0, &std::io::ErrorKind::NotFound.into())),
        }
    }
}

/// How sure it is, in percent, that a blob is a PFS disk, and why. Reads two sectors, and the headers of the chunks
/// behind the first when these are damaged.
#[must_use]
pub fn probe(blob: &dyn Blob) -> (u8, Vec<String>) {
    let mut reasons = Vec::new();
    let mut score = 0u8;
    let mut header = [0; HEADER_LEN];
    let mut leader = [0; LEADER_LEN];
    if blob.read_exact_at(0, &mut header).is_ok() {
        if let Ok(h) = ChunkHeader::decode(&header, 0) {
            score = 100;
            reasons.push(format!("PFS header, version {}, {} chunks", h.version, h.chunks));
        } else if ChunkHeader::correct(&header, 0).is_some() {
            score = 95;
            reasons.push("PFS header with one wrong bit".to_owned());
        }
    }
    if blob.read_exact_at(LEADER_AT, &mut leader).is_ok()
        && (Leader::decode(&leader).is_ok() || Leader::correct(&leader).is_some())
    {
        score = score.max(95);
        reasons.push("PFS leader record".to_owned());
    }
    if score == 0 && blob.len() > LEADER_AT {
        let objects = first_objects(blob);
        if objects > 0 {
            score = 80;
            reasons.push(format!("{objects} PFS metadata objects or journal entries"));
        }
    }
    (score, reasons)
}

/// Counts what is intact where PFS keeps metadata and journal, in the first sectors only.
fn first_objects(blob: &dyn Blob) -> u64 {
    use crate::format::pfs::{BLOCK, CHUNK, ENTRY_LEN, Entry as LogEntry, Kind, OBJECT_LEN, Object};
    let mut found = 0u64;
    let chunks = blob.len().div_ceil(CHUNK).min(64);
    let mut sector = [0u8; 4096];
    for chunk in 0..chunks {
        let base = chunk.saturating_mul(CHUNK);
        let mut head = [0; HEADER_LEN];
        if chunk > 0 && blob.read_exact_at(base, &mut head).is_ok() && ChunkHeader::decode(&head, chunk).is_ok() {
            found = found.saturating_add(1);
        }
        for kind in Kind::ALL {
            if blob.read_exact_at(base.saturating_add(kind.start()), &mut sector).is_err() {
                continue;
            }
            for (bytes, index) in sector.chunks_exact(OBJECT_LEN).zip(0..) {
                let object = bytes.first_chunk().map_or(Object::ZERO, |b| Object::from_bytes(*b));
                let good = object.is_sealed() && object.check(kind, kind.number(chunk, index)).is_ok();
                found = found.saturating_add(u64::from(good));
            }
        }
        for block in [1, 2] {
            let at = base.saturating_add(BLOCK.saturating_mul(block));
            if blob.read_exact_at(at, &mut sector).is_ok() {
                let entries = sector.chunks_exact(ENTRY_LEN).filter_map(|b| b.first_chunk());
                let good = entries.filter(|b| LogEntry::decode(b).is_ok()).count() as u64;
                found = found.saturating_add(good);
            }
        }
    }
    found
}

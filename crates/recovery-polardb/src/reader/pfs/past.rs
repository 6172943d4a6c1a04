//! The file system as it was after an earlier transaction that the ring still holds.
//!
//! An object was then what its newest image up to that transaction says. One whose every image is younger was what
//! stands in its place on the disk, unless that is itself one of the younger images: then its state of that time is
//! gone, or, when the ring goes back to the beginning, what `mkfs` made. The journal holds no data: the blocks are read
//! as they are now, and those that were given away since are named.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Context, Error, Finding, Result};

use super::heal;
use super::history::Span;
use super::metadata::{Metadata, Origin};
use super::open::Pfs;
use crate::format::pfs::object::{Inode, InodeKind, Kind, Object, Payload};
use crate::format::pfs::{ROOT_INO, tag_of_block};
use crate::model::pfs::{Doubt, FileSystem, build};

/// The file system at an earlier time.
#[derive(Clone, Debug)]
pub struct Past {
    /// The last transaction that counts.
    pub txid: u64,
    /// How far the ring goes back.
    pub span: Span,
    /// The tree. Files with blocks that were given away carry [`Doubt::Overwritten`].
    pub files: FileSystem,
    /// Contradictions in it.
    pub findings: Vec<Finding>,
    /// Objects whose state of that time is gone.
    pub unknown: u64,
    /// Device blocks that were given away since, by inode.
    pub overwritten: BTreeMap<u64, Vec<u64>>,
}

/// What later images of a block tag say.
#[derive(Clone, Copy, Debug)]
struct LaterTag {
    used: bool,
    ino: u64,
    blkid: u64,
    trimmed: bool,
}

#[derive(Default)]
struct Gathered {
    before: BTreeMap<(Kind, u64), (u64, Object)>,
    /// Objects that were changed later, and whether what stands in place is one of the later images.
    after: BTreeMap<(Kind, u64), bool>,
    tags: BTreeMap<u64, Vec<LaterTag>>,
}

impl Gathered {
    fn take(&mut self, kind: Kind, object: &Object, lsn: u64, later: bool, place: &Metadata) {
        let key = (kind, object.number());
        if !later {
            self.before.insert(key, (lsn, *object));
            return;
        }
        let same = match place.table(kind).used.get(&key.1) {
            Some(held) => held.object == *object,
            // Free in place: only that is kept of it, so any free image may be the one.
            None => !object.used(),
        };
        *self.after.entry(key).or_insert(false) |= same;
        if kind == Kind::BlockTag {
            let tag = object.tag();
            let later = LaterTag { used: object.used(), ino: tag.ino, blkid: tag.blkid, trimmed: tag.dstatus == 2 };
            self.tags.entry(key.1).or_default().push(later);
        }
    }
}

impl Pfs {
    /// The file system as of transaction `txid`.
    ///
    /// # Errors
    ///
    /// When the ring does not hold that time any more or not yet, or the caller asked to stop.
    pub fn at(&self, txid: u64, cx: &Context) -> Result<Past> {
        let (metadata, gathered, span) = self.gather(txid, cx)?;
        if txid > span.last_txid || (txid < span.first_txid.saturating_sub(1)) {
            return Err(Error::Usage(format!(
                "transaction {txid}: the journal holds {} to {}",
                span.first_txid.saturating_sub(1),
                span.last_txid
            )));
        }
        let unknown = metadata.1;
        let (mut files, findings) = build(&metadata.0, &self.geometry, self.device.name());
        let overwritten = overwritten(&mut files, &gathered.tags);
        self.mark_behind(&mut files);
        Ok(Past { txid, span, files, findings, unknown, overwritten })
    }

    /// The objects as of a transaction, and how many are not known; what the ring says; how far it goes.
    pub(super) fn gather_metadata(&self, txid: u64, cx: &Context) -> Result<(Metadata, Span)> {
        let (metadata, _, span) = self.gather(txid, cx)?;
        Ok((metadata.0, span))
    }

    fn gather(&self, txid: u64, cx: &Context) -> Result<((Metadata, u64), Gathered, Span)> {
        let mut metadata = Metadata::load(&self.device, self.geometry.present, cx)?;
        let mut gathered = Gathered::default();
        let chunks = self.geometry.chunks;
        let span = self.history(cx, &mut |t| {
            for logged in &t.entries {
                let object = logged.entry.object;
                if let Some(kind) = object.kind().filter(|k| k.chunk(object.number()) < chunks) {
                    gathered.take(kind, &object, logged.entry.lsn, t.txid > txid, &metadata);
                }
            }
            Ok(())
        })?;
        for ((kind, _), (lsn, object)) in &gathered.before {
            metadata.apply(*kind, object, Origin::History { lsn: *lsn });
        }
        let gone: BTreeSet<(Kind, u64)> = gathered
            .after
            .iter()
            .filter(|(key, same)| **same && !gathered.before.contains_key(key))
            .map(|(key, _)| *key)
            .collect();
        for (kind, number) in &gone {
            metadata.forget(*kind, *number);
        }
        if span.whole() && metadata.is_unknown(Kind::Inode, ROOT_INO) {
            let inode = Inode { kind: InodeKind::Directory, nlink: 1, ..Inode::default() };
            metadata.apply(Kind::Inode, &Object::new(&Payload::Inode(inode), ROOT_INO, true, 1, 2), Origin::Layout);
        }
        heal::without_history(&self.ring, &mut metadata, chunks, span.whole());
        let unknown = gone.iter().filter(|(kind, number)| metadata.is_unknown(*kind, *number)).count() as u64;
        Ok(((metadata, unknown), gathered, span))
    }

    /// Marks files of which a part lies behind the end of the device or was never read.
    pub(super) fn mark_behind(&self, files: &mut FileSystem) {
        for node in files.nodes.values_mut().filter(|n| !n.directory) {
            let file = super::PfsFile::new("", std::sync::Arc::clone(self.device.blob()), &node.extents, node.size);
            let unread = file.segments().iter().filter_map(|s| {
                let len = s.file.end.saturating_sub(s.file.start);
                s.device.map(|at| self.device.unread_in(at..at.saturating_add(len)))
            });
            if file.behind_device() > 0 || unread.fold(0, u64::saturating_add) > 0 {
                node.doubts.push(Doubt::Data);
            }
        }
    }
}

/// Blocks that were given away after the time shown, by inode; their files are marked.
fn overwritten(files: &mut FileSystem, later: &BTreeMap<u64, Vec<LaterTag>>) -> BTreeMap<u64, Vec<u64>> {
    let mut out: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for node in files.nodes.values_mut().filter(|n| !n.directory) {
        let given = |block: u64, blkid: u64| {
            let mut freed = false;
            later.get(&tag_of_block(block)).into_iter().flatten().any(|tag| {
                let taken = tag.used && (freed || (tag.ino, tag.blkid) != (node.ino, blkid));
                freed |= !tag.used;
                taken || tag.trimmed
            })
        };
        let blocks: Vec<u64> = node.extents.iter().filter(|e| given(e.block, e.blkid)).map(|e| e.block).collect();
        if !blocks.is_empty() {
            node.doubts.push(Doubt::Overwritten);
            out.insert(node.ino, blocks);
        }
    }
    out
}

//! The journal told as what was done: files made, renamed, resized and removed; and the removed ones found again.
//!
//! [`Story`] follows the transactions one after another and knows the tree before and after each. A removed file is
//! whole as long as none of its blocks was given to another file, which the later block tags in the ring tell.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use recovery_core::{Context, Result};

use super::history::{Span, Transaction};
use super::open::Pfs;
use crate::format::pfs::object::{InodeKind, Kind, NAME_FIELD, Object};
use crate::format::pfs::{JOURNAL_INO, NONE, PATH_MAX, ROOT_INO, block_of_tag};
use crate::model::pfs::{Child, Doubt, Extent, FileSystem, Node};

/// A file or directory that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The transaction that removed its name.
    pub txid: u64,
    /// Log sequence number of the entry that did.
    pub lsn: u64,
    /// Path when it was removed, '/' in front.
    pub path: Vec<u8>,
    /// Inode number; it may be another file's now.
    pub ino: u64,
    /// Whether it was a directory.
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// Birth time in microseconds: tells two files of one inode number.
    pub btime: u64,
    /// Modification time, seconds.
    pub mtime: u64,
    /// Its blocks at that time, by their place in the file.
    pub extents: Vec<Extent>,
    /// Device blocks that were given to another file or trimmed since.
    pub overwritten: Vec<u64>,
}

impl Deleted {
    /// Whether every block still holds what it held.
    #[must_use]
    pub fn intact(&self) -> bool {
        self.overwritten.is_empty()
    }
}

/// Something that a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named by the sentence above each act")]
pub enum Act {
    /// A file or directory was made.
    Create { path: Vec<u8>, ino: u64, directory: bool },
    /// A name was removed; the file may live on until it is released.
    Unlink { path: Vec<u8>, ino: u64, directory: bool },
    /// An inode was given back.
    Release { ino: u64 },
    /// A name was changed.
    Rename { from: Vec<u8>, to: Vec<u8>, ino: u64 },
    /// A file became longer or shorter.
    Resize { path: Vec<u8>, ino: u64, from: u64, to: u64 },
    /// Blocks were taken for a file.
    Allocate { path: Vec<u8>, ino: u64, blocks: u64 },
    /// Blocks were given back.
    Free { ino: u64, blocks: u64 },
    /// The written part of blocks grew or shrank.
    Write { path: Vec<u8>, ino: u64, blocks: u64 },
}

/// The state before the next transaction.
#[derive(Debug, Default)]
pub struct Story {
    objects: BTreeMap<(Kind, u64), Object>,
    tags: HashMap<u64, BTreeSet<u64>>,
    /// Names by the inode they lead to: for inodes that the ring does not hold any more.
    names: HashMap<u64, u64>,
}

impl Story {
    /// The state before the first transaction of the ring, as far as it is known.
    ///
    /// # Errors
    ///
    /// That the caller asked to stop.
    pub fn begin(pfs: &Pfs, cx: &Context) -> Result<(Self, Span)> {
        let mut first = None;
        let span = pfs.history(cx, &mut |t| {
            first.get_or_insert(t.txid);
            Ok(())
        })?;
        let mut this = Self::default();
        let (metadata, _) = pfs.gather_metadata(span.first_txid.saturating_sub(1), cx)?;
        for kind in Kind::ALL {
            for held in metadata.table(kind).used.values() {
                this.put(kind, &held.object);
            }
        }
        Ok((this, span))
    }

    fn get(&self, kind: Kind, number: u64) -> Option<&Object> {
        self.objects.get(&(kind, number))
    }

    fn put(&mut self, kind: Kind, object: &Object) {
        let number = object.number();
        let old = self.objects.get(&(kind, number));
        if kind == Kind::BlockTag {
            if let Some(members) = old.and_then(|o| self.tags.get_mut(&o.tag().ino)) {
                members.remove(&number);
            }
            if object.used() {
                self.tags.entry(object.tag().ino).or_default().insert(number);
            }
        }
        if kind == Kind::Direntry {
            if let Some(before) = old.map(|o| o.direntry().ino)
                && self.names.get(&before) == Some(&number)
            {
                self.names.remove(&before);
            }
            if object.used() && !object.direntry().is_extension() {
                self.names.insert(object.direntry().ino, number);
            }
        }
        if object.used() {
            self.objects.insert((kind, number), *object);
        } else {
            self.objects.remove(&(kind, number));
        }
    }

    fn name(&self, deno: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = deno;
        for _ in 0..4 {
            let Some(entry) = self.get(Kind::Direntry, at).map(Object::direntry) else { break };
            out.extend_from_slice(&entry.name);
            if entry.extdeno == 0 {
                break;
            }
            at = entry.extdeno;
        }
        let end = out.iter().position(|b| *b == 0).unwrap_or(out.len());
        out.truncate(end.min(4 * NAME_FIELD));
        out
    }

    /// Path of an inode now; what is not known of it begins with `/lost+found`.
    #[must_use]
    pub fn path(&self, ino: u64) -> Vec<u8> {
        let (mut parts, mut length, mut at) = (Vec::new(), 0usize, ino);
        let mut lost = None;
        while at != ROOT_INO {
            let inode = self.get(Kind::Inode, at).map(Object::inode);
            let entry =
                inode.filter(|i| i.deno != NONE).and_then(|i| Some((i.deno, self.get(Kind::Direntry, i.deno)?)));
            let Some((deno, entry)) = entry.filter(|_| length <= PATH_MAX && parts.len() < PATH_MAX) else {
                lost = Some(at);
                break;
            };
            let name = self.name(deno);
            length = length.saturating_add(name.len()).saturating_add(1);
            parts.push(name);
            at = entry.direntry().dirino;
        }
        if let Some(ino) = lost {
            parts.push(format!("ino-{ino}").into_bytes());
            parts.push(crate::model::pfs::LOST_AND_FOUND.into());
        }
        let mut out = Vec::new();
        for part in parts.iter().rev() {
            out.push(b'/');
            out.extend_from_slice(part);
        }
        if out.is_empty() { b"/".to_vec() } else { out }
    }

    fn extents(&self, ino: u64) -> Vec<Extent> {
        let numbers = self.tags.get(&ino).into_iter().flatten().filter(|n| Kind::BlockTag.index(**n) != 0);
        let extent = |n: &u64| {
            let tag = self.get(Kind::BlockTag, *n)?.tag();
            Some(Extent { blkid: tag.blkid, block: block_of_tag(*n), written: tag.written() })
        };
        let mut out: Vec<Extent> = numbers.filter_map(extent).collect();
        out.sort_by_key(|e| (e.blkid, e.block));
        out.dedup_by_key(|e| e.blkid);
        out
    }

    /// The files that a transaction removes the names of; to be asked before [`apply`](Self::apply).
    #[must_use]
    pub fn removed(&self, t: &Transaction) -> Vec<Deleted> {
        let mut out = Vec::new();
        for logged in &t.entries {
            let object = &logged.entry.object;
            let inode = object.kind() == Some(Kind::Inode) && object.number() > JOURNAL_INO;
            let old = self.get(Kind::Inode, object.number()).filter(|_| inode);
            let Some(old) = old.map(Object::inode) else { continue };
            let new = object.inode();
            let gone = !object.used() || new.deno == NONE || new.btime != old.btime;
            if old.deno == NONE || !gone || !matches!(old.kind, InodeKind::File | InodeKind::Directory) {
                continue;
            }
            let ino = object.number();
            let directory = old.kind == InodeKind::Directory;
            out.push(Deleted {
                txid: t.txid,
                lsn: logged.entry.lsn,
                path: self.path(ino),
                ino,
                directory,
                size: old.size,
                btime: old.btime,
                mtime: old.mtime,
                extents: if directory { Vec::new() } else { self.extents(ino) },
                overwritten: Vec::new(),
            });
        }
        out
    }

    /// Applies a transaction and tells what it did.
    pub fn apply(&mut self, t: &Transaction) -> Vec<Act> {
        let inode = |o: &&Object| o.kind() == Some(Kind::Inode) && o.number() > JOURNAL_INO;
        let inodes = || t.entries.iter().map(|l| &l.entry.object).filter(inode);
        let before: Vec<_> = inodes().map(|o| (o.number(), self.known(o.number()), self.path(o.number()))).collect();
        let mut out = Vec::new();
        let mut blocks: BTreeMap<(u64, u8), u64> = BTreeMap::new();
        for logged in &t.entries {
            let object = &logged.entry.object;
            let Some(kind) = object.kind() else { continue };
            if kind == Kind::BlockTag {
                let tag = object.tag();
                let old = self.get(kind, object.number()).map(Object::tag);
                let what = match (old, object.used()) {
                    (None, true) => Some(0u8),
                    (Some(_), false) => Some(1),
                    (Some(old), true) if old.written() != tag.written() => Some(2),
                    _ => None,
                };
                if let Some(what) = what {
                    let count = blocks.entry((tag.ino, what)).or_default();
                    *count = count.saturating_add(1);
                }
            }
            self.put(kind, object);
        }
        for (ino, old, path) in before {
            self.inode_acts(ino, old, path, &mut out);
        }
        for ((ino, what), blocks) in blocks {
            let path = self.path(ino);
            out.push(match what {
                0 => Act::Allocate { path, ino, blocks },
                1 => Act::Free { ino, blocks },
                _ => Act::Write { path, ino, blocks },
            });
        }
        out
    }

    fn known(&self, ino: u64) -> Option<crate::format::pfs::Inode> {
        self.get(Kind::Inode, ino).map(Object::inode)
    }

    fn inode_acts(&self, ino: u64, old: Option<crate::format::pfs::Inode>, path: Vec<u8>, out: &mut Vec<Act>) {
        let new = self.known(ino);
        let directory = |i: &crate::format::pfs::Inode| i.kind == InodeKind::Directory;
        match (old, new) {
            (None, Some(new)) => out.push(Act::Create { path: self.path(ino), ino, directory: directory(&new) }),
            (Some(_), None) => out.push(Act::Release { ino }),
            (Some(old), Some(new)) if old.deno != NONE && new.deno == NONE => {
                out.push(Act::Unlink { path, ino, directory: directory(&old) });
            }
            (Some(old), Some(new)) => {
                let now = self.path(ino);
                if now != path {
                    out.push(Act::Rename { from: path, to: now.clone(), ino });
                }
                if old.size != new.size && !directory(&new) {
                    out.push(Act::Resize { path: now, ino, from: old.size, to: new.size });
                }
            }
            (None, None) => {}
        }
    }
}

/// Numbers of files in a tree of removed files; those of directories follow behind. Neither can be an inode's.
const FILES: u64 = 1 << 60;
const DIRECTORIES: u64 = 1 << 61;

impl Pfs {
    /// Removed files as a tree that can be read and extracted: each in its old directory, with its transaction behind the
    /// name where two have the same. Overwritten ones carry [`Doubt::Overwritten`].
    #[must_use]
    pub fn tree_of(&self, list: &[Deleted]) -> FileSystem {
        let mut tree = FileSystem::default();
        tree.nodes.insert(ROOT_INO, Node::new(ROOT_INO, true));
        let mut directories: BTreeMap<Vec<u8>, u64> = BTreeMap::from([(Vec::new(), ROOT_INO)]);
        let mut taken: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (file, number) in list.iter().zip(FILES..).filter(|(f, _)| !f.directory) {
            let cut = file.path.iter().rposition(|b| *b == b'/').unwrap_or(0);
            let (dir, name) = (file.path.get(..cut).unwrap_or_default(), file.path.get(cut.saturating_add(1)..));
            let parent = directory(&mut tree, &mut directories, dir);
            let mut name = name.filter(|n| !n.is_empty()).unwrap_or(b"unnamed").to_vec();
            let whole = |name: &[u8]| [dir, b"/", name].concat();
            if directories.contains_key(&whole(&name)) || !taken.insert(whole(&name)) {
                name.extend_from_slice(format!("~{}", file.lsn).as_bytes());
                taken.insert(whole(&name));
            }
            let mut node = Node::new(number, false);
            node.parent = Some((parent, name.clone()));
            (node.size, node.mtime, node.btime) = (file.size, file.mtime, file.btime);
            (node.nblock, node.extents) = (file.extents.len() as u64, file.extents.clone());
            if !file.intact() {
                node.doubts.push(Doubt::Overwritten);
            }
            tree.nodes.insert(number, node);
            if let Some(parent) = tree.nodes.get_mut(&parent) {
                parent.children.push(Child { name, ino: number });
            }
        }
        self.mark_behind(&mut tree);
        tree
    }
}

fn directory(tree: &mut FileSystem, known: &mut BTreeMap<Vec<u8>, u64>, path: &[u8]) -> u64 {
    let (mut at, mut parent) = (0, ROOT_INO);
    while at < path.len() {
        let rest = path.get(at.saturating_add(1)..).unwrap_or_default();
        let end = rest.iter().position(|b| *b == b'/').map_or(path.len(), |n| at.saturating_add(1).saturating_add(n));
        let whole = path.get(..end).unwrap_or_default().to_vec();
        let name = path.get(at.saturating_add(1)..end).unwrap_or_default().to_vec();
        let next = DIRECTORIES.saturating_add(known.len() as u64);
        let ino = *known.entry(whole).or_insert(next);
        if ino == next {
            let mut node = Node::new(ino, true);
            node.parent = Some((parent, name.clone()));
            tree.nodes.insert(ino, node);
            if let Some(parent) = tree.nodes.get_mut(&parent) {
                parent.children.push(Child { name, ino });
            }
        }
        (at, parent) = (end, ino);
    }
    parent
}

/// Files and directories whose removal the ring still holds, oldest first, and how far it goes back.
///
/// # Errors
///
/// That the caller asked to stop.
pub fn deleted(pfs: &Pfs, cx: &Context) -> Result<(Vec<Deleted>, Span)> {
    let (mut story, span) = Story::begin(pfs, cx)?;
    let mut out: Vec<Deleted> = Vec::new();
    // For each block tag of a removed file: which file, and whether the block was freed since.
    let mut held: HashMap<u64, Vec<(usize, bool)>> = HashMap::new();
    pfs.history(cx, &mut |t| {
        for logged in t.entries.iter().filter(|l| l.entry.object.kind() == Some(Kind::BlockTag)) {
            watch(&logged.entry.object, &mut held, &mut out);
        }
        for file in story.removed(&t) {
            for extent in &file.extents {
                let tag = crate::format::pfs::tag_of_block(extent.block);
                held.entry(tag).or_default().push((out.len(), freed_in(&t, tag)));
            }
            out.push(file);
        }
        story.apply(&t);
        Ok(())
    })?;
    Ok((out, span))
}

/// Whether the transaction that removes the name also frees the block.
fn freed_in(t: &Transaction, tag: u64) -> bool {
    let of = |o: &Object| o.kind() == Some(Kind::BlockTag) && o.number() == tag && !o.used();
    t.entries.iter().any(|l| of(&l.entry.object))
}

/// Takes note of a later image of a block that removed files had.
fn watch(object: &Object, held: &mut HashMap<u64, Vec<(usize, bool)>>, out: &mut [Deleted]) {
    let Some(holders) = held.get_mut(&object.number()) else { return };
    let tag = object.tag();
    let block = block_of_tag(object.number());
    for (index, freed) in holders.iter_mut() {
        let Some(file) = out.get_mut(*index) else { continue };
        let other = object.used() && (*freed || tag.ino != file.ino);
        if (other || tag.dstatus == 2) && !file.overwritten.contains(&block) {
            file.overwritten.push(block);
        }
        *freed |= !object.used();
    }
    // Once lost, a block needs no more watching.
    holders.retain(|(index, _)| out.get(*index).is_some_and(|f| !f.overwritten.contains(&block)));
}

//! The tree of files and directories that the metadata objects describe.
//!
//! A file or directory says who belongs to it twice: by a linked list, and in each member, which names
//! its owner. The list gives the order, the members' own word decides who belongs: a list that loops or
//! breaks costs nothing then.

mod build;
mod check;
mod members;

use std::collections::BTreeMap;

use crate::format::pfs::{InodeKind, ROOT_INO};

pub(crate) use build::build;

/// One block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Block of the file, in units of 4 MiB.
    pub blkid: u64,
    /// Block of the device.
    pub block: u64,
    /// Bytes written; what follows in the block reads as zero.
    pub written: u64,
}

/// Why something about a file is not certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Its inode is lost or nothing vouches for it: size and times are guesses.
    Inode,
    /// A block tag is lost or nothing vouches for it: a part may be missing or in the wrong place.
    Blocks,
    /// Its name is incomplete or nothing vouches for it.
    Name,
    /// The size cannot be.
    Size,
    /// Bytes lie behind the end of the device, or were never read from it.
    Data,
    /// Blocks were given to another file, or trimmed, after the time shown.
    Overwritten,
}

impl Doubt {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inode => "its inode is damaged",
            Self::Blocks => "a block tag is damaged",
            Self::Name => "its name is damaged",
            Self::Size => "its size cannot be",
            Self::Data => "part of its data is behind the end of the device or was never read from it",
            Self::Overwritten => "overwritten: blocks of it were given to another file since",
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The name, usable as one component of a path.
    pub name: Vec<u8>,
    /// The inode.
    pub ino: u64,
}

/// A file or directory.
#[derive(Clone, Debug)]
pub struct Node {
    /// Inode number.
    pub ino: u64,
    /// File or directory.
    pub directory: bool,
    /// Directory that holds it and its name there; `None` for the root, orphans, and what no directory leads to.
    pub parent: Option<(u64, Vec<u8>)>,
    /// Bytes; for a directory as stored.
    pub size: u64,
    /// Blocks that the inode counts.
    pub nblock: u64,
    /// Links that the inode counts.
    pub nlink: u64,
    /// Access time, seconds since 1970.
    pub atime: u64,
    /// Change time, seconds since 1970.
    pub ctime: u64,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
    /// Birth time in microseconds since 1970.
    pub btime: u64,
    /// Blocks, by their place in the file.
    pub extents: Vec<Extent>,
    /// Names, in the order of the directory's list.
    pub children: Vec<Child>,
    /// What is not certain about it.
    pub doubts: Vec<Doubt>,
}

impl Node {
    pub(crate) fn new(ino: u64, directory: bool) -> Self {
        Self {
            ino,
            directory,
            parent: None,
            size: 0,
            nblock: 0,
            nlink: 1,
            atime: 0,
            ctime: 0,
            mtime: 0,
            btime: 0,
            extents: Vec::new(),
            children: Vec::new(),
            doubts: Vec::new(),
        }
    }

    fn of(ino: u64, inode: &crate::format::pfs::Inode) -> Self {
        Self {
            size: inode.size,
            nblock: inode.nblock,
            nlink: inode.nlink,
            atime: inode.atime,
            ctime: inode.ctime,
            mtime: inode.mtime,
            btime: inode.btime,
            ..Self::new(ino, inode.kind == InodeKind::Directory)
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        if !self.doubts.contains(&doubt) {
            self.doubts.push(doubt);
        }
    }
}

/// The mounted file system.
#[derive(Clone, Debug, Default)]
pub struct FileSystem {
    /// All files and directories by inode number; the root is inode 0.
    pub nodes: BTreeMap<u64, Node>,
    /// Deleted but still whole: files without a name.
    pub orphans: Vec<u64>,
    /// Files and directories that no directory leads to.
    pub unreachable: Vec<u64>,
}

/// Name under which what has no place in the tree can be had.
pub const LOST_AND_FOUND: &str = "lost+found";

impl FileSystem {
    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Option<&Node> {
        self.nodes.get(&ROOT_INO)
    }

    /// A file or directory.
    #[must_use]
    pub fn node(&self, ino: u64) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// Follows a path from the root. `lost+found/ino-N` leads to what has no place in the tree.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<&Node> {
        let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").peekable();
        let mut node = self.root()?;
        let has_own = node.children.iter().any(|c| c.name == LOST_AND_FOUND.as_bytes());
        if !has_own && parts.peek() == Some(&LOST_AND_FOUND.as_bytes()) {
            parts.next();
            let name = std::str::from_utf8(parts.next()?).ok()?;
            let ino = name.strip_prefix("ino-")?.parse().ok()?;
            if !self.orphans.contains(&ino) && !self.unreachable.contains(&ino) {
                return None;
            }
            node = self.node(ino)?;
        }
        for part in parts {
            let child = node.children.iter().find(|c| c.name == part)?;
            node = self.node(child.ino)?;
        }
        Some(node)
    }

    /// Whether a path names the directory of what has no place in the tree.
    #[must_use]
    pub fn is_lost_and_found(&self, path: &str) -> bool {
        path.trim_matches('/') == LOST_AND_FOUND && self.find(path.as_bytes()).is_none()
    }

    /// Path of a node from the root, with a leading '/'.
    #[must_use]
    pub fn path(&self, ino: u64) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = ino;
        // A path has no more parts than there are nodes; a damaged chain of parents ends here.
        for _ in 0..=self.nodes.len() {
            match self.nodes.get(&at).and_then(|n| n.parent.as_ref()) {
                Some((parent, name)) => {
                    parts.push(name.clone());
                    at = *parent;
                }
                None if at == ROOT_INO => break,
                None => {
                    parts.push(format!("ino-{at}").into_bytes());
                    parts.push(LOST_AND_FOUND.into());
                    break;
                }
            }
        }
        let mut out = Vec::new();
        for part in parts.iter().rev() {
            out.push(b'/');
            out.extend_from_slice(part);
        }
        if out.is_empty() { b"/".to_vec() } else { out }
    }

    /// Everything below `from`, depth first, names sorted; with the path from the root ('/' in front).
    #[must_use]
    pub fn walk(&self, from: u64) -> Walk<'_> {
        let mut base = self.path(from);
        if base == b"/" {
            base.clear();
        }
        let mut walk = Walk { fs: self, stack: Vec::new(), path: base };
        walk.enter(from);
        walk
    }

    /// Files and directories of the tree below the root, and the bytes of the files.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.walk(ROOT_INO).fold((0, 0, 0), |(files, dirs, bytes), (_, node)| {
            if node.directory {
                (files, dirs.saturating_add(1), bytes)
            } else {
                (files.saturating_add(1), dirs, bytes.saturating_add(node.size))
            }
        })
    }
}

/// The names of one directory that are still ahead, sorted, and the length of the path that leads to it.
type Level<'a> = (std::vec::IntoIter<&'a Child>, usize);

/// See [`FileSystem::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    fs: &'a FileSystem,
    stack: Vec<Level<'a>>,
    path: Vec<u8>,
}

impl Walk<'_> {
    fn enter(&mut self, ino: u64) {
        let Some(node) = self.fs.node(ino).filter(|n| n.directory) else { return };
        let mut children: Vec<&Child> = node.children.iter().collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        self.stack.push((children.into_iter(), self.path.len()));
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (Vec<u8>, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (children, length) = self.stack.last_mut()?;
            self.path.truncate(*length);
            let Some(child) = children.next() else {
                self.stack.pop();
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(&child.name);
            let Some(node) = self.fs.node(child.ino) else { continue };
            let path = self.path.clone();
            if node.directory {
                self.enter(child.ino);
            }
            return Some((path, node));
        }
    }
}

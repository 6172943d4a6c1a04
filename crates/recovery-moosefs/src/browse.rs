//! Looking around in a state without a master: paths, attributes, trees, chunks.

use std::sync::Arc;

use recovery_core::{Blob, Context, Error, Reading, Result, Sources};

use crate::case::decide;
use crate::format::node::Kind;
use crate::model::arena::NONE;
use crate::model::load::{LoadError, LoadOptions, load};
use crate::model::{Model, Node};
use crate::survey::survey;

/// A state, and what was wrong on the way to it.
#[derive(Debug)]
pub struct Opened {
    /// The state.
    pub model: Model,
    /// What is lost or doubtful, in words.
    pub notes: Vec<String>,
}

fn load_failed(name: &str) -> impl FnOnce(LoadError) -> Error + '_ {
    move |e| match e {
        LoadError::Read(e) => Error::Read(e),
        LoadError::NotMetadata(why) => Error::Unusable(format!("{name}: {why}")),
        other => Error::Damaged(format!("{name}: {other} (--salvage passes over what can be passed over)")),
    }
}

/// Loads a metadata file.
///
/// # Errors
///
/// When the medium fails, when it is no metadata file, and, unless salvaging, when anything is wrong with it.
pub fn open_file(blob: &Arc<dyn Blob>, cx: &Context) -> Result<Opened> {
    let salvage = cx.reading == Reading::Salvage;
    let options = LoadOptions { salvage, dialect: None, checksums: false };
    let loaded = cx.pool().install(|| load(blob.as_ref(), &options)).map_err(load_failed(blob.name()))?;
    let notes = loaded.issues.iter().filter(|i| !i.kind.keeps_everything()).map(|i| i.text.clone()).collect();
    Ok(Opened { model: loaded.model, notes })
}

/// Builds the best state the directories lead to.
///
/// # Errors
///
/// When nothing can be built, a medium fails or a limit is met.
pub fn open_directory(sources: &Sources, cx: &Context) -> Result<Opened> {
    let mut full = cx.clone();
    full.check = recovery_core::Check::Full;
    let case = decide(survey(sources, &full)?, None, None, false, &full)?;
    let Some(built) = case.built else {
        return Err(Error::Unusable("nothing can be built from these files: see recover inspect".to_owned()));
    };
    let mut notes: Vec<String> =
        built.issues.iter().filter(|i| !i.kind.keeps_everything()).map(|i| i.text.clone()).collect();
    if built.stop.is_some() {
        notes.push(format!("the logs can be followed to change {} only", built.model.version().saturating_sub(1)));
    }
    Ok(Opened { model: built.model, notes })
}

/// One object of a state.
#[derive(Clone, Copy, Debug)]
pub struct Object<'m> {
    model: &'m Model,
    node: &'m Node,
}

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Name<'m> {
    /// The name.
    pub name: &'m [u8],
    /// What it leads to.
    pub object: Object<'m>,
}

impl<'m> Object<'m> {
    /// Inode.
    #[must_use]
    pub const fn inode(&self) -> u32 {
        self.node.inode
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.node.kind).unwrap_or(Kind::File)
    }

    /// Permission bits, 12 of them.
    #[must_use]
    pub const fn mode(&self) -> u16 {
        self.node.mode
    }

    /// Owner and group.
    #[must_use]
    pub const fn owner(&self) -> (u32, u32) {
        (self.node.uid, self.node.gid)
    }

    /// Access, modification and change time.
    #[must_use]
    pub const fn times(&self) -> [u32; 3] {
        [self.node.atime, self.node.mtime, self.node.ctime]
    }

    /// Length of a file in bytes, of a symbolic link's text, 0 for others.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self.kind() {
            k if k.is_file() => self.node.length,
            _ => self.target().map_or(0, |t| t.len() as u64),
        }
    }

    /// Storage class, or goal.
    #[must_use]
    pub const fn class(&self) -> u8 {
        self.node.class
    }

    /// Name of the storage class, where classes have names.
    #[must_use]
    pub fn class_name(&self) -> Option<&'m [u8]> {
        self.model.classes.table.get(usize::from(self.node.class))?.as_ref().map(|c| c.name.as_slice())
    }

    /// Extra attribute bits, and those for Windows clients.
    #[must_use]
    pub const fn eattr(&self) -> (u8, u8) {
        (self.node.eattr, self.node.winattr)
    }

    /// Trash retention in seconds.
    #[must_use]
    pub const fn retention(&self) -> u64 {
        let n = self.node.retention as u64;
        if self.model.dialect().retention_in_hours() { n.saturating_mul(3600) } else { n }
    }

    /// Device number of a device.
    #[must_use]
    pub fn device(&self) -> Option<(u32, u32)> {
        let device = matches!(self.kind(), Kind::Block | Kind::Char) && self.node.a != NONE;
        device.then_some((self.node.a >> 16, self.node.a & 0xFFFF))
    }

    /// Where a symbolic link leads.
    #[must_use]
    pub fn target(&self) -> Option<&'m [u8]> {
        (self.kind() == Kind::Symlink && self.node.a != NONE).then(|| self.model.texts.get(self.node.a))
    }

    /// Chunk ids of a file in their order; 0 is a hole.
    #[must_use]
    pub fn chunks(&self) -> &'m [u64] {
        if self.kind().is_file() { self.model.chunk_ids(self.node) } else { &[] }
    }

    /// Extended attributes.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'m [u8], &'m [u8])> + use<'m> {
        let list = self.model.xattrs.get(&self.node.inode).map_or(&[][..], |x| x.list.as_slice());
        list.iter().map(|x| (x.name(), x.value()))
    }

    /// Access list (`default` for that of new children): owner, group, others, mask; named users; named groups.
    #[must_use]
    pub fn acl(&self, default: bool) -> Option<&'m crate::format::attr::AclRecord> {
        self.model.acls.get(&(self.node.inode, if default { 2 } else { 1 })).map(|a| &a.1)
    }

    /// Quota of a directory.
    #[must_use]
    pub fn quota(&self) -> Option<&'m crate::format::small::QuotaRecord> {
        self.model.quotas.get(&self.node.inode).map(|q| &q.1)
    }

    /// Paths of all its names from the root, without a slash in front; for trash and sustained files the former path.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut at = self.node.parents;
        let mut left = self.model.edge_count.saturating_add(1);
        while at != NONE && left > 0 {
            left = left.saturating_sub(1);
            let e = self.model.edges.get(at);
            let mut path = if e.parent > 1 {
                let above = self.model.node(e.parent).map(|p| self.model.first_path(p)).unwrap_or_default();
                [above, b"/".to_vec()].concat()
            } else {
                Vec::new()
            };
            path.extend_from_slice(self.model.edge_text(e));
            out.push(path);
            at = e.next_parent;
        }
        out
    }

    /// Number of names; of a directory, as the system counts.
    #[must_use]
    pub fn links(&self) -> u64 {
        if self.kind() == Kind::Directory {
            return self.names().filter(|n| n.object.kind() == Kind::Directory).count() as u64 + 2;
        }
        let (mut n, mut at) = (0u64, self.node.parents);
        while at != NONE && n <= self.model.edge_count {
            n = n.saturating_add(1);
            at = self.model.edges.get(at).next_parent;
        }
        n
    }

    /// Names in a directory, in list order: the newest first.
    pub fn names(&self) -> impl Iterator<Item = Name<'m>> + use<'m> {
        let model = self.model;
        let mut at = if self.node.is_dir() { self.node.a } else { NONE };
        std::iter::from_fn(move || {
            while at != NONE {
                let e = model.edges.get(at);
                at = e.next;
                if let Ok(node) = model.node(e.child) {
                    return Some(Name { name: model.edge_text(e), object: Object { model, node } });
                }
            }
            None
        })
    }
}

impl Model {
    /// The object of an inode.
    #[must_use]
    pub fn object(&self, inode: u32) -> Option<Object<'_>> {
        self.node(inode).ok().map(|node| Object { model: self, node })
    }

    /// The object of a path from the root; symbolic links are not followed.
    #[must_use]
    pub fn resolve(&self, path: &[u8]) -> Option<Object<'_>> {
        let mut at = self.object(1)?;
        for part in path.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".") {
            at = at.names().find(|n| n.name == part)?.object;
        }
        Some(at)
    }

    /// Files in the trash, or (`sustained`) unlinked files that are still open, by inode.
    #[must_use]
    pub fn unlinked(&self, sustained: bool) -> Vec<Object<'_>> {
        let kind = if sustained { Kind::Sustained } else { Kind::Trash } as u8;
        let mut all: Vec<Object<'_>> =
            self.nodes.slots().iter().filter(|n| n.kind == kind).map(|node| Object { model: self, node }).collect();
        all.sort_unstable_by_key(Object::inode);
        all
    }

    /// Version, flags and lock of a chunk.
    #[must_use]
    pub fn chunk(&self, id: u64) -> Option<(u32, u8, u32)> {
        self.chunks.get(id).map(|c| (c.version, c.flags, c.locked))
    }

    /// Calls `f` with every object below a directory and its path below it, parents first.
    ///
    /// # Errors
    ///
    /// The first error of `f`.
    pub fn walk<'m>(&'m self, top: Object<'m>, f: &mut dyn FnMut(&[u8], Object<'m>) -> Result<()>) -> Result<()> {
        let mut stack: Vec<(Vec<u8>, Object<'m>)> = top.names().map(|n| (n.name.to_vec(), n.object)).collect();
        stack.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        let mut left = self.edge_count;
        while let Some((path, object)) = stack.pop() {
            f(&path, object)?;
            left = left.saturating_sub(1);
            if object.kind() != Kind::Directory || left == 0 {
                continue;
            }
            let from = stack.len();
            stack.extend(object.names().map(|n| ([path.as_slice(), b"/", n.name].concat(), n.object)));
            if let Some(new) = stack.get_mut(from..) {
                new.sort_unstable_by(|a, b| b.0.cmp(&a.0));
            }
        }
        Ok(())
    }
}

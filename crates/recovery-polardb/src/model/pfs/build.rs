//! From objects to a tree.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Finding, Severity};

use super::check::Reporter;
use super::members::{Groups, Members, members, uncounted};
use super::{Child, Doubt, Extent, FileSystem, Node};
use crate::codes::pfs as codes;
use crate::format::pfs::object::{Direntry, InodeKind, Kind, Object};
use crate::format::pfs::{BLOCK, NONE, PATH_MAX, ROOT_INO, block_of_tag};
use crate::reader::pfs::{Geometry, Metadata};

/// How many entries a name of 255 bytes and its NUL takes beyond the first.
const MOST_EXTENSIONS: usize = 3;

/// Builds the tree, with a finding for everything that does not fit together.
pub(crate) fn build(metadata: &Metadata, geometry: &Geometry, device: &str) -> (FileSystem, Vec<Finding>) {
    let mut this = Builder {
        metadata,
        geometry,
        tags: Groups::of_tags(&metadata.tags),
        entries: Groups::of_entries(&metadata.entries),
        nodes: BTreeMap::new(),
        claimed_extensions: BTreeSet::new(),
        report: Reporter::new(device),
    };
    this.make_nodes();
    this.make_lost_nodes();
    this.fill_directories();
    this.check_tags();
    let (orphans, unreachable) = this.reach();
    this.check_extensions();
    let fs = FileSystem { nodes: this.nodes, orphans, unreachable };
    let findings = this.report.finish(&fs);
    (fs, findings)
}

struct Builder<'a> {
    metadata: &'a Metadata,
    geometry: &'a Geometry,
    tags: Groups,
    entries: Groups,
    nodes: BTreeMap<u64, Node>,
    claimed_extensions: BTreeSet<u64>,
    report: Reporter,
}

impl Builder<'_> {
    fn make_nodes(&mut self) {
        for (ino, held) in &self.metadata.inodes.used {
            let inode = held.object.inode();
            if !matches!(inode.kind, InodeKind::File | InodeKind::Directory) {
                self.report.inode(
                    &codes::COUNTS,
                    Severity::Damaged,
                    *ino,
                    "it is in use and is neither file nor directory",
                );
                continue;
            }
            let mut node = Node::of(*ino, &inode);
            if self.metadata.inodes.is_doubtful(*ino) {
                node.doubt(Doubt::Inode);
            }
            if !node.directory {
                self.fill_file(&mut node, Some(&held.object));
            }
            self.nodes.insert(*ino, node);
        }
    }

    /// Inodes of which only their neighbours know: names that lead to them, blocks and names that belong to them.
    fn make_lost_nodes(&mut self) {
        let named = self.metadata.entries.used.iter().filter(|(n, h)| **n != 0 && !h.object.direntry().is_extension());
        let mut wanted: BTreeSet<u64> = named.map(|(_, h)| h.object.direntry().ino).collect();
        wanted.extend(self.tags.owners());
        wanted.extend(self.entries.owners());
        wanted.insert(ROOT_INO);
        for ino in wanted {
            let unknown = self.metadata.is_unknown(Kind::Inode, ino) || ino == ROOT_INO;
            if self.nodes.contains_key(&ino) || !unknown {
                continue;
            }
            let directory = ino == ROOT_INO || !self.entries.of(ino).is_empty();
            let mut node = Node::new(ino, directory);
            node.doubt(Doubt::Inode);
            if !directory {
                self.fill_file(&mut node, None);
                let end = |e: &Extent| e.blkid.saturating_mul(BLOCK).saturating_add(e.written);
                node.size = node.extents.iter().map(end).max().unwrap_or(0);
                node.nblock = node.extents.len() as u64;
            }
            self.nodes.insert(ino, node);
        }
    }

    fn fill_file(&mut self, node: &mut Node, inode: Option<&Object>) {
        let own = self.tags.of(node.ino);
        let Members { numbers, fault } = members(&self.metadata.tags, inode, own);
        if let Some(fault) = fault {
            self.report.inode(&codes::LIST, Severity::Damaged, node.ino, &fault.to_string());
        }
        let mut places: BTreeMap<u64, Extent> = BTreeMap::new();
        for number in &numbers {
            let Some(object) = self.metadata.tags.get(*number) else { continue };
            let tag = object.tag();
            if !tag.hole_is_sane() || (self.geometry.version == 0 && (tag.holelen, tag.holeoff) != (0, 0)) {
                let text = format!("block tag {number}: hole of {} at {}", tag.holelen, tag.holeoff);
                self.report.inode(&codes::HOLE, Severity::Suspect, node.ino, &text);
            }
            if self.metadata.tags.is_doubtful(*number) {
                node.doubt(Doubt::Blocks);
            }
            let extent = Extent { blkid: tag.blkid, block: block_of_tag(*number), written: tag.written() };
            if let Some(first) = places.get(&tag.blkid) {
                let text = format!("device blocks {} and {} both claim block {}", first.block, extent.block, tag.blkid);
                self.report.inode(&codes::DOUBLE_BLOCK, Severity::Damaged, node.ino, &text);
                node.doubt(Doubt::Blocks);
            } else {
                places.insert(tag.blkid, extent);
            }
        }
        node.extents = places.into_values().collect();
        if inode.is_some() && node.nblock != numbers.len() as u64 {
            let text = format!("it counts {} blocks and has {}", node.nblock, numbers.len());
            self.report.inode(&codes::COUNTS, Severity::Damaged, node.ino, &text);
            if (numbers.len() as u64) < node.nblock {
                node.doubt(Doubt::Blocks);
            }
        }
        self.check_size(node);
    }

    /// A file may be longer than its blocks, but not longer than any file system of this size.
    fn check_size(&mut self, node: &mut Node) {
        let room = self.geometry.bytes();
        if node.size <= room {
            return;
        }
        let blocks = node.extents.last().map_or(0, |e| e.blkid.saturating_add(1).saturating_mul(BLOCK));
        let text = format!("it states {} bytes, the file system has {room}", node.size);
        self.report.inode(&codes::SIZE, Severity::Suspect, node.ino, &text);
        node.doubt(Doubt::Size);
        node.size = blocks.min(room);
    }

    fn fill_directories(&mut self) {
        let directories: Vec<u64> = self.nodes.values().filter(|n| n.directory).map(|n| n.ino).collect();
        for ino in directories {
            let children = self.children(ino);
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.children = children;
            }
        }
    }

    fn children(&mut self, ino: u64) -> Vec<Child> {
        let inode = self.metadata.inodes.get(ino);
        let Members { numbers, fault } = members(&self.metadata.entries, inode, self.entries.of(ino));
        if let Some(fault) = fault {
            self.report.inode(&codes::LIST, Severity::Damaged, ino, &fault.to_string());
        }
        let counted = (numbers.len() as u64).saturating_sub(uncounted(ino)).saturating_mul(128);
        let stated = inode.map(|i| i.inode().size);
        if stated.is_some_and(|s| s != counted) {
            let text = format!("its size says {} names, it has {}", stated.unwrap_or(0) / 128, counted / 128);
            self.report.inode(&codes::COUNTS, Severity::Damaged, ino, &text);
        }
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut children = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(child) = self.child(ino, number, &mut names) {
                children.push(child);
            }
        }
        children
    }

    fn child(&mut self, dirino: u64, number: u64, names: &mut BTreeSet<Vec<u8>>) -> Option<Child> {
        let entry = self.metadata.entries.get(number)?.direntry();
        let (raw, whole) = self.name(number, &entry);
        let ino = entry.ino;
        if !self.nodes.contains_key(&ino) {
            let shown = String::from_utf8_lossy(&raw).into_owned();
            let text = format!("directory entry {number} ({shown:?}) names inode {ino}, which is free");
            self.report.inode(&codes::DANGLING, Severity::Damaged, dirino, &text);
            return None;
        }
        if ino == ROOT_INO || ino == dirino {
            let text = format!("directory entry {number} leads back to inode {ino}");
            self.report.inode(&codes::TREE, Severity::Damaged, dirino, &text);
            return None;
        }
        let mut name = usable(&raw, ino);
        if names.contains(&name) {
            name.extend_from_slice(format!("~ino-{ino}-{number}").as_bytes());
        }
        if name != raw {
            let text = format!("directory entry {number}: shown as {:?}", String::from_utf8_lossy(&name));
            self.report.inode(&codes::NAME, Severity::Suspect, dirino, &text);
        }
        names.insert(name.clone());
        let doubtful = !whole || self.metadata.entries.is_doubtful(number);
        self.adopt(dirino, number, ino, &name, doubtful).then_some(Child { name, ino })
    }

    /// Gives a node its place in the tree. A directory has one place only.
    fn adopt(&mut self, dirino: u64, number: u64, ino: u64, name: &[u8], doubtful: bool) -> bool {
        let deno = self.metadata.inodes.get(ino).map(|o| o.inode().deno);
        let Some(node) = self.nodes.get_mut(&ino) else { return false };
        if doubtful {
            node.doubt(Doubt::Name);
        }
        let taken = node.parent.is_some();
        if !taken || deno == Some(number) {
            node.parent = Some((dirino, name.to_vec()));
        }
        let directory = node.directory;
        if taken {
            let text = format!("directory entry {number} is a second name of inode {ino}");
            self.report.inode(&codes::TWO_NAMES, Severity::Damaged, dirino, &text);
        } else if deno.is_some_and(|d| d != number) {
            let text = format!("inode {ino} names directory entry {}, not {number}", deno.unwrap_or(NONE));
            self.report.inode(&codes::COUNTS, Severity::Damaged, ino, &text);
        }
        !(taken && directory)
    }

    /// The bytes of a name, and whether all of its parts were there.
    fn name(&mut self, number: u64, entry: &Direntry) -> (Vec<u8>, bool) {
        let mut name = entry.name.to_vec();
        let (mut next, mut whole) = (entry.extdeno, true);
        for _ in 0..MOST_EXTENSIONS {
            if next == 0 {
                break;
            }
            let part = self.metadata.entries.get(next).map(Object::direntry);
            match part.filter(|p| p.is_extension() && p.ino == number && self.claimed_extensions.insert(next)) {
                Some(part) => {
                    name.extend_from_slice(&part.name);
                    next = part.extdeno;
                }
                None => {
                    let text = format!("directory entry {number}: its continuation {next} is missing or not its own");
                    self.report.inode(&codes::EXTENSION, Severity::Damaged, entry.dirino, &text);
                    (next, whole) = (0, false);
                }
            }
        }
        if next != 0 {
            let text = format!("directory entry {number}: its name goes on beyond 255 bytes");
            self.report.inode(&codes::EXTENSION, Severity::Damaged, entry.dirino, &text);
            whole = false;
        }
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        (name, whole)
    }

    /// Block tags whose owner is known to be free.
    fn check_tags(&mut self) {
        let lost: Vec<(u64, u64)> = self
            .tags
            .owners()
            .filter(|ino| !self.nodes.contains_key(ino))
            .map(|ino| (ino, self.tags.of(ino).len() as u64))
            .collect();
        for (ino, blocks) in lost {
            let text = format!("{blocks} blocks in use name it, and it is free");
            self.report.inode(&codes::BLOCK_LEAK, Severity::Suspect, ino, &text);
        }
        let empty: Vec<(u64, u64)> = self
            .entries
            .owners()
            .filter(|ino| !self.nodes.get(ino).is_some_and(|n| n.directory))
            .map(|ino| (ino, self.entries.of(ino).len() as u64))
            .collect();
        for (ino, names) in empty {
            let text = format!("{names} directory entries name it as their directory, and it is none");
            self.report.inode(&codes::DANGLING, Severity::Damaged, ino, &text);
        }
    }

    /// Extensions that no name leads to, and long names where the version has none.
    fn check_extensions(&mut self) {
        let extensions =
            self.metadata.entries.used.iter().filter(|(n, h)| **n != 0 && h.object.direntry().is_extension());
        let stray: Vec<u64> = extensions.map(|(n, _)| *n).filter(|n| !self.claimed_extensions.contains(n)).collect();
        if let Some(first) = stray.first() {
            let text = format!("{} continuations of names belong to none, the first is {first}", stray.len());
            self.report.inode(&codes::EXTENSION, Severity::Suspect, ROOT_INO, &text);
        }
        if self.geometry.version < 2 && self.geometry.version_known && !self.claimed_extensions.is_empty() {
            let text = format!("long names in a file system of version {}", self.geometry.version);
            self.report.inode(&codes::EXTENSION, Severity::Suspect, ROOT_INO, &text);
        }
    }

    /// Marks what the root leads to; cuts circles and paths that are too long. Returns orphans and the unreachable.
    fn reach(&mut self) -> (Vec<u64>, Vec<u64>) {
        let mut seen = BTreeSet::new();
        self.descend(ROOT_INO, &mut seen);
        let (mut orphans, mut unreachable) = (Vec::new(), Vec::new());
        // First what nothing leads to, so that its own children stay below it; then what is left are circles.
        for circles in [false, true] {
            let left: Vec<u64> = self.nodes.keys().copied().filter(|ino| !seen.contains(ino)).collect();
            for ino in left {
                if seen.contains(&ino) || (!circles && self.nodes.get(&ino).is_some_and(|n| n.parent.is_some())) {
                    continue;
                }
                self.cut(ino);
                self.descend(ino, &mut seen);
                let inode = self.metadata.inodes.get(ino).map(Object::inode);
                if inode.is_some_and(|i| i.deno == NONE) {
                    orphans.push(ino);
                } else {
                    unreachable.push(ino);
                }
            }
        }
        (orphans, unreachable)
    }

    /// Takes a node out of the directory that holds it.
    fn cut(&mut self, ino: u64) {
        let parent = self.nodes.get_mut(&ino).and_then(|n| n.parent.take());
        if let Some((parent, _)) = parent
            && let Some(node) = self.nodes.get_mut(&parent)
        {
            node.children.retain(|c| c.ino != ino);
            self.report.inode(
                &codes::TREE,
                Severity::Damaged,
                ino,
                "the directories above it lead back to it, or its path is too long",
            );
        }
    }

    fn descend(&mut self, from: u64, seen: &mut BTreeSet<u64>) {
        let mut todo = vec![(from, 0usize)];
        seen.insert(from);
        while let Some((ino, length)) = todo.pop() {
            let Some(node) = self.nodes.get(&ino) else { continue };
            for child in &node.children {
                let length = length.saturating_add(child.name.len()).saturating_add(1);
                if length <= PATH_MAX && seen.insert(child.ino) {
                    todo.push((child.ino, length));
                }
            }
        }
    }
}

/// A name that can be one component of a path: unchanged when it already is.
fn usable(raw: &[u8], ino: u64) -> Vec<u8> {
    match raw {
        b"" => format!("ino-{ino}").into_bytes(),
        b"." => b"%2E".to_vec(),
        b".." => b"%2E%2E".to_vec(),
        _ if raw.contains(&b'/') => {
            raw.iter().flat_map(|b| if *b == b'/' { b"%2F".to_vec() } else { vec![*b] }).collect()
        }
        _ => raw.to_vec(),
    }
}

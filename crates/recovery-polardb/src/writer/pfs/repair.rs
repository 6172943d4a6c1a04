//! A disk made mountable again, in a new image.
//!
//! Every object is written in its place as replay and healing left it. Where objects contradict each other, names and
//! lists are made anew from the tree that the reader found; what has no name goes to `lost+found`. Such changes are also
//! appended to the journal as one more transaction, so that its history leads to what stands in place. Entries of the
//! ring that the engine would abort on are made blank, and the leader record says that nothing is left to replay. Data
//! blocks stay where they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use recovery_core::{Context, Error, Result, read_around};

use super::ImageSink;
use super::objects::Objects;
use crate::codes::pfs as codes;
use crate::format::pfs::object::{InodeKind, Kind, OBJECT_LEN, Object};
use crate::format::pfs::{
    BLOCK, CHUNK, ChunkHeader, ENTRY_LEN, Entry, JOURNAL_INO, LEADER_AT, Leader, META_LEN, META_START, ROOT_INO,
};
use crate::model::pfs::{FileSystem, LOST_AND_FOUND};
use crate::reader::pfs::Pfs;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Chunk headers that differ from what stood there.
    pub headers: u64,
    /// Metadata objects that differ from what stood in their places.
    pub objects: u64,
    /// Entries of the journal made blank or corrected.
    pub entries: u64,
    /// Objects that say something else than before: names and lists made anew, files given a name.
    pub changed: u64,
    /// Paths under which nameless files and directories can be found now.
    pub lost_and_found: Vec<String>,
}

fn failed(error: io::Error) -> Error {
    Error::write("image", "write", error)
}

/// Writes the metadata of a whole file system over a copy of the device.
///
/// # Errors
///
/// When the place of the journal is not known, the file system is of a version that is not written, or the copy cannot be
/// written.
pub fn repair<S: ImageSink>(pfs: &Pfs, sink: &mut S, cx: &Context) -> Result<Repaired> {
    if pfs.geometry.version > 2 {
        return Err(Error::unsupported(format!("repair of PFS version {}", pfs.geometry.version)));
    }
    let mut done = Repaired::default();
    let chunks = u32::try_from(pfs.geometry.chunks).map_err(|_| Error::unsupported("repair of so many chunks"))?;
    sink.set_len(u64::from(chunks).saturating_mul(CHUNK)).map_err(failed)?;
    let objects = objects(pfs, &mut done)?;
    let changed = changed(pfs, &objects);
    done.changed = changed.len() as u64;
    for (at, entry) in pfs.invalid_entries() {
        let bytes = entry.map_or([0; ENTRY_LEN], |e| e.encode());
        sink.write_at(at, &bytes).map_err(failed)?;
        done.entries = done.entries.saturating_add(1);
    }
    for chunk in 0..u64::from(chunks) {
        cx.cancelled()?;
        area(pfs, &objects, chunk, sink, &mut done)?;
    }
    let leader = append(pfs, leader(pfs), &changed, sink)?;
    sink.write_at(LEADER_AT, &leader.encode()).map_err(failed)?;
    for number in 0..u64::from(chunks) {
        let header = ChunkHeader { number, chunks, version: pfs.geometry.version }.encode();
        let at = number.saturating_mul(CHUNK);
        let mut old = header;
        let same = pfs.device.blob().read_exact_at(at, &mut old).is_ok() && old == header;
        done.headers = done.headers.saturating_add(u64::from(!same));
        sink.write_at(at, &header).map_err(failed)?;
    }
    Ok(done)
}

/// Findings after which the objects cannot stay as they are.
fn contradicted(pfs: &Pfs) -> bool {
    let codes = [
        codes::OBJECT_LOST,
        codes::LIST,
        codes::DANGLING,
        codes::COUNTS,
        codes::DOUBLE_BLOCK,
        codes::UNREACHABLE,
        codes::NAME,
        codes::EXTENSION,
        codes::HOLE,
        codes::TREE,
        codes::TWO_NAMES,
        codes::BLOCK_LEAK,
        codes::SIZE,
        codes::JOURNAL_MAP,
        codes::BLANK_CHUNK,
    ];
    pfs.findings.iter().any(|f| codes.iter().any(|c| c.code == f.code))
}

/// Every object in use: as it is known, or, where that contradicts itself, as the tree says.
fn objects(pfs: &Pfs, done: &mut Repaired) -> Result<Objects> {
    if !contradicted(pfs) {
        let time = pfs.files.root().map_or(0, |n| n.mtime);
        let mut objects = Objects::new(pfs.geometry.chunks, time);
        objects.keep(&pfs.metadata);
        lost(pfs, &mut objects, false, done)?;
        return Ok(objects);
    }
    let files = &pfs.files;
    let blocks = (0..pfs.ring.size.div_ceil(BLOCK)).map(|i| pfs.ring.block(i)).collect::<Option<Vec<u64>>>();
    let blocks = blocks.filter(|b| !b.is_empty());
    let blocks = blocks.ok_or_else(|| Error::unsupported("repair of a disk on which the journal cannot be found"))?;
    let time = files.node(JOURNAL_INO).or_else(|| files.root()).map_or(0, |n| n.mtime);
    let mut objects = Objects::new(pfs.geometry.chunks, time);
    objects.mkfs(pfs.ring.size, &blocks)?;
    for node in files.nodes.values() {
        if node.ino > JOURNAL_INO && node.extents.iter().any(|e| blocks.contains(&e.block) || e.block < 2) {
            let path = String::from_utf8_lossy(&files.path(node.ino)).into_owned();
            return Err(Error::unsupported(format!("repair: {path} claims blocks of the journal")));
        }
        if pfs.geometry.version == 0 {
            // Version 0 knows no holes.
            let mut node = node.clone();
            node.extents.iter_mut().for_each(|e| e.written = BLOCK);
            objects.adopt(&node)?;
        } else {
            objects.adopt(node)?;
        }
    }
    tree(files, ROOT_INO, &mut objects)?;
    lost(pfs, &mut objects, true, done)?;
    Ok(objects)
}

/// Objects that say something else than what is known of them.
fn changed(pfs: &Pfs, objects: &Objects) -> Vec<Object> {
    let known = |kind: Kind, number: u64| pfs.metadata.table(kind).get(number);
    let new = objects.sealed().filter(|(kind, o)| known(*kind, o.number()) != Some(o)).map(|(_, o)| o);
    let gone = Kind::ALL.into_iter().flat_map(|kind| {
        let used = pfs.metadata.table(kind).used.keys().copied();
        used.filter(move |n| !objects.holds(kind, *n)).map(move |n| Object::free(kind, n))
    });
    new.chain(gone).collect()
}

/// Appends the changes to the journal as one transaction that is in place already. Where it does not fit, or the disk
/// has no journal left, the history simply does not know of them.
fn append<S: ImageSink>(pfs: &Pfs, leader: Leader, changed: &[Object], sink: &mut S) -> Result<Leader> {
    let (count, slots) = (changed.len() as u64, pfs.ring.slots());
    if count == 0 || count >= slots {
        return Ok(leader);
    }
    let (first, txid) = (leader.head_offset / ENTRY_LEN as u64, leader.head_txid.saturating_add(1));
    for (object, i) in changed.iter().zip(0u64..) {
        let lsn = leader.head_lsn.saturating_add(i).saturating_add(1);
        let entry = Entry { object: *object, lsn, txid, more: i.saturating_add(1) < count };
        let slot = first.saturating_add(i) % slots;
        let at = pfs.ring.address(slot).ok_or_else(|| Error::unsupported("repair of a journal in unknown places"))?;
        sink.write_at(at, &entry.encode()).map_err(failed)?;
    }
    let offset = (first.saturating_add(count) % slots).saturating_mul(ENTRY_LEN as u64);
    Ok(Leader {
        tail_txid: txid,
        head_txid: txid,
        tail_offset: offset,
        head_offset: offset,
        head_lsn: leader.head_lsn.saturating_add(count),
        ..leader
    })
}

/// Names everything below a directory, in the order of its list.
fn tree(files: &FileSystem, top: u64, objects: &mut Objects) -> Result<()> {
    let mut stack = vec![top];
    while let Some(dir) = stack.pop() {
        for child in files.node(dir).into_iter().flat_map(|n| &n.children) {
            let named = files.node(child.ino).filter(|n| n.ino > JOURNAL_INO);
            // A second name of an inode is not written: PFS has no hard links.
            let own =
                named.is_some_and(|n| n.parent.as_ref().is_some_and(|(p, name)| *p == dir && *name == child.name));
            if own {
                objects.link(dir, &child.name, child.ino)?;
                if named.is_some_and(|n| n.directory) {
                    stack.push(child.ino);
                }
            }
        }
    }
    Ok(())
}

/// Names what has no place in the tree; `made` says that nothing below it has a name yet.
fn lost(pfs: &Pfs, objects: &mut Objects, made: bool, done: &mut Repaired) -> Result<()> {
    let files = &pfs.files;
    let nameless: Vec<u64> = files.orphans.iter().chain(&files.unreachable).copied().collect();
    if nameless.is_empty() {
        return Ok(());
    }
    let own = files.find(LOST_AND_FOUND.as_bytes()).filter(|n| n.directory && n.ino > JOURNAL_INO);
    let mut dir = LOST_AND_FOUND.to_owned();
    let parent = match own {
        Some(node) => node.ino,
        None => {
            while files.find(dir.as_bytes()).is_some() {
                dir.push('~');
            }
            objects.create(ROOT_INO, dir.as_bytes(), InodeKind::Directory, objects.time, pfs.geometry.version >= 2)?
        }
    };
    for ino in nameless {
        let mut name = format!("ino-{ino}");
        while own.is_some_and(|n| n.children.iter().any(|c| c.name == name.as_bytes())) {
            name.push('~');
        }
        objects.link(parent, name.as_bytes(), ino)?;
        if made {
            tree(files, ino, objects)?;
        }
        done.lost_and_found.push(format!("/{dir}/{name}"));
    }
    Ok(())
}

/// The metadata of one chunk. A free object that is whole stays as it is: it may still name what it belonged to.
fn area<S: ImageSink>(pfs: &Pfs, objects: &Objects, chunk: u64, sink: &mut S, done: &mut Repaired) -> Result<()> {
    let start = chunk.saturating_mul(CHUNK).saturating_add(META_START);
    let (old, _) = read_around(pfs.device.blob().as_ref(), start..start.saturating_add(META_LEN));
    let mut old = old.chunks_exact(OBJECT_LEN);
    let mut area = Vec::with_capacity(usize::try_from(META_LEN).unwrap_or(0));
    for kind in Kind::ALL {
        for index in 0..kind.per_chunk() {
            let number = kind.number(chunk, index);
            let before = old.next().and_then(|b| b.first_chunk()).map_or(Object::ZERO, |b| Object::from_bytes(*b));
            let keep = !objects.holds(kind, number) && !before.used() && before.check(kind, number).is_ok();
            let object = if keep { before } else { objects.at(kind, number) };
            done.objects = done.objects.saturating_add(u64::from(object != before));
            area.extend_from_slice(object.as_bytes());
        }
    }
    sink.write_at(start, &area).map_err(failed)
}

/// A record that says: all is in place.
fn leader(pfs: &Pfs) -> Leader {
    let old = pfs.leader.record().copied();
    let or = |value: u64, usual: u64| if value == 0 { usual } else { value };
    let (txid, offset, lsn) = old.map_or((0, 0, 0), |l| (l.head_txid, l.head_offset, l.head_lsn));
    Leader {
        num_hosts: or(old.map_or(0, |l| l.num_hosts), 30),
        max_hosts: or(old.map_or(0, |l| l.max_hosts), 254),
        tail_txid: txid,
        head_txid: txid,
        tail_offset: offset,
        head_offset: offset,
        log_size: pfs.ring.size,
        head_lsn: lsn,
    }
}

/// Copies the device into a new file: by reflink where the file system can, else only what is not zero.
///
/// Returns the bytes that could not be read; they are zero in the copy.
///
/// # Errors
///
/// When the copy cannot be written, or the caller asked to stop.
pub fn copy_device(pfs: &Pfs, to: &File, cx: &Context) -> Result<u64> {
    const STEP: u64 = 4 << 20;
    const RUN: usize = 64 << 10;
    let blob = pfs.device.blob();
    let end = blob.len().min(pfs.geometry.bytes());
    let file = blob.local_path().and_then(|p| File::open(p).ok());
    if let Some(file) = &file
        && rustix::fs::ioctl_ficlone(to, file).is_ok()
    {
        return Ok(0);
    }
    cx.progress.begin("copy", end);
    let (mut at, mut lost) = (0, 0u64);
    while at < end {
        cx.cancelled()?;
        let data = file.as_ref().map_or(at..end, |f| next_data(f, at, end));
        if data.is_empty() {
            break;
        }
        at = data.start;
        while at < data.end {
            cx.cancelled()?;
            let next = at.saturating_add(STEP).min(data.end);
            let (bytes, missing) = read_around(blob.as_ref(), at..next);
            lost = missing.iter().fold(lost, |n, r| n.saturating_add(r.end.saturating_sub(r.start)));
            for (run, i) in bytes.chunks(RUN).zip(0u64..) {
                if run.iter().any(|b| *b != 0) {
                    to.write_all_at(run, at.saturating_add(i.saturating_mul(RUN as u64))).map_err(failed)?;
                }
            }
            cx.progress.advance(next.saturating_sub(at));
            blob.done_with(at..next);
            at = next;
        }
    }
    Ok(lost)
}

/// The next stretch of a sparse file that holds data; all of it where the file system does not tell.
fn next_data(file: &File, at: u64, end: u64) -> std::ops::Range<u64> {
    use rustix::fs::{SeekFrom, seek};
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) if start >= end => end..end,
        Ok(start) => start..seek(file, SeekFrom::Hole(start)).unwrap_or(end).clamp(start.saturating_add(1), end),
        Err(e) if e == rustix::io::Errno::NXIO => end..end,
        Err(_) => at..end,
    }
}

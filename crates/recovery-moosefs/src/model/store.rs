//! From a [`Model`] to the bytes of a metadata file, in the order and versions of the product.
//!
//! Nodes, names and chunks are encoded in parallel, in segments that are written in order; nothing is held twice.

use std::io::{self, Write};

use rayon::prelude::*;

use crate::dialect::Dialect;
use crate::format::attr::XattrRecord;
use crate::format::crc::{CrcFile, Pieces, frame, piece};
use crate::format::edge::EdgeRecord;
use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};
use crate::format::node::{Extra, Kind, NodeHead, NodeRecord};
use crate::format::outer::{Header, SectionHead, Signature, TRAILER};
use crate::format::sclass::{Class, ClassTable, EXPRESSION, Rules};
use crate::format::session::SessionHead;
use crate::format::small::{ChunkRecord, FreeRecord, PatternRecord, QuotaRecord};
use crate::format::{Put, narrow};

use super::arena::NONE;
use super::{Model, hash32};

/// Items encoded by one task.
const SEGMENT: usize = 1 << 14;
/// Items whose memory is waited for together.
const AHEAD: usize = 32;
/// Tasks in flight.
const WINDOW: usize = 8;

/// Versions of the sections a product writes.
struct Versions {
    session: u8,
    class: u8,
    node: u8,
    edge: u8,
    quota: u8,
    acl: u8,
    server: u8,
    chunk: u8,
}

const fn versions(d: Dialect) -> Versions {
    match d {
        Dialect::V16 => {
            Versions { session: 0, class: 0, node: 0x10, edge: 0x10, quota: 0x10, acl: 0, server: 0, chunk: 0x10 }
        }
        Dialect::V2 => Versions {
            session: 0x12,
            class: 0,
            node: 0x13,
            edge: 0x11,
            quota: 0x10,
            acl: 0x10,
            server: 0x12,
            chunk: 0x10,
        },
        Dialect::V3 => Versions {
            session: 0x15,
            class: 0x16,
            node: 0x14,
            edge: 0x11,
            quota: 0x11,
            acl: 0x11,
            server: 0x13,
            chunk: 0x11,
        },
        Dialect::V4 => Versions {
            session: 0x16,
            class: 0x1C,
            node: 0x14,
            edge: 0x11,
            quota: 0x11,
            acl: 0x11,
            server: 0x13,
            chunk: 0x12,
        },
    }
}

/// What storing needs to know beside the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreOptions {
    /// The clock: 1.6, 2.x and 3.x write chunk locks that have run out as 0.
    pub now: u32,
}

struct Sink<'w> {
    out: &'w mut (dyn Write + Send),
    entries: Vec<([u8; 4], u32)>,
}

/// Encoded records, with the checksums of their pieces.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: Pieces,
    from: usize,
}

impl Buffer {
    /// Ends a piece: what was appended since the last end was one write of the original program.
    #[inline]
    pub(super) fn cut(&mut self) {
        if let Some(part) = self.bytes.get(self.from..) {
            self.pieces.add(part);
        }
        self.from = self.bytes.len();
    }

    pub(super) fn cut_if_any(&mut self) {
        if self.bytes.len() > self.from {
            self.cut();
        }
    }

    /// Ends the pieces of a record at several places, counted from where the last piece ended.
    #[inline]
    pub(super) fn cut_at(&mut self, lengths: &[usize]) {
        for n in lengths {
            let end = self.from.saturating_add(*n);
            if let Some(part) = self.bytes.get(self.from..end).filter(|p| !p.is_empty()) {
                self.pieces.add(part);
            }
            self.from = end;
        }
        self.cut_if_any();
    }

    pub(super) fn zeros(&mut self, n: usize) {
        let end = self.bytes.len().saturating_add(n);
        self.bytes.resize(end, 0);
        self.cut();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.from = 0;
    }
}

impl Sink<'_> {
    fn small(&mut self, name: [u8; 4], version: u8, b: &Buffer) -> io::Result<()> {
        let length = b.bytes.len() as u64;
        self.out.write_all(&SectionHead { name, version, length }.encode())?;
        self.out.write_all(&b.bytes)?;
        self.entries.push((name, b.pieces.value() ^ frame(name, version, length)));
        Ok(())
    }
}

/// Writes segments encoded in parallel, in order, while the next ones are encoded; the exclusive or of their sums.
///
/// Items lie anywhere in memory; `touch` reads something of each, for a group of them at once, before they are encoded.
fn segments<T: Sync>(
    out: &mut (dyn Write + Send),
    items: &[T],
    touch: impl Fn(&T) -> u32 + Sync,
    encode: impl Fn(&T, &mut Buffer) + Sync,
) -> io::Result<u32> {
    let fresh = || (0..WINDOW).map(|_| Buffer::default()).collect::<Vec<Buffer>>();
    let (mut ready, mut next) = (fresh(), fresh());
    for window in items.chunks(SEGMENT * WINDOW).chain([&[][..]]) {
        let (written, ()) = rayon::join(
            || ready.iter().filter(|b| !b.bytes.is_empty()).try_for_each(|b| out.write_all(&b.bytes)),
            || {
                let parts = window.par_chunks(SEGMENT).map(Some).chain(rayon::iter::repeat_n(None, WINDOW));
                next.par_iter_mut().zip(parts).for_each(|(b, part)| {
                    b.clear();
                    for group in part.unwrap_or_default().chunks(AHEAD) {
                        std::hint::black_box(group.iter().fold(0, |x, item| x ^ touch(item)));
                        for item in group {
                            encode(item, b);
                        }
                    }
                });
            },
        );
        written?;
        std::mem::swap(&mut ready, &mut next);
    }
    let mut all = Pieces::default();
    for b in ready.iter().chain(&next) {
        all.merge(&b.pieces);
    }
    Ok(all.value())
}

/// Bucket of an attribute in 2.x: `xattr.c` (`xattr_data_hash_fn`).
fn xattr_bucket(inode: u32, name: &[u8]) -> u32 {
    let start = inode.wrapping_mul(5381);
    name.iter().fold(start, |h, &b| h.wrapping_mul(33).wrapping_add(u32::from(b))) & 0x7_FFFF
}

impl Model {
    /// Builds what a newer program makes of classes that the file does not hold.
    pub(crate) fn upgrade_classes(&mut self, outline: &super::load::Outline) {
        let goals = outline.section(b"SCLA").is_none() && outline.section(b"LABS").is_none();
        if self.dialect != Dialect::V4 || !goals || outline.dialect == Some(Dialect::V4) {
            return;
        }
        for class in super::classes::Classes::before_load(Dialect::V3).table.iter().flatten() {
            self.classes.put(super::classes::upgrade(class));
        }
    }

    /// Writes the state as the product of its dialect would, and tells the checksums of its sections.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn store(&self, out: &mut (dyn Write + Send), options: StoreOptions) -> io::Result<CrcFile> {
        if self.dialect.is_flat() {
            self.store_flat(out, options)?;
            return Ok(CrcFile::default());
        }
        let v = versions(self.dialect);
        let mut sink = Sink { out, entries: Vec::new() };
        let signature = Signature::Version(0x20).encode();
        let mut head = Vec::new();
        Header { version: self.version, metaid: self.metaid, max_inode: 0, next_session: 0 }.encode(0x20, &mut head);
        sink.out.write_all(&signature)?;
        sink.out.write_all(&head)?;
        sink.entries.push((*b"HEAD", piece(&signature) ^ piece(&head)));
        sink.small(*b"SESS", v.session, &self.session_bytes(v.session))?;
        if v.class != 0 {
            sink.small(*b"SCLA", v.class, &self.class_bytes(v.class))?;
        }
        if self.dialect == Dialect::V4 {
            sink.small(*b"PATT", 0x11, &self.pattern_bytes())?;
        }
        self.node_section(&mut sink, v.node)?;
        self.edge_section(&mut sink, v.edge)?;
        sink.small(*b"FREE", 0x10, &self.free_bytes())?;
        sink.small(*b"QUOT", v.quota, &self.quota_bytes(v.quota))?;
        sink.small(*b"XATR", 0x10, &self.xattr_bytes())?;
        sink.small(*b"PACL", v.acl, &self.acl_bytes())?;
        sink.small(*b"OPEN", 0x10, &self.open_bytes())?;
        if self.dialect.retention_in_hours() {
            let (flocks, plocks) = self.lock_bytes();
            sink.small(*b"FLCK", 0x10, &flocks)?;
            sink.small(*b"PLCK", 0x10, &plocks)?;
        }
        sink.small(*b"CSDB", v.server, &self.server_bytes(v.server))?;
        self.chunk_section(&mut sink, v.chunk, options)?;
        sink.out.write_all(TRAILER)?;
        sink.entries.push((*b"TAIL", piece(TRAILER)));
        let state = (self.dialect == Dialect::V4).then_some((self.version, self.metaid));
        Ok(CrcFile { state, entries: sink.entries })
    }

    fn store_flat(&self, out: &mut (dyn Write + Send), options: StoreOptions) -> io::Result<()> {
        let mut head = Vec::new();
        let header =
            Header { version: self.version, metaid: 0, max_inode: self.inodes.max, next_session: self.next_session };
        header.encode(0x15, &mut head);
        out.write_all(&Signature::Version(0x15).encode())?;
        out.write_all(&head)?;
        segments(out, &self.node_order(), |&s| self.nodes.get(s).inode, |&slot, b| self.encode_node(slot, 0x10, b))?;
        out.write_all(&[0])?;
        segments(out, &self.edge_order(), |&s| self.edges.get(s).child, |&slot, b| self.encode_edge(slot, 0x10, b))?;
        out.write_all(&[0; 10])?;
        out.write_all(&self.free_bytes().bytes)?;
        out.write_all(&self.chunks.next.to_be_bytes())?;
        segments(
            out,
            &self.chunk_order(),
            |&s| self.chunks.slots.get(s).version,
            |&slot, b| self.encode_chunk(slot, 0x10, options, b),
        )?;
        out.write_all(&[0; 16])
    }

    fn node_section(&self, sink: &mut Sink<'_>, version: u8) -> io::Result<()> {
        let (order, size) = self.nodes_by_bucket(|n| self.node_size(n, version));
        let length = size.saturating_add(9);
        let mut head = Vec::new();
        NodeHead { max_inode: self.inodes.max, count: narrow(order.len(), u32::MAX) }.encode(version, 0x20, &mut head);
        sink.out.write_all(&SectionHead { name: *b"NODE", version, length }.encode())?;
        sink.out.write_all(&head)?;
        let mut sum = piece(&head) ^ piece(&[0]);
        sum ^= segments(sink.out, &order, |&s| self.nodes.get(s).inode, |&slot, b| self.encode_node(slot, version, b))?;
        sink.out.write_all(&[0])?;
        sink.entries.push((*b"NODE", sum ^ frame(*b"NODE", version, length)));
        Ok(())
    }

    /// Length of the record of a node.
    #[inline]
    fn node_size(&self, n: &super::Node, version: u8) -> u64 {
        let Some(kind) = Kind::from_byte(n.kind) else { return 0 };
        let extra = match kind {
            Kind::Symlink if n.a != NONE => self.texts.get(n.a).len(),
            _ if n.is_file() => self.trimmed(n).len().saturating_mul(8),
            _ => 0,
        };
        NodeRecord::fixed_size(kind, version).saturating_add(extra) as u64
    }

    /// Chunk ids without the zeros at the end.
    fn trimmed(&self, n: &super::Node) -> &[u64] {
        let ids = self.chunk_ids(n);
        let len = ids.iter().rposition(|&c| c != 0).map_or(0, |p| p.saturating_add(1));
        ids.get(..len).unwrap_or_default()
    }

    #[inline]
    fn encode_node(&self, slot: u32, version: u8, b: &mut Buffer) {
        let n = self.nodes.get(slot);
        let Some(kind) = Kind::from_byte(n.kind) else { return };
        let extra = match kind {
            Kind::Block | Kind::Char => Extra::Device(if n.a == NONE { 0 } else { n.a }),
            Kind::Symlink => Extra::Path(if n.a == NONE { &[] } else { self.texts.get(n.a) }),
            Kind::File | Kind::Trash | Kind::Sustained => Extra::File { length: n.length, chunks: &[], sessions: &[] },
            Kind::Directory | Kind::Fifo | Kind::Socket => Extra::None,
        };
        let record = NodeRecord {
            kind,
            inode: n.inode,
            class: n.class,
            eattr: n.eattr,
            winattr: n.winattr,
            mode: n.mode,
            uid: n.uid,
            gid: n.gid,
            atime: n.atime,
            mtime: n.mtime,
            ctime: n.ctime,
            retention: n.retention,
            extra,
        };
        record.encode(version, &mut b.bytes);
        if !kind.is_file() {
            b.cut_at(&[NodeRecord::fixed_size(kind, version)]);
            return;
        }
        let ids = self.trimmed(n);
        let sessions = if self.dialect.is_flat() { self.locks.node_sessions(n.inode) } else { &[] };
        let counts = if version < 0x14 { 6 } else { 4 };
        let at = b.bytes.len().saturating_sub(counts);
        b.bytes.truncate(at);
        b.bytes.u32(narrow(ids.len(), u32::MAX));
        if version < 0x14 {
            b.bytes.u16(narrow(sessions.len(), u16::MAX));
        }
        b.cut();
        for part in ids.chunks(65_536) {
            for id in part {
                b.bytes.u64(*id);
            }
            b.cut();
        }
        for s in sessions.iter().take(usize::from(u16::MAX)) {
            b.bytes.u32(*s);
        }
    }

    fn edge_section(&self, sink: &mut Sink<'_>, version: u8) -> io::Result<()> {
        let order = self.edge_order();
        let size = if order.len() as u64 == self.edge_count {
            self.edge_bytes
        } else {
            order.par_iter().map(|&s| self.edge_text(self.edges.get(s)).len().saturating_add(18) as u64).sum()
        };
        let length = size.saturating_add(26);
        sink.out.write_all(&SectionHead { name: *b"EDGE", version, length }.encode())?;
        sink.out.write_all(&self.next_edge.to_be_bytes())?;
        let mut sum = piece(&self.next_edge.to_be_bytes()) ^ piece(&[0; 18]);
        sum ^= segments(sink.out, &order, |&s| self.edges.get(s).child, |&slot, b| self.encode_edge(slot, version, b))?;
        sink.out.write_all(&[0; 18])?;
        sink.entries.push((*b"EDGE", sum ^ frame(*b"EDGE", version, length)));
        Ok(())
    }

    #[inline]
    fn encode_edge(&self, slot: u32, version: u8, b: &mut Buffer) {
        let e = self.edges.get(slot);
        let r = EdgeRecord { parent: e.parent, child: e.child, id: e.id, name: self.edge_text(e) };
        r.encode(version, &mut b.bytes);
        b.cut();
    }

    fn chunk_section(&self, sink: &mut Sink<'_>, version: u8, options: StoreOptions) -> io::Result<()> {
        let order = self.chunk_order();
        let fixed = ChunkRecord::fixed_size(version) as u64;
        let mut size = (order.len() as u64).saturating_add(1).saturating_mul(fixed).saturating_add(8);
        if version >= 0x12 {
            size = size.saturating_add(
                order
                    .par_iter()
                    .map(|&s| {
                        let mut n = 0u64;
                        self.chunks.pairs(self.chunks.slots.get(s), |_, _| n = n.saturating_add(1));
                        n.saturating_mul(4).saturating_add(u64::from(n > 1))
                    })
                    .sum(),
            );
        }
        sink.out.write_all(&SectionHead { name: *b"CHNK", version, length: size }.encode())?;
        sink.out.write_all(&self.chunks.next.to_be_bytes())?;
        let zeros = vec![0; ChunkRecord::fixed_size(version)];
        let mut sum = piece(&self.chunks.next.to_be_bytes()) ^ piece(&zeros);
        sum ^= segments(
            sink.out,
            &order,
            |&s| self.chunks.slots.get(s).version,
            |&slot, b| self.encode_chunk(slot, version, options, b),
        )?;
        sink.out.write_all(&zeros)?;
        sink.entries.push((*b"CHNK", sum ^ frame(*b"CHNK", version, size)));
        Ok(())
    }

    #[inline]
    fn encode_chunk(&self, slot: u32, version: u8, options: StoreOptions, b: &mut Buffer) {
        let c = self.chunks.slots.get(slot);
        let mut pairs = [0u8; 4];
        let mut many = Vec::new();
        let mut n = 0usize;
        if version >= 0x12 {
            self.chunks.pairs(c, |class, count| {
                let [_, x, y, z] = count.to_be_bytes();
                if n == 0 {
                    pairs = [class, x, y, z];
                } else {
                    if n == 1 {
                        many.extend_from_slice(&pairs);
                    }
                    many.extend_from_slice(&[class, x, y, z]);
                }
                n = n.saturating_add(1);
            });
        }
        let pairs: &[u8] = match n {
            0 => &[],
            1 => &pairs,
            _ => &many,
        };
        let clears = self.dialect != Dialect::V4;
        let locked = if clears && c.locked < options.now { 0 } else { c.locked };
        let r = ChunkRecord { id: c.id, version: c.version, locked, flags: c.flags, pairs, class: c.class };
        r.encode(version, &mut b.bytes);
        b.cut_at(&[ChunkRecord::fixed_size(version)]);
    }

    fn session_bytes(&self, version: u8) -> Buffer {
        let mut b = Buffer::default();
        let head = SessionHead { layout: version, next: self.next_session, counters: self.session_counters };
        head.encode(version, &mut b.bytes);
        b.cut();
        let mut all: Vec<_> = self.sessions.values().collect();
        all.sort_unstable_by_key(|(seq, s)| (s.id % 256, std::cmp::Reverse(*seq)));
        for (_, s) in all {
            let fixed = b.bytes.len().saturating_add(head.record_size());
            s.encode(&head, &mut b.bytes);
            let info = b.bytes.split_off(fixed.min(b.bytes.len()));
            b.cut();
            b.bytes.extend_from_slice(&info);
            b.cut_if_any();
        }
        b.zeros(head.record_size());
        b
    }

    fn class_bytes(&self, version: u8) -> Buffer {
        let four = self.dialect == Dialect::V4;
        let classes: Vec<Class> = self
            .classes
            .table
            .iter()
            .flatten()
            .filter(|c| matches!(c.rules, Rules::Expressions { .. }) == four)
            .cloned()
            .collect();
        let width = if four { narrow(EXPRESSION, u16::MAX) } else { 4 };
        let table = ClassTable { descriptions: Vec::new(), width, ec_version: self.classes.ec_version, classes };
        let mut b = Buffer::default();
        let mut ends = Vec::new();
        table.encode(version, &mut b.bytes, |end| ends.push(end));
        let mut from = 0;
        for end in ends {
            b.pieces.add(b.bytes.get(from..end).unwrap_or_default());
            from = end;
        }
        b
    }

    fn pattern_bytes(&self) -> Buffer {
        let mut b = Buffer::default();
        for (p, _) in &self.classes.patterns {
            p.encode(0x11, &mut b.bytes);
            b.cut();
        }
        b.bytes.extend_from_slice(&PatternRecord::END);
        b.cut();
        b
    }

    fn free_bytes(&self) -> Buffer {
        let mut b = Buffer::default();
        b.bytes.u32(narrow(self.inodes.free.len(), u32::MAX));
        b.cut();
        let block = if self.dialect == Dialect::V3 { 1024 } else { 1 };
        for (i, &(inode, time)) in self.inodes.free.iter().enumerate() {
            FreeRecord { inode, time }.encode(&mut b.bytes);
            if i % block == block - 1 {
                b.cut();
            }
        }
        b.cut_if_any();
        b
    }

    fn quota_bytes(&self, version: u8) -> Buffer {
        let mut b = Buffer::default();
        b.bytes.u32(narrow(self.quotas.len(), u32::MAX));
        b.cut();
        let mut all: Vec<&(u64, QuotaRecord)> = self.quotas.values().collect();
        all.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        for (_, q) in all {
            q.encode(version, &mut b.bytes);
            b.cut();
        }
        b
    }

    fn xattr_bytes(&self) -> Buffer {
        let mut b = Buffer::default();
        let mut all: Vec<_> = self
            .xattrs
            .iter()
            .flat_map(|(inode, x)| x.list.iter().zip(0u32..).map(|(a, i)| (*inode, x.seq, i, a)))
            .collect();
        if self.dialect == Dialect::V2 {
            // 2.x walks the attributes of all nodes by buckets of their own
            all.sort_unstable_by_key(|(inode, _, _, x)| (xattr_bucket(*inode, x.name()), std::cmp::Reverse(x.seq)));
        } else {
            all.sort_unstable_by_key(|(inode, seq, i, _)| (inode & 0xF_FFFF, std::cmp::Reverse(*seq), *i));
        }
        for (inode, _, _, x) in all {
            XattrRecord { inode, name: x.name(), value: x.value() }.encode(&mut b.bytes);
            b.cut_at(&[XattrRecord::FIXED, x.name().len()]);
        }
        b.zeros(XattrRecord::FIXED);
        b
    }

    fn acl_bytes(&self) -> Buffer {
        let mut b = Buffer::default();
        let mut all: Vec<_> = self.acls.iter().collect();
        let bucket = |inode: u32, kind: u8| inode.wrapping_mul(0x56BF_7623).wrapping_add(u32::from(kind)) & 0xF_FFFF;
        all.sort_unstable_by_key(|(key, acl)| (bucket(key.0, key.1), std::cmp::Reverse(acl.0)));
        for (_, (_, acl)) in all {
            acl.encode(&mut b.bytes);
            b.cut_at(&[crate::format::attr::AclRecord::FIXED]);
        }
        b.zeros(crate::format::attr::AclRecord::FIXED);
        b
    }

    fn open_bytes(&self) -> Buffer {
        let mut b = Buffer::default();
        for r in self.locks.open_records() {
            r.encode(&mut b.bytes);
            b.cut();
        }
        b.zeros(OpenRecord::SIZE);
        b
    }

    fn lock_bytes(&self) -> (Buffer, Buffer) {
        let (mut f, mut p) = (Buffer::default(), Buffer::default());
        for r in self.locks.flock_records() {
            r.encode(&mut f.bytes);
            f.cut();
        }
        f.zeros(FlockRecord::SIZE);
        for r in self.locks.plock_records() {
            r.encode(&mut p.bytes);
            p.cut();
        }
        p.zeros(PlockRecord::SIZE);
        (f, p)
    }

    fn server_bytes(&self, version: u8) -> Buffer {
        let mut b = Buffer::default();
        b.bytes.u32(narrow(self.servers.len(), u32::MAX));
        b.cut();
        let mut all: Vec<_> = self.servers.iter().collect();
        all.sort_by_key(|(seq, s)| (hash32(s.ip ^ (u32::from(s.port) << 16)) % 256, std::cmp::Reverse(*seq)));
        for (_, s) in all {
            s.encode(version, &mut b.bytes);
            b.cut();
        }
        b
    }
}

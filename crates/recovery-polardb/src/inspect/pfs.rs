//! Everything that a PFS disk says about itself: findings, what the engine would do with it, and what is
//! known of each byte.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use recovery_core::{
    Check, Class, Context, Coverage, Finding, IfStarted, Report, ReportBuilder, Result, Severity, Sources, parallel,
};
use serde_json::{Value, json};

use crate::PfsSource;
use crate::codes::pfs as codes;
use crate::format::pfs::object::{Kind, OBJECT_LEN, ObjectFault};
use crate::format::pfs::{BLOCK, CHUNK, HEADER_LEN, LEADER_AT, LEADER_LEN, META_LEN, META_START, block_address};
use crate::model::pfs::Node;
use crate::reader::pfs::{ChunkState, Item, LeaderState, Pfs, PfsFile, Tracker, Watch, pass};

/// Name of the engine, as in every report.
pub const ENGINE: &str = "polardb";

/// The value of `facts.pfs`: version, chunks, head and tail of the journal, and what the tree holds.
///
/// `files`, `directories` and `bytes` count what a listing of the whole tree shows, the engine's own two files included.
#[must_use]
pub fn facts(pfs: &Pfs) -> Value {
    let leader = pfs.leader.record();
    let (files, directories, bytes) = pfs.files.totals();
    let state = match pfs.leader {
        LeaderState::Good(_) => "good",
        LeaderState::Corrected(..) => "corrected",
        LeaderState::Rebuilt(_) => "rebuilt",
        LeaderState::Lost => "lost",
    };
    json!({
        "version": pfs.geometry.version,
        "version_known": pfs.geometry.version_known,
        "chunks": pfs.geometry.chunks,
        "device_bytes": pfs.device.len(),
        "head_txid": leader.map_or(0, |l| l.head_txid),
        "tail_txid": leader.map_or(0, |l| l.tail_txid),
        "head_lsn": leader.map_or(0, |l| l.head_lsn),
        "leader": state,
        "log_size": pfs.ring.size,
        "live_entries": leader.map_or(0, crate::format::pfs::Leader::live_entries),
        "replayed_entries": pfs.replayed.entries,
        "files": files,
        "directories": directories,
        "bytes": bytes,
        "orphans": pfs.files.orphans.len(),
        "unreachable": pfs.files.unreachable.len(),
    })
}

/// The inspection of one disk: first its structure, then whatever reads its files, then the data nobody read.
#[derive(Debug)]
pub struct Inspection<'a> {
    source: &'a PfsSource,
    number: u16,
    coverage: Coverage,
    /// What was read so far.
    tracker: Arc<Tracker>,
    covered: BTreeSet<u64>,
}

impl<'a> Inspection<'a> {
    /// Looks at the structure and adds what there is to say of it.
    #[must_use]
    pub fn begin(source: &'a PfsSource, number: u16, out: &mut ReportBuilder) -> Self {
        let pfs = source.pfs();
        out.findings(pfs.findings.iter().cloned().map(|f| f.source(number)));
        for action in if_started(pfs) {
            out.if_started(action);
        }
        let (coverage, tracker) = (structure(pfs), Arc::new(Tracker::default()));
        Self { source, number, coverage, tracker, covered: BTreeSet::new() }
    }

    /// The files of the disk; what is read through this source is not read again by [`finish`](Self::finish).
    #[must_use]
    pub fn files(&self) -> PfsSource {
        self.source.tracked(&self.tracker)
    }

    /// Takes over what is known of the bytes of a file.
    pub fn cover(&mut self, name: &str, known: &Coverage) {
        let Some(node) = self.source.pfs().files.find(name.as_bytes()).filter(|n| !is_own(n)) else { return };
        self.covered.insert(node.ino);
        let file = self.source.file(node, name);
        for (range, class) in known.ranges() {
            for place in on_device(&file, &range) {
                self.coverage.mark(place, class);
            }
        }
    }

    /// Reads the data that nobody read yet (with [`Check::Full`]), each byte once, and accounts for every byte.
    ///
    /// # Errors
    ///
    /// That the caller asked to stop.
    pub fn finish(mut self, watch: Option<&dyn Watch>, cx: &Context, out: &mut ReportBuilder) -> Result<Value> {
        let pfs = self.source.pfs();
        if cx.check == Check::Full {
            self.read_data(watch, cx, out)?;
        } else {
            out.incomplete();
            let rest = pfs.files.nodes.values().filter(|n| !is_own(n) && !self.covered.contains(&n.ino));
            for range in rest.flat_map(data_of) {
                self.coverage.mark(range, Class::Unread);
            }
        }
        out.object(self.number, pfs.device.name(), "pfs", self.coverage);
        Ok(facts(pfs))
    }

    fn read_data(&mut self, watch: Option<&dyn Watch>, cx: &Context, out: &mut ReportBuilder) -> Result<()> {
        let pfs = self.source.pfs();
        let nodes = in_device_order(pfs);
        let total = nodes.iter().map(|n| n.extents.len() as u64).fold(0, u64::saturating_add).saturating_mul(BLOCK);
        cx.progress.begin("read files", total);
        let done = parallel::map(cx, &nodes, |_, node| {
            let path = String::from_utf8_lossy(&pfs.files.path(node.ino)).into_owned();
            let file = self.source.file(node, &path);
            let missing = match watch.and_then(|w| w.open(&path, node.size)) {
                Some(w) => pass(&file, Some(w), &mut |_: Item<'_>| Ok(()), cx).map(|outcome| outcome.missing),
                None => read_rest(&file, &self.tracker, pfs, cx),
            };
            cx.progress.advance((node.extents.len() as u64).saturating_mul(BLOCK));
            missing.map(|missing| (path, file, missing))
        })?;
        for result in done {
            let (path, file, missing) = result?;
            for range in missing {
                for place in on_device(&file, &range) {
                    self.coverage.mark(place, Class::Unread);
                }
                // Behind the end of the device: told when the disk was opened.
                if file.behind_device() == 0 {
                    let lost = len_of(&range);
                    let finding = Finding::new(&codes::DATA_MISSING, Severity::Lost, &path).source(self.number);
                    let finding = finding.at(range.start, lost).summary(format!("{lost} bytes cannot be read"));
                    out.finding(finding.effect(1, lost));
                }
            }
        }
        Ok(())
    }
}

/// Reads what was not read of a file; gives the ranges of the file that cannot be read.
fn read_rest(file: &PfsFile, tracker: &Tracker, pfs: &Pfs, cx: &Context) -> Result<Vec<Range<u64>>> {
    const STEP: u64 = 1 << 20;
    let device = pfs.device.blob();
    let mut missing: Vec<Range<u64>> = Vec::new();
    let mut buf = Vec::new();
    for segment in file.segments() {
        let Some(start) = segment.device else { continue };
        let to_file = |at: u64| segment.file.start.saturating_add(at.saturating_sub(start));
        for gap in tracker.left(&(start..start.saturating_add(len_of(&segment.file)))) {
            let mut at = gap.start;
            while at < gap.end {
                cx.cancelled()?;
                let next = at.saturating_add(STEP).min(gap.end);
                buf.resize(usize::try_from(next.saturating_sub(at)).unwrap_or(0), 0);
                if device.read_exact_at(at, &mut buf).is_err() {
                    let mut bad = recovery_core::read_around(device.as_ref(), at..next).1;
                    if at.max(device.len()) < next {
                        bad.push(at.max(device.len())..next);
                    }
                    for range in bad {
                        let range = to_file(range.start)..to_file(range.end);
                        match missing.last_mut() {
                            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                            _ => missing.push(range),
                        }
                    }
                }
                at = next;
            }
        }
    }
    Ok(missing)
}

/// Where a range of a file lies on the device.
fn on_device(file: &PfsFile, range: &Range<u64>) -> Vec<Range<u64>> {
    let touching = file.segments().iter().filter(|s| s.file.start < range.end && range.start < s.file.end);
    touching
        .filter_map(|s| {
            let (a, b) = (range.start.max(s.file.start), range.end.min(s.file.end));
            let at = s.device?.saturating_add(a.saturating_sub(s.file.start));
            Some(at..at.saturating_add(b.saturating_sub(a)))
        })
        .collect()
}

/// Looks at a mounted disk and adds what there is to say; returns [`facts`].
///
/// With [`Check::Full`] the data of all files is read too: `watch` sees it go by, in parallel, each byte once.
///
/// # Errors
///
/// That the caller asked to stop.
pub fn inspect(
    source: &PfsSource,
    number: u16,
    watch: Option<&dyn Watch>,
    cx: &Context,
    out: &mut ReportBuilder,
) -> Result<Value> {
    Inspection::begin(source, number, out).finish(watch, cx, out)
}

/// A report on the file system alone.
///
/// # Errors
///
/// That the caller asked to stop.
pub fn verify(sources: &Sources, source: &PfsSource, cx: &Context) -> Result<Report> {
    let mut out = ReportBuilder::new(ENGINE, sources, cx.limits.findings);
    let facts = inspect(source, 0, None, cx, &mut out)?;
    out.facts(json!({ "pfs": facts }));
    Ok(out.finish())
}

/// The exit code that the findings about the file system alone call for: 0, 3 or 4.
#[must_use]
pub fn exit(pfs: &Pfs) -> u8 {
    match pfs.findings.iter().map(|f| f.severity).max() {
        None | Some(Severity::Note) => 0,
        Some(Severity::Suspect | Severity::Damaged) => 3,
        Some(Severity::Lost) => 4,
    }
}

fn len_of(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// What is known of headers, metadata, leader record and journal. What belongs to nothing is free.
fn structure(pfs: &Pfs) -> Coverage {
    let mut coverage = Coverage::new(pfs.device.len());
    coverage.mark(0..pfs.device.len(), Class::Free);
    for chunk in 0..pfs.geometry.present {
        mark_chunk(pfs, chunk, &mut coverage);
    }
    let leader = match pfs.leader {
        LeaderState::Good(_) => Class::Verified,
        _ => Class::Damaged,
    };
    coverage.mark(LEADER_AT..LEADER_AT.saturating_add(LEADER_LEN as u64), leader);
    for range in &pfs.replayed.applied {
        coverage.mark(range.clone(), Class::Verified);
    }
    for range in &pfs.metadata.unread {
        coverage.mark(range.clone(), Class::Unread);
    }
    for (code, class) in [(codes::ENTRY, Class::Damaged), (codes::UNREAD, Class::Unread)] {
        for finding in pfs.findings.iter().filter(|f| f.code == code.code) {
            if let (Some(at), Some(len)) = (finding.offset, finding.length) {
                coverage.mark(at..at.saturating_add(len), class);
            }
        }
    }
    for range in data_ranges(pfs) {
        coverage.mark(range, Class::Parsed);
    }
    coverage
}

fn mark_chunk(pfs: &Pfs, chunk: u64, coverage: &mut Coverage) {
    let base = chunk.saturating_mul(CHUNK);
    let bad = pfs.geometry.regenerated.contains(&chunk);
    let header = if bad { Class::Damaged } else { Class::Verified };
    coverage.mark(base..base.saturating_add(HEADER_LEN as u64), header);
    let start = base.saturating_add(META_START);
    let class = match pfs.metadata.without.get(&chunk) {
        None | Some(ChunkState::Loaded) => Class::Verified,
        Some(ChunkState::Blank) => Class::Damaged,
        Some(ChunkState::Missing) => Class::Unread,
    };
    if class != Class::Verified {
        coverage.mark(start..start.saturating_add(META_LEN), class);
        return;
    }
    let object = OBJECT_LEN as u64;
    let mut at = start;
    let numbers = |kind: Kind| kind.number(chunk, 0)..kind.number(chunk.saturating_add(1), 0);
    for kind in Kind::ALL {
        for (number, bad) in pfs.metadata.table(kind).bad.range(numbers(kind)) {
            let Some(place) = kind.address(*number) else { continue };
            coverage.mark(at..place, Class::Verified);
            at = place.saturating_add(object);
            let class = if bad.fault == ObjectFault::Unread { Class::Unread } else { Class::Damaged };
            coverage.mark(place..at, class);
        }
    }
    coverage.mark(at..start.saturating_add(META_LEN), Class::Verified);
}

/// Device ranges that hold data of files, orphans and what is unreachable included; not the engine's own two files.
fn data_ranges(pfs: &Pfs) -> impl Iterator<Item = Range<u64>> + '_ {
    pfs.files.nodes.values().filter(|n| !is_own(n)).flat_map(data_of)
}

fn data_of(node: &Node) -> impl Iterator<Item = Range<u64>> + '_ {
    node.extents.iter().filter_map(|e| {
        let at = block_address(e.block)?;
        Some(at..at.checked_add(e.written.min(BLOCK))?)
    })
}

fn is_own(node: &Node) -> bool {
    node.directory || node.ino <= crate::format::pfs::JOURNAL_INO
}

/// The files of a disk in the order in which they lie on it, the engine's own two left out.
#[must_use]
pub fn in_device_order(pfs: &Pfs) -> Vec<&Node> {
    let mut nodes: Vec<&Node> = pfs.files.nodes.values().filter(|n| !is_own(n)).collect();
    nodes.sort_by_key(|n| n.extents.first().map(|e| e.block));
    nodes
}

/// What the engine's own tools and daemon would do with this disk.
fn if_started(pfs: &Pfs) -> Vec<IfStarted> {
    let mut out = Vec::new();
    let name = pfs.device.name();
    let mut refuse = |why: &str| out.push(IfStarted::new("refuses", name, why));
    if !pfs.geometry.regenerated.is_empty() {
        refuse("a chunk header is damaged: the mount fails with \"Make sure mkfs has run\"; do not run mkfs");
    }
    if !matches!(pfs.leader, LeaderState::Good(_)) {
        refuse("the leader record is damaged: the mount fails");
    }
    let bad = Kind::ALL.iter().flat_map(|k| pfs.metadata.table(*k).bad.values());
    let aborting = bad.filter(|b| !matches!(b.fault, ObjectFault::Absent | ObjectFault::Unread)).count();
    if aborting > 0 {
        refuse(&format!(
            "{aborting} metadata objects have a wrong checksum: the mount aborts, whether they are used or not"
        ));
    }
    let entries = pfs.findings.iter().filter(|f| f.code == codes::ENTRY.code).count();
    if entries > 0 {
        refuse("an entry of the live journal is damaged: the mount aborts");
    }
    if pfs.garbage_behind_head > 0 {
        refuse(
            "damaged entries stand right behind the head of the journal: the mount aborts, although they mean nothing",
        );
    }
    if pfs.findings.iter().any(|f| f.code == codes::LIST.code) {
        refuse("a list of names or blocks is broken: looking up a path hangs or aborts");
    }
    for node in pfs.files.orphans.iter().filter_map(|ino| pfs.files.node(*ino)) {
        let object = format!("inode {}", node.ino);
        let why = "a deleted file that is still whole is released at the next read-write mount";
        out.push(IfStarted::new("deletes", object, why).loses(1, node.size));
    }
    out
}

//! Opening a disk: everything a mount does, in memory, around whatever is damaged.

mod report;

use std::sync::Arc;

use recovery_core::{Blob, Context, Error, Evidence, Finding, LockHolder, Reading, Result, Severity};

use super::behind;
use super::copies::{Copy, differ};
use super::device::Device;
use super::geometry::Geometry;
use super::heal;
use super::live::live_writer;
use super::metadata::{ChunkState, Metadata, Origin};
use super::rebuild;
use super::replay::{self, Live, Replayed};
use super::ring::Ring;
use crate::codes::pfs as codes;
use crate::format::pfs::object::Kind;
use crate::format::pfs::{BLOCK, CHUNK, ENTRY_LEN, JOURNAL_INO, LEADER_AT, LEADER_LEN, Leader, VERSION_MAX};
use crate::model::pfs::{FileSystem, build};

/// Size of a journal unless `mkfs` was told otherwise.
const DEFAULT_JOURNAL: u64 = 1 << 30;
/// More findings of one kind than this are joined into one.
const MOST_FINDINGS: usize = 10_000;

/// How a disk is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Also applies complete transactions behind the head: for a leader record that is older than the journal.
    pub forward: bool,
}

/// What is known of the leader record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderState {
    /// Whole.
    Good(Leader),
    /// One bit was wrong.
    Corrected(Leader, usize),
    /// Gone; head and tail come from the journal's own order.
    Rebuilt(Leader),
    /// Gone, and the journal holds no transaction.
    Lost,
}

impl LeaderState {
    /// The record, read or rebuilt.
    #[must_use]
    pub fn record(&self) -> Option<&Leader> {
        match self {
            Self::Good(l) | Self::Corrected(l, _) | Self::Rebuilt(l) => Some(l),
            Self::Lost => None,
        }
    }
}

/// A PFS disk, opened.
#[derive(Clone, Debug)]
pub struct Pfs {
    /// The device.
    pub device: Device,
    /// Size and version.
    pub geometry: Geometry,
    /// Leader record.
    pub leader: LeaderState,
    /// Place of the journal.
    pub ring: Ring,
    /// What replay did.
    pub replayed: Replayed,
    /// Objects as replay and healing left them.
    pub metadata: Metadata,
    /// The tree.
    pub files: FileSystem,
    /// What is wrong with the disk.
    pub findings: Vec<Finding>,
    /// A process on this machine that has the device mounted.
    pub live: Option<LockHolder>,
    /// Damaged entries that the engine would abort on, although they lie behind the head.
    pub garbage_behind_head: u64,
}

impl Pfs {
    /// Opens a disk, an image, or what is left of one.
    ///
    /// With [`Reading::Strict`] replay stops before a transaction that holds an entry damaged beyond correction; with
    /// [`Reading::Salvage`] the entry is left out. Everything else is the same, and everything wrong is a finding.
    ///
    /// # Errors
    ///
    /// When nothing on the device is PFS, or its version is not known.
    pub fn open(blob: Arc<dyn Blob>, options: OpenOptions, cx: &Context) -> Result<Self> {
        Self::open_copies(vec![Copy::new(blob, cx.mapfile.as_deref())], options, cx)
    }

    /// Opens a disk of which there are several copies; the first rules. What it lacks, and metadata that it holds
    /// damaged, comes from the others, as long as they show the same moment of the same disk.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_copies(copies: Vec<Copy>, options: OpenOptions, cx: &Context) -> Result<Self> {
        let mut findings = Vec::new();
        let mut same: Vec<Copy> = Vec::new();
        for copy in copies {
            let why = same.first().and_then(|first| differ(first, &copy));
            match why {
                None => same.push(copy),
                Some(why) => {
                    let finding = Finding::new(&codes::OTHER_STATE, Severity::Note, copy.blob().name());
                    findings.push(finding.summary(why));
                }
            }
        }
        let mut opening = Opening { cx, options, findings, device: Device::of_copies(same) };
        opening.run()
    }
}

struct Opening<'a> {
    cx: &'a Context,
    options: OpenOptions,
    device: Device,
    findings: Vec<Finding>,
}

impl Opening<'_> {
    fn run(&mut self) -> Result<Pfs> {
        if let Some(joined) = self.device.joined() {
            let taken = joined.mend_metadata(self.device.len().div_ceil(CHUNK).min(1 << 20));
            self.taken(taken, "headers, leader records and metadata objects");
        }
        let mut geometry = Geometry::find(&self.device, &mut self.findings);
        if geometry.version > VERSION_MAX {
            let what =
                format!("{}: PFS version {}, the newest known is {VERSION_MAX}", self.device.name(), geometry.version);
            return Err(Error::unsupported(what));
        }
        let leader = self.leader();
        let mut metadata = Metadata::load(&self.device, geometry.present, self.cx)?;
        let (ring, estimated) = self.ring(&metadata, leader.record(), &geometry);
        let (leader, mut ring, replayed) = self.replay(leader, ring, estimated, &mut metadata)?;
        if metadata.intact == 0 && !geometry.any_header && leader.record().is_none() {
            return Err(Error::Unusable(format!(
                "{}: no PFS header, leader record, metadata object or journal entry was found",
                self.device.name()
            )));
        }
        self.raise(&mut geometry, &metadata);
        for chunk in geometry.present..geometry.chunks.min(geometry.present.saturating_add(1 << 16)) {
            metadata.without.insert(chunk, ChunkState::Missing);
        }
        if estimated && matches!(leader, LeaderState::Rebuilt(_)) {
            let end = leader.record().map_or(0, |l| l.tail_offset.max(l.head_offset));
            ring.size = ring.end_by_tags(&metadata).max(end.div_ceil(BLOCK).saturating_mul(BLOCK)).min(ring.size);
        }
        let head = leader.record().filter(|l| l.head_lsn > 0).map(|l| {
            let slots = ring.slots().max(1);
            ((l.head_offset / ENTRY_LEN as u64).saturating_add(slots).saturating_sub(1) % slots, l.head_lsn)
        });
        let healed = heal::run(&self.device, &ring, head, &mut metadata, geometry.chunks, self.cx)?;
        self.report_objects(&metadata, healed);
        geometry.report_length(&self.device, &mut self.findings);
        if geometry.version == 3 {
            self.findings.push(Finding::new(&codes::NOT_PROVEN, Severity::Note, self.device.name()));
        }
        let (mut files, more) = build(&metadata, &geometry, self.device.name());
        self.findings.extend(more);
        self.mark_missing_data(&mut files);
        if self.device.joined().is_some() {
            self.report_donated(&files, &ring, geometry.present);
        }
        let live = live_writer(self.device.name());
        if live.is_some() {
            self.findings.push(Finding::new(&codes::LIVE, Severity::Suspect, self.device.name()));
        }
        let garbage = self.garbage(&leader, &ring);
        Ok(Pfs {
            device: self.device.clone(),
            geometry,
            leader,
            ring,
            replayed,
            metadata,
            files,
            findings: std::mem::take(&mut self.findings),
            live,
            garbage_behind_head: garbage,
        })
    }

    fn leader(&mut self) -> LeaderState {
        let piece = self.device.read(LEADER_AT, LEADER_LEN);
        let finding =
            Finding::new(&codes::LEADER, Severity::Damaged, self.device.name()).at(LEADER_AT, LEADER_LEN as u64);
        let bytes = piece.bytes.first_chunk::<LEADER_LEN>().filter(|_| piece.missing.is_empty());
        let Some(bytes) = bytes else {
            self.findings.push(finding.summary("the leader record could not be read"));
            return LeaderState::Lost;
        };
        match Leader::decode(bytes) {
            Ok(leader) if leader.log_size <= self.device.len().max(CHUNK) => LeaderState::Good(leader),
            Ok(leader) => {
                let text =
                    format!("the leader record names a journal of {} bytes, more than the device has", leader.log_size);
                self.findings.push(finding.summary(text));
                LeaderState::Lost
            }
            Err(fault) => match Leader::correct(bytes) {
                Some((leader, bit)) => {
                    let text = format!("bit {bit} of the leader record was wrong; corrected");
                    self.findings.push(finding.summary(text));
                    LeaderState::Corrected(leader, bit)
                }
                None => {
                    self.findings.push(finding.summary(fault.to_string()).evidence(Evidence::bytes(LEADER_AT, bytes)));
                    LeaderState::Lost
                }
            },
        }
    }

    /// Where the journal lies and how long it is; the second value says that the length is an estimate.
    fn ring(&mut self, metadata: &Metadata, leader: Option<&Leader>, geometry: &Geometry) -> (Ring, bool) {
        let room = self.device.len().max(CHUNK);
        let stated =
            metadata.inodes.get(JOURNAL_INO).map(|o| o.inode().size).filter(|s| {
                *s > 0 && *s <= room && s % ENTRY_LEN as u64 == 0 && !metadata.inodes.is_doubtful(JOURNAL_INO)
            });
        if let (Some(leader), Some(size)) = (leader, stated)
            && leader.log_size != size
        {
            let text = format!("the leader record names a journal of {} bytes, its inode {size}", leader.log_size);
            let finding = Finding::new(&codes::JOURNAL_MAP, Severity::Suspect, self.device.name());
            self.findings.push(finding.at(LEADER_AT, LEADER_LEN as u64).summary(text));
        }
        let size = leader.map(|l| l.log_size).or(stated);
        let mut ring = Ring::from_tags(metadata, size.unwrap_or(DEFAULT_JOURNAL.min(room)));
        if size.is_none()
            && let Some((last, _)) = ring.known.last_key_value()
        {
            ring.size = last.saturating_add(1).saturating_mul(BLOCK).min(room);
        }
        if ring.is_mapped() {
            return (ring, size.is_none());
        }
        let most = geometry.chunks.max(geometry.present).clamp(1, 4096);
        ring.stripe = ring.stripe_of_tags(most).or_else(|| ring.stripe_of_entries(&self.device, most));
        if size.is_none() {
            ring.size = DEFAULT_JOURNAL.min(room);
        }
        let text = match ring.stripe {
            Some(n) => format!("laid out by mkfs over {n} chunks; {} of its block tags were found", ring.known.len()),
            None => format!("{} of its block tags were found, and no layout fits", ring.known.len()),
        };
        self.findings.push(Finding::new(&codes::JOURNAL_MAP, Severity::Damaged, self.device.name()).summary(text));
        (ring, size.is_none())
    }

    fn replay(
        &mut self,
        leader: LeaderState,
        mut ring: Ring,
        estimated: bool,
        metadata: &mut Metadata,
    ) -> Result<(LeaderState, Ring, Replayed)> {
        let (leader, live) = match leader.record().copied() {
            Some(record) => self.behind(leader, record, &ring),
            None => match rebuild::run(&self.device, &mut ring, estimated, self.cx)? {
                Some(head) => self.rebuilt(head, &ring, estimated),
                None => return Ok((LeaderState::Lost, ring, Replayed { complete: true, ..Replayed::default() })),
            },
        };
        self.mend_journal(&ring, live);
        if live.count == 0 {
            return Ok((leader, ring, Replayed { complete: true, ..Replayed::default() }));
        }
        let rebuilt = matches!(leader, LeaderState::Rebuilt(_));
        let strict = self.cx.reading == Reading::Strict && !rebuilt;
        let origin = |lsn| Origin::Journal { lsn };
        let (done, damage) = replay::run(&self.device, &ring, live, metadata, strict, origin, self.cx)?;
        self.report_entries(&damage, rebuilt);
        self.report_end(&leader, &done);
        Ok((leader, ring, done))
    }

    /// Damaged entries of the live part come from another copy that holds them.
    fn mend_journal(&mut self, ring: &Ring, live: Live) {
        let Some(joined) = self.device.joined() else { return };
        let (mut taken, mut lsn) = (0u64, live.lsn);
        for part in ring.parts(live.slot, live.count) {
            taken = taken.saturating_add(joined.mend_entries(part, lsn));
            lsn = lsn.saturating_add(part.count);
        }
        self.taken(taken, "entries of the journal");
    }

    /// Looks behind the head, and moves it when asked to.
    fn behind(&mut self, state: LeaderState, leader: Leader, ring: &Ring) -> (LeaderState, Live) {
        let entry = ENTRY_LEN as u64;
        let live = leader.live_entries().min(ring.slots());
        let slot = leader.head_offset / entry;
        let room = ring.slots().saturating_sub(live);
        let more = behind::continued(&self.device, ring, slot, leader.head_lsn, leader.head_txid, room);
        self.report_behind(&more, ring.address(slot));
        let first = Live {
            slot: leader.tail_offset / entry,
            count: live,
            lsn: leader.head_lsn.saturating_sub(live).saturating_add(1),
        };
        if !self.options.forward || more.complete == 0 {
            return (state, first);
        }
        let moved = Leader {
            head_txid: more.txid,
            head_lsn: leader.head_lsn.saturating_add(more.complete),
            head_offset: slot
                .saturating_add(more.complete)
                .checked_rem(ring.slots())
                .unwrap_or(0)
                .saturating_mul(entry),
            ..leader
        };
        (LeaderState::Rebuilt(moved), Live { count: live.saturating_add(more.complete), ..first })
    }

    fn rebuilt(&mut self, head: rebuild::Head, ring: &Ring, estimated: bool) -> (LeaderState, Live) {
        let entry = ENTRY_LEN as u64;
        let next = head.live.slot.saturating_add(head.live.count).checked_rem(ring.slots()).unwrap_or(0);
        let leader = Leader {
            num_hosts: 0,
            max_hosts: 0,
            tail_txid: head.first_txid.saturating_sub(1),
            head_txid: head.txid,
            tail_offset: head.live.slot.saturating_mul(entry),
            head_offset: next.saturating_mul(entry),
            log_size: ring.size,
            head_lsn: head.lsn(),
        };
        let mut text = format!(
            "transactions {} to {} in {} entries up to lsn {}; the last one may be uncommitted",
            head.first_txid,
            head.txid,
            head.live.count,
            head.lsn()
        );
        if head.torn > 0 {
            text.push_str(&format!("; {} entries of a torn transaction dropped", head.torn));
        }
        if estimated {
            text.push_str("; the length of the journal is an estimate");
        }
        self.findings.push(Finding::new(&codes::LEADER_REBUILT, Severity::Damaged, self.device.name()).summary(text));
        if head.foreign > 0 {
            let text = format!("{} entries do not belong in their place", head.foreign);
            self.findings.push(Finding::new(&codes::FORK, Severity::Suspect, self.device.name()).summary(text));
        }
        (LeaderState::Rebuilt(leader), head.live)
    }

    fn garbage(&mut self, leader: &LeaderState, ring: &Ring) -> u64 {
        let (LeaderState::Good(l) | LeaderState::Corrected(l, _)) = leader else { return 0 };
        let entry = ENTRY_LEN as u64;
        let found = behind::garbage(&self.device, ring, l.tail_offset / entry, l.live_entries());
        for (at, len) in &found {
            let text = format!("{} damaged entries right behind the head; they are of no consequence", len / entry);
            let finding = Finding::new(&codes::GARBAGE_BEHIND_HEAD, Severity::Note, self.device.name());
            self.findings.push(finding.at(*at, *len).summary(text));
        }
        found.iter().map(|(_, len)| len / entry).fold(0, u64::saturating_add)
    }

    /// Without any header, the objects say how many chunks there must be.
    fn raise(&self, geometry: &mut Geometry, metadata: &Metadata) {
        for kind in Kind::ALL {
            let last = metadata.table(kind).used.last_key_value();
            if let Some((number, _)) = last {
                geometry.raise(kind.chunk(*number));
            }
        }
    }
}

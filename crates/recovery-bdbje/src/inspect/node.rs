//! Everything about one node: its log, its trees, its group, its journal, its images.

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Context, Finding, Result, Source};
use serde::Serialize;

use crate::format::vlsn_index::{RANGE_KEY, Range, VLSN_DB};
use crate::format::{Lsn, packed};
use crate::meta::Meta;
use crate::model::scavenge::{Donation, Scavenged, scavenge};
use crate::model::{Environment, Group, Problem, Role};
use crate::reader::scan::ScanOptions;
use crate::reader::{Log, LogScan, Tally, scan_log};

/// One journal database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalDb {
    /// Name.
    pub name: String,
    /// First journal id by the name.
    pub first: i64,
    /// Records.
    pub records: u64,
    /// Smallest journal id there.
    pub min: Option<i64>,
    /// Largest journal id there.
    pub max: Option<i64>,
    /// Journal ids that are missing between.
    pub missing: u64,
    /// First of them.
    pub first_missing: Option<i64>,
}

/// The journal as one view of the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// Databases in order of their first id.
    pub databases: Vec<JournalDb>,
    /// Last journal id.
    pub max: Option<i64>,
    /// First journal id.
    pub first: Option<i64>,
    /// Last epoch.
    pub epoch: Option<i64>,
}

/// Collects the journal ids of one database, which come in ascending order.
struct JournalIds {
    db: Option<JournalDb>,
    epoch: bool,
    next: i64,
}

impl JournalIds {
    fn new(name: &str) -> Self {
        let first = name.parse::<i64>().ok().filter(|n| *n >= 0 && n.to_string() == name);
        let db = |first| JournalDb {
            name: name.to_owned(),
            first,
            records: 0,
            min: None,
            max: None,
            missing: 0,
            first_missing: None,
        };
        Self { db: first.map(db), epoch: name == "epochDB", next: first.unwrap_or(0) }
    }

    fn add(&mut self, id: i64) {
        let gap = u64::try_from(id.saturating_sub(self.next)).unwrap_or(0);
        let expected = std::mem::replace(&mut self.next, id.saturating_add(1));
        if let Some(db) = &mut self.db {
            db.records = db.records.saturating_add(1);
            db.min = db.min.or(Some(id));
            db.max = Some(id);
            db.missing = db.missing.saturating_add(gap);
            if gap > 0 {
                db.first_missing = db.first_missing.or(Some(expected));
            }
        }
    }
}

impl Journal {
    fn take(&mut self, ids: JournalIds) {
        if ids.epoch && ids.next > 0 {
            self.epoch = Some(ids.next.saturating_sub(1));
        }
        self.databases.extend(ids.db);
    }

    fn finish(mut self) -> Self {
        self.databases.sort_by_key(|d| d.first);
        self.first = self.databases.first().map(|d| d.first);
        // An empty last database says that everything before its name is there.
        self.max = self.databases.last().map(|d| d.max.unwrap_or(d.first.saturating_sub(1))).filter(|m| *m >= 0);
        self
    }

    /// Journal ids that are missing: within databases, and between them.
    #[must_use]
    pub fn holes(&self) -> Vec<(String, u64)> {
        let mut out: Vec<(String, u64)> =
            self.databases.iter().filter(|d| d.missing > 0).map(|d| (d.name.clone(), d.missing)).collect();
        for (a, b) in self.databases.iter().zip(self.databases.iter().skip(1)) {
            let end = a.max.unwrap_or(a.first.saturating_sub(1));
            let gap = b.first.saturating_sub(end).saturating_sub(1);
            if let Ok(n) = u64::try_from(gap)
                && n > 0
            {
                out.push((a.name.clone(), n));
            }
        }
        out
    }
}

/// What a walk over all live slots found.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Journal.
    pub journal: Journal,
    /// Live records by database.
    pub records: BTreeMap<String, u64>,
    /// Records and nodes that cannot be read.
    pub problems: Vec<Problem>,
    /// Live keys whose record lies in damage.
    pub unreadable: u64,
    /// Records that JE drops because the tree has no root.
    pub rootless: BTreeMap<String, u64>,
    /// Databases that are not read.
    pub unsupported: Vec<String>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Number of the source.
    pub source: u16,
    /// What the user calls it.
    pub path: String,
    /// Around the log.
    pub meta: Meta,
    /// The files under the numbers of their names, as JE sees them.
    pub log: Log,
    /// The files under the numbers of their headers, when these differ.
    pub by_header: Option<Log>,
    /// Scan of the files as named.
    pub scan: LogScan,
    /// Scan of [`by_header`](Self::by_header).
    pub true_scan: Option<LogScan>,
    /// Everything up to the first damage of each file.
    pub front: Tally,
    /// Everything readable.
    pub all: Tally,
    /// Where JE would end the log.
    pub je_end: Option<Lsn>,
    /// The environment as JE would see it.
    pub je: Option<Environment>,
    /// Its live slots.
    pub view: View,
    /// Group as JE would see it.
    pub group: Group,
    /// VLSN index.
    pub index: Option<Range>,
    /// What can be scavenged, when there is damage.
    pub scavenged: Option<Scavenged>,
    /// Journal of the scavenge.
    pub scavenged_journal: Option<Journal>,
    /// Holes in the visible VLSNs: first, last, place behind.
    pub holes: Vec<(i64, i64, Lsn)>,
    /// VLSNs of holes that nothing accounts for.
    pub unaccounted: u64,
    /// Last commit up to which nothing is missing.
    pub contiguous_commit: Option<i64>,
    /// Whether a live process has the environment open.
    pub locked: Option<Option<u32>>,
    /// Findings, filled by the checks.
    pub findings: Vec<Finding>,
    /// What JE would do.
    pub started: super::started::Started,
}

/// Reads a node from a source.
///
/// # Errors
///
/// When there is no log in it, or the caller asked to stop.
pub fn read(source: &Arc<dyn Source>, number: u16, digests: bool, cx: &Context) -> Result<Node> {
    let meta = Meta::find(source.as_ref(), cx)?;
    let log = Log::open(source.as_ref(), &meta.bdb);
    let options = ScanOptions { digests, decode: cx.full() && log.bytes() <= DECODE_ALL };
    let scan = scan_log(&log, options, cx)?;
    let by_header = log.by_header();
    let true_scan = match &by_header {
        Some(log) => Some(scan_log(log, options, cx)?),
        None => None,
    };
    let lock = if meta.bdb.is_empty() { "je.lck".to_owned() } else { format!("{}/je.lck", meta.bdb) };
    let locked = source.lock_holder(&lock).map(|h| h.pid);
    let (front, all) = (scan.front(), true_scan.as_ref().unwrap_or(&scan).all());
    let je_end = scan.je_end();
    let mut node = Node {
        source: number,
        path: source.describe(),
        meta,
        log,
        by_header,
        front,
        all,
        je_end,
        je: None,
        view: View::default(),
        group: Group::default(),
        index: None,
        scavenged: None,
        scavenged_journal: None,
        holes: Vec::new(),
        unaccounted: 0,
        contiguous_commit: None,
        locked,
        findings: Vec::new(),
        started: super::started::Started::default(),
        scan,
        true_scan,
    };
    if let Some(end) = je_end {
        let tally = super::tally_to(&node.scan, end);
        let env = Environment::open(node.log.cut(end), tally.ckpt_end, tally.db_tree, Role::Standalone, cx)?;
        node.view = view(&env, &node.scan, cx)?;
        node.group = Group::read(&env, cx)?;
        node.index = read_index(&env, cx)?;
        node.je = Some(env);
    }
    node.holes = holes(node.true_scan());
    if node.damaged() {
        node.scavenge_with(&[], cx)?;
    }
    node.contiguous_commit = contiguous(&node);
    Ok(node)
}

/// Above this many bytes entries are only decoded where their content is needed: their checksums have been computed.
const DECODE_ALL: u64 = 64 << 20;

impl Node {
    /// The log a scavenge reads.
    #[must_use]
    pub fn true_log(&self) -> &Log {
        self.by_header.as_ref().unwrap_or(&self.log)
    }

    /// The scan of the log a scavenge reads.
    #[must_use]
    pub fn true_scan(&self) -> &LogScan {
        self.true_scan.as_ref().unwrap_or(&self.scan)
    }

    /// Whether recovery reads over something that is gone: damage, a cut or a missing file behind the first active
    /// place of the last checkpoint, other than a tail. The trees do not know what was written there.
    #[must_use]
    pub fn replay_damaged(&self) -> bool {
        let Some(env) = &self.je else { return true };
        let first = env.checkpoint.as_ref().map_or(Lsn(0), |(_, c)| c.first_active.min(c.start));
        let Some(last) = self.scan.last_file() else { return true };
        let behind = |f: &crate::reader::FileScan, at: u64| f.number > first.file() || at >= first.offset().into();
        let spots = self.scan.files.values().filter(|f| f.number >= first.file()).any(|f| {
            let tail = f.number >= last.number;
            f.bad.iter().any(|b| (b.resynced || !tail) && behind(f, b.end.saturating_sub(1)))
                || f.unread.iter().any(|r| behind(f, r.end.saturating_sub(1)))
                || !tail && f.front.entries == 0
        });
        let numbers = self.scan.files.range(first.file()..=last.number).count() as u64;
        let whole = u64::from(last.number).saturating_sub(first.file().into()).saturating_add(1);
        spots || numbers < whole || self.cut_short().is_some_and(|(n, _)| n >= first.file())
    }

    /// Whether the trees, with what lies behind the last checkpoint, are a complete witness of every live record.
    #[must_use]
    pub fn tree_is_whole(&self) -> bool {
        let Some(env) = &self.je else { return false };
        env.problems.is_empty()
            && env.tree.is_some()
            && self.view.problems.is_empty()
            && self.view.unreadable == 0
            && self.view.rootless.keys().all(|n| n.starts_with("_je"))
            && self.by_header.is_none()
            && !self.replay_damaged()
    }

    /// Whether anything beyond a tail that JE forgives is wrong.
    #[must_use]
    pub fn damaged(&self) -> bool {
        let last = self.scan.last_file().map(|f| f.number);
        let bad = self.scan.files.values().any(|f| {
            let tail = match last {
                Some(l) if f.number > l => true,
                Some(l) => f.number == l && f.bad.iter().all(|b| !b.resynced) && f.front.entries > 0,
                None => false,
            };
            !f.bad.is_empty() && !tail || !f.unread.is_empty()
        });
        let empty_middle = self.scan.files.values().any(|f| Some(f.number) < last && f.front.entries == 0);
        bad || empty_middle
            || self.by_header.is_some()
            || self.log.files.values().any(|f| f.foreign_version().is_some() || wrong_number(f))
            || !self.view.problems.is_empty()
            || self.view.unreadable > 0
            || self.view.rootless.keys().any(|n| !n.starts_with("_je"))
            || self.replay_damaged()
            || self.je.as_ref().is_none_or(|e| !e.problems.is_empty() || e.tree.is_none())
            || self.cut_short().is_some()
            || (self.bad_tail() && self.scan.files.len() == 1 && self.front.entries <= 1)
    }

    /// A complete entry at the very end may be damaged.
    #[must_use]
    pub fn bad_tail(&self) -> bool {
        self.scan.last_file().and_then(|f| f.first_bad()).is_some_and(|b| !b.resynced)
    }

    /// The first file that is shorter than its successor says, or missing before it.
    #[must_use]
    pub fn cut_short(&self) -> Option<(u32, u64)> {
        self.log.files.values().find_map(|f| {
            let header = f.header.filter(|h| h.number == f.number)?;
            let before = f.number.checked_sub(1)?;
            let file = self.scan.files.get(&before)?;
            let last = u64::try_from(header.last_entry_in_prev).ok()?;
            (last >= file.len && file.len > 0).then_some((before, last))
        })
    }

    /// Scavenges, with what other nodes give.
    ///
    /// # Errors
    ///
    /// When the caller asked to stop.
    pub fn scavenge_with(&mut self, donated: &[Donation], cx: &Context) -> Result<()> {
        let scan = self.true_scan();
        let s = scavenge(self.true_log(), scan, donated, cx)?;
        let mut journal = Journal::default();
        for (name, found) in &s.databases {
            let mut ids = JournalIds::new(name);
            let live = found.keys.iter().filter(|(_, k)| k.live().is_some());
            live.filter_map(|(k, _)| packed::long_key(k)).for_each(|k| ids.add(k));
            journal.take(ids);
        }
        // Where the trees tell every live record, nothing that was destroyed is missing among them.
        let whole = self.tree_is_whole();
        self.unaccounted = if whole { 0 } else { unaccounted(&self.holes, &s, scan, donated) };
        self.scavenged_journal = (!whole).then(|| journal.finish());
        self.scavenged = Some(s);
        Ok(())
    }

    /// Whether a whole image is needed to join the journal, and none here does.
    #[must_use]
    pub fn needs_image(&self) -> bool {
        let first = self.journal().first.unwrap_or(1);
        self.meta.image_dir.is_some() && first > 1 && !self.image_joins()
    }

    /// Whether a whole image here reaches the journal's first id.
    #[must_use]
    pub fn image_joins(&self) -> bool {
        let first = self.journal().first.unwrap_or(1);
        let whole = |i: &&crate::meta::Image| !matches!(i.state, crate::meta::ImageState::Bad { .. });
        self.meta.images.iter().filter(whole).any(|i| first <= i.journal_id.saturating_add(1))
    }

    /// The best view of the journal: the scavenged one when there is damage.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        self.scavenged_journal.as_ref().unwrap_or(&self.view.journal)
    }
}

fn wrong_number(f: &crate::reader::LogFile) -> bool {
    f.header.is_some_and(|h| h.number != f.number)
}

/// Destroyed VLSNs that are neither found in nodes nor given by others.
fn unaccounted(holes: &[(i64, i64, Lsn)], s: &Scavenged, scan: &LogScan, donated: &[Donation]) -> u64 {
    let total = holes.iter().fold(0u64, |n, (a, b, _)| {
        n.saturating_add(u64::try_from(b.saturating_sub(*a).saturating_add(1)).unwrap_or(0))
    });
    let in_spot = |lsn: Lsn| {
        scan.files
            .get(&lsn.file())
            .is_some_and(|f| f.bad.iter().any(|b| b.resynced && (b.offset..b.end).contains(&u64::from(lsn.offset()))))
    };
    let mut found: std::collections::BTreeSet<Lsn> = std::collections::BTreeSet::new();
    for db in s.databases.values() {
        for k in db.keys.values() {
            if let Some(v) = k.sure.as_ref().filter(|v| v.origin == crate::model::scavenge::Origin::Node)
                && in_spot(v.lsn)
            {
                found.insert(v.lsn);
            }
        }
    }
    let given: std::collections::BTreeSet<i64> = donated.iter().map(|d| d.vlsn).collect();
    let known = (found.len() as u64).saturating_add(given.len() as u64);
    total.saturating_sub(known)
}

fn holes(scan: &LogScan) -> Vec<(i64, i64, Lsn)> {
    // Damage in front of the first number of the stream: in the first file of all, the stream began at 1.
    let head = scan.files.values().next().filter(|f| f.number == 0 && f.front.first_visible.is_none());
    let head = head.and_then(|f| Some((f.behind.first_visible?, f.bad.iter().rev().find(|b| b.resynced)?.end)));
    let head = head.filter(|(first, _)| *first > 1).map(|(first, at)| {
        let at = Lsn::new(0, u32::try_from(at).unwrap_or(u32::MAX));
        (1, first.saturating_sub(1), at)
    });
    let between = scan
        .breaks()
        .into_iter()
        .filter(|b| b.after > b.before.saturating_add(1))
        .map(|b| (b.before.saturating_add(1), b.after.saturating_sub(1), b.at));
    head.into_iter().chain(between).collect()
}

/// The last commit before the first hole or damage that cost something.
fn contiguous(node: &Node) -> Option<i64> {
    let whole = node.all.last_commit.map(|(v, _)| v);
    match node.holes.first() {
        Some((first, _, _)) if node.unaccounted > 0 => whole.map(|w| w.min(first.saturating_sub(1))),
        _ => whole,
    }
}

/// Walks all live slots: counts, journal ids, places that cannot be read.
fn view(env: &Environment, scan: &LogScan, cx: &Context) -> Result<View> {
    let mut out = View::default();
    for (name, id) in &env.names {
        let Some(db) = env.databases.get(id) else { continue };
        if env.has_old_duplicates(db) {
            out.unsupported.push(name.clone());
            continue;
        }
        let dropped = env.rootless_changes(*id);
        if dropped > 0 {
            out.rootless.insert(name.clone(), dropped);
        }
        let (mut live, mut gone) = (0u64, 0u64);
        let mut lost = Vec::new();
        let mut ids = JournalIds::new(name);
        let mut each = |s: crate::model::records::Slot| {
            if s.dead {
                return;
            }
            if s.data.is_none() && scan.destroyed(s.lsn) {
                gone = gone.saturating_add(1);
                if lost.len() < 1000 {
                    lost.push(Problem {
                        what: format!("record of {name}"),
                        lsn: s.lsn,
                        db: Some(*id),
                        key: Some(s.key),
                        error: crate::format::FormatError::PastEnd { at: s.lsn.offset().into(), end: 0, len: 0 },
                    });
                }
                return;
            }
            live = live.saturating_add(1);
            if let Some(k) = packed::long_key(&s.key) {
                ids.add(k);
            }
        };
        env.each_slot(db, cx, &mut each, &mut out.problems)?;
        out.unreadable = out.unreadable.saturating_add(gone);
        out.problems.extend(lost);
        out.journal.take(ids);
        out.records.insert(name.clone(), live);
    }
    out.journal = std::mem::take(&mut out.journal).finish();
    Ok(out)
}

fn read_index(env: &Environment, cx: &Context) -> Result<Option<Range>> {
    let Some(db) = env.database(VLSN_DB) else { return Ok(None) };
    let mut range = None;
    let mut sink = |b: crate::model::Batch| {
        for r in &b.records {
            if packed::long_key(&r.key) == Some(RANGE_KEY) {
                range = Range::decode(&r.data).ok();
            }
        }
        Ok(())
    };
    env.records(db, cx, &mut sink, &mut Vec::new())?;
    Ok(range)
}

//! Which way leads furthest and what it leads to: the decision that reports, plans and `metarestore` share.

use std::sync::Arc;

use recovery_core::{Context, Error, Result};

use crate::dialect::Dialect;
use crate::format::crc::CrcFile;
use crate::model::load::{LoadOptions, load};
use crate::run::{Built, Job, Log, Stop, build};
use crate::survey::{Base, CrcState, LogFile, Survey, Way};
use crate::time::Point;
use crate::until::{After, last_change};

/// What an inspection knows beyond its report; plans are made from it.
#[derive(Debug)]
pub struct Case {
    /// Everything found.
    pub survey: Survey,
    /// All ways, the best first.
    pub ways: Vec<Way>,
    /// The way chosen.
    pub way: Option<Way>,
    /// What it leads to, if everything was read.
    pub built: Option<Built>,
    /// Id from which two histories exist; replay ends before it.
    pub branch: Option<u64>,
    /// Last change that is wanted; all of them where no point in time was asked for.
    pub until: u64,
    /// What happened behind the point in time asked for.
    pub after: Option<After>,
}

impl Case {
    /// The base of the way chosen.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.way.as_ref().and_then(|w| w.base).and_then(|i| self.survey.bases.get(i))
    }

    /// A metadata file of the same filesystem with a later state than the one reached: it is damaged, or it would
    /// have been chosen.
    #[must_use]
    pub fn later(&self) -> Option<&Base> {
        let version = self.built.as_ref()?.model.version();
        let own = self.base().and_then(|b| b.outline.as_ref().ok()).map_or(0, |o| o.header.metaid);
        let same = |id: u64| own == 0 || id == 0 || id == own;
        let later = self
            .survey
            .bases
            .iter()
            .filter(|b| b.outline.as_ref().is_ok_and(|o| o.header.version > version && same(o.header.metaid)))
            .filter(|b| b.version().is_some_and(|v| v <= self.until.saturating_add(1)));
        later.max_by_key(|b| b.version())
    }
}

/// The job that follows a way.
#[must_use]
pub(crate) fn job(survey: &Survey, way: &Way, dialect: Dialect, until: u64) -> Job {
    let base = way.base.and_then(|i| survey.bases.get(i)).map(|b| Arc::clone(&b.blob));
    let logs = way.logs.iter().filter_map(|&i| survey.logs.get(i));
    Job {
        base,
        logs: logs
            .map(|l| Log { blob: Arc::clone(&l.blob), skip: skipped(l, way), use_rest: l.scan.rest_parses })
            .collect(),
        dialect,
        until,
        salvage: true,
        checksums: true,
        past_gaps: way.past_gaps,
        witnesses: survey.logs.iter().map(|l| Arc::clone(&l.blob)).collect(),
    }
}

/// What of a log is not used because its ids go back: what a jump overtakes, or what stands behind the jump where that
/// leads no further.
#[must_use]
pub(crate) fn skipped(log: &LogFile, way: &Way) -> Vec<(u64, u64)> {
    let last = way.reach.saturating_sub(1);
    let range = |j: &crate::changelog::file::Jump| {
        if j.falls_short(last) { (j.at, u64::MAX) } else { (j.abandoned, j.at) }
    };
    log.scan.jumps.iter().map(range).collect()
}

/// First id from which two histories exist, for a state of version `from`.
pub(crate) fn branch(survey: &Survey, way: &Way) -> Option<u64> {
    let jumps = way.logs.iter().filter_map(|&i| survey.logs.get(i)).flat_map(|l| &l.scan.jumps);
    let last = way.reach.saturating_sub(1);
    jumps.filter(|j| j.to > way.from && !j.falls_short(last)).map(|j| j.to).min()
}

/// Chooses a way and, unless only the structure is wanted, follows it. A base that turns out not to be loadable gives
/// way to the next one, as does a base that no longer comes first when its checksums are known.
///
/// # Errors
///
/// When a medium fails, a limit is met or the work is cancelled.
pub(crate) fn decide(
    mut survey: Survey,
    asked: Option<Dialect>,
    point: Option<Point>,
    past_gaps: bool,
    cx: &Context,
) -> Result<Case> {
    let (limit, clock_back) = point.map_or(Ok((u64::MAX, 0)), |p| last_change(&survey, p))?;
    let mut ways = survey.ways(asked, limit);
    open_gaps(&survey, &mut ways, past_gaps);
    let mut built = None;
    let mut built_from = None;
    let mut tries = if cx.full() { survey.bases.len().saturating_mul(2).saturating_add(1) } else { 0 };
    while tries > 0 {
        tries = tries.saturating_sub(1);
        built = None;
        let Some(way) = ways.first() else { break };
        let Some(dialect) = way.dialect else { break };
        let until = branch(&survey, way).map_or(u64::MAX, |b| b.saturating_sub(1)).min(limit);
        let base = way.base;
        match build(&job(&survey, way, dialect, until), cx) {
            Ok(mut b) => {
                if let (None, Some((from, to))) = (&b.stop, way.gap) {
                    // no log begins where the base ends
                    b.stop = (b.model.version() == from && from <= limit).then_some(Stop::Gap(from, to));
                }
                if let Some(i) = base {
                    compare_crc(&mut survey, i, &b.checksums);
                }
                if let Some(found) = base.and_then(|i| survey.bases.get_mut(i)) {
                    found.lossy = b.issues.iter().any(|i| !i.kind.keeps_everything());
                }
                (built, built_from) = (Some(b), base);
            }
            Err(Error::Damaged(why)) => {
                if let Some(b) = base.and_then(|i| survey.bases.get_mut(i)) {
                    b.outline = Err(why);
                }
            }
            Err(other) => return Err(other),
        }
        let mut again = survey.ways(asked, limit);
        open_gaps(&survey, &mut again, past_gaps);
        let settled = again.first().map(|w| w.base) == Some(base);
        ways = again;
        if settled && built.is_some() {
            break;
        }
    }
    let built = built.filter(|_| ways.first().is_some_and(|w| w.base == built_from));
    other_crcs(&mut survey, ways.first().and_then(|w| w.base), cx)?;
    let way = ways.first().cloned();
    let branch = way.as_ref().and_then(|w| branch(&survey, w));
    let mut after = None;
    if let (Some(_), Some(way), Some(built)) = (point, &way, &built) {
        let all = branch.map_or(u64::MAX, |b| b.saturating_sub(1));
        after = crate::until::after(&survey, way, built.model.dialect(), &built.model, all, cx)?;
    }
    if let Some(a) = &mut after {
        a.clock_back = clock_back;
    }
    let branch = branch.filter(|&b| b <= limit);
    Ok(Case { survey, ways, way, built, branch, until: limit, after })
}

/// Ways that go on behind missing changes use all logs.
fn open_gaps(survey: &Survey, ways: &mut [Way], past_gaps: bool) {
    for way in ways.iter_mut().filter(|w| past_gaps && (w.gap.is_some() || w.base.is_some())) {
        way.past_gaps = true;
        way.gap = None;
        way.logs = (0..survey.logs.len())
            .filter(|&i| survey.logs.get(i).and_then(|l| l.scan.last).is_some_and(|last| last >= way.from))
            .collect();
        let last = survey.logs.iter().filter_map(|l| l.scan.last).max();
        way.reach = last.map_or(way.reach, |l| way.reach.max(l.saturating_add(1)));
    }
}

/// Compares computed section checksums with the file that belongs to this state.
fn compare_crc(survey: &mut Survey, base: usize, computed: &[([u8; 4], u64)]) {
    let renamed: Vec<bool> = survey
        .crcs
        .iter()
        .map(|(s, _, c)| c.as_ref().is_ok_and(|c| only_head_differs(survey, base, *s, c, computed)))
        .collect();
    let Some(b) = survey.bases.get_mut(base) else { return };
    let Ok(o) = &b.outline else { return };
    let head = computed.iter().find(|(n, _)| n == b"HEAD").map(|e| e.1);
    let mut state = CrcState::Absent;
    let mut bad = Vec::new();
    for (at, (source, _, crc)) in survey.crcs.iter().enumerate() {
        let Ok(crc) = crc else { continue };
        if *source != b.source {
            continue;
        }
        let same = match crc.state {
            Some((version, id)) => version == o.header.version && id == o.header.metaid,
            None => crc.get(b"HEAD").map(u64::from) == head,
        };
        if !same && renamed.get(at) != Some(&true) {
            state = CrcState::OtherVersion;
            continue;
        }
        bad = crc
            .entries
            .iter()
            .filter_map(|(n, stored)| {
                let c = computed.iter().find(|(m, _)| m == n).map_or(0, |e| e.1);
                (u64::from(*stored) != c).then_some((*n, *stored, u32::try_from(c).unwrap_or(0)))
            })
            .collect();
        state = if bad.is_empty() { CrcState::Ok } else { CrcState::Bad };
        break;
    }
    (b.crc, b.crc_bad) = (state, bad);
}

/// Whether a checksum file that names another state fits every section but the header of the file saved last, and
/// belongs to no other file: then the header was changed, not the checksums.
fn only_head_differs(survey: &Survey, base: usize, source: u16, crc: &CrcFile, computed: &[([u8; 4], u64)]) -> bool {
    let Some(b) = survey.bases.get(base) else { return false };
    let newest = matches!(b.entry.name.as_str(), "metadata.mfs" | "metadata.mfs.back");
    let fits = crc
        .entries
        .iter()
        .all(|(n, stored)| n == b"HEAD" || computed.iter().any(|(m, c)| m == n && *c == u64::from(*stored)));
    let taken = || {
        survey.bases.iter().filter(|o| o.source == source).filter_map(|o| o.outline.as_ref().ok()).any(|o| {
            let mut head = Vec::new();
            o.header.encode(o.fver, &mut head);
            let sum = crate::format::crc::piece(&o.signature.encode()) ^ crate::format::crc::piece(&head);
            crc.get(b"HEAD") == Some(sum)
        })
    };
    b.source == source && newest && crc.get(b"NODE").is_some() && fits && !taken()
}

/// Checks the other bases that a checksum file may belong to.
fn other_crcs(survey: &mut Survey, chosen: Option<usize>, cx: &Context) -> Result<()> {
    for i in 0..survey.bases.len() {
        let Some(b) = survey.bases.get(i) else { break };
        let usable = b.whole() && !b.is_new();
        if Some(i) == chosen || !usable || !survey.crcs.iter().any(|(s, _, c)| *s == b.source && c.is_ok()) {
            continue;
        }
        let (Ok(o), blob) = (&b.outline, Arc::clone(&b.blob)) else { continue };
        let mut head = Vec::new();
        o.header.encode(o.fver, &mut head);
        let sum = u64::from(crate::format::crc::piece(&o.signature.encode()) ^ crate::format::crc::piece(&head));
        let mut computed = vec![(*b"HEAD", sum)];
        let mine = survey
            .crcs
            .iter()
            .any(|(s, _, c)| *s == b.source && c.as_ref().is_ok_and(|c| c.get(b"HEAD").map(u64::from) == Some(sum)));
        if mine && cx.full() {
            let options = LoadOptions { salvage: true, dialect: o.dialect, checksums: true };
            if let Ok(l) = cx.pool().install(|| load(blob.as_ref(), &options)) {
                computed = l.checksums.iter().map(|(n, v)| (*n, u64::from(*v))).collect();
            }
        } else if mine {
            continue;
        }
        compare_crc(survey, i, &computed);
    }
    Ok(())
}

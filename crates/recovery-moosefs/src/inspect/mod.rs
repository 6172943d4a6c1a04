//! Checks that end in findings, facts and candidates.

mod facts;
mod if_started;

use std::sync::Arc;

use recovery_core::{
    Candidate, Class, Context, Coverage, Error, Evidence, Finding, Report, ReportBuilder, Result, Severity, Sources,
};

use crate::changelog::file::Tail;
use crate::codes;
use crate::dialect::Dialect;
use crate::engine::EngineOptions;
use crate::format::crc::CrcFile;
use crate::format::outer::{SECTION_HEAD, section_name};
use crate::model::load::{Issue, IssueKind, LoadOptions, load};
use crate::run::{Built, Job, Log, Stop, Why, build};
use crate::survey::{CrcState, LogFile, Survey, Way, survey};

/// What an inspection knows beyond its report; plans are made from it.
#[derive(Debug)]
pub struct Case {
    /// Everything found.
    pub survey: Survey,
    /// The way chosen.
    pub way: Option<Way>,
    /// What it leads to, if everything was read.
    pub built: Option<Built>,
    /// Last change to replay, where a branch forbids to go on.
    pub until: u64,
    /// Id of the branch that forbids it.
    pub branch: Option<u64>,
}

/// The job that follows a way.
#[must_use]
pub fn job(survey: &Survey, way: &Way, dialect: Dialect, until: u64) -> Job {
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
    }
}

/// What of a log is not used because its ids go back: what a jump overtakes, or what stands behind the jump where that
/// leads no further.
#[must_use]
pub fn skipped(log: &LogFile, way: &Way) -> Vec<(u64, u64)> {
    let last = way.reach.saturating_sub(1);
    let range = |j: &crate::changelog::file::Jump| {
        if j.falls_short(last) { (j.at, u64::MAX) } else { (j.abandoned, j.at) }
    };
    log.scan.jumps.iter().map(range).collect()
}

/// First id from which two histories exist, for a state of version `from`.
fn branch(survey: &Survey, way: &Way) -> Option<u64> {
    let jumps = way.logs.iter().filter_map(|&i| survey.logs.get(i)).flat_map(|l| &l.scan.jumps);
    let last = way.reach.saturating_sub(1);
    jumps.filter(|j| j.to > way.from && !j.falls_short(last)).map(|j| j.to).min()
}

/// Inspects the directories.
///
/// # Errors
///
/// When a medium fails, a limit is met or the work is cancelled. Damage is not an error.
pub fn inspect(sources: &Sources, options: &EngineOptions, cx: &Context) -> Result<Report> {
    let mut report = ReportBuilder::new("moosefs", sources, cx.limits.findings);
    let mut survey = survey(sources, cx)?;
    let asked = options.dialect()?;
    if survey.bases.is_empty() && survey.logs.is_empty() {
        report.unusable();
        report.next("no metadata files and no change logs here: give the data directory of the master or a metalogger");
        return Ok(report.finish());
    }
    let mut ways = survey.ways(asked);
    let mut built = None;
    let mut chosen_dialect = None;
    if cx.full() {
        for _ in 0..2 {
            let Some(way) = ways.first() else { break };
            chosen_dialect = way.dialect;
            let Some(dialect) = way.dialect else { break };
            let branch = branch(&survey, way);
            let until = branch.map_or(u64::MAX, |b| b.saturating_sub(1));
            match build(&job(&survey, way, dialect, until), cx) {
                Ok(mut b) => {
                    let base = way.base;
                    if let (None, Some((from, to))) = (&b.stop, way.gap) {
                        // no log begins where the base ends
                        b.stop = (b.model.version() == from).then_some(Stop::Gap(from, to));
                    }
                    built = Some(b);
                    if let (Some(i), Some(b)) = (base, &built) {
                        compare_crc(&mut survey, i, &b.checksums);
                    }
                }
                Err(Error::Damaged(why)) => {
                    if let Some(b) = way.base.and_then(|i| survey.bases.get_mut(i)) {
                        b.outline = Err(why);
                    }
                    built = None;
                }
                Err(other) => return Err(other),
            }
            let again = survey.ways(asked);
            if again.first().map(|w| w.base) == ways.first().map(|w| w.base) {
                break;
            }
            ways = again;
        }
        if ways.first().is_none_or(|w| w.dialect.is_none()) {
            built = None;
        }
    }
    other_crcs(&mut survey, ways.first().and_then(|w| w.base), cx)?;
    let way = ways.first().cloned();
    let branch = way.as_ref().and_then(|w| branch(&survey, w));
    let case = Case { survey, way, built, until: branch.map_or(u64::MAX, |b| b.saturating_sub(1)), branch };
    findings(&mut report, &case, cx);
    for (rank, w) in (1..).zip(&ways) {
        let name = w.base.and_then(|i| case.survey.bases.get(i)).map_or("(new filesystem)", |b| b.entry.name.as_str());
        let source = w.base.and_then(|i| case.survey.bases.get(i)).map_or(0, |b| b.source);
        let facts = serde_json::json!({"from": w.from, "version": w.reach, "metaid": w.metaid,
            "dialect": w.dialect.map(Dialect::name)});
        report.candidate(Candidate { source, name: name.to_owned(), rank, reasons: w.reasons.clone(), facts });
    }
    for action in if_started::if_started(&case, chosen_dialect) {
        report.if_started(action);
    }
    facts::facts(&mut report, &case);
    facts::next(&mut report, &case, sources);
    if case.way.is_none() {
        report.unusable();
    }
    if !cx.full() {
        report.incomplete();
    }
    report.state(Arc::new(case));
    Ok(report.finish())
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

fn issue_finding(issue: &Issue, chosen: bool, proven: bool) -> Finding {
    let code = match issue.kind {
        IssueKind::NotProven => &codes::NOT_PROVEN,
        k if k.keeps_everything() => &codes::BASE_OUTER,
        IssueKind::ChildMissing
        | IssueKind::ParentMissing
        | IssueKind::Orphan
        | IssueKind::Duplicate
        | IssueKind::Reference => &codes::BASE_REFERENCE,
        _ => &codes::BASE_LOST,
    };
    let severity = match issue.kind {
        IssueKind::NotProven => Severity::Note,
        IssueKind::Signature => Severity::Suspect,
        IssueKind::UnknownSection => Severity::Suspect,
        k if k.keeps_everything() || !chosen => Severity::Damaged,
        IssueKind::Duplicate if proven => Severity::Suspect,
        _ => Severity::Lost,
    };
    let records = u64::from(severity == Severity::Lost);
    Finding::new(code, severity, "")
        .at(issue.at, issue.length)
        .summary(issue.text.clone())
        .effect(records, issue.length)
}

fn findings(report: &mut ReportBuilder, case: &Case, cx: &Context) {
    let chosen = case.way.as_ref().and_then(|w| w.base);
    for (i, b) in case.survey.bases.iter().enumerate() {
        let is_chosen = chosen == Some(i);
        let name = b.entry.name.as_str();
        let len = b.blob.len();
        let mut coverage = Coverage::all(len, if cx.full() { Class::Parsed } else { Class::Unread });
        match &b.outline {
            Err(why) => {
                let f = Finding::new(&codes::BASE_UNUSABLE, Severity::Damaged, name).at(0, len);
                report.finding(f.source(b.source).summary(format!("{name}: {why}")));
                coverage = Coverage::all(len, Class::Damaged);
            }
            Ok(o) => {
                if b.crc == CrcState::Ok {
                    coverage = Coverage::all(len, Class::Verified);
                } else if !cx.full() {
                    coverage.mark(0..len.min(24), Class::Parsed);
                }
                let loaded = case.built.as_ref().filter(|_| is_chosen).map(|b| b.issues.as_slice());
                for issue in loaded.unwrap_or(&o.issues) {
                    let mut f = issue_finding(issue, is_chosen, false).source(b.source);
                    name.clone_into(&mut f.object);
                    f.summary = format!("{name}: {}", f.summary);
                    if f.severity > Severity::Suspect && issue.kind != IssueKind::Orphan {
                        coverage.mark(issue.at..issue.at.saturating_add(issue.length).min(len), Class::Damaged);
                    }
                    report.finding(f);
                }
                for (section, stored, computed) in &b.crc_bad {
                    let severity = if is_chosen { Severity::Lost } else { Severity::Damaged };
                    let s = o.section(section);
                    // With its header: a wrong name or length there shows as a body that does not match.
                    let whole = |s: &crate::model::load::Section| {
                        (s.start.saturating_sub(SECTION_HEAD), s.size().saturating_add(SECTION_HEAD))
                    };
                    let (at, size) = s.map_or((0, 24), whole);
                    coverage.mark(at..at.saturating_add(size), Class::Damaged);
                    report.finding(
                        Finding::new(&codes::CRC_MISMATCH, severity, name)
                            .source(b.source)
                            .at(at, size)
                            .summary(format!("{name}: section {} does not match metadata.crc", section_name(section)))
                            .evidence(Evidence::checksum("crc32-xor", *stored, *computed))
                            .effect(u64::from(is_chosen), 0),
                    );
                }
            }
        }
        let class = if is_chosen { "base" } else { "base (not used)" };
        report.object(b.source, name, class, coverage);
    }
    if case.survey.metaids().len() > 1 {
        let ids: Vec<String> = case.survey.metaids().iter().map(|m| format!("{m:#018x}")).collect();
        let f = Finding::new(&codes::TWO_FILESYSTEMS, Severity::Lost, "");
        report.finding(f.summary(format!("metadata files of {} filesystems: {}", ids.len(), ids.join(", "))));
    }
    logs(report, case);
    for (source, entry, crc) in &case.survey.crcs {
        let used =
            case.survey.bases.iter().any(|b| b.source == *source && matches!(b.crc, CrcState::Ok | CrcState::Bad));
        let class = if crc.is_ok() { Class::Parsed } else { Class::Unknown };
        report.object(*source, entry.name.clone(), "checksums", Coverage::all(entry.size, class));
        if !used && cx.full() {
            let why = crc.as_ref().err().map_or_else(|| "no file found has this state".to_owned(), Clone::clone);
            let f = Finding::new(&codes::CRC_UNUSED, Severity::Note, entry.name.clone()).source(*source);
            report.finding(f.summary(format!("{}: {why}", entry.name)));
        }
    }
    for (source, entry, what) in &case.survey.others {
        report.foreign(*source, entry.name.clone(), *what, entry.size);
    }
    for (source, entry) in &case.survey.foreign {
        report.foreign(*source, entry.name.clone(), "foreign", entry.size);
    }
    outcome(report, case);
    if cx.full() {
        let unchecked: u64 = case.survey.logs.iter().map(|l| l.scan.size).sum::<u64>().saturating_add(
            case.survey.bases.iter().filter(|b| b.crc != CrcState::Ok).map(|b| b.blob.len()).sum::<u64>(),
        );
        if unchecked > 0 {
            let f = Finding::new(&codes::NO_CHECKSUM, Severity::Note, "");
            report.finding(f.summary(format!("{unchecked} bytes are read but covered by no checksum")));
        }
    } else {
        let f = Finding::new(&codes::STRUCTURE_ONLY, Severity::Note, "");
        report.finding(f.summary("only headers, first and last lines were read"));
    }
}

fn logs(report: &mut ReportBuilder, case: &Case) {
    let used = |i: usize| case.way.as_ref().is_some_and(|w| w.logs.contains(&i));
    for (i, l) in case.survey.logs.iter().enumerate() {
        let (name, s) = (l.entry.name.as_str(), &l.scan);
        let severity = if used(i) { Severity::Damaged } else { Severity::Note };
        let mut coverage = Coverage::all(s.size, if s.complete { Class::Parsed } else { Class::Unread });
        let mut add = |code, severity, at: u64, len: u64, text: String| {
            report.finding(
                Finding::new(code, severity, name).source(l.source).at(at, len).summary(format!("{name}: {text}")),
            );
        };
        let left_out = case
            .built
            .as_ref()
            .is_some_and(|b| b.torn.iter().any(|&t| case.way.as_ref().and_then(|w| w.logs.get(t)) == Some(&i)));
        match s.tail {
            Tail::Clean => {}
            Tail::Torn if s.rest_parses && !left_out => add(
                &codes::LOG_TORN,
                severity,
                s.rest.at,
                s.rest.len,
                "the newline of the last line is missing; the line is complete and is used".to_owned(),
            ),
            Tail::Torn => {
                coverage.mark(s.rest.at..s.rest.at.saturating_add(s.rest.len), Class::Damaged);
                add(
                    &codes::LOG_TORN,
                    severity,
                    s.rest.at,
                    s.rest.len,
                    format!("the last line is cut after {} bytes; all lines before it are used", s.rest.len),
                );
            }
            Tail::Nul => {
                coverage.mark(s.rest.at..s.rest.at.saturating_add(s.rest.len), Class::Free);
                add(
                    &codes::LOG_NUL,
                    severity,
                    s.rest.at,
                    s.rest.len,
                    format!("{} zero bytes behind the last line", s.rest.len),
                );
            }
            Tail::Garbage => {
                coverage.mark(s.rest.at..s.rest.at.saturating_add(s.rest.len), Class::Damaged);
                add(&codes::LOG_GARBAGE, severity, s.rest.at, s.rest.len, "the end of the file is no line".to_owned());
            }
        }
        for g in &s.garbage {
            coverage.mark(g.at..g.at.saturating_add(g.len), Class::Damaged);
            add(
                &codes::LOG_GARBAGE,
                severity,
                g.at,
                g.len,
                format!("{} bytes that are no line are passed over", g.len),
            );
        }
        if s.unordered > 0 {
            add(&codes::LOG_ORDER, severity, 0, s.size, format!("{} lines stand behind a later one", s.unordered));
        }
        for j in &s.jumps {
            let needed = case.way.as_ref().is_some_and(|w| j.to > w.from);
            let severity = match case.branch == Some(j.to) {
                true => Severity::Lost,
                false if needed => Severity::Suspect,
                false => Severity::Note,
            };
            add(
                &codes::LOG_BRANCH,
                severity,
                j.at,
                0,
                format!("after change {} the file goes on with change {}, with another text", j.from, j.to),
            );
        }
        report.object(l.source, name, if used(i) { "log" } else { "log (not used)" }, coverage);
    }
}

fn outcome(report: &mut ReportBuilder, case: &Case) {
    let Some(way) = &case.way else { return };
    if way.dialect.is_none() {
        let f = Finding::new(&codes::AMBIGUOUS, Severity::Damaged, "");
        report.finding(f.summary("nothing tells which product wrote the logs; name it with --as 1.6, 2, 3 or 4"));
    }
    if way.base.is_none() {
        let dialect = way.dialect.map_or("?", Dialect::name);
        let f = Finding::new(&codes::NO_BASE, Severity::Damaged, "");
        report.finding(f.summary(format!(
            "no usable metadata file; the logs start with the first change: rebuilt from a new filesystem of {dialect}"
        )));
    }
    if way.dialect == Some(Dialect::V2) {
        let f = Finding::new(&codes::NOT_PROVEN, Severity::Note, "");
        report.finding(f.summary("2.x: replay rests on one real file; snapshots of this product were not exercised"));
    }
    let last = case.survey.logs.iter().filter_map(|l| l.scan.last).max().unwrap_or(0);
    let stop = case.built.as_ref().and_then(|b| b.stop.clone());
    let behind = |id: u64| last.saturating_add(1).saturating_sub(id);
    if let Some((a, b)) = way.gap.filter(|_| case.built.is_none()) {
        let f = Finding::new(&codes::LOG_GAP, Severity::Lost, "").effect(behind(a), 0);
        report.finding(f.summary(format!("changes {a} to {b} are in no log")));
    }
    let log_name = |log: usize| {
        let i = way.logs.get(log).copied();
        i.and_then(|i| case.survey.logs.get(i)).map_or((0, String::new()), |l| (l.source, l.entry.name.clone()))
    };
    match stop {
        None => {}
        Some(Stop::Gap(a, b)) => {
            let f = Finding::new(&codes::LOG_GAP, Severity::Lost, "").effect(behind(a), 0);
            report.finding(f.summary(format!(
                "changes {a} to {b} are in no log; {} later changes cannot be applied",
                behind(b.saturating_add(1))
            )));
        }
        Some(Stop::Branch(id)) => {
            let f = Finding::new(&codes::LOG_BRANCH, Severity::Lost, "").effect(behind(id), 0);
            report.finding(f.summary(format!("two different lines have the id {id}; replay stops before it")));
        }
        Some(Stop::Line { id, log, at, len, text, why }) => {
            let (source, name) = log_name(log);
            let nothing = case.built.as_ref().is_some_and(|b| b.told == 0);
            let code = match why {
                Why::Status(_) if nothing && way.base.is_some() => &codes::OTHER_FILESYSTEM,
                Why::Status(_) => &codes::REPLAY_STOP,
                _ => &codes::LINE_BAD,
            };
            let shown = recovery_core::names::terminal(&text).into_owned();
            report.finding(
                Finding::new(code, Severity::Lost, name.clone())
                    .source(source)
                    .at(at, len)
                    .summary(format!("{name}:{id}: {why}: {}", shown.split('(').next().unwrap_or_default()))
                    .effect(behind(id), 0),
            );
        }
    }
    let Some(built) = &case.built else { return };
    for c in &built.conflicts {
        let severity = if c.resolved { Severity::Note } else { Severity::Suspect };
        let f = Finding::new(&codes::LOCK_CONFLICT, severity, "");
        report.finding(f.summary(format!(
            "change {} takes a lock on inode {} against one of session {}{}",
            c.change,
            c.inode,
            c.session,
            if c.resolved { ", which is removed behind it" } else { "" }
        )));
    }
    if let Some(id) = built.first_repair.filter(|_| way.dialect == Some(Dialect::V3)) {
        let f = Finding::new(&codes::REPAIR_LINE, Severity::Note, "");
        report.finding(f.summary(format!("change {id} repairs a chunk: 3.x would stop there")));
    }
}

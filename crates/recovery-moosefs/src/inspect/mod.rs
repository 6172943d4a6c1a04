//! Checks that end in findings, facts and candidates.

mod facts;
mod if_started;

use std::sync::Arc;

use recovery_core::{
    Candidate, Class, Context, Coverage, Evidence, Finding, Report, ReportBuilder, Result, Severity, Sources,
};

pub use crate::case::Case;
use crate::case::decide;
use crate::changelog::file::Tail;
use crate::codes;
use crate::dialect::Dialect;
use crate::engine::EngineOptions;
use crate::format::outer::{SECTION_HEAD, section_name};
use crate::model::load::{Issue, IssueKind};
use crate::run::{Stop, Why};
use crate::survey::{CrcState, survey};

/// Inspects the directories.
///
/// # Errors
///
/// When a medium fails, a limit is met or the work is cancelled. Damage is not an error.
pub fn inspect(sources: &Sources, options: &EngineOptions, cx: &Context) -> Result<Report> {
    let mut report = ReportBuilder::new("moosefs", sources, cx.limits.findings);
    let survey = survey(sources, cx)?;
    let asked = options.dialect()?;
    if survey.bases.is_empty() && survey.logs.is_empty() {
        report.unusable();
        report.next("no metadata files and no change logs here: give the data directory of the master or a metalogger");
        return Ok(report.finish());
    }
    let case = decide(survey, asked, options.until()?, options.past_gaps, cx)?;
    findings(&mut report, &case, cx);
    for (rank, w) in (1..).zip(&case.ways) {
        let name = w.base.and_then(|i| case.survey.bases.get(i)).map_or("(new filesystem)", |b| b.entry.name.as_str());
        let source = w.base.and_then(|i| case.survey.bases.get(i)).map_or(0, |b| b.source);
        let facts = serde_json::json!({"from": w.from, "version": w.reach, "metaid": w.metaid,
            "dialect": w.dialect.map(Dialect::name)});
        report.candidate(Candidate { source, name: name.to_owned(), rank, reasons: w.reasons.clone(), facts });
    }
    for action in if_started::if_started(&case, case.way.as_ref().and_then(|w| w.dialect)) {
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
    let f = Finding::new(code, severity, "").summary(issue.text.clone());
    if issue.kind == IssueKind::Orphan {
        // how many, not where: they are what other records do not name
        return f.effect(issue.length, 0);
    }
    f.at(issue.at, issue.length).effect(records, issue.length)
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
    for (source, entry, sessions) in &case.survey.sessions {
        let class = if sessions.is_ok() { Class::Parsed } else { Class::Damaged };
        report.object(*source, entry.name.clone(), "sessions", Coverage::all(entry.size, class));
        if let Err(why) = sessions {
            let f = Finding::new(&codes::SESSIONS_FILE, Severity::Suspect, entry.name.clone());
            report.finding(f.source(*source).at(0, entry.size).summary(format!("{}: {why}", entry.name)));
        }
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

/// What was passed over to apply what stands behind it.
fn passed(report: &mut ReportBuilder, built: &crate::run::Built) {
    let p = &built.passed;
    if p.is_empty() {
        return;
    }
    for (a, b) in &p.gaps {
        let f = Finding::new(&codes::LOG_GAP, Severity::Lost, "").effect(b.saturating_sub(*a).saturating_add(1), 0);
        report.finding(f.summary(format!("changes {a} to {b} are in no log and were passed over")));
    }
    if p.skipped > 0 {
        let f = Finding::new(&codes::PASSED, Severity::Lost, "").effect(p.skipped, 0);
        report.finding(f.summary(format!("{} changes behind that could not be applied", p.skipped)));
    }
    if p.doubtful > 0 {
        let f = Finding::new(&codes::PASSED, Severity::Suspect, "");
        report.finding(f.summary(format!("{} changes were applied with another result than the log says", p.doubtful)));
    }
    for (id, op, why) in p.changes.iter().take(200) {
        let f = Finding::new(&codes::PASSED, Severity::Lost, "");
        report.finding(f.summary(format!("change {id} ({op}) was passed over: {why}")));
    }
}

/// What a point in time cannot bring back.
fn after(report: &mut ReportBuilder, case: &Case) {
    let Some(a) = &case.after else { return };
    let mut say = |text: String| {
        report.finding(Finding::new(&codes::UNTIL, Severity::Note, "").summary(text));
    };
    say(format!("the state behind change {}: {} later changes are taken back", a.until, a.undone));
    if a.clock_back > 0 {
        say(format!("the clock went back: {} changes behind the chosen one carry an earlier time", a.clock_back));
    }
    if let Some(why) = &a.stopped {
        say(why.clone());
    }
    if a.chunks_unknown > 0 {
        say(format!(
            "{} chunks made by later changes are unknown to the restored master, which removes them after about a week",
            a.chunks_unknown
        ));
    }
    if a.files_total > 0 {
        say(format!(
            "{} files of that state have data that is not what it was: {} chunks are deleted, {} hold newer data, {} were given up by all files",
            a.files_total, a.chunks_gone, a.chunks_newer, a.chunks_dropped
        ));
    }
    for f in a.files.iter().take(1000) {
        let path = recovery_core::names::terminal(&f.path).into_owned();
        say(format!(
            "/{path} (inode {}): of {} chunks {} deleted, {} newer, {} given up",
            f.inode, f.chunks, f.gone, f.newer, f.dropped
        ));
    }
}

fn outcome(report: &mut ReportBuilder, case: &Case) {
    if case.way.is_none() && case.until < u64::MAX {
        let f = Finding::new(&codes::UNTIL, Severity::Lost, "");
        let first = case.survey.bases.iter().filter_map(crate::survey::Base::version).min().unwrap_or(0);
        report.finding(f.summary(format!(
            "no metadata file is as old as change {}; the oldest has the state of version {first}",
            case.until
        )));
    }
    let Some(way) = &case.way else { return };
    after(report, case);
    if let (Some(later), Some(built)) = (case.later(), &case.built) {
        let (name, version, reached) = (&later.entry.name, later.version().unwrap_or(0), built.model.version());
        let f = Finding::new(&codes::LATER_STATE, Severity::Lost, name.clone()).source(later.source);
        report.finding(
            f.summary(format!(
                "{name} has the state of version {version}, but damaged; the best whole way ends at {reached}"
            ))
            .effect(version.saturating_sub(reached), 0),
        );
    }
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
                Why::Status(_) if nothing && case.base().is_some_and(|b| !b.lossy) => &codes::OTHER_FILESYSTEM,
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
    passed(report, built);
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

//! The log: what recovery will replay, where it ends, what it cannot reach.

use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Check, Class, Context, Coverage, Depth, Evidence, Finding, IfStarted, Result, Severity};

use super::State;
use crate::codes::pg as codes;
use crate::format::pg::checkpoint::CheckPoint;
use crate::format::pg::control::ControlFile;
use crate::format::pg::wal_page::{self, PageHeader};
use crate::format::pg::{Lsn, SegmentSize, lsn::parse_segment_name, rmgr, wal_record};
use crate::reader::pg::wal::{Expect, Stop, WalDir, Walker};
use crate::reader::pg::wal_scan::{ScanOptions, beyond, rest_is_zero, scan};

/// A log up to this size is covered page by page; of a larger one, page headers are counted with the records.
const FINE: u64 = 8 << 30;

/// Opens the log, with the control file's segment size or the one its pages tell.
pub(super) fn open(state: &mut State) {
    let dir = state.path("pg_wal");
    let known = state.usable.as_ref().map(|(c, _)| (c.system_identifier, c.segment_size()));
    let (id, size) = match known {
        Some((id, Some(size))) => (Some(id), Some(size)),
        _ => from_pages(state, &dir),
    };
    let Some(size) = size else { return };
    let expect = Expect { system_identifier: id, magic: None, major: 0 };
    match WalDir::open(Arc::clone(&state.cluster.source), &dir, size, expect) {
        Ok(mut wal) => {
            let other = |d: &super::Donor| (Arc::clone(&d.cluster.source), d.cluster.path("pg_wal"));
            wal.donors = state.donors.iter().map(other).collect();
            let of = |c: &ControlFile| wal.recovery_timeline(c.checkpoint_copy.this_tli, c.min_recovery_tli);
            state.tli = state.usable.as_ref().map_or(0, |(c, _)| of(c));
            state.wal = Some(Arc::new(wal));
        }
        Err(e) => state.unread(&e),
    }
    let bad = state
        .wal
        .as_ref()
        .map(|w| w.histories.iter().filter(|(_, h)| h.is_none()).map(|(t, _)| *t).collect::<Vec<_>>());
    for tli in bad.unwrap_or_default() {
        let name = format!("{dir}/{tli:08X}.history");
        state.finding(Finding::new(&codes::HISTORY, Severity::Damaged, name));
    }
}

/// System identifier and segment size most segments agree on.
fn from_pages(state: &State, dir: &str) -> (Option<u64>, Option<SegmentSize>) {
    let mut votes: std::collections::BTreeMap<(u64, u32), u32> = std::collections::BTreeMap::new();
    for e in state
        .cluster
        .source
        .list(dir, Depth::One)
        .flatten()
        .filter(|e| parse_segment_name(e.file_name()).is_some())
        .take(256)
    {
        let Ok(blob) = state.cluster.source.open(&e) else { continue };
        let Ok(head) = blob.bytes(0..blob.len().min(wal_page::LONG_HEADER as u64)) else { continue };
        if let Ok(h) = PageHeader::decode(&head)
            && wal_page::plausible_magic(h.magic)
            && let Some(long) = h.long
            && SegmentSize::new(long.segment_size).is_some()
        {
            *votes.entry((long.system_identifier, long.segment_size)).or_default() += 1;
        }
    }
    match votes.into_iter().max_by_key(|(_, n)| *n) {
        Some(((id, size), _)) => (Some(id), SegmentSize::new(size)),
        None => (None, None),
    }
}

/// Unbroken runs of segments of a timeline, oldest first.
pub(super) fn runs(wal: &WalDir, tli: u32) -> Vec<Range<Lsn>> {
    let mut out: Vec<Range<Lsn>> = Vec::new();
    for (_, n) in wal.segments.range((tli, 0)..=(tli, u64::MAX)).map(|(k, _)| *k) {
        let (start, end) = (wal.segment.start(n), wal.segment.start(n.saturating_add(1)));
        match out.last_mut() {
            Some(run) if run.end == start => run.end = end,
            _ => out.push(start..end),
        }
    }
    out
}

/// Walks from the redo point to the end, and looks behind it.
pub(super) fn recovery(state: &mut State, cx: &Context) -> Result<()> {
    let (Some(wal), Some((control, _))) = (state.wal.clone(), state.usable.clone()) else { return Ok(()) };
    let tli = state.tli;
    sizes(state, &wal, tli);
    let redo = control.checkpoint_copy.redo;
    if control.min_recovery_tli > tli {
        let name = format!("{}/{:08X}.history", wal.dir, control.min_recovery_tli);
        let why = format!("the server was on timeline {}, whose history is not there", control.min_recovery_tli);
        state.finding(Finding::new(&codes::HISTORY, Severity::Damaged, &name).summary(why.clone()));
        state.if_started.push(IfStarted::new("refuses", name, why));
    }
    if wal.file(tli, wal.segment.number(redo)).is_none() {
        let name = wal.segment_name(tli, redo);
        let dir = &wal.dir;
        let missing = Evidence::Missing { what: format!("{dir}/{name}") };
        let f = Finding::new(&codes::REDO_MISSING, Severity::Lost, format!("{dir}/{name}"));
        state.finding(
            f.summary(format!("recovery has to begin at {redo}, in a segment that is missing")).evidence(missing),
        );
        state.if_started.push(IfStarted::new(
            "refuses",
            format!("{dir}/{name}"),
            format!("could not find redo location {redo}"),
        ));
        state.lose(
            "wal-after-break",
            format!("the log from {redo} on is missing; a server can only be started after pg_resetwal"),
            1,
            0,
        );
        return Ok(());
    }
    let options = ScanOptions { tli, start: redo, until: Lsn(u64::MAX), heal: true, asked: None };
    let found = scan(&wal, &options, cx)?;
    let clean = control.state.clean();
    healed(state, &wal, tli, &found.healed);
    if let Some(stop) = &found.stop {
        let end_of_present = wal
            .segments
            .range((tli, wal.segment.number(found.end).saturating_add(1))..=(tli, u64::MAX))
            .next()
            .is_some();
        // A server that was running had a segment to write into: where it is missing, its records may be too.
        let cut = matches!(stop, Stop::NoSegment { .. }) && (end_of_present || !clean);
        // Behind an end of zeros there is nothing on the page; a page of an older segment is another matter.
        let zeros = matches!(stop, Stop::Length { got: 0, .. } | Stop::Page { zero: true, .. });
        let quiet = stop.ordinary() && !cut && (!zeros || rest_is_zero(&wal, tli, stop.at()));
        let behind = beyond(&wal, tli, stop, cx)?;
        ended(state, &wal, stop, found.end, &behind, quiet);
        state.beyond = behind;
    }
    state.scan = Some(found);
    checkpoint_record(state, &wal, tli);
    if !clean {
        let (end, records) = state.scan.as_ref().map_or((redo, 0), |s| (s.end, s.summary.records));
        let name = state.path("pg_wal");
        let bytes = end.0.saturating_sub(redo.0);
        let what = format!(
            "state is \"{}\": {records} records ({bytes} bytes) from {redo} to {end} will be replayed",
            control.state
        );
        state.finding(Finding::new(&codes::CRASH_RECOVERY, Severity::Note, &name).summary(what.clone()));
        state.if_started.push(IfStarted::new("replays", name, what));
    }
    if let Some(s) = &state.scan
        && s.overwritten > 0
    {
        let what = format!("{} records were given up by an earlier server", s.overwritten);
        let f = Finding::new(&codes::OVERWRITTEN, Severity::Note, state.path("pg_wal")).summary(what);
        state.finding(f);
    }
    Ok(())
}

/// Says which segments have an impossible size.
fn sizes(state: &mut State, wal: &WalDir, tli: u32) {
    let whole = wal.segment.bytes();
    let odd: Vec<_> =
        wal.segments.iter().filter(|(_, e)| e.size != whole).map(|(k, e)| (*k, e.name.clone(), e.size)).collect();
    for ((t, _), name, size) in odd {
        let f = Finding::new(&codes::WAL_SHORT, Severity::Damaged, &name).at(size.min(whole), whole.abs_diff(size));
        state.finding(f.evidence(Evidence::value("size", size, whole)));
        if size < whole && t == tli {
            state.short_segments.push((name, size));
        }
    }
    let (mut last, mut missing) = (None, Vec::new());
    for (_, n) in wal.segments.range((tli, 0)..=(tli, u64::MAX)).map(|(k, _)| *k) {
        if let Some(l) = last {
            // A gap can be as wide as numbers go: name some, count nothing more.
            let gap = (l + 1..n).filter(|m| wal.file(tli, *m).is_none());
            missing.extend(gap.take(1000_usize.saturating_sub(missing.len())).map(|m| wal.segment.name(tli, m)));
        }
        last = Some(n);
    }
    state.missing_segments = missing;
}

fn place(wal: &WalDir, tli: u32, at: Lsn) -> (String, u64) {
    let file = wal.file(tli, wal.segment.number(at)).map(|e| e.name.clone());
    (file.unwrap_or_else(|| format!("{}/{}", wal.dir, wal.segment_name(tli, at))), wal.segment.offset(at))
}

/// Says a finding at every segment that the stretch touches.
fn say(state: &mut State, wal: &WalDir, tli: u32, stretch: (Lsn, Lsn), finding: &Finding) {
    let (mut from, to) = stretch;
    loop {
        let (name, offset) = place(wal, tli, from);
        let next = wal.segment.start(wal.segment.number(from).saturating_add(1));
        let mut f = finding.clone().at(offset, to.min(next).0.saturating_sub(from.0));
        f.object = name;
        state.finding(f);
        from = next;
        if from >= to {
            return;
        }
    }
}

fn healed(state: &mut State, wal: &WalDir, tli: u32, list: &[crate::reader::pg::wal_heal::Healed]) {
    for h in list {
        let first = h.bytes.first().map_or(h.at, |(l, _)| *l);
        let (name, offset) = place(wal, tli, first);
        let bits: u32 = h.bytes.iter().map(|(_, b)| b.count_ones()).sum();
        let what = if h.donated {
            format!("{}: with {} bytes of another copy the record at {} agrees", h.stop, h.bytes.len(), h.at)
        } else {
            format!("{}: with {bits} bits turned back the record at {} agrees", h.stop, h.at)
        };
        let span = h.bytes.last().map_or(1, |(l, _)| l.0.saturating_sub(first.0).saturating_add(1));
        state.finding(
            Finding::new(&codes::WAL_CORRECTED, Severity::Damaged, name.clone()).at(offset, span).summary(what),
        );
        state.if_started.push(IfStarted::new("truncates", name, format!("replay would end: {}", h.stop)).loses(1, 0));
    }
}

fn ended(
    state: &mut State,
    wal: &WalDir,
    stop: &Stop,
    end: Lsn,
    behind: &crate::reader::pg::wal_scan::Beyond,
    quiet: bool,
) {
    let (name, _) = place(wal, state.tli, stop.at());
    let missing = matches!(stop, Stop::NoSegment { .. });
    let tli = state.tli;
    if behind.records > 0 {
        let first = behind.first.unwrap_or(end);
        let what = format!(
            "{stop}; {} complete records ({} commits) lie behind, from {first} to {}",
            behind.records, behind.commits, behind.end
        );
        let (records, bytes) = (behind.records, behind.end.0.saturating_sub(end.0));
        let code = if missing { &codes::WAL_SEGMENT } else { &codes::WAL_BREAK };
        let f = Finding::new(code, Severity::Lost, &name).summary(what.clone()).effect(records, bytes);
        say(state, wal, tli, stop.extent(), &f);
        let lost = IfStarted::new("truncates", &name, format!("replay ends at {end}: {stop}"));
        state.if_started.push(lost.loses(records, bytes));
        state.lose("wal-after-break", what, records, bytes);
    } else if !quiet {
        let code = if missing { &codes::WAL_SEGMENT } else { &codes::WAL_TAIL };
        let mut f = Finding::new(code, Severity::Suspect, &name).summary(stop.to_string());
        if let Stop::Crc { stored, computed, .. } = stop {
            f = f.evidence(super::crc_evidence(*stored, *computed));
        }
        say(state, wal, tli, stop.extent(), &f);
        state.if_started.push(IfStarted::new("truncates", name, format!("replay ends at {end}: {stop}")));
    }
}

/// Compares the checkpoint record with the control file's copy.
fn checkpoint_record(state: &mut State, wal: &WalDir, tli: u32) {
    let Some((control, layout)) = state.usable.clone() else { return };
    let at = control.checkpoint;
    let mut walker = Walker::new(wal, tli, at, None);
    let wrong = match walker.step() {
        Err(stop) => Some(stop.to_string()),
        Ok(r) => {
            let items = wal_record::items(r.bytes, wal.expect.major).unwrap_or_default();
            let kind = r.header.rmid == rmgr::XLOG
                && matches!(r.header.kind(), rmgr::CHECKPOINT_SHUTDOWN | rmgr::CHECKPOINT_ONLINE);
            let same = wal_record::main_data(r.bytes, &items).starts_with(&control.checkpoint_copy.encode(layout));
            let said =
                CheckPoint::decode(&mut recovery_core::Cursor::new(wal_record::main_data(r.bytes, &items), 0), layout);
            // A server that follows another keeps the next transaction id of the newest checkpoint it has seen in the copy
            // of an older one. (`xlog_redo` in upstream's `xlog.c`.)
            let own = &control.checkpoint_copy;
            let known =
                |c: CheckPoint| c.next_xid <= own.next_xid && CheckPoint { next_xid: own.next_xid, ..c } == *own;
            let equal = same || said.is_ok_and(known);
            if !kind {
                Some(format!("the record at {at} is no checkpoint"))
            } else if equal {
                None
            } else {
                Some(format!("the checkpoint at {at} says something else than the control file"))
            }
        }
    };
    let Some(why) = wrong else { return };
    let (name, offset) = place(wal, tli, at);
    state.finding(Finding::new(&codes::CHECKPOINT, Severity::Lost, &name).at(offset, 120).summary(why.clone()));
    state.if_started.push(IfStarted::new(
        "refuses",
        name,
        format!("could not locate a valid checkpoint record: {why}"),
    ));
    state.lose("checkpoint", why, 1, 0);
}

/// Walks what lies before the redo point and on other timelines, and accounts for every byte of the log.
pub(super) fn older(state: &mut State, cx: &Context) -> Result<()> {
    let Some(wal) = state.wal.clone() else { return Ok(()) };
    let redo = state.usable.as_ref().map(|(c, _)| c.checkpoint_copy.redo);
    let timelines: std::collections::BTreeSet<u32> = wal.segments.keys().map(|(t, _)| *t).collect();
    let (mut spans, mut leads): (Vec<(u32, Range<Lsn>)>, Vec<(u32, Range<Lsn>)>) = (Vec::new(), Vec::new());
    if let Some(s) = &state.scan {
        spans.push((state.tli, s.start..s.end));
    }
    for tli in timelines {
        if tli != state.tli {
            let name = format!("{}/{tli:08X}...", wal.dir);
            let severity = if tli > state.tli { Severity::Suspect } else { Severity::Note };
            let what = format!("segments of timeline {tli} beside timeline {}", state.tli);
            state.finding(Finding::new(&codes::TIMELINES, severity, name).summary(what));
        }
        if cx.check == Check::Structure {
            continue;
        }
        for run in runs(&wal, tli) {
            let until = match redo {
                Some(r) if tli == state.tli && state.scan.is_some() => run.end.min(r),
                _ => run.end,
            };
            if run.start >= until {
                continue;
            }
            let options = ScanOptions { tli, start: run.start, until, heal: true, asked: None };
            let found = scan(&wal, &options, cx)?;
            healed(state, &wal, tli, &found.healed);
            let joined = found.end == until || Some(wal.record_start(found.end)) == redo.map(|r| wal.record_start(r));
            if let Some(stop) = found.stop.as_ref().filter(|s| !joined && (!s.ordinary() || until != run.end)) {
                let f = Finding::new(&codes::WAL_OLD, Severity::Damaged, "").summary(stop.to_string());
                say(state, &wal, tli, stop.extent(), &f);
            }
            // What a record of a segment that is gone continues with stands under no checksum that could be computed.
            let first = found.first.unwrap_or(found.end);
            leads.push((tli, run.start..first));
            spans.push((tli, first..found.end));
            state.older.push(found);
        }
    }
    items_and_padding(state, &wal);
    cover(state, &wal, &spans, &leads, cx)
}

fn items_and_padding(state: &mut State, wal: &WalDir) {
    let tli = state.tli;
    let scans: Vec<_> = state
        .scan
        .iter()
        .chain(&state.older)
        .map(|s| (s.summary.first_bad_items, s.summary.bad_items, s.padding))
        .collect();
    for (bad, n, padding) in scans {
        if let Some(at) = bad {
            let (name, offset) = place(wal, tli, at);
            let f = Finding::new(&codes::RECORD_ITEMS, Severity::Suspect, name).at(offset, 24);
            state.finding(f.summary(format!("{n} records whose parts contradict each other, the first at {at}")));
        }
        if let (n, Some(at)) = padding {
            let (name, offset) = place(wal, tli, at);
            let f = Finding::new(&codes::WAL_PADDING, Severity::Suspect, name).at(offset, 8 - offset % 8);
            state.finding(f.summary(format!("at {n} places bytes between records are not zero, the first at {at}")));
        }
    }
}

/// Accounts for every byte of every segment.
fn cover(
    state: &mut State,
    wal: &WalDir,
    spans: &[(u32, Range<Lsn>)],
    leads: &[(u32, Range<Lsn>)],
    cx: &Context,
) -> Result<()> {
    let total: u64 = wal.segments.values().map(|e| e.size).fold(0, u64::saturating_add);
    let patched = wal.patches();
    let skipped: Vec<Range<Lsn>> =
        state.scan.iter().chain(&state.older).flat_map(|s| s.skipped.iter().cloned()).collect();
    for ((tli, n), entry) in &wal.segments {
        let (start, end) = (wal.segment.start(*n), wal.segment.start(n.saturating_add(1)));
        let mut c = Coverage::new(entry.size);
        let mut read = false;
        for (_, span) in spans.iter().filter(|(t, _)| t == tli) {
            let (from, to) = (span.start.max(start), span.end.min(end));
            if from < to {
                read = true;
                for part in without(from..to, &skipped) {
                    records(&mut c, part.start.0 - start.0..part.end.0 - start.0, total <= FINE);
                }
            }
        }
        for (_, lead) in leads.iter().filter(|(t, _)| t == tli) {
            let (from, to) = (lead.start.max(start), lead.end.min(end));
            if from < to {
                read = true;
                c.mark(from.0 - start.0..to.0 - start.0, Class::Parsed);
            }
        }
        // What no walk reached: behind the end it is preallocated or recycled, elsewhere nobody looked.
        let looked = cx.check == Check::Full;
        let reached = spans.iter().filter(|(t, _)| t == tli).map(|(_, s)| s.end).max().unwrap_or(Lsn(0));
        let rest = if looked || start >= reached || read { Class::Free } else { Class::Unread };
        let gaps: Vec<_> = c.of(Class::Unknown).collect();
        for gap in gaps {
            if looked {
                for lost in gap_unread(state, wal, *tli, start, entry, &gap, cx)? {
                    unread_log(state, entry, &lost);
                    c.mark(lost, Class::Unread);
                }
            }
            c.mark(gap, rest);
        }
        for (lsn, _) in patched.range(start.0..end.0) {
            let at = lsn - start.0;
            c.mark(at..at.saturating_add(1), Class::Damaged);
        }
        damage(&mut c, state, &entry.name);
        let class = if *tli == state.tli { "live" } else { "other-timeline" };
        state.cover(&entry.name, class, c);
    }
    for e in &wal.others {
        state.cover(&e.name, "other", Coverage::all(e.size, Class::Parsed));
    }
    let histories: Vec<u32> = wal.histories.keys().copied().collect();
    for tli in histories {
        let name = format!("{}/{tli:08X}.history", wal.dir);
        if let Ok(Some(e)) = state.cluster.source.stat(&name) {
            state.cover(&name, "history", Coverage::all(e.size, Class::Parsed));
        }
    }
    Ok(())
}

/// What cannot be read of a stretch without records. Behind the end of the log every page was looked at already.
fn gap_unread(
    state: &State,
    wal: &WalDir,
    tli: u32,
    start: Lsn,
    entry: &recovery_core::Entry,
    gap: &Range<u64>,
    cx: &Context,
) -> Result<Vec<Range<u64>>> {
    let stop = state.scan.as_ref().and_then(|s| s.stop.as_ref()).filter(|_| tli == state.tli);
    let behind = stop.map_or(u64::MAX, |s| s.at().page().plus(8192).0.saturating_sub(start.0).max(gap.start));
    let mut out = super::others::unreadable(state, entry, gap.start..gap.end.min(behind), cx)?;
    let own = wal.segment.bytes();
    for pages in state.beyond.unread.iter().filter(|_| tli == state.tli) {
        let (from, to) = (pages.start.0.saturating_sub(start.0), pages.end.0.saturating_sub(start.0).min(own));
        let (from, to) = (from.max(gap.start), to.min(gap.end));
        if from < to && pages.end > start {
            out.push(from..to);
        }
    }
    Ok(out)
}

fn unread_log(state: &mut State, entry: &recovery_core::Entry, lost: &Range<u64>) {
    let n = lost.end.saturating_sub(lost.start);
    let f = Finding::new(&codes::WAL_UNREAD, Severity::Suspect, &entry.name).at(lost.start, n);
    state.finding(f.summary(format!("{n} bytes behind the records cannot be read")));
}

/// A stretch without the parts that hold no records.
fn without(whole: Range<Lsn>, skipped: &[Range<Lsn>]) -> Vec<Range<Lsn>> {
    let mut out = Vec::new();
    let mut at = whole.start;
    let mut holes: Vec<&Range<Lsn>> = skipped.iter().filter(|s| s.end > whole.start && s.start < whole.end).collect();
    holes.sort_by_key(|h| h.start);
    for hole in holes {
        if at < hole.start {
            out.push(at..hole.start);
        }
        at = at.max(hole.end);
    }
    if at < whole.end {
        out.push(at..whole.end);
    }
    out
}

fn records(c: &mut Coverage, span: Range<u64>, fine: bool) {
    if !fine {
        c.mark(span, Class::Parsed);
        return;
    }
    let mut at = span.start;
    while at < span.end {
        let page = at / 8192 * 8192;
        let head = page + if page == 0 { wal_page::LONG_HEADER as u64 } else { wal_page::SHORT_HEADER as u64 };
        let next = (page + 8192).min(span.end);
        if at < head {
            c.mark(at..head.min(next), Class::Parsed);
        }
        if head.max(at) < next {
            c.mark(head.max(at)..next, Class::Verified);
        }
        at = page + 8192;
    }
}

/// Marks what findings of damage name.
fn damage(c: &mut Coverage, state: &State, name: &str) {
    let codes = [codes::WAL_BREAK.code, codes::WAL_TAIL.code, codes::WAL_OLD.code, codes::WAL_PADDING.code];
    for f in state.findings.iter().filter(|f| f.object == name && codes.contains(&f.code)) {
        if let (Some(at), Some(n)) = (f.offset, f.length) {
            c.mark(at..at.saturating_add(n), Class::Damaged);
        }
    }
}

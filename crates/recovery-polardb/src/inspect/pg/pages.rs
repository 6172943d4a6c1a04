//! Data pages: judged by their checksums, and by whether replay repairs them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use recovery_core::{Check, Class, Context, Coverage, Evidence, Finding, IfStarted, Result, Severity};

use super::{State, Taken};
use crate::codes::pg as codes;
use crate::format::pg::Lsn;
use crate::format::pg::page::Verdict;
use crate::format::pg::relfile::Fork;
use crate::reader::pg::pages::{BadPage, PageRules, relations, verify as verify_pages};
use crate::reader::pg::wal_scan::{ScanOptions, scan};
use crate::reader::pg::wal_summary::{Asked, Block};

/// Lists the relation files.
pub(super) fn list(state: &mut State) {
    match relations(&state.cluster) {
        Ok(r) => state.relations = r,
        Err(e) => state.unread(&e),
    }
    for (name, text) in state.relations.outward.clone() {
        let f = Finding::new(&codes::OUTWARD, Severity::Damaged, &name);
        state.finding(f.summary(format!("the link leads to {text}, which is not in the source")));
        state.lose("relation-file", format!("{name}: the tablespace at {text} is not in the source"), 1, 0);
    }
}

fn fork_number(fork: Fork) -> u8 {
    match fork {
        Fork::Main => 0,
        Fork::Fsm => 1,
        Fork::Vm => 2,
        Fork::Init => 3,
    }
}

/// Verifies every page, and asks the log which bad ones replay restores.
pub(super) fn verify(state: &mut State, cx: &Context) -> Result<()> {
    state.checksums = state.usable.as_ref().is_some_and(|(c, _)| c.data_checksum_version != 0);
    segments(state);
    if cx.check == Check::Structure {
        for f in &state.relations.files {
            let c = Coverage::all(f.entry.size, Class::Unread);
            state.coverage.insert(f.entry.name.clone(), ("relation".to_owned(), c));
        }
        state.partial = true;
        return Ok(());
    }
    let relseg_size = state.usable.as_ref().map_or(131_072, |(c, _)| c.relseg_size);
    let rules = PageRules { checksums: state.checksums, relseg_size, wal_end: state.wal_end() };
    // An unlogged relation is emptied after a crash, a temporary one at every start: their damage costs nothing then.
    state.pages = verify_pages(&state.cluster.source, &state.relations.files, rules, cx)?;
    if !state.checksums && state.pages.pages > 0 && state.usable.is_some() {
        let what = format!("{} pages were looked at, their headers only", state.pages.pages);
        state.finding(Finding::new(&codes::NO_CHECKSUMS, Severity::Note, state.path("base")).summary(what));
    }
    let restored = replayed(state, cx)?;
    let taken = super::donor::pages(state);
    bad_pages(state, &restored, &taken);
    totals(state);
    for (i, c) in std::mem::take(&mut state.pages.coverage) {
        if let Some(f) = state.relations.files.get(i) {
            state.coverage.insert(f.entry.name.clone(), ("relation".to_owned(), c));
        }
    }
    Ok(())
}

fn block_of(state: &State, bad: &BadPage) -> Option<Block> {
    let f = state.relations.files.get(bad.file)?;
    Some((f.locator, fork_number(f.file.fork), bad.block))
}

fn replayed(state: &mut State, cx: &Context) -> Result<BTreeMap<usize, Lsn>> {
    let clean = state.usable.as_ref().is_none_or(|(c, _)| c.state.clean());
    let (Some(wal), Some(s), false) = (state.wal.clone(), state.scan.as_ref(), state.pages.list.is_empty() || clean)
    else {
        return Ok(BTreeMap::new());
    };
    let blocks: HashSet<Block> = state.pages.list.iter().filter_map(|b| block_of(state, b)).collect();
    let asked = Some(Arc::new(Asked { blocks }));
    let options = ScanOptions { tli: state.tli, start: s.start, until: s.end, heal: false, asked };
    let found = scan(&wal, &options, cx)?;
    let hit = |b: &BadPage| block_of(state, b).and_then(|k| found.summary.restored.get(&k).copied());
    Ok(state.pages.list.iter().enumerate().filter_map(|(i, b)| Some((i, hit(b)?))).collect())
}

fn bad_pages(state: &mut State, restored: &BTreeMap<usize, Lsn>, taken: &BTreeMap<usize, Taken>) {
    let clean = state.usable.as_ref().is_none_or(|(c, _)| c.state.clean());
    let fpw = state.usable.as_ref().is_some_and(|(c, _)| c.checkpoint_copy.full_page_writes);
    let mut lost = 0u64;
    for (i, bad) in state.pages.list.clone().into_iter().enumerate() {
        let Some(f) = state.relations.files.get(bad.file).cloned() else { continue };
        let at = bad.index.saturating_mul(8192);
        let what = wrong(&bad);
        if let Some(taken) = taken.get(&i) {
            super::donor::take(state, &bad, &f.entry.name, &what, taken);
            continue;
        }
        let temporary = f.file.temporary;
        let (code, severity, note) = match restored.get(&i) {
            Some(lsn) => {
                (&codes::PAGE_REPLAYED, Severity::Damaged, format!("; replay restores it from the record at {lsn}"))
            }
            None if temporary => (
                &codes::PAGE,
                Severity::Note,
                "; it belongs to a temporary relation, which the start removes".to_owned(),
            ),
            // The two maps are made anew by VACUUM, and the server zeroes a damaged page of the free-space map itself.
            None if f.file.fork == Fork::Fsm => {
                (&codes::PAGE, Severity::Damaged, "; the free-space map is made anew by VACUUM".to_owned())
            }
            None if !clean && !fpw => {
                (&codes::PAGE, Severity::Lost, "; perhaps torn by the crash (full_page_writes is off)".to_owned())
            }
            None => (&codes::PAGE, Severity::Lost, String::new()),
        };
        let code = if bad.verdict.is_none() { &codes::PAGE_UNREAD } else { code };
        let mut out = Finding::new(code, severity, &f.entry.name).at(at, 8192);
        if let Some(Verdict::Checksum { stored, computed }) = bad.verdict {
            out = out.evidence(Evidence::checksum("pg_checksum", stored, computed));
        }
        let records = u64::from(severity == Severity::Lost);
        lost = lost.saturating_add(records);
        state.finding(out.summary(format!("{what}{note}")).effect(records, records * 8192));
    }
    let uncounted = state.pages.bad.saturating_sub(state.pages.list.len() as u64);
    lost = lost.saturating_add(uncounted);
    if lost > 0 {
        state.lose("data-pages", format!("{lost} damaged pages"), lost, lost.saturating_mul(8192));
        let name = state.path("base");
        state.if_started.push(IfStarted::new(
            "reports errors",
            name,
            format!("reading any of {lost} pages fails: invalid page in block"),
        ));
    }
}

/// What is wrong with a page.
fn wrong(bad: &BadPage) -> String {
    match bad.verdict {
        Some(Verdict::Checksum { stored, computed }) => {
            format!("block {}: calculated checksum {computed:X} but block contains {stored:X}", bad.block)
        }
        Some(Verdict::NotZero) => format!("block {}: marked as never initialised, but not zero", bad.block),
        Some(_) => format!("block {}: impossible page header", bad.block),
        None => format!("block {} cannot be read", bad.block),
    }
}

fn totals(state: &mut State) {
    let base = state.path("base");
    if state.pages.new > 0 {
        let what = format!("{} pages of {} were never initialised", state.pages.new, state.pages.pages);
        state.finding(Finding::new(&codes::ZERO_PAGES, Severity::Note, &base).summary(what));
    }
    // Hint bits and crash timing leave some pages ahead only when the log is torn; a clean end has none.
    if state.pages.ahead > 0 {
        let end = state.wal_end().unwrap_or_default();
        let what =
            format!("{} pages were changed by records behind {end}, up to {}", state.pages.ahead, state.pages.newest);
        state.finding(Finding::new(&codes::PAGES_AHEAD, Severity::Suspect, &base).summary(what));
    }
    if state.pages.encrypted > 0 || state.cluster.has("global/pg_kmgr") {
        let what = format!("{} encrypted pages", state.pages.encrypted);
        state.finding(Finding::new(&codes::ENCRYPTED, Severity::Note, state.path("global")).summary(what));
    }
    for (i, odd) in state.pages.cut.clone() {
        let Some(f) = state.relations.files.get(i) else { continue };
        let (name, whole) = (f.entry.name.clone(), f.entry.size - odd);
        state.finding(
            Finding::new(&codes::PAGE_CUT, Severity::Lost, &name)
                .at(whole, odd)
                .summary(format!("{odd} bytes behind the last whole page"))
                .effect(1, odd),
        );
        state.lose("data-pages", format!("{name} ends inside a page"), 1, odd);
        if let Some(c) = state.pages.coverage.get_mut(&i) {
            c.mark(whole..whole.saturating_add(odd), Class::Damaged);
        }
    }
    for (_, e) in state.pages.unopened.clone() {
        state.unread(&e);
    }
}

/// Compares the segments of each relation fork.
fn segments(state: &mut State) {
    let full = state.usable.as_ref().map_or(131_072, |(c, _)| u64::from(c.relseg_size)).saturating_mul(8192);
    let mut forks: BTreeMap<_, Vec<(u32, u64, String)>> = BTreeMap::new();
    for f in &state.relations.files {
        let key = (f.locator, fork_number(f.file.fork), f.file.temporary);
        forks.entry(key).or_default().push((f.file.segment, f.entry.size, f.entry.name.clone()));
    }
    for list in forks.values_mut() {
        list.sort();
        let mut before: Option<(u32, u64)> = None;
        for (segment, size, name) in list.iter() {
            let gap = match before {
                None => *segment > 0,
                // A segment cut to nothing is left behind when a relation shrinks; that is no gap.
                Some((b, size_before)) => *size > 0 && (*segment > b.saturating_add(1) || size_before < full),
            };
            if gap {
                let what = format!("segment {segment} is there, but one before it is missing or not full");
                state.findings.push(
                    Finding::new(&codes::RELATION_SEGMENT, Severity::Lost, name)
                        .summary(what.clone())
                        .effect(1, *size)
                        .source(state.number),
                );
                state.losses.push(super::Loss {
                    name: "relation-file",
                    summary: format!("{name}: {what}"),
                    records: 1,
                    bytes: *size,
                });
            }
            before = Some((*segment, *size));
        }
    }
}

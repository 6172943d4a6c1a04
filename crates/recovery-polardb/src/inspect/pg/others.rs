//! Everything beside log and pages: slots, transaction status, prepared transactions, maps, leftovers.

use recovery_core::{Check, Class, Context, Coverage, Depth, Entry, Evidence, Finding, IfStarted, Result, Severity};

use std::ops::Range;

use super::{State, crc_evidence};
use crate::codes::pg as codes;
use crate::format::pg::slot::{SlotError, SlotLayout};
use crate::format::pg::{backup_label, logindex, relmap, twophase, version};
use crate::reader::pg::slots::{SlotState, slots as read_slots};
use crate::reader::pg::slru;

/// Names that only PolarDB makes in a data directory.
const POLAR: [&str; 7] =
    ["pg_logindex", "polar_fullpage", "polar_flog", "polar_dma", "pg_csnlog", "RWID", "global/polar_settings.conf"];

/// Files in a shared directory that change what a server started on it becomes.
const ROLES: [&str; 7] = [
    "standby.signal",
    "replica.signal",
    "recovery.signal",
    "recovery.conf",
    "backup_label",
    "polar_exclusive_backup_label",
    "polar_non_exclusive_backup_label",
];

/// Settles the major version, and whether this is PolarDB's.
pub(super) fn major(state: &mut State) {
    let said = state.cluster.major();
    let magic = state.wal.as_ref().and_then(|w| w.expect.magic).and_then(version::of_wal_magic);
    let hint = state.usable.as_ref().map(|(c, _)| c.major_hint());
    state.major = magic.or(said).or(hint).unwrap_or(15);
    state.polardb = POLAR.iter().any(|p| state.cluster.has(p));
    if said.is_some_and(|s| s != state.major) {
        let what = format!("PG_VERSION says {}, the log says {}", said.unwrap_or(0), state.major);
        state.finding(Finding::new(&codes::MAJOR, Severity::Suspect, state.path("PG_VERSION")).summary(what));
    }
    if !matches!(state.major, 11..=17) {
        let what = format!("major version {} is not supported; 11 to 17 are", state.major);
        state.finding(Finding::new(&codes::MAJOR, Severity::Suspect, state.path("PG_VERSION")).summary(what));
    }
    if state.major != 15 {
        let what = format!("PostgreSQL {}: layouts known from published source only", state.major);
        state.finding(Finding::new(&codes::NOT_PROVEN, Severity::Note, state.cluster.root.clone()).summary(what));
    }
}

/// Whether a readable slot is a logical one; asked before the slots are judged.
pub(super) fn any_logical_slot(state: &State) -> bool {
    read_slots(&state.cluster).is_ok_and(|l| l.iter().any(|s| matches!(&s.state, SlotState::Good(s) if !s.physical())))
}

/// Judges the replication slots.
pub(super) fn slots(state: &mut State) {
    match read_slots(&state.cluster) {
        Ok(list) => state.slots = list,
        Err(e) => state.unread(&e),
    }
    for found in state.slots.clone() {
        let dir = state.path(&format!("pg_replslot/{}", found.name));
        let file = format!("{dir}/state");
        match &found.state {
            SlotState::Good(slot) => {
                let covered = 16 + u64::from(slot.layout.length());
                let mut c = Coverage::new(found.size);
                c.mark(0..covered, Class::Verified);
                c.mark(covered..found.size, Class::Parsed);
                state.cover(&file, "slot", c);
                if slot.name != found.name {
                    let f = Finding::new(&codes::SLOT_BAD, Severity::Suspect, &file);
                    state.finding(f.evidence(Evidence::value("name", &slot.name, &found.name)));
                }
                if slot.persistency != 0 {
                    state.finding(
                        Finding::new(&codes::SLOT_LEFTOVER, Severity::Note, &dir)
                            .summary("a temporary slot: the server removes it"),
                    );
                }
                if slot.layout != SlotLayout::Vanilla15 {
                    let what = format!("slot layout {:?}", slot.layout);
                    state.finding(Finding::new(&codes::NOT_PROVEN, Severity::Note, &file).summary(what));
                }
                slot_wal(state, &dir, slot.needs());
            }
            SlotState::Bad(e) => {
                state.cover(&file, "slot", Coverage::all(found.size, Class::Damaged));
                let mut f =
                    Finding::new(&codes::SLOT_BAD, Severity::Lost, &file).at(0, found.size).summary(e.to_string());
                if let SlotError::Crc { stored, computed } = e {
                    f = f.evidence(crc_evidence(*stored, *computed));
                }
                state.finding(f.effect(1, found.size));
                state.if_started.push(IfStarted::new("refuses", &file, format!("PANIC: {e}")));
                state.lose("replication-slot", format!("{}: {e}", found.name), 1, found.size);
            }
            SlotState::Missing => {
                let f =
                    Finding::new(&codes::SLOT_EMPTY, Severity::Lost, &dir).evidence(Evidence::Missing { what: file });
                state.finding(f.effect(1, 0));
                state.if_started.push(IfStarted::new("skips", dir, "a slot directory without a state file"));
                state.lose("replication-slot", format!("{}: no state file", found.name), 1, 0);
            }
            SlotState::Unreadable(e) => {
                state.unread(e);
                state.lose("replication-slot", format!("{}: cannot be read", found.name), 1, 0);
            }
            SlotState::Leftover => {
                state.finding(Finding::new(&codes::SLOT_LEFTOVER, Severity::Note, &dir));
                state.if_started.push(IfStarted::new("deletes", dir, "a leftover of a dropped slot"));
            }
        }
    }
}

fn slot_wal(state: &mut State, dir: &str, needs: Option<crate::format::pg::Lsn>) {
    let (Some(lsn), Some(wal)) = (needs, state.wal.clone()) else { return };
    let number = wal.segment.number(lsn);
    let oldest = wal.segments.range((state.tli, 0)..=(state.tli, u64::MAX)).next().map(|((_, n), _)| *n);
    let gap = oldest.is_some_and(|o| number < o && !wal.segments.keys().any(|(t, n)| *t < state.tli && *n == number));
    if gap {
        let what =
            format!("needs the log from {lsn} ({}), which is not there any more", wal.segment_name(state.tli, lsn));
        state.finding(Finding::new(&codes::SLOT_WAL, Severity::Suspect, dir).summary(what));
    }
}

/// Judges transaction status and its kin.
pub(super) fn status(state: &mut State) {
    let point = state.usable.as_ref().map(|(c, _)| c.checkpoint_copy.clone());
    for kind in [slru::XACT, slru::OFFSETS, slru::MEMBERS, slru::COMMIT_TS] {
        let health = match slru::health(&state.cluster, kind, point.as_ref()) {
            Ok(h) => h,
            Err(e) => {
                state.unread(&e);
                continue;
            }
        };
        for f in &health.files {
            let mut c = Coverage::all(f.size, Class::Parsed);
            if health.odd.contains(f) {
                c.mark(f.size / 8192 * 8192..f.size, Class::Damaged);
            }
            state.cover(&f.name, "status", c);
        }
        for f in &health.odd {
            let whole = f.size / 8192 * 8192;
            let short =
                Finding::new(&codes::SLRU_LENGTH, Severity::Damaged, &f.name).at(whole, f.size.saturating_sub(whole));
            state.finding(short.evidence(Evidence::value("size", f.size, "a multiple of 8192, at most 262144")));
        }
        for (first, last) in &health.missing {
            let name = state.path(kind.dir);
            let entries = (last - first + 1).saturating_mul(kind.per_page);
            let from = first.saturating_mul(kind.per_page);
            let what =
                format!("pages {first} to {last} are missing: the fate of {} from {from} on is not known", kind.what);
            state.finding(
                Finding::new(&codes::SLRU_MISSING, Severity::Lost, &name)
                    .summary(what.clone())
                    .effect(entries, (last - first + 1) * 8192),
            );
            state
                .if_started
                .push(IfStarted::new("refuses", &name, "could not access status of transaction").loses(entries, 0));
            state.lose("transaction-status", what, entries, (last - first + 1) * 8192);
        }
        state.slru.insert(kind.dir, health);
    }
}

/// Lists prepared transactions: of files, and of the log.
pub(super) fn prepared(state: &mut State) {
    let entries = match state.cluster.list("pg_twophase", Depth::One) {
        Ok(l) => l,
        Err(e) => return state.unread(&e),
    };
    let finished = state.scan.as_ref().map(|s| s.summary.finished.clone()).unwrap_or_default();
    for e in entries.into_iter().filter(Entry::is_file) {
        let Some(xid) = twophase::xid_of(e.file_name()) else { continue };
        let xid = u32::try_from(xid & 0xffff_ffff).unwrap_or(0);
        let rel = format!("pg_twophase/{}", e.file_name());
        let bytes = match state.cluster.small(&rel, 1 << 30) {
            Ok(Some(b)) => b,
            Ok(None) => continue,
            Err(e) => {
                state.unread(&e);
                continue;
            }
        };
        match twophase::decode_file(&bytes, state.major) {
            Ok(p) => {
                state.cover(&e.name, "prepared", Coverage::all(e.size, Class::Verified));
                if !finished.contains(&p.xid) {
                    state.prepared.insert(p.xid, p);
                }
            }
            Err(why) => {
                state.cover(&e.name, "prepared", Coverage::all(e.size, Class::Damaged));
                let open = !finished.contains(&xid);
                let severity = if open { Severity::Lost } else { Severity::Damaged };
                let f = Finding::new(&codes::TWOPHASE_BAD, severity, &e.name).at(0, e.size).summary(why.to_string());
                state.finding(f.effect(u64::from(open), e.size));
                state.bad_twophase.push(e.name.clone());
                if open {
                    state.if_started.push(IfStarted::new("refuses", &e.name, why.to_string()));
                    state.lose("prepared-transaction", format!("{}: {why}", e.name), 1, e.size);
                }
            }
        }
    }
    if let Some(s) = &state.scan {
        let of_log: Vec<_> = s.summary.prepared.iter().map(|(x, (_, p))| (*x, p.clone())).collect();
        state.prepared.extend(of_log);
    }
    if !state.prepared.is_empty() {
        let what = format!("{} prepared transactions are open", state.prepared.len());
        state.finding(Finding::new(&codes::PREPARED, Severity::Note, state.path("pg_twophase")).summary(what));
    }
}

/// Judges the relation maps and the files they name.
pub(super) fn maps(state: &mut State) {
    let mut places: Vec<String> = vec!["global".to_owned()];
    if let Ok(list) = state.cluster.list("base", Depth::One) {
        let database = |e: &&Entry| e.is_dir() && e.file_name().bytes().all(|b| b.is_ascii_digit());
        places.extend(list.iter().filter(database).map(|e| format!("base/{}", e.file_name())));
    }
    for rel in places {
        // A database directory without a PG_VERSION is one that was being made or dropped.
        let lives = rel == "global" || state.cluster.has(&format!("{rel}/PG_VERSION"));
        let name = state.path(&format!("{rel}/pg_filenode.map"));
        match state.cluster.small(&format!("{rel}/pg_filenode.map"), 64 << 10) {
            Ok(Some(bytes)) => one_map(state, &rel, &name, &bytes),
            Ok(None) if lives => {
                let f = Finding::new(&codes::RELMAP, Severity::Lost, &name)
                    .evidence(Evidence::Missing { what: name.clone() });
                state.finding(f.effect(1, 0));
                state.lose("relation-map", format!("{name} is missing"), 1, 0);
            }
            Ok(None) => {}
            Err(e) => state.unread(&e),
        }
    }
}

fn one_map(state: &mut State, rel: &str, name: &str, bytes: &[u8]) {
    let size = bytes.len() as u64;
    match relmap::decode(bytes) {
        Ok(map) => {
            let covered = if size >= 524 { 524 } else { 508 };
            state.cover_head(name, size, covered, true, Class::Parsed);
            for (oid, file) in map.entries {
                if !state.cluster.has(&format!("{rel}/{file}")) {
                    let missing = state.path(&format!("{rel}/{file}"));
                    let f = Finding::new(&codes::MAPPED, Severity::Lost, &missing)
                        .evidence(Evidence::Missing { what: missing.clone() });
                    state.finding(f.summary(format!("the map names it for catalog {oid}")).effect(1, 0));
                    state.lose("relation-file", format!("{missing} is missing"), 1, 0);
                }
            }
        }
        Err(e) => {
            state.cover_head(name, size, size, false, Class::Damaged);
            let f =
                Finding::new(&codes::RELMAP, Severity::Lost, name).at(0, size).summary(e.to_string()).effect(1, size);
            state.finding(f);
            let action = if rel == "global" { "refuses" } else { "reports errors" };
            state.if_started.push(IfStarted::new(action, name, e.to_string()));
            state.lose("relation-map", format!("{name}: {e}"), 1, size);
        }
    }
}

/// Finds files that change the role of a server, and judges the log index.
pub(super) fn leftovers(state: &mut State) {
    // A node's own directory holds its own signal file; only a shared directory must have none.
    let shared = !state.cluster.has("postgresql.conf");
    for rel in ROLES {
        if !state.cluster.has(rel) {
            continue;
        }
        let name = state.path(rel);
        if rel.ends_with("label") {
            let text = state.cluster.small(rel, 64 << 10).ok().flatten();
            state.label = text.and_then(|t| backup_label::parse(&String::from_utf8_lossy(&t)));
            if let (Some(l), Some((c, _))) = (&state.label, &state.usable) {
                let what =
                    format!("{rel} names the redo point {}, the control file {}", l.start, c.checkpoint_copy.redo);
                state.if_started.push(IfStarted::new("starts elsewhere", &name, what));
            }
        }
        let severity = if shared { Severity::Suspect } else { Severity::Note };
        if shared {
            state.leftovers.push(rel);
        }
        state.finding(Finding::new(&codes::LEFTOVER, severity, name));
    }
    if state.cluster.has("pg_logindex") {
        let meta = state.cluster.small("pg_logindex/log_index_meta", 64 << 10).ok().flatten();
        let healthy = meta.as_deref().is_some_and(|b| matches!(logindex::decode(b), Ok(Some(_))));
        let empty = state.cluster.list("pg_logindex", Depth::One).is_ok_and(|l| l.is_empty());
        if !healthy && !empty {
            state.finding(Finding::new(&codes::LOGINDEX, Severity::Note, state.path("pg_logindex")));
        }
        if !empty {
            let f = Finding::new(&codes::NOT_PROVEN, Severity::Note, state.path("pg_logindex"));
            state.finding(f.summary("log index: layout known from published source only"));
        }
    }
}

/// Accounts for the files nobody looked into.
pub(super) fn foreign(state: &mut State, cx: &Context) -> Result<()> {
    let known = |rel: &str| {
        let top = rel.split('/').next().unwrap_or(rel);
        top.starts_with("pg_")
            || top.starts_with("polar_")
            || [
                "base",
                "global",
                "PG_VERSION",
                "postmaster.opts",
                "postmaster.pid",
                "current_logfiles",
                "RWID",
                "DEATH",
            ]
            .contains(&top)
            || std::path::Path::new(rel).extension().is_some_and(|e| e == "conf" || e == "signal")
            || rel.ends_with("backup_label")
    };
    let entries = match state.cluster.list("", Depth::All) {
        Ok(l) => l,
        Err(e) => {
            state.unread(&e);
            return Ok(());
        }
    };
    let foreign: std::collections::BTreeSet<String> = state.relations.foreign.iter().map(|e| e.name.clone()).collect();
    for e in entries.into_iter().filter(Entry::is_file) {
        if state.coverage.contains_key(&e.name) || state.cluster.rel(&e.name).starts_with(".recover/") {
            continue;
        }
        let mine = known(state.cluster.rel(&e.name)) && !foreign.contains(&e.name);
        let class = if mine { "other" } else { "foreign" };
        let mut coverage = Coverage::all(e.size, Class::Parsed);
        if cx.check == Check::Full {
            for range in unreadable(state, &e, 0..e.size, cx)? {
                let lost = range.end.saturating_sub(range.start);
                let f = Finding::new(&codes::UNREAD, Severity::Lost, &e.name).at(range.start, lost);
                state.finding(f.summary(format!("{lost} bytes cannot be read")).effect(1, lost));
                state.lose("unreadable-file", format!("{}: {lost} bytes cannot be read", e.name), 1, lost);
                coverage.mark(range, Class::Unread);
            }
        } else {
            coverage.mark(0..e.size, Class::Unread);
        }
        state.cover(&e.name, class, coverage);
    }
    let parsed: u64 = state.coverage.values().map(|(_, c)| c.totals().parsed).fold(0, u64::saturating_add);
    let what = format!("{parsed} bytes are known by their place only");
    state.finding(Finding::new(&codes::UNCOVERED, Severity::Note, state.cluster.root.clone()).summary(what));
    Ok(())
}

/// Reads bytes of which only the place is known; gives what cannot be read of them.
pub(super) fn unreadable(state: &State, entry: &Entry, range: Range<u64>, cx: &Context) -> Result<Vec<Range<u64>>> {
    const STEP: u64 = 1 << 20;
    let Ok(blob) = state.cluster.source.open(entry) else { return Ok(std::iter::once(range).collect()) };
    let (mut out, mut buf, mut at) = (Vec::new(), Vec::new(), range.start);
    while at < range.end {
        cx.cancelled()?;
        let next = at.saturating_add(STEP).min(range.end);
        buf.resize(usize::try_from(next - at).unwrap_or(0), 0);
        if blob.read_exact_at(at, &mut buf).is_err() {
            out.extend(recovery_core::read_around(blob.as_ref(), at..next).1);
        }
        at = next;
    }
    Ok(out)
}

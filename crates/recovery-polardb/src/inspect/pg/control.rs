//! The control file: judged, and rebuilt from the log when it is lost.

use recovery_core::{Class, Context, Evidence, Finding, IfStarted, Result, Severity};

use super::{State, crc_evidence};
use crate::codes::pg as codes;
use crate::format::pg::checkpoint::CheckPoint;
use crate::format::pg::control::{ControlError, ControlFile, FLOAT_FORMAT, State as DbState};
use crate::format::pg::{BLOCK, Lsn};
use crate::reader::pg::cluster::ControlFound;
use crate::reader::pg::pages::{PageRules, verify};
use crate::reader::pg::wal_scan::{ScanOptions, scan};
use crate::reader::pg::wal_summary::{FoundCheckpoint, Parameters, layout_of_major};

/// Says what the control file is worth.
pub(super) fn judge(state: &mut State) {
    let name = state.path("global/pg_control");
    let size = state.cluster.source.stat(&name).ok().flatten().map_or(0, |e| e.size);
    match state.control.clone() {
        ControlFound::Good(d) => {
            state.cover_head(&name, size, d.crc_at as u64 + 4, true, Class::Free);
            for (field, value) in d.control.implausible() {
                let found = Evidence::value(field, value, "a value servers write");
                state.finding(Finding::new(&codes::CONTROL_VALUE, Severity::Suspect, &name).evidence(found));
            }
            state.usable = Some((d.control, d.layout));
        }
        ControlFound::Corrected(d, bit, stored) => {
            let at = bit as u64 / 8;
            let mut c = recovery_core::Coverage::new(size);
            c.mark(0..d.crc_at as u64 + 4, Class::Damaged);
            c.mark(d.crc_at as u64 + 4..size, Class::Free);
            state.cover(&name, "live", c);
            let what = format!("bit {} of byte {at} is wrong; with it turned back the checksum agrees", bit % 8);
            let f = Finding::new(&codes::CONTROL_CORRECTED, Severity::Damaged, &name).at(0, d.crc_at as u64 + 4);
            state.finding(f.summary(what).evidence(Evidence::value(
                "crc",
                format!("{stored:#010x}"),
                format!("{:#010x}", d.computed),
            )));
            state.if_started.push(IfStarted::new("refuses", &name, "incorrect checksum in control file"));
            state.usable = Some((d.control, d.layout));
        }
        ControlFound::Bad(d) => {
            state.cover_head(&name, size, d.crc_at as u64 + 4, false, Class::Free);
            let f = Finding::new(&codes::CONTROL_CRC, Severity::Damaged, &name).at(0, d.crc_at as u64 + 4);
            state.finding(f.evidence(crc_evidence(d.stored, d.computed)));
            state.if_started.push(IfStarted::new("refuses", &name, "incorrect checksum in control file"));
        }
        ControlFound::Unusable(e @ ControlError::Unsupported(..), size) => {
            state.cover(&name, "live", recovery_core::Coverage::all(size, Class::Unknown));
            state.unsupported = Some(format!("{name}: {e}"));
            state.finding(Finding::new(&codes::VERSION, Severity::Suspect, &name).at(0, size).summary(e.to_string()));
        }
        ControlFound::Unusable(e, size) => {
            state.cover_head(&name, size, size, false, Class::Damaged);
            state.finding(
                Finding::new(&codes::CONTROL_CRC, Severity::Damaged, &name).at(0, size).summary(e.to_string()),
            );
            state.if_started.push(IfStarted::new("refuses", &name, e.to_string()));
        }
        ControlFound::Unreadable(e) => {
            let f = Finding::new(&codes::CONTROL_CRC, Severity::Damaged, &name).at(e.offset, e.length);
            state.finding(f.summary(e.message.clone()));
            state.if_started.push(IfStarted::new("refuses", &name, e.message));
        }
        ControlFound::Missing => {
            let missing = Evidence::Missing { what: name.clone() };
            state.finding(Finding::new(&codes::CONTROL_MISSING, Severity::Damaged, &name).evidence(missing));
            state.if_started.push(IfStarted::new("refuses", &name, "could not open file \"global/pg_control\""));
        }
    }
}

/// Makes a control file from the log: the newest checkpoint whose redo point is still there, and what else the log says.
pub(super) fn rebuild(state: &mut State, cx: &Context) -> Result<()> {
    let Some(wal) = state.wal.clone() else { return Ok(()) };
    let Some(system_identifier) = wal.expect.system_identifier else { return Ok(()) };
    let timelines: Vec<u32> = wal.segments.keys().map(|(t, _)| *t).collect();
    let mut best: Option<(u32, FoundCheckpoint)> = None;
    let mut parameters = None;
    for tli in timelines.into_iter().rev().collect::<std::collections::BTreeSet<_>>().into_iter().rev() {
        for run in super::log::runs(&wal, tli) {
            let options = ScanOptions { tli, start: run.start, until: run.end, heal: true, asked: None };
            let found = scan(&wal, &options, cx)?;
            parameters = found.summary.parameters.or(parameters);
            let present = |c: &&FoundCheckpoint| c.copy.redo >= run.start && c.copy.redo <= c.lsn;
            if let Some(newest) = found.summary.checkpoints.iter().rev().find(present) {
                best = Some((tli, newest.clone()));
            }
        }
        if best.is_some() {
            break;
        }
    }
    let Some((tli, found)) = best else { return Ok(()) };
    let hint = state.control.any().map(|d| d.control.clone());
    let major = state.major;
    let layout = layout_of_major(major);
    let checksums = checksums_kept(state, cx)?;
    let logical = super::others::any_logical_slot(state);
    let mut control = fresh(system_identifier, major, found.lsn, &found.copy, parameters, logical);
    control.xlog_seg_size = u32::try_from(wal.segment.bytes()).unwrap_or(1 << 24);
    control.data_checksum_version = u32::from(checksums);
    control.relseg_size = relseg_size(state);
    let named = catalog_of_tablespaces(state);
    let witness = named.or(hint.map(|h| h.catalog_version).filter(|c| (201_000_000..210_000_000).contains(c)));
    if let Some(c) = witness {
        control.catalog_version = c;
    }
    let assumed =
        if witness.is_some() { "" } else { "; the catalog version is assumed to be that of the vanilla server" };
    let from = format!("made from the checkpoint at {} on timeline {tli}{assumed}", found.lsn);
    state.lose("rebuilt-control-file", from, 1, 8192);
    state.usable = Some((control, layout));
    state.rebuilt = true;
    state.tli = tli;
    Ok(())
}

/// A control file with what every server has alike.
fn fresh(id: u64, major: u32, at: Lsn, copy: &CheckPoint, p: Option<Parameters>, logical: bool) -> ControlFile {
    let (version, catalog) = match major {
        0..=11 => (1100, 201_809_051),
        12 => (1201, 201_909_212),
        13 => (1300, 202_007_201),
        14 => (1300, 202_107_181),
        16 => (1300, 202_307_071),
        17.. => (1700, 202_406_281),
        _ => (1300, 202_209_061),
    };
    ControlFile {
        system_identifier: id,
        pg_control_version: version,
        catalog_version: catalog,
        state: DbState::IN_PRODUCTION,
        time: copy.time,
        checkpoint: at,
        checkpoint_copy: copy.clone(),
        unlogged_lsn: Lsn(1000),
        min_recovery_point: Lsn(0),
        min_recovery_tli: 0,
        backup_start: Lsn(0),
        backup_end: Lsn(0),
        backup_end_required: false,
        wal_level: p.map_or(if logical { 2 } else { 1 }, |p| p.wal_level),
        wal_log_hints: p.is_some_and(|p| p.wal_log_hints),
        max_connections: p.map_or(100, |p| p.max_connections),
        max_worker_processes: p.map_or(8, |p| p.max_worker_processes),
        max_wal_senders: (major >= 12).then(|| p.and_then(|p| p.max_wal_senders).unwrap_or(10)),
        max_prepared_xacts: p.map_or(0, |p| p.max_prepared_xacts),
        max_locks_per_xact: p.map_or(64, |p| p.max_locks_per_xact),
        track_commit_timestamp: p.map_or(copy.newest_commit_ts_xid != 0, |p| p.track_commit_timestamp),
        max_align: 8,
        float_format: FLOAT_FORMAT,
        blcksz: 8192,
        relseg_size: 131_072,
        xlog_blcksz: 8192,
        xlog_seg_size: 1 << 24,
        name_data_len: 64,
        index_max_keys: 32,
        toast_max_chunk_size: 1996,
        loblksize: 2048,
        float4_by_val: (major <= 12).then_some(true),
        float8_by_val: true,
        data_checksum_version: 0,
        nonce: [0; 32],
    }
}

/// Pages in a relation segment: told by a file longer than a vanilla one, or by a second segment; else by the build.
fn relseg_size(state: &State) -> u32 {
    const VANILLA: u64 = 131_072 * BLOCK as u64;
    let files = &state.relations.files;
    if files.iter().any(|f| f.entry.size > VANILLA) {
        return 16_777_216;
    }
    let vanilla = files.iter().any(|f| f.file.segment > 0);
    if state.polardb && !vanilla { 16_777_216 } else { 131_072 }
}

fn catalog_of_tablespaces(state: &State) -> Option<u32> {
    let name = state.relations.files.iter().find_map(|f| f.entry.name.split('/').find(|p| p.starts_with("PG_")))?;
    name.rsplit('_').next()?.parse().ok()
}

/// Whether most initialised pages agree with a checksum.
fn checksums_kept(state: &State, cx: &Context) -> Result<bool> {
    let sample: Vec<_> =
        state.relations.files.iter().filter(|f| f.entry.size > 0 && f.file.segment == 0).take(64).cloned().collect();
    let rules = PageRules { checksums: true, relseg_size: relseg_size(state), wal_end: None };
    let totals = verify(&state.cluster.source, &sample, rules, cx)?;
    let used = totals.pages.saturating_sub(totals.new);
    Ok(used > 0 && totals.bad.saturating_mul(2) < used)
}

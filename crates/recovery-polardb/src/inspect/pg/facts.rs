//! The facts of a cluster, as JSON.

use serde_json::{Value, json};

use super::State;
use crate::format::pg::time;
use crate::reader::pg::slots::SlotState;

/// The facts the report carries for one cluster.
#[must_use]
pub fn facts(state: &State) -> Value {
    let control = state.usable.as_ref().map(|(c, _)| c);
    let scan = state.scan.as_ref();
    let stop = scan.and_then(|s| s.stop.as_ref()).map(ToString::to_string);
    let segments = state.wal.as_ref().map_or(0, |w| w.segments.len());
    let oldest = state.wal.as_ref().and_then(|w| w.segments.keys().next().map(|(t, n)| w.segment.name(*t, *n)));
    json!({
        "path": format!("/{}", state.cluster.root),
        "major_version": state.major,
        "polardb": state.polardb,
        "system_identifier": control.map(|c| c.system_identifier),
        "state": control.map(|c| c.state.to_string()),
        "control": match &state.control {
            crate::reader::pg::cluster::ControlFound::Good(_) => "good",
            crate::reader::pg::cluster::ControlFound::Corrected(..) => "corrected",
            _ if state.rebuilt => "rebuilt",
            _ => "lost",
        },
        "timeline": control.map(|c| c.checkpoint_copy.this_tli),
        "checkpoint": control.map(|c| c.checkpoint),
        "redo": control.map(|c| c.checkpoint_copy.redo),
        "wal_end": scan.map(|s| s.end),
        "wal_stop": stop,
        "wal_records": scan.map(|s| s.summary.records),
        "wal_bytes": scan.map(|s| s.end.0.saturating_sub(s.start.0)),
        "wal_segment_size": state.segment().map(crate::format::pg::SegmentSize::bytes),
        "wal_segments": segments,
        "oldest_segment": oldest,
        "missing_segments": state.missing_segments,
        "last_commit": scan.and_then(|s| s.summary.last_commit).map(time::timestamp),
        "commits": scan.map(|s| s.summary.commits),
        "crash_recovery": control.map(|c| !c.state.clean()),
        "prepared": state.prepared.values().map(|p| json!({
            "xid": p.xid, "gid": p.gid, "database": p.database, "prepared_at": time::timestamp(p.prepared_at),
        })).collect::<Vec<_>>(),
        "checksums": {
            "enabled": state.checksums,
            "files": state.pages.files,
            "pages": state.pages.pages,
            "new": state.pages.new,
            "bad": state.pages.bad,
        },
        "slots": slots(state),
        "limits": control.map(limits),
        "leftovers": state.leftovers,
    })
}

pub(super) fn slots(state: &State) -> Vec<Value> {
    let one = |s: &crate::reader::pg::slots::FoundSlot| match &s.state {
        SlotState::Good(slot) => {
            let needs = slot.needs();
            let wal = state.wal.as_ref();
            let segment = needs.zip(wal).map(|(l, w)| w.segment_name(state.tli, l));
            let present = needs.zip(wal).map(|(l, w)| w.segments.keys().any(|(_, n)| *n == w.segment.number(l)));
            json!({
                "name": s.name,
                "type": if slot.physical() { "physical" } else { "logical" },
                "restart_lsn": slot.restart_lsn,
                "active_needed": needs.is_some(),
                "apply_lsn": slot.apply_lsn,
                "replica": slot.replica(),
                "confirmed_flush": (!slot.physical()).then_some(slot.confirmed_flush),
                "plugin": (!slot.physical()).then_some(&slot.plugin),
                "xmin": slot.xmin,
                "catalog_xmin": slot.catalog_xmin,
                "needs_segment": segment,
                "wal_present": present,
                "state": "good",
            })
        }
        SlotState::Bad(e) => {
            json!({"name": s.name, "type": null, "restart_lsn": null, "active_needed": null, "state": "damaged", "error": e.to_string()})
        }
        SlotState::Missing => {
            json!({"name": s.name, "type": null, "restart_lsn": null, "active_needed": null, "state": "missing"})
        }
        SlotState::Unreadable(e) => {
            json!({"name": s.name, "type": null, "restart_lsn": null, "active_needed": null, "state": "unreadable", "error": e.to_string()})
        }
        SlotState::Leftover => {
            json!({"name": s.name, "type": null, "restart_lsn": null, "active_needed": false, "state": "leftover"})
        }
    };
    state.slots.iter().map(one).collect()
}

fn limits(c: &crate::format::pg::control::ControlFile) -> Value {
    json!({
        "max_connections": c.max_connections,
        "max_worker_processes": c.max_worker_processes,
        "max_wal_senders": c.max_wal_senders,
        "max_prepared_transactions": c.max_prepared_xacts,
        "max_locks_per_transaction": c.max_locks_per_xact,
        "wal_level": wal_level(c.wal_level),
        "track_commit_timestamp": c.track_commit_timestamp,
        "wal_log_hints": c.wal_log_hints,
    })
}

/// The name of a `wal_level`.
#[must_use]
pub(crate) fn wal_level(level: i32) -> &'static str {
    match level {
        0 => "minimal",
        1 => "replica",
        2 => "logical",
        _ => "unknown",
    }
}

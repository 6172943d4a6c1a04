//! The facts of a report in words: the disk, its journal, and each cluster with what a start would do.

use serde_json::Value;

/// The lines, in the order in which a person asks.
pub(super) fn lines(facts: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(pfs) = facts.get("pfs") {
        disk(&mut out, pfs);
    }
    for cluster in facts.get("clusters").and_then(Value::as_array).into_iter().flatten() {
        if !out.is_empty() {
            out.push(String::new());
        }
        control(&mut out, cluster);
        log(&mut out, cluster);
        slots(&mut out, cluster);
    }
    out
}

/// A value as text; strings without their quotes, nothing as a dash.
fn text(v: &Value, name: &str) -> String {
    match v.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

fn number(v: &Value, name: &str) -> u64 {
    v.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn yes(v: &Value, name: &str) -> bool {
    v.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(v: &'a Value, name: &str) -> &'a [Value] {
    v.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn line(out: &mut Vec<String>, label: &str, value: &str) {
    out.push(format!("{label:<14}{value}"));
}

fn disk(out: &mut Vec<String>, v: &Value) {
    let t = |name| text(v, name);
    let guessed = if yes(v, "version_known") { "" } else { " (assumed)" };
    line(
        out,
        "Disk",
        &format!(
            "PFS version {}{guessed}, {} chunks of 10 GiB, device of {} bytes",
            t("version"),
            t("chunks"),
            t("device_bytes")
        ),
    );
    let waiting = match number(v, "live_entries") {
        0 => "everything is in its place".to_owned(),
        n => format!("{n} entries not yet in their place, {} replayed in memory", t("replayed_entries")),
    };
    line(
        out,
        "Journal",
        &format!("leader record {}, transactions {} to {}; {waiting}", t("leader"), t("tail_txid"), t("head_txid")),
    );
    let mut tree = format!("{} files, {} directories, {} bytes", t("files"), t("directories"), t("bytes"));
    for (name, what) in [("orphans", "deleted but still whole"), ("unreachable", "without a place in the tree")] {
        if number(v, name) > 0 {
            tree.push_str(&format!("; {} {what}", t(name)));
        }
    }
    line(out, "Tree", &tree);
}

fn control(out: &mut Vec<String>, v: &Value) {
    let t = |name| text(v, name);
    let kind = if yes(v, "polardb") { "PolarDB" } else { "PostgreSQL" };
    line(
        out,
        "Cluster",
        &format!("{}: {kind} {}, system identifier {}", t("path"), t("major_version"), t("system_identifier")),
    );
    line(
        out,
        "Control file",
        &format!(
            "{}; state \"{}\", timeline {}, checkpoint {}, redo {}",
            t("control"),
            t("state"),
            t("timeline"),
            t("checkpoint"),
            t("redo")
        ),
    );
    if let Some(limits) = v.get("limits").filter(|l| l.is_object()) {
        let names = [
            "max_connections",
            "max_worker_processes",
            "max_wal_senders",
            "max_prepared_transactions",
            "max_locks_per_transaction",
            "wal_level",
        ];
        let all: Vec<String> = names.iter().map(|n| format!("{n} {}", text(limits, n))).collect();
        line(out, "Limits", &all.join(", "));
    }
    if let Some(c) = v.get("checksums") {
        let sums = if yes(c, "enabled") { "on" } else { "off" };
        let pages = format!(
            "checksums {sums}; {} files, {} pages, {} never used, {} bad",
            text(c, "files"),
            text(c, "pages"),
            text(c, "new"),
            text(c, "bad")
        );
        line(out, "Pages", &pages);
    }
}

fn log(out: &mut Vec<String>, v: &Value) {
    let t = |name| text(v, name);
    let missing = list(v, "missing_segments");
    let gaps = match missing.first() {
        None => "none missing between them".to_owned(),
        Some(first) => format!("{} missing, the first {}", missing.len(), first.as_str().unwrap_or_default()),
    };
    line(
        out,
        "WAL",
        &format!(
            "{} segments of {} bytes from {}, {gaps}",
            t("wal_segments"),
            t("wal_segment_size"),
            t("oldest_segment")
        ),
    );
    if v.get("wal_end").is_some_and(|e| !e.is_null()) {
        let commit = match v.get("last_commit").and_then(Value::as_str) {
            Some(at) => format!("last commit {at}"),
            None => "no commit in it".to_owned(),
        };
        line(
            out,
            "",
            &format!(
                "from redo to its end at {}: {} records, {} bytes, {commit}",
                t("wal_end"),
                t("wal_records"),
                t("wal_bytes")
            ),
        );
    }
    let start = match v.get("crash_recovery").and_then(Value::as_bool) {
        Some(true) => format!("needs crash recovery: {} bytes of WAL are replayed", t("wal_bytes")),
        Some(false) => "was shut down in order: nothing to recover".to_owned(),
        None => "cannot start: there is no control file, and none can be made".to_owned(),
    };
    line(out, "Start", &start);
    let prepared = list(v, "prepared");
    if !prepared.is_empty() {
        let names: Vec<String> =
            prepared.iter().take(8).map(|p| format!("{} ({})", text(p, "gid"), text(p, "prepared_at"))).collect();
        let more = if prepared.len() > 8 { ", …" } else { "" };
        line(out, "Prepared", &format!("{} transactions: {}{more}", prepared.len(), names.join(", ")));
    }
}

fn slots(out: &mut Vec<String>, v: &Value) {
    let slots = list(v, "slots");
    if slots.is_empty() {
        line(out, "Slots", "none: no replica or standby is known");
    }
    for (i, s) in slots.iter().enumerate() {
        let t = |name| text(s, name);
        let needs =
            match (s.get("needs_segment").and_then(Value::as_str), s.get("wal_present").and_then(Value::as_bool)) {
                (Some(segment), Some(true)) => format!("needs WAL from {segment}, which is there"),
                (Some(segment), _) => format!("needs WAL from {segment}, WHICH IS GONE"),
                (None, _) => "needs no WAL".to_owned(),
            };
        let what = match t("state").as_str() {
            "good" if yes(s, "replica") => format!(
                "{}, of a PolarDB replica, restart {}, applied {}; {needs}",
                t("type"),
                t("restart_lsn"),
                t("apply_lsn")
            ),
            "good" => format!("{}, restart {}; {needs}", t("type"), t("restart_lsn")),
            state => format!(
                "{state}{}",
                s.get("error").and_then(Value::as_str).map(|e| format!(": {e}")).unwrap_or_default()
            ),
        };
        line(out, if i == 0 { "Slots" } else { "" }, &format!("{}: {what}", t("name")));
    }
}

//! What RocksDB itself would do if it were started on the directory now (upstream `db/db_impl/db_impl_open.cc`,
//! `db/db_impl/db_impl_files.cc`).

use recovery_core::IfStarted;

use super::Inspection;
use super::gather::CurrentState;
use super::tables::TableState;
use crate::format::file_name::{self, FileKind};
use crate::reader::log::EndKind;
use crate::witness::Trust;

/// Plays the open through, step by step, until it would stop.
#[must_use]
pub fn simulate(i: &Inspection) -> Vec<IfStarted> {
    let mut out = Vec::new();
    if !current(i, &mut out) || !manifest(i, &mut out) || !tables(i, &mut out) {
        return out;
    }
    if !transactions(i, &mut out) {
        return out;
    }
    wals(i, &mut out);
    blobs(i, &mut out);
    deletions(i, &mut out);
    out
}

fn refuses(out: &mut Vec<IfStarted>, object: impl Into<String>, why: impl Into<String>) -> bool {
    out.push(IfStarted::new("refuses", object, why));
    false
}

fn current(i: &Inspection, out: &mut Vec<IfStarted>) -> bool {
    let g = &i.gathered;
    match &g.current {
        CurrentState::Names(n) if g.manifests.contains_key(n) => true,
        CurrentState::Names(n) => refuses(out, file_name::manifest(*n), "CURRENT names it and it is not there"),
        CurrentState::Bad(e) => refuses(out, "CURRENT", e.to_string()),
        CurrentState::Unread(e) => refuses(out, "CURRENT", e.clone()),
        CurrentState::Missing => {
            refuses(out, "CURRENT", "it is not there; with create_if_missing a new, empty database is made");
            let (mut files, mut bytes, mut entries) = (0u64, 0u64, 0u64);
            for item in
                g.items.iter().filter(|it| matches!(it.name.kind, FileKind::Table | FileKind::Blob | FileKind::Wal))
            {
                files = files.saturating_add(1);
                bytes = bytes.saturating_add(item.entry.size);
                let n = item.name.number.unwrap_or(0);
                entries = entries.saturating_add(g.tables.get(&n).and_then(|t| t.entries).unwrap_or(0));
            }
            if files > 0 {
                let why = format!(
                    "with create_if_missing: {files} tables, blob files and WALs are unknown to the new database"
                );
                out.push(IfStarted::new("deletes", "*.sst *.blob *.log", why).loses(entries, bytes));
            }
            false
        }
    }
}

fn manifest(i: &Inspection, out: &mut Vec<IfStarted>) -> bool {
    let CurrentState::Names(n) = i.gathered.current else { return false };
    let Some(m) = i.gathered.manifests.get(&n) else { return false };
    let name = file_name::manifest(n);
    if !m.faults.is_empty() {
        let (at, _) = m.faults.first().map(crate::reader::manifest::Fault::range).unwrap_or_default();
        return refuses(out, name, format!("record at {at:#x} is damaged"));
    }
    if m.records == 0 || m.version.next_file == 0 {
        return refuses(out, name, "it holds no complete state");
    }
    if i.resolved.trust == Trust::Partial {
        let why = "its end is missing: an older state is opened, and files it does not know are deleted";
        out.push(IfStarted::new("truncates", name, why));
    }
    true
}

fn tables(i: &Inspection, out: &mut Vec<IfStarted>) -> bool {
    let CurrentState::Names(n) = i.gathered.current else { return false };
    let Some(m) = i.gathered.manifests.get(&n) else { return false };
    for (_, file) in m.version.files() {
        let name = file_name::table(file.number);
        match i.gathered.tables.get(&file.number) {
            None => return refuses(out, name, "the MANIFEST lists it and it is not there"),
            Some(t) if t.size != file.size => {
                return refuses(out, name, format!("it has {} bytes, the MANIFEST says {}", t.size, file.size));
            }
            Some(t) => match (&t.state, &t.salvage) {
                (TableState::Damaged(why), Some(s)) if s.refused => return refuses(out, name, why.clone()),
                (TableState::Damaged(why), _) => {
                    let lost = t.salvage.as_ref().and_then(|s| s.lost).unwrap_or(0);
                    out.push(
                        IfStarted::new("skips", name, format!("reads of the damaged block fail: {why}")).loses(lost, 0),
                    );
                }
                (TableState::Nothing | TableState::Empty, _) => return refuses(out, name, "it is no table"),
                _ => {}
            },
        }
    }
    for (family, a, b) in super::findings::overlaps(&i.resolved) {
        let why = format!(
            "it overlaps {} on its level: family {family} opens empty and its tables are deleted",
            file_name::table(b)
        );
        out.push(IfStarted::new("deletes", file_name::table(a), why));
    }
    true
}

fn transactions(i: &Inspection, out: &mut Vec<IfStarted>) -> bool {
    let marks = i.needed_wals().any(|w| !w.marks.is_empty());
    let outcome = crate::model::transactions::follow(i.needed_wals());
    if marks && !outcome.in_doubt.is_empty() {
        refuses(out, "WAL", "it holds prepared transactions: DB::Open refuses, TransactionDB::Open takes them up");
    }
    true
}

fn wals(i: &Inspection, out: &mut Vec<IfStarted>) {
    let mut stopped = false;
    for w in i.needed_wals() {
        let name = file_name::wal(w.number);
        if stopped {
            let why = "replay stopped in an earlier WAL; this one is not read and then deleted";
            out.push(IfStarted::new("deletes", name, why).loses(w.entries, w.size));
            continue;
        }
        if w.is_damaged() {
            stopped = true;
            let at = w.first_damage().unwrap_or(0);
            let gap: u64 = w.gaps.iter().filter_map(super::super::reader::wal::Gap::lost).fold(0, u64::saturating_add);
            let why = format!("replay stops at the damage at {at:#x} and the rest is deleted");
            let lost = w.after_damage.1.saturating_add(gap);
            out.push(IfStarted::new("truncates", name, why).loses(lost, w.size.saturating_sub(at)));
        } else if w.end == EndKind::Torn {
            let why = format!("its incomplete last record at {:#x} is dropped", w.end_at);
            out.push(IfStarted::new("truncates", name, why).loses(0, w.size.saturating_sub(w.end_at)));
        }
    }
}

fn blobs(i: &Inspection, out: &mut Vec<IfStarted>) {
    for family in i.resolved.families.values() {
        for (number, blob) in family.blobs.iter().filter(|(_, b)| !b.present || b.damaged) {
            let why = if blob.present {
                "it is damaged: reads of its values fail"
            } else {
                "it is not there: reads of its values fail"
            };
            out.push(
                IfStarted::new("skips", file_name::blob(*number), why)
                    .loses(if blob.present { 0 } else { blob.count }, 0),
            );
        }
    }
}

/// Files that the version the open would use does not list.
fn deletions(i: &Inspection, out: &mut Vec<IfStarted>) {
    let CurrentState::Names(current) = i.gathered.current else { return };
    let Some(m) = i.gathered.manifests.get(&current) else { return };
    let tables: std::collections::BTreeSet<u64> = m.version.files().map(|(_, f)| f.number).collect();
    let blobs: std::collections::BTreeSet<u64> =
        m.version.families.values().flat_map(|f| f.blobs.keys().copied()).collect();
    let keep_from = if m.version.min_log > 0 { m.version.min_log } else { m.version.min_log_number() };
    for item in &i.gathered.items {
        let Some(n) = item.name.number else { continue };
        let (listed, what) = match item.name.kind {
            FileKind::Table | FileKind::OldTable => (tables.contains(&n), "the MANIFEST does not list it"),
            FileKind::Blob => (blobs.contains(&n), "the MANIFEST does not list it"),
            FileKind::Manifest => (n == current, "CURRENT does not name it"),
            FileKind::Wal => (n >= keep_from, "no family needs it any more"),
            _ => continue,
        };
        if listed {
            continue;
        }
        let wanted = i.class_of(item) == crate::witness::Class::Live && item.name.kind != FileKind::Manifest;
        let records = i.gathered.tables.get(&n).and_then(|t| t.entries).filter(|_| wanted).unwrap_or(0);
        let lost = if wanted { item.entry.size } else { 0 };
        out.push(IfStarted::new("deletes", item.entry.name.clone(), what).loses(records, lost));
    }
}

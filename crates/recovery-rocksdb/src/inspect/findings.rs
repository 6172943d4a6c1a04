//! Families of checks.

use recovery_core::{Check, Context, Evidence, Finding, Severity};

use super::Inspection;
use super::gather::{CurrentState, Item};
use super::tables::{SalvageFacts, TableFacts, TableState};
use crate::codes;
use crate::fill::Fill;
use crate::format::file_name::{self, FileKind};
use crate::placement;
use crate::reader::log::{EndKind, Why};
use crate::reader::manifest::{Fault, Manifest};
use crate::witness::{Class, LiveTable, Resolved, Trust};

/// Every finding of an inspection.
#[must_use]
pub(super) fn all(i: &Inspection, cx: &Context) -> Vec<Finding> {
    let mut out = i.resolved.findings.clone();
    current(i, &mut out);
    manifests(i, &mut out);
    tables(i, &mut out);
    blobs(i, &mut out);
    wals(i, &mut out);
    surroundings(i, &mut out);
    if cx.check == Check::Full {
        file_checksums(i, &mut out);
    }
    let number = i.gathered.number;
    out.iter_mut().for_each(|f| f.source = number);
    out
}

/// The findings about missing WALs and tables without a family.
#[must_use]
pub(super) fn losses(i: &Inspection) -> Vec<Finding> {
    let mut out = i.resolved.findings.clone();
    missing_wals(i, &mut out);
    out
}

fn current(i: &Inspection, out: &mut Vec<Finding>) {
    let g = &i.gathered;
    let finding = |summary: String| Finding::new(&codes::CURRENT_BAD, Severity::Damaged, "CURRENT").summary(summary);
    match &g.current {
        CurrentState::Names(n) if g.manifests.get(n).is_some_and(|m| m.records > 0) => {}
        CurrentState::Names(n) => {
            let name = file_name::manifest(*n);
            let state = if g.manifests.contains_key(n) { "holds no record" } else { "is not there" };
            out.push(finding(format!("CURRENT names {name}, which {state}")));
        }
        CurrentState::Missing => out.push(
            finding("CURRENT is not there".to_owned()).evidence(Evidence::Missing { what: "CURRENT".to_owned() }),
        ),
        CurrentState::Bad(e) => out.push(finding(e.to_string())),
        CurrentState::Unread(e) => out.push(finding(format!("CURRENT cannot be read: {e}"))),
    }
}

fn manifests(i: &Inspection, out: &mut Vec<Finding>) {
    let Some(base) = i.resolved.base else {
        out.push(
            Finding::new(&codes::MANIFEST_MISSING, Severity::Damaged, "MANIFEST")
                .summary("no MANIFEST holds any record; the state is put together from the other witnesses"),
        );
        return;
    };
    let Some(m) = i.gathered.manifests.get(&base) else { return };
    manifest_faults(m, out);
    if !m.opens() && m.faults.is_empty() {
        out.push(
            Finding::new(&codes::MANIFEST_ENDS_EARLY, Severity::Damaged, file_name::manifest(base))
                .summary("the MANIFEST holds no complete state"),
        );
    }
}

fn manifest_faults(m: &Manifest, out: &mut Vec<Finding>) {
    let name = file_name::manifest(m.number);
    for fault in &m.faults {
        let (at, end) = fault.range();
        let mut finding =
            Finding::new(&codes::MANIFEST_RECORD, Severity::Damaged, name.clone()).at(at, end.saturating_sub(at));
        finding = match fault {
            Fault::Frame(d) => with_checksum(finding.summary(d.why.phrase()), &d.why),
            Fault::Edit { error, .. } => finding.summary(error.to_string()),
        };
        out.push(finding);
    }
    let length = m.size.saturating_sub(m.end_at);
    if m.end == EndKind::Torn {
        out.push(
            Finding::new(&codes::MANIFEST_TORN, Severity::Suspect, name.clone())
                .at(m.end_at, length)
                .summary("the last record is incomplete"),
        );
    }
    if !m.void_group.is_empty() {
        let summary = format!("the last atomic group is incomplete: {} of its records are there", m.void_group.len());
        out.push(Finding::new(&codes::MANIFEST_TORN, Severity::Suspect, name).summary(summary));
    }
}

fn with_checksum(finding: Finding, why: &Why) -> Finding {
    match why {
        Why::Checksum { stored, computed } => {
            finding.evidence(Evidence::checksum("crc32c (masked)", *stored, *computed))
        }
        _ => finding,
    }
}

/// Tables that overlap on a level from 1 on: family, and the two numbers.
#[must_use]
pub(super) fn overlaps(r: &Resolved) -> Vec<(String, u64, u64)> {
    if r.trust != Trust::Whole {
        return Vec::new();
    }
    let mut out = Vec::new();
    for family in r.families.values() {
        let Some(order) = &family.order else { continue };
        let placed: Vec<(u32, &LiveTable)> = family.tables.values().map(|t| (t.level.unwrap_or(0), t)).collect();
        if let Some((a, b)) = placement::conflict(order, &placed) {
            out.push((family.shown(), a.number, b.number));
        }
    }
    out
}

fn damaged_table(table: &LiveTable, facts: &TableFacts, out: &mut Vec<Finding>) {
    let name = facts.object.as_str();
    let why = match &facts.state {
        TableState::Damaged(why) | TableState::Unread(why) => why.clone(),
        TableState::Empty => "the file is empty".to_owned(),
        TableState::Nothing => "nothing in it is a table".to_owned(),
        TableState::Unsupported(why) => {
            out.push(Finding::new(&codes::UNSUPPORTED_TABLE, Severity::Note, name).summary(why.clone()));
            return;
        }
        TableState::Good => {
            let sizes = Evidence::value("size", facts.size, table.size);
            out.push(
                Finding::new(&codes::TABLE_DAMAGED, Severity::Damaged, name)
                    .summary(format!(
                        "it is a whole table of {} bytes, but the MANIFEST lists one of {}",
                        facts.size, table.size
                    ))
                    .evidence(sizes),
            );
            return;
        }
    };
    if let Some(from) = healed(table) {
        out.push(
            Finding::new(&codes::TABLE_DAMAGED, Severity::Damaged, name)
                .at(0, facts.size)
                .summary(format!("{why}; {from}")),
        );
        return;
    }
    let Some(s) = &facts.salvage else {
        let finding = Finding::new(&codes::TABLE_DAMAGED, Severity::Lost, name).at(0, facts.size).summary(why);
        out.push(filled_whole(table, finding));
        lost_tombstones(table.lost_tombstones(None), name, out);
        return;
    };
    let mut found = facts.findings.clone();
    fill_ranges(table, s, &mut found);
    // Where the table itself no longer tells how many entries are gone, another witness's count less what is there does.
    let lost = table.lost(Some(s)).unwrap_or(0);
    let counted: u64 = found.iter().filter(|f| f.code == codes::TABLE_DAMAGED.code).map(|f| f.effect.records).sum();
    if lost > counted {
        let rest = lost.saturating_sub(counted);
        match found.iter_mut().find(|f| f.code == codes::TABLE_DAMAGED.code && f.severity == Severity::Lost) {
            Some(first) => first.effect.records = first.effect.records.saturating_add(rest),
            None => found.push(
                Finding::new(&codes::TABLE_DAMAGED, Severity::Lost, name)
                    .at(0, facts.size)
                    .summary(format!("{rest} entries are gone"))
                    .effect(rest, 0),
            ),
        }
    }
    let tombstones = table.lost_tombstones(Some(s));
    if tombstones == Some(0) && s.range_deletions_lost(table.tombstones) != Some(0) {
        let from = table.fills.iter().find(|f| f.only_tombstones).map(Fill::from).unwrap_or_default();
        for finding in found.iter_mut().filter(|f| f.code == codes::TOMBSTONES_LOST.code) {
            heal(finding, &from);
        }
    } else if s.tombstones_lost.is_none() {
        found.retain(|f| f.code != codes::TOMBSTONES_LOST.code);
        match tombstones {
            None => out.push(
                Finding::new(&codes::TOMBSTONES_LOST, Severity::Suspect, name)
                    .summary("nobody knows whether it held range tombstones; rows they deleted may come back"),
            ),
            known => lost_tombstones(known, name, out),
        }
    }
    out.extend(found);
}

/// Turns a loss into damage that costs nothing.
fn heal(finding: &mut Finding, from: &str) {
    finding.severity = Severity::Damaged;
    finding.summary = format!("{}; {from}", finding.summary);
    finding.effect.records = 0;
    finding.effect.bytes = 0;
}

/// The finding of a table of which nothing is left: what fills it, or what it costs.
fn filled_whole(table: &LiveTable, finding: Finding) -> Finding {
    let lost = table.lost(None);
    let mut finding = finding.effect(lost.unwrap_or(0), table.size);
    if let Some(fill) = table.fills.iter().find(|f| !f.only_tombstones) {
        if lost == Some(0) {
            heal(&mut finding, &fill.from());
        } else {
            finding.summary = format!("{}; {} entries are back: {}", finding.summary, fill.entries, fill.from());
        }
    }
    finding
}

/// Says of each lost range what fills it. A table that has all its entries lost none to bytes that hold no block.
fn fill_ranges(table: &LiveTable, s: &SalvageFacts, found: &mut [Finding]) {
    let nothing_lost = s.entries_lost(table.entries) == Some(0);
    let data = |f: &&mut Finding| f.code == codes::TABLE_DAMAGED.code && f.severity == Severity::Lost;
    let mut counted = 0_u64;
    for finding in found.iter_mut().filter(data) {
        let start = finding.offset.unwrap_or(0);
        let end = start.saturating_add(finding.length.unwrap_or(0));
        let over = |f: &&Fill| !f.only_tombstones && f.range.0 < end && start < f.range.1;
        let count = finding.effect.records;
        match table.fills.iter().find(over) {
            Some(fill) if fill.complete => heal(finding, &fill.from()),
            Some(fill) => {
                finding.summary = format!("{}; {} entries are back: {}", finding.summary, fill.entries, fill.from());
            }
            None if nothing_lost => heal(finding, "no entry of the table is missing"),
            None => {}
        }
        // The count of all entries stands at the first range; what is left of it is set anew below.
        counted = counted.saturating_add(count);
        finding.effect.records = 0;
    }
    let still = found.iter_mut().find(|f| f.code == codes::TABLE_DAMAGED.code && f.severity == Severity::Lost);
    if let Some(first) = still {
        first.effect.records = table.lost(Some(s)).unwrap_or(counted);
    }
}

/// Words on what replaces a damaged or missing table, when something does.
fn healed(table: &LiveTable) -> Option<String> {
    if let Some((source, object)) = &table.donor {
        return Some(format!("source {source} has an undamaged copy, {object}"));
    }
    let names: Vec<&str> = table.wals.iter().map(|(_, name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| format!("everything in it is still in {}", names.join(", ")))
}

fn lost_tombstones(lost: Option<u64>, name: &str, out: &mut Vec<Finding>) {
    let Some(lost) = lost.filter(|n| *n > 0) else { return };
    out.push(
        Finding::new(&codes::TOMBSTONES_LOST, Severity::Lost, name)
            .summary(format!("{lost} range tombstones are lost; rows they deleted may come back"))
            .effect(lost, 0),
    );
}

fn tables(i: &Inspection, out: &mut Vec<Finding>) {
    for family in i.resolved.families.values() {
        for table in family.tables.values() {
            let facts = table.on_disk.and_then(|n| i.gathered.tables.get(&n));
            match facts {
                None => {
                    let name = file_name::table(table.number);
                    if let Some(from) = healed(table) {
                        out.push(
                            Finding::new(&codes::TABLE_MISSING, Severity::Damaged, name)
                                .summary(format!("it is missing; {from}")),
                        );
                        continue;
                    }
                    lost_tombstones(table.lost_tombstones(None), &name, out);
                    let finding = Finding::new(&codes::TABLE_MISSING, Severity::Lost, name.clone())
                        .summary(format!(
                            "table of family {} on level {} with {} bytes is missing",
                            family.shown(),
                            table.level.unwrap_or(0),
                            table.size
                        ))
                        .evidence(Evidence::Witness { object: table.witness.clone(), says: "it is live".to_owned() });
                    out.push(filled_whole(table, finding));
                }
                Some(facts) if table.damaged || matches!(facts.state, TableState::Unsupported(_)) => {
                    damaged_table(table, facts, out);
                }
                Some(facts) => out.extend(facts.findings.iter().cloned()),
            }
        }
        if family.order.is_none() {
            let name = family.comparator.clone().unwrap_or_default();
            out.push(
                Finding::new(&codes::COMPARATOR_UNKNOWN, Severity::Note, family.shown())
                    .summary(format!("comparator {name} is the application's own: key order cannot be checked")),
            );
        }
    }
    for (family, a, b) in overlaps(&i.resolved) {
        out.push(
            Finding::new(&codes::OVERLAP, Severity::Damaged, file_name::table(a))
                .summary(format!("it overlaps {} on the same level of family {family}", file_name::table(b))),
        );
    }
    obsolete_damage(i, out);
    let unlisted = |class| i.gathered.items.iter().filter(move |it| i.class_of(it) == class);
    for (class, code) in
        [(Class::Obsolete, &codes::OBSOLETE), (Class::Orphan, &codes::OBSOLETE), (Class::Foreign, &codes::FOREIGN)]
    {
        let names: Vec<&str> = unlisted(class).map(|it| it.entry.name.as_str()).collect();
        if let Some(first) = names.first() {
            let bytes = unlisted(class).map(|it| it.entry.size).fold(0, u64::saturating_add);
            let summary = format!(
                "{} {} files with {bytes} bytes: {}",
                names.len(),
                class.word(),
                names.iter().take(20).copied().collect::<Vec<_>>().join(", ")
            );
            out.push(Finding::new(code, Severity::Note, *first).summary(summary));
        }
    }
}

/// Damage in files that are no longer part of the database: it costs nothing, and it is said.
fn obsolete_damage(i: &Inspection, out: &mut Vec<Finding>) {
    for item in i.gathered.items.iter().filter(|it| matches!(i.class_of(it), Class::Obsolete | Class::Orphan)) {
        let Some(n) = item.name.number else { continue };
        let note = |at: u64, length: u64, summary: String| {
            let code = if item.name.kind == FileKind::Wal { &codes::WAL_DAMAGED } else { &codes::TABLE_DAMAGED };
            Finding::new(code, Severity::Note, item.entry.name.clone())
                .at(at, length)
                .summary(format!("obsolete file: {summary}"))
        };
        match item.name.kind {
            FileKind::Table | FileKind::OldTable => {
                let found = i.gathered.tables.get(&n).into_iter().flat_map(|t| &t.findings);
                out.extend(
                    found.map(|f| note(f.offset.unwrap_or(0), f.length.unwrap_or(item.entry.size), f.summary.clone())),
                );
            }
            FileKind::Wal => {
                let damage = i.gathered.wals.get(&n).into_iter().flat_map(|w| &w.damage);
                out.extend(damage.map(|d| note(d.at, d.end.saturating_sub(d.at), d.why.phrase())));
            }
            _ => {}
        }
    }
}

fn blobs(i: &Inspection, out: &mut Vec<Finding>) {
    use crate::reader::blob::BlobItem;
    for family in i.resolved.families.values() {
        for (number, entry) in &family.blobs {
            let name = file_name::blob(*number);
            if let Some((source, object)) = &entry.donor {
                out.push(
                    Finding::new(&codes::BLOB_DAMAGED, Severity::Damaged, name)
                        .summary(format!("it is damaged or missing; source {source} has an undamaged copy, {object}")),
                );
                continue;
            }
            let Some(facts) = i.gathered.blobs.get(number) else {
                out.push(
                    Finding::new(&codes::BLOB_MISSING, Severity::Lost, name)
                        .summary(format!(
                            "blob file with {} values of family {} is missing",
                            entry.count,
                            family.shown()
                        ))
                        .effect(entry.count, entry.bytes),
                );
                continue;
            };
            let Some(walk) = &facts.walk else {
                out.push(
                    Finding::new(&codes::UNREADABLE, Severity::Lost, name)
                        .summary(facts.error.clone().unwrap_or_default())
                        .effect(entry.count, entry.bytes),
                );
                continue;
            };
            if let Err(e) = &walk.header {
                out.push(
                    Finding::new(&codes::BLOB_DAMAGED, Severity::Damaged, name.clone())
                        .at(0, 30)
                        .summary(e.to_string()),
                );
            }
            for item in &walk.items {
                let (range, summary, records) = match item {
                    BlobItem::Record { .. } => continue,
                    BlobItem::Damaged { range, stored, computed } => {
                        (range, format!("record checksum is {stored:#010x}, its bytes give {computed:#010x}"), 1)
                    }
                    BlobItem::Unknown { range } => (range, "no record header verifies in these bytes".to_owned(), 0),
                    BlobItem::Unread { range, message } => (range, message.clone(), 0),
                };
                let length = range.end.saturating_sub(range.start);
                // A cut footer leaves bytes that never were a record.
                let known = walk
                    .items
                    .iter()
                    .filter(|it| matches!(it, BlobItem::Record { .. } | BlobItem::Damaged { .. }))
                    .count() as u64;
                let only_footer = matches!(item, BlobItem::Unknown { .. })
                    && walk.footer.is_err()
                    && range.end == facts.size
                    && length <= 32
                    && known >= entry.count;
                let severity = if only_footer { Severity::Damaged } else { Severity::Lost };
                let records = if matches!(item, BlobItem::Unknown { .. }) && !only_footer { 1 } else { records };
                out.push(
                    Finding::new(&codes::BLOB_DAMAGED, severity, name.clone())
                        .at(range.start, length)
                        .summary(summary)
                        .effect(records, length),
                );
            }
            if let Err(e) = &walk.footer {
                let at = facts.size.saturating_sub(32);
                out.push(
                    Finding::new(&codes::BLOB_DAMAGED, Severity::Damaged, name)
                        .at(at, facts.size.saturating_sub(at))
                        .summary(format!("no footer: {e}")),
                );
            }
        }
    }
}

fn wals(i: &Inspection, out: &mut Vec<Finding>) {
    for w in i.needed_wals() {
        let name = file_name::wal(w.number);
        if let Some((source, object)) = i.wal_donors.get(&w.number) {
            let summary = format!("it is damaged; source {source} has an undamaged copy, {object}");
            out.push(Finding::new(&codes::WAL_DAMAGED, Severity::Damaged, name).summary(summary));
            continue;
        }
        for (n, d) in w.damage.iter().enumerate() {
            let lost = w.gaps.get(n).and_then(crate::reader::wal::Gap::lost).unwrap_or(1);
            let length = d.end.saturating_sub(d.at);
            let tail = d.why == Why::TailGarbage;
            let severity = if tail { Severity::Suspect } else { Severity::Lost };
            let finding = Finding::new(&codes::WAL_DAMAGED, severity, name.clone())
                .at(d.at, length)
                .summary(d.why.phrase())
                .effect(lost, length);
            out.push(with_checksum(finding, &d.why));
        }
        for b in &w.bad_batches {
            let length = b.end.saturating_sub(b.at);
            out.push(
                Finding::new(&codes::WAL_BATCH, Severity::Lost, name.clone())
                    .at(b.at, length)
                    .summary(b.error.to_string())
                    .effect(1, length),
            );
        }
        if w.end == EndKind::ZeroTail && w.records == 0 && w.size > 0 {
            out.push(
                Finding::new(&codes::WAL_TORN, Severity::Suspect, name.clone())
                    .at(0, w.size)
                    .summary("it holds nothing but zeros: nothing was ever written to it, or its records are gone"),
            );
        }
        if w.end == EndKind::Torn {
            let severity = if i.is_last_wal(w.number) { Severity::Note } else { Severity::Suspect };
            out.push(
                Finding::new(&codes::WAL_TORN, severity, name)
                    .at(w.end_at, w.size.saturating_sub(w.end_at))
                    .summary("the last record is incomplete: it was being written, or the file was cut"),
            );
        }
    }
    let outcome = crate::model::transactions::follow(i.needed_wals());
    for p in &outcome.in_doubt {
        out.push(
            Finding::new(&codes::IN_DOUBT, Severity::Note, file_name::wal(p.log))
                .at(p.at, 0)
                .summary(format!(
                    "transaction hex:{} was prepared with {} writes and is neither committed nor rolled back",
                    recovery_core::hex(&p.id),
                    p.entries
                ))
                .effect(p.entries, 0),
        );
    }
    missing_wals(i, out);
}

/// A running database always has the WAL its newest memtable was begun with.
pub(super) fn missing_wals(i: &Inspection, out: &mut Vec<Finding>) {
    let newest = i.resolved.families.values().map(|f| f.log_number).max().unwrap_or(0);
    let logged = i.gathered.log.newest_memtable();
    let wanted = if i.resolved.trust == Trust::Whole { newest.max(logged) } else { logged };
    let there = i.gathered.wals.keys().any(|n| *n >= wanted);
    if wanted > 0 && !there && i.gathered.log.present {
        let from = i.resolved.families.values().map(|f| f.log_number).min().unwrap_or(wanted);
        out.push(
            Finding::new(&codes::WAL_MISSING, Severity::Lost, file_name::wal(wanted))
                .summary(format!("no WAL from {from} to {wanted} is there: rows that no table holds yet are lost, how many nobody knows"))
                .evidence(Evidence::Missing { what: file_name::wal(wanted) }),
        );
    }
    for (item, why) in unreadable_wals(i) {
        out.push(
            Finding::new(&codes::WAL_MISSING, Severity::Lost, item.entry.name.clone())
                .at(0, item.entry.size)
                .summary(format!("it cannot be opened ({why}): what it holds and no table holds is lost"))
                .effect(0, item.entry.size),
        );
    }
    for number in &i.resolved.version.wals {
        if *number >= i.first_needed_wal() && !i.gathered.wals.contains_key(number) {
            out.push(
                Finding::new(&codes::WAL_MISSING, Severity::Lost, file_name::wal(*number))
                    .summary("the MANIFEST tracks this WAL and it is not there"),
            );
        }
    }
}

/// WALs that have to be replayed and cannot be opened.
fn unreadable_wals(i: &Inspection) -> impl Iterator<Item = (&Item, &str)> {
    let first = i.first_needed_wal();
    let needed = move |it: &&Item| it.name.kind == FileKind::Wal && it.name.number.is_some_and(|n| n >= first);
    i.gathered.items.iter().filter(needed).filter_map(|it| {
        let (_, why) = i.gathered.strange.iter().find(|(name, _)| *name == it.entry.name)?;
        Some((it, why.as_str()))
    })
}

fn surroundings(i: &Inspection, out: &mut Vec<Finding>) {
    let g = &i.gathered;
    if let Some(holder) = &g.lock {
        out.push(
            Finding::new(&codes::LOCKED, Severity::Note, "LOCK")
                .summary(format!("held by a running process: {holder:?}")),
        );
    }
    let needed: Vec<&str> = unreadable_wals(i).map(|(it, _)| it.entry.name.as_str()).collect();
    for (name, why) in g.strange.iter().filter(|(n, _)| !needed.contains(&n.as_str())) {
        out.push(Finding::new(&codes::UNREADABLE, Severity::Note, name.clone()).summary(why.clone()));
    }
    if let Some(options) = g.newest_options() {
        let here = g.source.describe();
        // A LOG says it better: `scattered` asks that one.
        let wal_dir = options.db("wal_dir").filter(|_| g.wals.is_empty() && !g.log.present).unwrap_or_default();
        if !wal_dir.is_empty() && wal_dir.trim_end_matches('/') != here.trim_end_matches('/') {
            out.push(
                Finding::new(&codes::ELSEWHERE, Severity::Suspect, "OPTIONS")
                    .summary(format!("wal_dir is {wal_dir}: bring its files in")),
            );
        }
        if let Some(line) = options.bad_lines.first() {
            let number = g.options.keys().next_back().copied().unwrap_or(0);
            out.push(
                Finding::new(&codes::OPTIONS_BAD, Severity::Note, format!("OPTIONS-{number:06}"))
                    .summary(format!("line {line} is no option")),
            );
        }
    }
    if let (Some(identity), Some(id)) = (&g.identity, &i.resolved.db_id)
        && identity != id
    {
        out.push(
            Finding::new(&codes::IDENTITY_BAD, Severity::Note, "IDENTITY")
                .summary("it differs from the id in the MANIFEST")
                .evidence(Evidence::value("id", identity, id)),
        );
    }
    if g.items.iter().any(|it| it.name.kind == FileKind::Identity) && g.identity.is_none() {
        out.push(Finding::new(&codes::IDENTITY_BAD, Severity::Note, "IDENTITY").summary("it is empty"));
    }
}

/// Checksums of whole files that the MANIFEST holds.
fn file_checksums(i: &Inspection, out: &mut Vec<Finding>) {
    for table in i.resolved.families.values().flat_map(|f| f.tables.values()).filter(|t| !t.damaged) {
        let Some((name, stored)) = table.entry.as_ref().and_then(|e| e.file_checksum()) else { continue };
        let Some(item) = table.on_disk.and_then(|n| i.gathered.item(FileKind::Table, n)) else { continue };
        if name != b"FileChecksumCrc32c" {
            continue;
        }
        let Ok(blob) = i.gathered.source.open(&item.entry) else { continue };
        let (mut crc, mut at) = (0u32, 0u64);
        while at < blob.len() {
            let end = at.saturating_add(1 << 20).min(blob.len());
            let Ok(bytes) = blob.bytes(at..end) else { break };
            crc = crate::format::checksum::crc32c_append(crc, &bytes);
            at = end;
        }
        if stored != crc.to_be_bytes() {
            let stored = stored.try_into().map_or(0, u32::from_be_bytes);
            out.push(
                Finding::new(&codes::FILE_CHECKSUM, Severity::Damaged, item.entry.name.clone())
                    .at(0, item.entry.size)
                    .evidence(Evidence::checksum("crc32c", stored, crc)),
            );
        }
    }
}

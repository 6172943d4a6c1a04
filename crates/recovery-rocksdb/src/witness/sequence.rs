//! Last sequence number, next file number, and the sequence number of ingested files that only a lost MANIFEST had.

use recovery_core::{Evidence, Finding, Severity};

use super::resolved::{Resolved, Trust};
use crate::codes;
use crate::format::file_name::FileKind;
use crate::inspect::gather::Gathered;

/// Replaces the sequence number in an internal key.
fn with_sequence(key: &mut [u8], sequence: u64) {
    let at = key.len().saturating_sub(8);
    if let Some(tail) = key.get_mut(at..).and_then(|t| t.first_chunk_mut::<8>()) {
        let kind = u64::from_le_bytes(*tail) & 0xff;
        // The bound of a range tombstone keeps its largest possible number.
        if u64::from_le_bytes(*tail) >> 8 != crate::format::write_batch::MAX_SEQUENCE {
            *tail = ((sequence << 8) | kind).to_le_bytes();
        }
    }
}

/// An ingestion consumes one sequence number, and files are numbered as they are made: the number lies between what was
/// written before and after, where neither tables nor WALs use it.
fn ingested(g: &Gathered, out: &mut Resolved) {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let mut waiting = Vec::new();
    for family in out.families.values() {
        for table in family.tables.values() {
            let file = table.on_disk.and_then(|n| g.tables.get(&n));
            let takes = file
                .and_then(|f| f.properties.as_ref())
                .is_some_and(crate::format::TableProperties::takes_global_seqno);
            if takes && table.global_seqno.is_none() && table.entry.is_none() && table.seqnos.1 == 0 {
                waiting.push((family.id, table.number));
            } else if table.seqnos.1 > 0 {
                spans.push(table.seqnos);
            }
        }
    }
    for wal in g.wals.values() {
        spans.extend(wal.first_sequence.zip(wal.last_sequence));
    }
    for (family, number) in waiting {
        let tables = || out.families.values().flat_map(|f| f.tables.values()).filter(|t| t.seqnos.1 > 0);
        let low = tables().filter(|t| t.number < number).map(|t| t.seqnos.1).max().unwrap_or(0);
        let after_tables =
            tables().filter(|t| t.number > number && t.exact && t.seqnos.0 > low).map(|t| t.seqnos.0).min();
        let after_wals = g.wals.values().filter(|w| w.number > number).filter_map(|w| w.first_sequence).min();
        let high = after_tables.into_iter().chain(after_wals).min().unwrap_or(u64::MAX);
        let used = |n: u64| spans.iter().any(|(a, b)| (*a..=*b).contains(&n));
        let mut holes = (low.saturating_add(1)..high.min(low.saturating_add(100_000))).filter(|n| !used(*n));
        let first = holes.next();
        let unique = holes.next().is_none();
        let chosen = first.unwrap_or_else(|| low.saturating_add(1));
        spans.push((chosen, chosen));
        let shown = crate::format::file_name::table(number);
        let severity = if unique && first.is_some() { Severity::Note } else { Severity::Suspect };
        let summary = if unique && first.is_some() {
            format!("the sequence number of this ingested file is {chosen}: the only one that nothing else uses")
        } else {
            format!("the sequence number of this ingested file is not certain; {chosen} is used, it lies above {low}")
        };
        out.findings.push(
            Finding::new(&codes::GLOBAL_SEQNO, severity, shown)
                .summary(summary)
                .evidence(Evidence::value("above", low, chosen)),
        );
        if let Some(table) = out.families.get_mut(&family).and_then(|f| f.tables.get_mut(&number)) {
            table.global_seqno = Some(chosen);
            table.seqnos = (chosen, chosen);
            table.exact = true;
            with_sequence(&mut table.smallest, chosen);
            with_sequence(&mut table.largest, chosen);
        }
    }
}

/// Fills `last_sequence` and `next_file`.
pub fn resolve(g: &Gathered, out: &mut Resolved) {
    if out.trust != Trust::Whole {
        ingested(g, out);
    }
    let tables = out.families.values().flat_map(|f| f.tables.values()).map(|t| t.seqnos.1).max().unwrap_or(0);
    let wals = g.wals.values().filter_map(|w| w.last_sequence).max().unwrap_or(0);
    let before = g.wals.values().filter_map(|w| w.predecessor).map(|(_, _, s)| s).max().unwrap_or(0);
    let logged = g.log.flushed_to.values().copied().max().unwrap_or(0);
    out.last_sequence = out.version.last_sequence.max(tables).max(wals).max(before).max(logged);
    out.last_sequence = out.last_sequence.min(crate::format::write_batch::MAX_SEQUENCE);
    // Foreign files with huge numbers must not use the number space up, and no file may be overwritten either.
    let kinds =
        [FileKind::Manifest, FileKind::Wal, FileKind::Table, FileKind::OldTable, FileKind::Blob, FileKind::Options];
    let numbers = g.items.iter().filter(|i| kinds.contains(&i.name.kind)).filter_map(|i| i.name.number);
    let on_disk = numbers.filter(|n| *n < u64::MAX / 2).max().unwrap_or(0);
    let known = out.families.values().flat_map(|f| f.tables.keys().chain(f.blobs.keys())).copied().max().unwrap_or(0);
    out.next_file = out.version.next_file.max(on_disk.saturating_add(1)).max(known.saturating_add(1)).max(2);
}

//! From which WAL on the records of each family count.
//!
//! A flush writes out everything of its family up to the WAL that was begun for the next memtable. A record in an older
//! WAL is in a table already; applying it again doubles merge operands. The MANIFEST has the number of that WAL; where
//! it is lost, the info log has it, and where that is lost too, the largest sequence number in the family's tables tells
//! which records are in tables.

use recovery_core::{Evidence, Finding, Severity};

use super::resolved::{Resolved, Trust};
use crate::codes;
use crate::inspect::gather::Gathered;

/// Sets the log number of every family.
pub fn resolve(g: &Gathered, out: &mut Resolved) {
    if out.trust == Trust::Whole {
        return;
    }
    let after_all = g.wals.keys().next_back().map_or(out.next_file, |n| n.saturating_add(1));
    // There entries of one batch share a sequence number, so that counting them on says nothing.
    let per_batch = g.wals.values().any(|w| w.per_batch);
    let ids: Vec<u32> = out.families.keys().copied().collect();
    for id in ids {
        let Some(family) = out.families.get(&id) else { continue };
        let name = family.shown();
        let logged = g.log.log_numbers.get(&name).copied().unwrap_or(0);
        let flushed = g.log.flushed_to.get(&name).copied().unwrap_or(0);
        let in_tables = family.tables.values().map(|t| t.seqnos.1).max().unwrap_or(0);
        let to = flushed.max(in_tables);
        let zeroed = in_tables == 0 && !family.tables.is_empty();
        let uses: Vec<_> = g.wals.values().filter_map(|w| Some((w.number, w.families.get(&id)?))).collect();
        // First WAL that holds a record no table can have.
        let first_needed = uses.iter().find(|(_, u)| u.last > to).map(|(n, _)| *n);
        let by_sequence = first_needed.unwrap_or(if uses.is_empty() { 0 } else { after_all });
        let claimed = family.log_number.max(logged);
        let chosen = match first_needed {
            _ if per_batch && claimed > 0 => claimed,
            // The log's lines and the switch of a memtable can cross; the flushed sequence number is exact.
            Some(first) if claimed > first && flushed > 0 && family.log_number <= first => first,
            _ => claimed.max(by_sequence),
        };
        if claimed > chosen {
            let evidence = Evidence::value("log number", claimed, chosen);
            out.findings.push(
                Finding::new(&codes::CONTRADICTION, Severity::Suspect, name.clone())
                    .summary(format!("WAL {chosen} holds records of {name} above sequence {to} that no table has; it is replayed again"))
                    .evidence(evidence),
            );
        }
        let unclear = uses.iter().filter(|(n, _)| *n >= chosen).any(|(_, u)| u.first <= to && u.last > to);
        if unclear && !per_batch {
            out.skip_below.insert(id, to);
        }
        let risky: u64 = uses.iter().filter(|(n, _)| *n >= chosen).map(|(_, u)| u.not_repeatable).sum();
        if (zeroed || per_batch) && claimed == 0 && flushed == 0 && risky > 0 {
            out.findings.push(
                Finding::new(&codes::MAY_REPEAT, Severity::Suspect, name.clone())
                    .summary(format!("the tables of {name} have no sequence numbers left and no witness has its log number: {risky} merges or deletions of its WALs may be applied a second time"))
                    .effect(risky, 0),
            );
        }
        if !uses.is_empty() {
            let from = if chosen == claimed && logged == claimed {
                "LOG"
            } else if chosen == claimed {
                "MANIFEST"
            } else {
                "sequence numbers of its tables"
            };
            out.claim(format!("WALs from {chosen} on count for {name}"), from);
        }
        if let Some(family) = out.families.get_mut(&id) {
            family.log_number = chosen;
        }
    }
}

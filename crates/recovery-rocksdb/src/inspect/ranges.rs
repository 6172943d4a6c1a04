//! Finds what fills the lost key ranges of damaged tables, range by range.

use std::collections::BTreeSet;

use recovery_core::{Context, Error, Sources};

use super::Inspection;
use super::gather::Gathered;
use super::heal;
use super::tables::{TableFacts, TableState};
use crate::fill::{Fill, Filler, MadeFrom, Origin, Part};
use crate::format::coding::hex;
use crate::format::file_name;
use crate::format::key::{KeyOrder, user_key};
use crate::format::version_edit::NewFile;
use crate::salvage::LostRange;
use crate::witness::{Class, LiveTable, Resolved, ResolvedFamily, Trust};

/// How many compactions back inputs are looked for.
const GENERATIONS: u32 = 4;

/// Notes in the state which lost ranges can be filled, and from where.
pub(super) fn find(i: &mut Inspection, sources: &Sources, cx: &Context) -> Result<(), Error> {
    let mut found: Vec<(u32, u64, Vec<Fill>)> = Vec::new();
    for family in i.resolved.families.values() {
        let Some(order) = &family.order else { continue };
        for table in family.tables.values().filter(|t| wants(t)) {
            let search = Search { i, sources, family, order, table, cx };
            let fills = search.run()?;
            if !fills.is_empty() {
                found.push((family.id, table.number, fills));
            }
        }
    }
    for (family, number, fills) in found {
        if let Some(table) = i.resolved.families.get_mut(&family).and_then(|f| f.tables.get_mut(&number)) {
            table.fills = fills;
        }
    }
    Ok(())
}

/// A table of which something is lost and that nothing replaces as a whole.
fn wants(table: &LiveTable) -> bool {
    (table.damaged || table.on_disk.is_none())
        && table.donor.is_none()
        && table.wals.is_empty()
        && !table.stripped
        && table.global_seqno.is_none()
}

struct Search<'a> {
    i: &'a Inspection,
    sources: &'a Sources,
    family: &'a ResolvedFamily,
    order: &'a KeyOrder,
    table: &'a LiveTable,
    cx: &'a Context,
}

impl Search<'_> {
    fn run(&self) -> Result<Vec<Fill>, Error> {
        let facts = self.facts();
        let salvage = facts.and_then(|f| f.salvage.as_ref());
        let whole = || LostRange { range: 0..self.table.size, after: None, upto: None };
        let (ranges, tombstones_lost) = match salvage {
            Some(s) => (s.ranges.clone(), s.range_deletions_lost(self.table.tombstones) != Some(0)),
            None if self.table.smallest.is_empty() => return Ok(Vec::new()),
            None => (vec![whole()], false),
        };
        let counted_none = salvage.is_some_and(|s| s.entries_lost(self.table.entries) == Some(0));
        let mut out: Vec<Fill> = Vec::new();
        let mut seen = 0_u64;
        for range in ranges.iter().filter(|_| !counted_none) {
            if let Some((after, upto)) = self.clip(range)
                && let Some((fill, found)) = self.fill(range, after, upto, salvage.is_none(), false)?
            {
                seen = seen.saturating_add(found);
                out.push(fill);
            }
        }
        // A compaction drops entries and makes none: fewer than were lost cannot be all.
        let lost = salvage.map_or(self.table.entries, |s| s.entries_lost(self.table.entries));
        let others = out.iter().any(|f| matches!(f.origin, Origin::Database(_)));
        if !others && lost.is_some_and(|lost| seen < lost) {
            out.iter_mut().for_each(|f| f.complete = false);
        }
        if tombstones_lost && let Some((after, upto)) = self.clip(&whole()) {
            let nowhere = LostRange { range: 0..0, after: None, upto: None };
            out.extend(self.fill(&nowhere, after, upto, true, true)?.map(|(fill, _)| fill));
        }
        Ok(out)
    }

    /// Smallest and largest sequence number the lost entries can have.
    const fn sequences(&self) -> (u64, u64) {
        if self.table.exact { self.table.seqnos } else { (0, crate::format::SequenceNumber::MAX.0) }
    }

    fn facts(&self) -> Option<&TableFacts> {
        self.table.on_disk.and_then(|n| self.i.gathered.tables.get(&n))
    }

    /// The keys of a lost range, open ends closed by what is known of the table and of the tables beside it. `None`
    /// when an end stays open: then nobody can say what belongs to the range.
    #[allow(clippy::type_complexity)]
    fn clip(&self, range: &LostRange) -> Option<(Option<Vec<u8>>, Option<Vec<u8>>)> {
        let bounds = self.table.entry.as_ref().map(|e| (user_key(&e.smallest), user_key(&e.largest)));
        let bounds = bounds.map(|(a, b)| (a.to_vec(), b.to_vec())).or_else(|| {
            let known = !self.table.damaged && !self.table.smallest.is_empty();
            known.then(|| (user_key(&self.table.smallest).to_vec(), user_key(&self.table.largest).to_vec()))
        });
        // Level 0 and tables without neighbours: an open end reaches as far as the inputs do.
        let alone = self.table.level == Some(0) || self.siblings().is_empty();
        match bounds {
            Some((first, last)) => {
                Some((Some(range.after.clone().unwrap_or(first)), Some(range.upto.clone().unwrap_or(last))))
            }
            None if alone || (range.after.is_some() && range.upto.is_some()) => {
                Some((range.after.clone(), range.upto.clone()))
            }
            None => None,
        }
    }

    /// Other tables that the same compaction wrote.
    fn siblings(&self) -> Vec<u64> {
        let made = made_from(self.i);
        let Some(inputs) = made.iter().find_map(|m| m.get(&self.table.number)) else { return Vec::new() };
        let same = |m: &&MadeFrom| -> Vec<u64> {
            m.iter().filter(|(n, of)| **n != self.table.number && *of == inputs).map(|(n, _)| *n).collect()
        };
        made.iter().flat_map(same).collect()
    }

    fn fill(
        &self,
        range: &LostRange,
        after: Option<Vec<u8>>,
        upto: Option<Vec<u8>>,
        tombstones: bool,
        only_tombstones: bool,
    ) -> Result<Option<(Fill, u64)>, Error> {
        let of_family: BTreeSet<u64> =
            self.family.blobs.iter().filter(|(_, b)| b.present || b.donor.is_some()).map(|(n, _)| *n).collect();
        let filler = Filler {
            sources: self.sources,
            family: self.family.id,
            name: &self.family.shown(),
            order: self.order,
            cx: self.cx,
        };
        let mut best: Option<(Fill, u64)> = None;
        for (origin, complete) in self.origins(range, after.as_deref(), upto.as_deref(), only_tombstones) {
            let mut fill = Fill {
                range: (range.range.start, range.range.end),
                after: after.as_deref().map(hex),
                upto: upto.as_deref().map(hex),
                origin,
                sequences: self.sequences(),
                blobs: of_family.clone(),
                only_tombstones,
                tombstones,
                complete,
                entries: 0,
            };
            let filled = match filler.collect(&fill) {
                Ok(filled) => filled,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                // What cannot be read does not fill.
                Err(_) => continue,
            };
            let ahead = matches!(fill.origin, Origin::Database(n) if self.is_ahead(n));
            if filled.zeroed && ahead {
                continue;
            }
            fill.entries = filled.entries.len() as u64;
            fill.complete = complete && !filled.left_out;
            if fill.complete {
                return Ok(Some((fill, filled.seen)));
            }
            if fill.entries > best.as_ref().map_or(0, |(b, _)| b.entries) {
                best = Some((fill, filled.seen));
            }
        }
        Ok(best)
    }

    /// Places that may fill the range, the surest first, and whether they have all of it.
    fn origins(
        &self,
        range: &LostRange,
        after: Option<&[u8]>,
        upto: Option<&[u8]>,
        only_tombstones: bool,
    ) -> Vec<(Origin, bool)> {
        let mut out = Vec::new();
        out.extend(self.copies(range, only_tombstones).map(|part| (Origin::Copy(part), true)));
        let inputs = self.inputs(self.table.number, after, upto, GENERATIONS);
        out.extend(inputs.filter(|parts| !parts.is_empty()).map(|parts| (Origin::Inputs(parts), true)));
        for donor in self.i.donors.iter().filter(|d| d.below.is_empty()) {
            if self.has_range(&donor.gathered, after, upto) {
                out.push((Origin::Database(donor.gathered.number), true));
            }
        }
        if !only_tombstones && let Some((wals, from)) = self.logs() {
            let complete = from <= self.table.seqnos.0;
            out.push((Origin::Logs(wals, from), complete));
        }
        out
    }

    /// Copies of the same table that are damaged too, at other places.
    fn copies(&self, range: &LostRange, only_tombstones: bool) -> impl Iterator<Item = Part> {
        let db_id = self.i.resolved.db_id.as_deref();
        let good_there = |t: &&TableFacts| {
            heal::is_same(self.table, self.facts(), t, db_id, false)
                && t.salvage.as_ref().is_some_and(|s| {
                    let clear =
                        |lost: &LostRange| lost.range.end <= range.range.start || range.range.end <= lost.range.start;
                    if only_tombstones { s.tombstones_lost == Some(0) } else { s.ranges.iter().all(clear) }
                })
        };
        let found = self.i.donors.iter().filter_map(|d| {
            let theirs = d.gathered.tables.values().find(|t| good_there(t))?;
            let object = format!("{}{}", d.below, theirs.object);
            Some(Part { source: d.gathered.number, object, global_seqno: None })
        });
        found.collect::<Vec<_>>().into_iter()
    }

    /// Every table the compaction read that can hold keys of the range; `None` when one of them is gone.
    fn inputs(&self, number: u64, after: Option<&[u8]>, upto: Option<&[u8]>, depth: u32) -> Option<Vec<Part>> {
        let made = made_from(self.i);
        let inputs = made.iter().find_map(|m| m.get(&number))?;
        let mut out = Vec::new();
        for &input in inputs {
            if self.is_outside(input, after, upto) {
                continue;
            }
            match self.input(input) {
                Some(part) => out.push(part),
                None => out.extend(self.inputs(input, after, upto, depth.checked_sub(1)?)?),
            }
        }
        Some(out)
    }

    fn seen(&self, number: u64) -> Option<&NewFile> {
        self.i.resolved.version.seen.get(&number)
    }

    fn is_outside(&self, number: u64, after: Option<&[u8]>, upto: Option<&[u8]>) -> bool {
        let Some(file) = self.seen(number) else { return false };
        let order = self.order;
        after.is_some_and(|after| order.compare(user_key(&file.largest), after).is_lt())
            || upto.is_some_and(|upto| order.compare(user_key(&file.smallest), upto).is_gt())
    }

    /// An input that is still there, whole: here as an obsolete file, or in a donor.
    fn input(&self, number: u64) -> Option<Part> {
        let g = &self.i.gathered;
        let logged = g.log.tables.get(&number);
        let fits = |t: &TableFacts| {
            let own = t.properties.as_ref().and_then(|p| p.original_file_number).is_none_or(|n| n == number);
            let size = self.seen(number).is_none_or(|f| f.size == t.size);
            let family = t
                .properties
                .as_ref()
                .and_then(|p| p.family_id)
                .is_none_or(|id| id == self.family.id || id == crate::format::properties::UNKNOWN_FAMILY);
            t.state == TableState::Good
                && size
                && family
                && (own || t.properties.as_ref().is_some_and(|p| p.external_version.is_some()))
        };
        let external =
            |t: &TableFacts| t.properties.as_ref().is_some_and(crate::format::TableProperties::takes_global_seqno);
        let sequence = || self.seen(number).map(|f| f.largest_seqno).or_else(|| logged?.global_seqno);
        let part = |source: u16, object: String, t: &TableFacts| {
            let global_seqno = if external(t) { Some(sequence()?) } else { None };
            Some(Part { source, object, global_seqno })
        };
        let here =
            g.tables.get(&number).filter(|t| fits(t) && self.i.resolved.classes.get(&number) != Some(&Class::Live));
        if let Some(t) = here {
            return part(g.number, t.object.clone(), t);
        }
        let db_id = self.i.resolved.db_id.as_deref();
        self.i.donors.iter().find_map(|d| {
            let same = |t: &&TableFacts| t.properties.as_ref().and_then(|p| p.db_id.as_deref()) == db_id;
            let t = d.gathered.tables.get(&number).filter(|t| fits(t)).filter(same)?;
            part(d.gathered.number, format!("{}{}", d.below, t.object), t)
        })
    }

    fn other(&self, number: u16) -> Option<Resolved> {
        let donor = self.i.donors.iter().find(|d| d.below.is_empty() && d.gathered.number == number)?;
        Some(crate::witness::resolve(&donor.gathered, &std::collections::BTreeMap::new()))
    }

    /// Whether the other state knows writes that this one does not.
    fn is_ahead(&self, number: u16) -> bool {
        self.other(number).is_none_or(|r| r.last_sequence > self.i.resolved.last_sequence)
    }

    /// Whether a donor is another state of this database, whole in the range and no older than the table.
    fn has_range(&self, g: &Gathered, after: Option<&[u8]>, upto: Option<&[u8]>) -> bool {
        let Some(other) = self.other(g.number) else { return false };
        let same = other.db_id.is_some() && other.db_id == self.i.resolved.db_id && other.trust == Trust::Whole;
        let Some(family) = other.families.get(&self.family.id).filter(|f| f.name == self.family.name) else {
            return false;
        };
        let order = self.order;
        let outside = |t: &LiveTable| {
            after.is_some_and(|after| order.compare(user_key(&t.largest), after).is_lt())
                || upto.is_some_and(|upto| order.compare(user_key(&t.smallest), upto).is_gt())
        };
        let good = |t: &LiveTable| {
            t.on_disk.and_then(|n| g.tables.get(&n)).is_some_and(|f| f.state == TableState::Good) || outside(t)
        };
        same && self.table.exact
            && other.last_sequence >= self.table.seqnos.1
            // Without sequence numbers nothing says how old the entries were.
            && (self.table.seqnos.1 > 0 || other.last_sequence == self.i.resolved.last_sequence)
            && family.tables.values().all(good)
            && other.missing.is_empty()
            && g.wals.values().all(|w| !w.is_damaged() && w.marks.is_empty())
    }

    /// WALs, no longer replayed, that hold every write up to the table's last, for a table straight from a flush.
    fn logs(&self) -> Option<(Vec<(u16, String, u64)>, u64)> {
        let (first, last) = self.table.seqnos;
        let marked = self.i.gathered.wals.values().any(|w| !w.marks.is_empty() || w.per_batch);
        if marked || self.table.level != Some(0) || !self.table.exact || first == 0 {
            return None;
        }
        let own = suffix(&self.i.gathered, "", last, self.family.log_number);
        let others = self.i.donors.iter().filter_map(|d| suffix(&d.gathered, &d.below, last, self.family.log_number));
        own.into_iter().chain(others).min_by_key(|(_, from)| *from)
    }
}

fn made_from(i: &Inspection) -> [&MadeFrom; 2] {
    [&i.resolved.version.made_from, &i.gathered.log.made_from]
}

/// The WALs that together hold every sequence number up to `last`, from as early on as there is no hole.
fn suffix(g: &Gathered, below: &str, last: u64, log_number: u64) -> Option<(Vec<(u16, String, u64)>, u64)> {
    let mut want = last;
    let mut out = Vec::new();
    for w in g.wals.values().rev().filter(|w| w.number < log_number) {
        let (Some(from), Some(to)) = (w.first_sequence, w.last_sequence) else { continue };
        if from > want {
            continue;
        }
        let dense = to.checked_sub(from).and_then(|n| n.checked_add(1)) == Some(w.entries);
        if to < want || w.is_damaged() || !dense {
            break;
        }
        out.push((g.number, format!("{below}{}", file_name::wal(w.number)), w.number));
        want = from.saturating_sub(1);
    }
    out.reverse();
    (!out.is_empty()).then(|| (out, want.saturating_add(1)))
}

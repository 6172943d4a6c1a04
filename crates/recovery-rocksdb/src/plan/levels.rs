//! A family of the result: its tables on their levels, merged where no order of them is right.

use std::collections::BTreeMap;

use recovery_core::{Error, Plan, Reason, Result};

use super::Builder;
use super::tables::Made;
use crate::format::key::KeyOrder;
use crate::format::version_edit::custom;
use crate::merging;
use crate::placement::{self, Age, Placement};
use crate::rewrite::BadBlobs;
use crate::witness::{LiveTable, ResolvedFamily, strip_timestamp};
use crate::writer::manifest::{NewFamily, NewTable};

impl Builder<'_> {
    pub(super) fn family(
        &self,
        family: &ResolvedFamily,
        made: &mut Vec<Made>,
        bad: &BadBlobs,
        plan: &mut Plan,
    ) -> Result<NewFamily> {
        let order = family.order.as_ref();
        let g = &self.i.gathered;
        // What a merged table was made of: it is as old as they are.
        let mut parts: BTreeMap<u64, Vec<LiveTable>> = BTreeMap::new();
        let placement = loop {
            let tables: Vec<&LiveTable> = made.iter().map(|m| &m.table).collect();
            let placement = self.place(family, &tables, &parts)?;
            if order.is_none() || !merging::possible(&placement, made) {
                check(order, family, &tables, &placement)?;
                break placement;
            }
            let source = merging::Merging {
                sources: self.sources,
                family,
                bad,
                mend: self.options.mend,
                up_to: self.up_to,
                cx: self.cx,
            };
            source.merge(&placement, made, &mut parts)?;
            plan.next.push(format!("tables of family {} whose ages interleave were merged", family.shown()));
        };
        let tables: Vec<&LiveTable> = made.iter().map(|m| &m.table).collect();
        if !placement.kept && !tables.is_empty() {
            plan.next.push(format!("levels of family {} were worked out anew", family.shown()));
        }
        let mut new = NewFamily {
            id: family.id,
            name_hex: recovery_core::hex(&family.name),
            name: family.shown(),
            comparator: family.comparator.clone(),
            log_number: family.log_number,
            persist_timestamps: family.persist_timestamps.as_deref().map(recovery_core::hex),
            history_low: family.history_low.as_deref().map(recovery_core::hex),
            tables: Vec::new(),
            blobs: self.blobs(family),
        };
        if new.persist_timestamps.is_none() && order.is_some_and(|o| o.timestamp_size() > 0) {
            let options =
                g.newest_options().and_then(|o| o.family(&family.shown())?.get("persist_user_defined_timestamps"));
            let stripped = tables.iter().any(|t| t.stripped) || options == Some("false");
            new.persist_timestamps = Some(if stripped { "00" } else { "01" }.to_owned());
        }
        for table in tables {
            let Some(place) = placement.places.get(&table.number) else { continue };
            new.tables.push(new_table(table, order, place.level, place.epoch));
        }
        Ok(new)
    }

    pub(super) fn place(
        &self,
        family: &ResolvedFamily,
        tables: &[&LiveTable],
        parts: &BTreeMap<u64, Vec<LiveTable>>,
    ) -> Result<Placement> {
        let order = family.order.as_ref();
        let of = |t: &LiveTable| parts.get(&t.number).cloned().unwrap_or_else(|| vec![self.on_disk(family, t).clone()]);
        let compare = |a: &LiveTable, b: &LiveTable| {
            let Some(order) = order else { return Ok(Age::Mixed) };
            let mut age = Age::Free;
            for a in of(a) {
                for b in of(b) {
                    if placement::overlap(order, &a, &b) {
                        age = age.and(crate::compare::compare(&self.i.gathered, order, &a, &b, self.cx)?);
                    }
                }
            }
            Ok(age)
        };
        let trusted = self.i.resolved.trust != crate::witness::Trust::None;
        placement::place(order, &family.shown(), tables, family.levels, trusted, &compare)
    }

    /// The table as the source has it, for reading.
    pub(super) fn on_disk<'t>(&self, family: &'t ResolvedFamily, table: &'t LiveTable) -> &'t LiveTable {
        family.tables.get(&table.number).unwrap_or(table)
    }
}

fn new_table(table: &LiveTable, order: Option<&KeyOrder>, level: u32, epoch: u64) -> NewTable {
    let size = if table.stripped { order.map_or(0, KeyOrder::timestamp_size) } else { 0 };
    let keep = |tag: u32| !matches!(tag, custom::EPOCH | custom::OLDEST_BLOB | custom::PATH_ID);
    let custom = table
        .entry
        .as_ref()
        .map(|e| e.custom.iter().filter(|(t, _)| keep(*t)).map(|(t, v)| (*t, recovery_core::hex(v))).collect());
    let mut custom: Vec<(u32, String)> = custom.unwrap_or_default();
    if table.stripped && !custom.iter().any(|(t, _)| *t == custom::TIMESTAMPS_PERSISTED) {
        custom.push((custom::TIMESTAMPS_PERSISTED, "00".to_owned()));
    }
    NewTable {
        number: table.number,
        level,
        epoch,
        size: table.size,
        smallest: recovery_core::hex(&strip_timestamp(&table.smallest, size)),
        largest: recovery_core::hex(&strip_timestamp(&table.largest, size)),
        smallest_seqno: table.seqnos.0,
        largest_seqno: table.seqnos.1,
        oldest_blob: table.oldest_blob,
        custom,
    }
}

/// The last look before anything is written: no overlap on any level, no table without a place.
fn check(
    order: Option<&KeyOrder>,
    family: &ResolvedFamily,
    tables: &[&LiveTable],
    placement: &Placement,
) -> Result<()> {
    let refuse = |message: String| Error::refuse(Reason::Unsafe, message);
    if let Some((a, b)) = placement.mixed.first() {
        return Err(refuse(format!(
            "family {}: tables {a} and {b} each hold newer versions of some keys than the other, so no order of them is right",
            family.shown()
        )));
    }
    let Some(order) = order else { return Ok(()) };
    let placed: Vec<(u32, &LiveTable)> =
        tables.iter().filter_map(|t| Some((placement.places.get(&t.number)?.level, *t))).collect();
    if placed.len() != tables.len() {
        return Err(Error::Internal(format!("family {}: a table has no place", family.shown())));
    }
    match placement::conflict(order, &placed) {
        Some((a, b)) => Err(refuse(format!(
            "family {}: tables {} and {} would overlap on one level",
            family.shown(),
            a.number,
            b.number
        ))),
        None => Ok(()),
    }
}

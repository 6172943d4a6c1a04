//! Tables of the result: linked where they are good, written anew on paper where they are not.

use recovery_core::{Error, Result, Step, WriteStep, parallel};

use super::{Builder, Inputs};
use crate::codes;
use crate::fill::Fill;
use crate::format::file_name::{self, FileKind};
use crate::format::key::KeyOrder;
use crate::format::version_edit::custom;
use crate::inspect::gather::Item;
use crate::inspect::tables::{TableFacts, TableState};
use crate::rewrite::{self, BadBlobs, MemtableArgs, TableArgs};
use crate::witness::{LiveTable, ResolvedFamily, pad_timestamp};

/// A table of the result: where its bytes come from and what a MANIFEST says of it.
pub(crate) struct Made {
    pub(crate) table: LiveTable,
    pub(crate) step: Step,
    /// Entries that are gone; `None` when some are and nobody knows how many.
    pub(crate) lost: Option<u64>,
    pub(crate) lost_tombstones: Option<u64>,
    pub(crate) lost_blobs: u64,
    pub(crate) inputs: Inputs,
}

impl Made {
    /// A table of which nothing is lost.
    const fn whole(table: LiveTable, step: Step) -> Self {
        Self { table, step, lost: Some(0), lost_tombstones: Some(0), lost_blobs: 0, inputs: Vec::new() }
    }
}

impl Builder<'_> {
    /// The tables of one family, the damaged ones written anew on paper: their sizes and boundaries are needed.
    pub(super) fn tables(
        &self,
        family: &ResolvedFamily,
        bad: &BadBlobs,
        lost: &mut Vec<(u64, u64, u64, &'static str)>,
    ) -> Result<Vec<Made>> {
        let tables: Vec<&LiveTable> = family.tables.values().collect();
        let made = parallel::map(self.cx, &tables, |_, table| self.table(family, table, bad))?;
        let mut out = Vec::new();
        for (table, made) in tables.iter().zip(made) {
            match made? {
                Some(made) => out.push(made),
                // Nothing of it lies before the cut.
                None if self.up_to.is_some_and(|most| table.exact && table.seqnos.0 > most) => {}
                None => {
                    let name = if table.on_disk.is_some() { codes::LOST_ENTRIES } else { codes::LOST_TABLES };
                    lost.push((table.number, table.entries.unwrap_or(0), table.size, name));
                }
            }
        }
        Ok(out)
    }

    pub(super) fn table(&self, family: &ResolvedFamily, table: &LiveTable, bad: &BadBlobs) -> Result<Option<Made>> {
        if table.damaged || table.on_disk.is_none() {
            if let Some((source, object)) = table.donor.as_ref().filter(|_| self.up_to.is_none()) {
                let to = file_name::table(table.number);
                let step = Step::Link { source: *source, object: object.clone(), to, size: table.size };
                return Ok(Some(Made::whole(LiveTable { damaged: false, ..table.clone() }, step)));
            }
            if !table.wals.is_empty() && self.up_to.is_none() {
                return self.made_from_wals(family, table);
            }
        }
        let g = &self.i.gathered;
        let on_disk = table.on_disk.and_then(|n| Some((g.item(FileKind::Table, n)?, g.tables.get(&n)?)));
        let Some((item, facts)) = on_disk else { return self.rewritten(family, table, None, BadBlobs::default()) };
        let unsupported = matches!(facts.state, TableState::Unsupported(_));
        if unsupported && table.entry.is_none() {
            return Err(Error::unsupported(format!(
                "{}: its kind of table is not supported and its boundaries are in no MANIFEST",
                facts.object
            )));
        }
        let refers = table.oldest_blob.is_some() || !family.blobs.is_empty();
        let concerned = refers && !bad.is_empty() && !unsupported;
        let cut = self.up_to.is_some_and(|most| table.seqnos.1 > most);
        // A whole file of another size than the MANIFEST's is used as it is; what it holds decides.
        let whole = facts.state == TableState::Good || unsupported;
        if cut && unsupported {
            let message = format!("{}: its kind of table is not supported and cannot be cut", facts.object);
            return Err(Error::unsupported(message));
        }
        if whole && !concerned && !cut {
            let mut table = table.clone();
            if facts.size != table.size
                && let (Some(smallest), Some(largest)) = (&facts.smallest, &facts.largest)
            {
                (table.size, table.entry) = (facts.size, None);
                table.smallest.clone_from(smallest);
                table.largest.clone_from(largest);
            }
            let step = self.link(item, file_name::table(table.number));
            return Ok(Some(Made::whole(table, step)));
        }
        let own = (facts.salvage.is_some() || whole).then_some((item, facts));
        self.rewritten(family, table, own, if concerned { bad.clone() } else { BadBlobs::default() })
    }

    /// A table written anew from its good blocks, where there are any, and from what fills its lost ranges.
    pub(super) fn rewritten(
        &self,
        family: &ResolvedFamily,
        table: &LiveTable,
        own: Option<(&Item, &TableFacts)>,
        bad_blobs: BadBlobs,
    ) -> Result<Option<Made>> {
        if own.is_none() && table.fills.is_empty() {
            return Ok(None);
        }
        let to = file_name::table(table.number);
        let args = TableArgs {
            source: self.source,
            object: own.map(|(item, _)| item.entry.name.clone()).unwrap_or_default(),
            family: family.id,
            name: family.shown(),
            comparator: family.comparator.clone(),
            global_seqno: table.global_seqno.or(table.entry.as_ref().map(|e| e.largest_seqno)),
            bad_blobs,
            fills: table.fills.clone(),
            mend: self.options.mend,
            up_to: self.up_to,
        };
        let done = rewrite::table(self.sources, &args, self.cx, &mut std::io::sink())?;
        let salvage = own.and_then(|(_, facts)| facts.salvage.as_ref());
        let whole = own.is_some() && salvage.is_none();
        if let (true, 0, 0, Some((item, _))) = (whole, done.dropped, done.cut, own) {
            return Ok(Some(Made::whole(table.clone(), self.link(item, to))));
        }
        self.count_cut(done.cut);
        let Some(written) = done.written else {
            // Nothing is left of it.
            return Ok(None);
        };
        let lost = if whole { Some(0) } else { table.lost(salvage) };
        let lost_tombstones = if whole { Some(0) } else { table.lost_tombstones(salvage) };
        let mut new = table.clone();
        describe(&mut new, &written, family.order.as_ref());
        new.oldest_blob = done.oldest_blob;
        let mut inputs: Inputs = own.iter().map(|(item, _)| (self.source, item.entry.name.clone())).collect();
        inputs.extend(table.fills.iter().flat_map(Fill::files));
        let args = serde_json::to_value(&args).map_err(|e| Error::Internal(e.to_string()))?;
        let step =
            Step::Write(WriteStep { to, what: "table".to_owned(), size: written.size, args, ..WriteStep::default() });
        Ok(Some(Made { table: new, step, lost, lost_tombstones, lost_blobs: done.dropped, inputs }))
    }

    /// Everything a lost table was flushed from is still in WALs: it is made from them.
    pub(super) fn made_from_wals(&self, family: &ResolvedFamily, table: &LiveTable) -> Result<Option<Made>> {
        let args = MemtableArgs {
            wals: table.wals.clone(),
            family: family.id,
            name: family.shown(),
            comparator: family.comparator.clone(),
            first: table.seqnos.0,
            last: table.seqnos.1,
        };
        let Some(written) = rewrite::memtable(self.sources, &args, self.cx, &mut std::io::sink())? else {
            return Ok(None);
        };
        let mut new = table.clone();
        describe(&mut new, &written, family.order.as_ref());
        let to = file_name::table(table.number);
        let value = serde_json::to_value(&args).map_err(|e| Error::Internal(e.to_string()))?;
        let step = Step::Write(WriteStep {
            to,
            what: "memtable".to_owned(),
            size: written.size,
            args: value,
            ..WriteStep::default()
        });
        let inputs = args.wals.iter().map(|(source, object, _)| (*source, object.clone())).collect();
        Ok(Some(Made { inputs, ..Made::whole(new, step) }))
    }
}

/// Takes over what a newly written file is.
pub(crate) fn describe(table: &mut LiveTable, written: &crate::writer::WrittenTable, order: Option<&KeyOrder>) {
    let s = &written.summary;
    let size = if table.stripped { order.map_or(0, KeyOrder::timestamp_size) } else { 0 };
    let key = |k: &Option<crate::format::InternalKey>| {
        k.as_ref().map(|k| pad_timestamp(k.as_bytes(), size)).unwrap_or_default()
    };
    table.size = written.size;
    table.smallest = key(&s.smallest);
    table.largest = key(&s.largest);
    table.seqnos = (s.smallest_seqno.map_or(0, |n| n.0), s.largest_seqno.map_or(0, |n| n.0));
    table.exact = true;
    table.damaged = false;
    table.global_seqno = None;
    if let Some(entry) = &mut table.entry {
        // The file is another one: its old checksum, id and tail size no longer fit.
        entry
            .custom
            .retain(|(tag, _)| matches!(*tag, custom::EPOCH | custom::TIMESTAMPS_PERSISTED | custom::CREATION_TIME));
    }
}

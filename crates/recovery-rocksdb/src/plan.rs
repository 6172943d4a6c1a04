//! Decides what the result holds; touches nothing.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Context, Error, Plan, Reason, Report, Result, Sources, Step, WriteStep, parallel};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::codes;
use crate::engine::{EngineOptions, WalMode};
use crate::format::file_name::{self, FileKind};
use crate::format::key::KeyOrder;
use crate::format::version_edit::custom;
use crate::inspect::gather::{CurrentState, Item, record_limit};
use crate::inspect::{self, Inspection};
use crate::merging;
use crate::placement::{self, Age, Placement};
use crate::reader::blob::BlobItem;
use crate::reader::log::EndKind;
use crate::rewrite::{self, BadBlobs, MemtableArgs, TableArgs};
use crate::witness::{Class, LiveTable, ResolvedFamily, pad_timestamp, strip_timestamp};
use crate::writer::manifest::{NewBlob, NewFamily, NewTable, NewVersion};
use crate::writer::wal::{self as wal_writer, Keep};

/// Arguments of a step that writes a WAL anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WalArgs {
    pub(crate) source: u16,
    pub(crate) object: String,
    pub(crate) number: u64,
    pub(crate) keep: Keep,
}

/// Arguments of a step that writes a blob file anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlobArgs {
    pub(crate) source: u16,
    pub(crate) object: String,
}

/// Makes the plan.
///
/// # Errors
///
/// A refusal where only a guess could go on; nothing of the engine in the directory; reading.
pub(crate) fn plan(
    sources: &Sources,
    report: &Report,
    options: &EngineOptions,
    raw: &Value,
    cx: &Context,
) -> Result<Plan> {
    let again;
    let report = if report.state::<Inspection>().is_some() {
        report
    } else {
        again = inspect::inspect(sources, options, cx)?;
        &again
    };
    let Some(inspection) = report.state::<Inspection>() else {
        return Err(Error::Internal("an inspection without a state".to_owned()));
    };
    if report.verdict == recovery_core::Verdict::Unusable {
        return Err(Error::Unusable(format!(
            "{}: nothing of a RocksDB database can be saved from it",
            inspection.gathered.source.describe()
        )));
    }
    let mut plan = Plan::new("rocksdb", raw.clone(), sources);
    plan.exit = report.exit;
    let builder = Builder { sources, i: &inspection, options, cx, source: inspection.gathered.number };
    let inputs = if inspection.manifest_stays() { builder.identical(&mut plan) } else { builder.rebuilt(&mut plan)? };
    plan.seal(sources, &inputs)?;
    let dir = "NEWDIR";
    plan.next.push(format!("recover verify {dir}"));
    plan.next.push(format!("mv DB DB.before-rescue && mv {dir} DB   # undo: mv DB {dir} && mv DB.before-rescue DB"));
    plan.next.push("hard-linked tables share owner and mode with the originals: do not chown -R the result".to_owned());
    Ok(plan)
}

struct Builder<'a> {
    sources: &'a Sources,
    i: &'a Inspection,
    options: &'a EngineOptions,
    cx: &'a Context,
    source: u16,
}

pub(crate) type Inputs = Vec<(u16, String)>;

/// A table of the result: where its bytes come from and what a MANIFEST says of it.
pub(crate) struct Made {
    pub(crate) table: LiveTable,
    pub(crate) step: Step,
    pub(crate) lost: u64,
    pub(crate) lost_tombstones: Option<u64>,
    pub(crate) lost_blobs: u64,
    pub(crate) inputs: Inputs,
}

impl Builder<'_> {
    fn link(&self, item: &Item, to: String) -> Step {
        Step::Link { source: self.source, object: item.entry.name.clone(), to, size: item.entry.size }
    }

    fn copy(&self, item: &Item, to: String) -> Step {
        let (object, size) = (item.entry.name.clone(), item.entry.size);
        Step::Copy { source: self.source, object, to, size, range: None, mode: None, last: false }
    }

    /// Whether the database never writes this file in place.
    fn is_finished(&self, item: &Item) -> bool {
        match item.name.kind {
            FileKind::Table | FileKind::OldTable => item.entry.size > 0 && self.i.class_of(item) != Class::Foreign,
            FileKind::Blob => item
                .name
                .number
                .and_then(|n| self.i.gathered.blobs.get(&n))
                .is_some_and(inspect::blobs::BlobFacts::is_whole),
            _ => false,
        }
    }

    /// The MANIFEST stays: every file as it is, CURRENT written again when it is bad.
    fn identical(&self, plan: &mut Plan) -> Inputs {
        let g = &self.i.gathered;
        let mut directories = BTreeSet::new();
        for item in g.items.iter().chain(&g.below) {
            let name = item.entry.name.clone();
            let mut parent = name.as_str();
            while let Some((dir, _)) = parent.rsplit_once('/') {
                directories.insert(dir.to_owned());
                parent = dir;
            }
            if item.entry.raw.is_some() || recovery_core::names::relative_path(&name).is_err() {
                continue;
            }
            if item.name.kind == FileKind::Current && !name.contains('/') {
                continue;
            }
            // The database deletes obsolete files; damaged ones are not worth carrying along.
            if matches!(self.i.class_of(item), Class::Obsolete | Class::Orphan) && self.i.has_bad_bytes(item) {
                continue;
            }
            let top = !name.contains('/');
            plan.steps.push(if top && self.is_finished(item) { self.link(item, name) } else { self.copy(item, name) });
        }
        let made = directories.into_iter().map(|to| Step::Mkdir { to, mode: None });
        plan.steps.splice(0..0, made);
        let base = self.i.resolved.base.unwrap_or(0);
        let current = g.items.iter().find(|it| it.entry.name == "CURRENT");
        match (current, &g.current) {
            (Some(item), CurrentState::Names(n)) if *n == base => {
                let (object, size) = (item.entry.name.clone(), item.entry.size);
                plan.steps.push(Step::Copy {
                    source: self.source,
                    object,
                    to: "CURRENT".to_owned(),
                    size,
                    range: None,
                    mode: None,
                    last: true,
                });
            }
            _ => plan.steps.push(current_step(base)),
        }
        plan.result = json!({"manifest": base, "rebuilt": false, "last_sequence": self.i.resolved.last_sequence});
        Vec::new()
    }

    /// A new MANIFEST over what is good, placed, healed and rewritten.
    fn rebuilt(&self, plan: &mut Plan) -> Result<Inputs> {
        let mut inputs = Inputs::new();
        let r = &self.i.resolved;
        let bad_blobs = self.blob_steps(plan, &mut inputs);
        let mut version = NewVersion {
            manifest: r.next_file,
            db_id: r.db_id.clone(),
            next_file: r.next_file.saturating_add(1),
            last_sequence: r.last_sequence,
            min_log: 0,
            max_family: r.families.keys().chain(r.dropped.keys()).copied().max().unwrap_or(0).max(r.version.max_family),
            families: Vec::new(),
        };
        let mut lost_tables = Vec::new();
        for family in r.families.values() {
            let mut made = self.tables(family, &bad_blobs, &mut lost_tables)?;
            let new = self.family(family, &mut made, &bad_blobs, plan)?;
            for m in made {
                self.losses_of(&m, plan);
                inputs.extend(m.inputs);
                plan.steps.push(m.step);
            }
            version.families.push(new);
        }
        for (number, records, bytes, name) in lost_tables {
            plan.lose(name, format!("table {number}"), records, bytes);
        }
        self.wal_steps(plan, &mut version, &mut inputs)?;
        self.other_losses(plan);
        self.texts(plan, r.db_id.as_deref());
        let bytes = crate::writer::manifest::encode(&version).map_err(|e| Error::Internal(e.to_string()))?;
        let write =
            |to: String, what: &str, size: u64| WriteStep { to, what: what.to_owned(), size, ..WriteStep::default() };
        plan.steps.push(Step::Write(write(file_name::manifest(version.manifest), "manifest", bytes.len() as u64)));
        plan.steps.push(current_step(version.manifest));
        let value = serde_json::to_value(&version).map_err(|e| Error::Internal(e.to_string()))?;
        plan.result = json!({"manifest": version.manifest, "rebuilt": true, "last_sequence": version.last_sequence, "version": value});
        Ok(inputs)
    }

    fn losses_of(&self, m: &Made, plan: &mut Plan) {
        let name = file_name::table(m.table.number);
        if m.lost > 0 {
            plan.lose(codes::LOST_ENTRIES, format!("entries of {name} in damaged blocks"), m.lost, 0);
        }
        if m.lost_blobs > 0 {
            plan.lose(codes::LOST_BLOBS, format!("entries of {name} whose values are gone"), m.lost_blobs, 0);
        }
        if m.lost_tombstones != Some(0) {
            plan.lose(
                codes::LOST_TOMBSTONES,
                format!("range tombstones of {name}; rows they deleted may come back"),
                m.lost_tombstones.unwrap_or(0),
                0,
            );
        }
    }

    /// The tables of one family, the damaged ones written anew on paper: their sizes and boundaries are needed.
    fn tables(
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
                None => {
                    let name = if table.on_disk.is_some() { codes::LOST_ENTRIES } else { codes::LOST_TABLES };
                    lost.push((table.number, table.entries.unwrap_or(0), table.size, name));
                }
            }
        }
        Ok(out)
    }

    fn table(&self, family: &ResolvedFamily, table: &LiveTable, bad: &BadBlobs) -> Result<Option<Made>> {
        let g = &self.i.gathered;
        if table.damaged || table.on_disk.is_none() {
            if let Some((source, object)) = &table.donor {
                let step = Step::Link {
                    source: *source,
                    object: object.clone(),
                    to: file_name::table(table.number),
                    size: table.size,
                };
                let table = LiveTable { damaged: false, ..table.clone() };
                return Ok(Some(Made {
                    table,
                    step,
                    lost: 0,
                    lost_tombstones: Some(0),
                    lost_blobs: 0,
                    inputs: Vec::new(),
                }));
            }
            if !table.wals.is_empty() {
                return self.made_from_wals(family, table);
            }
        }
        let Some(on_disk) = table.on_disk else { return Ok(None) };
        let Some(item) = g.item(FileKind::Table, on_disk) else { return Ok(None) };
        let Some(facts) = g.tables.get(&on_disk) else { return Ok(None) };
        let to = file_name::table(table.number);
        let unsupported = matches!(facts.state, inspect::tables::TableState::Unsupported(_));
        let refers = table.oldest_blob.is_some() || !family.blobs.is_empty();
        let concerned = refers && !bad.is_empty() && !unsupported;
        if unsupported && table.entry.is_none() {
            return Err(Error::unsupported(format!(
                "{}: its kind of table is not supported and its boundaries are in no MANIFEST",
                facts.object
            )));
        }
        // A whole file of another size than the MANIFEST's is used as it is; what it holds decides.
        let whole = facts.state == inspect::tables::TableState::Good || unsupported;
        if whole && !concerned {
            let mut table = table.clone();
            if facts.size != table.size
                && let (Some(smallest), Some(largest)) = (&facts.smallest, &facts.largest)
            {
                (table.size, table.entry) = (facts.size, None);
                table.smallest.clone_from(smallest);
                table.largest.clone_from(largest);
            }
            let step = self.link(item, to);
            return Ok(Some(Made {
                table,
                step,
                lost: 0,
                lost_tombstones: Some(0),
                lost_blobs: 0,
                inputs: Vec::new(),
            }));
        }
        if facts.salvage.is_none() && !whole {
            return Ok(None);
        }
        let args = TableArgs {
            source: self.source,
            object: item.entry.name.clone(),
            family: family.id,
            name: family.shown(),
            comparator: family.comparator.clone(),
            global_seqno: table.global_seqno.or(table.entry.as_ref().map(|e| e.largest_seqno)),
            bad_blobs: if concerned { bad.clone() } else { BadBlobs::default() },
        };
        let blob = g.source.open(&item.entry)?;
        let done = rewrite::table(&blob, &args, self.cx, &mut std::io::sink())?;
        if whole && done.dropped == 0 {
            let step = self.link(item, to);
            return Ok(Some(Made {
                table: table.clone(),
                step,
                lost: 0,
                lost_tombstones: Some(0),
                lost_blobs: 0,
                inputs: Vec::new(),
            }));
        }
        let salvage = facts.salvage.clone().unwrap_or_default();
        let lost = if whole { 0 } else { salvage.entries_lost(table.entries) };
        let lost_tombstones = if whole { Some(0) } else { salvage.range_deletions_lost(table.tombstones) };
        let Some(written) = done.written else {
            // Nothing is left of it.
            return Ok(None);
        };
        let mut new = table.clone();
        describe(&mut new, &written, family.order.as_ref());
        new.oldest_blob = done.oldest_blob;
        let args = serde_json::to_value(&args).map_err(|e| Error::Internal(e.to_string()))?;
        let step =
            Step::Write(WriteStep { to, what: "table".to_owned(), size: written.size, args, ..WriteStep::default() });
        let inputs = vec![(self.source, item.entry.name.clone())];
        Ok(Some(Made { table: new, step, lost, lost_tombstones, lost_blobs: done.dropped, inputs }))
    }

    /// Everything a lost table was flushed from is still in WALs: it is made from them.
    fn made_from_wals(&self, family: &ResolvedFamily, table: &LiveTable) -> Result<Option<Made>> {
        let args = MemtableArgs {
            wals: table.wals.clone(),
            family: family.id,
            name: family.shown(),
            comparator: family.comparator.clone(),
            first: table.seqnos.0,
            last: table.seqnos.1,
        };
        let mut open = |source: u16, object: &str| self.open(source, object);
        let Some(written) = rewrite::memtable(&mut open, &args, self.cx, &mut std::io::sink())? else {
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
        Ok(Some(Made { table: new, step, lost: 0, lost_tombstones: Some(0), lost_blobs: 0, inputs }))
    }

    fn open(&self, source: u16, object: &str) -> Result<std::sync::Arc<dyn recovery_core::Blob>> {
        let missing = || Error::Internal(format!("{object} is not there any more"));
        self.sources.get(source).ok_or_else(missing)?.open_name(object)?.ok_or_else(missing)
    }

    fn family(
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
            let source = merging::Merging { sources: self.sources, family, bad, cx: self.cx };
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

    fn place(
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
    fn on_disk<'t>(&self, family: &'t ResolvedFamily, table: &'t LiveTable) -> &'t LiveTable {
        family.tables.get(&table.number).unwrap_or(table)
    }

    fn blobs(&self, family: &ResolvedFamily) -> Vec<NewBlob> {
        let mut out = Vec::new();
        for (number, blob) in family.blobs.iter().filter(|(_, b)| b.present || b.donor.is_some()) {
            if blob.donor.is_some() {
                out.push(NewBlob {
                    number: *number,
                    count: blob.count,
                    bytes: blob.bytes,
                    garbage_count: blob.garbage_count,
                    garbage_bytes: blob.garbage_bytes,
                });
                continue;
            }
            let facts = self.i.gathered.blobs.get(number);
            let Some(walk) = facts.and_then(|f| f.walk.as_ref()) else { continue };
            let fixed = rewrite::blob_shape(walk, facts.map_or(0, |f| f.size));
            out.push(NewBlob {
                number: *number,
                count: if blob.damaged { fixed.count } else { blob.count.max(walk.records()) },
                bytes: if blob.damaged { fixed.bytes } else { blob.bytes.max(walk.bytes()) },
                garbage_count: blob.garbage_count.saturating_add(if blob.damaged { fixed.filler_count } else { 0 }),
                garbage_bytes: blob.garbage_bytes.saturating_add(if blob.damaged { fixed.filler_bytes } else { 0 }),
            });
        }
        out
    }

    /// Steps for blob files, and which of their values are gone.
    fn blob_steps(&self, plan: &mut Plan, inputs: &mut Inputs) -> BadBlobs {
        let g = &self.i.gathered;
        let mut bad = BadBlobs::default();
        for (number, blob) in self.i.resolved.families.values().flat_map(|f| &f.blobs) {
            let item = g.items.iter().find(|it| it.name.kind == FileKind::Blob && it.name.number == Some(*number));
            let facts = g.blobs.get(number);
            let (Some(item), Some(walk)) = (item, facts.and_then(|f| f.walk.as_ref())) else {
                match &blob.donor {
                    Some((source, object)) => plan.steps.push(Step::Link {
                        source: *source,
                        object: object.clone(),
                        to: file_name::blob(*number),
                        size: blob.bytes.saturating_add(62),
                    }),
                    None => {
                        bad.missing.insert(*number);
                    }
                }
                continue;
            };
            let to = file_name::blob(*number);
            if let Some((source, object)) = &blob.donor {
                plan.steps.push(Step::Link { source: *source, object: object.clone(), to, size: item.entry.size });
                continue;
            }
            if !blob.damaged {
                plan.steps.push(self.link(item, to));
                continue;
            }
            if walk.header.is_err() {
                bad.missing.insert(*number);
                continue;
            }
            for it in &walk.items {
                if let BlobItem::Damaged { range, .. } | BlobItem::Unknown { range } | BlobItem::Unread { range, .. } =
                    it
                {
                    bad.ranges.entry(*number).or_default().push((range.start, range.end));
                }
            }
            let shape = rewrite::blob_shape(walk, item.entry.size);
            let args = serde_json::to_value(BlobArgs { source: self.source, object: item.entry.name.clone() })
                .unwrap_or_default();
            plan.steps.push(Step::Write(WriteStep {
                to,
                what: "blob".to_owned(),
                size: shape.size,
                args,
                ..WriteStep::default()
            }));
            inputs.push((self.source, item.entry.name.clone()));
        }
        bad
    }

    fn wal_steps(&self, plan: &mut Plan, version: &mut NewVersion, inputs: &mut Inputs) -> Result<()> {
        let g = &self.i.gathered;
        let stop = self.options.wal == WalMode::PointInTime;
        let limit = record_limit(self.cx);
        let mut stopped = false;
        version.min_log = self.i.first_needed_wal();
        for w in self.i.needed_wals() {
            let Some(item) =
                g.items.iter().find(|it| it.name.kind == FileKind::Wal && it.name.number == Some(w.number))
            else {
                continue;
            };
            let to = file_name::wal(w.number);
            if stopped {
                plan.lose(
                    codes::LOST_AFTER,
                    format!("{to}: it comes behind the damage in an earlier WAL"),
                    w.entries,
                    w.size,
                );
                continue;
            }
            if let (true, Some((source, object))) = (w.is_damaged(), self.i.wal_donors.get(&w.number)) {
                let size = self.open(*source, object)?.len();
                plan.steps.push(Step::Copy {
                    source: *source,
                    object: object.clone(),
                    to,
                    size,
                    range: None,
                    mode: None,
                    last: false,
                });
                continue;
            }
            let skip: BTreeMap<u32, u64> = self.i.resolved.skip_below.clone();
            let filter = skip.keys().any(|id| w.families.contains_key(id));
            if !w.is_damaged() && !filter {
                plan.steps.push(match w.end {
                    EndKind::Torn => Step::Copy {
                        source: self.source,
                        object: item.entry.name.clone(),
                        to,
                        size: w.end_at,
                        range: Some((0, w.end_at)),
                        mode: None,
                        last: false,
                    },
                    _ => self.copy(item, to),
                });
                continue;
            }
            let keep = Keep {
                stop_at_damage: stop && w.is_damaged(),
                skip_below: if filter { skip } else { BTreeMap::new() },
            };
            let blob = g.source.open(&item.entry)?;
            let size = wal_writer::rewritten_size(blob.as_ref(), w.number, limit, &keep)?;
            if w.is_damaged() {
                let bytes = w.damage.iter().map(|d| d.end.saturating_sub(d.at)).fold(0, u64::saturating_add);
                let gap = w.gaps.iter().map(|gap| gap.lost().unwrap_or(1)).fold(0, u64::saturating_add);
                plan.lose(codes::LOST_WAL, format!("damaged records of {to}"), gap, bytes);
                if stop && w.after_damage.0 > 0 {
                    plan.lose(
                        codes::LOST_AFTER,
                        format!("{to}: records behind the first damaged one (--wal salvage keeps them)"),
                        w.after_damage.1,
                        0,
                    );
                }
                stopped = stop;
            }
            let args = WalArgs { source: self.source, object: item.entry.name.clone(), number: w.number, keep };
            let args = serde_json::to_value(&args).map_err(|e| Error::Internal(e.to_string()))?;
            plan.steps.push(Step::Write(WriteStep { to, what: "wal".to_owned(), size, args, ..WriteStep::default() }));
            inputs.push((self.source, item.entry.name.clone()));
        }
        Ok(())
    }

    fn other_losses(&self, plan: &mut Plan) {
        let of = |code: &str, findings: &[recovery_core::Finding]| -> Option<(u64, u64)> {
            let mut hits =
                findings.iter().filter(|f| f.code == code && f.severity > recovery_core::Severity::Note).peekable();
            hits.peek()?;
            Some(hits.fold((0, 0), |(r, b): (u64, u64), f| {
                (r.saturating_add(f.effect.records), b.saturating_add(f.effect.bytes))
            }))
        };
        let all = inspect::losses(self.i);
        if let Some((records, bytes)) = of(codes::WAL_MISSING.code, &all) {
            plan.lose(codes::LOST_WAL_FILES, "what the missing WALs held and no table holds", records, bytes);
        }
        if let Some((records, bytes)) = of(codes::NO_FAMILY.code, &all) {
            plan.lose(codes::LOST_FAMILYLESS, "tables of which no witness tells the family", records, bytes);
        }
    }

    /// OPTIONS and IDENTITY.
    fn texts(&self, plan: &mut Plan, db_id: Option<&str>) {
        let mut identity = false;
        for item in &self.i.gathered.items {
            match item.name.kind {
                FileKind::Options => plan.steps.push(self.copy(item, item.entry.name.clone())),
                FileKind::Identity if self.i.gathered.identity.is_some() => {
                    identity = true;
                    plan.steps.push(self.copy(item, "IDENTITY".to_owned()));
                }
                _ => {}
            }
        }
        if let (false, Some(id)) = (identity, db_id) {
            let args = json!({"id": id});
            plan.steps.push(Step::Write(WriteStep {
                to: "IDENTITY".to_owned(),
                what: "identity".to_owned(),
                size: id.len() as u64,
                args,
                ..WriteStep::default()
            }));
        }
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

fn current_step(manifest: u64) -> Step {
    let size = crate::format::current::encode(manifest).len() as u64;
    let args = json!({"manifest": manifest});
    Step::Write(WriteStep { to: "CURRENT".to_owned(), what: "current".to_owned(), size, args, mode: None, last: true })
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

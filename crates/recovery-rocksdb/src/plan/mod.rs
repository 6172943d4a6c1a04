//! Decides what the result holds; touches nothing.

mod blobs;
mod cut;
mod levels;
mod tables;
mod wals;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use recovery_core::{Context, Error, Plan, Report, Result, Sources, Step, WriteStep};
use serde_json::{Value, json};

pub(crate) use blobs::BlobArgs;
pub(crate) use tables::{Made, describe};
pub(crate) use wals::WalArgs;

use crate::codes;
use crate::engine::EngineOptions;
use crate::format::file_name::{self, FileKind};
use crate::inspect::gather::{CurrentState, Item};
use crate::inspect::{self, Inspection};
use crate::witness::Class;
use crate::writer::manifest::NewVersion;

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
    let cut = if options.consistent { cut::find(&inspection)? } else { None };
    let builder = Builder {
        sources,
        i: &inspection,
        options,
        cx,
        source: inspection.gathered.number,
        up_to: cut.as_ref().map(|c| c.sequence),
        left_out: AtomicU64::new(0),
    };
    let inputs = if inspection.manifest_stays() && cut.is_none() {
        builder.identical(&mut plan)
    } else {
        builder.rebuilt(&mut plan)?
    };
    if let Some(cut) = &cut {
        let records = builder.left_out.load(Ordering::Relaxed);
        let summary = format!("everything behind sequence number {}: {}", cut.sequence, cut.why);
        plan.lose(codes::LOST_CUT, summary, records, 0);
        note_cut(&mut plan, cut.facts(&inspection));
        plan.next.push(format!("the result is the state at sequence number {}", cut.sequence));
    } else if options.consistent {
        note_cut(&mut plan, json!({"sequence": inspection.resolved.last_sequence, "why": "nothing is lost"}));
    }
    plan.seal(sources, &inputs)?;
    let dir = "NEWDIR";
    plan.next.push(format!("recover verify {dir}"));
    plan.next.push(format!("mv DB DB.before-rescue && mv {dir} DB   # undo: mv DB {dir} && mv DB.before-rescue DB"));
    plan.next.push("hard-linked tables share owner and mode with the originals: do not chown -R the result".to_owned());
    Ok(plan)
}

fn note_cut(plan: &mut Plan, facts: Value) {
    if let Some(result) = plan.result.as_object_mut() {
        result.insert("consistent".to_owned(), facts);
    }
}

struct Builder<'a> {
    sources: &'a Sources,
    i: &'a Inspection,
    options: &'a EngineOptions,
    cx: &'a Context,
    source: u16,
    /// The last sequence number of the result, when a complete state is wanted.
    up_to: Option<u64>,
    /// Entries and tombstones left out because they lie behind it.
    left_out: AtomicU64,
}

pub(crate) type Inputs = Vec<(u16, String)>;

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

    fn count_cut(&self, entries: u64) {
        self.left_out.fetch_add(entries, Ordering::Relaxed);
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
            last_sequence: self.up_to.unwrap_or(r.last_sequence),
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
        self.familyless(plan);
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
        match m.lost {
            Some(0) => {}
            Some(lost) => plan.lose(codes::LOST_ENTRIES, format!("entries of {name} in damaged blocks"), lost, 0),
            None => {
                let summary = format!("entries of {name} in damaged blocks; nobody knows how many there were");
                let ranges = m.table.on_disk.and_then(|n| self.i.gathered.tables.get(&n)?.salvage.as_ref());
                let bytes = ranges.iter().flat_map(|s| &s.ranges).map(|l| l.range.end.saturating_sub(l.range.start));
                plan.lose(codes::LOST_ENTRIES, summary, 0, bytes.fold(0, u64::saturating_add));
            }
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

    /// Tables of no known family are not part of the database; they are kept where it does not look.
    fn familyless(&self, plan: &mut Plan) {
        let tables = &self.i.resolved.familyless;
        let items: Vec<&Item> = tables.iter().filter_map(|n| self.i.gathered.item(FileKind::Table, *n)).collect();
        if !items.is_empty() {
            plan.steps.insert(0, Step::Mkdir { to: "lost".to_owned(), mode: None });
        }
        plan.steps.extend(items.iter().map(|item| self.link(item, format!("lost/{}", item.entry.name))));
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

fn current_step(manifest: u64) -> Step {
    let size = crate::format::current::encode(manifest).len() as u64;
    let args = json!({"manifest": manifest});
    Step::Write(WriteStep { to: "CURRENT".to_owned(), what: "current".to_owned(), size, args, mode: None, last: true })
}

//! From a directory to the views of its families: the version, its tables, and what its WALs add.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use recovery_core::{Blob, Check, Context, Error, Reason, Source};

use crate::engine::EngineOptions;
use crate::format::file_name::FileKind;
use crate::format::key::{InternalKey, SequenceNumber, ValueType};
use crate::format::write_batch::{DataKind, Record};
use crate::inspect;
use crate::inspect::gather::{self, Gathered};
use crate::reader::wal::{self, Batch};
use crate::reader::{TableOptions, TableReader, Tombstone};
use crate::salvage::Salvaged;
use crate::witness::{LiveTable, Resolved, ResolvedFamily, Trust};

use super::operator::MergeOperator;
use super::spill::Spill;
use super::view::{BlobSet, FamilyView, ViewTable};

/// How a directory is read.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Names for families that no witness names.
    pub names: BTreeMap<u32, String>,
    /// Pass over damage: good blocks of damaged tables, records of damaged WALs, facts from other witnesses than the
    /// MANIFEST.
    pub salvage: bool,
    /// With `salvage`: use good WAL records behind the first damage too, instead of stopping there.
    pub behind_damage: bool,
    /// Values are not wanted: those of WAL records are not kept.
    pub keys_only: bool,
    /// Where WAL records go that exceed a few megabytes, sorted, in files without a name. Without it they are all held
    /// in memory, and the memory limit bounds them.
    pub scratch: Option<PathBuf>,
}

/// A database, opened for reading rows.
#[derive(Debug)]
pub struct DatabaseView {
    /// Its families, by id.
    pub families: Vec<FamilyView>,
    /// The merged state behind it.
    pub resolved: Resolved,
    /// What was passed over, one sentence each.
    pub passed_over: Vec<String>,
}

impl DatabaseView {
    /// Opens the directory `source`. Nothing is written, no lock is taken.
    ///
    /// # Errors
    ///
    /// Without `salvage`: the first damage. Always: a family whose comparator is not known, or WALs that do not fit
    /// the memory limit.
    pub fn open(source: &Arc<dyn Source>, options: &OpenOptions, cx: &Context) -> Result<Self, Error> {
        let mut structure = cx.clone();
        structure.check = Check::Structure;
        let engine = EngineOptions { name_family: options.names.clone(), ..EngineOptions::default() };
        let inspection = inspect::inspect_one(source, 0, &engine, &structure)?;
        if !options.salvage {
            inspect::scattered::refuse(&inspection)?;
        }
        // Damage in a log that is not replayed costs nothing.
        let needed: BTreeSet<u64> = inspection.needed_wals().map(|w| w.number).collect();
        let inspect::Inspection { gathered, resolved, .. } = inspection;
        let mut out = Self { families: Vec::new(), resolved, passed_over: Vec::new() };
        out.demand(&gathered, &needed, options)?;
        let blobs = Arc::new(blob_set(&gathered));
        let mut families = BTreeMap::new();
        for (id, family) in out.resolved.families.clone() {
            let mut view = out.family(&gathered, &family, options, cx)?;
            view.blobs = Arc::clone(&blobs);
            families.insert(id, view);
        }
        out.replay(&gathered, &needed, &mut families, options, cx)?;
        out.families = families.into_values().collect();
        Ok(out)
    }

    /// Without salvage, only a database that opens as it is.
    fn demand(&mut self, g: &Gathered, needed: &BTreeSet<u64>, options: &OpenOptions) -> Result<(), Error> {
        let mut faults = Vec::new();
        if self.resolved.base.is_none()
            && self.resolved.families.values().all(|f| f.tables.is_empty())
            && g.wals.is_empty()
        {
            let message =
                format!("{}: no MANIFEST, no table and no WAL: this is not a RocksDB directory", g.source.describe());
            return Err(Error::Unusable(message));
        }
        if self.resolved.trust != Trust::Whole {
            faults.push("the MANIFEST is missing or damaged; its facts come from other witnesses".to_owned());
        }
        faults.extend(self.resolved.missing.iter().map(|n| format!("table {n:06}.sst is missing")));
        for wal in g.wals.values().filter(|wal| wal.is_damaged() && needed.contains(&wal.number)) {
            let at = wal.first_damage().unwrap_or(0);
            faults.push(format!("WAL {:06}.log is damaged at {at:#x}", wal.number));
        }
        match faults.first() {
            Some(first) if !options.salvage => {
                let what = format!("{}: {first}; --salvage reads what is good", g.source.describe());
                Err(Error::Damaged(what))
            }
            _ => {
                self.passed_over = faults;
                Ok(())
            }
        }
    }

    fn family(
        &mut self,
        g: &Gathered,
        family: &ResolvedFamily,
        options: &OpenOptions,
        cx: &Context,
    ) -> Result<FamilyView, Error> {
        let Some(order) = family.order.clone() else {
            let name = family.comparator.as_deref().unwrap_or("an unknown comparator");
            let message = format!(
                "family {} sorts its keys by {name}, which this tool does not know; rows cannot be merged without it",
                family.shown()
            );
            return Err(Error::refuse(Reason::Unsafe, message));
        };
        let mut view = FamilyView::new(family.shown(), order);
        for table in family.tables.values() {
            if self.resolved.missing.contains(&table.number) {
                continue;
            }
            let item = g.item(FileKind::Table, table.on_disk.unwrap_or(table.number));
            let Some(blob) = item.map(|item| g.source.open(&item.entry)).transpose()? else { continue };
            view.tables.extend(self.table(blob, table, &view, options, cx)?);
        }
        view.operator_name = operator_name(g, family);
        Ok(view)
    }

    fn table(
        &mut self,
        blob: Arc<dyn Blob>,
        table: &LiveTable,
        view: &FamilyView,
        options: &OpenOptions,
        cx: &Context,
    ) -> Result<Option<ViewTable>, Error> {
        let table_options = TableOptions {
            global_seqno: table.global_seqno.map(SequenceNumber),
            timestamp_size: view.order.timestamp_size(),
            block_limit: gather::record_limit(cx),
            ..TableOptions::default()
        };
        let key = |bytes: &[u8]| InternalKey::from_bytes(bytes);
        // Bounds that a version holds. Those of a damaged table may be the bounds of what is left of it.
        let bounds = table.entry.as_ref().map(|_| (key(&table.smallest), key(&table.largest)));
        let extent =
            (!table.damaged && !table.smallest.is_empty()).then(|| (key(&table.smallest), key(&table.largest)));
        let mut out = ViewTable { blob, options: table_options, bounds, extent, salvaged: None };
        if !options.salvage {
            return Ok(Some(out));
        }
        let reader = TableReader::open(Arc::clone(&out.blob), out.options.clone());
        let whole = reader.and_then(|reader| reader.index().and_then(|_| reader.tombstones()));
        if let Err(error) = whole {
            match Salvaged::run(&out.blob, &out.options, Some(&view.order), cx) {
                Ok(salvaged) => {
                    self.passed_over.push(error.to_string());
                    out.salvaged = Some(Arc::new(salvaged));
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    self.passed_over.push(error.to_string());
                    return Ok(None);
                }
            }
        }
        Ok(Some(out))
    }

    /// Applies the WALs in number order to the families' memtables.
    fn replay(
        &self,
        g: &Gathered,
        needed: &BTreeSet<u64>,
        families: &mut BTreeMap<u32, FamilyView>,
        options: &OpenOptions,
        cx: &Context,
    ) -> Result<(), Error> {
        let spill = options.scratch.clone().map(Spill::new);
        let mut replay = Replay {
            resolved: &self.resolved,
            families,
            prepared: BTreeMap::new(),
            bytes: 0,
            limit: cx.limits.memory,
            keys_only: options.keys_only,
            spill,
            per_batch: g.wals.values().any(|wal| wal.per_batch),
            written: BTreeMap::new(),
        };
        for (number, summary) in g.wals.iter().filter(|(number, _)| needed.contains(number)) {
            let Some(item) = g.item(FileKind::Wal, *number) else { continue };
            let blob = g.source.open(&item.entry)?;
            wal::scan::<Error>(blob.as_ref(), *number, gather::record_limit(cx), |batch| {
                cx.cancelled()?;
                if batch.after_damage && !options.behind_damage {
                    return Ok(());
                }
                if replay.per_batch { replay.sub_batches(*number, batch) } else { replay.batch(*number, batch) }
            })?;
            if summary.is_damaged() && !options.behind_damage {
                break;
            }
        }
        let hidden = Arc::new(replay.undecided());
        for view in families.values_mut() {
            view.hidden = Arc::clone(&hidden);
            view.sort_memtable();
        }
        Ok(())
    }
}

fn blob_set(g: &Gathered) -> BlobSet {
    let files = g.blobs.keys().filter_map(|number| {
        let item = g.item(FileKind::Blob, *number)?;
        Some((*number, g.source.open(&item.entry).ok()?))
    });
    BlobSet::new(files)
}

/// The merge operator's name with its parameters from OPTIONS, else from the properties of a table.
fn operator_name(g: &Gathered, family: &ResolvedFamily) -> Option<String> {
    let of_options = g.newest_options().and_then(|o| o.family(&family.shown())?.get("merge_operator"));
    let known = of_options.filter(|name| MergeOperator::by_name(name).is_some());
    let of_tables = || {
        let mut names =
            family.tables.keys().filter_map(|n| g.tables.get(n)?.properties.as_ref()?.merge_operator.as_deref());
        names.find(|name| *name != "nullptr" && !name.is_empty())
    };
    known.or_else(of_tables).or(of_options).filter(|name| *name != "nullptr").map(str::to_owned)
}

/// An entry kept from a prepared transaction until its fate is known.
struct Kept {
    family: u32,
    kind: DataKind,
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Replay<'a> {
    resolved: &'a Resolved,
    families: &'a mut BTreeMap<u32, FamilyView>,
    prepared: BTreeMap<Vec<u8>, Vec<Kept>>,
    bytes: u64,
    limit: u64,
    keys_only: bool,
    spill: Option<Spill>,
    /// Sequence numbers count sub-batches, not entries: transactions are written before they are committed.
    per_batch: bool,
    /// Sequence numbers that transactions, neither committed nor rolled back so far, wrote their entries with.
    written: BTreeMap<Vec<u8>, Vec<u64>>,
}

impl Replay<'_> {
    /// Sequence numbers of entries that no reader sees: their transactions were not committed. They may stand in
    /// tables too.
    fn undecided(self) -> BTreeSet<u64> {
        self.written.into_values().flatten().collect()
    }

    /// One record of a database of write-prepared or write-unprepared transactions: all entries of a sub-batch share a
    /// sequence number, and entries are in place, under that number, before their transaction is decided.
    ///
    /// Upstream: `db/write_batch.cc` (`MemTableInserter` with `seq_per_batch`; `MaybeAdvanceSeq`).
    fn sub_batches(&mut self, log: u64, batch: &Batch<'_>) -> Result<(), Error> {
        let mut sequence = batch.batch.sequence;
        let mut keys: BTreeSet<(u32, Vec<u8>)> = BTreeSet::new();
        let mut section: Option<Vec<u64>> = None;
        let mut empty = true;
        for record in batch.batch.records() {
            let ends = match record.map_err(|error| Error::Damaged(error.to_string()))? {
                Record::Data { kind, family, key, value } => {
                    empty = false;
                    if !keys.insert((family, key.to_vec())) {
                        // The same key again begins the next sub-batch.
                        sequence = sequence.saturating_add(1);
                        keys = BTreeSet::from([(family, key.to_vec())]);
                    }
                    if let Some(section) = section.as_mut().filter(|s| s.last() != Some(&sequence)) {
                        section.push(sequence);
                    }
                    self.apply(log, sequence, kind, family, key, value)?;
                    false
                }
                Record::BeginPrepare { .. } => {
                    (section, empty) = (Some(Vec::new()), false);
                    false
                }
                Record::EndPrepare(id) => {
                    self.written.entry(id.to_vec()).or_default().extend(section.take().unwrap_or_default());
                    true
                }
                Record::Commit(id) | Record::CommitWithTimestamp { id, .. } => {
                    self.written.remove(id);
                    true
                }
                Record::Rollback(id) => {
                    // What the entries replaced is written back in this record, under a newer number; operands stay.
                    self.written.remove(id);
                    true
                }
                Record::Noop => !empty,
                Record::LogData(_) => false,
            };
            if ends {
                sequence = sequence.saturating_add(1);
                keys.clear();
                empty = true;
            }
        }
        Ok(())
    }

    fn batch(&mut self, log: u64, batch: &Batch<'_>) -> Result<(), Error> {
        let mut sequence = batch.batch.sequence;
        let mut section: Option<Vec<Kept>> = None;
        for record in batch.batch.records() {
            match record.map_err(|error| Error::Damaged(error.to_string()))? {
                Record::Data { kind, family, key, value } => {
                    match &mut section {
                        Some(kept) => kept.push(Kept { family, kind, key: key.to_vec(), value: value.to_vec() }),
                        None => self.apply(log, sequence, kind, family, key, value)?,
                    }
                    sequence = sequence.saturating_add(1);
                }
                Record::BeginPrepare { .. } => section = Some(Vec::new()),
                Record::EndPrepare(id) => {
                    if let Some(kept) = section.take() {
                        self.prepared.insert(id.to_vec(), kept);
                    }
                }
                // The entries become visible with the sequence numbers of the commit.
                Record::Commit(id) | Record::CommitWithTimestamp { id, .. } => {
                    for kept in self.prepared.remove(id).unwrap_or_default() {
                        self.apply(log, sequence, kept.kind, kept.family, &kept.key, &kept.value)?;
                        sequence = sequence.saturating_add(1);
                    }
                }
                Record::Rollback(id) => drop(self.prepared.remove(id)),
                Record::LogData(_) | Record::Noop => {}
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        log: u64,
        sequence: u64,
        kind: DataKind,
        family: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        let flushed = self.resolved.families.get(&family).is_none_or(|f| log < f.log_number)
            || self.resolved.skip_below.get(&family).is_some_and(|below| sequence <= *below);
        if flushed || !self.families.contains_key(&family) {
            return Ok(());
        }
        // Only these kinds are decoded where keys are all that is wanted.
        let decoded = matches!(kind, DataKind::RangeDeletion | DataKind::BlobIndex | DataKind::WideColumnEntity);
        let value = if self.keys_only && !decoded { &[] } else { value };
        let size = (key.len() as u64).saturating_add(value.len() as u64).saturating_add(96);
        self.bytes = self.bytes.saturating_add(size);
        if let Some(spill) = self.spill.as_mut().filter(|_| self.bytes > super::spill::ENOUGH.min(self.limit)) {
            for view in self.families.values_mut() {
                spill.write(view)?;
            }
            self.bytes = size;
        }
        let Some(view) = self.families.get_mut(&family) else { return Ok(()) };
        if self.bytes > self.limit {
            let what = "WAL entries held in memory for a dump".to_owned();
            return Err(Error::Limit { what, needed: self.bytes, limit: self.limit });
        }
        let sequence = SequenceNumber(sequence);
        if kind == DataKind::RangeDeletion {
            view.tombstones.push(Tombstone { start: key.to_vec(), end: value.to_vec(), sequence });
            return Ok(());
        }
        let value_type = match kind {
            DataKind::Deletion => ValueType::Deletion,
            DataKind::Merge => ValueType::Merge,
            DataKind::SingleDeletion => ValueType::SingleDeletion,
            DataKind::BlobIndex => ValueType::BlobIndex,
            DataKind::WideColumnEntity => ValueType::WideColumnEntity,
            DataKind::ValuePreferredSeqno => ValueType::ValuePreferredSeqno,
            DataKind::Value | DataKind::RangeDeletion => ValueType::Value,
        };
        view.memtable.push((InternalKey::new(key, sequence, value_type).into_bytes(), value.to_vec()));
        Ok(())
    }
}

//! A table of a snapshot as a stream of rows, and as files.
//!
//! [`table`] finds the tablets of a table, [`Part::open`] reads one as Arrow record batches, [`Writer`] turns batches
//! into Parquet, CSV, JSON Lines or an Arrow file, and [`export`] writes one file for each tablet into a new directory.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use md5::{Digest, Md5};
use recovery_core::{
    Context, Entry, Error, Plan, Reading, Receipt, Result, Severity, Source, Sources, Step, Target, WriteStep,
};
use serde_json::{Value, json};

mod writer;

pub use writer::Writer;
use writer::failed;

use crate::format::info::InfoTable;
use crate::format::names::TabletPath;
use crate::model::schema::TabletSchema;
use crate::model::tablet::{Origin, Rowset};
use crate::reader::load::{Loaded, LoadedSnapshot, LoadedTablet};
use crate::reader::table::{ColumnGroup, Losses, RowsetInput, SegmentInput, Selection, TabletInput, TabletReader};
use crate::reader::watch::Watch;
use crate::reader::{ReadOptions, text};

/// A form rows can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet, Zstandard.
    Parquet,
    /// Comma-separated values with a line of names; NULL is `\N`.
    Csv,
    /// One JSON object a row.
    Jsonl,
    /// An Arrow IPC file.
    Arrow,
}

impl Format {
    /// From the word on the command line.
    ///
    /// # Errors
    ///
    /// When there is no such form.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            "arrow" => Ok(Self::Arrow),
            other => Err(Error::Usage(format!("{other}: no such format; there are parquet, csv, jsonl and arrow"))),
        }
    }

    /// Ending of file names.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Arrow => "arrow",
        }
    }
}

/// A tablet of a table.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of its partition.
    pub partition: String,
    /// Its id.
    pub tablet: i64,
    path: TabletPath,
    /// Its directory in the source.
    dir: String,
    version: i64,
    loaded: Option<Arc<LoadedTablet>>,
}

/// A table of a snapshot, ready to be read.
#[derive(Clone)]
pub struct Table {
    source: Arc<dyn Source>,
    /// Its name.
    pub name: String,
    /// Its physical schema.
    pub schema: Arc<TabletSchema>,
    /// Its tablets in bucket order, partition by partition.
    pub parts: Vec<Part>,
}

impl Part {
    /// Rows stored in it, as its header counts them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.loaded.as_ref().map_or(0, |t| t.tablet.rows())
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name).field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Table {
    /// What is not supported, with the table's name.
    pub(crate) fn named(&self, error: Error) -> Error {
        match error {
            Error::Unsupported { what, .. } => Error::unsupported(format!("table {:?}: {what}", self.name)),
            other => other,
        }
    }
}

fn base_index(snapshot: &LoadedSnapshot, table: &InfoTable) -> Option<i64> {
    let indexes = || table.partitions.iter().flat_map(|p| &p.physical).flat_map(|p| &p.indexes);
    let defined = snapshot.definition(&table.name, table.id).map(|d| d.base_index);
    let listed = defined.filter(|id| indexes().any(|i| i.id == *id));
    listed.or_else(|| indexes().find(|i| i.name == table.name).map(|i| i.id)).or_else(|| indexes().map(|i| i.id).min())
}

/// Finds a table of a snapshot (`LABEL` or `LABEL@TIMESTAMP`), all partitions or those named.
///
/// # Errors
///
/// When there is no such snapshot, table or partition, or no schema is left.
pub fn table(loaded: &Loaded, snapshot: &str, name: &str, partitions: &[String]) -> Result<Table> {
    let (snapshot, info) = loaded.find(snapshot)?;
    let names = || info.info.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
    let table = info.info.tables.iter().find(|t| t.name == name);
    let table = table.ok_or_else(|| {
        Error::Usage(format!("no table {name:?} in snapshot {:?}; there are: {}", snapshot.label, names()))
    })?;
    let known = || table.partitions.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(none) = partitions.iter().find(|p| !table.partitions.iter().any(|t| t.name == **p)) {
        return Err(Error::Usage(format!("table {name:?} has no partition {none:?}; there are: {}", known())));
    }
    let base = base_index(snapshot, table);
    let mut parts = Vec::new();
    for partition in table.partitions.iter().filter(|p| partitions.is_empty() || partitions.contains(&p.name)) {
        for physical in &partition.physical {
            for index in physical.indexes.iter().filter(|i| Some(i.id) == base) {
                for tablet in &index.tablets {
                    let path = TabletPath {
                        database: info.info.database_id,
                        table: table.id,
                        partition: physical.id,
                        index: index.id,
                        tablet: tablet.id,
                    };
                    let loaded = snapshot.tablet(&path).cloned();
                    parts.push(Part {
                        partition: partition.name.clone(),
                        tablet: tablet.id,
                        dir: format!("{}/{}/{path}", snapshot.dir, crate::format::names::CONTENT),
                        path,
                        version: physical.version,
                        loaded,
                    });
                }
            }
        }
    }
    let schema = snapshot.any_schema(table.id, base).or_else(|| snapshot.header_schema(table.id, None));
    let schema = schema.ok_or_else(|| {
        if parts.is_empty() {
            return Error::unsupported(format!("table {name:?} holds no rows of its own (a view?)"));
        }
        Error::Unusable(format!("table {name:?}: neither a tablet header nor __meta has its schema"))
    })?;
    Ok(Table { source: Arc::clone(&loaded.repository.source), name: name.to_owned(), schema, parts })
}

fn open(
    source: &dyn Source,
    entry: Option<&Entry>,
    watch: &Arc<Watch>,
) -> Result<Option<Arc<dyn recovery_core::Blob>>> {
    Ok(entry.map(|e| source.open(e)).transpose()?.map(|b| watch.over(b)))
}

fn rowset(
    source: &dyn Source,
    dir: &str,
    rowset: &Rowset,
    own: Option<&Arc<TabletSchema>>,
    watch: &Arc<Watch>,
) -> Result<RowsetInput> {
    let mut segments = Vec::new();
    for segment in &rowset.segments {
        let groups = segment.groups.iter().map(|g| {
            let blob = open(source, g.entry.as_ref(), watch)?;
            Ok(ColumnGroup { unique_ids: g.unique_ids.clone(), version: g.version, name: g.name.clone(), blob })
        });
        segments.push(SegmentInput {
            name: segment.entry.as_ref().map_or_else(|| format!("{dir}/{}", segment.name), |e| e.name.clone()),
            blob: open(source, segment.entry.as_ref(), watch)?,
            deleted: segment.deleted.clone(),
            groups: groups.collect::<Result<_>>()?,
        });
    }
    Ok(RowsetInput {
        rowset_id: rowset.id.clone(),
        start: rowset.start,
        end: rowset.end,
        num_rows: rowset.num_rows,
        schema: rowset.schema.clone().or_else(|| own.cloned()),
        delete: rowset.delete.clone(),
        segments,
    })
}

impl Part {
    fn complain(&self, losses: &mut Losses, salvage: bool, why: String) -> Result<()> {
        if salvage {
            losses.files.push((format!("tablet {}", self.tablet), why));
            return Ok(());
        }
        Err(Error::Damaged(format!("tablet {}: {why}; --salvage reads what is there", self.tablet)))
    }

    /// Opens the tablet; `None` when nothing of it is left (and reading is salvage).
    ///
    /// # Errors
    ///
    /// When something of it is missing or damaged, unless salvaging, or it cannot be read.
    pub fn open(
        &self,
        table: &Table,
        selection: &Selection,
        losses: &mut Losses,
        cx: &Context,
    ) -> Result<Option<TabletReader>> {
        let salvage = cx.reading == Reading::Salvage;
        let Some(loaded) = &self.loaded else {
            self.complain(losses, salvage, format!("its directory (partition {}) is missing", self.path.partition))?;
            return Ok(None);
        };
        let tablet = &loaded.tablet;
        for finding in loaded.findings.iter().filter(|f| f.severity >= Severity::Damaged) {
            if salvage && finding.severity == Severity::Damaged {
                losses.mended.push((finding.object.clone(), finding.summary.clone()));
                continue;
            }
            self.complain(losses, salvage, format!("{}: {}", finding.object, finding.summary))?;
        }
        if tablet.origin == Origin::Guessed {
            self.complain(losses, salvage, "its header is lost: versions and deletes are not known".into())?;
        } else {
            if let Some(gap) = tablet.gap {
                self.complain(losses, salvage, format!("version {gap} is missing"))?;
            }
            if self.version > tablet.version && tablet.gap.is_none() {
                self.complain(
                    losses,
                    salvage,
                    format!("it ends at version {}, the snapshot has {}", tablet.version, self.version),
                )?;
            }
        }
        let source = table.source.as_ref();
        let watch = Arc::new(Watch::default());
        let seen = |r: &&Rowset| self.version <= 0 || tablet.origin == Origin::Guessed || r.end <= self.version;
        let locked: Vec<&Rowset> = tablet.rowsets.iter().filter(|r| r.encrypted && seen(r)).collect();
        if let (Some(first), false) = (locked.first(), salvage) {
            return Err(Error::unsupported(format!(
                "table {:?}, tablet {}: the segments of rowset {} are encrypted with keys that are not in the repository \
                 (--salvage reads the other rowsets)",
                table.name, self.tablet, first.id
            )));
        }
        for rowset in locked {
            losses.files.push((format!("{}/{}", self.dir, rowset.id), "encrypted".to_owned()));
        }
        let rowsets = tablet
            .rowsets
            .iter()
            .filter(|r| seen(r) && !r.encrypted)
            .map(|r| rowset(source, &self.dir, r, tablet.schema.as_ref(), &watch));
        let input = TabletInput {
            id: self.tablet,
            schema: Arc::clone(&table.schema),
            rowsets: rowsets.collect::<Result<_>>()?,
            watch: Arc::clone(&watch),
        };
        TabletReader::open(&input, selection, ReadOptions::of(cx)).map(Some).map_err(|e| table.named(e))
    }

    pub(crate) fn bytes(&self) -> u64 {
        let segments = self.loaded.iter().flat_map(|l| &l.tablet.rowsets).flat_map(|r| &r.segments);
        segments.filter_map(|s| s.entry.as_ref()).map(|e| e.size).fold(0, u64::saturating_add)
    }
}

/// What an export made.
#[derive(Debug)]
pub struct Exported {
    /// Files.
    pub receipt: Receipt,
    /// Rows written by this run, by tablet.
    pub rows: BTreeMap<i64, u64>,
    /// What a salvaging export gave up.
    pub losses: Losses,
}

/// What is exported.
#[derive(Clone, Debug)]
pub struct Request {
    /// Columns and rows.
    pub selection: Selection,
    /// Form of the files.
    pub format: Format,
    /// HLL, BITMAP and PERCENTILE as JSON of what they mean instead of their bytes.
    pub decode_objects: bool,
    /// What was asked for, kept in the plan.
    pub options: Value,
}

fn run_part(
    table: &Table,
    part: &Part,
    request: &Request,
    out: &mut (dyn Write + Send),
    cx: &Context,
) -> Result<(u64, Losses)> {
    let mut losses = Losses::default();
    let mut rows = 0u64;
    let reader = part.open(table, &request.selection, &mut losses, cx)?;
    let schema = match &reader {
        Some(reader) => reader.arrow_schema(),
        None => {
            let empty = TabletInput { id: part.tablet, schema: Arc::clone(&table.schema), ..TabletInput::default() };
            TabletReader::open(&empty, &request.selection, ReadOptions::of(cx))?.arrow_schema()
        }
    };
    let schema = if request.decode_objects { text::decoded_schema(&schema) } else { schema };
    let mut writer = Writer::new(request.format, schema, out)?;
    if let Some(mut reader) = reader {
        while let Some(batch) = reader.next_batch().map_err(|e| table.named(e))? {
            cx.cancelled()?;
            rows = rows.saturating_add(batch.num_rows() as u64);
            let batch = if request.decode_objects { text::decode_objects(&batch)? } else { batch };
            writer.write(&batch)?;
        }
        add(&mut losses, reader.losses());
    }
    writer.finish()?;
    cx.progress.advance(part.bytes());
    Ok((rows, losses))
}

/// Puts what two reads gave up together.
pub fn add(all: &mut Losses, more: Losses) {
    all.rows.extend(more.rows);
    all.files.extend(more.files);
    all.mended.extend(more.mended);
    all.unsorted.extend(more.unsorted);
    all.dropped = all.dropped.saturating_add(more.dropped);
}

/// Losses as JSON Lines.
#[must_use]
pub fn losses_json(losses: &Losses) -> Vec<Value> {
    let mut out = Vec::new();
    for (object, why) in &losses.files {
        out.push(json!({"kind": "file", "object": object, "why": why}));
    }
    for (object, why) in &losses.mended {
        out.push(json!({"kind": "mended", "object": object, "why": why}));
    }
    for l in &losses.rows {
        out.push(json!({
            "kind": if l.healed_by.is_some() { "healed" } else { "rows" }, "object": l.object, "column": l.column,
            "first_row": l.rows.start, "end_row": l.rows.end, "offset": l.fault.file_offset(),
            "why": l.fault.to_string(), "healed_by": l.healed_by,
        }));
    }
    for (object, rows) in &losses.unsorted {
        out.push(json!({"kind": "unsorted", "object": object, "rows": rows}));
    }
    if losses.dropped > 0 {
        out.push(json!({"kind": "dropped", "rows": losses.dropped}));
    }
    out
}

/// Name of the file of a salvaging export that lists what was given up.
pub const LOSSES: &str = "LOSSES.jsonl";

/// Writes a table into a new directory, one file for each tablet, in parallel.
///
/// # Errors
///
/// When the directory holds something else, or at the first damage unless salvaging.
pub fn export(table: &Table, request: &Request, target: &dyn Target, cx: &Context) -> Result<Exported> {
    let sources = Sources::one(Arc::clone(&table.source));
    let mut options = request.options.clone();
    let mut digest = Md5::new();
    for entry in table
        .parts
        .iter()
        .filter_map(|p| p.loaded.as_ref())
        .flat_map(|l| &l.tablet.rowsets)
        .flat_map(|r| &r.segments)
        .filter_map(|s| s.entry.as_ref())
    {
        digest.update(format!("{}\0{}\0{:?}\0{:?}\n", entry.name, entry.size, entry.mtime, entry.etag));
    }
    if let Some(map) = options.as_object_mut() {
        // A run that was cut off is taken up only over the same files.
        map.insert("files_md5".into(), Value::String(crate::format::names::hex(&digest.finalize())));
    }
    let mut plan = Plan::new("starrocks", options, &sources);
    for (i, part) in table.parts.iter().enumerate() {
        plan.steps.push(Step::Write(WriteStep {
            to: format!("part-{i:05}-{}.{}", part.tablet, request.format.ending()),
            what: "rows of a tablet".into(),
            size: part.bytes(),
            args: json!({"part": i}),
            mode: Some(0o600),
            last: false,
        }));
    }
    let salvage = cx.reading == Reading::Salvage;
    if salvage {
        let what = "what was given up".into();
        plan.steps.push(Step::Write(WriteStep {
            to: LOSSES.into(),
            what,
            size: 0,
            args: Value::Null,
            mode: Some(0o600),
            last: true,
        }));
    }
    plan.seal(&sources, &[])?;
    let done: Mutex<BTreeMap<usize, (u64, Losses)>> = Mutex::default();
    let lock = || done.lock().unwrap_or_else(|e| e.into_inner());
    let receipt = recovery_core::apply::run(&sources, &plan, target, cx, &|step, out| {
        let index = step.args.get("part").and_then(Value::as_u64).and_then(|i| usize::try_from(i).ok());
        if let Some((i, part)) = index.and_then(|i| table.parts.get(i).map(|p| (i, p))) {
            let mut file = out;
            let result = run_part(table, part, request, &mut file, cx)?;
            lock().insert(i, result);
            return Ok(());
        }
        for (i, part) in table.parts.iter().enumerate() {
            // Parts that an earlier run finished are read again for what was lost of them.
            let known = lock().get(&i).map(|(_, losses)| losses.clone());
            let losses = match known {
                Some(losses) => losses,
                None => run_part(table, part, request, &mut std::io::sink(), cx)?.1,
            };
            for line in losses_json(&losses) {
                writeln!(out, "{line}").map_err(failed)?;
            }
        }
        Ok(())
    })?;
    let done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    let mut exported = Exported { receipt, rows: BTreeMap::new(), losses: Losses::default() };
    for (i, (rows, losses)) in done {
        if let Some(part) = table.parts.get(i) {
            exported.rows.insert(part.tablet, rows);
        }
        add(&mut exported.losses, losses);
    }
    Ok(exported)
}

//! From a listing to the model: reads job descriptions, table definitions and tablet headers, and says what is wrong
//! with each. Segments are not opened here.

mod info;
mod meta;
mod tablet;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use recovery_core::{Context, Entry, Evidence, Finding, ReadError, Result, Severity, Source, parallel};

use crate::codes;
use crate::format::info::{Info, RepoInfo};
use crate::format::meta_json::Meta;
use crate::format::names::{Prefix, TabletPath, hex};
use crate::model::repository::{Named, SnapshotDir, TabletDir};
use crate::model::schema::TabletSchema;
use crate::model::table::TableDef;
use crate::model::tablet::Tablet;
use crate::reader::repository::Repository;

pub(crate) use info::base_index;
pub use info::rebuild_info;

/// A small file that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Name in the source.
    pub name: String,
    /// Length.
    pub size: u64,
    /// MD5 of the content; none when it could not be read.
    pub md5: Option<[u8; 16]>,
    /// Whether the name promises another one.
    pub mismatch: bool,
}

/// Where a job description came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoOrigin {
    /// The finished file.
    File,
    /// A finished file whose MD5 or label is not right, but whose text is.
    Doubtful,
    /// The `.part` file, whose text is complete.
    Part,
    /// Rebuilt from table definitions and tablets.
    Rebuilt,
}

/// A job description of a snapshot.
#[derive(Clone, Debug)]
pub struct LoadedInfo {
    /// Timestamp in its name; the one to be given for a rebuilt description without file.
    pub timestamp: String,
    /// The file, unless there is none.
    pub file: Option<Named>,
    /// Where the description came from.
    pub origin: InfoOrigin,
    /// The description.
    pub info: Info,
}

/// The table definitions of a snapshot.
#[derive(Clone, Debug)]
pub struct LoadedMeta {
    /// The file they came from.
    pub file: Named,
    /// The tree.
    pub meta: Meta,
    /// The tables in it.
    pub tables: Vec<TableDef>,
    /// Whether the file's name promises another content.
    pub doubtful: bool,
}

/// A tablet with what is wrong with its header.
#[derive(Clone, Debug)]
pub struct LoadedTablet {
    /// The tablet.
    pub tablet: Tablet,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Header, primary-key meta, column groups, manifest: read whole.
    pub checked: Vec<Checked>,
    /// Base names the manifest lists; none without manifest.
    pub manifest: Option<Vec<String>>,
    /// The header has a wrong checksum and a right content.
    pub reseal: Option<String>,
}

/// Everything about one label.
#[derive(Debug)]
pub struct LoadedSnapshot {
    /// Label.
    pub label: String,
    /// Directory in the source.
    pub dir: String,
    /// Job descriptions, oldest first; at least one unless nothing is known.
    pub infos: Vec<LoadedInfo>,
    /// Table definitions.
    pub meta: Option<LoadedMeta>,
    /// Tablets.
    pub tablets: BTreeMap<TabletPath, Arc<LoadedTablet>>,
    /// Path of each tablet by its id, which is unique.
    pub by_id: BTreeMap<i64, TabletPath>,
    /// What is wrong with the label as a whole.
    pub findings: Vec<Finding>,
    /// Job descriptions and definitions: read whole.
    pub checked: Vec<Checked>,
}

/// A loaded repository.
#[derive(Debug)]
pub struct Loaded {
    /// The listing.
    pub repository: Repository,
    /// `__repo_info`.
    pub repo_info: Option<RepoInfo>,
    /// Labels.
    pub snapshots: Vec<Arc<LoadedSnapshot>>,
    /// What is wrong with the repository as a whole.
    pub findings: Vec<Finding>,
}

impl Loaded {
    /// The name to be given to CREATE REPOSITORY.
    #[must_use]
    pub fn name(&self) -> String {
        let inside = self.repo_info.as_ref().map(|i| i.name.as_str());
        let outside = self.repository.listing.directory_name.as_deref();
        outside.or(inside).unwrap_or("repository").to_owned()
    }

    /// The prefix, taken from the directory or guessed from what is inside.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        let binary = || {
            let metas = self.snapshots.iter().filter_map(|s| s.meta.as_ref());
            metas.clone().count() > 0 && metas.clone().all(|m| m.meta.form == crate::format::meta_json::Form::Binary)
        };
        self.repository.listing.prefix.unwrap_or_else(|| if binary() { Prefix::Palo } else { Prefix::StarRocks })
    }

    /// A snapshot by `LABEL` or `LABEL@TIMESTAMP`, with the job description meant.
    ///
    /// # Errors
    ///
    /// When there is none, or the label has several timestamps and none was given.
    pub fn find(&self, name: &str) -> Result<(&Arc<LoadedSnapshot>, &LoadedInfo)> {
        let labels = || self.snapshots.iter().map(|s| s.label.as_str()).collect::<Vec<_>>().join(", ");
        let by = |label: &str| self.snapshots.iter().find(|s| s.label == label);
        let (snapshot, time) = match (by(name), name.rsplit_once('@')) {
            (Some(s), _) => (s, None),
            (None, Some((label, time))) if by(label).is_some() => (by(label), time)
                .0
                .map(|s| (s, Some(time)))
                .ok_or_else(|| recovery_core::Error::Internal("a label that was found is gone".into()))?,
            _ => {
                let message = format!("no snapshot {name:?}; there are: {}", labels());
                return Err(recovery_core::Error::Usage(message));
            }
        };
        let mut infos = snapshot.infos.iter().filter(|i| time.is_none_or(|t| i.timestamp == t));
        match (infos.next(), infos.next()) {
            (Some(info), None) => Ok((snapshot, info)),
            (Some(_), Some(_)) => {
                let times: Vec<_> =
                    snapshot.infos.iter().map(|i| format!("{}@{}", snapshot.label, i.timestamp)).collect();
                let message = format!("snapshot {name:?} has several timestamps; say which: {}", times.join(", "));
                Err(recovery_core::Error::refuse(recovery_core::Reason::Ambiguous, message))
            }
            _ => Err(recovery_core::Error::Usage(format!(
                "snapshot {name:?} has no such timestamp, or nothing is left of it"
            ))),
        }
    }
}

impl LoadedSnapshot {
    /// The definition of a table by its name, else by its id.
    #[must_use]
    pub fn definition(&self, name: &str, id: i64) -> Option<&TableDef> {
        let tables = &self.meta.as_ref()?.tables;
        tables.iter().find(|t| t.name == name).or_else(|| tables.iter().find(|t| t.id == id && id != 0))
    }

    /// A schema from the tablet headers of a table's index, else from `__meta`.
    #[must_use]
    pub fn any_schema(&self, table: i64, index: Option<i64>) -> Option<Arc<TabletSchema>> {
        self.header_schema(table, index).or_else(|| self.meta_schema(table, index).map(Arc::new))
    }

    /// The schema of a table's index (its base without one) from `__meta`.
    fn meta_schema(&self, table: i64, index: Option<i64>) -> Option<TabletSchema> {
        let meta = self.meta.as_ref()?;
        let index = index.or_else(|| meta.tables.iter().find(|t| t.id == table).map(|t| t.base_index))?;
        let trees = meta.meta.tree.get("tblNameMap")?.as_object()?;
        let tree = trees.values().find(|t| t.get("id").and_then(serde_json::Value::as_i64) == Some(table))?;
        crate::model::meta_schema::index_schema(tree, index)
    }

    /// A schema from the tablet headers of a table's index.
    #[must_use]
    pub fn header_schema(&self, table: i64, index: Option<i64>) -> Option<Arc<TabletSchema>> {
        let of_table = self
            .tablets
            .values()
            .filter(|t| t.tablet.path.table == table && index.is_none_or(|i| i == t.tablet.path.index));
        of_table.filter_map(|t| t.tablet.schema.clone()).max_by_key(|s| s.columns.len())
    }

    /// Finds the directory of a tablet: by its whole path, else by its id, which is unique.
    #[must_use]
    pub fn tablet(&self, path: &TabletPath) -> Option<&Arc<LoadedTablet>> {
        self.tablets.get(path).or_else(|| {
            let found = self.by_id.get(&path.tablet)?;
            let same = found.table == path.table && found.index == path.index;
            self.tablets.get(found).filter(|_| same)
        })
    }
}

/// Reads everything but segments.
///
/// # Errors
///
/// When the caller asked to stop, or the store stopped answering.
pub fn load(repository: Repository, cx: &Context) -> Result<Loaded> {
    let mut findings = Vec::new();
    let repo_info = repo_info(&repository, cx, &mut findings);
    let mut snapshots = Vec::new();
    for dir in repository.listing.snapshots.values() {
        cx.cancelled()?;
        snapshots.push(snapshot(repository.source.as_ref(), dir, cx)?);
    }
    info::complete(&mut snapshots, &repository, cx);
    let snapshots = snapshots.into_iter().map(Arc::new).collect();
    let loaded = Loaded { repository, repo_info, snapshots, findings };
    answering(&loaded)?;
    Ok(loaded)
}

/// Stops when the store failed while definitions were read: nothing that follows would mean anything.
fn answering(loaded: &Loaded) -> Result<()> {
    if let Some(error) = loaded.repository.listing.errors.iter().find(|e| store_failed(e)) {
        return Err(error.clone().into());
    }
    let of_snapshots =
        loaded.snapshots.iter().flat_map(|s| s.findings.iter().chain(s.tablets.values().flat_map(|t| &t.findings)));
    match loaded.findings.iter().chain(of_snapshots).find(|f| f.code == codes::STORE_FAILED.code) {
        Some(f) => Err(recovery_core::Error::Read(ReadError {
            object: f.object.clone(),
            offset: f.offset.unwrap_or(0),
            length: f.length.unwrap_or(0),
            kind: std::io::ErrorKind::ConnectionAborted,
            message: f.summary.clone(),
        })),
        None => Ok(()),
    }
}

/// Reads one label only: for commands that need no other.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn load_label(mut repository: Repository, label: &str, cx: &Context) -> Result<Loaded> {
    let plain = label.rsplit_once('@').map_or(label, |(l, _)| l);
    let keep = |l: &str| l == label || l == plain;
    if repository.listing.snapshots.keys().any(|l| keep(l)) {
        repository.listing.snapshots.retain(|l, _| keep(l));
    }
    load(repository, cx)
}

fn repo_info(repository: &Repository, cx: &Context, findings: &mut Vec<Finding>) -> Option<RepoInfo> {
    let listing = &repository.listing;
    if let Some(hidden) = &listing.hidden {
        findings.push(
            Finding::new(&codes::TWO_PREFIXES, Severity::Suspect, hidden.clone())
                .summary(format!("{hidden} is hidden by {}: the server uses the old prefix", listing.base)),
        );
    }
    let Some(entry) = &listing.repo_info else {
        findings.push(
            Finding::new(&codes::REPO_INFO_MISSING, Severity::Damaged, listing.base.clone())
                .evidence(Evidence::Missing { what: crate::format::names::REPO_INFO.to_owned() }),
        );
        return None;
    };
    let bytes = match read_small(repository.source.as_ref(), entry, cx) {
        Ok(bytes) => bytes,
        Err(e) => {
            findings.push(unreadable(&e));
            return None;
        }
    };
    match RepoInfo::decode(&bytes) {
        Ok(info) => {
            if listing.directory_name.as_ref().is_some_and(|d| *d != info.name) {
                let found = listing.directory_name.clone().unwrap_or_default();
                findings.push(
                    Finding::new(&codes::REPO_NAME, Severity::Suspect, entry.name.clone())
                        .summary(format!("the directory says {found:?}, __repo_info says {:?}", info.name))
                        .evidence(Evidence::value("name", &info.name, found)),
                );
            }
            Some(info)
        }
        Err(e) => {
            findings.push(
                Finding::new(&codes::REPO_INFO_DAMAGED, Severity::Damaged, entry.name.clone()).summary(e.to_string()),
            );
            None
        }
    }
}

fn snapshot(source: &dyn Source, dir: &SnapshotDir, cx: &Context) -> Result<LoadedSnapshot> {
    let mut out = LoadedSnapshot {
        label: dir.label.clone(),
        dir: dir.dir.clone(),
        infos: Vec::new(),
        meta: None,
        tablets: BTreeMap::new(),
        by_id: dir.tablets.keys().map(|p| (p.tablet, *p)).collect(),
        findings: Vec::new(),
        checked: Vec::new(),
    };
    info::read(source, dir, cx, &mut out);
    meta::read(source, dir, cx, &mut out);
    let dirs: Vec<&TabletDir> = dir.tablets.values().collect();
    let loaded = parallel::map(cx, &dirs, |_, dir| tablet::read(source, dir, cx))?;
    let mut schemas: BTreeMap<(i64, i64), Arc<TabletSchema>> = BTreeMap::new();
    for mut tablet in loaded {
        share_schema(&mut schemas, &mut tablet.tablet);
        out.tablets.insert(tablet.tablet.path, Arc::new(tablet));
    }
    give_schemas(&mut out);
    Ok(out)
}

/// Thousands of tablets of one index have one schema: keep it once.
fn share_schema(known: &mut BTreeMap<(i64, i64), Arc<TabletSchema>>, tablet: &mut Tablet) {
    let Some(schema) = &tablet.schema else { return };
    let key = (tablet.path.table, tablet.path.index);
    match known.get(&key) {
        Some(same) if same == schema => tablet.schema = Some(Arc::clone(same)),
        Some(_) => {}
        None => drop(known.insert(key, Arc::clone(schema))),
    }
}

/// A tablet without header takes the schema of a sibling in its index, else that of `__meta`.
fn give_schemas(snapshot: &mut LoadedSnapshot) {
    let mut wanting = Vec::new();
    for (path, loaded) in &snapshot.tablets {
        if loaded.tablet.schema.is_none() {
            wanting.push((*path, snapshot.any_schema(path.table, Some(path.index))));
        }
    }
    for (path, schema) in wanting {
        if let (Some(schema), Some(loaded)) = (schema, snapshot.tablets.get_mut(&path)) {
            Arc::make_mut(loaded).tablet.schema = Some(schema);
        }
    }
}

/// Reads a small file whole, within the bounds of the context.
pub(crate) fn read_small(source: &dyn Source, entry: &Entry, cx: &Context) -> Result<Bytes, ReadError> {
    let most = cx.limits.memory / 16;
    if entry.size > most {
        let error = std::io::Error::new(
            std::io::ErrorKind::OutOfMemory,
            format!("larger than the {most} bytes that the memory limit leaves for one file of definitions"),
        );
        return Err(ReadError::new(entry.name.clone(), 0, entry.size, &error));
    }
    let blob = source.open(entry)?;
    blob.bytes(0..blob.len().min(most))
}

pub(crate) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// Reads a named file and compares its MD5.
fn read_named(source: &dyn Source, file: &Named, cx: &Context) -> (Result<Bytes, ReadError>, Checked) {
    let bytes = read_small(source, &file.entry, cx);
    let md5 = bytes.as_ref().ok().map(|b| md5_of(b));
    let mismatch = matches!((md5, file.md5()), (Some(a), Some(b)) if a != b);
    let checked = Checked { name: file.entry.name.clone(), size: file.entry.size, md5, mismatch };
    (bytes, checked)
}

/// Whether a store or a permission failed rather than a medium: the inspection then stops instead of blaming the repository.
pub(crate) fn store_failed(error: &ReadError) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind,
        K::PermissionDenied
            | K::ConnectionAborted
            | K::ConnectionRefused
            | K::ConnectionReset
            | K::NotConnected
            | K::TimedOut
            | K::BrokenPipe
    )
}

pub(crate) fn unreadable(error: &ReadError) -> Finding {
    let code = if store_failed(error) { &codes::STORE_FAILED } else { &codes::UNREADABLE };
    Finding::new(code, Severity::Lost, error.object.clone())
        .at(error.offset, error.length)
        .summary(error.to_string())
        .effect(0, error.length)
}

pub(crate) fn md5_evidence(stored: &[u8; 16], computed: &[u8; 16]) -> Evidence {
    Evidence::Checksum { algorithm: "md5", stored: hex(stored), computed: hex(computed) }
}

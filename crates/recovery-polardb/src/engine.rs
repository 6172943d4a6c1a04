//! The engine as tools see it.

use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, Weak};

use recovery_core::{
    Blob, Check, CodeInfo, Context, Depth, Entries, Entry, Error, Finding, LossInfo, Plan, Probe, ReadError, Receipt,
    Recover, Report, ReportBuilder, Result, Severity, Source, Sources, Target, options,
};
use serde_json::{Value, json};

use crate::PfsSource;
use crate::codes;
use crate::inspect::{pfs as inspect_pfs, pg};
use crate::reader::pfs::{Copy, OpenOptions, Pfs, mapfile_beside};
use crate::reader::pg::cluster::{Cluster, find_clusters};
use crate::rebuild::Options;

/// Name under which a mounted image gives its device.
const DEVICE: &str = ".pfs-device";

/// The engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct PolarDb;

static CODES: LazyLock<Vec<CodeInfo>> = LazyLock::new(|| [codes::pfs::CODES, codes::pg::CODES].concat());

/// A mounted image: its files, and its device under a name of its own.
///
/// The image is opened when something is first asked of its files: whoever only wants to know what it is does not wait
/// for the replay of its journal, and whoever asks again does not replay it again.
struct Mounted {
    blob: Arc<dyn Blob>,
    cx: Context,
    slot: Arc<Slot>,
}

/// The opened image, once there is one.
type Slot = OnceLock<Arc<Pfs>>;

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mounted").field("blob", &self.blob.name()).finish_non_exhaustive()
    }
}

impl Mounted {
    fn files(&self) -> Result<PfsSource, ReadError> {
        let pfs = opened(&self.slot, &self.blob, &self.cx).map_err(|e| match e {
            Error::Read(e) => e,
            other => ReadError::new(self.blob.name(), 0, 0, &std::io::Error::other(other.to_string())),
        })?;
        Ok(PfsSource::new(pfs))
    }
}

impl Source for Mounted {
    fn describe(&self) -> String {
        let path = self.blob.local_path();
        path.map_or_else(|| self.blob.name().to_owned(), |p| p.display().to_string())
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        match self.files() {
            Ok(files) => Box::new(files.list(dir, depth).collect::<Vec<_>>().into_iter()),
            Err(e) => Box::new(std::iter::once(Err(e))),
        }
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        self.files()?.stat(name)
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        self.files()?.open(entry)
    }

    fn open_name(&self, name: &str) -> Result<Option<Arc<dyn Blob>>, ReadError> {
        if name == DEVICE { Ok(Some(Arc::clone(&self.blob))) } else { self.files()?.open_name(name) }
    }
}

/// Images mounted in this process: whoever is handed the same device finds what was opened.
static MOUNTED: Mutex<Vec<(Weak<dyn Blob>, Weak<Slot>)>> = Mutex::new(Vec::new());

fn opened(slot: &Slot, blob: &Arc<dyn Blob>, cx: &Context) -> Result<Arc<Pfs>> {
    if let Some(pfs) = slot.get() {
        return Ok(Arc::clone(pfs));
    }
    let pfs = Arc::new(Pfs::open_copies(vec![copy_of(blob, cx)?.0], OpenOptions::default(), cx)?);
    Ok(Arc::clone(slot.get_or_init(|| pfs)))
}

/// An image with its mapfile: the one that was named, else the one that lies beside it, with its name.
fn copy_of(blob: &Arc<dyn Blob>, cx: &Context) -> Result<(Copy, Option<String>)> {
    if let Some(map) = &cx.mapfile {
        return Ok((Copy::new(Arc::clone(blob), Some(map)), None));
    }
    match blob.local_path().map(mapfile_beside).transpose()?.flatten() {
        Some((path, map)) => Ok((Copy::new(Arc::clone(blob), Some(&map)), Some(path.display().to_string()))),
        None => Ok((Copy::new(Arc::clone(blob), None), None)),
    }
}

/// Opens an image with the other copies of it that were named; the first of `blobs` rules.
pub(crate) fn open_with(blobs: &[Arc<dyn Blob>], options: OpenOptions, cx: &Context) -> Result<Arc<Pfs>> {
    let (mut copies, mut beside) = (Vec::new(), None);
    for blob in blobs {
        if copies.is_empty() {
            let (copy, map) = copy_of(blob, cx)?;
            copies.push(copy);
            beside = map;
        } else {
            copies.push(Copy::with_mapfile_beside(Arc::clone(blob))?);
        }
    }
    let mut pfs = Pfs::open_copies(copies, options, cx)?;
    if let Some(map) = beside {
        let finding = Finding::new(&codes::pfs::MAPFILE, Severity::Note, pfs.device.name());
        pfs.findings.push(finding.summary(format!("{map} is used")));
    }
    Ok(Arc::new(pfs))
}

fn open_image(blob: &Arc<dyn Blob>, donors: &[Arc<dyn Blob>], cx: &Context) -> Result<Arc<Pfs>> {
    if !donors.is_empty() || blob.local_path().map(mapfile_beside).transpose()?.flatten().is_some() {
        let all: Vec<Arc<dyn Blob>> = std::iter::once(blob).chain(donors).map(Arc::clone).collect();
        return open_with(&all, OpenOptions::default(), cx);
    }
    let known = MOUNTED.lock().ok().and_then(|mut list| {
        list.retain(|(b, s)| b.strong_count() > 0 && s.strong_count() > 0);
        let same = |b: &Weak<dyn Blob>| b.upgrade().is_some_and(|b| Arc::ptr_eq(&b, blob));
        list.iter().find(|(b, _)| same(b)).and_then(|(_, s)| s.upgrade())
    });
    opened(&known.unwrap_or_default(), blob, cx)
}

/// The device behind a source: of a mounted image, or of a source that is one file.
fn device(source: &dyn Source) -> Option<Arc<dyn Blob>> {
    if let Ok(Some(blob)) = source.open_name(DEVICE) {
        return Some(blob);
    }
    if source.root().is_some_and(std::path::Path::is_dir) {
        return None;
    }
    let mut entries = source.list("", Depth::One);
    let first = entries.next()?.ok().filter(Entry::is_file)?;
    if entries.next().is_some() { None } else { source.open(&first).ok() }
}

/// The image that a source is, if it is one.
pub(crate) fn image_of(source: &Arc<dyn Source>) -> Option<Arc<dyn Blob>> {
    device(source.as_ref()).filter(|blob| crate::probe(blob.as_ref()).0 > 0)
}

/// The files of a source: those in the image when it is one.
pub(crate) enum Seen {
    /// An image.
    Image(PfsSource),
    /// A directory.
    Plain(Arc<dyn Source>),
}

impl Seen {
    pub(crate) fn of(source: &Arc<dyn Source>, donors: &[Arc<dyn Blob>], cx: &Context) -> Result<Self> {
        match image_of(source) {
            Some(blob) => Ok(Self::Image(PfsSource::new(open_image(&blob, donors, cx)?))),
            None => Ok(Self::Plain(Arc::clone(source))),
        }
    }

    pub(crate) fn files(&self) -> Arc<dyn Source> {
        match self {
            Self::Image(p) => Arc::new(p.clone()),
            Self::Plain(s) => Arc::clone(s),
        }
    }
}

/// The typed model a report carries: every cluster that was found.
#[derive(Debug)]
pub struct Model {
    /// The clusters.
    pub clusters: Vec<pg::State>,
}

impl Recover for PolarDb {
    fn engine(&self) -> &'static str {
        "polardb"
    }

    fn codes(&self) -> &'static [CodeInfo] {
        &CODES
    }

    fn losses(&self) -> &'static [LossInfo] {
        codes::pg::LOSSES
    }

    fn structure(&self, finding: &Finding) -> Option<Range<u64>> {
        codes::structure(finding)
    }

    fn probe(&self, source: &dyn Source) -> Probe {
        let mut probe = Probe::no();
        if let Some(blob) = device(source) {
            let (score, reasons) = crate::probe(blob.as_ref());
            probe.score = score;
            probe.reasons = reasons;
            return probe;
        }
        for dir in ["", "shared_data", "polar_shared_data", "primary"] {
            let at = |rel: &str| if dir.is_empty() { rel.to_owned() } else { format!("{dir}/{rel}") };
            let has = |rel: &str| matches!(source.stat(&at(rel)), Ok(Some(_)));
            for (rel, score) in
                [("global/pg_control", 50), ("base", 15), ("pg_wal", 15), ("pg_xact", 10), ("global", 5)]
            {
                if has(rel) {
                    probe.add(score, at(rel));
                }
            }
            if probe.score >= 25 {
                break;
            }
        }
        if probe.score < 25 { Probe::no() } else { probe }
    }

    fn mount(&self, blob: Arc<dyn Blob>, cx: &Context) -> Result<Option<Arc<dyn Source>>> {
        if crate::probe(blob.as_ref()).0 == 0 {
            return Ok(None);
        }
        let slot = Arc::new(Slot::new());
        if let Ok(mut list) = MOUNTED.lock() {
            list.push((Arc::downgrade(&blob), Arc::downgrade(&slot)));
        }
        Ok(Some(Arc::new(Mounted { blob, cx: cx.clone(), slot })))
    }

    fn inspect(&self, sources: &Sources, wanted: &Value, cx: &Context) -> Result<Report> {
        let wanted: Options = options(wanted)?;
        inspect(sources, &wanted, None, cx)
    }

    fn plan(&self, sources: &Sources, report: &Report, wanted: &Value, cx: &Context) -> Result<Plan> {
        let wanted: Options = options(wanted)?;
        let model: Arc<Model> = match report.state() {
            Some(m) => m,
            None => inspect(sources, &wanted, None, cx)?
                .state()
                .ok_or_else(|| Error::Unusable("no cluster found".to_owned()))?,
        };
        let state = chosen(&model.clusters, &wanted)?;
        let (_, inner) = inner(sources, cx)?;
        let mut plan = crate::plan::plan(state, &wanted, sources, &inner, cx)?;
        let blocks = report.findings.iter().filter(|f| f.code.starts_with("PFS-") && f.severity == Severity::Lost);
        let blocks: Vec<_> = blocks.collect();
        if let Some(first) = blocks.first() {
            let bytes = blocks.iter().map(|f| f.effect.bytes).fold(0, u64::saturating_add);
            plan.lose("disk-blocks", format!("{}: {}", first.object, first.summary), blocks.len() as u64, bytes);
        }
        plan.exit = report.exit;
        Ok(plan)
    }

    fn apply(&self, sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
        let (_, inner) = inner(sources, cx)?;
        crate::apply::run(&inner, plan, target, cx)
    }

    fn verify(&self, result: &Arc<dyn Source>, receipt: &Receipt, cx: &Context) -> Result<Report> {
        let roots = roots_of(&receipt.result);
        let mut report = inspect(&Sources::one(Arc::clone(result)), &Options::default(), Some(roots), cx)?;
        if !receipt.losses.is_empty() {
            // What was accepted as lost is lost: the result is as good as it was promised to be.
            for f in report.findings.iter_mut().filter(|f| f.severity == Severity::Lost) {
                f.severity = Severity::Damaged;
            }
            if report.verdict == recovery_core::Verdict::Lossy {
                report.verdict = recovery_core::Verdict::Recoverable;
                report.exit = report.verdict.exit();
            }
        }
        Ok(report)
    }
}

fn roots_of(result: &Value) -> Vec<String> {
    let list = result.get("clusters").and_then(Value::as_array);
    list.map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

/// What files are read from: the image's files in place of the image, in donors too.
fn inner(sources: &Sources, cx: &Context) -> Result<(Vec<Seen>, Sources)> {
    let images: Vec<Option<Arc<dyn Blob>>> = sources.donors.iter().map(image_of).collect();
    let blobs: Vec<Arc<dyn Blob>> = images.iter().flatten().map(Arc::clone).collect();
    let seen = sources.rivals.iter().map(|s| Seen::of(s, &blobs, cx)).collect::<Result<Vec<_>>>()?;
    let rivals = seen.iter().map(Seen::files).collect();
    let first = seen.iter().find_map(|s| match s {
        Seen::Image(image) => Some(image),
        Seen::Plain(_) => None,
    });
    let donor = |(source, image): (&Arc<dyn Source>, &Option<Arc<dyn Blob>>)| -> Result<Arc<dyn Source>> {
        match (image, first) {
            (None, _) => Ok(Arc::clone(source)),
            // Another copy of the same disk: its bytes in the places that the first copy's metadata, now mended, names.
            (Some(blob), Some(first)) if first.pfs().device.copies().len() > 1 => Ok(Arc::new(first.over(blob)?)),
            (Some(blob), _) => {
                Ok(Arc::new(PfsSource::new(open_with(&[Arc::clone(blob)], OpenOptions::default(), cx)?)))
            }
        }
    };
    let donors = sources.donors.iter().zip(&images).map(donor).collect::<Result<Vec<_>>>()?;
    Ok((seen, Sources { rivals, donors }))
}

/// The clusters of the donors, with the numbers of their sources.
fn donors(files: &Sources) -> Result<Vec<pg::Donor>> {
    let first = u16::try_from(files.rivals.len()).unwrap_or(u16::MAX);
    let mut out = Vec::new();
    for (number, source) in (first..).zip(&files.donors) {
        out.extend(find_clusters(source)?.into_iter().map(|cluster| pg::Donor { number, cluster }));
    }
    Ok(out)
}

/// The cluster the options name, or the only one.
pub(crate) fn chosen<'a>(clusters: &'a [pg::State], wanted: &Options) -> Result<&'a pg::State> {
    let shown = || clusters.iter().map(|c| format!("/{}", c.cluster.root)).collect::<Vec<_>>().join(", ");
    if let Some(path) = &wanted.cluster {
        let path = path.trim_matches('/');
        return clusters
            .iter()
            .find(|c| c.cluster.root == path)
            .ok_or_else(|| Error::Usage(format!("--cluster {path}: found are {}", shown())));
    }
    match clusters {
        [] => Err(Error::Unusable(
            "no PostgreSQL cluster found; its files can still be had with: recover polardb extract".to_owned(),
        )),
        [one] => Ok(one),
        _ => Err(Error::refuse(
            recovery_core::Reason::Ambiguous,
            format!("several clusters: name one of {} with --cluster", shown()),
        )),
    }
}

fn inspect(sources: &Sources, wanted: &Options, roots: Option<Vec<String>>, cx: &Context) -> Result<Report> {
    let mut out = ReportBuilder::new("polardb", sources, cx.limits.findings);
    let (seen, files_of) = inner(sources, cx)?;
    let others = donors(&files_of)?;
    let (mut pfs_facts, mut clusters) = (Value::Null, Vec::new());
    for (number, seen) in (0u16..).zip(&seen) {
        let mut disk = match seen {
            Seen::Image(image) => Some(inspect_pfs::Inspection::begin(image, number, &mut out)),
            Seen::Plain(_) => None,
        };
        let files: Arc<dyn Source> = match &disk {
            Some(disk) => Arc::new(disk.files()),
            None => seen.files(),
        };
        // A rescue's receipt says where its clusters are; that of an extraction does not know.
        let receipt = Receipt::load(files.as_ref()).ok().filter(|r| r.result.get("clusters").is_some());
        let receipt = receipt.map(|r| roots_of(&r.result));
        let found = match roots.clone().or(receipt) {
            Some(named) => named.into_iter().map(|root| Cluster { source: Arc::clone(&files), root }).collect(),
            None => find_clusters(&files)?,
        };
        for cluster in found {
            let state = pg::inspect(cluster, number, &others, cx)?;
            if let Some(disk) = &mut disk {
                state.coverage.iter().for_each(|(name, (_, known))| disk.cover(name, known));
            }
            clusters.push(state);
        }
        if let Some(disk) = disk {
            let facts = disk.finish(None, cx, &mut out)?;
            if pfs_facts.is_null() {
                pfs_facts = facts;
            }
        }
        if let (Seen::Plain(_), Some(_)) = (seen, &roots) {
            rest(&files, number, &clusters, &mut out);
        }
    }
    let image = seen.iter().any(|s| matches!(s, Seen::Image(_)));
    if clusters.is_empty() && roots.is_none() {
        let severity = if image { Severity::Note } else { Severity::Lost };
        out.finding(Finding::new(&codes::pg::NO_CLUSTER, severity, ""));
        if !image {
            out.unusable();
        }
    }
    for state in &clusters {
        report_cluster(state, image, &mut out);
    }
    if cx.check == Check::Structure {
        out.incomplete();
    }
    let facts: Vec<Value> = clusters.iter().map(pg::facts).collect();
    let mut all = serde_json::Map::new();
    if !pfs_facts.is_null() {
        all.insert("pfs".to_owned(), pfs_facts);
    }
    all.insert("clusters".to_owned(), json!(facts));
    out.facts(Value::Object(all));
    match roots {
        // A result is not rescued again: what is left to do stands in its runbook.
        Some(_) => {
            let place = sources.first().map(|s| s.describe()).unwrap_or_default();
            out.next(format!("less {}", recovery_core::names::shell(&format!("{place}/RUNBOOK.txt"))));
        }
        None => next(sources, &clusters, wanted, &mut out),
    }
    out.state(Arc::new(Model { clusters }));
    Ok(out.finish())
}

fn report_cluster(state: &pg::State, image: bool, out: &mut ReportBuilder) {
    out.findings(state.findings.iter().cloned());
    for action in &state.if_started {
        out.if_started(action.clone());
    }
    if image {
        // The image's own coverage already accounts for the bytes of its files.
        return;
    }
    for (name, (class, coverage)) in &state.coverage {
        if class == "foreign" {
            out.foreign(state.number, name, class, coverage.len());
        } else {
            out.object(state.number, name, class, coverage.clone());
        }
    }
}

/// Files of a result that belong to no cluster: the nodes' directories.
fn rest(files: &Arc<dyn Source>, number: u16, clusters: &[pg::State], out: &mut ReportBuilder) {
    for entry in files.list("", Depth::All).flatten().filter(Entry::is_file) {
        let inside = clusters.iter().any(|c| c.coverage.contains_key(&entry.name));
        if !inside && !entry.name.starts_with(".recover/") {
            out.object(
                number,
                &entry.name,
                "node",
                recovery_core::Coverage::all(entry.size, recovery_core::Class::Parsed),
            );
        }
    }
}

fn next(sources: &Sources, clusters: &[pg::State], wanted: &Options, out: &mut ReportBuilder) {
    let place = sources.first().map(|s| recovery_core::names::shell(&s.describe()).into_owned()).unwrap_or_default();
    if let Ok(state) = chosen(clusters, wanted) {
        let mut names: Vec<&str> = state.losses.iter().map(|l| l.name).collect();
        names.sort_unstable();
        names.dedup();
        let mut accept: String =
            sources.donors.iter().map(|d| format!(" --also {}", recovery_core::names::shell(&d.describe()))).collect();
        names.iter().for_each(|n| accept.push_str(&format!(" --accept {n}")));
        let broken = state.if_started.iter().any(|i| i.action == "refuses");
        let how = if broken { " --localfs" } else { "" };
        out.next(format!("recover rescue {place} --into NEWDIR{how}{accept}"));
        if !state.polardb {
            out.next(format!("recover rescue {place} --into NEWDIR --vanilla{accept}"));
        }
    } else {
        out.next(format!("recover polardb extract {place} --out NEWDIR"));
    }
}

//! Decides what a rescue builds. Touches nothing.

mod segments;

use std::collections::BTreeMap;

use recovery_core::{Context, Entry, EntryKind, Error, Plan, Reason, Result, Sources, Step, WriteStep};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::format::pg::relfile::RelFile;
use crate::inspect::pg::{State, Taken};
use crate::reader::pg::cluster::ControlFound;
use crate::reader::pg::slots::SlotState;
use crate::rebuild::conf::{self, Storage};
use crate::rebuild::node::{Node, Options, Role, network, nodes};
use crate::rebuild::runbook;

/// What a made file is, and what is needed to make it: everything stands in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "make", rename_all = "kebab-case")]
pub enum Make {
    /// This text; `{HERE}` stands for the directory of the result.
    Text {
        /// The text.
        text: String,
    },
    /// These bytes.
    Bytes {
        /// In hexadecimal.
        hex: String,
    },
    /// A file of the source, or a part of it, with bits turned back, pages of another source, filled up with zeros or
    /// cut.
    Patched {
        /// Name in the source.
        object: String,
        /// First byte taken from the source.
        #[serde(default)]
        from: u64,
        /// Offset in the result and bits to turn.
        flips: Vec<(u64, u8)>,
        /// Bytes taken from the source.
        taken: u64,
        /// Pages of 8192 bytes that another source gives.
        #[serde(default)]
        pages: Vec<Page>,
    },
}

/// A page of 8192 bytes that another source gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Offset in the result.
    pub to: u64,
    /// Number of the source.
    pub source: u16,
    /// Name in that source.
    pub object: String,
    /// Offset there.
    pub from: u64,
}

struct Builder<'a> {
    plan: Plan,
    state: &'a State,
}

const DIR: Option<u32> = Some(0o700);
const FILE: Option<u32> = Some(0o600);

impl Builder<'_> {
    fn mkdir(&mut self, to: impl Into<String>) {
        let to = to.into();
        if !self.plan.steps.iter().any(|s| s.to() == to) {
            self.plan.steps.push(Step::Mkdir { to, mode: DIR });
        }
    }

    fn make(&mut self, to: impl Into<String>, what: &str, size: u64, make: &Make, last: bool) -> Result<()> {
        let args = serde_json::to_value(make).map_err(|e| Error::Internal(e.to_string()))?;
        let step = WriteStep { to: to.into(), what: what.to_owned(), size, args, mode: FILE, last };
        self.plan.steps.push(Step::Write(step));
        Ok(())
    }

    fn text(&mut self, to: impl Into<String>, what: &str, text: String) -> Result<()> {
        let size = text.len() as u64;
        self.make(to, what, size, &Make::Text { text }, false)
    }

    fn copy(&mut self, e: &Entry, to: String) {
        let (object, size) = (e.name.clone(), e.size);
        self.plan.steps.push(Step::Copy { source: 0, object, to, size, range: None, mode: FILE, last: false });
    }
}

/// Makes the plan. `outer` is what the user named, `inner` where files are read from.
///
/// # Errors
///
/// A refusal where no safe plan exists.
pub fn plan(state: &State, options: &Options, outer: &Sources, inner: &Sources, cx: &Context) -> Result<Plan> {
    if options.localfs && options.vanilla {
        return Err(Error::Usage("--localfs and --vanilla exclude each other".to_owned()));
    }
    if let Some(net) = &options.net {
        network(net)?;
    }
    if let Some(what) = &state.unsupported {
        return Err(Error::unsupported(what.clone()));
    }
    let Some((control, layout)) = state.usable.clone() else {
        return Err(Error::Unusable(
            "no control file, and no checkpoint in the log from which one could be made; extract the files with: recover polardb extract"
                .to_owned(),
        ));
    };
    let value = serde_json::to_value(options).map_err(|e| Error::Internal(e.to_string()))?;
    let mut b = Builder { plan: Plan::new("polardb", value, outer), state };
    let all = nodes(options, state, &state.cluster.root)?;
    let image = outer.first().map(|s| s.describe()).unwrap_or_default();
    // The runbook is read elsewhere than the command was typed.
    let image = std::path::absolute(&image).map_or(image, |p| p.display().to_string());
    let mut more: Vec<(u16, String)> = Vec::new();
    let storage = if options.vanilla {
        stock(state)?;
        Storage::Own
    } else if options.localfs {
        Storage::Local("{HERE}/shared_data".to_owned())
    } else {
        whole(state)?;
        Storage::Pfs
    };
    let list: Vec<Node> = if options.vanilla { all.into_iter().take(1).collect() } else { all };
    let primary = list.first().cloned().ok_or_else(|| Error::Internal("no primary".to_owned()))?;
    for node in &list {
        skeleton(&mut b, node, &storage)?;
        b.text(
            format!("{}/postgresql.conf", node.name),
            "configuration",
            conf::postgresql(node, &primary, state, &control, &storage)?,
        )?;
        b.text(format!("{}/pg_hba.conf", node.name), "access", conf::hba(options.net.as_deref())?)?;
        b.text(format!("{}/pg_ident.conf", node.name), "user maps", conf::ident())?;
        role_file(&mut b, node, &primary)?;
    }
    match &storage {
        Storage::Own => data(&mut b, &primary.name, &control, layout, cx, true)?,
        Storage::Local(_) => {
            b.mkdir("shared_data");
            data(&mut b, "shared_data", &control, layout, cx, false)?;
        }
        Storage::Pfs => more.push((0, state.path("global/pg_control"))),
    }
    let text = runbook::text(&list, state, &storage, ".", &image);
    b.text("RUNBOOK.txt", "commands for the operator", text)?;
    for l in &state.losses {
        // What stays on the disk is not lost by writing the nodes' directories.
        if !(l.name == "replication-slot" && storage == Storage::Pfs) {
            b.plan.lose(l.name, l.summary.clone(), l.records, l.bytes);
        }
    }
    b.plan.next = runbook::commands(&list, state, &storage, "NEWDIR", &image);
    let roots = match storage {
        Storage::Own => vec![primary.name.clone()],
        Storage::Local(_) => vec!["shared_data".to_owned()],
        Storage::Pfs => Vec::new(),
    };
    b.plan.result = json!({"nodes": list, "clusters": roots, "runbook": "RUNBOOK.txt", "cluster": state.cluster.root});
    let mut plan = b.plan;
    plan.seal(inner, &written_from(&plan, more))?;
    Ok(plan)
}

/// The source files that made files are made from.
fn written_from(plan: &Plan, mut more: Vec<(u16, String)>) -> Vec<(u16, String)> {
    for step in &plan.steps {
        if let Step::Write(w) = step
            && let Ok(Make::Patched { object, pages, .. }) = serde_json::from_value::<Make>(w.args.clone())
        {
            more.push((0, object));
            more.extend(pages.into_iter().map(|p| (p.source, p.object)));
        }
    }
    more
}

/// Refuses what the stock server cannot start.
fn stock(state: &State) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::refuse(Reason::Unsafe, format!("--vanilla: {why}; use --localfs and PolarDB's own server")))
    };
    if state.pages.encrypted > 0 || state.cluster.has("global/pg_kmgr") {
        return refuse("the cluster is encrypted by PolarDB");
    }
    if state.cluster.has("pg_csnlog") {
        return refuse("PolarDB 11 keeps transaction status that the stock server does not know (pg_csnlog)");
    }
    Ok(())
}

/// Refuses to write node directories for a shared disk on which no server starts.
fn whole(state: &State) -> Result<()> {
    let broken = state.if_started.iter().find(|i| i.action == "refuses");
    match broken {
        None => Ok(()),
        Some(i) => Err(Error::refuse(
            Reason::Unsafe,
            format!(
                "no server starts on the disk as it is ({}: {}); use --localfs, which extracts the data and mends it",
                i.object, i.why
            ),
        )),
    }
}

fn skeleton(b: &mut Builder<'_>, node: &Node, storage: &Storage) -> Result<()> {
    b.mkdir(node.name.clone());
    for d in conf::directories(b.state.major) {
        b.mkdir(format!("{}/{d}", node.name));
    }
    if *storage == Storage::Own {
        for d in ["pg_wal", "pg_wal/archive_status", "log"] {
            b.mkdir(format!("{}/{d}", node.name));
        }
    }
    let databases = b.state.cluster.list("base", recovery_core::Depth::One)?;
    for e in databases.iter().filter(|e| e.is_dir() && e.file_name().bytes().all(|c| c.is_ascii_digit())) {
        b.mkdir(format!("{}/base/{}", node.name, e.file_name()));
    }
    if *storage != Storage::Own {
        b.text(format!("{}/PG_VERSION", node.name), "version", format!("{}\n", b.state.major))?;
    }
    Ok(())
}

fn role_file(b: &mut Builder<'_>, node: &Node, primary: &Node) -> Result<()> {
    let name = match (node.role, b.state.major) {
        (Role::Primary, _) => return Ok(()),
        (_, ..=11) => {
            let text = conf::recovery(node, primary)?;
            return b.text(format!("{}/recovery.conf", node.name), "role", text);
        }
        (Role::Replica, _) => "replica.signal",
        (Role::Standby, _) => "standby.signal",
    };
    b.text(format!("{}/{name}", node.name), "role", String::new())
}

/// Top-level directories the stock server knows.
const STOCK: [&str; 11] = [
    "base",
    "global",
    "pg_tblspc",
    "pg_wal",
    "pg_twophase",
    "pg_xact",
    "pg_commit_ts",
    "pg_multixact",
    "pg_replslot",
    "pg_logical",
    "PG_VERSION",
];

/// Directories that are emptied or rebuilt by every start, and so not copied.
const EMPTIED: [&str; 6] = ["pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// Whether a file is worth taking along.
fn wanted(state: &State, rel: &str, stock: bool) -> bool {
    let top = rel.split('/').next().unwrap_or(rel);
    let last = rel.rsplit('/').next().unwrap_or(rel);
    if stock && !STOCK.contains(&top) || EMPTIED.contains(&top) || top == ".recover" {
        return false;
    }
    if !rel.contains('/') && (last.starts_with("postmaster.") || last == "current_logfiles") {
        return false;
    }
    // What the server throws away at start: caches, temporary relations and files.
    let cache = last.starts_with("pg_internal.init") || rel.contains("pgsql_tmp");
    let temporary = matches!(top, "base" | "global" | "pg_tblspc") && RelFile::parse(last).is_some_and(|f| f.temporary);
    let polar = stock && matches!(last, "polar_settings.conf" | "pg_control");
    let role = state.leftovers.contains(&rel) || (stock && (last.ends_with(".signal") || last == "recovery.conf"));
    !(cache || temporary || polar || role || rel == "global/pg_control")
}

/// The cluster's own files, mended where they were damaged.
fn data(
    b: &mut Builder<'_>,
    root: &str,
    control: &crate::format::pg::control::ControlFile,
    layout: crate::format::pg::checkpoint::Layout,
    cx: &Context,
    stock: bool,
) -> Result<()> {
    let state = b.state;
    let entries = state.cluster.list("", recovery_core::Depth::All)?;
    let slots: BTreeMap<&str, bool> =
        state.slots.iter().map(|s| (s.name.as_str(), slot_kept(&s.state, stock))).collect();
    let padded = padded(state);
    let lengths = (control.relseg_size, if stock { segments::STOCK } else { control.relseg_size });
    for e in &entries {
        let rel = state.cluster.rel(&e.name).to_owned();
        if let Some(slot) = rel.strip_prefix("pg_replslot/").and_then(|r| r.split('/').next())
            && !slots.get(slot).copied().unwrap_or(false)
        {
            continue;
        }
        if !wanted(state, &rel, stock) || state.bad_twophase.contains(&e.name) {
            continue;
        }
        recovery_core::names::relative_path(&rel)?;
        let to = format!("{root}/{rel}");
        match e.kind {
            EntryKind::Directory => b.mkdir(to),
            EntryKind::File => file(b, e, &rel, to, &padded, lengths)?,
            EntryKind::Outward(_) | EntryKind::Dangling(_) | EntryKind::Other => {}
        }
    }
    for (name, size) in &padded {
        if !entries.iter().any(|e| e.name == *name) {
            let rel = state.cluster.rel(name).to_owned();
            if let Some((dir, _)) = rel.rsplit_once('/') {
                b.mkdir(format!("{root}/{dir}"));
            }
            b.make(format!("{root}/{rel}"), "status file", *size, &Make::Bytes { hex: String::new() }, false)?;
        }
    }
    for dir in ["pg_replslot", "pg_wal/archive_status"] {
        b.mkdir(format!("{root}/{dir}"));
    }
    if stock && !state.cluster.has("PG_VERSION") {
        b.text(format!("{root}/PG_VERSION"), "version", format!("{}\n", state.major))?;
    }
    let found = state.path("global/pg_control");
    let vanilla_build = !stock || control.relseg_size == segments::STOCK;
    let to = format!("{root}/global/pg_control");
    if matches!(state.control, ControlFound::Good(_)) && vanilla_build {
        let size = state.cluster.source.stat(&found)?.map_or(8192, |e| e.size);
        b.plan.steps.push(Step::Copy { source: 0, object: found, to, size, range: None, mode: FILE, last: true });
        return Ok(());
    }
    let mut control = control.clone();
    if stock {
        control.relseg_size = segments::STOCK;
    }
    if state.rebuilt {
        control.time = i64::try_from(cx.now_ms / 1000).unwrap_or(0);
        for chunk in control.nonce.chunks_mut(8) {
            chunk.copy_from_slice(&cx.draw().to_le_bytes());
        }
    }
    let hex = recovery_core::hex(&control.encode(layout));
    b.make(to, "control file", 8192, &Make::Bytes { hex }, true)
}

fn slot_kept(found: &SlotState, stock: bool) -> bool {
    use crate::format::pg::slot::SlotLayout;
    match found {
        SlotState::Good(s) => {
            s.persistency == 0
                && (!stock || matches!(s.layout, SlotLayout::Vanilla15 | SlotLayout::Vanilla11 | SlotLayout::V17))
        }
        _ => false,
    }
}

/// Status files that must be longer than they are, or must be made: name and size.
fn padded(state: &State) -> BTreeMap<String, u64> {
    const PAGE: u64 = 8192;
    let mut out: BTreeMap<String, u64> = BTreeMap::new();
    for (dir, health) in &state.slru {
        for f in &health.odd {
            out.insert(f.name.clone(), f.size.div_ceil(PAGE).min(32) * PAGE);
        }
        for (first, last) in &health.missing {
            for segment in (first / 32)..=(last / 32).min(first / 32 + 4096) {
                let pages = if segment == last / 32 { last % 32 + 1 } else { 32 };
                let known = health.files.iter().find(|f| f.segment == segment);
                let name = known.map_or_else(|| state.path(&format!("{dir}/{segment:04X}")), |f| f.name.clone());
                let size = out.entry(name).or_default();
                *size = (*size).max(pages * PAGE);
            }
        }
    }
    out
}

fn file(
    b: &mut Builder<'_>,
    e: &Entry,
    rel: &str,
    to: String,
    padded: &BTreeMap<String, u64>,
    lengths: (u32, u32),
) -> Result<()> {
    let state = b.state;
    if let Some(size) = padded.get(&e.name) {
        let make = patched(e, 0, e.size.min(*size), Vec::new(), Vec::new());
        return b.make(to, "status file", (*size).max(e.size.min(*size)), &make, false);
    }
    let segment = rel.strip_prefix("pg_wal/").and_then(|n| state.wal.as_ref()?.segment.parse(n));
    if let (Some((_, number)), Some(wal)) = (segment, &state.wal) {
        let (start, whole) = (wal.segment.start(number), wal.segment.bytes());
        // Corrections were made in the file that recovery reads; a segment of another timeline is copied as it is.
        let read = wal.file(state.tli, number).is_some_and(|f| f.name == e.name);
        let patches = if read { wal.patches() } else { BTreeMap::new() };
        let flips: Vec<(u64, u8)> =
            patches.range(start.0..start.0.saturating_add(whole)).map(|(l, f)| (l - start.0, *f)).collect();
        if !flips.is_empty() || e.size != whole {
            let make = patched(e, 0, e.size.min(whole), flips, Vec::new());
            return b.make(to, "WAL segment", whole, &make, false);
        }
    }
    relation(b, e, rel, to, lengths)
}

fn patched(e: &Entry, from: u64, taken: u64, flips: Vec<(u64, u8)>, pages: Vec<Page>) -> Make {
    Make::Patched { object: e.name.clone(), from, flips, taken, pages }
}

/// A file below the data directories: cut into other segments where the server wants that, with the pages that another
/// copy holds whole. One that ends inside a page is copied as it is: the server refuses nothing, and nothing is invented.
fn relation(b: &mut Builder<'_>, e: &Entry, rel: &str, to: String, lengths: (u32, u32)) -> Result<()> {
    let state = b.state;
    let taken = state.taken.get(&e.name);
    let below = matches!(rel.split('/').next(), Some("base" | "global" | "pg_tblspc"));
    let file = RelFile::parse(e.file_name()).filter(|_| below && lengths.0 != lengths.1);
    if file.is_none() && taken.is_none() {
        b.copy(e, to);
        return Ok(());
    }
    let whole = || vec![segments::Piece { name: e.file_name().to_owned(), start: 0, len: e.size }];
    let pieces = file.map_or_else(|| Ok(whole()), |f| segments::pieces(&f, e.size, lengths.0, lengths.1))?;
    let dir = to.rsplit_once('/').map_or("", |(dir, _)| dir);
    for piece in pieces {
        let to = format!("{dir}/{}", piece.name);
        let end = piece.start.saturating_add(piece.len);
        let inside = taken.into_iter().flatten().filter(|t| (piece.start..end).contains(&t.offset));
        let page = |t: &Taken| Page {
            to: t.offset.saturating_sub(piece.start),
            source: t.source,
            object: t.object.clone(),
            from: t.offset,
        };
        let pages: Vec<Page> = inside.map(page).collect();
        if pages.is_empty() {
            let range = ((piece.start, piece.len) != (0, e.size)).then_some((piece.start, piece.len));
            let (object, size) = (e.name.clone(), piece.len);
            b.plan.steps.push(Step::Copy { source: 0, object, to, size, range, mode: FILE, last: false });
        } else {
            b.make(to, "relation file", piece.len, &patched(e, piece.start, piece.len, Vec::new(), pages), false)?;
        }
    }
    Ok(())
}

//! What JE itself would do with a node if it were started now.

use recovery_core::IfStarted;

use super::node::Node;
use crate::format::file_header::FILE_HEADER_SIZE;

/// What JE would do.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// Step by step.
    pub actions: Vec<IfStarted>,
    /// Whether it refuses to open.
    pub refuses: bool,
    /// Commits of the stream behind the place where it cuts.
    pub commits: u64,
    /// Journal ids that would be gone.
    pub journal_ids: u64,
    /// Databases that would come back.
    pub come_back: Vec<String>,
}

/// Works it out.
#[must_use]
pub fn foresee(node: &Node) -> Started {
    let mut out = Started::default();
    refusals(node, &mut out);
    images(node, &mut out);
    if !out.refuses {
        truncation(node, &mut out);
        open_transactions(node, &mut out);
        later(node, &mut out);
    }
    out
}

fn refuse(out: &mut Started, object: &str, why: impl Into<String>) {
    out.refuses = true;
    out.actions.push(IfStarted::new("refuses", object, why));
}

fn refusals(node: &Node, out: &mut Started) {
    let last = node.scan.last_file();
    for f in node.log.files.values() {
        if let Some(v) = f.foreign_version() {
            refuse(out, &f.name, format!("VersionMismatchException: the header says log version {v}"));
        } else if let Some(h) = f.header.filter(|h| h.number != f.number) {
            refuse(out, &f.name, format!("LOG_INTEGRITY: the header says file {:#x}", h.number));
        } else if f.header.is_none() && f.len > FILE_HEADER_SIZE && last.is_some_and(|l| l.number == f.number) {
            refuse(out, &f.name, "LOG_CHECKSUM: the header of the last file is unreadable");
        }
    }
    let Some(l) = last else {
        return refuse(out, "", "there is no log file");
    };
    if let Some((_, why)) = &l.restore_required {
        refuse(out, &l.name, format!("RestoreRequired: {why}"));
    }
    let Some(env) = &node.je else { return };
    // Recovery reads everything from the first active entry on; only the tail of the last file is forgiven.
    let first = env.checkpoint.as_ref().map_or(0, |(_, c)| c.first_active.min(c.start).file());
    for f in node.scan.files.values().filter(|f| f.number >= first && f.number < l.number) {
        if let Some(b) = f.first_bad() {
            refuse(out, &f.name, format!("LOG_CHECKSUM: recovery reads over {:#x}: {}", b.offset, b.error.class()));
        } else if f.len == 0 {
            refuse(out, &f.name, "LOG_CHECKSUM: recovery reads an empty file");
        }
    }
    if let Some(p) = env.problems.first() {
        refuse(out, "", format!("the system trees cannot be read: {p}"));
    } else if env.tree.is_none() && node.front.entries > 0 {
        refuse(out, "", "This environment's log file has no root");
    }
    if !out.refuses
        && let Some(p) = node.view.problems.iter().find(|p| p.key.is_none() && in_system_db(node, p.db))
    {
        refuse(out, "", format!("a system database cannot be read: {p}"));
    }
    if let Some(range) = &node.index
        && let Some(seen) = env_first_vlsn(node)
        && seen > range.last.saturating_add(1)
    {
        let why = format!(
            "recoveryTracker should overlap or follow on disk last VLSN of {} recoveryFirst={seen}",
            range.last
        );
        refuse(out, "", why);
    }
}

/// What the frontend does with its images, before or after its log is open.
fn images(node: &Node, out: &mut Started) {
    let meta = &node.meta;
    let Some(dir) = &meta.image_dir else { return };
    if let Some(i) = meta.image()
        && let crate::meta::ImageState::Bad { why, .. } = &i.state
    {
        let why = format!("the frontend stops when it loads this image: {why}");
        out.actions.push(IfStarted::new("refuses", &i.name, why));
    } else if node.needs_image() {
        let why = "the frontend stops: the journal begins behind what the image holds";
        out.actions.push(IfStarted::new("refuses", dir, why));
    }
    if meta.version.is_none() {
        let why = "without VERSION the frontend takes itself for a new cluster, and backends refuse its cluster id";
        out.actions.push(IfStarted::new("refuses", format!("{dir}/VERSION"), why));
    }
}

fn in_system_db(node: &Node, db: Option<i64>) -> bool {
    let Some(env) = &node.je else { return false };
    db.and_then(|d| env.databases.get(&d)).and_then(|d| d.name.as_deref()).is_some_and(|n| n.starts_with("_je"))
}

/// First VLSN of the files recovery reads.
fn env_first_vlsn(node: &Node) -> Option<i64> {
    let env = node.je.as_ref()?;
    let start = env.checkpoint.as_ref().map(|(_, c)| c.start)?;
    let f = node.scan.files.get(&start.file())?;
    // Exact only where the checkpoint begins its file; else the VLSN before it is in the same file.
    if u64::from(start.offset()) <= FILE_HEADER_SIZE.saturating_add(256) { f.front.first_visible } else { None }
}

fn truncation(node: &Node, out: &mut Started) {
    let Some(l) = node.scan.last_file() else { return };
    for f in node.scan.files.values().filter(|f| f.number > l.number) {
        let why = "holds no entry: JE goes back one file";
        out.actions.push(IfStarted::new("skips", f.name.clone(), why));
    }
    let Some(bad) = l.first_bad() else { return };
    let bytes = l.len.saturating_sub(l.valid_to);
    out.commits = l.behind.count(crate::format::EntryType::COMMIT);
    let (je, kept) = (&node.view.journal, node.journal());
    if let (Some(a), Some(b)) = (kept.max, je.max.or(Some(0))) {
        out.journal_ids = u64::try_from(a.saturating_sub(b)).unwrap_or(0);
    }
    if let Some(s) = &node.scavenged {
        let back = node.view.records.keys().filter(|n| !n.starts_with("_je") && !s.databases.contains_key(*n));
        out.come_back = back.cloned().collect();
    }
    let lns = l.behind.txn_lns;
    let mut why = format!("cut at {:#x} ({}), silently", l.valid_to, bad.error.class());
    if out.commits > 0 {
        why = format!(
            "opens as master and cuts at {:#x} without a word: {} committed transactions behind it are gone ({} of them replicated), {} journal ids with them",
            l.valid_to, out.commits, l.behind.commits, out.journal_ids
        );
    }
    if !out.come_back.is_empty() {
        why = format!("{why}; removed databases come back: {}", out.come_back.join(", "));
    }
    let complete = if out.commits > 0 { lns } else { 0 };
    out.actions.push(IfStarted::new("truncates", l.name.clone(), why).loses(complete, bytes));
}

fn open_transactions(node: &Node, out: &mut Started) {
    let Some(env) = &node.je else { return };
    let rep: Vec<_> = env.open.iter().filter(|t| t.id < 0).collect();
    if !rep.is_empty() {
        let records = rep.iter().fold(0u64, |n, t| n.saturating_add(t.records));
        let why =
            format!("{} transactions without commit ({records} records) are aborted when it becomes master", rep.len());
        out.actions.push(IfStarted::new("rolls-back", "", why));
    }
}

fn later(node: &Node, out: &mut Started) {
    for (name, n) in &node.view.rootless {
        if !name.starts_with("_je") {
            let why = format!("the tree has no root: {n} records are dropped silently");
            out.actions.push(IfStarted::new("skips", name.clone(), why).loses(*n, 0));
        }
    }
    let user = |p: &&crate::model::Problem| !in_system_db(node, p.db);
    if let Some(p) = node.view.problems.iter().find(user) {
        let n = node.view.unreadable;
        let why = format!("opens, and the first read of {} invalidates the environment: {}", p.lsn, p.error);
        out.actions.push(IfStarted::new("fails-later", "", why).loses(n, 0));
    }
}

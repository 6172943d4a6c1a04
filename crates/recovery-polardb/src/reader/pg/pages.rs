//! Every data page of a cluster, verified with all threads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{
    Class, Context, Coverage, Depth, Entry, EntryKind, ReadError, Result, Source, parallel, read_around,
};

use super::cluster::Cluster;
use crate::format::pg::page::{self, Header, Page, Verdict};
use crate::format::pg::relfile::{self, Fork, RelFile};
use crate::format::pg::wal_record::RelFileLocator;
use crate::format::pg::{BLOCK, Lsn};

const PAGE: u64 = BLOCK as u64;
/// What one thread takes at a time.
const TASK: u64 = 32 << 20;
/// What is read at once: stays in a core's own cache between reading and summing.
const WINDOW: usize = 256 << 10;
/// Bad pages kept one by one; all are counted.
const MOST_BAD: usize = 100_000;

/// A relation file.
#[derive(Clone, Debug)]
pub struct RelationFile {
    /// Where it is.
    pub entry: Entry,
    /// Its name taken apart.
    pub file: RelFile,
    /// Which relation.
    pub locator: RelFileLocator,
}

/// What lies below `base`, `global` and the tablespaces.
#[derive(Clone, Debug, Default)]
pub struct Relations {
    /// Relation files.
    pub files: Vec<RelationFile>,
    /// The server's other files: maps, versions, caches.
    pub others: Vec<Entry>,
    /// Files that belong to no server.
    pub foreign: Vec<Entry>,
    /// Tablespace links that lead out of the source, with their text.
    pub outward: Vec<(String, String)>,
}

/// Lists every relation file.
///
/// # Errors
///
/// When a directory cannot be listed.
pub fn relations(cluster: &Cluster) -> Result<Relations, ReadError> {
    let mut out = Relations::default();
    for (top, tablespace) in [("global", 1664), ("base", 1663)] {
        for entry in cluster.list(top, Depth::All)? {
            let rel = cluster.rel(&entry.name).to_owned();
            let parts: Vec<&str> = rel.split('/').collect();
            let database = match parts.as_slice() {
                ["global", _] => Some(0),
                ["base", db, _] => db.parse().ok(),
                _ => None,
            };
            sort(&mut out, entry, tablespace, database);
        }
    }
    for entry in cluster.list("pg_tblspc", Depth::All)? {
        let rel = cluster.rel(&entry.name).to_owned();
        let parts: Vec<&str> = rel.split('/').collect();
        if let ["pg_tblspc", oid, version, database, _] = parts.as_slice()
            && version.starts_with("PG_")
        {
            sort(&mut out, entry, oid.parse().unwrap_or(0), database.parse().ok());
        } else if let EntryKind::Outward(text) | EntryKind::Dangling(text) = &entry.kind {
            out.outward.push((entry.name.clone(), text.clone()));
        } else if entry.is_file() {
            out.foreign.push(entry);
        }
    }
    out.files.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    Ok(out)
}

fn sort(out: &mut Relations, entry: Entry, tablespace: u32, database: Option<u32>) {
    if !entry.is_file() {
        return;
    }
    match (RelFile::parse(entry.file_name()), database) {
        (Some(file), Some(database)) => {
            let locator = RelFileLocator { tablespace, database, number: file.number };
            out.files.push(RelationFile { entry, file, locator });
        }
        _ if relfile::known_other(entry.file_name()) || entry.name.contains("/pgsql_tmp") => out.others.push(entry),
        _ => out.foreign.push(entry),
    }
}

/// How pages are judged.
#[derive(Clone, Copy, Debug)]
pub struct PageRules {
    /// Whether pages carry checksums.
    pub checksums: bool,
    /// Pages in a segment file.
    pub relseg_size: u32,
    /// End of the log: pages changed later than that are reported.
    pub wal_end: Option<Lsn>,
}

/// A page that cannot be right.
#[derive(Clone, Debug)]
pub struct BadPage {
    /// Which file, as a number in [`Relations::files`].
    pub file: usize,
    /// Which page of the file.
    pub index: u64,
    /// Which block of the relation fork.
    pub block: u32,
    /// Its log position as stored.
    pub lsn: Lsn,
    /// What is wrong; nothing when the medium does not give it.
    pub verdict: Option<Verdict>,
}

/// The outcome for all pages.
#[derive(Clone, Debug, Default)]
pub struct PageTotals {
    /// Files looked at.
    pub files: u64,
    /// Whole pages looked at.
    pub pages: u64,
    /// Of them, never initialised.
    pub new: u64,
    /// Of them, bad.
    pub bad: u64,
    /// Of them, changed after the end of the log.
    pub ahead: u64,
    /// The newest log position on any good page.
    pub newest: Lsn,
    /// Pages with the flag of transparent encryption.
    pub encrypted: u64,
    /// Bad pages in order, at most 100,000.
    pub list: Vec<BadPage>,
    /// Files that end inside a page: number, and the odd bytes.
    pub cut: Vec<(usize, u64)>,
    /// Files that could not be opened.
    pub unopened: Vec<(usize, ReadError)>,
    /// Coverage by file number.
    pub coverage: BTreeMap<usize, Coverage>,
}

#[derive(Default)]
struct Part {
    file: usize,
    pages: u64,
    new: u64,
    bad: u64,
    ahead: u64,
    newest: Lsn,
    encrypted: u64,
    list: Vec<BadPage>,
    marks: Vec<(u64, u64, Class)>,
    unopened: Option<ReadError>,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Verifies every page.
///
/// # Errors
///
/// Only that the caller asked to stop.
pub fn verify(source: &Arc<dyn Source>, files: &[RelationFile], rules: PageRules, cx: &Context) -> Result<PageTotals> {
    let mut out = PageTotals { files: files.len() as u64, ..PageTotals::default() };
    let mut tasks = Vec::new();
    for (i, f) in files.iter().enumerate() {
        let odd = f.entry.size % PAGE;
        if odd > 0 {
            out.cut.push((i, odd));
        }
        let whole = f.entry.size - odd;
        out.coverage.insert(i, Coverage::new(f.entry.size));
        let mut at = 0;
        while at < whole {
            tasks.push((i, at, whole.min(at.saturating_add(TASK))));
            at = at.saturating_add(TASK);
        }
    }
    let window = cx.limits.threads.saturating_mul(4).max(2);
    let work = |(i, from, to): (usize, u64, u64)| match files.get(i) {
        Some(f) => part(source.as_ref(), f, i, from..to, rules, cx),
        None => Part::default(),
    };
    parallel::stream(
        cx,
        batches(tasks),
        window,
        |batch| batch.into_iter().map(work).collect::<Vec<_>>(),
        |parts| {
            for p in parts {
                take(&mut out, p);
            }
            Ok(())
        },
    )?;
    Ok(out)
}

/// Puts small files together, so that a task is worth handing over.
fn batches(tasks: Vec<(usize, u64, u64)>) -> impl Iterator<Item = Vec<(usize, u64, u64)>> {
    let mut tasks = tasks.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut batch = vec![tasks.next()?];
        let mut sum = batch.first().map_or(0, |t| t.2 - t.1);
        while let Some(t) = tasks.next_if(|t| sum.saturating_add(t.2 - t.1) <= TASK / 4 && batch.len() < 64) {
            sum = sum.saturating_add(t.2 - t.1);
            batch.push(t);
        }
        Some(batch)
    })
}

fn take(out: &mut PageTotals, p: Part) {
    out.pages = out.pages.saturating_add(p.pages);
    out.new = out.new.saturating_add(p.new);
    out.bad = out.bad.saturating_add(p.bad);
    out.ahead = out.ahead.saturating_add(p.ahead);
    out.encrypted = out.encrypted.saturating_add(p.encrypted);
    out.newest = out.newest.max(p.newest);
    let room = MOST_BAD.saturating_sub(out.list.len());
    out.list.extend(p.list.into_iter().take(room));
    if let Some(c) = out.coverage.get_mut(&p.file) {
        for (from, to, class) in p.marks {
            c.mark(from..to, class);
        }
    }
    if let Some(e) = p.unopened {
        out.unopened.push((p.file, e));
    }
}

fn part(
    source: &dyn Source,
    f: &RelationFile,
    file: usize,
    range: std::ops::Range<u64>,
    rules: PageRules,
    cx: &Context,
) -> Part {
    let mut out = Part { file, ..Part::default() };
    let blob = match source.open(&f.entry) {
        Ok(blob) => blob,
        Err(e) => {
            out.marks.push((range.start, range.end, Class::Unread));
            out.unopened = Some(e);
            return out;
        }
    };
    BUFFER.with_borrow_mut(|buf| {
        let mut at = range.start;
        while at < range.end && cx.cancelled().is_ok() {
            let n = usize::try_from(range.end - at).unwrap_or(WINDOW).min(WINDOW);
            if buf.len() < n {
                buf.resize(WINDOW, 0);
            }
            let Some(window) = buf.get_mut(..n) else { break };
            if blob.read_exact_at(at, window).is_ok() {
                judge(&mut out, f, window, at, rules, &[]);
            } else {
                let (bytes, unread) = read_around(blob.as_ref(), at..at.saturating_add(n as u64));
                judge(&mut out, f, &bytes, at, rules, &unread);
            }
            at = at.saturating_add(n as u64);
        }
    });
    out
}

fn judge(out: &mut Part, f: &RelationFile, window: &[u8], at: u64, rules: PageRules, unread: &[std::ops::Range<u64>]) {
    let base = u64::from(f.file.segment).wrapping_mul(u64::from(rules.relseg_size));
    let (pages, rest) = window.as_chunks::<BLOCK>();
    let mut run: Option<(u64, u64, Class)> = None;
    for (i, page) in (0u64..).zip(pages) {
        let from = at.saturating_add(i.saturating_mul(PAGE));
        let index = from / PAGE;
        // Block numbers have 32 bits; a file name can claim more.
        let block = (base.wrapping_add(index) & 0xffff_ffff) as u32;
        let lost = unread.iter().any(|r| r.start < from + PAGE && r.end > from);
        out.pages = out.pages.saturating_add(1);
        let class = if lost {
            bad(out, index, block, Lsn(0), None);
            Class::Unread
        } else {
            one(out, f, page, index, block, rules)
        };
        match &mut run {
            Some(r) if r.1 == from && r.2 == class => r.1 = from.saturating_add(PAGE),
            _ => {
                out.marks.extend(run.replace((from, from.saturating_add(PAGE), class)));
            }
        }
    }
    out.marks.extend(run);
    // A file that shrank while it was read leaves a rest.
    let end = at.saturating_add(window.len() as u64);
    if !rest.is_empty() || window.is_empty() {
        out.marks.push((end.saturating_sub(rest.len() as u64), end, Class::Unread));
    }
}

#[inline]
fn one(out: &mut Part, f: &RelationFile, page: &Page, index: u64, block: u32, rules: PageRules) -> Class {
    // Free-space and visibility maps follow other header rules than the checks without checksums know.
    let verdict = page::verify(page, block, rules.checksums);
    let header = Header::of(page);
    match verdict {
        Verdict::Good => {
            if header.flags & page::FLAG_ENCRYPTED != 0 {
                out.encrypted = out.encrypted.saturating_add(1);
            }
            // Unlogged relations and free-space maps carry positions that are no log positions.
            if f.file.fork == Fork::Main || f.file.fork == Fork::Vm {
                out.newest = out.newest.max(header.lsn);
                if rules.wal_end.is_some_and(|end| header.lsn > end) {
                    out.ahead = out.ahead.saturating_add(1);
                }
            }
            if rules.checksums { Class::Verified } else { Class::Parsed }
        }
        Verdict::New => {
            out.new = out.new.saturating_add(1);
            Class::Parsed
        }
        Verdict::NotZero | Verdict::Checksum { .. } | Verdict::Header => {
            bad(out, index, block, header.lsn, Some(verdict));
            Class::Damaged
        }
    }
}

fn bad(out: &mut Part, index: u64, block: u32, lsn: Lsn, verdict: Option<Verdict>) {
    out.bad = out.bad.saturating_add(1);
    if out.list.len() < MOST_BAD {
        out.list.push(BadPage { file: out.file, index, block, lsn, verdict });
    }
}

//! Transaction status and its kin: files of 32 pages each, named by segment number in hexadecimal, without checksums.
//!
//! Upstream: `src/backend/access/transam/slru.c`, `clog.c`, `multixact.c`, `commit_ts.c`.

use recovery_core::{Depth, ReadError};

use super::cluster::Cluster;
use crate::format::pg::BLOCK;
use crate::format::pg::checkpoint::CheckPoint;

const PAGES: u64 = 32;
const PAGE: u64 = BLOCK as u64;

/// One kind of status file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Directory.
    pub dir: &'static str,
    /// Entries in a page.
    pub per_page: u64,
    /// What an entry tells.
    pub what: &'static str,
}

/// Whether transactions committed.
pub const XACT: Kind = Kind { dir: "pg_xact", per_page: 32_768, what: "transactions" };
/// Where the members of a multixact stand.
pub const OFFSETS: Kind = Kind { dir: "pg_multixact/offsets", per_page: 2048, what: "multixacts" };
/// The members.
pub const MEMBERS: Kind = Kind { dir: "pg_multixact/members", per_page: 1636, what: "multixact members" };
/// When transactions committed.
pub const COMMIT_TS: Kind = Kind { dir: "pg_commit_ts", per_page: 819, what: "commit times" };

/// A status file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlruFile {
    /// Path in the source.
    pub name: String,
    /// Segment number.
    pub segment: u64,
    /// Length in bytes.
    pub size: u64,
}

/// What is wrong with one directory.
#[derive(Clone, Debug, Default)]
pub struct SlruHealth {
    /// Every file.
    pub files: Vec<SlruFile>,
    /// Files whose length is no whole number of pages, or more than 32.
    pub odd: Vec<SlruFile>,
    /// Pages that must be there and are not: first and last.
    pub missing: Vec<(u64, u64)>,
    /// Entries the missing pages would hold.
    pub lost_entries: u64,
}

/// First and last entry that the checkpoint says must be there; `None` when there are none.
#[must_use]
pub fn needed(kind: Kind, point: &CheckPoint) -> Option<(u32, u32)> {
    let next = point.next_xid32();
    match kind.dir {
        "pg_xact" => (next > 3 && point.oldest_xid > 0).then(|| (point.oldest_xid, next.wrapping_sub(1))),
        "pg_multixact/offsets" => {
            (point.next_multi > point.oldest_multi).then(|| (point.oldest_multi, point.next_multi - 1))
        }
        "pg_commit_ts" => {
            (point.oldest_commit_ts_xid > 0).then_some((point.oldest_commit_ts_xid, point.newest_commit_ts_xid))
        }
        _ => None,
    }
}

/// Compares the files of a directory with what the checkpoint needs.
///
/// # Errors
///
/// When the directory cannot be listed.
pub fn health(cluster: &Cluster, kind: Kind, point: Option<&CheckPoint>) -> Result<SlruHealth, ReadError> {
    let mut out = SlruHealth::default();
    for e in cluster.list(kind.dir, Depth::One)?.into_iter().filter(recovery_core::Entry::is_file) {
        let Some(segment) = number(e.file_name()) else { continue };
        let file = SlruFile { segment, size: e.size, name: e.name };
        if !file.size.is_multiple_of(PAGE) || file.size > PAGES * PAGE {
            out.odd.push(file.clone());
        }
        out.files.push(file);
    }
    if let Some((first, last)) = point.and_then(|p| needed(kind, p)) {
        let (first, last) = (u64::from(first) / kind.per_page, u64::from(last) / kind.per_page);
        let top = u64::from(u32::MAX) / kind.per_page;
        // Transaction ids go round: the needed range may pass the end.
        if first <= last {
            absent(&mut out, first, last);
        } else {
            absent(&mut out, first, top);
            absent(&mut out, 0, last);
        }
        let pages = out.missing.iter().fold(0u64, |n, (a, b)| n.saturating_add(b - a + 1));
        out.lost_entries = pages.saturating_mul(kind.per_page);
    }
    Ok(out)
}

fn number(name: &str) -> Option<u64> {
    let fine = (4..=15).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    if fine { u64::from_str_radix(name, 16).ok() } else { None }
}

fn absent(out: &mut SlruHealth, first: u64, last: u64) {
    let mut page = first;
    while page <= last {
        let segment = page / PAGES;
        let here = out.files.iter().find(|f| f.segment == segment).map_or(0, |f| (f.size / PAGE).min(PAGES));
        let (lo, hi) = (segment * PAGES, segment * PAGES + PAGES - 1);
        let gap = (page.max(lo + here), last.min(hi));
        if gap.0 <= gap.1 {
            match out.missing.last_mut() {
                Some(m) if m.1 + 1 == gap.0 => m.1 = gap.1,
                _ => out.missing.push(gap),
            }
        }
        page = hi + 1;
    }
}

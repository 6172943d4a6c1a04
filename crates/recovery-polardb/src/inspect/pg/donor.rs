//! Other copies of a cluster: pages and log records that are damaged here and whole there.

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Blob, Class, Finding, Severity};

use super::State;
use crate::codes::pg as codes;
use crate::format::pg::BLOCK;
use crate::format::pg::page::{self, Header, Page, Verdict};
use crate::reader::pg::cluster::Cluster;
use crate::reader::pg::pages::BadPage;

const PAGE: u64 = BLOCK as u64;

/// Another copy of a cluster.
#[derive(Clone, Debug)]
pub struct Donor {
    /// Number of its source: rivals first, then donors.
    pub number: u16,
    /// Where it is.
    pub cluster: Cluster,
}

/// A page that comes from another copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Byte in the file, here and there.
    pub offset: u64,
    /// Number of the source that holds it whole.
    pub source: u16,
    /// Name in that source.
    pub object: String,
}

/// Keeps the donors that show the same moment of the same cluster: pages and records of another time would not fit.
pub(super) fn choose(state: &mut State, donors: &[Donor]) {
    let own = state.control.trusted().map(|d| d.control.clone());
    let id = state.control.any().map(|d| d.control.system_identifier);
    for donor in donors {
        let theirs = donor.cluster.control();
        let why = match (&own, theirs.trusted()) {
            (Some(own), Some(theirs)) if *own == theirs.control => None,
            (None, Some(theirs)) if id.is_none_or(|id| id == theirs.control.system_identifier) => None,
            (Some(own), Some(theirs)) if own.system_identifier != theirs.control.system_identifier => {
                Some("another cluster")
            }
            (_, Some(_)) => Some("the same cluster at another time: its control file differs"),
            // A copy of the same disk whose control file is damaged was compared as a disk.
            (_, None) if donor.cluster.root == state.cluster.root => None,
            (_, None) => Some("its control file is damaged, so nothing shows that it is of the same time"),
        };
        match why {
            None => state.donors.push(donor.clone()),
            Some(why) => {
                let name = format!("{}/{}", donor.cluster.source.describe(), donor.cluster.root);
                state.finding(Finding::new(&codes::OTHER_STATE, Severity::Note, name).summary(why));
            }
        }
    }
}

/// Damaged pages that a donor holds whole, by their place in the list of damaged ones.
pub(super) fn pages(state: &State) -> BTreeMap<usize, Taken> {
    let mut out = BTreeMap::new();
    let mut open: Option<(usize, Vec<(u16, String, Arc<dyn Blob>)>)> = None;
    for (i, bad) in state.pages.list.iter().enumerate().filter(|_| !state.donors.is_empty()) {
        if open.as_ref().is_none_or(|(file, _)| *file != bad.file) {
            open = Some((bad.file, copies(state, bad.file)));
        }
        let offset = bad.index.saturating_mul(PAGE);
        let whole = open.iter().flat_map(|(_, list)| list).find(|(_, _, blob)| good(state, blob.as_ref(), offset, bad));
        if let Some((source, object, _)) = whole {
            out.insert(i, Taken { offset, source: *source, object: object.clone() });
        }
    }
    out
}

/// A file in every donor that has it.
fn copies(state: &State, file: usize) -> Vec<(u16, String, Arc<dyn Blob>)> {
    let Some(f) = state.relations.files.get(file) else { return Vec::new() };
    let rel = state.cluster.rel(&f.entry.name);
    let of = |d: &Donor| {
        let name = d.cluster.path(rel);
        let blob = d.cluster.source.open_name(&name).ok().flatten()?;
        Some((d.number, name, blob))
    };
    state.donors.iter().filter_map(of).collect()
}

fn good(state: &State, blob: &dyn Blob, offset: u64, bad: &BadPage) -> bool {
    let mut buf: Page = [0; BLOCK];
    if blob.read_exact_at(offset, &mut buf).is_err() {
        return false;
    }
    let late = state.wal_end().is_some_and(|end| Header::of(&buf).lsn > end);
    // A page of zeros is whole without a checksum: it vouches only for a page that could not be read at all.
    match page::verify(&buf, bad.block, state.checksums) {
        Verdict::Good => !late,
        Verdict::New => bad.verdict.is_none(),
        _ => false,
    }
}

/// Says that a damaged page comes from another copy, and remembers from where.
pub(super) fn take(state: &mut State, bad: &BadPage, name: &str, what: &str, taken: &Taken) {
    let f = Finding::new(&codes::PAGE_DONATED, Severity::Damaged, name).at(taken.offset, PAGE);
    state.finding(f.summary(format!("{what}; source {} holds it whole", taken.source)));
    state.taken.entry(name.to_owned()).or_default().push(taken.clone());
    if let Some(c) = state.pages.coverage.get_mut(&bad.file) {
        // Known all the same, so not unread.
        c.mark(taken.offset..taken.offset.saturating_add(PAGE), Class::Damaged);
    }
}

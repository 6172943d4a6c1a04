//! What is known of a cluster after looking at it: the typed model behind the report.

mod control;
mod donor;
mod facts;
mod log;
mod others;
mod pages;

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Check, Class, Context, Coverage, Evidence, Finding, IfStarted, ReadError, Result, Severity};

use crate::codes::pg as codes;
use crate::format::pg::backup_label::BackupLabel;
use crate::format::pg::checkpoint::Layout;
use crate::format::pg::control::ControlFile;
use crate::format::pg::twophase::Prepared;
use crate::format::pg::{Lsn, SegmentSize};
use crate::reader::pg::cluster::{Cluster, ControlFound};
use crate::reader::pg::pages::{PageTotals, Relations};
use crate::reader::pg::slots::FoundSlot;
use crate::reader::pg::slru::SlruHealth;
use crate::reader::pg::wal::WalDir;
use crate::reader::pg::wal_scan::{Beyond, Scan};
use crate::reader::pg::wal_summary::FoundCheckpoint;

pub use donor::{Donor, Taken};
pub use facts::facts;
#[cfg(feature = "cli")]
pub(crate) use facts::wal_level;

/// A loss the rescue of the cluster means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Name, as given to `--accept`.
    pub name: &'static str,
    /// In words.
    pub summary: String,
    /// Complete records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Everything known of one cluster.
#[derive(Debug)]
pub struct State {
    /// Where it is.
    pub cluster: Cluster,
    /// Number of the source.
    pub number: u16,
    /// The control file as found.
    pub control: ControlFound,
    /// The control file that can be used: as found, corrected, or rebuilt.
    pub usable: Option<(ControlFile, Layout)>,
    /// Whether it was rebuilt from the log.
    pub rebuilt: bool,
    /// What is not supported of this cluster: nothing is made of it then.
    pub unsupported: Option<String>,
    /// Major version.
    pub major: u32,
    /// Whether the directory shows signs of PolarDB.
    pub polardb: bool,
    /// The log.
    pub wal: Option<Arc<WalDir>>,
    /// Timeline of recovery.
    pub tli: u32,
    /// The log from the redo point on.
    pub scan: Option<Scan>,
    /// The log before the redo point, of every run of segments that was looked at.
    pub older: Vec<Scan>,
    /// What lies behind a break.
    pub beyond: Beyond,
    /// The checkpoint to be used when it is not the control file's.
    pub checkpoint: Option<FoundCheckpoint>,
    /// Segments missing between present ones.
    pub missing_segments: Vec<String>,
    /// Segments to be filled up: name in the source and present size.
    pub short_segments: Vec<(String, u64)>,
    /// Relation files.
    pub relations: Relations,
    /// Verified pages.
    pub pages: PageTotals,
    /// Other copies of the cluster that show the same moment.
    pub donors: Vec<Donor>,
    /// Damaged pages that another copy holds whole, by name of the file in the source.
    pub taken: BTreeMap<String, Vec<Taken>>,
    /// Whether pages carry checksums.
    pub checksums: bool,
    /// Slots.
    pub slots: Vec<FoundSlot>,
    /// Status files by directory.
    pub slru: BTreeMap<&'static str, SlruHealth>,
    /// Open prepared transactions.
    pub prepared: BTreeMap<u32, Prepared>,
    /// Damaged files of pg_twophase, by name in the source.
    pub bad_twophase: Vec<String>,
    /// Files in the shared directory that change the role of a server, by path below the cluster.
    pub leftovers: Vec<&'static str>,
    /// A backup label, when there is one.
    pub label: Option<BackupLabel>,
    /// Findings.
    pub findings: Vec<Finding>,
    /// What the server would do.
    pub if_started: Vec<IfStarted>,
    /// What a rescue loses.
    pub losses: Vec<Loss>,
    /// Coverage of every file, by name in the source.
    pub coverage: BTreeMap<String, (String, Coverage)>,
    /// Whether something was left unread on purpose.
    pub partial: bool,
}

impl State {
    /// Segment size of the log.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentSize> {
        self.wal.as_ref().map(|w| w.segment)
    }

    /// Position behind the last record that recovery reaches.
    #[must_use]
    pub fn wal_end(&self) -> Option<Lsn> {
        self.scan.as_ref().map(|s| s.end)
    }

    pub(crate) fn finding(&mut self, finding: Finding) {
        self.findings.push(finding.source(self.number));
    }

    pub(crate) fn lose(&mut self, name: &'static str, summary: impl Into<String>, records: u64, bytes: u64) {
        self.losses.push(Loss { name, summary: summary.into(), records, bytes });
    }

    pub(crate) fn unread(&mut self, e: &ReadError) {
        self.finding(
            Finding::new(&codes::UNREAD, Severity::Lost, e.object.clone())
                .at(e.offset, e.length)
                .summary(e.message.clone()),
        );
        self.lose("unreadable-file", format!("{}: {}", e.object, e.message), 1, e.length);
    }

    /// Path in the source.
    #[must_use]
    pub fn path(&self, rel: &str) -> String {
        self.cluster.path(rel)
    }

    pub(crate) fn cover(&mut self, name: &str, class: &str, coverage: Coverage) {
        self.coverage.insert(name.to_owned(), (class.to_owned(), coverage));
    }

    /// Covers a file whose first bytes are checksummed and the rest is known by its place.
    pub(crate) fn cover_head(&mut self, name: &str, size: u64, head: u64, good: bool, rest: Class) {
        let mut c = Coverage::new(size);
        c.mark(0..head.min(size), if good { Class::Verified } else { Class::Damaged });
        c.mark(head.min(size)..size, rest);
        self.cover(name, "live", c);
    }
}

fn blank(cluster: Cluster, number: u16, cx: &Context) -> State {
    let control = cluster.control();
    State {
        cluster,
        number,
        control,
        usable: None,
        rebuilt: false,
        unsupported: None,
        major: 0,
        polardb: false,
        wal: None,
        tli: 0,
        scan: None,
        older: Vec::new(),
        beyond: Beyond::default(),
        checkpoint: None,
        missing_segments: Vec::new(),
        short_segments: Vec::new(),
        relations: Relations::default(),
        pages: PageTotals::default(),
        donors: Vec::new(),
        taken: BTreeMap::new(),
        checksums: false,
        slots: Vec::new(),
        slru: BTreeMap::new(),
        prepared: BTreeMap::new(),
        bad_twophase: Vec::new(),
        leftovers: Vec::new(),
        label: None,
        findings: Vec::new(),
        if_started: Vec::new(),
        losses: Vec::new(),
        coverage: BTreeMap::new(),
        partial: cx.check == Check::Structure,
    }
}

/// Opens the log of a cluster whose control file is lost.
///
/// # Errors
///
/// When the directory cannot be listed.
#[cfg(feature = "cli")]
pub(crate) fn open_log(cluster: &Cluster) -> Result<Option<Arc<WalDir>>> {
    let mut state = blank(cluster.clone(), 0, &Context::default());
    log::open(&mut state);
    Ok(state.wal)
}

/// The slots of a cluster, as the facts show them.
#[cfg(feature = "cli")]
pub(crate) fn slots_of(cluster: Cluster) -> Vec<serde_json::Value> {
    let mut state = blank(cluster, 0, &Context::default());
    control::judge(&mut state);
    log::open(&mut state);
    others::slots(&mut state);
    facts::slots(&state)
}

/// Looks at one cluster; what it holds damaged comes from `donors` that show the same moment of it.
///
/// # Errors
///
/// Only that the caller asked to stop.
pub fn inspect(cluster: Cluster, number: u16, donors: &[Donor], cx: &Context) -> Result<State> {
    let mut state = blank(cluster, number, cx);
    control::judge(&mut state);
    donor::choose(&mut state, donors);
    log::open(&mut state);
    pages::list(&mut state);
    others::major(&mut state);
    if state.usable.is_none() && state.unsupported.is_none() {
        control::rebuild(&mut state, cx)?;
    }
    log::recovery(&mut state, cx)?;
    pages::verify(&mut state, cx)?;
    log::older(&mut state, cx)?;
    others::slots(&mut state);
    others::status(&mut state);
    others::prepared(&mut state);
    others::maps(&mut state);
    others::leftovers(&mut state);
    others::foreign(&mut state, cx)?;
    Ok(state)
}

/// Evidence of a checksum that does not agree.
pub(crate) fn crc_evidence(stored: u32, computed: u32) -> Evidence {
    Evidence::checksum("crc32c", stored, computed)
}

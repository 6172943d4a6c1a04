//! What is wrong with one tablet, and what that means.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Evidence, Finding, Severity};

use super::files::FileState;
use super::{Fate, Inspection};
use crate::codes;
use crate::format::names::{TabletFile, parse_md5};
use crate::model::repository::{Ending, TabletDir, TabletEntry};
use crate::model::tablet::{Origin, Rowset};
use crate::reader::load::{LoadedTablet, md5_evidence};

/// What is known of a tablet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TabletVerdict {
    /// Why stock RESTORE cannot restore it as it lies there; empty when it can.
    pub problems: Vec<String>,
    /// Whether every problem can be healed by giving files their right name or checksum.
    pub healable: bool,
    /// Rows the header counts, deleted ones of primary-key tables not counted.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Rows lost at most.
    pub lost_rows: u64,
    /// Whether RESTORE would find out only after it has replaced the old data.
    pub late: bool,
}

impl TabletVerdict {
    /// Whether stock RESTORE works on it as it is.
    #[must_use]
    pub fn restorable(&self) -> bool {
        self.problems.is_empty()
    }

    fn lost(&mut self, rows: u64, why: String) {
        self.healable = false;
        self.lost_rows = self.lost_rows.saturating_add(rows);
        self.problems.push(why);
    }
}

struct Judge<'a> {
    dir: &'a TabletDir,
    loaded: &'a LoadedTablet,
    /// Whether a job description names the tablet.
    wanted: bool,
    files: &'a BTreeMap<String, FileState>,
    out: &'a mut Vec<Finding>,
    fates: &'a mut BTreeMap<String, Fate>,
    verdict: TabletVerdict,
    /// The rowset at hand has encrypted segments: only their MD5 can be checked.
    encrypted: bool,
}

/// Judges a tablet directory. `version` is the one that the job description promises; none for an orphan.
pub(super) fn judge(
    inspection: &mut Inspection,
    dir: &TabletDir,
    loaded: &LoadedTablet,
    version: Option<i64>,
    out: &mut Vec<Finding>,
) -> TabletVerdict {
    let bytes = dir.files.iter().fold(0u64, |sum, f| sum.saturating_add(f.file.entry.size));
    let mut judge = Judge {
        dir,
        loaded,
        wanted: version.is_some(),
        files: &inspection.files,
        out,
        fates: &mut inspection.fates,
        verdict: TabletVerdict { healable: true, rows: loaded.tablet.rows(), bytes, ..TabletVerdict::default() },
        encrypted: false,
    };
    judge.header();
    judge.names();
    judge.chain(version);
    judge.contents();
    judge.verdict
}

impl Judge<'_> {
    fn push(&mut self, finding: Finding) {
        // What belongs to nothing cannot lose anything.
        let severity = if self.wanted { finding.severity } else { finding.severity.min(Severity::Suspect) };
        self.out.push(Finding { severity, ..finding });
    }

    fn header(&mut self) {
        for finding in &self.loaded.findings {
            let lost = finding.severity == Severity::Lost;
            let name = finding.object.clone();
            if lost {
                self.verdict.lost(0, format!("{}: {}", finding.code, finding.summary));
                if self.dir.files.iter().any(|f| f.file.entry.name == name) {
                    self.fates.insert(name, Fate::Damaged);
                }
            } else if finding.severity > Severity::Note {
                self.verdict.problems.push(format!("{}: {}", finding.code, finding.summary));
            }
        }
        let findings = self.loaded.findings.clone();
        let rows = self.verdict.rows;
        for finding in findings {
            let effect =
                if finding.severity == Severity::Lost { finding.effect(rows, self.verdict.bytes) } else { finding };
            self.push(effect);
        }
        if self.loaded.tablet.origin == Origin::Guessed {
            self.verdict.rows = 0;
        }
        if let Some(name) = &self.loaded.reseal {
            self.fates.entry(name.clone()).or_insert(Fate::Keep);
        }
    }

    fn names(&mut self) {
        let files = self.dir.files.clone();
        let mut bases: BTreeMap<&str, Vec<&TabletEntry>> = BTreeMap::new();
        for file in &files {
            bases.entry(&file.file.base).or_default().push(file);
        }
        for (base, list) in bases {
            let finished: Vec<_> = list.iter().filter(|f| f.file.finished()).collect();
            for file in list.iter().filter(|f| !f.file.finished()) {
                self.stray(file, !finished.is_empty());
            }
            if finished.len() > 1 {
                self.same_base(base, &finished);
            }
            for file in &finished {
                if file.kind == TabletFile::Unknown {
                    self.fates.insert(file.file.entry.name.clone(), Fate::Debris);
                    self.push(
                        Finding::new(&codes::FOREIGN_FILE, Severity::Suspect, file.file.entry.name.clone())
                            .summary("the back end refuses this name: \"invalid tablet file name\""),
                    );
                }
            }
        }
    }

    fn stray(&mut self, file: &TabletEntry, beside: bool) {
        let name = file.file.entry.name.clone();
        self.fates.insert(name.clone(), Fate::Debris);
        let finding = match &file.file.ending {
            Ending::Part if beside => Finding::new(&codes::STRAY_PART, Severity::Suspect, name)
                .summary("what a failed upload left; the finished file stands beside it"),
            Ending::Part => Finding::new(&codes::STRAY_PART, Severity::Suspect, name)
                .summary("an upload that did not finish, and no finished file of this name"),
            _ => Finding::new(&codes::FOREIGN_FILE, Severity::Suspect, name)
                .summary("a name without the MD5 that the engine gives every file"),
        };
        self.push(finding);
    }

    fn same_base(&mut self, base: &str, list: &[&&TabletEntry]) {
        let good = |f: &&&TabletEntry| {
            let name = &f.file.entry.name;
            let whole = self.loaded.checked.iter().any(|c| &c.name == name && !c.mismatch && c.md5.is_some());
            whole || self.files.get(name).is_some_and(|s| s.named_right(&f.file))
        };
        let best = list.iter().find(|f| good(f)).or_else(|| list.iter().find(|f| f.file.entry.size > 0));
        let best = best.map(|f| f.file.entry.name.clone()).unwrap_or_default();
        let mut names = Vec::new();
        for file in list {
            let name = &file.file.entry.name;
            if *name != best {
                self.fates.insert(name.clone(), Fate::Debris);
                names.push(name.clone());
            }
        }
        for name in names {
            self.push(
                Finding::new(&codes::SAME_BASE, Severity::Suspect, name)
                    .summary(format!("{base} is there more than once; the back end takes whichever is listed first"))
                    .evidence(Evidence::Witness { object: best.clone(), says: "this is the one that verifies".into() }),
            );
        }
    }

    fn chain(&mut self, version: Option<i64>) {
        let tablet = &self.loaded.tablet;
        let Some(version) = version.filter(|_| tablet.origin != Origin::Guessed) else { return };
        let dir = self.dir.dir.clone();
        if let Some(gap) = tablet.gap.filter(|g| *g <= version) {
            let why = format!("version {gap} is in no rowset");
            self.verdict.lost(0, why.clone());
            self.push(Finding::new(&codes::VERSION_GAP, Severity::Lost, dir).summary(why).evidence(Evidence::value(
                "version",
                tablet.version,
                version,
            )));
        } else if tablet.version < version {
            let why = format!("the rowsets end at version {}, the job description says {version}", tablet.version);
            self.verdict.lost(0, why.clone());
            self.push(Finding::new(&codes::VERSION_GAP, Severity::Lost, dir).summary(why).evidence(Evidence::value(
                "version",
                tablet.version,
                version,
            )));
        }
    }

    fn contents(&mut self) {
        let mut named: BTreeSet<String> = BTreeSet::new();
        let rowsets = self.loaded.tablet.rowsets.clone();
        for rowset in &rowsets {
            self.rowset(rowset, &mut named);
        }
        self.manifest(&named);
        self.unnamed(&named);
    }

    fn rowset(&mut self, rowset: &Rowset, named: &mut BTreeSet<String>) {
        let mut rows = Some(0u64);
        let single = rowset.segments.len() == 1;
        self.encrypted = rowset.encrypted;
        if rowset.encrypted {
            self.push(Finding::new(&codes::ENCRYPTED, Severity::Note, format!("{}/{}", self.dir.dir, rowset.id)));
        }
        for segment in &rowset.segments {
            named.insert(segment.name.clone());
            let Some(file) = self.chosen(&segment.name) else {
                let known = if single { rowset.num_rows.unwrap_or(0) } else { 0 };
                self.missing(&segment.name, known, &codes::SEGMENT_MISSING, "the header names it");
                self.verdict.late = true;
                rows = None;
                continue;
            };
            let of_file = if single { rowset.num_rows } else { None };
            let counted = self.content(&file, of_file, true);
            rows = rows.zip(counted).map(|(a, b)| a.saturating_add(b));
            self.delete_vector(segment.deleted.as_ref().and_then(roaring::RoaringBitmap::max), counted, &file);
            for group in &segment.groups {
                named.insert(group.name.clone());
                match self.chosen(&group.name) {
                    Some(file) => {
                        let _ = self.content(&file, None, true);
                    }
                    None => self.missing(&group.name, 0, &codes::GROUPS_DAMAGED, "a delta column group names it"),
                }
            }
        }
        if let (Some(found), Some(expected), false) = (rows, rowset.num_rows, rowset.segments.is_empty())
            && found != expected
        {
            self.push(
                Finding::new(&codes::ROWS_DISAGREE, Severity::Suspect, self.dir.dir.clone())
                    .summary(format!(
                        "rowset {}: the header counts {expected} rows, its segments hold {found}",
                        rowset.id
                    ))
                    .evidence(Evidence::value("num_rows", found, expected)),
            );
        }
        if self.loaded.tablet.origin == Origin::Guessed {
            self.verdict.rows = self.verdict.rows.saturating_add(rows.unwrap_or(0));
        }
    }

    fn chosen(&self, base: &str) -> Option<TabletEntry> {
        let kept = |f: &&TabletEntry| self.fates.get(&f.file.entry.name) != Some(&Fate::Debris);
        self.dir.finished(base).find(kept).cloned()
    }

    fn missing(&mut self, base: &str, rows: u64, code: &recovery_core::CodeInfo, by: &str) {
        let why = format!("{base} is not there; {by}");
        self.verdict.lost(rows, why.clone());
        self.push(
            Finding::new(code, Severity::Lost, format!("{}/{base}", self.dir.dir))
                .summary(why)
                .evidence(Evidence::Missing { what: base.to_owned() })
                .effect(rows, 0),
        );
    }

    fn delete_vector(&mut self, highest: Option<u32>, rows: Option<u64>, file: &TabletEntry) {
        if let (Some(highest), Some(rows)) = (highest, rows)
            && u64::from(highest) >= rows
        {
            self.verdict.lost(0, format!("{}: a delete vector names row {highest} of {rows}", file.file.base));
            self.push(
                Finding::new(&codes::DELETE_VECTOR, Severity::Lost, file.file.entry.name.clone())
                    .evidence(Evidence::value("highest deleted row", highest, format!("below {rows}"))),
            );
        }
    }

    /// What the pass over a file's bytes means. Gives the rows of a segment that was read.
    fn content(&mut self, file: &TabletEntry, rows: Option<u64>, needed: bool) -> Option<u64> {
        let name = &file.file.entry.name;
        if file.file.entry.size == 0 && needed {
            // Visible without reading.
            let stored = file.file.md5().unwrap_or_default();
            let empty: [u8; 16] = crate::reader::load::md5_of(&[]);
            if stored != empty {
                self.fates.insert(name.clone(), Fate::Damaged);
                self.verdict.lost(rows.unwrap_or(0), format!("{} is empty", file.file.base));
                self.push(
                    Finding::new(&codes::EMPTY_FILE, Severity::Lost, name.clone())
                        .evidence(md5_evidence(&stored, &empty))
                        .effect(rows.unwrap_or(0), 0),
                );
                return None;
            }
        }
        let state = self.files.get(name)?.clone();
        for (at, len, why) in &state.unreadable {
            self.verdict.lost(0, format!("{}: {why}", file.file.base));
            self.push(
                Finding::new(&codes::UNREADABLE, Severity::Lost, name.clone())
                    .at(*at, *len)
                    .summary(why.clone())
                    .effect(0, *len),
            );
        }
        let right = state.named_right(&file.file);
        let whole = state.segment.as_ref().is_some_and(|s| s.whole() && !self.encrypted);
        if let Some(computed) = state.md5.as_deref().and_then(parse_md5)
            && !right
        {
            self.wrong_sum(file, &computed, whole, rows, needed);
        }
        let segment = state.segment.as_ref().filter(|_| !self.encrypted)?;
        self.inside(file, segment, rows, right, needed);
        if let Some(values) = &state.values {
            self.values(file, values, segment.rows, needed);
        }
        segment.rows
    }

    fn wrong_sum(&mut self, file: &TabletEntry, computed: &[u8; 16], whole: bool, rows: Option<u64>, needed: bool) {
        let name = file.file.entry.name.clone();
        let stored = file.file.md5().unwrap_or_default();
        if whole {
            self.fates.insert(name.clone(), Fate::Rename(*computed));
            self.verdict.problems.push(format!("{}: MD5 is not the one in the name, content verifies", file.file.base));
            self.push(
                Finding::new(&codes::MD5_NAME, Severity::Damaged, name).evidence(md5_evidence(&stored, computed)),
            );
            return;
        }
        self.fates.insert(name.clone(), Fate::Damaged);
        let severity = if needed { Severity::Lost } else { Severity::Suspect };
        if needed {
            self.verdict.lost(rows.unwrap_or(0), format!("{}: MD5 is not the one in the name", file.file.base));
        }
        self.push(
            Finding::new(&codes::MD5_MISMATCH, severity, name)
                .at(0, file.file.entry.size)
                .evidence(md5_evidence(&stored, computed))
                .effect(0, file.file.entry.size),
        );
    }

    fn inside(
        &mut self,
        file: &TabletEntry,
        segment: &super::files::SegmentState,
        rows: Option<u64>,
        right: bool,
        needed: bool,
    ) {
        let name = &file.file.entry.name;
        let severity = if needed { Severity::Lost } else { Severity::Suspect };
        if let Some(complaint) = &segment.complaint {
            self.fates.insert(name.clone(), Fate::Damaged);
            if needed {
                self.verdict.lost(rows.unwrap_or(0), format!("{}: {complaint}", file.file.base));
            }
            self.push(
                Finding::new(&codes::FOOTER_DAMAGED, severity, name.clone())
                    .at(file.file.entry.size.saturating_sub(12), 12.min(file.file.entry.size))
                    .summary(complaint.clone())
                    .effect(rows.unwrap_or(0), file.file.entry.size),
            );
        }
        for lost in &segment.lost_columns {
            let lost = &self.named(lost);
            self.fates.insert(name.clone(), Fate::Damaged);
            self.verdict.lost(0, format!("{}: {lost}", file.file.base));
            self.push(Finding::new(&codes::PAGE_DAMAGED, severity, name.clone()).summary(lost.clone()));
        }
        for page in &segment.bad {
            self.fates.insert(name.clone(), Fate::Damaged);
            let count = page.rows.map_or(0, |r| r.1);
            let place = page.rows.map_or_else(String::new, |(first, n)| {
                format!(", rows {first} to {}", first.saturating_add(n.saturating_sub(1)))
            });
            let origin = if right { "; the MD5 is right, so the replica was damaged before the backup" } else { "" };
            let summary = format!("{}{place}: page CRC is wrong{origin}", self.named(&page.what));
            if needed {
                self.verdict.lost(count, format!("{}: {summary}", file.file.base));
            }
            self.push(
                Finding::new(
                    &codes::PAGE_DAMAGED,
                    if page.data { severity } else { severity.min(Severity::Damaged) },
                    name.clone(),
                )
                .at(page.offset, page.size)
                .summary(summary)
                .evidence(Evidence::checksum("crc32c", page.stored, page.computed))
                .effect(count, page.size),
            );
        }
    }

    /// Level 7.
    fn values(&mut self, file: &TabletEntry, values: &super::files::Values, rows: Option<u64>, needed: bool) {
        let name = &file.file.entry.name;
        let severity = if needed { Severity::Lost } else { Severity::Suspect };
        for (column, why) in &values.faults {
            self.fates.insert(name.clone(), Fate::Damaged);
            let summary = format!("column {column:?}: {why}");
            if needed {
                self.verdict.lost(rows.unwrap_or(0), format!("{}: {summary}", file.file.base));
            }
            self.push(
                Finding::new(&codes::VALUES_DAMAGED, severity, name.clone())
                    .summary(summary)
                    .effect(rows.unwrap_or(0), 0),
            );
        }
        if values.unsorted > 0 {
            self.push(
                Finding::new(&codes::UNSORTED, Severity::Damaged, name.clone())
                    .summary(format!("{} rows have a smaller key than the row before", values.unsorted)),
            );
        }
        if !values.unknown.is_empty() {
            self.push(
                Finding::new(&codes::NOT_DECODED, Severity::Note, name.clone())
                    .summary(format!("columns {} were not decoded: their pages verify", values.unknown.join(", "))),
            );
        }
    }

    /// Names a column that is told by its unique id.
    fn named(&self, text: &str) -> String {
        let parts = text.strip_prefix("column ").and_then(|t| t.split_once(','));
        let Some((id, rest)) = parts.and_then(|(id, rest)| Some((id.parse::<i64>().ok()?, rest))) else {
            return text.to_owned();
        };
        let own = self.loaded.tablet.rowsets.iter().filter_map(|r| r.schema.as_ref());
        let mut columns = self.loaded.tablet.schema.iter().chain(own).flat_map(|s| &s.columns);
        columns.find(|c| c.unique_id == id).map_or_else(|| text.to_owned(), |c| format!("column {:?},{rest}", c.name))
    }

    fn manifest(&mut self, named: &BTreeSet<String>) {
        let Some(list) = &self.loaded.manifest else { return };
        for name in list.clone() {
            if self.chosen(&name).is_none() && !named.contains(&name) {
                self.missing(&name, 0, &codes::MANIFEST_MISSING, "the tablet's manifest names it");
            }
        }
    }

    /// Files that the header does not name.
    fn unnamed(&mut self, named: &BTreeSet<String>) {
        if self.loaded.tablet.origin == Origin::Guessed {
            return;
        }
        for file in self.dir.files.clone() {
            let name = &file.file.entry.name;
            let known = named.contains(&file.file.base)
                || self.fates.get(name) == Some(&Fate::Debris)
                || self.loaded.checked.iter().any(|c| &c.name == name)
                || !file.file.finished();
            if known {
                continue;
            }
            match file.kind {
                TabletFile::Segment { .. } | TabletFile::Columns { .. } => {
                    self.push(Finding::new(&codes::UNREFERENCED, Severity::Note, name.clone()));
                    let _ = self.content(&file, None, false);
                }
                _ => {
                    let _ = self.content(&file, None, true);
                }
            }
        }
    }
}

//! What other copies of the repository (`--also`, or further paths) hold in place of what one copy lost.
//!
//! The MD5 in a file's name says what its content must be, so a file of another copy that has the right name and the
//! right sum is as good as the lost one. Which files a tablet needs follows from its header; a header, a job
//! description or table definitions that are lost come from the other copy, too. A snapshot that only another copy has
//! is taken whole. Files that nothing here needs are not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use recovery_core::{Check, Context, Entry, Evidence, Finding, Result, Severity, Source, parallel};

use super::files::{self, FileState, Job};
use super::{Fate, Inspection};
use crate::codes;
use crate::format::names::TabletFile;
use crate::model::repository::{Named, TabletDir};
use crate::model::tablet::{Origin, Tablet};
use crate::reader::load::{InfoOrigin, Loaded, LoadedSnapshot, LoadedTablet};
use crate::reader::overlay::{Overlay, Taken};

/// Another copy.
pub(super) struct Donor {
    pub(super) number: u16,
    pub(super) source: Arc<dyn Source>,
    pub(super) loaded: Arc<Loaded>,
}

/// What was found in other copies.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) taken: BTreeMap<String, Taken>,
    pub(super) hidden: BTreeSet<String>,
    /// What reading the taken files showed.
    pub(super) states: BTreeMap<String, FileState>,
    /// Labels that only another copy has.
    pub(super) labels: BTreeMap<String, u16>,
}

impl Found {
    pub(super) fn overlay(&self, base: &Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(Overlay::new(Arc::clone(base), self.taken.clone(), self.hidden.clone()))
    }

    /// One finding for each file that is taken.
    pub(super) fn findings(&self, number: u16) -> Vec<Finding> {
        let mut out = Vec::new();
        for (name, taken) in &self.taken {
            let place = taken.source.describe();
            let says = if self.states.get(name).is_some_and(|s| s.md5.is_some()) {
                "its content has the MD5 in its name"
            } else {
                "it is there under its name"
            };
            let whole = self.labels.keys().any(|l| below_label(name, l));
            let (code, severity) =
                if whole { (&codes::ONLY_ELSEWHERE, Severity::Suspect) } else { (&codes::HEALED, Severity::Damaged) };
            let witness = Evidence::Witness { object: format!("{place}: {}", taken.entry.name), says: says.to_owned() };
            out.push(
                Finding::new(code, severity, name.clone())
                    .source(number)
                    .summary(format!("taken from source {}, {place}", taken.number))
                    .evidence(witness),
            );
        }
        out
    }
}

fn below_label(name: &str, label: &str) -> bool {
    name.split('/').any(|part| crate::format::names::label(part) == Some(label))
}

/// A file that is needed, and the copies of it.
struct Need {
    name: String,
    /// Own files that it replaces.
    replaces: Vec<String>,
    copies: Vec<(usize, Named, bool)>,
}

struct Finder<'a> {
    own: &'a Inspection,
    donors: &'a [Donor],
    found: Found,
    needs: Vec<Need>,
}

/// Looks for everything one copy lost in the others.
///
/// # Errors
///
/// When the caller asked to stop, or a store stopped answering.
pub(super) fn find(own: &Inspection, donors: &[Donor], wanted: &[String], cx: &Context) -> Result<Found> {
    let mut finder = Finder { own, donors, found: Found::default(), needs: Vec::new() };
    finder.repository();
    let all = donors.iter().flat_map(|d| d.loaded.snapshots.iter()).chain(own.loaded.snapshots.iter());
    let labels: BTreeSet<&str> = all.map(|s| s.label.as_str()).collect();
    for label in labels.into_iter().filter(|l| wanted.is_empty() || wanted.iter().any(|w| w == l)) {
        finder.label(label);
    }
    finder.verify(cx)?;
    Ok(finder.found)
}

fn snapshot<'a>(loaded: &'a Loaded, label: &str) -> Option<&'a LoadedSnapshot> {
    loaded.snapshots.iter().find(|s| s.label == label).map(AsRef::as_ref)
}

/// Whether a tablet's own description can be relied on.
fn described(tablet: &LoadedTablet, version: i64) -> bool {
    tablet.tablet.origin != Origin::Guessed
        && tablet.findings.iter().all(|f| f.severity <= Severity::Suspect || !about_header(&f.object))
        && tablet.reseal.is_none()
        && tablet.tablet.gap.is_none_or(|g| g > version)
        && tablet.tablet.version >= version
}

/// Whether a finding's object is a header, or a tablet's directory as one without header is reported.
fn about_header(object: &str) -> bool {
    let file = object.rsplit('/').next().unwrap_or(object);
    let base = file.rsplit_once('.').map_or(file, |(base, _)| base);
    file.starts_with("__") || is_header(&TabletFile::parse(base))
}

fn is_header(kind: &TabletFile) -> bool {
    matches!(kind, TabletFile::Header(_) | TabletFile::PrimaryMeta)
}

impl Finder<'_> {
    /// A name of another copy as it is called here.
    fn here(&self, donor: usize, name: &str) -> String {
        let base = self.donors.get(donor).map_or("", |d| d.loaded.repository.listing.base.as_str());
        let below =
            if base.is_empty() { name } else { name.strip_prefix(base).map_or(name, |n| n.trim_start_matches('/')) };
        let own = &self.own.loaded.repository.listing.base;
        if own.is_empty() { below.to_owned() } else { format!("{own}/{below}") }
    }

    fn take(&mut self, donor: usize, name: String, entry: &Entry) {
        let Some(from) = self.donors.get(donor) else { return };
        let taken = Taken { number: from.number, source: Arc::clone(&from.source), entry: entry.clone() };
        self.found.taken.insert(name, taken);
    }

    fn repository(&mut self) {
        if self.own.loaded.repo_info.is_some() {
            return;
        }
        let good = self.donors.iter().position(|d| d.loaded.repo_info.is_some());
        let entry = good.and_then(|d| self.donors.get(d)?.loaded.repository.listing.repo_info.clone());
        if let (Some(donor), Some(entry)) = (good, entry) {
            self.take(donor, self.here(donor, &entry.name), &entry);
        }
    }

    fn label(&mut self, label: &str) {
        let own = self.own;
        let snap = snapshot(&own.loaded, label);
        let finished = |s: &LoadedSnapshot| s.infos.iter().any(|i| i.origin == InfoOrigin::File);
        if snap.is_none() {
            let from = self.donors.iter().find(|d| snapshot(&d.loaded, label).is_some_and(finished));
            // What nobody finished is nobody's snapshot.
            let Some(from) = from else { return };
            self.found.labels.insert(label.to_owned(), from.number);
        }
        self.descriptions(label, snap);
        self.definitions(label, snap);
        let wanted = self.wanted(label, snap);
        let mut ids: BTreeSet<i64> = wanted.keys().copied().collect();
        if wanted.is_empty() {
            // No description anywhere: every tablet that somebody has.
            let all = self.donors.iter().filter_map(|d| snapshot(&d.loaded, label)).chain(snap);
            ids.extend(all.flat_map(|s| s.by_id.keys().copied()));
        }
        for id in ids {
            self.tablet(label, snap, id, wanted.get(&id).copied().unwrap_or(0));
        }
    }

    /// Job descriptions that are missing or not right here.
    fn descriptions(&mut self, label: &str, snap: Option<&LoadedSnapshot>) {
        let good = |s: &LoadedSnapshot| {
            let of = s.infos.iter().filter(|i| i.origin == InfoOrigin::File && i.info.name == s.label);
            of.filter_map(|i| Some((i.timestamp.clone(), i.file.clone()?))).collect::<Vec<_>>()
        };
        let own = snap.map(good).unwrap_or_default();
        let bad: Vec<String> = snap
            .iter()
            .flat_map(|s| &s.infos)
            .filter(|i| i.origin != InfoOrigin::File && i.file.is_some())
            .map(|i| i.timestamp.clone())
            .collect();
        for donor in 0..self.donors.len() {
            let theirs = self.donors.get(donor).and_then(|d| snapshot(&d.loaded, label)).map(good).unwrap_or_default();
            let useful: Vec<_> = theirs.into_iter().filter(|(time, _)| own.is_empty() || bad.contains(time)).collect();
            if useful.is_empty() {
                continue;
            }
            for (time, file) in useful {
                self.hide_description(label, if own.is_empty() { None } else { Some(&time) });
                self.take(donor, self.here(donor, &file.entry.name), &file.entry);
            }
            return;
        }
    }

    fn hide_description(&mut self, label: &str, time: Option<&str>) {
        let Some(dir) = self.own.loaded.repository.listing.snapshots.get(label) else { return };
        let gone = dir.infos.iter().filter(|i| time.is_none_or(|t| i.base == t));
        self.found.hidden.extend(gone.map(|i| i.entry.name.clone()));
    }

    fn definitions(&mut self, label: &str, snap: Option<&LoadedSnapshot>) {
        if snap.and_then(|s| s.meta.as_ref()).is_some_and(|m| !m.doubtful) {
            return;
        }
        let of = |d: &Donor| Some(snapshot(&d.loaded, label)?.meta.as_ref().filter(|m| !m.doubtful)?.file.clone());
        let found = self.donors.iter().enumerate().find_map(|(i, d)| Some((i, of(d)?)));
        let Some((donor, file)) = found else { return };
        if let Some(dir) = self.own.loaded.repository.listing.snapshots.get(label) {
            self.found.hidden.extend(dir.metas.iter().map(|m| m.entry.name.clone()));
        }
        self.take(donor, self.here(donor, &file.entry.name), &file.entry);
    }

    /// The tablets of the snapshot and the version each must reach.
    fn wanted(&self, label: &str, snap: Option<&LoadedSnapshot>) -> BTreeMap<i64, i64> {
        let all = snap.into_iter().chain(self.donors.iter().filter_map(|d| snapshot(&d.loaded, label)));
        let mut out = BTreeMap::new();
        for snapshot in all {
            let infos = snapshot.infos.iter().filter(|i| i.origin != InfoOrigin::Rebuilt);
            for physical in infos.flat_map(|i| &i.info.tables).flat_map(|t| &t.partitions).flat_map(|p| &p.physical) {
                for tablet in physical.indexes.iter().flat_map(|i| &i.tablets) {
                    out.entry(tablet.id).or_insert(physical.version);
                }
            }
            if !out.is_empty() {
                break;
            }
        }
        out
    }

    fn tablet(&mut self, label: &str, snap: Option<&LoadedSnapshot>, id: i64, version: i64) {
        let find = |loaded: &Loaded| -> Option<(TabletDir, Arc<LoadedTablet>)> {
            let snapshot = snapshot(loaded, label)?;
            let path = snapshot.by_id.get(&id)?;
            let dir = loaded.repository.listing.snapshots.get(label)?.tablets.get(path)?;
            Some((dir.clone(), Arc::clone(snapshot.tablets.get(path)?)))
        };
        let own = snap.and_then(|_| find(&self.own.loaded));
        let theirs: Vec<_> = self.donors.iter().enumerate().filter_map(|(i, d)| Some((i, find(&d.loaded)?))).collect();
        if theirs.is_empty() {
            return;
        }
        let own_good = own.as_ref().is_some_and(|(_, t)| described(t, version));
        let mut header = None;
        if !own_good {
            header = theirs.iter().find(|(_, (_, t))| described(t, version));
            if let Some((donor, (dir, tablet))) = header {
                self.header(*donor, dir, tablet, own.as_ref().map(|o| &o.0));
            }
        }
        let reference = if own_good { own.as_ref().map(|o| &o.1) } else { header.map(|(_, (_, t))| t) };
        let mut bases = reference.map(|t| needed(&t.tablet)).unwrap_or_default();
        bases.extend(reference.and_then(|t| t.manifest.clone()).unwrap_or_default());
        for (_, (dir, _)) in &theirs {
            let groups = |k: &TabletFile| matches!(k, TabletFile::ColumnGroups(_) | TabletFile::Index);
            let more = dir.files.iter().filter(|f| f.file.finished() && (groups(&f.kind) || reference.is_none()));
            bases.extend(more.filter(|f| !is_header(&f.kind)).map(|f| f.file.base.clone()));
        }
        for base in bases.iter().filter(|b| !is_header(&TabletFile::parse(b))) {
            self.file(base, own.as_ref(), &theirs);
        }
    }

    fn header(&mut self, donor: usize, dir: &TabletDir, tablet: &LoadedTablet, own: Option<&TabletDir>) {
        let right = |name: &str| tablet.checked.iter().any(|c| c.name == name && c.md5.is_some() && !c.mismatch);
        let Some(file) = dir.files.iter().find(|f| is_header(&f.kind) && right(&f.file.entry.name)) else { return };
        if let Some(own) = own {
            let gone = own.files.iter().filter(|f| is_header(&f.kind));
            self.found.hidden.extend(gone.map(|f| f.file.entry.name.clone()));
        }
        let name = self.moved(own, donor, file.file.entry.name.as_str());
        self.take(donor, name, &file.file.entry);
        if let (Some(entry), None) = (&dir.manifest, own.and_then(|o| o.manifest.as_ref())) {
            self.take(donor, self.moved(own, donor, &entry.name), entry);
        }
    }

    /// The directory may be called otherwise here: the physical partition's id changed its meaning between releases.
    fn moved(&self, own: Option<&TabletDir>, donor: usize, name: &str) -> String {
        let file = name.rsplit('/').next().unwrap_or(name);
        own.map_or_else(|| self.here(donor, name), |own| format!("{}/{file}", own.dir))
    }

    fn file(
        &mut self,
        base: &str,
        own: Option<&(TabletDir, Arc<LoadedTablet>)>,
        theirs: &[(usize, (TabletDir, Arc<LoadedTablet>))],
    ) {
        let mine: Vec<_> = own.iter().flat_map(|o| o.0.finished(base)).collect();
        let good = |name: &str, size: u64| {
            let fate = self.own.fates.get(name).copied().unwrap_or(Fate::Keep);
            let checked = own.and_then(|o| o.1.checked.iter().find(|c| c.name == name));
            let unread = self.own.files.get(name).is_some_and(|s| !s.unreadable.is_empty());
            let fine = checked.is_none_or(|c| c.md5.is_some() && !c.mismatch);
            matches!(fate, Fate::Keep | Fate::Rename(_)) && fine && !unread && size > 0
        };
        if mine.iter().any(|f| good(&f.file.entry.name, f.file.entry.size)) {
            return;
        }
        let mut copies = Vec::new();
        for (donor, (dir, _)) in theirs {
            for file in dir.finished(base).filter(|f| f.file.entry.size > 0) {
                let segment = matches!(file.kind, TabletFile::Segment { .. } | TabletFile::Columns { .. });
                copies.push((*donor, file.file.clone(), segment));
            }
        }
        let Some((donor, first, _)) = copies.first() else { return };
        let name = self.moved(own.map(|o| &o.0), *donor, &first.entry.name);
        let replaces = mine.iter().map(|f| f.file.entry.name.clone()).collect();
        self.needs.push(Need { name, replaces, copies });
    }

    /// Reads the copies; the first that is right is taken.
    fn verify(&mut self, cx: &Context) -> Result<()> {
        let needs = std::mem::take(&mut self.needs);
        let donors = self.donors;
        let chosen = parallel::map(cx, &needs, |_, need| -> Result<Option<(usize, Named, FileState)>> {
            for (donor, file, segment) in &need.copies {
                let Some(from) = donors.get(*donor) else { continue };
                if cx.check == Check::Structure {
                    return Ok(Some((*donor, file.clone(), FileState::default())));
                }
                let job = Job { file: file.clone(), segment: *segment, values: None };
                let state = files::check(from.source.as_ref(), &job, cx)?;
                if state.named_right(file) && state.unreadable.is_empty() {
                    return Ok(Some((*donor, file.clone(), state)));
                }
            }
            Ok(None)
        })?;
        for (need, chosen) in needs.into_iter().zip(chosen) {
            let Some((donor, file, state)) = chosen? else { continue };
            let dir = need.name.rsplit_once('/').map_or("", |(dir, _)| dir);
            let name = format!("{dir}/{}", file.entry.file_name());
            self.found.hidden.extend(need.replaces);
            if cx.check == Check::Full {
                self.found.states.insert(name.clone(), state);
            }
            self.take(donor, name, &file.entry);
        }
        Ok(())
    }
}

/// Base names of the files that a tablet's rows stand in.
fn needed(tablet: &Tablet) -> BTreeSet<String> {
    let segments = tablet.rowsets.iter().flat_map(|r| &r.segments);
    let names = segments.flat_map(|s| std::iter::once(&s.name).chain(s.groups.iter().map(|g| &g.name)));
    names.cloned().collect()
}

/// Findings of one copy that are gone in the healed whole: kept, with what they cost now.
pub(super) fn settled(before: Vec<Finding>, after: &[Finding]) -> Vec<Finding> {
    let same = |a: &Finding, b: &Finding| a.code == b.code && a.object == b.object && a.offset == b.offset;
    let gone = before.into_iter().filter(|f| f.severity > Severity::Note && !after.iter().any(|g| same(f, g)));
    gone.map(|f| {
        let summary = format!("{}; healed by another copy", f.summary);
        Finding { severity: f.severity.min(Severity::Damaged), ..f }.summary(summary).effect(0, 0)
    })
    .collect()
}

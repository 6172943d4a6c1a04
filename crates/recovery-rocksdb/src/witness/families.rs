//! Families: never lost, never brought back when dropped.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Evidence, Finding, Severity};

use super::resolved::{Resolved, ResolvedFamily, Trust};
use crate::codes;
use crate::format::key::KeyOrder;
use crate::format::properties::UNKNOWN_FAMILY;
use crate::inspect::gather::Gathered;

/// Levels where OPTIONS say nothing.
const DEFAULT_LEVELS: u32 = 7;

struct Names<'a> {
    g: &'a Gathered,
    by_id: BTreeMap<u32, (Vec<u8>, String)>,
    dropped: BTreeMap<u32, String>,
}

impl Names<'_> {
    fn add(&mut self, id: u32, name: &[u8], from: &str) {
        if !self.dropped.contains_key(&id) {
            self.by_id.entry(id).or_insert_with(|| (name.to_vec(), from.to_owned()));
        }
    }

    /// Ids that tables or WALs use.
    fn used(&self) -> BTreeSet<u32> {
        let tables = self.g.tables.values().filter_map(|t| t.properties.as_ref()?.family_id);
        let wals = self.g.wals.values().flat_map(|w| w.families.keys().copied());
        tables.filter(|id| *id != UNKNOWN_FAMILY).chain(wals).filter(|id| !self.dropped.contains_key(id)).collect()
    }

    /// Names of OPTIONS stand in the order of ids. Between two families whose place is known, unknown names and unknown
    /// ids that are equally many belong together.
    fn add_options(&mut self, ids: &BTreeSet<u32>) {
        let Some((number, options)) = self.g.options.last_key_value() else { return };
        let from = format!("OPTIONS-{number:06}");
        let names: Vec<&str> = options.families().filter_map(|s| s.name.as_deref()).collect();
        let known: BTreeMap<&[u8], u32> = self.by_id.iter().map(|(id, (n, _))| (n.as_slice(), *id)).collect();
        let mut gaps: Vec<(u32, u32, Vec<&str>)> = Vec::new();
        let (mut low, mut open) = (0u32, Vec::new());
        for name in &names {
            match known.get(name.as_bytes()) {
                Some(id) => {
                    gaps.push((low, *id, std::mem::take(&mut open)));
                    low = id.saturating_add(1);
                }
                None => open.push(*name),
            }
        }
        gaps.push((low, u32::MAX, open));
        let mut found = Vec::new();
        for (low, high, names) in gaps {
            let unknown: Vec<u32> =
                ids.range(low..high.max(low)).filter(|id| !self.by_id.contains_key(id)).copied().collect();
            let exact = high != u32::MAX && u64::from(high.saturating_sub(low)) == names.len() as u64;
            if exact {
                // Every id of the gap has a name: nothing was dropped there.
                found.extend((low..high).zip(names));
            } else if unknown.len() == names.len() {
                found.extend(unknown.into_iter().zip(names));
            } else if high == u32::MAX
                && self.dropped.is_empty()
                && unknown.iter().all(|id| u64::from(*id) < u64::from(low).saturating_add(names.len() as u64))
            {
                // The newest families: without drops their ids follow each other.
                found.extend((low..).zip(names));
            }
        }
        for (id, name) in found {
            self.add(id, name.as_bytes(), &from);
        }
    }
}

fn comparator(g: &Gathered, out: &mut Resolved, id: u32, name: &[u8]) -> Option<String> {
    let mut says: Vec<(String, String)> = Vec::new();
    let mut add = |from: String, comparator: &str| {
        if !comparator.is_empty() && comparator != "nullptr" && !says.iter().any(|(_, c)| c == comparator) {
            says.push((from, comparator.to_owned()));
        }
    };
    if let Some(c) = out.version.families.get(&id).and_then(|f| f.comparator.as_deref()) {
        add("MANIFEST".to_owned(), &String::from_utf8_lossy(c));
    }
    for table in g.tables.values() {
        let Some(p) = &table.properties else { continue };
        if p.family_id == Some(id)
            && let Some(c) = &p.comparator
        {
            add(table.object.clone(), c);
        }
    }
    for table in g.log.tables.values().filter_map(|t| t.creation.as_ref()) {
        if table.family_id == Some(id)
            && table.family.as_bytes() == name
            && let Some(c) = &table.comparator
        {
            add("LOG".to_owned(), c);
        }
    }
    if let (Some(options), Ok(name)) = (g.newest_options(), std::str::from_utf8(name))
        && let Some(c) = options.family(name).and_then(|s| s.get("comparator"))
    {
        add("OPTIONS".to_owned(), c);
    }
    if says.len() > 1 {
        let mut finding = Finding::new(&codes::CONTRADICTION, Severity::Suspect, String::from_utf8_lossy(name))
            .summary(format!("the witnesses name different comparators for family {id}; the first is used"));
        for (object, says) in &says {
            finding = finding.evidence(Evidence::Witness { object: object.clone(), says: says.clone() });
        }
        out.findings.push(finding);
    }
    says.into_iter().next().map(|(_, c)| c)
}

/// A family that the info log saw created, that is not dropped, and of which a MANIFEST said to be whole has never heard.
#[must_use]
pub fn ends_early(g: &Gathered, version: &crate::model::version::Version) -> Option<(u32, String, String)> {
    let known =
        |id: &u32| version.families.contains_key(id) || version.dropped.contains_key(id) || g.log.dropped.contains(id);
    let unknown = g.log.families.iter().find(|(id, _)| **id > version.max_family && !known(id));
    unknown.map(|(id, (name, from))| (*id, name.clone(), from.clone()))
}

/// Families that the newest OPTIONS no longer name. Creating and dropping a family both write OPTIONS, so a family that
/// is older than that file and not in it was dropped, also when the info log's last lines never reached the disk.
fn dropped_by_options(g: &Gathered, known: &BTreeMap<u32, (Vec<u8>, String)>) -> Vec<(u32, String)> {
    let Some((number, options)) = g.options.last_key_value() else { return Vec::new() };
    let named: BTreeSet<&[u8]> = options.families().filter_map(|s| s.name.as_deref()).map(str::as_bytes).collect();
    let complete = options.bad_lines.is_empty()
        && named.contains(b"default".as_slice())
        && options.families().count()
            == options.sections.iter().filter(|s| s.kind.starts_with("TableOptions/")).count();
    if !complete {
        return Vec::new();
    }
    let older = |id: u32| {
        let of =
            |t: &&crate::inspect::tables::TableFacts| t.properties.as_ref().is_some_and(|p| p.family_id == Some(id));
        let tables = g.tables.iter().filter(|(_, t)| of(t)).map(|(n, _)| *n);
        let wals = g.wals.iter().filter(|(_, w)| w.families.contains_key(&id)).map(|(n, _)| *n);
        tables.chain(wals).max().is_some_and(|newest| newest < *number)
    };
    let gone = known.iter().filter(|(id, (name, _))| **id != 0 && !named.contains(name.as_slice()) && older(**id));
    gone.map(|(id, (name, _))| (*id, String::from_utf8_lossy(name).into_owned())).collect()
}

/// Fills `out.families` and `out.dropped`.
pub fn resolve(g: &Gathered, out: &mut Resolved, overrides: &BTreeMap<u32, String>) {
    let mut names = Names { g, by_id: BTreeMap::new(), dropped: BTreeMap::new() };
    for (id, name) in &out.version.dropped {
        names.dropped.insert(*id, String::from_utf8_lossy(name).into_owned());
    }
    let base = out.base.map(crate::format::file_name::manifest).unwrap_or_default();
    if out.trust != Trust::None {
        for (id, family) in &out.version.families {
            if !out.version.unannounced.contains(id) {
                names.add(*id, &family.name, &base);
            }
        }
    }
    if out.trust != Trust::Whole {
        for id in &g.log.dropped {
            let name = g.log.families.get(id).map(|(n, _)| n.clone()).unwrap_or_default();
            names.by_id.remove(id);
            names.dropped.insert(*id, name);
        }
        for (id, (name, from)) in &g.log.families {
            names.add(*id, name.as_bytes(), from);
        }
        for table in g.tables.values() {
            let Some(p) = &table.properties else { continue };
            if let (Some(id), Some(name)) = (p.family_id.filter(|id| *id != UNKNOWN_FAMILY), &p.family_name) {
                names.add(id, name.as_bytes(), &table.object);
            }
        }
        names.add(0, b"default", "family 0 is always default");
        for (id, name) in dropped_by_options(g, &names.by_id) {
            names.by_id.remove(&id);
            out.findings.push(
                Finding::new(&codes::FAMILY_DROPPED, Severity::Suspect, name.clone())
                    .summary(format!("family {id} is older than the newest OPTIONS and not named there: it was dropped, its tables are left out")),
            );
            names.dropped.insert(id, name);
        }
        let ids = names.used();
        names.add_options(&ids);
    } else {
        // Ids that a whole MANIFEST does not know and has given out are dropped families.
        let gone: Vec<u32> = names
            .used()
            .into_iter()
            .filter(|id| !names.by_id.contains_key(id) && *id <= out.version.max_family)
            .collect();
        for id in gone {
            names.dropped.insert(id, String::new());
        }
    }
    let mut made_up = BTreeSet::new();
    for id in names.used() {
        if !names.by_id.contains_key(&id) {
            made_up.insert(id);
            names.add(id, format!("recovered_cf_{id}").as_bytes(), "no witness names it");
        }
    }
    for (id, name) in overrides {
        if let Some(entry) = names.by_id.get_mut(id) {
            *entry = (name.as_bytes().to_vec(), "--name-family".to_owned());
            made_up.remove(id);
        }
    }
    out.dropped = names.dropped;
    for (id, (name, from)) in names.by_id {
        let shown = String::from_utf8_lossy(&name).into_owned();
        if out.trust != Trust::Whole {
            out.claim(format!("family {id} is {shown:?}"), from);
        }
        if made_up.contains(&id) {
            out.findings.push(Finding::new(&codes::UNNAMED_FAMILY, Severity::Suspect, shown.clone()).summary(format!(
                "no witness names family {id}; it gets the name {shown} unless --name-family {id}=NAME says otherwise"
            )));
        }
        let comparator = comparator(g, out, id, &name);
        let of_version = out.version.families.get(&id);
        let section = g.newest_options().and_then(|o| o.family(&shown));
        let levels = section.and_then(|s| s.get("num_levels")?.parse().ok()).filter(|n| (1..=64).contains(n));
        let fifo = section.and_then(|s| s.get("compaction_style")) == Some("kCompactionStyleFIFO");
        let family = ResolvedFamily {
            id,
            unnamed: made_up.contains(&id),
            order: comparator.as_deref().map_or(Some(KeyOrder::Bytewise), KeyOrder::by_name),
            comparator,
            log_number: of_version.map_or(0, |f| f.log_number),
            levels: if fifo { 1 } else { levels.unwrap_or(DEFAULT_LEVELS) },
            persist_timestamps: of_version.and_then(|f| f.persist_timestamps.clone()),
            history_low: of_version.and_then(|f| f.history_low.clone()),
            name,
            ..ResolvedFamily::default()
        };
        out.families.insert(id, family);
    }
}

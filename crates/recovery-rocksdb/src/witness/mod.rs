//! Merges the witnesses into one version: MANIFEST, info log, table properties, OPTIONS, WALs, file numbers.
//!
//! A whole MANIFEST is authoritative. Where it is damaged, cut or gone, each fact comes from the next best witness and
//! carries the witness's name; contradictions become findings, never silent choices.

pub mod families;
pub mod log_numbers;
pub mod log_state;
pub mod resolved;
pub mod sequence;
pub mod tables;

pub use resolved::{
    BlobEntry, Claim, Class, LiveTable, Resolved, ResolvedFamily, Trust, pad_timestamp, strip_timestamp,
};

use recovery_core::{Evidence, Finding, Severity};

use crate::codes;
use crate::inspect::gather::{CurrentState, Gathered};
use crate::model::version::Version;

/// The MANIFEST to start from: the one `CURRENT` names, else the newest that holds any record.
#[must_use]
pub fn base_manifest(g: &Gathered) -> Option<u64> {
    let usable = |n: &u64| g.manifests.get(n).is_some_and(|m| m.records > 0);
    if let CurrentState::Names(n) = g.current
        && usable(&n)
    {
        return Some(n);
    }
    g.manifests.keys().rev().copied().find(usable)
}

/// Merges everything that was gathered.
#[must_use]
pub fn resolve(g: &Gathered, names: &std::collections::BTreeMap<u32, String>) -> Resolved {
    resolve_with(g, names, &std::collections::BTreeMap::new())
}

/// As [`resolve`]; `tables` gives families to tables that no witness gives one.
#[must_use]
pub fn resolve_with(
    g: &Gathered,
    names: &std::collections::BTreeMap<u32, String>,
    tables: &std::collections::BTreeMap<u64, String>,
) -> Resolved {
    let base = base_manifest(g);
    let manifest = base.and_then(|n| g.manifests.get(&n));
    let mut out = Resolved {
        base,
        version: manifest.map_or_else(Version::new, |m| m.version.clone()),
        trust: match manifest {
            None => Trust::None,
            Some(m) if m.is_whole() && m.opens() => Trust::Whole,
            Some(_) => Trust::Partial,
        },
        ..Resolved::default()
    };
    if out.trust == Trust::Whole
        && let Some(number) = tables::ends_early(g, &out.version)
    {
        out.trust = Trust::Partial;
        let object = base.map(crate::format::file_name::manifest).unwrap_or_default();
        let says = format!("{} was installed and is still there", crate::format::file_name::table(number));
        out.findings.push(
            Finding::new(&codes::MANIFEST_ENDS_EARLY, Severity::Suspect, object)
                .summary("the MANIFEST ends before the last installed table: records at its end are missing")
                .evidence(Evidence::Witness {
                    object: g.log.tables.get(&number).map_or_else(|| "file".to_owned(), |t| t.witness.clone()),
                    says,
                }),
        );
    }
    if out.trust == Trust::Whole
        && let Some((id, name, witness)) = families::ends_early(g, &out.version)
    {
        out.trust = Trust::Partial;
        let object = base.map(crate::format::file_name::manifest).unwrap_or_default();
        out.findings.push(
            Finding::new(&codes::MANIFEST_ENDS_EARLY, Severity::Suspect, object)
                .summary(format!(
                    "the MANIFEST ends before family {id} ({name}) was created: records at its end are missing"
                ))
                .evidence(Evidence::Witness { object: witness, says: format!("created family {id}") }),
        );
    }
    if out.trust != Trust::Whole
        && let Some(m) = manifest
    {
        // The files of a cut atomic group are real when they are there; the group's other members come from the log.
        for edit in &m.void_group {
            out.version.apply(edit);
        }
    }
    out.db_id = database_id(g, &out.version);
    families::resolve(g, &mut out, names);
    tables::resolve(g, tables, &mut out);
    sequence::resolve(g, &mut out);
    log_numbers::resolve(g, &mut out);
    out
}

fn database_id(g: &Gathered, version: &Version) -> Option<String> {
    let manifest = version.db_id.as_deref().map(|b| String::from_utf8_lossy(b).into_owned());
    let properties = || {
        let mut counts = std::collections::BTreeMap::new();
        for id in g.tables.values().filter_map(|t| t.properties.as_ref()?.db_id.clone()) {
            let n: &mut u64 = counts.entry(id).or_default();
            *n = n.saturating_add(1);
        }
        counts.into_iter().max_by_key(|(_, n)| *n).map(|(id, _)| id)
    };
    manifest
        .or_else(|| g.identity.clone())
        .or_else(|| g.log.db_id.clone())
        .or_else(properties)
        .filter(|id| !id.is_empty())
}

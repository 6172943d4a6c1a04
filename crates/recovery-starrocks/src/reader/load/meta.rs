//! Picks the right `__meta` of a snapshot.

use recovery_core::{Context, Evidence, Finding, Severity, Source};

use super::{LoadedMeta, LoadedSnapshot, md5_evidence, read_named, unreadable};
use crate::codes;
use crate::format::meta_binary;
use crate::format::meta_json::Meta;
use crate::model::repository::{Named, SnapshotDir};

struct Candidate {
    file: Named,
    meta: Option<Meta>,
    complaint: Option<Finding>,
    rank: (bool, usize, bool, bool, u64),
}

pub(super) fn read(source: &dyn Source, dir: &SnapshotDir, cx: &Context, out: &mut LoadedSnapshot) {
    if dir.metas.is_empty() {
        out.findings.push(
            Finding::new(&codes::META_MISSING, Severity::Damaged, dir.dir.clone())
                .evidence(Evidence::Missing { what: crate::format::names::META.to_owned() }),
        );
        return;
    }
    let mut candidates: Vec<Candidate> = dir.metas.iter().map(|file| weigh(source, file, cx, out)).collect();
    candidates.sort_by_key(|c| std::cmp::Reverse(c.rank));
    let several = candidates.len() > 1;
    let mut candidates = candidates.into_iter();
    let Some(best) = candidates.next() else { return };
    if several {
        let name = best.file.entry.file_name().to_owned();
        for other in candidates {
            let why = other.complaint.as_ref().map_or_else(
                || "it holds fewer tables of the job description, or is older".to_owned(),
                |c| c.summary.clone(),
            );
            out.findings.push(
                Finding::new(&codes::META_SEVERAL, Severity::Damaged, other.file.entry.name.clone())
                    .summary(format!("a second __meta; {name} is the right one: {why}")),
            );
        }
    }
    out.findings.extend(best.complaint);
    if let Some(meta) = best.meta {
        let tables = meta.tree.get("tblNameMap").and_then(serde_json::Value::as_object);
        for (name, table) in tables.into_iter().flatten() {
            if let Some(why) = table.get(meta_binary::UNREAD).and_then(serde_json::Value::as_str) {
                let finding = Finding::new(&codes::META_UNREAD, Severity::Note, best.file.entry.name.clone());
                out.findings.push(finding.summary(format!("table {name:?}: {why}")));
            }
        }
        let doubtful = !best.file.finished() || !best.rank.2;
        let tables = meta.tables();
        out.meta = Some(LoadedMeta { file: best.file, tables, meta, doubtful });
    }
}

fn weigh(source: &dyn Source, file: &Named, cx: &Context, out: &mut LoadedSnapshot) -> Candidate {
    let (bytes, checked) = read_named(source, file, cx);
    let computed = checked.md5;
    let right = !checked.mismatch && file.finished();
    out.checked.push(checked);
    let name = file.entry.name.clone();
    let damaged = || Finding::new(&codes::META_DAMAGED, Severity::Damaged, name.clone());
    let mut meta = None;
    let mut complaint = None;
    match bytes {
        Err(e) => complaint = Some(unreadable(&e)),
        Ok(bytes) => match Meta::decode(&bytes) {
            Ok(m) => meta = Some(m),
            Err(e) => {
                complaint = Some(damaged().at(0, file.entry.size).summary(e.to_string()).effect(0, file.entry.size));
            }
        },
    }
    if complaint.is_none() {
        complaint = match (file.md5(), computed) {
            (Some(stored), Some(computed)) if stored != computed => Some(
                damaged()
                    .at(0, file.entry.size)
                    .summary("the definitions parse, but their MD5 is not the one in the name")
                    .evidence(md5_evidence(&stored, &computed)),
            ),
            (None, _) => {
                Some(damaged().summary("the definitions parse, but the upload did not finish: no MD5 in the name"))
            }
            _ => None,
        };
    }
    let found = meta.as_ref().map_or(0, |m| count_tables(m, out));
    let rank = (meta.is_some(), found, right, file.finished(), file.entry.size);
    Candidate { file: file.clone(), meta, complaint, rank }
}

/// How many tables of the job descriptions the definitions hold.
fn count_tables(meta: &Meta, out: &LoadedSnapshot) -> usize {
    let names: Vec<String> = meta.tables().into_iter().map(|t| t.name).collect();
    let wanted = out.infos.iter().flat_map(|i| &i.info.tables);
    wanted.filter(|t| names.contains(&t.name)).count()
}

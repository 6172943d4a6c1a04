//! `ls` and `show`: what a repository holds, counted.

use std::io::Write;

use recovery_core::cli::Exit;
use recovery_core::names::terminal;
use recovery_core::{Error, Result};
use serde_json::{Value, json};

use crate::estimate::{Estimate, estimate};

use super::{Run, UNREAD, put, put_json, status, sum, table, table_status, text, verdict_of};

/// The estimates in words.
fn times(e: &Estimate) -> String {
    let of = |seconds: Option<f64>| {
        seconds.map_or_else(
            || "?".to_owned(),
            |s| {
                if s < 1.0 {
                    "below 1 s".to_owned()
                } else if s < 120.0 {
                    format!("{s:.0} s")
                } else {
                    format!("{:.0} min", s / 60.0)
                }
            },
        )
    };
    format!(
        "estimated from {} bytes read just now, with as many threads: verify {}, export {}, RESTORE at least {}\n",
        e.rates.probed,
        of(e.verify),
        of(e.export),
        of(e.restore)
    )
}

impl Run<'_> {
    pub(super) fn ls(&self, out: &mut dyn Write) -> Result<Exit> {
        let (report, state) = self.look(Vec::new())?;
        if self.json() {
            put_json(out, &report.facts)?;
            return Ok(Exit::OK);
        }
        let name = state.loaded.name();
        let place = state.loaded.repository.source.describe();
        put(out, &format!("repository {} ({}) in {}\n", terminal(&name), state.loaded.prefix(), terminal(&place)))?;
        let mut rows =
            vec![["SNAPSHOT", "TIMESTAMP", "DATABASE", "TABLES", "ROWS", "BYTES", "STATUS"].map(str::to_owned)];
        for s in &state.snapshots {
            rows.push([
                terminal(&s.label).into_owned(),
                terminal(&s.timestamp).into_owned(),
                terminal(&s.database).into_owned(),
                s.tables.len().to_string(),
                sum(s, |t| t.rows).to_string(),
                sum(s, |t| t.bytes).to_string(),
                status(s),
            ]);
        }
        table(out, &rows)?;
        put(out, UNREAD)?;
        Ok(Exit::OK)
    }

    pub(super) fn show(&self, out: &mut dyn Write) -> Result<Exit> {
        let wanted = text(self.args, "snapshot").unwrap_or_default();
        let label = self.label(&wanted)?;
        let (report, state) = self.look(vec![label])?;
        let (snapshot, info) = state.loaded.find(&wanted)?;
        let verdict = verdict_of(&state, &snapshot.label, &info.timestamp)?;
        let gone = || Error::Internal("the snapshot is not in the listing".into());
        let dir = state.loaded.repository.listing.snapshots.get(&snapshot.label).ok_or_else(gone)?;
        let mut tables = Vec::new();
        for t in &verdict.tables {
            let of = snapshot.tablets.iter().filter(|(p, _)| p.table == t.id);
            let rowsets = of.map(|(_, t)| t.tablet.rowsets.len() as u64).fold(0, u64::saturating_add);
            let of = dir.tablets.iter().filter(|(p, _)| p.table == t.id);
            let files = of.map(|(_, t)| t.files.len() as u64).fold(0, u64::saturating_add);
            let partitions: Vec<Value> = info
                .info
                .tables
                .iter()
                .filter(|i| i.name == t.name)
                .flat_map(|i| &i.partitions)
                .map(|p| {
                    let tablets: usize = p.physical.iter().flat_map(|p| &p.indexes).map(|i| i.tablets.len()).sum();
                    json!({"name": p.name, "id": p.id, "version": p.version, "tablets": tablets,
                        "restorable": !t.damaged_partitions.contains(&p.name)})
                })
                .collect();
            tables.push(json!({"name": t.name, "kind": t.kind, "keys_type": t.keys.map(crate::model::schema::KeysType::name),
                "partitions": partitions, "tablets": t.tablets, "rowsets": rowsets, "files": files, "rows": t.rows,
                "rows_exact": t.rows_exact, "bytes": t.bytes, "restorable": verdict.restorable(t), "lost_rows_at_most": t.lost_rows}));
        }
        let replicas = snapshot.meta.iter().flat_map(|m| &m.tables).flat_map(|t| &t.partitions);
        let replicas = replicas.filter_map(|p| u64::try_from(p.replicas?).ok()).max().unwrap_or(1);
        let bytes = sum(verdict, |t| t.bytes);
        let estimate = estimate(&state.loaded, dir, &wanted, bytes, replicas, self.cx)?;
        let total = |key: &str| tables.iter().filter_map(|t| t.get(key)?.as_u64()).fold(0, u64::saturating_add);
        let partitions = sum(verdict, |t| t.partitions);
        let counts = json!({"tables": verdict.tables.len(), "partitions": partitions,
            "tablets": sum(verdict, |t| t.tablets), "rowsets": total("rowsets"), "files": total("files"),
            "rows": sum(verdict, |t| t.rows), "bytes": bytes});
        if self.json() {
            let findings = serde_json::to_value(&report.findings).unwrap_or_default();
            put_json(
                out,
                &json!({"label": verdict.label, "timestamp": verdict.timestamp, "backup_time_ms": verdict.backup_time_ms,
                "database": verdict.database, "finished": verdict.finished, "problems": verdict.problems, "tables": tables,
                "counts": counts, "estimate": estimate.to_json(), "findings": findings}),
            )?;
            return Ok(Exit::OK);
        }
        put(
            out,
            &format!(
                "snapshot {} at {} of database {}: {}\n",
                terminal(&verdict.label),
                terminal(&verdict.timestamp),
                terminal(&verdict.database),
                status(verdict)
            ),
        )?;
        let mut rows = vec![
            ["TABLE", "MODEL", "PARTITIONS", "TABLETS", "ROWSETS", "FILES", "ROWS", "BYTES", "STATUS"]
                .map(str::to_owned),
        ];
        for (t, facts) in verdict.tables.iter().zip(&tables) {
            let number = |key: &str| facts.get(key).map_or_else(String::new, Value::to_string);
            rows.push([
                terminal(&t.name).into_owned(),
                t.keys.map_or(t.kind.as_str(), |k| k.name()).to_owned(),
                t.partitions.to_string(),
                t.tablets.to_string(),
                number("rowsets"),
                number("files"),
                format!("{}{}", if t.rows_exact { "" } else { "<=" }, t.rows),
                t.bytes.to_string(),
                table_status(verdict, t),
            ]);
        }
        table(out, &rows)?;
        put(
            out,
            &format!(
                "in all {} tables, {partitions} partitions, {} tablets, {} rowset versions, {} files, {bytes} bytes\n",
                verdict.tables.len(),
                sum(verdict, |t| t.tablets),
                total("rowsets"),
                total("files")
            ),
        )?;
        put(out, &times(&estimate))?;
        for finding in report.findings.iter().filter(|f| f.severity > recovery_core::Severity::Note) {
            put(out, &format!("{} {}: {}\n", finding.code, terminal(&finding.object), terminal(&finding.summary)))?;
        }
        put(out, UNREAD)?;
        Ok(Exit::OK)
    }
}

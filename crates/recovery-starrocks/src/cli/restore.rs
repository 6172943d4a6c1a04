//! `restore-sql`: what to type into the stock server.

use std::io::Write;

use recovery_core::cli::Exit;
use recovery_core::{Error, Result};
use serde_json::json;

use super::{Run, UNREAD, definition, many, put, put_json, text, verdict_of};
use crate::inspect::{SnapshotVerdict, TableVerdict};
use crate::reader::load::Loaded;
use crate::sql::{self, Restore};

impl Run<'_> {
    pub(super) fn restore_sql(&self, out: &mut dyn Write) -> Result<Exit> {
        let wanted = text(self.args, "snapshot").unwrap_or_default();
        let (_, state) = self.look(vec![self.label(&wanted)?])?;
        let (snapshot, info) = state.loaded.find(&wanted)?;
        let verdict = verdict_of(&state, &snapshot.label, &info.timestamp)?;
        let target = text(self.args, "target").map(|t| release(&t)).transpose()?;
        let mut restore = Restore {
            repository: state.loaded.name(),
            location: location(&state.loaded),
            database: info.info.database.clone(),
            label: snapshot.label.clone(),
            timestamp: info.timestamp.clone(),
            replication: 1,
            target,
            meta_version: if info.info.meta_version.is_none() { Some(92) } else { None },
            ..Restore::default()
        };
        restore.warnings.push(UNREAD.trim_end().to_owned());
        restore
            .warnings
            .extend(verdict.problems.iter().map(|p| format!("RESTORE FAILS on this snapshot as it lies: {p}")));
        let form = snapshot.meta.as_ref().map(|m| m.meta.form);
        let against = match self.args.try_get_one::<std::path::PathBuf>("against").ok().flatten() {
            Some(path) => {
                Some(std::fs::read_to_string(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?)
            }
            None => None,
        };
        let asked = many(self.args, "table");
        let partitions = many(self.args, "partition");
        let chosen = choose(verdict, &asked)?;
        for (table, alias) in chosen {
            let (def, _) = definition(&state.loaded, &wanted, &table.name)?;
            restore.replication =
                restore.replication.max(def.partitions.iter().filter_map(|p| p.replicas).max().unwrap_or(1));
            restore.warnings.extend(sql::version_warnings(&def, form, target));
            let overwrites = alias == table.name;
            if overwrites {
                restore.warnings.push(format!(
                    "table {}: RESTORE over an existing table replaces its data before it is done, and cannot be undone",
                    table.name
                ));
            }
            if let Some(statement) = &against {
                let found = sql::differences(&def, statement);
                restore
                    .warnings
                    .extend(found.into_iter().map(|d| format!("table {}: the server would refuse: {d}", table.name)));
            }
            let all: Vec<String> = info
                .info
                .tables
                .iter()
                .filter(|t| t.name == table.name)
                .flat_map(|t| &t.partitions)
                .map(|p| p.name.clone())
                .collect();
            if let Some(name) = partitions.iter().find(|p| !all.contains(p)) {
                return Err(Error::Usage(format!("no partition {name:?} in table {:?}", table.name)));
            }
            let good: Vec<String> = all
                .iter()
                .filter(|p| !table.damaged_partitions.contains(*p) && (partitions.is_empty() || partitions.contains(p)))
                .cloned()
                .collect();
            for (path, why) in &table.damaged {
                let first = why.first().map_or("", String::as_str);
                restore
                    .warnings
                    .push(format!("table {}, tablet {}: cannot be restored: {first}", table.name, path.tablet));
            }
            if good.is_empty() && !all.is_empty() {
                continue;
            }
            let listed = if good.len() == all.len() { Vec::new() } else { good };
            restore.tables.push((table.name.clone(), alias, listed));
        }
        let text = sql::restore(&restore);
        let broken = !verdict.problems.is_empty() || verdict.tables.iter().any(|t| !t.damaged.is_empty());
        if self.json() {
            put_json(
                out,
                &json!({"sql": text, "warnings": restore.warnings, "backup_timestamp": restore.timestamp,
                "repository": restore.repository, "location": recovery_core::names::redact_url(&restore.location)}),
            )?;
        } else {
            put(out, &text)?;
        }
        Ok(Exit(if broken { 3 } else { 0 }))
    }
}

fn choose<'a>(verdict: &'a SnapshotVerdict, asked: &[String]) -> Result<Vec<(&'a TableVerdict, String)>> {
    if asked.is_empty() {
        return Ok(verdict.tables.iter().map(|t| (t, format!("{}_restored", t.name))).collect());
    }
    asked
        .iter()
        .map(|item| {
            let whole = verdict.tables.iter().find(|t| t.name == *item);
            if let Some(table) = whole {
                return Ok((table, format!("{item}_restored")));
            }
            let (name, alias) = item.rsplit_once(':').unwrap_or((item, ""));
            let table = verdict.tables.iter().find(|t| t.name == name);
            let table =
                table.ok_or_else(|| Error::Usage(format!("no table {name:?} in snapshot {:?}", verdict.label)))?;
            Ok((table, alias.to_owned()))
        })
        .collect()
}

fn release(text: &str) -> Result<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(Error::Usage(format!("--target {text}: expected a release such as 3.2"))),
    }
}

/// What CREATE REPOSITORY calls the location: the directory above the repository's own.
fn location(loaded: &Loaded) -> String {
    let place = loaded.repository.source.describe();
    let place = if place.contains("://") {
        place
    } else {
        // The server knows nothing of the directory this runs in.
        let whole = std::path::absolute(&place).map_or_else(|_| place, |p| p.to_string_lossy().into_owned());
        format!("file://{whole}")
    };
    let place = place.trim_end_matches('/');
    let above = loaded.repository.listing.base.is_empty();
    let place = if above { place.rsplit_once('/').map_or(place, |(above, _)| above) } else { place };
    place.to_owned()
}

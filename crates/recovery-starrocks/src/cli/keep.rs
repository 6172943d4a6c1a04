//! `diff`, `copy`, `prune`: housekeeping.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};
use recovery_core::cli::{Exit, open};
use recovery_core::names::{shell, terminal};
use recovery_core::{Error, Result};
use serde_json::{Value, json};

use super::{Run, many, put, put_json, repository, snapshot_arg, table, text, verb};
use crate::STARROCKS;
use crate::copy::{self, Request};
use crate::diff::{self, Data};
use crate::inspect::Options;
use crate::prune::{self, PrunePlan, Rules, duration_ms};
use crate::reader::load;

/// The verbs.
pub(super) fn commands() -> Vec<Command> {
    vec![diff_command(), copy_command(), prune_command()]
}

fn diff_command() -> Command {
    let label = |id: &'static str| Arg::new(id).value_name("L[@TIMESTAMP]").required(true).help("A snapshot");
    verb("diff", "What differs between two snapshots: schemas, and data by the MD5 in the names of files")
        .arg(label("first"))
        .arg(label("second"))
}

fn copy_command() -> Command {
    verb("copy", "Copy a snapshot into another repository, new or not: only what is missing, every MD5 checked")
        .arg(
            Arg::new("to")
                .value_name("NEWREPO")
                .required(true)
                .help("Repository directory, a location, or an address; made where it is not there"),
        )
        .arg(snapshot_arg())
        .arg(Arg::new("label").long("label").value_name("NEW").help("Label there; the same without it"))
        .arg(
            Arg::new("to-repository")
                .long("to-repository")
                .value_name("NAME")
                .help("Name of the repository there; without it that of the source, or the only one there"),
        )
}

fn prune_command() -> Command {
    let number = |id: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name("N").value_parser(value_parser!(u64).range(1..)).help(help)
    };
    verb("prune", "Remove snapshots by rules. Without --apply only a plan is made, and nothing is changed")
        .arg(number("keep-last", "Keep the newest N of each database"))
        .arg(number("keep-daily", "Keep the newest of each of the last N days that have one, by database"))
        .arg(
            Arg::new("keep-within")
                .long("keep-within")
                .value_name("30d")
                .help("Keep all not older than this before the newest of the database"),
        )
        .arg(Arg::new("snapshot").long("snapshot").value_name("L").action(ArgAction::Append).help("Remove this one"))
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("PLAN.json")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("apply")
                .help("Write the plan to this file"),
        )
        .arg(
            Arg::new("apply")
                .long("apply")
                .value_name("PLAN.json")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(["keep-last", "keep-daily", "keep-within", "snapshot"])
                .help("Remove what this plan names. The journal PLAN.json.journal says how far it came"),
        )
}

impl Run<'_> {
    pub(super) fn diff(&self, out: &mut dyn Write) -> Result<Exit> {
        let of = |id: &str| text(self.args, id).unwrap_or_default();
        let loaded = load::load(repository(self.args, self.open)?, self.cx)?;
        let diff = diff::diff(&loaded, &of("first"), &of("second"))?;
        if self.json() {
            put_json(out, &diff.to_json())?;
            return Ok(Exit::OK);
        }
        let shown = |(label, time): &(String, String)| format!("{}@{}", terminal(label), terminal(time));
        let verdict = if diff.equal() { "the same" } else { "different" };
        put(out, &format!("{} and {}: {verdict}\n", shown(&diff.first), shown(&diff.second)))?;
        let mut rows = vec![["TABLE", "SCHEMA", "ROWS", "SAME", "ONLY FIRST", "ONLY SECOND"].map(str::to_owned)];
        let cells =
            |data: &Data| [data.same, data.first, data.second].map(|a| format!("{} files, {} bytes", a.files, a.bytes));
        for t in &diff.tables {
            let schema = match (t.first_rows, t.second_rows) {
                (Some(_), None) => "only in the first".to_owned(),
                (None, Some(_)) => "only in the second".to_owned(),
                _ if t.schema.is_empty() => "same".to_owned(),
                _ => format!("{} changes", t.schema.len()),
            };
            let count = |rows: Option<u64>| rows.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let [same, first, second] = cells(&t.data);
            let counts = format!("{} / {}", count(t.first_rows), count(t.second_rows));
            rows.push([terminal(&t.name).into_owned(), schema, counts, same, first, second]);
        }
        table(out, &rows)?;
        for t in &diff.tables {
            for line in &t.schema {
                put(out, &format!("{}: {}\n", terminal(&t.name), terminal(line)))?;
            }
            for p in t.partitions.iter().filter(|_| t.first_rows.is_some() && t.second_rows.is_some()) {
                let version = |v: Option<i64>| v.map_or_else(|| "not there".to_owned(), |v| format!("version {v}"));
                let [_, first, second] = cells(&p.data);
                put(
                    out,
                    &format!(
                        "{}, partition {}: {} / {}; only first {first}, only second {second}\n",
                        terminal(&t.name),
                        terminal(&p.name),
                        version(p.first),
                        version(p.second)
                    ),
                )?;
            }
        }
        Ok(Exit::OK)
    }

    pub(super) fn copy(&self, out: &mut dyn Write) -> Result<Exit> {
        let wanted = text(self.args, "snapshot").unwrap_or_default();
        let place = text(self.args, "repo").unwrap_or_default();
        let to = text(self.args, "to").unwrap_or_default();
        let options = Options {
            repository: text(self.args, "repository"),
            snapshots: vec![self.label(&wanted)?],
            ..Options::default()
        };
        let inspection = copy::look(open(&STARROCKS, &place, self.open)?, &options, self.cx)?;
        let depot = crate::depot::open(&to, &self.open.env)?;
        let request =
            Request { snapshot: wanted, label: text(self.args, "label"), repository: text(self.args, "to-repository") };
        let done = copy::copy(&inspection, depot.as_ref(), &request, self.cx)?;
        let there = depot.describe();
        let whole = if done.directory.is_empty() { there } else { format!("{there}/{}", done.directory) };
        let next = [
            format!("recover inspect {}", shell(&whole)),
            format!("recover starrocks restore-sql {} --snapshot {}", shell(&whole), shell(&done.label)),
        ];
        if self.json() {
            let mut value = done.to_json();
            if let Some(map) = value.as_object_mut() {
                map.insert("location".into(), json!(whole));
                map.insert("next".into(), json!(next));
            }
            put_json(out, &value)?;
            return Ok(Exit::OK);
        }
        put(
            out,
            &format!(
                "snapshot {} is in {}: {} files, {} bytes copied, {} files, {} bytes were there\n",
                terminal(&done.label),
                terminal(&whole),
                done.files,
                done.bytes,
                done.kept,
                done.kept_bytes
            ),
        )?;
        put(out, &format!("Next\n  {}\n  {}\n", next[0], next[1]))?;
        Ok(Exit::OK)
    }

    pub(super) fn prune(&self, out: &mut dyn Write) -> Result<Exit> {
        if let Some(path) = self.args.get_one::<PathBuf>("apply") {
            return self.prune_apply(path, out);
        }
        let number = |id: &str| self.args.get_one::<u64>(id).copied();
        let within = text(self.args, "keep-within").map(|t| duration_ms(&t)).transpose()?;
        let rules = Rules {
            keep_last: number("keep-last"),
            keep_daily: number("keep-daily"),
            keep_within_ms: within,
            snapshots: many(self.args, "snapshot"),
        };
        let (_, inspection) = self.look(Vec::new())?;
        let plan = prune::plan(&inspection, &rules, self.cx)?;
        let document = serde_json::to_value(&plan).map_err(|e| Error::Internal(e.to_string()))?;
        let file = self.args.get_one::<PathBuf>("out");
        if let Some(path) = file {
            let text = serde_json::to_vec_pretty(&document).map_err(|e| Error::Internal(e.to_string()))?;
            let failed = |e| Error::write(path.display(), "create the plan", e);
            let mut new = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
            new.write_all(&text).and_then(|()| new.sync_all()).map_err(failed)?;
        }
        if self.json() {
            put_json(out, &document)?;
            return Ok(Exit::OK);
        }
        self.put_plan(&plan, out)?;
        let place = shell(&text(self.args, "repo").unwrap_or_default()).into_owned();
        match file {
            Some(path) => {
                let path = path.display().to_string();
                put(out, &format!("Next\n  recover starrocks prune {place} --apply {}\n", shell(&path)))?;
            }
            None if !plan.remove.is_empty() => {
                put(
                    out,
                    "Nothing was changed. To carry it out add --out PLAN.json, read the plan, then give it to --apply\n",
                )?;
            }
            None => {}
        }
        Ok(Exit::OK)
    }

    fn put_plan(&self, plan: &PrunePlan, out: &mut dyn Write) -> Result<()> {
        put(
            out,
            &format!(
                "repository {}: {} snapshots would be removed, {} stay; {} files, {} bytes\n",
                terminal(&plan.repository),
                plan.remove.len(),
                plan.keep.len(),
                plan.files,
                plan.bytes
            ),
        )?;
        let mut rows = vec![["SNAPSHOT", "TIMESTAMP", "DATABASE", "BYTES", "ACTION"].map(str::to_owned)];
        for r in &plan.remove {
            let (label, time) = (terminal(&r.label).into_owned(), terminal(&r.timestamp).into_owned());
            rows.push([label, time, terminal(&r.database).into_owned(), r.bytes.to_string(), "remove".to_owned()]);
        }
        for k in &plan.keep {
            let (label, time) = (terminal(&k.label).into_owned(), terminal(&k.timestamp).into_owned());
            let action = format!("keep: {}", k.reasons.join(", "));
            rows.push([label, time, terminal(&k.database).into_owned(), "-".to_owned(), action]);
        }
        table(out, &rows)
    }

    fn prune_apply(&self, path: &std::path::Path, out: &mut dyn Write) -> Result<Exit> {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Error::Usage(format!("{shown}: {e}")))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::Usage(format!("{shown}: not JSON: {e}")))?;
        let plan: PrunePlan = serde_json::from_value(value)
            .map_err(|e| Error::Usage(format!("{shown}: this is no plan of prune: {e}")))?;
        let place = text(self.args, "repo").unwrap_or_default();
        let source = open(&STARROCKS, &place, self.open)?;
        // The place may have been a snapshot's directory; what is removed from is where it was opened.
        let root = source.root().map_or_else(|| place.clone(), |r| r.display().to_string());
        let remover = crate::depot::open_remover(&root, &self.open.env)?;
        let journal = PathBuf::from(format!("{shown}.journal"));
        let done = prune::apply(&plan, &source, remover.as_ref(), &journal, self.cx)?;
        if self.json() {
            let value = json!({"snapshots": done.snapshots, "files": done.files, "bytes": done.bytes,
                "removed_before": done.before});
            put_json(out, &value)?;
            return Ok(Exit::OK);
        }
        let before = if done.before > 0 { format!("; {} were gone already", done.before) } else { String::new() };
        put(
            out,
            &format!("{} snapshots removed: {} files, {} bytes{before}\n", done.snapshots, done.files, done.bytes),
        )?;
        put(out, &format!("Next\n  recover inspect {}\n", shell(&place)))?;
        Ok(Exit::OK)
    }
}

//! The verbs of `recover starrocks`.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{EngineCli, Exit, OpenOptions, open};
use recovery_core::names::terminal;
use recovery_core::{Check, Context, Error, Recover, Result, Sources};
use serde_json::{Value, json};

use crate::STARROCKS;
use crate::inspect::{self, Inspection, Options, SnapshotVerdict, TableVerdict};
use crate::model::schema::KeysType;
use crate::model::table::{TableDef, from_schema};
use crate::reader::load::{self, Loaded};
use crate::reader::repository::Repository;
use crate::sql;

mod keep;
mod list;
#[cfg(feature = "arrow")]
mod read;
mod restore;

/// The engine on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cli;

impl EngineCli for Cli {
    fn engine(&self) -> &'static dyn Recover {
        &STARROCKS
    }

    fn about(&self) -> &'static str {
        "StarRocks snapshot repositories (BACKUP / RESTORE): list, prove, read without a cluster, repair"
    }

    fn commands(&self) -> Vec<Command> {
        let mut commands = vec![
            verb("ls", "The snapshots, with what RESTORE would make of each; files are not read"),
            verb("show", "A snapshot in detail: partitions, tablets, rowset versions, files, bytes")
                .arg(snapshot_arg()),
            verb("schema", "CREATE TABLE of a table, from __meta or from the tablet headers")
                .arg(snapshot_arg())
                .arg(Arg::new("table").long("table").value_name("T").help("The table; all without it"))
                .arg(also_arg()),
            verb("check", "Read and verify everything of a repository, or of the snapshots named")
                .arg(
                    Arg::new("snapshot")
                        .long("snapshot")
                        .value_name("L")
                        .action(ArgAction::Append)
                        .help("Only this snapshot"),
                )
                .arg(also_arg())
                .arg(
                    Arg::new("values")
                        .long("values")
                        .action(ArgAction::SetTrue)
                        .help("Decode every value, too (slower)"),
                ),
            verb("restore-sql", "CREATE REPOSITORY and RESTORE for the stock server, with the exact values")
                .arg(snapshot_arg())
                .arg(
                    Arg::new("table")
                        .long("table")
                        .value_name("T[:ALIAS]")
                        .action(ArgAction::Append)
                        .help("The table, and the name to restore it under (default T_restored)"),
                )
                .arg(
                    Arg::new("partition")
                        .long("partition")
                        .value_name("P")
                        .action(ArgAction::Append)
                        .help("Only this partition"),
                )
                .arg(Arg::new("target").long("target").value_name("X.Y").help("Release of the server that restores"))
                .arg(
                    Arg::new("against")
                        .long("against")
                        .value_name("SHOW_CREATE.sql")
                        .value_parser(clap::value_parser!(std::path::PathBuf))
                        .help("SHOW CREATE TABLE of the existing table: says what the server would refuse"),
                ),
        ];
        commands.extend(keep::commands());
        #[cfg(feature = "arrow")]
        commands.extend(read::commands());
        commands.sort_by(|a, b| a.get_name().cmp(b.get_name()));
        commands
    }

    fn run(
        &self,
        verb: &str,
        args: &ArgMatches,
        open: &OpenOptions,
        out: &mut dyn Write,
        cx: &Context,
    ) -> Result<Exit> {
        #[cfg(feature = "arrow")]
        if let Some(done) = read::run(verb, args, open, out, cx) {
            return done;
        }
        let run = Run { args, open, cx };
        match verb {
            "ls" => run.ls(out),
            "show" => run.show(out),
            "schema" => run.schema(out),
            "check" => run.check(out),
            "restore-sql" => run.restore_sql(out),
            "diff" => run.diff(out),
            "copy" => run.copy(out),
            "prune" => run.prune(out),
            other => Err(Error::Usage(format!("{other}: no such verb of starrocks"))),
        }
    }

    fn options(&self) -> Vec<Arg> {
        vec![
            Arg::new("repository")
                .long("repository")
                .value_name("NAME")
                .help("Which repository, where a location holds several"),
            Arg::new("values").long("values").action(ArgAction::SetTrue).help("Decode every value, too (slower)"),
            Arg::new("distribution")
                .long("distribution")
                .value_name("TABLE=COLUMN[,COLUMN]")
                .action(ArgAction::Append)
                .help("Distribution columns of a table whose __meta is lost"),
        ]
    }

    fn options_json(&self, args: &ArgMatches) -> Result<Value> {
        let mut options =
            Options { repository: text(args, "repository"), values: flag(args, "values"), ..Options::default() };
        for item in many(args, "distribution") {
            let (table, columns) = item
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("--distribution {item}: expected TABLE=COLUMN[,COLUMN]")))?;
            options.distribution.insert(table.to_owned(), columns.split(',').map(str::to_owned).collect());
        }
        serde_json::to_value(options).map_err(|e| Error::Internal(e.to_string()))
    }
}

/// Under every table that was made without reading segments.
const UNREAD: &str =
    "names, definitions and headers were looked at, the data was not read: `recover inspect` proves it\n";

/// A verb with its REPO.
pub(crate) fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(
            Arg::new("repo")
                .value_name("REPO")
                .required(true)
                .help("Repository directory, its location, or an address"),
        )
        .arg(
            Arg::new("repository")
                .long("repository")
                .value_name("NAME")
                .help("Which repository, where REPO holds several"),
        )
}

/// `--snapshot L`.
pub(crate) fn snapshot_arg() -> Arg {
    Arg::new("snapshot").long("snapshot").value_name("L[@TIMESTAMP]").required(true).help("The snapshot")
}

/// An option's text.
pub(crate) fn text(args: &ArgMatches, id: &str) -> Option<String> {
    args.try_get_one::<String>(id).ok().flatten().cloned()
}

/// All texts of an option.
pub(crate) fn many(args: &ArgMatches, id: &str) -> Vec<String> {
    args.try_get_many::<String>(id).ok().flatten().map(|v| v.cloned().collect()).unwrap_or_default()
}

/// Whether a flag, common ones included, was given.
pub(crate) fn flag(args: &ArgMatches, id: &str) -> bool {
    args.try_get_one::<bool>(id).ok().flatten().copied().unwrap_or(false)
}

/// Opens REPO and lists it.
pub(crate) fn repository(args: &ArgMatches, how: &OpenOptions) -> Result<Repository> {
    let place = text(args, "repo").ok_or_else(|| Error::Usage("no repository was given".into()))?;
    let source = open(&STARROCKS, &place, how)?;
    Repository::open(source, text(args, "repository").as_deref())
}

/// `--also PATH`.
pub(crate) fn also_arg() -> Arg {
    Arg::new("also")
        .long("also")
        .value_name("PATH")
        .action(ArgAction::Append)
        .help("Another copy of the repository: its files stand in for missing and damaged ones")
}

/// A snapshot as a reading verb sees it.
pub(crate) struct Opened {
    /// The repository, healed by the copies of `--also`.
    pub(crate) loaded: std::sync::Arc<Loaded>,
    /// What `--snapshot` said.
    pub(crate) label: String,
    /// Files that other copies gave: name here, and where each comes from.
    pub(crate) healed: Vec<(String, String)>,
}

/// Opens REPO and loads the label of `--snapshot`. With `--also`, the files of `table` are verified first, and what is
/// missing or damaged is read from the other copies.
pub(crate) fn snapshot(args: &ArgMatches, how: &OpenOptions, cx: &Context, table: Option<&str>) -> Result<Opened> {
    let label = text(args, "snapshot").ok_or_else(|| Error::Usage("no --snapshot was given".into()))?;
    let also = many(args, "also");
    if also.is_empty() {
        let loaded = std::sync::Arc::new(load::load_label(repository(args, how)?, &label, cx)?);
        return Ok(Opened { loaded, label, healed: Vec::new() });
    }
    let sources = sources(args, how)?;
    let plain = label.rsplit_once('@').map_or(label.as_str(), |(l, _)| l);
    let whole = Repository::open(
        open(&STARROCKS, &text(args, "repo").unwrap_or_default(), how)?,
        text(args, "repository").as_deref(),
    )?;
    let known = whole.listing.snapshots.contains_key(&label);
    let options = Options {
        repository: text(args, "repository"),
        snapshots: vec![if known { label.clone() } else { plain.to_owned() }],
        tables: table.map(str::to_owned).into_iter().collect(),
        ..Options::default()
    };
    let mut cx = cx.clone();
    cx.check = if table.is_some() { Check::Full } else { Check::Structure };
    let report = inspect::inspect(&sources, &options, &cx)?;
    let state: std::sync::Arc<Inspection> =
        report.state().ok_or_else(|| Error::Internal("the report carries no state".into()))?;
    let from = |t: &crate::reader::overlay::Taken| format!("{}: {}", t.source.describe(), t.entry.name);
    let healed = state.taken.iter().map(|(name, t)| (name.clone(), from(t))).collect();
    Ok(Opened { loaded: std::sync::Arc::clone(&state.loaded), label, healed })
}

/// REPO, and the copies of `--also`.
fn sources(args: &ArgMatches, how: &OpenOptions) -> Result<Sources> {
    let place = text(args, "repo").ok_or_else(|| Error::Usage("no repository was given".into()))?;
    let donors = many(args, "also").iter().map(|p| open(&STARROCKS, p, how)).collect::<Result<_>>()?;
    Ok(Sources { rivals: vec![open(&STARROCKS, &place, how)?], donors })
}

fn put(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(|e| Error::write("standard output", "write", e))
}

fn put_json(out: &mut dyn Write, value: &Value) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::Internal(e.to_string()))?;
    put(out, &text)?;
    put(out, "\n")
}

struct Run<'a> {
    args: &'a ArgMatches,
    open: &'a OpenOptions,
    cx: &'a Context,
}

impl Run<'_> {
    fn json(&self) -> bool {
        flag(self.args, "json")
    }

    /// A look at everything but segments.
    fn look(&self, snapshots: Vec<String>) -> Result<(recovery_core::Report, std::sync::Arc<Inspection>)> {
        let mut cx = self.cx.clone();
        cx.check = Check::Structure;
        self.inspect(snapshots, &cx)
    }

    fn inspect(
        &self,
        snapshots: Vec<String>,
        cx: &Context,
    ) -> Result<(recovery_core::Report, std::sync::Arc<Inspection>)> {
        let options = Options {
            repository: text(self.args, "repository"),
            snapshots,
            values: flag(self.args, "values"),
            ..Options::default()
        };
        let report = inspect::inspect(&sources(self.args, self.open)?, &options, cx)?;
        let state = report.state().ok_or_else(|| Error::Internal("the report carries no state".into()))?;
        Ok((report, state))
    }

    /// The label without its timestamp.
    fn label(&self, wanted: &str) -> Result<String> {
        let repository = repository(self.args, self.open)?;
        if repository.listing.snapshots.contains_key(wanted) {
            return Ok(wanted.to_owned());
        }
        Ok(wanted.rsplit_once('@').map_or(wanted, |(l, _)| l).to_owned())
    }

    fn schema(&self, out: &mut dyn Write) -> Result<Exit> {
        let Opened { loaded, label, .. } = snapshot(self.args, self.open, self.cx, None)?;
        let (_, info) = loaded.find(&label)?;
        let wanted = text(self.args, "table");
        let mut any = false;
        for table in info.info.tables.iter().filter(|t| wanted.as_ref().is_none_or(|w| *w == t.name)) {
            any = true;
            let (def, lost) = definition(&loaded, &label, &table.name)?;
            if self.json() {
                put_json(
                    out,
                    &json!({"table": table.name, "from": if lost { "headers" } else { "meta" }, "sql": sql::create_table(&def, &table.name)}),
                )?;
                continue;
            }
            if lost {
                put(
                    out,
                    "-- from the tablet headers; partition bounds, distribution and properties are not in them\n",
                )?;
            }
            put(out, &sql::create_table(&def, &table.name))?;
        }
        match wanted {
            Some(name) if !any => Err(Error::Usage(format!("no table {name:?} in snapshot {label:?}"))),
            _ => Ok(Exit::OK),
        }
    }

    fn check(&self, out: &mut dyn Write) -> Result<Exit> {
        let (report, state) = self.inspect(many(self.args, "snapshot"), self.cx)?;
        if self.json() {
            let value = serde_json::to_value(&report).map_err(|e| Error::Internal(e.to_string()))?;
            put_json(out, &value)?;
            return Ok(Exit(report.exit));
        }
        put(
            out,
            &format!(
                "{}: {} of {} bytes verified\n",
                report.verdict.as_str(),
                report.coverage.verified,
                report.coverage.bytes
            ),
        )?;
        let mut rows = vec![["SNAPSHOT", "TABLE", "TABLETS", "ROWS", "BYTES", "STATUS"].map(str::to_owned)];
        for s in &state.snapshots {
            for t in &s.tables {
                rows.push([
                    terminal(&s.label).into_owned(),
                    terminal(&t.name).into_owned(),
                    t.tablets.to_string(),
                    format!("{}{}", if t.rows_exact { "" } else { "<=" }, t.rows),
                    t.bytes.to_string(),
                    table_status(s, t),
                ]);
            }
        }
        table(out, &rows)?;
        for finding in report.findings.iter().filter(|f| f.severity > recovery_core::Severity::Note) {
            put(out, &format!("{} {}: {}\n", finding.code, terminal(&finding.object), terminal(&finding.summary)))?;
        }
        Ok(Exit(report.exit))
    }
}

fn verdict_of<'a>(state: &'a Inspection, label: &str, timestamp: &str) -> Result<&'a SnapshotVerdict> {
    let found = state.snapshots.iter().find(|s| s.label == label && s.timestamp == timestamp);
    found.ok_or_else(|| Error::Internal("the snapshot was not looked at".into()))
}

/// The definition of a table, and whether it had to be made from headers.
pub(crate) fn definition(loaded: &Loaded, label: &str, table: &str) -> Result<(TableDef, bool)> {
    let (snapshot, info) = loaded.find(label)?;
    let Some(listed) = info.info.tables.iter().find(|t| t.name == table) else {
        return Err(Error::Usage(format!("no table {table:?} in snapshot {label:?}")));
    };
    if let Some(def) = snapshot.definition(table, listed.id) {
        return Ok((def.clone(), false));
    }
    let base = listed.partitions.iter().flat_map(|p| &p.physical).flat_map(|p| &p.indexes).find(|i| i.name == table);
    let schema = snapshot.header_schema(listed.id, base.map(|b| b.id));
    let schema = schema.ok_or_else(|| {
        Error::Damaged(format!("table {table:?}: neither __meta nor any tablet header of it can be read"))
    })?;
    Ok((from_schema(table, listed.id, &schema), true))
}

fn sum(s: &SnapshotVerdict, of: impl Fn(&TableVerdict) -> u64) -> u64 {
    s.tables.iter().map(of).fold(0, u64::saturating_add)
}

fn status(s: &SnapshotVerdict) -> String {
    if !s.problems.is_empty() {
        return format!("RESTORE fails: {}", terminal(s.problems.first().map_or("", String::as_str)));
    }
    let damaged = s.tables.iter().filter(|t| !t.damaged.is_empty()).count();
    if damaged > 0 { format!("{damaged} of {} tables damaged", s.tables.len()) } else { "ok".to_owned() }
}

fn table_status(s: &SnapshotVerdict, t: &TableVerdict) -> String {
    if !s.problems.is_empty() && t.damaged.is_empty() {
        return "restorable after rescue".to_owned();
    }
    if t.damaged.is_empty() {
        return "restorable".to_owned();
    }
    if t.damaged_partitions.is_empty() {
        return "restorable after rescue".to_owned();
    }
    if t.keys.is_some_and(|k| k != KeysType::Primary) {
        return "restorable after rescue, without what was lost".to_owned();
    }
    if (t.damaged_partitions.len() as u64) < t.partitions {
        return format!("restorable without {} partitions", t.damaged_partitions.len());
    }
    "not restorable; export --salvage reads the rest".to_owned()
}

fn table<const N: usize>(out: &mut dyn Write, rows: &[[String; N]]) -> Result<()> {
    let mut widths = [0usize; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        put(out, &format!("{}\n", cells.join("  ").trim_end()))?;
    }
    Ok(())
}

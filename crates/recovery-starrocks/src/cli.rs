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
use crate::sql::{self, Restore};

#[cfg(feature = "arrow")]
mod read;

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
    let whole = Repository::open(open(&STARROCKS, &text(args, "repo").unwrap_or_default(), how)?, text(args, "repository").as_deref())?;
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

    fn ls(&self, out: &mut dyn Write) -> Result<Exit> {
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

    fn show(&self, out: &mut dyn Write) -> Result<Exit> {
        let wanted = text(self.args, "snapshot").unwrap_or_default();
        let label = self.label(&wanted)?;
        let (report, state) = self.look(vec![label])?;
        let (snapshot, info) = state.loaded.find(&wanted)?;
        let verdict = verdict_of(&state, &snapshot.label, &info.timestamp)?;
        let mut tables = Vec::new();
        for t in &verdict.tables {
            let of = snapshot.tablets.iter().filter(|(p, _)| p.table == t.id);
            let (mut rowsets, mut files) = (0u64, 0u64);
            for (_, tablet) in of {
                rowsets = rowsets.saturating_add(tablet.tablet.rowsets.len() as u64);
                let segments: usize = tablet.tablet.rowsets.iter().map(|r| r.segments.len()).sum();
                files = files.saturating_add(segments as u64).saturating_add(tablet.checked.len() as u64);
            }
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
        if self.json() {
            let findings = serde_json::to_value(&report.findings).unwrap_or_default();
            put_json(
                out,
                &json!({"label": verdict.label, "timestamp": verdict.timestamp, "backup_time_ms": verdict.backup_time_ms,
                "database": verdict.database, "finished": verdict.finished, "problems": verdict.problems, "tables": tables,
                "findings": findings}),
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
        for finding in report.findings.iter().filter(|f| f.severity > recovery_core::Severity::Note) {
            put(out, &format!("{} {}: {}\n", finding.code, terminal(&finding.object), terminal(&finding.summary)))?;
        }
        put(out, UNREAD)?;
        Ok(Exit::OK)
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

    fn restore_sql(&self, out: &mut dyn Write) -> Result<Exit> {
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

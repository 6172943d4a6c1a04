//! The verbs that read rows: `export`, `cat`, `head`, `count`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::names::terminal;
use recovery_core::{Context, DirTarget, Error, Reading, Result};
use serde_json::json;

use super::{Opened, also_arg, flag, many, snapshot, snapshot_arg, text, verb};
use crate::export::{self, Format, Request, Table, Writer, losses_json};
use crate::reader::expr::Expr;
use crate::reader::table::{Losses, Selection};

fn rows(name: &'static str, about: &'static str) -> Command {
    verb(name, about)
        .arg(snapshot_arg())
        .arg(also_arg())
        .arg(Arg::new("table").long("table").value_name("T").required(true).help("The table"))
        .arg(
            Arg::new("partition")
                .long("partition")
                .value_name("P")
                .action(ArgAction::Append)
                .help("Only this partition"),
        )
        .arg(
            Arg::new("where")
                .long("where")
                .value_name("CONDITION")
                .help("Only rows for which it holds: k >= 5 AND name = 'x'"),
        )
        .arg(
            Arg::new("salvage")
                .long("salvage")
                .action(ArgAction::SetTrue)
                .help("Pass over damage; the rows lost are named. Without it the first damage is an error"),
        )
        .arg(
            Arg::new("keep-lost")
                .long("keep-lost")
                .action(ArgAction::SetTrue)
                .requires("salvage")
                .help("Keep rows of which a value was lost, with NULL in its place"),
        )
}

fn columns(command: Command) -> Command {
    command
        .arg(
            Arg::new("columns")
                .long("columns")
                .value_name("A,B")
                .value_delimiter(',')
                .action(ArgAction::Append)
                .help("Only these columns"),
        )
        .arg(
            Arg::new("objects")
                .long("objects")
                .value_name("FORM")
                .value_parser(["hex", "decoded"])
                .default_value("hex")
                .help("HLL, BITMAP and PERCENTILE as stored, or as JSON of cardinality, members, quantiles"),
        )
}

fn stream(command: Command) -> Command {
    columns(command).arg(
        Arg::new("format")
            .long("format")
            .value_name("FORM")
            .value_parser(["jsonl", "csv"])
            .default_value("jsonl")
            .help("Form of the rows"),
    )
}

/// The verbs.
pub(crate) fn commands() -> Vec<Command> {
    let export = columns(rows("export", "Write a table into a new directory, one file a tablet"))
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORM")
                .required(true)
                .value_parser(["parquet", "csv", "jsonl", "arrow"])
                .help("Form of the files"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The new directory"),
        );
    let lines = Arg::new("lines")
        .long("lines")
        .short('n')
        .value_name("N")
        .value_parser(value_parser!(u64))
        .default_value("10")
        .help("How many rows");
    vec![
        export,
        stream(rows("cat", "Print the rows of a table")),
        stream(rows("head", "Print the first rows of a table")).arg(lines),
        rows("count", "Count the rows of a table as a query would"),
    ]
}

struct Job {
    table: Table,
    selection: Selection,
    cx: Context,
    /// Files of other copies that are read in place of damaged ones.
    healed: Vec<(String, String)>,
}

impl Job {
    fn exit(&self, losses: &Losses) -> Exit {
        let healed =
            !self.healed.is_empty() || !losses.mended.is_empty() || losses.rows.iter().any(|l| l.healed_by.is_some());
        match (losses.is_empty(), healed) {
            (true, false) => Exit::OK,
            (true, true) => Exit(3),
            (false, _) => Exit(4),
        }
    }

    fn healed_json(&self) -> serde_json::Value {
        self.healed.iter().map(|(file, from)| json!({"file": file, "from": from})).collect()
    }

    fn put_healed(&self, out: &mut dyn Write) -> Result<()> {
        for (file, from) in &self.healed {
            put(out, &format!("{}: read from {}", terminal(file), terminal(from)))?;
        }
        Ok(())
    }
}

fn job(args: &ArgMatches, how: &OpenOptions, cx: &Context, no_columns: bool) -> Result<Job> {
    let mut cx = cx.clone();
    if flag(args, "salvage") {
        cx.reading = Reading::Salvage;
    }
    let name = text(args, "table").unwrap_or_default();
    let Opened { loaded, label, healed } = snapshot(args, how, &cx, Some(&name))?;
    let healed = healed.into_iter().filter(|h| of_table(&loaded, &label, &name, &h.0)).collect();
    let table = export::table(&loaded, &label, &name, &many(args, "partition"))?;
    let mut selection = Selection::of(&table.schema, &many(args, "columns"))?;
    if no_columns {
        selection.columns.clear();
    }
    selection.filter = text(args, "where").map(|w| Expr::parse(&w)).transpose()?;
    if let Some(filter) = &selection.filter {
        filter.bind(&table.schema)?;
    }
    selection.keep_lost = flag(args, "keep-lost");
    Ok(Job { table, selection, cx, healed })
}

/// Runs one of the verbs; `None` when it is another's.
pub(crate) fn run(
    verb: &str,
    args: &ArgMatches,
    how: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Option<Result<Exit>> {
    Some(match verb {
        "export" => to_files(args, how, out, cx),
        "cat" => to_stream(args, how, out, cx, u64::MAX),
        "head" => to_stream(args, how, out, cx, args.get_one::<u64>("lines").copied().unwrap_or(10)),
        "count" => count(args, how, out, cx),
        _ => return None,
    })
}

fn put(out: &mut dyn Write, line: &str) -> Result<()> {
    writeln!(out, "{line}").map_err(|e| Error::write("standard output", "write", e))
}

/// Whether a file is a table's, or one that all tables of the snapshot need.
fn of_table(loaded: &crate::reader::load::Loaded, label: &str, table: &str, file: &str) -> bool {
    let id = loaded.find(label).ok().and_then(|(_, i)| i.info.tables.iter().find(|t| t.name == table).map(|t| t.id));
    let part = file.split('/').find(|p| p.starts_with("__tbl_"));
    part.is_none_or(|p| id.is_some_and(|id| p == format!("__tbl_{id}")))
}

fn decoded(args: &ArgMatches) -> bool {
    text(args, "objects").is_some_and(|o| o == "decoded")
}

fn to_files(args: &ArgMatches, how: &OpenOptions, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let job = job(args, how, cx, false)?;
    let format = Format::parse(&text(args, "format").unwrap_or_default())?;
    let dir = args.get_one::<PathBuf>("out").ok_or_else(|| Error::Usage("no --out was given".into()))?;
    let options = json!({
        "verb": "export", "snapshot": text(args, "snapshot"), "table": job.table.name, "partitions": many(args, "partition"),
        "columns": many(args, "columns"), "where": text(args, "where"), "format": format.ending(),
        "salvage": flag(args, "salvage"), "keep_lost": job.selection.keep_lost, "objects": text(args, "objects"),
    });
    let request = Request { selection: job.selection.clone(), format, decode_objects: decoded(args), options };
    let target = DirTarget::new(dir)?;
    let done = export::export(&job.table, &request, &target, &job.cx)?;
    let rows = done.rows.values().fold(0u64, |a, b| a.saturating_add(*b));
    let exit = job.exit(&done.losses);
    if flag(args, "json") {
        let files: Vec<&str> = done.receipt.files.iter().map(|f| f.path.as_str()).collect();
        put(out, &json!({"exit": exit.0, "table": job.table.name, "rows": rows, "files": files, "losses": losses_json(&done.losses), "healed": job.healed_json()}).to_string())?;
        return Ok(exit);
    }
    let files = done.receipt.files.len();
    put(
        out,
        &format!("{}: {rows} rows in {files} files in {}", terminal(&job.table.name), terminal(&dir.to_string_lossy())),
    )?;
    for line in losses_json(&done.losses) {
        put(out, &terminal(&line.to_string()))?;
    }
    job.put_healed(out)?;
    Ok(exit)
}

/// A destination that may stay on its thread, for writers that want to be sent.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn to_stream(args: &ArgMatches, how: &OpenOptions, out: &mut dyn Write, cx: &Context, most: u64) -> Result<Exit> {
    let job = job(args, how, cx, false)?;
    let format = Format::parse(&text(args, "format").unwrap_or_default())?;
    let mut losses = Losses::default();
    let mut left = most;
    let mut first = true;
    for part in &job.table.parts {
        if left == 0 {
            break;
        }
        let Some(mut reader) = part.open(&job.table, &job.selection, &mut losses, &job.cx)? else { continue };
        while left > 0 {
            job.cx.cancelled()?;
            let Some(mut batch) = job.cx.pool().install(|| reader.next_batch()).map_err(|e| job.table.named(e))? else {
                break;
            };
            if batch.num_rows() as u64 > left {
                batch = batch.slice(0, usize::try_from(left).unwrap_or(usize::MAX));
            }
            left = left.saturating_sub(batch.num_rows() as u64);
            if decoded(args) {
                batch = crate::reader::text::decode_objects(&batch)?;
            }
            let mut buffer = Buffer::default();
            let mut writer = Writer::new(format, batch.schema(), &mut buffer)?;
            writer.write(&batch)?;
            writer.finish()?;
            let skip = if format == Format::Csv && !first {
                buffer.0.iter().position(|b| *b == b'\n').map_or(0, |i| i.saturating_add(1))
            } else {
                0
            };
            first = false;
            out.write_all(buffer.0.get(skip..).unwrap_or_default())
                .map_err(|e| Error::write("standard output", "write", e))?;
        }
        export::add(&mut losses, reader.losses());
    }
    out.flush().map_err(|e| Error::write("standard output", "write", e))?;
    // A stream of rows has no place for a report: what was lost is counted in the exit code and named by `export`.
    Ok(job.exit(&losses))
}

fn count(args: &ArgMatches, how: &OpenOptions, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let job = job(args, how, cx, true)?;
    let mut losses = Losses::default();
    let mut rows = 0u64;
    for part in &job.table.parts {
        let Some(mut reader) = part.open(&job.table, &job.selection, &mut losses, &job.cx)? else { continue };
        while let Some(batch) = job.cx.pool().install(|| reader.next_batch()).map_err(|e| job.table.named(e))? {
            job.cx.cancelled()?;
            rows = rows.saturating_add(batch.num_rows() as u64);
        }
        export::add(&mut losses, reader.losses());
    }
    let exit = job.exit(&losses);
    if flag(args, "json") {
        let line = json!({"exit": exit.0, "table": job.table.name, "rows": rows, "losses": losses_json(&losses),
            "healed": job.healed_json()});
        put(out, &line.to_string())?;
    } else {
        put(out, &rows.to_string())?;
        for line in losses_json(&losses) {
            put(out, &terminal(&line.to_string()))?;
        }
        job.put_healed(out)?;
    }
    Ok(exit)
}

//! The engine's own verbs.

mod dump;
mod image;
mod journal;
mod printlog;
mod summary;
mod vlsn;

use std::io::Write;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::{Exit, OpenOptions, open};
use recovery_core::names::terminal;
use recovery_core::{Context, Error, Result, Source, Sources};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::inspect;

fn json_wanted(args: &ArgMatches) -> bool {
    matches!(args.try_get_one::<bool>("json"), Ok(Some(true)))
}

fn set(args: &ArgMatches, name: &str) -> bool {
    matches!(args.try_get_one::<bool>(name), Ok(Some(true)))
}

fn text<'a>(args: &'a ArgMatches, name: &str) -> Option<&'a str> {
    args.try_get_one::<String>(name).ok().flatten().map(String::as_str)
}

fn sources(args: &ArgMatches, options: &OpenOptions) -> Result<Vec<Arc<dyn Source>>> {
    let names = args.get_many::<String>("dir").into_iter().flatten();
    names.map(|n| open(&Engine, n, options)).collect()
}

fn one(args: &ArgMatches, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    sources(args, options)?.into_iter().next().ok_or_else(|| Error::Usage("name a directory".to_owned()))
}

fn broken(e: std::io::Error) -> Error {
    Error::write("standard output", "write", e)
}

fn document(out: &mut dyn Write, value: &Value) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(|e| broken(e.into()))?;
    writeln!(out).map_err(broken)
}

pub(crate) fn run(
    verb: &str,
    args: &ArgMatches,
    options: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    match verb {
        "vlsn" => vlsn::run(&sources(args, options)?, set(args, "quick"), json_wanted(args), out, cx),
        "printlog" => printlog::run(&one(args, options)?, args, out, cx),
        "verify" => verify(&sources(args, options)?, json_wanted(args), out, cx),
        "dump" => dump::run(&one(args, options)?, args, out, cx),
        "journal" => journal::run(&one(args, options)?, args, out, cx),
        "image" => image::run(args, out, cx),
        "dbs" => dbs(&one(args, options)?, json_wanted(args), out, cx),
        "group" => group(&one(args, options)?, json_wanted(args), out, cx),
        other => Err(Error::Usage(format!("bdbje has no verb {other}"))),
    }
}

/// Every check, one line a finding.
fn verify(sources: &[Arc<dyn Source>], json: bool, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let mut worst = 0;
    for source in sources {
        let report = inspect::report(&Sources::one(Arc::clone(source)), cx)?;
        worst = worst.max(report.exit);
        if json {
            let v = serde_json::to_value(&report).map_err(|e| Error::Internal(e.to_string()))?;
            document(out, &v)?;
            continue;
        }
        let name = terminal(&source.describe()).into_owned();
        writeln!(
            out,
            "{name}: {} ({} bytes, {} verified)",
            report.verdict.as_str(),
            report.coverage.bytes,
            report.coverage.verified
        )
        .map_err(broken)?;
        for f in &report.findings {
            let at = f.offset.map_or(String::new(), |o| format!(" at {o:#x}"));
            let word =
                serde_json::to_value(f.severity).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
            writeln!(out, "  {} {word} {}{at}: {}", f.code, terminal(&f.object), terminal(&f.summary))
                .map_err(broken)?;
        }
    }
    Ok(Exit(worst))
}

fn dbs(source: &Arc<dyn Source>, json: bool, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let node = inspect::node::read(source, 0, false, cx)?;
    let mut all = Vec::new();
    if let Some(env) = &node.je {
        for (name, id) in &env.names {
            let Some(db) = env.databases.get(id) else { continue };
            let flags = db.config.flags;
            all.push(
                json!({"db": name, "id": id, "records": node.view.records.get(name), "duplicates": flags & 1 != 0,
                "replicated": flags & 4 != 0, "key_prefixing": flags & 16 != 0, "root": db.root}),
            );
        }
    }
    if let Some(s) = &node.scavenged {
        for (name, d) in s.databases.iter().filter(|(n, _)| !node.view.records.contains_key(*n)) {
            let [live, doubt, stale, lost] = d.counts();
            all.push(json!({"db": name, "id": d.id, "records": live, "in_doubt": doubt, "stale": stale, "lost": lost, "salvage_only": true, "name_guessed": d.guessed}));
        }
    }
    if json {
        document(out, &json!({"databases": all}))?;
    } else {
        writeln!(out, "{:>8} {:>10}  name", "id", "records").map_err(broken)?;
        for d in &all {
            writeln!(out, "{}", database_line(d)).map_err(broken)?;
        }
    }
    Ok(Exit(if node.damaged() { 3 } else { 0 }))
}

fn database_line(d: &Value) -> String {
    let is = |key: &str| d.get(key) == Some(&Value::Bool(true));
    let count = |key: &str| d.get(key).and_then(Value::as_u64).unwrap_or(0);
    let mut notes = Vec::new();
    for (key, note) in [
        ("replicated", "replicated"),
        ("duplicates", "duplicates"),
        ("key_prefixing", "key prefixing"),
        ("salvage_only", "by salvage only"),
        ("name_guessed", "name guessed"),
    ] {
        if is(key) {
            notes.push(note.to_owned());
        }
    }
    for key in ["in_doubt", "stale", "lost"] {
        if count(key) > 0 {
            notes.push(format!("{} {}", count(key), key.replace('_', " ")));
        }
    }
    let name = d.get("db").and_then(Value::as_str).unwrap_or_default();
    let (id, n) = (d.get("id").and_then(Value::as_i64).unwrap_or(0), count("records"));
    format!("{id:>8} {n:>10}  {}{}{}", terminal(name), if notes.is_empty() { "" } else { "  " }, notes.join(", "))
}

fn group(source: &Arc<dyn Source>, json: bool, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let mut node = inspect::node::read(source, 0, false, cx)?;
    // Where the trees do not lead to the group, its records may still be there.
    let scavenged = node.group.group.is_none() && node.scavenged.is_some();
    node.group = crate::plan::group_of(&node);
    let facts = inspect::rank::facts(&node);
    let group = facts.get("group").cloned().unwrap_or(Value::Null);
    let exit = Exit(match (&node.group.group, node.damaged()) {
        (None, true) => 4,
        (_, true) => 3,
        _ => 0,
    });
    let epoch = node.journal().epoch;
    if json {
        document(
            out,
            &json!({"group": group, "vlsn_index": node.index, "epoch": epoch, "own_name": node.meta.node_name(), "scavenged": scavenged}),
        )?;
        return Ok(exit);
    }
    let Some(g) = &node.group.group else {
        let why = if node.damaged() { "no group record can be read from what is left" } else { "no group" };
        writeln!(out, "{why}").map_err(broken)?;
        return Ok(exit);
    };
    writeln!(out, "{} {} change {} sequence {}", terminal(&g.name), g.uuid_text(), g.change, g.sequence)
        .map_err(broken)?;
    for m in &node.group.nodes {
        let own = if node.meta.node_name() == Some(m.name.as_str()) { " (this node, by ROLE)" } else { "" };
        let state = match (m.removed, m.quorum_ack) {
            (true, _) => " removed",
            (_, false) => " not acknowledged",
            _ => "",
        };
        writeln!(out, "  {} id {} {:?} {}:{}{state}{own}", terminal(&m.name), m.id, m.kind, terminal(&m.host), m.port)
            .map_err(broken)?;
    }
    if let Some(i) = &node.index {
        writeln!(out, "VLSN index {} to {}", i.first, i.last).map_err(broken)?;
    }
    if let Some(e) = epoch {
        writeln!(out, "epoch {e}").map_err(broken)?;
    }
    if scavenged {
        writeln!(out, "the trees do not lead to the group: scavenged from the entries").map_err(broken)?;
    }
    Ok(exit)
}

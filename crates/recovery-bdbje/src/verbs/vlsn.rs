//! `vlsn`: the answer of `DbPrintLog -vd`, with every checksum verified, and the figures that matter.

use std::io::Write;
use std::sync::Arc;

use recovery_core::cli::Exit;
use recovery_core::names::terminal;
use recovery_core::{Context, Result, Source, parallel};
use serde_json::{Value, json};

use super::{broken, document};
use crate::format::EntryType;
use crate::meta::Meta;
use crate::reader::scan::{ScanOptions, scan_tail};
use crate::reader::{Log, LogScan, scan_log};

struct Answer {
    path: String,
    scan: LogScan,
    quick: bool,
}

fn ask(source: &Arc<dyn Source>, quick: bool, cx: &Context) -> Result<Answer> {
    let meta = Meta::locate(source.as_ref())?;
    let path = source.describe();
    let options = ScanOptions::default();
    if !quick {
        let scan = scan_log(&Log::open(source.as_ref(), &meta), options, cx)?;
        return Ok(Answer { path, scan, quick });
    }
    Ok(Answer { path, scan: scan_tail(source.as_ref(), &meta, cx)?, quick })
}

fn facts(a: &Answer) -> Value {
    let (front, all) = (a.scan.front(), a.scan.all());
    let bad: Vec<Value> = a
        .scan
        .bad()
        .map(|(f, b)| json!({"file": f.name, "offset": b.offset, "end": b.end, "why": b.error.class(), "valid_entries_behind": f.behind.entries, "commits_behind": f.behind.count(EntryType::COMMIT)}))
        .collect();
    let files: Vec<Value> = a
        .scan
        .files
        .values()
        .map(|f| json!({"file": f.name, "size": f.len, "valid_to": f.valid_to, "entries": f.front.entries, "replicated": f.front.replicated,
            "first_vlsn": f.front.first_vlsn, "last_vlsn": f.front.last_vlsn, "invisible": f.front.invisible}))
        .collect();
    json!({
        "path": a.path,
        "complete": !a.quick,
        "first_vlsn": if a.quick { None } else { front.first_visible },
        "last_vlsn": front.last_visible,
        "last_vlsn_raw": front.last_vlsn,
        "last_vlsn_readable": all.last_visible,
        "last_commit_vlsn": front.last_commit.map(|(v, _)| v),
        "last_commit_lsn": front.last_commit.map(|(_, l)| l.to_string()),
        "last_commit_readable": all.last_commit.map(|(v, _)| v),
        "last_commit_time_ms": all.last_commit_end.map(|e| e.time),
        "term": all.last_commit_end.map(|e| e.master),
        "last_sync_vlsn": front.last_sync,
        "dtvlsn": all.dtvlsn,
        "log_end": a.scan.je_end().map(|l| l.to_string()),
        "bytes": a.scan.files.values().fold(0u64, |n, f| n.saturating_add(f.len)),
        "damage": bad,
        "files": files,
    })
}

/// Groups of three digits, as the Java tool prints VLSNs.
pub(super) fn grouped(v: i64) -> String {
    let digits = v.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && digits.len().saturating_sub(i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    if v < 0 { format!("-{out}") } else { out }
}

/// The lines of `-vd`.
pub(super) fn distribution(scan: &LogScan, out: &mut dyn Write) -> Result<()> {
    let mut between = 0u32;
    for f in scan.files.values() {
        let (Some(a), Some(b)) = (f.front.first_vlsn, f.front.last_vlsn) else {
            between = between.saturating_add(1);
            continue;
        };
        if between > 0 {
            writeln!(out, "... {between} files").map_err(broken)?;
            between = 0;
        }
        let (n, a, b) = (f.front.replicated, grouped(a), grouped(b));
        writeln!(out, "file {:#x} numRepRecords = {n} firstVLSN = {a} lastVLSN = {b}", f.number).map_err(broken)?;
    }
    writeln!(out, "... {between} files at end").map_err(broken)?;
    if let (Some(a), Some(b)) = (scan.files.keys().next(), scan.files.keys().next_back()) {
        writeln!(out, "First file: {a:#x}\nLast file: {b:#x}").map_err(broken)?;
    }
    Ok(())
}

pub(super) fn run(
    sources: &[Arc<dyn Source>],
    quick: bool,
    json: bool,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let answers = if sources.len() > 1 {
        parallel::map(cx, sources, |_, s| ask(s, quick, cx))?.into_iter().collect::<Result<Vec<_>>>()?
    } else {
        sources.iter().map(|s| ask(s, quick, cx)).collect::<Result<Vec<_>>>()?
    };
    let damaged = answers.iter().any(|a| a.scan.bad().any(|(_, b)| b.resynced));
    let exit = Exit(if damaged { 3 } else { 0 });
    if json {
        document(out, &json!({"nodes": answers.iter().map(facts).collect::<Vec<_>>()}))?;
        return Ok(exit);
    }
    for a in &answers {
        writeln!(out, "{}", terminal(&a.path)).map_err(broken)?;
        distribution(&a.scan, out)?;
        let (front, all) = (a.scan.front(), a.scan.all());
        let show = |v: Option<i64>| v.map_or_else(|| "none".to_owned(), |v| v.to_string());
        writeln!(
            out,
            "lastVLSN {} lastCommit {} at {} dtvlsn {} lastSync {}",
            show(front.last_visible),
            show(front.last_commit.map(|(v, _)| v)),
            front.last_commit.map_or_else(|| "none".to_owned(), |(_, l)| l.to_string()),
            show(all.dtvlsn),
            show(front.last_sync)
        )
        .map_err(broken)?;
        for (f, b) in a.scan.bad() {
            writeln!(
                out,
                "DAMAGE {} at {:#x}: {}; {} valid entries and {} commits behind it",
                terminal(&f.name),
                b.offset,
                b.error.class(),
                f.behind.entries,
                f.behind.count(EntryType::COMMIT)
            )
            .map_err(broken)?;
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_grouped() {
        assert_eq!(super::grouped(3382), "3,382");
        assert_eq!(super::grouped(182), "182");
        assert_eq!(super::grouped(-1_234_567), "-1,234,567");
    }
}

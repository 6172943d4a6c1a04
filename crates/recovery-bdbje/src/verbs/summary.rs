//! `printlog -S`: counts and sizes by type, and what lies between checkpoints, as `DbPrintLog -S` prints them.

use std::io::Write;

use recovery_core::{Context, Cursor, Result, parallel};
use serde_json::{Value, json};

use super::{broken, document};
use crate::format::ln::LnEntry;
use crate::format::{EntryType, Lsn};
use crate::reader::{Log, LogFile, LogScan, Walker};

/// File size by which JE counts distances that span files.
const FILE_MAX: u64 = crate::writer::FILE_MAX;

/// Sizes of one kind. The real tool takes a smallest size of 0 for none seen yet, so the size behind an empty one
/// becomes the smallest again; what it prints is what users compare.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    count: u64,
    provisional: u64,
    bytes: u64,
    min: u64,
    max: u64,
    emptied: bool,
}

impl Sizes {
    fn add(&mut self, bytes: u64, provisional: bool) {
        self.min = if self.min == 0 { bytes } else { self.min.min(bytes) };
        self.emptied |= bytes == 0;
        self.max = self.max.max(bytes);
        self.count = self.count.saturating_add(1);
        self.provisional = self.provisional.saturating_add(u64::from(provisional));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn merge(&mut self, o: &Self) {
        if o.count == 0 {
            return;
        }
        self.min = if o.emptied || self.min == 0 { o.min } else { self.min.min(o.min) };
        self.emptied |= o.emptied;
        self.max = self.max.max(o.max);
        self.count = self.count.saturating_add(o.count);
        self.provisional = self.provisional.saturating_add(o.provisional);
        self.bytes = self.bytes.saturating_add(o.bytes);
    }
}

/// What happened between two events of checkpoints.
#[derive(Clone, Copy, Debug, Default)]
struct Between {
    ln_txn: u64,
    ln: u64,
    map_txn: u64,
    map: u64,
}

impl Between {
    fn add(&mut self, kind: EntryType) {
        let n = match kind.number() {
            1 | 31 | 33 | 35 => &mut self.ln_txn,
            2 | 32 | 34 | 36 => &mut self.ln,
            3 => &mut self.map_txn,
            4 => &mut self.map,
            _ => return,
        };
        *n = n.saturating_add(1);
    }

    fn plus(self, o: Self) -> Self {
        Self {
            ln_txn: self.ln_txn.saturating_add(o.ln_txn),
            ln: self.ln.saturating_add(o.ln),
            map_txn: self.map_txn.saturating_add(o.map_txn),
            map: self.map.saturating_add(o.map),
        }
    }
}

/// A checkpoint's begin or end, with what came since the event before.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: Lsn,
    end: bool,
    since: Between,
}

#[derive(Debug)]
struct Counts {
    types: [Sizes; 44],
    keys: Sizes,
    data: Sizes,
    events: Vec<Event>,
    rest: Between,
    last: Option<Lsn>,
}

impl Default for Counts {
    fn default() -> Self {
        let none = Sizes::default();
        let events = Vec::new();
        Self { types: [none; 44], keys: none, data: none, events, rest: Between::default(), last: None }
    }
}

impl Counts {
    fn append(&mut self, mut next: Self) {
        for (a, b) in self.types.iter_mut().zip(&next.types) {
            a.merge(b);
        }
        self.keys.merge(&next.keys);
        self.data.merge(&next.data);
        self.last = next.last.or(self.last);
        match next.events.first_mut() {
            Some(first) => {
                first.since = self.rest.plus(first.since);
                self.rest = next.rest;
            }
            None => self.rest = self.rest.plus(next.rest),
        }
        self.events.append(&mut next.events);
    }
}

fn count(file: &LogFile, scan: &LogScan) -> Counts {
    let mut out = Counts::default();
    let Some(s) = scan.files.get(&file.number) else { return out };
    let mut walker = Walker::new(file.blob.as_ref(), file.len);
    let mut bad = s.bad.iter().peekable();
    let mut at = 0;
    while at < file.len {
        if let Some(b) = bad.next_if(|b| b.offset == at) {
            at = b.end;
            continue;
        }
        let Ok(e) = walker.entry(at) else { break };
        let place = Lsn::new(file.number, u32::try_from(at).unwrap_or(u32::MAX));
        at = e.end();
        out.last = Some(place);
        let h = &e.header;
        if let Some(t) = out.types.get_mut(usize::from(h.kind.number())) {
            t.add(h.total(), h.provisional());
        }
        match h.kind {
            EntryType::CKPT_START | EntryType::CKPT_END => {
                let since = std::mem::take(&mut out.rest);
                out.events.push(Event { at: place, end: h.kind == EntryType::CKPT_END, since });
            }
            kind => out.rest.add(kind),
        }
        if h.kind.is_user_ln()
            && let Ok(ln) = LnEntry::decode(&mut Cursor::new(e.item(), e.item_at()), h.kind, file.version())
        {
            out.keys.add(ln.key.len() as u64, false);
            if let Some(data) = ln.data {
                out.data.add(data.len() as u64, false);
            }
        }
    }
    out
}

/// One line about a checkpoint.
#[derive(Debug)]
struct Interval {
    total: Between,
    end_to_end: u64,
    end_to_start: u64,
    start_to_end: u64,
    max_replay: u64,
    end: Lsn,
}

/// Bytes from one place to another, with every file between taken for full.
fn distance(log: &Log, from: Lsn, to: Lsn) -> u64 {
    if from >= to {
        return 0;
    }
    // A file that is gone counts once, however many are.
    let gone = u64::from(from.file() < to.file() && !log.files.contains_key(&from.file()));
    let files = (log.files.range(from.file()..to.file()).count() as u64).saturating_add(gone);
    files.saturating_mul(FILE_MAX).saturating_add(to.offset().into()).saturating_sub(from.offset().into())
}

fn intervals(log: &Log, counts: &Counts) -> Vec<Interval> {
    let mut out = Vec::new();
    let mut last_end = Lsn(0);
    let mut start = None;
    let (mut before, mut after, mut carried) = (Between::default(), Between::default(), 0u64);
    let sum = |b: Between| b.ln_txn.saturating_add(b.ln);
    for e in &counts.events {
        if !e.end {
            // A checkpoint that did not end: what followed its start counts, distances go by the next start.
            after = if start.is_some() { after.plus(e.since) } else { Between::default() };
            start = Some(e.at);
            before = before.plus(e.since);
            continue;
        }
        let total = before.plus(e.since);
        let from = start.take().unwrap_or(last_end);
        out.push(Interval {
            total,
            end_to_end: distance(log, last_end, e.at),
            end_to_start: distance(log, last_end, from),
            start_to_end: distance(log, from, e.at),
            max_replay: carried.saturating_add(sum(total)),
            end: e.at,
        });
        carried = sum(after.plus(e.since));
        (before, after) = (Between::default(), Between::default());
        last_end = e.at;
    }
    // What follows the last checkpoint, up to the last entry.
    let end = counts.last.unwrap_or(last_end);
    let total = before.plus(counts.rest);
    let end_to_end = distance(log, last_end, end);
    let end_to_start = start.map_or(end_to_end, |s| distance(log, last_end, s));
    let max_replay = carried.saturating_add(sum(total));
    out.push(Interval { total, end_to_end, end_to_start, start_to_end: 0, max_replay, end });
    out
}

/// Groups of three digits, as the Java tool prints numbers.
fn grouped(n: u64) -> String {
    super::vlsn::grouped(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A share in percent with at most one digit behind the point, halves to the even digit.
fn percent(part: u64, whole: u64) -> String {
    let (part, whole) = (u128::from(part).saturating_mul(1000), u128::from(whole.max(1)));
    let (mut tenths, rest) = (part.checked_div(whole).unwrap_or(0), part.checked_rem(whole).unwrap_or(0));
    let twice = rest.saturating_mul(2);
    if twice > whole || twice == whole && tenths % 2 == 1 {
        tenths = tenths.saturating_add(1);
    }
    if tenths % 10 == 0 { (tenths / 10).to_string() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

fn row(out: &mut dyn Write, cells: &[String]) -> Result<()> {
    let line: String = cells.iter().map(|c| format!("{c:>20}")).collect();
    writeln!(out, "{line}").map_err(broken)
}

fn sizes_row(out: &mut dyn Write, name: &str, s: &Sizes, share: String, provisional: bool) -> Result<()> {
    let avg = s.bytes.checked_div(s.count).unwrap_or(0);
    let prov = if provisional { grouped(s.provisional) } else { String::new() };
    let cells = [
        name.to_owned(),
        grouped(s.count),
        prov,
        grouped(s.bytes),
        grouped(s.min),
        grouped(s.max),
        grouped(avg),
        share,
    ];
    row(out, &cells)
}

pub(super) fn run(log: &Log, scan: &LogScan, json: bool, out: &mut dyn Write, cx: &Context) -> Result<()> {
    let files: Vec<&LogFile> = log.files.values().collect();
    let mut all = Counts::default();
    for c in parallel::map(cx, &files, |_, f| count(f, scan))? {
        all.append(c);
    }
    let bytes = all.types.iter().fold(0u64, |n, t| n.saturating_add(t.bytes));
    let entries = all.types.iter().fold(0u64, |n, t| n.saturating_add(t.count));
    let rows =
        || (1..=43u8).filter_map(EntryType::new).filter_map(|k| Some((k, all.types.get(usize::from(k.number()))?)));
    let rows = || rows().filter(|(_, t)| t.count > 0);
    if json {
        let types: Vec<Value> = rows()
            .map(|(k, t)| json!({"type": k.name(), "count": t.count, "provisional": t.provisional, "bytes": t.bytes, "min": t.min, "max": t.max}))
            .collect();
        let checkpoints: Vec<Value> = intervals(log, &all)
            .iter()
            .map(|i| json!({"end": i.end, "ln_txn": i.total.ln_txn, "ln": i.total.ln, "map_ln_txn": i.total.map_txn, "map_ln": i.total.map, "end_to_end": i.end_to_end, "end_to_start": i.end_to_start, "start_to_end": i.start_to_end, "max_ln_replay": i.max_replay}))
            .collect();
        let value = json!({"types": types, "entries": entries, "bytes": bytes, "key_bytes": all.keys.bytes, "data_bytes": all.data.bytes, "checkpoints": checkpoints});
        return document(out, &value);
    }
    writeln!(out, "Log statistics:").map_err(broken)?;
    row(out, &["type", "total", "provisional", "total", "min", "max", "avg", "entries"].map(str::to_owned))?;
    row(out, &["", "count", "count", "bytes", "bytes", "bytes", "bytes", "as % of log"].map(str::to_owned))?;
    for (k, t) in rows() {
        sizes_row(out, k.name(), t, percent(t.bytes, bytes), true)?;
    }
    if all.keys.count > 0 {
        sizes_row(out, "key bytes", &all.keys, format!("({})", percent(all.keys.bytes, bytes)), false)?;
        sizes_row(out, "data bytes", &all.data, format!("({})", percent(all.data.bytes, bytes)), false)?;
    }
    let (bytes, entries) = (grouped(bytes), grouped(entries));
    writeln!(out, "\nTotal bytes in portion of log read: {bytes}\nTotal number of entries: {entries}\n")
        .map_err(broken)?;
    writeln!(out, "Per checkpoint interval info:").map_err(broken)?;
    let heads =
        ["lnTxn", "ln", "mapLNTxn", "mapLN", "end to end", "end to start", "start to end", "maxLNReplay", "ckptEnd"];
    row(out, &heads.map(str::to_owned))?;
    for i in intervals(log, &all) {
        let numbers = [
            i.total.ln_txn,
            i.total.ln,
            i.total.map_txn,
            i.total.map,
            i.end_to_end,
            i.end_to_start,
            i.start_to_end,
            i.max_replay,
        ];
        let cells: String = numbers.into_iter().map(|n| format!("{:>20}", grouped(n))).collect();
        writeln!(out, "{cells}   {}", i.end).map_err(broken)?;
    }
    Ok(())
}

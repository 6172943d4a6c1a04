//! `journal`: the frontend's operations as JSON Lines.

use std::collections::HashSet;
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Context, Error, Reading, Result, Source};

use super::dump::{hex_into, open_strictly};
use super::{broken, set, text};
use crate::format::packed;
use crate::inspect::node::{self, Node};
use crate::journal::opcodes::{self, Product};
use crate::journal::payload::put_json;
use crate::journal::{self, EPOCH_DB, Entry, Payload};
use crate::model::records::RecordRef;
use crate::model::{Batch, Environment, Problem, Role};

/// Which records, and how they are named.
struct Wanted {
    ids: RangeInclusive<i64>,
    codes: Option<HashSet<i16>>,
    product: Product,
}

impl Wanted {
    fn of(args: &ArgMatches) -> Result<Self> {
        let id = |name: &str| args.try_get_one::<i64>(name).ok().flatten().copied();
        let ids = id("from").unwrap_or(i64::MIN)..=id("to").unwrap_or(i64::MAX);
        if ids.is_empty() {
            return Err(Error::Usage(format!("--from {} lies behind --to {}", ids.start(), ids.end())));
        }
        let product = match text(args, "product") {
            Some("doris") => Product::Doris,
            _ => Product::StarRocks,
        };
        let mut codes: Option<HashSet<i16>> = None;
        for name in args.try_get_many::<String>("op").ok().flatten().into_iter().flatten() {
            let found = opcodes::codes(name);
            if found.is_empty() {
                let like = opcodes::like(name);
                let hint = match like.is_empty() {
                    true => "a name such as CREATE_TABLE_V2, or a number".to_owned(),
                    false => like.into_iter().take(8).collect::<Vec<_>>().join(", "),
                };
                return Err(Error::Usage(format!("--op {name}: no such operation; known: {hint}")));
            }
            codes.get_or_insert_default().extend(found);
        }
        Ok(Self { ids, codes, product })
    }

    fn holds(&self, e: &Entry<'_>) -> bool {
        let code = || self.codes.as_ref().is_none_or(|c| e.operation.code.is_some_and(|code| c.contains(&code)));
        e.id.is_none_or(|id| self.ids.contains(&id)) && code()
    }

    /// Appends the line of a record, when it is one of those.
    fn put(&self, buf: &mut Vec<u8>, db: &str, key: &[u8], value: &[u8], extra: &str) {
        let entry = Entry::of(key, value);
        if !self.holds(&entry) {
            return;
        }
        match entry.id {
            Some(id) => buf.extend_from_slice(format!("{{\"id\":{id},\"db\":{db}").as_bytes()),
            None => {
                buf.extend_from_slice(b"{\"id\":null,\"key\":\"");
                hex_into(buf, entry.key);
                buf.extend_from_slice(format!("\",\"db\":{db}").as_bytes());
            }
        }
        let op = entry.operation;
        let code = op.code.map_or("null".to_owned(), |c| c.to_string());
        let name = op.code.and_then(|c| opcodes::name(c, self.product));
        let name = name.map_or("null".to_owned(), |n| format!("\"{n}\""));
        let length = op.payload.len();
        buf.extend_from_slice(format!(",\"op\":{code},\"op_name\":{name},\"length\":{length}").as_bytes());
        match op.decode() {
            Payload::Json(text) => {
                buf.extend_from_slice(b",\"payload\":");
                put_json(buf, text);
            }
            Payload::Text(text) => {
                buf.extend_from_slice(b",\"payload\":");
                buf.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
            }
            Payload::Number(n) => buf.extend_from_slice(format!(",\"payload\":{n}").as_bytes()),
            Payload::Binary(bytes) => {
                buf.extend_from_slice(b",\"payload_hex\":\"");
                hex_into(buf, bytes);
                buf.push(b'"');
            }
        }
        buf.extend_from_slice(extra.as_bytes());
        buf.extend_from_slice(b"}\n");
    }
}

pub(super) fn run(source: &Arc<dyn Source>, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let wanted = Wanted::of(args)?;
    if set(args, "salvage") || cx.reading == Reading::Salvage {
        return salvage(source, &wanted, set(args, "epochs"), out, cx);
    }
    let env = open_strictly(source, Role::Standalone, cx)?;
    if set(args, "epochs") {
        return epochs(&env, out, cx);
    }
    for db in journal::within(journal::databases(env.names.keys().map(String::as_str)), &wanted.ids) {
        let Some(found) = env.database(&db.name) else { continue };
        let (shown, mut problems) = (serde_json::Value::from(db.name.as_str()).to_string(), Vec::new());
        let damaged = |p: &Problem| Error::Damaged(format!("{}: {p}; --salvage passes over it", db.name));
        let each = |buf: &mut Vec<u8>, r: RecordRef<'_>| wanted.put(buf, &shown, r.key, r.data, "");
        let mut sink = |lines: Vec<u8>, found: Vec<Problem>| match found.first() {
            Some(p) => Err(damaged(p)),
            None => out.write_all(&lines).map_err(broken),
        };
        env.visit(found, cx, &each, &mut sink, &mut problems)?;
        if let Some(p) = problems.first() {
            return Err(damaged(p));
        }
    }
    Ok(Exit::OK)
}

fn epoch_line(out: &mut dyn Write, key: &[u8], extra: &str) -> Result<()> {
    match packed::long_key(key) {
        Some(epoch) => writeln!(out, "{{\"db\":\"{EPOCH_DB}\",\"epoch\":{epoch}{extra}}}").map_err(broken),
        None => Ok(()),
    }
}

/// The epochs of the leaders there were.
fn epochs(env: &Environment, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let Some(db) = env.database(EPOCH_DB) else { return Ok(Exit::OK) };
    let mut sink = |b: Batch| match b.problems.first() {
        Some(p) => Err(Error::Damaged(format!("{EPOCH_DB}: {p}; --salvage passes over it"))),
        None => b.records.iter().try_for_each(|r| epoch_line(out, &r.key, "")),
    };
    env.records(db, cx, &mut sink, &mut Vec::new())?;
    Ok(Exit::OK)
}

/// From everything readable. What is in doubt or known only in an older version is marked.
fn salvage(source: &Arc<dyn Source>, wanted: &Wanted, epochs: bool, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let n = node::read(source, 0, false, cx)?;
    let mut lost = 0u64;
    if let Some(s) = &n.scavenged {
        let names = s.databases.keys().map(String::as_str);
        let dbs = if epochs {
            s.databases.keys().filter(|n| *n == EPOCH_DB).cloned().collect()
        } else {
            journal::within(journal::databases(names), &wanted.ids).into_iter().map(|d| d.name).collect::<Vec<_>>()
        };
        for (name, found) in dbs.iter().filter_map(|n| s.databases.get_key_value(n)) {
            let (shown, mut buf) = (serde_json::Value::from(name.as_str()).to_string(), Vec::new());
            for (key, version, doubt) in found.versions(true) {
                let stale = !doubt && found.keys.get(key).is_some_and(|k| k.stale().is_some());
                let extra = match (doubt, stale) {
                    (true, _) => ",\"in_doubt\":true",
                    (_, true) => ",\"stale\":true",
                    _ => "",
                };
                match version.data_in(n.true_log(), key) {
                    Some(_) if epochs => epoch_line(out, key, extra)?,
                    Some(value) => wanted.put(&mut buf, &shown, key, &value, extra),
                    None => lost = lost.saturating_add(1),
                }
                if buf.len() > 1 << 20 {
                    out.write_all(&buf).map_err(broken)?;
                    buf.clear();
                }
            }
            out.write_all(&buf).map_err(broken)?;
            let [_, _, _, gone] = found.counts();
            lost = lost.saturating_add(gone);
        }
    } else if let Some(env) = &n.je {
        whole(env, wanted, epochs, out, cx)?;
    }
    Ok(exit(&n, lost))
}

fn whole(env: &Environment, wanted: &Wanted, all: bool, out: &mut dyn Write, cx: &Context) -> Result<()> {
    if all {
        return epochs(env, out, cx).map(drop);
    }
    for db in journal::within(journal::databases(env.names.keys().map(String::as_str)), &wanted.ids) {
        let Some(found) = env.database(&db.name) else { continue };
        let shown = serde_json::Value::from(db.name.as_str()).to_string();
        let each = |buf: &mut Vec<u8>, r: RecordRef<'_>| wanted.put(buf, &shown, r.key, r.data, "");
        let mut sink = |lines: Vec<u8>, _| out.write_all(&lines).map_err(broken);
        env.visit(found, cx, &each, &mut sink, &mut Vec::new())?;
    }
    Ok(())
}

fn exit(n: &Node, lost: u64) -> Exit {
    Exit(match (lost > 0 || n.unaccounted > 0, n.damaged()) {
        (true, _) => 4,
        (_, true) => 3,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn line(key: &[u8], value: &[u8]) -> String {
        let wanted = Wanted { ids: i64::MIN..=i64::MAX, codes: None, product: Product::StarRocks };
        let mut buf = Vec::new();
        wanted.put(&mut buf, "\"7\"", key, value, "");
        String::from_utf8(buf).unwrap()
    }

    #[test]
    fn a_record_is_one_line() {
        let value = [&12001i16.to_be_bytes()[..], &8i32.to_be_bytes(), b"{\"t\":37}"].concat();
        let want =
            "{\"id\":37,\"db\":\"7\",\"op\":12001,\"op_name\":\"CREATE_DB_V2\",\"length\":12,\"payload\":{\"t\":37}}\n";
        assert_eq!(line(&(37u64 | 1 << 63).to_be_bytes(), &value), want);
        let want = "{\"id\":null,\"key\":\"6b\",\"db\":\"7\",\"op\":null,\"op_name\":null,\"length\":1,\"payload_hex\":\"ff\"}\n";
        assert_eq!(line(b"k", &[0xff]), want);
    }

    proptest! {
        #[test]
        fn any_record_is_one_line_of_json(key: [u8; 8], code: i16, text in ".*", raw: Vec<u8>, framed: bool) {
            let length = i32::try_from(text.len()).unwrap().to_be_bytes();
            let text = [&length[..], text.as_bytes()].concat();
            let value = [&code.to_be_bytes()[..], if framed { &text } else { &raw }].concat();
            let line = line(&key, &value);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let v: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(v["op"].as_i64(), Some(code.into()));
            prop_assert!(v.get("payload").is_some() != v.get("payload_hex").is_some());
        }
    }
}

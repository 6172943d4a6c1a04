//! `image`: blocks of an image, their checksums and their JSON.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::names::terminal;
use recovery_core::{Blob, Context, DirSource, Error, FileBlob, Result, Source, hex};
use serde_json::{Value, json};

use super::{broken, json_wanted, set, text};
use crate::journal::payload::{is_json, put_json};
use crate::meta::blocks::{self, Block, Event, Form, Head, Outcome};
use crate::meta::image;

/// An image and what lies beside it.
struct Opened {
    name: String,
    journal_id: Option<i64>,
    blob: Arc<dyn Blob>,
    /// What `checksum.N` says, when there is one.
    checksum: Option<String>,
}

fn id_of(name: &str) -> Option<i64> {
    name.rsplit('/').next()?.strip_prefix("image.")?.parse().ok()
}

/// A file, or the image that a frontend would load from a directory.
fn open(path: &str, cx: &Context) -> Result<Opened> {
    let at = Path::new(path);
    if at.is_dir() {
        let source = DirSource::open(at)?;
        let all = ["image", "", "meta/image"].into_iter().map(|dir| image::list(&source, dir, cx));
        let found = all.into_iter().find_map(|images| images.into_iter().next());
        let found =
            found.ok_or_else(|| Error::Unusable(format!("{path}: no image.N here, in image/ or in meta/image/")))?;
        let blob = source.open_name(&found.name)?;
        let blob = blob.ok_or_else(|| Error::Unusable(format!("{path}/{}: gone", found.name)))?;
        let dir = found.name.rsplit_once('/').map_or("", |(d, _)| d);
        let beside = format!("{dir}/checksum.{}", found.journal_id);
        let checksum = source.open_name(beside.trim_start_matches('/')).ok().flatten().and_then(|b| small(b.as_ref()));
        return Ok(Opened {
            name: format!("{path}/{}", found.name),
            journal_id: Some(found.journal_id),
            blob,
            checksum,
        });
    }
    let blob: Arc<dyn Blob> = Arc::new(FileBlob::open(at, path)?);
    let journal_id = id_of(path);
    let beside = journal_id.map(|n| at.with_file_name(format!("checksum.{n}"))).filter(|p| p.is_file());
    let checksum = beside.and_then(|p| FileBlob::open(&p, p.to_string_lossy()).ok()).and_then(|b| small(&b));
    Ok(Opened { name: path.to_owned(), journal_id, blob, checksum })
}

fn small(blob: &dyn Blob) -> Option<String> {
    let bytes = blob.bytes(0..blob.len().min(64)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// How an image stands: a word, why, and the exit code.
fn verdict(out: &Outcome, o: &Opened, head: Option<&Head>) -> (&'static str, String, Exit) {
    let bad = |why: String| ("bad", why, Exit(4));
    let Some(head) = head else {
        let why = out.stopped.as_ref().map_or_else(String::new, |(at, why)| format!("at {at:#x}: {why}"));
        return ("bad", why, Exit(5));
    };
    if let (Some(own), Some(named)) = (head.journal_id, o.journal_id)
        && own != named
    {
        return bad(format!("it holds the state after journal id {own}, its name says {named}"));
    }
    if let Some((at, why)) = &out.stopped {
        return bad(format!("at {at:#x}: {why}"));
    }
    let blocks = match out.bad {
        0 => None,
        1 => Some("one block is damaged".to_owned()),
        n => Some(format!("{n} blocks are damaged")),
    };
    if let Some(sum) = out.sum {
        return match o.checksum.as_deref().map(|c| (c, c.parse::<u64>().ok())) {
            Some((text, stored)) if stored != Some(sum) => {
                bad(format!("CRC-32 of the file is {sum}, checksum.N says {text}"))
            }
            _ if blocks.is_some() => bad(blocks.unwrap_or_default()),
            Some(_) => ("valid", "the CRC-32 of the file is that of checksum.N".to_owned(), Exit::OK),
            None => ("unverified", "there is no checksum.N beside it".to_owned(), Exit::OK),
        };
    }
    let unverified = |why: &str| ("unverified", why.to_owned(), Exit::OK);
    match head.form {
        Form::Old => {
            return unverified(
                "an image from before meta version 4 is not in blocks and has no checksum that covers it; its modules are not read",
            );
        }
        Form::Doris => {
            return unverified(
                "an image of Doris: begin, end and index agree; its modules are not read, and its sum could only be checked by reading all of them",
            );
        }
        Form::V1 | Form::V2 => {}
    }
    blocks.map_or_else(|| ("valid", "the CRC-32 of every block agrees".to_owned(), Exit::OK), bad)
}

pub(super) fn run(args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let path = text(args, "file").ok_or_else(|| Error::Usage("name an image".to_owned()))?;
    let opened = open(path, cx)?;
    if json_wanted(args) { document(&opened, out, cx) } else { listing(&opened, set(args, "list"), out, cx) }
}

fn value_into(buf: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(t) if is_json(t) => put_json(buf, t),
        Ok(t) => buf.extend_from_slice(Value::from(t).to_string().as_bytes()),
        Err(_) => buf.extend_from_slice(json!({"hex": hex(bytes)}).to_string().as_bytes()),
    }
}

/// One document, written as it is read.
fn document(o: &Opened, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let mut head: Option<Head> = None;
    let (mut first_block, mut first_value) = (true, true);
    write!(out, "{{\"schema\":\"recover/bdbje-image/1\",\"file\":{}", Value::from(o.name.as_str())).map_err(broken)?;
    write!(out, ",\"journal_id\":{},\"bytes\":{}", json!(o.journal_id), o.blob.len()).map_err(broken)?;
    let mut sink = |e: Event<'_>| -> Result<()> {
        let mut buf = Vec::new();
        match e {
            Event::Head(h) => {
                let v = serde_json::to_value(h).map_err(|e| Error::Internal(e.to_string()))?;
                buf.extend_from_slice(format!(",\"head\":{v},\"blocks\":[").as_bytes());
                head = Some(h.clone());
            }
            Event::Begin(_) => {
                buf.extend_from_slice(if first_block { b"{\"values\":[" } else { b",{\"values\":[" });
                (first_block, first_value) = (false, true);
            }
            Event::Value(_, bytes) => {
                if !first_value {
                    buf.push(b',');
                }
                first_value = false;
                value_into(&mut buf, bytes);
            }
            Event::End(b) => {
                let v = serde_json::to_string(b).map_err(|e| Error::Internal(e.to_string()))?;
                buf.extend_from_slice(b"],");
                buf.extend_from_slice(v.trim_start_matches('{').as_bytes());
            }
        }
        out.write_all(&buf).map_err(broken)
    };
    let outcome = blocks::read(o.blob.as_ref(), cx, &mut sink)?;
    out.write_all(if head.is_some() { b"]" } else { b",\"head\":null,\"blocks\":[]" }).map_err(broken)?;
    let (state, why, exit) = verdict(&outcome, o, head.as_ref());
    let sum = outcome.sum.map(|computed| json!({"stored": o.checksum, "computed": computed}));
    let stopped = outcome.stopped.as_ref().map(|(at, _)| at);
    let rest = [
        ("checksum", json!(sum)),
        ("state", json!(state)),
        ("why", json!(why)),
        ("stopped_at", json!(stopped)),
        ("exit", json!(exit.0)),
    ];
    for (name, value) in rest {
        write!(out, ",\"{name}\":{value}").map_err(broken)?;
    }
    writeln!(out, "}}").map_err(broken)?;
    Ok(exit)
}

/// Lines for people: blocks, and behind each its values.
fn listing(o: &Opened, list: bool, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let mut head: Option<Head> = None;
    // The verdict stands first: the image is read twice when its values are shown.
    let outcome = blocks::read(o.blob.as_ref(), cx, &mut |e| {
        if let Event::Head(h) = e {
            head = Some(h.clone());
        }
        Ok(())
    })?;
    let (state, why, exit) = verdict(&outcome, o, head.as_ref());
    let name = terminal(&o.name).into_owned();
    writeln!(out, "{name}: {state}; {}", terminal(&why)).map_err(broken)?;
    if let Some(h) = &head {
        let form = match h.form {
            Form::Old => "the form before StarRocks 3.0, or of Doris before 1.2",
            Form::Doris => "the form of Doris",
            Form::V1 => "the first form of StarRocks 3.0 and later",
            Form::V2 => "the second form, StarRocks 3.4 and later",
        };
        let community = h.community_version.map_or(String::new(), |v| format!(" (community {v})"));
        let id = h.journal_id.or(o.journal_id).map_or(String::new(), |n| format!(", state after journal id {n}"));
        writeln!(out, "{form}; meta version {}{community}{id}, {} bytes", h.meta_version, o.blob.len())
            .map_err(broken)?;
        if !h.header.is_null() {
            writeln!(out, "header {}", terminal(&h.header.to_string())).map_err(broken)?;
        }
        if let Some(end) = h.batch_end_id {
            let leader =
                h.leader.as_deref().map_or(String::new(), |l| format!("; written by the leader {}", terminal(l)));
            writeln!(out, "ids in use end at {end}{leader}").map_err(broken)?;
        }
    }
    let modules = head.as_ref().is_some_and(|h| h.form == Form::Doris);
    let list = list || modules;
    let title = |b: &Block| {
        if modules {
            return format!("{:#010x}  module {}", b.offset, terminal(&b.name));
        }
        let id = b.id.map_or("-".to_owned(), |n| n.to_string());
        let name = if b.name.is_empty() { "unknown, passed over by a frontend" } else { &b.name };
        format!("{:#010x}  block {id:>3}  {}", b.offset, terminal(name))
    };
    let mut sink = |e: Event<'_>| -> Result<()> {
        match e {
            Event::Head(_) => Ok(()),
            Event::Begin(b) if !list => writeln!(out, "{}: {} values", title(b), b.announced).map_err(broken),
            Event::Begin(_) => Ok(()),
            Event::Value(_, bytes) => {
                if list {
                    return Ok(());
                }
                let mut buf = Vec::new();
                value_into(&mut buf, bytes);
                writeln!(out, "  {}", terminal(&String::from_utf8_lossy(&buf))).map_err(broken)
            }
            Event::End(b) => {
                let state = match (&b.problem, b.stored) {
                    (Some(p), _) => format!("DAMAGED: {}", terminal(p)),
                    (None, Some(_)) => "CRC-32 agrees".to_owned(),
                    (None, None) => "complete".to_owned(),
                };
                if modules {
                    return writeln!(out, "{}: {} bytes", title(b), b.bytes).map_err(broken);
                }
                if list {
                    let (n, bytes) = (b.values, b.bytes);
                    return writeln!(out, "{}: {n} values, {bytes} bytes, {state}", title(b)).map_err(broken);
                }
                writeln!(out, "  {state}").map_err(broken)
            }
        }
    };
    blocks::read(o.blob.as_ref(), cx, &mut sink)?;
    Ok(exit)
}

//! `cat` and `extract`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Context, DirTarget, Error, Reading, Result, Source};
use serde_json::{Value, json};

use super::{Image, line, print_json, shown, trouble};
use crate::checks::{Checked, ClusterWatch};
use crate::extract::{self, ExtractOptions, Extracted, Unhashed};
use crate::inspect::pfs as inspect;
use crate::model::pfs::Doubt;
use crate::reader::pfs::{Item, pass};

pub(super) fn cat(image: &Image, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let node = image.node()?;
    let path = shown(&image.files().path(node.ino));
    if node.directory {
        return Err(Error::Usage(format!("{path}: a directory")));
    }
    let salvage = cx.reading == Reading::Salvage;
    let only_data = |d: &&Doubt| !salvage && **d != Doubt::Data;
    if let Some(doubt) = node.doubts.iter().find(only_data) {
        return Err(Error::Damaged(format!("{path}: {}; --salvage gives what is there", doubt.as_str())));
    }
    let file = image.source.file(node, &path);
    let failed = |e| Error::write("output", "write", e);
    let zeros = vec![0; 1 << 16];
    let fill = |out: &mut dyn Write, mut n: u64| -> Result<()> {
        while n > 0 {
            let part = usize::try_from(n).unwrap_or(usize::MAX).min(zeros.len());
            out.write_all(zeros.get(..part).unwrap_or_default()).map_err(failed)?;
            n = n.saturating_sub(part as u64);
        }
        Ok(())
    };
    let outcome = pass(
        &file,
        None,
        &mut |item: Item<'_>| match item {
            Item::Data(bytes) => out.write_all(bytes).map_err(failed),
            Item::Hole(n) => fill(out, n),
            Item::Missing(n) if salvage => fill(out, n),
            Item::Missing(n) => {
                Err(Error::Damaged(format!("{path}: {n} bytes cannot be read; --salvage gives zeros in their place")))
            }
        },
        cx,
    )?;
    let whole = outcome.missing.is_empty() && node.doubts.is_empty();
    Ok(if whole { Exit::OK } else { Exit(4) })
}

pub(super) fn extract_files(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let options = ExtractOptions { path: image.path.clone(), salvage: args.get_flag("salvage"), below: String::new() };
    let extraction = extract::plan(&image.sources, &image.source, &options)?;
    let to = args.get_one::<PathBuf>("out").ok_or_else(|| Error::Usage("--out DIR is missing".into()))?;
    let target = DirTarget::new(to)?;
    let (done, checked) = if args.get_flag("no-verify") {
        (extract::run(&image.sources, &image.source, extraction, &Unhashed::new(target), None, cx)?, None)
    } else {
        let files: Arc<dyn Source> = Arc::new(image.source.clone());
        let watch = ClusterWatch::new(&files, cx)?;
        let done = extract::run(&image.sources, &image.source, extraction, &target, Some(&watch), cx)?;
        (done, Some(watch.checked()))
    };
    let bad = checked.as_ref().map_or(0, |c| c.bad);
    let exit = if done.spoiled.is_empty() && bad == 0 { image.exit() } else { Exit(4) };
    if args.get_flag("json") {
        print_json(out, &extracted_json(image, &done, checked.as_ref(), to, exit))?;
        return Ok(exit);
    }
    let bytes = done.receipt.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
    let place = shown(to.display().to_string().as_bytes());
    line(out, &format!("{} files, {bytes} bytes in {place}", done.receipt.files.len()))?;
    if let Some(c) = checked.filter(|c| c.pages > 0 || c.records > 0) {
        line(out, &format!("{} pages checked, {} bad; {} log records checked", c.pages, c.bad, c.records))?;
        for p in &c.named {
            line(out, &format!("bad page: {} at {:#x}: {:?}", shown(p.path.as_bytes()), p.offset, p.verdict))?;
        }
    }
    let word = if options.salvage { "written with gaps" } else { "left out" };
    for s in &done.spoiled {
        line(out, &format!("{word}: {}: {}", shown(s.path.as_bytes()), s.why))?;
    }
    let lost = image.files().orphans.len().saturating_add(image.files().unreachable.len());
    if lost > 0 && !options.salvage {
        line(
            out,
            &format!("{lost} deleted or unreachable files are still there: --salvage writes them to lost+found"),
        )?;
    }
    trouble(image, out)?;
    Ok(exit)
}

fn extracted_json(image: &Image, done: &Extracted, checked: Option<&Checked>, to: &Path, exit: Exit) -> Value {
    let bytes = done.receipt.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
    let spoiled: Vec<Value> =
        done.spoiled.iter().map(|s| json!({ "path": s.path, "why": s.why, "size": s.size })).collect();
    let named = |c: &Checked| -> Vec<Value> {
        c.named
            .iter()
            .map(|p| json!({ "path": p.path, "offset": p.offset, "what": format!("{:?}", p.verdict) }))
            .collect()
    };
    let checks = checked.map(|c| {
        json!({
            "pages": c.pages, "new": c.new, "bad": c.bad, "bad_pages": named(c),
            "wal_segments": c.segments, "wal_records": c.records,
        })
    });
    json!({
        "exit": exit.0, "out": to.display().to_string(), "files": done.receipt.files.len(), "bytes": bytes,
        "checks": checks, "spoiled": spoiled,
        "orphans": image.files().orphans.len(), "unreachable": image.files().unreachable.len(),
        "facts": { "pfs": inspect::facts(image.pfs()) },
    })
}

//! `repair`: a new image that the engine mounts again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Blob, Context, Error, FileBlob, Reading, Reason, Result, Severity, names};
use serde_json::json;

use super::{Image, line, print_json, shown};
use crate::codes::pfs as codes;
use crate::format::pfs::ROOT_INO;
use crate::reader::pfs::{OpenOptions as Opening, Pfs};
use crate::writer::pfs::{Repaired, copy_device, repair as write};

pub(super) fn repair(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let to = args.get_one::<PathBuf>("into").ok_or_else(|| Error::Usage("--into NEW.img is missing".into()))?;
    let place = to.display().to_string();
    if to.symlink_metadata().is_ok() {
        let text = format!("{}: is there already; name a new file", names::terminal(&place));
        return Err(Error::refuse(Reason::TargetNotEmpty, text));
    }
    if let Some(live) = &image.pfs().live {
        return Err(Error::refuse(Reason::Locked, format!("the device is mounted by a live process: {live:?}")));
    }
    let part = staging(to)?;
    let made = make(image, &part, cx).and_then(|made| {
        rustix::fs::renameat_with(rustix::fs::CWD, &part, rustix::fs::CWD, to, rustix::fs::RenameFlags::NOREPLACE)
            .map_err(|e| Error::write(&place, "rename", e.into()))?;
        Ok(made)
    });
    let (done, unread) = match made {
        Ok(made) => made,
        Err(e) => {
            // Nothing that is not whole stays behind under any name.
            let _ = std::fs::remove_file(&part);
            return Err(e);
        }
    };
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).map_err(|e| Error::write(&place, "make durable", e))?;
    report(image, &done, unread, &place, args, out)
}

/// The name under which the image is made, beside the new one. A leftover of an earlier run is removed.
fn staging(to: &Path) -> Result<PathBuf> {
    let name = to.file_name().ok_or_else(|| Error::Usage(format!("{}: no file name", to.display())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".recover-part");
    let part = to.with_file_name(hidden);
    match std::fs::remove_file(&part) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::write(part.display().to_string(), "remove leftover", e))
        }
        _ => Ok(part),
    }
}

fn make(image: &Image, part: &Path, cx: &Context) -> Result<(Repaired, u64)> {
    let pfs = image.pfs();
    let shown = part.display().to_string();
    let failed = |action| move |e| Error::write(part.display().to_string(), action, e);
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(part).map_err(failed("create"))?;
    let unread = copy_device(pfs, &file, cx)?;
    let done = write(pfs, &mut file, cx)?;
    file.sync_all().map_err(failed("make durable"))?;
    let blob: Arc<dyn Blob> = Arc::new(FileBlob::open(part, shown)?);
    let mut strict = cx.clone();
    (strict.reading, strict.mapfile) = (Reading::Strict, None);
    check(pfs, &Pfs::open(blob, Opening::default(), &strict)?)?;
    Ok((done, unread))
}

/// The result, read again from the beginning, must hold every file where it was and nothing that is damaged.
fn check(old: &Pfs, new: &Pfs) -> Result<()> {
    // Transactions behind the head that were not asked for with --forward stay what they were.
    let bad = |f: &&recovery_core::Finding| f.severity > Severity::Note && f.code != codes::BEHIND_HEAD.code;
    if let Some(bad) = new.findings.iter().find(bad) {
        return Err(Error::Internal(format!("the repaired image does not read clean: {} {}", bad.code, bad.summary)));
    }
    for (path, node) in old.files.walk(ROOT_INO).filter(|(path, node)| old.files.path(node.ino) == *path) {
        let there = new.files.find(&path).is_some_and(|n| {
            (n.ino, n.directory, &n.extents) == (node.ino, node.directory, &node.extents)
                && (n.directory || n.size == node.size)
        });
        if !there && node.ino > crate::format::pfs::JOURNAL_INO {
            return Err(Error::Internal(format!("{}: differs in the repaired image", shown(&path))));
        }
    }
    Ok(())
}

fn report(
    image: &Image,
    done: &Repaired,
    unread: u64,
    place: &str,
    args: &ArgMatches,
    out: &mut dyn Write,
) -> Result<Exit> {
    let pfs = image.pfs();
    let doubtful: Vec<(String, String)> = pfs
        .files
        .nodes
        .values()
        .filter(|n| !n.doubts.is_empty())
        .map(|n| {
            let why: Vec<&str> = n.doubts.iter().map(|d| d.as_str()).collect();
            (shown(&pfs.files.path(n.ino)), why.join(", "))
        })
        .collect();
    let exit = if unread > 0 || !doubtful.is_empty() { Exit(4) } else { image.exit() };
    if args.get_flag("json") {
        let doubts: Vec<_> = doubtful.iter().map(|(path, why)| json!({ "path": path, "why": why })).collect();
        let value = json!({
            "exit": exit.0, "image": place, "headers": done.headers, "objects": done.objects, "entries": done.entries,
            "changed": done.changed, "lost_and_found": done.lost_and_found, "unread_bytes": unread, "doubtful": doubts,
        });
        print_json(out, &value)?;
        return Ok(exit);
    }
    line(
        out,
        &format!(
            "{}: {} headers and {} metadata objects written into place ({} of them changed), {} journal entries made blank or corrected",
            names::terminal(place),
            done.headers,
            done.objects,
            done.changed,
            done.entries
        ),
    )?;
    for path in &done.lost_and_found {
        line(out, &format!("without a name: {path}"))?;
    }
    for (path, why) in &doubtful {
        line(out, &format!("doubtful: {path}: {why}"))?;
    }
    if unread > 0 {
        line(out, &format!("{unread} bytes of the device could not be read and are zero in the new image"))?;
    }
    let file = names::shell(place);
    line(out, "Next: look at it with the engine's own tool, as root:")?;
    line(out, &format!("  L=$(losetup -f --show {file}); pfs -C disk ls /$(basename $L)/; losetup -d $L"))?;
    Ok(exit)
}

//! Reads one file out of a PolarDB disk image, without the daemon, root, or a mount; without a path, lists everything.
//!
//! The result matches `pfs read /DEVICE/PATH` and `pfs ls -R`.
//!
//! `cargo run --example polardb_read_file -- disk.img [base/5/1234] > file`
//!
//! run: IMAGE
#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::io::Write;

use recovery_core::{Context, Depth, FileSource, Source};
use recovery_polardb::PfsSource;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let image = FileSource::new(args.next().ok_or("usage: IMAGE [PATH]")?);
    let blob = image.open_name(image.name())?.ok_or("no such image")?;
    let files = PfsSource::mount(blob, &Context::default())?.ok_or("not a PFS image")?;
    let Some(path) = args.next() else {
        for entry in files.list("", Depth::All) {
            let entry = entry?;
            println!("{:>12}  {}", entry.size, recovery_core::names::terminal(&entry.name));
        }
        return Ok(());
    };
    let file = files.open_name(&path)?.ok_or("no such file in the image")?;
    let (mut at, mut out) = (0, std::io::stdout().lock());
    while at < file.len() {
        let end = file.len().min(at + (1 << 20));
        out.write_all(&file.bytes(at..end)?)?;
        at = end;
    }
    Ok(())
}

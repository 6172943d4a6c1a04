//! Last VLSN and last commit of a frontend's `meta` or `bdb` directory: what `DbPrintLog -vd` is run for.
//!
//! run: fixtures/bdbje/nodes/n2
#![allow(clippy::print_stdout, reason = "an example prints")]

use recovery_bdbje::meta::Meta;
use recovery_bdbje::reader::{Log, scan::ScanOptions, scan_log};
use recovery_core::{Context, DirSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a meta directory")?;
    let source = DirSource::open(path)?;
    let log = Log::open(&source, &Meta::locate(&source)?);
    let scan = scan_log(&log, ScanOptions::default(), &Context::default())?;
    let figures = scan.front();
    println!("last VLSN {:?}, last commit {:?}", figures.last_visible, figures.last_commit);
    println!("bad spots: {}", scan.bad().count());
    Ok(())
}

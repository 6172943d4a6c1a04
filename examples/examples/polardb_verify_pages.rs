//! Verifies every data page of the cluster inside a PolarDB disk image, whatever state its server was left in.
//!
//! The counts match `pg_checksums --check` on an extracted copy, which in addition refuses a server that was killed.
//!
//! `cargo run --example polardb_verify_pages -- disk.img`
//!
//! run: IMAGE
#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::sync::Arc;

use recovery_core::{Context, FileSource, Source};
use recovery_polardb::PfsSource;
use recovery_polardb::reader::pg::find_clusters;
use recovery_polardb::reader::pg::pages::{PageRules, relations, verify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = FileSource::new(std::env::args().nth(1).ok_or("usage: IMAGE")?);
    let (blob, cx) = (image.open_name(image.name())?.ok_or("no such image")?, Context::default());
    let files: Arc<dyn Source> = Arc::new(PfsSource::mount(blob, &cx)?.ok_or("not a PFS image")?);
    let clusters = find_clusters(&files)?;
    println!("{} clusters in the image", clusters.len());
    for cluster in clusters {
        let found = cluster.control();
        let control = &found.trusted().ok_or("the control file is damaged")?.control;
        let checksums = control.data_checksum_version != 0;
        let rules = PageRules { checksums, relseg_size: control.relseg_size, wal_end: None };
        let relations = relations(&cluster)?;
        let totals = verify(&files, &relations.files, rules, &cx)?;
        println!("/{}: {} files, {} pages, {} bad", cluster.root, totals.files, totals.pages, totals.bad);
        for page in &totals.list {
            let name = relations.files.get(page.file).map_or("", |f| f.entry.name.as_str());
            println!("  {name} block {}: {:?}", page.block, page.verdict);
        }
    }
    Ok(())
}

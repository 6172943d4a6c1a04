//! Exports the good pages of one table out of a PolarDB disk image, segment after segment, in the order of its blocks.
//!
//! What `pg_filedump` or a loader of raw pages wants. Damaged pages are named on standard error and written as zeros, so
//! that every block keeps its place. The result of a whole table matches its files joined by `cat`.
//!
//! `cargo run --example polardb_export_table -- disk.img base/5/16384 > pages`
//!
//! run: IMAGE
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use std::io::Write;
use std::sync::Arc;

use recovery_core::{Context, FileSource, Source};
use recovery_polardb::PfsSource;
use recovery_polardb::format::pg::page::{self, Verdict};
use recovery_polardb::format::pg::relfile::RelFile;
use recovery_polardb::reader::pg::find_clusters;
use recovery_polardb::reader::pg::pages::relations;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let image = FileSource::new(args.next().ok_or("usage: IMAGE [base/DATABASE/FILE]")?);
    let blob = image.open_name(image.name())?.ok_or("no such image")?;
    let files: Arc<dyn Source> = Arc::new(PfsSource::mount(blob, &Context::default())?.ok_or("not a PFS image")?);
    let Some(cluster) = find_clusters(&files)?.into_iter().next() else {
        println!("no cluster in this image");
        return Ok(());
    };
    let Some(table) = args.next() else {
        for f in relations(&cluster)?.files.iter().filter(|f| f.file.segment == 0) {
            println!("{:>12}  {}", f.entry.size, cluster.rel(&f.entry.name));
        }
        return Ok(());
    };
    let found = cluster.control();
    let control = &found.trusted().ok_or("the control file is damaged")?.control;
    let first = RelFile::parse(table.rsplit('/').next().unwrap_or_default()).ok_or("not a relation file")?;
    let dir = table.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut out = std::io::stdout().lock();
    for segment in 0.. {
        let name = cluster.path(&format!("{dir}/{}", RelFile { segment, ..first }.file_name()));
        let Some(file) = files.open_name(&name)? else { break };
        let mut page = [0; 8192];
        for index in 0..u32::try_from(file.len() / 8192)? {
            let block = segment.wrapping_mul(control.relseg_size).wrapping_add(index);
            let read = file.read_exact_at(u64::from(index) * 8192, &mut page);
            let verdict = page::verify(&page, block, control.data_checksum_version != 0);
            if read.is_err() || !matches!(verdict, Verdict::Good | Verdict::New) {
                eprintln!("block {block}: {verdict:?}");
                page = [0; 8192];
            }
            out.write_all(&page)?;
        }
    }
    Ok(())
}

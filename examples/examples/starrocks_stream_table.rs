//! Streams a table of a StarRocks snapshot as Arrow record batches, tablet by tablet, with no cluster.
//!
//! `cargo run --example starrocks_stream_table -- REPO LABEL TABLE`
//!
//! run: fixtures/starrocks/repos/v3_tree ss_models pv_daily
#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::path::Path;
use std::sync::Arc;

use recovery_core::{Context, DirSource, Source};
use recovery_starrocks::export;
use recovery_starrocks::reader::load::load_label;
use recovery_starrocks::reader::repository::Repository;
use recovery_starrocks::reader::{Losses, Selection};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [place, label, name] = args.as_slice() else { return Err("usage: REPO LABEL TABLE".into()) };
    let cx = Context::default();
    let source: Arc<dyn Source> = Arc::new(DirSource::open(Path::new(place))?);
    let loaded = load_label(Repository::open(source, None)?, label, &cx)?;
    let table = export::table(&loaded, label, name, &[])?;
    let selection = Selection::all(&table.schema);
    let (mut losses, mut rows, mut batches) = (Losses::default(), 0, 0);
    for part in &table.parts {
        let Some(mut reader) = part.open(&table, &selection, &mut losses, &cx)? else { continue };
        while let Some(batch) = reader.next_batch()? {
            // Here a program hands the batch on: to a data frame, a query engine, another file.
            rows += batch.num_rows();
            batches += 1;
        }
    }
    let names: Vec<&str> = table.schema.columns.iter().map(|c| c.name.as_str()).collect();
    println!("{name} ({}): {rows} rows in {batches} batches of {} tablets", names.join(", "), table.parts.len());
    Ok(())
}

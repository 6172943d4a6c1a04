//! `recover demo`: a bundled, broken, real database is rescued before the user's eyes.
//!
//! The database was written by RocksDB 9.8.4 and copied while it was open; then its MANIFEST was deleted. RocksDB
//! refuses to open it; its own repair gives back a database with 216 of 1,093 rows missing or wrong.

use std::io::Write;
use std::path::Path;

use recovery_core::Error;

use super::Call;
use crate::failure::Failure;

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../../../fixtures/rocksdb/demo/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = files! {
    "000009.sst" "000010.sst" "000011.sst" "000012.sst" "000013.log" "000014.sst" "000015.sst" "000016.sst"
    "000017.sst" "000018.log" "000019.sst" "000020.sst" "CURRENT" "IDENTITY" "LOG" "OPTIONS-000007"
};

const PLACE: &str = "recover-demo";
/// Rows that are shown.
const SHOWN: usize = 6;

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let broken = format!("{PLACE}/broken");
    let rescued = format!("{PLACE}/rescued");
    lay_out(Path::new(&broken))?;
    writeln!(
        out,
        "A RocksDB database whose MANIFEST is gone lies in ./{broken}. RocksDB does not open it any more.\n"
    )?;
    command(call, out, &["inspect", &broken])?;
    command(call, out, &["rescue", &broken, "--into", &rescued])?;
    let mut rows = Vec::new();
    writeln!(out, "\n$ recover rocksdb dump {rescued}")?;
    dispatch(call, &mut rows, &["rocksdb", "dump", &rescued])?;
    let text = String::from_utf8_lossy(&rows);
    text.lines().take(SHOWN).try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "… {} rows in all\n", text.lines().count())?;
    writeln!(
        out,
        "On your own data:\n  recover inspect /path/to/db                      looks, and never writes\n  recover rescue  /path/to/db --into /path/to/new  builds a new directory beside it"
    )?;
    Ok(0)
}

/// Writes the broken database, once.
fn lay_out(place: &Path) -> Result<(), Error> {
    if place.is_dir() {
        return Ok(());
    }
    let part = place.with_extension("part");
    let wrap = |e| Error::write(place.display(), "lay out", e);
    std::fs::create_dir_all(&part).map_err(wrap)?;
    for (name, bytes) in FILES {
        std::fs::write(part.join(name), bytes).map_err(wrap)?;
    }
    std::fs::rename(&part, place).map_err(wrap)
}

/// Shows a command line and runs it.
fn command(call: &Call<'_>, out: &mut dyn Write, words: &[&str]) -> Result<(), Failure> {
    writeln!(out, "$ recover {}", words.join(" "))?;
    dispatch(call, out, words)?;
    writeln!(out)?;
    Ok(())
}

fn dispatch(call: &Call<'_>, out: &mut dyn Write, words: &[&str]) -> Result<u8, Failure> {
    let line = ["recover"].iter().chain(words);
    match crate::args::command(call.engines).try_get_matches_from(line) {
        Ok(matches) => super::dispatch(call.engines, &matches, out),
        Err(e) => crate::failure::usage(&e),
    }
}

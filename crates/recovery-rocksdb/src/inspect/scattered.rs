//! Databases whose files lie in more than one directory (`db_paths`, `cf_paths`, `wal_dir`), of which one was given.
//!
//! What lies elsewhere is neither damaged nor lost; it was not looked at. Judging such a directory alone would be a
//! guess, so it is refused with the names of the other directories.

use recovery_core::{Error, names};

use super::{Inspection, findings};

/// Refuses a directory that is only a part of its database.
///
/// # Errors
///
/// When tables or WALs are missing that its MANIFEST or LOG places in another directory.
pub(crate) fn refuse(i: &Inspection) -> Result<(), Error> {
    let log = &i.gathered.log;
    let missing = |t: &&crate::witness::LiveTable| t.on_disk.is_none() && t.donor.is_none() && t.wals.is_empty();
    let tables = || i.resolved.families.values().flat_map(|f| f.tables.values()).filter(missing);
    let elsewhere = tables().filter(|t| t.entry.as_ref().is_some_and(|e| e.path() != 0)).count();
    let by_log = if log.table_dirs.len() > 1 { tables().count() } else { 0 };
    if elsewhere.max(by_log) > 0 {
        return Err(error(
            &format!("{} of its tables lie in other directories (db_paths, cf_paths)", elsewhere.max(by_log)),
            log.table_dirs.iter().map(String::as_str),
            "give each of the other directories with --also DIR, or link their files into one directory and inspect that",
        ));
    }
    let Some(wal_dir) = log.wal_dir.as_deref().filter(|d| !log.table_dirs.is_empty() && !log.table_dirs.contains(*d))
    else {
        return Ok(());
    };
    let mut wals = Vec::new();
    findings::missing_wals(i, &mut wals);
    if wals.is_empty() && !i.gathered.wals.is_empty() {
        return Ok(());
    }
    Err(error(
        "its write-ahead logs lie in another directory (wal_dir)",
        std::iter::once(wal_dir),
        "copy or link them into a directory with the rest and inspect that",
    ))
}

fn error<'a>(what: &str, dirs: impl Iterator<Item = &'a str>, next: &str) -> Error {
    let dirs: Vec<String> = dirs.map(|d| names::terminal(d).into_owned()).collect();
    let named = if dirs.is_empty() { String::new() } else { format!(", by its LOG in {}", dirs.join(", ")) };
    Error::unsupported(format!("a part of a database alone: {what}{named}; {next}"))
}

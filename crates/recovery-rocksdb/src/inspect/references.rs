//! Which blob files the tables refer to.
//!
//! A whole MANIFEST lists every blob file that is in use. Without one, only the entries of the tables tell which blob
//! files are needed: one that nobody refers to may be gone without loss, and one that somebody refers to must be there.

use std::collections::BTreeMap;

use recovery_core::{Context, Error, parallel};

use super::gather::{Gathered, record_limit};
use crate::format::file_name::FileKind;
use crate::format::key::{ParsedKey, SequenceNumber, ValueType};
use crate::reader::{TableOptions, TableReader, TableScan};
use crate::rewrite;
use crate::salvage::Salvaged;
use crate::witness::{BlobEntry, LiveTable, Resolved, ResolvedFamily, Trust};

/// Values and bytes that the entries of one table have in each blob file.
type References = BTreeMap<u64, (u64, u64)>;

/// Looks into the tables where no whole MANIFEST speaks, drops blob files nobody needs from the state and adds those
/// that are needed and not there.
///
/// # Errors
///
/// Interruption.
pub(super) fn settle(g: &Gathered, r: &mut Resolved, cx: &Context) -> Result<(), Error> {
    if r.trust == Trust::Whole {
        return Ok(());
    }
    for family in r.families.values_mut().filter(|f| may_refer(g, f)) {
        let tables: Vec<&LiveTable> = family.tables.values().filter(|t| t.on_disk.is_some()).collect();
        let found = parallel::map(cx, &tables, |_, table| references(g, table, cx))?;
        let numbers: Vec<u64> = tables.iter().map(|t| t.number).collect();
        let mut all = References::new();
        let mut looked_at_all = numbers.len() == family.tables.len();
        for (number, found) in numbers.into_iter().zip(found) {
            let Some(found) = found? else {
                looked_at_all = false;
                continue;
            };
            if let Some(table) = family.tables.get_mut(&number) {
                table.oldest_blob = found.keys().next().copied().or(table.oldest_blob);
            }
            for (file, (count, bytes)) in found {
                let sum = all.entry(file).or_default();
                *sum = (sum.0.saturating_add(count), sum.1.saturating_add(bytes));
            }
        }
        if looked_at_all {
            family.blobs.retain(|number, blob| blob.present || all.contains_key(number));
        }
        for (file, (count, bytes)) in all {
            family.blobs.entry(file).or_insert(BlobEntry { count, bytes, ..BlobEntry::default() });
        }
    }
    Ok(())
}

/// Whether anything hints at blob files in this family.
fn may_refer(g: &Gathered, family: &ResolvedFamily) -> bool {
    let option = |key| g.newest_options().and_then(|o| o.family(&family.shown())?.get(key)) == Some("true");
    let at_an_end = |key: &[u8]| ParsedKey::parse(key).is_some_and(|k| k.value_type == ValueType::BlobIndex);
    !g.blobs.is_empty()
        || !g.log.blobs.is_empty()
        || !family.blobs.is_empty()
        || option("enable_blob_files")
        || family.tables.values().any(|t| t.oldest_blob.is_some() || at_an_end(&t.smallest) || at_an_end(&t.largest))
}

fn references(g: &Gathered, table: &LiveTable, cx: &Context) -> Result<Option<References>, Error> {
    let Some(item) = table.on_disk.and_then(|n| g.item(FileKind::Table, n)) else { return Ok(None) };
    let Ok(blob) = g.source.open(&item.entry) else { return Ok(None) };
    let options = TableOptions {
        global_seqno: table.global_seqno.map(SequenceNumber),
        block_limit: record_limit(cx),
        ..TableOptions::default()
    };
    let read = |mut scan: TableScan| {
        let (mut out, mut steps) = (References::new(), 0_u64);
        loop {
            match scan.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(out),
                // A damaged block is skipped: its entries are lost anyway.
                Err(_) => continue,
            }
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(65_536) {
                cx.cancelled()?;
            }
            let refers = ParsedKey::parse(scan.key()).is_some_and(|k| k.value_type == ValueType::BlobIndex);
            if let Some((file, _, size)) = refers.then(|| rewrite::place(scan.value())).flatten() {
                let sum = out.entry(file).or_default();
                *sum = (sum.0.saturating_add(1), sum.1.saturating_add(size));
            }
        }
    };
    let scan = TableReader::open(std::sync::Arc::clone(&blob), options.clone()).and_then(|t| t.scan());
    match scan {
        Ok(scan) => read(scan).map(Some),
        Err(_) => match Salvaged::run(&blob, &options, None, cx) {
            Ok(salvaged) => read(salvaged.scan()).map(Some),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(_) => Ok(None),
        },
    }
}

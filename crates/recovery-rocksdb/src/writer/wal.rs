//! Writes a WAL anew: the good records of a damaged one, in plain form.

use std::collections::BTreeMap;

use recovery_core::{Blob, Error, Result};
use serde::{Deserialize, Serialize};

use crate::format::log_frame::FrameWriter;
use crate::format::write_batch::{BatchBuilder, Record, WriteBatch};
use crate::reader::wal::{self, Batch};

/// What of a WAL is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Stop at the first damage instead of leaving out what is damaged.
    pub stop_at_damage: bool,
    /// By family: records up to this sequence are in tables already and left out.
    #[serde(default)]
    pub skip_below: BTreeMap<u32, u64>,
    /// Batches that reach behind this sequence number are left out.
    #[serde(default)]
    pub up_to: Option<u64>,
}

/// Pieces of this size go to the output.
const CHUNK: usize = 1 << 20;

/// Rewrites a batch without the records that are in tables already. Sequence numbers count by position, so the batch
/// falls into several where records go.
fn filtered(batch: &WriteBatch<'_>, skip: &BTreeMap<u32, u64>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut sequence = batch.sequence;
    let mut open = BatchBuilder::new(sequence);
    let mut empty = true;
    for record in batch.records().map_while(std::result::Result::ok) {
        if let Record::Data { family, .. } = record {
            let gone = skip.get(&family).is_some_and(|to| sequence <= *to);
            sequence = sequence.saturating_add(1);
            if gone {
                let done = std::mem::replace(&mut open, BatchBuilder::new(sequence));
                if !empty {
                    out.push(done.finish());
                }
                empty = true;
                continue;
            }
        }
        open.push(&record);
        empty = false;
    }
    if !empty {
        out.push(open.finish());
    }
    out
}

/// Writes the kept records of `blob` to `out` and gives the number of bytes.
///
/// # Errors
///
/// When `out` fails.
pub fn rewrite(blob: &dyn Blob, number: u64, limit: usize, keep: &Keep, out: &mut dyn std::io::Write) -> Result<u64> {
    let mut writer = FrameWriter::default();
    let mut bytes = Vec::with_capacity(CHUNK);
    let name = crate::format::file_name::wal(number);
    let failed = |e: std::io::Error| Error::write(&name, "write", e);
    let sizes = timestamp_sizes(blob, number, limit);
    if !sizes.is_empty() {
        writer.timestamp_sizes(&sizes, &mut bytes);
    }
    let done = wal::scan(blob, number, limit, |batch: &Batch<'_>| {
        if keep.stop_at_damage && batch.after_damage {
            return Err(None);
        }
        let last = batch.batch.sequence.saturating_add(u64::from(batch.batch.count)).saturating_sub(1);
        if keep.up_to.is_some_and(|most| last > most) {
            return Ok(());
        }
        if keep.skip_below.is_empty() {
            writer.record(batch.payload, &mut bytes);
        } else {
            for payload in filtered(&batch.batch, &keep.skip_below) {
                writer.record(&payload, &mut bytes);
            }
        }
        if bytes.len() >= CHUNK {
            out.write_all(&bytes).map_err(|e| Some(failed(e)))?;
            bytes.clear();
        }
        Ok(())
    });
    if let Err(Some(error)) = done {
        return Err(error);
    }
    out.write_all(&bytes).map_err(failed)?;
    Ok(writer.offset())
}

/// Timestamp sizes must stand before the records they are about; a log may tell them again and again.
fn timestamp_sizes(blob: &dyn Blob, number: u64, limit: usize) -> Vec<(u32, u16)> {
    let mut walker = crate::reader::log::LogWalker::new(blob, Some(number), limit);
    let mut out = BTreeMap::new();
    // They come before the first record that needs them; the first records tell whether there are any.
    let mut records = 0u32;
    while let Some(event) = walker.next_event() {
        match event {
            crate::reader::log::Event::TimestampSizes(sizes) => out.extend(sizes),
            crate::reader::log::Event::Record { .. } if out.is_empty() && records > 1000 => break,
            crate::reader::log::Event::Record { .. } => records = records.saturating_add(1),
            _ => {}
        }
    }
    out.into_iter().collect()
}

/// Size of what [`rewrite`] would write.
///
/// # Errors
///
/// Never because of the output.
pub fn rewritten_size(blob: &dyn Blob, number: u64, limit: usize, keep: &Keep) -> Result<u64> {
    rewrite(blob, number, limit, keep, &mut std::io::sink())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use super::*;
    use crate::format::write_batch::DataKind;
    use recovery_core::MemBlob;
    use std::convert::Infallible;

    fn log() -> (Vec<u8>, Vec<u64>) {
        let (mut out, mut w, mut ends) = (Vec::new(), FrameWriter::default(), Vec::new());
        for i in 0..20u64 {
            let mut b = BatchBuilder::new(i * 2 + 1);
            b.push(&Record::Data { kind: DataKind::Value, family: 0, key: b"k", value: &vec![7; (i as usize) * 600] });
            b.push(&Record::Data { kind: DataKind::Merge, family: 1, key: b"m", value: b"1" });
            w.record(&b.finish(), &mut out);
            ends.push(out.len() as u64);
        }
        (out, ends)
    }

    fn sequences(bytes: &[u8]) -> Vec<(u64, u32)> {
        let mut out = Vec::new();
        wal::scan(&MemBlob::new("000004.log", bytes.to_vec()), 4, 1 << 20, |b: &Batch<'_>| {
            out.push((b.batch.sequence, b.batch.count));
            Ok::<(), Infallible>(())
        })
        .unwrap();
        out
    }

    #[test]
    fn a_flipped_bit_costs_one_record_or_all_behind_it() {
        let (log, ends) = log();
        for bit in (0..log.len() * 8).step_by(97) {
            let mut bad = log.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().position(|e| (bit as u64 / 8) < *e).unwrap();
            let blob = MemBlob::new("000004.log", bad);
            for (stop, want) in [(false, 19), (true, hit)] {
                let mut out = Vec::new();
                let keep = Keep { stop_at_damage: stop, ..Keep::default() };
                let n = rewrite(&blob, 4, 1 << 20, &keep, &mut out).unwrap();
                assert_eq!(n, out.len() as u64);
                let got = sequences(&out);
                assert_eq!(got.len(), want, "bit {bit} in record {hit}");
                assert!(!got.contains(&(hit as u64 * 2 + 1, 2)));
            }
        }
    }

    #[test]
    fn records_in_tables_are_left_out_and_sequences_stay() {
        let (log, _) = log();
        let keep = Keep { skip_below: BTreeMap::from([(1, 20)]), ..Keep::default() };
        let mut out = Vec::new();
        rewrite(&MemBlob::new("000004.log", log), 4, 1 << 20, &keep, &mut out).unwrap();
        let got = sequences(&out);
        assert_eq!(got[0], (1, 1));
        assert_eq!(got[1], (3, 1));
        assert_eq!(got.iter().map(|(_, n)| n).sum::<u32>(), 30);
        assert_eq!(got.last(), Some(&(39, 2)));
    }
}

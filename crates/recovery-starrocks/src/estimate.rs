//! How long verifying, exporting and restoring a snapshot will take, from what a small part of it took just now.

use std::time::{Duration, Instant};

use recovery_core::{Context, Result, parallel};
use serde_json::{Value, json};

use crate::format::names::TabletFile;
use crate::inspect::files::{self, Job};
use crate::model::repository::SnapshotDir;
use crate::reader::load::Loaded;

/// Bytes that are read to measure, at most.
const PROBED: u64 = 48 << 20;

/// Longest time that exporting is measured.
const LONGEST: Duration = Duration::from_millis(700);

/// What was measured, in bytes of the repository a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Reading alone.
    pub read: Option<f64>,
    /// Reading and verifying every checksum.
    pub verify: Option<f64>,
    /// Decoding and writing Parquet, on all threads.
    pub export: Option<f64>,
    /// Bytes it was measured on.
    pub probed: u64,
}

/// Estimates for a number of bytes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// What was measured.
    pub rates: Rates,
    /// `recover inspect` of the snapshot.
    pub verify: Option<f64>,
    /// `export` of all its tables.
    pub export: Option<f64>,
    /// RESTORE, at least: every byte is read once for each replica.
    pub restore: Option<f64>,
}

impl Estimate {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let r = &self.rates;
        json!({"verify_s": self.verify, "export_s": self.export, "restore_at_least_s": self.restore,
            "measured": {"bytes": r.probed, "read_bytes_s": r.read, "verify_bytes_s": r.verify,
                "export_bytes_s": r.export}})
    }
}

fn rate(bytes: u64, took: Duration) -> Option<f64> {
    let seconds = took.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let bytes = bytes as f64;
    (bytes > 0.0 && seconds > 0.0).then(|| bytes / seconds)
}

/// Measures on the largest segments of a snapshot.
///
/// # Errors
///
/// When the store stops answering, or the caller asked to stop.
pub fn estimate(
    loaded: &Loaded,
    dir: &SnapshotDir,
    snapshot: &str,
    bytes: u64,
    replicas: u64,
    cx: &Context,
) -> Result<Estimate> {
    let mut jobs: Vec<Job> = dir
        .tablets
        .values()
        .flat_map(|t| &t.files)
        .filter(|f| f.file.finished() && f.file.entry.size > 0 && matches!(f.kind, TabletFile::Segment { .. }))
        .map(|f| Job { file: f.file.clone(), segment: true, values: None })
        .collect();
    jobs.sort_by(|a, b| {
        b.file.entry.size.cmp(&a.file.entry.size).then_with(|| a.file.entry.name.cmp(&b.file.entry.name))
    });
    let mut probed = 0u64;
    let mut wanted = 0usize;
    for job in &jobs {
        if wanted > 0 && probed.saturating_add(job.file.entry.size) > PROBED {
            break;
        }
        probed = probed.saturating_add(job.file.entry.size);
        wanted = wanted.saturating_add(1);
    }
    jobs.truncate(wanted);
    let source = loaded.repository.source.as_ref();
    let start = Instant::now();
    parallel::map(cx, &jobs, |_, job| {
        let blob = source.open(&job.file.entry).ok()?;
        blob.bytes(0..blob.len().min(PROBED)).ok()
    })?;
    let read = rate(probed, start.elapsed());
    let start = Instant::now();
    for state in parallel::map(cx, &jobs, |_, job| files::check(source, job, cx))? {
        state?;
    }
    let verify = rate(probed, start.elapsed());
    let rates = Rates { read, verify, export: exported(loaded, snapshot, cx), probed };
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let of = |rate: Option<f64>, times: u64| rate.map(|r| (bytes.saturating_mul(times)) as f64 / r);
    Ok(Estimate { rates, verify: of(verify, 1), export: of(rates.export, 1), restore: of(read, replicas.max(1)) })
}

/// Decodes a part of the largest table and writes it as Parquet to nowhere.
#[cfg(feature = "arrow")]
fn exported(loaded: &Loaded, snapshot: &str, cx: &Context) -> Option<f64> {
    use crate::export::{Format, Writer, table};
    use crate::reader::table::{Losses, Selection};
    let (found, info) = loaded.find(snapshot).ok()?;
    let size = |id: i64| {
        let of = found.tablets.values().filter(|t| t.tablet.path.table == id);
        of.map(|t| t.tablet.rows()).fold(0, u64::saturating_add)
    };
    let largest = info.info.tables.iter().max_by_key(|t| size(t.id))?;
    let table = table(loaded, snapshot, &largest.name, &[]).ok()?;
    let selection = Selection::all(&table.schema);
    let start = Instant::now();
    let (mut rows, mut bytes, mut took) = (0u64, 0u64, Duration::ZERO);
    for part in &table.parts {
        let mut reader = part.open(&table, &selection, &mut Losses::default(), cx).ok()??;
        let whole = part.rows().max(1);
        let mut of_part = 0u64;
        let mut writer = Writer::new(Format::Parquet, reader.arrow_schema(), std::io::sink()).ok()?;
        while let Some(batch) = reader.next_batch().ok()? {
            of_part = of_part.saturating_add(batch.num_rows() as u64);
            writer.write(&batch).ok()?;
            if start.elapsed() > LONGEST {
                break;
            }
        }
        writer.finish().ok()?;
        took = start.elapsed();
        rows = rows.saturating_add(of_part);
        let share = u128::from(part.bytes()).saturating_mul(u128::from(of_part)).checked_div(u128::from(whole));
        bytes = bytes.saturating_add(u64::try_from(share.unwrap_or(0)).unwrap_or(u64::MAX));
        if took > LONGEST {
            break;
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let threads = cx.pool().current_num_threads().max(1) as f64;
    if rows == 0 { None } else { rate(bytes, took).map(|r| r * threads) }
}

#[cfg(not(feature = "arrow"))]
fn exported(_: &Loaded, _: &str, _: &Context) -> Option<f64> {
    None
}

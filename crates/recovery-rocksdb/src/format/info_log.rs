//! `LOG` and `LOG.old.*`: the info log, text of the database about itself, used as a witness.
//!
//! Nothing in it is checksummed, and the last seconds before a crash can be missing; what it says is one claim among
//! others. The lines read here (upstream file that prints them):
//!
//! | line                                                                       | from                                     |
//! | -------------------------------------------------------------------------- | ---------------------------------------- |
//! | `Created column family [name] (ID n)`                                      | `db/db_impl/db_impl.cc`                  |
//! | `Dropped column family with id n`                                          | `db/db_impl/db_impl.cc`                  |
//! | `Column family [name] (ID n), log number is m`                             | `db/version_set.cc`                      |
//! | `[name] New memtable created with log file: #n.`                           | `db/db_impl/db_impl_write.cc`            |
//! | `[name] Moving #n to level-m`                                              | `db/db_impl/db_impl_compaction_flush.cc` |
//! | `[AddFile] External SST file … was ingested in Ln with path P (global_seqno=s)` | `db/external_sst_file_ingestion_job.cc` |
//! | `SST files in P dir, Total Num: …`, `Write Ahead Log file in P: …`          | `db/db_info_dumper.cc`                   |
//! | `EVENT_LOG_v1 {…}`                                                         | `logging/event_logger.cc`                |

use std::collections::BTreeMap;

use serde::Deserialize;

/// One thing the log says, in the order it says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new session began; job numbers start again.
    Opened,
    /// A family and its id.
    Family {
        /// Name.
        name: String,
        /// Id.
        id: u32,
        /// Its log number at open, when the line is from an open.
        log_number: Option<u64>,
    },
    /// A family was dropped.
    Dropped {
        /// Id.
        id: u32,
    },
    /// A memtable of a family begins in this WAL: what came before is being flushed.
    Memtable {
        /// Name of the family.
        family: String,
        /// WAL number.
        log: u64,
    },
    /// A table was written.
    Table(Box<TableCreation>),
    /// A blob file was written.
    Blob {
        /// Number.
        number: u64,
        /// Records.
        count: u64,
        /// Bytes.
        bytes: u64,
        /// Family.
        family: String,
    },
    /// A flush picked its memtables.
    FlushStarted {
        /// Job.
        job: u64,
    },
    /// The tables that replaying WALs at open gave are installed.
    RecoveryFinished {
        /// Job.
        job: u64,
    },
    /// A flush is installed in the MANIFEST.
    FlushFinished {
        /// Job.
        job: u64,
    },
    /// A compaction began.
    CompactionStarted {
        /// Job.
        job: u64,
        /// Input tables by level.
        inputs: Vec<(u32, u64)>,
    },
    /// A compaction is installed.
    CompactionFinished {
        /// Job.
        job: u64,
        /// Level of its outputs.
        level: u32,
        /// How many tables it made.
        outputs: Option<u64>,
        /// How many tables the family then had on each level; empty when the line does not say.
        files_by_level: Vec<u64>,
    },
    /// A table moved down without being rewritten.
    Moved {
        /// Number.
        number: u64,
        /// New level.
        level: u32,
    },
    /// An external table was taken in.
    Ingested {
        /// Number it got.
        number: u64,
        /// Level.
        level: u32,
        /// The sequence number of all its entries.
        sequence: u64,
    },
    /// A table file was deleted.
    TableDeleted {
        /// Number.
        number: u64,
    },
    /// The database id.
    DbId(String),
    /// A directory that holds tables; one line for each at every open.
    TablesIn(String),
    /// The directory of the WALs.
    WalsIn(String),
}

/// `table_file_creation`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCreation {
    /// Number.
    pub number: u64,
    /// Job that wrote it.
    pub job: u64,
    /// Name of the family.
    pub family: String,
    /// Id of the family.
    pub family_id: Option<u32>,
    /// Size in bytes; 0 for a table that was dropped because it stayed empty.
    pub size: u64,
    /// Smallest and largest sequence number.
    pub seqnos: Option<(u64, u64)>,
    /// Point entries.
    pub entries: Option<u64>,
    /// Range tombstones.
    pub tombstones: Option<u64>,
    /// Comparator.
    pub comparator: Option<String>,
    /// Oldest blob file it refers to.
    pub oldest_blob: Option<u64>,
    /// When it was written, in microseconds since 1970.
    pub time_micros: Option<u64>,
}

/// An event with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Line, from 1.
    pub line: usize,
    /// What it says.
    pub event: Event,
}

#[derive(Deserialize)]
struct RawProperties {
    column_family_id: Option<u64>,
    num_entries: Option<u64>,
    num_range_deletions: Option<u64>,
    comparator: Option<String>,
}

#[derive(Deserialize)]
struct RawEvent {
    event: Option<String>,
    job: Option<u64>,
    cf_name: Option<String>,
    file_number: Option<u64>,
    file_size: Option<u64>,
    smallest_seqno: Option<u64>,
    largest_seqno: Option<u64>,
    table_properties: Option<RawProperties>,
    output_level: Option<u32>,
    num_output_files: Option<u64>,
    lsm_state: Option<Vec<u64>>,
    total_blob_count: Option<u64>,
    total_blob_bytes: Option<u64>,
    oldest_blob_file_number: Option<u64>,
    time_micros: Option<u64>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// The number directly behind `mark`.
fn number_after(line: &str, mark: &str) -> Option<u64> {
    let rest = line.split_once(mark)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// What stands in square brackets directly behind `mark`, up to `close`.
fn bracketed<'a>(line: &'a str, mark: &str, close: &str) -> Option<&'a str> {
    Some(line.split_once(mark)?.1.rsplit_once(close)?.0)
}

/// The family name of a line `… [name] WORDS`.
fn family_before<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let before = line.split_once(words)?.0.trim_end().strip_suffix(']')?;
    // The name follows the source place `[/file.cc:123] [`.
    let (_, name) = before.split_once("] [")?;
    Some(name)
}

fn json_event(text: &str) -> Option<Event> {
    let raw: RawEvent = serde_json::from_str(text.trim()).ok()?;
    let job = raw.job.unwrap_or(0);
    match raw.event.as_deref()? {
        "table_file_creation" => {
            let properties = raw.table_properties;
            let id = properties.as_ref().and_then(|p| p.column_family_id);
            let tombstones = properties.as_ref().and_then(|p| p.num_range_deletions);
            Some(Event::Table(Box::new(TableCreation {
                number: raw.file_number?,
                job,
                family: raw.cf_name.unwrap_or_default(),
                family_id: id.and_then(|id| u32::try_from(id).ok()),
                size: raw.file_size.unwrap_or(0),
                seqnos: raw.smallest_seqno.zip(raw.largest_seqno),
                entries: properties
                    .as_ref()
                    .and_then(|p| p.num_entries)
                    .map(|n| n.saturating_sub(tombstones.unwrap_or(0))),
                tombstones,
                comparator: properties.and_then(|p| p.comparator),
                oldest_blob: raw.oldest_blob_file_number.filter(|n| *n != 0),
                time_micros: raw.time_micros,
            })))
        }
        "blob_file_creation" => Some(Event::Blob {
            number: raw.file_number?,
            count: raw.total_blob_count.unwrap_or(0),
            bytes: raw.total_blob_bytes.unwrap_or(0),
            family: raw.cf_name.unwrap_or_default(),
        }),
        "flush_started" => Some(Event::FlushStarted { job }),
        "recovery_finished" => Some(Event::RecoveryFinished { job }),
        "flush_finished" => Some(Event::FlushFinished { job }),
        "compaction_started" => {
            let mut inputs = Vec::new();
            for (key, value) in &raw.others {
                let Some(level) = key.strip_prefix("files_L").and_then(|l| l.parse().ok()) else { continue };
                for n in value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64) {
                    inputs.push((level, n));
                }
            }
            Some(Event::CompactionStarted { job, inputs })
        }
        "compaction_finished" => Some(Event::CompactionFinished {
            job,
            level: raw.output_level?,
            outputs: raw.num_output_files,
            files_by_level: raw.lsm_state.unwrap_or_default(),
        }),
        "table_file_deletion" => Some(Event::TableDeleted { number: raw.file_number? }),
        _ => None,
    }
}

fn ingested(line: &str) -> Option<Event> {
    let (_, rest) = line.rsplit_once(" was ingested in L")?;
    let level = rest.split_once(' ')?.0.parse().ok()?;
    let path = rest.split_once("with path ")?.1;
    let (path, tail) = path.rsplit_once(" (global_seqno=")?;
    let number = match super::file_name::FileName::parse(path.rsplit('/').next()?) {
        super::file_name::FileName { kind: super::file_name::FileKind::Table, number } => number?,
        _ => return None,
    };
    let sequence = tail.split_once(')')?.0.parse().ok()?;
    Some(Event::Ingested { number, level, sequence })
}

fn family_line(line: &str) -> Option<Event> {
    if let Some((_, rest)) = line.split_once("Created column family [") {
        let (name, rest) = rest.rsplit_once("] (ID ")?;
        let id = rest.split_once(')')?.0.parse().ok()?;
        return Some(Event::Family { name: name.to_owned(), id, log_number: None });
    }
    if line.contains("Dropped column family with id ") {
        let id = u32::try_from(number_after(line, "Dropped column family with id ")?).ok()?;
        return Some(Event::Dropped { id });
    }
    let name = bracketed(line, "Column family [", "] (ID ")?;
    let id = u32::try_from(number_after(line, "] (ID ")?).ok()?;
    Some(Event::Family { name: name.to_owned(), id, log_number: number_after(line, "log number is ") })
}

fn line_event(line: &str) -> Option<Event> {
    if let Some((_, json)) = line.split_once("EVENT_LOG_v1 ") {
        return json_event(json);
    }
    if line.contains("olumn family ") {
        return family_line(line);
    }
    if line.contains("New memtable created with log file: #") {
        let family = family_before(line, " New memtable created")?.to_owned();
        return Some(Event::Memtable { family, log: number_after(line, "with log file: #")? });
    }
    if line.contains("] Moving #") {
        let level = u32::try_from(number_after(line, " to level-")?).ok()?;
        return Some(Event::Moved { number: number_after(line, "] Moving #")?, level });
    }
    if line.contains("[AddFile] External SST file ") {
        return ingested(line);
    }
    if line.contains("RocksDB version: ") {
        return Some(Event::Opened);
    }
    if let Some((_, rest)) = line.split_once("SST files in ") {
        return Some(Event::TablesIn(rest.rsplit_once(" dir, Total Num: ")?.0.to_owned()));
    }
    if let Some((_, rest)) = line.split_once("Write Ahead Log file in ") {
        return Some(Event::WalsIn(rest.split_once(": ")?.0.to_owned()));
    }
    if let Some((_, id)) = line.split_once("] DB ID: ") {
        return Some(Event::DbId(id.trim().to_owned()));
    }
    None
}

/// Reads a whole info log. Bytes that are not UTF-8 are replaced; lines that say nothing we know are skipped.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Located> {
    let mut out = Vec::new();
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        // Option dumps make up most of a log; none of their lines is of use.
        if line.len() < 40 || line.get(..line.len().min(160)).is_some_and(|l| contains(l, b"Options.")) {
            continue;
        }
        if let Some(event) = line_event(&String::from_utf8_lossy(line)) {
            out.push(Located { line: i.saturating_add(1), event });
        }
    }
    out
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(line: &str) -> Option<Event> {
        parse(format!("2026/11/21-22:40:29.110271 139892204329856 {line}\n").as_bytes()).pop().map(|l| l.event)
    }

    #[test]
    fn lines_of_every_kind() {
        assert_eq!(
            one("SST files in /a b/db dir, Total Num: 1, files: 000086.sst "),
            Some(Event::TablesIn("/a b/db".into()))
        );
        assert_eq!(
            one("Write Ahead Log file in /fast/wal: 000431.log size: 332 ; "),
            Some(Event::WalsIn("/fast/wal".into()))
        );
        assert_eq!(
            one("[/db_impl/db_impl.cc:3653] Created column family [a] (ID 7) [b] (ID 1)"),
            Some(Event::Family { name: "a] (ID 7) [b".into(), id: 1, log_number: None })
        );
        assert_eq!(
            one("[/version_set.cc:6133] Column family [default] (ID 0), log number is 12"),
            Some(Event::Family { name: "default".into(), id: 0, log_number: Some(12) })
        );
        assert_eq!(one("[/x.cc:1] Dropped column family with id 3"), Some(Event::Dropped { id: 3 }));
        assert_eq!(
            one("[/w.cc:2284] [users] New memtable created with log file: #8. Immutable memtables: 0."),
            Some(Event::Memtable { family: "users".into(), log: 8 })
        );
        assert_eq!(
            one("(Original Log Time x) [/f.cc:3840] [users] Moving #10 to level-6 7103 bytes"),
            Some(Event::Moved { number: 10, level: 6 })
        );
        assert_eq!(
            one(
                "[/e.cc:650] [AddFile] External SST file a (b.sst was ingested in L0 with path live/000010.sst (global_seqno=101)"
            ),
            Some(Event::Ingested { number: 10, level: 0, sequence: 101 })
        );
        assert_eq!(
            one(
                r#"EVENT_LOG_v1 {"time_micros": 1, "job": 4, "event": "compaction_started", "files_L0": [11, 9], "files_L6": [3], "score": -1}"#
            ),
            Some(Event::CompactionStarted { job: 4, inputs: vec![(0, 11), (0, 9), (6, 3)] })
        );
        assert_eq!(one(r#"EVENT_LOG_v1 {"job": 4, "event": "compaction_fini"#), None);
    }
}

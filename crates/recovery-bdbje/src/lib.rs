//! Frontend metadata of StarRocks and Doris read, ranked and made to start again, without a JVM.
//!
//! A frontend keeps its metadata journal in Berkeley DB Java Edition with replication. When the group cannot elect a
//! master, the operator has to find the node that holds the most of what was agreed on, and to make it start alone.
//! This crate answers *which node, how much would be lost, is it whole* from read-only copies, and builds a metadata
//! directory that starts. The program itself may destroy what it should save: it opens a log with one flipped bit as
//! master and cuts off everything behind it without a word.
//!
//! A log is a set of files `NNNNNNNN.jdb`, each a plain sequence of checksummed entries; trees, records, transactions
//! and the replication stream all lie in it. [`mod@format`] decodes and encodes every entry of log versions 6 to 17,
//! [`reader`] walks over files and finds the next good entry behind damage, [`model`] builds what JE would see after
//! recovery, or scavenges records from what is left, [`inspect`] checks and ranks, [`plan`] decides, [`writer`] makes
//! the new files.
//!
//! Last VLSN and last commit of a directory:
//!
//! ```
//! use recovery_bdbje::reader::{Log, scan::ScanOptions, scan_log};
//! use recovery_core::{Context, MemSource};
//! # let file = recovery_bdbje::writer::LogWriter::new(17, 0, 0, 1_700_000_000_000, 1 << 20).finish().1.remove(0);
//! let source = MemSource::new([("00000000.jdb", file)]); // or DirSource::open("meta/bdb")
//! let log = Log::open(&source, "");
//! let scan = scan_log(&log, ScanOptions::default(), &Context::default())?;
//! let figures = scan.front();
//! println!("last VLSN {:?}, last commit {:?}", figures.last_visible, figures.last_commit);
//! assert_eq!(figures.entries, 1);
//! # Ok::<(), recovery_core::Error>(())
//! ```
//!
//! A whole environment written and read back, record by record:
//!
//! ```
//! use recovery_bdbje::format::database::DatabaseImpl;
//! use recovery_bdbje::format::group::{GroupRecord, NodeRecord, NodeType};
//! use recovery_bdbje::model::{Environment, Role};
//! use recovery_bdbje::reader::{Log, scan::ScanOptions, scan_log};
//! use recovery_bdbje::writer::scratch::{Scratch, ScratchWriter};
//! use recovery_core::{Context, MemSource};
//!
//! let group = GroupRecord { name: "G".into(), uuid: [1, 2], format: 3, change: 1, sequence: 1, min_je: Some("6.0.1".into()) };
//! let node = NodeRecord {
//!     name: "n".into(), id: 1, format: 3, kind: NodeType::Electable, quorum_ack: true, removed: false,
//!     host: "127.0.0.1".into(), port: 9010, cbvlsn: -1, barrier_time: 0, change: 1, je_version: Some("18.3.20".into()),
//! };
//! let mut w = ScratchWriter::begin(&Scratch { version: 17, now: 0, first_vlsn: 1, group, node, file_max: 10_000_000 });
//! w.database("1", &DatabaseImpl::new(-258, Some(b"1"), 4, 17));
//! w.record(b"key", b"value");
//! let (files, _) = w.finish();
//!
//! let source = MemSource::new(files.into_iter().enumerate().map(|(i, f)| (format!("{i:08x}.jdb"), f)));
//! let log = Log::open(&source, "");
//! let cx = Context::default();
//! let figures = scan_log(&log, ScanOptions::default(), &cx)?.all();
//! let env = Environment::open(log, figures.ckpt_end, figures.db_tree, Role::Standalone, &cx)?;
//! let db = env.database("1").expect("just written");
//! let mut records = Vec::new();
//! env.records(db, &cx, &mut |batch| { records.extend(batch.records); Ok(()) }, &mut Vec::new())?;
//! assert_eq!((&records[0].key[..], &records[0].data[..]), (&b"key"[..], &b"value"[..]));
//! # Ok::<(), recovery_core::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod apply;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codes;
pub mod engine;
pub mod format;
pub mod inspect;
pub mod journal;
pub mod meta;
pub mod model;
pub mod operations;
pub mod plan;
pub mod prove;
pub mod reader;
pub mod records;
pub mod runbook;
#[cfg(feature = "cli")]
mod verbs;
pub mod writer;

//! Lost ranges come back from where they still stand; tables that were consumed betray themselves; states are cut where
//! they are complete. The databases are made here, entry by entry, so that what must come out is known.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Rescued, Rows, rescue_with, rows};
use recovery_core::{MemSource, Severity, Sources, Verdict};
use recovery_rocksdb::format::blob::{BlobFooter, BlobHeader, BlobIndex, BlobRecord};
use recovery_rocksdb::format::log_frame::FrameWriter;
use recovery_rocksdb::format::version_edit::{Field, NewFile, VersionEdit};
use recovery_rocksdb::format::write_batch::{BatchBuilder, DataKind, Record};
use recovery_rocksdb::format::{InternalKey, KeyOrder, SequenceNumber, TableProperties, ValueType};
use recovery_rocksdb::reader::{TableOptions, TableReader};
use recovery_rocksdb::writer::{TableWriter, WriterOptions, WrittenTable};
use serde_json::{Value, json};

struct Entry {
    key: String,
    sequence: u64,
    kind: ValueType,
    value: Vec<u8>,
}

fn put(key: impl Into<String>, sequence: u64, value: impl Into<Vec<u8>>) -> Entry {
    Entry { key: key.into(), sequence, kind: ValueType::Value, value: value.into() }
}

fn properties(comparator: &str) -> TableProperties {
    let mut properties = TableProperties::default();
    properties.family_id = Some(0);
    properties.family_name = Some("default".to_owned());
    properties.comparator = Some(comparator.to_owned());
    properties
}

fn table_with(order: KeyOrder, properties: TableProperties, mut entries: Vec<Entry>) -> (Vec<u8>, WrittenTable) {
    let key = |e: &Entry| InternalKey::new(e.key.as_bytes(), SequenceNumber(e.sequence), e.kind).into_bytes();
    entries.sort_by(|a, b| order.compare_internal(&key(a), &key(b)));
    let mut out = Vec::new();
    let options = WriterOptions { block_size: 256, order, properties, ..WriterOptions::default() };
    let mut writer = TableWriter::new(&mut out, options);
    for entry in &entries {
        writer.add(&key(entry), &entry.value).unwrap();
    }
    let written = writer.finish().unwrap();
    (out, written)
}

fn table(entries: Vec<Entry>) -> (Vec<u8>, WrittenTable) {
    table_with(KeyOrder::Bytewise, properties("leveldb.BytewiseComparator"), entries)
}

fn new_file(number: u64, level: u32, written: &WrittenTable) -> Field {
    let s = &written.summary;
    Field::NewFile(NewFile {
        tag: 103,
        number,
        level,
        size: written.size,
        smallest: s.smallest.clone().unwrap().into_bytes(),
        largest: s.largest.clone().unwrap().into_bytes(),
        smallest_seqno: s.smallest_seqno.unwrap().0,
        largest_seqno: s.largest_seqno.unwrap().0,
        ..NewFile::default()
    })
}

fn manifest(db: &mut MemSource, last_sequence: u64, edits: Vec<Vec<Field>>) {
    let head = vec![
        Field::Comparator(b"leveldb.BytewiseComparator".to_vec()),
        Field::LogNumber(0),
        Field::PrevLogNumber(0),
        Field::NextFile(40),
        Field::LastSequence(last_sequence),
    ];
    let (mut bytes, mut frames) = (Vec::new(), FrameWriter::default());
    for fields in std::iter::once(head).chain(edits) {
        frames.record(&VersionEdit { fields }.encode(), &mut bytes);
    }
    db.insert("MANIFEST-000005", bytes);
    db.insert("CURRENT", b"MANIFEST-000005\n".to_vec());
}

fn name(n: u64) -> String {
    format!("key{n:04}")
}

/// Two tables, the compaction of both, all three there; one key was deleted by the second.
fn compacted() -> (MemSource, Rows) {
    let mut old: Vec<Entry> = (0..400).map(|n| put(name(n), n + 1, format!("old value {n}"))).collect();
    old.retain(|e| e.key != name(390));
    let mut new: Vec<Entry> = (100..300).map(|n| put(name(n), n + 401, format!("new value {n}"))).collect();
    new.push(Entry { key: name(7), sequence: 990, kind: ValueType::Deletion, value: Vec::new() });
    let fresh = |n: u64| (100..300).contains(&n);
    let both: Vec<Entry> = (0..400)
        .filter(|n| ![7, 390].contains(n))
        .map(|n| {
            if fresh(n) {
                put(name(n), n + 401, format!("new value {n}"))
            } else {
                put(name(n), n + 1, format!("old value {n}"))
            }
        })
        .collect();
    let mut want = BTreeMap::new();
    for e in &both {
        want.insert(recovery_core::hex(e.key.as_bytes()), format!("x{}", recovery_core::hex(&e.value)));
    }
    let (a, b, t) = (table(old), table(new), table(both));
    let mut db = MemSource::default();
    let gone = |n| Field::DeletedFile(0, n);
    let edits =
        vec![vec![new_file(7, 0, &a.1)], vec![new_file(9, 0, &b.1)], vec![gone(7), gone(9), new_file(12, 6, &t.1)]];
    manifest(&mut db, 990, edits);
    for (number, bytes) in [(7, a.0), (9, b.0), (12, t.0)] {
        db.insert(format!("{number:06}.sst"), bytes);
    }
    (db, Rows::from([("default".to_owned(), want)]))
}

/// Flips bits of the data block `block` of a table, two of them unless `one`.
fn hit(db: &mut MemSource, name: &str, block: usize, one: bool) {
    let mut bytes = db.files()[name].to_vec();
    let blob = Arc::new(recovery_core::MemBlob::new(name, bytes.clone()));
    let handle = TableReader::open(blob, TableOptions::default()).unwrap().index().unwrap().handles()[block];
    let at = handle.offset as usize + 40;
    bytes[at] ^= 1;
    if !one {
        bytes[at + 1] ^= 1;
    }
    db.insert(name, bytes);
}

fn run(db: &MemSource, donors: &[&MemSource], options: &Value) -> Rescued {
    let mut sources = Sources::one(Arc::new(db.clone()));
    sources.donors.extend(donors.iter().map(|d| Arc::new((*d).clone()) as Arc<dyn recovery_core::Source>));
    rescue_with(&sources, options).expect("a rescue")
}

fn values(done: &Rescued) -> Rows {
    rows(&done.result, &BTreeMap::new())
}

fn lost(done: &Rescued) -> u64 {
    done.plan.losses.iter().map(|l| l.records).sum()
}

#[test]
fn a_block_comes_back_from_what_the_table_was_made_of() {
    for block in 0..5 {
        let (mut db, want) = compacted();
        hit(&mut db, "000012.sst", block, false);
        let done = run(&db, &[], &Value::Null);
        assert_eq!(values(&done), want, "block {block}");
        assert!(done.plan.losses.is_empty() && done.report.verdict == Verdict::Recoverable, "{:?}", done.plan.losses);
        assert_eq!(done.verified.verdict, Verdict::Sound);
        let said = done.report.findings.iter().any(|f| f.summary.contains("it was made from 000007.sst, 000009.sst"));
        assert!(said, "{:?}", done.report.findings);
    }
}

#[test]
fn a_missing_table_is_made_again_from_its_inputs() {
    let (db, want) = compacted();
    let mut files = db.files().clone();
    files.remove("000012.sst");
    let done = run(&MemSource::new(files), &[], &Value::Null);
    assert_eq!(values(&done), want);
    assert!(done.plan.losses.is_empty());
}

#[test]
fn half_of_the_inputs_would_bring_stale_values_and_is_not_used() {
    let (mut db, want) = compacted();
    hit(&mut db, "000012.sst", 12, false);
    let mut files = db.files().clone();
    files.remove("000009.sst");
    let done = run(&MemSource::new(files), &[], &Value::Null);
    let (got, want) = (&values(&done)["default"], &want["default"]);
    assert!(got.iter().all(|(k, v)| want.get(k) == Some(v)), "nothing stale, nothing invented");
    assert_eq!(lost(&done), (want.len() - got.len()) as u64);
    assert_eq!(done.report.verdict, Verdict::Lossy);
}

#[test]
fn two_damaged_copies_make_one_good_one() {
    let (mut db, want) = compacted();
    let mut files = db.files().clone();
    files.retain(|n, _| !["000007.sst", "000009.sst"].contains(&n.as_str()));
    db = MemSource::new(files);
    let mut donor = db.clone();
    hit(&mut db, "000012.sst", 3, false);
    hit(&mut donor, "000012.sst", 8, false);
    let done = run(&db, &[&donor], &Value::Null);
    // These copies carry neither session nor number in their properties: nothing proves that they are one table.
    assert_eq!(done.report.verdict, Verdict::Lossy);
    let whole = compacted().0;
    let done = run(&db, &[&whole], &Value::Null);
    assert_eq!((values(&done), done.plan.losses.len()), (want, 0));
}

#[test]
fn a_single_bit_is_turned_back_unless_that_is_not_wanted() {
    let (mut db, want) = compacted();
    let mut files = db.files().clone();
    files.retain(|n, _| !["000007.sst", "000009.sst"].contains(&n.as_str()));
    db = MemSource::new(files);
    hit(&mut db, "000012.sst", 4, true);
    let done = run(&db, &[], &Value::Null);
    assert_eq!((values(&done), lost(&done), done.report.verdict), (want.clone(), 0, Verdict::Recoverable));
    let finding = done.report.findings.iter().find(|f| f.summary.contains("corrected: with bit 0")).expect("a finding");
    assert!(finding.severity == Severity::Damaged && !finding.evidence.is_empty());
    let done = run(&db, &[], &json!({"mend": {"correct": false}}));
    assert!(lost(&done) > 0 && values(&done)["default"].len() < want["default"].len());
    // Two bits: only on request, as they are.
    hit(&mut db, "000012.sst", 6, false);
    let done = run(&db, &[], &json!({"mend": {"ignore_checksums": true}}));
    assert_eq!(values(&done)["default"].len(), want["default"].len());
    assert!(
        done.report.findings.iter().any(|f| f.severity == Severity::Suspect && f.summary.contains("used all the same"))
    );
}

#[test]
fn consumed_tables_betray_themselves_when_nothing_else_speaks() {
    let (db, want) = compacted();
    let mut files = db.files().clone();
    files.retain(|n, _| n.ends_with(".sst"));
    let done = run(&MemSource::new(files), &[], &Value::Null);
    assert_eq!(values(&done), want, "the deleted key stays deleted");
    let result: Vec<&String> = done.result.files().keys().filter(|n| n.ends_with(".sst")).collect();
    assert_eq!(result, ["000012.sst"]);
}

fn wal(db: &mut MemSource, number: u64, batches: &[(u64, Vec<(u32, String, String)>)]) -> Vec<usize> {
    let (mut bytes, mut frames, mut ends) = (Vec::new(), FrameWriter::default(), Vec::new());
    for (sequence, writes) in batches {
        let mut batch = BatchBuilder::new(*sequence);
        for (family, key, value) in writes {
            batch.push(&Record::Data {
                kind: DataKind::Value,
                family: *family,
                key: key.as_bytes(),
                value: value.as_bytes(),
            });
        }
        frames.record(&batch.finish(), &mut bytes);
        ends.push(bytes.len());
    }
    db.insert(format!("{number:06}.log"), bytes);
    ends
}

/// Family 0 was flushed to 60, family 1 never; the WAL with everything is damaged at 40.
#[test]
fn a_consistent_state_ends_before_the_first_loss_of_any_family() {
    let mut db = MemSource::default();
    let entries: Vec<Entry> = (0..60).filter(|n| n % 2 == 0).map(|n| put(name(n), n + 1, format!("a {n}"))).collect();
    let a = table(entries);
    db.insert("000009.sst", a.0);
    let create = vec![Field::Family(1), Field::AddFamily(b"second".to_vec()), Field::LogNumber(0)];
    manifest(&mut db, 59, vec![create, vec![Field::LogNumber(8), new_file(9, 0, &a.1)]]);
    let batches: Vec<(u64, Vec<(u32, String, String)>)> =
        (0..80).map(|n| (n + 1, vec![((n % 2) as u32, name(n), format!("b {n}"))])).collect();
    let ends = wal(&mut db, 6, &batches);
    let mut bytes = db.files()["000006.log"].to_vec();
    let at = ends[38] + 20;
    bytes[at] ^= 0x55;
    db.insert("000006.log", bytes);
    let plain = values(&run(&db, &[], &Value::Null));
    assert_eq!(plain["default"].len(), 30, "the table has all of its family");
    assert!(plain["second"].len() < 20, "the other one ends at the damage");
    let done = run(&db, &[], &json!({"consistent": true}));
    let got = values(&done);
    assert_eq!(done.plan.result["consistent"]["sequence"], 39);
    assert_eq!((got["default"].len(), got["second"].len()), (20, 19));
    assert!(done.plan.losses.iter().any(|l| l.name == "after-the-cut" && l.records >= 10), "{:?}", done.plan.losses);
    assert_eq!(done.verified.verdict, Verdict::Sound);
}

/// Each table has the newer version of one key: whatever order they were in, one of the two would be hidden.
#[test]
fn tables_of_mixed_age_become_one() {
    let mut db = MemSource::default();
    let value = |n: u64| format!("version {n}");
    db.insert("000007.sst", table(vec![put("a", 10, value(10)), put("b", 1, value(1)), put("x", 3, value(3))]).0);
    db.insert("000008.sst", table(vec![put("a", 5, value(5)), put("b", 9, value(9)), put("y", 4, value(4))]).0);
    let done = run(&db, &[], &Value::Null);
    let shown = |n: u64| format!("x{}", recovery_core::hex(value(n).as_bytes()));
    let want = [("61", 10), ("62", 9), ("78", 3), ("79", 4)].map(|(k, n)| (k.to_owned(), shown(n)));
    assert_eq!(values(&done)["default"], BTreeMap::from(want));
    assert_eq!(done.result.files().keys().filter(|n| n.ends_with(".sst")).count(), 1);
}

fn blob_file(values: &[&str]) -> (Vec<u8>, Vec<(u64, u64)>) {
    let header = BlobHeader { family: 0, has_ttl: false, compression: 0, expiration: (0, 0) };
    let (mut bytes, mut places) = (header.encode(), Vec::new());
    for value in values {
        let record = BlobRecord::encode(b"k", value.as_bytes(), 0);
        bytes.extend(&record);
        places.push(((bytes.len() - value.len()) as u64, value.len() as u64));
    }
    bytes.extend(BlobFooter { count: values.len() as u64, expiration: (0, 0) }.encode());
    (bytes, places)
}

/// Without a MANIFEST only the entries tell which blob files are needed: one that is gone and needed is a loss, one that
/// nobody needs is none.
#[test]
fn blob_files_count_by_reference() {
    let (bytes, places) = blob_file(&["first value", "second value"]);
    let index = |file: u64, (offset, size): (u64, u64)| {
        BlobIndex::Blob { file, offset, size, compression: 0, expiration: None }.encode()
    };
    let entry = |key: &str, sequence: u64, value: Vec<u8>| Entry {
        key: key.into(),
        sequence,
        kind: ValueType::BlobIndex,
        value,
    };
    let mut db = MemSource::default();
    db.insert("000007.sst", table(vec![entry("k", 1, index(6, places[0])), entry("l", 2, index(11, places[1]))]).0);
    db.insert("000006.blob", bytes.clone());
    let done = run(&db, &[], &Value::Null);
    assert_eq!(done.plan.losses.iter().map(|l| (l.name.as_str(), l.records)).collect::<Vec<_>>(), [("blob-values", 1)]);
    db.insert("000011.blob", bytes.clone());
    db.insert("000013.blob", bytes);
    let done = run(&db, &[], &Value::Null);
    assert!(done.plan.losses.is_empty(), "{:?}", done.plan.losses);
    assert_eq!(done.verified.verdict, Verdict::Sound);
}

/// Keys whose timestamps were not persisted stay as they are, and are read with the smallest timestamp.
#[test]
fn keys_without_timestamps_stay_so() {
    let mut stripped = properties("leveldb.BytewiseComparator.u64ts");
    stripped.timestamps_persisted = Some(false);
    let entries = (0..50).map(|n| put(name(n), n + 1, format!("value {n}"))).collect();
    let (bytes, _) = table_with(KeyOrder::Bytewise, stripped, entries);
    let mut db = MemSource::default();
    db.insert("000007.sst", bytes);
    hit(&mut db, "000007.sst", 1, false);
    let done = run(&db, &[], &Value::Null);
    assert_eq!(done.verified.verdict, Verdict::Sound);
    let blob = Arc::new(recovery_core::MemBlob::new("000007.sst", done.result.files()["000007.sst"].to_vec()));
    let reader = TableReader::open(blob, TableOptions::default()).unwrap();
    assert_eq!(reader.properties().timestamps_persisted, Some(false));
    assert!(lost(&done) > 0 && values(&done)["default"].len() as u64 == 50 - lost(&done));
}

/// WAL records beyond the memory limit go to files without a name, and the rows are the same.
#[test]
fn a_dump_spills_and_gives_the_same_rows() {
    let mut db = MemSource::default();
    manifest(&mut db, 0, Vec::new());
    let write = |n: u64| (n + 1, vec![(0, name(n * 7 % 500), format!("value {n}"))]);
    wal(&mut db, 6, &(0..2000).map(write).collect::<Vec<_>>());
    let source: Arc<dyn recovery_core::Source> = Arc::new(db);
    let dir = tempfile::tempdir().unwrap();
    let dump = |memory: u64, scratch: Option<std::path::PathBuf>| {
        let mut cx = common::context();
        cx.limits.memory = memory;
        let options = recovery_rocksdb::dump::OpenOptions { scratch, ..Default::default() };
        let view = recovery_rocksdb::dump::DatabaseView::open(&source, &options, &cx).unwrap();
        let mut out = Vec::new();
        let each = |row: &recovery_rocksdb::dump::Row<'_>| {
            out.push((row.key.to_vec(), row.sequence, format!("{:?}", row.value)));
            Ok(())
        };
        view.families[0].rows(&Default::default(), each).unwrap();
        (out, view.families[0].tables.len())
    };
    let (held, none) = dump(1 << 30, None);
    let (spilled, runs) = dump(64 << 10, Some(dir.path().to_owned()));
    assert!(none == 0 && runs > 2 && held.len() == 500);
    assert_eq!(held, spilled);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the runs have no names");
}

/// Longer keys last: an order no built-in comparator has.
#[test]
fn a_registered_comparator_places_tables() {
    let name = "com.example.tests.ByLength";
    let entries = |from: u64, sequence: u64| {
        (from..from + 300).map(|n| put(n.to_string(), sequence + n, format!("{n}"))).collect()
    };
    let order = || KeyOrder::Custom {
        name: name.to_owned(),
        timestamp_size: 0,
        compare: Arc::new(|a, b| (a.len(), a).cmp(&(b.len(), b))),
    };
    let mut db = MemSource::default();
    db.insert("000007.sst", table_with(order(), properties(name), entries(0, 100)).0);
    db.insert("000009.sst", table_with(order(), properties(name), entries(200, 60)).0);
    let sources = Sources::one(Arc::new(db));
    let refused = rescue_with(&sources, &Value::Null).err().expect("an unknown order is never guessed");
    assert_eq!(refused.exit(), 6);
    let engine = recovery_rocksdb::RocksDb::with_comparator(name, 0, |a, b| (a.len(), a).cmp(&(b.len(), b)));
    assert_eq!(recovery_core::Recover::engine(&engine), "rocksdb");
    let done = rescue_with(&sources, &Value::Null).expect("now it is known");
    assert_eq!(values(&done)["default"].len(), 500);
    assert_eq!(done.verified.verdict, Verdict::Sound);
}

//! Bytes that claim to be a write-ahead log: as they are, and as payloads of records whose checksums are right.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use recovery_core::MemBlob;
use recovery_rocksdb::format::log_frame::FrameWriter;
use recovery_rocksdb::reader::wal;
use recovery_rocksdb::writer::wal::{Keep, rewrite};

const LIMIT: usize = 1 << 20;

fn check(bytes: Vec<u8>) {
    let blob = MemBlob::new("000004.log", bytes);
    let mut records = Vec::new();
    let summary = wal::scan(&blob, 4, LIMIT, |b| {
        assert!(b.at < b.end);
        records.push((b.batch.sequence, b.batch.count));
        Ok::<(), Infallible>(())
    });
    let Ok(summary) = summary;
    assert_eq!(summary.records, records.len() as u64);
    // What is written anew holds exactly the good records, and nothing in it is damaged.
    let mut out = Vec::new();
    let size = rewrite(&blob, 4, LIMIT, &Keep::default(), &mut out).expect("memory");
    assert_eq!(size, out.len() as u64);
    let mut again = Vec::new();
    let Ok(clean) = wal::scan(&MemBlob::new("000004.log", out), 4, LIMIT, |b| {
        again.push((b.batch.sequence, b.batch.count));
        Ok::<(), Infallible>(())
    });
    assert!(!clean.is_damaged());
    assert_eq!(records, again);
}

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    let (mut out, mut writer) = (Vec::new(), FrameWriter::default());
    for payload in data.split(|b| *b == 0xA5) {
        writer.record(payload, &mut out);
    }
    check(out);
});

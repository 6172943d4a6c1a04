//! Bytes that claim to be a write batch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_rocksdb::format::write_batch::{BatchBuilder, WriteBatch};

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = WriteBatch::parse(data) else { return };
    if batch.check().is_err() {
        return;
    }
    let mut again = BatchBuilder::new(batch.sequence);
    for record in batch.records() {
        again.push(&record.expect("checked"));
    }
    let bytes = again.finish();
    let second = WriteBatch::parse(&bytes).expect("own bytes");
    second.check().expect("own bytes");
    assert_eq!(second.count, batch.count);
    assert!(second.records().zip(batch.records()).all(|(a, b)| a == b));
});

//! Any bytes as a blob file: the walk accounts for every byte between header and footer, once and in order.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use recovery_core::{Blob, MemBlob};
use recovery_rocksdb::format::blob::BlobIndex;
use recovery_rocksdb::reader::BlobWalk;
use recovery_rocksdb::reader::blob::BlobItem;

fuzz_target!(|data: &[u8]| {
    let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("000001.blob", data.to_vec()));
    let walk = BlobWalk::run(&blob);
    let len = data.len() as u64;
    let mut at = len.min(30);
    for item in &walk.items {
        let range = match item {
            BlobItem::Record { range, .. } | BlobItem::Damaged { range, .. } => range,
            BlobItem::Unknown { range } | BlobItem::Unread { range, .. } => range,
        };
        assert_eq!(range.start, at);
        assert!(range.end > at && range.end <= len);
        at = range.end;
    }
    let footer = if walk.footer.is_ok() { 32 } else { 0 };
    assert_eq!(at, (len - footer.min(len)).max(len.min(30)));
    let _ = BlobIndex::decode(data, 0);
});

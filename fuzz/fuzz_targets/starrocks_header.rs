//! Tablet headers and primary-key metas: any bytes, and the same bytes as a message behind a right checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_starrocks::format::pk_meta::PrimaryMeta;
use recovery_starrocks::format::snapshot_manifest;
use recovery_starrocks::format::tablet_header::{ColumnGroupSnapshotPb, Frame, TabletMetaPb};

fn header(bytes: &[u8]) {
    if let Ok(frame) = Frame::split(bytes) {
        let _ = frame.check();
        if let Ok(meta) = TabletMetaPb::read(&frame) {
            let _ = meta.schema.map(|s| s.to_schema());
        }
    }
    let _ = ColumnGroupSnapshotPb::decode_file(bytes);
}

fuzz_target!(|data: &[u8]| {
    header(data);
    // Without this nothing behind the checksum would ever be reached.
    header(&Frame::seal(data));
    if let Ok(meta) = PrimaryMeta::decode(data) {
        let again = PrimaryMeta::decode(&meta.encode()).expect("what was written is read");
        assert_eq!(again.delete_vectors, meta.delete_vectors);
    }
    if let Ok(names) = snapshot_manifest::decode(data) {
        assert!(names.iter().all(|n| !n.contains('/')));
    }
});

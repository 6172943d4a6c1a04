//! Bytes that claim to be a MANIFEST: as they are, and as version edits in records whose checksums are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_core::MemBlob;
use recovery_rocksdb::format::log_frame::FrameWriter;
use recovery_rocksdb::format::version_edit::VersionEdit;
use recovery_rocksdb::reader::manifest;

fuzz_target!(|data: &[u8]| {
    let _ = manifest::read(&MemBlob::new("MANIFEST-000005", data.to_vec()), 5, 1 << 20);
    if let Ok(edit) = VersionEdit::decode(data) {
        let bytes = edit.encode();
        assert_eq!(VersionEdit::decode(&bytes).expect("own bytes"), edit);
    }
    let (mut out, mut writer) = (Vec::new(), FrameWriter::default());
    for payload in data.split(|b| *b == 0xA5) {
        writer.record(payload, &mut out);
    }
    let read = manifest::read(&MemBlob::new("MANIFEST-000005", out), 5, 1 << 20);
    let live: std::collections::BTreeSet<u64> = read.version.files().map(|(_, f)| f.number).collect();
    assert!(live.len() as u64 <= read.version.files().count() as u64);
});

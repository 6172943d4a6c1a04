//! Bytes that claim to be PFS structures: what decodes must encode to the same, and a correction must be right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_polardb::format::pfs::{ChunkHeader, Entry, Kind, Leader, Object};

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk() {
        for number in [0, 1] {
            if let Ok(header) = ChunkHeader::decode(bytes, number) {
                assert_eq!(ChunkHeader::decode(&header.encode(), number), Ok(header));
            }
            let _ = ChunkHeader::correct(bytes, number);
        }
    }
    if let Some(bytes) = data.first_chunk() {
        if let Ok(leader) = Leader::decode(bytes) {
            assert_eq!(Leader::decode(&leader.encode()), Ok(leader));
            assert!(leader.live_entries() <= leader.log_size / 256);
        }
        let _ = Leader::correct(bytes);
    }
    if let Some(bytes) = data.first_chunk() {
        if let Ok(entry) = Entry::decode(bytes) {
            assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        }
        let _ = Entry::correct(bytes);
    }
    if let Some(bytes) = data.first_chunk() {
        let object = Object::from_bytes(*bytes);
        for kind in Kind::ALL {
            let _ = object.check(kind, object.number());
            if let Some((fixed, _)) = object.correct(kind, object.number()) {
                assert!(fixed.check(kind, object.number()).is_ok());
            }
        }
        assert!(object.tag().written() <= 4 << 20);
        let _ = (object.direntry(), object.inode());
    }
});

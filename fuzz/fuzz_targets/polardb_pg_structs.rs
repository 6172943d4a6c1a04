//! Bytes that claim to be PostgreSQL structures: what decodes must encode to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_polardb::format::pg::{backup_label, control, history, logindex, page, relfile, relmap, slot, twophase, version, wal_page, wal_record, xact};

fuzz_target!(|data: &[u8]| {
    let Some((pick, data)) = data.split_first() else { return };
    match pick % 8 {
        0 => {
            if let Ok(d) = control::decode(data) {
                let again = control::decode(&d.control.encode(d.layout)).expect("what we wrote");
                assert!(again.crc_ok());
                // A float that is no number is not equal to itself.
                if !d.control.float_format.is_nan() {
                    assert_eq!(again.control, d.control);
                }
                let _ = (d.control.implausible(), d.control.major_hint());
            }
            if data.len() < 400
                && let Some((_, fixed)) = control::correct_one_bit(data)
            {
                assert!(control::decode(&fixed).is_ok_and(|d| d.crc_ok()));
            }
        }
        1 => {
            let mut sealed = data.to_vec();
            if sealed.len() >= 16 {
                let length = u32::from_le_bytes([sealed[12], sealed[13], sealed[14], sealed[15]]) as usize;
                if let Some(covered) = length.checked_add(16).and_then(|end| sealed.get(8..end)) {
                    let crc = crc32c::crc32c(covered).to_le_bytes();
                    sealed[4..8].copy_from_slice(&crc);
                }
            }
            if let Ok(s) = slot::decode(&sealed) {
                let _ = (s.needs(), s.replica(), s.encode());
            }
        }
        2 => {
            for major in [11, 14, 15, 17] {
                if let Ok(items) = wal_record::items(data, major) {
                    let main = wal_record::main_data(data, &items);
                    assert!(main.len() <= data.len());
                    for info in [0, 0x80, 0xA0, 0xB0, 0xC0] {
                        if let Some(end) = xact::End::of(info) {
                            let _ = xact::decode(main, info, end, major);
                        }
                    }
                }
                let _ = (twophase::decode_state(data, major), twophase::decode_file(data, major));
            }
        }
        3 => {
            if let Ok(h) = wal_page::PageHeader::decode(data) {
                assert_eq!(wal_page::PageHeader::decode(&h.encode()), Ok(h));
            }
        }
        4 => {
            let mut page = [0; 8192];
            let n = data.len().min(8192);
            page[..n].copy_from_slice(&data[..n]);
            let sum = page::checksum(&page, 7);
            page[8..10].copy_from_slice(&sum.to_le_bytes());
            let sealed = page::verify(&page, 7, true);
            assert!(!matches!(sealed, page::Verdict::Checksum { .. }));
            let _ = page::verify(&page, 7, false);
        }
        5 => {
            if let Ok(map) = relmap::decode(data) {
                let _ = map.encode();
            }
            let _ = logindex::decode(data);
        }
        6 => {
            let text = String::from_utf8_lossy(data);
            let _ = (history::parse(&text), history::timeline_of(&text), backup_label::parse(&text), version::parse(data));
        }
        _ => {
            let text = String::from_utf8_lossy(data);
            let _ = (relfile::RelFile::parse(&text), text.parse::<recovery_polardb::format::pg::Lsn>());
        }
    }
});

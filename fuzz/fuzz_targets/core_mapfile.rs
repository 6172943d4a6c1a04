//! Text that claims to be a ddrescue mapfile, and names that claim to be harmless.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_core::{Mapfile, names};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(map) = Mapfile::parse(&text) {
        for range in map.unread() {
            assert!(range.start <= range.end);
        }
    }
    assert!(names::component(&names::escaped_component(&text)).is_ok());
    assert!(!names::terminal(&text).contains('\u{1b}'));
});

//! Raw bytes as the item of an entry: first byte the type, second the log version. What decodes must encode to
//! something that decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_bdbje::format::{Entry, EntryType};

fuzz_target!(|data: &[u8]| {
    let [kind, version, item @ ..] = data else { return };
    let Some(kind) = EntryType::new(kind % 44) else { return };
    let version = 6 + version % 12;
    if let Ok(entry) = Entry::decode(kind, version, item, 0) {
        let bytes = entry.encode(version);
        // Numbers need not have been written in the fewest bytes, so the bytes may differ once; the content may not.
        if let Ok(again) = Entry::decode(kind, version, &bytes, 0) {
            assert_eq!(again.encode(version), bytes);
        }
    }
});

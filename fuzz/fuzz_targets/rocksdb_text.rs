//! Text files of a database: OPTIONS, LOG, CURRENT, and file names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_rocksdb::format::{current, file_name, info_log, options};
use recovery_rocksdb::witness::log_state::LogState;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = options::Options::parse(&text);
    let events = info_log::parse(data);
    let mut state = LogState::default();
    state.replay("LOG", &events);
    if let Ok(number) = current::parse(data) {
        assert_eq!(current::parse(&current::encode(number)), Ok(number));
    }
    for line in text.lines().take(100) {
        let _ = file_name::FileName::parse(line);
    }
});

//! `__info` and `__repo_info`: any bytes; what parses must survive writing and reading again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_starrocks::format::info::{Info, RepoInfo};
use recovery_starrocks::format::names;

fuzz_target!(|data: &[u8]| {
    if let Ok(info) = Info::decode(data) {
        let again = Info::decode(&info.encode()).expect("what was written is read");
        assert_eq!(again.tables, info.tables);
        for shape in [false, true] {
            let _ = Info::from_value(info.tree(shape)).expect("both shapes are read");
        }
    }
    if let Ok(info) = RepoInfo::decode(data) {
        assert_eq!(RepoInfo::decode(&info.encode()).expect("what was written is read"), info);
    }
    let text = String::from_utf8_lossy(data);
    let _ = names::split_suffix(&text);
    let _ = names::TabletFile::parse(&text);
    if let Some(time) = names::Timestamp::parse(&text) {
        assert_eq!(time.to_string(), text);
    }
});

//! Raw bytes as a journal record: decoding, and the names an operation gives to a runbook. JSON that is passed on must
//! still be JSON, on one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_bdbje::journal::payload::{Operation, Payload, is_json, put_json};
use recovery_bdbje::operations::Operations;

fuzz_target!(|data: &[u8]| {
    let op = Operation::of(data);
    match op.decode() {
        Payload::Json(text) => {
            let mut out = Vec::new();
            put_json(&mut out, text);
            assert!(!out.contains(&b'\n'));
            assert!(std::str::from_utf8(&out).is_ok_and(is_json));
        }
        Payload::Text(text) => assert_eq!(text.len() + 4, op.payload.len()),
        Payload::Number(_) => assert_eq!(op.payload.len(), 8),
        Payload::Binary(bytes) => assert_eq!(bytes, op.payload),
    }
    let mut names = Operations::default();
    names.add(1, data);
    for line in names.lines(10) {
        assert!(!line.contains(['\n', '\u{1b}']));
    }
});

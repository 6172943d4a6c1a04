//! A whole directory: the input is cut into files, logs are framed so that their checksums are right.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use recovery_core::{Context, Error, MemSource, Recover, Sources};
use recovery_rocksdb::RocksDb;
use recovery_rocksdb::format::log_frame::FrameWriter;
use serde_json::Value;

const NAMES: [&str; 10] = [
    "CURRENT", "MANIFEST-000005", "000004.log", "000008.log", "000009.sst", "000010.sst", "000011.blob", "LOG", "OPTIONS-000007",
    "IDENTITY",
];

thread_local! {
    static CONTEXT: Context = Context::with_threads(1);
}

fuzz_target!(|data: &[u8]| {
    let mut source = MemSource::default();
    for (name, part) in NAMES.iter().zip(data.split(|b| *b == 0xA6)) {
        let framed = name.starts_with("MANIFEST") || name.ends_with(".log");
        let bytes = match part.split_first() {
            Some((1, rest)) if framed => {
                let (mut out, mut writer) = (Vec::new(), FrameWriter::default());
                rest.split(|b| *b == 0xA5).for_each(|payload| writer.record(payload, &mut out));
                out
            }
            _ => part.to_vec(),
        };
        if !bytes.is_empty() {
            source.insert(*name, bytes);
        }
    }
    let sources = Sources::one(Arc::new(source));
    CONTEXT.with(|cx| {
        let report = RocksDb.inspect(&sources, &Value::Null, cx).expect("damage is no error");
        match RocksDb.plan(&sources, &report, &Value::Null, cx) {
            Ok(_) | Err(Error::Refusal(_) | Error::Unusable(_) | Error::Unsupported { .. } | Error::Damaged(_)) => {}
            Err(e) => panic!("{e}"),
        }
    });
});

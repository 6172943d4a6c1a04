//! A whole meta directory: the input is a sequence of files, each a selector, a length (three bytes) and bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_bdbje::engine::Engine;
use recovery_core::{Context, MemSource, Recover, Sources};
use std::sync::{Arc, LazyLock};

static CX: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));

const NAMES: [&str; 12] = [
    "bdb/00000000.jdb", "bdb/00000001.jdb", "bdb/00000002.jdb", "bdb/00000007.jdb", "bdb/je.lck", "bdb/00000003.del",
    "image/ROLE", "image/VERSION", "image/image.35", "image/v2/image.35", "image/v2/checksum.35", "image/image.ckpt",
];

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let mut source = MemSource::new(Vec::<(String, Vec<u8>)>::new());
    while let [name, a, b, c, tail @ ..] = rest {
        let n = usize::try_from(u32::from_le_bytes([*a, *b, *c, 0])).unwrap_or(0).min(tail.len());
        let (bytes, tail) = tail.split_at(n);
        rest = tail;
        source.insert(NAMES[usize::from(*name) % NAMES.len()], bytes.to_vec());
    }
    let sources = Sources::one(Arc::new(source));
    if let Ok(report) = Engine.inspect(&sources, &serde_json::Value::Null, &CX) {
        let _ = Engine.plan(&sources, &report, &serde_json::Value::Null, &CX);
    }
});

//! A log whose fields are mutated and whose checksums are made right again: what lies behind the checksum.
//! The input is a sequence of entries: type, flags, length of item (two bytes), item.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_bdbje::engine::Engine;
use recovery_bdbje::format::{EntryType, file_header::FileHeader, header};
use recovery_core::{Context, MemSource, Recover, Sources};
use std::sync::{Arc, LazyLock};

static CX: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));

fuzz_target!(|data: &[u8]| {
    let Some((version, mut rest)) = data.split_first() else { return };
    let version = i32::from(6 + version % 12);
    let head = FileHeader { time: 1, number: 0, last_entry_in_prev: 0, version };
    let mut file = Vec::new();
    header::put(&mut file, EntryType::FILE_HEADER, 0, 0, None, &head.encode());
    let (mut prev, mut vlsn) = (0u32, 0i64);
    while let [kind, flags, a, b, tail @ ..] = rest {
        let n = usize::from(u16::from_le_bytes([*a, *b])).min(tail.len());
        let (item, tail) = tail.split_at(n);
        rest = tail;
        let Some(kind) = EntryType::new(kind % 44) else { continue };
        let at = file.len() as u32;
        let number = (flags & 0x28 != 0).then(|| {
            vlsn += 1;
            vlsn
        });
        header::put(&mut file, kind, *flags, prev, number, item);
        prev = at;
    }
    let source = MemSource::new([("00000000.jdb", file)]);
    let sources = Sources::one(Arc::new(source));
    if let Ok(report) = Engine.inspect(&sources, &serde_json::Value::Null, &CX) {
        let _ = Engine.plan(&sources, &report, &serde_json::Value::Null, &CX);
    }
});

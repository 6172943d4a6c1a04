//! Raw bytes as an image of a frontend's state. Blocks lie one behind the other within the file, and an image whose
//! every sum agrees has all the values it announces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_bdbje::meta::blocks::{self, Event};
use recovery_core::{Context, MemBlob};
use std::sync::LazyLock;

static CX: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));

fuzz_target!(|data: &[u8]| {
    let blob = MemBlob::new("image.35", data.to_vec());
    let (mut end, mut begun, mut ended) = (0u64, 0u64, 0u64);
    let out = blocks::read(&blob, &CX, &mut |e| {
        match e {
            Event::Head(_) => {}
            Event::Begin(b) => {
                assert!(b.offset >= end);
                begun += 1;
            }
            Event::Value(at, bytes) => assert!(at + bytes.len() as u64 <= data.len() as u64),
            Event::End(b) => {
                ended += 1;
                end = b.offset + b.bytes;
                assert!(end <= data.len() as u64);
                assert!(b.problem.is_some() || b.values == b.announced);
            }
        }
        Ok(())
    })
    .expect("nothing here fails but the sink");
    assert_eq!((begun, ended), (out.blocks, out.blocks));
});

//! Any bytes as every structure that fits one block.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_rocksdb::format::block::Block;
use recovery_rocksdb::format::compression::{Container, Decompressor};
use recovery_rocksdb::format::{Footer, IndexFormat, IndexType, Metaindex, TableProperties, wide_column};

fuzz_target!(|data: &[u8]| {
    if let Ok(block) = Block::parse(data, 0) {
        let counted = block.check();
        let (mut entries, mut count) = (block.entries(), 0);
        while let Ok(true) = entries.advance() {
            count += 1;
        }
        assert!(counted.is_err() || counted == Ok(count));
    }
    for kind in [IndexType::BinarySearch, IndexType::WithFirstKey] {
        for delta in [false, true] {
            let _ = IndexFormat { kind, user_keys: delta, delta }.walk(data, 0, |_| ());
        }
    }
    if let Ok(meta) = Metaindex::decode(data, 0) {
        let _ = Metaindex::decode(&meta.encode(), 0);
    }
    if let Ok(properties) = TableProperties::decode(data, 0) {
        let _ = TableProperties::decode(&properties.encode(), 0);
    }
    let _ = wide_column::decode(data, 0);
    let _ = Footer::decode(data, data.len() as u64);
    if let Some((kind, payload)) = data.split_first() {
        for container in [Container::Legacy, Container::Sized] {
            let mut out = Vec::new();
            if Decompressor::default().unpack(*kind, payload, container, None, 1 << 20, &mut out).is_ok() {
                assert!(out.len() <= 1 << 20);
            }
        }
    }
});

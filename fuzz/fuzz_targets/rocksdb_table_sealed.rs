//! Any bytes as the blocks of a table whose checksums are right: what lies behind a checksum is hostile too.
//!
//! The input is cut into segments (two bytes of length, one of compression type, then the payload). All but the last
//! two are data blocks; the last two are index and properties.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Blob, Context, MemBlob};
use recovery_rocksdb::format::block::BlockBuilder;
use recovery_rocksdb::format::{BlockHandle, ChecksumType, Footer, Metaindex, Seal, metaindex};
use recovery_rocksdb::reader::TableOptions;
use recovery_rocksdb::salvage::{Depth, Salvaged, check_table};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));

fn put(out: &mut Vec<u8>, seal: Seal, kind: u8, payload: &[u8]) -> BlockHandle {
    let handle = BlockHandle { offset: out.len() as u64, size: payload.len() as u64 };
    let mut block = payload.to_vec();
    block.push(kind);
    let checksum = seal.compute(handle.offset, &block);
    out.extend_from_slice(&block);
    out.extend_from_slice(&checksum.to_le_bytes());
    handle
}

fuzz_target!(|data: &[u8]| {
    let Some((head, mut rest)) = data.split_first_chunk::<2>() else { return };
    let format_version = u32::from(head[0] % 7);
    let algorithm = ChecksumType::from_byte(if format_version == 0 { 1 } else { head[1] % 5 }).expect("0 to 4");
    let seal = Seal { algorithm, base: if format_version == 6 { 0x1234_5678 } else { 0 } };
    let mut segments = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([head[0], head[1]])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        segments.push((head[2], payload));
        rest = tail;
    }
    let mut file = Vec::new();
    let properties = segments.pop();
    let index = segments.pop();
    let mut own_index = BlockBuilder::new(1);
    for (number, (kind, payload)) in segments.into_iter().enumerate() {
        let mut value = Vec::new();
        put(&mut file, seal, kind, payload).encode(&mut value);
        own_index.add(format!("{number:08}12345678").as_bytes(), &value);
    }
    // With an empty index segment the data blocks are reached through an index that is right.
    let index = match index {
        Some((kind, payload)) if !payload.is_empty() => put(&mut file, seal, kind, payload),
        _ => put(&mut file, seal, 0, &own_index.finish()),
    };
    let mut entries = Vec::new();
    if let Some((kind, payload)) = properties {
        entries.push((metaindex::PROPERTIES.to_owned(), put(&mut file, seal, kind, payload)));
        entries.push((metaindex::RANGE_DELETIONS.to_owned(), entries[0].1));
    }
    entries.push((metaindex::INDEX.to_owned(), index));
    let metaindex = put(&mut file, seal, 0, &Metaindex { entries }.encode());
    let offset = file.len() as u64;
    file.extend(Footer { format_version, seal, metaindex, index: Some(index), offset }.encode());
    let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("000001.sst", file));
    let options = TableOptions { block_limit: 4 << 20, ..TableOptions::default() };
    let _ = check_table(&blob, &options, None, Depth::Entries, &CONTEXT).expect("nobody asked to stop");
    if let Ok(salvaged) = Salvaged::run(&blob, &options, None, &CONTEXT) {
        let _ = salvaged.write_table(std::io::sink(), &Default::default());
    }
});

//! Any bytes as a table: verification and salvage end, stay within bounds, and invent nothing they did not read.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Blob, Context, MemBlob};
use recovery_rocksdb::reader::{TableOptions, TableReader};
use recovery_rocksdb::salvage::{Depth, check_table};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));

fuzz_target!(|data: &[u8]| {
    if data.len() > 64 << 10 {
        return;
    }
    let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("000001.sst", data.to_vec()));
    let options = TableOptions { block_limit: 4 << 20, ..TableOptions::default() };
    let check = check_table(&blob, &options, None, Depth::Entries, &CONTEXT).expect("nobody asked to stop");
    assert_eq!(check.coverage.totals().bytes, data.len() as u64);
    if let Some(salvaged) = &check.salvaged {
        let (mut scan, mut entries) = (salvaged.scan(), 0);
        while scan.advance().expect("a block that was found good") {
            entries += 1;
        }
        assert_eq!(entries, salvaged.entries());
    }
    if let Ok(table) = TableReader::open(blob, options) {
        if let Ok(mut scan) = table.scan() {
            while let Ok(true) = scan.advance() {}
        }
        let _ = table.tombstones();
    }
});

//! Bytes that claim to be a metadata file: strict and salvaging, every dialect. What loads is stored and loads again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recovery_core::MemBlob;
use recovery_moosefs::Dialect;
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::model::store::StoreOptions;

fuzz_target!(|data: &[u8]| {
    let blob = MemBlob::new("metadata.mfs", data.to_vec());
    for salvage in [false, true] {
        let options = LoadOptions { salvage, dialect: Some(Dialect::V4), checksums: true };
        let Ok(loaded) = load(&blob, &options) else { continue };
        let mut out = Vec::new();
        loaded.model.store(&mut out, StoreOptions::default()).expect("memory takes bytes");
        let options = LoadOptions { salvage: false, ..options };
        let again = load(&MemBlob::new("again", out), &options).expect("what was stored loads");
        assert_eq!(again.model.totals(), loaded.model.totals());
    }
});

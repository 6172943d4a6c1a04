//! A metadata file changed in places, with the checksum file made anew: what checksums cannot catch must be caught by
//! structure, or be harmless.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use recovery_core::{Context, MemBlob, MemSource, Recover, Sources};
use recovery_moosefs::format::crc::CrcFile;
use recovery_moosefs::model::load::{LoadOptions, load};
use recovery_moosefs::{Dialect, Model, MooseFs};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let mut base = Vec::new();
    Model::new_filesystem(Dialect::V4).store(&mut base, Default::default()).expect("memory takes bytes");
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % base.len();
        base[at] = change[2];
    }
    let options = LoadOptions { salvage: true, dialect: Some(Dialect::V4), checksums: true };
    let Ok(loaded) = load(&MemBlob::new("m", base.clone()), &options) else { return };
    let header = loaded.outline.header;
    let crc = CrcFile { state: Some((header.version, header.metaid)), entries: loaded.checksums };
    let files = [("metadata.mfs.back", base), ("metadata.crc", crc.encode())];
    let sources = Sources::one(Arc::new(MemSource::new(files)));
    let _ = MooseFs.inspect(&sources, &Value::Null, &Context::with_threads(1));
});

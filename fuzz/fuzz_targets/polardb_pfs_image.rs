//! A small, whole PFS image with lies in its metadata and journal, each under a right checksum: without the seal a
//! checksum would shield everything behind it. Each 12 bytes of input are one lie.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Blob, Context, Limits, MemBlob, Reading};
use recovery_polardb::format::pfs::{Kind, LEADER_AT, Leader, ROOT_INO, checksum};
use recovery_polardb::reader::pfs::{OpenOptions, Pfs, PfsFile};
use recovery_polardb::writer::pfs::{ImageOptions, ImageWriter, MemoryImage, Placement};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    let mut cx = Context::with_limits(Limits { threads: 1, ..Limits::default() });
    cx.reading = Reading::Salvage;
    cx
});

fn image(placement: Placement) -> MemoryImage {
    let options = ImageOptions { log_size: 64 << 10, placement, ..ImageOptions::default() };
    let mut writer = ImageWriter::new(MemoryImage::default(), options).expect("options");
    writer.directory("d", 1).expect("directory");
    writer.directory("d/e", 1).expect("directory");
    for i in 0..12u8 {
        let data = vec![i + 1; usize::from(i) * 3000];
        writer.file(&format!("d/f{i}"), 1, &MemBlob::new("f", data)).expect("file");
    }
    writer.file(&format!("d/e/{}", "n".repeat(150)), 1, &MemBlob::new("f", vec![9; 5 << 20])).expect("file");
    writer.finish().expect("image")
}

static IMAGES: LazyLock<[MemoryImage; 2]> = LazyLock::new(|| {
    let journal = Placement::Journal { slot: 200, lsn: 7, txid: 3, per_transaction: 4 };
    [image(Placement::InPlace), image(journal)]
});

/// Where the lie goes, how long the sealed structure is, and where its checksum stands.
fn place(pick: u8, index: u16) -> (u64, usize, usize) {
    let kind = Kind::ALL[usize::from(pick) % 3];
    match pick % 5 {
        0..3 => (kind.address(u64::from(index) % 64).unwrap_or(0), 128, 36),
        3 => (2 * LEADER_AT + u64::from(index) % 256 * 256, 256, 156),
        _ => (0, 120, 112),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, lies)) = data.split_first() else { return };
    let mut image = IMAGES[usize::from(first & 1)].clone();
    for lie in lies.chunks_exact(12).take(16) {
        let value = &lie[4..12];
        if lie[0] == 255 {
            let at = LEADER_AT + 200 + u64::from(lie[3] % 7) * 8;
            image.put(at, value);
            let bytes = image.bytes(LEADER_AT..LEADER_AT + 256).expect("leader");
            image.put(LEADER_AT + 256, &checksum::of_prefix(&bytes).to_le_bytes());
            let whole = image.bytes(LEADER_AT..LEADER_AT + 260).expect("leader");
            let _ = Leader::decode(whole.first_chunk().expect("260 bytes"));
            continue;
        }
        let (at, len, field) = place(lie[0], u16::from_le_bytes([lie[1], lie[2]]));
        image.put(at + u64::from(lie[3]) % (len as u64 - 8), value);
        let bytes = image.bytes(at..at + len as u64).expect("structure");
        image.put(at + field as u64, &checksum::of_struct(&bytes, field).to_le_bytes());
    }
    let Ok(pfs) = Pfs::open(Arc::new(image), OpenOptions { forward: first & 2 != 0 }, &CONTEXT) else { return };
    for (path, node) in pfs.files.walk(ROOT_INO).take(2000) {
        assert!(!path.is_empty());
        let file = PfsFile::new("f", Arc::clone(pfs.device.blob()), &node.extents, node.size);
        let _ = file.read_at(node.size / 2, &mut [0; 64]);
        assert_eq!(pfs.files.path(node.ino).first(), Some(&b'/'));
    }
});

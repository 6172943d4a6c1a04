//! A PFS image with a history of transactions, with lies under right checksums in journal, leader record and objects:
//! every transaction, earlier times, removed files, and the repaired image, which must read clean.
//! Each 12 bytes of input are one lie.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Blob, Context, Limits, MemBlob, Reading};
use recovery_polardb::format::pfs::{Kind, LEADER_AT, ROOT_INO, checksum};
use recovery_polardb::reader::pfs::{OpenOptions, Pfs, PfsFile, Story, deleted};
use recovery_polardb::writer::pfs::{ImageOptions, ImageWriter, MemoryImage, Placement, repair};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    let mut cx = Context::with_limits(Limits { threads: 1, ..Limits::default() });
    cx.reading = Reading::Salvage;
    cx
});

fn image(slot: u64, lsn: u64, txid: u64) -> MemoryImage {
    let placement = Placement::Journal { slot, lsn, txid, per_transaction: 3 };
    let options = ImageOptions { log_size: 32 << 10, placement, ..ImageOptions::default() };
    let mut writer = ImageWriter::new(MemoryImage::default(), options).expect("options");
    writer.directory("d", 1).expect("directory");
    for i in 0..9u8 {
        let data = vec![i + 1; usize::from(i) * 700];
        writer.file(&format!("d/f{i}"), 1, &MemBlob::new("f", data)).expect("file");
    }
    writer.file(&format!("d/{}", "n".repeat(130)), 1, &MemBlob::new("f", vec![9; 100])).expect("file");
    writer.finish().expect("image")
}

static IMAGES: LazyLock<[MemoryImage; 2]> = LazyLock::new(|| [image(0, 1, 1), image(120, 900, 77)]);

/// Where the lie goes, how long the sealed structure is, and where its checksum stands.
fn place(pick: u8, index: u16) -> (u64, usize, usize) {
    let kind = Kind::ALL[usize::from(pick) % 3];
    match pick % 7 {
        0..2 => (kind.address(u64::from(index) % 64).unwrap_or(0), 128, 36),
        2..6 => (2 * LEADER_AT + u64::from(index) % 128 * 256, 256, 156),
        _ => (0, 120, 112),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, lies)) = data.split_first() else { return };
    let mut image = IMAGES[usize::from(first & 1)].clone();
    for lie in lies.chunks_exact(12).take(12) {
        let value = &lie[4..12];
        if lie[0] == 255 {
            image.put(LEADER_AT + 208 + u64::from(lie[3] % 6) * 8, value);
            let bytes = image.bytes(LEADER_AT..LEADER_AT + 256).expect("leader");
            image.put(LEADER_AT + 256, &checksum::of_prefix(&bytes).to_le_bytes());
            continue;
        }
        let (at, len, field) = place(lie[0], u16::from_le_bytes([lie[1], lie[2]]));
        image.put(at + u64::from(lie[3]) % (len as u64 - 8), value);
        let bytes = image.bytes(at..at + len as u64).expect("structure");
        image.put(at + field as u64, &checksum::of_struct(&bytes, field).to_le_bytes());
    }
    let cx = &*CONTEXT;
    let Ok(pfs) = Pfs::open(Arc::new(image.clone()), OpenOptions::default(), cx) else { return };
    let mut seen = Vec::new();
    let span = pfs
        .history(cx, &mut |t| {
            seen.push(t);
            Ok(())
        })
        .expect("history");
    if let Ok((mut story, _)) = Story::begin(&pfs, cx) {
        for t in seen.iter().chain(&pfs.uncommitted()) {
            let _ = story.removed(t);
            story.apply(t);
        }
    }
    let (list, _) = deleted(&pfs, cx).expect("removed files");
    let tree = pfs.tree_of(&list);
    for (path, node) in tree.walk(ROOT_INO).take(500) {
        assert!(!path.is_empty());
        let file = PfsFile::new("f", Arc::clone(pfs.device.blob()), &node.extents, node.size);
        let _ = file.read_at(node.size / 2, &mut [0; 64]);
    }
    if let Ok(past) = pfs.at(span.first_txid + u64::from(*first) % 16, cx) {
        assert!(past.files.walk(ROOT_INO).take(2000).all(|(p, _)| p.first() == Some(&b'/')));
    }
    if repair(&pfs, &mut image, cx).is_ok() {
        let again = Pfs::open(Arc::new(image), OpenOptions::default(), cx).expect("a repaired image opens");
        assert_eq!(again.leader.record().map(|l| l.live_entries()), Some(0));
        for (path, node) in pfs.files.walk(ROOT_INO).filter(|(p, n)| n.ino > 2 && pfs.files.path(n.ino) == *p) {
            let there = again.files.find(&path).unwrap_or_else(|| panic!("{path:?} is gone"));
            assert_eq!((there.ino, there.directory), (node.ino, node.directory));
        }
    }
});

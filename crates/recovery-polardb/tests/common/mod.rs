//! What the tests share: real images unpacked into memory, damage as recorded patches, listings to compare.
#![allow(dead_code, unreachable_pub, unused_imports)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Blob, Context, Limits, Reading};
use recovery_polardb::format::pfs::ROOT_INO;
use recovery_polardb::reader::pfs::{OpenOptions, Pfs, PfsFile};
use recovery_polardb::writer::pfs::MemoryImage;
pub use recovery_polardb::writer::pfs::MemoryImage as Image;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A context with few threads.
pub fn context(reading: Reading) -> Context {
    thread_local!(static CONTEXT: Context = Context::with_limits(Limits { threads: 1, ..Limits::default() }));
    let mut cx = CONTEXT.with(Context::clone);
    cx.reading = reading;
    cx
}

/// Folder of the project's own fixtures.
pub fn own() -> PathBuf {
    recovery_testkit::fixtures("polardb").join("pfs")
}

/// Folders with images: the project's own, and the shared ones when they are there.
pub fn folders() -> Vec<PathBuf> {
    let mut all = vec![own()];
    if let Some(dir) = recovery_testkit::shared("polardb") {
        all.extend([dir.join("pfs"), dir.join("written")]);
    }
    all
}

/// Where an image of this name lies.
pub fn find(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|d| d.join(format!("{name}.img.tar.zst"))).find(|p| p.exists())
}

fn octal(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[1..].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    }
    let text = std::str::from_utf8(field).unwrap();
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).unwrap_or(0)
}

/// Unpacks the one sparse file of a GNU tar archive compressed with zstd.
pub fn unpack(path: &Path) -> MemoryImage {
    let packed = std::fs::read(path).unwrap();
    let tar = zstd::stream::decode_all(&packed[..]).unwrap();
    let header = &tar[..512];
    let mut at = 512;
    let mut map: Vec<(u64, u64)> = Vec::new();
    let mut take = |block: &[u8], n: usize| {
        for i in 0..n {
            let e = &block[i * 24..i * 24 + 24];
            let len = octal(&e[12..24]);
            if len > 0 {
                map.push((octal(&e[..12]), len));
            }
        }
    };
    assert_eq!(header[156], b'S', "a sparse file of the old GNU form");
    take(&header[386..], 4);
    let mut more = header[482] != 0;
    while more {
        let block = &tar[at..at + 512];
        take(block, 21);
        more = block[504] != 0;
        at += 512;
    }
    let mut image = MemoryImage::new(octal(&header[483..495]));
    for (offset, len) in map {
        let data = &tar[at..at + len as usize];
        for (page, i) in data.chunks(4096).zip(0u64..) {
            if page.iter().any(|b| *b != 0) {
                image.put(offset + i * 4096, page);
            }
        }
        at += len as usize;
    }
    image
}

/// The real tool's answer for an image.
pub fn expected(name: &str) -> Value {
    let paths = folders()
        .into_iter()
        .flat_map(|d| [d.join(format!("{name}.expected.json")), d.join(format!("{name}.expected.json.zst"))]);
    let path = paths.into_iter().find(|p| p.exists()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let bytes = if path.extension().unwrap() == "zst" { zstd::stream::decode_all(&bytes[..]).unwrap() } else { bytes };
    serde_json::from_slice(&bytes).unwrap()
}

/// Applies a recorded damage.
pub fn patch(image: &mut MemoryImage, case: &Value) {
    for write in case["patch"]["writes"].as_array().into_iter().flatten() {
        let at = write["offset"].as_u64().unwrap();
        if let Some(len) = write["zero"].as_u64() {
            image.zero(at, len);
        } else {
            image.put(at, &recovery_core::unhex(write["hex"].as_str().unwrap()).unwrap());
        }
    }
    if let Some(len) = case["patch"]["truncate"].as_u64() {
        image.truncate(len);
    }
}

pub fn open(image: &MemoryImage, reading: Reading) -> recovery_core::Result<Pfs> {
    Pfs::open(Arc::new(image.clone()), OpenOptions::default(), &context(reading))
}

/// One line for each file and directory: what a person compares.
pub fn listing(pfs: &Pfs) -> Vec<String> {
    let line = |(path, node): (Vec<u8>, &recovery_polardb::model::pfs::Node)| {
        let path = String::from_utf8_lossy(&path).into_owned();
        format!("{path} {} {} {} {:?} {:?}", node.ino, node.directory, node.size, node.mtime, node.extents)
    };
    pfs.files.walk(ROOT_INO).map(line).collect()
}

pub fn file(pfs: &Pfs, path: &str) -> PfsFile {
    let node = pfs.files.find(path.as_bytes()).unwrap();
    PfsFile::new(path, Arc::clone(pfs.device.blob()), &node.extents, node.size)
}

pub fn file_of(pfs: &Pfs, node: &recovery_polardb::model::pfs::Node) -> PfsFile {
    PfsFile::new("", Arc::clone(pfs.device.blob()), &node.extents, node.size)
}

pub fn sha256(blob: &dyn Blob) -> String {
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < blob.len() {
        let end = (at + (1 << 20)).min(blob.len());
        hash.update(blob.bytes(at..end).unwrap());
        at = end;
    }
    recovery_core::hex(&hash.finalize())
}

/// Compares a listing with the real tool's answer; returns what differs.
pub fn differences(pfs: &Pfs, expected: &Value, hashes: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut theirs: BTreeMap<String, &Value> = expected["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (format!("/{}", e["path"].as_str().unwrap()), e))
        .collect();
    let copied = !theirs.contains_key("/.pfs-journal");
    for (path, node) in pfs.files.walk(ROOT_INO) {
        let path = String::from_utf8(path).unwrap();
        let Some(e) = theirs.remove(&path) else {
            // Some answers were recorded with a recursive copy, which leaves the engine's own files and the top out.
            if copied && (path.starts_with("/.pfs-") || !path[1..].contains('/')) {
                continue;
            }
            out.push(format!("{path}: only ours"));
            continue;
        };
        let number = |key: &str| e[key].as_u64();
        let ours = [
            ("size", Some(node.size)),
            ("ino", Some(node.ino)),
            ("blocks512", Some(node.nblock * 8192)),
            ("modify", Some(node.mtime)),
            ("change", Some(node.ctime)),
            ("access", Some(node.atime)),
        ];
        for (key, value) in ours {
            if number(key).is_some() && number(key) != value {
                out.push(format!("{path}: {key} is {value:?}, theirs {:?}", number(key)));
            }
        }
        if node.directory != (e["type"] == "dir") {
            out.push(format!("{path}: type"));
        }
        if let Some(sum) = e["sha256"].as_str().filter(|_| hashes)
            && sha256(&file(pfs, &path)) != sum
        {
            out.push(format!("{path}: contents"));
        }
    }
    out.extend(theirs.keys().map(|p| format!("{p}: only theirs")));
    out
}

pub fn summaries(pfs: &Pfs) -> Vec<String> {
    pfs.findings.iter().map(|f| format!("{} {:?} {:?} {}", f.code, f.severity, f.offset, f.summary)).collect()
}

/// Writes an image as a sparse file.
pub fn store(image: &MemoryImage, path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(image.len()).unwrap();
    for at in image.pages() {
        let end = (at + 4096).min(image.len());
        file.write_all_at(&image.bytes(at..end).unwrap(), at).unwrap();
    }
}

//! Cases of the shared folder: databases, and the rows that real programs read from them.
#![allow(dead_code)] // each test file uses a part

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{MemSource, Source};

/// A case of the shared folder.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// All shared cases, or nothing with a word on why.
pub(crate) fn cases() -> Vec<Case> {
    let Some(root) = recovery_testkit::shared("rocksdb") else {
        println!("skipped: the shared fixtures are not here");
        return Vec::new();
    };
    recovery_testkit::cases(&root).into_iter().map(|(name, folder)| Case { name, folder }).collect()
}

fn unpacked(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    Some(zstd::decode_all(file).expect("zstd"))
}

impl Case {
    /// The database directory, in memory.
    pub(crate) fn database(&self) -> MemSource {
        let mut source = MemSource::default();
        for (name, data) in untar(&unpacked(&self.folder.join("db.tar.zst")).expect("db.tar.zst")) {
            if let Some(name) = name.strip_prefix("db/").filter(|n| !n.is_empty()) {
                source.insert(name, data);
            }
        }
        source
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.database())
    }

    /// The rows of a recorded answer: family -> key -> value, both in the form of the file.
    pub(crate) fn rows(&self, file: &str) -> Option<Rows> {
        let text = String::from_utf8(unpacked(&self.folder.join(format!("{file}.zst")))?).expect("text");
        let mut rows = Rows::new();
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# cf ") {
                rows.entry(head.split(" rows=").next().unwrap_or(head).to_owned()).or_default();
                continue;
            }
            let mut parts = line.splitn(3, '\t');
            let (Some(family), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next()) else { continue };
            rows.entry(family.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        }
        Some(rows)
    }

    pub(crate) fn expected(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.folder.join("expected.json")).expect("expected.json");
        serde_json::from_str(&text).expect("json")
    }
}

pub(crate) type Rows = BTreeMap<String, BTreeMap<String, String>>;

/// A value as the recorded answers show it.
pub(crate) fn shown(value: &[u8]) -> String {
    if value.len() <= 40 {
        return format!("x{}", recovery_core::hex(value));
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(value);
    format!("#{}:{}", value.len(), recovery_core::hex(&digest[..8]))
}

/// Regular files of a tar archive.
fn untar(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = |field: &[u8]| String::from_utf8_lossy(field.split(|b| *b == 0).next().unwrap_or(field)).into_owned();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 512).filter(|head| head[0] != 0) {
        let size = usize::from_str_radix(text(&head[124..136]).trim(), 8).expect("size");
        if head[156] == b'0' || head[156] == 0 {
            out.push((text(&head[..100]), bytes[at + 512..at + 512 + size].to_vec()));
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    out
}

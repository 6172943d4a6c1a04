//! Snapshots of a frontend's state: which there are, and whether they are whole.
//!
//! `image.N` is the state after journal id N. From 3.4 on a second form lies in `image/v2` with the CRC-32 of the whole
//! file in `checksum.N`; the old form is loaded only when its N is greater. The old form, from meta version 4 on: an
//! integer version (or -1 and two), a JSON header, then blocks, each a JSON header, values, and a footer with the CRC-32
//! of everything in the block before the footer; every text is preceded by its length (big-endian). Older images have
//! no checksum that covers them as a whole.

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};
use recovery_core::{Blob, Context, Depth, Source};
use serde::Serialize;
use serde_json::Value;

/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;
/// Largest block header or footer.
const MAX_HEADER: u64 = 1 << 16;

/// Whether an image is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ImageState {
    /// Every checksum agrees.
    Valid,
    /// Nothing in it can be checked.
    Unverified {
        /// Why.
        why: String,
    },
    /// It is damaged.
    Bad {
        /// First wrong byte.
        offset: u64,
        /// How.
        why: String,
    },
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Path in the source.
    pub name: String,
    /// Journal id up to which it holds the state.
    pub journal_id: i64,
    /// 1 or 2.
    pub form: u8,
    /// Length.
    pub size: u64,
    /// Meta version, when the header could be read.
    pub meta_version: Option<i32>,
    /// Whether it is whole.
    #[serde(flatten)]
    pub state: ImageState,
}

/// The images of a directory, the one that would be loaded first.
#[must_use]
pub fn list(source: &dyn Source, dir: &str, cx: &Context) -> Vec<Image> {
    let mut all = Vec::new();
    for (sub, form) in [(dir.to_owned(), 1), (format!("{dir}/v2"), 2)] {
        for entry in source.list(&sub, Depth::One).flatten().filter(recovery_core::Entry::is_file) {
            let id = entry.file_name().strip_prefix("image.").and_then(|n| n.parse::<i64>().ok());
            let Some(journal_id) = id.filter(|n| *n >= 0) else { continue };
            let state = match source.open(&entry) {
                Ok(blob) if form == 2 => check_v2(source, &sub, journal_id, &blob, cx),
                Ok(blob) => check_v1(&blob, cx),
                Err(e) => (None, ImageState::Bad { offset: 0, why: e.to_string() }),
            };
            let (meta_version, state) = state;
            all.push(Image { name: entry.name.clone(), journal_id, form, size: entry.size, meta_version, state });
        }
    }
    all.sort_by_key(|i| (std::cmp::Reverse(i.journal_id), std::cmp::Reverse(i.form)));
    all
}

fn crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc32IsoHdlc)
}

fn check_v2(source: &dyn Source, dir: &str, id: i64, blob: &Arc<dyn Blob>, cx: &Context) -> (Option<i32>, ImageState) {
    let version = blob.bytes(0..4).ok().and_then(|b| Some(i32::from_be_bytes(b.as_ref().try_into().ok()?)));
    let stored = source.open_name(&format!("{dir}/checksum.{id}")).ok().flatten();
    let stored = stored.and_then(|b| b.bytes(0..b.len().min(64)).ok());
    let stored = stored.and_then(|b| String::from_utf8_lossy(&b).trim().parse::<u64>().ok());
    let Some(stored) = stored else {
        let why = format!("checksum.{id} is missing or no number");
        return (version, ImageState::Unverified { why });
    };
    let mut sum = crc();
    let mut at = 0;
    while at < blob.len() {
        if cx.cancelled().is_err() {
            return (version, ImageState::Unverified { why: "interrupted".to_owned() });
        }
        let end = blob.len().min(at.saturating_add(CHUNK));
        match blob.bytes(at..end) {
            Ok(b) => sum.update(&b),
            Err(e) => return (version, ImageState::Bad { offset: at, why: e.to_string() }),
        }
        at = end;
    }
    let computed = sum.finalize();
    if computed == stored {
        return (version, ImageState::Valid);
    }
    let why = format!("CRC-32 of the file is {computed}, checksum.{id} says {stored}");
    (version, ImageState::Bad { offset: 0, why })
}

/// Reads texts one after the other, keeping the checksum of the block.
struct Texts<'a> {
    blob: &'a dyn Blob,
    at: u64,
    sum: Digest,
}

type Step<T> = Result<T, (u64, String)>;

impl Texts<'_> {
    fn read(&self, n: u64) -> Step<bytes::Bytes> {
        let end = self.at.saturating_add(n);
        self.blob.bytes(self.at..end).map_err(|e| (self.at, e.to_string()))
    }

    fn int(&mut self) -> Step<i32> {
        let b = self.read(4)?;
        self.at = self.at.saturating_add(4);
        b.as_ref().try_into().map(i32::from_be_bytes).map_err(|_| (self.at, "short".to_owned()))
    }

    fn length(&self) -> Step<u64> {
        let b = self.read(4)?;
        let n = b.as_ref().try_into().map(i32::from_be_bytes).map_err(|_| (self.at, "short".to_owned()))?;
        let left = self.blob.len().saturating_sub(self.at).saturating_sub(4);
        u64::try_from(n)
            .ok()
            .filter(|n| *n <= left)
            .ok_or_else(|| (self.at, format!("a text of {n} bytes, {left} are left")))
    }

    /// A short text, not added to the sum.
    fn peek(&self) -> Step<(Value, u64)> {
        let n = self.length()?;
        if n > MAX_HEADER {
            return Err((self.at, format!("a header of {n} bytes")));
        }
        let b = self.read(n.saturating_add(4))?;
        let json = serde_json::from_slice(b.get(4..).unwrap_or_default());
        json.map(|v| (v, n.saturating_add(4))).map_err(|e| (self.at, format!("not JSON: {e}")))
    }

    /// Moves over so many bytes, adding them to the sum.
    fn pass(&mut self, mut n: u64) -> Step<()> {
        while n > 0 {
            let part = n.min(CHUNK);
            let b = self.read(part)?;
            self.sum.update(&b);
            self.at = self.at.saturating_add(part);
            n = n.saturating_sub(part);
        }
        Ok(())
    }

    fn block(&mut self) -> Step<()> {
        let start = self.at;
        self.sum = crc();
        let (header, size) = self.peek()?;
        let count = header.get("nj").and_then(Value::as_u64).ok_or((start, "a block header without nj".to_owned()))?;
        self.pass(size)?;
        for _ in 0..count {
            let n = self.length()?;
            self.pass(n.saturating_add(4))?;
        }
        let (footer, size) = self.peek()?;
        let stored = footer.get("c").and_then(Value::as_u64);
        let stored = stored.ok_or((self.at, "a block footer without checksum".to_owned()))?;
        let computed = std::mem::replace(&mut self.sum, crc()).finalize();
        if stored != computed {
            let name = header.get("n").or_else(|| header.get("i").and_then(|i| i.get("i")));
            let name = name.map(ToString::to_string).unwrap_or_default();
            return Err((start, format!("block {name}: CRC-32 is {computed}, its footer says {stored}")));
        }
        self.at = self.at.saturating_add(size);
        Ok(())
    }
}

fn check_v1(blob: &Arc<dyn Blob>, cx: &Context) -> (Option<i32>, ImageState) {
    let mut t = Texts { blob: blob.as_ref(), at: 0, sum: crc() };
    let bad = |(offset, why): (u64, String)| ImageState::Bad { offset, why };
    let mut version = match t.int() {
        Ok(v) => v,
        Err(e) => return (None, bad(e)),
    };
    if version == -1 {
        match (t.int(), t.int()) {
            (Ok(_), Ok(own)) => version = own,
            (Err(e), _) | (_, Err(e)) => return (None, bad(e)),
        }
    }
    let modern = matches!(t.peek(), Ok((Value::Object(_), _)));
    if !modern {
        let why = "an image from before meta version 4 has no checksum that covers it".to_owned();
        return (Some(version), ImageState::Unverified { why });
    }
    if let Ok((_, size)) = t.peek() {
        t.at = t.at.saturating_add(size);
    }
    while t.at < blob.len() {
        if cx.cancelled().is_err() {
            return (Some(version), ImageState::Unverified { why: "interrupted".to_owned() });
        }
        if let Err(e) = t.block() {
            return (Some(version), bad(e));
        }
    }
    (Some(version), ImageState::Valid)
}

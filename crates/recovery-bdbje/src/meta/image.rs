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

use super::blocks::{self, Block, Event, Form, Head};

/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;

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
                Ok(blob) => check_v1(&blob, journal_id, cx),
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

fn check_v1(blob: &Arc<dyn Blob>, journal_id: i64, cx: &Context) -> (Option<i32>, ImageState) {
    let (mut head, mut first): (Option<Head>, Option<(u64, String)>) = (None, None);
    let outcome = blocks::read(blob.as_ref(), cx, &mut |e| {
        match e {
            Event::Head(h) => head = Some(h.clone()),
            Event::End(Block { offset, name, problem: Some(why), .. }) => {
                first.get_or_insert_with(|| (*offset, format!("block {name:?}: {why}")));
            }
            _ => {}
        }
        Ok(())
    });
    let version = head.as_ref().map(|h| h.meta_version);
    let unverified = |why: &str| (version, ImageState::Unverified { why: why.to_owned() });
    let Ok(outcome) = outcome else { return unverified("interrupted") };
    let (own, form) = (head.as_ref().and_then(|h| h.journal_id), head.as_ref().map(|h| h.form));
    let named = own.filter(|id| *id != journal_id);
    let named = named.map(|own| (0, format!("it holds the state after journal id {own}, its name says {journal_id}")));
    if let Some((offset, why)) = named.or(first).or(outcome.stopped) {
        return (version, ImageState::Bad { offset, why });
    }
    match form {
        Some(Form::V1) => (version, ImageState::Valid),
        Some(Form::Doris) => {
            unverified("the sum of an image of Doris can only be checked by decoding all of its modules")
        }
        Some(Form::V2) => unverified("plain values, as in image/v2, without the checksum that belongs to them"),
        _ => unverified("an image from before meta version 4 has no checksum that covers it"),
    }
}

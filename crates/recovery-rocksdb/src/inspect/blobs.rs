//! What is found in one blob file.

use std::sync::Arc;

use recovery_core::{Class, Context, Coverage, Entry, Source};

use crate::format::blob::{FOOTER_LEN, HEADER_LEN};
use crate::reader::blob::{BlobItem, BlobWalk};

/// Facts about one blob file.
#[derive(Clone, Debug)]
pub struct BlobFacts {
    /// Its name.
    pub object: String,
    /// Its size.
    pub size: u64,
    /// The walk over its records; `None` when it could not be opened.
    pub walk: Option<BlobWalk>,
    /// Why it could not.
    pub error: Option<String>,
    /// What is known of its bytes.
    pub coverage: Coverage,
}

impl BlobFacts {
    /// Whether header, every record and the footer are good.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.walk.as_ref().is_some_and(|w| w.is_whole() && w.footer.is_ok())
    }

    /// Whether nothing in it looks like a blob file.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.walk.as_ref().is_none_or(|w| w.header.is_err() && w.records() == 0)
    }
}

/// Walks one blob file.
pub fn look(source: &dyn Source, entry: &Entry, cx: &Context) -> BlobFacts {
    let mut facts = BlobFacts {
        object: entry.name.clone(),
        size: entry.size,
        walk: None,
        error: None,
        coverage: Coverage::new(entry.size),
    };
    let blob = match source.open(entry) {
        Ok(blob) => blob,
        Err(e) => {
            facts.error = Some(e.to_string());
            facts.coverage.mark(0..entry.size, Class::Unread);
            return facts;
        }
    };
    let walk = BlobWalk::run(&Arc::clone(&blob));
    let header = if walk.header.is_ok() { Class::Parsed } else { Class::Damaged };
    facts.coverage.mark(0..HEADER_LEN as u64, header);
    for item in &walk.items {
        let (range, class) = match item {
            BlobItem::Record { range, .. } => (range, Class::Verified),
            BlobItem::Damaged { range, .. } | BlobItem::Unknown { range } => (range, Class::Damaged),
            BlobItem::Unread { range, .. } => (range, Class::Unread),
        };
        facts.coverage.mark(range.clone(), class);
    }
    if walk.footer.is_ok() {
        facts.coverage.mark(entry.size.saturating_sub(FOOTER_LEN as u64)..entry.size, Class::Verified);
    }
    facts.walk = Some(walk);
    cx.progress.advance(entry.size);
    facts
}

//! Bytes and types of the repository's own files. Pure: no I/O, no clock.
//!
//! | module | structure |
//! |---|---|
//! | [`names`] | directory and file names, MD5 suffixes, timestamps |
//! | [`info`] | `__info_<timestamp>`: the job description |
//! | [`meta_json`] | `__meta` as one JSON text (3.2 and later, late 3.0 and 3.1) |
//! | [`meta_binary`] | `__meta` as Java data streams (up to 2.5, early 3.0 and 3.1) |
//! | [`tablet_header`] | `<tablet>.hdr` and `<tablet>.dcgs_snapshot`: framed protobuf |
//! | [`pk_meta`] | `meta` of primary-key tablets |
//! | [`snapshot_manifest`] | `__starrocks_snapshot_manifest` |

pub mod info;
pub mod java;
pub mod meta_binary;
pub mod meta_json;
pub mod names;
pub mod pk_meta;
pub mod segment;
pub mod snapshot_manifest;
pub mod tablet_header;

/// Why a structure could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {at:#x}: {message}")]
pub struct FormatError {
    /// The structure or field.
    pub what: &'static str,
    /// Offset in the object.
    pub at: u64,
    /// What was found and what was expected.
    pub message: String,
}

impl FormatError {
    pub(crate) fn new(what: &'static str, at: u64, message: impl Into<String>) -> Self {
        Self { what, at, message: message.into() }
    }
}

impl From<recovery_core::Short> for FormatError {
    fn from(short: recovery_core::Short) -> Self {
        Self {
            what: short.field,
            at: short.at,
            message: format!("needs {} bytes, {} are left", short.need, short.have),
        }
    }
}

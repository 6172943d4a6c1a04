//! Bytes and types: no I/O here.
//!
//! One structure a file, decoding beside encoding, the layout table at the head of each module.

pub mod blob;
pub mod block;
pub mod checksum;
pub mod coding;
pub mod compression;
pub mod error;
pub mod footer;
pub mod handle;
pub mod index;
pub mod key;
pub mod metaindex;
pub mod properties;
pub mod wide_column;

// Logs and text.
pub mod current;
pub mod file_name;
pub mod info_log;
pub mod log_frame;
pub mod options;
pub mod version_edit;
pub mod write_batch;

pub use checksum::{ChecksumType, Seal};
pub use compression::Compression;
pub use error::FormatError;
pub use footer::Footer;
pub use handle::BlockHandle;
pub use index::{IndexEntry, IndexFormat, IndexType};
pub use key::{InternalKey, KeyOrder, ParsedKey, SequenceNumber, ValueType};
pub use metaindex::{MetaKind, Metaindex};
pub use properties::TableProperties;

//! The one error of the format layer: bytes that are not the structure they should be.

use recovery_core::{Short, VarintError};

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes ended before the field did.
    #[error(transparent)]
    Short(#[from] Short),
    /// A variable-length number is cut or too long.
    #[error(transparent)]
    Varint(#[from] VarintError),
    /// A field has a value it cannot have.
    #[error("{structure} at {at:#x}: {field} is {found}, expected {expected}")]
    Value {
        /// The structure that was being decoded.
        structure: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Offset of the structure or field in the object.
        at: u64,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A checksum does not match the bytes it covers.
    #[error(
        "{structure} at {at:#x}, {length} bytes: {algorithm} stored is {stored:#010x}, the bytes give {computed:#010x}"
    )]
    Checksum {
        /// The structure that was being decoded.
        structure: &'static str,
        /// Offset of the covered bytes in the object.
        at: u64,
        /// Number of bytes covered, trailer included.
        length: u64,
        /// Name of the algorithm.
        algorithm: &'static str,
        /// The checksum in the file.
        stored: u32,
        /// The checksum of the bytes in the file.
        computed: u32,
    },
    /// The structure is of a kind that this crate recognises but does not read.
    #[error("{structure} at {at:#x}: {what} is not supported; the file is left as it is")]
    Unsupported {
        /// The structure that was being decoded.
        structure: &'static str,
        /// Offset of the structure in the object.
        at: u64,
        /// What is not supported.
        what: String,
    },
}

impl FormatError {
    /// A field that has a value it cannot have.
    #[cold]
    pub fn value(
        structure: &'static str,
        field: &'static str,
        at: u64,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Value { structure, field, at, found: found.to_string(), expected: expected.to_string() }
    }

    /// Something recognised but not read.
    #[cold]
    pub fn unsupported(structure: &'static str, at: u64, what: impl ToString) -> Self {
        Self::Unsupported { structure, at, what: what.to_string() }
    }

    /// Offset in the object at which decoding failed.
    #[must_use]
    pub const fn at(&self) -> u64 {
        match self {
            Self::Short(short) | Self::Varint(VarintError::Short(short)) => short.at,
            Self::Varint(VarintError::TooLong { at, .. })
            | Self::Value { at, .. }
            | Self::Checksum { at, .. }
            | Self::Unsupported { at, .. } => *at,
        }
    }
}

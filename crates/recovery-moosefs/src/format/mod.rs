//! Bytes and types of metadata files, without any I/O.
//!
//! One on-disk structure a file, decoding beside encoding. Every decoder reads through a
//! [`Cursor`](recovery_core::Cursor), every encoder appends to a `Vec<u8>` what the same version of the structure
//! holds. All integers are big endian and unpadded.

pub mod attr;
pub mod crc;
pub mod edge;
pub mod lock;
pub mod node;
pub mod outer;
pub mod sclass;
pub mod session;
pub mod sessions_file;
pub mod small;

use recovery_core::Short;

/// Bytes that are no valid structure of their kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside the structure.
    #[error(transparent)]
    Short(#[from] Short),
    /// A field holds a value that cannot be.
    #[error("{what} at {at:#x}: found {found}, expected {expected}")]
    Value {
        /// Which field.
        what: &'static str,
        /// Its offset in the file.
        at: u64,
        /// What stands there.
        found: u64,
        /// What may stand there.
        expected: &'static str,
    },
}

impl DecodeError {
    /// Offset at which decoding failed.
    #[must_use]
    pub const fn at(&self) -> u64 {
        match self {
            Self::Short(s) => s.at,
            Self::Value { at, .. } => *at,
        }
    }
}

/// Result of a decoder.
pub type Decoded<T> = Result<T, DecodeError>;

/// A structure of a section that ends with a terminator: one record, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<T> {
    /// A record.
    Record(T),
    /// The terminator.
    End,
}

/// Length as the narrow integer a format field has, saturating.
#[must_use]
pub fn narrow<T: TryFrom<usize>>(n: usize, max: T) -> T {
    T::try_from(n).unwrap_or(max)
}

pub(crate) trait Put {
    fn u8(&mut self, v: u8);
    fn u16(&mut self, v: u16);
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
}

impl Put for Vec<u8> {
    #[inline]
    fn u8(&mut self, v: u8) {
        self.push(v);
    }
    #[inline]
    fn u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    #[inline]
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    #[inline]
    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }
}

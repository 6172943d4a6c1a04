//! Blocks by their handles: read, checked, unpacked.

use std::sync::Arc;

use bytes::Bytes;
use recovery_core::{Blob, ReadError};

use crate::format::compression::{Container, DecompressError, Decompressor, Dictionary};
use crate::format::handle::TRAILER_LEN;
use crate::format::{BlockHandle, FormatError, Seal};

/// Why a table, or a part of it, could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The medium did not give the bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bytes are not what they should be.
    #[error("{object}: {source}")]
    Format {
        /// Name of the file.
        object: String,
        /// What is wrong.
        source: FormatError,
    },
    /// The checksum is right, and still the block does not unpack.
    #[error("{object}: {structure} at {at:#x}: {source}")]
    Unpack {
        /// Name of the file.
        object: String,
        /// What kind of block.
        structure: &'static str,
        /// Where it lies.
        at: u64,
        /// What the decompressor said.
        source: DecompressError,
    },
}

impl TableError {
    /// Adds the file's name to a decoding error.
    pub fn format(object: &str, source: FormatError) -> Self {
        Self::Format { object: object.to_owned(), source }
    }

    /// Offset in the file at which it happened.
    #[must_use]
    pub const fn at(&self) -> u64 {
        match self {
            Self::Read(error) => error.offset,
            Self::Format { source, .. } => source.at(),
            Self::Unpack { at, .. } => *at,
        }
    }

    /// Is it a recognised thing that this crate does not read, rather than damage?
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Format { source: FormatError::Unsupported { .. }, .. }
                | Self::Unpack { source: DecompressError::Unsupported(_) | DecompressError::Unknown(_), .. }
        )
    }
}

impl From<TableError> for recovery_core::Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Read(read) => Self::Read(read),
            unsupported if unsupported.is_unsupported() => Self::unsupported(unsupported.to_string()),
            damaged => Self::Damaged(damaged.to_string()),
        }
    }
}

/// What is needed to read any block of one table.
#[derive(Clone, Debug)]
pub struct BlockReader {
    /// The file.
    pub blob: Arc<dyn Blob>,
    /// Checksum algorithm and context.
    pub seal: Seal,
    /// How compressed payloads are wrapped.
    pub container: Container,
    /// Dictionary of the data blocks.
    pub dictionary: Option<Dictionary>,
    /// Largest unpacked block accepted, in bytes.
    pub limit: usize,
}

/// A block taken apart: what the checksum covers, and the checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) sealed: &'a [u8],
    pub(crate) stored: u32,
}

impl<'a> Sealed<'a> {
    /// `bytes` are payload and trailer.
    pub(crate) fn split(bytes: &'a [u8]) -> Option<Self> {
        let (sealed, stored) = bytes.split_last_chunk::<4>()?;
        (!sealed.is_empty()).then_some(Self { sealed, stored: u32::from_le_bytes(*stored) })
    }

    /// Payload and compression type byte.
    pub(crate) fn payload(&self) -> (&'a [u8], u8) {
        self.sealed.split_last().map_or((&[], 0), |(last, rest)| (rest, *last))
    }
}

impl BlockReader {
    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        self.blob.name()
    }

    /// Reads a block with its trailer and checks it. `structure` is the word for it in errors.
    ///
    /// # Errors
    ///
    /// When the block reaches past the file, cannot be read, or does not match its checksum.
    pub fn raw(&self, handle: BlockHandle, structure: &'static str) -> Result<Bytes, TableError> {
        if !handle.fits(self.blob.len()) {
            let expected = format_args!("a block inside the {} bytes of the file", self.blob.len());
            let found = format_args!("{} bytes", handle.size);
            let source = FormatError::value(structure, "size", handle.offset, found, expected);
            return Err(TableError::format(self.name(), source));
        }
        let bytes = self.blob.bytes(handle.range())?;
        self.check(handle, &bytes, structure)?;
        Ok(bytes)
    }

    /// Checks a block that has been read.
    ///
    /// # Errors
    ///
    /// When the checksum differs.
    #[inline]
    pub fn check(&self, handle: BlockHandle, bytes: &[u8], structure: &'static str) -> Result<(), TableError> {
        match Sealed::split(bytes) {
            Some(block) if self.seal.fits(handle.offset, block.sealed, block.stored) => Ok(()),
            other => Err(self.mismatch(handle, other, structure)),
        }
    }

    #[cold]
    fn mismatch(&self, handle: BlockHandle, block: Option<Sealed<'_>>, structure: &'static str) -> TableError {
        let (stored, computed) = block.map_or((0, 0), |b| (b.stored, self.seal.compute(handle.offset, b.sealed)));
        let source = FormatError::Checksum {
            structure,
            at: handle.offset,
            length: handle.size.saturating_add(TRAILER_LEN as u64),
            algorithm: self.seal.algorithm.name(),
            stored,
            computed,
        };
        TableError::format(self.name(), source)
    }

    /// Reads, checks and unpacks a block other than a data block.
    ///
    /// # Errors
    ///
    /// As [`Self::raw`], and when the payload does not unpack.
    pub fn read(&self, handle: BlockHandle, structure: &'static str) -> Result<Vec<u8>, TableError> {
        let bytes = self.raw(handle, structure)?;
        let mut out = Vec::new();
        self.unpack(&mut Decompressor::default(), handle, &bytes, structure, None, &mut out)?;
        Ok(out)
    }

    /// Unpacks a checked block (payload and trailer) into `out`.
    ///
    /// # Errors
    ///
    /// When the payload does not unpack.
    pub fn unpack(
        &self,
        decompressor: &mut Decompressor,
        handle: BlockHandle,
        bytes: &[u8],
        structure: &'static str,
        dictionary: Option<&Dictionary>,
        out: &mut Vec<u8>,
    ) -> Result<(), TableError> {
        let (payload, kind) = Sealed::split(bytes).map_or((&[][..], 0), |block| block.payload());
        decompressor.unpack(kind, payload, self.container, dictionary, self.limit, out).map_err(|source| {
            TableError::Unpack { object: self.name().to_owned(), structure, at: handle.offset, source }
        })
    }
}

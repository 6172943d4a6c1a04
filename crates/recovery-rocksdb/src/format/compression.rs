//! Compressed block payloads.
//!
//! | byte | algorithm | payload, format version 2 and later                 | payload, format version 0 and 1  |
//! | ---: | --------- | --------------------------------------------------- | -------------------------------- |
//! |    0 | none      | raw                                                 | same                             |
//! |    1 | Snappy    | raw Snappy, which holds its own length              | same                             |
//! |    2 | Zlib      | varint32 size, raw deflate                          | no size                          |
//! |    3 | BZip2     | varint32 size, bzip2 stream                         | no size                          |
//! | 4, 5 | LZ4       | varint32 size, one LZ4 block                        | fixed64 size, one LZ4 block      |
//! |    6 | XPRESS    | Windows only, not read                              | same                             |
//! |    7 | ZSTD      | varint32 size, zstd frame                           | same                             |
//! | 0x40 | ZSTD      | as 7, written by versions before ZSTD was final     | same                             |
//!
//! A dictionary (metaindex entry `rocksdb.compression_dict`, raw bytes) applies to data blocks only. ZSTD takes it as
//! a dictionary, LZ4 and Zlib as the text before the block; Snappy and BZip2 ignore it.
//!
//! Upstream: `util/compression.h`, `table/format.cc` (`UncompressBlockData`).

use std::sync::Arc;

use super::coding::{fixed64, varint32};

/// Version of the container around compressed bytes, which follows the table's format version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// Format versions 0 and 1.
    Legacy,
    /// Format version 2 and later, blob files, compressed logs.
    Sized,
}

impl Container {
    /// The container of tables of this format version.
    #[must_use]
    pub const fn of(format_version: u32) -> Self {
        if format_version < 2 { Self::Legacy } else { Self::Sized }
    }
}

/// The compression type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs)] // the module's table says it all
pub enum Compression {
    None,
    Snappy,
    Zlib,
    BZip2,
    Lz4,
    Lz4Hc,
    Xpress,
    Zstd,
    ZstdNotFinal,
}

impl Compression {
    /// The algorithm a type byte stands for.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::Snappy,
            2 => Self::Zlib,
            3 => Self::BZip2,
            4 => Self::Lz4,
            5 => Self::Lz4Hc,
            6 => Self::Xpress,
            7 => Self::Zstd,
            0x40 => Self::ZstdNotFinal,
            _ => return None,
        })
    }

    /// The type byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Snappy => 1,
            Self::Zlib => 2,
            Self::BZip2 => 3,
            Self::Lz4 => 4,
            Self::Lz4Hc => 5,
            Self::Xpress => 6,
            Self::Zstd => 7,
            Self::ZstdNotFinal => 0x40,
        }
    }

    /// The name in table properties and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NoCompression",
            Self::Snappy => "Snappy",
            Self::Zlib => "Zlib",
            Self::BZip2 => "BZip2",
            Self::Lz4 => "LZ4",
            Self::Lz4Hc => "LZ4HC",
            Self::Xpress => "Xpress",
            Self::Zstd => "ZSTD",
            Self::ZstdNotFinal => "ZSTDNotFinal",
        }
    }
}

/// Why compressed bytes could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The type byte stands for nothing known.
    #[error("compression type {0:#04x} is not known")]
    Unknown(u8),
    /// Known, but not readable here.
    #[error("compression {0} is not supported")]
    Unsupported(&'static str),
    /// The size before the compressed bytes is cut.
    #[error("{0}: the uncompressed size is cut off")]
    NoSize(&'static str),
    /// The size is larger than the caller allows.
    #[error("{algorithm}: the uncompressed size {size} is above the limit of {limit}")]
    Limit {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// The size claimed.
        size: u64,
        /// The size allowed.
        limit: usize,
    },
    /// The compressed bytes are damaged.
    #[error("{algorithm}: {message}")]
    Damaged {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// What the library said.
        message: String,
    },
}

/// A dictionary shared by all data blocks of a table.
#[derive(Clone)]
pub struct Dictionary {
    raw: Arc<[u8]>,
    zstd: Arc<zstd::dict::DecoderDictionary<'static>>,
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dictionary({} bytes)", self.raw.len())
    }
}

impl Dictionary {
    /// Prepares a dictionary from the bytes of the block `rocksdb.compression_dict`.
    #[must_use]
    pub fn new(raw: &[u8]) -> Self {
        Self { raw: raw.into(), zstd: Arc::new(zstd::dict::DecoderDictionary::copy(raw)) }
    }

    /// The bytes as stored.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

/// Unpacks blocks; keeps its working state between calls, so use one per thread.
pub struct Decompressor {
    snappy: snap::raw::Decoder,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self { snappy: snap::raw::Decoder::new(), zstd: None }
    }
}

impl Decompressor {
    /// Unpacks `payload` into `out`, whose former contents go. At most `limit` bytes come out.
    ///
    /// # Errors
    ///
    /// When the type is unknown, the size is over the limit, or the bytes do not unpack to the size they claim.
    pub fn unpack(
        &mut self,
        type_byte: u8,
        payload: &[u8],
        container: Container,
        dictionary: Option<&Dictionary>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let kind = Compression::from_byte(type_byte).ok_or(DecompressError::Unknown(type_byte))?;
        out.clear();
        match (kind, container) {
            (Compression::None, _) => {
                sized(kind, payload.len() as u64, limit)?;
                out.extend_from_slice(payload);
                Ok(())
            }
            (Compression::Snappy, _) => self.snappy(payload, limit, out),
            (Compression::Xpress, _) => Err(DecompressError::Unsupported(kind.name())),
            (Compression::Zlib | Compression::BZip2, Container::Legacy) => {
                stream(kind, payload, None, dictionary, limit, out)
            }
            (Compression::Lz4 | Compression::Lz4Hc, Container::Legacy) => {
                let size = fixed64(payload).ok_or(DecompressError::NoSize(kind.name()))?;
                lz4(kind, payload.get(8..).unwrap_or_default(), size, dictionary, limit, out)
            }
            _ => {
                let (size, used) = varint32(payload).ok_or(DecompressError::NoSize(kind.name()))?;
                let body = payload.get(used..).unwrap_or_default();
                let size = u64::from(size);
                match kind {
                    Compression::Zlib | Compression::BZip2 => stream(kind, body, Some(size), dictionary, limit, out),
                    Compression::Lz4 | Compression::Lz4Hc => lz4(kind, body, size, dictionary, limit, out),
                    _ => self.zstd(kind, body, size, dictionary, limit, out),
                }
            }
        }
    }

    fn snappy(&mut self, payload: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
        let kind = Compression::Snappy;
        let size = snap::raw::decompress_len(payload).map_err(|e| damaged(kind, e))?;
        // Snappy cannot pack tighter than 64 bytes into 3, so a larger claim is damage and must not be allocated.
        plausible(kind, size as u64, payload.len(), 22)?;
        out.resize(sized(kind, size as u64, limit)?, 0);
        let done = self.snappy.decompress(payload, out).map_err(|e| damaged(kind, e))?;
        exact(kind, done, size)
    }

    fn zstd(
        &mut self,
        kind: Compression,
        body: &[u8],
        size: u64,
        dictionary: Option<&Dictionary>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let want = sized(kind, size, limit)?;
        if want > WHOLE {
            return zstd_in_pieces(kind, body, want, dictionary, out);
        }
        out.reserve(want);
        let done = match dictionary {
            Some(dictionary) => zstd::bulk::Decompressor::with_prepared_dictionary(&dictionary.zstd)
                .and_then(|mut with| with.decompress_to_buffer(body, out)),
            None => {
                if self.zstd.is_none() {
                    self.zstd = Some(zstd::bulk::Decompressor::new().map_err(|e| damaged(kind, e))?);
                }
                let Some(zstd) = self.zstd.as_mut() else { return Err(damaged(kind, "no context")) };
                zstd.decompress_to_buffer(body, out)
            }
        };
        exact(kind, done.map_err(|e| damaged(kind, e))?, want)
    }
}

/// Up to this size the output is allocated at once; above it as the stream gives, since the size may be damage.
const WHOLE: usize = 8 << 20;

fn zstd_in_pieces(
    kind: Compression,
    body: &[u8],
    want: usize,
    dictionary: Option<&Dictionary>,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    use std::io::Read as _;
    let cap = (want as u64).saturating_add(1);
    let done = match dictionary {
        Some(d) => zstd::stream::read::Decoder::with_prepared_dictionary(body, &d.zstd)
            .and_then(|stream| stream.take(cap).read_to_end(out)),
        None => zstd::stream::read::Decoder::new(body).and_then(|stream| stream.take(cap).read_to_end(out)),
    };
    exact(kind, done.map_err(|e| damaged(kind, e))?, want)
}

fn lz4(
    kind: Compression,
    body: &[u8],
    size: u64,
    dictionary: Option<&Dictionary>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    // One byte of a length code stands for at most 255 bytes of output.
    plausible(kind, size, body.len(), 255)?;
    out.resize(sized(kind, size, limit)?, 0);
    let done = match dictionary {
        Some(dictionary) => lz4_flex::block::decompress_into_with_dict(body, out, &dictionary.raw),
        None => lz4_flex::block::decompress_into(body, out),
    };
    exact(kind, done.map_err(|e| damaged(kind, e))?, out.len())
}

/// Zlib and BZip2: streams that know their own end.
fn stream(
    kind: Compression,
    body: &[u8],
    size: Option<u64>,
    dictionary: Option<&Dictionary>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let cap = match size {
        Some(size) => sized(kind, size, limit)?,
        None => limit,
    };
    // Grow as the stream gives, never to what a length field claims.
    out.reserve(cap.min(body.len().saturating_mul(4).max(4096)));
    if kind == Compression::Zlib {
        inflate(body, dictionary, cap, out)?;
    } else {
        bunzip(body, cap, out)?;
    }
    match size {
        Some(_) => exact(kind, out.len(), cap),
        None => Ok(()),
    }
}

fn inflate(body: &[u8], dictionary: Option<&Dictionary>, cap: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let kind = Compression::Zlib;
    let mut inflate = flate2::Decompress::new(false);
    if let Some(dictionary) = dictionary {
        inflate.set_dictionary(&dictionary.raw).map_err(|e| damaged(kind, e))?;
    }
    loop {
        let used = usize::try_from(inflate.total_in()).unwrap_or(usize::MAX);
        let rest = body.get(used..).unwrap_or_default();
        let before = (used, out.len());
        let status =
            inflate.decompress_vec(rest, out, flate2::FlushDecompress::Finish).map_err(|e| damaged(kind, e))?;
        if status == flate2::Status::StreamEnd {
            return Ok(());
        }
        grow(kind, cap, before, (usize::try_from(inflate.total_in()).unwrap_or(usize::MAX), out))?;
    }
}

fn bunzip(body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let kind = Compression::BZip2;
    let mut bunzip = bzip2::Decompress::new(false);
    loop {
        let used = usize::try_from(bunzip.total_in()).unwrap_or(usize::MAX);
        let rest = body.get(used..).unwrap_or_default();
        let before = (used, out.len());
        let status = bunzip.decompress_vec(rest, out).map_err(|e| damaged(kind, e))?;
        if status == bzip2::Status::StreamEnd {
            return Ok(());
        }
        grow(kind, cap, before, (usize::try_from(bunzip.total_in()).unwrap_or(usize::MAX), out))?;
    }
}

/// Makes room for more output, or says that the stream stands still or has come too far.
fn grow(
    kind: Compression,
    cap: usize,
    before: (usize, usize),
    now: (usize, &mut Vec<u8>),
) -> Result<(), DecompressError> {
    let (used, out) = now;
    if out.len() > cap {
        return Err(DecompressError::Limit { algorithm: kind.name(), size: out.len() as u64, limit: cap });
    }
    if out.len() == out.capacity() {
        // One byte more than the cap, so that a stream that is too long shows.
        let more = out.len().max(4096).min(cap.saturating_add(1).saturating_sub(out.len())).max(1);
        out.reserve_exact(more);
        return Ok(());
    }
    if before == (used, out.len()) {
        return Err(damaged(kind, "the stream is cut off"));
    }
    Ok(())
}

fn sized(kind: Compression, size: u64, limit: usize) -> Result<usize, DecompressError> {
    usize::try_from(size).ok().filter(|n| *n <= limit).ok_or(DecompressError::Limit {
        algorithm: kind.name(),
        size,
        limit,
    })
}

fn plausible(kind: Compression, size: u64, packed: usize, factor: u64) -> Result<(), DecompressError> {
    if size > (packed as u64).saturating_mul(factor).saturating_add(64) {
        return Err(damaged(kind, format_args!("{packed} bytes cannot unpack to {size}")));
    }
    Ok(())
}

fn exact(kind: Compression, done: usize, want: usize) -> Result<(), DecompressError> {
    if done == want {
        return Ok(());
    }
    Err(damaged(kind, format_args!("unpacked to {done} bytes, the size says {want}")))
}

#[cold]
fn damaged(kind: Compression, message: impl ToString) -> DecompressError {
    DecompressError::Damaged { algorithm: kind.name(), message: message.to_string() }
}

/// Packs a block for a table of format version 2 or later.
///
/// `None` when the algorithm is not one this crate writes (it writes Snappy, Zlib, LZ4 and ZSTD), or when packing
/// saves less than one byte in eight, the rule upstream stores blocks raw by.
#[must_use]
pub fn pack(kind: Compression, raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if kind != Compression::Snappy {
        super::coding::put_varint(&mut out, raw.len() as u64);
    }
    match kind {
        Compression::Snappy => out = snap::raw::Encoder::new().compress_vec(raw).ok()?,
        Compression::Lz4 | Compression::Lz4Hc => out.extend_from_slice(&lz4_flex::block::compress(raw)),
        Compression::Zstd | Compression::ZstdNotFinal => {
            out.extend_from_slice(&zstd::bulk::compress(raw, 3).ok()?);
        }
        Compression::Zlib => {
            let mut deflate = flate2::write::DeflateEncoder::new(&mut out, flate2::Compression::default());
            std::io::Write::write_all(&mut deflate, raw).ok()?;
            deflate.finish().ok()?;
        }
        Compression::None | Compression::BZip2 | Compression::Xpress => return None,
    }
    (out.len() < raw.len().saturating_sub(raw.len() / 8)).then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn unpack(kind: Compression, packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut out = Vec::new();
        Decompressor::default().unpack(kind.byte(), packed, Container::Sized, None, limit, &mut out).map(|()| out)
    }

    const WRITTEN: [Compression; 4] = [Compression::Snappy, Compression::Zlib, Compression::Lz4, Compression::Zstd];

    proptest! {
        #[test]
        fn what_is_packed_comes_back(unit: Vec<u8>, times in 1_usize..200) {
            let raw = unit.repeat(times);
            for kind in WRITTEN {
                if let Some(packed) = pack(kind, &raw) {
                    prop_assert_eq!(unpack(kind, &packed, 1 << 20).unwrap(), &raw[..]);
                    prop_assert!(unpack(kind, &packed, raw.len() - 1).is_err());
                }
            }
        }

        #[test]
        fn garbage_is_an_error_or_bounded(garbage: Vec<u8>) {
            for byte in 0_u8..=0x41 {
                for container in [Container::Legacy, Container::Sized] {
                    let mut out = Vec::new();
                    if Decompressor::default().unpack(byte, &garbage, container, None, 4096, &mut out).is_ok() {
                        prop_assert!(out.len() <= 4096);
                    }
                }
            }
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        let raw = b"the quick brown fox ".repeat(30);
        for kind in WRITTEN {
            let packed = pack(kind, &raw).unwrap();
            for n in 0..packed.len() {
                assert!(unpack(kind, packed.get(..n).unwrap(), 1 << 20).is_err(), "{} cut at {n}", kind.name());
            }
        }
    }
}

//! Compression of page bodies (`CompressionTypePB`, `be/src/util/compression/block_compression.cpp`).
//!
//! Nothing is allocated on the word of a length field alone: every codec has a largest ratio, and a declared size
//! beyond it is refused; Zstandard, which has none, is decompressed as a stream that grows with its output.

use std::io::Read;

use bytes::Bytes;

use super::fault::Why;

/// A compression code of `ColumnMetaPB` or `IndexedColumnMetaPB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// 2 (and 0, 1: not given)
    None,
    /// 3: raw Snappy.
    Snappy,
    /// 4: one LZ4 block.
    Lz4,
    /// 5: one LZ4 frame.
    Lz4Frame,
    /// 6: zlib.
    Zlib,
    /// 7: one Zstandard frame.
    Zstd,
    /// 8: gzip.
    Gzip,
    /// Any other code.
    Other(i32),
}

impl Codec {
    /// From the stored code.
    #[must_use]
    pub const fn from_code(code: i32) -> Self {
        match code {
            0..=2 => Self::None,
            3 => Self::Snappy,
            4 => Self::Lz4,
            5 => Self::Lz4Frame,
            6 => Self::Zlib,
            7 => Self::Zstd,
            8 => Self::Gzip,
            other => Self::Other(other),
        }
    }

    /// What a body without its column meta is most likely compressed with.
    #[must_use]
    pub fn sniff(body: &[u8]) -> Vec<Self> {
        match body {
            [0x04, 0x22, 0x4D, 0x18, ..] => vec![Self::Lz4Frame],
            [0x28, 0xB5, 0x2F, 0xFD, ..] => vec![Self::Zstd],
            [0x1F, 0x8B, ..] => vec![Self::Gzip, Self::Lz4, Self::Snappy],
            [0x78, ..] => vec![Self::Zlib, Self::Lz4, Self::Snappy],
            _ => vec![Self::Lz4, Self::Snappy],
        }
    }

    /// Largest output for each byte of input, where the format has one.
    const fn ratio(self) -> Option<usize> {
        match self {
            Self::None => Some(1),
            Self::Snappy => Some(32),
            Self::Lz4 | Self::Lz4Frame => Some(256),
            Self::Zlib | Self::Gzip => Some(1040),
            Self::Zstd | Self::Other(_) => None,
        }
    }
}

fn wrong(codec: Codec, error: &dyn std::fmt::Display) -> Why {
    Why::Value(format!("{codec:?}: {error}"))
}

/// Output that a stream may be given at once.
const AT_ONCE: usize = 1 << 20;

fn drain(codec: Codec, mut from: impl Read, size: usize) -> Result<Vec<u8>, Why> {
    let mut out = Vec::with_capacity(size.min(AT_ONCE));
    let mut limited = (&mut from).take(size as u64);
    limited.read_to_end(&mut out).map_err(|e| wrong(codec, &e))?;
    if out.len() == size {
        let mut more = [0u8; 1];
        if matches!(from.read(&mut more), Ok(1..)) {
            return Err(Why::Value(format!("{codec:?}: the output is longer than the declared {size} bytes")));
        }
    }
    Ok(out)
}

/// Decompresses `body` into exactly `size` bytes.
///
/// # Errors
///
/// When the stream is damaged, has another length, or `size` cannot come from so few bytes.
pub fn decompress(codec: Codec, body: &[u8], size: usize) -> Result<Bytes, Why> {
    if let Some(ratio) = codec.ratio() {
        let most = body.len().saturating_mul(ratio).saturating_add(64);
        if size > most {
            return Err(Why::Value(format!("{codec:?}: {} bytes cannot hold the declared {size}", body.len())));
        }
    }
    let out = match codec {
        Codec::None => {
            return Err(Why::Value(format!("stored {} bytes, declared {size}, and no compression", body.len())));
        }
        Codec::Snappy => {
            let mut out = vec![0; size];
            let declared = snap::raw::decompress_len(body).map_err(|e| wrong(codec, &e))?;
            if declared != size {
                return Err(Why::Value(format!("{codec:?}: the stream declares {declared} bytes, the page {size}")));
            }
            let n = snap::raw::Decoder::new().decompress(body, &mut out).map_err(|e| wrong(codec, &e))?;
            out.truncate(n);
            out
        }
        Codec::Lz4 => {
            let mut out = vec![0; size];
            let n = lz4_flex::block::decompress_into(body, &mut out).map_err(|e| wrong(codec, &e))?;
            out.truncate(n);
            out
        }
        Codec::Lz4Frame => drain(codec, lz4_flex::frame::FrameDecoder::new(body), size)?,
        Codec::Zlib => drain(codec, flate2::read::ZlibDecoder::new(body), size)?,
        Codec::Gzip => drain(codec, flate2::read::GzDecoder::new(body), size)?,
        Codec::Zstd => match zstd::zstd_safe::get_frame_content_size(body) {
            Ok(Some(declared)) if declared != size as u64 => {
                return Err(Why::Value(format!("{codec:?}: the frame declares {declared} bytes, the page {size}")));
            }
            Ok(Some(_)) if size <= AT_ONCE => zstd::bulk::decompress(body, size).map_err(|e| wrong(codec, &e))?,
            _ => {
                let stream = zstd::stream::read::Decoder::with_buffer(body).map_err(|e| wrong(codec, &e))?;
                drain(codec, stream, size)?
            }
        },
        Codec::Other(code) => return Err(Why::Unsupported(format!("compression code {code}"))),
    };
    if out.len() != size {
        return Err(Why::Value(format!("{codec:?}: {} bytes came out, {size} were declared", out.len())));
    }
    Ok(Bytes::from(out))
}

//! The 40 bytes around a tablet header's message. Source: `storage/protobuf_file.cpp`.

use recovery_core::Cursor;

use crate::format::FormatError;

/// Length of the frame.
pub const FRAME: usize = 40;

/// A framed message, before its content is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The protobuf.
    pub body: &'a [u8],
    /// Stored Adler-32.
    pub stored: u32,
    /// Computed Adler-32.
    pub computed: u32,
    /// What else disagrees in the frame.
    pub complaint: Option<&'static str>,
}

impl<'a> Frame<'a> {
    /// Splits a file. A checksum that does not fit is not an error here: see [`Frame::check`].
    ///
    /// # Errors
    ///
    /// When the file is too short or its first fields are not those of this format.
    pub fn split(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut c = Cursor::new(bytes, 0);
        let magic = c.u64_le("header magic")?;
        let version = c.u32_le("header version")?;
        let file_length = c.u64_le("header file length")?;
        c.skip(4, "header unused checksum")?;
        let length = c.u64_le("header protobuf length")?;
        let stored = c.u32_le("header adler32")?;
        c.skip(4, "header flag")?;
        if magic != 0 || version != 1 {
            return Err(FormatError::new(
                "header magic",
                0,
                format!("expected magic 0 and version 1, found {magic:#x} and {version}"),
            ));
        }
        let rest = c.rest();
        let (body, complaint) = match usize::try_from(length).ok().and_then(|n| rest.get(..n)) {
            None => {
                return Err(FormatError::new(
                    "header protobuf length",
                    24,
                    format!("{length} bytes are announced, {} are there", rest.len()),
                ));
            }
            Some(body) if body.len() < rest.len() => (body, Some("bytes behind the message")),
            Some(body) if file_length != bytes.len() as u64 => (body, Some("the stored file length is wrong")),
            Some(body) => (body, None),
        };
        Ok(Self { body, stored, computed: simd_adler32::adler32(&body), complaint })
    }

    /// Whether the engine would accept it.
    ///
    /// # Errors
    ///
    /// With what the engine would complain about.
    pub fn check(&self) -> Result<&'a [u8], FormatError> {
        if let Some(complaint) = self.complaint {
            return Err(FormatError::new("header frame", 12, complaint));
        }
        if self.stored != self.computed {
            return Err(FormatError::new(
                "header adler32",
                32,
                format!("stored {:#010x}, computed {:#010x}", self.stored, self.computed),
            ));
        }
        Ok(self.body)
    }

    /// Wraps a message.
    #[must_use]
    pub fn seal(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len().saturating_add(FRAME));
        let length = body.len() as u64;
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
        out.extend_from_slice(&length.saturating_add(FRAME as u64).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&simd_adler32::adler32(&body).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(body);
        out
    }
}

//! A window that moves over a range of a blob, so that a section of any size is decoded in pieces.

use recovery_core::{Blob, Cursor, ReadError};

use super::LoadError;
use crate::format::DecodeError;

const WINDOW: usize = 1 << 20;

/// Whether there is more to read.
pub(crate) enum Flow {
    Go,
    End,
}

pub(crate) struct Feed<'b> {
    blob: &'b dyn Blob,
    buf: Vec<u8>,
    at: usize,
    start: u64,
    end: u64,
}

impl<'b> Feed<'b> {
    pub(crate) fn new(blob: &'b dyn Blob, start: u64, end: u64) -> Self {
        Self { blob, buf: Vec::new(), at: 0, start, end: end.min(blob.len()) }
    }

    /// Offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.start.saturating_add(self.at as u64)
    }

    /// Brings more bytes in; false at the end of the range.
    fn more(&mut self) -> Result<bool, ReadError> {
        self.buf.drain(..self.at.min(self.buf.len()));
        self.start = self.start.saturating_add(self.at as u64);
        self.at = 0;
        let have = self.buf.len();
        let from = self.start.saturating_add(have as u64);
        let left = self.end.saturating_sub(from);
        if left == 0 {
            return Ok(false);
        }
        let want = have.max(WINDOW).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.buf.resize(have.saturating_add(want), 0);
        if let Some(space) = self.buf.get_mut(have..) {
            self.blob.read_exact_at(from, space)?;
        }
        Ok(true)
    }

    /// Calls `step` until it says it is at the end. A step that runs short is called again with more bytes, so it
    /// must decode before it changes anything.
    pub(crate) fn each(
        &mut self,
        section: &str,
        mut step: impl FnMut(&mut Cursor<'_>) -> Result<Flow, LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            let rest = self.buf.get(self.at..).unwrap_or_default();
            let mut c = Cursor::new(rest, self.offset());
            let before = c.remaining();
            let outcome = step(&mut c);
            let used = before.saturating_sub(c.remaining());
            match outcome {
                Ok(flow) => {
                    self.at = self.at.saturating_add(used);
                    if matches!(flow, Flow::End) {
                        return Ok(());
                    }
                }
                Err(LoadError::Decode { error: DecodeError::Short(s), .. }) => {
                    if !self.more()? {
                        return Err(LoadError::Decode { section: section.to_owned(), error: DecodeError::Short(s) });
                    }
                }
                Err(LoadError::Decode { error, .. }) => {
                    return Err(LoadError::Decode { section: section.to_owned(), error });
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// One value.
    pub(crate) fn one<T>(
        &mut self,
        section: &str,
        decode: impl Fn(&mut Cursor<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, LoadError> {
        let mut out = None;
        self.each(section, |c| {
            out = Some(decode(c)?);
            Ok(Flow::End)
        })?;
        out.ok_or(LoadError::Full("nothing decoded"))
    }
}

impl From<DecodeError> for LoadError {
    fn from(error: DecodeError) -> Self {
        Self::Decode { section: String::new(), error }
    }
}

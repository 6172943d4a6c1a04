//! What can be wrong with a piece of a segment, and where.

use recovery_core::{Short, VarintError};

/// A structure that is not what the format says.
///
/// `at` is an offset in the file when `page` is `None`, else an offset in the (decompressed) body of the page that
/// begins at `page`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The structure that was being read.
    pub what: &'static str,
    /// Where the page begins in the file, when the place is inside one.
    pub page: Option<u64>,
    /// Where.
    pub at: u64,
    /// What is wrong.
    pub why: Why,
}

/// Kinds of [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The bytes end before the structure does.
    Short {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// The stored checksum does not fit the bytes.
    Checksum {
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// A value contradicts the format.
    Value(String),
    /// A part of the format this crate does not read.
    Unsupported(String),
    /// More memory would be needed than allowed.
    Limit {
        /// Bytes needed.
        need: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The medium did not give the bytes.
    Unreadable(String),
}

impl Fault {
    /// A value that contradicts the format.
    pub fn value(what: &'static str, at: u64, why: impl Into<String>) -> Self {
        Self { what, page: None, at, why: Why::Value(why.into()) }
    }

    /// Bytes that end too early.
    #[must_use]
    pub const fn short(what: &'static str, at: u64, need: u64, have: u64) -> Self {
        Self { what, page: None, at, why: Why::Short { need, have } }
    }

    /// A part of the format this crate does not read.
    pub fn unsupported(what: &'static str, at: u64, why: impl Into<String>) -> Self {
        Self { what, page: None, at, why: Why::Unsupported(why.into()) }
    }

    /// The same fault, known to be inside the page that begins at `page`.
    #[must_use]
    pub const fn in_page(mut self, page: u64) -> Self {
        if self.page.is_none() {
            self.page = Some(page);
        }
        self
    }

    /// Offset in the file that is nearest to the fault.
    #[must_use]
    pub fn file_offset(&self) -> u64 {
        self.page.unwrap_or(self.at)
    }

    /// Whether more of the same bytes could not help: the format is simply not known here.
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(self.why, Why::Unsupported(_))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.what)?;
        match &self.why {
            Why::Short { need, have } => write!(f, "need {need} bytes, have {have}")?,
            Why::Checksum { stored, computed } => {
                write!(f, "stored CRC-32C {stored:#010x}, computed {computed:#010x}")?;
            }
            Why::Value(why) => f.write_str(why)?,
            Why::Unsupported(why) => write!(f, "not supported: {why}")?,
            Why::Limit { need, limit } => {
                write!(f, "needs {need} bytes of memory, the limit is {limit} (raise --memory)")?;
            }
            Why::Unreadable(why) => f.write_str(why)?,
        }
        match self.page {
            Some(page) => write!(f, " (offset {:#x} in the body of the page at {page:#x})", self.at),
            None => write!(f, " (offset {:#x})", self.at),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Short> for Fault {
    fn from(short: Short) -> Self {
        Self::short(short.field, short.at, short.need, short.have)
    }
}

impl From<VarintError> for Fault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Short(short) => short.into(),
            VarintError::TooLong { field, at, bits } => {
                Self::value(field, at, format!("the variable-length number does not fit {bits} bits"))
            }
        }
    }
}

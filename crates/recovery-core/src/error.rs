//! Reasons to stop. Damage is not among them: a flipped bit is a [`Finding`](crate::Finding).

use serde::{Deserialize, Serialize};

use crate::blob::ReadError;

/// Result with the core's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a tool does not do what was asked, although it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Losses must be accepted by name first.
    ConsentMissing,
    /// The result's place already holds something.
    TargetNotEmpty,
    /// A live process holds the engine's lock.
    Locked,
    /// An input is no longer what the plan was made from.
    InputChanged,
    /// Two answers are equally good and the tool will not guess.
    Ambiguous,
    /// The result would not be safe to use.
    Unsafe,
}

impl Reason {
    /// The word used in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsentMissing => "consent-missing",
            Self::TargetNotEmpty => "target-not-empty",
            Self::Locked => "locked",
            Self::InputChanged => "input-changed",
            Self::Ambiguous => "ambiguous",
            Self::Unsafe => "unsafe",
        }
    }
}

/// A refusal: exit code 6.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Names that `--accept` would have to be given.
    pub consents: Vec<String>,
    /// The reason in words, with what would proceed.
    pub message: String,
}

/// A reason to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The medium does not give bytes that cannot be done without.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The result could not be written.
    #[error("{path}: {action}: {source}")]
    Write {
        /// What was being written.
        path: String,
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Something that is recognised and not handled.
    #[error("not supported: {what}")]
    Unsupported {
        /// What it is, by its name in the engine, and where.
        what: String,
    },
    /// A bound of [`Limits`](crate::Limits) was reached.
    #[error("{what}: needs {needed}, the limit is {limit}")]
    Limit {
        /// What was bounded.
        what: String,
        /// What it would need.
        needed: u64,
        /// The bound.
        limit: u64,
    },
    /// The request was understood and declined.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The request itself makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The input is not this engine's, or nothing of it can be saved.
    #[error("{0}")]
    Unusable(String),
    /// With [`Reading::Strict`](crate::Reading::Strict): the first damage met.
    #[error("{0}")]
    Damaged(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Something that should not happen.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// The exit code of the command line.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::Read(_) | Self::Write { .. } | Self::Limit { .. } | Self::Internal(_) => 1,
            Self::Usage(_) => 2,
            Self::Damaged(_) => 4,
            Self::Unusable(_) | Self::Unsupported { .. } => 5,
            Self::Refusal(_) => 6,
            Self::Interrupted => 130,
        }
    }

    /// A refusal without consents.
    #[must_use]
    pub fn refuse(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refusal(Refusal { reason, consents: Vec::new(), message: message.into() })
    }

    /// Something recognised and not handled.
    #[must_use]
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    /// A write that failed.
    #[must_use]
    pub fn write(path: impl std::fmt::Display, action: &'static str, source: std::io::Error) -> Self {
        Self::Write { path: path.to_string(), action, source }
    }
}

impl From<crate::cursor::Short> for Error {
    fn from(short: crate::cursor::Short) -> Self {
        Self::Damaged(short.to_string())
    }
}

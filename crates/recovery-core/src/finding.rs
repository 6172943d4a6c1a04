//! Damage as data: what is wrong, where, how we know, and what it costs.

use serde::Serialize;

/// A documented kind of finding; every engine lists its own in `codes.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CodeInfo {
    /// The stable code, such as `RDB-0012`.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it means, what causes it, what it costs, what to do: shown by `recover explain`.
    pub explanation: &'static str,
}

/// Declares the finding codes of an engine: a constant each, and `CODES` with all of them.
///
/// ```
/// recovery_core::codes! {
///     TORN = "XX-0001", "torn", "The file ends inside a record.";
/// }
/// assert_eq!(CODES[0], TORN);
/// ```
#[macro_export]
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal, $explanation:literal;)*) => {
        $(
            $(#[$doc])*
            #[doc = $title]
            pub const $name: $crate::CodeInfo =
                $crate::CodeInfo { code: $code, title: $title, explanation: $explanation };
        )*
        /// All of them.
        pub static CODES: &[$crate::CodeInfo] = &[$($name),*];
    };
}

/// A documented name of a loss, as given to `--accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LossInfo {
    /// The stable name, such as `unflushed-family`.
    pub name: &'static str,
    /// What agreeing to it means: shown by `recover explain`.
    pub explanation: &'static str,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong, or the engine's own start handles it without losing anything complete.
    Note,
    /// May have cost complete records; nothing proves that it did.
    Suspect,
    /// Damage; everything complete can be kept.
    Damaged,
    /// Complete records or blocks are gone and nothing else holds them.
    Lost,
}

/// Why a finding is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// A checksum that does not match.
    Checksum {
        /// Name of the checksum, such as `crc32c`.
        algorithm: &'static str,
        /// What is stored, in hexadecimal.
        stored: String,
        /// What the bytes give, in hexadecimal.
        computed: String,
    },
    /// A field whose value cannot be.
    Value {
        /// Name of the field.
        name: String,
        /// What is there.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Something that should be there and is not.
    Missing {
        /// What.
        what: String,
    },
    /// Another object that says the same.
    Witness {
        /// Which.
        object: String,
        /// What it says.
        says: String,
    },
    /// Structure bytes around the place (never payload).
    Bytes {
        /// Where they begin.
        offset: u64,
        /// The bytes.
        hex: String,
    },
}

impl Evidence {
    /// A checksum of at most 64 bits that does not match.
    #[must_use]
    pub fn checksum(algorithm: &'static str, stored: impl Into<u64>, computed: impl Into<u64>) -> Self {
        let hex = |x: u64| format!("{x:#010x}");
        Self::Checksum { algorithm, stored: hex(stored.into()), computed: hex(computed.into()) }
    }

    /// A field whose value cannot be.
    #[must_use]
    pub fn value(name: impl Into<String>, found: impl ToString, expected: impl ToString) -> Self {
        Self::Value { name: name.into(), found: found.to_string(), expected: expected.to_string() }
    }

    /// At most 32 structure bytes.
    #[must_use]
    pub fn bytes(offset: u64, bytes: &[u8]) -> Self {
        Self::Bytes { offset, hex: crate::hex(bytes.get(..32).unwrap_or(bytes)) }
    }
}

/// What a finding costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Effect {
    /// Complete records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Something to know about the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code, explained by `recover explain`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Number of the source, rivals first, then donors.
    pub source: u16,
    /// Name of the object in the source; empty for the source as a whole.
    pub object: String,
    /// First byte concerned.
    pub offset: Option<u64>,
    /// Number of bytes concerned.
    pub length: Option<u64>,
    /// One sentence.
    pub summary: String,
    /// How we know.
    pub evidence: Vec<Evidence>,
    /// What it costs.
    pub effect: Effect,
}

impl Finding {
    /// A finding of this kind in this object of source 0.
    #[must_use]
    pub fn new(code: &CodeInfo, severity: Severity, object: impl Into<String>) -> Self {
        Self {
            code: code.code,
            severity,
            source: 0,
            object: object.into(),
            offset: None,
            length: None,
            summary: code.title.to_owned(),
            evidence: Vec::new(),
            effect: Effect::default(),
        }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, offset: u64, length: u64) -> Self {
        (self.offset, self.length) = (Some(offset), Some(length));
        self
    }

    /// Sets the source.
    #[must_use]
    pub fn source(mut self, source: u16) -> Self {
        self.source = source;
        self
    }

    /// Sets the sentence.
    #[must_use]
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// Adds evidence.
    #[must_use]
    pub fn evidence(mut self, evidence: Evidence) -> Self {
        self.evidence.push(evidence);
        self
    }

    /// Sets the cost.
    #[must_use]
    pub fn effect(mut self, records: u64, bytes: u64) -> Self {
        self.effect = Effect { records, bytes };
        self
    }
}

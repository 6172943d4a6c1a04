//! The decision, as data: what will be built from what, what it costs, what is lost.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::blob::ReadError;
use crate::error::{Error, Reason, Refusal, Result};
use crate::source::{Entry, Source, Sources};

/// Name and version of the plan's JSON.
pub const PLAN_SCHEMA: &str = "recover/plan/1";

/// How much of each end of a file stands in its fingerprint.
const ENDS: u64 = 4096;

/// What tells that an input is still the one the plan was made from.
///
/// Never the change time or the link count, which making a hard link changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Nanoseconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// Device and inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<(u64, u64)>,
    /// The object store's version tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// SHA-256 of the first and last 4 KiB, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
}

/// One object that the plan uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Number of the source.
    pub source: u16,
    /// Name in the source.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// What tells that it is unchanged.
    pub fingerprint: Fingerprint,
}

impl Input {
    /// Takes the fingerprint of an entry.
    ///
    /// # Errors
    ///
    /// When its ends cannot be read for another reason than a bad sector; a bad sector leaves `ends` out.
    pub fn of(source_number: u16, source: &dyn Source, entry: &Entry) -> Result<Self, ReadError> {
        let ends = match (&entry.etag, source.open(entry)) {
            (None, Ok(blob)) => {
                let len = blob.len();
                let head = blob.bytes(0..len.min(ENDS));
                let tail = blob.bytes(len.saturating_sub(ENDS)..len);
                digest_of(head.ok(), tail.ok())
            }
            _ => None,
        };
        Ok(Self {
            source: source_number,
            path: entry.name.clone(),
            size: entry.size,
            fingerprint: Fingerprint { mtime: entry.mtime, inode: entry.inode, etag: entry.etag.clone(), ends },
        })
    }
}

fn digest_of(head: Option<Bytes>, tail: Option<Bytes>) -> Option<String> {
    let mut hash = Sha256::new();
    hash.update(head?);
    hash.update(tail?);
    Some(crate::hex(&hash.finalize()))
}

/// One thing to do. Paths are '/'-separated, below the result's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Step {
    /// Makes a directory.
    Mkdir {
        /// Path in the result.
        to: String,
        /// Permission bits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// Takes a file that the engine never writes in place: hard link, else clone, else copy.
    Link {
        /// Number of the source.
        source: u16,
        /// Name in the source.
        object: String,
        /// Path in the result.
        to: String,
        /// Length in bytes.
        size: u64,
    },
    /// Takes a file, or a part of it, that the engine may write in place: clone or copy.
    Copy {
        /// Number of the source.
        source: u16,
        /// Name in the source.
        object: String,
        /// Path in the result.
        to: String,
        /// Length of the result in bytes.
        size: u64,
        /// First byte and length, when only a part is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<(u64, u64)>,
        /// Permission bits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        /// Whether this is the engine's entry file, put in place last.
        #[serde(default, skip_serializing_if = "is_false")]
        last: bool,
    },
    /// Writes bytes that the engine makes.
    Write(WriteStep),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(x: &bool) -> bool {
    !*x
}

/// A file whose bytes the engine makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteStep {
    /// Path in the result.
    pub to: String,
    /// What it is, for the reader and for the engine.
    pub what: String,
    /// Expected length in bytes; an upper bound where it is not known exactly.
    pub size: u64,
    /// What the engine needs to make it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub args: Value,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether this is the engine's entry file, put in place last.
    #[serde(default, skip_serializing_if = "is_false")]
    pub last: bool,
}

impl Step {
    /// Path in the result.
    #[must_use]
    pub fn to(&self) -> &str {
        match self {
            Self::Mkdir { to, .. } | Self::Link { to, .. } | Self::Copy { to, .. } => to,
            Self::Write(w) => &w.to,
        }
    }

    /// Whether the file must appear after all others.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Copy { last, .. } => *last,
            Self::Write(w) => w.last,
            Self::Mkdir { .. } | Self::Link { .. } => false,
        }
    }
}

/// What carrying out the plan takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes to read.
    pub read: u64,
    /// Bytes to write.
    pub write: u64,
    /// Bytes taken by hard link.
    pub link: u64,
    /// Free space the target needs.
    pub free_needed: u64,
    /// Scratch space.
    pub scratch: u64,
}

/// Something that the result will not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Stable name, as given to `--accept`.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// Complete records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A decision that can be read, kept and carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name and version of this form.
    pub schema: String,
    /// The engine.
    pub engine: String,
    /// Name and version of the tool that made it.
    pub tool: String,
    /// The engine's options.
    pub options: Value,
    /// Where the sources were, rivals first, then donors.
    pub sources: Vec<String>,
    /// How many of the sources are rivals; the rest are donors.
    pub rivals: u16,
    /// Exit code of the report the plan was made from.
    pub exit: u8,
    /// What it uses.
    pub inputs: Vec<Input>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// What it takes.
    pub cost: Cost,
    /// What the result will not hold.
    pub losses: Vec<Loss>,
    /// The names that must be accepted.
    pub consents: Vec<String>,
    /// What the result will be, in the engine's words; clock and random values drawn for it stand here.
    pub result: Value,
    /// Exact next commands after the plan was carried out.
    pub next: Vec<String>,
    /// What the engine built to make the plan, for the same process to use again; no part of the plan.
    #[serde(skip)]
    pub state: PlanState,
}

/// The engine's typed model behind a plan. Plans are equal whatever stands here.
#[derive(Clone, Default)]
pub struct PlanState(Option<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for PlanState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "PlanState(..)" } else { "PlanState" })
    }
}

impl PartialEq for PlanState {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl PlanState {
    /// Keeps a model.
    #[must_use]
    pub fn of<T: Any + Send + Sync>(model: Arc<T>) -> Self {
        Self(Some(model))
    }

    /// The model, if one of this type is kept.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.as_ref().and_then(|s| Arc::clone(s).downcast().ok())
    }
}

/// Losses the user accepts: name, and the most of it.
pub type Accepted = BTreeMap<String, Option<u64>>;

impl Plan {
    /// An empty plan.
    #[must_use]
    pub fn new(engine: &str, options: Value, sources: &Sources) -> Self {
        Self {
            schema: PLAN_SCHEMA.to_owned(),
            engine: engine.to_owned(),
            tool: concat!("recover ", env!("CARGO_PKG_VERSION")).to_owned(),
            options,
            sources: sources.all().map(|(_, s)| s.describe()).collect(),
            rivals: u16::try_from(sources.rivals.len()).unwrap_or(u16::MAX),
            exit: 0,
            inputs: Vec::new(),
            steps: Vec::new(),
            cost: Cost::default(),
            losses: Vec::new(),
            consents: Vec::new(),
            result: Value::Null,
            next: Vec::new(),
            state: PlanState::default(),
        }
    }

    /// Records a loss. It needs consent.
    pub fn lose(&mut self, name: &str, summary: impl Into<String>, records: u64, bytes: u64) {
        self.losses.push(Loss { name: name.to_owned(), summary: summary.into(), records, bytes });
        if !self.consents.iter().any(|c| c == name) {
            self.consents.push(name.to_owned());
        }
    }

    /// Takes the fingerprints of everything the steps read, and of `more`, and computes the cost.
    ///
    /// # Errors
    ///
    /// When a file that a step reads is no longer there.
    pub fn seal(&mut self, sources: &Sources, more: &[(u16, String)]) -> Result<()> {
        let mut wanted: Vec<(u16, String)> = more.to_vec();
        for step in &self.steps {
            match step {
                Step::Link { source, object, .. } | Step::Copy { source, object, .. } => {
                    wanted.push((*source, object.clone()));
                }
                Step::Mkdir { .. } | Step::Write(_) => {}
            }
        }
        wanted.sort();
        wanted.dedup();
        self.inputs.clear();
        for (number, name) in wanted {
            let gone = || Error::Internal(format!("{name}: the plan names a file that is not there"));
            let source = sources.get(number).ok_or_else(gone)?;
            let entry = source.stat(&name)?.ok_or_else(gone)?;
            self.inputs.push(Input::of(number, source.as_ref(), &entry)?);
        }
        self.cost = Cost { scratch: self.cost.scratch, ..cost_of(&self.steps) };
        Ok(())
    }

    /// The plan as one line of JSON, and its SHA-256: what tells two plans apart.
    ///
    /// # Errors
    ///
    /// When the plan cannot be written as JSON.
    pub fn digest(&self) -> Result<String> {
        let text = serde_json::to_vec(self).map_err(|e| Error::Internal(format!("plan: {e}")))?;
        Ok(crate::hex(&Sha256::digest(text)))
    }

    /// Whether another plan wants the same from the same inputs; clock and random values may differ.
    #[must_use]
    pub fn same_intent(&self, other: &Self) -> bool {
        self.engine == other.engine
            && self.options == other.options
            && self.sources == other.sources
            && self.inputs == other.inputs
    }

    /// Compares every input with what is there now.
    ///
    /// # Errors
    ///
    /// A refusal when an input changed.
    pub fn check_inputs(&self, sources: &Sources) -> Result<()> {
        for input in &self.inputs {
            let changed = |what: &str| {
                Error::refuse(
                    Reason::InputChanged,
                    format!("{}: {what} since the plan was made; make a new plan", input.path),
                )
            };
            let source = sources.get(input.source).ok_or_else(|| changed("its source is gone"))?;
            let entry = source.stat(&input.path)?.ok_or_else(|| changed("it is gone"))?;
            let now = Input::of(input.source, source.as_ref(), &entry)?;
            if now != *input {
                return Err(changed("it has changed"));
            }
        }
        Ok(())
    }

    /// Compares the losses with what the user accepts.
    ///
    /// # Errors
    ///
    /// A refusal that lists what is missing, or that has grown past its bound.
    pub fn check_consents(&self, accepted: &Accepted) -> Result<()> {
        let total = |name: &str| {
            let of = self.losses.iter().filter(|l| l.name == name);
            of.fold(0u64, |sum, l| sum.saturating_add(l.records))
        };
        let missing: Vec<String> = self
            .consents
            .iter()
            .filter(|name| match accepted.get(*name) {
                None => true,
                Some(None) => false,
                Some(Some(most)) => total(name) > *most,
            })
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = self
            .losses
            .iter()
            .filter(|l| missing.contains(&l.name))
            .map(|l| format!("{} ({} records, {} bytes): {}", l.name, l.records, l.bytes, l.summary))
            .collect();
        let flags: Vec<String> = missing.iter().map(|m| format!("--accept {m}")).collect();
        let message = format!(
            "this loses data that must be agreed to by name:\n  {}\nto proceed add: {}",
            words.join("\n  "),
            flags.join(" ")
        );
        Err(Refusal { reason: Reason::ConsentMissing, consents: missing, message }.into())
    }
}

fn cost_of(steps: &[Step]) -> Cost {
    let mut cost = Cost::default();
    let add = |to: &mut u64, n: u64| *to = to.saturating_add(n);
    for step in steps {
        match step {
            Step::Mkdir { .. } => {}
            Step::Link { size, .. } => add(&mut cost.link, *size),
            Step::Copy { size, .. } => {
                add(&mut cost.read, *size);
                add(&mut cost.write, *size);
            }
            Step::Write(w) => add(&mut cost.write, w.size),
        }
    }
    cost.free_needed = cost.write;
    cost
}

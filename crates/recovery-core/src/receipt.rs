//! What was done: kept beside the result, and checked by `verify`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::blob::Blob;
use crate::context::{Check, Context};
use crate::error::{Error, Result};
use crate::parallel;
use crate::plan::{Loss, Plan};
use crate::source::Source;
use crate::target::{OWN_DIR, RECEIPT_NAME};

/// Name and version of the receipt's JSON.
pub const RECEIPT_SCHEMA: &str = "recover/receipt/1";

/// How a file came into the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By hard link: it shares its bytes, owner and mode with the source.
    Linked,
    /// By a clone that shares blocks until one side is written.
    Cloned,
    /// By copying.
    Copied,
    /// Its bytes were made.
    Written,
}

/// One file of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Path below the result's root.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// How it came there.
    pub how: How,
    /// SHA-256 in hexadecimal; absent for linked and cloned files unless all were to be hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name and version of this form.
    pub schema: String,
    /// The engine.
    pub engine: String,
    /// Name and version of the tool.
    pub tool: String,
    /// Digest of the plan that was carried out.
    pub plan: String,
    /// Where the sources were.
    pub sources: Vec<String>,
    /// Every file.
    pub files: Vec<Placed>,
    /// What the result does not hold.
    pub losses: Vec<Loss>,
    /// What the result is, in the engine's words.
    pub result: Value,
    /// Exact next commands.
    pub next: Vec<String>,
}

impl Receipt {
    /// A receipt of a plan, files still missing.
    ///
    /// # Errors
    ///
    /// When the plan cannot be written as JSON.
    pub fn of(plan: &Plan) -> Result<Self> {
        Ok(Self {
            schema: RECEIPT_SCHEMA.to_owned(),
            engine: plan.engine.clone(),
            tool: plan.tool.clone(),
            plan: plan.digest()?,
            sources: plan.sources.clone(),
            files: Vec::new(),
            losses: plan.losses.clone(),
            result: plan.result.clone(),
            next: plan.next.clone(),
        })
    }

    /// Reads the receipt that lies beside a result.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be understood.
    pub fn load(result: &dyn Source) -> Result<Self> {
        let name = format!("{OWN_DIR}/{RECEIPT_NAME}");
        let none =
            || Error::Usage(format!("{}: no {name}; only results of `recover` can be verified", result.describe()));
        let blob = result.open_name(&name)?.ok_or_else(none)?;
        let bytes = blob.bytes(0..blob.len().min(1 << 30))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Damaged(format!("{name}: {e}")))
    }

    /// The text of `SHA256SUMS`.
    #[must_use]
    pub fn sums(&self) -> String {
        let line = |f: &Placed| f.sha256.as_ref().map(|sum| format!("{sum}  {}\n", f.path));
        self.files.iter().filter_map(line).collect()
    }

    /// Compares every file with what is there now; gives a sentence for each that differs.
    ///
    /// Files the engine has meanwhile written are for the engine's own inspection; only what the receipt names counts.
    /// A check of the structure compares sizes; sums belong to the full check, which reads every byte.
    ///
    /// # Errors
    ///
    /// When the caller asked to stop.
    pub fn check(&self, result: &dyn Source, cx: &Context) -> Result<Vec<String>> {
        let problems = parallel::map(cx, &self.files, |_, file| problem_with(file, result, cx.check == Check::Full))?;
        Ok(problems.into_iter().flatten().collect())
    }
}

fn problem_with(file: &Placed, result: &dyn Source, sums: bool) -> Option<String> {
    let path = &file.path;
    let blob = match result.open_name(path) {
        Ok(Some(blob)) => blob,
        Ok(None) => return Some(format!("{path}: missing")),
        Err(e) => return Some(e.to_string()),
    };
    if blob.len() != file.size {
        return Some(format!("{path}: {} bytes, the receipt says {}", blob.len(), file.size));
    }
    let stored = file.sha256.as_ref().filter(|_| sums)?;
    match sha256(blob.as_ref()) {
        Ok(computed) if computed == *stored => None,
        Ok(computed) => Some(format!("{path}: SHA-256 is {computed}, the receipt says {stored}")),
        Err(e) => Some(e.to_string()),
    }
}

/// SHA-256 of a whole blob, in hexadecimal.
///
/// # Errors
///
/// When it cannot be read.
pub fn sha256(blob: &dyn Blob) -> Result<String, crate::ReadError> {
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < blob.len() {
        let end = at.saturating_add(1 << 20).min(blob.len());
        hash.update(blob.bytes(at..end)?);
        at = end;
    }
    Ok(crate::hex(&hash.finalize()))
}

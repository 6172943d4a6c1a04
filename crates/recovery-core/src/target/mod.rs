//! Bytes out: a new place, staged, made durable, and shown only when it is whole.
//!
//! [`DirTarget`] stages in a sibling `.NAME.recover-part` and renames it at the end; where the place is a mount point,
//! which cannot be renamed over, it stages inside and moves the entries in, the engine's entry file last. All changes
//! go through [`Fs`], so that a test can record them and replay any prefix as a power cut would have left it.

mod dir;
mod fs;

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::plan::Plan;
use crate::receipt::{How, Placed, Receipt};

pub use dir::DirTarget;
pub use fs::{Fs, FsFile, RealFs};

/// Directory in a result that belongs to the tool: plan, journal, receipt, sums.
pub const OWN_DIR: &str = ".recover";
/// Name of the receipt in [`OWN_DIR`].
pub const RECEIPT_NAME: &str = "RECEIPT.json";
/// Name of the list of sums in [`OWN_DIR`].
pub const SUMS_NAME: &str = "SHA256SUMS";
/// Name of the plan in [`OWN_DIR`].
pub const PLAN_NAME: &str = "plan.json";
/// Name of the journal in [`OWN_DIR`].
pub const JOURNAL_NAME: &str = "journal.jsonl";

/// A file under construction.
pub trait Output: Write + Send {
    /// Leaves `n` zero bytes, as a hole where the file system can.
    ///
    /// # Errors
    ///
    /// When the place is full or fails.
    fn hole(&mut self, n: u64) -> std::io::Result<()>;
}

/// A finished step, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Number of the step.
    pub step: u64,
    /// The file it made.
    pub placed: Placed,
}

/// How a target stands before the first step.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// Nothing was there.
    Fresh,
    /// An earlier run of the same plan was cut off; these steps are done.
    Resumed(Vec<Done>),
    /// An earlier run of the same plan finished.
    Complete(Box<Receipt>),
}

/// A new place for a result. Steps may run in parallel.
pub trait Target: Send + Sync {
    /// What the user would call it.
    fn describe(&self) -> String;

    /// The plan an earlier, unfinished or finished run left here.
    ///
    /// # Errors
    ///
    /// When the place cannot be read.
    fn found_plan(&self) -> Result<Option<Plan>>;

    /// Makes the staging area for a plan, or finds the one an earlier run left. `sample` is a file that the plan links:
    /// where it cannot be linked or cloned, the space for copies of all of them is needed too.
    ///
    /// # Errors
    ///
    /// A refusal when the place holds anything else; an error when there is too little free space.
    fn begin(&self, plan: &Plan, sample: Option<&Path>) -> Result<Begun>;

    /// Makes a directory and those above it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    fn mkdir(&self, to: &str, mode: Option<u32>) -> Result<()>;

    /// Tries to place a local file without copying bytes; `None` when it has to be copied.
    ///
    /// # Errors
    ///
    /// When the place fails.
    fn place(&self, from: &Path, to: &str, may_link: bool, mode: Option<u32>) -> Result<Option<How>>;

    /// Makes a file: calls `fill` with it, then makes it durable. An unfinished file of an earlier run is replaced.
    ///
    /// # Errors
    ///
    /// The error of `fill`, or when the place fails.
    fn create(
        &self,
        to: &str,
        mode: Option<u32>,
        fill: &mut dyn FnMut(&mut dyn Output) -> Result<()>,
    ) -> Result<Placed>;

    /// Notes that a step is done; its file is durable.
    ///
    /// # Errors
    ///
    /// When the place fails.
    fn done(&self, done: &Done) -> Result<()>;

    /// Makes everything durable and shows it; `last` are the entry files.
    ///
    /// # Errors
    ///
    /// When the place fails; the result is then not visible, and the same plan resumes.
    fn commit(&self, receipt: &Receipt, last: &[String]) -> Result<()>;
}

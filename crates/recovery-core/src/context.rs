//! What every verb is given beside its input: bounds, threads, progress, the wish to stop, the clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::mapfile::Mapfile;

/// Bounds on what hostile input can make us use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for buffers and models, a hard bound.
    pub memory: u64,
    /// Threads.
    pub threads: usize,
    /// Largest single record or block in bytes, after decompression.
    pub record: u64,
    /// Deepest nesting of structures.
    pub nesting: u32,
    /// Findings kept of one code.
    pub findings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { memory: 4 << 30, threads, record: 1 << 30, nesting: 100, findings: 100 }
    }
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Structure only: heads, tails, indexes, metadata.
    Structure,
    /// Every byte.
    #[default]
    Full,
}

/// What to do when damage is met while reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The first damage is an error.
    #[default]
    Strict,
    /// Damage is reported and passed over.
    Salvage,
}

/// Told how far a long piece of work has come.
pub trait Progress: Send + Sync + std::fmt::Debug {
    /// A stage begins; `total` bytes (or records) are ahead, 0 when not known.
    fn begin(&self, stage: &str, total: u64);
    /// So much more is done.
    fn advance(&self, amount: u64);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// What every verb is given beside its input.
#[derive(Clone, Debug)]
pub struct Context {
    /// Bounds.
    pub limits: Limits,
    /// How much is looked at.
    pub check: Check,
    /// Only part N of T of the bytes: the parts of one T add up to the whole.
    pub sample: Option<(u64, u64)>,
    /// What to do when damage is met.
    pub reading: Reading,
    /// Payload may appear in reports.
    pub show_data: bool,
    /// Secrets may appear in reports.
    pub show_secrets: bool,
    /// Link nothing.
    pub copy: bool,
    /// Linked files are hashed too.
    pub hash_all: bool,
    /// Where to put what does not fit into memory.
    pub scratch: Option<PathBuf>,
    /// What ddrescue could not read, for image sources.
    pub mapfile: Option<Arc<Mapfile>>,
    /// A file in which a long inspection keeps how far it came.
    pub state_file: Option<PathBuf>,
    /// Milliseconds since 1970-01-01 UTC, for values the result needs.
    pub now_ms: u64,
    /// Seed of values the result needs (a group UUID, a metaid), drawn once.
    pub seed: u64,
    /// Told how far the work has come.
    pub progress: Arc<dyn Progress>,
    /// Set to ask for a stop.
    pub cancel: Arc<AtomicBool>,
    pool: Arc<rayon::ThreadPool>,
    drawn: Arc<AtomicU64>,
}

impl Default for Context {
    fn default() -> Self {
        Self::with_limits(Limits::default())
    }
}

fn pool_of(threads: usize) -> Arc<rayon::ThreadPool> {
    let build = |n| rayon::ThreadPoolBuilder::new().num_threads(n).thread_name(|i| format!("recover-{i}")).build();
    match build(threads).or_else(|_| rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()) {
        Ok(pool) => Arc::new(pool),
        // A machine on which not even a pool of the current thread can be made cannot run anything.
        Err(_) => std::process::abort(),
    }
}

impl Context {
    /// A context with these bounds; clock and seed are taken from the system.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) ^ (u64::from(std::process::id()) << 40);
        Self {
            limits,
            check: Check::default(),
            sample: None,
            reading: Reading::default(),
            show_data: false,
            show_secrets: false,
            copy: false,
            hash_all: false,
            scratch: None,
            mapfile: None,
            state_file: None,
            now_ms: u64::try_from(since.as_millis()).unwrap_or(0),
            seed,
            progress: Arc::new(Silent),
            cancel: Arc::new(AtomicBool::new(false)),
            pool: pool_of(limits.threads.max(1)),
            drawn: Arc::new(AtomicU64::new(0)),
        }
    }

    /// A context with this many threads.
    #[must_use]
    pub fn with_threads(threads: usize) -> Self {
        Self::with_limits(Limits { threads, ..Limits::default() })
    }

    /// The thread pool; nothing here uses rayon's global one.
    #[must_use]
    pub fn pool(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// Stops when the caller asked for it.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Whether everything is to be looked at.
    #[must_use]
    pub fn full(&self) -> bool {
        self.check == Check::Full && self.sample.is_none()
    }

    /// Another 64 bits from the seed (SplitMix64), for identifiers; not for secrets.
    #[must_use]
    pub fn draw(&self) -> u64 {
        let n = self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut z = self.seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

//! Runs an engine's inspection over damaged copies of a fixture.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use recovery_core::{
    Class, Context, Error, Fault, FaultySource, Finding, Limits, MemSource, Recover, Report, Severity, Source, Sources,
    Verdict,
};
use serde_json::Value;

use crate::{Damage, FileFault, PeakAlloc, SectorFault, Sweep};

/// Longest that a single run may take before the process is ended: an endless loop would otherwise hang the tests.
const HANG: Duration = Duration::from_secs(120);

/// What a busy machine may add to the time of a run; an endless loop takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Failures that are kept in words.
const KEPT: usize = 30;

/// Memory that every inspection may use, beside four times its input.
const BASE_MEMORY: u64 = 64 << 20;

/// What was recovered from a source, as comparable items.
pub type Items = std::collections::BTreeSet<Vec<u8>>;

/// An engine, a fixture, and how to look at it.
pub struct Harness<'a> {
    engine: &'a dyn Recover,
    clean: MemSource,
    options: Value,
    only: Option<&'a (dyn Fn(&str) -> bool + Sync)>,
    exempt: Option<&'a (dyn Fn(&Damage) -> bool + Sync)>,
    items: Option<&'a (dyn Fn(&Sources, &Context) -> Items + Sync)>,
    alloc: Option<&'a PeakAlloc>,
    seconds: u64,
}

impl std::fmt::Debug for Harness<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("engine", &self.engine.engine()).finish_non_exhaustive()
    }
}

impl<'a> Harness<'a> {
    /// A harness over an undamaged fixture.
    #[must_use]
    pub fn new(engine: &'a dyn Recover, clean: MemSource) -> Self {
        let seconds = crate::seconds(10);
        Self { engine, clean, options: Value::Null, only: None, exempt: None, items: None, alloc: None, seconds }
    }

    /// Options for `inspect`.
    #[must_use]
    pub fn options(mut self, options: Value) -> Self {
        self.options = options;
        self
    }

    /// Damages only the files for which this holds.
    #[must_use]
    pub fn only(mut self, only: &'a (dyn Fn(&str) -> bool + Sync)) -> Self {
        self.only = Some(only);
        self
    }

    /// Damages that nothing can notice: say why where it is used (a log cut between two records is a shorter log).
    #[must_use]
    pub fn exempt(mut self, exempt: &'a (dyn Fn(&Damage) -> bool + Sync)) -> Self {
        self.exempt = Some(exempt);
        self
    }

    /// What salvage recovers; everything it gives from a damaged source must be given from the clean one too.
    #[must_use]
    pub fn items(mut self, items: &'a (dyn Fn(&Sources, &Context) -> Items + Sync)) -> Self {
        self.items = Some(items);
        self
    }

    /// The test binary's counting allocator; memory is checked with it, and damages then run one at a time.
    #[must_use]
    pub fn alloc(mut self, alloc: &'a PeakAlloc) -> Self {
        self.alloc = Some(alloc);
        self
    }

    /// Time budget; `RECOVER_SWEEP_SECONDS` rules over it.
    #[must_use]
    pub fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = crate::seconds(seconds);
        self
    }

    fn files(&self) -> impl Iterator<Item = (&String, u64)> {
        let wanted = move |name: &str| self.only.is_none_or(|only| only(name));
        self.clean.files().iter().filter(move |(n, _)| wanted(n)).map(|(n, d)| (n, d.len() as u64))
    }

    /// Every bit of files up to `whole` bytes, `sample` seeded bits of each larger one.
    pub fn flips(&self, whole: u64, sample: u64) -> Sweep {
        let mut damages = Vec::new();
        let mut random = SplitMix(0x5eed);
        for (object, len) in self.files() {
            let flip = |bit: u64| Damage::Flip { object: object.clone(), offset: bit / 8, bit: (bit % 8) as u8 };
            if len <= whole {
                damages.extend((0..len.saturating_mul(8)).map(flip));
            } else {
                damages.extend((0..sample).map(|_| flip(random.below(len.saturating_mul(8)))));
            }
        }
        self.run("flips", damages)
    }

    /// Every length of files up to `whole` bytes, `sample` seeded lengths of each larger one.
    pub fn cuts(&self, whole: u64, sample: u64) -> Sweep {
        let mut damages = Vec::new();
        let mut random = SplitMix(0xc07);
        for (object, len) in self.files() {
            let cut = |len| Damage::Cut { object: object.clone(), len };
            if len <= whole {
                damages.extend((0..len).map(cut));
            } else {
                damages.extend((0..sample).map(|_| cut(random.below(len))));
            }
        }
        self.run("cuts", damages)
    }

    /// Sectors of 512 and 4,096 bytes zeroed, filled, replaced by their neighbour, unreadable.
    pub fn sectors(&self) -> Sweep {
        let mut damages = Vec::new();
        for (object, len) in self.files() {
            for size in [512u64, 4096] {
                for offset in (0..len).step_by(usize::try_from(size).unwrap_or(512)) {
                    for fault in
                        [SectorFault::Zeroed, SectorFault::Filled, SectorFault::Swapped, SectorFault::Unreadable]
                    {
                        damages.push(Damage::Sector { object: object.clone(), offset, size, fault });
                    }
                }
            }
        }
        self.run("sectors", damages)
    }

    /// Every file missing, empty, renamed, not to be opened, shrinking, with a stranger beside it.
    pub fn file_sets(&self) -> Sweep {
        use FileFault::{CannotOpen, Empty, Extra, Missing, Renamed, Shrinking};
        let faults = [Missing, Empty, Renamed, CannotOpen, Shrinking, Extra];
        let damage = |(object, _): (&String, u64)| faults.map(|fault| Damage::File { object: object.clone(), fault });
        let damages = self.files().flat_map(damage).collect();
        self.run("file sets", damages)
    }

    /// The same report however the bytes arrive: small reads, large reads, from a directory, mapped, with one thread
    /// and with several.
    ///
    /// # Panics
    ///
    /// When two reports differ.
    pub fn chunking(&self) {
        let dir = tempfile::tempdir().expect("temporary directory");
        crate::store(&self.clean, dir.path());
        let memory: Arc<dyn Source> = Arc::new(self.clean.clone());
        let mapped = recovery_core::DirOptions { mmap: true, map: Vec::new() };
        let ways: Vec<(&str, Arc<dyn Source>)> = vec![
            ("memory", Arc::clone(&memory)),
            ("4 KiB reads", Arc::new(FaultySource::new(Arc::clone(&memory)).with_all(Fault::ShortReads(4096)))),
            ("13 byte reads", Arc::new(FaultySource::new(Arc::clone(&memory)).with_all(Fault::ShortReads(13)))),
            ("directory", Arc::new(recovery_core::DirSource::open(dir.path()).expect("directory"))),
            ("map", Arc::new(recovery_core::DirSource::with(dir.path(), mapped).expect("directory"))),
        ];
        let mut first: Option<Value> = None;
        for threads in [1, 4] {
            for (way, source) in &ways {
                let report = self.engine.inspect(&Sources::one(Arc::clone(source)), &self.options, &context(threads));
                let mut json = serde_json::to_value(report.expect("the clean fixture")).expect("a report is JSON");
                for (key, value) in json.as_object_mut().expect("a report is an object") {
                    if matches!(key.as_str(), "sources" | "next") {
                        *value = Value::Null;
                    }
                }
                let text = json.to_string().replace(&dir.path().display().to_string(), "memory");
                let json: Value = serde_json::from_str(&text).expect("JSON");
                match &first {
                    None => first = Some(json),
                    Some(first) => assert_eq!(*first, json, "{way} with {threads} threads gives another report"),
                }
            }
        }
    }

    /// No secret planted in the fixture appears in the report or in a plan made from it.
    ///
    /// # Panics
    ///
    /// When one appears, or the fixture does not hold it.
    pub fn keeps_secret(&self, secrets: &[&str]) {
        let cx = context(1);
        let sources = Sources::one(Arc::new(self.clean.clone()));
        let report = self.engine.inspect(&sources, &self.options, &cx).expect("the fixture");
        let mut shown = serde_json::to_string(&report).expect("JSON");
        if let Ok(plan) = self.engine.plan(&sources, &report, &self.options, &cx) {
            shown.push_str(&serde_json::to_string(&plan).expect("JSON"));
        }
        for secret in secrets {
            let planted = self.clean.files().values().any(|d| d.windows(secret.len()).any(|w| w == secret.as_bytes()));
            assert!(planted, "{secret:?} is not in the fixture: the check could not fail");
            assert!(!shown.contains(secret), "{secret:?} appears in the output");
        }
    }

    fn run(&self, name: &str, damages: Vec<Damage>) -> Sweep {
        let begin = Instant::now();
        let clean_sources = Sources::one(Arc::new(self.clean.clone()));
        let clean = self.engine.inspect(&clean_sources, &self.options, &context(1)).expect("the clean fixture");
        let bound = begin.elapsed().saturating_mul(10).saturating_add(PATIENCE);
        let items = self.items.map(|items| items(&clean_sources, &context(1)));
        let run = Run { harness: self, clean, items, bound, watchdog: Watchdog::start() };
        let mut sweep = Sweep { name: format!("{} {name}", self.engine.engine()), ..Sweep::default() };
        sweep.planned = damages.len() as u64;
        // A budget that runs out must not leave the end of the list untried for ever: go through it in a stride.
        for damage in strided(damages) {
            if begin.elapsed().as_secs() >= self.seconds {
                break;
            }
            let Some((source, changed)) = damage.apply(&self.clean) else {
                sweep.planned = sweep.planned.saturating_sub(1);
                continue;
            };
            sweep.tried = sweep.tried.saturating_add(1);
            if run.covered(&damage, &changed) {
                sweep.under_checksum = sweep.under_checksum.saturating_add(1);
            }
            if let Err(problem) = run.one(&damage, source, &changed) {
                sweep.failed = sweep.failed.saturating_add(1);
                if sweep.failures.len() < KEPT {
                    sweep.failures.push(format!("  {damage}: {problem}"));
                }
            }
        }
        sweep
    }
}

fn context(threads: usize) -> Context {
    thread_local! {
        static ONE: Context = Context::with_threads(1);
    }
    if threads == 1 { ONE.with(Clone::clone) } else { Context::with_limits(Limits { threads, ..Limits::default() }) }
}

/// Visits every item once, far ones early.
fn strided(damages: Vec<Damage>) -> impl Iterator<Item = Damage> {
    let len = damages.len().max(1);
    // A prime stride that does not divide the length visits every place.
    let stride = [7919, 7907, 7901].into_iter().find(|p| !len.is_multiple_of(*p)).unwrap_or(1);
    let mut slots: Vec<Option<Damage>> = damages.into_iter().map(Some).collect();
    (0..slots.len()).filter_map(move |i| slots.get_mut(i.wrapping_mul(stride) % len).and_then(Option::take))
}

struct Run<'a> {
    harness: &'a Harness<'a>,
    clean: Report,
    items: Option<Items>,
    bound: Duration,
    watchdog: Watchdog,
}

impl Run<'_> {
    /// Whether the change touches bytes that the clean report calls verified.
    fn covered(&self, damage: &Damage, changed: &std::ops::Range<u64>) -> bool {
        let object = self.clean.objects.iter().find(|o| o.name == damage.object());
        let touched = |o: &recovery_core::Object| {
            o.coverage.of(Class::Verified).any(|v| v.start < changed.end && changed.start < v.end)
        };
        object.is_some_and(touched)
    }

    fn one(&self, damage: &Damage, source: Arc<dyn Source>, changed: &std::ops::Range<u64>) -> Result<(), String> {
        let sources = Sources::one(source);
        let report = self.guarded(&sources)?;
        self.check_items(damage, &sources)?;
        let report = match report {
            Ok(report) => report,
            // A reason to stop is an answer too, as long as it is not an internal one.
            Err(Error::Internal(m)) => return Err(format!("internal error: {m}")),
            Err(_) => return Ok(()),
        };
        let exempt = self.harness.exempt.is_some_and(|e| e(damage));
        if exempt || !self.covered(damage, changed) || self.clean.verdict > Verdict::Unverified {
            return Ok(());
        }
        // Stale and misplaced sectors may be whole records where they now lie; they only must not be called new data.
        let may_pass = matches!(
            damage,
            Damage::Sector { fault: SectorFault::Swapped, .. }
                | Damage::File { fault: FileFault::Renamed | FileFault::Missing | FileFault::Extra, .. }
        );
        if may_pass {
            return Ok(());
        }
        if report.verdict == Verdict::Sound {
            return Err("called sound although bytes under a checksum changed".to_owned());
        }
        if !report.truncated && !report.findings.iter().any(|f| places(f, damage, changed)) {
            let near: Vec<_> =
                report.findings.iter().take(3).map(|f| (f.code, &f.object, f.offset, f.length)).collect();
            return Err(format!("no finding covers the place; there are {near:x?}"));
        }
        Ok(())
    }

    fn check_items(&self, damage: &Damage, sources: &Sources) -> Result<(), String> {
        let (Some(items), Some(clean)) = (self.harness.items, &self.items) else { return Ok(()) };
        // Nothing protects bytes outside a checksum from being taken as they are.
        if let Damage::Flip { offset, .. } = damage
            && !self.covered(damage, &(*offset..offset.saturating_add(1)))
        {
            return Ok(());
        }
        let got = catch_unwind(AssertUnwindSafe(|| items(sources, &context(1)))).map_err(|_| "salvage panicked")?;
        match got.difference(clean).next() {
            None => Ok(()),
            Some(odd) => Err(format!("recovered something that never was: {}", String::from_utf8_lossy(odd))),
        }
    }

    fn guarded(&self, sources: &Sources) -> Result<Result<Report, Error>, String> {
        let cx = context(1);
        self.watchdog.begin();
        if let Some(alloc) = self.harness.alloc {
            alloc.reset_peak_usage();
        }
        let before = self.harness.alloc.map_or(0, |a| a.current_usage() as u64);
        let begin = Instant::now();
        let outcome =
            catch_unwind(AssertUnwindSafe(|| self.harness.engine.inspect(sources, &self.harness.options, &cx)));
        let took = begin.elapsed();
        let peak = self.harness.alloc.map_or(0, |a| a.peak_usage() as u64).saturating_sub(before);
        self.watchdog.end();
        let outcome = outcome.map_err(|p| format!("panicked: {}", panic_text(p.as_ref())))?;
        if took > self.bound {
            return Err(format!("took {took:?}, the bound is {:?}", self.bound));
        }
        let input: u64 = self.harness.clean.files().values().map(|d| d.len() as u64).sum();
        let most = BASE_MEMORY.saturating_add(input.saturating_mul(4));
        if peak > most {
            return Err(format!("used {peak} bytes of memory, the bound is {most}"));
        }
        Ok(outcome)
    }
}

/// Whether a finding that is more than a note names the damaged object and covers the place.
fn places(finding: &Finding, damage: &Damage, changed: &std::ops::Range<u64>) -> bool {
    if finding.object != damage.object() {
        return false;
    }
    let Some(offset) = finding.offset else { return true };
    let end = finding.length.map_or(u64::MAX, |l| offset.saturating_add(l.max(1)));
    let meets = offset < changed.end.max(changed.start.saturating_add(1)) && changed.start < end;
    // A cut leaves nothing at the place: a finding that ends there, or a torn record that begins before, names it.
    let at_cut = matches!(damage, Damage::Cut { .. } | Damage::File { .. });
    meets || (at_cut && finding.severity >= Severity::Note)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

/// Ends the process when a run hangs; a thread cannot be stopped from outside.
struct Watchdog {
    since: Arc<AtomicU64>,
}

impl Watchdog {
    fn start() -> Self {
        let since = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&since);
        let origin = Instant::now();
        std::thread::spawn(move || {
            let mut last = 0;
            let mut stuck_at = origin;
            while let Some(since) = seen.upgrade() {
                let now = since.load(Ordering::Relaxed);
                if now != last || now % 2 == 0 {
                    (last, stuck_at) = (now, Instant::now());
                } else if stuck_at.elapsed() > HANG {
                    println!("a run has not ended within {HANG:?}");
                    std::process::abort();
                }
                drop(since);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Self { since }
    }

    /// Odd while a run is under way.
    fn begin(&self) {
        self.since.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.fetch_add(1, Ordering::Relaxed);
    }
}

/// A small, seeded source of numbers, so that a failing sweep fails again.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

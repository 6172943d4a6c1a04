//! The outcome of a sweep.

/// What a sweep did.
#[derive(Clone, Debug, Default)]
#[must_use = "call `finish`, which fails the test when anything went wrong"]
pub struct Sweep {
    /// Name, for the printed line.
    pub name: String,
    /// Damages that were to be tried.
    pub planned: u64,
    /// Damages that were tried within the time budget.
    pub tried: u64,
    /// Damages that changed bytes under a checksum.
    pub under_checksum: u64,
    /// What went wrong, at most a few dozen.
    pub failures: Vec<String>,
    /// How often something went wrong.
    pub failed: u64,
}

impl Sweep {
    /// Prints the share covered and fails the test when anything went wrong.
    ///
    /// # Panics
    ///
    /// When anything went wrong, or nothing was tried.
    pub fn finish(self) {
        let share = self.tried.saturating_mul(100).checked_div(self.planned).unwrap_or(0);
        println!(
            "{}: {} of {} damages tried ({share} %), {} under a checksum, {} failures",
            self.name, self.tried, self.planned, self.under_checksum, self.failed
        );
        assert!(self.tried > 0, "{}: nothing was tried", self.name);
        assert!(self.failed == 0, "{}: {} failures, among them:\n{}", self.name, self.failed, self.failures.join("\n"));
    }
}

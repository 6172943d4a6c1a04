//! Progress on standard error, only to a terminal.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use recovery_core::{Progress, Silent};

/// A bar with an estimate of the time left, by bytes.
#[derive(Debug)]
struct Bar(Mutex<ProgressBar>);

/// The bar on a terminal, else nothing.
pub(crate) fn choose(quiet: bool) -> Arc<dyn Progress> {
    if quiet || !std::io::stderr().is_terminal() {
        Arc::new(Silent)
    } else {
        Arc::new(Bar(Mutex::new(ProgressBar::hidden())))
    }
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: u64) {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{msg:10} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(stage.to_owned());
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.finish_and_clear();
        *current = bar;
    }

    fn advance(&self, amount: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).inc(amount);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finish_and_clear();
    }
}

//! Makes the bytes that no file of the source holds.

use std::sync::Arc;

use recovery_core::{
    Blob, Context, Error, Output, Plan, Receipt, Result, Sources, Target, WriteStep, apply, read_around,
};

use crate::format::pg::BLOCK;
use crate::plan::{Make, Page};

const CHUNK: u64 = 1 << 20;

/// Carries out a plan; `inner` is where files are read from.
///
/// # Errors
///
/// As [`apply::run`].
pub fn run(inner: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
    let here = target.describe();
    apply::run(inner, plan, target, cx, &|step, out| make(inner, step, &here, out, cx))
}

fn make(inner: &Sources, step: &WriteStep, here: &str, out: &mut dyn Output, cx: &Context) -> Result<()> {
    let make: Make = serde_json::from_value(step.args.clone())
        .map_err(|e| Error::Usage(format!("{}: the plan does not say how: {e}", step.to)))?;
    let failed = |e| Error::write(&step.to, "write", e);
    match make {
        Make::Text { text } => out.write_all(text.replace("{HERE}", here).as_bytes()).map_err(failed),
        Make::Bytes { hex } => {
            let bytes = recovery_core::unhex(&hex)
                .ok_or_else(|| Error::Usage(format!("{}: the plan's bytes are no hexadecimal", step.to)))?;
            out.write_all(&bytes).map_err(failed)?;
            out.hole(step.size.saturating_sub(bytes.len() as u64)).map_err(failed)
        }
        Make::Patched { object, from, flips, taken, pages } => {
            Patched { inner, object: &object, from, flips: &flips, taken, pages: &pages, step }.write(out, cx)?;
            out.hole(step.size.saturating_sub(taken)).map_err(failed)
        }
    }
}

/// A file of the source with corrections.
struct Patched<'a> {
    inner: &'a Sources,
    object: &'a str,
    from: u64,
    flips: &'a [(u64, u8)],
    taken: u64,
    pages: &'a [Page],
    step: &'a WriteStep,
}

fn open(inner: &Sources, source: u16, object: &str) -> Result<Arc<dyn Blob>> {
    let gone = || Error::Internal(format!("{object}: the plan names a file that is not there"));
    inner.get(source).ok_or_else(gone)?.open_name(object)?.ok_or_else(gone)
}

impl Patched<'_> {
    fn write(&self, out: &mut dyn Output, cx: &Context) -> Result<()> {
        let (object, taken) = (self.object, self.taken);
        let blob = open(self.inner, 0, object)?;
        let have = blob.len().saturating_sub(self.from);
        if taken > have || taken > self.step.size {
            return Err(Error::Usage(format!("{object}: the plan takes {taken} bytes, the file has {have}")));
        }
        let mut at = 0;
        while at < taken {
            cx.cancelled()?;
            let end = at.saturating_add(CHUNK).min(taken);
            let (start, stop) = (self.from.saturating_add(at), self.from.saturating_add(end));
            let (mut bytes, _) = read_around(blob.as_ref(), start..stop);
            self.correct(at, &mut bytes)?;
            let failed = |e| Error::write(&self.step.to, "write", e);
            if bytes.iter().all(|b| *b == 0) {
                out.hole(bytes.len() as u64).map_err(failed)?;
            } else {
                out.write_all(&bytes).map_err(failed)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Puts the corrections into the bytes that begin at `at` of the result.
    fn correct(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let end = at.saturating_add(bytes.len() as u64);
        let index = |place: u64| usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX);
        for page in self.pages.iter().filter(|p| (at..end).contains(&p.to)) {
            let to = index(page.to)..index(page.to).saturating_add(BLOCK);
            let place = bytes
                .get_mut(to)
                .ok_or_else(|| Error::Usage(format!("{}: the plan's page at {} is cut", self.step.to, page.to)))?;
            open(self.inner, page.source, &page.object)?.read_exact_at(page.from, place)?;
        }
        for (place, flip) in self.flips.iter().filter(|(p, _)| (at..end).contains(p)) {
            if let Some(b) = bytes.get_mut(index(*place)) {
                *b ^= flip;
            }
        }
        Ok(())
    }
}

//! Makes the bytes that no file of the source holds.

use recovery_core::{Context, Error, Output, Plan, Receipt, Result, Sources, Target, WriteStep, apply, read_around};

use crate::plan::Make;

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
        Make::Patched { object, flips, taken } => {
            patched(inner, &object, &flips, taken, out, cx, step)?;
            out.hole(step.size.saturating_sub(taken)).map_err(failed)
        }
    }
}

fn patched(
    inner: &Sources,
    object: &str,
    flips: &[(u64, u8)],
    taken: u64,
    out: &mut dyn Output,
    cx: &Context,
    step: &WriteStep,
) -> Result<()> {
    let gone = || Error::Internal(format!("{object}: the plan names a file that is not there"));
    let blob = inner.first().ok_or_else(gone)?.open_name(object)?.ok_or_else(gone)?;
    if taken > blob.len() || taken > step.size {
        return Err(Error::Usage(format!("{object}: the plan takes {taken} bytes, the file has {}", blob.len())));
    }
    let mut at = 0;
    while at < taken {
        cx.cancelled()?;
        let end = at.saturating_add(CHUNK).min(taken);
        let (mut bytes, _) = read_around(blob.as_ref(), at..end);
        for (place, flip) in flips.iter().filter(|(p, _)| (at..end).contains(p)) {
            if let Some(b) = usize::try_from(place - at).ok().and_then(|i| bytes.get_mut(i)) {
                *b ^= flip;
            }
        }
        let failed = |e| Error::write(&step.to, "write", e);
        if bytes.iter().all(|b| *b == 0) {
            out.hole(bytes.len() as u64).map_err(failed)?;
        } else {
            out.write_all(&bytes).map_err(failed)?;
        }
        at = end;
    }
    Ok(())
}

//! Builds the repaired repository in a new place.

use recovery_core::{Context, Error, Output, Plan, Receipt, Result, Sources, Target, WriteStep, apply, unhex};
use serde_json::Value;

/// Carries out a plan.
///
/// # Errors
///
/// When an input changed or the result cannot be written.
pub fn apply(sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
    apply::run(sources, plan, target, cx, &make)
}

/// Every file that is made has its bytes in the plan: their MD5 is in the name.
fn make(step: &WriteStep, out: &mut dyn Output) -> Result<()> {
    let of = |key: &str| step.args.get(key).and_then(Value::as_str);
    let bytes = match (of("text"), of("hex")) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(hex)) => unhex(hex).ok_or_else(|| Error::Usage(format!("{}: the plan is damaged", step.to)))?,
        _ => return Err(Error::Usage(format!("{}: the plan does not say what to write", step.to))),
    };
    out.write_all(&bytes).map_err(|e| Error::write(&step.to, "write", e))
}

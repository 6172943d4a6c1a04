//! Carries out a plan: builds the state again and writes it.

use std::sync::{Arc, Mutex};

use recovery_core::{Blob, Context, Error, MemBlob, Output, Plan, Receipt, Result, Sources, Target, WriteStep};

use crate::case::Case;
use crate::dialect::Dialect;
use crate::format::crc::CrcFile;
use crate::model::Model;
use crate::model::load::{LoadOptions, load};
use crate::model::store::StoreOptions;
use crate::plan::Recipe;
use crate::run::{Job, Log, build};

fn open(sources: &Sources, source: u16, name: &str) -> Result<Arc<dyn Blob>> {
    let s = sources
        .get(source)
        .ok_or_else(|| Error::Usage(format!("the plan names source {source}, which is not given")))?;
    s.open_name(name)?.ok_or_else(|| Error::Usage(format!("{name} is not there any more")))
}

fn dialect(name: &str) -> Result<Dialect> {
    name.parse().map_err(Error::Usage)
}

/// The state to be written.
enum State {
    /// What the inspection built, still there.
    Found(Arc<Case>),
    Built(Box<Model>),
}

impl State {
    fn model(&self) -> Option<&Model> {
        match self {
            Self::Found(case) => case.built.as_ref().map(|b| &b.model),
            Self::Built(model) => Some(model),
        }
    }
}

/// The state a recipe leads to: the one the plan was made with, if it is still there, or built again.
fn state(sources: &Sources, plan: &Plan, recipe: &Recipe, cx: &Context) -> Result<State> {
    let rules = dialect(&recipe.dialect)?;
    let mut found = None;
    if let Some(case) = plan.state.get::<Case>()
        && let Some(built) = &case.built
        && (built.model.dialect(), built.model.version()) == (rules, recipe.version)
    {
        found = Some(State::Found(case));
    }
    let state = match found {
        Some(state) => state,
        None => State::Built(Box::new(replay(sources, recipe, rules, cx)?)),
    };
    match (&recipe.convert, state.model()) {
        (Some(name), Some(model)) => Ok(State::Built(Box::new(convert(model, dialect(name)?, recipe.now)?))),
        _ => Ok(state),
    }
}

fn replay(sources: &Sources, recipe: &Recipe, rules: Dialect, cx: &Context) -> Result<Model> {
    let base = recipe.base.as_ref().map(|(s, n)| open(sources, *s, n)).transpose()?;
    let mut logs = Vec::new();
    for (source, name, use_rest, skip) in &recipe.logs {
        let blob = open(sources, *source, name)?;
        logs.push(Log { blob, skip: skip.clone(), use_rest: *use_rest });
    }
    let witnesses = recipe.witnesses.iter().map(|(s, n)| open(sources, *s, n)).collect::<Result<_>>()?;
    let job = Job {
        base,
        logs,
        dialect: rules,
        until: recipe.until,
        salvage: true,
        checksums: false,
        past_gaps: recipe.past_gaps,
        witnesses,
    };
    let built = build(&job, cx)?;
    if built.model.version() != recipe.version {
        return Err(Error::Damaged(format!(
            "the logs lead to version {} now, the plan was made for {}",
            built.model.version(),
            recipe.version
        )));
    }
    Ok(built.model)
}

/// The same state as a newer product has it after an upgrade: stored by the old rules, loaded by the new ones.
///
/// # Errors
///
/// When the state does not fit into memory twice.
pub fn convert(model: &Model, to: Dialect, now: u32) -> Result<Model> {
    let mut bytes = Vec::new();
    model.store(&mut bytes, StoreOptions { now }).map_err(|e| Error::Internal(e.to_string()))?;
    let blob = MemBlob::new("the state before the upgrade", bytes);
    let options = LoadOptions { salvage: true, dialect: Some(to), checksums: false };
    load(&blob, &options).map(|l| l.model).map_err(|e| Error::Damaged(e.to_string()))
}

pub(crate) fn apply(sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
    let recipe = plan.result.get("recipe").cloned().unwrap_or_default();
    let recipe: Recipe =
        serde_json::from_value(recipe).map_err(|e| Error::Usage(format!("the plan has no valid recipe: {e}")))?;
    let cache: Mutex<Option<(State, Option<CrcFile>)>> = Mutex::new(None);
    let maker = |step: &WriteStep, out: &mut dyn Output| -> Result<()> {
        let mut slot = cache.lock().map_err(|_| Error::Internal("a writer failed".to_owned()))?;
        let (state, crc) = match slot.take() {
            Some(found) => found,
            None => (state(sources, plan, &recipe, cx)?, None),
        };
        let Some(model) = state.model() else { return Err(Error::Internal("nothing was built".to_owned())) };
        let failed = |e| Error::write(&step.to, "write", e);
        let options = StoreOptions { now: recipe.now };
        let store = |out: &mut (dyn std::io::Write + Send)| cx.pool().install(|| model.store(out, options));
        let crc = if step.to == "metadata.crc" {
            let crc = match crc {
                Some(c) => c,
                None => store(&mut std::io::sink()).map_err(failed)?,
            };
            out.write_all(&crc.encode()).map_err(failed)?;
            Some(crc)
        } else {
            let mut buffered = std::io::BufWriter::with_capacity(1 << 16, out);
            let crc = store(&mut buffered).map_err(failed)?;
            std::io::Write::flush(&mut buffered).map_err(failed)?;
            Some(crc)
        };
        *slot = Some((state, crc));
        Ok(())
    };
    recovery_core::apply::run(sources, plan, target, cx, &maker)
}

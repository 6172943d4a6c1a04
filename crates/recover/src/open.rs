//! From the words of the command line to sources, an engine and a context.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::ArgMatches;
use recovery_core::cli::{EngineCli, OpenOptions, open};
use recovery_core::{
    Check, Context, Error, FileSource, Limits, Mapfile, Probe, Reading, Recover, Result, Source, Sources, names,
};

/// An option that only some verbs have.
fn optional<'a, T: Clone + Send + Sync + 'static>(m: &'a ArgMatches, name: &str) -> Option<&'a T> {
    m.try_get_one::<T>(name).ok().flatten()
}

/// A flag that only some verbs have.
pub(crate) fn flag(m: &ArgMatches, name: &str) -> bool {
    optional::<bool>(m, name).copied().unwrap_or(false)
}

/// The repeated values of an option that only some verbs have.
fn repeated(m: &ArgMatches, name: &str) -> Vec<String> {
    m.try_get_many::<String>(name).ok().flatten().map(|v| v.cloned().collect()).unwrap_or_default()
}

/// What the user named.
pub(crate) fn paths(m: &ArgMatches) -> Vec<String> {
    repeated(m, "paths")
}

/// How paths are to be opened.
pub(crate) fn options(m: &ArgMatches) -> Result<OpenOptions> {
    let map = repeated(m, "map").iter().map(|text| pair(text)).collect::<Result<_>>()?;
    Ok(OpenOptions {
        map,
        mmap: flag(m, "mmap"),
        io_limit: optional(m, "io-limit").copied(),
        env: |name| std::env::var(name).ok(),
    })
}

fn pair(text: &str) -> Result<(PathBuf, PathBuf)> {
    let (old, new) = text.split_once('=').ok_or_else(|| Error::Usage(format!("--map {text}: write it as OLD=NEW")))?;
    Ok((PathBuf::from(old), PathBuf::from(new)))
}

/// The context of a verb.
pub(crate) fn context(m: &ArgMatches, cancel: &Arc<AtomicBool>) -> Result<Context> {
    let mut limits = Limits::default();
    if let Some(threads) = optional::<u16>(m, "threads") {
        limits.threads = usize::from(*threads);
    }
    if let Some(memory) = optional::<u64>(m, "memory") {
        limits.memory = *memory;
        limits.record = limits.record.min(*memory);
    }
    let mut cx = Context::with_limits(limits);
    if optional::<String>(m, "check").is_some_and(|c| c == "structure") {
        cx.check = Check::Structure;
    }
    cx.sample = optional::<String>(m, "sample").map(|s| sample(s)).transpose()?;
    cx.reading = if flag(m, "salvage") { Reading::Salvage } else { Reading::Strict };
    cx.show_data = flag(m, "show-data");
    cx.show_secrets = flag(m, "show-secrets");
    cx.copy = flag(m, "copy");
    cx.hash_all = flag(m, "hash-all");
    cx.scratch = optional(m, "scratch").cloned();
    cx.state_file = optional(m, "state").cloned();
    cx.mapfile = optional::<PathBuf>(m, "mapfile-in").map(|p| mapfile(p)).transpose()?;
    cx.progress = crate::progress::choose(flag(m, "quiet"));
    cx.cancel = Arc::clone(cancel);
    Ok(cx)
}

fn sample(text: &str) -> Result<(u64, u64)> {
    let bad = || Error::Usage(format!("--sample {text}: write it as N/T, N from 1 to T"));
    let (n, t) = text.split_once('/').ok_or_else(bad)?;
    let (n, t): (u64, u64) = (n.parse().map_err(|_| bad())?, t.parse().map_err(|_| bad())?);
    if (1..=t).contains(&n) { Ok((n, t)) } else { Err(bad()) }
}

fn mapfile(path: &Path) -> Result<Arc<Mapfile>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?;
    Ok(Arc::new(Mapfile::parse(&text).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?))
}

/// Opens one name for an engine, and mounts it when it is an image.
pub(crate) fn source(engine: &dyn Recover, name: &str, o: &OpenOptions, cx: &Context) -> Result<Arc<dyn Source>> {
    let source = open(engine, name, o)?;
    let file = source.root().filter(|r| !r.is_dir()).map(|r| FileSource::new(r).name().to_owned());
    if let Some(name) = file
        && let Some(blob) = source.open_name(&name)?
        && let Some(mounted) = engine.mount(blob, cx)?
    {
        return Ok(mounted);
    }
    Ok(source)
}

/// What each engine thinks of a path, the surest first.
pub(crate) fn probe<'a>(
    engines: &'a [Box<dyn EngineCli>],
    name: &str,
    o: &OpenOptions,
    cx: &Context,
) -> Result<Vec<(&'a dyn EngineCli, Probe)>> {
    let mut found = Vec::new();
    let mut failed = None;
    for cli in engines {
        match source(cli.engine(), name, o, cx) {
            Ok(source) => found.push((cli.as_ref(), cli.engine().probe(source.as_ref()))),
            // Of several the one that tried: a store that does not answer says more than an engine that knows no stores.
            Err(e) if failed.is_none() || matches!(failed, Some(Error::Usage(_))) => failed = Some(e),
            Err(_) => {}
        }
    }
    if found.is_empty()
        && let Some(e) = failed
    {
        return Err(e);
    }
    found.retain(|(_, p)| p.score > 0);
    found.sort_by_key(|(_, p)| std::cmp::Reverse(p.score));
    Ok(found)
}

/// The engine of a path: the one that was named, else the surest.
pub(crate) fn engine<'a>(
    engines: &'a [Box<dyn EngineCli>],
    m: &ArgMatches,
    name: &str,
    o: &OpenOptions,
    cx: &Context,
) -> Result<&'a dyn EngineCli> {
    if let Some(wanted) = optional::<String>(m, "engine") {
        return by_name(engines, wanted);
    }
    let found = probe(engines, name, o, cx)?;
    let shown = names::terminal(name);
    match found.as_slice() {
        [] => Err(Error::Unusable(format!(
            "{shown}: nothing in it that any engine knows; checked {}. If it is one of them all the same, say which with --engine",
            engines.iter().map(|e| e.engine().engine()).collect::<Vec<_>>().join(", ")
        ))),
        [(a, p), (b, q), ..] if p.score == q.score => Err(Error::Usage(format!(
            "{shown}: could be {0} ({1}) or {2} ({3}); say which with --engine {0} or --engine {2}",
            a.engine().engine(),
            p.reasons.join(", "),
            b.engine().engine(),
            q.reasons.join(", ")
        ))),
        [(best, _), ..] => Ok(*best),
    }
}

/// An engine by its name.
pub(crate) fn by_name<'a>(engines: &'a [Box<dyn EngineCli>], wanted: &str) -> Result<&'a dyn EngineCli> {
    let names = || engines.iter().map(|e| e.engine().engine()).collect::<Vec<_>>().join(", ");
    let found = engines.iter().find(|e| e.engine().engine() == wanted);
    found.map(AsRef::as_ref).ok_or_else(|| Error::Usage(format!("--engine {wanted}: there are {}", names())))
}

/// Rivals and donors.
pub(crate) fn sources(
    engine: &dyn Recover,
    m: &ArgMatches,
    paths: &[String],
    o: &OpenOptions,
    cx: &Context,
) -> Result<Sources> {
    let each = |names: &[String]| names.iter().map(|n| source(engine, n, o, cx)).collect::<Result<Vec<_>>>();
    Ok(Sources { rivals: each(paths)?, donors: each(&absolute(&repeated(m, "also")))? })
}

/// Local paths made absolute, so that a plan means the same from anywhere; addresses stay.
pub(crate) fn absolute(paths: &[String]) -> Vec<String> {
    let one = |p: &String| match std::path::absolute(p) {
        Ok(full) if !p.contains("://") => full.display().to_string(),
        _ => p.clone(),
    };
    paths.iter().map(one).collect()
}

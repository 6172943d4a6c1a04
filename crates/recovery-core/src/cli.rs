//! What an engine gives to the command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use serde_json::Value;

use crate::blob::ReadError;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::plan::Accepted;
use crate::recover::Recover;
use crate::report::Report;
use crate::source::{DirOptions, DirSource, FileSource, Source, ThrottledSource};

/// The exit code of a verb that ended in order: 0, 3, 4 or 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All is well.
    pub const OK: Self = Self(0);
}

/// How paths of the command line are opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// `--map OLD=NEW`.
    pub map: Vec<(PathBuf, PathBuf)>,
    /// `--mmap`.
    pub mmap: bool,
    /// `--io-limit`, bytes a second.
    pub io_limit: Option<u64>,
    /// Environment variables, given by the binary.
    pub env: fn(&str) -> Option<String>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { map: Vec::new(), mmap: false, io_limit: None, env: |_| None }
    }
}

/// An engine on the command line.
pub trait EngineCli: Send + Sync {
    /// The engine itself.
    fn engine(&self) -> &'static dyn Recover;

    /// One line for the help: what it saves.
    fn about(&self) -> &'static str;

    /// The engine's own verbs.
    fn commands(&self) -> Vec<clap::Command>;

    /// Runs one of them.
    ///
    /// # Errors
    ///
    /// For reasons to stop.
    fn run(&self, verb: &str, args: &ArgMatches, open: &OpenOptions, out: &mut dyn Write, cx: &Context)
    -> Result<Exit>;

    /// Options of `inspect`, `plan` and `rescue` that belong to the engine.
    fn options(&self) -> Vec<clap::Arg> {
        Vec::new()
    }

    /// What a person should read of a report before its findings, line by line; the facts in words.
    fn summary(&self, report: &Report) -> Vec<String> {
        let _ = report;
        Vec::new()
    }

    /// The engine's options as JSON, from what was given for [`options`](Self::options).
    ///
    /// # Errors
    ///
    /// When a value makes no sense.
    fn options_json(&self, args: &ArgMatches) -> Result<Value> {
        let _ = args;
        Ok(Value::Null)
    }
}

/// The losses that the user agrees to by `--accept NAME[:MAX]`.
///
/// # Errors
///
/// When one is written in another form.
pub fn accepted(args: &ArgMatches) -> Result<Accepted> {
    let mut accepted = Accepted::new();
    for text in args.get_many::<String>("accept").into_iter().flatten() {
        let bad = |_| Error::Usage(format!("--accept {text}: write it as NAME or NAME:MAX"));
        match text.split_once(':') {
            None => accepted.insert(text.clone(), None),
            Some((name, most)) => accepted.insert(name.to_owned(), Some(most.parse().map_err(bad)?)),
        };
    }
    Ok(accepted)
}

/// Opens what the user named for one engine: an address, a configuration file that leads elsewhere, a directory, a file.
///
/// # Errors
///
/// When it cannot be opened.
pub fn open(engine: &dyn Recover, name: &str, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    let source = open_unlimited(engine, name, options)?;
    Ok(match options.io_limit {
        Some(rate) => Arc::new(ThrottledSource::new(source, rate)),
        None => source,
    })
}

fn open_unlimited(engine: &dyn Recover, name: &str, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    if name.contains("://")
        && let Some(source) = engine.open_url(name, &options.env)
    {
        return source;
    }
    let path = Path::new(name);
    if name.contains("://") && !path.exists() {
        let shown = crate::names::redact_url(name);
        return Err(Error::Usage(format!("{shown}: no kind of address that {} reads", engine.engine())));
    }
    let path = engine.resolve(path)?.unwrap_or_else(|| path.to_owned());
    open_path(&path, options)
}

/// Opens a directory or a file as a source.
///
/// # Errors
///
/// When it is not there, or is neither.
pub fn open_path(path: &Path, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    let shown = crate::names::terminal(&path.display().to_string()).into_owned();
    let meta = std::fs::metadata(path).map_err(|e| ReadError::new(shown, 0, 0, &e))?;
    if meta.is_dir() {
        let dir = DirOptions { map: options.map.clone(), mmap: options.mmap };
        return Ok(Arc::new(DirSource::with(path, dir)?));
    }
    let file = FileSource::new(path);
    let opened = file.stat(file.name())?.map(|entry| file.open(&entry));
    match opened {
        Some(Ok(_)) => Ok(Arc::new(file)),
        Some(Err(e)) => Err(e.into()),
        None => Err(Error::Unusable(format!("{}: gone", path.display()))),
    }
}

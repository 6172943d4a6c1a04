//! What the engine's verbs share.

use std::io::Write;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches};
use recovery_core::cli::{OpenOptions, open};
use recovery_core::{Blob, Context, Depth, Error, Reading, Recover, Result, Source};
use serde_json::Value;

use crate::dump::{self, FamilyView, ViewTable};
use crate::format::key::KeyOrder;
use crate::reader::{TableOptions, TableReader};

pub(super) fn path() -> Arg {
    Arg::new("path").value_name("PATH").required(true).help("A database directory, or one table")
}

pub(super) fn file(help: &'static str) -> Arg {
    Arg::new("path").value_name("FILE").required(true).help(help)
}

/// The one file that was named.
pub(super) fn single_file(engine: &dyn Recover, args: &ArgMatches, options: &OpenOptions) -> Result<Arc<dyn Blob>> {
    let source = source(engine, args, options)?;
    let mut entries = source.list("", Depth::One);
    match (entries.next().transpose()?, entries.next()) {
        (Some(entry), None) if entry.is_file() && source.root().is_none_or(|r| !r.is_dir()) => Ok(source.open(&entry)?),
        _ => Err(Error::Usage(format!("{}: name one file, not a directory", source.describe()))),
    }
}

/// A key of the command line: text, or `hex:` and hexadecimal digits.
pub(super) fn binary(name: &str, text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("hex:") {
        Some(hex) => {
            let bytes = crate::format::coding::unhex(hex);
            bytes.ok_or_else(|| {
                Error::Usage(format!("{name} {text}: expected an even number of hexadecimal digits behind hex:"))
            })
        }
        None => Ok(text.as_bytes().to_vec()),
    }
}

pub(super) fn wal() -> Arg {
    Arg::new("wal")
        .long("wal")
        .value_name("MODE")
        .value_parser(["point-in-time", "salvage"])
        .help("With --salvage: stop at the first damage of a WAL (default) or leave out only what is damaged")
}

pub(super) fn name_family() -> Arg {
    Arg::new("name-family")
        .long("name-family")
        .value_name("ID=NAME")
        .action(ArgAction::Append)
        .help("Name a column family that nothing names")
}

pub(super) fn source(engine: &dyn Recover, args: &ArgMatches, options: &OpenOptions) -> Result<Arc<dyn Source>> {
    let name = args.get_one::<String>("path").map_or("", String::as_str);
    open(engine, name, options)
}

/// How the directory is read, from the arguments of a verb.
pub(super) fn open_options(args: &ArgMatches, cx: &Context) -> Result<dump::OpenOptions> {
    let mut options = dump::OpenOptions { salvage: cx.reading == Reading::Salvage, ..dump::OpenOptions::default() };
    options.keys_only = args.try_get_one::<bool>("keys").ok().flatten().copied().unwrap_or(false);
    options.scratch = Some(cx.scratch.clone().unwrap_or_else(std::env::temp_dir));
    let mode = args.try_get_one::<String>("wal").ok().flatten();
    options.behind_damage = mode.is_some_and(|mode| mode == "salvage");
    for text in args.get_many::<String>("name-family").into_iter().flatten() {
        let (id, name) = super::id_and_name(text)?;
        options.names.insert(id, name);
    }
    Ok(options)
}

/// The table, when the source is one file and that file is a table.
pub(super) fn single_table(source: &Arc<dyn Source>) -> Result<Option<Arc<dyn Blob>>> {
    let mut entries = source.list("", Depth::One);
    let first = entries.next().transpose()?;
    let Some(entry) = first.filter(|entry| entry.is_file() && entries.next().is_none()) else { return Ok(None) };
    let table = [".sst", ".ldb"].iter().any(|end| entry.name.ends_with(end));
    if table { Ok(Some(source.open(&entry)?)) } else { Ok(None) }
}

/// A view of one table alone.
pub(super) fn table_view(blob: Arc<dyn Blob>, cx: &Context) -> Result<FamilyView> {
    let options = TableOptions { block_limit: crate::inspect::gather::record_limit(cx), ..TableOptions::default() };
    let properties = TableReader::open(Arc::clone(&blob), options.clone()).map(|table| table.properties().clone());
    let salvaged = match &properties {
        Ok(_) => None,
        Err(_) if cx.reading == Reading::Salvage => {
            Some(Arc::new(crate::salvage::Salvaged::run(&blob, &options, None, cx)?))
        }
        Err(error) => return Err(error.clone().into()),
    };
    let properties =
        properties.ok().or_else(|| salvaged.as_ref().and_then(|s| s.properties.clone())).unwrap_or_default();
    let order = match properties.comparator.as_deref() {
        None => KeyOrder::default(),
        Some(name) => KeyOrder::by_name(name).ok_or_else(|| {
            let message = format!("{}: keys are sorted by {name}, which this tool does not know", blob.name());
            Error::refuse(recovery_core::Reason::Unsafe, message)
        })?,
    };
    let mut view = FamilyView::new(properties.family_name.clone().unwrap_or_default(), order);
    view.operator_name = properties.merge_operator.filter(|name| name != "nullptr");
    view.tables.push(ViewTable { blob, options, bounds: None, extent: None, salvaged });
    Ok(view)
}

/// Adds a member to a JSON object.
pub(super) fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(name.to_owned(), value.into());
    }
}

/// Writes to the verb's output. A reader that has gone away ends the work quietly.
pub(super) fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|error| Error::write("standard output", "write", error))
}

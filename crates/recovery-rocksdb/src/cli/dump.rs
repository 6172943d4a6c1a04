//! `dump`: rows as JSON Lines.

use std::io::Write;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::{Context, Error, Reading, Recover, Result, Source};

use super::common;
use crate::dump::{DatabaseView, FamilyView, JsonRows, MergeOperator, RowOptions};
use crate::format::SequenceNumber;
use crate::reader::TableError;

pub(super) fn command() -> Command {
    let text = |name: &'static str, form: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(form).help(help)
    };
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("dump").about("Rows as JSON Lines: what a reader would see, or every stored version").args([
        common::path(),
        text("family", "NAME", "Only this column family").action(ArgAction::Append),
        text("prefix", "KEY", "Only keys that begin so; text, or hex:…"),
        text("from", "KEY", "First key; text, or hex:…"),
        text("to", "KEY", "First key no longer wanted; text, or hex:…"),
        text("as-of", "SEQ", "The rows as of this sequence number; compactions may have dropped versions from before")
            .value_parser(clap::value_parser!(u64)),
        flag("internal", "Every stored version: deletions, operands and range deletions too"),
        flag("keys", "Leave values out"),
        flag("evaluate", "Evaluate operands of well-known merge operators (uint64add, stringappend, max, put)"),
        text("merge-operator", "[FAMILY=]NAME", "Evaluate operands with this operator").action(ArgAction::Append),
        flag("salvage", "Pass over damage, and say at the end what was passed over"),
        common::wal(),
        common::name_family(),
    ])
}

/// A key given by an option.
fn key(args: &ArgMatches, name: &str) -> Result<Option<Vec<u8>>> {
    args.get_one::<String>(name).map(|text| common::binary(&format!("--{name}"), text)).transpose()
}

/// The operator for a family's operands: given by name, or its own when evaluation is asked for.
fn operator(args: &ArgMatches, family: &FamilyView) -> Result<Option<MergeOperator>> {
    for text in args.get_many::<String>("merge-operator").into_iter().flatten() {
        let (wanted, name) = match text.split_once('=') {
            Some((wanted, name)) if !wanted.starts_with('{') => (Some(wanted), name),
            _ => (None, text.as_str()),
        };
        if wanted.is_none_or(|wanted| wanted == family.name) {
            let usage =
                || Error::Usage(format!("--merge-operator {text}: known are uint64add, stringappend, max and put"));
            return MergeOperator::by_name(name).map(Some).ok_or_else(usage);
        }
    }
    let own = family.operator_name.as_deref().filter(|_| args.get_flag("evaluate"));
    Ok(own.and_then(MergeOperator::by_name))
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let source = common::source(engine, args, open)?;
    let salvage = cx.reading == Reading::Salvage;
    let (families, mut passed_over) = views(&source, args, cx)?;
    let wanted: Vec<&String> = args.get_many::<String>("family").into_iter().flatten().collect();
    if let Some(missing) = wanted.iter().find(|name| !families.iter().any(|f| f.name == ***name)) {
        let known: Vec<&str> = families.iter().map(|f| f.name.as_str()).collect();
        return Err(Error::Usage(format!("--family {missing}: the families are {}", known.join(", "))));
    }
    for family in families.iter().filter(|f| wanted.is_empty() || wanted.iter().any(|name| f.name == **name)) {
        let options = RowOptions {
            from: key(args, "from")?,
            to: key(args, "to")?,
            prefix: key(args, "prefix")?.unwrap_or_default(),
            operator: operator(args, family)?,
            as_of: args.get_one::<u64>("as-of").copied().map(SequenceNumber),
            keys_only: args.get_flag("keys"),
            salvage,
        };
        let damage = write(family, &options, args.get_flag("internal"), out, cx)?;
        passed_over.extend(damage.iter().map(|error| format!("{}: {error}", family.name)));
    }
    for sentence in &passed_over {
        let line = serde_json::json!({ "passed_over": sentence });
        common::put(out, format!("{line}\n").as_bytes())?;
    }
    Ok(if passed_over.is_empty() { Exit::OK } else { Exit(4) })
}

fn write(
    family: &FamilyView,
    options: &RowOptions,
    internal: bool,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Vec<TableError>> {
    let json = JsonRows::new(&family.name, options.keys_only);
    if internal {
        let each = |entry: &crate::dump::InternalEntry<'_>, text: &mut Vec<u8>| json.entry(entry, &family.order, text);
        return family.write_entries(options, cx, each, |text| common::put(out, text));
    }
    family.write_rows(options, cx, |row, text| json.row(row, text), |text| common::put(out, text))
}

/// The families of a directory, or the one table that was named.
fn views(source: &Arc<dyn Source>, args: &ArgMatches, cx: &Context) -> Result<(Vec<FamilyView>, Vec<String>)> {
    if let Some(blob) = common::single_table(source)? {
        return Ok((vec![common::table_view(blob, cx)?], Vec::new()));
    }
    let view = DatabaseView::open(source, &common::open_options(args, cx)?, cx)?;
    Ok((view.families, view.passed_over))
}

//! `recover schema`: the documented forms of all JSON.

use std::io::Write;

use recovery_core::{Error, schema};

use super::Call;
use crate::failure::Failure;

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let Some(wanted) = call.args.get_one::<String>("name") else {
        let mut all = serde_json::Map::new();
        for (name, text) in schema::ALL {
            let form = serde_json::from_str(text).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
            all.insert((*name).to_owned(), form);
        }
        return super::json(call, out, &all).map(|()| 0);
    };
    let found = schema::ALL.iter().find(|(n, _)| n == wanted);
    let names = || schema::ALL.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    let (_, text) = found.ok_or_else(|| Error::Usage(format!("{wanted}: there are {}", names())))?;
    write!(out, "{text}")?;
    Ok(0)
}

//! `recover probe`: what is this?

use std::io::Write;

use recovery_core::names;
use serde_json::json;

use super::Call;
use crate::failure::Failure;
use crate::open;

pub(super) fn run(call: &Call<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
    let (cx, options) = (open::context(call.args, &call.cancel)?, open::options(call.args)?);
    let mut documents = Vec::new();
    let mut exit = 0;
    for path in open::paths(call.args) {
        let found = open::probe(call.engines, &path, &options, &cx)?;
        if found.is_empty() {
            exit = 5;
        }
        let shown: Vec<_> = found
            .iter()
            .map(|(e, p)| json!({"engine": e.engine().engine(), "score": p.score, "reasons": p.reasons}))
            .collect();
        if !call.json {
            let words: Vec<_> = found
                .iter()
                .map(|(e, p)| format!("{} ({} %: {})", e.engine().engine(), p.score, p.reasons.join(", ")))
                .collect();
            let words = if words.is_empty() { "not known to any engine".to_owned() } else { words.join("; ") };
            writeln!(out, "{}: {}", names::terminal(&path), names::terminal(&words))?;
        }
        documents.push(json!({"path": path, "engines": shown}));
    }
    if call.json {
        super::json(call, out, &json!({"schema": "recover/probe/1", "exit": exit, "paths": documents}))?;
    }
    Ok(exit)
}

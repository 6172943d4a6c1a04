//! Streams the operations of a frontend's journal from an id on: what `recover bdbje journal` prints, as values.
//!
//! `cargo run --release --example bdbje_journal -- META [FROM]`
//!
//! run: fixtures/bdbje/nodes/n2 20
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;

use recovery_bdbje::journal::{self, Payload, opcodes};
use recovery_bdbje::meta::Meta;
use recovery_bdbje::model::{Environment, Role, env::last_checkpoint};
use recovery_bdbje::reader::Log;
use recovery_core::{Context, DirSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a meta directory")?;
    let from = args.next().map_or(Ok(i64::MIN), |a| a.parse())?;
    let (source, cx) = (DirSource::open(path)?, Context::default());
    let log = Log::open(&source, &Meta::locate(&source)?);
    let (checkpoint, tree) = last_checkpoint(&log);
    let env = Environment::open(log, checkpoint, tree, Role::Standalone, &cx)?;
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    journal::stream(&env, from..=i64::MAX, &cx, &mut |_, entry| {
        let code = entry.operation.code.unwrap_or(-1);
        let name = opcodes::name(code, opcodes::Product::StarRocks).map_or_else(|| code.to_string(), str::to_owned);
        let (n, json) = counts.entry(name).or_default();
        *n += 1;
        *json += u64::from(matches!(entry.operation.decode(), Payload::Json(_)));
        Ok(())
    })?;
    for (name, (n, json)) in counts {
        println!("{name}: {n} operations, {json} in JSON");
    }
    Ok(())
}

//! Tables that each hold newer versions of some keys than the other: no order of them is right, one table of both is.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Context, Error, Reason, Result, Sources, Step, WriteStep};

use crate::format::file_name;
use crate::placement::Placement;
use crate::plan::{Inputs, Made, describe};
use crate::rewrite::{self, BadBlobs, MergedArgs, TableArgs};
use crate::salvage::Mend;
use crate::witness::{LiveTable, ResolvedFamily};

/// Whether a placement asks for merging and the tables are of a kind that can be.
pub(crate) fn possible(placement: &Placement, made: &[Made]) -> bool {
    let readable = |n: &u64| {
        made.iter().any(|m| {
            m.table.number == *n
                && match &m.step {
                    Step::Link { .. } | Step::Copy { .. } => true,
                    Step::Write(write) => matches!(write.what.as_str(), "table" | "merged"),
                    _ => false,
                }
        })
    };
    !placement.mixed.is_empty() && placement.mixed.iter().all(|(a, b)| a != b && readable(a) && readable(b))
}

/// Makes one table of several.
pub(crate) struct Merging<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) family: &'a ResolvedFamily,
    pub(crate) bad: &'a BadBlobs,
    pub(crate) mend: Mend,
    pub(crate) up_to: Option<u64>,
    pub(crate) cx: &'a Context,
}

impl Merging<'_> {
    /// Replaces every group of mixed tables by one; `parts` keeps what each was made of.
    pub(crate) fn merge(
        &self,
        placement: &Placement,
        made: &mut Vec<Made>,
        parts: &mut BTreeMap<u64, Vec<LiveTable>>,
    ) -> Result<()> {
        for group in groups(&placement.mixed) {
            let (members, rest): (Vec<Made>, Vec<Made>) =
                std::mem::take(made).into_iter().partition(|m| group.contains(&m.table.number));
            *made = rest;
            made.push(self.one(&members, parts)?);
        }
        Ok(())
    }

    fn one(&self, members: &[Made], parts: &mut BTreeMap<u64, Vec<LiveTable>>) -> Result<Made> {
        let Some(last) = members.iter().max_by_key(|m| m.table.number) else {
            return Err(Error::Internal("an empty group of tables".to_owned()));
        };
        let mut args = MergedArgs { tables: Vec::new() };
        let mut inputs = Inputs::new();
        let mut of: Vec<LiveTable> = Vec::new();
        for member in members {
            args.tables.extend(self.arguments(member)?);
            inputs.extend(member.inputs.iter().cloned());
            let on_disk = || vec![self.family.tables.get(&member.table.number).unwrap_or(&member.table).clone()];
            of.extend(parts.remove(&member.table.number).unwrap_or_else(on_disk));
        }
        inputs.extend(args.tables.iter().filter(|t| !t.object.is_empty()).map(|t| (t.source, t.object.clone())));
        inputs.sort();
        inputs.dedup();
        let done = rewrite::merged(self.sources, &args, self.cx, &mut std::io::sink())?;
        let Some(written) = done.written else {
            return Err(Error::Internal(format!("family {}: merging left nothing", self.family.shown())));
        };
        let number = last.table.number;
        let mut table = LiveTable { entry: None, level: None, ..last.table.clone() };
        describe(&mut table, &written, self.family.order.as_ref());
        table.oldest_blob = done.oldest_blob;
        table.entries = Some(written.summary.points);
        table.tombstones = Some(written.summary.range_deletions);
        parts.insert(number, of);
        let value = serde_json::to_value(&args).map_err(|e| Error::Internal(e.to_string()))?;
        let step = Step::Write(WriteStep {
            to: file_name::table(number),
            what: "merged".to_owned(),
            size: written.size,
            args: value,
            ..WriteStep::default()
        });
        let sum = |f: fn(&Made) -> u64| members.iter().map(f).fold(0, u64::saturating_add);
        let tombstones = members.iter().map(|m| m.lost_tombstones).sum::<Option<u64>>();
        Ok(Made {
            table,
            step,
            lost: members.iter().map(|m| m.lost).sum::<Option<u64>>(),
            lost_tombstones: tombstones,
            lost_blobs: sum(|m| m.lost_blobs),
            inputs,
        })
    }

    /// How the bytes of a member are read again.
    fn arguments(&self, member: &Made) -> Result<Vec<TableArgs>> {
        let fresh = |source: u16, object: &str| TableArgs {
            source,
            object: object.to_owned(),
            family: self.family.id,
            name: self.family.shown(),
            comparator: self.family.comparator.clone(),
            global_seqno: member.table.global_seqno.or(member.table.entry.as_ref().map(|e| e.largest_seqno)),
            bad_blobs: self.bad.clone(),
            fills: Vec::new(),
            mend: self.mend,
            up_to: self.up_to,
        };
        let parse = |e: serde_json::Error| Error::Internal(e.to_string());
        match &member.step {
            Step::Link { source, object, .. } | Step::Copy { source, object, .. } => Ok(vec![fresh(*source, object)]),
            Step::Write(write) if write.what == "table" => {
                Ok(vec![serde_json::from_value(write.args.clone()).map_err(parse)?])
            }
            Step::Write(write) if write.what == "merged" => {
                Ok(serde_json::from_value::<MergedArgs>(write.args.clone()).map_err(parse)?.tables)
            }
            _ => Err(Error::refuse(
                Reason::Unsafe,
                format!("family {}: table {} cannot be merged", self.family.shown(), member.table.number),
            )),
        }
    }
}

/// Pairs joined to groups.
fn groups(pairs: &[(u64, u64)]) -> Vec<BTreeSet<u64>> {
    let mut out: Vec<BTreeSet<u64>> = Vec::new();
    for (a, b) in pairs {
        let (touching, mut rest): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|group| group.contains(a) || group.contains(b));
        rest.push(touching.into_iter().flatten().chain([*a, *b]).collect());
        out = rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_touch_are_one_group() {
        let groups = groups(&[(1, 2), (3, 4), (5, 6), (2, 3)]);
        assert_eq!(groups, [BTreeSet::from([5, 6]), BTreeSet::from([1, 2, 3, 4])]);
    }
}

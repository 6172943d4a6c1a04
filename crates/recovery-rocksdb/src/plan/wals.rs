//! WALs of the result: copied, cut, or written anew without what is damaged.

use std::collections::BTreeMap;

use recovery_core::{Error, Plan, Result, Step, WriteStep};
use serde::{Deserialize, Serialize};

use super::{Builder, Inputs};
use crate::codes;
use crate::engine::WalMode;
use crate::format::file_name::{self, FileKind};
use crate::inspect::gather::record_limit;
use crate::reader::log::EndKind;
use crate::rewrite;
use crate::writer::manifest::NewVersion;
use crate::writer::wal::{self as wal_writer, Keep};

/// Arguments of a step that writes a WAL anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WalArgs {
    pub(crate) source: u16,
    pub(crate) object: String,
    pub(crate) number: u64,
    pub(crate) keep: Keep,
}

impl Builder<'_> {
    pub(super) fn wal_steps(&self, plan: &mut Plan, version: &mut NewVersion, inputs: &mut Inputs) -> Result<()> {
        let g = &self.i.gathered;
        let stop = self.options.wal == WalMode::PointInTime || self.up_to.is_some();
        let limit = record_limit(self.cx);
        let mut stopped = false;
        version.min_log = self.i.first_needed_wal();
        for w in self.i.needed_wals() {
            let Some(item) =
                g.items.iter().find(|it| it.name.kind == FileKind::Wal && it.name.number == Some(w.number))
            else {
                continue;
            };
            let to = file_name::wal(w.number);
            if stopped {
                plan.lose(
                    codes::LOST_AFTER,
                    format!("{to}: it comes behind the damage in an earlier WAL"),
                    w.entries,
                    w.size,
                );
                continue;
            }
            if let (true, Some((source, object))) = (w.is_damaged(), self.i.wal_donors.get(&w.number)) {
                let size = rewrite::open(self.sources, *source, object)?.len();
                plan.steps.push(Step::Copy {
                    source: *source,
                    object: object.clone(),
                    to,
                    size,
                    range: None,
                    mode: None,
                    last: false,
                });
                continue;
            }
            let behind = self.up_to.filter(|most| w.last_sequence.is_some_and(|last| last > *most));
            if behind.is_some_and(|most| w.first_sequence.is_none_or(|first| first > most)) {
                self.count_cut(w.entries);
                continue;
            }
            let skip: BTreeMap<u32, u64> = self.i.resolved.skip_below.clone();
            let filter = skip.keys().any(|id| w.families.contains_key(id));
            if !w.is_damaged() && !filter && behind.is_none() {
                plan.steps.push(match w.end {
                    EndKind::Torn => Step::Copy {
                        source: self.source,
                        object: item.entry.name.clone(),
                        to,
                        size: w.end_at,
                        range: Some((0, w.end_at)),
                        mode: None,
                        last: false,
                    },
                    _ => self.copy(item, to),
                });
                continue;
            }
            let keep = Keep {
                stop_at_damage: stop && w.is_damaged(),
                skip_below: if filter { skip } else { BTreeMap::new() },
                up_to: behind,
            };
            let blob = g.source.open(&item.entry)?;
            let size = wal_writer::rewritten_size(blob.as_ref(), w.number, limit, &keep)?;
            if let Some(most) = behind {
                self.count_cut(w.last_sequence.unwrap_or(most).saturating_sub(most));
                stopped = w.is_damaged();
            } else if w.is_damaged() {
                let bytes = w.damage.iter().map(|d| d.end.saturating_sub(d.at)).fold(0, u64::saturating_add);
                let gap = w.gaps.iter().map(|gap| gap.lost().unwrap_or(1)).fold(0, u64::saturating_add);
                plan.lose(codes::LOST_WAL, format!("damaged records of {to}"), gap, bytes);
                if stop && w.after_damage.0 > 0 {
                    plan.lose(
                        codes::LOST_AFTER,
                        format!("{to}: records behind the first damaged one (--wal salvage keeps them)"),
                        w.after_damage.1,
                        0,
                    );
                }
                stopped = stop;
            }
            let args = WalArgs { source: self.source, object: item.entry.name.clone(), number: w.number, keep };
            let args = serde_json::to_value(&args).map_err(|e| Error::Internal(e.to_string()))?;
            plan.steps.push(Step::Write(WriteStep { to, what: "wal".to_owned(), size, args, ..WriteStep::default() }));
            inputs.push((self.source, item.entry.name.clone()));
        }
        Ok(())
    }
}

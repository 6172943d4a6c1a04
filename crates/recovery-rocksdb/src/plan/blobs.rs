//! Blob files of the result.

use recovery_core::{Plan, Step, WriteStep};
use serde::{Deserialize, Serialize};

use super::{Builder, Inputs};
use crate::format::file_name::{self, FileKind};
use crate::reader::blob::BlobItem;
use crate::rewrite::{self, BadBlobs};
use crate::witness::ResolvedFamily;
use crate::writer::manifest::NewBlob;

/// Arguments of a step that writes a blob file anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlobArgs {
    pub(crate) source: u16,
    pub(crate) object: String,
}

impl Builder<'_> {
    pub(super) fn blobs(&self, family: &ResolvedFamily) -> Vec<NewBlob> {
        let mut out = Vec::new();
        for (number, blob) in family.blobs.iter().filter(|(_, b)| b.present || b.donor.is_some()) {
            if blob.donor.is_some() {
                out.push(NewBlob {
                    number: *number,
                    count: blob.count,
                    bytes: blob.bytes,
                    garbage_count: blob.garbage_count,
                    garbage_bytes: blob.garbage_bytes,
                });
                continue;
            }
            let facts = self.i.gathered.blobs.get(number);
            let Some(walk) = facts.and_then(|f| f.walk.as_ref()) else { continue };
            let fixed = rewrite::blob_shape(walk, facts.map_or(0, |f| f.size));
            out.push(NewBlob {
                number: *number,
                count: if blob.damaged { fixed.count } else { blob.count.max(walk.records()) },
                bytes: if blob.damaged { fixed.bytes } else { blob.bytes.max(walk.bytes()) },
                garbage_count: blob.garbage_count.saturating_add(if blob.damaged { fixed.filler_count } else { 0 }),
                garbage_bytes: blob.garbage_bytes.saturating_add(if blob.damaged { fixed.filler_bytes } else { 0 }),
            });
        }
        out
    }

    /// Steps for blob files, and which of their values are gone.
    pub(super) fn blob_steps(&self, plan: &mut Plan, inputs: &mut Inputs) -> BadBlobs {
        let g = &self.i.gathered;
        let mut bad = BadBlobs::default();
        for (number, blob) in self.i.resolved.families.values().flat_map(|f| &f.blobs) {
            let item = g.items.iter().find(|it| it.name.kind == FileKind::Blob && it.name.number == Some(*number));
            let facts = g.blobs.get(number);
            let (Some(item), Some(walk)) = (item, facts.and_then(|f| f.walk.as_ref())) else {
                match &blob.donor {
                    Some((source, object)) => plan.steps.push(Step::Link {
                        source: *source,
                        object: object.clone(),
                        to: file_name::blob(*number),
                        size: blob.bytes.saturating_add(62),
                    }),
                    None => {
                        bad.missing.insert(*number);
                    }
                }
                continue;
            };
            let to = file_name::blob(*number);
            if let Some((source, object)) = &blob.donor {
                plan.steps.push(Step::Link { source: *source, object: object.clone(), to, size: item.entry.size });
                continue;
            }
            if !blob.damaged {
                plan.steps.push(self.link(item, to));
                continue;
            }
            if walk.header.is_err() {
                bad.missing.insert(*number);
                continue;
            }
            for it in &walk.items {
                if let BlobItem::Damaged { range, .. } | BlobItem::Unknown { range } | BlobItem::Unread { range, .. } =
                    it
                {
                    bad.ranges.entry(*number).or_default().push((range.start, range.end));
                }
            }
            let shape = rewrite::blob_shape(walk, item.entry.size);
            let args = serde_json::to_value(BlobArgs { source: self.source, object: item.entry.name.clone() })
                .unwrap_or_default();
            plan.steps.push(Step::Write(WriteStep {
                to,
                what: "blob".to_owned(),
                size: shape.size,
                args,
                ..WriteStep::default()
            }));
            inputs.push((self.source, item.entry.name.clone()));
        }
        bad
    }
}

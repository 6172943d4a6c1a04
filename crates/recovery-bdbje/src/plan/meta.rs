//! `ROLE`, `VERSION` and images of the result.

use std::collections::HashSet;

use recovery_core::{Plan, Sources, Step, WriteStep};
use serde_json::json;

use super::Decided;
use crate::codes;
use crate::inspect::{Inspected, Node, joins};
use crate::meta::{FeRole, ImageState};

/// Where a file goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Among the images.
    Image,
    /// There, as the last file of all.
    Last,
    /// Beside the images, where a frontend does not look.
    Beside,
}

/// What is said when no whole image joins the journal of the result.
pub(super) fn missing_image(seen: &Inspected, base: &Node) -> Option<(&'static str, String, u64)> {
    let healed = seen.nodes.iter().any(|n| n.source != base.source && joins(n, base));
    if !base.needs_image() || healed {
        return None;
    }
    let first = base.journal().first.unwrap_or(1);
    let text = format!(
        "the state before journal id {first} is in no whole image: the frontend will not start from the result without one"
    );
    Some((codes::LOSS_IMAGE, text, 0))
}

/// `ROLE`, `VERSION` and images.
pub(super) fn image_steps(plan: &mut Plan, sources: &Sources, seen: &Inspected, base: &Node, decided: &Decided) {
    let Some(dir) = &base.meta.image_dir else { return };
    plan.steps.push(Step::Mkdir { to: "image".to_owned(), mode: None });
    let mut placed = HashSet::new();
    let mut copy = |plan: &mut Plan, n: &Node, object: &str, place: Place| {
        let found = sources.get(n.source).and_then(|s| s.stat(object).ok().flatten());
        let Some(size) = found.map(|e| e.size) else { return };
        let root = n.meta.image_dir.as_deref().unwrap_or_default();
        let top = if place == Place::Beside { "damaged-image" } else { "image" };
        let to = format!("{top}{}", object.strip_prefix(root).unwrap_or_default());
        let last = place == Place::Last;
        if placed.insert(to.clone()) {
            for sub in ["", "/v2", "/starmgr", "/starmgr/v2"].map(|s| format!("{top}{s}")) {
                let known = plan.steps.iter().any(|s| matches!(s, Step::Mkdir { to, .. } if *to == sub));
                if to.starts_with(&format!("{sub}/")) && !known {
                    plan.steps.push(Step::Mkdir { to: sub, mode: None });
                }
            }
            let (source, object) = (n.source, object.to_owned());
            plan.steps.push(Step::Copy { source, object, to, size, range: None, mode: None, last });
        }
    };
    for n in image_donors(seen, base) {
        for i in n.meta.images.iter().chain(&n.meta.starmgr) {
            if matches!(i.state, ImageState::Bad { .. }) {
                if n.source == base.source {
                    copy(plan, n, &i.name, Place::Beside);
                }
                continue;
            }
            copy(plan, n, &i.name, Place::Image);
            if i.form == 2
                && let Some((path, _)) = i.name.rsplit_once('/')
            {
                let sum = format!("{path}/checksum.{}", i.journal_id);
                copy(plan, n, &sum, Place::Image);
            }
        }
    }
    let name = &decided.node.name;
    let role = base.meta.role.clone().unwrap_or_default();
    let is_follower = base.meta.fe_role() == FeRole::Follower && base.meta.node_name() == Some(name.as_str());
    if is_follower {
        copy(plan, base, &format!("{dir}/ROLE"), Place::Image);
    } else {
        let mut text = format!("role=FOLLOWER\nname={name}\n");
        if let Some(h) = role.get("hostType") {
            text.push_str(&format!("hostType={h}\n"));
        }
        let what = "ROLE".to_owned();
        let size = text.len() as u64;
        plan.steps.push(Step::Write(WriteStep {
            to: "image/ROLE".to_owned(),
            what,
            size,
            args: json!({"text": text}),
            mode: Some(0o644),
            last: false,
        }));
    }
    let holder = std::iter::once(base).chain(seen.nodes.iter()).find(|n| n.meta.version.is_some());
    if let Some(n) = holder {
        let dir = n.meta.image_dir.as_deref().unwrap_or_default();
        copy(plan, n, &format!("{dir}/VERSION"), Place::Last);
    }
}

/// The base, and where its images are damaged another node whose image joins the journal.
fn image_donors<'a>(seen: &'a Inspected, base: &'a Node) -> Vec<&'a Node> {
    let mut out = vec![base];
    if !base.image_joins()
        && let Some(other) = seen.nodes.iter().find(|n| n.source != base.source && joins(n, base))
    {
        out.push(other);
    }
    out
}

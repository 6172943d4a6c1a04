//! Findings about inodes, told with their paths once the tree is there.

use recovery_core::{CodeInfo, Finding, Severity};

use super::{Doubt, FileSystem};
use crate::codes::pfs as codes;
use crate::format::pfs::object::{Kind, OBJECT_LEN};

/// More findings about single inodes than this are counted only.
const MOST: usize = 10_000;

pub(super) struct Reporter {
    device: String,
    about: Vec<(CodeInfo, Severity, u64, String)>,
    more: u64,
}

impl Reporter {
    pub(super) fn new(device: &str) -> Self {
        Self { device: device.to_owned(), about: Vec::new(), more: 0 }
    }

    pub(super) fn inode(&mut self, code: &CodeInfo, severity: Severity, ino: u64, text: &str) {
        if self.about.len() < MOST {
            self.about.push((*code, severity, ino, text.to_owned()));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(super) fn finish(self, fs: &FileSystem) -> Vec<Finding> {
        let mut out: Vec<Finding> = Vec::new();
        for (code, severity, ino, text) in self.about {
            let path = fs.path(ino);
            let shown = String::from_utf8_lossy(&path);
            let mut finding =
                Finding::new(&code, severity, &self.device).summary(format!("inode {ino} ({shown}): {text}"));
            if let Some(at) = Kind::Inode.address(ino) {
                finding = finding.at(at, OBJECT_LEN as u64);
            }
            out.push(finding);
        }
        if self.more > 0 {
            let text = format!("{} more contradictions between objects", self.more);
            out.push(Finding::new(&codes::COUNTS, Severity::Damaged, &self.device).summary(text));
        }
        for (list, code, severity) in
            [(&fs.orphans, &codes::ORPHAN, Severity::Note), (&fs.unreachable, &codes::UNREACHABLE, Severity::Damaged)]
        {
            for node in list.iter().take(MOST).filter_map(|ino| fs.node(*ino)) {
                let what = if node.directory { "directory" } else { "file" };
                let text = format!("inode {}: {what} of {} bytes, {} blocks", node.ino, node.size, node.extents.len());
                let mut finding = Finding::new(code, severity, &self.device).summary(text);
                if let Some(at) = Kind::Inode.address(node.ino) {
                    finding = finding.at(at, OBJECT_LEN as u64);
                }
                out.push(finding);
            }
        }
        out.extend(lost(fs, &self.device));
        out
    }
}

/// One finding for each file whose metadata is partly gone.
fn lost(fs: &FileSystem, device: &str) -> Vec<Finding> {
    let mut out = Vec::new();
    for node in fs.nodes.values() {
        let serious = node.doubts.iter().filter(|d| matches!(d, Doubt::Inode | Doubt::Blocks | Doubt::Name));
        let words: Vec<&str> = serious.map(|d| d.as_str()).collect();
        if words.is_empty() || out.len() >= MOST {
            continue;
        }
        let path = fs.path(node.ino);
        let text = format!("{}: {}; shown from what is left", String::from_utf8_lossy(&path), words.join(", "));
        let mut finding = Finding::new(&codes::OBJECT_LOST, Severity::Lost, device).summary(text).effect(1, 0);
        if let Some(at) = Kind::Inode.address(node.ino) {
            finding = finding.at(at, OBJECT_LEN as u64);
        }
        out.push(finding);
    }
    out
}

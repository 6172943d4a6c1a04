//! How large the file system is and which version: from the header of chunk 0, else from what is left.

use recovery_core::{Finding, Severity};

use super::device::Device;
use crate::codes::pfs as codes;
use crate::format::pfs::{CHUNK, ChunkHeader, HEADER_LEN, HeaderFault, SECTOR};

/// More chunks than this (10 PiB) are not looked at when a header may lie.
const MOST_CHUNKS: u64 = 1 << 20;

/// Size and version of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// On-disk version.
    pub version: u64,
    /// Whether the version stands on the disk; it is taken to be 2 otherwise.
    pub version_known: bool,
    /// Chunks of the file system.
    pub chunks: u64,
    /// Chunks whose first byte is on the device.
    pub present: u64,
    /// Chunks whose header had to be regenerated.
    pub regenerated: Vec<u64>,
    /// Whether any header was whole.
    pub any_header: bool,
}

enum Found {
    Good(ChunkHeader),
    Corrected(ChunkHeader, usize),
    Bad(HeaderFault),
    Unread,
}

fn look(device: &Device, chunk: u64) -> Found {
    let piece = device.read(chunk.saturating_mul(CHUNK), HEADER_LEN);
    if !piece.missing.is_empty() {
        return Found::Unread;
    }
    let Some(bytes) = piece.bytes.first_chunk::<HEADER_LEN>() else { return Found::Unread };
    match ChunkHeader::decode(bytes, chunk) {
        Ok(header) => Found::Good(header),
        Err(fault) => match ChunkHeader::correct(bytes, chunk) {
            Some((header, bit)) => Found::Corrected(header, bit),
            None => Found::Bad(fault),
        },
    }
}

impl Geometry {
    /// Looks at the headers of all chunks on the device.
    pub(super) fn find(device: &Device, findings: &mut Vec<Finding>) -> Self {
        let on_device = device.len().div_ceil(CHUNK).clamp(1, MOST_CHUNKS);
        let mut this = Self {
            version: 2,
            version_known: false,
            chunks: 0,
            present: on_device,
            regenerated: Vec::new(),
            any_header: false,
        };
        let mut votes: Vec<(u64, u64)> = Vec::new();
        let mut bad = Vec::new();
        for chunk in 0..on_device {
            if this.chunks > 0 && chunk >= this.chunks {
                break;
            }
            let found = look(device, chunk);
            if let Found::Good(header) | Found::Corrected(header, _) = found {
                this.any_header = true;
                votes.push((chunk, u64::from(header.chunks)));
                if chunk == 0 {
                    (this.chunks, this.version, this.version_known) = (u64::from(header.chunks), header.version, true);
                }
            }
            if !matches!(found, Found::Good(_)) {
                bad.push((chunk, found));
            }
        }
        this.settle(device, &votes);
        this.report(device, &votes, bad, findings);
        this
    }

    /// Without chunk 0 the largest number that any other header names, else what fits on the device.
    fn settle(&mut self, device: &Device, votes: &[(u64, u64)]) {
        if self.chunks == 0 {
            let voted = votes.iter().map(|(_, n)| *n).max();
            self.chunks = voted.unwrap_or(device.len() / CHUNK).max(1);
        }
        self.present = self.present.min(self.chunks);
    }

    fn report(&mut self, device: &Device, votes: &[(u64, u64)], bad: Vec<(u64, Found)>, findings: &mut Vec<Finding>) {
        for (chunk, found) in bad {
            if chunk >= self.chunks {
                continue;
            }
            let at = chunk.saturating_mul(CHUNK);
            let why = match found {
                Found::Bad(fault) => fault.to_string(),
                Found::Corrected(_, bit) => format!("bit {bit} was wrong"),
                Found::Unread => "it could not be read".to_owned(),
                Found::Good(_) => continue,
            };
            self.regenerated.push(chunk);
            findings.push(
                Finding::new(&codes::HEADER, Severity::Damaged, device.name())
                    .at(at, SECTOR)
                    .summary(format!("header of chunk {chunk}: {why}; regenerated")),
            );
        }
        let differing: Vec<_> = votes.iter().filter(|(c, n)| *c != 0 && *n != self.chunks).collect();
        if let Some((chunk, n)) = differing.first() {
            findings.push(
                Finding::new(&codes::CHUNKS_DIFFER, Severity::Note, device.name())
                    .at(chunk.saturating_mul(CHUNK), SECTOR)
                    .summary(format!(
                        "chunk {chunk} names {n} chunks, chunk 0 {}; {} headers differ",
                        self.chunks,
                        differing.len()
                    )),
            );
        }
    }

    /// Bytes of the whole file system.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks.saturating_mul(CHUNK)
    }

    /// Takes note that an object of chunk `chunk` exists; used only while no header told the number of chunks.
    pub(super) fn raise(&mut self, chunk: u64) {
        if !self.any_header && chunk < MOST_CHUNKS {
            self.chunks = self.chunks.max(chunk.saturating_add(1));
        }
    }

    /// Says what the device is too short or too long for.
    pub(super) fn report_length(&self, device: &Device, findings: &mut Vec<Finding>) {
        let (have, need) = (device.len(), self.bytes());
        if have < need && self.any_header {
            let lost = need.saturating_sub(have);
            findings.push(Finding::new(&codes::SHORT_DEVICE, Severity::Suspect, device.name()).at(have, lost).summary(
                format!("the file system has {} chunks ({need} bytes), the device {have} bytes", self.chunks),
            ));
        } else if have > need {
            findings.push(
                Finding::new(&codes::WASTE, Severity::Note, device.name())
                    .at(need, have.saturating_sub(need))
                    .summary(format!("{} bytes behind the last chunk are not used", have.saturating_sub(need))),
            );
        }
    }
}

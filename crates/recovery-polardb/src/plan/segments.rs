//! Relation files cut to the length that another build expects.
//!
//! PolarDB is built with relation segments of 128 GiB (16,777,216 pages), the stock server with segments of 1 GiB
//! (131,072 pages). The number of a page in its relation, and so its checksum, does not depend on the length of the
//! segments: page `p` of segment `s` is page `s × length + p`. (Upstream `md.c`: `_mdfd_getseg`; `RELSEG_SIZE` of the
//! build stands in `pg_control` as `relseg_size`.)

use recovery_core::{Error, Reason, Result};

use crate::format::pg::BLOCK;
use crate::format::pg::relfile::RelFile;

/// Pages in a segment of the stock server.
pub(super) const STOCK: u32 = 131_072;

/// One file to be made of a relation file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its name, without the directory.
    pub(super) name: String,
    /// First byte in the file it is made of.
    pub(super) start: u64,
    /// Its bytes.
    pub(super) len: u64,
}

/// The files that a segment file of `size` bytes becomes, from segments of `from` pages to segments of `to` pages.
///
/// # Errors
///
/// A refusal when the one length is no multiple of the other and the file does not fit as it is.
pub(super) fn pieces(file: &RelFile, size: u64, from: u32, to: u32) -> Result<Vec<Piece>> {
    let whole = u64::from(to).saturating_mul(BLOCK as u64);
    let as_it_is = |file: &RelFile| vec![Piece { name: file.file_name(), start: 0, len: size }];
    if from == to || (file.segment == 0 && size <= whole) {
        return Ok(as_it_is(file));
    }
    let refuse = |why: String| Err(Error::refuse(Reason::Unsafe, format!("--vanilla: {}: {why}", file.file_name())));
    if to == 0 || from < to || !from.is_multiple_of(to) {
        return refuse(format!("segments of {from} pages cannot be cut into segments of {to}"));
    }
    let first = file.segment.checked_mul(from / to);
    let count = size.div_ceil(whole.max(1)).max(1);
    let last = first.and_then(|f| f.checked_add(u32::try_from(count.saturating_sub(1)).ok()?));
    let (Some(first), Some(last)) = (first, last) else {
        return refuse("more pages than a relation can have".to_owned());
    };
    let piece = |segment: u32| {
        let start = u64::from(segment.saturating_sub(first)).saturating_mul(whole);
        let name = RelFile { segment, ..*file }.file_name();
        Piece { name, start, len: size.saturating_sub(start).min(whole) }
    };
    Ok((first..=last).map(piece).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use crate::format::pg::relfile::Fork;

    fn names(list: &[Piece]) -> Vec<(&str, u64, u64)> {
        list.iter().map(|p| (p.name.as_str(), p.start, p.len)).collect()
    }

    #[test]
    fn a_long_segment_becomes_the_stock_servers_segments() {
        const SEG: u64 = 131_072 * 8192;
        let file = RelFile::parse("16384").unwrap();
        let cut = pieces(&file, 2 * SEG + 8192, 16_777_216, STOCK).unwrap();
        assert_eq!(names(&cut), [("16384", 0, SEG), ("16384.1", SEG, SEG), ("16384.2", 2 * SEG, 8192)]);
        let full = pieces(&file, 2 * SEG, 16_777_216, STOCK).unwrap();
        assert_eq!(names(&full), [("16384", 0, SEG), ("16384.1", SEG, SEG)]);
        assert_eq!(names(&pieces(&file, 0, 16_777_216, STOCK).unwrap()), [("16384", 0, 0)]);
        let second = RelFile { segment: 1, fork: Fork::Vm, ..file };
        let cut = pieces(&second, SEG + 1, 16_777_216, STOCK).unwrap();
        assert_eq!(names(&cut), [("16384_vm.128", 0, SEG), ("16384_vm.129", SEG, 1)]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let file = RelFile::parse("1").unwrap();
        assert!(pieces(&file, 8192, 1000, STOCK).is_ok());
        assert!(pieces(&RelFile { segment: 1, ..file }, 8192, 1000, STOCK).is_err());
        assert!(pieces(&RelFile { segment: u32::MAX, ..file }, 8192, 16_777_216, STOCK).is_err());
        assert!(pieces(&RelFile { segment: 1, ..file }, 8192, 0, STOCK).is_err());
    }
}

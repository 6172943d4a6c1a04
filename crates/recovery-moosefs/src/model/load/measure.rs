//! Finding the end of a section by reading its records.

use recovery_core::{Blob, Cursor};

use super::LoadError;
use super::feed::{Feed, Flow};
use super::outline::Section;
use crate::format::attr::{AclRecord, XattrRecord};
use crate::format::edge::EdgeRecord;
use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};
use crate::format::node::{NodeHead, NodeRecord};
use crate::format::sclass::ClassTable;
use crate::format::session::{SessionHead, SessionRecord};
use crate::format::small::{ChunkRecord, FreeRecord, PatternRecord, QuotaRecord, ServerRecord};
use crate::format::{DecodeError, Item};

/// Finds the end of a section by reading its records. The inner error is the place and reason where that fails.
pub(super) fn measure(blob: &dyn Blob, s: &Section, fver: u8) -> Result<Result<u64, (u64, String)>, LoadError> {
    let mut feed = Feed::new(blob, s.start, s.end);
    let outcome = walk(blob, &mut feed, s, fver);
    match outcome {
        Ok(Some(end)) => Ok(Ok(end)),
        Ok(None) => Ok(Ok(feed.offset())),
        Err(LoadError::Decode { error, .. }) => {
            let at = if matches!(error, DecodeError::Short(_)) { feed.offset() } else { error.at() };
            Ok(Err((at, error.to_string())))
        }
        Err(other) => Err(other),
    }
}

fn walk(blob: &dyn Blob, feed: &mut Feed<'_>, s: &Section, fver: u8) -> Result<Option<u64>, LoadError> {
    fn end<T>(item: &Item<T>) -> Flow {
        if matches!(item, Item::End) { Flow::End } else { Flow::Go }
    }
    let (v, flat) = (s.version, fver < 0x16);
    let list = |feed: &mut Feed<'_>, size: usize| {
        let n = feed.one("count", |c| Ok(c.u32_be("count")?))?;
        let mut left = n;
        if n == 0 {
            return Ok(());
        }
        feed.each("list", |c| {
            c.skip(size, "entry").map_err(DecodeError::from)?;
            left = left.saturating_sub(1);
            Ok(if left == 0 { Flow::End } else { Flow::Go })
        })
    };
    match &s.name {
        b"NODE" => {
            if !flat {
                feed.one("NODE", |c| NodeHead::decode(c, v, fver))?;
            }
            feed.each("NODE", |c| Ok(end(&NodeRecord::decode(c, v)?)))?;
        }
        b"EDGE" => {
            if !flat && v >= 0x11 {
                feed.one("EDGE", |c| Ok(c.u64_be("nextedgeid")?))?;
            }
            feed.each("EDGE", |c| Ok(end(&EdgeRecord::decode(c, v)?)))?;
        }
        b"FREE" => list(feed, FreeRecord::SIZE)?,
        b"QUOT" => list(feed, QuotaRecord::size(v))?,
        b"CSDB" => list(feed, ServerRecord::size(v))?,
        b"CHNK" => {
            feed.one("CHNK", |c| Ok(c.u64_be("nextchunkid")?))?;
            feed.each("CHNK", |c| Ok(end(&ChunkRecord::decode(c, v)?)))?;
        }
        b"XATR" => feed.each("XATR", |c| Ok(end(&XattrRecord::decode(c)?)))?,
        b"PACL" => feed.each("PACL", |c| Ok(end(&AclRecord::decode(c)?)))?,
        b"OPEN" => feed.each("OPEN", |c| Ok(end(&OpenRecord::decode(c)?)))?,
        b"FLCK" => feed.each("FLCK", |c| Ok(end(&FlockRecord::decode(c)?)))?,
        b"PLCK" => feed.each("PLCK", |c| Ok(end(&PlockRecord::decode(c)?)))?,
        b"PATT" => feed.each("PATT", |c| Ok(end(&PatternRecord::decode(c, v)?)))?,
        b"SESS" => {
            let head = feed.one("SESS", |c| SessionHead::decode(c, v))?;
            feed.each("SESS", |c| Ok(end(&SessionRecord::decode(c, &head)?)))?;
        }
        b"SCLA" | b"LABS" => {
            // at most 255 classes of at most 36 expressions of 64 KiB: bounded by what is there
            let last = s.end.min(blob.len()).min(s.start.saturating_add(16 << 20));
            let bytes = blob.bytes(s.start..last)?;
            let mut c = Cursor::new(&bytes, s.start);
            ClassTable::decode(&mut c, v)?;
            return Ok(Some(c.offset()));
        }
        _ => {}
    }
    Ok(None)
}

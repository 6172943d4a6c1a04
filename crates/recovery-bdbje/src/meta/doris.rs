//! Images of Doris: the old form between a header and an index of its modules.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `COR1` |
//! | text | JSON header: `{"imageVersion":"v1"}` |
//! | 4, 8, 8, 1 | meta version, journal id, highest id in use, a flag: the first module, `header` |
//! | | the other modules, in binary forms or texts |
//! | 8 | running sum of what the modules hold: only who decodes all of them can check it |
//! | 4 | number of modules; for each its name (text) and offset (i64) |
//! | 8 | length of the footer, from the sum on |
//! | 4 | `COR1` |
//!
//! Upstream: `persist/meta/MetaHeader`, `MetaFooter`, `MetaIndex`, `MetaWriter`. No real image confirmed it.

use recovery_core::{Blob, Cursor};

use super::blocks::{Block, Step};

/// Begin and end of an image.
pub const MAGIC: &[u8; 4] = b"COR1";
/// Largest footer.
const MAX_FOOTER: u64 = 1 << 20;
/// Sum and number of modules.
const MIN_FOOTER: u64 = 12;

/// The modules, and the place of the footer.
///
/// # Errors
///
/// Place and reason, when the footer is not whole or its offsets are not those of modules.
pub fn modules(blob: &dyn Blob, first: u64) -> Step<(Vec<Block>, u64)> {
    let len = blob.len();
    let tail = len.saturating_sub(12);
    let end = blob.bytes(tail..len).map_err(|e| (tail, e.to_string()))?;
    let mut c = Cursor::new(&end, tail);
    let size = c.i64_be("length of the footer").map_err(|e| (tail, e.to_string()))?;
    if c.rest() != MAGIC {
        return Err((tail, "the image does not end as it begins: it is cut, or its writing never ended".to_owned()));
    }
    let size = u64::try_from(size).ok().filter(|n| (MIN_FOOTER..=MAX_FOOTER).contains(n));
    let footer = size.and_then(|n| tail.checked_sub(n)).filter(|at| *at >= first);
    let footer = footer.ok_or_else(|| (tail, "the length of the footer is impossible".to_owned()))?;
    let bytes = blob.bytes(footer..tail).map_err(|e| (footer, e.to_string()))?;
    let mut found = index(&mut Cursor::new(&bytes, footer)).map_err(|e| (footer, format!("the footer: {e}")))?;
    let mut next = footer;
    for b in found.iter_mut().rev() {
        if b.offset < first || b.offset > next {
            return Err((footer, format!("module {} at {:#x}: out of order", b.name, b.offset)));
        }
        b.bytes = next.saturating_sub(b.offset);
        next = b.offset;
    }
    if next != first {
        return Err((footer, format!("the first module begins at {next:#x}, the header ends at {first:#x}")));
    }
    Ok((found, footer))
}

fn index(c: &mut Cursor<'_>) -> Result<Vec<Block>, recovery_core::Short> {
    c.skip(8, "sum")?;
    let n = c.u32_be("number of modules")?;
    let mut out = Vec::new();
    for _ in 0..n {
        let size = usize::try_from(c.u32_be("length of a name")?).unwrap_or(usize::MAX);
        let name = String::from_utf8_lossy(c.take(size, "name of a module")?).into_owned();
        let offset = c.u64_be("offset of a module")?;
        out.push(Block { offset, name, ..Block::default() });
    }
    Ok(out)
}

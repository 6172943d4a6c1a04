//! One line of a change log: nom parsers over bytes that copy nothing.

use nom::Parser;
use nom::bytes::complete::take_while;

use super::grammar::data::{append, chunk_version, chunkadd, length, repair, rollback, set_file_chunk, trunc, write};
use super::grammar::names::{
    addattr, amtime, archchg, attr, autoarch, create, link, quota, rename, set, setacl, setpath, setxattr, snapshot,
    symlink, trash_recover, unlink,
};
use super::grammar::sessions::{flock, posixlock, ses_add, ses_changed, session};
use super::grammar::tables::{
    csdbop, emptysustained, emptytrash, freeinodes, patdel, renumerate, sc_del, sc_ec, sc_two,
};
use super::op::{Attribute, Op, Span};
use super::scset::{pat_add, sc_set};
use super::token::{Expected, In, Out, close, eat, num32, num64, one32, one64, open, two32};

/// A line that does not follow the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} expected at byte {at} of the line")]
pub struct LineError {
    /// Offset within the line.
    pub at: usize,
    /// What should stand there.
    pub expected: &'static str,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The line without its newline.
    pub text: &'a [u8],
    /// Identifier.
    pub id: u64,
    /// Unix time.
    pub time: u32,
    /// What was done.
    pub op: Op,
}

/// The identifier at the start of a line, with the length of `<digits>: `.
#[must_use]
#[inline]
pub fn line_id(line: &[u8]) -> Option<(u64, usize)> {
    let (rest, id) = num64(line).ok()?;
    if !line.first()?.is_ascii_digit() || !rest.starts_with(b": ") {
        return None;
    }
    Some((id, line.len().saturating_sub(rest.len()).saturating_add(2)))
}

/// Parses a line without its newline.
///
/// ```
/// use recovery_moosefs::changelog::{Op, parse};
/// let change = parse(b"29: 1795299869|ACQUIRE(1,9)").unwrap();
/// assert_eq!((change.id, change.time), (29, 1795299869));
/// assert_eq!(change.op, Op::Acquire { first: 1, second: 9 });
/// assert_eq!(parse(b"29: 1795299869|ACQUIRE(1,9").unwrap_err().expected, "')'");
/// ```
///
/// # Errors
///
/// When the line does not follow the grammar. An operation of an unknown name is not an error but [`Op::Unknown`].
#[inline]
pub fn parse(text: &[u8]) -> Result<Change<'_>, LineError> {
    let Some((id, at)) = line_id(text) else { return Err(LineError { at: 0, expected: "'<id>: '" }) };
    let (time, op) = body(text, at)?;
    Ok(Change { text, id, time, op })
}

/// Parses what stands behind `<id>: `, which is `at` bytes long.
///
/// # Errors
///
/// As [`parse`].
#[inline]
pub fn body(text: &[u8], at: usize) -> Result<(u32, Op), LineError> {
    let rest = text.get(at..).unwrap_or_default();
    match stamped(rest) {
        Ok((_, found)) => Ok(found),
        Err(nom::Err::Error(e) | nom::Err::Failure(e)) => Err(locate(text, &e)),
        Err(nom::Err::Incomplete(_)) => Err(LineError { at: text.len(), expected: "more" }),
    }
}

#[cold]
fn locate(text: &[u8], e: &Expected<'_>) -> LineError {
    LineError { at: text.len().saturating_sub(e.rest.len()), expected: e.what }
}

#[inline]
fn stamped(i: In<'_>) -> Out<'_, (u32, Op)> {
    let (i, time) = num32(i)?;
    let (i, ()) = eat(b'|', "'|'")(i)?;
    let (rest, word) = take_while(|b: u8| b.is_ascii_uppercase() || b == b'_').parse(i)?;
    let (rest, op) = operation(i, word, rest)?;
    Ok((rest, (time, op)))
}

#[inline]
fn operation<'a>(i: In<'a>, word: In<'a>, args: In<'a>) -> Out<'a, Op> {
    match word {
        b"IDLE" => {
            let (i, ()) = open(args)?;
            let (i, ()) = close(i)?;
            Ok((i, Op::Idle))
        }
        b"ACCESS" => one32(args).map(|(i, inode)| (i, Op::Access { inode })),
        b"ATTR" => attr(args),
        b"CREATE" => create(args),
        b"WRITE" => write(args),
        b"LENGTH" => length(args),
        b"UNLOCK" => one64(args).map(|(i, id)| (i, Op::Unlock { id })),
        b"ACQUIRE" | b"AQUIRE" => two32(args).map(|(i, (first, second))| (i, Op::Acquire { first, second })),
        b"RELEASE" => two32(args).map(|(i, (first, second))| (i, Op::Release { first, second })),
        b"UNLINK" => unlink(args),
        b"MOVE" => rename(args),
        b"LINK" => link(args),
        b"AMTIME" => amtime(args),
        b"TRUNC" => trunc(args),
        b"SYMLINK" => symlink(args),
        b"SETXATTR" => setxattr(args),
        _ => rare(i, word, args),
    }
}

fn rare<'a>(i: In<'a>, word: In<'a>, args: In<'a>) -> Out<'a, Op> {
    match word {
        b"ADDATTR" => addattr(args),
        b"APPEND" => append(args),
        b"ARCHCHG" => archchg(args),
        b"AUTOARCH" => autoarch(args),
        b"CSDBOP" => csdbop(args),
        b"CSADD" => two32(args).map(|(i, (ip, port))| (i, Op::CsAdd { ip, port })),
        b"CSDEL" => two32(args).map(|(i, (ip, port))| (i, Op::CsDel { ip, port })),
        b"CHUNKADD" => chunkadd(args),
        b"CHUNKDEL" => chunk_version(args).map(|(i, (id, version))| (i, Op::ChunkDel { id, version })),
        b"SETVERSION" => chunk_version(args).map(|(i, (id, version))| (i, Op::SetVersion { id, version })),
        b"CHUNKFLAGSCLR" => one64(args).map(|(i, id)| (i, Op::ChunkFlagsClear { id })),
        b"INCVERSION" => one64(args).map(|(i, id)| (i, Op::IncVersion { id })),
        b"NEXTCHUNKID" => one64(args).map(|(i, id)| (i, Op::NextChunkId { id })),
        b"EMPTYTRASH" => emptytrash(args),
        b"EMPTYSUSTAINED" | b"EMPTYRESERVED" => emptysustained(args),
        b"FREEINODES" => freeinodes(args),
        b"FLOCK" => flock(args),
        b"POSIXLOCK" => posixlock(args),
        b"PATADD" => pat_add(args),
        b"PATDEL" => patdel(args),
        b"PURGE" => one32(args).map(|(i, inode)| (i, Op::Purge { inode })),
        b"TRASH_REMOVE" => one32(args).map(|(i, inode)| (i, Op::TrashRemove { inode })),
        b"TRASH_RECOVER" => trash_recover(args),
        b"UNDEL" => one32(args).map(|(i, inode)| (i, Op::Undel { inode })),
        b"QUOTA" => quota(args),
        b"REPAIR" => repair(args),
        b"RENUMERATEEDGES" | b"RENUMEDGES" => renumerate(args),
        b"ROLLBACK" => rollback(args),
        b"SETFILECHUNK" => set_file_chunk(args),
        b"SETMETAID" => one64(args).map(|(i, id)| (i, Op::SetMetaId { id })),
        b"SETPATH" => setpath(args),
        b"SETACL" => setacl(args),
        b"SETSCLASS" => set(args, Attribute::Class),
        b"SETGOAL" => set(args, Attribute::Goal),
        b"SETTRASHTIME" => set(args, Attribute::Retention),
        b"SETEATTR" => set(args, Attribute::Eattr),
        b"SNAPSHOT" => snapshot(args),
        b"SESSION" | b"CUSTOMER" => session(args),
        b"SESADD" => ses_add(args),
        b"SESCHANGED" => ses_changed(args),
        b"SESDEL" => one32(args).map(|(i, id)| (i, Op::SesDel { id })),
        b"SESCONNECTED" => one32(args).map(|(i, id)| (i, Op::SesConnected { id })),
        b"SESDISCONNECTED" => one32(args).map(|(i, id)| (i, Op::SesDisconnected { id })),
        b"SCSET" => sc_set(args),
        b"SCDUP" | b"SCREN" => sc_two(args, word == b"SCDUP"),
        b"SCDEL" => sc_del(args),
        b"SCECVERSION" => sc_ec(args),
        b"SCECON" | b"SCRAIDON" => {
            let (i, ()) = open(args)?;
            let (i, ()) = close(i)?;
            Ok((i, Op::ScEcVersion { version: 1 }))
        }
        _ => Ok((args, Op::Unknown { name: Span::new(i.len(), word.len()) })),
    }
}

//! One line of a change log: nom parsers over bytes that copy nothing.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while};

use super::op::{AclArgs, Attribute, LockKind, Op, QuotaArgs, RecoverArgs, SessionArgs, SnapshotArgs, Span};
use super::scset::{pat_add, sc_set};
use super::token::{
    Expected, In, Out, close, colon, comma, data, eat, fail, maybe, name, num8, num16, num32, num64, open, results,
    then,
};
use super::unescape;

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

fn one32(i: In<'_>) -> Out<'_, u32> {
    let (i, ()) = open(i)?;
    let (i, v) = num32(i)?;
    let (i, ()) = close(i)?;
    Ok((i, v))
}

fn one64(i: In<'_>) -> Out<'_, u64> {
    let (i, ()) = open(i)?;
    let (i, v) = num64(i)?;
    let (i, ()) = close(i)?;
    Ok((i, v))
}

fn two32(i: In<'_>) -> Out<'_, (u32, u32)> {
    let (i, ()) = open(i)?;
    let (i, a) = num32(i)?;
    let (i, b) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, (a, b)))
}

fn lock_kind(i: In<'_>) -> Out<'_, LockKind> {
    let Some((c, rest)) = i.split_first() else { return fail(i, "a lock letter") };
    let kind = match c {
        b'U' | b'u' => LockKind::Unlock,
        b'R' | b'r' | b'S' | b's' => LockKind::Read,
        b'W' | b'w' | b'E' | b'e' => LockKind::Write,
        _ => LockKind::Unknown,
    };
    Ok((rest, kind))
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

fn addattr(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, flags) = then(num8)(i)?;
    let (i, blob) = then(data(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::AddAttr { inode, flags, blob }))
}

fn append(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, source) = then(num32)(i)?;
    let (mut i, from) = maybe(num32)(i)?;
    let mut slice = None;
    if let Some(from) = from {
        let (rest, to) = then(num32)(i)?;
        (i, slice) = (rest, Some((from, to)));
    }
    let (i, ()) = close(i)?;
    Ok((i, Op::Append { inode, source, slice }))
}

fn archchg(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, cmd) = then(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, changed) = num64(i)?;
    let (i, unchanged) = then(num64)(i)?;
    let (i, denied) = then(num32)(i)?;
    Ok((i, Op::ArchChg { inode, uid, cmd, changed, unchanged, denied }))
}

fn autoarch(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, reftime) = then(num32)(i)?;
    let (i, in_trash) = maybe(num8)(i)?;
    let (i, ()) = results(i)?;
    let (mut i, arch) = num32(i)?;
    let mut trash = 0;
    if in_trash.is_some() {
        (i, trash) = then(num32)(i)?;
    }
    Ok((i, Op::AutoArch { inode, reftime, in_trash, arch, trash }))
}

fn attr(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, mode) = then(num32)(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, atime) = then(num32)(i)?;
    let (i, mtime) = then(num32)(i)?;
    let (i, first) = maybe(num32)(i)?;
    let (i, second) = maybe(num32)(i)?;
    let (i, ()) = close(i)?;
    let (winattr, aclmode) = match (first, second) {
        (Some(w), Some(a)) => (w, a),
        (Some(a), None) => (0, a),
        _ => (0, mode),
    };
    let (winattr, aclmode) = ((winattr & 0xFF) as u8, (aclmode & 0xFFFF) as u16);
    Ok((i, Op::Attr { inode, mode, uid, gid, atime, mtime, winattr, aclmode }))
}

fn create(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, parent) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, ()) = comma(i)?;
    let (i, kind) = match i.split_first() {
        Some((b, _)) if b.is_ascii_digit() => num8(i)?,
        Some((&b, rest)) => (rest, b),
        None => return fail(i, "a node type"),
    };
    let (mut i, mode) = then(num16)(i)?;
    let mut umask = 0;
    if kind < 16 {
        (i, umask) = then(num16)(i)?;
    }
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, rdev) = then(num32)(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Create { parent, name: n, kind, mode, umask, uid, gid, rdev, inode }))
}

fn csdbop(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, op) = num8(i)?;
    let (i, ip) = then(num32)(i)?;
    let (i, port) = then(num16)(i)?;
    let (i, arg) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::CsdbOp { op, ip, port, arg }))
}

fn chunkadd(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, id) = num64(i)?;
    let (i, version) = then(num32)(i)?;
    let (i, locked) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::ChunkAdd { id, version, locked }))
}

fn chunk_version(i: In<'_>) -> Out<'_, (u64, u32)> {
    let (i, ()) = open(i)?;
    let (i, id) = num64(i)?;
    let (i, version) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, (id, version)))
}

fn optional_number(i: In<'_>) -> Out<'_, Option<u32>> {
    if i.first() == Some(&b')') {
        return Ok((i, None));
    }
    num32(i).map(|(i, v)| (i, Some(v)))
}

fn emptytrash(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, bucket) = optional_number(i)?;
    let (i, ()) = results(i)?;
    let (i, freed) = num32(i)?;
    let (i, sustained) = then(num32)(i)?;
    let (i, third) = maybe(num32)(i)?;
    let (i, fourth) = maybe(num32)(i)?;
    let (flagged, check) = match (third, fourth) {
        (Some(f), Some(c)) => (Some(f), c),
        (third, _) => (None, third.unwrap_or(0)),
    };
    Ok((i, Op::EmptyTrash { bucket, freed, sustained, flagged, check }))
}

fn emptysustained(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, bucket) = optional_number(i)?;
    let (i, ()) = results(i)?;
    let (i, freed) = num32(i)?;
    let (i, check) = maybe(num32)(i)?;
    Ok((i, Op::EmptySustained { bucket, freed, check: check.unwrap_or(0) }))
}

fn freeinodes(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, delay) = optional_number(i)?;
    let (i, ()) = results(i)?;
    let (i, freed) = num32(i)?;
    let (i, sustained) = maybe(num32)(i)?;
    let (i, check) = maybe(num32)(i)?;
    Ok((i, Op::FreeInodes { delay, freed, sustained: sustained.unwrap_or(0), check: check.unwrap_or(0) }))
}

fn flock(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, session) = then(num32)(i)?;
    let (i, owner) = then(num64)(i)?;
    let (i, kind) = then(lock_kind)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Flock { inode, session, owner, kind }))
}

fn posixlock(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, session) = then(num32)(i)?;
    let (i, owner) = then(num64)(i)?;
    let (i, kind) = then(lock_kind)(i)?;
    let (i, start) = then(num64)(i)?;
    let (i, end) = then(num64)(i)?;
    let (i, pid) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::PosixLock { inode, session, owner, kind, start, end, pid }))
}

fn link(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, parent) = then(num32)(i)?;
    let (i, n) = then(name(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Link { inode, parent, name: n }))
}

fn length(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, length) = then(num64)(i)?;
    let (i, can) = maybe(num8)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Length { inode, length, can_mtime: can != Some(0) }))
}

fn rename(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, from) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, to) = then(num32)(i)?;
    let (i, ()) = comma(i)?;
    let plain = i.iter().find(|b| matches!(b, b',' | b'(' | b')')) != Some(&b',');
    let (i, new_name) = name(if plain { b')' } else { b',' })(i)?;
    let (i, mode) = maybe(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Move { from, name: n, to, new_name, mode: mode.unwrap_or(0), inode }))
}

fn patdel(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, glob) = name(b',')(i)?;
    let (i, euid) = then(num32)(i)?;
    let (i, egid) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::PatDel { glob, euid, egid }))
}

fn trash_recover(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, parent) = then(num32)(i)?;
    let (i, path) = then(data(b','))(i)?;
    let (i, umask) = then(num16)(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, copy_sgid) = then(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, ()) = open(i)?;
    let (i, used) = data(b')')(i)?;
    Ok((i, Op::TrashRecover(Box::new(RecoverArgs { inode, parent, path, umask, uid, gid, copy_sgid, used }))))
}

fn quota(i: In<'_>) -> Out<'_, Op> {
    let mut q = QuotaArgs::default();
    let (i, ()) = open(i)?;
    let (mut i, inode) = num32(i)?;
    q.inode = inode;
    let [soft, hard] = &mut q.inodes;
    for field in [&mut q.exceeded, &mut q.flags, &mut q.time, soft, hard] {
        (i, *field) = then(num32)(i)?;
    }
    for field in &mut q.limits {
        (i, *field) = then(num64)(i)?;
    }
    let (i, grace) = maybe(num32)(i)?;
    q.grace = grace;
    let (i, ()) = close(i)?;
    Ok((i, Op::Quota(Box::new(q))))
}

fn file_index(i: In<'_>) -> Out<'_, (u32, u32)> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, index) = then(num32)(i)?;
    Ok((i, (inode, index)))
}

fn repair(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, ()) = results(i)?;
    let (i, version) = num32(i)?;
    Ok((i, Op::Repair { inode, index, version }))
}

fn trunc(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, ()) = results(i)?;
    let (i, chunk) = num64(i)?;
    Ok((i, Op::Trunc { inode, index, chunk }))
}

fn write(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, op_flag) = maybe(num32)(i)?;
    let (i, can) = maybe(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, chunk) = num64(i)?;
    Ok((i, Op::Write { inode, index, op_flag: op_flag.unwrap_or(1), can_mtime: can != Some(0), chunk }))
}

fn set_file_chunk(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, chunk) = then(num64)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetFileChunk { inode, index, chunk }))
}

fn rollback(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, previous) = then(num64)(i)?;
    let (i, chunk) = then(num64)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Rollback { inode, index, previous, chunk }))
}

fn renumerate(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, ()) = results(i)?;
    let (i, next) = num64(i)?;
    Ok((i, Op::RenumerateEdges { next }))
}

fn session(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, ()) = results(i)?;
    let (i, id) = num32(i)?;
    Ok((i, Op::Session { id }))
}

fn setpath(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, path) = then(data(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetPath { inode, path }))
}

fn setxattr(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, value) = then(data(b','))(i)?;
    let (i, mode) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetXattr { inode, name: n, value, mode }))
}

fn setacl(i: In<'_>) -> Out<'_, Op> {
    let mut a = AclArgs::default();
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, mode) = then(num16)(i)?;
    let (i, change_ctime) = then(num8)(i)?;
    let (mut i, kind) = then(num8)(i)?;
    (a.inode, a.mode, a.change_ctime, a.kind) = (inode, mode, change_ctime, kind);
    for field in a.perms.iter_mut().chain(&mut a.named) {
        (i, *field) = then(num16)(i)?;
    }
    let (i, blob) = then(data(b')'))(i)?;
    a.blob = blob;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetAcl(Box::new(a))))
}

fn set(i: In<'_>, what: Attribute) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, uid) = then(num32)(i)?;
    let (mut i, source) = then(num32)(i)?;
    let mut value = source;
    if what == Attribute::Class {
        (i, value) = then(num32)(i)?;
    }
    let (i, mode) = then(num32)(i)?;
    let (i, ()) = results(i)?;
    let (i, changed) = num32(i)?;
    let (i, same) = then(num32)(i)?;
    let (i, denied) = then(num32)(i)?;
    Ok((i, Op::Set { what, inode, uid, source, value, mode, expect: [changed, same, denied] }))
}

fn symlink(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, parent) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, path) = then(data(b','))(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Symlink { parent, name: n, path, uid, gid, inode }))
}

fn unlink(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, parent) = num32(i)?;
    let (i, n) = then(name(b')'))(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Unlink { parent, name: n, inode }))
}

fn amtime(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, atime) = then(num32)(i)?;
    let (i, mtime) = then(num32)(i)?;
    let (i, ctime) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::AmTime { inode, atime, mtime, ctime }))
}

fn sc_two(i: In<'_>, duplicate: bool) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, n) = name(b',')(i)?;
    let (i, new_name) = then(name(b')'))(i)?;
    let (i, ()) = results(i)?;
    let (i, first) = num16(i)?;
    if !duplicate {
        return Ok((i, Op::ScRen { name: n, new_name, id: first }));
    }
    let (i, id) = then(num16)(i)?;
    Ok((i, Op::ScDup { name: n, new_name, source: first, id }))
}

fn sc_del(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, n) = name(b')')(i)?;
    let (i, ()) = results(i)?;
    let (i, id) = num16(i)?;
    Ok((i, Op::ScDel { name: n, id }))
}

fn sc_ec(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, version) = num8(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::ScEcVersion { version }))
}

/// The groups: `[g1,g2]`, a count and raw words, or one group.
fn gids(i: In<'_>) -> Out<'_, Vec<u32>> {
    if let Some((b'[', mut i)) = i.split_first() {
        let mut list = Vec::new();
        loop {
            match i.split_first() {
                Some((b']', rest)) => return Ok((rest, list)),
                Some((b',', rest)) => i = rest,
                Some((b, _)) if b.is_ascii_digit() => {
                    let (rest, g) = num32(i)?;
                    list.push(g);
                    i = rest;
                }
                _ => return fail(i, "a number, ',' or ']'"),
            }
        }
    }
    let (i, n) = num32(i)?;
    let rest = i.get(1..).unwrap_or_default();
    let raw = rest.iter().take_while(|&&b| b != b')').any(|b| !b.is_ascii_digit());
    if !raw {
        return Ok((i, vec![n]));
    }
    let (after, blob) = then(data(b','))(i)?;
    let mut bytes = Vec::new();
    unescape(blob.of(i), &mut bytes);
    if bytes.len() as u64 != u64::from(n).saturating_mul(4) {
        return fail(i, "four bytes a group");
    }
    let list = bytes.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
    Ok((after, list))
}

fn snapshot(i: In<'_>) -> Out<'_, Op> {
    let mut s = SnapshotArgs::default();
    let (i, ()) = open(i)?;
    let (i, source) = num32(i)?;
    let (i, parent) = then(num32)(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, mode) = then(num32)(i)?;
    (s.source, s.parent, s.name, s.mode) = (source, parent, n, mode);
    if i.first() == Some(&b')') {
        s.old = true;
        let (i, ()) = close(i)?;
        return Ok((i, Op::Snapshot(Box::new(s))));
    }
    let (i, flags) = then(num32)(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, list) = then(gids)(i)?;
    let (i, umask) = then(num32)(i)?;
    let (mut i, ()) = close(i)?;
    (s.flags, s.uid, s.gids, s.umask) = (flags, uid, list, umask);
    if i.first() == Some(&b':') {
        let mut e = [0u32; 6];
        i = colon(i)?.0;
        for (k, v) in e.iter_mut().enumerate() {
            if k > 0 {
                i = comma(i)?.0;
            }
            (i, *v) = num32(i)?;
        }
        s.expect = Some(e);
    }
    Ok((i, Op::Snapshot(Box::new(s))))
}

/// An umask is written with four digits and a leading zero; an uid never starts with a zero and goes on.
fn umask(i: In<'_>) -> Out<'_, u16> {
    let octal = |b: &u8| matches!(b, b'0'..=b'7');
    if let [b'0', a, b, c, b',', ..] = i
        && octal(a)
        && octal(b)
        && octal(c)
    {
        let v = u16::from(a & 7) << 6 | u16::from(b & 7) << 3 | u16::from(c & 7);
        return Ok((i.get(5..).unwrap_or_default(), v));
    }
    Ok((i, 0))
}

fn hex32(i: In<'_>) -> Out<'_, Option<u32>> {
    let prefix: Out<'_, &[u8]> = alt((tag(&b"0x"[..]), tag(&b"0X"[..]))).parse(i);
    let Ok((i, _)) = prefix else { return Ok((i, None)) };
    let (rest, digits) = take_while(|b: u8| b.is_ascii_hexdigit()).parse(i)?;
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u32::from_str_radix(text, 16).map_or_else(|_| fail(i, "a hexadecimal number"), |v| Ok((rest, Some(v))))
}

fn session_args(i: In<'_>) -> Out<'_, SessionArgs> {
    let mut s = SessionArgs::default();
    let mut i = i;
    if let Some((b'#', rest)) = i.split_first() {
        let (rest, v) = num64(rest)?;
        (i, s.exports) = (comma(rest)?.0, v);
    }
    (i, s.root) = num32(i)?;
    (i, s.flags) = then(num32)(i)?;
    (i, s.umask) = then(umask)(i)?;
    let mut first = true;
    for v in &mut s.ids {
        if !first {
            i = comma(i)?.0;
        }
        first = false;
        (i, *v) = num32(i)?;
    }
    let (rest, groups) = then(hex32)(i)?;
    i = rest;
    match groups {
        Some(g) => match u16::try_from(g) {
            Ok(g) => s.groups = Some(g),
            Err(_) => return fail(i, "class groups up to 0xFFFF"),
        },
        None => {
            let (rest, min) = num32(i)?;
            let (rest, max) = then(num32)(rest)?;
            (i, s.goals) = (rest, [min, max]);
        }
    }
    let (rest, min) = then(num32)(i)?;
    let (rest, max) = then(num32)(rest)?;
    s.trash = [min, max];
    let (rest, disables) = then(hex32)(rest)?;
    i = rest;
    if let Some(d) = disables {
        s.disables = d;
        i = comma(i)?.0;
    }
    (i, s.ip) = num32(i)?;
    (i, s.info) = then(data(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, s))
}

fn ses_add(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, mut s) = session_args(i)?;
    let (i, ()) = colon(i)?;
    let (i, id) = num32(i)?;
    s.id = id;
    Ok((i, Op::SesAdd(Box::new(s))))
}

fn ses_changed(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, id) = num32(i)?;
    let (i, mut s) = then(session_args)(i)?;
    s.id = id;
    Ok((i, Op::SesChanged(Box::new(s))))
}

//! Sessions and locks.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while};

use crate::changelog::op::{LockKind, Op, SessionArgs};
use crate::changelog::token::{In, Out, close, colon, comma, data, fail, num32, num64, open, results, then};

pub(crate) fn lock_kind(i: In<'_>) -> Out<'_, LockKind> {
    let Some((c, rest)) = i.split_first() else { return fail(i, "a lock letter") };
    let kind = match c {
        b'U' | b'u' => LockKind::Unlock,
        b'R' | b'r' | b'S' | b's' => LockKind::Read,
        b'W' | b'w' | b'E' | b'e' => LockKind::Write,
        _ => LockKind::Unknown,
    };
    Ok((rest, kind))
}

pub(crate) fn flock(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, session) = then(num32)(i)?;
    let (i, owner) = then(num64)(i)?;
    let (i, kind) = then(lock_kind)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Flock { inode, session, owner, kind }))
}

pub(crate) fn posixlock(i: In<'_>) -> Out<'_, Op> {
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

pub(crate) fn session(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, ()) = results(i)?;
    let (i, id) = num32(i)?;
    Ok((i, Op::Session { id }))
}

/// An umask is written with four digits and a leading zero; an uid never starts with a zero and goes on.
pub(crate) fn umask(i: In<'_>) -> Out<'_, u16> {
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

pub(crate) fn hex32(i: In<'_>) -> Out<'_, Option<u32>> {
    let prefix: Out<'_, &[u8]> = alt((tag(&b"0x"[..]), tag(&b"0X"[..]))).parse(i);
    let Ok((i, _)) = prefix else { return Ok((i, None)) };
    let (rest, digits) = take_while(|b: u8| b.is_ascii_hexdigit()).parse(i)?;
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u32::from_str_radix(text, 16).map_or_else(|_| fail(i, "a hexadecimal number"), |v| Ok((rest, Some(v))))
}

pub(crate) fn session_args(i: In<'_>) -> Out<'_, SessionArgs> {
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

pub(crate) fn ses_add(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, mut s) = session_args(i)?;
    let (i, ()) = colon(i)?;
    let (i, id) = num32(i)?;
    s.id = id;
    Ok((i, Op::SesAdd(Box::new(s))))
}

pub(crate) fn ses_changed(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, id) = num32(i)?;
    let (i, mut s) = then(session_args)(i)?;
    s.id = id;
    Ok((i, Op::SesChanged(Box::new(s))))
}

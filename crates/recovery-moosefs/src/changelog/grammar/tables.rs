//! Tables of the whole filesystem: chunk servers, trash, inodes, classes, patterns.

use crate::changelog::op::Op;
use crate::changelog::token::{In, Out, close, maybe, name, num8, num16, num32, num64, open, results, then};

pub(crate) fn csdbop(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, op) = num8(i)?;
    let (i, ip) = then(num32)(i)?;
    let (i, port) = then(num16)(i)?;
    let (i, arg) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::CsdbOp { op, ip, port, arg }))
}

pub(crate) fn optional_number(i: In<'_>) -> Out<'_, Option<u32>> {
    if i.first() == Some(&b')') {
        return Ok((i, None));
    }
    num32(i).map(|(i, v)| (i, Some(v)))
}

pub(crate) fn emptytrash(i: In<'_>) -> Out<'_, Op> {
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

pub(crate) fn emptysustained(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, bucket) = optional_number(i)?;
    let (i, ()) = results(i)?;
    let (i, freed) = num32(i)?;
    let (i, check) = maybe(num32)(i)?;
    Ok((i, Op::EmptySustained { bucket, freed, check: check.unwrap_or(0) }))
}

pub(crate) fn freeinodes(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, delay) = optional_number(i)?;
    let (i, ()) = results(i)?;
    let (i, freed) = num32(i)?;
    let (i, sustained) = maybe(num32)(i)?;
    let (i, check) = maybe(num32)(i)?;
    Ok((i, Op::FreeInodes { delay, freed, sustained: sustained.unwrap_or(0), check: check.unwrap_or(0) }))
}

pub(crate) fn patdel(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, glob) = name(b',')(i)?;
    let (i, euid) = then(num32)(i)?;
    let (i, egid) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::PatDel { glob, euid, egid }))
}

pub(crate) fn renumerate(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, ()) = results(i)?;
    let (i, next) = num64(i)?;
    Ok((i, Op::RenumerateEdges { next }))
}

pub(crate) fn sc_two(i: In<'_>, duplicate: bool) -> Out<'_, Op> {
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

pub(crate) fn sc_del(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, n) = name(b')')(i)?;
    let (i, ()) = results(i)?;
    let (i, id) = num16(i)?;
    Ok((i, Op::ScDel { name: n, id }))
}

pub(crate) fn sc_ec(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, version) = num8(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::ScEcVersion { version }))
}

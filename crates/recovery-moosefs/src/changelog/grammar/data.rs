//! Data of files and their chunks.

use crate::changelog::op::Op;
use crate::changelog::token::{In, Out, close, maybe, num8, num32, num64, open, results, then};

pub(crate) fn append(i: In<'_>) -> Out<'_, Op> {
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

pub(crate) fn length(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, length) = then(num64)(i)?;
    let (i, can) = maybe(num8)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Length { inode, length, can_mtime: can != Some(0) }))
}

pub(crate) fn file_index(i: In<'_>) -> Out<'_, (u32, u32)> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, index) = then(num32)(i)?;
    Ok((i, (inode, index)))
}

pub(crate) fn repair(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, ()) = results(i)?;
    let (i, version) = num32(i)?;
    Ok((i, Op::Repair { inode, index, version }))
}

pub(crate) fn trunc(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, ()) = results(i)?;
    let (i, chunk) = num64(i)?;
    Ok((i, Op::Trunc { inode, index, chunk }))
}

pub(crate) fn write(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, op_flag) = maybe(num32)(i)?;
    let (i, can) = maybe(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, chunk) = num64(i)?;
    Ok((i, Op::Write { inode, index, op_flag: op_flag.unwrap_or(1), can_mtime: can != Some(0), chunk }))
}

pub(crate) fn set_file_chunk(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, chunk) = then(num64)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetFileChunk { inode, index, chunk }))
}

pub(crate) fn rollback(i: In<'_>) -> Out<'_, Op> {
    let (i, (inode, index)) = file_index(i)?;
    let (i, previous) = then(num64)(i)?;
    let (i, chunk) = then(num64)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Rollback { inode, index, previous, chunk }))
}

pub(crate) fn chunkadd(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, id) = num64(i)?;
    let (i, version) = then(num32)(i)?;
    let (i, locked) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::ChunkAdd { id, version, locked }))
}

pub(crate) fn chunk_version(i: In<'_>) -> Out<'_, (u64, u32)> {
    let (i, ()) = open(i)?;
    let (i, id) = num64(i)?;
    let (i, version) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, (id, version)))
}

//! Little-endian fields of a structure whose length the type already guarantees.

/// The bytes at `at`; zeros past the end, which no caller asks for.
fn field<const W: usize>(bytes: &[u8], at: usize) -> [u8; W] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<W>()).copied().unwrap_or([0; W])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(super) fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(field(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Writes `value` at `at`; does nothing when it does not fit.
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

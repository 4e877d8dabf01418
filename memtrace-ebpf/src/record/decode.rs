//! Records as they come out of the ring buffer, decoded.

use alloc::boxed::Box;

use bytemuck::{Pod, bytes_of, from_bytes, try_pod_read_unaligned};

use super::{Header, Kind, Record};

impl Record {
    /// Whether the bytes are a fault's record: without a look at the rest.
    pub fn is_fault(bytes: &[u8]) -> bool {
        let kind = split::<Header>(bytes).and_then(|(header, _)| Kind::from_number(header.kind));
        matches!(kind, Some(Kind::Fault | Kind::Handled))
    }
}

/// The structure at the beginning of `bytes`, and what follows it.
pub(super) fn split<T: Pod>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    Some((try_pod_read_unaligned(head).ok()?, rest))
}

/// As many bytes after a structure as it says.
pub(super) fn following<T>((of, rest): (T, &[u8]), len: fn(&T) -> usize) -> Option<Box<[u8]>> {
    Some(rest.get(..len(&of))?.into())
}

/// What every record begins with.
pub(super) fn header<T: Pod>(record: &T) -> &Header {
    from_bytes(&bytes_of(record)[..size_of::<Header>()])
}

//! What records are made of.

use crate::trace::event::Name;
use std::collections::BTreeMap;

use bytemuck::{Pod, bytes_of};
use memtrace_ebpf::{
    fault::{error_code, vm},
    record::{FAULT_MINOR, Fault, FaultDetail, Header, Tally, VMA_HAS_OPS, Vma},
};

use memtrace_ebpf::record::Record;

/// The zero page's frame.
pub const ZERO: u64 = 0x77;
/// Error codes of user mode.
pub const READ: u8 = error_code::USER;
pub const WRITE: u8 = error_code::USER | error_code::WRITE;

/// An entry that maps a frame, read-only.
pub const fn ro(pfn: u64) -> u64 {
    pfn << 12 | 1
}

/// An entry that maps a frame, writable and written.
pub const fn rw(pfn: u64) -> u64 {
    pfn << 12 | 0x43
}

/// A record as it comes out of the ring buffer.
pub fn wire<T: Pod>(record: &T, rest: &[u8]) -> Record {
    let bytes = [bytes_of(record), rest].concat();
    Record::decode(&bytes).expect("a record of the hooks' own making")
}

/// A fault that the kernel counted as minor.
pub fn minor(error: u8, address: u64, before: u64, after: u64) -> Fault {
    Fault {
        head: Header {
            flags: FAULT_MINOR,
            detail: FaultDetail {
                error,
                ..FaultDetail::default()
            }
            .into(),
            ..Header::default()
        },
        address,
        ip: 0x40_1000,
        before,
        after,
        ..Fault::default()
    }
}

/// A fault of which the header tells something else, too.
pub fn detailed(mut fault: Fault, change: impl FnOnce(&mut FaultDetail)) -> Fault {
    let mut detail = fault.detail();
    change(&mut detail);
    fault.head.detail = detail.into();
    fault
}

/// The same with other flags.
pub fn flagged(fault: Fault, flags: u8) -> Fault {
    let head = Header {
        flags,
        ..fault.head
    };
    Fault { head, ..fault }
}

/// Private anonymous memory.
pub fn anonymous(start: u64, end: u64) -> Vma {
    Vma {
        start,
        end,
        flags: vm::READ | vm::WRITE,
        ..Vma::default()
    }
}

/// A mapped file; `flags` are `VM_*`.
pub fn file(start: u64, end: u64, flags: u64, file: u64, pgoff: u64) -> Vma {
    Vma {
        head: Header {
            flags: VMA_HAS_OPS,
            ..Header::default()
        },
        start,
        end,
        flags,
        pgoff,
        file,
        path: file,
        ..Vma::default()
    }
}

/// Faults of each kind, as an account has them.
pub fn tallied(pairs: &[(&'static str, u64)]) -> BTreeMap<Name, u64> {
    pairs
        .iter()
        .map(|&(name, count)| (name.into(), count))
        .collect()
}

/// Only the kernel's counters.
pub fn counters(min_flt: u64, maj_flt: u64) -> Tally {
    Tally {
        min_flt,
        maj_flt,
        ..Tally::default()
    }
}

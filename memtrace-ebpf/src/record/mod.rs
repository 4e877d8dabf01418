//! The records that the hooks write into the ring buffer.
//!
//! Each begins with a [`Header`]. Times are nanoseconds of `CLOCK_MONOTONIC`. Task ids are those of the initial pid
//! namespace. A kernel pointer is only ever an identity: user space turns it into a small number.

use bytemuck::{Pod, Zeroable};
use strum::{IntoStaticStr, VariantArray};

#[cfg(not(target_arch = "bpf"))]
mod decode;
mod experiment;
mod memory;
mod task;

#[cfg(not(target_arch = "bpf"))]
pub use decode::Record;
pub use experiment::*;
pub use memory::*;
pub use task::*;

/// The version of the records' layout: raised with each change of it.
pub const ABI: u32 = 1;

/// What a record is. The hooks count the lost ones by it. The numbers begin at 1, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// A [`Fault`].
    Fault = 1,
    /// A [`Vma`].
    Vma = 2,
    /// A [`Path`].
    Path = 3,
    /// A [`Birth`].
    #[strum(serialize = "clone")]
    Birth = 4,
    /// An [`Exec`].
    Exec = 5,
    /// An [`Exit`].
    Exit = 6,
    /// A [`Gone`].
    Gone = 7,
    /// A [`Call`].
    Call = 8,
    /// An [`Unobserved`].
    Unobserved = 9,
    /// A [`Rename`].
    Rename = 10,
    /// A [`FaultPending`].
    #[strum(serialize = "held")]
    FaultPending = 11,
    /// A [`Pages`].
    Pages = 12,
    /// A [`Returned`].
    #[strum(serialize = "cloned")]
    Returned = 13,
    /// An [`Objects`].
    Objects = 14,
    /// An [`ExistingTask`].
    #[strum(serialize = "task")]
    ExistingTask = 15,
    /// A [`Surveyed`].
    #[strum(serialize = "survey")]
    Surveyed = 16,
    /// A [`BirthDetail`].
    #[strum(serialize = "born")]
    BirthDetail = 17,
    /// A [`SwitchIn`].
    #[strum(serialize = "runs")]
    SwitchIn = 18,
    /// A [`SwitchOut`].
    #[strum(serialize = "rests")]
    SwitchOut = 19,
    /// A [`Handled`].
    #[strum(serialize = "fault")]
    Handled = 20,
    /// A [`Failed`].
    Failed = 21,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Slots in the table of lost records: a slot for a task that could not be followed, then one per kind.
    pub const SLOTS: u32 = Self::ALL.len() as u32 + 1;

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its name in the output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// In [`Header::flags`] of what a call did or made ([`Call`], [`Failed`], [`Birth`], [`Exec`]): it was a 32-bit call.
pub const COMPAT_CALL: u8 = 1 << 7;

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    /// Time of what is recorded.
    pub ts: u64,
    /// The thread that it happened to.
    pub tid: u32,
    /// The id of its call stack; 0 for none.
    pub stack: u32,
    /// The CPU that the record was made on.
    pub cpu: u16,
    /// A [`Kind`].
    pub kind: u8,
    /// Reserved to the record's own flags.
    pub flags: u8,
    /// Reserved to the record.
    pub detail: Detail,
}

/// The bytes of a header that mean something else per kind of record: [`FaultDetail`] of faults, [`VmaReason`] of [`Vma`] and
/// [`Pages`], nothing of others.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Detail([u8; 4]);

impl Detail {
    /// Of a [`Vma`] or of [`Pages`]: the number of a [`VmaReason`].
    #[inline(always)]
    pub const fn reason(number: u8) -> Self {
        Self([number, 0, 0, 0])
    }

    /// Whether it was recorded for this reason.
    #[inline(always)]
    pub const fn is(self, reason: VmaReason) -> bool {
        self.0[0] == reason as u8
    }
}

impl From<FaultDetail> for Detail {
    #[inline(always)]
    fn from(fault: FaultDetail) -> Self {
        Self(bytemuck::cast(fault))
    }
}

const _: () = assert!(size_of::<Header>() == 24 && size_of::<Fault>() == 64);

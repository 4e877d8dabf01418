//! The records that the hooks write into the ring buffer.
//!
//! Each begins with a [`Header`]. Times are nanoseconds of `CLOCK_MONOTONIC`. Task ids are those of the initial pid
//! namespace. A kernel pointer is only ever an identity: user space turns it into a small number.

#[cfg(not(target_arch = "bpf"))]
use alloc::boxed::Box;

use bytemuck::{Pod, Zeroable};

#[cfg(not(target_arch = "bpf"))]
mod decode;
mod experiment;
mod memory;
mod task;

pub use experiment::*;
pub use memory::*;
pub use task::*;

/// The version of the records' layout: raised with each change of it.
pub const ABI: u32 = 2;

/// Makes [`Kind`] and [`Record`] of the list of all records: of each its structure, its number, its name in the output, how user
/// space keeps it, and how many bytes follow it, if any do.
macro_rules! records {
    ($($kind:ident = $number:literal $name:literal: $kept:ty $(, $bytes:ty => $following:expr)?;)+) => {
        /// What a record is: the name of its structure. The hooks count the lost ones by it. The numbers begin at 1, without a gap.
        #[allow(missing_docs, reason = "each is told by its structure")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($kind = $number,)+
        }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Its name in the output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// Bytes of its structure.
            pub const fn size(self) -> usize {
                match self {
                    $(Self::$kind => size_of::<$kind>(),)+
                }
            }
        }

        /// A record of the hooks: its structure, and what follows it. The rare large ones are boxed, as most are faults.
        #[cfg(not(target_arch = "bpf"))]
        #[allow(missing_docs, reason = "each is told by its structure")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($kind($kept $(, $bytes)?),)+
        }

        #[cfg(not(target_arch = "bpf"))]
        impl Record {
            /// Decodes one record; `None` when the bytes are none.
            pub fn decode(bytes: &[u8]) -> Option<Self> {
                let header: Header = decode::split(bytes)?.0;
                Some(match Kind::from_number(header.kind)? {
                    $(Kind::$kind => {
                        let record = decode::split::<$kind>(bytes)?;
                        Self::$kind(record.0.into() $(, decode::following(record, $following)?)?)
                    })+
                })
            }

            /// What it begins with.
            pub fn header(&self) -> &Header {
                match self {
                    $(Self::$kind(record, ..) => decode::header::<$kind>(record),)+
                }
            }
        }
    };
}

records! {
    Fault = 1 "fault": Fault;
    Vma = 2 "vma": Box<Vma>;
    Path = 3 "path": Path, Box<[u8]> => |path| path.len as usize;
    Birth = 4 "clone": Box<Birth>;
    Exec = 5 "exec": Box<Exec>, Box<[u8]> => |exec| exec.name_len as usize + exec.args_len as usize;
    Exit = 6 "exit": Exit;
    Gone = 7 "gone": Box<Gone>;
    Call = 8 "call": Box<Call>;
    Unobserved = 9 "unobserved": Unobserved;
    Rename = 10 "rename": Rename;
    FaultPending = 11 "held": FaultPending;
    Pages = 12 "pages": Box<Pages>;
    Returned = 13 "cloned": Returned;
    Objects = 14 "objects": Box<Objects>;
    ExistingTask = 15 "task": Box<ExistingTask>;
    Surveyed = 16 "survey": Box<Surveyed>;
    BirthDetail = 17 "born": Box<BirthDetail>;
    SwitchIn = 18 "runs": Box<SwitchIn>;
    SwitchOut = 19 "rests": SwitchOut;
    Handled = 20 "fault": Handled;
    Failed = 21 "failed": Box<Failed>, Box<[u8]> => |failed| failed.name_len as usize;
}

impl Kind {
    /// Slots in the table of lost records: a slot for a task that could not be followed, then one per kind.
    pub const SLOTS: u32 = Self::ALL.len() as u32 + 1;

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
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

//! The kinds of page faults: the one list of them, for the hooks, too.

use strum::{IntoStaticStr, VariantArray};

use crate::array;

/// What the kernel did about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[cfg_attr(
    feature = "std",
    derive(schemars::JsonSchema, serde::Deserialize, serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[strum(serialize_all = "kebab-case")]
#[repr(u8)]
pub enum FaultKind {
    /// A read of untouched anonymous memory mapped the shared zero page.
    ZeroRead = 0,
    /// Untouched anonymous memory got a fresh zeroed frame.
    ZeroFill = 1,
    /// A write to a present, write-protected private page got another frame, with the old contents.
    CowCopy = 2,
    /// The same frame was made writable, nothing was copied.
    CowReuse = 3,
    /// A write over the zero page got a fresh zeroed frame.
    CowZero = 4,
    /// A page that was in the page cache was mapped.
    FileMap = 5,
    /// A page had to be read from the file first.
    FileRead = 6,
    /// The first write to a private file page that was not mapped.
    FileCow = 7,
    /// A page of a shared file or of shared memory became writable.
    SharedWrite = 8,
    /// A fresh page of shared memory.
    ShmFill = 9,
    /// A page came back from swap.
    SwapIn = 10,
    /// It ended in SIGSEGV or SIGBUS.
    Invalid = 11,
    /// Nothing changed.
    Spurious = 12,
    /// None of these; what is known is shown.
    Other = 13,
    /// A page was missing, and a handler of userfaultfd supplied it.
    UffdFill = 14,
    /// A page that the kernel had made inaccessible, to see who uses it (NUMA balancing), was made accessible again.
    NumaHint = 15,
    /// A page of the kernel's own (vdso, vvar) or of a device was mapped.
    SpecialMap = 16,
    /// A page that userfaultfd had write-protected became writable again.
    UffdWp = 17,
}

impl FaultKind {
    /// How many there are.
    pub const COUNT: usize = Self::VARIANTS.len();

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = *array(Self::VARIANTS);

    /// Its name in the output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

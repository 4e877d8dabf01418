//! What the subjects share: memory to touch, children to make, and a report to the test.

pub mod act;
pub mod arch;
pub mod call;
pub mod chance;
pub mod clone;
pub mod compare;
pub mod cow_memory;
pub mod death;
pub mod fifo;
pub mod files;
pub mod hugetlb;
pub mod image;
pub mod kcmp;
pub mod memory;
pub mod pagemap;
pub mod pin;
pub mod process;
pub mod report;
pub mod uffd;
pub mod wanted;
pub mod witness;

/// Arguments of many sorts, with which `lives exec` runs a program.
pub const ARGUMENTS: [&str; 8] = [
    "lives",
    "return",
    "5",
    "two words",
    "",
    "new\nline",
    "\u{1b}[31mred",
    "ü",
];

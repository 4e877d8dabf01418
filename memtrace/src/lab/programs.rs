//! The programs of the lab: their sources are beside this file, memtrace carries them as executables.

/// A program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name: that of its source without the `.c`.
    pub name: &'static str,
    /// What it is made of.
    pub source: &'static str,
    /// The ELF file.
    pub executable: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// The program with this name.
pub fn find(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

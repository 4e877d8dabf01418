//! What an ELF file says of itself: a source that owes nothing to the kernel.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, SectionFlags,
    SectionKind, elf,
};

/// An ELF file. Addresses are those in the file: a position-independent program is loaded at some base above them.
#[derive(Clone, Debug, Default)]
pub struct Elf {
    /// Its sections.
    pub sections: Vec<Section>,
    /// The parts of it that are loaded.
    pub segments: Vec<Segment>,
    /// The addresses of its symbols.
    pub symbols: BTreeMap<String, u64>,
}

/// A section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// `.text` and so on.
    pub name: String,
    /// Where it is; 0 for one that isn't loaded.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// In which column size(1) counts it; nothing for one that isn't loaded.
    pub counted: Option<Counted>,
    /// It only says how large a part of each thread's data is (`.tbss`): nothing is at its address.
    pub of_threads: bool,
}

/// A column of size(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Not to be written: code and constants.
    Text,
    /// To be written, with contents.
    Data,
    /// To be written, without.
    Bss,
}

/// A segment that is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Where it is.
    pub address: u64,
    /// Bytes in memory.
    pub size: u64,
    /// Bytes that the file has of it; the rest is zero.
    pub file_size: u64,
}

impl Elf {
    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes).context("not an ELF file")?;
        let sections = file
            .sections()
            .map(|section| Section {
                name: section.name().unwrap_or_default().to_owned(),
                address: section.address(),
                size: section.size(),
                counted: counted(&section),
                of_threads: section.kind() == SectionKind::UninitializedTls,
            })
            .collect();
        let segments = file
            .segments()
            .map(|segment| Segment {
                address: segment.address(),
                size: segment.size(),
                file_size: segment.file_range().1,
            })
            .collect();
        let symbols = file
            .symbols()
            .filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        Ok(Self {
            sections,
            segments,
            symbols,
        })
    }
}

fn counted<'a>(section: &impl object::ObjectSection<'a>) -> Option<Counted> {
    let SectionFlags::Elf { sh_flags } = section.flags() else {
        return None;
    };
    let has = |flag: u32| sh_flags & u64::from(flag) != 0;
    if !has(elf::SHF_ALLOC) {
        None
    } else if has(elf::SHF_EXECINSTR) || !has(elf::SHF_WRITE) {
        Some(Counted::Text)
    } else if matches!(
        section.kind(),
        SectionKind::UninitializedData | SectionKind::UninitializedTls
    ) {
        Some(Counted::Bss)
    } else {
        Some(Counted::Data)
    }
}

//! Where the BSS of libraries is in a process that runs already: nobody saw their loader map it, but their files say how
//! much there is.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::Read as _,
    ops::Range,
};

use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader as _},
};

use memtrace_ebpf::pte::PAGE_SIZE;

/// Bytes of a file that its header and the list of its segments are looked for in.
const HEAD: u64 = 4096;

/// The whole pages of BSS of each program and library that a process has mapped. Nothing of what can't be read: then it isn't
/// known for BSS.
pub fn bss(pid: u32) -> Vec<Range<u64>> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return Vec::new();
    };
    let mappings: Vec<Mapping<'_>> = maps.lines().filter_map(Mapping::parse).collect();
    let executed: BTreeSet<_> = mappings
        .iter()
        .filter(|mapping| mapping.executable)
        .map(|mapping| mapping.file)
        .collect();
    let mut known = HashMap::new();
    let firsts = mappings
        .iter()
        .filter(|mapping| mapping.offset == 0 && executed.contains(&mapping.file));
    firsts
        .flat_map(|mapping| {
            let segments = known
                .entry(mapping.file)
                .or_insert_with(|| segments_of(pid, mapping.range));
            pages(mapping.start, segments)
        })
        .collect()
}

/// A line of `/proc/PID/maps`.
struct Mapping<'a> {
    range: &'a str,
    start: u64,
    executable: bool,
    offset: u64,
    /// Device and inode.
    file: (&'a str, &'a str),
}

impl<'a> Mapping<'a> {
    /// That of a file; `None` for other memory.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let range = words.next()?;
        let permissions = words.next()?;
        let offset = words.next()?;
        let file = (words.next()?, words.next()?);
        Some(Self {
            range,
            start: hex(range.split_once('-')?.0)?,
            executable: permissions.contains('x'),
            offset: hex(offset)?,
            file,
        })
        .filter(|mapping| mapping.file.1 != "0")
    }
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

/// A part of a file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    address: u64,
    file_size: u64,
    size: u64,
}

/// The segments of the file that is mapped there; none if it is no ELF file, or can't be read.
fn segments_of(pid: u32, range: &str) -> Vec<Segment> {
    let mut head = Vec::new();
    // Whatever its path has become.
    let read = File::open(format!("/proc/{pid}/map_files/{range}"))
        .and_then(|file| file.take(HEAD).read_to_end(&mut head));
    if read.is_err() {
        return Vec::new();
    }
    segments::<FileHeader64<Endianness>>(&head)
        .or_else(|| segments::<FileHeader32<Endianness>>(&head))
        .unwrap_or_default()
}

fn segments<Header: FileHeader<Endian = Endianness>>(head: &[u8]) -> Option<Vec<Segment>> {
    let header = Header::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let all = header.program_headers(endian, head).ok()?;
    let loaded = all.iter().filter(|one| one.p_type(endian) == PT_LOAD);
    Some(
        loaded
            .map(|one| Segment {
                address: one.p_vaddr(endian).into(),
                file_size: one.p_filesz(endian).into(),
                size: one.p_memsz(endian).into(),
            })
            .collect(),
    )
}

/// The whole pages that the file doesn't supply, where its first segment is mapped at `start`.
fn pages(start: u64, segments: &[Segment]) -> Vec<Range<u64>> {
    let Some(first) = segments.first() else {
        return Vec::new();
    };
    let base = start.wrapping_sub(first.address & !(PAGE_SIZE - 1));
    let page_end = |address: u64| {
        base.wrapping_add(address)
            .checked_next_multiple_of(PAGE_SIZE)
    };
    segments
        .iter()
        .filter_map(|segment| {
            let from = page_end(segment.address.checked_add(segment.file_size)?)?;
            let to = page_end(segment.address.checked_add(segment.size)?)?;
            (from < to).then_some(from..to)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bss_is_what_the_file_does_not_supply() {
        let segment = |address, file_size, size| Segment {
            address,
            file_size,
            size,
        };
        let library = [
            segment(0, 0x1234, 0x1234),
            segment(0x3e00, 0x300, 0x250),
            segment(0x5e00, 0x300, 0x2300),
        ];
        // The rest of the file's last page is no page of its own.
        assert_eq!(bss_of(0x7f00_0000, &library), [(0x7f00_7000, 0x7f00_9000)]);
        let program = [segment(0x40_0000, 1, 0x1001)];
        assert_eq!(bss_of(0x40_0000, &program), [(0x40_1000, 0x40_2000)]);
        assert!(bss_of(0x7f00_0000, &[segment(u64::MAX, 5, 7)]).is_empty());
        assert!(bss_of(0x7f00_0000, &[]).is_empty());
    }

    fn bss_of(start: u64, segments: &[Segment]) -> Vec<(u64, u64)> {
        let ranges = pages(start, segments).into_iter();
        ranges.map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn a_line_of_anonymous_memory_is_of_no_file() {
        let file = Mapping::parse("7f00-8000 r-xp 00001000 fd:00 12  /lib/a b.so").expect("a file");
        assert_eq!(
            (file.start, file.offset, file.executable),
            (0x7f00, 0x1000, true)
        );
        assert!(Mapping::parse("7f00-8000 rw-p 00000000 00:00 0  [heap]").is_none());
        assert!(Mapping::parse("nonsense").is_none());
    }
}

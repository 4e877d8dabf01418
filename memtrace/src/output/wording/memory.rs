//! Calls that change an address space.

use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::sync::Arc;

use super::{Bytes, ErrorName, Flags, size_of};
use crate::output::colour::Palette;
use crate::output::escape::Escaped;
use crate::trace::event::{
    Brk, By, Lock, Madvise, Mmap, Mprotect, Mremap, Range, RemapFilePages, Returned, Shmat, Shmdt,
};

pub(super) fn brk(out: &mut impl Write, &Brk { old, new }: &Brk) -> io::Result<()> {
    match new.0.checked_sub(old.0) {
        Some(0) => write!(out, "heap ends at {new}, unchanged"),
        Some(more) => write!(out, "heap grew by {}, now ends at {new}", Bytes(more)),
        None => write!(
            out,
            "heap shrank by {}, now ends at {new}",
            Bytes(old.0 - new.0)
        ),
    }
}

pub(super) fn mmap(out: &mut impl Write, mmap: &Mmap, palette: Palette) -> io::Result<()> {
    let len = Bytes(mmap.len);
    match (mmap.ret, mmap.by) {
        (Returned::Address(address), By::Attach) => {
            write!(out, "was mapped: {len} at {address}: ")?;
        }
        (Returned::Address(address), _) => write!(out, "maps {len} at {address}: ")?,
        (Returned::Error(_), _) => write!(out, "fails to map {len}: ")?,
    }
    let has = |flag: &str| mmap.flags.iter().any(|name| **name == *flag);
    let sharing = if has("MAP_PRIVATE") {
        "private "
    } else if has("MAP_SHARED") || has("MAP_SHARED_VALIDATE") {
        "shared "
    } else {
        ""
    };
    if let Some(region) = mmap.region {
        let separator = if mmap.file.is_some() { ", " } else { "" };
        write!(out, "{}{separator}", region.name())?;
    }
    match (&mmap.file, mmap.offset) {
        (Some(file), Some(offset)) => write!(out, "{sharing}{}+{offset:#x}", Escaped(file))?,
        // The BSS of a library.
        (Some(file), None) => write!(out, "{sharing}memory of {}", Escaped(file))?,
        (None, _) if mmap.region.is_none() => write!(out, "{sharing}anonymous memory")?,
        (None, _) => {}
    }
    write!(out, ", {}", Protection(&mmap.prot))?;
    if let Returned::Error(error) = mmap.ret {
        write!(out, ": {}", ErrorName(error))?;
    }
    if let Some(present) = mmap.resident {
        write!(out, "; {}", Present(present, mmap.private))?;
    }
    let faint = palette.faint();
    match mmap.by {
        By::Attach => write!(out, "  {faint}[at attach]{faint:#}"),
        By::Exec => write!(out, "  {faint}[by exec]{faint:#}"),
        By::Call => write!(out, "  {faint}[{}]{faint:#}", Flags(&mmap.flags)),
    }
}

pub(super) fn munmap(out: &mut impl Write, &Range { addr, len, ret }: &Range) -> io::Result<()> {
    let verb = if ret < 0 { "fails to unmap" } else { "unmaps" };
    write!(out, "{verb} {} at {addr}{}", Bytes(len), Failure(ret))
}

pub(super) fn mprotect(out: &mut impl Write, mprotect: &Mprotect) -> io::Result<()> {
    let Mprotect {
        addr,
        len,
        prot,
        ret,
        ..
    } = mprotect;
    let verb = if *ret < 0 { "fails to make" } else { "makes" };
    write!(out, "{verb} {} at {addr} {}", Bytes(*len), Protection(prot))?;
    if let (Some(call), Some(key)) = (&mprotect.call, mprotect.pkey) {
        write!(out, ", by {call} with key {key}")?;
    }
    write!(out, "{}", Failure(*ret))
}

pub(super) fn mremap(out: &mut impl Write, mremap: &Mremap, palette: Palette) -> io::Result<()> {
    let Mremap {
        addr, old_len, len, ..
    } = *mremap;
    let (old, new) = (Bytes(old_len), Bytes(len));
    match mremap.ret {
        Returned::Address(to) if to == addr => match len.cmp(&old_len) {
            Ordering::Less => write!(out, "shrinks {old} at {addr} to {new}")?,
            Ordering::Equal => write!(out, "leaves {old} at {addr} as they are")?,
            Ordering::Greater => write!(out, "grows {old} at {addr} to {new}")?,
        },
        Returned::Address(to) if stays(mremap) => write!(
            out,
            "moves what is in {old} at {addr} to {to}; the mapping stays, empty"
        )?,
        Returned::Address(to) if len == old_len => write!(out, "moves {old} from {addr} to {to}")?,
        Returned::Address(to) => write!(out, "moves {old} from {addr} to {to}, now {new}")?,
        Returned::Error(error) => {
            write!(
                out,
                "fails to remap {old} at {addr} to {new}: {}",
                ErrorName(error)
            )?;
        }
    }
    in_brackets(out, &mremap.flags, palette)
}

/// Whether the old mapping stays where it was, without its pages.
fn stays(mremap: &Mremap) -> bool {
    let mut flags = mremap.flags.iter();
    flags.any(|flag| **flag == *"MREMAP_DONTUNMAP")
}

/// `by` is the process that advises.
pub(super) fn madvise(out: &mut impl Write, madvise: &Madvise, by: u32) -> io::Result<()> {
    let Madvise {
        addr,
        len,
        advice,
        call,
        process,
        ret,
    } = madvise;
    let verb = if *ret < 0 {
        "fails to advise"
    } else {
        "advises"
    };
    write!(out, "{verb} on {} at {addr}", Bytes(*len))?;
    if let Some(process) = process
        && *process != by
    {
        write!(out, " of process {process}")?;
    }
    write!(out, ": {advice}")?;
    let meaning = match &**advice {
        "MADV_DONTNEED" => "what is there is dropped",
        "MADV_FREE" => "what is there may be dropped",
        "MADV_WILLNEED" => "to be read ahead",
        "MADV_HUGEPAGE" => "huge pages are welcome",
        "MADV_NOHUGEPAGE" => "no huge pages",
        "MADV_COLLAPSE" => "to become huge pages now",
        "MADV_DONTFORK" => "children don't get it",
        "MADV_WIPEONFORK" => "children find zeroes",
        "MADV_MERGEABLE" => "equal pages may be merged",
        "MADV_COLD" => "not needed soon",
        "MADV_PAGEOUT" => "to be swapped out",
        "MADV_POPULATE_READ" => "to be mapped now",
        "MADV_POPULATE_WRITE" => "to be mapped writable now",
        "MADV_REMOVE" => "the file's pages are freed",
        "MADV_GUARD_INSTALL" => "what is there is dropped, each access is a fault from now on",
        "MADV_GUARD_REMOVE" => "accesses are allowed again",
        _ => "",
    };
    if !meaning.is_empty() {
        write!(out, " ({meaning})")?;
    }
    if let Some(call) = call {
        write!(out, ", by {call}")?;
    }
    write!(out, "{}", Failure(*ret))
}

pub(super) fn shmat(out: &mut impl Write, shmat: &Shmat, palette: Palette) -> io::Result<()> {
    let Shmat { addr, id, .. } = *shmat;
    match (shmat.ret, shmat.len) {
        (Returned::Address(_), Some(len)) => {
            write!(out, "attaches segment {id}, {}, at {addr}", Bytes(len))?;
        }
        (Returned::Address(_), None) => write!(out, "attaches segment {id} at {addr}")?,
        (Returned::Error(error), _) => {
            write!(out, "fails to attach segment {id}: {}", ErrorName(error))?;
        }
    }
    in_brackets(out, &shmat.flags, palette)
}

pub(super) fn shmdt(out: &mut impl Write, &Shmdt { addr, len, ret }: &Shmdt) -> io::Result<()> {
    let verb = if ret < 0 {
        "fails to detach"
    } else {
        "detaches"
    };
    match len {
        Some(len) => write!(out, "{verb} {} at {addr}{}", Bytes(len), Failure(ret)),
        None => write!(out, "{verb} what is at {addr}{}", Failure(ret)),
    }
}

pub(super) fn remap_file_pages(
    out: &mut impl Write,
    remap: &RemapFilePages,
    palette: Palette,
) -> io::Result<()> {
    let RemapFilePages {
        addr,
        len,
        offset,
        ret,
        ..
    } = *remap;
    let verb = if ret < 0 { "fails to show" } else { "shows" };
    write!(
        out,
        "{verb} the file from {offset:#x} on in {} at {addr}{}",
        Bytes(len),
        Failure(ret)
    )?;
    in_brackets(out, &remap.flags, palette)
}

/// mlock or munlock: what is done to memory.
pub(super) fn lock(
    out: &mut impl Write,
    lock: &Lock,
    [does, fails]: [&str; 2],
    palette: Palette,
) -> io::Result<()> {
    let verb = if lock.ret < 0 { fails } else { does };
    match (lock.addr, lock.len) {
        (Some(addr), Some(len)) => write!(out, "{verb} {} at {addr}", Bytes(len))?,
        _ => write!(out, "{verb} all memory")?,
    }
    write!(out, "{}", Failure(lock.ret))?;
    in_brackets(out, &lock.flags, palette)
}

pub(super) fn mseal(out: &mut impl Write, &Range { addr, len, ret }: &Range) -> io::Result<()> {
    let verb = if ret < 0 { "fails to seal" } else { "seals" };
    write!(out, "{verb} {} at {addr}{}", Bytes(len), Failure(ret))
}

/// Flags, if there are any.
pub(super) fn in_brackets(
    out: &mut impl Write,
    flags: &[Arc<str>],
    palette: Palette,
) -> io::Result<()> {
    if flags.is_empty() {
        return Ok(());
    }
    let faint = palette.faint();
    write!(out, "  {faint}[{}]{faint:#}", Flags(flags))
}

/// Pages that are present, and how many of them are private.
pub(super) struct Present(pub(super) u64, pub(super) Option<u64>);

impl Display for Present {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self(0, _) => f.write_str("nothing resident"),
            Self(resident, Some(0)) => write!(f, "{} resident, none private", size_of(resident)),
            Self(resident, None) => write!(f, "{} resident", size_of(resident)),
            Self(resident, Some(private)) => {
                let (resident, private) = (size_of(resident), size_of(private));
                write!(f, "{resident} resident, {private} private")
            }
        }
    }
}

/// What a negative return value adds.
struct Failure(i64);

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            write!(f, ": {}", ErrorName(self.0))
        } else {
            Ok(())
        }
    }
}

/// `PROT_*` in words.
struct Protection<'a>(&'a [Arc<str>]);

impl Display for Protection<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let [only] = self.0
            && **only == *"PROT_READ"
        {
            return f.write_str("read-only");
        }
        if self.0.is_empty() {
            return f.write_str("inaccessible");
        }
        let words = self.0.iter().map(|name| match &**name {
            "PROT_READ" => "readable",
            "PROT_WRITE" => "writable",
            "PROT_EXEC" => "executable",
            other => other,
        });
        let last = self.0.len() - 1;
        for (at, word) in words.enumerate() {
            let before = match at {
                0 => "",
                at if at == last => " and ",
                _ => ", ",
            };
            write!(f, "{before}{word}")?;
        }
        Ok(())
    }
}

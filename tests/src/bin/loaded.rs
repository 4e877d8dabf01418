//! Memory beside libraries, and files under several names: `loaded`.

use std::fs::{self, File};
use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use nix::unistd::chroot;
use serde_json::json;
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process;
use tests::subject::report::note;
use tests::subject::witness::write;

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    neighbour()?;
    library()?;
    names()
}

/// Memory that was there before a program's file is mapped right below it.
fn neighbour() -> Result<()> {
    let memory = Pages::private(2)?;
    let file = files::temporary(1)?;
    map(&memory, 0, code(), file.as_file(), 0)?;
    write("beside a library", &memory, 1)
}

/// A library as a dynamic linker maps it, into memory of the program's own: so that its BSS and what lies behind become one
/// VMA.
fn library() -> Result<()> {
    let memory = Pages::private(6)?;
    let file = files::temporary(2)?;
    map(&memory, 0, code(), file.as_file(), 0)?;
    map(&memory, 1, data(), file.as_file(), 1)?;
    let bss = NonZeroUsize::new(2 * PAGE).context("no pages")?;
    let address = NonZeroUsize::new(memory.addr(2) as usize);
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    // SAFETY: takes the place of pages that nothing uses yet.
    unsafe { mmap_anonymous(address, bss, data(), flags) }?;
    note("library", json!(file.path().to_string_lossy()))?;
    write("its bss", &memory, 2)?;
    write("the end of its bss", &memory, 3)?;
    write("behind its bss", &memory, 4)
}

/// Two names of one file, a folder that gets another name, and a root directory that is another.
fn names() -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let (below, renamed) = (folder.path().join("below"), folder.path().join("renamed"));
    fs::create_dir(&below)?;
    fs::write(below.join("one"), vec![1; 3 * PAGE])?;
    fs::hard_link(below.join("one"), below.join("two"))?;
    let one = Pages::private_file(File::open(below.join("one"))?, 0, 3)?;
    let two = Pages::private_file(File::open(below.join("two"))?, 0, 3)?;
    write("by the first name", &one, 0)?;
    write("by the second name", &two, 0)?;
    fs::rename(&below, &renamed)?;
    write("its folder renamed", &one, 1)?;

    let page = Pages::private(1)?;
    let child = process::child(|| {
        chroot(&renamed)?;
        map(&page, 0, data(), &File::open("/two")?, 0)?;
        page.write(0, 1);
        Ok(())
    })?;
    let place = json!([child.as_raw(), page.addr(0)]);
    process::wait_success(child)?;
    note("in a root of its own", place)
}

/// Maps a page of a file in place of a page of memory.
fn map(memory: &Pages, at: usize, protection: ProtFlags, file: &File, page: usize) -> Result<()> {
    let length = NonZeroUsize::new(PAGE).context("no pages")?;
    let address = NonZeroUsize::new(memory.addr(at) as usize);
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    // SAFETY: takes the place of a page that nothing uses yet.
    unsafe {
        mmap(
            address,
            length,
            protection,
            flags,
            file,
            (page * PAGE) as libc::off_t,
        )
    }?;
    Ok(())
}

fn code() -> ProtFlags {
    ProtFlags::PROT_READ | ProtFlags::PROT_EXEC
}

fn data() -> ProtFlags {
    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
}

//! One touch in each region of the address space: `regions program|anonymous|stacks|library|vdso`.

use std::hint::black_box;

use anyhow::{Context, Result, bail, ensure};
use tests::subject::arch::LIBRARIES_HAVE_RODATA;
use tests::subject::files;
use tests::subject::image::c_library;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process;
use tests::subject::report::Access;
use tests::subject::witness::{read, touch, write};

/// Three pages, of which the middle one holds nothing else.
#[repr(C, align(4096))]
struct Alone([u8; 3 * PAGE]);

static CONSTANT: Alone = Alone([7; 3 * PAGE]);
static mut INITIALISED: Alone = Alone([7; 3 * PAGE]);
static mut ZEROED: Alone = Alone([0; 3 * PAGE]);

// A function with a page to itself.
std::arch::global_asm!(
    ".pushsection .text.code_alone, \"ax\", @progbits",
    ".balign 4096",
    ".globl code_alone",
    ".hidden code_alone",
    "code_alone: ret",
    ".balign 4096",
    ".popsection",
);

unsafe extern "C" {
    fn code_alone();
}

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    match std::env::args().nth(1).as_deref() {
        Some("program") => program(),
        Some("anonymous") => anonymous(),
        Some("stacks") => stacks(),
        Some("library") => library(),
        Some("vdso") => vdso(),
        _ => bail!("usage: regions program|anonymous|stacks|library|vdso"),
    }
}

/// The program's own text, constants and data.
fn program() -> Result<()> {
    // Has the whole file in the page cache, so that no touch waits for the disk.
    std::fs::read("/proc/self/exe")?;

    // SAFETY: a page of this program's code; it comes again from the file.
    let code = unsafe { Pages::at(code_alone as *const () as u64, 1) }?;
    let run = |name| {
        touch(name, code.addr(0), Access::Exec, true, || {
            // SAFETY: it returns at once.
            unsafe { code_alone() };
        })
    };
    // All code on the way has been mapped then: a fault there may map this page, too.
    run("text, first")?;
    code.unmap_frames()?;
    run("text")?;

    // SAFETY: the middle pages are this function's alone.
    let [constant, initialised, zeroed] = unsafe {
        [
            Pages::at((&raw const CONSTANT) as u64 + PAGE as u64, 1)?,
            Pages::at((&raw mut INITIALISED) as u64 + PAGE as u64, 1)?,
            Pages::at((&raw mut ZEROED) as u64 + PAGE as u64, 1)?,
        ]
    };
    // A neighbour's fault may have mapped these pages already.
    constant.unmap_frames()?;
    initialised.unmap_frames()?;
    read("rodata", &constant, 0)?;
    write("data", &initialised, 0)?;
    read("bss, read", &zeroed, 0)?;
    write("bss, written", &zeroed, 0)
}

/// The heap, anonymous memory, a file and shared memory.
fn anonymous() -> Result<()> {
    // SAFETY: grows the heap by pages that nobody else has asked for.
    let heap = unsafe { libc::sbrk(4 * PAGE as isize) };
    ensure!(
        heap as isize != -1,
        "sbrk: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: within the heap, beyond what malloc uses.
    let heap = unsafe { Pages::at(heap as u64 + 2 * PAGE as u64, 1) }?;
    write("heap", &heap, 0)?;
    write("anonymous", &Pages::private(1)?, 0)?;
    let file = files::temporary(5)?;
    read("file", &Pages::private_file(&file, 4, 1)?, 0)?;
    write("shared memory", &Pages::shared(1)?, 0)
}

/// Pages that the stack has not reached yet, of the first thread and of another.
fn stacks() -> Result<()> {
    deep("stack")?;
    std::thread::spawn(|| deep("thread stack"))
        .join()
        .ok()
        .context("the thread panicked")?
}

fn deep(name: &str) -> Result<()> {
    const DEPTH: usize = 128;
    let here = black_box(0u8);
    let page = (&raw const here as usize - DEPTH / 2 * PAGE) & !(PAGE - 1);
    touch(name, page as u64, Access::Write, false, || {
        recurse(DEPTH);
    })
}

#[inline(never)]
fn recurse(depth: usize) -> u8 {
    let frame = black_box([depth as u8; PAGE]);
    if depth == 0 {
        frame[0]
    } else {
        recurse(depth - 1) ^ black_box(frame)[1]
    }
}

/// The C library's text, constants and data.
fn library() -> Result<()> {
    let library = c_library()?;
    // SAFETY: parts of the C library, which outlives this program.
    let [text, data, bss] = unsafe {
        [
            Pages::at(library.text, 1)?,
            Pages::at(library.data, 1)?,
            Pages::at(library.bss, 1)?,
        ]
    };
    let mut constant = vec![("library text", text)];
    if LIBRARIES_HAVE_RODATA {
        // SAFETY: the same.
        constant.push(("library rodata", unsafe { Pages::at(library.rodata, 1) }?));
    }
    for (name, page) in constant {
        page.read(0);
        page.unmap_frames()?;
        read(name, &page, 0)?;
    }
    // The same byte again, in a child: the page is then the parent's, too.
    for page in [data, bss] {
        page.write(0, page.read(0));
    }
    for (name, page) in [("library data", data), ("library bss", bss)] {
        process::in_child(|| {
            touch(name, page.addr(0), Access::Write, true, || {
                page.write(0, page.read(0));
            })
        })?;
    }
    Ok(())
}

/// The code that the kernel maps into each process.
fn vdso() -> Result<()> {
    // SAFETY: a look-up in the auxiliary vector.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    ensure!(start != 0, "this kernel maps no vdso");
    // SAFETY: the kernel keeps the vdso mapped.
    let first = unsafe { Pages::at(start, 1) }?;
    first.unmap_frames()?;
    read("vdso", &first, 0)
}

//! Memory of more page tables, and of more pieces, than are surveyed in one go; then a fork, whose child writes what lies
//! highest: `vast [FIFO]`. With FIFO it reports "ready" before that, and goes on at each byte in it.

use anyhow::{Context as _, Result};
use nix::sys::mman::ProtFlags;
use serde_json::json;
use tests::subject::fifo::Fifo;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process;
use tests::subject::report::note;

/// Pages that the child writes.
const WRITTEN: usize = 64;
/// Pieces of a page each, with a gap between them that is a piece, too.
const PIECES: usize = 1000;
/// Page tables with a page each, and the pages that a table maps.
const TABLES: usize = 4096;
const TABLE: usize = 512;

fn main() -> Result<()> {
    process::begin();
    let fifo = std::env::args().nth(1);
    let mut fifo = fifo.map(|path| Fifo::open(&path)).transpose()?;
    // The kernel puts each mapping below the one before.
    let written = Pages::private(WRITTEN)?;
    written.write_all(1);
    let pieces = Pages::private(2 * PIECES)?;
    for piece in 0..PIECES {
        pieces.write(2 * piece, 1);
        // SAFETY: of the pages above, which nobody uses.
        let gap = unsafe { Pages::at(pieces.addr(2 * piece + 1), 1) }?;
        gap.protect(ProtFlags::PROT_NONE)?;
    }
    let sparse = Pages::reserved(TABLES * TABLE)?;
    for table in 0..TABLES {
        sparse.write(table * TABLE, 1);
    }
    if let Some(fifo) = &mut fifo {
        note("ready", std::process::id())?;
        fifo.wait()?;
    }

    let child = process::child(|| {
        let private = private_pages()?;
        note("private", private)?;
        written.write_all(2);
        Ok(())
    })?;
    process::wait_success(child)?;
    let of_child = json!({"pid": child.as_raw(), "addr": written.addr(0), "pages": WRITTEN});
    note("written", of_child)?;
    if let Some(fifo) = &mut fifo {
        note("done", true)?;
        fifo.wait()?;
    }
    Ok(())
}

/// Private pages of the whole process. The list of all its pieces would be long.
fn private_pages() -> Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("no count of private pages")?.parse()?;
    Ok(kib / (PAGE as u64 / 1024))
}

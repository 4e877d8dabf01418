//! Waits until FILE is there, then works and reports it: `patient FILE`. What happens to its tracer must not matter.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigHandler, Signal, signal};
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::note;

fn main() -> Result<()> {
    process::begin();
    // Ctrl-C ends it even where the tests are in a shell's background, which has SIGINT ignored.
    // SAFETY: no handler is there that could do anything.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
    let file: PathBuf = std::env::args_os()
        .nth(1)
        .context("usage: patient FILE")?
        .into();
    let pages = Pages::private(100)?;
    pages.write_all(1);
    note("ready", std::process::id())?;

    while !file.exists() {
        sleep(Duration::from_millis(10));
    }

    process::in_child(|| {
        pages.write_all(2);
        Ok(())
    })?;
    ensure!(
        (0..pages.count()).all(|i| pages.read(i) == 1),
        "the child's writes show in the parent"
    );
    pages.write_all(3);
    note("done", true)
}

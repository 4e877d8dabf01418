//! Processes that fork and write as fast as they can: `forkers PROCESSES ROUNDS`. All ends are waited for, so that wait4(2) has
//! the faults of them all.

use std::ffi::CString;

use anyhow::{Context, Result};
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::note;

const COUNT: usize = 128;
/// Rounds for each one whose child runs a program.
const EXECS: usize = 8;

fn main() -> Result<()> {
    process::begin();
    let mut args = std::env::args().skip(1);
    let mut number = || -> Result<usize> {
        let word = args.next().context("usage: forkers PROCESSES ROUNDS")?;
        Ok(word.parse()?)
    };
    let (processes, rounds) = (number()?, number()?);
    note("ready", std::process::id())?;
    let children = process::children(processes, |_| (0..rounds).try_for_each(round))?;
    children.into_iter().try_for_each(process::wait_success)
}

/// A child copies what the parent has written, which then writes it again.
fn round(number: usize) -> Result<()> {
    let pages = Pages::private(COUNT)?;
    pages.write_all(1);
    let child = process::child(|| {
        pages.write_all(2);
        if number.is_multiple_of(EXECS) {
            let program = CString::new("/bin/true")?;
            nix::unistd::execv(&program, &[&program])?;
        }
        Ok(())
    })?;
    pages.write_all(3);
    process::wait_success(child)
}

//! The program that doctor traces: it writes to a page, forks, and the child writes to it again. Both say in which frame they
//! have it, from `/proc/self/pagemap`.

use std::{hint::black_box, process::exit};

use anyhow::{Context as _, Result, ensure};
use memtrace_ebpf::pte::PAGE_SIZE;
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};
use procfs::process::{PageInfo, Process};

use super::findings::Copied;

const PAGE: usize = PAGE_SIZE as usize;

/// Does it all, and prints a line. Returns its exit status.
///
/// # Errors
/// The kernel refuses it.
pub fn subject() -> Result<u8> {
    // Large enough that a page in the midst of it has nothing else in it.
    let mut memory = vec![0_u8; 3 * PAGE];
    let first = memory.as_ptr().addr();
    let at = first.next_multiple_of(PAGE) - first;
    let address = (first + at) as u64;
    black_box(&mut memory)[at] = 1;
    let before = frame(address)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("can't fork")? {
        ForkResult::Child => {
            black_box(&mut memory)[at] = 2;
            let said = frame(address).map(|after| {
                let copied = Copied {
                    address,
                    before,
                    after,
                };
                println!("{}", line(&copied));
            });
            exit(i32::from(said.is_err()))
        }
        ForkResult::Parent { child } => {
            let end = waitpid(child, None)?;
            ensure!(
                matches!(end, WaitStatus::Exited(_, 0)),
                "the child could not say where its page is"
            );
            Ok(0)
        }
    }
}

/// The frame of the page at this address of one's own.
fn frame(address: u64) -> Result<u64> {
    let mut pages = Process::myself()?.pagemap()?;
    match pages.get_info(address as usize / PAGE)? {
        PageInfo::MemoryPage(flags) => Ok(flags.get_page_frame_number().0),
        PageInfo::SwapPage(_) => anyhow::bail!("the page is in swap"),
    }
}

/// What the program prints.
fn line(copied: &Copied) -> String {
    format!("{} {} {}", copied.address, copied.before, copied.after)
}

/// Reads what the program has printed.
pub fn parse(line: &str) -> Option<Copied> {
    let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
    let mut next = || numbers.next()?;
    let copied = Copied {
        address: next()?,
        before: next()?,
        after: next()?,
    };
    (copied.before != 0 && copied.after != 0).then_some(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let copied = Copied {
            address: 0x7f00_0000_0000,
            before: 17,
            after: 4,
        };
        assert_eq!(parse(&line(&copied)), Some(copied));
        // Without the right to see them frames are 0.
        for broken in ["", "1 2", "1 2 x", "1 0 0"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}

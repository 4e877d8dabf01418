//! Pushes a character into its terminal, and reports the error number: 0 where the kernel lets it.

use anyhow::Result;
use nix::errno::Errno;
use tests::subject::process;
use tests::subject::report::note;

fn main() -> Result<()> {
    process::begin();
    let character = b'x';
    // SAFETY: the kernel reads one character.
    let pushed = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSTI, &raw const character) };
    let error = match Errno::result(pushed) {
        Ok(_) => 0,
        Err(error) => error as i32,
    };
    note("pushed", error)
}

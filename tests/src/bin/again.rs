//! Children that have the same process id, one after the other: `again`.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;
use serde_json::json;
use tests::subject::files;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::note;

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    let file = files::temporary(50)?;
    let pages = Pages::private_file(&file, 0, 50)?;
    pages.write_all(1);
    let mut pid = 0;
    for round in 0..3 {
        // SAFETY: clone_args is plain numbers, for which zero says "not given".
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.exit_signal = libc::SIGCHLD as u64;
        if pid > 0 {
            args.set_tid = &raw const pid as u64;
            args.set_tid_size = 1;
        }
        // SAFETY: one thread; the child writes to pages and ends.
        let child =
            unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) } as i32;
        if child == 0 {
            for i in round * 10..(round + 1) * 10 + 5 {
                pages.write(i, 2);
            }
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        ensure!(child > 0, "clone3: {}", Errno::last());
        ensure!(pid == 0 || child == pid, "{child} is another id");
        pid = child;
        process::wait_success(Pid::from_raw(child))?;
    }
    note("again", json!({"child": pid, "file": file.path()}))
}

//! What processes cost as wait4(2) says, to hold memtrace's counts against: `usage [PROG ARGS...]`.
//!
//! With PROG, runs it and passes its end on. Without, makes children with faults of many sorts.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::sync::{Arc, Barrier};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::WaitStatus;
use tests::subject::files;
use tests::subject::memory::Pages;
use tests::subject::process;
use tests::subject::report::{Fact, report};

fn main() -> Result<()> {
    process::begin();
    let mut args = std::env::args_os().skip(1);
    let Some(program) = args.next() else {
        return children();
    };
    let child =
        process::child(|| Err(Command::new(&program).args(args).exec()).context("cannot exec"))?;
    let (status, usage) = process::wait_usage("program", child)?;
    report(&Fact::Usage(usage))?;
    match status {
        WaitStatus::Exited(_, code) => exit(code),
        WaitStatus::Signaled(_, signal, _) => exit(128 + signal as i32),
        _ => exit(99),
    }
}

fn children() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let inherited = Pages::private(200)?;
    inherited.write_all(1);

    costs("does nothing", || Ok(()))?;
    costs("writes fresh pages", || {
        Pages::private(300)?.write_all(1);
        Ok(())
    })?;
    costs("writes inherited pages", || {
        inherited.write_all(2);
        Ok(())
    })?;
    costs("reads, then writes fresh pages", || {
        let pages = Pages::private(100)?;
        for i in 0..pages.count() {
            pages.write(i, pages.read(i) + 1);
        }
        Ok(())
    })?;
    costs("maps a file", || {
        let file = files::temporary(100)?;
        let (private, shared) = (
            Pages::private_file(&file, 0, 100)?,
            Pages::shared_file(&file, 0, 100)?,
        );
        for i in 0..100 {
            shared.write(i, private.read(i));
            private.write(i, 3);
        }
        Ok(())
    })?;
    costs("waits for the disk", || {
        let file = files::temporary(64)?;
        files::drop_from_cache(file.as_file())?;
        let pages = Pages::private_file(&file, 0, 64)?;
        for i in 0..64 {
            pages.read(i);
        }
        Ok(())
    })?;
    costs("shares memory", || {
        Pages::shared(100)?.write_all(1);
        Ok(())
    })?;
    costs("has the kernel write its pages", || {
        let (mut reader, mut writer) = std::io::pipe()?;
        for i in 0..50 {
            writer.write_all(&[1; 64])?;
            // SAFETY: within the page, which nothing else uses.
            reader.read_exact(unsafe {
                std::slice::from_raw_parts_mut(inherited.page(i).as_ptr(), 64)
            })?;
        }
        Ok(())
    })?;
    costs("has threads", || {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                std::thread::spawn(move || {
                    Pages::private(10 * (i + 1)).map(|pages| pages.write_all(1))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| process::joined(thread.join())?)
    })?;
    costs("ends with threads at work", || {
        let at_work = Arc::new(Barrier::new(5));
        for _ in 0..4 {
            let at_work = Arc::clone(&at_work);
            std::thread::spawn(move || {
                let work = || Pages::private(16).map(|pages| pages.write_all(1));
                work().ok();
                at_work.wait();
                while work().is_ok() {}
            });
        }
        at_work.wait();
        Ok(())
    })?;
    costs("dies of a bad address", || {
        Pages::private(20)?.write_all(1);
        // SAFETY: none: it ends the child.
        unsafe { std::ptr::dangling_mut::<u8>().write_volatile(1) };
        Ok(())
    })?;
    costs("runs another program", || {
        Err(Command::new("/bin/true").exec()).context("cannot exec /bin/true")
    })
}

fn costs(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (_, usage) = process::wait_usage(name, process::child(work)?)?;
    report(&Fact::Usage(usage))
}

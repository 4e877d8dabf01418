//! Prints what a program inherits from whoever starts it.
//!
//! It has no Rust `main`: Rust's start-up would change some of it first (SIGPIPE, closed standard streams).
#![no_main]

use std::ffi::c_int;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Uid, User, getcwd, getegid, geteuid, getgid, getgroups, getpgrp, getsid, getuid,
};

// SAFETY: the C library's own entry point.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const u8) -> c_int {
    // First, since what follows opens files of its own.
    let open: Vec<_> = (0..256).filter_map(descriptor).collect();
    println!("descriptors {}", open.join(" "));

    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = [
        "SigBlk",
        "SigCgt",
        "SigPnd",
        "ShdPnd",
        "Seccomp",
        "NoNewPrivs",
        "CapEff",
        "TracerPid",
    ];
    for line in status.lines() {
        match line.split_once(":\t") {
            Some(("SigIgn", ignored)) => println!(
                "ignored {:x?}",
                u64::from_str_radix(ignored, 16).map(chosen)
            ),
            Some((name, _)) if wanted.contains(&name) => println!("{line}"),
            _ => {}
        }
    }
    for (name, resource) in [
        ("files", Resource::RLIMIT_NOFILE),
        ("stack", Resource::RLIMIT_STACK),
        ("core", Resource::RLIMIT_CORE),
        ("memlock", Resource::RLIMIT_MEMLOCK),
    ] {
        println!("limit {name} {:?}", getrlimit(resource));
    }
    println!("umask {:?}", umask(Mode::empty()));
    println!("folder {:?}", getcwd());
    println!(
        "uid {} {} gid {} {}",
        getuid(),
        geteuid(),
        getgid(),
        getegid()
    );
    println!("groups {:?}", getgroups());
    println!(
        "user {:?}",
        User::from_uid(Uid::current())
            .ok()
            .flatten()
            .map(|user| user.name)
    );
    println!("group {} session {:?}", getpgrp(), getsid(None));
    // SAFETY: both only ask.
    let (nice, personality) = unsafe {
        (
            libc::getpriority(libc::PRIO_PROCESS, 0),
            libc::personality(0xffff_ffff),
        )
    };
    println!("nice {nice} personality {personality:#x}");
    println!(
        "on {:?}",
        nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).map(|cpus| {
            (0..64)
                .filter(|&cpu| cpus.is_set(cpu).unwrap_or(false))
                .collect::<Vec<_>>()
        })
    );
    println!(
        "arguments {:?}",
        std::env::args_os().skip(1).collect::<Vec<_>>()
    );
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.retain(|(name, _)| name != tests::subject::report::REPORT);
    variables.sort();
    for variable in variables {
        println!("variable {variable:?}");
    }
    0
}

/// Without the signals 32 and 33: they are the C library's own, and no program chooses what they do.
fn chosen(signals: u64) -> u64 {
    signals & !(0b11 << 31)
}

/// A file descriptor's number and flags, if it is open.
fn descriptor(fd: c_int) -> Option<String> {
    // SAFETY: these only ask.
    let (flags, status) = unsafe {
        (
            libc::fcntl(fd, libc::F_GETFD),
            libc::fcntl(fd, libc::F_GETFL),
        )
    };
    (flags >= 0).then(|| format!("{fd}:{flags:x}:{status:x}"))
}

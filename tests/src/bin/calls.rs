//! The less usual system calls on an address space: `calls mappings|dropped|failed|died`.

use std::env::temp_dir;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::exit;
use std::ptr::{null, null_mut};

use anyhow::{Context, Result, bail, ensure};
use libc::{SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_munlock, SYS_munlockall, c_int, c_long};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, chdir, getpid};
use serde_json::{Value, json};
use tests::subject::call::{address, hex, made, result};
use tests::subject::files;
use tests::subject::memory::{PAGE, Pages, frame};
use tests::subject::process::{self, Gate};
use tests::subject::report::note;

/// Pages that are shared and dropped.
const DROPPED: usize = 8;
/// Only of 6.13 and later.
const MADV_GUARD_INSTALL: c_int = 102;
const MADV_GUARD_REMOVE: c_int = 103;
/// Only of 6.10 and later; the same on all architectures.
const SYS_MSEAL: c_long = 462;
/// An account that isn't root's.
const NOBODY: libc::uid_t = 65_534;

fn main() -> Result<()> {
    process::begin();
    match std::env::args().nth(1).as_deref() {
        Some("mappings") => {
            segments()?;
            protection()?;
            advice()?;
            locks()?;
            remapped()
        }
        Some("dropped") => dropped(),
        Some("failed") => failed(),
        Some("died") => died(),
        _ => bail!("usage: calls mappings|dropped|failed|died"),
    }
}

/// System V shared memory.
fn segments() -> Result<()> {
    // SAFETY: touches no memory.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 5 * PAGE - 100, 0o600) };
    ensure!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
    let attach = |name: &str, id: c_int, flags: c_int, named: &[&str], len: Option<usize>| {
        // SAFETY: at an address of the kernel's choice.
        let call = || unsafe { result(libc::syscall(libc::SYS_shmat, id, 0, flags)) };
        let flags = json!(named);
        made(name, "shmat", call, |ret| {
            json!({
                "addr": if ret < 0 { hex(0) } else { address(ret) }, "len": len, "id": id,
                "flags": flags, "ret": address(ret),
            })
        })
    };
    let there = attach("shmat", id, 0, &[], Some(5 * PAGE))?;
    let read_only = attach(
        "to read",
        id,
        libc::SHM_RDONLY,
        &["SHM_RDONLY"],
        Some(5 * PAGE),
    )?;
    ensure!(there > 0 && read_only > 0, "shmat failed");
    // A part becomes a mapping of its own: all are detached.
    // SAFETY: this program's own mapping, which nothing refers to.
    let split = unsafe { libc::mprotect(there as *mut _, PAGE, libc::PROT_READ) };
    ensure!(split == 0, "mprotect: {}", std::io::Error::last_os_error());
    for (name, addr, len) in [
        ("shmdt", there, Some(5 * PAGE)),
        ("shmdt of what was read", read_only, Some(5 * PAGE)),
        ("shmdt of nothing", there, None),
    ] {
        // SAFETY: as above.
        let call = || unsafe { result(libc::syscall(libc::SYS_shmdt, addr)) };
        let fields = |ret: i64| json!({"addr": hex(addr as u64), "len": len, "ret": ret});
        made(name, "shmdt", call, fields)?;
    }
    // SAFETY: touches no memory.
    let removed = unsafe { libc::shmctl(id, libc::IPC_RMID, null_mut()) };
    ensure!(removed == 0, "shmctl: {}", std::io::Error::last_os_error());
    attach("shmat of what is gone", id, 0, &[], None)?;
    Ok(())
}

fn protection() -> Result<()> {
    let pages = Pages::private(2)?;
    for (name, key) in [("the usual key", -1), ("a key that nobody has", 99)] {
        let (addr, len, prot) = (pages.addr(0), PAGE, libc::PROT_READ);
        // SAFETY: this program's own mapping.
        let call =
            || unsafe { result(libc::syscall(libc::SYS_pkey_mprotect, addr, len, prot, key)) };
        made(name, "mprotect", call, |ret| {
            json!({
                "addr": hex(addr), "len": len, "prot": ["PROT_READ"], "call": "pkey_mprotect",
                "pkey": key, "ret": ret,
            })
        })?;
    }
    Ok(())
}

/// Advice by madvise that not every kernel takes, and by `process_madvise`.
fn advice() -> Result<()> {
    let pages = Pages::private(4)?;
    let (addr, len) = (pages.addr(0), 2 * PAGE);
    for (advice, name) in [
        (MADV_GUARD_INSTALL, "MADV_GUARD_INSTALL"),
        (MADV_GUARD_REMOVE, "MADV_GUARD_REMOVE"),
        (libc::MADV_FREE, "MADV_FREE"),
    ] {
        // SAFETY: this program's own mapping, which nothing refers to.
        let call = || unsafe { result(libc::syscall(libc::SYS_madvise, addr, len, advice)) };
        made(name, "madvise", call, |ret| {
            json!({
                "addr": hex(addr), "len": len, "advice": name, "call": null, "process": null,
                "ret": ret,
            })
        })?;
    }
    let this = pidfd(getpid())?;
    for (name, fd, process) in [
        (
            "process_madvise",
            this.as_raw_fd(),
            json!(getpid().as_raw()),
        ),
        ("process_madvise of no process", 9999, Value::Null),
    ] {
        let call = || result(process_madvise(fd, &[(addr, len)], libc::MADV_COLD));
        made(name, "madvise", call, |ret| {
            json!({
                "addr": hex(addr), "len": len, "advice": "MADV_COLD", "call": "process_madvise",
                "process": process, "ret": ret.min(0),
            })
        })?;
    }
    Ok(())
}

/// The event's type, the call, its number, its arguments, and its flags by name.
type LockCall = (
    &'static str,
    &'static str,
    c_long,
    [u64; 3],
    &'static [&'static str],
);

fn locks() -> Result<()> {
    let pages = Pages::private(4)?;
    let (addr, len) = (pages.addr(0), 2 * PAGE);
    let range = [addr, len as u64, 0];
    let on_fault = [addr, len as u64, 1];
    let nothing = [PAGE as u64, len as u64, 0];
    let future = [2, 0, 0];
    let calls: [LockCall; 6] = [
        ("mlock", "mlock", SYS_mlock, range, &[]),
        ("munlock", "munlock", SYS_munlock, range, &[]),
        ("mlock", "mlock2", SYS_mlock2, on_fault, &["MLOCK_ONFAULT"]),
        ("mlock", "mlock", SYS_mlock, nothing, &[]),
        ("mlock", "mlockall", SYS_mlockall, future, &["MCL_FUTURE"]),
        ("munlock", "munlockall", SYS_munlockall, [0; 3], &[]),
    ];
    for (kind, name, number, args, flags) in calls {
        let [first, second, third] = args;
        // SAFETY: changes the contents of no memory.
        let call = || unsafe { result(libc::syscall(number, first, second, third)) };
        let all = name.ends_with("all");
        made(name, kind, call, |ret| {
            json!({
                "call": name, "addr": if all { Value::Null } else { hex(first) },
                "len": if all { Value::Null } else { json!(second) }, "flags": flags, "ret": ret,
            })
        })?;
    }
    // SAFETY: this program's own mapping, which it neither unmaps nor protects otherwise.
    let call = || unsafe { result(libc::syscall(SYS_MSEAL, addr, len, 0)) };
    let fields = |ret: i64| json!({"addr": hex(addr), "len": len, "ret": ret});
    made("mseal", "mseal", call, fields)?;
    Ok(())
}

fn remapped() -> Result<()> {
    let file = files::temporary(4)?;
    let shared = Pages::shared_file(file.as_file(), 0, 4)?;
    let private = Pages::private(1)?;
    for (name, pages, page) in [
        ("remap_file_pages", &shared, 3),
        ("of private memory", &private, 0),
    ] {
        let addr = pages.addr(0);
        // SAFETY: this program's own mapping, which nothing refers to.
        let call = || unsafe {
            let flags = libc::MAP_NONBLOCK;
            result(libc::syscall(
                libc::SYS_remap_file_pages,
                addr,
                PAGE,
                0,
                page,
                flags,
            ))
        };
        made(name, "remap_file_pages", call, |ret| {
            json!({
                "addr": hex(addr), "len": PAGE, "offset": page * PAGE, "flags": ["MAP_NONBLOCK"],
                "ret": ret,
            })
        })?;
    }
    Ok(())
}

/// A child drops pages of its own that a fork left shared; then the parent advises on the child's memory.
fn dropped() -> Result<()> {
    process::stay_on_one_cpu()?;
    let pages = Pages::private(DROPPED)?;
    for page in 0..DROPPED {
        pages.write(page, 1);
    }
    let (asked, goes) = (Gate::new()?, Gate::new()?);
    let child = process::child(|| {
        let this = pidfd(getpid())?;
        let range = (pages.addr(2), 3 * PAGE);
        let ret = process_madvise(this.as_raw_fd(), &[range], libc::MADV_DONTNEED);
        let gone = frame(pages.addr(2))?.is_none() && frame(pages.addr(4))?.is_none();
        note("dropped", json!([ret, gone]))?;
        asked.open()?;
        goes.wait()
    })?;
    asked.wait()?;
    let other = pidfd(child)?;
    let ranges = [(pages.addr(0), PAGE), (pages.addr(6), 2 * PAGE)];
    let ret = process_madvise(other.as_raw_fd(), &ranges, libc::MADV_COLD);
    let ranges = ranges.map(|(addr, len)| json!([hex(addr), len]));
    let told = json!({"child": child.as_raw(), "ranges": ranges, "ret": ret});
    note("advised", told)?;
    goes.open()?;
    process::wait_success(child)
}

/// Clones and execs that fail.
fn failed() -> Result<()> {
    for (name, flags, named) in [
        ("clone", libc::CLONE_THREAD, "CLONE_THREAD"),
        ("clone", libc::CLONE_SIGHAND, "CLONE_SIGHAND"),
    ] {
        // SAFETY: these flags are refused alone.
        let call = || unsafe { result(libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0)) };
        let fields = |ret: i64| json!({"call": "clone", "flags": [named], "ret": ret});
        made(name, "failed", call, fields)?;
    }
    // SAFETY: clone_args is plain numbers, for which zero says "not given".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_THREAD as u64;
    let size = size_of_val(&args);
    // SAFETY: as above.
    let call = || unsafe { result(libc::syscall(libc::SYS_clone3, &raw const args, size)) };
    let fields = |ret: i64| json!({"call": "clone3", "flags": ["CLONE_THREAD"], "ret": ret});
    made("clone3", "failed", call, fields)?;

    let file = files::temporary(1)?;
    let path = file.path().to_str().context("a file's name")?;
    for name in ["/no/such/program", path] {
        let c_name = CString::new(name)?;
        // SAFETY: a name, and nothing else.
        let call = || unsafe { result(libc::syscall(libc::SYS_execve, c_name.as_ptr(), 0, 0)) };
        let fields = |ret: i64| json!({"call": "execve", "file": name, "fatal": null, "ret": ret});
        made("execve", "failed", call, fields)?;
    }
    let fd = file.as_file().as_raw_fd();
    // SAFETY: an empty name.
    let call = || unsafe {
        let (name, empty) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        result(libc::syscall(libc::SYS_execveat, fd, name, 0, 0, empty))
    };
    let fields =
        |ret: i64| json!({"call": "execveat", "file": format!("/dev/fd/{fd}"), "ret": ret});
    made("execveat", "failed", call, fields)?;
    Ok(())
}

/// Children: one that may make no task, one whose exec fails when its old program is gone, and two that crash.
fn died() -> Result<()> {
    let refused = process::child_with_code(|| {
        setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
        // SAFETY: this process has no other threads.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        ensure!(
            changed == 0,
            "setresuid: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: one thread; the child, if there is one after all, ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            exit(0);
        }
        Ok(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    })?;
    let errno = match process::wait_usage("", refused)?.0 {
        WaitStatus::Exited(_, errno) => errno,
        other => anyhow::bail!("{other:?}"),
    };
    ensure!(errno == libc::EAGAIN, "fork: errno {errno}");
    note("refused", json!([refused.as_raw(), errno]))?;

    let this = std::env::current_exe()?;
    let name = CString::new(this.to_str().context("this program's name")?)?;
    let lost = process::child_with_code(|| {
        // Enough for a stack, and too little for a program.
        setrlimit(Resource::RLIMIT_AS, 64 * PAGE as u64, 64 * PAGE as u64)?;
        let args = [name.as_ptr(), null()];
        // SAFETY: strings with an end, lists with an end.
        unsafe { libc::execve(name.as_ptr(), args.as_ptr(), [null()].as_ptr()) };
        Ok(1)
    })?;
    note_death("lost", lost, &json!(this))?;

    for (name, limit) in [("dumped", libc::RLIM_INFINITY), ("not dumped", 0)] {
        let folder = tempfile::tempdir_in(temp_dir())?;
        let crashed = process::child(|| {
            chdir(folder.path())?;
            setrlimit(Resource::RLIMIT_CORE, limit, libc::RLIM_INFINITY)?;
            std::process::abort();
        })?;
        note_death(name, crashed, &Value::Null)?;
    }
    Ok(())
}

/// Reports how a child was ended by a signal: its number, and whether the kernel says that it dumped core.
fn note_death(name: &str, pid: Pid, what: &Value) -> Result<()> {
    let WaitStatus::Signaled(_, signal, core) = process::wait_usage("", pid)?.0 else {
        anyhow::bail!("{name}: {pid} wasn't killed");
    };
    let told = json!({"pid": pid.as_raw(), "signal": signal as c_int, "core": core, "what": what});
    note(name, told)
}

fn pidfd(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    ensure!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: a new file descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// What the call returns: -1 for a failure.
fn process_madvise(pidfd: c_int, ranges: &[(u64, usize)], advice: c_int) -> c_long {
    let ranges: Vec<libc::iovec> = ranges
        .iter()
        .map(|&(addr, len)| libc::iovec {
            iov_base: addr as *mut _,
            iov_len: len,
        })
        .collect();
    // SAFETY: the memory is that of pages that nothing refers to.
    unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            pidfd,
            ranges.as_ptr(),
            ranges.len(),
            advice,
            0,
        )
    }
}

//! The first program of a guest (`cargo xtask kernels` packs it as /init): it makes the guest usable, runs what
//! /etc/guest lists, tells on the console how each of these ended, and powers off.
//!
//! A line of /etc/guest is `NAME SECONDS PROGRAM ARGS...`, with blanks between the words. What init tells is in lines
//! of their own that begin with `@guest `; `done N` is the last, so that a guest without it has failed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};
use tests::subject::memory;

/// What is mounted where. Not every kernel has each of them, and the programs say what they lack.
const MOUNTS: [(&str, &str); 10] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/tmp"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
    ("securityfs", "/sys/kernel/security"),
    ("cgroup2", "/sys/fs/cgroup"),
];
/// What the programs are told; the tests look for memtrace and their subjects there.
const VARIABLES: [(&str, &str); 4] = [
    ("PATH", "/bin"),
    ("HOME", "/root"),
    ("MEMTRACE", "/bin/memtrace"),
    ("MEMTRACE_SUBJECTS", "/subjects"),
];
/// The guest's disk, for tests that need files on one.
const DISK: &str = "/dev/nvme0n1";
/// The modules that are loaded.
const MODULES: &str = "/lib/modules";
/// `MODULE_INIT_COMPRESSED_FILE` (`include/uapi/linux/module.h`): the kernel unpacks it.
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// How often init looks for what has ended.
const LOOK: Duration = Duration::from_millis(5);

fn main() {
    if std::process::id() != 1 {
        eprintln!("init is for the guests of `cargo xtask kernels` alone");
        std::process::exit(1);
    }
    if let Err(error) = perform() {
        tell(&format!("error {error:#}"));
    }
    sync();
    // Returns only with an error; then the kernel panics as init ends, and QEMU ends as well.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    tell(&format!("error cannot power off: {error}"));
}

fn perform() -> Result<()> {
    for (kind, place) in MOUNTS {
        // Those below /dev have no place before it is mounted; the others are packed, or the kernel's.
        fs::create_dir_all(place).ok();
        if let Err(error) = mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        ) {
            println!("init: cannot mount {kind} on {place}: {error}");
        }
    }
    disk().context("the guest's disk")?;
    swap().context("the guest's swap file")?;
    modules().context("the guest's modules")?;
    tell(&format!("facts {}", facts()?));
    let list = fs::read_to_string("/etc/guest").context("/etc/guest")?;
    let mut count = 0;
    for line in list.lines() {
        run(line).with_context(|| format!("/etc/guest: {line}"))?;
        count += 1;
    }
    tell(&format!("done {count}"));
    Ok(())
}

/// A line for who reads the console. What was printed before may lack its end of line.
fn tell(what: &str) {
    println!("\n@guest {what}");
}

/// Makes a file system on the disk, if there is one, and mounts it.
fn disk() -> Result<()> {
    if !Path::new(DISK).exists() {
        return Ok(());
    }
    let status = Command::new("/bin/mke2fs").args(["-q", DISK]).status()?;
    ensure!(status.success(), "mke2fs {DISK}: {status}");
    fs::create_dir_all("/var/tmp")?;
    Ok(mount(
        Some(DISK),
        "/var/tmp",
        Some("ext4"),
        MsFlags::empty(),
        None::<&str>,
    )?)
}

/// Swaps to a file on the disk, if there is one: for tests of pages that come back from swap.
fn swap() -> Result<()> {
    const FILE: &str = "/var/tmp/swap";
    const PAGES: u32 = 4096;
    const PAGE: usize = 4096;
    if !Path::new(DISK).exists() {
        return Ok(());
    }
    // union swap_header (include/linux/swap.h); a swap file must have no holes.
    let mut bytes = vec![0; PAGES as usize * PAGE];
    bytes[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    bytes[1028..1032].copy_from_slice(&(PAGES - 1).to_ne_bytes());
    bytes[PAGE - 10..PAGE].copy_from_slice(b"SWAPSPACE2");
    fs::write(FILE, bytes)?;
    fs::set_permissions(FILE, fs::Permissions::from_mode(0o600))?;
    sync();
    let path = CString::new(FILE)?;
    // SAFETY: a path that ends in zero.
    let done = unsafe { libc::swapon(path.as_ptr(), 0) };
    Errno::result(done).map(drop).context("swapon")
}

/// Loads the modules that were packed, as they are or as Debian compresses them.
fn modules() -> Result<()> {
    for entry in fs::read_dir(MODULES)? {
        let path = entry?.path();
        let flags = if path.extension().is_some_and(|extension| extension == "xz") {
            COMPRESSED
        } else {
            ModuleInitFlags::empty()
        };
        let loaded = finit_module(File::open(&path)?, c"", flags);
        loaded.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// What kernel this is, and what of its variants runs.
fn facts() -> Result<String> {
    let words = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = words("/proc/cpuinfo");
    // The kernel takes the flag away when it doesn't use the fifth level (arch/x86/mm: check_la57_support).
    let levels = if processors.contains(" la57") { 5 } else { 4 };
    // Where the kernel is linked to be, `_text` is not randomised (arch/x86/boot/compressed/kaslr.c).
    let kaslr = words("/proc/kallsyms")
        .lines()
        .any(|line| line.ends_with(" _text") && !line.starts_with("ffffffff81000000 "));
    let lockdown = words("/sys/kernel/security/lockdown");
    let lockdown = lockdown.split(['[', ']']).nth(1).unwrap_or("unknown");
    // A kernel that lets nobody choose has no such file, and one that is locked down doesn't show it.
    let preempt = match fs::read_to_string("/sys/kernel/debug/sched/preempt") {
        Ok(modes) => modes.split(['(', ')']).nth(1).map(str::to_owned),
        Err(error) if error.kind() == ErrorKind::NotFound => Some("fixed".to_owned()),
        Err(_) => None,
    };
    let preempt = preempt.unwrap_or_else(|| "hidden".to_owned());
    Ok(format!(
        "linux={} cpus={} nodes={} levels={levels} kaslr={} lockdown={lockdown} preempt={preempt}",
        words("/proc/sys/kernel/osrelease").trim(),
        std::thread::available_parallelism()?,
        memory::nodes(),
        if kaslr { "on" } else { "off" },
    ))
}

/// Runs a line of the list within its time, and tells how it ended.
fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let (name, seconds) = (words.next(), words.next());
    let name = name.context("no name")?;
    let limit = Duration::from_secs(seconds.context("no seconds")?.parse()?);
    let mut command = Command::new(words.next().context("no program")?);
    command.args(words).envs(VARIABLES).process_group(0);

    tell(&format!("begin {name}"));
    let start = Instant::now();
    let status = match command.spawn() {
        Ok(child) => wait(Pid::from_raw(child.id() as i32), start + limit)?,
        Err(error) => {
            println!(
                "init: cannot start {}: {error}",
                command.get_program().display()
            );
            "not-started".to_owned()
        }
    };
    tell(&format!(
        "end {name} {status} {}",
        start.elapsed().as_millis()
    ));
    Ok(())
}

/// Waits for a child, and for whatever is left to init meanwhile. What runs beyond its time is killed with all others.
fn wait(child: Pid, end: Instant) -> Result<String> {
    let mut late = false;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))
                if late && pid == child =>
            {
                return Ok("late".to_owned());
            }
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code.to_string()),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(signal.to_string());
            }
            Ok(WaitStatus::StillAlive) if !late && Instant::now() > end => {
                late = true;
                // All but init itself.
                kill(Pid::from_raw(-1), Signal::SIGKILL)?;
            }
            Ok(WaitStatus::StillAlive) => sleep(LOOK),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("waiting: {error}"),
        }
    }
}

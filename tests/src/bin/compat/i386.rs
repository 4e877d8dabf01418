//! 32-bit calls by a 64-bit program: `int 0x80`.

use std::arch::asm;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getpid};
use serde_json::{Value, json};
use tests::subject::call::{address, hex, made};
use tests::subject::files;
use tests::subject::memory::{PAGE, frame};
use tests::subject::process::{self, Gate};
use tests::subject::report::{note, without};

const READ_WRITE: u32 = (libc::PROT_READ | libc::PROT_WRITE) as u32;
const PRIVATE: u32 = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u32;
const ANONYMOUS: u32 = PRIVATE | libc::MAP_ANONYMOUS as u32;
const NO_FILE: u32 = u32::MAX;

/// Memory that such a call can name.
const MEMORY: u32 = 0x6000_0000;
const FILE: u32 = 0x6100_0000;
const SEGMENT: u32 = 0x6200_0000;
const BLOCK: u32 = 0x6300_0000;

// Numbers of i386 (`arch/x86/entry/syscalls/syscall_32.tbl`).
const FORK: u32 = 2;
const EXECVE: u32 = 11;
const GETPID: u32 = 20;
const BRK: u32 = 45;
const OLD_MMAP: u32 = 90;
const MUNMAP: u32 = 91;
const IPC: u32 = 117;
const MPROTECT: u32 = 125;
const MLOCK: u32 = 150;
const MREMAP: u32 = 163;
const MMAP2: u32 = 192;
const MADVISE: u32 = 219;
const SHMAT: u32 = 397;
const PROCESS_MADVISE: u32 = 440;
/// Of ipc(2).
const IPC_SHMAT: u32 = 21;
const IPC_SHMDT: u32 = 22;

/// Makes a call, whose result may be more than 32 bits.
///
/// # Safety
/// As for the call.
unsafe fn call(number: u32, args: [u32; 6]) -> i64 {
    let [first, second, third, fourth, fifth, sixth] = args;
    let all = [number, first, second, third, fourth, fifth, sixth];
    let ret;
    // SAFETY: the kernel keeps all other registers; the caller answers for the call.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov ebx, [rax + 4]",
            "mov ecx, [rax + 8]",
            "mov edx, [rax + 12]",
            "mov esi, [rax + 16]",
            "mov edi, [rax + 20]",
            "mov ebp, [rax + 24]",
            "mov eax, [rax]",
            "int 0x80",
            "pop rbp",
            "pop rbx",
            inlateout("rax") &raw const all => ret,
            out("rcx") _,
            out("rdx") _,
            out("rsi") _,
            out("rdi") _,
            // Cleared before 5.x by the kernel.
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    ret
}

/// Makes a call and reports it, as the call of that name; its event says as well of what ABI it is.
fn reports(
    name: &str,
    kind: &str,
    (number, args): (u32, [u32; 6]),
    fields: impl FnOnce(i64) -> Value,
) -> Result<i64> {
    let with_abi = |ret| {
        let mut fields = fields(ret);
        fields["abi"] = json!("i386");
        fields
    };
    // SAFETY: each is about memory at the addresses above, which is this file's alone.
    made(name, kind, || unsafe { call(number, args) }, with_abi)
}

/// Whether the kernel knows such calls: a process that makes one may be ended for it.
fn is_there() -> Result<bool> {
    let asks = process::child_with_code(|| {
        // SAFETY: touches no memory.
        let same = unsafe { call(GETPID, [0; 6]) } == i64::from(getpid().as_raw());
        Ok(i32::from(!same))
    })?;
    Ok(matches!(
        process::wait_usage("", asks)?.0,
        WaitStatus::Exited(_, 0)
    ))
}

pub fn calls() -> Result<()> {
    if !is_there()? {
        return without("32-bit calls", "this kernel has none");
    }
    mappings()?;
    segments()?;
    heap()?;
    others()?;
    forks()
}

fn mappings() -> Result<()> {
    let len = 16 * PAGE as u32;
    let args = [MEMORY, len, READ_WRITE, ANONYMOUS, NO_FILE, 0];
    reports("mmap2", "mmap", (MMAP2, args), |ret| {
        json!({
            "addr": hex(MEMORY.into()), "len": len, "prot": ["PROT_READ", "PROT_WRITE"],
            "flags": ["MAP_PRIVATE", "MAP_FIXED", "MAP_ANONYMOUS"], "ret": address(ret),
        })
    })?;

    let file = files::temporary(4)?;
    let path = file.path().to_str().context("a file's name")?;
    let mapped = |number, name, args, page: usize| {
        reports(name, "mmap", (number, args), |ret| {
            json!({
                "addr": hex(FILE.into()), "len": PAGE, "prot": ["PROT_READ", "PROT_WRITE"],
                "flags": ["MAP_PRIVATE", "MAP_FIXED"], "file": path, "offset": page * PAGE,
                "ret": address(ret),
            })
        })
    };
    let fd = file.as_file().as_raw_fd() as u32;
    let by_pages = [FILE, PAGE as u32, READ_WRITE, PRIVATE, fd, 3];
    mapped(MMAP2, "mmap2 of a file", by_pages, 3)?;
    let by_bytes = [FILE, PAGE as u32, READ_WRITE, PRIVATE, fd, 2 * PAGE as u32];
    let place = MEMORY as *mut [u32; 6];
    // SAFETY: mapped above.
    unsafe { place.write(by_bytes) };
    mapped(OLD_MMAP, "mmap of old", [MEMORY, 0, 0, 0, 0, 0], 2)?;
    // Its arguments are where no page is yet: in a file.
    let bytes: Vec<u8> = by_bytes.into_iter().flat_map(u32::to_ne_bytes).collect();
    file.as_file().write_all_at(&bytes, PAGE as u64)?;
    let args = [BLOCK, PAGE as u32, READ_WRITE, PRIVATE, fd, 1];
    // SAFETY: nothing is there.
    ensure!(unsafe { call(MMAP2, args) } == i64::from(BLOCK), "mmap2");
    ensure!(
        frame(BLOCK.into())?.is_none(),
        "a page that is to be untouched"
    );
    mapped(
        OLD_MMAP,
        "mmap of old by an untouched page",
        [BLOCK, 0, 0, 0, 0, 0],
        2,
    )?;
    // And where the mapping itself comes.
    let place = FILE as *mut [u32; 6];
    // SAFETY: mapped above.
    unsafe { place.write(by_bytes) };
    mapped(
        OLD_MMAP,
        "mmap of old over its arguments",
        [FILE, 0, 0, 0, 0, 0],
        2,
    )?;

    let ranged = |kind: &str, number, third: u32, addr: u32| {
        let args = [addr, PAGE as u32, third, 0, 0, 0];
        let fields = |ret: i64| json!({"addr": hex(addr.into()), "len": PAGE, "ret": ret});
        reports(kind, kind, (number, args), fields)
    };
    ranged("mprotect", MPROTECT, libc::PROT_READ as u32, FILE)?;
    ranged("madvise", MADVISE, libc::MADV_DONTNEED as u32, FILE)?;
    ranged("mlock", MLOCK, 0, MEMORY)?;
    ranged("munmap", MUNMAP, 0, 1)?;
    let args = [FILE, PAGE as u32, 2 * PAGE as u32, 0, 0, 0];
    reports("mremap", "mremap", (MREMAP, args), |ret| {
        json!({
            "addr": hex(FILE.into()), "old_len": PAGE, "len": 2 * PAGE, "flags": [],
            "ret": address(ret),
        })
    })?;
    Ok(())
}

/// System V shared memory, by a call of its own and by one for all.
fn segments() -> Result<()> {
    // SAFETY: touches no memory.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 2 * PAGE, 0o600) };
    ensure!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
    let attached = [
        ("shmat", (SHMAT, [id as u32, SEGMENT, 0, 0, 0, 0])),
        ("ipc", (IPC, [IPC_SHMAT, id as u32, 0, MEMORY, SEGMENT, 0])),
    ];
    for (name, how) in attached {
        reports(name, "shmat", how, |ret| {
            // A call of its own is of 5.1 and later.
            let told = if ret < 0 {
                json!(ret)
            } else {
                hex(SEGMENT.into())
            };
            json!({"addr": hex(SEGMENT.into()), "id": id, "ret": told})
        })?;
        let args = [IPC_SHMDT, 0, 0, 0, SEGMENT, 0];
        let fields = |ret: i64| json!({"addr": hex(SEGMENT.into()), "len": 2 * PAGE, "ret": ret});
        reports("shmdt", "shmdt", (IPC, args), fields)?;
    }
    // SAFETY: touches no memory.
    let removed = unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    ensure!(removed == 0, "shmctl: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The heap of a 64-bit program is where no 32 bits suffice.
fn heap() -> Result<()> {
    // SAFETY: only asks.
    let end = unsafe { libc::syscall(libc::SYS_brk, 0) } as u64;
    let fields = |_| json!({"old": hex(end), "new": hex(end)});
    reports("brk", "brk", (BRK, [0; 6]), fields)?;
    Ok(())
}

/// A list of ranges and a name, in memory that the calls can name.
fn others() -> Result<()> {
    // SAFETY: touches no memory.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, getpid().as_raw(), 0) };
    let range = [MEMORY, 2 * PAGE as u32];
    // SAFETY: mapped above.
    unsafe { (MEMORY as *mut [u32; 2]).write(range) };
    let args = [pidfd as u32, MEMORY, 1, libc::MADV_COLD as u32, 0, 0];
    let call = (PROCESS_MADVISE, args);
    reports("process_madvise", "madvise", call, |ret| {
        json!({
            "addr": hex(MEMORY.into()), "len": range[1], "process": getpid().as_raw(),
            "ret": ret.min(0),
        })
    })?;
    let name = CString::new("/no/such/program")?;
    // SAFETY: mapped above.
    unsafe {
        std::ptr::copy(
            name.as_ptr().cast(),
            MEMORY as *mut u8,
            name.count_bytes() + 1,
        );
    };
    let call = (EXECVE, [MEMORY, 0, 0, 0, 0, 0]);
    let fields = |ret: i64| json!({"call": "execve", "file": name.to_str().ok(), "ret": ret});
    reports("execve", "failed", call, fields)?;
    Ok(())
}

/// A fork, and what the parent unmaps while the child has it, too.
fn forks() -> Result<()> {
    let shared = 4;
    for page in 0..shared {
        let at = (MEMORY + page * PAGE as u32) as *mut u8;
        // SAFETY: mapped above.
        unsafe { at.write_volatile(7) };
    }
    let gate = Gate::new()?;
    // SAFETY: this process has no other threads.
    let forked = unsafe { call(FORK, [0; 6]) };
    if forked == 0 {
        let code = i32::from(gate.wait().is_err());
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) }
    }
    ensure!(forked > 0, "fork: {forked}");
    note("forked", json!(forked))?;
    let len = shared * PAGE as u32;
    let call = (MUNMAP, [MEMORY, len, 0, 0, 0, 0]);
    let fields = |ret: i64| json!({"addr": hex(MEMORY.into()), "len": len, "ret": ret});
    reports("munmap", "munmap", call, fields)?;
    gate.open()?;
    process::wait_success(Pid::from_raw(forked as i32))
}

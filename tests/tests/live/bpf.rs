//! What the kernel says of the BPF programs and maps that memtrace has loaded.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::loaded_programs;
use aya_obj::generated::{bpf_attr, bpf_btf_info, bpf_cmd, bpf_func_info, bpf_insn, bpf_prog_info};
use memtrace_ebpf::control::LogEnds;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::hooks::Hooks;

/// The code of an instruction that calls (`include/uapi/linux/bpf.h`: `BPF_JMP | BPF_CALL`).
const CALL: u8 = 0x85;
/// What such an instruction calls: one of the program's own functions (`BPF_PSEUDO_CALL`). Else it is a helper, or a function of
/// the kernel's.
const OWN_FUNCTION: u8 = 1;
/// The kind of a function among the types (`Documentation/bpf/btf.rst`).
const KIND_FUNC: u32 = 12;

/// A structure of the kernel's, of numbers alone.
trait Numbers: Sized {
    fn zeroes() -> Self {
        // SAFETY: all that implement it are numbers and unions of such, for which zeroes are valid.
        unsafe { std::mem::zeroed() }
    }
}

impl Numbers for bpf_attr {}
impl Numbers for bpf_btf_info {}
impl Numbers for bpf_func_info {}
impl Numbers for bpf_insn {}
impl Numbers for bpf_prog_info {}

/// A program, once the verifier is done with it.
#[derive(Debug)]
pub struct Program {
    /// The hook's name.
    pub name: String,
    /// Instructions, with those of all functions that it calls (`xlated_prog_len`).
    pub instructions: u32,
    /// Instructions that the verifier has looked at. A kernel tells since 5.16.
    pub verified: Option<u32>,
    /// How many instructions of each of its functions, its own first one too, call a helper or a function of the kernel's.
    pub calls: BTreeMap<String, u32>,
}

/// Those of a memtrace that traces.
pub fn programs(memtrace: Pid) -> Result<Vec<Program>> {
    let hooks = Hooks::of(memtrace)?;
    let held: Vec<_> = hooks.ids("prog_id").collect();
    let mut names = HashMap::new();
    // What goes while it is listed gives an error; it isn't this memtrace's.
    loaded_programs()
        .flatten()
        .filter(|program| held.contains(&program.id()))
        .map(|info| {
            let types = info.btf_id().context("the program has no types")?;
            let names = match names.get(&types) {
                Some(known) => known,
                None => names.entry(types).or_insert(function_names(types)?),
            };
            let fd = info.fd()?;
            let code = Code::of(fd.as_fd())?;
            let calls = code.calls(names)?;
            Ok(Program {
                // A program's own name has 15 characters at the most.
                name: code.name(names)?.to_owned(),
                instructions: code.instructions.len() as u32,
                verified: info.verified_instruction_count(),
                calls,
            })
        })
        .collect()
}

/// The instructions of a program, and where its functions begin.
struct Code {
    instructions: Vec<bpf_insn>,
    functions: Vec<bpf_func_info>,
}

impl Code {
    fn of(program: BorrowedFd<'_>) -> Result<Self> {
        let mut sizes = bpf_prog_info::zeroes();
        info(program, &mut sizes)?;
        let count = sizes.xlated_prog_len as usize / size_of::<bpf_insn>();
        let mut instructions = vec![bpf_insn::zeroes(); count];
        let mut functions = vec![bpf_func_info::zeroes(); sizes.nr_func_info as usize];
        let mut wanted = bpf_prog_info::zeroes();
        wanted.xlated_prog_len = sizes.xlated_prog_len;
        wanted.xlated_prog_insns = instructions.as_mut_ptr() as u64;
        wanted.nr_func_info = sizes.nr_func_info;
        wanted.func_info_rec_size = size_of::<bpf_func_info>() as u32;
        wanted.func_info = functions.as_mut_ptr() as u64;
        info(program, &mut wanted)?;
        ensure!(
            wanted.xlated_prog_insns != 0,
            "the kernel doesn't show the program's instructions: net.core.bpf_jit_harden may be 2"
        );
        ensure!(
            functions.first().is_some_and(|first| first.insn_off == 0),
            "{functions:?} should begin with the program itself"
        );
        Ok(Self {
            instructions,
            functions,
        })
    }

    /// The name of its first function.
    fn name<'a>(&self, names: &'a HashMap<u32, String>) -> Result<&'a str> {
        let first = self.functions.first().context("no function")?;
        Ok(names.get(&first.type_id).context("no name")?)
    }

    fn calls(&self, names: &HashMap<u32, String>) -> Result<BTreeMap<String, u32>> {
        let ends = self.functions.iter().skip(1).map(|next| next.insn_off);
        let ends = ends.chain([self.instructions.len() as u32]);
        let mut calls = BTreeMap::new();
        for (function, end) in self.functions.iter().zip(ends) {
            let name = names.get(&function.type_id).context("no name")?;
            let body = self
                .instructions
                .get(function.insn_off as usize..end as usize)
                .context("the functions aren't in order")?;
            let outside = body
                .iter()
                .filter(|one| one.code == CALL && one.src_reg() != OWN_FUNCTION);
            calls.insert(name.clone(), outside.count() as u32);
        }
        Ok(calls)
    }
}

/// The names of the functions among the types with this id, by the number of the type.
fn function_names(types: u32) -> Result<HashMap<u32, String>> {
    let mut by_id = bpf_attr::zeroes();
    by_id.__bindgen_anon_6.__bindgen_anon_1.btf_id = types;
    let fd = bpf(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut by_id)?;
    // SAFETY: the kernel has just made it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut about = bpf_btf_info::zeroes();
    info(fd.as_fd(), &mut about)?;
    let mut bytes = vec![0; about.btf_size as usize];
    about = bpf_btf_info::zeroes();
    about.btf = bytes.as_mut_ptr() as u64;
    about.btf_size = bytes.len() as u32;
    info(fd.as_fd(), &mut about)?;
    names_in(&bytes).context("the program's types are broken")
}

fn names_in(bytes: &[u8]) -> Option<HashMap<u32, String>> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let header = word(4)? as usize;
    let (mut at, end) = (header + word(8)? as usize, word(12)? as usize);
    let end = at + end;
    let strings = bytes.get(header + word(16)? as usize..)?;
    let mut names = HashMap::new();
    for id in 1.. {
        if at >= end {
            break;
        }
        let (kind, count) = (word(at + 4)? >> 24 & 0x1f, word(at + 4)? as usize & 0xffff);
        if kind == KIND_FUNC {
            let name = strings.get(word(at)? as usize..)?.split(|&byte| byte == 0);
            names.insert(id, String::from_utf8_lossy(name.into_iter().next()?).into());
        }
        at += 12;
        // What follows the common part of each kind.
        at += match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => 12 * count,
            6 | 13 => 8 * count,
            _ => 0,
        };
    }
    Some(names)
}

/// What the kernel tells of a program or of types; `about` says where to and how much.
fn info<T>(fd: BorrowedFd<'_>, about: &mut T) -> Result<()> {
    let mut which = bpf_attr::zeroes();
    which.info.bpf_fd = fd.as_raw_fd() as u32;
    which.info.info_len = size_of::<T>() as u32;
    which.info.info = ptr::from_mut(about) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut which).map(drop)
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> Result<RawFd> {
    let attributes = ptr::from_mut(attributes);
    let size = size_of::<bpf_attr>();
    // SAFETY: the attributes are this command's, and point to memory of the lengths that they give.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, attributes, size) };
    Ok(Errno::result(result).context("bpf(2)")? as RawFd)
}

/// What a memtrace's hooks have written to its reader so far.
pub struct Written {
    ring: Mapping,
    ends: Array<MapData, [u64; size_of::<LogEnds>() / 8]>,
    /// Bytes of a record in the log of faults.
    fault: u64,
}

impl Written {
    /// That of a memtrace that traces.
    pub fn by(memtrace: Pid) -> Result<Self> {
        let maps = Hooks::of(memtrace)?
            .ids("map_id")
            .map(MapInfo::from_id)
            .collect::<Result<Vec<_>, _>>()?;
        let find = |name| {
            let found = maps.iter().find(|map| map.name_as_str() == Some(name));
            found.with_context(|| format!("memtrace has no map {name}"))
        };
        let ends = MapData::from_id(find("LOG_ENDS")?.id())?;
        Ok(Self {
            ring: Mapping::of_ring(find("RECORDS")?.fd()?.as_fd())?,
            ends: Array::try_from(Map::Array(ends))?,
            fault: find("FAULTS")?.value_size().into(),
        })
    }

    /// Bytes until now, in the logs of faults and in the ring buffer, there with a header for each record.
    pub fn bytes(&self) -> Result<u64> {
        let ends: Vec<_> = self.ends.iter().collect::<Result<_, _>>()?;
        let faults: u64 = ends.iter().map(|[written, ..]| written).sum();
        Ok(faults * self.fault + self.ring.written())
    }
}

/// The page of a ring buffer that says how much was ever written.
struct Mapping(ptr::NonNull<libc::c_void>, usize);

impl Mapping {
    fn of_ring(ring: BorrowedFd<'_>) -> Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.context("a page has a size")? as usize;
        let length = NonZero::new(page).context("a page has a size")?;
        // SAFETY: new memory, at a place of the kernel's choice. It follows the reader's own page.
        let start = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                ring,
                page as i64,
            )
        }?;
        Ok(Self(start, page))
    }

    fn written(&self) -> u64 {
        // SAFETY: the page is mapped as long as this lives, and begins with the number (`struct bpf_ringbuf` in
        // `kernel/bpf/ringbuf.c`). Volatile, as the kernel changes it.
        unsafe { self.0.cast::<u64>().as_ptr().cast_const().read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped above, and nothing borrows from it. So this can't fail.
        let _ = unsafe { munmap(self.0, self.1) };
    }
}

//! Files behind mappings: their identity and their path.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str,
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use memtrace_ebpf::record::{Header, Kind, PATH_BYTES, PATH_DELETED, PATH_TRUNCATED, Path};

use crate::hooks::{
    kernel::{Object, offset, read_member},
    repeat::repeat,
    ring,
};

/// `TMPFS_MAGIC` (`include/uapi/linux/magic.h`): also of memfd, shared anonymous and System V memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Directories that a path is followed through.
const DEPTH: u32 = 64;
/// Bytes of a name, with its zero byte (`NAME_MAX` is 255).
const NAME_BYTES: usize = 256;

/// What tells a file from another: its inode, as long as that lives.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    /// Address of the inode; 0 for no file.
    pub(crate) inode: u64,
    ino: u64,
    dev: u32,
    /// Its pages are the only copy: shared memory.
    pub(crate) in_memory: bool,
}

/// An inode whose path was sent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Announced {
    ino: u64,
    dev: u32,
    generation: u32,
}

/// Files whose path was sent, by the inode's address. When an address is used again, for the same number it may be, something
/// of it differs.
#[map]
static FILES: LruHashMap<u64, Announced> = LruHashMap::with_max_entries(8192, 0);

#[repr(C)]
struct Scratch {
    /// How far the walk is: the next directory entry, its mount, and whether the top was reached.
    dentry: u64,
    mount: u64,
    complete: u64,
    /// The task's root directory, where its paths begin.
    root_dentry: u64,
    root_mount: u64,
    record: Path,
    // The verifier must see that a whole name fits wherever the last one ended.
    bytes: [u8; PATH_BYTES + NAME_BYTES],
}

#[map]
static PATH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The identity of the `struct file` at this address.
#[inline(always)]
pub(crate) fn identity(file: u64) -> Identity {
    if file == 0 {
        return Identity {
            inode: 0,
            ino: 0,
            dev: 0,
            in_memory: false,
        };
    }
    let inode: u64 = read_member(file, offset!(file_inode));
    let sb: u64 = read_member(inode, offset!(inode_sb));
    Identity {
        inode,
        ino: read_member(inode, offset!(inode_ino)),
        dev: read_member(sb, offset!(sb_dev)),
        in_memory: read_member::<u64>(sb, offset!(sb_magic)) == TMPFS_MAGIC,
    }
}

/// Sends the path of a file, unless that has been done.
#[inline(always)]
pub(crate) fn announce(file: u64, identity: &Identity, ts: u64, tid: u32) {
    if identity.inode == 0 {
        return;
    }
    let now = Announced {
        ino: identity.ino,
        dev: identity.dev,
        generation: read_member(identity.inode, offset!(inode_generation)),
    };
    // SAFETY: the value is copied at once; a torn one only makes the path be sent again.
    if unsafe { FILES.get(identity.inode) }.copied() == Some(now) {
        return;
    }
    let _ = FILES.insert(identity.inode, now, 0);
    send_path(file, ts, tid);
}

/// Sends the path of the `struct file` at this address.
///
/// A global function, which the verifier looks at once, and not in each state that a hook can have come to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_path(file: u64, ts: u64, tid: u32) -> u32 {
    let identity = identity(file);
    let Some(scratch) = scratch() else { return 0 };
    scratch.dentry = read_member(file, offset!(file_dentry));
    scratch.mount =
        read_member::<u64>(file, offset!(file_mnt)).wrapping_sub(u64::from(offset!(mount_mnt)));
    scratch.complete = 0;
    let fs = Object::current().load(offset!(task_fs));
    scratch.root_dentry = read_member(fs, offset!(fs_root_dentry));
    scratch.root_mount =
        read_member::<u64>(fs, offset!(fs_root_mnt)).wrapping_sub(u64::from(offset!(mount_mnt)));
    // A file in memory that never had a name in a directory is shown like one that has lost it (simple_dname in
    // fs/d_path.c).
    let unlinked = read_member::<u64>(scratch.dentry, offset!(dentry_hash)) == 0
        && (identity.in_memory
            || read_member::<u64>(scratch.dentry, offset!(dentry_parent)) != scratch.dentry);
    scratch.record = Path {
        head: Header {
            ts,
            tid,
            kind: Kind::Path as u8,
            flags: if unlinked { PATH_DELETED } else { 0 },
            a: 0,
            b: 0,
        },
        file: identity.inode,
        ino: identity.ino,
        dev: identity.dev,
        len: 0,
    };
    repeat!(DEPTH, step_up);
    // Fetched again: the function changed it behind the compiler's back.
    let Some(scratch) = self::scratch() else {
        return 0;
    };
    if scratch.complete == 0 {
        scratch.record.head.flags |= PATH_TRUNCATED;
    }
    let len = u64::from(scratch.record.len) & (PATH_BYTES as u64 * 2 - 1);
    let len = if len > PATH_BYTES as u64 {
        PATH_BYTES as u64
    } else {
        len
    };
    scratch.record.len = len as u32;
    let start: *mut Path = &raw mut scratch.record;
    ring::send_bytes(Kind::Path, start.cast(), size_of::<Path>() as u64 + len);
    0
}

#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a valid pointer to this CPU's scratch; no two users of it interrupt one another.
    PATH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// One step upwards, as `prepend_path` in `fs/d_path.c`: at the root of a mount on to where it is mounted. 1 ends it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_up() -> u32 {
    let Some(scratch) = scratch() else { return 1 };
    let (dentry, mount) = (scratch.dentry, scratch.mount);
    if dentry == scratch.root_dentry && mount == scratch.root_mount {
        scratch.complete = 1;
        return 1;
    }
    let parent: u64 = read_member(dentry, offset!(dentry_parent));
    let root: u64 = read_member(
        mount + u64::from(offset!(mount_mnt)),
        offset!(vfsmount_root),
    );
    if dentry == root {
        let up: u64 = read_member(mount, offset!(mount_parent));
        if up == mount || up == 0 {
            scratch.complete = 1;
            return 1;
        }
        scratch.dentry = read_member(mount, offset!(mount_mountpoint));
        scratch.mount = up;
        return 0;
    }
    let len = scratch.record.len as usize;
    if len >= PATH_BYTES {
        return 1;
    }
    let name: u64 = read_member(dentry, offset!(dentry_name));
    // SAFETY: the helper checks `name`; `len` is below PATH_BYTES, so a whole name fits behind it.
    let written = unsafe {
        bpf_probe_read_kernel_str(
            scratch
                .bytes
                .as_mut_ptr()
                .add(len & (PATH_BYTES - 1))
                .cast(),
            NAME_BYTES as u32,
            name as *const _,
        )
    };
    if written <= 0 {
        return 1;
    }
    scratch.record.len = (len + written as usize) as u32;
    scratch.dentry = parent;
    // What is in no directory is its own parent.
    if parent == dentry {
        scratch.complete = 1;
        return 1;
    }
    0
}

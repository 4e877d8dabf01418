//! Files behind mappings: what tells them apart, and the paths by which tasks know them.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str,
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use memtrace_ebpf::{
    layout::ABSENT,
    record::{Header, Kind, PATH_BYTES, PATH_DELETED, PATH_TRUNCATED, Path},
};

use crate::hooks::{
    kernel::{config, offset, read_into, read_member},
    ring,
    verifier::{self, repeat},
};

/// `TMPFS_MAGIC` (`include/uapi/linux/magic.h`): also of memfd, shared anonymous and System V memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Directories that a path is followed through.
const DEPTH: u32 = 64;
/// Bytes of a name, with its zero byte (`NAME_MAX` is 255).
const NAME_BYTES: usize = 256;
/// Words of a directory entry that are read: as many as each kernel's has at least.
const ENTRY_WORDS: usize = 24;

/// What a mapped file's pages are in.
#[derive(Clone, Copy)]
pub(crate) struct Backed {
    /// Address of the inode; 0 for no file.
    pub(crate) inode: u64,
    /// Its pages are the only copy: shared memory.
    pub(crate) in_memory: bool,
}

/// Paths that were sent. A path of another text has another number: see [`tell`].
#[map]
static TOLD: LruHashMap<u64, u32> = LruHashMap::with_max_entries(8192, 0);

#[repr(C)]
struct Scratch {
    /// Where the file was opened.
    opened_dentry: u64,
    opened_mount: u64,
    /// Its identity.
    file: u64,
    /// How far the walk is: the next directory entry, its mount and the top of that, and whether the walk came to its end.
    dentry: u64,
    mount: u64,
    top: u64,
    complete: u64,
    /// The root directory of the task, where its paths begin.
    root_dentry: u64,
    root_mount: u64,
    /// What has been walked through, as a number.
    hash: u64,
    /// Whether the names are wanted.
    names: u64,
    entry: [u64; ENTRY_WORDS],
    record: Path,
    // The verifier must see that a whole name fits wherever the last one ended.
    bytes: [u8; PATH_BYTES + NAME_BYTES],
}

#[map]
static PATH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    verifier::scratch(&PATH)
}

/// What the pages of the `struct file` at this address are in.
#[inline(always)]
pub(crate) fn backed(file: u64) -> Backed {
    if file == 0 {
        return Backed {
            inode: 0,
            in_memory: false,
        };
    }
    let inode: u64 = read_member(file, offset!(file_inode));
    let sb: u64 = read_member(inode, offset!(inode_sb));
    Backed {
        inode,
        in_memory: read_member::<u64>(sb, offset!(sb_magic)) == TMPFS_MAGIC,
    }
}

/// Adds a word to a hash.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// The identity of the `struct file` at this address, the same under whatever name it is used; 0 for no file. Leaves in the
/// scratch where the file was opened.
///
/// It is that of the inode that the task opened. A stacked file system such as overlayfs has a file of the one below mapped
/// in place of its own (`backing_file_mmap` in `fs/backing-file.c`), while `exe_file` is its own: what both have in common
/// is the directory entry that was opened.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn identify(file: u64) -> u64 {
    let Some(scratch) = scratch() else { return 0 };
    if file == 0 {
        return 0;
    }
    // Kept there and not on the stack, of which all that a hook calls has 512 bytes.
    scratch.opened_mount = mount_of(read_member(file, offset!(file_mnt)));
    scratch.opened_dentry = read_member(file, offset!(file_dentry));
    // file_user_path in include/linux/fs.h: since 6.7 the path of such a file is the one below, and the one that was opened
    // is kept behind the file (struct backing_file in fs/file_table.c). Before, its path is the opened one.
    if offset!(backing_mnt) != ABSENT
        && read_member::<u32>(file, offset!(file_mode)) & config!(backing) != 0
    {
        let mount: u64 = read_member(file, offset!(backing_mnt));
        let dentry: u64 = read_member(file, offset!(backing_dentry));
        let inode: u64 = read_member(dentry, offset!(dentry_inode));
        let sb: u64 = read_member(inode, offset!(inode_sb));
        // The bit was moved once, and which one it is isn't always known: so it is a path only if it looks like one.
        if sb != 0 && sb == read_member(mount, offset!(vfsmount_sb)) {
            scratch.opened_mount = mount_of(mount);
            scratch.opened_dentry = dentry;
        }
    }
    let inode: u64 = read_member(scratch.opened_dentry, offset!(dentry_inode));
    // An address may be used again, for the same number it may be: then something of it differs.
    let ino: u64 = read_member(inode, offset!(inode_ino));
    let generation: u32 = read_member(inode, offset!(inode_generation));
    scratch.file = mix(mix(mix(1, inode), ino), u64::from(generation));
    scratch.file
}

/// The `struct mount` around a `struct vfsmount`.
#[inline(always)]
fn mount_of(vfsmount: u64) -> u64 {
    vfsmount.wrapping_sub(u64::from(offset!(mount_mnt)))
}

/// The number of the path by which a task knows the `struct file` at this address, given the task's `fs_struct`; 0 for no
/// file. The path is sent, unless that has been done. The file's identity is left for [`told_file`].
///
/// The number is made of all that the path's text follows from: so another name of the file, another mount or root, and a
/// rename of it or of a directory above give another one, and its text never changes.
///
/// A [global function](crate::hooks::verifier).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tell(file: u64, fs: u64, tid: u32) -> u64 {
    if identify(file) == 0 {
        return 0;
    }
    let in_memory = backed(file).in_memory;
    let Some(scratch) = scratch() else { return 0 };
    scratch.root_dentry = read_member(fs, offset!(fs_root_dentry));
    scratch.root_mount = mount_of(read_member(fs, offset!(fs_root_mnt)));
    let dentry = scratch.opened_dentry;
    // A file in memory that never had a name in a directory is shown like one that has lost it (simple_dname in
    // fs/d_path.c).
    let unlinked = read_member::<u64>(dentry, offset!(dentry_hash)) == 0
        && (in_memory || read_member::<u64>(dentry, offset!(dentry_parent)) != dentry);
    scratch.record = Path {
        head: Header {
            flags: if unlinked { PATH_DELETED } else { 0 },
            ..ring::head(Kind::Path, tid, 0)
        },
        path: 0,
        len: 0,
        pad: 0,
    };
    begin(scratch, false);
    repeat!(DEPTH, step_up);
    // Fetched again, each time: the function changed it behind the compiler's back.
    let Some(scratch) = self::scratch() else {
        return 0;
    };
    let path = scratch.hash;
    // SAFETY: the value doesn't matter.
    if unsafe { TOLD.get(path) }.is_some() {
        return path;
    }
    begin(scratch, true);
    repeat!(DEPTH, step_up);
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
    scratch.record.path = path;
    let start: *mut Path = &raw mut scratch.record;
    // One that is lost is sent again at its next use.
    if ring::send_bytes(Kind::Path, start.cast(), size_of::<Path>() as u64 + len) {
        let _ = TOLD.insert(path, 1, 0);
    }
    path
}

/// The identity of the file that [`tell`] was asked about last on this CPU.
#[inline(always)]
pub(crate) fn told_file() -> u64 {
    scratch().map_or(0, |scratch| scratch.file)
}

/// Puts the walk to where the file was opened.
#[inline(always)]
fn begin(scratch: &mut Scratch, names: bool) {
    scratch.dentry = scratch.opened_dentry;
    scratch.mount = scratch.opened_mount;
    scratch.top = top(scratch.mount);
    scratch.complete = 0;
    scratch.hash = mix(scratch.file, u64::from(scratch.record.head.flags));
    scratch.names = u64::from(names);
}

/// The directory entry at the top of what is mounted.
#[inline(always)]
fn top(mount: u64) -> u64 {
    read_member(
        mount.wrapping_add(u64::from(offset!(mount_mnt))),
        offset!(vfsmount_root),
    )
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
    if dentry == scratch.top {
        let up: u64 = read_member(mount, offset!(mount_parent));
        if up == mount || up == 0 {
            scratch.complete = 1;
            return 1;
        }
        scratch.dentry = read_member(mount, offset!(mount_mountpoint));
        scratch.mount = up;
        scratch.top = top(up);
        return 0;
    }
    if !read_into(dentry, &mut scratch.entry) {
        return 1;
    }
    let entry = &scratch.entry;
    let word = |offset: u32| entry.get(offset as usize / 8).copied().unwrap_or(0);
    let parent = word(offset!(dentry_parent));
    let name = word(offset!(dentry_name));
    // The hash and the length of its name, and of which directory: the hash begins with the parent's address
    // (full_name_hash in fs/namei.c).
    let name_hash = word(offset!(dentry_name_hash));
    scratch.hash = mix(mix(scratch.hash, dentry), name_hash);
    if scratch.names != 0 && !add_name(scratch, name) {
        return 1;
    }
    scratch.dentry = parent;
    // What is in no directory is its own parent.
    if parent == dentry {
        scratch.complete = 1;
        return 1;
    }
    0
}

/// Adds a name to the record; `false` when there is no room left.
#[inline(always)]
fn add_name(scratch: &mut Scratch, name: u64) -> bool {
    let len = scratch.record.len as usize;
    if len >= PATH_BYTES {
        return false;
    }
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
        return false;
    }
    scratch.record.len = (len + written as usize) as u32;
    true
}

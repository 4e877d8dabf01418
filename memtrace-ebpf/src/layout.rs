//! What the hooks must know about the running kernel.
//!
//! Rust's BPF target has no CO-RE relocations, so user space reads every offset from the kernel's BTF and hands
//! them over as one read-only global before the load. The verifier sees frozen read-only data as constants
//! (`bpf_map_direct_read` in `kernel/bpf/verifier.c`), so a load at such an offset is as good as a compiled-in one.

use core::ops::RangeInclusive;

use bytemuck::{Pod, Zeroable};

use crate::arch;

/// An offset that this kernel doesn't have: its branch is dead code to the verifier.
pub const ABSENT: u32 = u32::MAX;

/// Bytes of a `struct page`: checked when [`crate::control::DirectMap::vmemmap`] is found, as two of them must lie as far apart as their
/// frames say.
pub const PAGE_STRUCT: u64 = 64;

/// The kernels that memtrace knows, by the first two numbers of their release, from the oldest to the newest. The ring buffer is
/// of 5.8, and 5.10 is the oldest that is still maintained. On a later one memtrace works if that has all members that it needs.
pub const SUPPORTED: RangeInclusive<Version> = (5, 10)..=(7, 3);

/// The first two numbers of a kernel's release.
pub type Version = (u32, u32);

/// Whether a version is later than the oldest supported kernel.
const fn is_later((major, minor): Version) -> bool {
    let (oldest, its_minor) = *SUPPORTED.start();
    major > oldest || major == oldest && minor > its_minor
}

/// A member of [`Layout`].
#[derive(Debug)]
pub struct Member {
    /// Its name in [`Layout`].
    pub field: &'static str,
    /// The kernel's structure, or enumeration.
    pub structure: &'static str,
    /// Its paths in that, the newest first.
    pub paths: &'static [&'static str],
    /// What is done where a kernel has none of them.
    pub fallback: Fallback,
}

/// What is done on a kernel that lacks a member.
#[derive(Debug)]
pub enum Fallback {
    /// Nothing can be: memtrace doesn't know that kernel.
    None,
    /// The hooks do without it, as some kernels of each age are configured so.
    DoWithout,
    /// It was a macro then, of which BTF doesn't tell, and this number.
    Number(u32),
    /// The hooks take all of these members of [`Layout`] in its place.
    Members(&'static [&'static str]),
    /// The same; where they aren't there either they do without.
    MembersOrNone(&'static [&'static str]),
}

/// Declares the members: a name, the structure, and the member's path in it; then, where kernels differ, `since` which version it
/// is there, a name that it had `before` a version, and what is done `else`, where a kernel has neither: a [`Fallback`].
macro_rules! layout {
    ($($(#[$doc:meta])*
       $field:ident: $type:literal . $path:tt
       $(since $since:tt)? $(or $old:literal before $before:tt)? $(else $fallback:expr)?,)*) => {
        /// Offsets in bytes of the kernel's structure members, and the values of enumerators, [`ABSENT`] where the kernel
        /// has none.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
        pub struct Layout {
            $($(#[$doc])* pub $field: u32,)*
        }

        impl Layout {
            /// What is known of each member, in their order.
            pub const MEMBERS: &[Member] = &[$(Member {
                field: stringify!($field),
                structure: $type,
                paths: &[$path $(, $old)?],
                fallback: layout!(@fallback $($fallback)?),
            },)*];

            /// All members absent.
            pub const EMPTY: Self = Self { $($field: ABSENT,)* };

            /// Sets the member with the index `at` of [`Self::MEMBERS`]; an index out of range changes nothing.
            pub fn set(&mut self, at: usize, offset: u32) {
                let mut index = 0;
                $(if index == at { self.$field = offset; } index += 1;)*
                let _ = index;
            }
        }

        // A version that all supported kernels have reached tells nothing any more: what is older than it can go.
        $($(const _: () = assert!(is_later($since), stringify!($field));)?)*
        $($(const _: () = assert!(is_later($before), stringify!($field));)?)*
        // And what some of them lack must have something in its place.
        $(layout!(@check $($since)?; $($fallback)?);)*
    };
    (@fallback) => { Fallback::None };
    (@fallback $fallback:expr) => { $fallback };
    (@check $since:tt; $fallback:expr) => {};
    (@check $since:tt;) => { compile_error!("a member that not all kernels have needs a fallback"); };
    (@check; $($fallback:expr)?) => {};
}

layout! {
    /// Current address space; null for a kernel thread.
    task_mm: "task_struct"."mm",
    /// The address space whose page tables the processor uses: one that the task has just left, until it leaves its CPU.
    task_active_mm: "task_struct"."active_mm",
    /// Thread id in the initial pid namespace.
    task_pid: "task_struct"."pid",
    /// Process id in the initial pid namespace.
    task_tgid: "task_struct"."tgid",
    /// What the thread has to do before it returns to user mode (`TIF_*`): to give away the CPU, for one.
    task_flags: "task_struct"."thread_info.flags",
    /// Minor faults completed by the thread.
    task_min_flt: "task_struct"."min_flt",
    /// Major faults completed by the thread.
    task_maj_flt: "task_struct"."maj_flt",
    /// Scheduler state.
    task_state: "task_struct"."__state" or "state" before (5, 14),
    /// Wait status, as `wait4(2)` gives it.
    task_exit_code: "task_struct"."exit_code",
    /// Signal that the parent gets at the task's end.
    task_exit_signal: "task_struct"."exit_signal",
    /// Command name.
    task_comm: "task_struct"."comm",
    /// [`arch::COMPAT`] lives here: a 32-bit system call has other numbers.
    task_compat: "task_struct".{ arch::COMPAT_FLAGS },
    /// [`arch::RESCHEDULES`] live here: another task gets the CPU before this one is back in user mode.
    task_thread_flags: "task_struct"."thread_info.flags",
    /// How many sections without page faults the task is in.
    task_pagefault_disabled: "task_struct"."pagefault_disabled",
    /// Open file table.
    task_files: "task_struct"."files",
    /// Root, working directory, umask.
    task_fs: "task_struct"."fs",
    /// Kernel stack.
    task_stack: "task_struct"."stack" else Fallback::DoWithout,
    /// Thread pointer of a task that doesn't run: where its thread-local data are.
    task_thread_pointer: "task_struct".{ arch::THREAD_POINTER } else Fallback::DoWithout,
    /// What [`arch::access`] tells of the last fault that became a signal.
    task_fault_code: "task_struct".{ arch::FAULT_CODE } else Fallback::DoWithout,
    /// How it is scheduled: `SCHED_*`.
    task_policy: "task_struct"."policy" else Fallback::DoWithout,
    /// Priority by its nice value: 120 for nice 0.
    task_static_prio: "task_struct"."static_prio" else Fallback::DoWithout,
    /// Priority under `SCHED_FIFO` and `SCHED_RR`; 0 under others.
    task_rt_priority: "task_struct"."rt_priority" else Fallback::DoWithout,
    /// Signal handlers.
    task_sighand: "task_struct"."sighand",
    /// Shared signal state: one per thread group.
    task_signal: "task_struct"."signal",
    /// Namespaces.
    task_nsproxy: "task_struct"."nsproxy",
    /// Credentials.
    task_cred: "task_struct"."cred",
    /// I/O context; null until first used.
    task_io: "task_struct"."io_context" else Fallback::DoWithout,
    /// System V semaphore undo list; null until first used.
    task_sysvsem: "task_struct"."sysvsem.undo_list" else Fallback::DoWithout,
    /// First thread of the process.
    task_group_leader: "task_struct"."group_leader",
    /// Ids in all pid namespaces.
    task_thread_pid: "task_struct"."thread_pid",
    /// Process that gets the signal at its end.
    task_real_parent: "task_struct"."real_parent",
    /// Ring of all processes' first threads.
    task_tasks: "task_struct"."tasks",
    /// Ring of the threads of a process.
    task_thread_node: "task_struct"."thread_node",
    /// Open files by number.
    files_table: "files_struct"."fdt" else Fallback::DoWithout,
    /// How many it has room for.
    table_size: "fdtable"."max_fds" else Fallback::DoWithout,
    /// Them.
    table_files: "fdtable"."fd" else Fallback::DoWithout,
    /// Head of that ring.
    signal_thread_head: "signal_struct"."thread_head",
    /// The thread that is in an exec and ends the others.
    signal_exec_task: "signal_struct"."group_exec_task" or "group_exit_task" before (5, 17)
        else Fallback::DoWithout,
    /// Signals that wait for this thread alone.
    task_pending: "task_struct"."pending.signal" else Fallback::DoWithout,
    /// What to do about each signal.
    sighand_action: "sighand_struct"."action",
    /// Depth of the innermost pid namespace.
    pid_level: "pid"."level",
    /// Id and namespace at each depth.
    pid_numbers: "pid"."numbers",
    /// Mounts.
    nsproxy_mnt: "nsproxy"."mnt_ns",
    /// Host name.
    nsproxy_uts: "nsproxy"."uts_ns",
    /// System V and POSIX IPC.
    nsproxy_ipc: "nsproxy"."ipc_ns",
    /// Process ids of children.
    nsproxy_pid: "nsproxy"."pid_ns_for_children",
    /// Network.
    nsproxy_net: "nsproxy"."net_ns",
    /// Control groups.
    nsproxy_cgroup: "nsproxy"."cgroup_ns",
    /// Clock offsets of children.
    nsproxy_time: "nsproxy"."time_ns_for_children" else Fallback::DoWithout,
    /// Users.
    cred_user: "cred"."user_ns",
    /// How many use the address space: with the last its pages go (`mmput` in `kernel/fork.c`).
    mm_users: "mm_struct"."mm_users",
    /// Bytes of page tables.
    mm_table_bytes: "mm_struct"."pgtables_bytes",
    /// Anonymous pages that are mapped (`MM_ANONPAGES`). From 6.2 on it may be some dozens behind for each CPU
    /// (`struct percpu_counter`).
    mm_anonymous: "mm_struct"."rss_stat[1].count" or "rss_stat.count[1]" before (6, 2)
        else Fallback::DoWithout,
    /// Top page table.
    mm_pgd: "mm_struct"."pgd",
    /// Root of the VMA tree, a maple tree.
    mm_mt_root: "mm_struct"."mm_mt.ma_root" since (6, 1) else Fallback::Members(&["mm_rb_root", "vma_rb"]),
    /// Root of the VMA tree before that, a red-black tree.
    mm_rb_root: "mm_struct"."mm_rb.rb_node" else Fallback::Members(&["mm_mt_root"]),
    /// Where a VMA is linked into that tree.
    vma_rb: "vm_area_struct"."vm_rb" else Fallback::Members(&["mm_mt_root"]),
    /// The lower half of such a tree.
    rb_left: "rb_node"."rb_left",
    /// The upper half.
    rb_right: "rb_node"."rb_right",
    /// Changes with every write lock of the mm, where VMAs have locks of their own.
    mm_lock_seq: "mm_struct"."mm_lock_seq" since (6, 4) else Fallback::DoWithout,
    /// First byte of the program's text.
    mm_start_code: "mm_struct"."start_code",
    /// End of the program's text.
    mm_end_code: "mm_struct"."end_code",
    /// First byte of the program's data segment.
    mm_start_data: "mm_struct"."start_data",
    /// End of the part of the data segment that the file supplies.
    mm_end_data: "mm_struct"."end_data",
    /// First byte of the heap.
    mm_start_brk: "mm_struct"."start_brk",
    /// End of the heap.
    mm_brk: "mm_struct"."brk",
    /// Stack pointer at the program's start.
    mm_start_stack: "mm_struct"."start_stack",
    /// First argument string.
    mm_arg_start: "mm_struct"."arg_start",
    /// End of the argument strings.
    mm_arg_end: "mm_struct"."arg_end",
    /// The vdso's address.
    mm_vdso: "mm_struct"."context.vdso",
    /// The program's file.
    mm_exe_file: "mm_struct"."exe_file",
    /// First address.
    vma_start: "vm_area_struct"."vm_start",
    /// First address after.
    vma_end: "vm_area_struct"."vm_end",
    /// Address space.
    vma_mm: "vm_area_struct"."vm_mm",
    /// `VM_*` flags.
    vma_flags: "vm_area_struct"."vm_flags",
    /// Operations; null makes it anonymous (`vma_is_anonymous` in `include/linux/mm.h`).
    vma_ops: "vm_area_struct"."vm_ops",
    /// Offset in the file in pages.
    vma_pgoff: "vm_area_struct"."vm_pgoff",
    /// Mapped file.
    vma_file: "vm_area_struct"."vm_file",
    /// Null while the VMA has never had an anonymous page.
    vma_anon_vma: "vm_area_struct"."anon_vma",
    /// What a frame belongs to; the low bits tell anonymous memory and KSM.
    page_mapping: "page"."mapping",
    /// Odd in all pages of a larger one but its first.
    page_head: "page"."compound_info" or "compound_head" before (7, 0),
    /// How often the frame is mapped by an entry of its own, less one.
    page_map_count: "page"."_mapcount",
    /// How often the whole of a larger page is mapped by one entry, less one.
    folio_entire_map_count: "folio"."_entire_mapcount" since (6, 2)
        else Fallback::MembersOrNone(&["page_entire_map_count", "page_double_map"]),
    /// The same before 6.2, in the `struct page` after the first.
    page_entire_map_count: "page"."compound_mapcount+64"
        else Fallback::MembersOrNone(&["folio_entire_map_count"]),
    /// Before 6.2 the number of the flag, again in the second, that all parts of a larger page are counted once more than
    /// they are mapped by entries of their own.
    page_double_map: "pageflags"."PG_double_map" else Fallback::MembersOrNone(&["folio_entire_map_count"]),
    /// Its flags.
    page_flags: "page"."flags",
    /// What it holds beside that: a pidfd's `struct pid` before 6.9, and where there is no pidfs.
    file_private: "file"."private_data" else Fallback::DoWithout,
    /// The file's inode.
    file_inode: "file"."f_inode",
    /// The page cache behind the file.
    file_mapping: "file"."f_mapping",
    /// The mount of its path.
    file_mnt: "file"."f_path.mnt",
    /// The directory entry of its path.
    file_dentry: "file"."f_path.dentry",
    /// How it was opened: [`crate::control::Config::backing`] is of these bits.
    file_mode: "file"."f_mode",
    /// Of a file that a stacked file system maps in place of its own: the mount of the path that was opened.
    backing_mnt: "backing_file"."user_path.mnt" since (6, 7) else Fallback::DoWithout,
    /// The directory entry of that path.
    backing_dentry: "backing_file"."user_path.dentry" since (6, 7) else Fallback::DoWithout,
    /// Inode number.
    inode_ino: "inode"."i_ino",
    /// Tells inodes apart that have had the same number, on most file systems.
    inode_generation: "inode"."i_generation",
    /// Bytes of the file.
    inode_size: "inode"."i_size" else Fallback::DoWithout,
    /// What it stands for: on pidfs a `struct pid`.
    inode_private: "inode"."i_private" else Fallback::DoWithout,
    /// Superblock.
    inode_sb: "inode"."i_sb",
    /// Kind of file system.
    sb_magic: "super_block"."s_magic",
    /// Pages in the page cache of this mapping.
    mapping_nrpages: "address_space"."nrpages",
    /// Pages of shared memory, those in swap, too.
    shmem_alloced: "shmem_inode_info"."alloced",
    /// Where that holds its inode.
    shmem_inode: "shmem_inode_info"."vfs_inode",
    /// The mapping's first page, when it has no other; else the tree of them.
    mapping_first: "address_space"."i_pages.xa_head",
    /// How many bits of an index are for the nodes below this one.
    xa_shift: "xa_node"."shift",
    /// What is in the node.
    xa_slots: "xa_node"."slots",
    /// Parent directory.
    dentry_parent: "dentry"."d_parent",
    /// Name.
    dentry_name: "dentry"."d_name.name",
    /// A hash of the name, and its length.
    dentry_name_hash: "dentry"."d_name.hash_len",
    /// Its inode.
    dentry_inode: "dentry"."d_inode",
    /// Null when the name has been unlinked (`d_unhashed`).
    dentry_hash: "dentry"."d_hash.pprev",
    /// Where a `struct mount` holds its `struct vfsmount`.
    mount_mnt: "mount"."mnt",
    /// The mount that this one is mounted on.
    mount_parent: "mount"."mnt_parent",
    /// The directory that this one is mounted on.
    mount_mountpoint: "mount"."mnt_mountpoint",
    /// A task's root directory: its mount.
    fs_root_mnt: "fs_struct"."root.mnt",
    /// A task's root directory: its directory entry.
    fs_root_dentry: "fs_struct"."root.dentry",
    /// Root of the mounted tree.
    vfsmount_root: "vfsmount"."mnt_root",
    /// Superblock of the mounted tree.
    vfsmount_sb: "vfsmount"."mnt_sb",
    /// The name given to execve(2).
    bprm_filename: "linux_binprm"."filename",
    /// Why a signal was sent: `SEGV_*`, `SI_*`.
    siginfo_code: "kernel_siginfo"."si_code",
    /// The address that a fault's signal is about.
    siginfo_address: "kernel_siginfo"."_sifields._sigfault._addr",
    /// Said by who asks for a fault: it is for a write.
    fault_flag_write: "fault_flag"."FAULT_FLAG_WRITE" since (5, 14) else Fallback::Number(0x1),
    /// By code in user mode.
    fault_flag_user: "fault_flag"."FAULT_FLAG_USER" since (5, 14) else Fallback::Number(0x40),
    /// For an instruction.
    fault_flag_instruction: "fault_flag"."FAULT_FLAG_INSTRUCTION" since (5, 14) else Fallback::Number(0x100),
    /// To have a copy without a write; before, no fault had it.
    fault_flag_unshare: "fault_flag"."FAULT_FLAG_UNSHARE" since (5, 19) else Fallback::Number(0),
    /// What came of a fault: it is to be repeated.
    vm_fault_retry: "vm_fault_reason"."VM_FAULT_RETRY",
    /// Out of memory.
    vm_fault_oom: "vm_fault_reason"."VM_FAULT_OOM",
    /// There is nothing to map.
    vm_fault_sigbus: "vm_fault_reason"."VM_FAULT_SIGBUS",
    /// The frame is broken.
    vm_fault_hwpoison: "vm_fault_reason"."VM_FAULT_HWPOISON",
    /// One of a larger page's is.
    vm_fault_hwpoison_large: "vm_fault_reason"."VM_FAULT_HWPOISON_LARGE",
    /// The access isn't allowed.
    vm_fault_sigsegv: "vm_fault_reason"."VM_FAULT_SIGSEGV",
    /// Instruction pointer.
    regs_ip: "pt_regs".{ arch::REGS_IP },
    /// The number of the system call, or something else outside of any.
    regs_call: "pt_regs".{ arch::REGS_CALL },
    /// First argument of a system call.
    regs_arg_0: "pt_regs".{ arch::REGS_ARGS[0] },
    /// Second argument.
    regs_arg_1: "pt_regs".{ arch::REGS_ARGS[1] },
    /// Third argument.
    regs_arg_2: "pt_regs".{ arch::REGS_ARGS[2] },
    /// Fourth argument.
    regs_arg_3: "pt_regs".{ arch::REGS_ARGS[3] },
    /// Fifth argument.
    regs_arg_4: "pt_regs".{ arch::REGS_ARGS[4] },
    /// Sixth argument.
    regs_arg_5: "pt_regs".{ arch::REGS_ARGS[5] },
    /// First argument of a 32-bit system call.
    compat_arg_0: "pt_regs".{ arch::COMPAT_ARGS[0] },
    /// Second argument.
    compat_arg_1: "pt_regs".{ arch::COMPAT_ARGS[1] },
    /// Third argument.
    compat_arg_2: "pt_regs".{ arch::COMPAT_ARGS[2] },
    /// Fourth argument.
    compat_arg_3: "pt_regs".{ arch::COMPAT_ARGS[3] },
    /// Fifth argument.
    compat_arg_4: "pt_regs".{ arch::COMPAT_ARGS[4] },
    /// Sixth argument.
    compat_arg_5: "pt_regs".{ arch::COMPAT_ARGS[5] },
}

//! The ids of tasks.

use memtrace_ebpf::record::Ids;

use crate::hooks::{
    direct_map::direct_map,
    kernel::{offset, read_member},
};

/// Bytes of a `struct upid`: the id, and the namespace from here on.
pub(crate) const UPID: u64 = 16;
pub(crate) const UPID_NS: u64 = 8;

/// The ids of the task at this address in memtrace's own pid namespace; 0 where it isn't in it.
#[inline(always)]
pub(crate) fn ids(task: u64) -> Ids {
    let leader: u64 = read_member(task, offset!(task_group_leader));
    Ids {
        pid: id(leader),
        tid: id(task),
    }
}

/// The id of one thread, as `task_pid_nr_ns` in `kernel/pid.c` finds it.
#[inline(always)]
pub(crate) fn id(task: u64) -> u32 {
    let Some(map) = direct_map() else { return 0 };
    if map.pid_level == 0 {
        return read_member(task, offset!(task_pid));
    }
    let pid: u64 = read_member(task, offset!(task_thread_pid));
    if u64::from(read_member::<u32>(pid, offset!(pid_level))) < map.pid_level {
        return 0;
    }
    let at = pid + u64::from(offset!(pid_numbers)) + map.pid_level * UPID;
    if read_member::<u64>(at + UPID_NS, 0) != map.pid_ns {
        return 0;
    }
    read_member(at, 0)
}

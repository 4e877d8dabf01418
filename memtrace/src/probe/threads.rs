//! What the hooks keep of each thread that is traced and lives.

use aya::maps::{Array, HashMap, MapData};
use memtrace_ebpf::record::{THREAD_WORDS, ThreadSummary};

/// The states of those threads.
pub(super) struct Threads {
    /// Which of the states is whose, by the address of the `task_struct`.
    by_task: HashMap<MapData, u64, u32>,
    states: Array<MapData, [u64; THREAD_WORDS]>,
}

impl Threads {
    pub(super) const fn new(
        by_task: HashMap<MapData, u64, u32>,
        states: Array<MapData, [u64; THREAD_WORDS]>,
    ) -> Self {
        Self { by_task, states }
    }

    /// Whether there is any.
    pub(super) fn any_lives(&self) -> bool {
        self.by_task.keys().next().is_some()
    }

    /// What is known of each.
    pub(super) fn living(&self) -> Vec<ThreadSummary> {
        self.by_task
            .iter()
            // One that ends while the table is read is no longer there; its record tells the rest.
            .filter_map(Result::ok)
            .filter_map(|(_, index)| self.states.get(&index, 0).ok())
            .map(|words| {
                bytemuck::pod_read_unaligned(
                    &bytemuck::cast_slice(&words)[..size_of::<ThreadSummary>()],
                )
            })
            .collect()
    }
}

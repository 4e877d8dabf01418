//! The events of one type among those of a trace.

use super::{
    Clone, Cloned, Event, EventKind, Exec, ExistingTask, Exit, Fault, Mmap, Share, Unshare,
};

/// A method for each type of event.
macro_rules! selections {
    ($($(#[$doc:meta])+ $name:ident: $variant:ident,)+) => {
        $($(#[$doc])+
        fn $name(&self) -> impl Iterator<Item = (&Event, &$variant)> {
            self.events().iter().filter_map(|event| match &event.what {
                EventKind::$variant(what) => Some((event, what)),
                _ => None,
            })
        })+
    };
}

/// What has the events of a trace. Each selection has its events in their order, with what is of their type alone beside
/// them.
pub trait Events {
    /// All of them, in the order of time.
    fn events(&self) -> &[Event];

    selections! {
        /// The page faults.
        faults: Fault,
        /// The births of tasks.
        clones: Clone,
        /// The returns, in the parent, of calls that made a task.
        cloned: Cloned,
        /// The tasks that were there at attach.
        tasks: ExistingTask,
        /// What came to be shared.
        shares: Share,
        /// What was no longer shared.
        unshares: Unshare,
        /// The execs.
        execs: Exec,
        /// The ends of threads.
        exits: Exit,
        /// The mappings that were made, or were there at attach.
        mmaps: Mmap,
    }
}

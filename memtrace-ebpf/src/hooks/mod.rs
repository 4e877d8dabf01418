//! What the hooks do, a file per concern.

pub(crate) mod adopt;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod direct_map;
pub(crate) mod experiment;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod frame;
pub(crate) mod gone;
pub(crate) mod handled;
pub(crate) mod kernel;
pub(crate) mod paging;
pub(crate) mod parts;
pub(crate) mod preempt;
pub(crate) mod repeat;
pub(crate) mod returned;
pub(crate) mod ring;
pub(crate) mod scan;
pub(crate) mod settle;
pub(crate) mod signal;
pub(crate) mod survey;
pub(crate) mod task;
pub(crate) mod thread;
pub(crate) mod tick;
pub(crate) mod tree;
pub(crate) mod vma;

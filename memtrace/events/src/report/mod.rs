//! The lines of a trace: [`Start`], [`Event`]s, [`End`].

use std::borrow::Cow;

use schemars::{Schema, generate::SchemaSettings};

mod address;
mod end;
mod event;
mod experiment;
mod fault;
mod line;
mod memory;
mod object;
mod select;
mod start;
mod task;

pub use crate::FaultKind;
pub use address::Address;
pub use end::{Account, Area, End, ForkAccount, ReleasedPages, TaskLifetime, Use};
pub use event::{Event, EventKind, EventType, Global, Lost};
pub use experiment::{BirthDetail, Both, Return, SwitchIn, SwitchOut};
pub use fault::{
    Access, Cause, Counted, CowCause, Fault, ForkRef, Handled, Mode, NO_CALL, Part, Region,
};
pub use line::Line;
pub use memory::{
    Brk, By, Lock, Madvise, Mmap, Mprotect, Mremap, Range, RemapFilePages, Returned, Shmat, Shmdt,
};
pub use object::{ByObject, ObjectKind, ObjectReleased, ObjectShared, Share, Unshare};
pub use select::Events;
pub use start::Start;
pub use task::{
    ChildGlobal, Clone, Cloned, Copied, Exec, ExistingTask, Exit, Failed, First, NotSurveyed,
    Obtained, Requested, Row, Shared, VforkRelease,
};

/// A name from a list that isn't memtrace's: of a system call, of a scheduling policy; or a few words.
pub type Name = Cow<'static, str>;

/// The JSON Schema of a line, as memtrace writes it.
pub fn json_schema() -> Schema {
    let settings = SchemaSettings::default().for_serialize();
    settings.into_generator().into_root_schema_for::<Line>()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

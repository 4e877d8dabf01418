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
pub use address::*;
pub use end::*;
pub use event::*;
pub use experiment::*;
pub use fault::*;
pub use line::*;
pub use memory::*;
pub use object::*;
pub use select::*;
pub use start::*;
pub use task::*;

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

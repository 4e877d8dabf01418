//! What happens to tasks.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::{
    BirthDetail, Brk, Clone, Cloned, Exec, ExistingTask, Exit, Failed, Fault, Global, Lock,
    Madvise, Mmap, Mprotect, Mremap, Name, Range, RemapFilePages, Return, Share, Shmat, Shmdt,
    SwitchIn, SwitchOut, Unshare,
};

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`. Never falls from one event to the next.
    pub ts: u64,
    /// Process id, as memtrace's own pid namespace has it.
    pub pid: u32,
    /// Thread id, the same.
    pub tid: u32,
    /// Both in the initial pid namespace, where they are others there.
    #[serde(flatten)]
    pub global: Option<Global>,
    /// The task's name at that moment.
    pub comm: Arc<str>,
    /// For what a 32-bit call did: whose interface it is of, `i386` or `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abi: Option<Name>,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

impl Serialize for Event {
    /// With the type first, and what is of this type alone last.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a, T> {
            r#type: &'static str,
            ts: u64,
            pid: u32,
            tid: u32,
            #[serde(flatten)]
            global: Option<Global>,
            comm: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            abi: &'a Option<Name>,
            #[serde(flatten)]
            what: &'a T,
        }
        macro_rules! line {
            ($($variant:ident),*) => {
                match &self.what {
                    $(EventKind::$variant(what) => Line {
                        r#type: self.what.name(),
                        ts: self.ts,
                        pid: self.pid,
                        tid: self.tid,
                        global: self.global,
                        comm: &self.comm,
                        abi: &self.abi,
                        what,
                    }
                    .serialize(serializer),)*
                }
            };
        }
        line!(
            Fault,
            Clone,
            Cloned,
            ExistingTask,
            Share,
            Unshare,
            Exec,
            Failed,
            Exit,
            Brk,
            Mmap,
            Munmap,
            Mprotect,
            Mremap,
            Madvise,
            Shmat,
            Shmdt,
            RemapFilePages,
            Mlock,
            Munlock,
            Mseal,
            Lost,
            BirthDetail,
            SwitchIn,
            SwitchOut,
            Return
        )
    }
}

/// What happened. In JSON the variant's name is the `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, EnumDiscriminants)]
#[serde(rename_all = "snake_case", tag = "type")]
#[strum_discriminants(
    name(EventType),
    doc = "The type of an event.",
    derive(IntoStaticStr, VariantArray),
    strum(serialize_all = "snake_case")
)]
pub enum EventKind {
    /// A page fault.
    Fault(Fault),
    /// A fork, vfork, clone or clone3, of a process or of a thread.
    Clone(Clone),
    /// The call that made a task has returned.
    Cloned(Cloned),
    /// A task was there when memtrace attached.
    #[serde(rename = "task")]
    #[strum_discriminants(strum(serialize = "task"))]
    ExistingTask(ExistingTask),
    /// A task uses objects that others use, too.
    Share(Share),
    /// A task has stopped using objects that others still use.
    Unshare(Unshare),
    /// A program was replaced by another.
    Exec(Exec),
    /// A call that was to make a task or to run a program has failed.
    Failed(Failed),
    /// A thread ended.
    Exit(Exit),
    /// The heap's end was asked for or moved.
    Brk(Brk),
    /// Memory was mapped.
    Mmap(Mmap),
    /// Memory was unmapped.
    Munmap(Range),
    /// Protection was changed.
    Mprotect(Mprotect),
    /// A mapping was moved or its size changed.
    Mremap(Mremap),
    /// Advice was given.
    Madvise(Madvise),
    /// System V shared memory was attached.
    Shmat(Shmat),
    /// It was detached.
    Shmdt(Shmdt),
    /// A mapping was to show other parts of its file.
    RemapFilePages(RemapFilePages),
    /// Memory was locked.
    Mlock(Lock),
    /// It may be paged again.
    Munlock(Lock),
    /// Mappings can no longer be changed.
    Mseal(Range),
    /// Records were lost, as the reader was too slow, or hooks were left out.
    Lost(Lost),
    /// For the lab: more of a birth.
    #[serde(rename = "born")]
    #[strum_discriminants(strum(serialize = "born"))]
    BirthDetail(BirthDetail),
    /// For the lab: a thread gets a CPU.
    #[serde(rename = "runs")]
    #[strum_discriminants(strum(serialize = "runs"))]
    SwitchIn(SwitchIn),
    /// For the lab: a thread leaves its CPU.
    #[serde(rename = "rests")]
    #[strum_discriminants(strum(serialize = "rests"))]
    SwitchOut(SwitchOut),
    /// For the lab: a call that makes a task returns.
    Return(Return),
}

impl EventKind {
    /// The `type` in JSON.
    pub fn name(&self) -> &'static str {
        EventType::from(self).name()
    }

    /// The kind of a fault, or the type of another event: what a reader of text tells events apart by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.kind.name(),
            other => other.name(),
        }
    }
}

impl EventType {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Its name in JSON, and for `--only` if it isn't for the lab alone.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether only the lab gets it.
    pub const fn is_for_lab(self) -> bool {
        matches!(
            self,
            Self::BirthDetail | Self::SwitchIn | Self::SwitchOut | Self::Return
        )
    }
}

/// Records were lost, or hooks were left out, since the last such event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Records in all.
    pub count: u64,
    /// By the kind of the record.
    pub by_kind: std::collections::BTreeMap<Name, u64>,
    /// How often the kernel left a hook out, by hook: see [`super::End::missed`].
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub missed: std::collections::BTreeMap<String, u64>,
}

//! The kernel objects that tasks use, and what they share of them.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use strum::{IntoStaticStr, VariantArray};

use super::Name;
use crate::array;

/// A kind of kernel object that a task shares with others, or has for itself.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ObjectKind {
    /// Address space (`task_struct.mm`).
    Mm,
    /// Open files.
    Files,
    /// Root, working directory, umask.
    Fs,
    /// Signal handlers.
    Sighand,
    /// What a thread group shares: pending signals, limits, timers.
    Signal,
    /// The thread group itself: the process.
    Group,
    /// The set of namespaces.
    Nsproxy,
    /// Mounts.
    MntNs,
    /// Host name.
    UtsNs,
    /// System V and POSIX IPC.
    IpcNs,
    /// Process ids, of the children to come.
    PidNs,
    /// Network.
    NetNs,
    /// Control groups.
    CgroupNs,
    /// Clock offsets, of the children to come.
    TimeNs,
    /// Users (`cred->user_ns`).
    UserNs,
    /// Credentials.
    Cred,
    /// I/O context.
    Io,
    /// System V semaphore adjustments.
    Sysvsem,
}

impl ObjectKind {
    /// How many there are.
    pub const COUNT: usize = Self::VARIANTS.len();

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = *array(Self::VARIANTS);

    /// Its name in JSON, and before the number of an object: `mm#3`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether it is a namespace, or the set of them.
    pub const fn is_namespace(self) -> bool {
        matches!(
            self,
            Self::Nsproxy
                | Self::MntNs
                | Self::UtsNs
                | Self::IpcNs
                | Self::PidNs
                | Self::NetNs
                | Self::CgroupNs
                | Self::TimeNs
                | Self::UserNs
        )
    }
}

/// Something for each of some kinds of objects; an object by their names in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct ByObject<T>(pub Vec<(ObjectKind, T)>);

impl<T> ByObject<T> {
    /// What there is for one kind.
    pub fn get(&self, kind: ObjectKind) -> Option<&T> {
        let mut all = self.0.iter();
        all.find_map(|(one, what)| (*one == kind).then_some(what))
    }
}

impl<T> Default for ByObject<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for ByObject<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(kind, what)| (kind, what)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// Keeps the order of a map's entries.
struct InOrder<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
    type Value = ByObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object by the names of kinds of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = map.next_entry()? {
            all.push(entry);
        }
        Ok(ByObject(all))
    }
}

impl<T: JsonSchema> JsonSchema for ByObject<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ByObject_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<ObjectKind, T>::json_schema(generator)
    }
}

/// A task uses objects that other traced tasks use, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// Since when: `clone`, `attach`, or the system call by which it joined.
    pub by: Name,
    /// The objects.
    pub objects: ByObject<ObjectShared>,
}

/// An object that is shared from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectShared {
    /// The object.
    pub number: u32,
    /// Other threads that use it, the first of them if they are many.
    pub with: Vec<u32>,
    /// How many they are.
    pub with_count: u32,
}

/// A task has stopped using objects that other traced tasks still use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unshare {
    /// What ended it: `exec`, `exit`, or the system call.
    pub by: Name,
    /// The objects.
    pub objects: ByObject<ObjectReleased>,
}

/// An object that is no longer used by a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectReleased {
    /// The object.
    pub number: u32,
    /// The one that the task uses now.
    #[serde(deserialize_with = "Option::deserialize")]
    pub now: Option<u32>,
    /// Since when it had used the old one.
    pub since: u64,
    /// Other threads that still use it, the first of them if they are many.
    pub with: Vec<u32>,
    /// How many they are.
    pub with_count: u32,
}

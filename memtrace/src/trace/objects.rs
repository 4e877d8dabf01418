//! The kernel objects that tasks use: small numbers for them, who uses which, and since when.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap as HashMap;

use memtrace_ebpf::record::Parts;

use super::event::{ByObject, ObjectKind, ObjectReleased, ObjectShared};

/// Other users that are named.
const NAMED: usize = 16;
/// Namespaces that are remembered when nobody who is traced uses them: a setns(2) may come back to one.
pub const REMEMBERED: usize = 1024;

/// The address of each object that a task uses, in the order of [`ObjectKind::ALL`]; 0 for none.
type Addresses = [u64; ObjectKind::COUNT];

const fn addresses(parts: &Parts) -> Addresses {
    [
        parts.mm,
        parts.files,
        parts.fs,
        parts.sighand,
        parts.signal,
        parts.group,
        parts.nsproxy,
        parts.mnt_ns,
        parts.uts_ns,
        parts.ipc_ns,
        parts.pid_ns,
        parts.net_ns,
        parts.cgroup_ns,
        parts.time_ns,
        parts.user_ns,
        parts.cred,
        parts.io,
        parts.sysvsem,
    ]
}

/// How a task came to use an object that it didn't use before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// It was made for the task: whatever was at this address before is gone.
    Made,
    /// It may have been there before.
    Found,
}

/// A task's use of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    address: u64,
    number: u32,
    since: u64,
}

/// All uses of a task.
type Uses = [Option<Use>; ObjectKind::COUNT];

/// An object that is used.
#[derive(Debug)]
struct Object {
    number: u32,
    users: BTreeSet<u32>,
}

/// A use that has ended, and what came instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The kind of object.
    pub kind: ObjectKind,
    /// The number before, and since when it had been used.
    pub old: Option<(u32, u64)>,
    /// The number now.
    pub new: Option<u32>,
}

/// The objects that traced tasks use.
#[derive(Default)]
pub struct Objects {
    used: HashMap<(ObjectKind, u64), Object>,
    tasks: HashMap<u32, Uses>,
    counts: [u32; ObjectKind::COUNT],
    /// Namespaces that nobody uses, and when they came to be so.
    remembered: HashMap<(ObjectKind, u64), (u32, u64)>,
    clock: u64,
}

impl Objects {
    /// The number of the object of a kind that a task uses.
    pub fn number(&self, tid: u32, kind: ObjectKind) -> Option<u32> {
        self.tasks.get(&tid)?[kind as usize].map(|used| used.number)
    }

    /// The numbers of all that a task uses.
    pub fn numbers(&self, tid: u32) -> ByObject<u32> {
        ByObject(
            ObjectKind::ALL
                .into_iter()
                .filter_map(|kind| Some((kind, self.number(tid, kind)?)))
                .collect(),
        )
    }

    /// Other tasks that use the object of a kind that a task uses: the first of them, and how many they are.
    pub fn others(&self, tid: u32, kind: ObjectKind) -> (Vec<u32>, u32) {
        let users = self
            .tasks
            .get(&tid)
            .and_then(|uses| uses[kind as usize])
            .and_then(|used| {
                let object = self.used.get(&(kind, used.address))?;
                // Another may have taken its place: then the last record of a user of the old one was lost.
                (object.number == used.number).then_some(&object.users)
            });
        let Some(users) = users else {
            return (Vec::new(), 0);
        };
        let others = users.iter().copied().filter(|user| *user != tid);
        (others.take(NAMED).collect(), users.len() as u32 - 1)
    }

    /// What a task shares with others.
    pub fn shared(&self, tid: u32) -> ByObject<ObjectShared> {
        ByObject(
            ObjectKind::ALL
                .into_iter()
                .filter_map(|kind| {
                    let number = self.number(tid, kind)?;
                    let (with, with_count) = self.others(tid, kind);
                    (with_count > 0).then_some((
                        kind,
                        ObjectShared {
                            number,
                            with,
                            with_count,
                        },
                    ))
                })
                .collect(),
        )
    }

    /// A task is seen to use these: what that changes. `parent` is a task whose objects it may share; what else it
    /// uses came by `means`.
    pub fn observe(
        &mut self,
        tid: u32,
        parts: &Parts,
        parent: Option<u32>,
        means: Means,
        ts: u64,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (kind, address) in ObjectKind::ALL.into_iter().zip(addresses(parts)) {
            let old = self.tasks.entry(tid).or_default()[kind as usize];
            if old.map_or(0, |used| used.address) == address {
                continue;
            }
            let shares = parent
                .and_then(|parent| self.tasks.get(&parent)?[kind as usize])
                .is_some_and(|used| used.address == address);
            self.leave(tid, kind);
            let means = if shares { Means::Found } else { means };
            let number = (address != 0).then(|| self.join(tid, kind, address, means, ts));
            changes.push(Change {
                kind,
                old: old.map(|used| (used.number, used.since)),
                new: number,
            });
        }
        changes
    }

    /// The leader of a thread group is another thread since an exec: the group is the same.
    pub fn new_leader(&mut self, tid: u32, address: u64) {
        let kind = ObjectKind::Group;
        let Some(used) = self
            .tasks
            .get_mut(&tid)
            .and_then(|uses| uses[kind as usize].as_mut())
        else {
            return;
        };
        if let Some(object) = self.used.remove(&(kind, used.address)) {
            self.used.insert((kind, address), object);
        }
        used.address = address;
    }

    /// A task's id is another one since an exec.
    pub fn renumber(&mut self, old: u32, new: u32) {
        let Some(uses) = self.tasks.remove(&old) else {
            return;
        };
        for (kind, used) in ObjectKind::ALL.into_iter().zip(uses) {
            if let Some(used) = used
                && let Some(object) = self.used.get_mut(&(kind, used.address))
                && object.users.remove(&old)
            {
                object.users.insert(new);
            }
        }
        self.tasks.insert(new, uses);
    }

    /// A task has ended: what it shared with others to the end.
    pub fn end(&mut self, tid: u32) -> Vec<(ObjectKind, ObjectReleased)> {
        let left = ObjectKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let used = self.tasks.get(&tid)?[kind as usize]?;
                let left = self.left(tid, kind, used.number, used.since, None);
                (left.with_count > 0).then_some((kind, left))
            })
            .collect();
        for kind in ObjectKind::ALL {
            self.leave(tid, kind);
        }
        self.tasks.remove(&tid);
        left
    }

    /// Who uses the object that a task uses, as the end of its use.
    fn left(
        &self,
        tid: u32,
        kind: ObjectKind,
        number: u32,
        since: u64,
        now: Option<u32>,
    ) -> ObjectReleased {
        let (with, with_count) = self.others(tid, kind);
        ObjectReleased {
            number,
            now,
            since,
            with,
            with_count,
        }
    }

    /// As [`Self::observe`], for a task that is known: what it shared with others and does no more, and what it shares
    /// now.
    pub fn change(
        &mut self,
        tid: u32,
        parts: &Parts,
        means: Means,
        ts: u64,
    ) -> (
        Vec<Change>,
        ByObject<ObjectReleased>,
        ByObject<ObjectShared>,
    ) {
        let before: Vec<_> = ObjectKind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, self.number(tid, kind)?, self.others(tid, kind))))
            .collect();
        let changes = self.observe(tid, parts, None, means, ts);
        let mut left = ByObject::default();
        let mut joined = ByObject::default();
        for change in &changes {
            let shared = before
                .iter()
                .find(|(kind, ..)| *kind == change.kind)
                .filter(|(.., (_, count))| *count > 0);
            if let (Some((number, since)), Some((.., (with, with_count)))) = (change.old, shared) {
                let was = ObjectReleased {
                    number,
                    now: change.new,
                    since,
                    with: with.clone(),
                    with_count: *with_count,
                };
                left.0.push((change.kind, was));
            }
            let (with, with_count) = self.others(tid, change.kind);
            if let Some(number) = change.new
                && with_count > 0
            {
                let is = ObjectShared {
                    number,
                    with,
                    with_count,
                };
                joined.0.push((change.kind, is));
            }
        }
        (changes, left, joined)
    }

    fn join(&mut self, tid: u32, kind: ObjectKind, address: u64, means: Means, since: u64) -> u32 {
        let key = (kind, address);
        if means == Means::Made {
            // Whoever was there has not been seen to leave.
            self.used.remove(&key);
            self.remembered.remove(&key);
        }
        let counts = &mut self.counts;
        let remembered = &mut self.remembered;
        let object = self.used.entry(key).or_insert_with(|| {
            let number = remembered.remove(&key).map_or_else(
                || {
                    counts[kind as usize] += 1;
                    counts[kind as usize]
                },
                |(number, _)| number,
            );
            Object {
                number,
                users: BTreeSet::new(),
            }
        });
        object.users.insert(tid);
        let number = object.number;
        self.tasks.entry(tid).or_default()[kind as usize] = Some(Use {
            address,
            number,
            since,
        });
        number
    }

    fn leave(&mut self, tid: u32, kind: ObjectKind) {
        let Some(used) = self
            .tasks
            .get_mut(&tid)
            .and_then(|uses| uses[kind as usize].take())
        else {
            return;
        };
        let key = (kind, used.address);
        let Some(object) = self.used.get_mut(&key) else {
            return;
        };
        object.users.remove(&tid);
        if object.users.is_empty() {
            self.used.remove(&key);
            if kind.is_namespace() && kind != ObjectKind::Nsproxy {
                self.remember(key, used.number);
            }
        }
    }

    fn remember(&mut self, key: (ObjectKind, u64), number: u32) {
        self.clock += 1;
        if self.remembered.len() >= REMEMBERED {
            let oldest = self.remembered.iter().min_by_key(|(_, (_, when))| *when);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.remembered.remove(&oldest);
            }
        }
        self.remembered.insert(key, (number, self.clock));
    }

    /// Objects, their users, tasks, and namespaces that nobody uses.
    #[cfg(test)]
    pub fn sizes(&self) -> [usize; 4] {
        let users = self.used.values().map(|object| object.users.len());
        [
            self.used.len(),
            users.sum(),
            self.tasks.len(),
            self.remembered.len(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task that goes from namespace to namespace.
    #[test]
    fn what_is_remembered_is_bounded_and_recent() {
        let mut objects = Objects::default();
        let mut enter = |address, means| {
            let parts = Parts {
                net_ns: address,
                ..Parts::default()
            };
            let changes = objects.observe(1, &parts, None, means, 0);
            (changes[0].new, objects.sizes()[3])
        };
        let last = REMEMBERED as u64 + 10;
        for address in 1..=last {
            let (number, remembered) = enter(address, Means::Made);
            assert_eq!(number, Some(address as u32));
            assert_eq!(remembered as u64, (address - 1).min(REMEMBERED as u64));
        }
        assert_eq!(enter(20, Means::Found).0, Some(20));
        assert_eq!(enter(1, Means::Found).0, Some(last as u32 + 1));
    }
}

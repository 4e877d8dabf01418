//! The tree of tasks: when each lived, and which objects it used from when to when.

use std::sync::Arc;

use rustc_hash::FxHashMap as HashMap;

use super::{
    event::{Global, TaskLifetime, Use},
    objects::Change,
};

/// Tasks that are kept; the rest is counted.
const TASKS: usize = 5_000;
/// Uses of objects that are kept of a task.
const USES: usize = 256;

/// The lives of all tasks of a trace.
#[derive(Default)]
pub struct Lifetimes {
    rows: Vec<TaskLifetime>,
    /// The rows of the tasks that live.
    living: HashMap<u32, usize>,
    left_out: u64,
}

impl Lifetimes {
    /// A task is traced from now on, a child of `parent`. Its number and its parent's are filled in.
    pub fn begin(&mut self, tid: u32, parent: Option<u32>, life: TaskLifetime) {
        if self.rows.len() >= TASKS {
            self.left_out += 1;
            self.living.remove(&tid);
            return;
        }
        let number = |row: usize| row as u32 + 1;
        let parent = parent.and_then(|parent| self.living.get(&parent).copied());
        let row = self.rows.len();
        self.living.insert(tid, row);
        self.rows.push(TaskLifetime {
            number: number(row),
            parent_number: parent.map(number),
            ..life
        });
    }

    /// A task has ended, or lives, of which nothing else is known.
    pub const fn missed(&mut self) {
        self.left_out += 1;
    }

    fn row(&mut self, tid: u32) -> Option<&mut TaskLifetime> {
        let at = *self.living.get(&tid)?;
        self.rows.get_mut(at)
    }

    /// A task uses other objects than before.
    pub fn changed(&mut self, tid: u32, changes: &[Change], ts: u64) {
        let Some(life) = self.row(tid) else { return };
        for change in changes {
            if let Some((number, _)) = change.old {
                let ended = life.uses.iter_mut().find(|used| {
                    used.kind == change.kind && used.number == number && used.until.is_none()
                });
                if let Some(ended) = ended {
                    ended.until = Some(ts);
                }
            }
            if let Some(number) = change.new
                && life.uses.len() < USES
            {
                life.uses.push(Use {
                    kind: change.kind,
                    number,
                    from: ts,
                    until: None,
                });
            }
        }
    }

    /// A task has another name.
    pub fn named(&mut self, tid: u32, comm: Arc<str>) {
        if let Some(life) = self.row(tid) {
            life.comm = comm;
        }
    }

    /// A task's id is another one since an exec.
    pub fn renumber(&mut self, old: u32, new: u32, shown: u32, global: Option<Global>) {
        if let Some(at) = self.living.remove(&old) {
            self.living.insert(new, at);
            if let Some(life) = self.rows.get_mut(at) {
                life.born_tid.get_or_insert(life.tid);
                life.tid = shown;
                life.global = global;
            }
        }
    }

    /// A task has ended.
    pub fn end(&mut self, tid: u32, ts: u64) {
        let Some(life) = self.row(tid) else { return };
        life.until = Some(ts);
        for used in &mut life.uses {
            used.until.get_or_insert(ts);
        }
        self.living.remove(&tid);
    }

    /// All rows in the order of births, and how many there are no rows for.
    pub fn finish(self) -> (Vec<TaskLifetime>, u64) {
        (self.rows, self.left_out)
    }

    /// Rows, and those of tasks that live.
    #[cfg(test)]
    pub fn sizes(&self) -> [usize; 2] {
        [self.rows.len(), self.living.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::event::ObjectKind;

    fn life(tid: u32) -> TaskLifetime {
        TaskLifetime {
            pid: tid,
            tid,
            comm: "".into(),
            ..TaskLifetime::default()
        }
    }

    fn change(old: Option<u32>, new: u32) -> Change {
        Change {
            kind: ObjectKind::Cred,
            old: old.map(|number| (number, 0)),
            new: Some(new),
        }
    }

    #[test]
    fn rows_are_bounded() {
        let mut lives = Lifetimes::default();
        for tid in 0..TASKS as u32 {
            lives.begin(tid, tid.checked_sub(1), life(tid));
        }
        // An id that comes again, where the end of the one before was lost: that one's row is not the new one's.
        lives.begin(7, None, life(7));
        lives.changed(7, &[change(None, 1)], 5);
        lives.end(7, 6);
        let (rows, left_out) = lives.finish();
        assert_eq!((rows.len(), left_out), (TASKS, 1));
        let (number, parent) = (rows[7].number, rows[7].parent_number);
        assert_eq!((number, parent, rows[7].tid), (8, Some(7), 7));
        assert_eq!((rows[7].until, rows[7].uses.len()), (None, 0));
    }

    #[test]
    fn a_rows_uses_are_bounded() {
        let mut lives = Lifetimes::default();
        lives.begin(1, None, life(1));
        lives.changed(1, &[change(None, 1)], 1);
        for number in 2..1000 {
            lives.changed(1, &[change(Some(number - 1), number)], number.into());
        }
        let (rows, _) = lives.finish();
        let uses = &rows[0].uses;
        assert_eq!(uses.len(), USES);
        assert!(uses.iter().all(|used| used.until.is_some()));
    }
}

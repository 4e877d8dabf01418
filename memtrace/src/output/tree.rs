//! The tree of tasks, with the kernel objects that each used, from when to when.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use super::colour::Palette;
use super::wording::{Count, Object, Seconds, TaskName};
use crate::trace::event::{End, ObjectKind, TaskLifetime, Use};

/// Tasks at most: the first.
const TASKS: usize = 60;

/// Writes the section. `began` is the `ts` from which times are counted.
pub(super) fn write(
    out: &mut impl Write,
    end: &End,
    began: u64,
    palette: Palette,
) -> io::Result<()> {
    if end.tasks.len() < 2 {
        return Ok(());
    }
    let tasks = &end.tasks[..end.tasks.len().min(TASKS)];
    let tree = Tree::of(tasks);
    let lines = tree.lines();
    let width = lines.iter().map(|line| line.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let kinds = kinds(&end.tasks);
    let (strong, faint) = (palette.strong(), palette.faint());
    writeln!(
        out,
        "\n{strong}Tasks, and what each used{strong:#} (but for what it shared with its parent all along):"
    )?;
    for Line { task, name } in &lines {
        let life = &tasks[*task];
        let parent = tree.parents[*task].map(|parent| &tasks[parent]);
        let (who, times) = (palette.process(life.pid), Times { life, began });
        write!(out, "{who}{name:width$}{who:#}  {faint}{times}{faint:#}  ")?;
        let mut between = "";
        for &kind in &kinds {
            let history = History::of(kind, life, began);
            if !history.uses.is_empty() && parent.is_none_or(|parent| !history.is_its(parent)) {
                write!(out, "{between}{history}")?;
                between = "; ";
            }
        }
        if between.is_empty() {
            write!(out, "the same as its parent")?;
        }
        writeln!(out)?;
    }
    left_out(out, end)
}

fn left_out(out: &mut impl Write, end: &End) -> io::Result<()> {
    let in_json = end.tasks.len().saturating_sub(TASKS) as u64;
    if in_json != 0 {
        let tasks = Count(in_json, "task");
        writeln!(
            out,
            "{tasks} more are left out here; --format json has all."
        )?;
    }
    if end.tasks_left_out != 0 {
        let tasks = Count(end.tasks_left_out, "task");
        writeln!(
            out,
            "{tasks} more are left out: they were too many, or word of their births was lost."
        )?;
    }
    Ok(())
}

/// The kinds of objects to be shown: of the namespaces those of which tasks used different ones. The thread group is
/// shared by those who share their limits.
fn kinds(tasks: &[TaskLifetime]) -> Vec<ObjectKind> {
    let varies = |kind| {
        let uses = tasks.iter().flat_map(|task| &task.uses);
        let mut numbers = uses.filter(|of| of.kind == kind).map(|of| of.number);
        let first = numbers.next();
        numbers.any(|number| Some(number) != first)
    };
    ObjectKind::ALL
        .into_iter()
        .filter(|kind| !matches!(kind, ObjectKind::Group | ObjectKind::Nsproxy))
        .filter(|&kind| !kind.is_namespace() || varies(kind))
        .collect()
}

/// Who is whose child, by their places.
struct Tree<'a> {
    tasks: &'a [TaskLifetime],
    roots: Vec<usize>,
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

/// A task's line: its place, and its name behind the branches.
struct Line {
    task: usize,
    name: String,
}

impl<'a> Tree<'a> {
    fn of(tasks: &'a [TaskLifetime]) -> Self {
        let mut tree = Self {
            tasks,
            roots: Vec::new(),
            parents: Vec::new(),
            children: vec![Vec::new(); tasks.len()],
        };
        for (at, task) in tasks.iter().enumerate() {
            let before = &tasks[..at];
            let parent = match task.parent_number {
                Some(parent) => before.iter().rposition(|it| it.number == parent),
                // A thread that was there at attach is put below its process. Ids come again: the last one is meant.
                None if task.tid != task.pid => before.iter().rposition(|it| it.tid == task.pid),
                None => None,
            };
            tree.parents.push(parent);
            match parent {
                Some(parent) => tree.children[parent].push(at),
                None => tree.roots.push(at),
            }
        }
        tree
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for &root in &self.roots {
            self.add(root, "", "", &mut lines);
        }
        lines
    }

    /// Adds the lines of a task and of all below it: `branch` stands before its own, `trunk` before theirs.
    fn add(&self, task: usize, branch: &str, trunk: &str, lines: &mut Vec<Line>) {
        let TaskLifetime {
            pid,
            tid,
            born_tid,
            ref comm,
            ..
        } = self.tasks[task];
        let was = born_tid.map_or(String::new(), |tid| format!(" (was {tid})"));
        let name = format!("{branch}{}{was}", TaskName { comm, pid, tid });
        lines.push(Line { task, name });
        if let Some((last, others)) = self.children[task].split_last() {
            let (branch, below) = (format!("{trunk}├─ "), format!("{trunk}│  "));
            for child in others {
                self.add(*child, &branch, &below, lines);
            }
            let (branch, below) = (format!("{trunk}└─ "), format!("{trunk}   "));
            self.add(*last, &branch, &below, lines);
        }
    }
}

/// From when to when a task was traced.
struct Times<'a> {
    life: &'a TaskLifetime,
    began: u64,
}

impl Display for Times<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = |ts: u64| Seconds(ts.saturating_sub(self.began));
        write!(f, "{:3}-", seconds(self.life.from))?;
        match self.life.until {
            Some(until) => write!(f, "{:<9}", seconds(until).to_string()),
            None => write!(f, "{:<9}", "runs on"),
        }
    }
}

/// What a task used of one kind, one after the other.
struct History<'a> {
    life: &'a TaskLifetime,
    uses: Vec<&'a Use>,
    began: u64,
}

impl<'a> History<'a> {
    fn of(kind: ObjectKind, life: &'a TaskLifetime, began: u64) -> Self {
        let uses = life.uses.iter().filter(|of| of.kind == kind).collect();
        Self { life, uses, began }
    }

    /// Whether it is one object, which it shared with its parent all along.
    fn is_its(&self, parent: &TaskLifetime) -> bool {
        let [only] = *self.uses else {
            return false;
        };
        let until_the_end = lasts(only.until, self.life.until);
        only.from <= self.life.from
            && until_the_end
            && parent.uses.iter().any(|of| {
                let same = (of.kind, of.number) == (only.kind, only.number);
                let lasted = lasts(of.until, parent.until) || lasts(of.until, only.until);
                same && of.from <= only.from && lasted
            })
    }
}

/// Whether a use did not end before something else.
fn lasts(until: Option<u64>, end: Option<u64>) -> bool {
    match (until, end) {
        (None, _) => true,
        (Some(until), Some(end)) => until >= end,
        (Some(_), None) => false,
    }
}

impl Display for History<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = |ts: u64| Seconds(ts.saturating_sub(self.began));
        for (at, one) in self.uses.iter().enumerate() {
            match at {
                0 => write!(f, "{}", Object(one.kind, one.number))?,
                _ => write!(f, ", #{}", one.number)?,
            }
            if at != 0 || one.from > self.life.from {
                write!(f, " from {}", seconds(one.from))?;
            }
            let end = match self.uses.get(at + 1) {
                Some(next) => Some(next.from),
                None => self.life.until,
            };
            match one.until {
                Some(until) if !lasts(Some(until), end) => write!(f, " until {}", seconds(until))?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::output::samples::{end, family, life, plain};

    const BEGAN: u64 = 5_000_000_000_000;
    const MS: u64 = 1_000_000;

    fn section(tasks: Vec<TaskLifetime>, tasks_left_out: u64) -> String {
        let end = End {
            tasks: family(tasks),
            tasks_left_out,
            ..end(Vec::new())
        };
        plain(|out, palette| write(out, &end, BEGAN, palette))
    }

    fn own(number: u32) -> Vec<(ObjectKind, u32)> {
        let kinds = [
            ObjectKind::Mm,
            ObjectKind::Files,
            ObjectKind::Fs,
            ObjectKind::Group,
            ObjectKind::UtsNs,
            ObjectKind::NetNs,
        ];
        kinds.map(|kind| (kind, number)).into()
    }

    #[test]
    fn who_used_what() {
        let mut shell = life(100, None, 0, &own(1));
        (shell.until, shell.comm) = (None, "sh\x1b[2J".into());
        for of in &mut shell.uses {
            of.until = None;
        }
        let first_life = shell.uses[1];

        // A vfork: the parent's memory until the exec, its network all along.
        let mut vforked = life(101, Some(100), 1000, &own(2));
        vforked.uses[5].number = 1;
        vforked.uses[0].number = 1;
        vforked.uses[0].until = Some(BEGAN + 5 * MS);
        vforked.uses.push(Use {
            number: 3,
            from: BEGAN + 5 * MS,
            until: vforked.until,
            ..vforked.uses[0]
        });
        vforked.uses[4].number = 1;

        let mut thread = life(102, Some(101), 7000, &own(2));
        (thread.pid, thread.uses[0].number) = (101, 3);
        thread.uses[4].number = 1;
        thread.uses[5].number = 1;
        // It has its own open files for a while, and then none.
        thread.uses[1].until = Some(BEGAN + 8 * MS);
        thread.uses.push(Use {
            number: 9,
            from: BEGAN + 9 * MS,
            until: Some(BEGAN + 10 * MS),
            ..first_life
        });

        // Same ids again; its parent has changed the memory that it still uses.
        let again = life(102, Some(100), 200_000, &own(4));
        let below = life(103, Some(102), 201_000, &own(4));
        let tasks = vec![shell, vforked, thread, again, below];
        expect_file!["snapshots/tree.txt"].assert_eq(&section(tasks, 0));
    }

    #[test]
    fn what_a_parent_shared_only_for_a_while_is_shown() {
        let mut parent = life(1, None, 0, &[(ObjectKind::Files, 1)]);
        let child = life(2, Some(1), 1000, &[(ObjectKind::Files, 1)]);
        let shown = |parent: &TaskLifetime| section(vec![parent.clone(), child.clone()], 0);
        let line = |text: String| text.lines().last().map(str::to_owned);
        assert!(!line(shown(&parent)).expect("a line").contains("files"));
        parent.uses[0].until = Some(BEGAN + 2 * MS);
        assert!(line(shown(&parent)).expect("a line").ends_with("  files#1"));
        // The child may outlive its parent.
        parent.until = parent.uses[0].until;
        assert!(!line(shown(&parent)).expect("a line").contains("files"));
    }

    #[test]
    fn threads_that_were_there_at_attach_are_below_their_process() {
        let process = life(1, None, 0, &own(1));
        let mut thread = life(2, None, 0, &own(1));
        thread.pid = 1;
        let other = life(3, None, 0, &own(2));
        let text = section(vec![process, thread, other], 0);
        assert!(text.contains("\n└─ fork-write[1/2]"), "{text}");
        assert!(text.contains("\nfork-write[3]"), "{text}");
    }

    #[test]
    fn an_exec_by_a_thread_leaves_two_lives_of_one_id() {
        let first = life(1, None, 0, &own(1));
        let execed = TaskLifetime {
            born_tid: Some(2),
            ..life(1, Some(1), 1000, &own(2))
        };
        let child = life(3, Some(1), 2000, &own(3));
        let text = section(vec![first, execed, child], 0);
        assert!(text.contains("\n└─ fork-write[1] (was 2)  "), "{text}");
        assert!(text.contains("\n   └─ fork-write[3] "), "{text}");
    }

    #[test]
    fn of_many_tasks_the_first_are_shown() {
        let first = life(1, None, 0, &own(1));
        let mut tasks = vec![first.clone()];
        tasks.extend((2..=100).map(|pid| life(pid, Some(1), u64::from(pid), &own(pid))));
        let text = section(tasks, 7);
        assert_eq!(text.lines().count(), 2 + TASKS + 2, "{text}");
        assert!(text.contains("└─ fork-write[60]"), "{text}");
        assert!(text.contains("\n40 tasks more "), "{text}");
        assert!(text.contains("\n7 tasks more "), "{text}");
        assert_eq!(section(vec![first], 0), "");
    }
}

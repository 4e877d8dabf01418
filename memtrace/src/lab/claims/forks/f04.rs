//! F4: fork copies kernel stack, user space and open files.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        inside::{kcmp_agrees, row},
        observed::{Mark, Observed},
    },
    trace::event::{ObjectKind, Obtained},
};

pub const CLAIM: Claim = Claim {
    id: "F4",
    short: "fork copies kernel stack, user space, open files",
    book: "fork copies the parent's kernel stack, its user space and its open files for the child.",
    experiment: "A program opens a file and forks. memtrace looks at the kernel's objects behind parent and child: the \
                 kernel stack, the address space (mm) and the table of open files (files). Then the child reads ten \
                 bytes of the file, and /proc/PID/fdinfo shows the position in the file for both.",
    expected: &[Verdict::Qualified],
    read: &[
        "kernel/fork.c: dup_task_struct - takes a new kernel stack",
        "kernel/fork.c: copy_mm, dup_mmap - copy the mappings and the page tables, not the pages",
        "fs/file.c: dup_fd - copies the table of open files; both tables point to the same struct file",
        "open(2), section NOTES, Open file descriptions - where the position in a file is kept",
    ],
    method: Method::Experiment {
        program: "births",
        judge,
    },
};

/// The position in a file that a process has open.
fn position(mark: &Mark, file: u64) -> Result<u64, Undecided> {
    mark.snapshot.files.get(&file).copied().ok_or_else(|| {
        Undecided::because(format!(
            "/proc/{}/fdinfo doesn't show the file {file}",
            mark.pid
        ))
    })
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let (before, in_child, after) = (
        seen.mark("before")?,
        seen.mark("child of fork")?,
        seen.mark("fork")?,
    );
    let child = after.value("child")? as u32;
    let file = before.value("file")?;
    let (birth, clone) = seen.birth(child)?;
    let (born_event, born) = seen.born(child)?;
    let stack = born.kernel_stack;
    if stack.parent.is_none() || stack.child.is_none() {
        return Err(Undecided::because(
            "this kernel doesn't tell where kernel stacks are",
        ));
    }
    let (mm, files) = (row(clone, ObjectKind::Mm)?, row(clone, ObjectKind::Files)?);
    let parts = [
        ("kernel stack", stack.parent != stack.child),
        ("mm", mm.got == Obtained::Own),
        ("files", files.got == Obtained::Own),
    ];

    let mut evidence = Evidence::default();
    let number =
        |object: Option<u32>| object.map_or("none".to_owned(), |number| format!("#{number}"));
    evidence
        .say(format!(
            "Look at the objects in the brackets: the parent's address space is mm{} and the child's mm{}, the \
             parent's table of open files is files{} and the child's files{}.",
            number(mm.parent),
            number(mm.child),
            number(files.parent),
            number(files.child)
        ))
        .event(birth)
        .say("And the kernel stacks of both:")
        .event(born_event);
    let shown = [(ObjectKind::Mm, mm.got), (ObjectKind::Files, files.got)];
    kcmp_agrees(
        &mut evidence,
        &[in_child],
        &shown.map(|(kind, got)| (kind, got == Obtained::Shared)),
    )?;
    let [at_first, of_child, of_parent] = [
        position(before, file)?,
        position(in_child, file)?,
        position(after, file)?,
    ];
    if of_child == at_first {
        return Err(Undecided::because(
            "the child's read did not move its position in the file",
        ));
    }
    evidence.say(format!(
        "The position in the file, by /proc/PID/fdinfo: {at_first} before the fork, {of_child} in the child when it \
         had read, and then {of_parent} in the parent, which had not read anything."
    ));
    let one_position = of_parent == of_child;
    if !one_position && of_parent != at_first {
        return Err(Undecided::because(
            "the parent's position in the file is neither its own nor the child's",
        ));
    }

    let shared: Vec<_> = parts
        .iter()
        .filter(|(_, own)| !own)
        .map(|(part, _)| *part)
        .collect();
    let figure = if one_position {
        format!("child reads to {of_child}: parent at {of_parent}, too")
    } else {
        format!("child at {of_child}, parent at {of_parent}")
    };
    match (shared.len(), one_position) {
        (3, _) => evidence.decide(Verdict::Refuted, figure, "Parent and child share all three: nothing was copied."),
        (0, false) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The child has a kernel stack, an address space and open files of its own, down to the position in a file.",
        ),
        (0, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The child has its own kernel stack, its own address space (whose pages stay shared until one of the two \
             writes) and its own table of open files. But only the table is copied. Its entries lead to the same open \
             files, so the position is one for both: what the child reads, the parent no longer gets.",
        ),
        _ => evidence.decide(
            Verdict::Qualified,
            figure,
            format!("Not all three were copied: parent and child share {}.", shared.join(" and ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{inside::told::row, story::Story},
        trace::event::ByObject,
    };

    /// Whether stack, mm and files are the child's own; and where the parent's position is when the child is at 10.
    fn story([stack, mm, files]: [bool; 3], position: u64) -> Observed {
        let mut story = Story::default();
        let at = |position| [(3, position)].into();
        story.mark(1, "before", &[("file", 3)]).files = at(0);
        story.birth(1, 2, None).objects = ByObject(vec![
            row(ObjectKind::Mm, !mm),
            row(ObjectKind::Files, !files),
        ]);
        story.born(1, 2, &[]).kernel_stack.child = Some(if stack { 2 } else { 1 });
        let snapshot = story.mark(2, "child of fork", &[]);
        snapshot.files = at(10);
        snapshot.kcmp = [("VM", !mm), ("FILES", !files)].into();
        story.mark(1, "fork", &[("child", 2)]).files = at(position);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_objects_and_the_position() {
        let verdict = |own, position| judge(&story(own, position)).expect("decided").verdict;
        assert_eq!(verdict([true; 3], 10), Verdict::Qualified);
        assert_eq!(verdict([true; 3], 0), Verdict::Confirmed);
        assert_eq!(verdict([false; 3], 10), Verdict::Refuted);
        for own in [
            [false, true, true],
            [true, false, true],
            [true, true, false],
        ] {
            assert_eq!(verdict(own, 0), Verdict::Qualified, "{own:?}");
        }
    }

    #[test]
    fn kcmp_must_agree() {
        for kind in ["VM", "FILES"] {
            let mut seen = story([true; 3], 10);
            seen.marks[1].snapshot.kcmp.insert(kind, true);
            assert!(
                matches!(judge(&seen), Err(Undecided::Contradiction(_))),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_read_that_moves_nothing_decides_nothing() {
        let mut seen = story([true; 3], 0);
        seen.marks[1].snapshot.files.insert(3, 0);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}

//! X13: after a fork the open files are shared, but not the table of them.

use crate::lab::{
    claim::{Claim, Method},
    finding::{Evidence, Finding, Undecided, Verdict},
    observed::{Mark, Observed},
};

pub const CLAIM: Claim = Claim {
    id: "X13",
    short: "after a fork both share the open files",
    book: "Files that were open at the fork are shared by parent and child: what one does with an open \
           file, the other sees.",
    experiment: "A program opens a file and forks; the child reads ten bytes from it, and closes it. Then the \
                 same with a child that is made by clone with CLONE_FILES. At each step memtrace looks at \
                 the open files of the parent in /proc/PID/fdinfo.",
    expected: &[Verdict::Qualified],
    read: &[
        "kernel/fork.c: copy_files - shares the table with CLONE_FILES, else copies it",
        "fs/file.c: dup_fd - copies the table: each entry points to the same struct file",
        "include/linux/fs.h: struct file, its member f_pos - the position, which is shared with it",
        "man 2 fork, man 2 clone (CLONE_FILES), man 2 kcmp",
    ],
    method: Method::Experiment {
        program: "closes",
        judge,
    },
};

/// What a child did to its parent's file.
struct Case {
    /// By the kernel's pointers both have the same table.
    table: bool,
    /// The parent's position moved with the child's read.
    position: bool,
    /// The parent's file was closed with the child's.
    closed: bool,
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before")?;
    let mut evidence = Evidence::default();
    let (by_fork, by_clone) = ("fork", "clone with CLONE_FILES");
    let fork = case(seen, before, "after fork", by_fork, &mut evidence)?;
    let clone = case(seen, before, "after clone", by_clone, &mut evidence)?;
    for (what, case) in [(by_fork, &fork), (by_clone, &clone)] {
        evidence.agree(
            case.closed == case.table,
            format!(
                "after {what} the table of open files is {}, and when the child closed the file, \
                 /proc/PID/fdinfo shows it {} in the parent",
                if case.table {
                    "shared"
                } else {
                    "the child's own"
                },
                if case.closed { "closed" } else { "still open" }
            ),
        )?;
    }

    let yes = |is| if is { "shared" } else { "own" };
    let figure = format!("position {}, table {}", yes(fork.position), yes(fork.table));
    match (fork.position, fork.table) {
        (true, true) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "After a fork the child's reading and its closing both changed the parent's file.",
        ),
        (false, false) => evidence.decide(
            Verdict::Refuted,
            figure,
            "Neither did the child's reading move the parent's position, nor did its closing close the \
             parent's file.",
        ),
        (true, false) => {
            let with_flag = if clone.table {
                "With CLONE_FILES, as threads have it, the table itself is shared: there the child's close \
                 closed the file of its parent as well."
            } else {
                "Here CLONE_FILES made no difference."
            };
            evidence.decide(
                Verdict::Qualified,
                figure,
                format!(
                    "Two things are called an open file. The table of file descriptors is copied by a fork: a \
                     close in the child leaves the parent's descriptor alone. The open file that a descriptor \
                     stands for is shared, and with it the position: the parent goes on reading where the \
                     child has stopped. {with_flag}"
                ),
            )
        }
        (false, true) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The table of file descriptors was shared, but the position was not.",
        ),
    }
}

/// What came of a child, `after` which its parent made that mark; it was made by `what`.
fn case(
    seen: &Observed,
    before: &Mark,
    after: &str,
    what: &str,
    evidence: &mut Evidence,
) -> Result<Case, Undecided> {
    let (file, length) = (before.value("file")?, before.value("length")?);
    let after = seen.mark(after)?;
    let child = after.value("child")? as u32;
    let (event, birth) = seen.birth(child)?;
    let table = birth.shared.files;
    evidence.say(format!(
        "The child of {what} has, by the kernel's pointers, {}:",
        if table {
            "its parent's table of open files"
        } else {
            "a table of open files of its own"
        }
    ));
    evidence.event(event);

    let of_child = |name: &str| {
        let mut marks = seen.marks.iter().filter(|mark| mark.name == name);
        let mark = marks.find(|mark| mark.pid == child);
        mark.ok_or_else(|| {
            Undecided::because(format!("the child of {what} never came to \"{name}\""))
        })
    };
    let (read, closed) = (of_child("child has read")?, of_child("child has closed")?);
    if let Some(&same) = read.snapshot.kcmp.get("FILES") {
        evidence.agree(
            same == table,
            format!(
                "kcmp(2) says that their tables of open files are {}",
                if same { "the same" } else { "two" }
            ),
        )?;
    }
    // The parent's position when the child was made.
    let start = seen
        .marks
        .iter()
        .rfind(|mark| mark.pid == before.pid && mark.ts < read.ts)
        .and_then(|mark| mark.snapshot.files.get(&file));
    let (Some(&start), Some(&position)) = (start, read.snapshot.files.get(&file)) else {
        return Err(Undecided::because(
            "the file was not open, or /proc/PID/fdinfo can't be read",
        ));
    };
    if position != start + length || closed.snapshot.files.contains_key(&file) {
        return Err(Undecided::because(
            "/proc/PID/fdinfo does not show that the child has read, and closed, its file",
        ));
    }
    let of_parent = after.snapshot.files.get(&file).copied();
    evidence.say(format!(
        "The file's position was {start}. The child read {length} bytes, which moved its position to \
         {position}, and closed the file. Then the parent's was {}.",
        match of_parent {
            Some(position) => format!("open, with the position {position}"),
            None => "closed".to_owned(),
        }
    ));
    Ok(Case {
        table,
        position: of_parent.is_none_or(|of_parent| of_parent == position),
        closed: of_parent.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::Copied};

    const FILE: u64 = 100;

    /// Two children, by fork and by clone: whether they share the table; whether the fork shares the position.
    fn story(tables: [bool; 2], position: bool) -> Observed {
        let mut story = Story::default();
        let values = [("file", FILE), ("length", 10)];
        story.mark(1, "before", &values).files.insert(FILE, 0);
        let mut at = 0;
        for (child, table) in (2..).zip(tables) {
            story.birth(1, child, Some(Copied::default())).shared.files = table;
            let snapshot = story.mark(child, "child has read", &[]);
            snapshot.files.insert(FILE, at + 10);
            snapshot.kcmp.insert("FILES", table);
            story.mark(child, "child has closed", &[]);
            let after = if child == 2 {
                "after fork"
            } else {
                "after clone"
            };
            let snapshot = story.mark(1, after, &[("child", u64::from(child))]);
            if position {
                at += 10;
            }
            if !table {
                snapshot.files.insert(FILE, at);
            }
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict =
            |tables, position| judge(&story(tables, position)).map(|finding| finding.verdict);
        assert_eq!(verdict([false, true], true), Ok(Verdict::Qualified));
        assert_eq!(verdict([false, true], false), Ok(Verdict::Refuted));
        assert_eq!(verdict([false, false], true), Ok(Verdict::Qualified));
        // With the table the file is gone for the parent, and the second child has none.
        let both = story([true, true], true);
        assert!(matches!(judge(&both), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn what_clone_files_does_is_told() {
        let why = |table| judge(&story([false, table], true)).expect("decided").why;
        assert!(why(true).contains("the table itself is shared"));
        assert!(why(false).contains("made no difference"));
    }

    #[test]
    fn kcmp_and_fdinfo_must_agree() {
        let mut seen = story([false, true], true);
        seen.marks[1].snapshot.kcmp.insert("FILES", true);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        let mut seen = story([false, true], true);
        let last = seen.marks.last_mut().expect("there is one");
        last.snapshot.files.insert(FILE, 20);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}

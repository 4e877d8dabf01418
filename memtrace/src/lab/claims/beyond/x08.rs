//! X8: `posix_spawn` copies nothing of its caller, whatever its size.

use super::batch::{Batch, SLACK, batches};
use crate::trace::event::Events;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::Event,
};

pub const CLAIM: Claim = Claim {
    id: "X8",
    short: "posix_spawn copies as much as fork and exec",
    book: "posix_spawn starts a program in one call, for which one otherwise calls fork and exec. It does \
           the same work: first it makes a copy of its caller, which then becomes the new program.",
    experiment: "A process that uses 1 MiB of memory starts a program five times by fork and exec, and \
                 five times by posix_spawn; then the same with 64 and with 512 MiB. All is in pages \
                 of 4 KiB.",
    expected: &[Verdict::Refuted],
    read: &[
        "glibc, sysdeps/unix/sysv/linux/spawni.c: __spawnix - calls clone with CLONE_VM and CLONE_VFORK",
        "kernel/fork.c: copy_mm - with CLONE_VM the child gets the parent's own mm",
        "kernel/fork.c: dup_mmap - without it, each mapping and its page tables are copied",
        "kernel/fork.c: wait_for_vfork_done - the parent waits until the child has a new program",
        "man 3 posix_spawn",
    ],
    method: Method::Experiment {
        program: "spawns",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let forks = batches(seen, "fork and exec")?;
    let spawns = batches(seen, "posix_spawn")?;
    let mut evidence = Evidence::default();
    for batch in forks.iter().chain(&spawns) {
        for (_, birth) in &batch.births {
            exec_of(seen, birth.child_pid)?;
        }
    }

    for (fork, spawn) in forks.iter().zip(&spawns) {
        evidence.say(format!(
            "With {} MiB a fork copied {} KiB of page tables, with entries for {} private pages; the call \
             took {}. posix_spawn copied {}; the call took {}, until the child had its new program.",
            fork.mib()?,
            fork.table_bytes() / 1024,
            fork.copied().map_or(0, |copied| copied.pages),
            fork.times,
            match spawn.copied() {
                None => "nothing, as the child ran in its parent's own address space".to_owned(),
                Some(copied) => format!("{} KiB", copied.table_bytes / 1024),
            },
            spawn.times,
        ));
    }
    let (Some(fork), Some(spawn)) = (forks.last(), spawns.last()) else {
        return Err(Undecided::because("no sizes were seen"));
    };
    let mib = fork.mib()?;
    for (what, batch) in [("fork", fork), ("posix_spawn", spawn)] {
        evidence.say(format!(
            "The first {what} of the process with {mib} MiB, and the child's exec:"
        ));
        if let Some((event, birth)) = batch.births.first() {
            evidence.event(event).event(exec_of(seen, birth.child_pid)?);
        }
    }
    if let Some(least) = forks.first() {
        let copied = fork.table_bytes().saturating_sub(least.table_bytes());
        let own = fork
            .parents_tables()?
            .saturating_sub(least.parents_tables()?);
        evidence.agree(
            copied.abs_diff(own) <= SLACK,
            format!(
                "from {} to {mib} MiB the parent's own page tables grew by {} KiB by VmPTE in \
                 /proc/PID/status, and what a fork copied by {} KiB",
                least.mib()?,
                own / 1024,
                copied / 1024
            ),
        )?;
    }

    let copying = spawns.iter().filter(|batch| copies(batch)).count();
    let figure = format!(
        "{mib} MiB: {} KiB copied, by spawn {}",
        fork.table_bytes() / 1024,
        spawn.table_bytes() / 1024
    );
    if copying == spawns.len() {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "posix_spawn, too, made a copy of its caller's page tables at each size.",
        )
    } else if copying == 0 {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "fork copied no memory, but the page tables that say where it is, and these grow with the \
             parent. posix_spawn copied not even these: its child borrows the parent's address space \
             (CLONE_VM) while the parent waits (CLONE_VFORK), and leaves it by exec. So the size of the \
             parent does not matter to it.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "posix_spawn copied its caller's page tables at {copying} of {} sizes.",
                spawns.len()
            ),
        )
    }
}

/// Whether any of its births copied an address space.
fn copies(batch: &Batch) -> bool {
    batch
        .births
        .iter()
        .any(|(_, birth)| birth.copied.is_some() || !birth.shared.mm)
}

fn exec_of(seen: &Observed, pid: u32) -> Result<&Event, Undecided> {
    let mut execs = seen.execs();
    let exec = execs.find(|(event, _)| event.pid == pid);
    exec.map(|(event, _)| event)
        .ok_or_else(|| Undecided::because(format!("process {pid} never became the program")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Copied, EventKind, Exec},
    };

    /// `posix_spawn` copies these bytes at the three sizes, if any.
    fn story(spawned: [Option<u64>; 3]) -> Observed {
        let mut story = Story::default();
        let mut child = 1;
        let copied = |table_bytes| Copied {
            table_bytes,
            ..Copied::default()
        };
        for (mib, spawned) in [1, 64, 512].into_iter().zip(spawned) {
            let tables = mib * 2048 + 40_960;
            for (name, bytes) in [("fork and exec", Some(tables)), ("posix_spawn", spawned)] {
                let snapshot = story.mark(1, name, &[("mib", mib)]);
                snapshot.status.insert("VmPTE".to_owned(), tables / 1024);
                for _ in 0..5 {
                    child += 1;
                    story.birth(1, child, bytes.map(copied));
                    story.cloned(1, child, 1_000_000);
                    let exec = Exec {
                        file: "prog".to_owned(),
                        exe: None,
                        args: Vec::new(),
                        truncated: false,
                        old_tid: None,
                    };
                    story.event(child, EventKind::Exec(exec));
                }
            }
        }
        story.mark(1, "done", &[("rounds", 5)]);
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |spawned| judge(&story(spawned)).expect("decided").verdict;
        assert_eq!(verdict([None; 3]), Verdict::Refuted);
        assert_eq!(verdict([Some(4096); 3]), Verdict::Confirmed);
        assert_eq!(verdict([None, None, Some(4096)]), Verdict::Qualified);
    }

    #[test]
    fn the_figure_is_measured() {
        let mut seen = story([None; 3]);
        let figure = |seen: &Observed| judge(seen).expect("decided").figure;
        assert_eq!(figure(&seen), "512 MiB: 1064 KiB copied, by spawn 0");
        for event in &mut seen.events {
            if let EventKind::Clone(clone) = &mut event.what
                && let Some(copied) = &mut clone.copied
            {
                copied.table_bytes += 4096;
            }
        }
        assert_eq!(figure(&seen), "512 MiB: 1068 KiB copied, by spawn 0");
    }

    #[test]
    fn a_child_without_an_exec_decides_nothing() {
        let mut seen = story([None; 3]);
        let exec = |event: &Event| matches!(event.what, EventKind::Exec(_));
        let last = seen.events.iter().rposition(exec).expect("there is one");
        seen.events.remove(last);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_parents_tables_must_agree() {
        let mut seen = story([None; 3]);
        for mark in &mut seen.marks {
            mark.snapshot.status.insert("VmPTE".to_owned(), 10);
        }
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}

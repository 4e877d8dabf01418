//! T2: what memory a process adds, and a thread.

use std::collections::BTreeSet;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Clone, Event, Events, Fault, FaultKind},
};

pub const CLAIM: Claim = Claim {
    id: "T2",
    short: "a process takes more memory than a thread",
    book: "A process takes much memory, a thread takes little.",
    experiment: "A process makes four children and lets them live, and then four threads. Each calls a function that \
                 needs four pages of its stack. Counted are the frames (pages of physical memory) that came to be \
                 used because of them, and the page tables. This is done by processes of 1, 64 and 512 MiB.",
    expected: &[Verdict::Confirmed],
    read: &[
        "kernel/fork.c: dup_mmap - a fork copies the list of mappings, and by copy_page_range the page tables",
        "kernel/fork.c: copy_process - what both need alike: a task_struct, and a kernel stack in dup_task_struct",
        "proc_pid_status(5): VmPTE",
    ],
    method: Method::Experiment {
        program: "adds",
        judge,
    },
};

/// Sizes of the parent that the program tries.
const SIZES: usize = 3;
const KIB: u64 = 1024;
/// What one page table maps.
const TABLE_MAPS: u64 = 2 << 20;

/// What a parent of one size has seen, in bytes.
struct Size<'a> {
    mib: u64,
    children: Vec<Child<'a>>,
    /// Faults that gave the threads frames.
    threads_frames: Vec<(&'a Event, &'a Fault)>,
    /// Page tables of all threads.
    threads_tables: u64,
    threads: u64,
}

/// A child: frames that its birth and its work have cost, and its page tables.
struct Child<'a> {
    birth: (&'a Event, &'a Clone),
    frames: Vec<(&'a Event, &'a Fault)>,
    tables: u64,
}

impl Child<'_> {
    fn bytes(&self) -> u64 {
        bytes(&self.frames) + self.tables
    }
}

impl Size<'_> {
    /// The median child's bytes.
    fn per_child(&self) -> u64 {
        let mut all: Vec<_> = self.children.iter().map(Child::bytes).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }

    /// A thread's bytes.
    fn per_thread(&self) -> u64 {
        (bytes(&self.threads_frames) + self.threads_tables) / self.threads
    }
}

fn bytes(frames: &[(&Event, &Fault)]) -> u64 {
    frames.iter().map(|(_, fault)| fault.page_size).sum()
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let parents: Vec<_> = seen.marks("parent").collect();
    if parents.len() < SIZES {
        return Err(Undecided::because(
            "there was too little memory for parents of 1, 64 and 512 MiB",
        ));
    }
    let mut sizes = Vec::new();
    for parent in parents {
        let size = size(seen, parent)?;
        evidence.say(format!(
            "From {} MiB: a child {} of frames and {} of page tables; a thread {} and {}.",
            size.mib,
            kib(size.per_child() - size.children[0].tables),
            kib(size.children[0].tables),
            kib(bytes(&size.threads_frames) / size.threads),
            kib(size.threads_tables / size.threads),
        ));
        sizes.push(size);
    }
    evidence.say(
        "Checked: VmPTE in /proc/PID/status agrees with the page tables that the trace shows, for each child and for \
         the threads",
    );
    let (first, last) = (&sizes[0], &sizes[sizes.len() - 1]);
    show(&mut evidence, first, last);

    let children: Vec<_> = sizes.iter().map(Size::per_child).collect();
    let threads: Vec<_> = sizes.iter().map(Size::per_thread).collect();
    let figure = format!("process {}, thread {}", range(&children), range(&threads));
    let more = children
        .iter()
        .zip(&threads)
        .filter(|(child, thread)| child > thread)
        .count();
    if more == sizes.len() {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "At each size of the parent a child added more than a thread. A thread adds its stack, and the page table \
             for that. A child copies what it or its parent writes to, and gets page tables of its own for all that \
             the parent has, so that a large parent's child is large even before it has done anything. What the kernel \
             keeps about each (task_struct, kernel stack, and for a process more) is not among these figures.",
        )
    } else if more == 0 {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "At no size of the parent a child added more than a thread.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!(
                "A child added more than a thread at {more} of {} sizes of the parent only.",
                sizes.len()
            ),
        )
    }
}

/// Events that show it: of a child, of a thread, of the largest child.
fn show(evidence: &mut Evidence, first: &Size, last: &Size) {
    let child = &first.children[0];
    evidence
        .say("A child of the smallest parent, and the first frames that it cost, for writes of its own or of its parent:")
        .event(child.birth.0);
    for (event, _) in child.frames.iter().take(3) {
        evidence.event(event);
    }
    evidence.say("The first frames that the threads there took themselves:");
    let own = first
        .threads_frames
        .iter()
        .filter(|(event, _)| event.tid != event.pid);
    for (event, _) in own.take(3) {
        evidence.event(event);
    }
    evidence
        .say("A child of the largest parent; see the size of the page tables that it got:")
        .event(last.children[0].birth.0);
}

fn size<'a>(seen: &'a Observed, parent: &'a Mark) -> Result<Size<'a>, Undecided> {
    let of_parent = |name| {
        let mut marks = seen.marks(name).filter(|mark| mark.pid == parent.pid);
        marks
            .next()
            .ok_or_else(|| Undecided::because(format!("the program never came to \"{name}\"")))
    };
    let (before, with) = (
        of_parent("before the threads")?,
        of_parent("with the threads")?,
    );
    let mib = parent.value("mib")?;

    let mut children = Vec::new();
    for (event, clone) in seen.clones().filter(|(event, _)| event.pid == parent.pid) {
        let Some(copied) = clone.copied else { continue };
        let mark = seen
            .marks("child")
            .find(|mark| mark.pid == clone.child_pid)
            .ok_or_else(|| Undecided::because("a child never came so far"))?;
        let mine = |event: &Event, fault: &Fault| {
            event.pid == clone.child_pid && event.ts < mark.ts
                || event.pid == parent.pid
                    && fault
                        .cause
                        .as_ref()
                        .and_then(|cause| cause.fork)
                        .is_some_and(|fork| fork.child == clone.child_pid)
        };
        children.push(Child {
            birth: (event, clone),
            frames: fresh(seen)
                .filter(|(event, fault)| mine(event, fault))
                .collect(),
            tables: copied.table_bytes,
        });
        // What it has touched since may have needed more tables.
        let now = table_bytes(mark)?;
        must(
            now >= copied.table_bytes,
            format!(
                "VmPTE in /proc/{}/status, {}, is at least what the trace says the fork gave it, {}",
                mark.pid,
                kib(now),
                kib(copied.table_bytes)
            ),
        )?;
    }
    let threads = seen
        .clones()
        .filter(|(event, clone)| event.pid == parent.pid && clone.thread)
        .count() as u64;
    if children.is_empty() || threads == 0 {
        return Err(Undecided::because(
            "the births of children and threads were not seen",
        ));
    }

    let threads_frames: Vec<_> = fresh(seen)
        .filter(|(event, _)| event.pid == parent.pid && (before.ts..with.ts).contains(&event.ts))
        .collect();
    let threads_tables = table_bytes(with)?.saturating_sub(table_bytes(before)?);
    let ranges: BTreeSet<_> = threads_frames
        .iter()
        .map(|(_, fault)| fault.addr.0 / TABLE_MAPS)
        .collect();
    // Each range that is used needs one table, and these tables may need one or two above them.
    must(
        threads_tables / 4 / KIB <= ranges.len() as u64 + 2,
        format!(
            "VmPTE grew by {} with the threads, whose new frames lie in {} ranges of 2 MiB; each range needs a page \
             table of 4 KiB",
            kib(threads_tables),
            ranges.len()
        ),
    )?;
    Ok(Size {
        mib,
        children,
        threads_frames,
        threads_tables,
        threads,
    })
}

/// As [`Evidence::agree`], for what is checked too often to be shown each time.
fn must(agrees: bool, what: String) -> Result<(), Undecided> {
    if agrees {
        Ok(())
    } else {
        Err(Undecided::Contradiction(what))
    }
}

/// The faults that took a frame which nobody had.
fn fresh(seen: &Observed) -> impl Iterator<Item = (&Event, &Fault)> {
    seen.faults().filter(|(_, fault)| {
        matches!(
            fault.kind,
            FaultKind::ZeroFill
                | FaultKind::CowCopy
                | FaultKind::CowZero
                | FaultKind::FileCow
                | FaultKind::ShmFill
        )
    })
}

/// The size of a process's page tables.
fn table_bytes(mark: &Mark) -> Result<u64, Undecided> {
    let kib = mark.snapshot.status.get("VmPTE");
    kib.map(|kib| kib * KIB)
        .ok_or_else(|| Undecided::because("/proc/PID/status does not say the size of page tables"))
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes / KIB)
}

/// `24 KiB`, or `92 to 1110 KiB`.
fn range(bytes: &[u64]) -> String {
    let least = bytes.iter().min().copied().unwrap_or_default() / KIB;
    let greatest = bytes.iter().max().copied().unwrap_or_default() / KIB;
    if least == greatest {
        format!("{least} KiB")
    } else {
        format!("{least} to {greatest} KiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::story::Story, trace::event::Copied};

    /// Three parents. A child costs so many frames and bytes of page tables at each size, a thread so many frames.
    fn story(childs: [(u64, u64); 3], threads_frames: u64) -> Observed {
        let mut story = Story::default();
        for (size, (frames, table_bytes)) in childs.into_iter().enumerate() {
            let parent = 100 * (size as u32 + 1);
            story.mark(parent, "parent", &[("mib", [1, 64, 512][size])]);
            story.birth(
                parent,
                parent + 1,
                Some(Copied {
                    table_bytes,
                    ..Copied::default()
                }),
            );
            for frame in 0..frames {
                story.fault(
                    parent + 1,
                    frame << 12,
                    FaultKind::CowCopy,
                    frame,
                    900 + frame,
                );
            }
            let pte = |kib: u64| ("VmPTE".to_owned(), kib);
            story
                .mark(parent + 1, "child", &[])
                .status
                .extend([pte(table_bytes / KIB + 4)]);
            story
                .mark(parent, "before the threads", &[])
                .status
                .extend([pte(40)]);
            let thread = story.birth(parent, parent + 2, None);
            (thread.thread, thread.child_pid) = (true, parent);
            for frame in 0..threads_frames {
                story.fault(
                    parent,
                    0x7f00_0000_0000 + (frame << 12),
                    FaultKind::ZeroFill,
                    0,
                    frame,
                );
            }
            story
                .mark(parent, "with the threads", &[])
                .status
                .extend([pte(44)]);
        }
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |childs, threads| judge(&story(childs, threads)).expect("decided");
        let (small, large) = ((10, 40 * KIB), (10, 1072 * KIB));
        let today = finding([small, small, large], 6);
        assert_eq!(today.verdict, Verdict::Confirmed);
        assert_eq!(today.figure, "process 80 to 1112 KiB, thread 28 KiB");
        assert_eq!(
            finding([small, small, large], 30).verdict,
            Verdict::Qualified
        );
        assert_eq!(finding([small, small, small], 30).verdict, Verdict::Refuted);
    }

    #[test]
    fn the_size_of_page_tables_must_agree() {
        for (mark, kib) in [(1, 4), (3, 400)] {
            let mut seen = story([(10, 40 * KIB); 3], 6);
            seen.marks[mark]
                .snapshot
                .status
                .insert("VmPTE".to_owned(), kib);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }

    #[test]
    fn all_sizes_are_needed() {
        let mut seen = story([(10, 40 * KIB); 3], 6);
        seen.marks.retain(|mark| mark.pid < 300);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }
}

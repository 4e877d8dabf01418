//! F12: copy-on-write makes a fork cheap that an exec follows.

use std::collections::BTreeMap;

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Events, FaultKind, ForkAccount},
};

pub const CLAIM: Claim = Claim {
    id: "F12",
    short: "copy-on-write makes fork and exec cheap",
    book: "A child mostly execs soon after the fork, so that a copy of the parent's memory would be in vain. For that \
           Linux has copy-on-write: a page is copied only when one of the two writes to it, and until the exec almost \
           nothing is.",
    experiment: "A program of 1, then 64, then 512 MiB forks some times, and each child execs true(1) at once. For each \
                 fork the trace counts the pages that were left shared, those that were copied before the exec, the \
                 bytes of page tables that the fork had to copy, and how long the call took.",
    expected: &[Verdict::Confirmed],
    read: &[
        "mm/memory.c: copy_page_range - copies page tables at fork, not pages",
        "mm/memory.c: do_wp_page - copies a page at the first write",
        "fs/exec.c: exec_mmap - gives the shared pages up",
        "vfork(2), posix_spawn(3): how to save even the page tables",
    ],
    method: Method::Experiment {
        program: "forkexec",
        judge,
    },
};

/// Less than a page in so many is "almost nothing".
const FEW: u64 = 10;
/// Sizes of the parent, and forks of each, for a median and a spread.
const SIZES: usize = 3;
const FORKS: usize = 3;
/// By how many pages the kernel's own count of a process's anonymous memory may be behind (its counters are kept per CPU):
/// these, and a tenth.
const BEHIND: u64 = 512;

/// The forks from a parent of one size.
#[derive(Default)]
struct Size<'a> {
    forks: Vec<&'a ForkAccount>,
}

impl Size<'_> {
    fn figures(&self, of: impl Fn(&ForkAccount) -> u64) -> Figures {
        let mut all: Vec<_> = self.forks.iter().map(|fork| of(fork)).collect();
        all.sort_unstable();
        Figures(all)
    }
}

/// Sorted figures; at least one.
struct Figures(Vec<u64>);

impl Figures {
    fn median(&self) -> u64 {
        self.0[self.0.len() / 2]
    }

    fn spread(&self) -> (u64, u64) {
        (self.0[0], self.0[self.0.len() - 1])
    }
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let mut sizes: BTreeMap<u64, Size> = BTreeMap::new();
    let mut largest_gap = 0;
    for (before, after) in seen.marks("before a fork").zip(seen.marks("after it")) {
        let account = seen.account(after.value("child")? as u32)?;
        if !account.execed || account.dur.is_none() {
            return Err(Undecided::because(format!(
                "the child {} was not seen to exec, or the fork not to return",
                account.child
            )));
        }
        largest_gap = largest_gap.max(gap(before, account)?);
        let size = sizes.entry(before.value("mib")?).or_default();
        size.forks.push(account);
    }
    if sizes.len() < SIZES || sizes.values().any(|size| size.forks.len() < FORKS) {
        return Err(Undecided::because(
            "the program had too little memory for parents of 1, 64 and 512 MiB",
        ));
    }

    for (mib, size) in &sizes {
        say(&mut evidence, *mib, size);
    }
    if let Some(fork) = sizes
        .values()
        .next_back()
        .and_then(|size| size.forks.first())
    {
        evidence
            .say("The birth of the first child of the largest parent, the first of its copies, and its exec:");
        evidence.event(seen.birth(fork.child)?.0);
        if let Some((exec, _)) = seen.execs().find(|(event, _)| event.pid == fork.child) {
            for (event, _) in seen
                .faults()
                .filter(|(event, fault)| {
                    event.pid == fork.child
                        && event.ts < exec.ts
                        && fault.kind == FaultKind::CowCopy
                })
                .take(4)
            {
                evidence.event(event);
            }
            evidence.event(exec);
        }
    }
    evidence.agree(
        largest_gap == 0,
        "before each fork the RssAnon of the parent in /proc/PID/status was as many pages as the trace says the fork \
         left shared (but for those that the kernel counts late)",
    )?;

    // A size's pages and copies.
    let shares: Vec<_> = sizes
        .values()
        .map(|size| {
            let pages = size.figures(|fork| fork.pages).median();
            (pages, size.figures(|fork| fork.before_exec).median())
        })
        .collect();
    let (pages, copied) = shares.last().copied().unwrap_or_default();
    let figure = format!("{copied} of {pages} pages copied");
    if shares.iter().all(|(pages, copied)| copied * FEW < *pages) {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            "The copies before the exec are the few pages that parent and child happen to write, mostly of the stack and \
             of the C library's data; they don't grow with the parent. What does grow, and the time with it, is the copy of the page \
             tables: 8 bytes for each page of 4096. So it is cheap, but not free.",
        )
    } else if shares.iter().all(|(pages, copied)| copied * 2 >= *pages) {
        evidence.decide(
            Verdict::Refuted,
            figure,
            "Half of the shared pages or more were copied before the exec: copy-on-write saved little.",
        )
    } else {
        evidence.decide(
            Verdict::Qualified,
            figure,
            "Copy-on-write saved copies, but a tenth of the shared pages or more was copied before the exec, at least \
             in one size of the parent.",
        )
    }
}

/// Pages by which the kernel's count of the parent's anonymous memory and the trace's are further from each other than
/// they may.
fn gap(before: &Mark, account: &ForkAccount) -> Result<u64, Undecided> {
    let kib = before
        .snapshot
        .status
        .get("RssAnon")
        .ok_or_else(|| Undecided::because("/proc/PID/status has no RssAnon"))?;
    let may = BEHIND + account.pages / 10;
    Ok((kib / 4).abs_diff(account.pages).saturating_sub(may))
}

fn say(evidence: &mut Evidence, mib: u64, size: &Size) {
    let dur = size.figures(|fork| fork.dur.unwrap_or_default());
    let copied = size.figures(|fork| fork.before_exec);
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    evidence.say(format!(
        "{mib} MiB, {} forks: {} pages left shared, {} copied before the exec ({} to {}), {} KiB of page tables; the \
         call took {:.2} ms ({:.2} to {:.2}).",
        size.forks.len(),
        size.figures(|fork| fork.pages).median(),
        copied.median(),
        copied.spread().0,
        copied.spread().1,
        size.figures(|fork| fork.table_bytes).median() / 1024,
        ms(dur.median()),
        ms(dur.spread().0),
        ms(dur.spread().1),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{Copied, End},
    };

    /// Forks from parents of three sizes; of each size so many pages are copied before the exec.
    fn story(copied: [u64; 3]) -> Observed {
        let mut story = Story::default();
        let mut forks = Vec::new();
        for ((mib, copied), at) in [1, 64, 512].into_iter().zip(copied).zip(0..) {
            for time in 0..FORKS as u32 {
                let child = 10 + at * 10 + time;
                let pages = mib * 256 + 26;
                let snapshot = story.mark(1, "before a fork", &[("mib", mib)]);
                snapshot.status.insert("RssAnon".to_owned(), pages * 4);
                let left = Copied {
                    pages,
                    ..Copied::default()
                };
                story.birth(1, child, Some(left));
                story.exec(child, "/bin/true");
                story.mark(1, "after it", &[("child", u64::from(child))]);
                forks.push(ForkAccount {
                    child,
                    dur: Some(1000 * mib),
                    pages,
                    before_exec: copied,
                    execed: true,
                    ..ForkAccount::default()
                });
            }
        }
        story.seen().end = Some(End {
            forks,
            ..End::default()
        });
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let decided = |copied| {
            let finding = judge(&story(copied)).expect("decided");
            (finding.verdict, finding.figure)
        };
        let (verdict, figure) = decided([8, 8, 9]);
        assert_eq!(verdict, Verdict::Confirmed);
        assert_eq!(figure, "9 of 131098 pages copied");
        assert_eq!(decided([8, 8, 20_000]).0, Verdict::Qualified);
        assert_eq!(decided([282, 16_410, 131_098]).0, Verdict::Refuted);
    }

    #[test]
    fn it_is_never_a_matter_of_time() {
        let mut seen = story([8, 8, 8]);
        for fork in seen.end.iter_mut().flat_map(|end| &mut end.forks) {
            fork.dur = Some(3_000_000_000);
        }
        assert_eq!(judge(&seen).expect("decided").verdict, Verdict::Confirmed);
    }

    #[test]
    fn without_an_exec_or_a_size_it_is_open() {
        let mut seen = story([8, 8, 8]);
        seen.end.as_mut().expect("there").forks[4].execed = false;
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
        let mut seen = story([8, 8, 8]);
        seen.marks.truncate(12);
        assert!(matches!(judge(&seen), Err(Undecided::NotHere(_))));
    }

    #[test]
    fn the_kernels_count_must_agree() {
        let mut seen = story([8, 8, 8]);
        let snapshot = &mut seen.marks[12].snapshot;
        snapshot.status.insert("RssAnon".to_owned(), 4);
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
    }
}

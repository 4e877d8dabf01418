//! What a snapshot costs Redis: the fork's account beside Redis's own `rdb_last_cow_size`.
//!
//! That is the snapshot's `Private_Dirty` in its /proc/self/smaps, the largest that it finds, last when all is saved:
//! pages that it alone maps and that were written. A page is so
//! - when the child has copied it,
//! - when the child has filled it first: fresh memory, or a private file page,
//! - when the fork left it shared and the *server* has copied it, or given it up: then the child has the old one alone;
//!
//! and is no longer so when the child has unmapped it or given it back.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use memtrace_events::{Event, EventKind, Fault, FaultKind, ForkAccount, Madvise};
use tests::harness::{Trace, TracedSave};
use tests::subject::memory::PAGE;
use tests::subject::witness::now;

const KEYS: usize = 4000;

#[test]
fn the_account_agrees_with_redis() -> Result<()> {
    // The child still saves when the server has nothing to write any more.
    let save = TracedSave::of(KEYS, |redis| {
        (0..KEYS).step_by(8).try_for_each(|key| redis.change(key))?;
        for key in (KEYS / 2..KEYS / 2 + 200).step_by(2) {
            redis.ask(&["DEL", &key.to_string()])?;
        }
        // From now on there is little to come, and the child has not asked for the last time.
        let quiet = now()?;
        assert_eq!(redis.info("persistence", "rdb_bgsave_in_progress")?, "1");
        Ok(quiet)
    })?;
    let (trace, quiet) = (save.trace, save.found);
    let [account] = &trace.end.forks[..] else {
        bail!("{} forks", trace.end.forks.len())
    };
    let unobserved = trace.account(account.child)?.unobserved as u64;
    let dirty = Dirty::of(&trace, account);
    let end = dirty.over_time.last().context("the child did nothing")?;
    let least = dirty.least(quiet).context("the child did nothing")?;
    // Which of the pages that the server gave up were shared, the events don't say; but how many they were at most.
    let given_up = dirty
        .given_up_by_server
        .min(account.given_up.munmap + account.taken_over);
    let most = dirty.most() + given_up + unobserved;
    let pages = save.cow_size / PAGE as u64;
    let explanation = format!(
        "Redis says {pages} pages; the events {least} to {most}: at the end {} = {} copied by the child + {} filled by it \
         + {} copied by the server - {} given back",
        end.1, dirty.by_child, dirty.filled, dirty.by_server, dirty.given_back
    );
    println!("{explanation}");
    ensure!(
        (least..=most).contains(&pages),
        "{explanation}; {account:?}"
    );

    // And the account itself: all that was copied in the shared pages, by whom.
    ensure!(dirty.by_server > KEYS as u64 / 16, "{explanation}");
    let told = (account.by_child, account.by_parent, account.by_others);
    ensure!(
        account.copied_again > 0 || told == (dirty.by_child, dirty.by_server + dirty.later, 0),
        "{explanation}; {account:?}"
    );
    ensure!(account.unknown == 0, "{account:?}");
    Ok(())
}

/// The child's private and dirty pages, as the events have them.
#[derive(Debug, Default)]
struct Dirty {
    pages: BTreeSet<u64>,
    /// How many they were from when on.
    over_time: Vec<(u64, u64)>,
    by_child: u64,
    filled: u64,
    by_server: u64,
    /// Copied by the server when the child had ended, as something else still held the page.
    later: u64,
    given_back: u64,
    given_up_by_server: u64,
    has_ended: bool,
}

impl Dirty {
    fn of(trace: &Trace, fork: &ForkAccount) -> Self {
        let mut this = Self::default();
        let mut gone: Vec<Range<u64>> = Vec::new();
        for event in trace.events.iter().filter(|event| event.ts >= fork.ts) {
            let is_child = event.pid == fork.child;
            match &event.what {
                EventKind::Fault(fault) => this.fault(event, fault, fork, &gone),
                EventKind::Munmap(range) if is_child && range.ret == 0 => {
                    this.give_back(&pages(range.addr.0, range.len), &mut gone);
                }
                EventKind::Madvise(range) if is_child && gives_back(range) => {
                    this.give_back(&pages(range.addr.0, range.len), &mut gone);
                }
                EventKind::Brk(brk) if is_child && brk.new < brk.old => {
                    this.give_back(&pages(brk.new.0, brk.old.0 - brk.new.0), &mut gone);
                }
                EventKind::Munmap(range) if !this.has_ended && range.ret == 0 => {
                    this.given_up_by_server += pages(range.addr.0, range.len).count() as u64;
                }
                EventKind::Madvise(range) if !this.has_ended && gives_back(range) => {
                    this.given_up_by_server += pages(range.addr.0, range.len).count() as u64;
                }
                EventKind::Brk(brk) if !this.has_ended && brk.new < brk.old => {
                    this.given_up_by_server +=
                        pages(brk.new.0, brk.old.0 - brk.new.0).count() as u64;
                }
                EventKind::Exit(exit) if is_child && !exit.thread => this.has_ended = true,
                _ => {}
            }
            if this.has_ended {
                continue;
            }
            this.over_time.push((event.ts, this.pages.len() as u64));
        }
        this
    }

    fn fault(&mut self, event: &Event, fault: &Fault, fork: &ForkAccount, gone: &[Range<u64>]) {
        let page = fault.addr.0 / PAGE as u64;
        let cause = fault.cause.as_ref().and_then(|cause| cause.fork.as_ref());
        let is_forks = cause.is_some_and(|cause| cause.number == fork.number);
        let is_new = matches!(
            fault.kind,
            FaultKind::ZeroFill | FaultKind::CowZero | FaultKind::FileCow | FaultKind::CowCopy
        );
        if event.pid == fork.child && is_new {
            if is_forks {
                self.by_child += 1;
            } else {
                self.filled += 1;
            }
            self.pages.insert(page);
        } else if is_forks && self.has_ended {
            self.later += 1;
        } else if is_forks {
            self.by_server += 1;
            if !gone.iter().any(|range| range.contains(&page)) {
                self.pages.insert(page);
            }
        }
    }

    fn give_back(&mut self, range: &Range<u64>, gone: &mut Vec<Range<u64>>) {
        let before = self.pages.len();
        self.pages.retain(|page| !range.contains(page));
        self.given_back += (before - self.pages.len()) as u64;
        gone.push(range.clone());
    }

    /// The fewest that they were from `ts` on.
    fn least(&self, ts: u64) -> Option<u64> {
        let from = self.over_time.iter().rposition(|(at, _)| *at <= ts)?;
        self.over_time[from..].iter().map(|(_, count)| *count).min()
    }

    /// The most that they ever were.
    fn most(&self) -> u64 {
        self.over_time
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(0)
    }
}

fn pages(addr: u64, len: u64) -> Range<u64> {
    addr / PAGE as u64..(addr + len).div_ceil(PAGE as u64)
}

/// Whether advice gives pages back, or makes them clean.
fn gives_back(given: &Madvise) -> bool {
    given.ret == 0 && ["MADV_DONTNEED", "MADV_FREE"].contains(&&*given.advice)
}

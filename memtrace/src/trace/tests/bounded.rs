//! Memory is bounded by the tasks and pages that live, not by what has happened.

use memtrace_ebpf::record::Record;
use std::collections::BTreeMap;

use memtrace_ebpf::{
    record::{Bounds, Tally},
    syscall,
};

use super::story::{Story, VFORK, ZERO, counters, heap_page, heap_pages};
use crate::trace::{event::Event, model::Model, names::flag, objects::REMEMBERED};

/// How often all of it happens. Without optimisation there's only time for some.
const ROUNDS: u32 = if cfg!(debug_assertions) { 70 } else { 8_400 };

/// What is kept.
type Footprint = BTreeMap<&'static str, usize>;

/// A server that goes on, whatever its children do.
struct Server {
    story: Story,
    model: Model,
    events: Vec<Event>,
    round: u32,
}

impl Server {
    fn new() -> Self {
        let mut server = Self {
            story: Story::of(100, 0xa),
            model: Model::new(ZERO, false),
            events: Vec::new(),
            round: 0,
        };
        server.story.thread(100, 101, 0x7000);
        server.fork(150, 0xaa);
        server.tell();
        server
    }

    /// Hands over what has been told so far.
    fn tell(&mut self) {
        for record in self.story.records.drain(..) {
            let ts = record.header().ts;
            self.model.take(record, ts, &mut self.events);
            self.events.clear();
        }
    }

    fn footprint(&self) -> Footprint {
        self.model.footprint().into_iter().collect()
    }

    /// An id that comes again, and an address of an address space that does.
    fn id(&self, base: u32) -> u32 {
        base + self.round % 7
    }

    fn mm(&self, base: u64) -> u64 {
        base + u64::from(self.round % 5)
    }

    fn fork(&mut self, pid: u32, mm: u64) {
        self.story.fork_of(100, pid, mm, &[heap_pages(0..8)]);
    }

    fn execs(&mut self, tid: u32, mm: u64) {
        self.story.exec(tid, mm, 0, Bounds::default(), &[]);
    }

    /// A child writes, runs a program, and ends. While its last thread is on its way, its memory becomes another's.
    fn worker(&mut self) {
        let (pid, mm) = (self.id(200), self.mm(0x100));
        self.fork(pid, mm);
        self.story.copies(pid, 0, 2);
        self.story.copies(100, 1, 2);
        self.story.copies(101, 2, 2);
        self.execs(pid, mm + 0x100);
        self.story.takes_over(100, 3);
        self.story.fills(pid, 0);
        self.story.exit(pid, 0);
        self.fork(pid + 50, mm + 0x100);
        self.story.gone(pid, counters(3, 0));
        self.story.exit(pid + 50, 9);
        self.fork(pid, mm);
        self.execs(pid, mm + 0x100);
        self.story.gone(pid + 50, counters(0, 0));
        self.story.ends(pid);
    }

    /// A child forks a child, and both end; one of them unseen but for its being gone.
    fn family(&mut self) {
        let (pid, mm) = (self.id(300), self.mm(0x300));
        self.fork(pid, mm);
        self.story
            .fork_of(pid, pid + 50, mm + 0x10, &[heap_pages(0..8)]);
        self.story.copies(pid + 50, 4, 3);
        let unmapped = [heap_page(5), 2 << 12, 0, 0, 0, 0];
        self.story.call(pid, syscall::MUNMAP, unmapped, 0);
        self.story.exit(pid, 0);
        self.story.gone(pid + 50, Tally::default());
        self.story.gone(pid, Tally::default());
    }

    /// Threads come and go; one of a child's execs, before or after its first thread is gone.
    fn threads(&mut self) {
        let (tid, pid, mm) = (self.id(400), self.id(500), self.mm(0x400));
        self.story.thread(100, tid, 0x7100);
        self.story.fills(tid, 9);
        self.story.ends(tid);
        self.fork(pid, mm);
        self.story.thread(pid, pid + 50, 0x7200);
        self.story.thread(pid, pid + 60, 0x7300);
        self.story.ends(pid + 60);
        self.story.exit(pid, 0);
        let gone_first = self.round.is_multiple_of(2);
        if gone_first {
            self.story.gone(pid, Tally::default());
        }
        self.execs(pid + 50, mm + 0x10);
        if !gone_first {
            self.story.gone(pid, Tally::default());
        }
        self.story.thread(pid, pid + 50, 0);
        self.story.ends(pid);
        self.story.ends(pid + 50);
    }

    /// Children in the server's own memory, the last of them still there when the next is made.
    fn vforks(&mut self) {
        let (pid, mm) = (self.id(600), self.mm(0x500));
        let began = self.story.tick();
        self.story.vfork(100, pid);
        self.execs(pid, mm);
        self.story.returned(100, pid, began, 0);
        self.story.ends(pid);
        self.story
            .clone_as(100, (pid, pid), (VFORK & !flag::VFORK, 0), &[], |_| ());
        self.story.copies(pid, 3, 1);
        self.story.ends(pid);
    }

    /// Namespaces, files and credentials are left for others; and namespaces come back.
    fn objects(&mut self) {
        let home = self.story.parts(100);
        let [net, nsproxy, files, cred] = std::array::from_fn(|_| self.story.address());
        self.story.objects(100, syscall::UNSHARE, |parts| {
            (parts.net_ns, parts.nsproxy, parts.files) = (net, nsproxy, files);
        });
        self.story
            .objects(100, syscall::SETUID, |parts| parts.cred = cred);
        self.story.objects(100, syscall::SETNS, |parts| {
            (parts.net_ns, parts.nsproxy) = (home.net_ns, home.nsproxy);
        });
    }

    /// Children that nobody watches, and a birth that is lost.
    fn strangers(&mut self) {
        let (pid, mm) = (self.id(700), self.mm(0x600));
        let areas = [heap_pages(0..8)];
        self.story
            .fork_as(100, pid, mm, &areas, |birth| birth.followed = 0);
        self.story.copies(100, 4, 2);
        self.fork(pid, mm);
        let lost = self.story.records.pop();
        assert!(matches!(lost, Some(Record::Birth(_))));
        self.story.tasks.remove(&pid);
        // Nothing explains this one.
        self.story.copies(100, 100 + u64::from(self.round % 900), 2);
    }

    fn next(&mut self) {
        self.worker();
        self.family();
        self.threads();
        self.vforks();
        self.objects();
        self.strangers();
        self.round += 1;
        self.tell();
    }
}

#[test]
fn what_is_over_leaves_nothing() {
    let mut server = Server::new();
    for _ in 0..35 {
        server.next();
    }
    let early = server.footprint();
    for round in 35..ROUNDS {
        server.next();
        if round % 64 == 0 || round == ROUNDS - 1 {
            for (what, size) in server.footprint() {
                let most = match what {
                    // What it is capped at. Some grow until then.
                    "unexplained" => 4096,
                    "namespaces" => REMEMBERED,
                    "lives" => 5000,
                    "unfollowed" => 10_064,
                    // Those of the latest untraced children are taken to be there still.
                    "edges" | "forks" => 64 + early[what],
                    "solos" => 64 * 8 + early[what],
                    _ => early[what],
                };
                assert!(size <= most, "{what}: {size} after {round} rounds");
            }
        }
    }

    // All of the server's go.
    for tid in [150, 101, 100] {
        server.story.ends(tid);
    }
    server.tell();
    let capped = ["lives", "namespaces", "unfollowed"];
    for (what, size) in server.footprint() {
        let most = match what {
            // Of births that were lost: one by each address that an address space had.
            "surveys" => 5,
            _ if capped.contains(&what) => size,
            // Untraced children may be there still, and share with each other.
            "edges" | "forks" => 64,
            "solos" => 64 * 8,
            _ => 0,
        };
        assert!(size <= most, "{what}: {size} at the end");
    }
    let finished = server.model.finish(&[], &Tally::default());
    assert_eq!(
        finished.tasks.len() as u64 + finished.tasks_left_out,
        3 + u64::from(ROUNDS) * 12
    );
}

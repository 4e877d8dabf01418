//! Pages that are given up: by exec, exit, munmap and what is like it; and pages that move.

use memtrace_ebpf::{
    fault::vm,
    pte::PAGE_SIZE,
    record::{Frame, Tally, VmaReason},
    syscall,
};

use super::story::{
    Area, FIRST, Story, VFORK, WRITE, anonymous, counters, heap, heap_page, heap_pages, minor,
    of_frame, ro, rw,
};
use crate::trace::names::flag;

/// In an entry of the second level.
const HUGE: u64 = 1 << 7;
const MADV_FREE: u64 = 8;
const MADV_DONTNEED: u64 = 4;
const MADV_DONTNEED_LOCKED: u64 = 24;
const MADV_COLLAPSE: u64 = 25;
const MADV_GUARD_INSTALL: u64 = 102;
const MAP_FIXED: u64 = 0x10;
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;
const ENOMEM: i64 = -12;
const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;

/// A process of whose 16 pages a child shares all.
fn forked() -> Story {
    Story::forked(16)
}

/// The account after a call by the child, and after the parent has written all pages that are its own then.
fn after(number: u32, args: [u64; 6], ret: i64) -> String {
    let mut story = forked();
    story.call(200, number, args, ret);
    story.play().accounts().remove(0)
}

/// The arguments of a call about the third page and three more.
fn four_pages(third: u64, fourth: u64) -> [u64; 6] {
    [heap_page(2), 4 * PAGE_SIZE, third, fourth, 0, 0]
}

#[test]
fn copies_before_the_exec_are_told_apart() {
    let mut story = forked();
    story.copies(200, 0, 2);
    story.copies(200, 1, 2);
    story.copies(100, 2, 2);
    story.execs(200, 0xc);
    story.takes_over(100, 3);
    // What it does from here on is its own.
    story.fills(200, 4);
    story.execs(200, 0xd);
    story.ends(200);
    let outcome = story.play();
    outcome.accounts_are(["16: child 2 parent 1 taken over 1 exec 12, exec after 3"]);
    assert_eq!(outcome.kinds().last(), Some(&"zero-fill"));
}

#[test]
fn an_exit_gives_all_up() {
    let mut story = forked();
    story.copies(200, 0, 2);
    story.ends(200);
    story.takes_over(100, 1);
    story.ends(100);
    let outcome = story.play();
    outcome.accounts_are(["16: child 1 taken over 1 exit 14"]);
}

/// The parent is gone first: what it shared is the child's.
#[test]
fn an_orphan_takes_over() {
    let mut story = forked();
    story.ends(100);
    story.takes_over(200, 0);
    story.play().accounts_are(["16: taken over 1 exit 15"]);
}

/// An exit is known before the thread is gone; where its record was lost, with that.
#[test]
fn a_lost_exit_is_made_up_for() {
    let mut story = forked();
    story.gone(200, counters(0, 0));
    story.takes_over(100, 0);
    story.play().accounts_are(["16: taken over 1 exit 15"]);
}

#[test]
fn an_exec_by_a_vforked_child_leaves_the_parents_pages() {
    for flags in [VFORK, VFORK & !flag::VFORK] {
        let mut story = forked();
        story.clone_as(100, (300, 300), (flags, 0), &[], |_| ());
        // It writes for its parent, whose memory it is.
        story.copies(300, 0, 2);
        story.execs(300, 0xc);
        story.copies(100, 1, 2);
        let outcome = story.play();
        outcome.accounts_are(["16: parent 2 shared 14"]);
        outcome.copies_are([
            "300 0: fork 1 100>200, with [200] of 2",
            "100 1: fork 1 100>200, with [200] of 2",
        ]);
    }
}

#[test]
fn an_exit_of_a_vforked_child_leaves_the_parents_pages() {
    let mut story = forked();
    story.vfork(200, 300);
    story.ends(300);
    story.copies(200, 0, 2);
    story.play().accounts_are(["16: child 1 shared 15"]);
}

/// Who shares the memory of a vforked child is its parent, too.
#[test]
fn the_last_to_leave_gives_up() {
    let mut story = forked();
    story.vfork(200, 300);
    story.copies(100, 0, 2);
    story.ends(200);
    story.copies(100, 1, 2);
    story.execs(300, 0xc);
    story.takes_over(100, 2);
    let outcome = story.play();
    outcome.copies_are([
        "100 0: fork 1 100>200, with [200, 300] of 2",
        "100 1: fork 1 100>200, with [300] of 2",
    ]);
    // The exec was not that of the fork's child.
    outcome.accounts_are(["16: parent 2 taken over 1 exec 13"]);
}

/// While an exec is under way its faults fall into the new address space, at addresses that the old one has as well.
#[test]
fn a_half_done_exec_has_left_the_old_memory() {
    let mut story = forked();
    story.copies(200, 0, 2);
    story.in_exec(200, 0xc);
    // The old memory is given up as soon as that shows.
    story.fills(200, 1);
    story.takes_over(100, 2);
    story.fills(200, 3);
    story.execs(200, 0xc);
    story.vma(200, VmaReason::Exec, heap());
    story.fills(200, 4);
    let outcome = story.play();
    outcome.accounts_are(["16: child 1 taken over 1 exec 14, exec after 1"]);
}

/// The threads of a process end when one of them execs, which becomes the first.
#[test]
fn an_exec_by_a_thread_gives_up_for_all() {
    let mut story = forked();
    story.thread(200, 201, 0);
    story.copies(201, 0, 2);
    story.rename(201, "worker");
    story.ends(200);
    story.execs(201, 0xc);
    story.takes_over(100, 1);
    story.fills(200, 2);
    let outcome = story.play();
    outcome.accounts_are(["16: child 1 taken over 1 exec 14, exec after 1"]);
    assert_eq!(&*outcome.forks[0].child_comm, "worker", "its name since");
}

const NOTHING: &str = "16: shared 16";
const FOUR: &str = "16: munmap 4 shared 12";
const UNSURE: &str = "16: shared 12 unknown 4";

#[test]
fn unmapping_gives_up() {
    let unmapped = |page, len, ret| after(syscall::MUNMAP, [heap_page(page), len, 0, 0, 0, 0], ret);
    assert_eq!(unmapped(2, 4 * PAGE_SIZE, 0), FOUR);
    assert_eq!(unmapped(2, 3 * PAGE_SIZE + 1, 0), FOUR, "rounded up");
    assert_eq!(unmapped(2, 4 * PAGE_SIZE, EINVAL), NOTHING);
    assert_eq!(unmapped(14, 9 * PAGE_SIZE, 0), "16: munmap 2 shared 14");
}

#[test]
fn discarding_gives_up() {
    let advised = |advice, ret| after(syscall::MADVISE, four_pages(advice, 0), ret);
    for advice in [MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL] {
        assert_eq!(advised(advice, 0), FOUR);
        assert_eq!(advised(advice | 7 << 32, 0), FOUR, "it is an int");
        assert_eq!(advised(advice, ENOMEM), FOUR, "there are holes");
        assert_eq!(advised(advice, EINVAL), UNSURE, "some of it, it may be");
    }
    assert_eq!(advised(MADV_FREE, 0), NOTHING, "the kernel may, or may not");
    let args = [heap_page(2) + 1, 4 * PAGE_SIZE, MADV_DONTNEED, 0, 0, 0];
    assert_eq!(after(syscall::MADVISE, args, EINVAL), NOTHING);
}

/// What was copied to a large page, or left as it was, nobody knows.
#[test]
fn collapsing_leaves_no_state_known() {
    let collapsed = |len, ret| {
        let args = [heap_page(0), len, MADV_COLLAPSE, 0, 0, 0];
        after(syscall::MADVISE, args, ret)
    };
    assert_eq!(collapsed(1 << 21, 0), "16: unknown 16");
    assert_eq!(collapsed(1 << 21, EAGAIN), "16: unknown 16");
    assert_eq!(collapsed(1 << 21, EINVAL), NOTHING);
    assert_eq!(collapsed(1 << 20, 0), NOTHING, "no large page is in it");
}

#[test]
fn collapsing_at_the_end_of_memory_does_no_harm() {
    let collapsed = |start, len| {
        let args = [start, len, MADV_COLLAPSE, 0, 0, 0];
        after(syscall::MADVISE, args, EAGAIN)
    };
    for start in [u64::MAX, u64::MAX - 10, u64::MAX << 21] {
        for len in [0, 1 << 21, u64::MAX] {
            assert_eq!(collapsed(start, len), NOTHING, "{len:#x} at {start:#x}");
        }
    }
    assert_eq!(collapsed(0, u64::MAX), "16: unknown 16");
}

/// The child advises on its own memory, or its parent on the child's.
#[test]
fn discarding_by_process_madvise_gives_up() {
    let advised = |by, of, advice, ret| {
        let mut story = forked();
        story.call(by, syscall::PROCESS_MADVISE, four_pages(advice, of), ret);
        story.play().accounts().remove(0)
    };
    for (by, of) in [(200, 200), (100, 200), (200, 100)] {
        assert_eq!(advised(by, of, MADV_DONTNEED, 0), FOUR, "{by} of {of}");
        assert_eq!(advised(by, of, MADV_DONTNEED, EINVAL), UNSURE);
        assert_eq!(advised(by, of, MADV_FREE, 0), NOTHING);
    }
    assert_eq!(
        advised(200, 0, MADV_DONTNEED, 0),
        NOTHING,
        "of nobody knows whom"
    );
    assert_eq!(advised(200, 999, MADV_DONTNEED, 0), NOTHING, "not traced");
}

#[test]
fn attaching_over_it_gives_up() {
    const SHM_REMAP: u64 = 0o40000;
    let attached = |flags, ret| {
        let args = [1, heap_page(2), flags, 4 * PAGE_SIZE, 0, 0];
        after(syscall::SHMAT, args, ret)
    };
    let there = heap_page(2) as i64;
    assert_eq!(attached(SHM_REMAP, there), FOUR);
    assert_eq!(attached(SHM_REMAP, EINVAL), NOTHING);
    assert_eq!(attached(0, there), NOTHING);
    let detached = |ret| after(syscall::SHMDT, four_pages(0, 0), ret);
    assert_eq!(detached(0), FOUR);
    assert_eq!(detached(EINVAL), NOTHING);
}

/// Whatever is locked, sealed or shows another part of its file keeps its private pages.
#[test]
fn other_calls_give_nothing_up() {
    for number in [
        syscall::MLOCK,
        syscall::MLOCK2,
        syscall::MUNLOCK,
        syscall::MLOCKALL,
        syscall::MUNLOCKALL,
        syscall::MSEAL,
        syscall::REMAP_FILE_PAGES,
        syscall::PKEY_MPROTECT,
    ] {
        assert_eq!(after(number, four_pages(0, 0), 0), NOTHING, "{number}");
    }
}

#[test]
fn mapping_over_it_gives_up() {
    let mapped = |flags, ret| after(syscall::MMAP, four_pages(3, flags), ret);
    let address = |page| heap_page(page) as i64;
    assert_eq!(mapped(MAP_FIXED | 0x22, address(2)), FOUR);
    assert_eq!(mapped(MAP_FIXED | 0x22, ENOMEM), NOTHING);
    assert_eq!(mapped(0x22, address(100)), NOTHING);
}

#[test]
fn a_smaller_heap_gives_up() {
    let set = |wanted, is| {
        let args = [wanted, heap_page(16), 0, 0, 0, 0];
        after(syscall::BRK, args, is as i64)
    };
    assert_eq!(set(heap_page(12), heap_page(12)), FOUR);
    let within = heap_page(12) + 8;
    assert_eq!(set(within, within), "16: munmap 3 shared 13");
    assert_eq!(set(heap_page(20), heap_page(20)), NOTHING, "larger");
    assert_eq!(set(0, heap_page(16)), NOTHING, "only asked for");
}

/// `old` and `new` are lengths in bytes, of a mapping at its third page.
fn remapped(old: u64, new: u64, flags: u64, to: u64) -> String {
    let args = [heap_page(2), old, new, flags, heap_page(to), 0];
    after(syscall::MREMAP, args, heap_page(to) as i64)
}

#[test]
fn what_a_remap_cuts_off_is_given_up() {
    const P: u64 = PAGE_SIZE;
    for (what, account, old, new) in [
        ("smaller", "16: munmap 3 shared 13", 4 * P, P),
        ("as large", "16: shared 16", 4 * P, 4 * P),
        ("larger", "16: shared 16", 4 * P, 8 * P),
        ("in the same page", "16: shared 16", 4 * P - 8, 3 * P + 8),
        ("rounded up", "16: munmap 1 shared 15", 3 * P, P + 8),
    ] {
        assert_eq!(remapped(old, new, 0, 2), account, "{what}");
        let elsewhere = remapped(old, new, MREMAP_MAYMOVE, 100);
        assert_eq!(elsewhere, account, "{what}, moved");
    }
    let refused = [heap_page(2), 4 * P, P, 0, 0, 0];
    assert_eq!(after(syscall::MREMAP, refused, ENOMEM), "16: shared 16");
}

#[test]
fn what_a_remap_lands_on_is_given_up() {
    const P: u64 = PAGE_SIZE;
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    // Two pages onto two others; and onto four, as it grows.
    assert_eq!(remapped(2 * P, 2 * P, flags, 8), "16: munmap 2 shared 14");
    assert_eq!(remapped(2 * P, 4 * P, flags, 8), "16: munmap 4 shared 12");
    // And it is cut off first.
    assert_eq!(remapped(4 * P, 2 * P, flags, 8), "16: munmap 4 shared 12");
}

#[test]
fn what_has_moved_is_shared_still() {
    let mut story = forked();
    let flags = MREMAP_MAYMOVE;
    let args = [heap_page(0), 4 * PAGE_SIZE, 4 * PAGE_SIZE, flags, 0, 0];
    story.call(200, syscall::MREMAP, args, heap_page(100) as i64);
    story.copies(200, 100, 2);
    story.takes_over(100, 0);
    story.copies(100, 1, 2);
    story.takes_over(200, 101);
    // Nothing that was shared is where it was.
    story.fills(200, 2);
    // And the child's child has it where the child has.
    story.fork_of(200, 300, 0xc, &[heap_pages(100..104)]);
    story.copies(300, 102, 3);
    story.ends(100);
    story.copies(200, 102, 1);
    let outcome = story.play();
    outcome.copies_are([
        "200 100: fork 1 100>200, with [100] of 2",
        "100 1: fork 1 100>200, with [200] of 2",
        "300 102: fork 2 200>300, with [100, 200] of 3",
        "200 102: reference 1 100>200, with [] of 1",
    ]);
    outcome.accounts_are(["16: child 2 parent 1 exit 13", "4: child 1 shared 3"]);
}

/// The pages move, and the old place stays mapped, with nothing in it.
#[test]
fn a_mapping_may_stay_when_its_pages_move() {
    let mut story = forked();
    let flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    let args = [heap_page(0), 4 * PAGE_SIZE, 4 * PAGE_SIZE, flags, 0, 0];
    story.call(200, syscall::MREMAP, args, heap_page(100) as i64);
    story.fills(200, 0);
    story.copies(200, 100, 2);
    story.play().accounts_are(["16: child 1 shared 15"]);
}

/// A fork after a move, in which both places are in use.
#[test]
fn a_page_that_moved_and_one_that_took_its_place_are_two() {
    let mut story = forked();
    let args = [heap_page(0), PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE, 0, 0];
    story.call(100, syscall::MREMAP, args, heap_page(100) as i64);
    story.fills(100, 0);
    let both = Area {
        shared: vec![FIRST, FIRST + 100],
        ..heap_pages(0..0)
    };
    story.fork_as(100, 300, 0xc, &[both], |_| ());
    story.copies(300, 0, 2);
    story.copies(300, 100, 3);
    story.copies(200, 0, 2);
    let outcome = story.play();
    outcome.copies_are([
        "300 0: fork 2 100>300, with [100] of 2",
        "300 100: fork 2 100>300, with [100, 200] of 3",
        "200 0: fork 1 100>200, with [100] of 2",
    ]);
    outcome.accounts_are(["16: child 1 shared 15", "2: child 2"]);
}

#[test]
fn lengths_at_the_end_of_memory_do_no_harm() {
    let all = [0, u64::MAX, 0, 0, 0, 0];
    assert_eq!(after(syscall::MUNMAP, all, 0), "16: munmap 16");
    let top = [u64::MAX - 10, u64::MAX, MADV_DONTNEED, 0, 0, 0];
    for number in [syscall::MUNMAP, syscall::MADVISE] {
        assert_eq!(after(number, top, 0), "16: shared 16", "{number}");
    }
}

/// The kernel unlocks the mutexes of a task that ends in its memory (`exit_robust_list` in `kernel/futex/core.c`), after its exit
/// has been told.
#[test]
fn an_end_may_copy_pages() {
    let mut story = Story::forked(4);
    story.exit(100, 0);
    story.copies(100, 1, 2);
    // It is gone, but word of that is to come.
    story.takes_over(200, 0);
    story.copies(200, 2, 2);
    story.gone(100, counters(2, 0));
    let outcome = story.play();
    outcome.copies_are([
        "100 1: fork 1 100>200, with [200] of 2",
        "200 2: fork 1 100>200, with [100] of 2",
    ]);
    outcome.accounts_are(["4: child 1 parent 1 taken over 1 exit 1"]);
}

/// Between the exit of a process and word that it is gone its memory may be there yet, or not: the frame tells.
#[test]
fn who_exits_is_a_sharer_as_long_as_it_maps_the_page() {
    let mut story = Story::forked(3);
    story.fork_of(100, 300, 0xc, &[heap_pages(0..3)]);
    story.exit(300, 0);
    story.copies(100, 0, 3);
    story.copies(100, 1, 2);
    story.exit(200, 0);
    story.takes_over(100, 2);
    story.gone(300, Tally::default());
    story.gone(200, Tally::default());
    let outcome = story.play();
    outcome.copies_are([
        "100 0: fork 2 100>300, with [200, 300] of 3",
        "100 1: fork 1 100>200, with [200] of 2",
    ]);
    outcome.accounts_are(["3: parent 1 taken over 1 exit 1", "3: parent 1 exit 2"]);
}

/// A page of hugetlbfs is copied as a whole, so whoever has exited leaves all of it.
#[test]
fn who_exits_leaves_a_huge_page_as_a_whole() {
    let first = FIRST;
    let mut vma = anonymous(first << 12, (first + 512) << 12);
    vma.flags |= vm::HUGETLB;
    let area = Area {
        vma,
        shared: (first..first + 512).collect(),
        pinned: vec![],
    };
    let mut story = Story::of(100, 0xa);
    story.fork_of(100, 200, 0xb, std::slice::from_ref(&area));
    story.fork_of(100, 300, 0xc, &[area]);
    story.exit(300, 0);
    story.vma(100, VmaReason::Fault, vma);
    let (before, after) = (ro(0x8_0000) | HUGE, rw(0x9_0000) | HUGE);
    let fault = minor(WRITE, (first + 9) << 12, before, after);
    story.fault_at(0x22, 100, of_frame(fault, Frame::Anonymous, 2));
    story.gone(300, Tally::default());
    let outcome = story.play();
    outcome.copies_are(["100 9: fork 1 100>200, with [200] of 2"]);
    outcome.accounts_are(["512: parent 512", "512: exit 512"]);
}

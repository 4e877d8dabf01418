//! Copy-on-write across a fork, and what address spaces have in common.

use memtrace_ebpf::{
    arch,
    fault::error_code,
    record::{
        Bounds, FAULT_DISABLED, FAULT_MAJOR, FAULT_MINOR, FAULT_MM_GONE, FAULT_UNMAPPED, Vma,
        VmaReason,
    },
};

use super::{
    regions::{BOUNDS, listed, program},
    story::{READ, Story, WRITE, ZERO, anonymous, counters, detailed, flagged, minor, ro, rw},
};
use crate::trace::event::{Access, Address, Counted, EventKind, Fault, Mode, Region};

const PAGE: u64 = 0x7b00_0000;

fn heap() -> Vma {
    anonymous(PAGE, PAGE + 0x10_0000)
}

/// The detail of a fault has these words in it.
fn says(fault: &Fault, words: &str) {
    let detail = fault.detail.as_deref().unwrap_or_default();
    assert!(detail.contains(words), "{fault:?}");
}

#[test]
fn a_page_is_filled_shared_copied_and_taken_over() {
    let mut story = program(100, 0xa);
    story.vma(100, VmaReason::Fault, heap());
    story.fault(100, minor(WRITE, PAGE + 8, 0, rw(0x10)));
    story.fault(100, minor(READ, PAGE + 0x1000, 0, ro(ZERO)));
    story.fork(100, 101, 0xb);
    story.vma(101, VmaReason::Fault, heap());
    story.fault(101, minor(WRITE, PAGE + 16, ro(0x10), rw(0x11)));
    story.fault(100, minor(WRITE, PAGE + 24, ro(0x10), rw(0x10)));
    story.fault(101, minor(WRITE, PAGE + 0x1000, ro(ZERO), rw(0x12)));
    let outcome = story.play();
    outcome.kinds_are([
        "zero-fill",
        "zero-read",
        "cow-copy",
        "cow-reuse",
        "cow-zero",
    ]);
    outcome.regions_are(["anon"; 5]);
    let frames: Vec<_> = outcome
        .faults()
        .iter()
        .map(|fault| (fault.pfn_before, fault.pfn_after))
        .collect();
    let zero = Some(ZERO);
    assert_eq!(
        frames,
        [
            (None, Some(0x10)),
            (None, zero),
            (Some(0x10), Some(0x11)),
            (Some(0x10), Some(0x10)),
            (zero, Some(0x12)),
        ]
    );
    let pids: Vec<u32> = outcome
        .events
        .iter()
        .filter(|event| matches!(event.what, EventKind::Fault(_)))
        .map(|event| event.pid)
        .collect();
    assert_eq!(pids, [100, 100, 101, 100, 101]);
}

#[test]
fn a_fault_says_who_accessed_what_how() {
    let mut story = program(100, 0xa);
    story.vma(100, VmaReason::Fault, heap());
    story.fault(100, minor(READ, PAGE + 5, 0, ro(ZERO)));
    // In kernel mode, and major.
    let fault = minor(2, PAGE + 0x1000, 0, rw(0x11));
    story.fault(100, flagged(fault, FAULT_MAJOR));
    story.fault(100, flagged(minor(0x14, PAGE, ro(1), ro(1)), 0));
    let outcome = story.play();
    let [read, write, exec] = outcome.faults()[..] else {
        panic!("three faults");
    };
    assert_eq!(
        (read.addr, read.ip),
        (Address(PAGE + 5), Address(0x40_1000))
    );
    let how = |fault: &Fault| (fault.access, fault.mode, fault.counted);
    assert_eq!(how(read), (Access::Read, Mode::User, Some(Counted::Minor)));
    assert_eq!(
        how(write),
        (Access::Write, Mode::Kernel, Some(Counted::Major))
    );
    assert_eq!(how(exec), (Access::Exec, Mode::User, None));
    assert_eq!(exec.kind.name(), "spurious");
}

#[test]
fn a_huge_page_has_a_size_and_frames_of_its_own() {
    let mut story = program(100, 0xa);
    let huge = rw(0x200) | 1 << 7;
    story.vma(100, VmaReason::Fault, anonymous(0x4000_0000, 0x8000_0000));
    story.fault_at(0x22, 100, minor(WRITE, 0x4000_5000, 0, huge));
    // After a fork the page is split, and one of its parts copied.
    story.fault_at(0x12, 100, minor(WRITE, 0x4000_5000, huge & !2, rw(0x999)));
    let outcome = story.play();
    outcome.regions_are(["anon", "anon"]);
    outcome.kinds_are(["zero-fill", "cow-copy"]);
    let frames: Vec<_> = outcome
        .faults()
        .iter()
        .map(|fault| (fault.page_size, fault.pfn_before, fault.pfn_after))
        .collect();
    assert_eq!(
        frames,
        [
            (2 << 20, None, Some(0x205)),
            (4096, Some(0x205), Some(0x999)),
        ]
    );
}

#[test]
fn a_child_inherits_the_layout() {
    let mut story = program(100, 0xa);
    let stack = anonymous(0x7a00_0000, 0x7a80_0000);
    story.thread(100, 101, 0x7a7f_fff8);
    story.fork(101, 200, 0xb);
    story.fork(100, 300, 0xc);
    let bss = anonymous(0x40_4000, 0x40_6000);
    for child in [200, 300] {
        story.touch(child, bss, 0x40_4000);
        // Only the thread that forked goes on in the child.
        story.touch(child, stack, 0x7a7f_f000);
    }
    let outcome = story.play();
    outcome.regions_are(["bss", "thread-stack", "bss", "anon"]);
}

#[test]
fn the_parents_heap_is_not_the_childs() {
    let mut story = program(100, 0xa);
    story.fork(100, 200, 0xb);
    let brk = [BOUNDS.brk + 0x1000, BOUNDS.brk, 0, 0, 0, 0];
    story.call(100, 12, brk, brk[0] as i64);
    let heap = anonymous(BOUNDS.brk, BOUNDS.brk + 0x1000);
    story.touch(100, heap, BOUNDS.brk);
    story.touch(200, heap, BOUNDS.brk);
    story.play().regions_are(["heap", "anon"]);
}

#[test]
fn a_vforked_child_leaves_the_layout_to_its_parent() {
    let mut story = program(100, 0xa);
    let bss = anonymous(0x40_4000, 0x40_6000);
    story.vfork(100, 200);
    story.touch(200, bss, 0x40_4000);
    story.exec(200, 0xb, 0xe9, BOUNDS, &["other"]);
    listed(&mut story, 200);
    story.touch(200, bss, 0x40_4000);
    story.touch(100, bss, 0x40_4000);
    assert_eq!(
        story.play().regions(),
        ["bss", "lib bss", "bss"],
        "in the other program this file is a library"
    );
}

/// The kernel frees an address space before its last thread is gone, and may give its memory to the next one.
#[test]
fn an_address_space_takes_the_place_of_another() {
    let mut story = program(100, 0xa);
    story.fork(100, 200, 0xb);
    story.exec(200, 0xc, 0xe9, Bounds::default(), &["other"]);
    story.exit(200, 0);
    // 0xc is free from here on, and is the next child's.
    story.fork(100, 300, 0xc);
    story.gone(200, counters(0, 0));
    let bss = anonymous(0x40_4000, 0x40_6000);
    story.touch(300, bss, 0x40_4000);
    story.play().regions_are(["bss"]);
}

#[test]
fn a_gone_address_space_leaves_nothing_behind() {
    let mut story = program(100, 0xa);
    story.fork(100, 200, 0xc);
    story.ends_with(200, counters(0, 0));
    // The same memory, now of another program.
    story.fork(100, 300, 0xb);
    story.exec(300, 0xc, 0xe9, BOUNDS, &["other"]);
    listed(&mut story, 300);
    let bss = anonymous(0x40_4000, 0x40_6000);
    story.touch(300, bss, 0x40_4000);
    story.play().regions_are(["lib bss"]);
}

#[test]
fn a_fault_that_outlives_its_address_space_is_no_guess() {
    let mut story = Story::of(100, 0xa);
    story.vma(100, VmaReason::Fault, heap());
    let flags = FAULT_MM_GONE | FAULT_MINOR;
    story.fault(100, flagged(minor(WRITE, PAGE, ro(0x10), 0), flags));
    let outcome = story.play();
    let fault = outcome.faults()[0];
    assert_eq!(fault.kind.name(), "other");
    assert_eq!(fault.region, Region::Anon);
    says(fault, "had left the address space");
}

/// It was refused: the kernel has not counted it, whoever is gone.
#[test]
fn a_refused_fault_is_not_put_down_to_an_address_space_that_is_gone() {
    for (flags, expected) in [
        (FAULT_MM_GONE, "the access is tried again"),
        (FAULT_DISABLED, "as page faults were disabled"),
    ] {
        let mut story = Story::of(100, 0xa);
        story.vma(100, VmaReason::Fault, heap());
        story.fault(100, flagged(minor(WRITE, PAGE, 0, 0), flags));
        let outcome = story.play();
        let fault = outcome.faults()[0];
        assert_eq!(fault.kind.name(), "other");
        says(fault, expected);
    }
}

/// What an access without a page means depends on who made it.
#[test]
fn a_fault_that_brings_no_page_says_what_follows() {
    let told = |error, address, signal| {
        let mut story = Story::of(100, 0xa);
        let fault = flagged(minor(error, address, 0, 0), FAULT_UNMAPPED);
        story.fault(100, detailed(fault, |detail| detail.signal = signal));
        story.play().faults()[0].clone()
    };
    let is = |fault: &Fault| (fault.kind.name(), fault.region.name());
    // A call's bad pointer, or a signal's frame.
    for (error, text) in [
        (WRITE, "the access is tried again"),
        (WRITE & !error_code::USER, "EFAULT"),
        (WRITE & !error_code::USER, "SIGSEGV"),
    ] {
        let fault = told(error, 0x640, 0);
        assert_eq!(is(&fault), ("other", "unmapped"));
        says(&fault, text);
    }

    let Some(page) = arch::VSYSCALL else { return };
    let jump = error_code::USER | error_code::FETCH;
    let fault = told(jump, page + 0x400, 0);
    assert_eq!(is(&fault), ("other", "vdso"));
    says(&fault, "vsyscall page");
    for fault in [told(jump, page + 0x400, 11), told(READ, page, 11)] {
        assert_eq!(
            (is(&fault), &fault.detail),
            (("invalid", "unmapped"), &None)
        );
    }
}

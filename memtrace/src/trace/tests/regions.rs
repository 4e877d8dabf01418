//! What an exec maps, and what the addresses of faults belong to.

use expect_test::expect;
use memtrace_ebpf::{
    fault::vm,
    record::{
        Bounds, FAULT_MINOR, FAULT_UNMAPPED, FAULT_VMA_UNKNOWN, Header, VMA_HAS_OPS, VMA_HUGETLB,
        VMA_SHMEM, Vma, VmaReason,
    },
    syscall,
};

use super::story::{
    Area, Outcome, READ, Story, WRITE, anonymous, counters, detailed, file, flagged, minor, rw,
};
use crate::trace::event::{By, EventKind};

pub const PROG: u64 = 0xe1;
pub const LINKER: u64 = 0xe2;
const LIBC: u64 = 0xe3;
const R: u64 = vm::READ;
const RX: u64 = vm::READ | vm::EXEC;
const RW: u64 = vm::READ | vm::WRITE;
const STACK: u64 = 0x7ffd_0000_0000;
const VDSO: u64 = 0x7fff_0000_0000;

pub const BOUNDS: Bounds = Bounds {
    start_code: 0x40_1000,
    end_code: 0x40_1800,
    start_data: 0x40_2e00,
    end_data: 0x40_3800,
    start_brk: 0x50_0000,
    brk: 0x50_0000,
    start_stack: STACK + 0x2_0800,
    vdso: VDSO,
};

fn stack() -> Vma {
    Vma {
        flags: RW | vm::GROWSDOWN,
        ..anonymous(STACK, STACK + 0x2_1000)
    }
}

/// A program and its dynamic linker, as an exec leaves them: what is listed, in the order of addresses.
fn listing() -> Vec<Vma> {
    let special = |start, end| file(start, end, R, 0, 0);
    vec![
        file(0x40_0000, 0x40_1000, R, PROG, 0),
        file(0x40_1000, 0x40_2000, RX, PROG, 1),
        file(0x40_2000, 0x40_4000, RW, PROG, 2),
        anonymous(0x40_4000, 0x40_6000),
        file(0x7f00_0000, 0x7f00_1000, R, LINKER, 0),
        file(0x7f00_1000, 0x7f00_2000, RX, LINKER, 1),
        file(0x7f00_2000, 0x7f00_3000, RW, LINKER, 2),
        anonymous(0x7f00_3000, 0x7f00_4000),
        stack(),
        special(VDSO - 0x4000, VDSO),
        special(VDSO, VDSO + 0x2000),
    ]
}

/// A process that has exec'ed a program, its VMAs listed.
pub fn program(pid: u32, mm: u64) -> Story {
    let mut story = Story::of(pid, mm - 1);
    story.path(pid, PROG, "/usr/bin/prog");
    story.exec(pid, mm, PROG, BOUNDS, &["prog", "-v"]);
    story.path(pid, LINKER, "/lib/ld.so");
    listed(&mut story, pid);
    story
}

/// What its exec has mapped is told.
pub fn listed(story: &mut Story, tid: u32) {
    for vma in listing() {
        story.vma(tid, VmaReason::Exec, vma);
    }
}

#[test]
fn an_exec_tells_what_it_mapped() {
    let outcome = program(100, 0xa).play();
    let lines: Vec<String> = outcome.told(|event| match &event.what {
        EventKind::Mmap(mmap) => {
            assert_eq!((mmap.by, event.pid), (By::Exec, 100));
            Some(format!(
                "{} {:#x} {} {} {} {:?}",
                mmap.addr,
                mmap.len,
                mmap.region.map_or("-", |region| region.name()),
                mmap.prot.join("|"),
                mmap.flags.join("|"),
                mmap.file.as_deref().zip(mmap.offset)
            ))
        }
        _ => None,
    });
    expect![[r#"
        0x400000 0x1000 rodata PROT_READ MAP_PRIVATE Some(("/usr/bin/prog", 0))
        0x401000 0x1000 text PROT_READ|PROT_EXEC MAP_PRIVATE Some(("/usr/bin/prog", 4096))
        0x402000 0x2000 data PROT_READ|PROT_WRITE MAP_PRIVATE Some(("/usr/bin/prog", 8192))
        0x404000 0x2000 bss PROT_READ|PROT_WRITE MAP_PRIVATE|MAP_ANONYMOUS None
        0x7f000000 0x1000 lib PROT_READ MAP_PRIVATE Some(("/lib/ld.so", 0))
        0x7f001000 0x1000 lib PROT_READ|PROT_EXEC MAP_PRIVATE Some(("/lib/ld.so", 4096))
        0x7f002000 0x1000 lib PROT_READ|PROT_WRITE MAP_PRIVATE Some(("/lib/ld.so", 8192))
        0x7f003000 0x1000 lib PROT_READ|PROT_WRITE MAP_PRIVATE|MAP_ANONYMOUS None
        0x7ffd00000000 0x21000 stack PROT_READ|PROT_WRITE MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN None
        0x7ffeffffc000 0x4000 vdso PROT_READ MAP_PRIVATE|MAP_ANONYMOUS None
        0x7fff00000000 0x2000 vdso PROT_READ MAP_PRIVATE|MAP_ANONYMOUS None"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn each_part_of_a_program_has_its_region() {
    let mut story = program(100, 0xa);
    for vma in listing() {
        story.touch(100, vma, vma.end - 8);
    }
    // The end of the page that holds the data's end: zeroed, and no part of the file's.
    story.touch(100, listing()[2], BOUNDS.end_data - 8);
    let outcome = story.play();
    outcome.regions_are([
        "rodata",
        "text",
        "bss",
        "bss",
        "lib rodata",
        "lib text",
        "lib data",
        "lib bss",
        "stack",
        "vdso",
        "vdso",
        "data",
    ]);
    let data = outcome.faults()[11];
    assert_eq!(data.file.as_deref(), Some("/usr/bin/prog"));
    assert_eq!(data.offset, Some(0x3000));
}

/// As in a 32-bit program without `PT_GNU_STACK`.
#[test]
fn data_that_may_be_executed_is_no_code() {
    const RWX: u64 = RW | vm::EXEC;
    let mut story = program(100, 0xa);
    let [data, linker] = [listing()[2], listing()[6]].map(|vma| Vma { flags: RWX, ..vma });
    story.touch(100, data, BOUNDS.start_data);
    story.touch(100, data, BOUNDS.end_data);
    story.touch(100, linker, linker.start);
    // But code that may be written is.
    let code = Vma {
        flags: RWX,
        ..listing()[1]
    };
    story.touch(100, code, code.start);
    // The kernel clears the end of the data in the exec.
    story.in_exec(100, 0xb);
    story.touch(100, Vma { exe: PROG, ..data }, BOUNDS.end_data);
    let outcome = story.play();
    outcome.regions_are(["data", "bss", "lib data", "text", "data"]);
}

#[test]
fn before_the_exec_is_complete_its_program_is_known() {
    let mut story = Story::of(100, 0xa);
    story.path(100, PROG, "/usr/bin/prog");
    // The kernel clears the end of the new program's data, and puts its arguments onto the new stack.
    let exe = |vma| Vma { exe: PROG, ..vma };
    story.in_exec(100, 0xb);
    story.touch(100, exe(listing()[2]), BOUNDS.end_data);
    story.touch(100, exe(stack()), STACK + 0x1_0000);
    story.play().regions_are(["data", "stack"]);
}

#[test]
fn memory_that_is_mapped_later_has_its_region() {
    let mut story = program(100, 0xa);
    let heap = anonymous(0x50_0000, 0x52_1000);
    story.touch(100, heap, 0x50_0000);
    story.call(
        100,
        syscall::BRK,
        [0x52_1000, 0x50_0000, 0, 0, 0, 0],
        0x52_1000,
    );
    story.touch(100, heap, 0x50_0000);

    story.path(100, LIBC, "/lib/libc.so");
    let data = file(0x7e00_2000, 0x7e00_3000, RW, LIBC, 2);
    story.touch(100, data, 0x7e00_2000);
    story.vma(
        100,
        VmaReason::Call,
        file(0x7e00_1000, 0x7e00_2000, RX, LIBC, 1),
    );
    story.touch(100, data, 0x7e00_2000);

    let shared = Vma {
        head: Header {
            flags: VMA_HAS_OPS | VMA_SHMEM,
            ..Header::default()
        },
        ..file(0x7d00_0000, 0x7d00_1000, RW | vm::MAYSHARE, 0x5, 0)
    };
    story.touch(100, shared, 0x7d00_0000);
    story.path(100, 0x6, "/var/db");
    let db = file(0x7d10_0000, 0x7d20_0000, RW | vm::MAYSHARE, 0x6, 0x10);
    story.touch(100, db, 0x7d10_2468);
    let huge = |start, id| Vma {
        head: Header {
            flags: VMA_HAS_OPS | VMA_HUGETLB,
            ..Header::default()
        },
        ..file(start, start + 0x20_0000, RW | vm::HUGETLB, id, 0)
    };
    story.path(100, 0x8, "/anon_hugepage");
    story.path(100, 0x9, "/hugepages/pool");
    for (start, id) in [(0x7c00_0000, 0x7), (0x7c20_0000, 0x8), (0x7c40_0000, 0x9)] {
        story.touch(100, huge(start, id), start);
    }
    story.touch(100, anonymous(0x7b00_0000, 0x7b00_1000), 0x7b00_0000);

    let outcome = story.play();
    outcome.regions_are([
        "anon", "heap", "file", "lib data", "shm", "file", "anon", "anon", "file", "anon",
    ]);
    let db = outcome.faults()[5];
    assert_eq!(
        (db.file.as_deref(), db.offset),
        (Some("/var/db"), Some(0x1_2000))
    );
}

/// mmap's flags: private, anonymous, at that place.
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x22;

/// The dynamic linker maps the C library: its code, its data, and its BSS if `bss` has flags for that.
fn load_libc(story: &mut Story, bss: Option<u64>) {
    story.path(100, LIBC, "/lib/libc.so");
    for (start, flags, pgoff) in [(0x7e00_1000, RX, 1), (0x7e00_2000, RW, 2)] {
        story.vma(
            100,
            VmaReason::Call,
            file(start, start + 0x1000, flags, LIBC, pgoff),
        );
        // Not a whole page.
        let args = [start, 0xe00, flags, 2 | FIXED, 3, pgoff * 0x1000];
        story.call(100, syscall::MMAP, args, start as i64);
    }
    if let Some(flags) = bss {
        let args = [0x7e00_3000, 0x1800, RW, flags, u64::MAX, 0];
        story.call(100, syscall::MMAP, args, 0x7e00_3000);
    }
}

#[test]
fn only_what_a_loader_puts_behind_a_library_is_its_bss() {
    let regions = |bss| {
        let mut story = program(100, 0xa);
        load_libc(&mut story, bss);
        story.touch(100, anonymous(0x7e00_3000, 0x7e00_5000), 0x7e00_4000);
        story.play().regions()
    };
    assert_eq!(regions(Some(ANONYMOUS | FIXED)), ["lib bss"]);
    assert_eq!(regions(Some(ANONYMOUS)), ["anon"], "the kernel's choice");
    assert_eq!(
        regions(None),
        ["anon"],
        "its call was lost, or it was there"
    );
}

/// The kernel makes one VMA of a library's BSS and what lies behind it.
#[test]
fn a_bss_ends_where_the_loader_made_it_end() {
    let mut story = program(100, 0xa);
    load_libc(&mut story, Some(ANONYMOUS | FIXED));
    let merged = anonymous(0x7e00_3000, 0x7e10_0000);
    for address in [0x7e00_4ff8, 0x7e00_5000] {
        story.touch(100, merged, address);
    }
    // A part of it is mapped anew, and a part unmapped.
    let args = [0x7e00_3000, 0x1000, RW, ANONYMOUS | FIXED, u64::MAX, 0];
    story.call(100, syscall::MMAP, args, 0x7e00_3000);
    story.touch(100, merged, 0x7e00_3000);
    story.touch(100, merged, 0x7e00_4000);
    story.call(100, syscall::MUNMAP, [0x7e00_4000, 0x1000, 0, 0, 0, 0], 0);
    story.touch(100, merged, 0x7e00_4000);
    let outcome = story.play();
    outcome.regions_are(["lib bss", "anon", "anon", "lib bss", "anon"]);
    let bss = outcome.faults()[0];
    assert_eq!(
        (bss.file.as_deref(), bss.offset),
        (Some("/lib/libc.so"), None)
    );
}

/// The VMA that the mapping call has given is another's: its record was lost.
#[test]
fn a_library_whose_record_was_lost_has_no_bss() {
    let mut story = program(100, 0xa);
    let args = [0x7e00_2000, 0x1000, RW, 2 | FIXED, 3, 0x2000];
    story.call(100, syscall::MMAP, args, 0x7e00_2000);
    let args = [0x7e00_3000, 0x1000, RW, ANONYMOUS | FIXED, u64::MAX, 0];
    story.call(100, syscall::MMAP, args, 0x7e00_3000);
    story.touch(100, anonymous(0x7e00_3000, 0x7e00_4000), 0x7e00_3000);
    story.play().regions_are(["anon"]);
}

/// A program maps its own file: no part of the program as it was loaded.
#[test]
fn a_programs_file_that_is_mapped_once_more_is_a_file() {
    let mut story = program(100, 0xa);
    let mapped = |at: u64, flags| file(at, at + 0x4000, flags, PROG, 0);
    let writable = mapped(0x7e00_0000, RW);
    for (vma, flags) in [(writable, 2), (mapped(0x7d00_0000, R | vm::MAYSHARE), 1)] {
        story.vma(100, VmaReason::Call, vma);
        let args = [0, 0x4000, vma.flags & 7, flags, 3, 0];
        story.call(100, syscall::MMAP, args, vma.start as i64);
    }
    for flags in [R, RX] {
        story.touch(100, mapped(0x7c00_0000, flags), 0x7c00_0000);
    }
    story.touch(100, mapped(0x3f_c000, R), 0x3f_c000);
    story.touch(100, writable, writable.start);
    // Right behind it, as a loader would put a BSS.
    story.vma(100, VmaReason::Call, writable);
    let args = [0x7e00_0000, 0x4000, RW, 2, 3, 0];
    story.call(100, syscall::MMAP, args, 0x7e00_0000);
    let args = [0x7e00_4000, 0x1000, RW, ANONYMOUS | FIXED, u64::MAX, 0];
    story.call(100, syscall::MMAP, args, 0x7e00_4000);
    story.touch(100, anonymous(0x7e00_4000, 0x7e00_5000), 0x7e00_4000);
    story.fork(100, 200, 0xc);
    story.touch(200, writable, writable.start);
    story.touch(200, listing()[0], listing()[0].start);
    let outcome = story.play();
    outcome.regions_are(["file", "file", "file", "file", "anon", "file", "rodata"]);
    let copy = outcome.faults()[3];
    let file = copy.file.as_deref();
    assert_eq!((file, copy.offset), (Some("/usr/bin/prog"), Some(0)));
}

/// Where the heap begins right behind a program's BSS, both are one VMA.
#[test]
fn a_heap_that_follows_the_bss_is_none() {
    let mut story = program(100, 0xa);
    let brk = [0x40_8000, 0x40_6000, 0, 0, 0, 0];
    story.call(100, syscall::BRK, brk, 0x40_8000);
    let both = anonymous(0x40_4000, 0x40_8000);
    story.touch(100, both, 0x40_5ff8);
    story.play().regions_are(["bss"]);
}

/// Two names of one file: each task has the path that it used, and a library is one under both.
#[test]
fn a_file_has_as_many_paths_as_names() {
    let mut story = program(100, 0xa);
    story.path(100, 0x11, "/lib/one.so");
    story.path(100, 0x12, "/lib/two.so");
    let named = |path, flags| Vma {
        path,
        ..file(0x7e00_0000, 0x7e00_1000, flags, LIBC, 0)
    };
    story.touch(100, named(0x11, RX), 0x7e00_0000);
    story.touch(100, named(0x12, R), 0x7e00_0000);
    let outcome = story.play();
    outcome.regions_are(["lib text", "lib rodata"]);
    let paths: Vec<_> = outcome
        .faults()
        .iter()
        .map(|fault| fault.file.clone())
        .collect();
    assert_eq!(
        paths,
        [Some("/lib/one.so".into()), Some("/lib/two.so".into())]
    );
}

#[test]
fn a_thread_has_a_stack_while_it_lives() {
    let mut story = program(100, 0xa);
    let stack = anonymous(0x7a00_0000, 0x7a80_0000);
    story.touch(100, stack, 0x7a00_0000);
    story.thread(100, 101, 0x7a7f_fff8);
    story.touch(101, stack, 0x7a7f_f000);
    story.touch(100, stack, 0x7a7f_e000);
    // Its own next mapping is no stack.
    story.touch(101, anonymous(0x7a80_0000, 0x7a90_0000), 0x7a80_0000);
    story.ends_with(101, counters(0, 0));
    story.touch(100, stack, 0x7a7f_d000);
    let outcome = story.play();
    outcome.regions_are(["anon", "thread-stack", "thread-stack", "anon", "anon"]);
}

/// The kernel makes one VMA of a stack and of memory beside it.
#[test]
fn a_stack_whose_size_is_told_is_that_and_no_more() {
    const SIZE: u64 = 0x1_0000;
    let mut story = program(100, 0xa);
    let mapping = anonymous(0x7a00_0000, 0x7a80_0000);
    let base = 0x7a40_0000;
    story.thread_on(100, 101, base..base + SIZE);
    for address in [base - 1, base, base + SIZE - 1, base + SIZE] {
        story.touch(101, mapping, address);
    }
    let shared = (mapping.start >> 12..mapping.end >> 12).collect();
    let area = Area {
        vma: mapping,
        shared,
        pinned: vec![],
    };
    story.fork_of(101, 200, 0xb, &[area]);
    let outcome = story.play();
    outcome.regions_are(["anon", "thread-stack", "thread-stack", "anon"]);
    let pages = outcome.forks[0].areas.iter();
    let pages: Vec<_> = pages.map(|area| (area.region.name(), area.pages)).collect();
    assert_eq!(pages, [("anon", 2048 - 16), ("thread-stack", 16)]);
}

fn below_the_stack(signal: u8) -> Outcome {
    let mut story = program(100, 0xa);
    story.vma(100, VmaReason::Fault, stack());
    let fault = minor(WRITE, STACK - 8, 0, if signal == 0 { rw(0x99) } else { 0 });
    let fault = flagged(fault, FAULT_MINOR | FAULT_UNMAPPED);
    story.fault(100, detailed(fault, |detail| detail.signal = signal));
    story.play()
}

#[test]
fn a_stack_grows_unless_it_must_not() {
    let grown = below_the_stack(0);
    grown.regions_are(["stack"]);
    grown.kinds_are(["zero-fill"]);
    let refused = below_the_stack(11);
    refused.regions_are(["unmapped"]);
    refused.kinds_are(["invalid"]);
    assert_eq!(refused.faults()[0].signal, Some(11));
}

#[test]
fn where_nothing_is_mapped_it_says_so() {
    let mut story = program(100, 0xa);
    let fault = flagged(minor(READ, 0x10, 0, 0), FAULT_UNMAPPED);
    story.fault(100, fault);
    let outcome = story.play();
    outcome.regions_are(["unmapped"]);
    assert_eq!(
        outcome.kinds(),
        ["other"],
        "no signal: a call's bad pointer"
    );
}

#[test]
fn a_lost_or_unreadable_vma_is_not_guessed() {
    let mut story = program(100, 0xa);
    let heap = anonymous(0x7b00_0000, 0x7b10_0000);
    story.touch(100, heap, 0x7b00_0000);
    story.lost_vma(100);
    story.fault(100, minor(WRITE, 0x7b00_1000, 0, rw(0x98)));
    story.touch(100, heap, 0x7b00_2000);
    let unreadable = minor(WRITE, 0x7b00_3000, 0, rw(0x97));
    story.fault(100, flagged(unreadable, FAULT_MINOR | FAULT_VMA_UNKNOWN));
    let outcome = story.play();
    outcome.regions_are(["anon", "unknown", "anon", "unknown"]);
    outcome.kinds_are(["zero-fill", "other", "zero-fill", "other"]);
    assert_eq!(
        outcome.faults()[1].detail.as_deref(),
        Some("a page was mapped; what backs it could not be read")
    );
}

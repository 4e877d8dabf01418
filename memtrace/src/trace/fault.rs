//! Page faults, as events.

use memtrace_ebpf::{
    arch,
    fault::{Backing, Facts, error_code, kind, vm},
    pte::{Entry, Level, PAGE_SIZE},
    record::{
        FAULT_DISABLED, FAULT_FRESH, FAULT_GREW, FAULT_MAJOR, FAULT_MINOR, FAULT_MM_GONE,
        FAULT_UNMAPPED, FAULT_VMA_UNKNOWN, Fault, FaultDetail, Frame, Handled,
    },
};

use super::{
    bss::Bss,
    event::{self, Access, Address, Counted, FaultKind, Mode, Region},
    names,
    region::{Location, Mapped},
};

/// The event of a fault. `vma` is the last that the thread's records told of, `bss` that of its address space; `ts` is the
/// fault's time in the output.
pub fn event(
    fault: &Fault,
    vma: Option<&Mapped>,
    bss: Option<&Bss>,
    zero_pfn: u64,
    ts: u64,
) -> event::Fault {
    let flag = |bit| fault.head.flags & bit != 0;
    let FaultDetail {
        levels,
        error,
        signal,
        frame,
    } = fault.detail();
    let before = Entry {
        bits: fault.before,
        level: Level::from_number(levels & 0xf),
    };
    let after = Entry {
        bits: fault.after,
        level: Level::from_number(levels >> 4),
    };
    let (pfn_before, pfn_after) = (before.pfn(fault.address), after.pfn(fault.address));
    let counted = match (flag(FAULT_MAJOR), flag(FAULT_MINOR)) {
        (true, _) => Some(Counted::Major),
        (false, true) => Some(Counted::Minor),
        (false, false) => None,
    };
    let vma = vma.filter(|vma| {
        vma.serial == fault.vma
            && !flag(FAULT_VMA_UNKNOWN)
            // Below a stack, its VMA is the one that grew, unless the access was refused.
            && (!flag(FAULT_UNMAPPED) || vma.flags & vm::GROWSDOWN != 0 && signal == 0)
    });
    let place = match vma {
        Some(vma) => vma.place(fault.address, bss),
        None if is_vsyscall(fault) => Location::nowhere(Region::Vdso),
        // Where a page came something was mapped: the tree of VMAs was being changed when it was looked at.
        None if flag(FAULT_UNMAPPED) && !after.is_present() => Location::nowhere(Region::Unmapped),
        None => Location::nowhere(Region::Unknown),
    };
    let facts = Facts {
        error,
        before,
        after,
        same_frame: pfn_before == pfn_after,
        zero_before: pfn_before == Some(zero_pfn),
        zero_after: pfn_after == Some(zero_pfn),
        counted: counted.is_some(),
        major: counted == Some(Counted::Major),
        signal: signal != 0,
        backing: vma.map_or(Backing::Unknown, |vma| vma.backing),
        grew: flag(FAULT_GREW),
        fresh: flag(FAULT_FRESH),
        uffd_registered: vma.is_some_and(|vma| vma.flags & vm::UFFD_MISSING != 0),
        uffd_wp: vma.is_some_and(|vma| vma.flags & vm::UFFD_WP != 0),
        left: flag(FAULT_MM_GONE),
        shared_frame: Frame::is_shared(frame.into(), fault.map_count),
    };
    let kind = kind(&facts);
    let unclear = kind == FaultKind::Other || facts.left && facts.counted;
    event::Fault {
        addr: Address(fault.address),
        ip: Address(fault.ip),
        access: access(error),
        mode: if error & error_code::GUP != 0 {
            Mode::Gup
        } else if error & error_code::USER != 0 {
            Mode::User
        } else {
            Mode::Kernel
        },
        kind,
        region: place.region,
        part: place.part,
        file: place.file,
        offset: place.offset,
        page_size: if after.is_present() {
            after.page_size()
        } else {
            before.page_size()
        },
        pfn_before,
        pfn_after,
        counted,
        signal: (signal != 0).then_some(signal.into()),
        detail: unclear.then(|| {
            if is_vsyscall(fault) {
                "a jump into the vsyscall page: the kernel does the call".into()
            } else {
                detail(&facts, flag(FAULT_DISABLED)).into()
            }
        }),
        handled: None,
        cause: None,
        late: ts.saturating_sub(fault.head.ts),
    }
}

/// What the hook on `handle_mm_fault` saw beside. `owner` is the process whose memory it is, if that isn't the thread's own.
pub fn handled(record: &Handled, owner: Option<u32>) -> event::Handled {
    let access = record.fault.detail().error;
    event::Handled {
        dur: (record.left != 0).then(|| record.left.saturating_sub(record.fault.head.ts)),
        retries: record.retries.into(),
        waited: record.waited,
        call: (access & error_code::GUP != 0).then(|| names::call(record.call).into()),
        unshare: access & error_code::UNSHARE != 0,
        owner,
    }
}

const fn access(error: u8) -> Access {
    if error & error_code::FETCH != 0 {
        Access::Exec
    } else if error & (error_code::WRITE | error_code::UNSHARE) == error_code::WRITE {
        Access::Write
    } else {
        Access::Read
    }
}

/// Whether it is a jump into the vsyscall page that the kernel takes for the call there, and not for an error.
fn is_vsyscall(fault: &Fault) -> bool {
    const JUMP: u8 = error_code::USER | error_code::FETCH;
    let FaultDetail { signal, error, .. } = fault.detail();
    signal == 0 && error & JUMP == JUMP && arch::VSYSCALL == Some(fault.address & !(PAGE_SIZE - 1))
}

/// What is known of a fault of the kind `other`, or whose entry after is not known. `disabled`: it came while page faults
/// were disabled.
const fn detail(facts: &Facts, disabled: bool) -> &'static str {
    if facts.left && facts.counted {
        "the task had left the address space, which was gone, before the frame after could be seen"
    } else if facts.after.is_present() && matches!(facts.backing, Backing::Unknown) {
        "a page was mapped; what backs it could not be read"
    } else if facts.after.is_present() {
        "the page or its protection changed"
    } else if facts.counted {
        "the page was gone again when it was looked at"
    } else if disabled {
        "refused, as page faults were disabled: the kernel does without the page"
    } else if facts.error & error_code::USER != 0 {
        "no page yet: the access is tried again, unless a signal comes first"
    } else {
        // As copy_to_user: of a call, or of the frame for a signal's handler (`signal_setup_done` in kernel/signal.c).
        "refused: a call fails with EFAULT, a signal's handler can't run (SIGSEGV), or the kernel tries again"
    }
}

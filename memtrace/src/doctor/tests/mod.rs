//! What is made of findings: with all granted, and with each thing lacking.

use memtrace_ebpf::control::DirectMap;

use super::{
    findings::{Copied, Findings, Job, Pids, Refusal, Tracepoint, Tried, Types},
    rows::{Row, rows},
    verdict::{Verdict, verdict},
};
use crate::{
    kernel::{preemption::Preemption, require::Lockdown},
    probe::Backend,
    target::terminal::Tiocsti,
};

mod lacks;
mod whole;

/// A kernel that grants all.
fn all_granted() -> Findings {
    let tracepoint = |name: &str| Tracepoint {
        name: name.to_owned(),
        in_types: Some(true),
        attached: Tried::Works(()),
    };
    Findings {
        release: "6.12.48+deb13-amd64".to_owned(),
        arch: "x86_64".to_owned(),
        pages: Ok(()),
        root: true,
        capabilities: Some(u64::MAX),
        initial_users: true,
        seccomp: false,
        lockdown: Lockdown::None,
        btf_file: false,
        btf: Ok(Types {
            path: "/sys/kernel/btf/vmlinux".to_owned(),
            bytes: 5 << 20,
            found: 100,
            missing: Vec::new(),
            done_without: vec!["mm_struct.mm_lock_seq".to_owned()],
        }),
        bpf: Tried::Works(()),
        ring_buffer: Tried::Works(()),
        kernel_reads: Tried::Works(()),
        tracepoints: ["page_fault_user", "sys_enter"].map(tracepoint).into(),
        fentry: Tried::Works(()),
        preemption: Preemption::Off,
        undisturbed: true,
        timer: Tried::Works(()),
        frames: Tried::Works(0x1234),
        direct_map: Tried::Works(DirectMap {
            base: 0xffff_8880_0000_0000,
            levels: 4,
            vmemmap: 0xffff_ea00_0000_0000,
            pid_level: 1,
            ..DirectMap::default()
        }),
        symbols: Tried::Works(90_000),
        kptr_restrict: Some(1),
        pids: Pids {
            initial: true,
            own: 77,
            shown: Some(77),
        },
        memlock: Some(8 << 20),
        cpus: Ok((2, 4)),
        pushing: Tiocsti::Refused,
        job: Tried::Works(Job {
            copied: Copied {
                address: 0x7000,
                before: 0x11,
                after: 0x22,
            },
            backend: Backend::Fentry,
        }),
    }
}

/// What memtrace finds without root on the same kernel.
fn without_root() -> Findings {
    let mut found = all_granted();
    found.root = false;
    found.capabilities = Some(0);
    found.bpf = Tried::Untried;
    found.ring_buffer = Tried::Untried;
    found.kernel_reads = Tried::Untried;
    for tracepoint in &mut found.tracepoints {
        tracepoint.attached = Tried::Untried;
    }
    found.fentry = Tried::Untried;
    (found.preemption, found.undisturbed) = (Preemption::NotShown, false);
    found.timer = Tried::Untried;
    found.frames = Tried::Untried;
    found.direct_map = Tried::Untried;
    found.symbols = Tried::Works(0);
    found.job = Tried::Untried;
    found
}

fn refused<T>(errno: i32, words: &str) -> Tried<T> {
    Tried::Refused(Refusal {
        errno: Some(errno),
        words: words.to_owned(),
    })
}

/// Changed in one thing.
fn with(change: impl FnOnce(&mut Findings)) -> Findings {
    let mut found = all_granted();
    change(&mut found);
    found
}

fn row(found: &Findings, name: &str) -> Row {
    let rows = rows(found);
    let row = rows.into_iter().find(|row| row.name == name);
    row.expect("a row of that name")
}

fn verdict_of(found: &Findings) -> Verdict {
    verdict(found, &rows(found))
}

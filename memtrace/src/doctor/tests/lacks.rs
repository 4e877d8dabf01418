//! Each thing that can lack: what it costs, and the remedy.

use super::{all_granted, refused, row, verdict_of, with};
use crate::{
    doctor::{
        WORKS, exit_status,
        findings::{Findings, Job, Tried},
        rows::State,
    },
    kernel::{preemption::Preemption, require::Lockdown},
    target::terminal::Tiocsti,
};

/// That the row of this name lacks, and what it says of it.
fn lacks(found: &Findings, name: &str, needed: bool, parts: [&str; 3]) {
    let row = row(found, name);
    assert_eq!((row.state, row.needed), (State::Lacks, needed), "{row:?}");
    let said = [
        &row.found,
        row.costs.as_ref().expect("costs"),
        row.remedy.as_ref().expect("a remedy"),
    ];
    for (said, part) in said.into_iter().zip(parts) {
        assert!(said.contains(part), "{part:?}: {row:?}");
    }
    // Whatever lacks, only the main job decides.
    assert_eq!(exit_status(found), WORKS);
}

/// The same of something without which nothing works: what is found, and the remedy.
fn stops(found: &Findings, name: &str, is: &str, remedy: &str) {
    lacks(found, name, true, [is, "nothing", remedy]);
}

/// The same of something that is done without: what is found, what it costs, and the remedy.
fn costs(found: &Findings, name: &str, parts: [&str; 3]) {
    lacks(found, name, false, parts);
}

#[test]
fn an_old_kernel_or_another_machine() {
    let old = with(|found| found.release = "4.19.0-27-amd64".to_owned());
    stops(&old, "kernel", "4.19.0-27", "Linux 5.10 or later");
    let other = with(|found| found.arch = "riscv64".to_owned());
    stops(&other, "kernel", "riscv64", "x86-64 and arm64");
    let pages = with(|found| found.pages = Err("pages of 64 KiB".to_owned()));
    stops(&pages, "kernel", "64 KiB", "4 KiB");
}

#[test]
fn capabilities_that_are_missing() {
    let without = |bits: &[u32]| {
        let lost: u64 = bits.iter().map(|bit| 1 << bit).sum();
        with(|found| found.capabilities = Some(!lost))
    };
    stops(
        &without(&[21]),
        "capabilities",
        "without CAP_SYS_ADMIN",
        "--cap-add",
    );
    costs(
        &without(&[19]),
        "capabilities",
        ["CAP_SYS_PTRACE", "the lab", "--cap-add"],
    );
    costs(
        &without(&[6, 7]),
        "capabilities",
        ["CAP_SETUID, CAP_SETGID", "under sudo", "--cap-add"],
    );
    // CAP_BPF and CAP_PERFMON are in CAP_SYS_ADMIN.
    assert_eq!(row(&without(&[38, 39]), "capabilities").state, State::Ok);
    let contained = with(|found| found.initial_users = false);
    stops(&contained, "capabilities", "user namespace", "outside");
    let unknown = row(&with(|found| found.capabilities = None), "capabilities");
    assert_eq!(unknown.state, State::Unknown);
}

#[test]
fn a_kernel_that_is_locked_down() {
    for (lockdown, state) in [
        (Lockdown::Integrity, State::Ok),
        (Lockdown::NotThere, State::Ok),
        (Lockdown::NotShown, State::Unknown),
    ] {
        let found = with(|found| found.lockdown = lockdown);
        assert_eq!(row(&found, "lockdown").state, state, "{lockdown:?}");
    }
    let locked = with(|found| {
        found.lockdown = Lockdown::Confidentiality;
        found.kernel_reads = refused(1, "no such helper");
        found.direct_map = refused(1, "not found");
    });
    stops(
        &locked,
        "lockdown",
        "locked down for confidentiality",
        "boot without",
    );
    stops(
        &locked,
        "kernel-reads",
        "no such helper",
        "boot without lockdown",
    );
    stops(&locked, "direct-map", "not found", "see kernel-reads");
}

#[test]
fn types_that_are_not_there_or_not_enough() {
    let none = with(|found| found.btf = Err("there are none".to_owned()));
    stops(&none, "btf", "there are none", "--btf FILE");
    let file = with(|found| {
        found.btf_file = true;
        found.btf = Err("it is broken".to_owned());
    });
    stops(&file, "btf", "it is broken", "exactly");
    let missing = with(|found| {
        if let Ok(types) = &mut found.btf {
            types.missing = vec!["mm_struct.pgd".to_owned()];
        }
    });
    stops(
        &missing,
        "btf",
        "100 of 102 offsets and constants, without mm_struct.pgd",
        "knows",
    );
}

#[test]
fn bpf_that_is_refused() {
    let refused_with = |errno, change: fn(&mut Findings)| {
        with(|found| {
            found.bpf = refused(errno, "Operation not permitted");
            found.ring_buffer = refused(errno, "Operation not permitted");
            found.timer = refused(errno, "Operation not permitted");
            change(found);
        })
    };
    let none = refused_with(38, |_| ());
    stops(&none, "bpf", "Operation not", "CONFIG_BPF_SYSCALL");
    for row in ["ring-buffer", "timer"] {
        stops(&none, row, "Operation not", "see bpf");
    }
    let filtered = refused_with(1, |found| found.seccomp = true);
    stops(&filtered, "bpf", "Operation not", "seccomp");
    let contained = refused_with(1, |found| found.initial_users = false);
    stops(&contained, "bpf", "Operation not", "user namespace");
    let forbidden = refused_with(1, |_| ());
    stops(&forbidden, "bpf", "Operation not", "policy");
}

#[test]
fn what_fails_for_the_same_reason_refers_to_it() {
    let found = with(|found| {
        found.btf = Err("there are none".to_owned());
        found.direct_map = refused(2, "there are none");
        found.job = refused(2, "there are none");
    });
    for (name, words) in [
        ("direct-map", "see btf"),
        (
            "main-job",
            "a program that forks and writes could not be traced: see btf",
        ),
    ] {
        let row = row(&found, name);
        assert_eq!(
            (row.found.as_str(), row.remedy.as_deref()),
            (words, Some("see btf"))
        );
    }
}

#[test]
fn parts_of_bpf_that_are_refused() {
    let found = with(|found| found.ring_buffer = refused(22, "unknown"));
    stops(&found, "ring-buffer", "unknown", "5.10");
    let found = with(|found| found.timer = refused(2, "no timer"));
    stops(&found, "timer", "no timer", "CONFIG_PERF_EVENTS");
    let found = with(|found| found.kernel_reads = refused(1, "no"));
    stops(&found, "kernel-reads", "no", "policy");
}

#[test]
fn tracepoints_that_are_missing() {
    let without = |at: usize, errno| {
        with(|found| found.tracepoints[at].attached = refused(errno, "not this one"))
    };
    costs(
        &without(0, 2),
        "tracepoints",
        [
            "1 of 2: without page_fault_user",
            "fentry",
            "CONFIG_BPF_EVENTS",
        ],
    );
    stops(
        &without(1, 2),
        "tracepoints",
        "without sys_enter",
        "CONFIG_TRACEPOINTS",
    );
    stops(
        &without(1, 1),
        "tracepoints",
        "sys_enter (not this one)",
        "CONFIG_TRACEPOINTS",
    );
}

#[test]
fn fentry_that_is_not_granted_costs_the_main_job_nothing() {
    for (errno, remedy) in [
        (1, "not granted by this kernel or its policy"),
        (524, "DIRECT_CALLS"),
        (22, "CONFIG_BPF_JIT"),
    ] {
        let found = with(|found| found.fentry = refused(errno, "the kernel refuses"));
        costs(
            &found,
            "fentry",
            ["the kernel refuses", "how long each fault took", remedy],
        );
        let verdict = verdict_of(&found);
        assert_eq!(verdict.cannot.len(), 1, "{verdict:?}");
        assert!(
            verdict.cannot[0].because.contains("the kernel refuses"),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_kernel_that_switches_tasks_in_a_hook() {
    let preempted = |preemption, undisturbed| {
        with(|found| (found.preemption, found.undisturbed) = (preemption, undisturbed))
    };
    for preemption in [Preemption::On, Preemption::NotShown] {
        let row = row(&preempted(preemption, true), "preemption");
        assert!(
            row.state == State::Ok && row.found.contains("counted"),
            "{row:?}"
        );
    }
    let row = row(&preempted(Preemption::Off, false), "preemption");
    assert_eq!(row.state, State::Ok, "{row:?}");
    let on = preempted(Preemption::On, false);
    let parts = [
        "in the middle",
        "tracepoints are taken",
        "preempt=voluntary",
    ];
    costs(&on, "preemption", parts);
    let verdict = verdict_of(&on);
    assert!(
        verdict.cannot[0].because.contains("in the middle"),
        "{verdict:?}"
    );
    let alone = Findings {
        tracepoints: on.tracepoints[1..].to_vec(),
        ..on
    };
    let parts = ["in the middle", "another's", "preempt=voluntary"];
    costs(&alone, "preemption", parts);
    assert!(verdict_of(&alone).cannot.is_empty());
    let row = self::row(&preempted(Preemption::NotShown, false), "preemption");
    assert_eq!(row.state, State::Unknown, "{row:?}");
}

#[test]
fn fentry_is_needed_where_faults_have_no_tracepoint() {
    // On arm64 memtrace asks for none of them.
    let not_asked = with(|found| found.fentry = refused(1, "the kernel refuses"));
    let not_asked = Findings {
        tracepoints: not_asked.tracepoints[1..].to_vec(),
        ..not_asked
    };
    stops(&not_asked, "fentry", "the kernel refuses", "not granted");
    let not_there = with(|found| {
        found.fentry = refused(1, "the kernel refuses");
        found.tracepoints[0].attached = refused(2, "none such");
    });
    stops(&not_there, "fentry", "the kernel refuses", "not granted");
}

#[test]
fn frames_and_the_direct_map() {
    let found = with(|found| {
        found.frames = refused(1, "hidden");
        found.direct_map = refused(1, "hidden");
    });
    stops(&found, "frames", "hidden", "CAP_SYS_ADMIN");
    stops(&found, "direct-map", "see frames", "see frames");
}

#[test]
fn kallsyms_that_hides() {
    let hidden = with(|found| found.symbols = Tried::Works(0));
    costs(
        &hidden,
        "kallsyms",
        ["kptr_restrict is 1", "the lab", "CAP_SYSLOG"],
    );
    let closed = with(|found| {
        found.symbols = Tried::Works(0);
        found.kptr_restrict = Some(2);
    });
    let parts = ["kptr_restrict is 2", "the lab", "kptr_restrict=1"];
    costs(&closed, "kallsyms", parts);
    assert!(verdict_of(&hidden).cannot[0].what.contains("clone"));
    let none = with(|found| found.symbols = refused(2, "no such file"));
    costs(
        &none,
        "kallsyms",
        ["no such file", "the lab", "CONFIG_KALLSYMS"],
    );
}

#[test]
fn pid_namespaces() {
    let inside = with(|found| found.pids.initial = false);
    let row = row(&inside, "pid-namespace");
    assert!(
        row.state == State::Ok && row.found.contains("(1 deep)"),
        "{row:?}"
    );
    for shown in [None, Some(4)] {
        let other = with(|found| found.pids.shown = shown);
        costs(
            &other,
            "pid-namespace",
            ["memtrace is process 77", "attach", "--mount-proc"],
        );
        let lacking = verdict_of(&other).cannot.len();
        assert_eq!(lacking, 3);
    }
}

#[test]
fn locked_memory_counts_before_5_11() {
    let old = |memlock, job: Option<Tried<Job>>| {
        with(|found| {
            found.release = "5.10.0-36-amd64".to_owned();
            found.memlock = memlock;
            found.job = job.unwrap_or_else(|| found.job.clone());
        })
    };
    assert_eq!(row(&all_granted(), "memlock").state, State::Ok);
    assert_eq!(row(&old(None, None), "memlock").found, "no limit");
    assert_eq!(row(&old(Some(1 << 30), None), "memlock").found, "1024 MiB");
    assert!(
        row(&old(Some(64 << 10), None), "memlock")
            .found
            .ends_with("memtrace raises it")
    );
    let failed = row(&old(Some(64 << 10), Some(refused(1, "no"))), "memlock");
    assert_eq!(failed.state, State::Lacks);
    assert!(failed.found.contains("64 KiB") && failed.remedy.expect("one").contains("ulimit -l"));
}

#[test]
fn a_terminal_that_can_be_typed_into_has_a_remedy() {
    assert_eq!(row(&all_granted(), "terminal").state, State::Ok);
    let remedy_of = |pushing| {
        let found = with(|found| found.pushing = pushing);
        let row = row(&found, "terminal");
        assert!(row.state == State::Lacks && !row.needed, "{row:?}");
        row.remedy.expect("a remedy")
    };
    assert_eq!(
        remedy_of(Tiocsti::Granted),
        "sysctl dev.tty.legacy_tiocsti=0"
    );
    assert!(remedy_of(Tiocsti::Always).starts_with("take Linux 6.2"));
}

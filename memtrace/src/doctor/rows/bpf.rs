//! What the kernel grants to eBPF.

use nix::errno::Errno;

use super::{ALL, Row, list};
use crate::{
    doctor::findings::{Findings, Refusal, Tracepoint, Tried},
    kernel::{
        locked::CHARGES_CGROUP,
        preemption::Preemption,
        require::{Lockdown, oldest, supported, version},
    },
    probe,
};

/// Bytes of memtrace's maps and a little more.
const MAPS: u64 = 128 << 20;
/// The kernel's own `ENOTSUPP`, which has no name in user space (`include/linux/errno.h`).
const ENOTSUPP: i32 = 524;

/// The kernel's type information.
pub fn btf(findings: &Findings) -> Row {
    let name = "btf";
    let remedy = if findings.btf_file {
        "give the BTF of exactly this kernel, or leave --btf out if it shows its own"
    } else {
        "take a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build theirs, or --btf FILE"
    };
    match &findings.btf {
        Err(why) => Row::lacks(name, why, ALL, remedy),
        Ok(types) => {
            let all = types.found + types.missing.len() + types.done_without.len();
            let found = format!(
                "{}, {:.1} MiB: {} of {all} offsets and constants",
                types.path,
                types.bytes as f64 / f64::from(1 << 20),
                types.found
            );
            if !types.missing.is_empty() {
                return Row::lacks(
                    name,
                    format!("{found}, without {}", list(&types.missing)),
                    ALL,
                    format!(
                        "take a kernel that memtrace knows ({}), or tell its authors of this one",
                        supported()
                    ),
                );
            }
            let without = list(&types.done_without);
            Row::ok(
                name,
                if without.is_empty() {
                    found
                } else {
                    format!("{found}; it does without {without}")
                },
            )
        }
    }
}

/// The system call.
pub fn bpf(findings: &Findings) -> Row {
    let name = "bpf";
    trial(name, &findings.bpf, "bpf(2) makes maps", |why| {
        let remedy = match why.errno.map(Errno::from_raw) {
            Some(Errno::ENOSYS) => "take a kernel with CONFIG_BPF_SYSCALL=y",
            _ if findings.seccomp => {
                "a seccomp filter is in the way: run it outside of the container, or start that with --privileged"
            }
            _ if !findings.initial_users => "run it outside of the user namespace",
            _ => {
                "see capabilities; else a policy (a security module) forbids it, which only its owner can change"
            }
        };
        Row::lacks(
            name,
            format!("bpf(2) is refused: {}", why.words),
            ALL,
            remedy,
        )
    })
}

/// The map that the records come through.
pub fn ring_buffer(findings: &Findings) -> Row {
    let name = "ring-buffer";
    trial(
        name,
        &findings.ring_buffer,
        "BPF_MAP_TYPE_RINGBUF is there",
        |why| {
            let remedy = if findings.bpf.works() {
                format!("take {}", oldest())
            } else {
                "see bpf".to_owned()
            };
            Row::lacks(name, &why.words, ALL, remedy)
        },
    )
}

/// The limit of locked memory.
pub fn memlock(findings: &Findings) -> Row {
    let name = "memlock";
    let charged = version(&findings.release).is_some_and(|version| version < CHARGES_CGROUP);
    match findings.memlock {
        _ if !charged => Row::ok(name, "no limit for eBPF (since Linux 5.11)"),
        None => Row::ok(name, "no limit"),
        Some(limit) if limit >= MAPS => Row::ok(name, format!("{} MiB", limit >> 20)),
        Some(limit) => {
            let found = format!(
                "{} KiB, and this kernel counts eBPF maps in it",
                limit >> 10
            );
            match &findings.job {
                Tried::Works(_) => Row::ok(name, format!("{found}: memtrace raises it")),
                Tried::Refused(_) => Row::lacks(
                    name,
                    found,
                    "memtrace's maps may not fit in",
                    "ulimit -l unlimited, in the shell that starts memtrace",
                ),
                Tried::Untried => Row::untried(name),
            }
        }
    }
}

/// The tracepoints that the hooks are for.
pub fn tracepoints(findings: &Findings) -> Row {
    let name = "tracepoints";
    let all = findings.tracepoints.len();
    let missing: Vec<&Tracepoint> = findings
        .tracepoints
        .iter()
        .filter(|one| match &one.attached {
            Tried::Works(()) => false,
            Tried::Refused(_) => true,
            Tried::Untried => one.in_types == Some(false),
        })
        .collect();
    if let Some(first) = missing.first() {
        let row = missing_tracepoints(findings, &missing, first);
        return if faults_alone(&missing) {
            row
        } else {
            row.needed()
        };
    }
    if findings.tracepoints.iter().all(|one| one.attached.works()) {
        return Row::ok(name, format!("{all} of {all} can be attached to"));
    }
    let found = if findings
        .tracepoints
        .iter()
        .all(|one| one.in_types == Some(true))
    {
        format!("{all} of {all} are in the kernel's types; to attach to them needs root")
    } else {
        "not tried: needs root".to_owned()
    };
    Row::unknown(name, found, super::SUDO)
}

/// Whether all that is missing are those of faults, which fentry stands in for.
fn faults_alone(missing: &[&Tracepoint]) -> bool {
    missing.iter().all(|one| is_of_faults(one))
}

fn missing_tracepoints(findings: &Findings, missing: &[&Tracepoint], first: &Tracepoint) -> Row {
    let name = "tracepoints";
    let all = findings.tracepoints.len();
    let names: Vec<&str> = missing.iter().map(|one| one.name.as_str()).collect();
    let why = match &first.attached {
        Tried::Refused(why) if why.errno != Some(Errno::ENOENT as i32) => {
            format!(" ({})", why.words)
        }
        _ => String::new(),
    };
    let found = if names.len() == all {
        format!("none of {all}{why}")
    } else {
        format!(
            "{} of {all}: without {}{why}",
            all - names.len(),
            list(&names)
        )
    };
    let costs = if faults_alone(missing) {
        "faults are seen by fentry alone"
    } else {
        ALL
    };
    let remedy = if matches!(findings.bpf, Tried::Refused(_)) {
        "see bpf"
    } else {
        "take a kernel with CONFIG_TRACEPOINTS=y and CONFIG_BPF_EVENTS=y, as distributions build theirs"
    };
    Row::lacks(name, found, costs, remedy)
}

/// What fentry would add.
pub const WITH_FENTRY: &str =
    "how long each fault took in the kernel, and the faults that it takes on a task's behalf";

/// A program at the entry of a function.
pub fn fentry(findings: &Findings) -> Row {
    let name = "fentry";
    trial(
        name,
        &findings.fentry,
        "handle_mm_fault takes a program at its entry",
        |why| {
            let remedy = match why.errno {
                _ if matches!(findings.bpf, Tried::Refused(_)) => "see bpf",
                Some(1) => {
                    "not granted by this kernel or its policy: on your own kernel, see that CONFIG_FUNCTION_TRACER and \
                 CONFIG_BPF_JIT are set and no security module forbids it"
                }
                Some(ENOTSUPP) => {
                    "take a kernel with CONFIG_FUNCTION_TRACER=y and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y"
                }
                _ if findings.btf.is_err() => "see btf",
                _ => {
                    "take a kernel with CONFIG_FUNCTION_TRACER=y and CONFIG_BPF_JIT=y, as distributions build theirs"
                }
            };
            if faults_have_tracepoints(findings) {
                let costs = format!("not shown: {WITH_FENTRY}");
                Row::lacks(name, &why.words, costs, remedy)
            } else {
                Row::lacks(name, &why.words, ALL, remedy).needed()
            }
        },
    )
}

/// Whether a task may be switched away from in the middle of a hook.
pub fn preemption(findings: &Findings) -> Row {
    let name = "preemption";
    match findings.preemption {
        Preemption::Off => Row::ok(
            name,
            "the kernel doesn't switch tasks in the middle of a hook",
        ),
        _ if findings.undisturbed => Row::ok(
            name,
            "a hook runs to its end, and one that the kernel leaves out is counted",
        ),
        Preemption::On => Row::lacks(
            name,
            "the kernel may switch tasks in the middle of a hook on a function",
            if prefers_tracepoints(findings) {
                format!("tracepoints are taken instead, and not shown: {WITH_FENTRY}")
            } else {
                "on a busy machine a fault may be missed, or shown with what is another's"
                    .to_owned()
            },
            "boot with preempt=voluntary, or take Linux 6.15 or later",
        ),
        Preemption::NotShown if !findings.root => Row::untried(name),
        Preemption::NotShown if findings.lockdown == Lockdown::NotShown => Row::unknown(
            name,
            "whether the kernel may switch tasks in the middle of a hook was chosen at boot, and debugfs, which shows it, is \
             left alone, as the kernel may be locked down",
            "see lockdown",
        ),
        Preemption::NotShown => Row::unknown(
            name,
            "whether the kernel may switch tasks in the middle of a hook was chosen at boot, and debugfs, which shows it, is \
             not mounted or refused",
            "mount -t debugfs none /sys/kernel/debug (not where the kernel is locked down)",
        ),
    }
}

/// Whether the hooks on functions are left alone by choice.
pub fn prefers_tracepoints(findings: &Findings) -> bool {
    probe::prefers_tracepoints(
        faults_have_tracepoints(findings),
        findings.undisturbed,
        findings.preemption,
    )
}

/// Whether faults can be seen without fentry: not on arm64, and not without their tracepoints.
fn faults_have_tracepoints(findings: &Findings) -> bool {
    let mut tracepoints = findings.tracepoints.iter();
    tracepoints.any(|one| is_of_faults(one) && !matches!(one.attached, Tried::Refused(_)))
}

fn is_of_faults(tracepoint: &Tracepoint) -> bool {
    tracepoint.name.starts_with("page_fault_")
}

/// A timer.
pub fn timer(findings: &Findings) -> Row {
    let name = "timer";
    trial(name, &findings.timer, "perf events run programs", |why| {
        let remedy = if findings.bpf.works() {
            "take a kernel with CONFIG_PERF_EVENTS=y; in a container allow perf_event_open(2)"
        } else {
            "see bpf"
        };
        Row::lacks(name, &why.words, ALL, remedy)
    })
}

/// The row of a trial without a figure of its own.
fn trial(
    name: &'static str,
    tried: &Tried<()>,
    works: &str,
    refused: impl Fn(&Refusal) -> Row,
) -> Row {
    match tried {
        Tried::Works(()) => Row::ok(name, works),
        Tried::Refused(why) => refused(why),
        Tried::Untried => Row::untried(name),
    }
}

//! The kernel, who memtrace is to it, and what it shows in /proc and /sys.

use super::{ALL, ROOT, Row, SUDO, list};
use crate::{
    doctor::findings::{Findings, Tried},
    kernel::require::{KNOWN_NAMES, Lockdown, is_known, is_old, oldest},
    target::terminal::Tiocsti,
};

/// Its version and the architecture.
pub fn kernel(findings: &Findings) -> Row {
    let name = "kernel";
    let found = format!("Linux {} on {}", findings.release, findings.arch);
    if is_old(&findings.release) {
        Row::lacks(name, found, ALL, format!("take {}", oldest()))
    } else if !is_known(&findings.arch) {
        Row::lacks(name, found, ALL, format!("memtrace runs on {KNOWN_NAMES}"))
    } else if let Err(why) = &findings.pages {
        Row::lacks(name, why, ALL, "boot a kernel with pages of 4 KiB")
    } else {
        Row::ok(name, found)
    }
}

/// Whether memtrace is root.
pub fn root(findings: &Findings) -> Row {
    if findings.root {
        Row::ok(ROOT, "memtrace is root")
    } else {
        Row::lacks(
            ROOT,
            "memtrace is not root",
            format!("{ALL}, and most of what follows was not tried"),
            SUDO,
        )
    }
}

/// Capabilities by their numbers (`include/uapi/linux/capability.h`), and what the lack of each costs.
const CAPABILITIES: [(u32, &str, &str); 5] = [
    // It holds CAP_BPF and CAP_PERFMON (`bpf_capable`, `perfmon_capable`); /proc/self/pagemap wants this one.
    (21, "CAP_SYS_ADMIN", ALL),
    (
        19,
        "CAP_SYS_PTRACE",
        "the lab can't look at a program that runs as another user",
    ),
    (
        34,
        "CAP_SYSLOG",
        "the kernel hides the addresses of its functions: see kallsyms",
    ),
    (
        7,
        "CAP_SETUID",
        "under sudo PROG can't run as the user who typed it",
    ),
    (
        6,
        "CAP_SETGID",
        "under sudo PROG can't run as the user who typed it",
    ),
];

/// The capabilities that memtrace uses.
pub fn capabilities(findings: &Findings) -> Row {
    let name = "capabilities";
    let Some(effective) = findings.capabilities else {
        return Row::unknown(name, "/proc/self/status doesn't show them", "mount /proc");
    };
    if !findings.initial_users {
        return Row::lacks(
            name,
            "those of a user namespace of its own: root in there is no root to the kernel",
            ALL,
            "run it outside, where root is the machine's (no rootless container, no unshare --user)",
        )
        .needed();
    }
    if !findings.root {
        let found = format!("{effective:#x}: memtrace is not root");
        return Row::lacks(name, found, ALL, SUDO);
    }
    let (has, lacks): (Vec<_>, Vec<_>) = CAPABILITIES
        .into_iter()
        .partition(|(number, ..)| effective >> number & 1 == 1);
    let names = |some: &[(u32, &'static str, &str)]| {
        list(&some.iter().map(|(_, name, _)| *name).collect::<Vec<_>>())
    };
    if lacks.is_empty() {
        return Row::ok(name, names(&has));
    }
    let mut costs: Vec<&str> = lacks.iter().map(|(.., costs)| *costs).collect();
    costs.dedup();
    let remedy = "give memtrace these capabilities (a container: --cap-add, or --privileged)";
    let found = format!("without {}", names(&lacks));
    let row = Row::lacks(name, found, costs.join("; "), remedy);
    if lacks.iter().any(|(.., costs)| *costs == ALL) {
        row.needed()
    } else {
        row
    }
}

/// How far the kernel is locked down.
pub fn lockdown(findings: &Findings) -> Row {
    let name = "lockdown";
    match findings.lockdown {
        Lockdown::None => Row::ok(name, "none"),
        Lockdown::Integrity => Row::ok(name, "integrity, which lets eBPF read memory"),
        Lockdown::Confidentiality => Row::lacks(
            name,
            "this kernel is locked down for confidentiality, so nothing may read its memory",
            ALL,
            "boot without lockdown=confidentiality; lockdown=integrity is no obstacle",
        )
        .needed(),
        Lockdown::NotThere => Row::ok(name, "this kernel has no such thing"),
        Lockdown::NotShown => Row::unknown(
            name,
            "not shown, as securityfs isn't mounted",
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

/// Whether the addresses of the kernel's functions are shown.
pub fn kallsyms(findings: &Findings) -> Row {
    let name = "kallsyms";
    let costs =
        "the lab can't name the functions that a clone comes through (T1 to T3 among others)";
    let restricted = findings
        .kptr_restrict
        .map_or_else(|| "not there".to_owned(), |value| value.to_string());
    match &findings.symbols {
        Tried::Works(0) if !findings.root => Row::lacks(
            name,
            "/proc/kallsyms hides its addresses from this user",
            costs,
            SUDO,
        ),
        Tried::Works(0) => Row::lacks(
            name,
            format!("/proc/kallsyms hides its addresses (kernel.kptr_restrict is {restricted})"),
            costs,
            if findings.kptr_restrict < Some(2) {
                "give memtrace CAP_SYSLOG, in the initial user namespace"
            } else {
                "sysctl kernel.kptr_restrict=1"
            },
        ),
        Tried::Works(shown) => Row::ok(name, format!("/proc/kallsyms shows {shown} functions")),
        Tried::Refused(why) => Row::lacks(
            name,
            format!("/proc/kallsyms can't be read: {}", why.words),
            costs,
            "take a kernel with CONFIG_KALLSYMS=y, and mount /proc",
        ),
        Tried::Untried => Row::untried(name),
    }
}

/// Whether process ids are those of the initial namespace, and /proc's.
pub fn pid_namespace(findings: &Findings) -> Row {
    let name = "pid-namespace";
    let pids = &findings.pids;
    if pids.shown != Some(pids.own) {
        let shown = pids
            .shown
            .map_or_else(|| "not there".to_owned(), |pid| format!("process {pid}"));
        return Row::lacks(
            name,
            format!("memtrace is process {}, in /proc it is {shown}", pids.own),
            "attach and the lab would take one process for another",
            "mount there the /proc of this pid namespace, as \"unshare --mount-proc\" does",
        );
    }
    if pids.initial {
        return Row::ok(name, "the initial one");
    }
    let depth = match &findings.direct_map {
        Tried::Works(found) => format!(" ({} deep)", found.pid_level),
        Tried::Refused(_) | Tried::Untried => String::new(),
    };
    Row::ok(
        name,
        format!("a container's{depth}: ids are those inside, JSON has the outer ones beside them"),
    )
}

/// How many CPUs there are.
pub fn cpus(findings: &Findings) -> Row {
    match &findings.cpus {
        Ok((online, possible)) => {
            Row::ok("cpus", format!("{online} switched on, {possible} possible"))
        }
        Err(why) => Row::lacks("cpus", why, ALL, "mount sysfs on /sys").needed(),
    }
}

/// Whether a program may push characters into its terminal.
pub fn terminal(findings: &Findings) -> Row {
    let name = "terminal";
    let remedy = match findings.pushing {
        Tiocsti::Refused => {
            return Row::ok(name, "a program can't push characters into its terminal");
        }
        Tiocsti::Granted => "sysctl dev.tty.legacy_tiocsti=0",
        Tiocsti::Always => "take Linux 6.2 or later, and set sysctl dev.tty.legacy_tiocsti=0",
    };
    Row::lacks(
        name,
        "the kernel lets a program push characters into its terminal (TIOCSTI)",
        "a program that --user runs as someone else has a session of its own: no /dev/tty, and no job control",
        remedy,
    )
}

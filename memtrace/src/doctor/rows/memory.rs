//! Reading memory and page tables, and the main job, which needs all of it.

use super::{ALL, Row};
use crate::{
    doctor::findings::{Copied, Findings, Job, Tried},
    kernel::require::Lockdown,
};

/// What to do about memory that can't be read.
fn unlock(findings: &Findings) -> &'static str {
    match findings.lockdown {
        Lockdown::Confidentiality => "boot without lockdown=confidentiality",
        Lockdown::NotShown => {
            "boot without lockdown=confidentiality, if that is it (this kernel doesn't show whether it is locked down)"
        }
        Lockdown::None | Lockdown::NotThere | Lockdown::Integrity => {
            "a policy (a security module) forbids it, which only its owner can change"
        }
    }
}

/// The helper that reads the kernel's memory.
pub fn kernel_reads(findings: &Findings) -> Row {
    let name = "kernel-reads";
    match &findings.kernel_reads {
        Tried::Works(()) => Row::ok(name, "bpf_probe_read_kernel is there"),
        Tried::Refused(why) if findings.bpf.works() => {
            Row::lacks(name, &why.words, ALL, unlock(findings))
        }
        Tried::Refused(why) => Row::lacks(name, &why.words, ALL, "see bpf"),
        Tried::Untried => Row::untried(name),
    }
}

/// The frames of memtrace's own pages.
pub fn frames(findings: &Findings) -> Row {
    let name = "frames";
    match &findings.frames {
        Tried::Works(zero) => Row::ok(
            name,
            format!("/proc/self/pagemap shows them (the zero page is {zero:#x})"),
        ),
        Tried::Refused(why) => Row::lacks(
            name,
            &why.words,
            ALL,
            "give memtrace CAP_SYS_ADMIN, on a kernel with CONFIG_PROC_PAGE_MONITOR=y",
        ),
        Tried::Untried => Row::untried(name),
    }
}

/// Where the kernel has all memory.
pub fn direct_map(findings: &Findings) -> Row {
    let name = "direct-map";
    match &findings.direct_map {
        Tried::Works(found) => Row::ok(
            name,
            format!(
                "at {:#x}, {} levels of page tables, struct page at {:#x}",
                found.base, found.levels, found.vmemmap
            ),
        ),
        Tried::Refused(why) => {
            let types = findings.btf.as_ref();
            let complete = types.is_ok_and(|types| types.missing.is_empty());
            let before = [
                ("btf", complete),
                ("bpf", findings.bpf.works()),
                ("kernel-reads", findings.kernel_reads.works()),
                ("frames", findings.frames.works()),
            ];
            let remedy = before.iter().find(|(_, works)| !works).map_or_else(
                || unlock(findings).to_owned(),
                |(row, _)| format!("see {row}"),
            );
            Row::lacks(name, &why.words, ALL, remedy)
        }
        Tried::Untried => Row::untried(name),
    }
}

/// A small program, traced.
pub fn main_job(findings: &Findings) -> Row {
    let name = "main-job";
    match &findings.job {
        Tried::Works(Job { copied, backend }) => {
            let Copied {
                address,
                before,
                after,
            } = copied;
            Row::ok(
                name,
                format!(
                    "a program forked and wrote: the copy of the page at {address:#x} was seen, frame {before:#x} -> \
                     {after:#x} (backend {})",
                    backend.name()
                ),
            )
        }
        Tried::Refused(why) => Row::lacks(
            name,
            format!(
                "a program that forks and writes could not be traced: {}",
                why.words
            ),
            ALL,
            "if no check above lacks, the fault is memtrace's: report it, with what \"memtrace run -v true\" says",
        ),
        Tried::Untried => Row::untried(name),
    }
}

//! What only the lab gets.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use crate::trace::event::{BirthDetail, Return, SwitchIn, SwitchOut};

pub(super) fn born(out: &mut impl Write, born: &BirthDetail) -> io::Result<()> {
    let BirthDetail {
        child_tid,
        task,
        kernel_stack,
        ..
    } = born;
    write!(
        out,
        "{child_tid} has {} and {}; its parent has {} and {}",
        Numbered("task", task.child),
        Numbered("kernel-stack", kernel_stack.child),
        Numbered("task", task.parent),
        Numbered("kernel-stack", kernel_stack.parent),
    )
}

pub(super) fn runs(out: &mut impl Write, runs: &SwitchIn) -> io::Result<()> {
    let SwitchIn {
        cpu,
        task,
        kernel_stack,
        mm,
        tls,
        ref policy,
        nice,
        rt_priority,
    } = *runs;
    write!(
        out,
        "gets CPU {cpu}: {}, {}, {}, thread pointer {tls}",
        Numbered("task", task),
        Numbered("kernel-stack", kernel_stack),
        Numbered("mm", mm),
    )?;
    if let Some(policy) = policy {
        write!(out, ", {policy}")?;
    }
    match nice {
        Some(_) if rt_priority > 0 => write!(out, ", priority {rt_priority}"),
        Some(nice) => write!(out, ", nice {nice}"),
        None => Ok(()),
    }
}

pub(super) fn rests(out: &mut impl Write, rests: &SwitchOut) -> io::Result<()> {
    let why = if rests.runnable {
        "it could go on, but another has to run"
    } else {
        "it waits, or has ended"
    };
    write!(out, "leaves CPU {}: {why}", rests.cpu)
}

pub(super) fn returned(out: &mut impl Write, returned: &Return) -> io::Result<()> {
    let Return {
        call,
        in_child,
        ret,
        ip,
    } = returned;
    let who = if *in_child { "child" } else { "parent" };
    write!(
        out,
        "{call} returns {ret} in the {who}, which goes on at {ip}"
    )
}

/// An object by its number, `task#3`.
struct Numbered(&'static str, Option<u32>);

impl Display for Numbered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(name, number) = self;
        match number {
            Some(number) => write!(f, "{name}#{number}"),
            None => write!(f, "no known {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::output::{as_text, samples};

    #[test]
    fn each_has_its_words() {
        let events = samples::experiment().into_iter();
        let lines: Vec<_> = events
            .map(|what| as_text(&samples::event(1, 1234, what), 0, false))
            .filter_map(|line| Some(line.split_once("[1234]  ")?.1.to_owned()))
            .collect();
        expect![[r"
            born  1235 has task#2 and no known kernel-stack; its parent has task#1 and kernel-stack#1
            runs  gets CPU 1: task#2, kernel-stack#2, mm#3, thread pointer 0x7f1234567740, SCHED_OTHER, nice 5
            runs  gets CPU 1: task#2, kernel-stack#2, mm#3, thread pointer 0x7f1234567740, SCHED_FIFO, priority 10
            runs  gets CPU 1: task#2, no known kernel-stack, no known mm, thread pointer 0x7f1234567740
            rests  leaves CPU 0: it could go on, but another has to run
            rests  leaves CPU 0: it waits, or has ended
            return  fork returns 1235 in the parent, which goes on at 0x7f123456789a
            return  fork returns 0 in the child, which goes on at 0x7f123456789a"]]
        .assert_eq(&lines.join("\n"));
    }
}

//! T9: a process on Windows.

use crate::lab::claim::{Claim, Method};

pub const CLAIM: Claim = Claim {
    id: "T9",
    short: "on Windows a process is a container of threads",
    book: "Unix, and Linux above all, has processes and threads that are much alike. On Windows a process is a mere \
           container, and the thread is what is light.",
    experiment: "None.",
    expected: &[],
    read: &[],
    method: Method::Never(
        "This is a claim about another operating system. memtrace looks into the Linux kernel that it runs on, and \
         nothing that happens there tells how Windows works.",
    ),
};

//! The cases of the kernel's own test of copy-on-write (`tools/testing/selftests/mm/cow.c`), each as its frames say.

use anyhow::{Result, ensure};
use tests::harness::{Trace, faults_as_counted, without};
use tests::subject::cow_memory::SORTS;

const CASES: [&str; 8] = [
    "Basic COW after fork()",
    "Basic COW after fork() with mprotect() optimization",
    "vmsplice() + unmap in child",
    "vmsplice() + unmap in child with mprotect() optimization",
    "vmsplice() before fork(), unmap in parent after fork()",
    "vmsplice() + unmap in parent after fork()",
    "R/O-mapping a page registered as iouring fixed buffer",
    "fork() with an iouring fixed buffer",
];

/// The others, and what the write comes to, or the read before it.
const OTHERS: [(&str, &str, &str); 12] = [
    (
        "Basic COW after fork() when collapsing before fork()",
        "cow-copy",
        "anon",
    ),
    (
        "Basic COW after fork() when collapsing after fork() (fully shared)",
        "",
        "anon",
    ),
    (
        "Basic COW after fork() when collapsing after fork() (lower shared)",
        "",
        "anon",
    ),
    (
        "Basic COW after fork() when collapsing after fork() (upper shared)",
        "",
        "anon",
    ),
    ("Basic COW ... with shared zeropage", "cow-zero", "anon"),
    ("Basic COW ... with huge zeropage", "cow-zero", "anon"),
    ("read of memfd", "file-map", "file"),
    ("read of memfd hugetlb", "file-map", "file"),
    ("read of tmpfile", "file-map", "file"),
    ("Basic COW ... with memfd", "cow-copy", "file"),
    ("Basic COW ... with memfd hugetlb", "cow-copy", "file"),
    ("Basic COW ... with tmpfile", "cow-copy", "file"),
];

// Its cases of a page that is pinned to be read only ("R/O GUP pin on ...") need a kernel with CONFIG_GUP_TEST.

#[test]
fn each_case_of_the_kernels_own_test() -> Result<()> {
    let trace = Trace::run(["cow-cases"])?;
    let mut wrong = Vec::new();
    let mut done = 0;
    let mut check = |name: &str, kind: &str, region: &str| {
        if without(&trace, name) {
            return;
        }
        done += 1;
        if let Err(error) = is_right(&trace, name, kind, region) {
            wrong.push(format!("{name}: {error:#}"));
        }
    };
    for sort in SORTS {
        for case in CASES {
            check(&format!("{case} ... with {sort}"), "", "anon");
        }
    }
    for (name, kind, region) in OTHERS {
        check(name, kind, region);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Base pages and what is not anonymous are everywhere.
    ensure!(done >= 11, "{done} cases");
    Ok(())
}

/// The fault is of this kind; if none is given, of the one that the page's frames say.
fn is_right(trace: &Trace, name: &str, kind: &str, region: &str) -> Result<()> {
    let touch = trace.touches(name)?[0];
    let kind = match (kind, touch.before) {
        ("", None) => "swap-in",
        ("", before) if before == touch.after => "cow-reuse",
        ("", _) => "cow-copy",
        (kind, _) => kind,
    };
    if let Some(seen) = faults_as_counted(trace, name, kind, region)?
        && kind == "cow-copy"
    {
        // By a parent and a child, or by the writer and another mapping of the file, if they still map it.
        let count = seen.fault.cause.as_ref().and_then(|cause| cause.map_count);
        ensure!(
            count.is_some_and(|count| (1..=2).contains(&count)),
            "{:?}",
            seen.event
        );
    }
    Ok(())
}

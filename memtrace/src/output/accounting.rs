//! The account in words: what the kernel counted, what was seen of it, and what was lost.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::colour::Palette;
use super::wording::{Count, Counted};
use crate::trace::event::{Account, End, Name};

/// Writes the account.
pub(super) fn write(out: &mut impl Write, end: &End, palette: Palette) -> io::Result<()> {
    let total = &end.total;
    let counted = total.min_flt + total.maj_flt;
    let seen = counted.saturating_add_signed(-total.unobserved);
    let faults = Count(counted, "page fault");
    writeln!(
        out,
        "\nThe kernel counted {faults} ({} minor, {} major).",
        total.min_flt, total.maj_flt
    )?;
    if total.unobserved_by.is_empty() && total.unobserved == 0 {
        writeln!(out, "memtrace saw every one of them.")?;
    } else {
        writeln!(out, "memtrace saw {seen} of them. The others were taken")?;
        unobserved(out, total, palette)?;
    }
    let faults: u64 = total.faults.values().sum();
    if let Some(uncounted @ 1..) = faults.checked_sub(seen) {
        let uncounted = Count(uncounted, "fault");
        writeln!(
            out,
            "It also saw {uncounted} that the kernel does not count."
        )?;
    }
    if total.before_exec != 0 {
        let faults = Count(total.before_exec, "fault");
        writeln!(
            out,
            "Not among these: {faults} of memtrace's own child, before it became the program."
        )?;
    }
    let alive = end.processes.iter().filter(|process| process.alive).count() as u64;
    if alive != 0 {
        let alive = Count(alive, "process");
        writeln!(out, "{alive} still ran; the kernel goes on counting.")?;
    }
    if end.late != 0 {
        let late = Count(end.late, "fault");
        writeln!(out, "{late} took so long that others were shown first.")?;
    }
    lost(out, &end.lost, palette)?;
    missed(out, &end.missed, palette)
}

/// A line for each reason why the kernel counted faults that were not seen.
fn unobserved(out: &mut impl Write, total: &Account, palette: Palette) -> io::Result<()> {
    let mut unexplained = total.unobserved;
    for (reason, &count) in &total.unobserved_by {
        let what = match &**reason {
            "unexplained" => continue,
            "kernel" => "by the kernel outside any system call, without an exception".to_owned(),
            "execve" | "execveat" => format!(
                "by the kernel in {reason}, without an exception: the new program's arguments"
            ),
            call => format!("by the kernel in {call}, without an exception"),
        };
        unexplained -= count;
        writeln!(out, "{count:>9}  {what}")?;
    }
    if unexplained != 0 {
        let alarm = palette.alarm();
        writeln!(
            out,
            "{alarm}{unexplained:>9}  for reasons that memtrace does not know{alarm:#}"
        )?;
    }
    Ok(())
}

fn lost(out: &mut impl Write, lost: &BTreeMap<Name, u64>, palette: Palette) -> io::Result<()> {
    let count = lost.values().sum();
    if count == 0 {
        return writeln!(out, "No record was lost.");
    }
    let alarm = palette.alarm();
    let by_kind = Counted(lost);
    writeln!(
        out,
        "{alarm}LOST: {} ({by_kind}).{alarm:#} What is shown is incomplete, but for the kernel's count. \
         Use --summary, a larger --buffer, or -o FILE on a fast disk.",
        Count(count, "record")
    )
}

/// Says nothing if there is nothing to say: only few kernels leave hooks out.
fn missed(
    out: &mut impl Write,
    missed: &BTreeMap<String, u64>,
    palette: Palette,
) -> io::Result<()> {
    if missed.is_empty() {
        return Ok(());
    }
    let alarm = palette.alarm();
    writeln!(
        out,
        "{alarm}LEFT OUT: {} ({}).{alarm:#} The kernel switched tasks in the middle of a hook, and didn't call it for \
         those that came by meanwhile, traced or not: what is shown may be incomplete.",
        Count(missed.values().sum(), "hook"),
        Counted(missed)
    )
}

#[cfg(test)]
#[expect(
    clippy::needless_raw_string_hashes,
    reason = "expect-test writes them so"
)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::output::samples::{account, end, plain};

    fn text(end: &End) -> String {
        plain(|out, palette| write(out, end, palette))
    }

    #[test]
    fn all_seen() {
        let mut end = end(vec![account(1, 10)]);
        end.total.unobserved = 0;
        end.total.unobserved_by.clear();
        end.total.faults.remove("invalid");
        end.total.min_flt -= 24;
        expect![[r#"

            The kernel counted 75 page faults (75 minor, 0 major).
            memtrace saw every one of them.
            No record was lost.
        "#]]
        .assert_eq(&text(&end));
    }

    #[test]
    fn some_were_taken_without_an_exception() {
        let mut end = end(vec![account(1, 10), account(2, 10)]);
        end.total.unobserved += 2;
        end.total.unobserved_by.insert("read".into(), 2);
        end.total.before_exec = 40;
        end.total.maj_flt += 2;
        expect![[r#"

                The kernel counted 200 page faults (198 minor, 2 major).
                memtrace saw 150 of them. The others were taken
                       48  by the kernel in execve, without an exception: the new program's arguments
                        2  by the kernel in read, without an exception
                It also saw 2 faults that the kernel does not count.
                Not among these: 40 faults of memtrace's own child, before it became the program.
                No record was lost.
            "#]]
        .assert_eq(&text(&end));
    }

    #[test]
    fn what_is_not_explained_is_said() {
        let mut end = end(vec![account(1, 10)]);
        end.total.unobserved += 3;
        end.total.min_flt += 3;
        expect![[r#"

                The kernel counted 102 page faults (102 minor, 0 major).
                memtrace saw 75 of them. The others were taken
                       24  by the kernel in execve, without an exception: the new program's arguments
                        3  for reasons that memtrace does not know
                It also saw 1 fault that the kernel does not count.
                No record was lost.
            "#]]
        .assert_eq(&text(&end));
        end.total.unobserved_by = [("unexplained".into(), -3)].into();
        end.total.unobserved = -3;
        expect![[r#"

                The kernel counted 102 page faults (102 minor, 0 major).
                memtrace saw 105 of them. The others were taken
                       -3  for reasons that memtrace does not know
                No record was lost.
            "#]]
        .assert_eq(&text(&end));
    }

    #[test]
    fn losses_are_loud() {
        let mut end = end(vec![account(1, 10)]);
        end.lost = [("fault".into(), 12), ("call".into(), 5)].into();
        end.processes[0].alive = true;
        end.late = 1;
        end.missed = [("sys_exit".to_owned(), 40), ("task_newtask".to_owned(), 1)].into();
        expect![[r#"

                The kernel counted 99 page faults (99 minor, 0 major).
                memtrace saw 75 of them. The others were taken
                       24  by the kernel in execve, without an exception: the new program's arguments
                It also saw 1 fault that the kernel does not count.
                1 process still ran; the kernel goes on counting.
                1 fault took so long that others were shown first.
                LOST: 17 records (5 call, 12 fault). What is shown is incomplete, but for the kernel's count. Use --summary, a larger --buffer, or -o FILE on a fast disk.
                LEFT OUT: 41 hooks (40 sys_exit, 1 task_newtask). The kernel switched tasks in the middle of a hook, and didn't call it for those that came by meanwhile, traced or not: what is shown may be incomplete.
            "#]]
        .assert_eq(&text(&end));
    }
}

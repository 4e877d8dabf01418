//! The account in words: what the kernel counted, what was seen of it, and what was lost.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::colour::Palette;
use super::wording::{Count, List};
use crate::trace::event::End;

/// Writes the account.
pub(super) fn write(out: &mut impl Write, end: &End, palette: Palette) -> io::Result<()> {
    let alarm = palette.alarm();
    let total = &end.total;
    let counted = total.min_flt + total.maj_flt;
    writeln!(
        out,
        "\nThe kernel counted {} ({} minor, {} major).",
        Count(counted, "page fault"),
        total.min_flt,
        total.maj_flt
    )?;

    let explained: i64 = total.unobserved_by.values().sum();
    let reasons = List(
        total
            .unobserved_by
            .iter()
            .filter(|&(_, &count)| count != 0)
            .map(|(reason, count)| format!("{count} {reason}{}", meaning(reason))),
    );
    let seen = counted.saturating_add_signed(-total.unobserved);
    match total.unobserved {
        0 => writeln!(out, "memtrace saw every one of them.")?,
        _ if explained != 0 => writeln!(
            out,
            "memtrace saw {seen} of them; {explained} others were taken without an exception: {reasons}."
        )?,
        _ => writeln!(out, "memtrace saw {seen} of them.")?,
    }
    match total.unobserved - explained {
        0 => {}
        more @ 1.. => writeln!(out, "{alarm}{more} of them are not explained.{alarm:#}")?,
        fewer => writeln!(
            out,
            "{alarm}memtrace saw {} too many: they are not explained.{alarm:#}",
            fewer.unsigned_abs()
        )?,
    }
    let faults: u64 = total.faults.values().sum();
    if let Some(uncounted @ 1..) = faults.checked_sub(seen) {
        writeln!(
            out,
            "It also saw {} that the kernel does not count.",
            Count(uncounted, "fault")
        )?;
    }
    let alive = end.processes.iter().filter(|process| process.alive).count() as u64;
    if alive != 0 {
        writeln!(
            out,
            "{} still ran; the kernel goes on counting.",
            Count(alive, "process")
        )?;
    }
    if end.late != 0 {
        writeln!(
            out,
            "{} took so long that others were shown first.",
            Count(end.late, "fault")
        )?;
    }
    lost(out, &end.lost, palette)
}

/// What a fault without an exception was for, where one can tell.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "execve" | "execveat" => " (the new program's arguments)",
        _ => "",
    }
}

fn lost(
    out: &mut impl Write,
    lost: &BTreeMap<&'static str, u64>,
    palette: Palette,
) -> io::Result<()> {
    let count = lost.values().sum();
    if count == 0 {
        return writeln!(out, "No record was lost.");
    }
    let alarm = palette.alarm();
    let by_kind = List(lost.iter().map(|(kind, count)| format!("{count} {kind}")));
    writeln!(
        out,
        "{alarm}LOST: {} ({by_kind}).{alarm:#} What is shown is incomplete. \
         Use --summary, or -o FILE on a fast disk.",
        Count(count, "record")
    )
}

#[cfg(test)]
#[expect(
    clippy::needless_raw_string_hashes,
    reason = "expect-test writes them so"
)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::output::samples::{account, end};

    fn check(end: &End, expected: &Expect) {
        let mut out = Vec::new();
        write(&mut out, end, Palette::new(false)).expect("a Vec takes everything");
        expected.assert_eq(&String::from_utf8(out).expect("UTF-8"));
    }

    #[test]
    fn all_seen() {
        let mut end = end(vec![account(1, 10)]);
        end.total.unobserved = 0;
        end.total.unobserved_by.clear();
        end.total.faults.remove("invalid");
        end.total.min_flt -= 24;
        check(
            &end,
            &expect![[r#"

            The kernel counted 75 page faults (75 minor, 0 major).
            memtrace saw every one of them.
            No record was lost.
        "#]],
        );
    }

    #[test]
    fn some_were_taken_without_an_exception() {
        let mut end = end(vec![account(1, 10), account(2, 10)]);
        end.total.unobserved += 2;
        end.total.unobserved_by.insert("read", 2);
        end.total.maj_flt += 2;
        check(
            &end,
            &expect![[r#"

                The kernel counted 200 page faults (198 minor, 2 major).
                memtrace saw 150 of them; 50 others were taken without an exception: 48 execve (the new program's arguments), 2 read.
                It also saw 2 faults that the kernel does not count.
                No record was lost.
            "#]],
        );
    }

    #[test]
    fn what_is_not_explained_is_said() {
        let mut end = end(vec![account(1, 10)]);
        end.total.unobserved += 3;
        end.total.min_flt += 3;
        check(
            &end,
            &expect![[r#"

                The kernel counted 102 page faults (102 minor, 0 major).
                memtrace saw 75 of them; 24 others were taken without an exception: 24 execve (the new program's arguments).
                3 of them are not explained.
                It also saw 1 fault that the kernel does not count.
                No record was lost.
            "#]],
        );
        end.total.unobserved_by.clear();
        end.total.unobserved = -3;
        check(
            &end,
            &expect![[r#"

            The kernel counted 102 page faults (102 minor, 0 major).
            memtrace saw 105 of them.
            memtrace saw 3 too many: they are not explained.
            No record was lost.
        "#]],
        );
    }

    #[test]
    fn losses_are_loud() {
        let mut end = end(vec![account(1, 10)]);
        end.lost = [("fault", 12), ("call", 5)].into();
        end.processes[0].alive = true;
        end.late = 1;
        check(
            &end,
            &expect![[r#"

                The kernel counted 99 page faults (99 minor, 0 major).
                memtrace saw 75 of them; 24 others were taken without an exception: 24 execve (the new program's arguments).
                It also saw 1 fault that the kernel does not count.
                1 process still ran; the kernel goes on counting.
                1 fault took so long that others were shown first.
                LOST: 17 records (5 call, 12 fault). What is shown is incomplete. Use --summary, or -o FILE on a fast disk.
            "#]],
        );
    }
}

//! All rows together, what they come to, and how it is written.

use super::{all_granted, refused, row, verdict_of, with, without_root};
use crate::doctor::{
    FAILS, WORKS, exit_status,
    report::{json, text},
    rows::{State, rows},
    verdict::verdict,
};

#[test]
fn with_all_granted_every_row_is_ok_and_nothing_is_amiss() {
    let found = all_granted();
    for row in rows(&found) {
        assert_eq!(
            (row.state, &row.costs, &row.remedy),
            (State::Ok, &None, &None),
            "{row:?}"
        );
        assert!(!row.found.is_empty());
    }
    let verdict = verdict_of(&found);
    assert!(
        verdict.cannot.is_empty() && verdict.can.len() == 7,
        "{verdict:?}"
    );
    assert_eq!(exit_status(&found), WORKS);
}

#[test]
fn each_figure_is_shown() {
    for (name, part) in [
        ("kernel", "Linux 6.12.48+deb13-amd64 on x86_64"),
        (
            "btf",
            "/sys/kernel/btf/vmlinux, 5.0 MiB: 100 of 101 offsets and constants; it does without mm_struct.mm_lock_seq",
        ),
        ("tracepoints", "2 of 2"),
        ("frames", "0x1234"),
        (
            "direct-map",
            "at 0xffff888000000000, 4 levels of page tables, struct page at 0xffffea0000000000",
        ),
        ("kallsyms", "90000 functions"),
        ("cpus", "2 switched on, 4 possible"),
        (
            "main-job",
            "0x7000 was seen, frame 0x11 -> 0x22 (backend fentry)",
        ),
    ] {
        let row = row(&all_granted(), name);
        assert!(row.found.contains(part), "{part}: {row:?}");
    }
}

#[test]
fn without_root_each_row_that_needs_it_says_so() {
    let found = without_root();
    let rows = rows(&found);
    for row in &rows {
        let asks = row.remedy.as_deref() == Some("run it with sudo");
        assert_eq!(asks, row.state != State::Ok, "{row:?}");
    }
    let unknown = |name: &str| row(&found, name).state == State::Unknown;
    for name in [
        "bpf",
        "ring-buffer",
        "fentry",
        "preemption",
        "timer",
        "kernel-reads",
        "frames",
        "direct-map",
        "main-job",
    ] {
        assert!(unknown(name), "{name}");
    }
    assert!(
        row(&found, "tracepoints")
            .found
            .starts_with("2 of 2 are in the kernel's types")
    );
    let verdict = verdict(&found, &rows);
    assert!(verdict.can.is_empty() && verdict.cannot.len() == 5);
    assert_eq!(verdict.cannot[0].because, "memtrace is not root");
    assert_eq!(exit_status(&found), FAILS);
}

#[test]
fn a_main_job_that_fails_is_put_down_to_what_it_needs() {
    let found = with(|found| {
        found.frames = refused(1, "frames are hidden");
        found.fentry = refused(1, "no fentry");
        found.job = refused(1, "it is so");
    });
    let verdict = verdict_of(&found);
    assert!(verdict.can.is_empty());
    assert!(
        verdict
            .cannot
            .iter()
            .all(|lack| lack.because == "frames are hidden")
    );
    assert_eq!(exit_status(&found), FAILS);
    // Where all else works, its own reason is left.
    let found = with(|found| found.job = refused(1, "it is so"));
    assert!(
        verdict_of(&found).cannot[0]
            .because
            .ends_with("could not be traced: it is so")
    );
}

#[test]
fn the_text_has_every_row_once_and_nothing_a_terminal_acts_on() {
    let found = with(|found| {
        found.release = "6.12\u{1b}[31m\nok  evil".to_owned();
        found.fentry = refused(1, "the kernel refuses");
    });
    let rows = rows(&found);
    let plain = text(&rows, &verdict(&found, &rows), false);
    assert!(
        plain.chars().all(|c| c == '\n' || !c.is_control()),
        "{plain}"
    );
    for row in &rows {
        let start = format!("{} ", row.state.name());
        let lines = plain.lines().filter(|line| {
            line.strip_prefix(&start)
                .is_some_and(|rest| rest.trim_start().starts_with(&format!("{} ", row.name)))
        });
        assert_eq!(lines.count(), 1, "{row:?}: {plain}");
    }
    assert!(plain.lines().all(|line| line.len() <= 110), "{plain}");
    let coloured = text(&rows, &verdict(&found, &rows), true);
    assert_eq!(
        coloured.matches("\u{1b}[0m").count(),
        rows.len(),
        "{coloured}"
    );
}

#[test]
fn every_field_of_the_json_is_described() {
    let described = include_str!("../SCHEMA.md");
    let mut met = std::collections::BTreeSet::new();
    for found in [all_granted(), without_root()] {
        let rows = rows(&found);
        let json = json(&found, &rows, &verdict(&found, &rows)).expect("JSON");
        assert!(json.ends_with("}\n") && json.lines().count() == 1);
        let whole: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(whole["works"], found.root);
        let lists = [&whole["rows"], &whole["cannot"]].map(|list| list.as_array().expect("a list"));
        let objects = lists.into_iter().flatten().chain([&whole]);
        for (name, _) in objects.flat_map(|object| object.as_object().expect("an object")) {
            assert!(described.contains(&format!("\n| `{name}` |")), "{name}");
            met.insert(name.clone());
        }
        for row in &rows {
            assert!(
                described.contains(&format!("`{}`", row.name)),
                "{}",
                row.name
            );
        }
    }
    assert_eq!(described.matches("\n| `").count(), met.len());
}

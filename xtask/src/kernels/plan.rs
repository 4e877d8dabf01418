//! Which live tests run in the guests. Under emulation memtrace takes seconds to start, so that all tests in each guest
//! would take an hour: those that run show together all that depends on the kernel.

use anyhow::{Result, bail};

use super::catalogue::Plan;

/// What runs of a live test, that is a program of `tests/tests`.
#[derive(Clone, Copy, Debug)]
enum Part {
    All,
    /// These functions; the others show nothing more of the kernel.
    Only(&'static [&'static str]),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

use Part::{All, Nothing, Only};

/// Every live test.
const PARTS: [(&str, Part); 28] = [
    ("cow", All),
    ("kinds", All),
    (
        "cases",
        Only(&[
            "processes_that_share_their_memory",
            "huge_pages",
            "pages_that_ksm_has_merged",
        ]),
    ),
    (
        "accounting",
        Only(&["every_fault_of_a_simple_child_is_seen"]),
    ),
    ("matrix", All),
    ("unshare", All),
    (
        "tasks",
        Only(&[
            "clones_of_every_sort_share_what_kcmp_says",
            "each_end_has_its_code_or_signal",
            "an_exec_in_a_thread_keeps_the_process",
        ]),
    ),
    (
        "held",
        Only(&["a_vfork_holds_the_parent_until_exec_exit_or_a_kill"]),
    ),
    (
        "generations",
        Only(&[
            "every_account_is_what_the_frames_say",
            "every_copy_names_its_fork_and_the_sharers",
        ]),
    ),
    ("maps", All),
    (
        "regions",
        Only(&[
            "the_program_itself",
            "heap_anonymous_memory_files_and_shared_memory",
            "stacks_of_the_first_and_of_other_threads",
            "a_library_and_its_parts",
            "the_vdso",
        ]),
    ),
    (
        "attach",
        Only(&[
            "the_snapshot_is_what_proc_says",
            "what_happens_after_is_told_as_ever",
            "a_fork_before_the_trace_is_blamed_as_such",
        ]),
    ),
    ("container", Only(&["memtrace_in_a_container"])),
    (
        "survival",
        Only(&["memtrace_is_killed_and_the_program_goes_on"]),
    ),
    (
        "lab",
        Only(&["every_claim_is_decided_as_a_linux_of_today_has_it"]),
    ),
    ("lockdown", All),
    (
        "attach_bad",
        Nothing("/proc alone tells what can't be attached to"),
    ),
    (
        "attach_family",
        Nothing("`attach` shows the same of fewer processes"),
    ),
    (
        "attach_output",
        Nothing("what is printed of a trace doesn't depend on the kernel"),
    ),
    ("attach_server", Nothing("there is no redis in a guest")),
    (
        "bad_input",
        Nothing("what is wrong with a command line doesn't depend on the kernel"),
    ),
    (
        "colour",
        Nothing("what is printed of a trace doesn't depend on the kernel"),
    ),
    (
        "inherit",
        Nothing("how a program is started doesn't depend on the kernel"),
    ),
    (
        "options",
        Nothing("what is printed of a trace doesn't depend on the kernel"),
    ),
    (
        "programs",
        Nothing("there is no Python, gcc or git in a guest"),
    ),
    ("redis", Nothing("there is no redis in a guest")),
    ("snapshot", Nothing("there is no redis in a guest")),
    (
        "users",
        Nothing("how a program is started doesn't depend on the kernel"),
    ),
];
/// Those that run in a guest that is a variant of another.
const VARIANT: [&str; 4] = ["cow", "cases", "attach", "lockdown"];
/// Those that run where the kernel refuses what memtrace needs.
const REFUSED: [&str; 1] = ["lockdown"];

/// Seconds that a program may take in a guest.
const LIMIT: u32 = 120;

/// A program that init starts: a row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// The live test that it is.
    pub(crate) test: &'static str,
    pub(crate) arguments: Vec<&'static str>,
}

impl Program {
    /// Its line in the list that init reads.
    pub(crate) fn line(&self) -> String {
        let words = [&[""], &self.arguments[..]].concat().join(" ");
        format!("{} {LIMIT} /tests/{}{words}", self.name, self.test)
    }
}

/// What a guest with that plan runs of the live tests that there are.
pub(crate) fn programs(plan: Plan, tests: &[String]) -> Result<Vec<Program>> {
    for test in tests {
        if !PARTS.iter().any(|(name, _)| name == test) {
            bail!("the live test {test} has no place in xtask/src/kernels/plan.rs: name it there");
        }
    }
    let is_wanted = |name: &str| match plan {
        Plan::All => true,
        Plan::Variant => VARIANT.contains(&name),
        Plan::Refused => REFUSED.contains(&name),
    };
    let wanted = PARTS.iter().filter(|(name, _)| is_wanted(name));
    Ok(wanted
        .filter_map(|&(test, part)| program(test, part))
        .collect())
}

fn program(test: &'static str, part: Part) -> Option<Program> {
    let arguments = match part {
        All => Vec::new(),
        Only(functions) => [&["--exact"], functions].concat(),
        Nothing(_reason) => return None,
    };
    Some(Program {
        name: test.to_owned(),
        test,
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names(plan: Plan) -> Result<Vec<String>> {
        Ok(programs(plan, &[])?
            .into_iter()
            .map(|program| program.name)
            .collect())
    }

    #[test]
    fn every_live_test_has_its_place() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
        let mut there = Vec::new();
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                there.extend(
                    path.file_stem()
                        .map(|name| name.to_string_lossy().into_owned()),
                );
            }
        }
        programs(Plan::All, &there)?;
        for (name, _) in PARTS {
            assert!(there.iter().any(|test| test == name), "{name} is gone");
        }
        Ok(())
    }

    #[test]
    fn a_test_without_a_place_is_named() {
        let error = programs(Plan::All, &["novel".to_owned()]).map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("novel")));
    }

    #[test]
    fn a_plan_has_what_it_names() -> Result<()> {
        assert_eq!(names(Plan::Variant)?, VARIANT);
        assert_eq!(names(Plan::Refused)?, REFUSED);
        assert!(!names(Plan::All)?.contains(&"redis".to_owned()));
        Ok(())
    }

    #[test]
    fn a_line_names_the_functions_that_run() {
        let line = |part| program("cow", part).map(|program| program.line());
        assert_eq!(line(All).as_deref(), Some("cow 120 /tests/cow"));
        assert_eq!(
            line(Only(&["a", "b"])).as_deref(),
            Some("cow 120 /tests/cow --exact a b")
        );
        assert_eq!(line(Nothing("for a reason")), None);
    }
}

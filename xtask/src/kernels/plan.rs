//! Which live tests run in the guests. Under emulation memtrace takes seconds to start, so that all tests in each guest
//! would take an hour: those that run show together all that depends on the kernel.

use std::iter;

/// What runs of the live tests in a file of `tests/tests/live`.
#[derive(Clone, Copy, Debug)]
enum Part {
    All,
    /// These functions; the others show nothing more of the kernel.
    Only(&'static [&'static str]),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

use Part::{All, Nothing, Only};

/// Every file of live tests.
const PARTS: [(&str, Part); 45] = [
    (
        "cow",
        Only(&["the_first_to_write_copies_and_the_last_takes_over"]),
    ),
    ("kinds", All),
    ("special", All),
    ("fault_signals", All),
    ("clear_tid", All),
    ("cow_selftest", All),
    // Most kernels have no budget of their own: there it shows how far the verifier's limit is.
    ("budget", All),
    ("behalf", All),
    (
        "accounting",
        Only(&["every_fault_of_a_simple_child_is_seen"]),
    ),
    (
        "cases",
        Only(&[
            "processes_that_share_their_memory",
            "huge_pages",
            "pages_that_ksm_has_merged",
        ]),
    ),
    ("matrix", Only(&["every_flag_with_all_that_can_be_shared"])),
    (
        "unshare",
        Only(&[
            "unshare_of_every_flag_in_a_process",
            "exec_in_a_process_and_in_a_thread",
        ]),
    ),
    (
        "tasks",
        Only(&[
            "clones_of_every_sort_share_what_kcmp_says",
            "an_exec_in_a_thread_keeps_the_process",
            "a_sibling_has_its_makers_parent_and_signal",
        ]),
    ),
    (
        "clone_times",
        Only(&["a_vfork_holds_the_parent_until_exec_exit_or_a_kill"]),
    ),
    (
        "generations",
        Only(&["every_account_is_what_the_frames_say"]),
    ),
    ("maps", Only(&["calls_that_succeed_and_calls_that_fail"])),
    ("calls", All),
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
        "files",
        Only(&[
            "memory_beside_a_library_is_not_the_librarys",
            "what_a_loader_maps_behind_a_librarys_data_is_its_bss",
            "a_file_has_the_name_that_was_used_until_it_is_renamed",
            "a_task_sees_paths_from_its_own_root",
            "a_program_on_an_overlayfs_is_the_program",
            "a_program_on_an_overlayfs_on_an_overlayfs_is_the_program",
            "a_container_that_is_started",
        ]),
    ),
    (
        "attach",
        Only(&[
            "the_snapshot_is_what_proc_says",
            "what_happens_after_is_told_as_ever",
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
    ("doctor", Only(&["as_root_the_main_job_works"])),
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
    // Before 5.11 what eBPF has loaded counts as locked memory, whose limit is raised for it.
    ("inherit", Only(&["limits_niceness_and_processors"])),
    (
        "options",
        Nothing("what is printed of a trace doesn't depend on the kernel"),
    ),
    (
        "programs",
        Nothing("there is no Python, gcc or git in a guest"),
    ),
    (
        "readme",
        Nothing("what is printed of a trace doesn't depend on the kernel"),
    ),
    ("redis", Nothing("there is no redis in a guest")),
    ("snapshot", Nothing("there is no redis in a guest")),
    (
        "users",
        Nothing("how a program is started doesn't depend on the kernel"),
    ),
    ("vast", All),
    // What the end of a trace needs is kept in maps of the kernel's.
    (
        "load",
        Only(&[
            "the_kernels_count_is_right_whatever_is_lost",
            "so_it_is_with_summary",
        ]),
    ),
    (
        "starting",
        Nothing("each start takes seconds under emulation, and it is about the first tenth of one"),
    ),
    (
        "stops",
        Nothing("how a program is stopped doesn't depend on the kernel"),
    ),
    (
        "fatal_signals",
        Nothing("which signals memtrace outlives doesn't depend on the kernel"),
    ),
    ("terminal", Only(&["a_stranger_can_not_type_there"])),
    (
        "output_file",
        Nothing("where a trace is written to doesn't depend on the kernel"),
    ),
];
/// Those that run once for each backend; the others run with the one that memtrace chooses.
const BY_BACKEND: [&str; 11] = [
    "cow",
    "kinds",
    "special",
    "accounting",
    "fault_signals",
    "clear_tid",
    "calls",
    "regions",
    "files",
    "inherit",
    "budget",
];

/// Which of the tests a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// All that guests run.
    All,
    /// These.
    Only(&'static [&'static str]),
}

/// In a guest that is a variant of another: those that show that memtrace works at all.
pub(crate) const VARIANT: Plan = Plan::Only(&["cow", "cases", "attach", "lockdown"]);
/// In one whose kernel switches tasks in its own work: what that has memtrace do without.
pub(crate) const PREEMPT: Plan = Plan::Only(&["cow", "cases", "attach", "doctor"]);
/// In one with several nodes of memory: where pages may move from one to the other.
pub(crate) const NODES: Plan = Plan::Only(&["cow", "special"]);
/// Where the kernel refuses what memtrace needs: those that show how memtrace says that it can't work.
pub(crate) const REFUSED: Plan = Plan::Only(&["lockdown"]);
/// What every change has to pass: the most of the kernel in a few minutes. (The lab alone takes two under emulation.)
pub(crate) const CHANGE: Plan =
    Plan::Only(&["cow", "kinds", "special", "cases", "generations", "attach"]);

/// Seconds that a program may take in a guest: far more than it needs on a busy machine, and more than what it starts may
/// take, so that this is named.
pub(crate) const LIMIT: u32 = 900;

/// A run of the live tests: a row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// Which tests it runs.
    pub(crate) arguments: Vec<String>,
    /// What memtrace is told to observe page faults by.
    pub(crate) backend: Option<&'static str>,
}

impl Program {
    /// Its line in the list that init reads.
    pub(crate) fn line(&self) -> String {
        let backend = self
            .backend
            .map(|name| format!("/bin/env {BACKEND}={name} "));
        let backend = backend.unwrap_or_default();
        let arguments = self.arguments.join(" ");
        format!("{} {LIMIT} {backend}/bin/live {arguments}", self.name)
    }
}

/// The variable that tells the tests of a backend.
pub(crate) const BACKEND: &str = "MEMTRACE_BACKEND";

/// What runs of the live tests on a kernel that has these backends.
pub(crate) fn programs(plan: Plan, backends: &[&'static str]) -> Vec<Program> {
    let is_wanted = |name: &str| match plan {
        Plan::All => true,
        Plan::Only(tests) => tests.contains(&name),
    };
    let mut programs = Vec::new();
    for &(test, part) in PARTS.iter().filter(|(name, _)| is_wanted(name)) {
        if BY_BACKEND.contains(&test) {
            let by = |&backend| program(test, part, Some(backend));
            programs.extend(backends.iter().filter_map(by));
        } else {
            programs.extend(program(test, part, None));
        }
    }
    programs
}

fn program(test: &'static str, part: Part, backend: Option<&'static str>) -> Option<Program> {
    let arguments = match part {
        All => vec![format!("{test}::")],
        Only(functions) => {
            let names = functions.iter().map(|name| format!("{test}::{name}"));
            iter::once("--exact".to_owned()).chain(names).collect()
        }
        Nothing(_reason) => return None,
    };
    let name = backend.map_or(test.to_owned(), |backend| format!("{test}/{backend}"));
    Some(Program {
        name,
        arguments,
        backend,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use anyhow::{Result, bail};

    use super::*;

    fn names(plan: Plan) -> Vec<String> {
        let programs = programs(plan, &["fentry"]).into_iter();
        programs.map(|program| program.name).collect()
    }

    #[test]
    fn every_live_test_has_its_place() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests/live");
        let mut there = Vec::new();
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if fs::read_to_string(&path)?.contains("#[test]") {
                let name = path.file_stem().unwrap_or_default();
                there.push(name.to_string_lossy().into_owned());
            }
        }
        for test in &there {
            let is_placed = PARTS.iter().any(|(name, _)| name == test);
            assert!(is_placed, "name {test} in xtask/src/kernels/plan.rs");
        }
        for (name, _) in PARTS {
            assert!(there.iter().any(|test| test == name), "{name} is gone");
        }
        Ok(())
    }

    #[test]
    fn no_name_ends_like_another() {
        // `All` asks for the tests with `name::` in their names.
        for (name, _) in PARTS {
            let same = PARTS.iter().filter(|(other, _)| other.ends_with(name));
            assert_eq!(same.count(), 1, "{name}");
        }
    }

    #[test]
    fn a_plan_has_what_it_names() -> Result<()> {
        assert_eq!(
            names(VARIANT),
            ["cow/fentry", "cases", "attach", "lockdown"]
        );
        assert_eq!(names(REFUSED), ["lockdown"]);
        for plan in [VARIANT, NODES, REFUSED, CHANGE] {
            let Plan::Only(tests) = plan else {
                bail!("it has all");
            };
            assert_eq!(names(plan).len(), tests.len(), "{tests:?}");
        }
        assert!(!names(Plan::All).contains(&"redis".to_owned()));
        Ok(())
    }

    #[test]
    fn a_line_names_the_functions_and_the_backend() {
        let line = |part, backend| program("cow", part, backend).map(|program| program.line());
        assert_eq!(line(All, None).as_deref(), Some("cow 900 /bin/live cow::"));
        assert_eq!(
            line(Only(&["a", "b"]), Some("fentry")).as_deref(),
            Some("cow/fentry 900 /bin/env MEMTRACE_BACKEND=fentry /bin/live --exact cow::a cow::b")
        );
        assert_eq!(line(Nothing("for a reason"), None), None);
    }
}

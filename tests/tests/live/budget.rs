//! What the hooks may cost, as counts that are the same at each run: `tests/budget.json` says what each number is.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::fs;

use anyhow::{Context, Result, ensure};
use memtrace_ebpf::record::{Fault, Handled};
use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};
use tests::harness::{AttachTarget, Attached, Memtrace};

use crate::bpf::{Program, Written, programs};

const FILE: &str = include_str!("../../budget.json");
/// Percent that a number may be above its budget; of instructions that were verified, too: little changes in a hook move the points
/// at which the verifier finds that it has been there before.
const ABOVE: u32 = 3;
const VERIFIED_ABOVE: u32 = 10;
/// Percent that a number may be below its budget before that is to be lowered.
const BELOW: u32 = 15;
/// What that number is called.
const VERIFIED: &str = "verified";
/// The hooks that a fault goes through.
const OF_FAULTS: [&str; 3] = ["page_fault", "handle_enter", "handle_leave"];
/// Bytes before each record in the ring buffer (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER: u64 = 8;

#[derive(Debug, Deserialize)]
struct Budget {
    any_kernel: Limits,
    fault_bytes: BTreeMap<String, u32>,
    hooks: BTreeMap<String, Hooks>,
}

/// What holds for each hook on kernels that have no budget of their own.
#[derive(Debug, Deserialize)]
struct Limits {
    instructions: u32,
    verified: u32,
    calls: u32,
}

type Hooks = BTreeMap<String, Figures>;

/// The numbers of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Figures {
    instructions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    calls: BTreeMap<String, u32>,
}

impl Budget {
    fn read() -> Result<Self> {
        serde_json::from_str(FILE).context("tests/budget.json")
    }

    /// What is not as it should be, a line each.
    fn wrong(&self, key: &str, measured: &Hooks) -> Vec<String> {
        let Some(budget) = self.hooks.get(key) else {
            return self.any_kernel.exceeded(measured);
        };
        let names: BTreeSet<_> = budget.keys().chain(measured.keys()).collect();
        let mut wrong = Vec::new();
        for name in names {
            match (measured.get(name), budget.get(name)) {
                (Some(measured), Some(budget)) => wrong.extend(measured.beside(budget, name)),
                (Some(_), None) => wrong.push(format!("{name} has no budget")),
                (None, _) => wrong.push(format!("{name} has a budget, and isn't loaded")),
            }
        }
        wrong
    }
}

impl Limits {
    fn exceeded(&self, measured: &Hooks) -> Vec<String> {
        let numbers = measured.iter().flat_map(|(name, hook)| {
            let calls = hook.calls.values().sum();
            [
                (name, "instructions", hook.instructions, self.instructions),
                (name, VERIFIED, hook.verified.unwrap_or(0), self.verified),
                (name, "calls", calls, self.calls),
            ]
        });
        numbers
            .filter(|(_, _, number, limit)| number > limit)
            .map(|(name, what, number, limit)| {
                format!("{name}, {what}: {number}, and on no kernel more than {limit}")
            })
            .collect()
    }
}

impl Figures {
    fn of(program: Program) -> Self {
        let is_of_faults = OF_FAULTS.contains(&&*program.name);
        let calls = program.calls.into_iter();
        Self {
            instructions: program.instructions,
            verified: program.verified,
            calls: calls
                .filter(|(_, count)| is_of_faults && *count > 0)
                .collect(),
        }
    }

    fn numbers(&self) -> BTreeMap<String, u32> {
        let calls = self.calls.iter();
        let calls = calls.map(|(function, count)| (format!("calls in {function}"), *count));
        let verified = self.verified.map(|count| (VERIFIED.to_owned(), count));
        calls
            .chain(verified)
            .chain([("instructions".to_owned(), self.instructions)])
            .collect()
    }

    /// Where they aren't in their budget.
    fn beside(&self, budget: &Self, hook: &str) -> Vec<String> {
        let (measured, budget) = (self.numbers(), budget.numbers());
        let names: BTreeSet<_> = measured.keys().chain(budget.keys()).collect();
        let wrong = names.into_iter().filter_map(|name| {
            // A function that calls nothing has no number.
            let number = |of: &BTreeMap<_, _>| of.get(name).copied().unwrap_or(0);
            let (measured, budget) = (number(&measured), number(&budget));
            let above = if name == VERIFIED {
                VERIFIED_ABOVE
            } else {
                ABOVE
            };
            let what = if measured > budget + budget * above / 100 {
                "make it less, or say in the commit why it is worth it"
            } else if measured < budget - budget * BELOW / 100 {
                "lower the budget"
            } else {
                return None;
            };
            Some(format!(
                "{hook}, {name}: {measured} for a budget of {budget}: {what}"
            ))
        });
        wrong.collect()
    }
}

/// How the budget of these hooks is written, a line for each.
fn written(key: &str, hooks: &Hooks) -> Result<String> {
    let lines: Vec<_> = hooks
        .iter()
        .map(|(name, hook)| Ok(format!("      {name:?}: {}", serde_json::to_string(hook)?)))
        .collect::<Result<_>>()?;
    Ok(format!("    {key:?}: {{\n{}\n    }}", lines.join(",\n")))
}

/// Compares the hooks that memtrace has with these options.
fn compare(options: &[&str]) -> Result<()> {
    let memtrace = Memtrace::new()?.options(options).with_json();
    let (running, go_on) = memtrace.start_patient()?;
    let programs = programs(running.pid())?;
    fs::write(go_on, "")?;
    running.finish()?;
    let hooks: Hooks = programs
        .into_iter()
        .map(|program| (program.name.clone(), Figures::of(program)))
        .collect();
    let key = key(&hooks, options)?;
    let wrong = Budget::read()?.wrong(&key, &hooks);
    ensure!(
        wrong.is_empty(),
        "{}\nWhat tests/budget.json would have of it:\n{}",
        wrong.join("\n"),
        written(&key, &hooks)?
    );
    Ok(())
}

/// What the budget depends on: the running kernel's series, the architecture, which hooks are loaded, and the options.
fn key(hooks: &Hooks, options: &[&str]) -> Result<String> {
    let name = uname()?;
    let release = name.release().to_string_lossy();
    let series: Vec<_> = release.splitn(3, '.').take(2).collect();
    let series = series.join(".");
    let backend = if hooks.contains_key("handle_enter") {
        "fentry"
    } else {
        "tracepoints"
    };
    // It is loaded where the kernel may leave hooks on tracepoints out.
    let preempt = hooks.contains_key("sched_wakeup_new").then_some("preempt");
    let words = [&series, ARCH, backend].into_iter().chain(preempt);
    let words: Vec<_> = words.chain(options.iter().copied()).collect();
    Ok(words.join(" "))
}

#[test]
fn each_hook_keeps_to_its_budget() -> Result<()> {
    compare(&[])
}

#[test]
fn so_it_does_with_summary() -> Result<()> {
    compare(&["--summary"])
}

#[test]
fn the_record_of_a_fault_keeps_to_its_budget() -> Result<()> {
    let sizes = [
        ("tracepoints".to_owned(), size_of::<Fault>() as u32),
        ("fentry".to_owned(), size_of::<Handled>() as u32),
    ];
    assert_eq!(Budget::read()?.fault_bytes, sizes.into());
    Ok(())
}

/// A record of another kind for each would show, or one in two places. Few faults have such: where the thread leaves its CPU.
#[test]
fn a_fault_is_one_record() -> Result<()> {
    let mut program = AttachTarget::start("faults")?;
    let count = program.until("count")?.as_u64().context("a number")?;
    let attached = Attached::to(Memtrace::new()?, &[program.pid()])?;
    let by_name = programs(attached.pid())?;
    let handled = by_name.iter().any(|hook| hook.name == "handle_enter");
    let record = if handled {
        size_of::<Handled>()
    } else {
        size_of::<Fault>()
    } as u64;

    let written = Written::by(attached.pid())?;
    let before = written.bytes()?;
    program.work()?;
    let bytes = written.bytes()? - before;
    let most = (record + RING_HEADER) * count * 11 / 10;
    ensure!(
        (record * count..=most).contains(&bytes),
        "{bytes} bytes for {count} faults, each with a record of {record}"
    );
    attached.interrupt()?;
    program.finish()
}

#[test]
fn a_number_beside_its_budget() -> Result<()> {
    let budget: Budget = serde_json::from_str(
        r#"{
            "any_kernel": {"instructions": 500, "verified": 1000, "calls": 6},
            "fault_bytes": {},
            "hooks": {"here": {"tick": {"instructions": 100, "verified": 200, "calls": {"tick": 5}}}}
        }"#,
    )?;
    let wrong = |key, instructions, verified, calls: &[(&str, u32)]| {
        let calls = calls.iter().map(|&(name, count)| (name.to_owned(), count));
        let figures = Figures {
            instructions,
            verified,
            calls: calls.collect(),
        };
        budget
            .wrong(key, &[("tick".to_owned(), figures)].into())
            .len()
    };
    assert_eq!(wrong("here", 100, Some(200), &[("tick", 5)]), 0);
    assert_eq!(wrong("here", 103, Some(220), &[("tick", 5)]), 0);
    assert_eq!(wrong("here", 104, Some(221), &[("tick", 6)]), 3);
    assert_eq!(wrong("here", 85, Some(170), &[("tick", 5)]), 0);
    assert_eq!(wrong("here", 84, Some(169), &[("tick", 4)]), 3);
    assert_eq!(wrong("here", 84, None, &[("tick", 4)]), 3);
    assert_eq!(wrong("here", 100, Some(200), &[("other", 5)]), 2);
    assert_eq!(
        wrong("there", 500, Some(1000), &[("tick", 3), ("other", 3)]),
        0
    );
    assert_eq!(wrong("there", 501, None, &[("tick", 7)]), 2);
    assert_eq!(budget.wrong("here", &Hooks::new()).len(), 1);
    assert_eq!(
        budget
            .wrong("here", &[("new".to_owned(), Figures::default())].into())
            .len(),
        2
    );
    Ok(())
}

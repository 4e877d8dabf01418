//! What becomes one line, and what doesn't.

use expect_test::expect_file;

use super::*;
use crate::output::colour::Palette;
use crate::output::samples::{
    self, PLAIN, Page, account, by_fork, copies, end, event, exit, fault,
};
use crate::output::sink::Out;
use crate::output::text::Text;
use crate::output::wording;
use crate::output::{Format, Options};
use crate::trace::event::{
    Access, Address, Cause, Counted, CowCause, EventKind, Fault, FaultKind, ForkRef, Mode, Region,
};

fn folded(events: &[Event]) -> String {
    let options = Options {
        fold: true,
        ..PLAIN
    };
    samples::written(Format::Text, options, events, &end(vec![]))
}

/// The lines of events.
fn lines(events: &[Event]) -> Vec<String> {
    let text = folded(events);
    let events = text.lines().skip(2).take_while(|line| !line.is_empty());
    events.map(str::to_owned).collect()
}

#[test]
fn runs_become_lines() {
    let mut events = copies(0..128);
    events.extend(copies((40..50).rev()));
    events.push(event(2500, 1235, EventKind::Exit(exit(0))));
    events.extend(copies(std::iter::once(7)));
    let shared = |event: Event| {
        let EventKind::Fault(fault) = event.what else {
            unreachable!("copies are faults")
        };
        let counted = (fault.addr.0 & 0x1000 == 0).then_some(Counted::Minor);
        Event {
            what: EventKind::Fault(Fault {
                pfn_before: None,
                pfn_after: Some(5),
                counted,
                ..fault
            }),
            ..event
        }
    };
    events.extend(copies(100..103).into_iter().map(shared));
    expect_file!["../snapshots/folded.txt"].assert_eq(&folded(&events));
}

#[test]
fn anything_unlike_ends_a_run() {
    type Change = fn(&mut Event, &mut Fault);
    let changes: [(&str, Change); 10] = [
        ("pid", |event, _| event.pid += 1),
        ("tid", |event, _| event.tid += 1),
        ("comm", |event, _| event.comm = "other".into()),
        ("kind", |_, fault| fault.kind = FaultKind::CowReuse),
        ("access", |_, fault| fault.access = Access::Read),
        ("mode", |_, fault| fault.mode = Mode::Kernel),
        ("region", |_, fault| fault.region = Region::Anon),
        ("file", |_, fault| fault.file = Some("/tmp/a".into())),
        ("late", |_, fault| fault.late = 1),
        ("place", |_, fault| fault.addr.0 += 4096),
    ];
    assert_eq!(lines(&copies(0..2)).len(), 1);
    for (name, change) in changes {
        let mut events = copies(0..2);
        let mut other = events.remove(1);
        let EventKind::Fault(mut fault) = other.what.clone() else {
            unreachable!("copies are faults")
        };
        change(&mut other, &mut fault);
        other.what = EventKind::Fault(fault);
        events.push(other);
        assert_eq!(lines(&events).len(), 2, "{name}");
    }
}

/// Copies of neighbouring pages, each with its cause.
fn caused(causes: &[Cause]) -> Vec<Event> {
    let mut events = copies(0..causes.len() as u64);
    for (event, cause) in events.iter_mut().zip(causes) {
        if let EventKind::Fault(fault) = &mut event.what {
            fault.cause = Some(cause.clone().into());
        }
    }
    events
}

#[test]
fn copies_of_one_fork_are_a_run_whoever_shares_them() {
    let fork = |ago| {
        let fork = by_fork().fork?;
        Some(ForkRef { ago, ..fork })
    };
    let first = by_fork();
    let later = Cause {
        fork: fork(2_000_000),
        ..by_fork()
    };
    let others = Cause {
        sharers: vec![1300, 1301],
        sharer_count: 2,
        map_count: Some(4),
        ..by_fork()
    };
    let alone = Cause {
        sharers: vec![],
        sharer_count: 0,
        map_count: Some(1),
        ..by_fork()
    };
    let run = |causes: &[Cause]| {
        let lines = lines(&caused(causes));
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    };
    let shared = "page copied, shared by fork #3 (1234 -> 1235) 1.2 ms ago; still mapped ";
    for (causes, expected) in [
        (&[first.clone(), later][..], "by 1234 (map count 2)"),
        (
            &[first.clone(), others][..],
            "by 1 to 2 traced processes, and outside the trace (map count 2 to 4)",
        ),
        (
            &[first, alone][..],
            "by 0 to 1 traced processes (map count 1 to 2)",
        ),
    ] {
        let line = run(causes);
        assert!(line.contains(&format!("{shared}{expected}  [")), "{line}");
    }
}

#[test]
fn copies_of_two_forks_or_causes_are_no_run() {
    let mut other_fork = by_fork();
    other_fork.fork = other_fork.fork.map(|fork| ForkRef { number: 4, ..fork });
    let reference = Cause {
        cause: CowCause::Reference,
        ..by_fork()
    };
    for other in [other_fork, reference] {
        assert_eq!(lines(&caused(&[by_fork(), other])).len(), 2);
    }
}

/// A handler that returns is called again and again.
#[test]
fn like_faults_at_one_page_are_a_run() {
    let refused = |ip| {
        event(
            1,
            1,
            EventKind::Fault(Fault {
                addr: Address(0x10),
                ip: Address(ip),
                kind: FaultKind::Invalid,
                region: Region::Unmapped,
                pfn_after: None,
                counted: None,
                signal: Some(11),
                ..fault()
            }),
        )
    };
    let mut events = vec![refused(0x40_1000); 600];
    events.push(refused(0x40_2000));
    let lines = lines(&events);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let told = "write to 0x10           600 times (unmapped): not allowed, ends in SIGSEGV  \
                [by the instruction at 0x401000, not counted, until ";
    assert!(lines[0].contains(told), "{}", lines[0]);
}

#[test]
fn what_tells_nothing_new_ends_no_run() {
    let mut events = copies(0..4);
    let quiet = |event: &Event| !wording::tells(&event.what);
    let quiet: Vec<_> = samples::story().into_iter().filter(quiet).collect();
    assert_eq!(quiet.len(), 2);
    events.splice(2..2, quiet);
    assert_eq!(lines(&events).len(), 1);
}

#[test]
fn the_ends_of_the_address_space_are_no_neighbours() {
    let at = |addr| {
        event(
            1,
            1,
            EventKind::Fault(Fault {
                addr: Address(addr),
                ..fault()
            }),
        )
    };
    assert_eq!(lines(&[at(u64::MAX), at(0)]).len(), 2);
    assert_eq!(lines(&[at(0), at(u64::MAX)]).len(), 2);
}

#[test]
fn a_flush_ends_a_run_only_when_it_is_old() {
    let page = Page::default();
    let text = Text::new(Out::new(page.writer()), Palette::new(false));
    let mut fold = Fold::new(text);
    let write = |fold: &mut Fold<_>, events: &[Event], now| {
        events
            .iter()
            .try_for_each(|event| fold.event(event))
            .expect("a writer that doesn't fail");
        fold.flush(now).expect("a writer that doesn't fail");
    };
    write(&mut fold, &copies(0..3), 7);
    write(&mut fold, &copies(3..4), 6 + PATIENCE);
    assert_eq!(page.text(), "");
    write(&mut fold, &copies(4..6), 7 + PATIENCE);
    assert!(page.text().contains("6 pages"), "{}", page.text());
    write(&mut fold, &copies(6..7), 8 + PATIENCE);
    assert_eq!(page.text().lines().count(), 2, "{}", page.text());
    write(&mut fold, &copies(6..7), 8 + 2 * PATIENCE);
    assert_eq!(page.text().lines().count(), 3, "{}", page.text());
}

#[test]
fn the_account_comes_after_the_last_run() {
    let options = Options {
        fold: true,
        ..PLAIN
    };
    let text = samples::written(
        Format::Text,
        options,
        &copies(0..3),
        &end(vec![account(1, 3)]),
    );
    assert!(text.find("3 pages") < text.find("The kernel counted"));
}

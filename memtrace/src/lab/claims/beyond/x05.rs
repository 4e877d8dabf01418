//! X5: malloc's two ways, and what free gives back.

use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, EventKind},
};

pub const CLAIM: Claim = Claim {
    id: "X5",
    short: "malloc: small by brk, large by mmap; free returns it",
    book: "malloc has two ways to memory. Small blocks come from the heap, whose end it moves up with brk; a large \
           block, of 128 KiB or more, gets a mapping of its own with mmap. free gives the memory back: a large block \
           with munmap, and what is free at the top of the heap by moving its end down.",
    experiment: "A program takes 64 blocks of 16 KiB and frees them. It does so again, but takes one more block last, \
                 which lies above the others, and frees that one last. Then it takes and frees a block of 4 MiB, twice.",
    expected: &[Verdict::Qualified],
    read: &[
        "mm/mmap.c: the system call brk - moves the end of the heap",
        "glibc, malloc/malloc.c: sysmalloc - chooses between brk and mmap",
        "glibc, malloc/malloc.c: systrim, munmap_chunk - give memory back",
        "mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, and that free moves both",
    ],
    method: Method::Experiment {
        program: "mallocs",
        judge,
    },
};

/// Marks of the program.
const UNDER: &str = "freed all but the one above";
const TOP: &str = "freed the one above";
const LARGE: &str = "large block";
const GONE: &str = "large block freed";
const AGAIN: &str = "large block again";

/// What happened between two marks.
struct Step<'a> {
    /// Calls that moved the end of the heap up, and down.
    up: Vec<&'a Event>,
    down: Vec<&'a Event>,
    mapped: Vec<&'a Event>,
    unmapped: Vec<&'a Event>,
}

/// What the book says, and whether it was so.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Facts {
    small_by_brk: bool,
    top_back: bool,
    /// Free memory below a block in use.
    under_back: bool,
    large_by_mmap: bool,
    large_back: bool,
    again_by_mmap: bool,
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mut evidence = Evidence::default();
    let [small_by_brk, top_back, under_back] = small(seen, &mut evidence)?;
    let [large_by_mmap, large_back, again_by_mmap] = large(seen, &mut evidence)?;
    let facts = Facts {
        small_by_brk,
        top_back,
        under_back,
        large_by_mmap,
        large_back,
        again_by_mmap,
    };
    check(seen, &mut evidence, facts)?;
    decide(evidence, facts)
}

/// Whether small blocks come by brk, what is free at the top goes back, and what is free below a block in use does.
fn small(seen: &Observed, evidence: &mut Evidence) -> Result<[bool; 3], Undecided> {
    let taken = between(seen, "start", "small blocks", 0)?;
    tell(
        evidence,
        "For 64 blocks of 16 KiB the end of the heap was moved up",
        &taken.up,
    );
    let freed = between(seen, "small blocks", "small blocks freed", 0)?;
    tell(
        evidence,
        "When all were freed it was moved down",
        &freed.down,
    );
    let under = between(seen, "small blocks and one above", UNDER, 0)?;
    tell(
        evidence,
        "When they were freed a second time, with a block above them that was still in use, it was moved down",
        &under.down,
    );
    let top = between(seen, UNDER, TOP, 0)?;
    tell(
        evidence,
        "When that one was freed as well it was moved down",
        &top.down,
    );
    Ok([&taken.up, &freed.down, &under.down].map(|events| !events.is_empty()))
}

/// Whether a large block comes by mmap, goes back, and comes by mmap again.
fn large(seen: &Observed, evidence: &mut Evidence) -> Result<[bool; 3], Undecided> {
    let block = seen.mark(LARGE)?.value("block")?;
    let again = seen.mark(AGAIN)?.value("block")?;
    let taken = between(seen, TOP, LARGE, block)?;
    tell(
        evidence,
        "For the block of 4 MiB a mapping was made",
        &taken.mapped,
    );
    let freed = between(seen, LARGE, GONE, block)?;
    tell(
        evidence,
        "When it was freed the mapping was removed",
        &freed.unmapped,
    );
    let second = between(seen, GONE, AGAIN, again)?;
    tell(
        evidence,
        "For the second block of 4 MiB a mapping was made",
        &second.mapped,
    );
    tell(
        evidence,
        "For it the end of the heap was moved up",
        &second.up,
    );
    Ok([&taken.mapped, &freed.unmapped, &second.mapped].map(|events| !events.is_empty()))
}

/// The kernel's own list of mappings must tell the same.
fn check(seen: &Observed, evidence: &mut Evidence, facts: Facts) -> Result<(), Undecided> {
    for mark in &seen.marks {
        let (listed, moved) = (heaps_end(mark), last_end(seen, mark));
        if listed.is_some() && listed != moved {
            return Err(Undecided::Contradiction(format!(
                "at \"{}\" /proc/PID/maps shows the end of the heap where the last call of brk had put it",
                mark.name
            )));
        }
    }
    let (large, gone) = (seen.mark(LARGE)?, seen.mark(GONE)?);
    let block = large.value("block")?;
    let own_mapping = large
        .mapping(block)
        .is_some_and(|mapping| mapping.name != "[heap]");
    evidence
        .say("Checked: at each step /proc/PID/maps shows the end of the heap where the last call of brk had put it")
        .agree(
            own_mapping == facts.large_by_mmap && gone.mapping(block).is_none() == facts.large_back,
            format!(
                "/proc/PID/maps shows the first block of 4 MiB {} the heap, and {} after it was freed",
                if facts.large_by_mmap { "outside" } else { "in" },
                if facts.large_back {
                    "nothing there"
                } else {
                    "its mapping still"
                },
            ),
        )?;
    Ok(())
}

fn decide(evidence: Evidence, facts: Facts) -> Result<Finding, Undecided> {
    let ways = [facts.small_by_brk, facts.large_by_mmap, facts.again_by_mmap];
    let frees = [facts.top_back, facts.under_back, facts.large_back];
    let count = |facts: [bool; 3]| facts.into_iter().filter(|fact| *fact).count();
    let figure = format!("{} of 3 frees gave memory back", count(frees));
    match count(ways) + count(frees) {
        6 => evidence.decide(
            Verdict::Confirmed,
            figure,
            "Small blocks came from the heap and large ones from mappings of their own, and each free gave the memory \
             back.",
        ),
        0 => evidence.decide(
            Verdict::Refuted,
            figure,
            "Neither did the blocks come in these ways, nor did free give any memory back.",
        ),
        _ => evidence.decide(Verdict::Qualified, figure, why(facts)),
    }
}

/// Where it is otherwise than the book says.
fn why(facts: Facts) -> String {
    let mut why = String::from(if facts.small_by_brk && facts.large_by_mmap {
        "The two ways are there, but not as fixed as said."
    } else {
        "This C library has other ways to memory."
    });
    if facts.top_back && !facts.under_back {
        why += " The heap can only be cut off at its top: one block in use there keeps everything that is free below \
                it.";
    }
    if facts.large_by_mmap && !facts.again_by_mmap {
        why += " And 128 KiB is only where malloc starts: when a mapped block is freed, it takes blocks of that size \
                from the heap from then on, as the program seems to need such ones again and again.";
    }
    if !facts.top_back || !facts.large_back {
        why += " Not all that was freed at the top, or had a mapping of its own, was given back.";
    }
    why
}

fn between<'a>(
    seen: &'a Observed,
    from: &str,
    to: &str,
    block: u64,
) -> Result<Step<'a>, Undecided> {
    let (from, to) = (seen.mark(from)?, seen.mark(to)?);
    let mut step = Step {
        up: Vec::new(),
        down: Vec::new(),
        mapped: Vec::new(),
        unmapped: Vec::new(),
    };
    let of_program = |event: &&Event| event.pid == from.pid && (from.ts..to.ts).contains(&event.ts);
    for event in seen.events.iter().filter(of_program) {
        match &event.what {
            EventKind::Brk(brk) if brk.new > brk.old => step.up.push(event),
            EventKind::Brk(brk) if brk.new < brk.old => step.down.push(event),
            EventKind::Mmap(mmap) if (mmap.addr.0..mmap.addr.0 + mmap.len).contains(&block) => {
                step.mapped.push(event);
            }
            EventKind::Munmap(range)
                if range.ret == 0 && (range.addr.0..range.addr.0 + range.len).contains(&block) =>
            {
                step.unmapped.push(event);
            }
            _ => {}
        }
    }
    Ok(step)
}

/// Says how often something was done, and shows the first and the last time.
fn tell(evidence: &mut Evidence, what: &str, events: &[&Event]) {
    match events {
        [] => evidence.say(format!("{what}: never.")),
        [one] => evidence.say(format!("{what}:")).event(one),
        [first, .., last] => evidence
            .say(format!(
                "{what}, {} times. The first and the last time:",
                events.len()
            ))
            .event(first)
            .event(last),
    };
}

/// The end of the heap, by /proc/PID/maps.
fn heaps_end(mark: &Mark) -> Option<u64> {
    let maps = mark.snapshot.maps.iter();
    maps.filter(|mapping| mapping.name == "[heap]")
        .map(|mapping| mapping.end)
        .max()
}

/// The end of the heap, by the last call of brk before this mark.
fn last_end(seen: &Observed, mark: &Mark) -> Option<u64> {
    seen.events
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            EventKind::Brk(brk) if event.pid == mark.pid && event.ts < mark.ts => Some(brk.new.0),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::{observed::Mapping, story::Story},
        trace::event::{Address, Brk, By, Mmap, Range, Returned},
    };

    /// Tells what malloc and free do.
    struct Program {
        story: Story,
        end: u64,
        mapped: Option<u64>,
    }

    impl Program {
        fn brk(&mut self, new: u64) {
            let old = Address(std::mem::replace(&mut self.end, new));
            self.story.event(
                1,
                EventKind::Brk(Brk {
                    old,
                    new: Address(new),
                }),
            );
        }

        fn mmap(&mut self, addr: u64) {
            self.mapped = Some(addr);
            let mmap = Mmap {
                addr: Address(addr),
                len: 0x1000,
                prot: Vec::new(),
                flags: Vec::new(),
                file: None,
                offset: None,
                ret: Returned::Address(Address(addr)),
                by: By::Call,
                region: None,
                resident: None,
                private: None,
            };
            self.story.event(1, EventKind::Mmap(mmap));
        }

        fn munmap(&mut self, addr: u64) {
            self.mapped = None;
            self.story.event(
                1,
                EventKind::Munmap(Range {
                    addr: Address(addr),
                    len: 0x1000,
                    ret: 0,
                }),
            );
        }

        fn mark(&mut self, name: &str, block: u64) {
            let mapping = |start, end, name: &str| Mapping {
                start,
                end,
                name: name.to_owned(),
                ..Mapping::default()
            };
            let snapshot = self.story.mark(1, name, &[("block", block)]);
            snapshot.maps = vec![mapping(0x1000, self.end, "[heap]")];
            snapshot
                .maps
                .extend(self.mapped.map(|addr| mapping(addr, addr + 0x1000, "")));
        }
    }

    /// Whether the things of the book happen: by brk, the top back, what is under a block back; by mmap, back, and again.
    fn story([by_brk, top_back, under_back, by_mmap, large_back, again]: [bool; 6]) -> Observed {
        let mut program = Program {
            story: Story::default(),
            end: 0,
            mapped: None,
        };
        let block = |mapped| if mapped { 0x7000_0000 } else { 0x1800 };
        program.brk(0x2000);
        program.mark("start", 0);
        if by_brk {
            program.brk(0x9000);
        }
        program.mark("small blocks", 0);
        if top_back {
            program.brk(0x1000);
        }
        program.mark("small blocks freed", 0);
        program.brk(0x9000);
        program.mark("small blocks and one above", 0);
        if under_back {
            program.brk(0x4000);
        }
        program.mark("freed all but the one above", 0);
        program.mark("freed the one above", 0);
        if by_mmap {
            program.mmap(block(true));
        }
        program.mark("large block", block(by_mmap));
        if large_back {
            program.munmap(block(by_mmap));
        }
        program.mark("large block freed", 0);
        if again {
            program.mmap(block(true));
        }
        program.mark("large block again", block(again));
        program.mark("large block freed again", 0);
        program.story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let finding = |facts| judge(&story(facts)).expect("decided");
        let today = finding([true, true, false, true, true, false]);
        assert_eq!(today.verdict, Verdict::Qualified);
        assert_eq!(today.figure, "2 of 3 frees gave memory back");
        assert_eq!(finding([true; 6]).verdict, Verdict::Confirmed);
        assert_eq!(finding([false; 6]).verdict, Verdict::Refuted);
        assert!(
            finding([false, true, true, true, true, true])
                .why
                .contains("other ways")
        );
    }

    #[test]
    fn maps_must_agree() {
        let alter: [fn(&mut Observed); 3] = [
            |seen| seen.marks[1].snapshot.maps[0].end = 0x8000,
            |seen| seen.marks[6].snapshot.maps[1].name = "[heap]".to_owned(),
            |seen| {
                seen.marks[7].snapshot.maps.push(Mapping {
                    start: 0x7000_0000,
                    end: 0x7000_1000,
                    ..Mapping::default()
                });
            },
        ];
        for alter in alter {
            let mut seen = story([true, true, false, true, true, false]);
            alter(&mut seen);
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}

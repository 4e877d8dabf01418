//! L8: how blocks are aligned.

use super::place::Place;
use crate::{
    lab::{
        claim::{Claim, Evidence, Finding, Method, Undecided, Verdict},
        observed::Observed,
    },
    trace::event::Region,
};

pub const CLAIM: Claim = Claim {
    id: "L8",
    short: "allocated blocks are aligned",
    book: "The blocks that malloc gives are aligned, so that any variable in them can be accessed at once.",
    experiment: "A program asks malloc for blocks of 24 sizes, from 1 byte to 3 million, most of them odd, and fills each.",
    expected: &[Verdict::Confirmed],
    read: &[
        "man 3 malloc: \"suitably aligned for any type that fits into the requested size or less\"",
        "the C standard, 7.22.3 and 6.2.8: max_align_t, the strictest alignment of any type",
    ],
    method: Method::Experiment {
        program: "allocate",
        judge,
    },
};

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let mark = seen.mark("many sizes")?;
    let most = mark.value("most")?;
    let blocks: Vec<_> = mark
        .values
        .iter()
        .filter_map(|(key, &address)| {
            Some((key.strip_prefix("of_")?.parse::<u64>().ok()?, address))
        })
        .collect();
    if blocks.is_empty() || most == 0 {
        return Err(Undecided::because("the program gave no block"));
    }
    let mut evidence = Evidence::default();
    let (mut in_heap, mut mapped) = (0, Vec::new());
    for &(_, address) in &blocks {
        match Place::of(seen, mark.pid, address, mark.ts)?.region {
            Region::Heap => in_heap += 1,
            _ => mapped.push(address),
        }
    }
    evidence.say(format!(
        "Of the {} blocks {in_heap} are in the heap, {} in mappings of their own.",
        blocks.len(),
        mapped.len()
    ));
    let digits: Vec<_> = blocks
        .iter()
        .map(|(size, address)| format!("{size}: {address:#x}"))
        .collect();
    evidence.say(format!("Sizes and addresses: {}.", digits.join(", ")));
    for &address in &mapped {
        let touch = seen
            .faults_at(mark.pid, address)
            .find(|(_, fault)| fault.addr.0 == address);
        if let Some((event, _)) = touch {
            evidence
                .say("The first write to a mapped block shows its address; before it, in the same page, malloc keeps its size:")
                .event(event);
        }
    }
    evidence.agree(
        blocks.iter().all(|&(size, address)| {
            mark.mapping(address).is_some_and(|mapping| {
                mapping.perms.starts_with("rw") && address + size <= mapping.end
            })
        }),
        "each block lies as a whole in a mapping of /proc/PID/maps that can be written",
    )?;

    let multiples = |of: u64| {
        blocks
            .iter()
            .filter(|(_, address)| address % of == 0)
            .count()
    };
    let word = size_of::<usize>() as u64;
    let figure = format!(
        "{} of {} at multiples of {most}",
        multiples(most),
        blocks.len()
    );
    if multiples(most) == blocks.len() {
        evidence.decide(
            Verdict::Confirmed,
            figure,
            format!(
                "All addresses are multiples of {most}, which is the strictest alignment that any type of C needs here. \
                 It costs a little: a block of 1 byte takes as much as one of {most}."
            ),
        )
    } else if multiples(word) == blocks.len() {
        evidence.decide(
            Verdict::Qualified,
            figure,
            format!("All addresses are multiples of {word}, a pointer's size, but not of {most}, which some types need."),
        )
    } else {
        evidence.decide(
            Verdict::Refuted,
            figure,
            format!("Some blocks lie at addresses that are not even multiples of {word}."),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{claims::layout::place::told, observed::Mapping, story::Story};

    fn story(addresses: [u64; 2]) -> Observed {
        let mut story = Story::default();
        told::program(&mut story, 1);
        let values = [
            ("most", 16),
            ("of_1", addresses[0]),
            ("of_100", addresses[1]),
        ];
        story.mark(1, "many sizes", &values).maps = vec![Mapping {
            start: 0x9000,
            end: 0xa000,
            perms: "rw-p".into(),
            ..Mapping::default()
        }];
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |addresses| judge(&story(addresses)).expect("decided").verdict;
        assert_eq!(verdict([0x9010, 0x9030]), Verdict::Confirmed);
        assert_eq!(verdict([0x9010, 0x9038]), Verdict::Qualified);
        assert_eq!(verdict([0x9011, 0x9030]), Verdict::Refuted);
    }

    #[test]
    fn blocks_must_be_where_the_trace_and_maps_have_memory() {
        let mut seen = story([0x9010, 0x9030]);
        seen.marks[0].look.maps[0].end = 0x9040;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        assert!(matches!(
            judge(&story([0x9010, 0xb000])),
            Err(Undecided::NotHere(_))
        ));
    }
}

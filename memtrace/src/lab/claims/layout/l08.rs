//! L8: how blocks are aligned.

use super::extent::Extent;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
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
    let mut blocks: Vec<_> = mark
        .values
        .iter()
        .filter_map(|(key, &address)| {
            Some((key.strip_prefix("of_")?.parse::<u64>().ok()?, address))
        })
        .collect();
    if blocks.is_empty() || most == 0 {
        return Err(Undecided::because("the program gave no block"));
    }
    blocks.sort_unstable();
    let mut evidence = Evidence::default();
    let mut places = Vec::new();
    for &(size, address) in &blocks {
        places.push((size, Extent::of(seen, mark.pid, address, mark.ts)?));
    }
    let (in_heap, mapped): (Vec<_>, Vec<_>) = places
        .iter()
        .partition(|(_, extent)| extent.region == Region::Heap);
    let list: Vec<_> = blocks
        .iter()
        .map(|(size, address)| format!("{size}: {address:#x}"))
        .collect();
    evidence.say(format!(
        "Of the {} blocks {} are in the heap, {} in mappings of their own. Their sizes and addresses: {}.",
        blocks.len(),
        in_heap.len(),
        mapped.len(),
        list.join(", ")
    ));
    for (size, extent) in &mapped {
        evidence
            .say(format!(
                "The mapping of the block of {size} bytes; before the block malloc keeps its size there:"
            ))
            .event(extent.event);
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
                 That costs a little: a small block takes more room than was asked for."
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
    use crate::lab::{claims::layout::extent::told, observed::Mapping, story::Story};

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
        seen.marks[0].snapshot.maps[0].end = 0x9040;
        assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        assert!(matches!(
            judge(&story([0x9010, 0xb000])),
            Err(Undecided::NotHere(_))
        ));
    }
}

//! Who does what, one step after the other.

use std::ops::Range;

use tests::subject::chance::Chance;

use Area::{Anon, Own, Part, Whole};
use Step::{Discard, Exec, Exit, Fork, Grow, Leave, Move, Over, Reap, Unmap, Write, WriteInThread};

/// How many processes there are at most.
pub const MOST: usize = 12;

/// Memory to do it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Anonymous memory: written up to page 330, read up to 340, then untouched.
    Anon,
    /// A file's pages, all written.
    Whole,
    /// A file's pages: written up to page 20, read up to 40, then untouched.
    Part,
    /// The first process's own: 20 pages that children don't get, and 20 that they get empty. All written.
    Own,
}

/// What a process does.
#[derive(Debug, Clone)]
pub enum Step {
    Fork(usize),
    Write(Area, Range<usize>),
    WriteInThread(Area, Range<usize>),
    Unmap(Area, Range<usize>),
    Discard(Area, Range<usize>),
    /// Maps fresh memory over them.
    Over(Area, Range<usize>),
    Move(Area, Range<usize>),
    /// Makes them a part of twice as much, which is elsewhere.
    Grow(Area, Range<usize>),
    /// Moves them, and goes on to have empty ones where they were.
    Leave(Area, Range<usize>),
    Exec,
    Exit,
    Reap,
}

/// Process 0 is the first; 4 is the one that execs.
pub fn chosen() -> Vec<(usize, Step)> {
    vec![
        // The first fork: 0 and 1.
        (0, Fork(1)),
        (1, Write(Anon, 0..30)),
        (1, Write(Whole, 0..10)),
        (1, Write(Part, 0..5)),
        // Pages of the cache, pages never touched, and the zero page: no fork's.
        (1, Write(Part, 20..22)),
        (1, Write(Part, 40..42)),
        (1, Write(Anon, 330..335)),
        (0, Write(Anon, 30..60)),
        (0, Write(Whole, 10..20)),
        (0, Write(Own, 0..5)),
        (0, Write(Own, 20..25)),
        // What 1 has copied is left to 0 alone.
        (0, Write(Anon, 0..10)),
        (0, Write(Whole, 0..5)),
        // The second: 1 and 2, while most pages are shared with 0, too.
        (1, Fork(2)),
        (2, Write(Anon, 60..90)),
        (2, Write(Whole, 20..30)),
        (1, Write(Anon, 90..120)),
        (1, Write(Whole, 30..40)),
        (2, Write(Anon, 90..100)),
        (0, Write(Anon, 100..110)),
        (0, Write(Whole, 30..35)),
        (2, Write(Whole, 30..33)),
        // The third: 2 and 3.
        (2, Fork(3)),
        (3, Write(Anon, 120..150)),
        (2, Write(Anon, 150..165)),
        (3, Write(Anon, 150..160)),
        (1, Write(Anon, 120..125)),
        (0, Write(Anon, 120..122)),
        (3, Write(Whole, 40..50)),
        (2, Write(Whole, 40..45)),
        (1, Write(Whole, 40..43)),
        (0, Write(Whole, 40..42)),
        // A thread writes for the process whose memory it shares.
        (2, WriteInThread(Anon, 165..175)),
        (2, WriteInThread(Whole, 50..55)),
        // Nobody but 1 has these, until it forks 4. That one writes some, then execs.
        (1, Write(Anon, 210..220)),
        (1, Write(Whole, 60..70)),
        (1, Fork(4)),
        (4, Write(Anon, 190..200)),
        (4, Write(Whole, 60..63)),
        (1, Write(Anon, 210..212)),
        (4, Exec),
        (1, Reap),
        (1, Write(Anon, 212..217)),
        (1, Write(Whole, 60..68)),
        (1, Write(Anon, 200..205)),
        // A move, and writes on both sides of it.
        (2, Move(Anon, 220..240)),
        (2, Write(Anon, 220..230)),
        (3, Write(Anon, 225..235)),
        // What is unmapped, or given back, is given up.
        (1, Unmap(Anon, 240..250)),
        (0, Write(Anon, 240..245)),
        (2, Discard(Anon, 250..260)),
        (2, Write(Anon, 250..255)),
        (3, Write(Whole, 70..75)),
        (2, Unmap(Whole, 70..80)),
        (3, Discard(Whole, 80..85)),
        // One after the other ends.
        (3, Exit),
        (2, Reap),
        (2, Write(Anon, 260..270)),
        (2, Write(Anon, 100..105)),
        (2, Exit),
        (1, Reap),
        (1, Write(Anon, 265..280)),
        (1, Exit),
        (0, Reap),
        (0, Write(Anon, 280..300)),
    ]
}

/// Pages that are unmapped, given back or moved together.
const BLOCK: usize = 10;

/// Blocks of each area. Those of files are all written; the last of anonymous memory are not.
const BLOCKS: [(Area, usize); 2] = [(Anon, 36), (Whole, 12)];

/// A process that lives.
#[derive(Clone)]
struct Living {
    number: usize,
    parent: usize,
    /// The blocks that it has, each with whether it is where it was at first.
    blocks: Vec<(Area, usize, bool)>,
}

/// Steps that follow from `seed`. All processes but the first have ended at the end.
pub fn by_chance(seed: u64) -> Vec<(usize, Step)> {
    let mut chance = Chance::new(seed);
    let blocks = BLOCKS
        .into_iter()
        .flat_map(|(area, count)| (0..count).map(move |i| (area, i, true)));
    let mut living = vec![Living {
        number: 0,
        parent: 0,
        blocks: blocks.collect(),
    }];
    let mut steps = Vec::new();
    let mut born = 1;
    while steps.len() < 150 {
        let at = chance.below(living.len());
        let one = &mut living[at];
        let number = one.number;
        let which = chance.below(one.blocks.len());
        let (area, block, is_at_first) = one.blocks[which];
        let range = block * BLOCK..(block + 1) * BLOCK;
        match chance.below(26) {
            0..3 if born < MOST => {
                steps.push((number, Fork(born)));
                let child = Living {
                    number: born,
                    parent: number,
                    blocks: one.blocks.clone(),
                };
                living.push(child);
                born += 1;
            }
            3 => {
                steps.push((number, Unmap(area, range)));
                one.blocks.remove(which);
            }
            4 => steps.push((number, Discard(area, range))),
            5 if is_at_first => {
                steps.push((number, Move(area, range)));
                one.blocks[which].2 = false;
            }
            6 if is_at_first => {
                steps.push((number, Grow(area, range)));
                one.blocks[which].2 = false;
            }
            7 if is_at_first && area == Anon => {
                steps.push((number, Leave(area, range)));
                one.blocks[which].2 = false;
            }
            8 => steps.push((number, Over(area, range))),
            9 => steps.push((number, WriteInThread(area, range))),
            10 if at > 0 => leave(
                &mut steps,
                &mut living,
                at,
                if chance.below(3) == 0 { Exec } else { Exit },
            ),
            _ => {
                let start = range.start + chance.below(BLOCK);
                let end = start + 1 + chance.below(range.end - start);
                steps.push((number, Write(area, start..end)));
            }
        }
    }
    while living.len() > 1 {
        let at = 1 + chance.below(living.len() - 1);
        leave(&mut steps, &mut living, at, Exit);
    }
    steps
}

/// A process leaves, and is waited for by its parent, or by the first process.
fn leave(steps: &mut Vec<(usize, Step)>, living: &mut Vec<Living>, at: usize, how: Step) {
    let gone = living.remove(at);
    steps.push((gone.number, how));
    let has_parent = living.iter().any(|one| one.number == gone.parent);
    steps.push((if has_parent { gone.parent } else { 0 }, Reap));
}

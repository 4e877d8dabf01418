//! Loops.
//!
//! The verifier follows a loop round by round, and each round in all of its ways. A global function it looks at once, by
//! itself. So a round is a call of one, and what goes on from round to round is kept in a map. The helper `bpf_loop` would do,
//! too; but it is of 5.17, and before 6.4 its callbacks make the verifier follow far more ways.

/// Calls a global function so many times, or until it gives 1. Gives what the last call gave.
///
/// A call a round: the verifier measures the stack along each way from call to call (`check_max_stack_depth` in
/// `kernel/bpf/verifier.c`), and with several in each of a few nested loops there are very many.
macro_rules! repeat {
    ($times:expr, $round:path) => {{
        let mut left: u32 = $times;
        loop {
            if $round() != 0 {
                break 1;
            }
            left -= 1;
            if left == 0 {
                break 0;
            }
        }
    }};
}
pub(crate) use repeat;

/// The same for some thousands of times, a multiple of eight: eight calls a round, as the verifier counts the rounds, and one costs
/// it as much as four calls. Not for what repeats something itself.
macro_rules! repeat_often {
    ($times:expr, $round:path) => {{
        const ROUNDS: u32 = $times / 8;
        const _: () = assert!(ROUNDS * 8 == $times);
        let mut left: u32 = ROUNDS;
        loop {
            if $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
            {
                break 1;
            }
            left -= 1;
            if left == 0 {
                break 0;
            }
        }
    }};
}
pub(crate) use repeat_often;

//! Loops.
//!
//! The verifier follows a loop round by round, and each round in all of its ways. A global function it looks at once, by
//! itself. So a round is a call of one, and what goes on from round to round is kept in a map. The helper `bpf_loop` would do,
//! too; but it is of 5.17, and before 6.4 its callbacks make the verifier follow far more ways.

/// Calls a global function so many times (a thousand at most, as the verifier counts them all), or until it gives 1. Gives what
/// the last call gave.
macro_rules! repeat {
    ($times:expr, $round:path) => {{
        let mut left: u32 = $times;
        let mut ended = 0;
        while left != 0 && ended == 0 {
            ended = $round();
            left -= 1;
        }
        ended
    }};
}
pub(crate) use repeat;

//! Why a page had to be copied, and who maps the old one on.

use std::fmt::{self, Display, Formatter};

use super::{Ids, Span};
use crate::trace::event::{Because, Cause, ForkRef};

/// A copy's cause, to be put after the words for the copy.
pub(super) struct Why<'a>(pub(super) &'a Cause, pub(super) &'a Sharers);

impl Display for Why<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(cause, sharers) = self;
        match (cause.cause, cause.fork) {
            (Because::Fork, Some(fork)) => write!(f, ", shared by {}", Fork(fork))?,
            (Because::Fork, None) => f.write_str(", shared by a fork")?,
            (Because::Reference, fork) => {
                f.write_str("; nobody shares it any more")?;
                if let Some(fork) = fork {
                    write!(f, " since {}", Fork(fork))?;
                }
                f.write_str(", but the kernel held a reference")?;
            }
            (Because::ForkBefore, _) => f.write_str(", shared by a fork before the trace")?,
            (Because::PageCache, _) => f.write_str(", it is a page of the file")?,
            (Because::Ksm, _) => f.write_str(", KSM had merged it with equal pages")?,
            (Because::Unknown, _) => f.write_str(", what had shared it is not known")?,
        }
        match cause.cause {
            Because::Fork | Because::ForkBefore => write!(f, "{sharers}"),
            _ => write!(f, "{}", sharers.map_count()),
        }
    }
}

/// A fork, as a cause.
struct Fork(ForkRef);

impl Display for Fork {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ForkRef {
            number,
            parent,
            child,
            ago,
        } = self.0;
        write!(f, "fork #{number} ({parent} -> {child}) {} ago", Span(ago))
    }
}

/// Who maps the old page on, of one copy or of a run of them.
pub(in crate::output) struct Sharers {
    /// The traced ones; of a run, the first copy's.
    traced: Vec<u32>,
    /// Whether they were the same at every copy.
    same: bool,
    /// How many they were, at least and at most.
    count: (u32, u32),
    /// How many entries mapped the page by the kernel's count, at least and at most; none where one isn't known.
    map_count: Option<(u32, u32)>,
    /// Whether more entries mapped it than those of the traced processes, at any copy.
    outside: bool,
}

impl Sharers {
    /// Those of a copy.
    pub(in crate::output) fn of(cause: &Cause) -> Self {
        Self {
            traced: cause.sharers.clone(),
            same: true,
            count: (cause.sharer_count, cause.sharer_count),
            map_count: cause.map_count.map(|count| (count, count)),
            outside: outside(cause),
        }
    }

    /// Adds those of another copy.
    pub(in crate::output) fn add(&mut self, cause: &Cause) {
        let widen = |(least, most): (u32, u32), count| (least.min(count), most.max(count));
        self.same &= cause.sharers == self.traced && cause.sharer_count == self.count.0;
        self.count = widen(self.count, cause.sharer_count);
        self.map_count = self
            .map_count
            .zip(cause.map_count)
            .map(|(range, count)| widen(range, count));
        self.outside |= outside(cause);
    }

    /// The kernel's count in brackets.
    fn map_count(&self) -> impl Display {
        let count = self.map_count;
        fmt::from_fn(move |f| match count {
            None => Ok(()),
            Some((least, most)) if least == most => write!(f, " (map count {least})"),
            Some((least, most)) => write!(f, " (map count {least} to {most})"),
        })
    }
}

impl Display for Sharers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (least, most) = self.count;
        if most != 0 {
            f.write_str("; still mapped by ")?;
            if self.same {
                let (first, count) = (&*self.traced, most);
                write!(f, "{}", Ids { first, count })?;
            } else if least == most {
                write!(f, "{most} traced processes")?;
            } else {
                write!(f, "{least} to {most} traced processes")?;
            }
        }
        if self.outside {
            f.write_str(match most {
                0 => "; still mapped outside the trace",
                _ => ", and outside the trace",
            })?;
        }
        write!(f, "{}", self.map_count())
    }
}

/// Whether the kernel counts more than the traced processes and the writer.
fn outside(cause: &Cause) -> bool {
    cause
        .map_count
        .is_some_and(|count| count > cause.sharer_count.saturating_add(1))
}

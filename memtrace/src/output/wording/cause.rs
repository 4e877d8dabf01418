//! Why a page had to be copied, and who maps the old one on.

use std::fmt::{self, Display, Formatter};

use super::{Ids, Span};
use crate::output::run::Sharers;
use crate::trace::event::{Cause, CowCause, ForkRef};

/// A copy's cause, to be put after the words for the copy.
pub(super) struct CauseText<'a>(pub(super) &'a Cause, pub(super) &'a Sharers);

impl Display for CauseText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(cause, sharers) = self;
        match (cause.cause, cause.fork) {
            (CowCause::Fork, Some(fork)) => write!(f, ", shared by {}", Fork(fork))?,
            (CowCause::Fork, None) => f.write_str(", shared by a fork")?,
            (CowCause::Reference, fork) => {
                f.write_str("; nobody shares it any more")?;
                if let Some(fork) = fork {
                    write!(f, " since {}", Fork(fork))?;
                }
                f.write_str(", but the kernel held a reference")?;
            }
            (CowCause::ForkBefore, _) => f.write_str(", shared by a fork before the trace")?,
            (CowCause::PageCache, _) => f.write_str(", it is a page of the file")?,
            (CowCause::Ksm, _) => f.write_str(", KSM had merged it with equal pages")?,
            (CowCause::Unknown, _) => f.write_str(", what had shared it is not known")?,
        }
        match cause.cause {
            CowCause::Fork | CowCause::ForkBefore => write!(f, "{sharers}"),
            _ => write!(f, "{}", map_count(sharers)),
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
        write!(f, "{}", map_count(self))
    }
}

/// The kernel's count in brackets.
fn map_count(sharers: &Sharers) -> impl Display + use<> {
    let count = sharers.map_count;
    fmt::from_fn(move |f| match count {
        None => Ok(()),
        Some((least, most)) if least == most => write!(f, " (map count {least})"),
        Some((least, most)) => write!(f, " (map count {least} to {most})"),
    })
}

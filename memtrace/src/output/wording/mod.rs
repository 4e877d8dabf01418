//! What happened, in plain words, and the proof in brackets: a file per family of events.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::colour::Palette;
use crate::trace::event::{Lost, What};

pub(super) mod fault;
mod memory;
mod task;

pub(super) use task::command;

/// Writes what happened.
pub(super) fn write(out: &mut impl Write, what: &What, palette: Palette) -> io::Result<()> {
    match what {
        What::Fault(fault) => fault::write(out, fault, palette),
        What::Clone(clone) => task::clone(out, clone, palette),
        What::Exec(exec) => task::exec(out, exec, palette),
        What::Exit(exit) => task::exit(out, exit),
        What::Brk(brk) => memory::brk(out, brk),
        What::Mmap(mmap) => memory::mmap(out, mmap, palette),
        What::Munmap(range) => memory::munmap(out, range),
        What::Mprotect(mprotect) => memory::mprotect(out, mprotect),
        What::Mremap(mremap) => memory::mremap(out, mremap, palette),
        What::Madvise(madvise) => memory::madvise(out, madvise),
        What::Lost(lost) => write_lost(out, lost, palette),
    }
}

fn write_lost(out: &mut impl Write, lost: &Lost, palette: Palette) -> io::Result<()> {
    let alarm = palette.alarm();
    let by_kind = List(
        lost.by_kind
            .iter()
            .map(|(kind, count)| format!("{count} {kind}")),
    );
    write!(
        out,
        "{alarm}{} lost here{alarm:#}: {by_kind}",
        Count(lost.count, "record")
    )
}

/// A size, exact, in the largest unit that divides it.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = (self.0.trailing_zeros() / 10).min(4);
        match self.0 {
            0 => f.write_str("0 bytes"),
            bytes => {
                let name = ["bytes", "KiB", "MiB", "GiB", "TiB"][unit as usize];
                write!(f, "{} {name}", bytes >> (10 * unit))
            }
        }
    }
}

/// So many of something.
pub(super) struct Count(pub(super) u64, pub(super) &'static str);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        let plural = match (*count, noun.ends_with('s')) {
            (1, _) => "",
            (_, false) => "s",
            (_, true) => "es",
        };
        write!(f, "{count} {noun}{plural}")
    }
}

/// Items with commas between.
pub(super) struct List<I>(pub(super) I);

impl<I: Iterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.clone(), ", ")
    }
}

/// Flags as C has them.
struct Flags<'a>(&'a [std::sync::Arc<str>]);

impl Display for Flags<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        joined(f, self.0.iter(), "|")
    }
}

fn joined(
    f: &mut Formatter<'_>,
    items: impl Iterator<Item: Display>,
    between: &str,
) -> fmt::Result {
    for (at, item) in items.enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { between })?;
    }
    Ok(())
}

/// A signal by its name.
struct SignalName(u32);

impl Display for SignalName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match Signal::try_from(self.0 as i32) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

/// A negative errno by its name.
struct ErrorName(i64);

impl Display for ErrorName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match Errno::from_raw(self.0.unsigned_abs() as i32) {
            Errno::UnknownErrno => write!(f, "error {}", self.0),
            errno => write!(f, "{errno:?} ({})", errno.desc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 bytes");
        assert_eq!(shown(100), "100 bytes");
        assert_eq!(shown(132 << 10), "132 KiB");
        assert_eq!(shown((2 << 20) + 4096), "2052 KiB");
        assert_eq!(shown(1 << 63), "8388608 TiB");
    }

    #[test]
    fn names_that_are_not_known_are_numbers() {
        assert_eq!(SignalName(11).to_string(), "SIGSEGV");
        assert_eq!(SignalName(35).to_string(), "signal 35");
        assert_eq!(ErrorName(-22).to_string(), "EINVAL (Invalid argument)");
        assert_eq!(ErrorName(-4000).to_string(), "error -4000");
    }
}

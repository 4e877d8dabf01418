//! Births, execs and exits.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use super::{Count, Flags, List, SignalName};
use crate::output::colour::Palette;
use crate::output::escape::{Escaped, Quoted};
use crate::trace::event::{Clone, Exec, Exit, Shared};

pub(super) fn clone(out: &mut impl Write, clone: &Clone, palette: Palette) -> io::Result<()> {
    let has = |flag: &str| clone.flags.iter().any(|name| **name == *flag);
    let (kind, child) = if clone.thread {
        ("thread", clone.child_tid)
    } else {
        ("process", clone.child_pid)
    };
    let (strong, faint) = (palette.strong(), palette.faint());
    write!(out, "{}: new {strong}{kind} {child}{strong:#}", clone.call)?;
    if !clone.followed {
        out.write_all(b" (not followed)")?;
    }
    let parts = parts(clone.shared);
    let names = |shared| {
        let of = move |part: &&Part| part.shared == shared && !part.name.is_empty();
        parts
            .iter()
            .filter(of)
            .map(|part| part.name)
            .collect::<Vec<_>>()
    };
    for (verb, names) in [("shares", names(true)), ("has its own", names(false))] {
        if !names.is_empty() {
            write!(out, "; {verb} {}", List(names.iter()))?;
        }
    }
    if has("CLONE_VFORK") {
        out.write_all(b"; the parent waits for its exec or exit")?;
    }
    write!(out, "  {faint}[")?;
    if !clone.flags.is_empty() {
        write!(out, "{}, ", Flags(&clone.flags))?;
    }
    match clone.exit_signal {
        Some(signal) => write!(out, "{} at its end]{faint:#}", SignalName(signal as u32)),
        None => write!(out, "no signal at its end]{faint:#}"),
    }
}

struct Part {
    shared: bool,
    /// Empty for what needs no mention.
    name: &'static str,
}

/// The parts of a task in words.
fn parts(shared: Shared) -> [Part; 9] {
    let part = |shared, if_shared, if_not| Part {
        shared,
        name: if shared { if_shared } else { if_not },
    };
    let either = |shared, name| part(shared, name, name);
    // Most tasks have no I/O context and no semaphore adjustments.
    [
        part(shared.mm, "memory", "memory (copied on write)"),
        either(shared.files, "open files"),
        either(shared.fs, "working directory"),
        either(shared.sighand, "signal handlers"),
        either(shared.signal, "limits and timers"),
        either(shared.nsproxy, "namespaces"),
        either(shared.cred, "credentials"),
        part(shared.io, "I/O context", ""),
        part(shared.sysvsem, "semaphore adjustments", ""),
    ]
}

pub(super) fn exec(out: &mut impl Write, exec: &Exec, palette: Palette) -> io::Result<()> {
    let (strong, faint) = (palette.strong(), palette.faint());
    let exe = exec.exe.as_deref().unwrap_or(&exec.file);
    write!(out, "runs {strong}{}{strong:#}", Escaped(exe))?;
    // A script, or a symbolic link: the name alone doesn't say what runs.
    if file_name(exe) != file_name(&exec.file) {
        write!(out, " for {}", Escaped(&exec.file))?;
    }
    write!(out, ": {}", command(&exec.args))?;
    if exec.truncated {
        write!(
            out,
            "  {faint}[the end of the arguments was not kept]{faint:#}"
        )?;
    }
    if let Some(old) = exec.old_tid {
        write!(out, "  {faint}[thread {old} is now the only one]{faint:#}")?;
    }
    Ok(())
}

fn file_name(path: &str) -> Option<&str> {
    path.rsplit('/').next()
}

pub(super) fn exit(out: &mut impl Write, exit: &Exit) -> io::Result<()> {
    let who = if exit.thread { "thread" } else { "process" };
    match (exit.signal, exit.code) {
        (Some(signal), _) => write!(out, "{who} killed by {}", SignalName(signal)),
        (None, Some(code)) => write!(out, "{who} ends with status {code}"),
        (None, None) => write!(out, "{who} ends"),
    }
}

/// A command line, cut where it would fill the screen.
pub(in crate::output) fn command(args: &[String]) -> impl Display {
    Command(args)
}

struct Command<'a>(&'a [String]);

impl Display for Command<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        /// Characters after which no further argument is shown, and how many of an argument are.
        const ENOUGH: usize = 200;
        let mut shown = 0;
        for (at, arg) in self.0.iter().enumerate() {
            if shown >= ENOUGH {
                let more = Count((self.0.len() - at) as u64, "argument");
                return write!(f, " ... and {more} more");
            }
            let space = if at == 0 { "" } else { " " };
            match arg.char_indices().nth(ENOUGH) {
                Some((end, _)) => write!(f, "{space}{}...", Quoted(&arg[..end]))?,
                None => write!(f, "{space}{}", Quoted(arg))?,
            }
            shown += arg.len() + 1;
        }
        Ok(())
    }
}

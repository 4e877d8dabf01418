//! Births, execs and exits.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use nix::errno::Errno;

use super::memory::{Present, in_brackets};
use super::object::{Object, in_nsproxy, words};
use super::{Count, ErrorName, Flags, List, SignalName, Size, Span, size_of};
use crate::output::colour::Palette;
use crate::output::escape::{Escaped, Quoted};
use crate::trace::event::{
    ByObject, Clone, Cloned, Exec, ExistingTask, Exit, Failed, First, NotSurveyed, ObjectKind,
    Obtained, Row, Shared, VforkRelease,
};

/// A birth, told in the line of `maker`, a process.
pub(super) fn clone(
    out: &mut impl Write,
    clone: &Clone,
    maker: u32,
    palette: Palette,
) -> io::Result<()> {
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
    match clone.ppid {
        Some(0) => out.write_all(b", a child of a process outside the pid namespace")?,
        Some(parent) if parent != maker => write!(out, ", a child of {parent}")?,
        _ => {}
    }
    let parts = parts(clone.shared, &clone.objects);
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
    fork(out, clone)?;
    for (kind, row) in &clone.objects.0 {
        if let Some(note) = &row.note {
            write!(out, "; {}: {note}", words(*kind))?;
        }
    }
    if has("CLONE_VFORK") {
        out.write_all(b"; the parent waits for its exec or exit")?;
    }
    write!(out, "  {faint}[")?;
    for row in &clone.objects.0 {
        if let Some(change) = Change::of(row) {
            write!(out, "{change}, ")?;
        }
    }
    if !clone.flags.is_empty() {
        write!(out, "{}, ", Flags(&clone.flags))?;
    }
    match clone.exit_signal {
        Some(signal) => write!(out, "{} at its end]{faint:#}", SignalName(signal as u32)),
        None => write!(out, "no signal at its end]{faint:#}"),
    }
}

/// What a fork left shared until a write.
fn fork(out: &mut impl Write, clone: &Clone) -> io::Result<()> {
    match clone.fork {
        Some(number) => write!(out, "; fork #{number}")?,
        None => return Ok(()),
    }
    let Some(copied) = clone.copied else {
        return Ok(());
    };
    let (pages, size) = (Count(copied.pages, "private page"), size_of(copied.pages));
    write!(out, ": {pages} ({size}) shared until written")?;
    if copied.at_once != 0 {
        write!(
            out,
            " but for {} that were pinned and copied at once",
            copied.at_once
        )?;
    }
    if copied.swapped != 0 {
        write!(out, ", {} more in swap", copied.swapped)?;
    }
    write!(out, ", {} of page tables", Size(copied.table_bytes))?;
    match copied.not_surveyed {
        None => Ok(()),
        Some(NotSurveyed { from, pages: None }) => write!(out, "; not surveyed from {from} on"),
        Some(NotSurveyed {
            from,
            pages: Some(pages),
        }) => {
            let pages = Count(pages, "more private page");
            write!(out, "; not surveyed from {from} on: about {pages}")
        }
    }
}

/// A parent's object and its child's: `fs#1` when they share it, `mm#1->#2` when not.
struct Change(Object, Option<u32>, Option<u32>);

impl Change {
    /// None where it needs no mention: they have none, or it is a namespace as usual.
    fn of((kind, row): &(ObjectKind, Row)) -> Option<Self> {
        // Whether they are one thread group says the same as whether they share their limits.
        let kind = *kind;
        let usual = kind == ObjectKind::Group || kind.is_namespace() && row.got == Obtained::Shared;
        let number = row.parent.or(row.child)?;
        (!usual).then_some(Self(Object(kind, number), row.parent, row.child))
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(object, parent, child) = self;
        match (parent, child) {
            (Some(parent), Some(child)) if parent != child => write!(f, "{object}->#{child}"),
            (Some(_), Some(_)) => write!(f, "{object}"),
            (Some(_), None) => write!(f, "{object}->none"),
            (None, _) => write!(f, "none->{object}"),
        }
    }
}

struct Part {
    shared: bool,
    /// Empty for what needs no mention.
    name: &'static str,
}

/// The parts of a task in words.
fn parts(shared: Shared, objects: &ByObject<Row>) -> Vec<Part> {
    let part = |shared, if_shared, if_not| Part {
        shared,
        name: if shared { if_shared } else { if_not },
    };
    let either = |shared, kind| part(shared, words(kind), words(kind));
    let own_namespaces = objects.0.iter().filter(|(kind, row)| {
        (in_nsproxy(*kind) || *kind == ObjectKind::UserNs) && row.got == Obtained::Own
    });
    let own_namespaces: Vec<_> = own_namespaces
        .map(|(kind, _)| either(false, *kind))
        .collect();
    // A new set of namespaces is named by what is new in it.
    let set = if own_namespaces.is_empty() {
        words(ObjectKind::Nsproxy)
    } else {
        ""
    };
    // Most tasks have no I/O context and no semaphore adjustments.
    [
        part(shared.mm, "memory", "memory (copied on write)"),
        either(shared.files, ObjectKind::Files),
        either(shared.fs, ObjectKind::Fs),
        either(shared.sighand, ObjectKind::Sighand),
        either(shared.signal, ObjectKind::Signal),
        part(shared.nsproxy, words(ObjectKind::Nsproxy), set),
    ]
    .into_iter()
    .chain(own_namespaces)
    .chain([
        either(shared.cred, ObjectKind::Cred),
        part(shared.io, words(ObjectKind::Io), ""),
        part(shared.sysvsem, words(ObjectKind::Sysvsem), ""),
    ])
    .collect()
}

pub(super) fn cloned(out: &mut impl Write, cloned: &Cloned) -> io::Result<()> {
    match cloned.fork {
        Some(number) => write!(out, "fork #{number}")?,
        None => write!(out, "call")?,
    }
    // No thread but the first has its process's id.
    if cloned.child_pid == cloned.child_tid {
        write!(out, " that made process {}", cloned.child_pid)?;
    } else {
        write!(out, " that made thread {}", cloned.child_tid)?;
    }
    write!(out, " returned after {}", Span(cloned.dur))?;
    if let Some(held) = cloned.held {
        write!(out, "; held for {}", Span(held))?;
        return match cloned.let_go {
            Some(VforkRelease::Exec) => write!(out, ", until the child's exec"),
            Some(VforkRelease::Exit) => write!(out, ", until the child's end"),
            Some(VforkRelease::Signal) => write!(out, ", until a signal that kills it"),
            None => Ok(()),
        };
    }
    match cloned.first {
        Some(First::Parent) => write!(out, "; the parent ran first"),
        Some(First::Child) => write!(out, "; the child ran first"),
        None => Ok(()),
    }
}

/// A task that was there at attach.
pub(super) fn there(
    out: &mut impl Write,
    task: &ExistingTask,
    process: bool,
    palette: Palette,
) -> io::Result<()> {
    write!(
        out,
        "{} was there",
        if process { "process" } else { "thread" }
    )?;
    if process && task.ppid != 0 {
        write!(out, ", child of {}", task.ppid)?;
    }
    if let Some(resident) = task.resident {
        write!(out, "; {}", Present(resident, task.private))?;
    }
    let told = |kind: &ObjectKind| *kind != ObjectKind::Group && !in_nsproxy(*kind);
    let objects = task.objects.0.iter().filter(|(kind, _)| told(kind));
    let objects = List(objects.map(|(kind, number)| Object(*kind, *number)));
    let faint = palette.faint();
    write!(out, "  {faint}[{objects}]{faint:#}")
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

pub(super) fn failed(out: &mut impl Write, failed: &Failed, palette: Palette) -> io::Result<()> {
    let Failed { ref call, ret, .. } = *failed;
    match (&failed.file, &failed.exe) {
        _ if failed.flags.is_some() => write!(out, "{call}: no new task")?,
        (Some(file), _) => write!(out, "{call}: can't run {}", Quoted(file))?,
        (None, Some(exe)) => write!(out, "{call}: can't run {}", Escaped(exe))?,
        (None, None) => write!(out, "{call}: can't run the file")?,
    }
    write!(out, ": {}", ErrorName(ret))?;
    if failed.fatal {
        write!(out, "; the old program is gone, and the process dies")?;
    }
    // What the manual page has to say of a fork that is refused.
    let limit = match Errno::from_raw(ret.unsigned_abs() as i32) {
        Errno::EAGAIN if failed.flags.is_some() => {
            "; a limit on tasks is reached: ulimit -u, pids.max of a cgroup, kernel.threads-max or pid_max"
        }
        Errno::ENOMEM if failed.flags.is_some() => {
            "; out of memory or over the commit limit, or its pid namespace's first process has ended"
        }
        _ => "",
    };
    write!(out, "{limit}")?;
    in_brackets(out, failed.flags.as_deref().unwrap_or_default(), palette)
}

pub(super) fn exit(out: &mut impl Write, exit: &Exit) -> io::Result<()> {
    let who = if exit.thread { "thread" } else { "process" };
    if let Some(tid) = exit.by_exec {
        return write!(out, "{who} ended by the exec of thread {tid}");
    }
    match (exit.signal, exit.code) {
        (Some(signal), _) => {
            write!(out, "{who} killed by {}", SignalName(signal))?;
            if exit.core {
                write!(out, ", core dumped")?;
            }
            Ok(())
        }
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

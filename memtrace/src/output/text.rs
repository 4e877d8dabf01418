//! Text for people: a line per event, then the account.

use std::io::{self, Write};

use super::colour::Palette;
use super::escape::Escaped;
use super::fold::FaultRuns;
use super::run::Run;
use super::sink::{Out, Sink};
use super::wording::{List, Seconds, TaskName};
use super::{accounting, forks, table, tree, wording};
use crate::trace::event::{End, Event, Start};

/// Writes text.
pub(super) struct Text {
    out: Out,
    palette: Palette,
    /// `ts` of the start.
    began: u64,
    /// The task of the line that is being written: `name[pid]`, or `name[pid/tid]`.
    task: String,
    /// The widest task so far, so that columns stay where they are.
    task_width: usize,
    /// Whether there has been an event.
    any: bool,
}

/// Tasks take this many columns from the beginning on, and never more than the other.
const TASK_WIDTH: (usize, usize) = (16, 33);

impl Text {
    pub(super) const fn new(out: Out, palette: Palette) -> Self {
        Self {
            out,
            palette,
            began: 0,
            task: String::new(),
            task_width: TASK_WIDTH.0,
            any: false,
        }
    }

    /// The columns before the words: time, task, kind.
    fn columns(&mut self, event: &Event) -> io::Result<()> {
        self.name_task(event);
        let width = self.task_width;
        let Self {
            out,
            palette,
            began,
            task,
            ..
        } = self;
        if !self.any {
            self.any = true;
            let strong = palette.strong();
            let (time, task, kind) = ("seconds", "process", "kind");
            writeln!(
                out,
                "{strong}{time:>12}  {task:width$}  {kind:12}  what happened{strong:#}"
            )?;
        }
        let kind = event.what.kind();
        let time = Seconds(event.ts.saturating_sub(*began));
        let (faint, who, what) = (
            palette.faint(),
            palette.process(event.pid),
            palette.what(&event.what),
        );
        write!(
            out,
            "{faint}{time:5}{faint:#}  {who}{task:width$}{who:#}  {what}{kind:12}{what:#}  "
        )
    }

    fn name_task(&mut self, event: &Event) {
        use std::fmt::Write as _;
        let Event {
            pid, tid, ref comm, ..
        } = *event;
        self.task.clear();
        // Writing to a String doesn't fail.
        let _ = match pid {
            0 => write!(self.task, "-"),
            _ => write!(self.task, "{}", TaskName { comm, pid, tid }),
        };
        self.task_width = self
            .task_width
            .max(self.task.chars().count())
            .min(TASK_WIDTH.1);
    }
}

impl FaultRuns for Text {
    fn run(&mut self, run: &Run) -> io::Result<()> {
        self.columns(run.event())?;
        let until = Seconds(run.until().saturating_sub(self.began));
        wording::fault::write_run(&mut self.out, run, until, self.palette)?;
        self.out.write_all(b"\n")
    }
}

impl Sink for Text {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.began = start.ts;
        let Start {
            version,
            kernel,
            command,
            attached,
            backend,
            ..
        } = start;
        let (strong, kernel) = (self.palette.strong(), Escaped(kernel));
        write!(
            self.out,
            "memtrace {version} on Linux {kernel}, by {backend}: {strong}"
        )?;
        if attached.is_empty() {
            write!(self.out, "{}", wording::command(command))?;
        } else {
            write!(self.out, "attached to {}", List(attached.iter()))?;
        }
        writeln!(self.out, "{strong:#}")
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.columns(event)?;
        wording::write(&mut self.out, event, self.palette)?;
        self.out.write_all(b"\n")
    }

    fn flush(&mut self, _: u64) -> io::Result<()> {
        self.out.flush()
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        tree::write(&mut self.out, end, self.began, self.palette)?;
        forks::write(&mut self.out, end, self.palette)?;
        table::write(&mut self.out, end, self.palette)?;
        accounting::write(&mut self.out, end, self.palette)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use crate::output::samples::{self, PLAIN, whole_end};
    use crate::output::{Format, Options};

    fn text(options: Options) -> String {
        samples::written(Format::Text, options, &samples::story(), &whole_end())
    }

    #[test]
    fn every_event_that_tells_something_has_a_line() {
        expect_file!["snapshots/story.txt"].assert_eq(&text(PLAIN));
    }

    #[test]
    fn colour_changes_no_word() {
        let colour = text(Options {
            colour: true,
            ..PLAIN
        });
        assert!(colour.contains("\x1b["));
        assert_eq!(without_colour(&colour), text(PLAIN));
    }

    #[test]
    fn nothing_a_program_chose_reaches_the_terminal_raw() {
        let text = text(PLAIN);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
        assert_eq!(
            text.lines()
                .filter(|line| line.contains(r"wor\nker"))
                .count(),
            1
        );
    }

    #[test]
    fn a_summary_has_no_events() {
        let text = text(Options {
            summary_only: true,
            ..PLAIN
        });
        assert!(!text.contains("new zeroed page"));
        assert!(text.contains("The kernel counted"));
    }

    /// Takes out what sets colours.
    fn without_colour(text: &str) -> String {
        let mut parts = text.split("\x1b[");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            text + part.split_once('m').expect("a colour's end").1
        })
    }
}

//! Which colours, and whether any.

use std::ffi::OsStr;

use anstyle::{AnsiColor, Style};

use crate::trace::event::{EventKind, FaultKind};

/// Whether to colour what goes to a stream: it is a terminal that can, and the user didn't refuse (`NO_COLOR`).
pub fn wanted(stream: &impl std::io::IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name);
    stream.is_terminal() && allowed(variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

fn allowed(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_some_and(|term| term != "dumb")
}

/// The styles of the text. All are empty when there is no colour.
#[derive(Clone, Copy)]
pub(super) struct Palette {
    colour: bool,
}

impl Palette {
    pub(super) const fn new(colour: bool) -> Self {
        Self { colour }
    }

    const fn only_with_colour(self, style: Style) -> Style {
        if self.colour { style } else { Style::new() }
    }

    /// For what is there to be looked up.
    pub(super) const fn faint(self) -> Style {
        self.only_with_colour(Style::new().dimmed())
    }

    /// For headings.
    pub(super) const fn strong(self) -> Style {
        self.only_with_colour(Style::new().bold())
    }

    /// For what must not be overlooked.
    pub(super) const fn alarm(self) -> Style {
        self.only_with_colour(bold(AnsiColor::Red))
    }

    /// Tells processes apart: a parent and its child have neighbouring ids, and so different colours.
    pub(super) const fn process(self, pid: u32) -> Style {
        const COLOURS: [AnsiColor; 6] = [
            AnsiColor::Cyan,
            AnsiColor::Yellow,
            AnsiColor::Green,
            AnsiColor::Magenta,
            AnsiColor::Blue,
            AnsiColor::White,
        ];
        self.only_with_colour(COLOURS[pid as usize % COLOURS.len()].on_default())
    }

    /// Tells events apart: what costs a copy, what saves one, and what is wrong.
    pub(super) const fn what(self, what: &EventKind) -> Style {
        self.only_with_colour(match what {
            EventKind::Fault(fault) => match fault.kind {
                FaultKind::CowCopy | FaultKind::FileCow => bold(AnsiColor::Yellow),
                FaultKind::CowReuse | FaultKind::CowZero => bold(AnsiColor::Green),
                FaultKind::ZeroFill | FaultKind::ZeroRead | FaultKind::ShmFill => {
                    AnsiColor::Blue.on_default()
                }
                FaultKind::FileMap | FaultKind::FileRead | FaultKind::SharedWrite => {
                    AnsiColor::Cyan.on_default()
                }
                FaultKind::SwapIn | FaultKind::UffdFill | FaultKind::UffdWp => {
                    AnsiColor::Magenta.on_default()
                }
                FaultKind::Invalid => bold(AnsiColor::Red),
                FaultKind::Spurious
                | FaultKind::NumaHint
                | FaultKind::SpecialMap
                | FaultKind::Other => Style::new(),
            },
            EventKind::Clone(_)
            | EventKind::Cloned(_)
            | EventKind::BirthDetail(_)
            | EventKind::Return(_)
            | EventKind::ExistingTask(_)
            | EventKind::Share(_)
            | EventKind::Unshare(_)
            | EventKind::Exec(_)
            | EventKind::Exit(_) => bold(AnsiColor::Magenta),
            EventKind::Failed(_) | EventKind::Lost(_) => bold(AnsiColor::Red),
            _ => Style::new(),
        })
    }
}

const fn bold(colour: AnsiColor) -> Style {
    colour.on_default().bold()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_refused_by_no_color_and_by_a_dumb_or_unnamed_terminal() {
        let ask = |no_color: Option<&str>, term: Option<&str>| {
            allowed(no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(ask(None, Some("xterm")));
        assert!(ask(Some(""), Some("xterm")));
        assert!(!ask(Some("1"), Some("xterm")));
        assert!(!ask(None, Some("dumb")));
        assert!(!ask(None, None));
    }
}

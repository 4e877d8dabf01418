//! Whether the kernel may switch tasks in the middle of its own work.

use std::fs;

use nix::sys::utsname::uname;

use super::require::{Lockdown, lockdown};

/// Where it is shown (`sched_dynamic_show` in `kernel/sched/debug.c`) if it is chosen at boot.
const MODE: &str = "/sys/kernel/debug/sched/preempt";

/// Whether it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// It doesn't.
    Off,
    /// It does: `preempt=full`, `preempt=lazy`, or built so.
    On,
    /// It was chosen at boot, and debugfs, which shows it, is not mounted or refused.
    NotShown,
}

/// Asks the kernel.
pub fn detect() -> Preemption {
    let version = uname().map(|names| names.version().to_string_lossy().into_owned());
    judge(&version.unwrap_or_default(), || mode(lockdown()))
}

/// What debugfs shows. Where the kernel is locked down it is left alone: it would be refused, with a line in the kernel's
/// log each time (`debugfs_locked_down` in `fs/debugfs/file.c`).
fn mode(lockdown: Lockdown) -> Option<String> {
    match lockdown {
        Lockdown::Integrity | Lockdown::Confidentiality | Lockdown::NotShown => None,
        Lockdown::None | Lockdown::NotThere => fs::read_to_string(MODE).ok(),
    }
}

/// Decides by the kernel's version line, which says how it was built (`init/Makefile`), and by the mode.
fn judge(version: &str, mode: impl FnOnce() -> Option<String>) -> Preemption {
    let built = |how: &str| version.split_whitespace().any(|word| word == how);
    if built("PREEMPT") || built("PREEMPT_RT") {
        return Preemption::On;
    }
    if !built("PREEMPT_DYNAMIC") {
        return Preemption::Off;
    }
    match mode().as_deref().and_then(chosen) {
        None => Preemption::NotShown,
        Some("full" | "lazy") => Preemption::On,
        Some(_) => Preemption::Off,
    }
}

/// The one in brackets: `none voluntary (full)`.
fn chosen(modes: &str) -> Option<&str> {
    let (chosen, _) = modes.split_once('(')?.1.split_once(')')?;
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugfs_is_left_alone_where_it_may_be_restricted() {
        for restricted in [
            Lockdown::Integrity,
            Lockdown::Confidentiality,
            Lockdown::NotShown,
        ] {
            assert_eq!(mode(restricted), None);
        }
    }

    fn shown(version: &str, mode: Option<&str>) -> Preemption {
        judge(version, || mode.map(str::to_owned))
    }

    #[test]
    fn what_is_built_in_is_in_the_version() {
        assert_eq!(
            shown("#1 SMP Debian 5.10.1 (2026-01-01)", Some("(full)")),
            Preemption::Off
        );
        assert_eq!(shown("#1 SMP PREEMPT Mon Nov 23", None), Preemption::On);
        assert_eq!(shown("#1 SMP PREEMPT_RT Debian 6.12", None), Preemption::On);
    }

    #[test]
    fn what_is_chosen_at_boot_stands_in_brackets() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1";
        for (mode, preemption) in [
            (Some("none (voluntary) full\n"), Preemption::Off),
            (Some("none voluntary (full)\n"), Preemption::On),
            (Some("full (lazy)\n"), Preemption::On),
            (Some("none"), Preemption::NotShown),
            (None, Preemption::NotShown),
        ] {
            assert_eq!(shown(dynamic, mode), preemption, "{mode:?}");
        }
    }
}

//! The sum of all forks, in words.

use std::io::{self, Write};

use super::{copied, given_up};
use crate::output::wording::{List, size_of};
use crate::trace::event::ForkAccount;

/// Says what copy-on-write saved and cost, and what isn't known of it.
pub(super) fn write(out: &mut impl Write, total: &ForkAccount) -> io::Result<()> {
    let copied = copied(total);
    let saved = total.taken_over + given_up(total) + total.still_shared;
    if total.pages == 0 && total.not_surveyed.is_none() {
        return writeln!(out, "\nNo private page was present at a fork.");
    }
    let [saved_size, pages, copied] = [saved, total.pages, copied].map(size_of);
    if saved == 0 && total.unknown != 0 {
        write!(
            out,
            "\nOf {pages} that forks left shared {copied} were copied"
        )?;
    } else {
        write!(
            out,
            "\nCopy-on-write saved {saved_size} of {pages}: {copied} were copied"
        )?;
    }
    let parts = |parts: &[(&'static str, u64)]| {
        let parts = parts.iter().filter(|(_, pages)| *pages != 0);
        let parts: Vec<_> = parts
            .map(|(by, pages)| format!("{} {by}", size_of(*pages)))
            .collect();
        List(parts.into_iter()).to_string()
    };
    let by = parts(&[
        ("by the child", total.by_child),
        ("by the parent", total.by_parent),
        ("by others", total.by_others),
        ("by the fork itself, of pinned pages", total.at_once),
    ]);
    if !by.is_empty() {
        write!(out, " ({by})")?;
    }
    if total.before_exec != 0 {
        let before = size_of(total.before_exec);
        write!(out, ", {before} of them in vain, before an exec")?;
    }
    writeln!(out, ".")?;
    let rest = parts(&[
        (
            "reused without a copy, as the other side had left",
            total.taken_over,
        ),
        ("left unwritten at an exec", total.given_up.exec),
        ("left unwritten at an exit", total.given_up.exit),
        ("unmapped or dropped unwritten", total.given_up.munmap),
        ("still shared at the end", total.still_shared),
    ]);
    if !rest.is_empty() {
        writeln!(out, "Saved: {rest}.")?;
    }
    if total.unseen != 0 {
        let unseen = size_of(total.unseen);
        writeln!(
            out,
            "Of what is not said to be copied up to {unseen} may have been: the kernel took pages itself, which is not seen."
        )?;
    }
    if total.unknown != 0 {
        let unknown = size_of(total.unknown);
        writeln!(out, "What became of {unknown} is not known.")?;
    }
    if let Some(rest) = total.not_surveyed {
        match rest.pages {
            Some(pages) => write!(out, "About {} more was", size_of(pages))?,
            None => write!(out, "More was")?,
        }
        writeln!(
            out,
            " shared, too much to be surveyed at the fork: nobody was seen to copy or reuse it."
        )?;
    }
    if total.incomplete {
        writeln!(
            out,
            "Records were lost: of forks marked as incomplete more may have been copied."
        )?;
    }
    if total.copied_again != 0 {
        writeln!(
            out,
            "Beyond these {} were copied once more: nobody shared them, but the kernel held a reference.",
            size_of(total.copied_again)
        )?;
    }
    Ok(())
}

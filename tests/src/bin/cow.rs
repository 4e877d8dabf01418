//! Copy on write, seen from both sides of a fork: `cow [PAGES]`.
//!
//! Three areas are written, then shared by a fork. In each another process is the first to write:
//! - "child first": the child, then the parent while the child lives;
//! - "parent first": the parent, then the child;
//! - "after the child": nobody until the child has ended, then the parent.

use anyhow::{Context, Result};
use tests::subject::memory::Pages;
use tests::subject::process::{self, Gate};
use tests::subject::witness;

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    let count = match std::env::args().nth(1) {
        Some(count) => count.parse().context("usage: cow [PAGES]")?,
        None => 100,
    };

    let child_first = Pages::private(count)?;
    let parent_first = Pages::private(count)?;
    let after_child = Pages::private(count)?;
    for area in [child_first, parent_first, after_child] {
        area.write_all(1);
    }

    let (child_has_written, parent_has_written) = (Gate::new()?, Gate::new()?);
    let child = process::child(|| {
        write("child first: child", &child_first)?;
        child_has_written.open()?;
        parent_has_written.wait()?;
        write("parent first: child", &parent_first)
    })?;
    child_has_written.wait()?;
    write("child first: parent", &child_first)?;
    write("parent first: parent", &parent_first)?;
    parent_has_written.open()?;
    process::wait_success(child)?;
    write("after the child: parent", &after_child)
}

fn write(name: &str, pages: &Pages) -> Result<()> {
    (0..pages.count()).try_for_each(|i| witness::write(name, pages, i))
}

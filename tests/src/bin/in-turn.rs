//! Runs other subjects, one after the other: `in-turn NAME ARGS... , NAME ARGS...`. Each must end well.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use tests::subject::process;

fn main() -> Result<()> {
    process::begin();
    let here = env::current_exe()?;
    let words: Vec<_> = env::args().skip(1).collect();
    for subject in words.split(|word| word == ",") {
        let (name, args) = subject
            .split_first()
            .context("usage: in-turn NAME ARGS... , NAME ARGS...")?;
        let mut command = Command::new(here.with_file_name(name));
        process::in_child(|| Err(command.args(args).exec()).context("cannot exec"))
            .with_context(|| subject.join(" "))?;
    }
    Ok(())
}

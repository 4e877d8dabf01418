//! What `memtrace doctor` says on each kernel, for the documentation.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};

use super::outcome::Column;
use super::report::printable;
use crate::command::say;
use crate::workspace::Workspace;

/// The only line in the list that init reads. On a terminal, which a console is, doctor would use colours.
pub(crate) const LINE: &str = "doctor 300 /bin/env NO_COLOR=1 /bin/memtrace doctor";
/// Below the workspace.
const FILE: &str = "memtrace/src/doctor/KERNELS.md";
const HEAD: &str = "# What `memtrace doctor` says on each kernel

Made by `cargo xtask kernels --document`: Debian's kernels, each in a virtual machine.
";

/// Writes the page, if every guest came to its end.
pub(crate) fn write(workspace: &Workspace, columns: &[Column]) -> Result<()> {
    if let Some(column) = columns.iter().find(|column| column.fault.is_some()) {
        bail!("nothing is written: {}: {}", column.name, column.told());
    }
    let file = workspace.root.join(FILE);
    fs::write(&file, page(columns)).with_context(|| format!("cannot write {}", file.display()))?;
    say(format_args!("written: {}", file.display()));
    Ok(())
}

fn page(columns: &[Column]) -> String {
    let mut page = HEAD.to_owned();
    for column in columns {
        let said = column.ended.iter().flat_map(|ended| &ended.output);
        let said: Vec<_> = said.map(|line| printable(line)).collect();
        // A String takes whatever is written to it.
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n```\n{}\n```\n",
            column.name,
            column.release,
            said.join("\n").trim_matches('\n')
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Ended;
    use super::*;

    #[test]
    fn the_page_has_a_part_for_each_kernel() {
        let column = Column {
            name: "6.12".to_owned(),
            release: "linux=6.12.107 cpus=2".to_owned(),
            ended: vec![Ended {
                output: ["", "ok  BTF", "", "It works.", ""]
                    .map(str::to_owned)
                    .to_vec(),
                ..Ended::default()
            }],
            fault: None,
            retries: 0,
            time: Duration::from_secs(5),
        };
        let page = page(&[column]);
        let end = "\n## 6.12\n\nlinux=6.12.107 cpus=2\n\n```\nok  BTF\n\nIt works.\n```\n";
        assert_eq!(page.strip_prefix(HEAD), Some(end));
    }
}

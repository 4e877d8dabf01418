//! What takes minutes: memtrace under load, case by case. The cases are in `tests/soak`.

use anyhow::{Result, bail};

use crate::command::{as_root, outside_cargo, run, say};
use crate::live;
use crate::memtrace;
use crate::workspace::Workspace;

/// Runs the cases of these names, or all.
pub(crate) fn perform(workspace: &Workspace, names: &[String]) -> Result<()> {
    memtrace::build(workspace)?;

    say("building the cases, and the programs that they trace");
    let soak = live::build(workspace.cargo("test")?, live::SOAK)?.tests;
    let chosen = choose(&live::names(&mut outside_cargo(&soak))?, names)?;

    say(format_args!("as root: {} cases", chosen.len()));
    let mut command = as_root(&soak, &live::own_variables(workspace))?;
    command
        .current_dir(workspace.root.join("tests"))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .args(chosen);
    run(&mut command)
}

/// Those cases, named `group::case`, that have one of these names, or are in a group of that name; all if there are none.
fn choose(all: &[String], names: &[String]) -> Result<Vec<String>> {
    let has = |case: &str, name: &str| {
        let parts = case.split_once("::");
        case == name || parts.is_some_and(|(group, own)| group == name || own == name)
    };
    for name in names {
        if !all.iter().any(|case| has(case, name)) {
            bail!(
                "there is no case `{name}`; there are\n  {}",
                all.join("\n  ")
            );
        }
    }
    let is_chosen = |case: &&String| names.is_empty() || names.iter().any(|name| has(case, name));
    Ok(all.iter().filter(is_chosen).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_goes_by_its_own_name_or_its_groups() {
        let all = ["ring::one", "ring::two", "wide::three"].map(str::to_owned);
        let chosen = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            choose(&all, &names).map_err(|error| error.to_string())
        };
        assert_eq!(chosen(&[]), Ok(all.to_vec()));
        assert_eq!(chosen(&["ring"]), Ok(all[..2].to_vec()));
        assert_eq!(
            chosen(&["three", "ring::one"]),
            Ok(vec![all[0].clone(), all[2].clone()])
        );
        let wrong = chosen(&["four"]).expect_err("there is none");
        assert!(
            wrong.contains("`four`") && wrong.contains("wide::three"),
            "{wrong}"
        );
    }
}

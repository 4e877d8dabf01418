//! The build of memtrace that this one is compared with: a program, or a commit that is built first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::command::{capture, outside_cargo, run, say};
use crate::workspace::Workspace;

pub(super) struct Other {
    pub(super) program: PathBuf,
    /// For the report.
    pub(super) name: String,
}

/// The program, if there is such a file; else that revision, built.
pub(super) fn find(workspace: &Workspace, what: &str) -> Result<Other> {
    if Path::new(what).is_file() {
        // The tools start elsewhere.
        let program = fs::canonicalize(what).with_context(|| format!("--against {what}"))?;
        return Ok(Other {
            name: program.display().to_string(),
            program,
        });
    }
    let commit = resolve(&workspace.root, what)?;
    Ok(Other {
        program: build(workspace, &commit)?,
        name: if commit.starts_with(what) {
            commit
        } else {
            format!("{what} ({commit})")
        },
    })
}

/// The commit of a revision, by its id.
fn resolve(repository: &Path, revision: &str) -> Result<String> {
    let output = outside_cargo("git")
        .current_dir(repository)
        .args([
            "rev-parse",
            "--verify",
            "--quiet",
            "--short=12",
            "--end-of-options",
        ])
        .arg(format!("{revision}^{{commit}}"))
        .stdin(Stdio::null())
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!("--against {revision}: neither a program nor a revision that git knows here");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds a commit as this workspace is built, by the same compiler, in a checkout and a target folder that stay for the next
/// time.
fn build(workspace: &Workspace, commit: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("bench/against");
    let source = folder.join("source");
    let target = folder.join("target");
    say(format_args!("building {commit} in {}", folder.display()));
    check_out(&workspace.root, &source, commit)?;
    let mut cargo = workspace.cargo("build")?;
    run(cargo
        .args(["--release", "--package", "memtrace"])
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("release/memtrace"))
}

/// Has that folder be a worktree of the repository with that commit. What was changed in it is gone.
fn check_out(repository: &Path, source: &Path, commit: &str) -> Result<()> {
    let git = |folder: &Path, args: &[&str]| {
        let mut git = outside_cargo("git");
        git.arg("-C").arg(folder).args(args);
        git
    };
    if source.join(".git").exists() {
        return run(&mut git(
            source,
            &["checkout", "--quiet", "--detach", "--force", commit],
        ));
    }
    // It may be known from before somebody removed it: hence the second --force.
    let mut add = git(
        repository,
        &["worktree", "add", "--quiet", "--force", "--force"],
    );
    run(add.arg("--detach").arg(source).arg(commit))
}

/// The commit that the workspace is at, and whether there are changes.
pub(super) fn revision(workspace: &Workspace) -> Result<String> {
    let mut git = outside_cargo("git");
    git.arg("-C").arg(&workspace.root);
    git.args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    Ok(capture(&mut git)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, args: &[&str]) -> Result<()> {
        let mut git = outside_cargo("git");
        git.arg("-C").arg(folder);
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        run(git.args(args).stdout(Stdio::null()))
    }

    #[test]
    fn a_revision_is_checked_out_again_and_again() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let repository = folder.path().join("repository");
        let source = folder.path().join("source");
        fs::create_dir(&repository)?;
        git(&repository, &["init", "--quiet"])?;
        for text in ["one", "two"] {
            fs::write(repository.join("file"), text)?;
            git(&repository, &["add", "file"])?;
            git(&repository, &["commit", "--quiet", "-m", text])?;
        }
        let there = || fs::read_to_string(source.join("file"));
        check_out(&repository, &source, &resolve(&repository, "HEAD~1")?)?;
        assert_eq!(there()?, "one");
        fs::write(source.join("file"), "changed")?;
        check_out(&repository, &source, &resolve(&repository, "HEAD")?)?;
        assert_eq!(there()?, "two");
        fs::remove_dir_all(&source)?;
        check_out(&repository, &source, &resolve(&repository, "HEAD")?)?;
        assert_eq!(there()?, "two");
        let unknown = resolve(&repository, "none").expect_err("there is none");
        assert!(
            unknown.to_string().contains("--against none: neither"),
            "{unknown}"
        );
        Ok(())
    }
}

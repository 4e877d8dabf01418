//! As whom PROG runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::unistd::User;
use tests::harness::{Memtrace, Run, subject};

#[test]
fn under_sudo_as_the_user_who_typed_it() -> Result<()> {
    let nobody = nobody()?;
    let output = inherit(under_sudo(Memtrace::new()?, &nobody))?;
    runs_as(&output, &nobody)
}

#[test]
fn under_sudo_with_a_user_chosen() -> Result<()> {
    let memtrace = under_sudo(Memtrace::new()?, &nobody()?).options(["--user", "root"]);
    let root = User::from_name("root")?.context("no user root")?;
    let output = inherit(memtrace)?;
    ensure!(output.contains("uid 0 0 gid 0 0\n"), "{output}");
    ensure!(
        output.contains(&format!("(\"HOME\", \"{}\")", root.dir.display())),
        "{output}"
    );
    Ok(())
}

#[test]
fn as_another_user() -> Result<()> {
    let nobody = nobody()?;
    runs_as(
        &inherit(Memtrace::new()?.options(["--user", "nobody"]))?,
        &nobody,
    )
}

#[test]
fn without_sudo_as_root() -> Result<()> {
    let output = inherit(Memtrace::new()?)?;
    ensure!(output.contains("uid 0 0 gid 0 0\n"), "{output}");
    Ok(())
}

fn nobody() -> Result<User> {
    User::from_name("nobody")?.context("no user nobody")
}

/// As sudo would start it.
fn under_sudo(memtrace: Memtrace, user: &User) -> Memtrace {
    memtrace
        .variable("SUDO_USER", &user.name)
        .variable("SUDO_UID", user.uid.to_string())
        .variable("SUDO_GID", user.gid.to_string())
        .variable("SUDO_COMMAND", "memtrace")
}

/// What the subject `inherit` prints, from a place that every user can reach.
fn inherit(memtrace: Memtrace) -> Result<String> {
    let program: PathBuf = memtrace.folder().join("inherit");
    fs::copy(subject("inherit"), &program)?;
    let memtrace = memtrace.with_json();
    let mut command = memtrace.command([program]);
    let run = Run::of(command.current_dir("/"))?;
    ensure!(run.code() == Some(0), "{run:?}");
    Ok(run.stdout)
}

fn runs_as(output: &str, user: &User) -> Result<()> {
    let (uid, gid) = (user.uid, user.gid);
    ensure!(
        output.contains(&format!("uid {uid} {uid} gid {gid} {gid}\n")),
        "{output}"
    );
    ensure!(
        output.contains(&format!("groups Ok([Gid({gid})])")),
        "{output}"
    );
    ensure!(
        output.contains(&format!("(\"HOME\", \"{}\")", user.dir.display())),
        "{output}"
    );
    let capabilities = output.lines().find(|line| line.starts_with("CapEff"));
    ensure!(
        capabilities.is_some_and(|line| line.ends_with("\t0000000000000000")),
        "{capabilities:?}"
    );
    Ok(())
}

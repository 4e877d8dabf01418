//! Running other programs: what is said, what is inherited, who is root.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Says on stderr what is being done.
pub(crate) fn say(what: impl std::fmt::Display) {
    eprintln!("==> {what}");
}

/// A command line as one would type it, without its environment.
pub(crate) fn typed(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs `command` with this terminal; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", typed(command));
    }
    Ok(())
}

/// Runs `command` and returns what it printed; its stderr goes to this terminal.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", typed(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not text", typed(command)))
}

/// The version in `rustc 1.95.0 (59807616e 2026-04-14)`.
pub(crate) fn second_word(line: &str) -> Option<&str> {
    line.split_whitespace().nth(1)
}

/// The first words of the error when `command` does not even start.
pub(crate) fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().display())
}

/// A command for a program that is no part of the build: cargo's own variables, which `cargo xtask`
/// brings along, are taken away, as the program is to run as if it were started by hand.
pub(crate) fn outside_cargo(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| is_cargos(name)) {
        command.env_remove(name);
    }
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        match without(&path, &cargos_folders()) {
            Some(rest) => command.env("LD_LIBRARY_PATH", rest),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// Like [`outside_cargo`], but as root: through sudo if this isn't root already. Sudo drops the
/// environment, so what the program needs of it is named in `variables`, beside PATH.
pub(crate) fn as_root(program: &Path, variables: &[(&str, OsString)]) -> Result<Command> {
    let Some(sudo) = way_to_root()? else {
        let mut command = outside_cargo(program);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        return Ok(command);
    };
    let mut command = outside_cargo(sudo);
    command.arg("env");
    let path = env::var_os("PATH").map(|path| ("PATH", path));
    for (name, value) in path.iter().chain(variables) {
        let mut assignment = OsString::from(*name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program);
    Ok(command)
}

/// Where sudo is, unless this is root already. Fails if there is no way to become root.
pub(crate) fn way_to_root() -> Result<Option<PathBuf>> {
    if nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let Ok(sudo) = which::which("sudo") else {
        bail!("this needs root, and there is no sudo here: become root (`su -`) and run it again");
    };
    Ok(Some(sudo))
}

/// Whether cargo or rustup's proxy sets this variable for what they run. (`CARGO_HOME` and settings
/// such as `CARGO_NET_OFFLINE` are the user's own.)
fn is_cargos(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    matches!(
        &*name,
        "CARGO" | "RUSTUP_TOOLCHAIN" | "RUSTUP_TOOLCHAIN_SOURCE" | "RUST_RECURSION_COUNT"
    ) || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
}

/// Under which folders cargo and rustup extend `LD_LIBRARY_PATH`: xtask's own and the toolchain's.
fn cargos_folders() -> Vec<PathBuf> {
    let xtask = env::current_exe().ok();
    let cargo = env::var_os("CARGO").map(PathBuf::from);
    [
        xtask.as_deref().and_then(Path::parent),
        cargo
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent),
    ]
    .into_iter()
    .flatten()
    .map(Path::to_path_buf)
    .collect()
}

/// A search path without what lies in `folders`; `None` if nothing is left.
fn without(path: &OsStr, folders: &[PathBuf]) -> Option<OsString> {
    let rest: Vec<_> = env::split_paths(path)
        .filter(|entry| !folders.iter().any(|folder| entry.starts_with(folder)))
        .collect();
    if rest.is_empty() {
        return None;
    }
    env::join_paths(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_folders_leave_a_search_path() {
        let folders = [PathBuf::from("/target/debug"), PathBuf::from("/toolchain")];
        let left = |path: &str| without(OsStr::new(path), &folders);
        assert_eq!(
            left("/target/debug:/target/debug/deps:/toolchain/lib"),
            None
        );
        assert_eq!(left("/target/debug/deps:/opt/lib"), Some("/opt/lib".into()));
        assert_eq!(left("/target/debugger"), Some("/target/debugger".into()));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(second_word("bpf-linker 0.10.4\n"), Some("0.10.4"));
        assert_eq!(
            second_word("rustc 1.95.0 (59807616e 2026-04-14)"),
            Some("1.95.0")
        );
        assert_eq!(second_word(""), None);
    }

    #[test]
    fn only_what_cargo_sets_is_cargos() {
        assert!(is_cargos(OsStr::new("CARGO_PKG_NAME")));
        assert!(is_cargos(OsStr::new("CARGO")));
        assert!(!is_cargos(OsStr::new("CARGO_HOME")));
        assert!(!is_cargos(OsStr::new("CARGO_NET_OFFLINE")));
    }

    #[test]
    fn a_failed_command_is_named() {
        let message = |command: &mut Command| run(command).map_err(|error| error.to_string());
        assert_eq!(
            message(Command::new("sh").args(["-c", "exit 3"])),
            Err("`sh -c exit 3` failed (exit status: 3)".to_owned())
        );
        assert_eq!(
            message(&mut Command::new("/no/such/program")),
            Err("cannot start `/no/such/program`".to_owned())
        );
    }
}

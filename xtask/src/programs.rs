//! The real programs that the live tests trace. What the machine lacks is fetched from Debian and
//! unpacked in the target directory: nothing is installed, no service starts.

use std::env;
use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, Status, codename, unpack};
use crate::command::say;
use crate::workspace::Workspace;

/// Programs that can be had from the Debian package of the same name.
const FROM_DEBIAN: [&str; 3] = ["python3", "git", "redis-server"];

/// Where the programs are.
pub(crate) struct Programs {
    pub(crate) redis_server: PathBuf,
    /// PATH, with what was fetched at its end.
    pub(crate) path: OsString,
}

/// Makes the programs present.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Programs> {
    // Whoever got here has a shell, and gcc or another compiler to link with.
    if which::which("gcc").is_err() {
        bail!("the live tests trace gcc, which is missing: `apt-get install gcc`");
    }
    let private = workspace.debian().join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(env::split_paths(&path).chain([private.clone()]))
        .with_context(|| format!("{} cannot be put in PATH", private.display()))?;
    let find = |program: &str| which::which_in(program, Some(&path), &workspace.root).ok();

    let missing: Vec<_> = FROM_DEBIAN
        .into_iter()
        .filter(|program| find(program).is_none())
        .collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        say(format_args!(
            "{names}: not here, fetching Debian's packages"
        ));
        let programs: Vec<_> = missing.iter().map(|program| (*program, "")).collect();
        fetch(&workspace.debian(), &missing, &programs).with_context(|| {
            format!(
                "the live tests trace {names}, which can't be had; remedy: `apt-get install {}`",
                missing.join(" ")
            )
        })?;
    }
    for program in FROM_DEBIAN {
        match find(program) {
            Some(found) => say(format_args!("{program}: {}", found.display())),
            None => bail!("{program} is still missing: remove {}", private.display()),
        }
    }
    Ok(Programs {
        redis_server: find("redis-server").context("redis-server is missing")?,
        path,
    })
}

/// Unpacks the packages and what they depend on, then puts a wrapper for each program in `bin`, which calls it with the
/// options beside its name; in them `$root` is where the packages are.
pub(crate) fn fetch(debian: &Path, packages: &[&str], programs: &[(&str, &str)]) -> Result<()> {
    let apt = Apt::open(debian, &codename()?, Status::AsTheMachine)?;
    let root = debian.join("root");
    for package in apt.download_with_dependencies(packages)? {
        unpack(&package, &root)?;
    }
    apt.remove_downloads()?;
    let bin = debian.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    for (program, options) in programs {
        if which::which_in(program, Some(root.join("usr/bin")), &root).is_err() {
            bail!(
                "Debian's packages {} do not have /usr/bin/{program}",
                packages.join(", ")
            );
        }
        let wrapper = bin.join(program);
        fs::write(&wrapper, wrapper_script(program, options))
            .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", wrapper.display()))?;
    }
    Ok(())
}

/// A script beside `root` that becomes the program in there, with its libraries. It forks nothing,
/// so that a trace of it is a trace of the program.
fn wrapper_script(program: &str, options: &str) -> String {
    format!(
        "#!/bin/sh\n\
         root=\"${{0%/*}}/../root\"\n\
         export LD_LIBRARY_PATH=\"$root/usr/lib/{ARCH}-linux-gnu:$root/lib/{ARCH}-linux-gnu\"\n\
         export GIT_EXEC_PATH=\"$root/usr/lib/git-core\"\n\
         exec \"$root/usr/bin/{program}\" {options} \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_wrapper_becomes_the_program_beside_it() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for part in ["bin", "root/usr/bin"] {
            fs::create_dir_all(folder.path().join(part))?;
        }
        std::os::unix::fs::symlink("/bin/echo", folder.path().join("root/usr/bin/program"))?;
        let wrapper = folder.path().join("bin/program");
        fs::write(&wrapper, wrapper_script("program", "one"))?;
        // Through the shell: a file just written may still be open in a child of another test.
        let output = Command::new("sh")
            .arg(&wrapper)
            .args(["a b", "c"])
            .output()?;
        assert_eq!(String::from_utf8(output.stdout)?, "one a b c\n");
        Ok(())
    }
}

//! What a kernel must be for memtrace to begin at all: known before anything is loaded, and said in one line.

use std::{env::consts::ARCH, fs, path::Path};

use anyhow::{Result, bail, ensure};
use memtrace_ebpf::layout::{SUPPORTED, Version};
use nix::sys::utsname::uname;

use super::check_page_size;

/// The architectures that memtrace knows, as Rust names them.
const KNOWN: [&str; 2] = ["x86_64", "aarch64"];
/// The same, as people do.
pub const KNOWN_NAMES: &str = "x86-64 and arm64";
/// Where the kernel says how far it is locked down.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Where it lists its security modules, of which lockdown is one.
const MODULES: &str = "/sys/kernel/security/lsm";

/// How far the kernel is locked down (`security/lockdown/lockdown.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// The kernel doesn't show it, as securityfs isn't mounted.
    NotShown,
    /// The kernel has no such thing.
    NotThere,
    /// Not at all.
    None,
    /// Nothing may change the kernel. eBPF may still read its memory.
    Integrity,
    /// Nothing may read its memory either.
    Confidentiality,
}

/// Fails, in one line, where memtrace can't work whatever else the kernel grants.
///
/// # Errors
/// The architecture is unknown, the kernel too old, locked down for confidentiality, or has pages of another size.
pub fn require() -> Result<()> {
    judge(ARCH, &release(), lockdown())?;
    check_page_size()
}

/// The kernel's release, as `uname -r` shows it; nothing if the kernel doesn't say.
pub fn release() -> String {
    uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// How far the kernel is locked down.
pub fn lockdown() -> Lockdown {
    match fs::read_to_string(LOCKDOWN) {
        Ok(modes) => chosen(&modes),
        Err(_) if Path::new(MODULES).exists() => Lockdown::NotThere,
        Err(_) => Lockdown::NotShown,
    }
}

/// The kernels that memtrace runs on, in words.
pub fn oldest() -> String {
    let (major, minor) = SUPPORTED.start();
    format!("Linux {major}.{minor} or later")
}

/// The kernels that memtrace was made for, in words.
pub fn supported() -> String {
    let ((major, minor), (newest, its_minor)) = SUPPORTED.into_inner();
    format!("Linux {major}.{minor} to {newest}.{its_minor}")
}

/// Whether a release is one that memtrace knows. One that isn't a version is taken for good: what it lacks is noticed.
pub fn is_old(release: &str) -> bool {
    version(release).is_some_and(|version| version < *SUPPORTED.start())
}

/// Whether memtrace knows an architecture.
pub fn is_known(arch: &str) -> bool {
    KNOWN.contains(&arch)
}

fn judge(arch: &str, release: &str, lockdown: Lockdown) -> Result<()> {
    ensure!(
        is_known(arch),
        "this machine is {arch}: memtrace runs on {KNOWN_NAMES}"
    );
    if is_old(release) {
        bail!(
            "this kernel is Linux {release}: memtrace needs {}",
            oldest()
        );
    }
    ensure!(
        lockdown != Lockdown::Confidentiality,
        "this kernel is locked down for confidentiality, so nothing may read its memory: boot without lockdown=confidentiality"
    );
    Ok(())
}

/// The first two numbers of a release: 6.12 of `6.12.48+deb13-cloud-amd64`.
pub fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The one in brackets: `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Lockdown {
    let inside = modes
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match inside {
        Some(("none", _)) => Lockdown::None,
        Some(("integrity", _)) => Lockdown::Integrity,
        Some(("confidentiality", _)) => Lockdown::Confidentiality,
        _ => Lockdown::NotShown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arch: &str, release: &str, lockdown: Lockdown) -> String {
        judge(arch, release, lockdown)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named() {
        for old in [
            "4.19.0-27-amd64",
            "5.9.16",
            "5.4.0-1103-aws",
            "3.10.0-1160.el7.x86_64",
            "5.9-rc1",
        ] {
            assert_eq!(
                refused("x86_64", old, Lockdown::None),
                format!("this kernel is Linux {old}: memtrace needs Linux 5.10 or later")
            );
        }
        for known in [
            "5.10.0-36-cloud-amd64",
            "5.10",
            "6.1.0",
            "6.18.5+",
            "7.3.2+deb14-amd64",
            "10.0-rc1",
            "",
            "mine",
        ] {
            assert!(
                judge("x86_64", known, Lockdown::NotShown).is_ok(),
                "{known}"
            );
        }
    }

    #[test]
    fn the_readme_names_the_oldest_kernel() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&format!("You need {} on ", oldest())));
        assert_eq!(supported(), "Linux 5.10 to 7.3");
    }

    #[test]
    fn an_unknown_machine_is_named() {
        let line = refused("riscv64", "6.12.0", Lockdown::None);
        assert!(
            line.starts_with("this machine is riscv64: memtrace runs on x86-64"),
            "{line}"
        );
    }

    #[test]
    fn only_confidentiality_is_in_the_way() {
        assert!(judge("x86_64", "6.12", Lockdown::Integrity).is_ok());
        let line = refused("x86_64", "6.12", Lockdown::Confidentiality);
        assert!(
            line.ends_with("boot without lockdown=confidentiality"),
            "{line}"
        );
    }

    #[test]
    fn the_lockdown_is_the_one_in_brackets() {
        assert_eq!(chosen("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(
            chosen("none [integrity] confidentiality\n"),
            Lockdown::Integrity
        );
        assert_eq!(
            chosen("none integrity [confidentiality]\n"),
            Lockdown::Confidentiality
        );
        assert_eq!(chosen(""), Lockdown::NotShown);
        assert_eq!(chosen("[other]"), Lockdown::NotShown);
    }
}

//! Debian's packages without installing them: apt with lists, a cache and a status of its own, which
//! needs no root and leaves the machine as it is. The mirror is the one the machine's apt uses, and
//! apt checks Debian's signature as ever.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cannot_start, capture, run, typed};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Of the machine's apt targets, one a line, the fields that [`main_mirror`] reads.
const TARGET_FORMAT: &str = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
/// How the suites end that have a release's security updates.
const SECURITY: &str = "-security";

/// What the private apt takes to be installed.
#[derive(Clone, Copy)]
pub(crate) enum Status {
    NothingInstalled,
    /// What the machine has, so that dependencies are fetched only where they are missing.
    AsTheMachine,
}

pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// A private apt in `folder` for one suite, its package lists fresh. The packages are the machine's architecture's.
    pub(crate) fn open(folder: &Path, suite: &str, status: Status) -> Result<Self> {
        Self::at(folder.join(suite), suite, None, status)
    }

    /// Like [`Self::open`] where nothing is installed, for another architecture than the machine's perhaps.
    pub(crate) fn open_for(folder: &Path, suite: &str, architecture: &str) -> Result<Self> {
        let folder = folder.join(format!("{suite}-{architecture}"));
        Self::at(folder, suite, Some(architecture), Status::NothingInstalled)
    }

    fn at(
        folder: PathBuf,
        suite: &str,
        architecture: Option<&str>,
        status: Status,
    ) -> Result<Self> {
        for (needed, package) in [("apt-get", "apt"), ("dpkg-deb", "dpkg")] {
            if which::which(needed).is_err() {
                bail!("there is no {needed} here (Debian's package {package})");
            }
        }
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install Debian's package debian-archive-keyring");
        }
        let mirror = machines_mirror(suite)?;
        let apt = Self { folder };
        for part in ["lists/partial", "cache/archives/partial", "state"] {
            let part = apt.folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        apt.write("sources.list", source)?;
        apt.write("apt.conf", apt.configuration(architecture))?;
        let installed = match status {
            Status::NothingInstalled => Vec::new(),
            Status::AsTheMachine => fs::read("/var/lib/dpkg/status")
                .context("cannot read what dpkg has installed (/var/lib/dpkg/status)")?,
        };
        apt.write("state/status", installed)?;
        run(apt.command("apt-get").arg("update"))
            .context("Debian's mirror can't be reached: see apt's lines above")?;
        Ok(apt)
    }

    /// The versions of a package that the suite has, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = capture(self.command("apt-cache").args(["madison", package]))?;
        Ok(madison_versions(&table))
    }

    /// The names of all packages that begin so.
    pub(crate) fn packages(&self, begin: &str) -> Result<String> {
        capture(self.command("apt-cache").args(["pkgnames", begin]))
    }

    /// Fetches one package file, without what it depends on.
    pub(crate) fn download(&self, package: &str, version: &str) -> Result<PathBuf> {
        self.remove_downloads()?;
        let mut apt = self.command("apt-get");
        apt.current_dir(self.archives())
            .args(["download", &format!("{package}={version}")]);
        run(&mut apt)?;
        self.downloads()?
            .pop()
            .context("apt-get left no package file")
    }

    /// Fetches packages and what they depend on, as far as it is not installed.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.remove_downloads()?;
        let mut apt = self.command("apt-get");
        apt.args([
            "install",
            "--download-only",
            "--yes",
            "--no-install-recommends",
        ])
        .args(packages);
        run(&mut apt)?;
        self.downloads()
    }

    /// Removes the package files, which are of no use once unpacked.
    pub(crate) fn remove_downloads(&self) -> Result<()> {
        for file in self.downloads()? {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        Ok(())
    }

    fn downloads(&self) -> Result<Vec<PathBuf>> {
        let archives = self.archives();
        let mut files = Vec::new();
        for entry in fs::read_dir(&archives)
            .with_context(|| format!("cannot list {}", archives.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, contents).with_context(|| format!("cannot write {}", file.display()))
    }

    /// One of apt's programs, kept to this folder.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8")
            .arg("-c")
            .arg(self.folder.join("apt.conf"));
        command
    }

    /// The configuration that keeps apt to this folder. Its lock on dpkg lies beside the status.
    fn configuration(&self, architecture: Option<&str>) -> String {
        let path = |part: &str| self.folder.join(part).display().to_string();
        [
            ("Dir::State", path("state")),
            ("Dir::State::lists", path("lists")),
            ("Dir::State::status", path("state/status")),
            ("Dir::Cache", path("cache")),
            ("Dir::Cache::archives", path("cache/archives")),
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", path("no-more-sources")),
            // As root apt would download as the user _apt, who may not be let in here.
            ("APT::Sandbox::User", String::new()),
            // Without this apt-get takes a mirror that it can't reach for a mere warning.
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            // Where the machine's apt fetches what software centres show, these lists are of no use here.
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false".to_owned(),
            ),
            ("Acquire::Retries", "3".to_owned()),
        ]
        .into_iter()
        .chain(architecture.map(|name| ("APT::Architecture", name.to_owned())))
        // A list, which would have the machine's as well.
        .chain(architecture.map(|name| ("APT::Architectures", name.to_owned())))
        .map(|(option, value)| format!("{option} \"{value}\";\n"))
        .collect::<Vec<_>>()
        .concat()
    }
}

/// Unpacks a whole package file into `root`, as dpkg would into `/`.
pub(crate) fn unpack(package: &Path, root: &Path) -> Result<()> {
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .args([package, root]))
    .with_context(|| format!("cannot unpack {}", package.display()))
}

/// Unpacks one folder of a package file, such as `./usr/src`, without what in it is called `except`.
/// Its contents land in `into`.
pub(crate) fn unpack_folder(
    package: &Path,
    folder: &str,
    except: Option<&str>,
    into: &Path,
) -> Result<()> {
    let mut reader = Command::new("dpkg-deb");
    reader
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped());
    let mut reading = reader.spawn().with_context(|| cannot_start(&reader))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--file=-", "--directory"])
        .arg(into)
        .args(except.map(|name| format!("--exclude={folder}/{name}")))
        .arg(format!("--strip-components={}", folder.split('/').count()))
        .arg(folder);
    if let Some(files) = reading.stdout.take() {
        tar.stdin(files);
    }
    let unpacked = tar.output().with_context(|| cannot_start(&tar))?;
    // It holds the pipe's end: without this dpkg-deb would wait for ever for a tar that failed.
    drop(tar);
    let read = reading.wait().with_context(|| cannot_start(&reader))?;
    if !unpacked.status.success() {
        // A full disk makes it complain of every file: the first complaint tells.
        let complaints = String::from_utf8_lossy(&unpacked.stderr);
        let first = complaints.lines().next().unwrap_or("tar failed");
        bail!(
            "cannot unpack {} to {}: {first}",
            package.display(),
            into.display()
        );
    }
    if !read.success() {
        bail!("`{}` failed ({read})", typed(&reader));
    }
    Ok(())
}

/// The machine's Debian release, such as bookworm.
pub(crate) fn codename() -> Result<String> {
    let text = match fs::read_to_string("/etc/os-release") {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.context("cannot read /etc/os-release")?,
    };
    let codename = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no Debian release: Debian's packages need a Debian machine")
}

/// The address of the mirror that the machine's apt uses for the archive that has the suite: Debian's main one, or that
/// of the security updates.
fn machines_mirror(suite: &str) -> Result<String> {
    let codename = codename()?;
    // With what the archives say of themselves apt lists those that it has fetched; before the first
    // `apt-get update` there are none, and only what the sources say is known.
    for information in ["--release-info", "--no-release-info"] {
        let targets = capture(Command::new("apt-get").args([
            "indextargets",
            information,
            "--format",
            TARGET_FORMAT,
            "Created-By: Packages",
        ]))?;
        let main = main_mirror(&targets, &codename);
        let mirror = if suite.ends_with(SECURITY) {
            security_mirror(&targets, &codename).or_else(|| main.map(beside))
        } else {
            main.map(str::to_owned)
        };
        if let Some(mirror) = mirror {
            return Ok(mirror);
        }
    }
    bail!(
        "the machine's apt has no mirror of Debian's main archive: add one to \
         /etc/apt/sources.list"
    )
}

/// The address of Debian's main archive among the machine's apt targets: that of its release, not
/// the security archive's nor another vendor's.
fn main_mirror<'a>(targets: &'a str, codename: &str) -> Option<&'a str> {
    mirror(targets, |release| {
        let release = release
            .strip_suffix("-updates")
            .or_else(|| release.strip_suffix("-backports"))
            .unwrap_or(release);
        [codename, "stable", "testing", "unstable", "sid"].contains(&release)
    })
}

/// The address of the archive of security updates among them.
fn security_mirror(targets: &str, codename: &str) -> Option<String> {
    let releases = [codename, "stable", "testing"];
    mirror(targets, |release| {
        let release = release.strip_suffix(SECURITY);
        release.is_some_and(|release| releases.contains(&release))
    })
    .map(str::to_owned)
}

/// Where the security updates are if they are on the main archive's mirror.
fn beside(main: &str) -> String {
    format!("{}-security", main.trim_end_matches('/'))
}

fn mirror(targets: &str, is_wanted: impl Fn(&str) -> bool) -> Option<&str> {
    targets.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (address, release, component) = (fields.next()?, fields.next()?, fields.next()?);
        // Where apt does not know the origin it leaves the field as it is.
        let origin = fields.next().unwrap_or_default();
        (component == "main" && is_wanted(release) && ["Debian", "$(ORIGIN)"].contains(&origin))
            .then_some(address)
    })
}

/// The second column of `apt-cache madison`.
fn madison_versions(table: &str) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_mirror_is_neither_security_nor_another_vendors() {
        let targets = "http://packages.example/apt cloud-sdk main cloud-sdk\n\
            http://vendor.example/linux bookworm main Vendor\n\
            http://mirror.example/debian-security/ bookworm-security main Debian\n\
            http://mirror.example/debian/ bookworm contrib Debian\n\
            http://mirror.example/debian/ bookworm main Debian\n";
        assert_eq!(
            main_mirror(targets, "bookworm"),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(main_mirror(targets, "trixie"), None);
        assert_eq!(main_mirror("", "bookworm"), None);
        assert_eq!(
            security_mirror(targets, "bookworm").as_deref(),
            Some("http://mirror.example/debian-security/")
        );
        assert_eq!(security_mirror(targets, "trixie"), None);
        assert_eq!(
            beside("http://mirror.example/debian/"),
            "http://mirror.example/debian-security"
        );
    }

    #[test]
    fn the_mirror_is_found_before_the_first_update() {
        let targets = "http://mirror.example/debian/ trixie-updates main $(ORIGIN)\n";
        assert_eq!(
            main_mirror(targets, "trixie"),
            Some("http://mirror.example/debian/")
        );
    }

    #[test]
    fn madisons_table_is_read() {
        let table = "  rust-src | 1.95.0+dfsg1-1~bpo13+1 | http://mirror.example/debian \
            trixie-backports/main amd64 Packages\n\
            rust-src | 1.94.1-2 | http://mirror.example/debian sid/main amd64 Packages\n";
        assert_eq!(
            madison_versions(table),
            ["1.95.0+dfsg1-1~bpo13+1", "1.94.1-2"]
        );
        assert!(madison_versions("").is_empty());
    }
}

//! The kernels, and the guests that run them.

use anyhow::{Result, bail};

use super::plan::{self, Plan};
use crate::cross::Target;

/// A kernel of Debian's, the cloud flavour: it is small, and has what a virtual machine needs built in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) suite: &'static str,
    /// What the name of its package begins with; of several the newest is taken.
    pub(crate) package: &'static str,
    /// The folder of the package with the image, its name beginning with `vmlinuz`.
    pub(crate) folder: &'static str,
    pub(crate) modules: Modules,
    pub(crate) target: Target,
}

/// Where a kernel's modules are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Modules {
    /// What the name of their package begins with; what follows is the kernel's version.
    package: &'static str,
    /// The folder with those of each version.
    folder: &'static str,
}

impl Kernel {
    /// What the package's name ends with. (There are `-dbg` and `-unsigned` as well.)
    pub(crate) fn package_end(&self) -> String {
        format!("-cloud-{}", self.target.debian())
    }

    /// The package with the module of overlayfs, which the cloud flavour hasn't built in, and its folder there, by the
    /// name of the image's package.
    pub(crate) fn overlayfs(&self, image: &str) -> (String, String) {
        let version = image.trim_start_matches(|c: char| !c.is_ascii_digit());
        let Modules { package, folder } = self.modules;
        let path = format!("{folder}/{version}/kernel/fs/overlayfs");
        (format!("{package}{version}"), path)
    }
}

const BOOT: &str = "./boot";
/// With the image from 6.19 on.
const USR_LIB: &str = "./usr/lib/modules";
/// In the image's package until 6.18.
const BESIDE: Modules = Modules {
    package: "linux-image-",
    folder: USR_LIB,
};
/// Until 6.1.
const OLD: Modules = Modules {
    folder: "./lib/modules",
    ..BESIDE
};

const fn on_x86(name: &'static str, suite: &'static str, package: &'static str) -> Kernel {
    Kernel {
        name,
        suite,
        package,
        folder: BOOT,
        modules: BESIDE,
        target: Target::X86_64,
    }
}

static LINUX_5_10: Kernel = Kernel {
    modules: OLD,
    ..on_x86("5.10", "bullseye-security", "linux-image-5.10.")
};
static LINUX_6_1: Kernel = Kernel {
    modules: OLD,
    ..on_x86("6.1", "bookworm", "linux-image-6.1.")
};
static LINUX_6_12: Kernel = on_x86("6.12", "trixie", "linux-image-6.12.");
static LINUX_6_18: Kernel = on_x86("6.18", "trixie-backports", "linux-image-6.18.");
static NEWEST: Kernel = Kernel {
    folder: USR_LIB,
    modules: Modules {
        package: "linux-modules-",
        folder: USR_LIB,
    },
    ..on_x86("newest", "trixie-backports", "linux-binary-")
};
static LINUX_6_12_ARM64: Kernel = Kernel {
    target: Target::Aarch64,
    ..on_x86("6.12-arm64", "trixie", "linux-image-6.12.")
};

/// A virtual machine: a column of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) kernel: &'static Kernel,
    pub(crate) cpus: u32,
    /// Nodes of memory, each with as many of the processors.
    pub(crate) nodes: u32,
    /// What its kernel's command line has beside what each has.
    pub(crate) append: &'static str,
    /// What `init` must tell of it, so that a variant is what it is called.
    pub(crate) facts: &'static [&'static str],
    pub(crate) plan: Plan,
    /// What page faults can be observed by, as `--backend` calls it.
    pub(crate) backends: &'static [&'static str],
}

const fn plain(kernel: &'static Kernel) -> Guest {
    Guest {
        name: kernel.name,
        kernel,
        cpus: 2,
        nodes: 1,
        append: "",
        facts: &["cpus=2", "lockdown=none"],
        plan: Plan::All,
        backends: &["tracepoints", "fentry"],
    }
}

const fn variant(name: &'static str) -> Guest {
    Guest {
        name,
        plan: plan::VARIANT,
        ..plain(&LINUX_6_12)
    }
}

/// All guests, in the table's order.
pub(crate) static GUESTS: [Guest; 13] = [
    plain(&LINUX_5_10),
    plain(&LINUX_6_1),
    // QEMU's processor has five levels of page tables; the kernel uses them if built so.
    Guest {
        facts: &["cpus=2", "lockdown=none", "levels=5", "kaslr=on"],
        ..plain(&LINUX_6_12)
    },
    plain(&LINUX_6_18),
    plain(&NEWEST),
    Guest {
        append: "no5lvl",
        facts: &["levels=4", "kaslr=on"],
        ..variant("6.12-4level")
    },
    Guest {
        append: "nokaslr",
        facts: &["kaslr=off"],
        ..variant("6.12-nokaslr")
    },
    Guest {
        cpus: 1,
        facts: &["cpus=1"],
        ..variant("6.12-1cpu")
    },
    Guest {
        nodes: 2,
        facts: &["cpus=2", "nodes=2"],
        plan: plan::NODES,
        ..variant("6.12-2nodes")
    },
    // Before 6.15 a hook on a function can't keep the kernel from switching tasks.
    Guest {
        append: "preempt=full",
        facts: &["preempt=full"],
        plan: plan::PREEMPT,
        backends: &["tracepoints"],
        ..variant("6.12-preempt")
    },
    Guest {
        append: "lockdown=integrity",
        facts: &["lockdown=integrity"],
        ..variant("6.12-integrity")
    },
    Guest {
        append: "lockdown=confidentiality",
        facts: &["lockdown=confidentiality"],
        plan: plan::REFUSED,
        ..variant("6.12-confidentiality")
    },
    // No tracepoint tells of an exception there.
    Guest {
        backends: &["fentry"],
        ..plain(&LINUX_6_12_ARM64)
    },
];

/// The guests that every change has to pass.
pub(crate) const OF_CHANGES: [&str; 3] = ["5.10", "6.12", "newest"];

/// The guests of those names, in the table's order; all if there is no name.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Guest>> {
    let known = || GUESTS.iter().map(|guest| guest.name);
    if let Some(unknown) = names.iter().find(|name| !known().any(|one| one == *name)) {
        bail!(
            "there is no guest `{unknown}`; there are {}",
            known().collect::<Vec<_>>().join(", ")
        );
    }
    let is_wanted =
        |guest: &&Guest| names.is_empty() || names.iter().any(|name| name == guest.name);
    Ok(GUESTS.iter().filter(is_wanted).collect())
}

/// The newest of these packages, by the numbers in their names.
pub(crate) fn newest<'a>(
    kernel: &Kernel,
    packages: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let end = kernel.package_end();
    packages
        .filter(|name| {
            let version = name.strip_prefix(kernel.package);
            // Not `linux-binary-unsigned-7.2...`.
            name.ends_with(&end)
                && version.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .max_by_key(|name| {
            let numbers = name.split(|c: char| !c.is_ascii_digit());
            numbers
                .filter_map(|number| number.parse().ok())
                .collect::<Vec<u64>>()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(chosen: &[&str]) -> Result<Vec<&'static str>> {
        let chosen: Vec<_> = chosen.iter().map(|&name| name.to_owned()).collect();
        Ok(choose(&chosen)?.iter().map(|guest| guest.name).collect())
    }

    #[test]
    fn guests_are_chosen_by_name() -> Result<()> {
        assert_eq!(names(&["newest", "5.10"])?, ["5.10", "newest"]);
        assert_eq!(names(&[])?.len(), GUESTS.len());
        let error = names(&["5.10", "2.6"]).map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("`2.6`") && error.contains("6.12-1cpu")));
        Ok(())
    }

    #[test]
    fn no_two_guests_have_one_name() {
        for (number, guest) in GUESTS.iter().enumerate() {
            assert!(
                GUESTS[..number]
                    .iter()
                    .all(|other| other.name != guest.name)
            );
        }
    }

    #[test]
    fn the_newest_package_is_found() {
        let of = |kernel, names: &[&'static str]| newest(kernel, names.iter().copied());
        assert_eq!(
            of(
                &LINUX_5_10,
                &[
                    "linux-image-5.10.0-46-cloud-amd64",
                    "linux-image-5.10.0-46-cloud-amd64-dbg",
                    "linux-image-5.10.0-9-cloud-amd64",
                    "linux-image-5.10.0-47-cloud-amd64-unsigned",
                    "linux-image-5.10.0-47-amd64",
                ]
            ),
            Some("linux-image-5.10.0-46-cloud-amd64")
        );
        assert_eq!(
            of(
                &NEWEST,
                &[
                    "linux-binary-7.2.13+deb13-cloud-amd64",
                    "linux-binary-7.10.4+deb13-cloud-amd64",
                    "linux-binary-unsigned-8.0.1+deb13-cloud-amd64",
                    "linux-binary-7.3.4+deb13-cloud-amd64",
                ]
            ),
            Some("linux-binary-7.10.4+deb13-cloud-amd64")
        );
        assert_eq!(
            of(&LINUX_6_1, &["linux-image-6.12.1+deb13-cloud-amd64"]),
            None
        );
    }

    #[test]
    fn a_module_is_of_its_kernels_version() {
        let of = |kernel: &Kernel, image| {
            let (package, folder) = kernel.overlayfs(image);
            format!("{package} {folder}")
        };
        assert_eq!(
            of(&LINUX_5_10, "linux-image-5.10.0-46-cloud-amd64"),
            "linux-image-5.10.0-46-cloud-amd64 \
             ./lib/modules/5.10.0-46-cloud-amd64/kernel/fs/overlayfs"
        );
        assert_eq!(
            of(&NEWEST, "linux-binary-7.3.4+deb13-cloud-amd64"),
            "linux-modules-7.3.4+deb13-cloud-amd64 \
             ./usr/lib/modules/7.3.4+deb13-cloud-amd64/kernel/fs/overlayfs"
        );
    }
}

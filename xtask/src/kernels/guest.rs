//! A guest: QEMU's command line, and a run within its time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::catalogue::Guest;
use super::fetch::Qemu;
use super::plan;
use super::report::Report;
use crate::command::cannot_start;
use crate::cross::Target;

/// A guest that says nothing for so long hangs: init ends each program before that, and says so.
pub(crate) const SILENCE: Duration = Duration::from_secs(plan::LIMIT as u64 + 30);
/// Boots that fail before init says anything are QEMU's or the machine's fault more often than a kernel's. No test is
/// ever run again.
const BOOTS: u32 = 2;
const DISK_SIZE: u64 = 64 << 20;
/// MiB. The lab has programs that use half a GiB.
const MEMORY: u32 = 2048;

/// What a guest is started with.
pub(crate) struct Machine {
    pub(crate) guest: &'static Guest,
    pub(crate) qemu: Qemu,
    pub(crate) image: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Where what it says on its console is kept.
    pub(crate) console: PathBuf,
}

/// What came of a guest.
pub(crate) struct Ran {
    pub(crate) report: Report,
    /// How often it was booted.
    pub(crate) boots: u32,
    pub(crate) time: Duration,
    /// It hung, and was ended.
    pub(crate) hung: bool,
}

impl Machine {
    /// Runs the guest to its end.
    pub(crate) fn run(&self) -> Result<Ran> {
        let start = Instant::now();
        let mut boots = 0;
        loop {
            boots += 1;
            let hung = self.boot()?;
            let console = fs::read(&self.console)
                .with_context(|| format!("cannot read {}", self.console.display()))?;
            let report = Report::read(&String::from_utf8_lossy(&console));
            if report.facts.is_some() || boots == BOOTS {
                return Ok(Ran {
                    report,
                    boots,
                    time: start.elapsed(),
                    hung,
                });
            }
        }
    }

    /// Whether it had to be ended.
    fn boot(&self) -> Result<bool> {
        let disk = tempfile::NamedTempFile::new().context("cannot make the guest's disk")?;
        disk.as_file().set_len(DISK_SIZE)?;
        let console = File::create(&self.console)
            .with_context(|| format!("cannot create {}", self.console.display()))?;
        let mut qemu = self.qemu.command();
        qemu.args(arguments(
            self.guest,
            &self.image,
            &self.initramfs,
            disk.path(),
        ))
        .stdin(Stdio::null())
        .stderr(console.try_clone()?)
        .stdout(console);
        let mut running = qemu.spawn().with_context(|| cannot_start(&qemu))?;
        let (mut said, mut since) = (0, Instant::now());
        while running
            .try_wait()
            .context("cannot wait for QEMU")?
            .is_none()
        {
            let now = fs::metadata(&self.console)?.len();
            if now != said {
                (said, since) = (now, Instant::now());
            } else if since.elapsed() > SILENCE {
                running.kill().context("cannot end QEMU")?;
                running.wait().context("cannot wait for QEMU")?;
                return Ok(true);
            }
            sleep(Duration::from_millis(50));
        }
        Ok(false)
    }
}

/// QEMU's arguments. There is no KVM on many a developer's machine; emulation is quick enough, and the same everywhere.
/// Guests' memory isn't offered to KSM, which a test on this machine waits for meanwhile.
fn arguments(guest: &Guest, image: &Path, initramfs: &Path, disk: &Path) -> Vec<OsString> {
    let (machine, processor, console) = match guest.kernel.target {
        Target::X86_64 => ("pc,mem-merge=off", "max", "ttyS0"),
        Target::Aarch64 => ("virt,mem-merge=off", "neoverse-n1", "ttyAMA0"),
    };
    // What a kernel does against flaws of real processors costs much time here. panic=-1 restarts at once after a
    // panic, and -no-reboot makes that QEMU's end.
    let append = format!(
        "console={console} quiet panic=-1 mitigations=off {}",
        guest.append
    );
    // In QEMU's options a comma is written twice.
    let mut drive = OsString::from("if=none,id=disk,format=raw,file=");
    drive.push(disk.to_string_lossy().replace(',', ",,"));
    let words: [(&str, OsString); 11] = [
        ("-machine", machine.into()),
        // With a thread for each CPU QEMU now and then goes on with code that another CPU has just patched: a tracepoint stays
        // off on one CPU, or a breakpoint of the patching is run when it is over, and the kernel oopses.
        ("-accel", "tcg,thread=single".into()),
        ("-cpu", processor.into()),
        ("-smp", guest.cpus.to_string().into()),
        ("-m", format!("{MEMORY}M").into()),
        ("-serial", "stdio".into()),
        ("-kernel", image.into()),
        ("-initrd", initramfs.into()),
        ("-append", append.trim_end().into()),
        ("-drive", drive),
        ("-device", "nvme,drive=disk,serial=disk".into()),
    ];
    let flags = [
        "-display",
        "none",
        "-no-reboot",
        "-nodefaults",
        "-no-user-config",
    ];
    flags
        .into_iter()
        .map(OsString::from)
        .chain(
            words
                .into_iter()
                .chain(nodes(guest))
                .flat_map(|(option, value)| [option.into(), value]),
        )
        .collect()
}

/// The options that divide memory and processors among several nodes.
fn nodes(guest: &Guest) -> Vec<(&'static str, OsString)> {
    let count = guest.nodes;
    if count < 2 {
        return Vec::new();
    }
    let (memory, cpus) = (MEMORY / count, guest.cpus / count);
    let node = |n| {
        let part = format!("memory-backend-ram,id=node{n},size={memory}M");
        let (first, last) = (n * cpus, (n + 1) * cpus - 1);
        let node = format!("node,nodeid={n},cpus={first}-{last},memdev=node{n}");
        [("-object", part.into()), ("-numa", node.into())]
    };
    (0..count).flat_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::catalogue::GUESTS;

    fn command_line(name: &str) -> Option<String> {
        let guest = GUESTS.iter().find(|guest| guest.name == name)?;
        let path = |path: &'static str| Path::new(path);
        let words = arguments(guest, path("/k/vmlinuz"), path("/k/own"), path("/a,b/disk"));
        Some(words.join(" ".as_ref()).to_string_lossy().into_owned())
    }

    #[test]
    fn a_variant_has_its_own_processors_and_command_line() {
        let line = command_line("6.12-1cpu").unwrap_or_default();
        assert!(
            line.contains("-machine pc,mem-merge=off -accel tcg,thread=single -cpu max -smp 1 "),
            "{line}"
        );
        assert!(
            line.contains(" -append console=ttyS0 quiet panic=-1 mitigations=off -drive "),
            "{line}"
        );
        assert!(
            line.contains("-kernel /k/vmlinuz -initrd /k/own "),
            "{line}"
        );
        assert!(line.contains("file=/a,,b/disk "), "{line}");
        let line = command_line("6.12-integrity").unwrap_or_default();
        assert!(
            line.contains(" mitigations=off lockdown=integrity -drive "),
            "{line}"
        );
    }

    /// The run of a guest by a shell instead of QEMU.
    fn run(script: &str, folder: &Path) -> Result<Ran> {
        let words = ["sh", "-c", script].map(OsString::from);
        let machine = Machine {
            guest: &GUESTS[0],
            qemu: Qemu(words.to_vec()),
            image: folder.join("image"),
            initramfs: folder.join("initramfs"),
            console: folder.join("console"),
        };
        machine.run()
    }

    #[test]
    fn a_boot_that_fails_is_tried_again_and_a_panic_after_it_is_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let flag = folder.path().join("flag").display().to_string();
        let facts = "echo '@guest facts linux=5.10'; echo '@guest begin cow'; echo 'Kernel panic'";
        let ran = run(
            &format!("[ -e {flag} ] && {{ {facts}; }}; touch {flag}"),
            folder.path(),
        )?;
        assert_eq!((ran.boots, ran.hung), (2, false));
        assert_eq!(ran.report.fault(&[], 1).as_deref(), Some("it ended in cow"));
        let ran = run(facts, folder.path())?;
        assert_eq!(ran.boots, 1);

        let ran = run("echo no such machine >&2", folder.path())?;
        assert_eq!(ran.boots, BOOTS);
        assert_eq!(ran.report.console, ["no such machine"]);
        Ok(())
    }

    #[test]
    fn nodes_have_their_part_of_memory_and_processors() {
        let line = command_line("6.12-2nodes").unwrap_or_default();
        for part in [
            "-smp 2 -m 2048M ",
            "-object memory-backend-ram,id=node0,size=1024M -numa node,nodeid=0,cpus=0-0,memdev=node0",
            "-object memory-backend-ram,id=node1,size=1024M -numa node,nodeid=1,cpus=1-1,memdev=node1",
        ] {
            assert!(line.contains(part), "{line}");
        }
        let one = command_line("6.12").unwrap_or_default();
        assert!(!one.is_empty() && !one.contains("-numa"), "{one}");
    }

    #[test]
    fn arm64_has_another_machine_and_console() {
        let line = command_line("6.12-arm64").unwrap_or_default();
        assert!(
            line.contains(
                "-machine virt,mem-merge=off -accel tcg,thread=single -cpu neoverse-n1 -smp 2 "
            ),
            "{line}"
        );
        assert!(line.contains("console=ttyAMA0 "), "{line}");
    }
}

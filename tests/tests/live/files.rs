//! Files have the paths by which their tasks know them, and a library the memory that is its own.

use anyhow::{Context, Result, ensure};
use memtrace_events::{By, Events, FaultKind, Mmap, Region};
use nix::unistd::{Pid, getpgid};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tests::harness::{Attached, Memtrace, OneTrace, Run, Running, Trace, command, proc, subject};

use crate::regions;

static TRACE: OneTrace = OneTrace::new(|| Trace::run(["loaded"]));

#[test]
fn memory_beside_a_library_is_not_the_librarys() -> Result<()> {
    let trace = TRACE.get()?;
    trace.fault("beside a library")?.is("zero-fill", "anon")?;
    trace.fault("behind its bss")?.is("zero-fill", "anon")?;
    Ok(())
}

#[test]
fn what_a_loader_maps_behind_a_librarys_data_is_its_bss() -> Result<()> {
    let trace = TRACE.get()?;
    let library = trace.note("library")?.as_str();
    for name in ["its bss", "the end of its bss"] {
        let seen = trace.fault(name)?.is("zero-fill", "lib")?.in_part("bss")?;
        ensure!(seen.fault.file.as_deref() == library, "{:?}", seen.event);
    }
    Ok(())
}

/// That each is what /proc/self/maps has is checked of all touches.
#[test]
fn a_file_has_the_name_that_was_used_until_it_is_renamed() -> Result<()> {
    let trace = TRACE.get()?;
    for (touch, name) in [
        ("by the first name", "/below/one"),
        ("by the second name", "/below/two"),
        ("its folder renamed", "/renamed/one"),
    ] {
        let seen = trace.fault(touch)?;
        let file = seen.fault.file.as_deref().unwrap_or_default();
        ensure!(file.ends_with(name), "not {name}: {:?}", seen.event);
    }
    Ok(())
}

#[test]
fn a_task_sees_paths_from_its_own_root() -> Result<()> {
    let trace = TRACE.get()?;
    let place = trace.note("in a root of its own")?;
    let mut there = trace.faults().filter(|(event, fault)| {
        place[0] == event.pid && place[1] == fault.addr.0 && fault.kind != FaultKind::Spurious
    });
    let (event, fault) = there.next().context("no fault there")?;
    ensure!(fault.file.as_deref() == Some("/two"), "{event:?}");
    Ok(())
}

#[test]
fn each_exec_has_the_name_that_was_used() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let folder = memtrace.folder().to_owned();
    let script = "cd \"$1\" && cp /bin/true one && ln one two && mkdir at || exit
        ./one; ./two; mv two three; ./three
        unshare --mount sh -c 'mount --bind . at && exec at/one'";
    let trace = memtrace.trace([
        "sh".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
        "sh".as_ref(),
        folder.as_os_str(),
    ])?;
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let execs: Vec<_> = trace
        .execs()
        .filter_map(|(_, exec)| exec.exe.as_deref()?.strip_prefix(folder.to_str()?))
        .collect();
    assert_eq!(execs, ["/one", "/two", "/three", "/at/one"]);
    // By whatever name, it is the program.
    for name in execs {
        let path = format!("{}{name}", folder.display());
        let of_it = || {
            trace
                .faults()
                .filter(|(_, fault)| fault.file.as_deref() == Some(&*path))
        };
        ensure!(of_it().count() > 0, "no fault in {path}");
        for (event, fault) in of_it() {
            ensure!(
                fault.region != Region::Lib && fault.region != Region::File,
                "{event:?}"
            );
        }
    }
    Ok(())
}

/// The program is what the kernel runs, and what that loads a library.
#[test]
fn a_loader_is_the_program() -> Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let linker = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .find(|path| path.contains("/ld-linux"));
    let linker = linker.context("this program has no dynamic linker")?;
    let real = fs::canonicalize("/bin/true")?;
    let real = real.to_str().context("its path")?;
    let trace = Trace::program([linker, "/bin/true"])?;
    let (event, exec) = trace.execs().next().context("no exec")?;
    ensure!(exec.exe.as_deref() == Some(linker), "{event:?}");
    let mut both = [0; 2];
    for (event, fault) in trace.faults() {
        if fault.file.as_deref() == Some(linker) {
            let is_program =
                [Region::Text, Region::Rodata, Region::Data, Region::Bss].contains(&fault.region);
            ensure!(is_program, "{event:?}");
            both[0] += 1;
        } else if fault.file.as_deref() == Some(real) {
            ensure!(fault.region == Region::Lib, "{event:?}");
            both[1] += 1;
        }
    }
    ensure!(both[0] > 0 && both[1] > 0, "{both:?}");
    Ok(())
}

/// Makes an overlayfs in the folder `$1` with the program `$2` in its lower layer, and a FIFO that nobody writes to. The
/// program keeps its name: a busybox goes by it.
const OVERLAY: &str =
    "mount -t tmpfs none \"$1\" && cd \"$1\" && mkdir low up work root && cp \"$2\" low &&
    mkfifo low/wait &&
    mount -t overlay overlay -o \"lowerdir=low$LOWER,upperdir=up,workdir=work\" root || exit 77
    cd root; shift 2; ";

/// Whether the machine could not mount it. Then that is said: what is written to stderr by no macro is shown.
fn no_overlay(run: &Run) -> bool {
    let none = run.code() == Some(77);
    if none {
        let line = format!("not tested here: overlayfs: {}\n", run.stderr.trim());
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
    none
}

#[test]
fn a_program_on_an_overlayfs_is_the_program() -> Result<()> {
    program_on_overlayfs("exec ./regions program", "root/regions")
}

/// The file that is run is the upper overlayfs's, and what is mapped the lower one's.
#[test]
fn a_program_on_an_overlayfs_on_an_overlayfs_is_the_program() -> Result<()> {
    let upper = "cd ..; mkdir up2 work2 root2 &&
        mount -t overlay overlay -o lowerdir=root,upperdir=up2,workdir=work2 root2 || exit 77
        exec root2/regions program";
    program_on_overlayfs(upper, "root2/regions")
}

/// Runs the program from the overlayfs as `script` says, and looks at the regions of what it touches.
fn program_on_overlayfs(script: &str, path: &str) -> Result<()> {
    let memtrace = Memtrace::new()?.variable("LOWER", "");
    let folder = memtrace.folder().join("overlay");
    fs::create_dir(&folder)?;
    let script = format!("{OVERLAY} {script}");
    let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let words = words.map(Into::into).into_iter();
    let trace =
        memtrace.trace(words.chain([folder.clone().into_os_string(), subject("regions")]))?;
    if no_overlay(&trace.run) {
        return Ok(());
    }
    assert_eq!(trace.run.code(), Some(0), "{:?}", trace.run);
    let path = folder.join(path);
    let (event, exec) = trace.execs().last().context("no exec")?;
    ensure!(exec.exe.as_deref() == path.to_str(), "{event:?}");
    regions::are_the_programs(&trace)
}

/// The command that runs `cat FILE` with a root on an overlayfs, and a user, pid and mount namespace of its own.
fn container(folder: &Path, file: &str) -> Result<Command> {
    fs::create_dir(folder)?;
    // As runtimes do: a file system may be mounted over the whole of another only from outside.
    let inside = "unshare --user --map-root-user --pid --fork --mount chroot . /cat";
    let script = format!("{OVERLAY} exec {inside} \"$1\"");
    let words = ["unshare", "--mount", "sh", "-c"];
    let mut command = command(words)?;
    command
        .args([&script, "sh"])
        .arg(folder)
        .arg("/bin/cat")
        .arg(file);
    command.env("LOWER", ":/");
    Ok(command)
}

#[test]
fn a_container_that_is_started() -> Result<()> {
    let memtrace = Memtrace::new()?.variable("LOWER", ":/");
    let inner = container(&memtrace.folder().join("overlay"), "/etc/passwd")?;
    let words: Vec<_> = [inner.get_program()]
        .into_iter()
        .chain(inner.get_args())
        .map(ToOwned::to_owned)
        .collect();
    let trace = memtrace.trace(words)?;
    if no_overlay(&trace.run) {
        return Ok(());
    }
    let (event, exec) = trace.execs().last().context("no exec")?;
    assert_eq!(exec.exe.as_deref(), Some("/cat"), "{event:?}");
    let pid = event.pid;
    let mut regions = Vec::new();
    for (event, fault) in trace
        .faults()
        .filter(|(event, _)| event.pid == pid && &*event.comm == "cat")
    {
        match fault.file.as_deref() {
            Some("/cat") => regions.push(fault.region),
            Some(file) => ensure!(Path::new(file).exists(), "{event:?}"),
            None => {}
        }
    }
    // On arm64 the linker puts read-only data into the segment of the text.
    for region in [Region::Text, Region::Data] {
        ensure!(regions.contains(&region), "{regions:?}");
    }
    ensure!(
        !regions.contains(&Region::Lib) && !regions.contains(&Region::File),
        "{regions:?}"
    );
    Ok(())
}

#[test]
fn a_container_that_is_attached_to() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let folder = memtrace.folder().to_owned();
    let probe = Run::of(&mut container(&folder.join("probe"), "/etc/passwd")?)?;
    if no_overlay(&probe) {
        return Ok(());
    }
    let mut running = Running::start(&mut container(&folder.join("overlay"), "/wait")?)?;
    let group = running.pid();
    let pid = running.until("the program", || program_in(group))?;
    let trace = Attached::to(memtrace, &[pid])?.interrupt()?;
    let mut found = Vec::new();
    let there = || trace.mmaps().filter(|(_, mmap)| mmap.by == By::Attach);
    for (event, mmap) in there() {
        ensure!(event.pid == pid && event.global.is_none(), "{event:?}");
        let region = mmap.region.context("no region")?;
        let file = mmap.file.as_deref();
        let right = match region {
            Region::Text | Region::Rodata | Region::Data => file == Some("/cat"),
            Region::Lib => file.is_some_and(|file| Path::new(file).exists()),
            Region::Unknown => false,
            _ => file.is_none() || region == Region::File,
        };
        ensure!(right, "{event:?}");
        found.push(region);
    }
    for region in [Region::Text, Region::Rodata, Region::Data, Region::Lib] {
        ensure!(found.contains(&region), "{found:?}");
    }
    // The C library has pages of BSS, and they are its own though no file backs them.
    let is_bss = |mmap: &Mmap| {
        let mut flags = mmap.flags.iter();
        mmap.region == Some(Region::Lib) && flags.any(|flag| &**flag == "MAP_ANONYMOUS")
    };
    let bss = there().filter(|(_, mmap)| is_bss(mmap));
    let libraries: Vec<_> = bss.map(|(_, mmap)| &mmap.file).collect();
    ensure!(
        libraries
            .iter()
            .any(|file| file.as_ref().is_some_and(|file| file.contains("libc"))),
        "{libraries:?}"
    );
    Ok(())
}

/// The process called cat in a process group, once it has exec'ed.
fn program_in(group: Pid) -> Result<Option<u32>> {
    for pid in proc::processes()? {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name == "cat\n" && getpgid(Some(Pid::from_raw(pid as i32))) == Ok(group) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

//! `memtrace doctor` on the live kernel: all it can try, and what it says where it can't.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tests::harness::{Memtrace, Run, within};

/// The options for a report that programs read.
const JSON: [&str; 2] = ["--format", "json"];
/// The checks, in their order.
const ROWS: [&str; 20] = [
    "kernel",
    "root",
    "capabilities",
    "lockdown",
    "btf",
    "bpf",
    "ring-buffer",
    "memlock",
    "tracepoints",
    "fentry",
    "preemption",
    "timer",
    "kernel-reads",
    "frames",
    "direct-map",
    "kallsyms",
    "pid-namespace",
    "cpus",
    "terminal",
    "main-job",
];

#[test]
fn as_root_the_main_job_works() -> Result<()> {
    let report = Report::ended(&mut doctor(&Memtrace::new()?, &JSON), 0)?;
    assert_eq!(report.whole["works"], true);
    // Whatever the main job needs is there; what it doesn't need may be lacking here.
    for row in report.rows()? {
        ensure!(row["needed"] == false || row["state"] == "ok", "{row}");
        ensure!(row["state"] != "lacks" || row["costs"].is_string(), "{row}");
        ensure!(row["state"] == "ok" || row["remedy"].is_string(), "{row}");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    assert_eq!(report.whole["kernel"], release.trim());
    ensure!(report.found("kernel")?.contains(release.trim()));
    // kallsyms has a line for each function, and one for each other symbol.
    let symbols = fs::read_to_string("/proc/kallsyms")?.lines().count();
    let shown: usize = number(report.found("kallsyms")?)?;
    ensure!(shown > 10_000 && shown <= symbols, "{shown} of {symbols}");
    ensure!(report.found("main-job")?.contains("frame 0x"));
    // Where the kernel may switch tasks in a hook on a function, the other way is taken.
    if report.row("preemption")?["state"] == "lacks" {
        ensure!(report.found("main-job")?.contains("backend tracepoints"));
    }
    let can = report.whole["can"].as_array().context("a list")?;
    ensure!(can.len() >= 3, "{can:?}");
    Ok(())
}

#[test]
fn the_text_has_the_same_rows() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let run = Run::of(&mut doctor(&memtrace, &[]))?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    ensure!(run.stderr.is_empty(), "{}", run.stderr);
    let names: Vec<_> = run
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').filter(|word| !word.is_empty());
            let state = words.next()?;
            let is_row = !line.starts_with(' ') && ["ok", "lacks", "unknown"].contains(&state);
            is_row.then(|| words.next())?
        })
        .collect();
    assert_eq!(names, ROWS, "{}", run.stdout);
    ensure!(
        run.stdout.contains("\nmemtrace can show here\n"),
        "{}",
        run.stdout
    );
    ensure!(
        !run.stdout.contains('\u{1b}'),
        "colours in a file: {}",
        run.stdout
    );
    Ok(())
}

#[test]
fn without_root_it_says_what_it_can() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut command = memtrace.of_nobody()?;
    command.arg("doctor").args(JSON);
    let report = Report::ended(&mut command, 1)?;
    assert_eq!(report.whole["works"], false);
    assert_eq!(report.row("root")?["state"], "lacks");
    assert_eq!(report.row("root")?["remedy"], "run it with sudo");
    assert_eq!(report.row("main-job")?["state"], "unknown");
    // The kernel's types are for everybody.
    assert_eq!(report.row("btf")?["state"], "ok");
    ensure!(
        report
            .found("tracepoints")?
            .contains("in the kernel's types")
    );
    for row in report.rows()? {
        ensure!(
            row["state"] != "unknown"
                || row["name"] == "lockdown"
                || row["remedy"] == "run it with sudo",
            "{row}"
        );
    }
    Ok(())
}

#[test]
fn root_without_the_capability_that_it_needs() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin"]);
    command.args(["--inh-caps=-sys_admin", "--"]);
    let mut command = within(command, &doctor(&memtrace, &JSON));
    let report = Report::ended(&mut command, 1)?;
    assert_eq!(report.row("root")?["state"], "ok");
    ensure!(
        report
            .found("capabilities")?
            .contains("without CAP_SYS_ADMIN")
    );
    assert_eq!(report.row("frames")?["state"], "lacks");
    assert_eq!(report.row("main-job")?["state"], "lacks");
    Ok(())
}

#[test]
fn root_of_a_user_namespace() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--"]);
    let mut command = within(command, &doctor(&memtrace, &JSON));
    let report = Report::ended(&mut command, 1)?;
    ensure!(report.found("capabilities")?.contains("user namespace"));
    for name in ["bpf", "main-job"] {
        assert_eq!(report.row(name)?["state"], "lacks", "{name}");
    }
    Ok(())
}

#[test]
fn in_a_container() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let inside = |options: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(options).arg("--");
        Report::of(&mut within(command, &doctor(&memtrace, &JSON)))
    };
    let report = inside(&["--pid", "--fork", "--mount-proc"])?;
    assert_eq!(report.run.code(), Some(0), "{:?}", report.run);
    assert_eq!(report.row("pid-namespace")?["state"], "ok");
    ensure!(report.found("pid-namespace")?.contains("(1 deep)"));
    // With the outer /proc ids don't fit; what is traced from its birth does.
    let report = inside(&["--pid", "--fork"])?;
    assert_eq!(report.row("pid-namespace")?["state"], "lacks");
    let cannot = report.whole["cannot"].to_string();
    ensure!(cannot.contains("attach"), "{cannot}");
    Ok(())
}

#[test]
fn a_btf_file_in_place_of_the_kernels_own() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("vmlinux.btf");
    fs::copy(RUNNING, &file)?;
    let mut command = doctor(&memtrace, &JSON);
    let report = Report::ended(command.arg("--btf").arg(&file), 0)?;
    ensure!(report.found("btf")?.starts_with(&*file.to_string_lossy()));
    // The same for a trace.
    let memtrace = memtrace.options(["--btf".as_ref(), file.as_os_str()]);
    let run = memtrace.run(["true"])?;
    assert_eq!(run.code(), Some(0), "{run:?}");
    Ok(())
}

#[test]
fn a_btf_file_that_is_none() -> Result<()> {
    let broken =
        |bytes: &[u8]| fs::read(RUNNING).map(|own| [&own[..own.len() / 2], bytes].concat());
    for (bytes, part) in [
        (Vec::new(), "is not valid BTF"),
        (b"no BTF".to_vec(), "is not valid BTF"),
        (broken(b"")?, "is not valid BTF"),
        (fs::read("/proc/self/exe")?, "is an ELF file"),
    ] {
        let memtrace = Memtrace::new()?;
        let file = memtrace.folder().join("broken.btf");
        fs::write(&file, bytes)?;
        refuses(memtrace, &file, part)?;
    }
    refuses(Memtrace::new()?, Path::new("/no/such/file"), "No such file")?;
    refuses(Memtrace::new()?, Path::new("/"), "directory")?;
    refuses(
        Memtrace::new()?,
        Path::new("/dev/zero"),
        "not a regular file",
    )?;
    let memtrace = Memtrace::new()?;
    let pipe = memtrace.folder().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU)?;
    refuses(memtrace, &pipe, "not a regular file")
}

#[test]
fn a_btf_file_of_types_without_end() -> Result<()> {
    // A union without a name of 64 of its own kind, and a task_struct with one.
    let unnamed = [0_u32, 1, 0];
    let mut types = vec![0, 5 << 24 | 64, 4];
    types.extend(unnamed.repeat(64));
    types.extend([1, 4 << 24 | 1, 4]);
    types.extend(unnamed);
    let bytes = size_of_val(types.as_slice()) as u32;
    let names = b"\0task_struct\0";
    let header = [24, 0, bytes, bytes, names.len() as u32];
    let words = header
        .iter()
        .chain(&types)
        .flat_map(|word| word.to_ne_bytes());
    let mut file = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
    file.extend(words);
    file.extend(names);

    let memtrace = Memtrace::new()?;
    let path = memtrace.folder().join("nested.btf");
    fs::write(&path, file)?;
    let run = memtrace
        .options(["--btf".as_ref(), path.as_os_str()])
        .run(["true"])?;
    ensure!(
        run.code() == Some(125)
            && run
                .stderr
                .contains("this kernel's types have no task_struct."),
        "{run:?}"
    );
    Ok(())
}

#[test]
fn a_btf_file_of_another_kernel() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("other.btf");
    fs::write(&file, of_another_kernel(fs::read(RUNNING)?)?)?;
    refuses(
        memtrace,
        &file,
        "is of another kernel: mm_struct.pgd lies at byte ",
    )
}

#[test]
fn a_kernel_that_shows_no_types() -> Result<()> {
    let memtrace = Memtrace::new()?;
    let file = memtrace.folder().join("vmlinux.btf");
    fs::copy(RUNNING, &file)?;
    let mut plain = doctor(&memtrace, &JSON);
    let report = Report::ended(&mut hidden(&plain), 1)?;
    assert_eq!(report.row("btf")?["state"], "lacks");
    ensure!(report.found("btf")?.contains("CONFIG_DEBUG_INFO_BTF"));
    Report::ended(&mut hidden(plain.arg("--btf").arg(&file)), 0)?;

    // A trace, without and with the file.
    let run = Run::of(&mut hidden(&memtrace.command(["true"])))?;
    assert_eq!(run.code(), Some(125), "{run:?}");
    let one_line = run.stderr.lines().count() == 1;
    ensure!(one_line && run.stderr.contains("--btf FILE"), "{run:?}");
    let memtrace = memtrace.options(["--btf".as_ref(), file.as_os_str()]);
    let run = Run::of(&mut hidden(&memtrace.command(["true"])))?;
    assert_eq!(run.code(), Some(0), "{run:?}");

    // Nothing of the kernel's own to hold it against: then the trial of the direct map fails.
    fs::write(&file, of_another_kernel(fs::read(RUNNING)?)?)?;
    let run = Run::of(&mut hidden(&memtrace.command(["true"])))?;
    assert_eq!(run.code(), Some(125), "{run:?}");
    let one_line = run.stderr.lines().count() == 1;
    ensure!(
        one_line && run.stderr.contains("of exactly this kernel?"),
        "{run:?}"
    );
    Ok(())
}

/// That command where the kernel's types are out of sight.
fn hidden(command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--", "sh", "-c"]);
    outer.arg("mount -t tmpfs none \"$0\" && exec \"$@\"");
    outer.arg(Path::new(RUNNING).parent().unwrap_or(Path::new("/")));
    within(outer, command)
}

const RUNNING: &str = "/sys/kernel/btf/vmlinux";

/// The same types, but that `mm_struct.pgd` lies eight bytes further.
fn of_another_kernel(mut btf: Vec<u8>) -> Result<Vec<u8>> {
    let word = |btf: &[u8], at: usize| -> Result<u32> {
        Ok(u32::from_ne_bytes(
            btf.get(at..at + 4).context("too short")?.try_into()?,
        ))
    };
    // Its header: lengths and places of types and strings.
    let header = word(&btf, 4)? as usize;
    let types = header + word(&btf, 8)? as usize;
    let end = types + word(&btf, 12)? as usize;
    let strings = header + word(&btf, 16)? as usize;
    // A structure's member is its name, its type, and where it lies in bits; no other structure has a pgd at that place.
    let names = |at: usize| btf[strings + at..].starts_with(b"pgd\0");
    let pgd = (0..btf.len() - strings)
        .find(|&at| names(at) && btf[strings + at - 1] == 0)
        .context("no name pgd")?;
    let members: Vec<usize> = (types..end - 12)
        .step_by(4)
        .filter(|&at| word(&btf, at).is_ok_and(|name| name as usize == pgd))
        .filter(|&at| {
            word(&btf, at + 8).is_ok_and(|bits| bits > 0 && bits % 64 == 0 && bits < 1 << 14)
        })
        .collect();
    ensure!(!members.is_empty(), "no member pgd");
    for at in members {
        let moved = word(&btf, at + 8)? + 64;
        btf[at + 8..at + 12].copy_from_slice(&moved.to_ne_bytes());
    }
    Ok(btf)
}

/// That run, attach, lab and doctor say of this file, in a line, what is wrong with it.
fn refuses(memtrace: Memtrace, file: &Path, part: &str) -> Result<()> {
    let mut command = doctor(&memtrace, &JSON);
    let report = Report::ended(command.arg("--btf").arg(file), 1)?;
    assert_eq!(report.row("btf")?["state"], "lacks");
    let name = file.to_string_lossy().into_owned();
    let found = report.found("btf")?;
    ensure!(found.contains(part) && found.contains(&name), "{found}");
    // What is tried apart from the types is as it was.
    assert_eq!(report.row("bpf")?["state"], "ok");

    let mut lab = Command::new(memtrace.binary());
    lab.args(["lab", "F9", "--btf"]).arg(file);
    let memtrace = memtrace.options(["--btf".as_ref(), file.as_os_str()]);
    for mut command in [
        memtrace.command(["true"]),
        memtrace.attach([std::process::id()]),
        lab,
    ] {
        let run = Run::of(&mut command)?;
        ensure!(run.code() == Some(125), "{command:?}: {run:?}");
        let last = run.stderr.lines().last().context("nothing is said")?;
        ensure!(
            last.starts_with("memtrace: ") && last.contains(part) && last.contains(&name),
            "{command:?}: {last}"
        );
        // The lab tells its progress first.
        let lines = run
            .stderr
            .lines()
            .filter(|line| line.starts_with("memtrace: "));
        assert_eq!(lines.count(), 1, "{}", run.stderr);
    }
    Ok(())
}

/// The command: `memtrace doctor OPTIONS`.
fn doctor(memtrace: &Memtrace, options: &[&str]) -> Command {
    let mut command = Command::new(memtrace.binary());
    command.arg("doctor").args(options);
    command
}

/// What doctor printed as JSON.
struct Report {
    run: Run,
    whole: Value,
}

impl Report {
    /// Runs it. All rows must be there.
    fn of(command: &mut Command) -> Result<Self> {
        let run = Run::of(command)?;
        let whole: Value = serde_json::from_str(&run.stdout).with_context(|| format!("{run:?}"))?;
        let report = Self { run, whole };
        let names: Vec<_> = report
            .rows()?
            .iter()
            .map(|row| row["name"].as_str())
            .collect();
        assert_eq!(names, ROWS.map(Some));
        Ok(report)
    }

    /// The same of a run that ends with this status.
    fn ended(command: &mut Command, code: i32) -> Result<Self> {
        let report = Self::of(command)?;
        assert_eq!(report.run.code(), Some(code), "{:?}", report.run);
        Ok(report)
    }

    fn rows(&self) -> Result<&Vec<Value>> {
        self.whole["rows"].as_array().context("a list")
    }

    fn row(&self, name: &str) -> Result<&Value> {
        let row = self.rows()?.iter().find(|row| row["name"] == name);
        row.context("no such row")
    }

    fn found(&self, name: &str) -> Result<&str> {
        self.row(name)?["found"].as_str().context("a string")
    }
}

/// The first number in some words.
fn number(words: &str) -> Result<usize> {
    let digits = words.split(' ').find_map(|word| word.parse().ok());
    digits.with_context(|| format!("no number: {words}"))
}

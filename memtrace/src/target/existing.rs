//! Processes that exist: which of them can be traced, and who descends from them.
//!
//! All ids are those of memtrace's own pid namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, str,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The kernel's `PF_KTHREAD` (include/linux/sched.h): a kernel thread.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Those of `pids`, each once, if all of them can be traced.
///
/// # Errors
/// The first that can't be is named, with the reason.
pub fn traceable(pids: &[u32]) -> Result<Vec<u32>> {
    let own = std::process::id();
    let shown = fs::read_link("/proc/self").context("can't read /proc/self; is /proc mounted?")?;
    ensure!(
        shown.as_os_str() == own.to_string().as_str(),
        "/proc shows another pid namespace than memtrace's own, in which a PID is someone else's; start memtrace where \
         its own is mounted there, as \"unshare --mount-proc\" does"
    );
    let mut chosen = Vec::new();
    for &pid in pids {
        let process = Task::read(&format!("/proc/{pid}"))?;
        judge(pid, process.as_ref(), own)?;
        if !chosen.contains(&pid) {
            chosen.push(pid);
        }
    }
    Ok(chosen)
}

/// `processes`, then the descendants that they have now and that can be traced.
///
/// # Errors
/// /proc can't be read.
pub fn with_descendants(processes: &[u32]) -> Result<Vec<u32>> {
    let mut all = BTreeMap::new();
    for pid in numbers("/proc").context("can't list /proc")? {
        if let Some(task) = Task::read(&format!("/proc/{pid}"))? {
            all.insert(pid, task);
        }
    }
    Ok(family(processes, &all, std::process::id()))
}

/// What /proc shows of a task.
#[derive(Debug)]
struct Task {
    /// The process that it is a thread of.
    process: u32,
    /// That one's parent.
    parent: u32,
    /// Whether it is the kernel's own.
    kernel: bool,
    /// Whether no thread of the process runs any more.
    ended: bool,
}

impl Task {
    /// Reads it from its folder in /proc. Nothing comes back when there is no such task any more.
    fn read(folder: &str) -> Result<Option<Self>> {
        let file = |name| {
            let path = format!("{folder}/{name}");
            there(fs::read(&path)).with_context(|| format!("can't read {path}"))
        };
        let (Some(stat), Some(status)) = (file("stat")?, file("status")?) else {
            return Ok(None);
        };
        let stat = Stat::parse(&stat).with_context(|| format!("can't understand {folder}/stat"))?;
        let process =
            process_of(&status).with_context(|| format!("can't understand {folder}/status"))?;
        Ok(Some(Self {
            process,
            parent: stat.parent,
            kernel: stat.flags & KERNEL_THREAD != 0,
            // The first thread may end before the others: then it is a zombie, and the process lives.
            ended: stat.ended
                && !others_run(folder).with_context(|| format!("can't read {folder}/task"))?,
        }))
    }
}

/// The first fields of a task's `stat` in /proc.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Whether it is a zombie, or not even that.
    ended: bool,
    /// The parent process.
    parent: u32,
    /// The kernel's `PF_*`.
    flags: u32,
}

impl Stat {
    fn parse(stat: &[u8]) -> Option<Self> {
        // The name in parentheses is the task's own choice, and may be anything.
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut rest = str::from_utf8(&stat[name_end + 1..])
            .ok()?
            .split_ascii_whitespace();
        Some(Self {
            ended: matches!(rest.next()?, "Z" | "X"),
            parent: rest.next()?.parse().ok()?,
            // Behind the process group, the session, the terminal and its foreground group.
            flags: rest.nth(4)?.parse().ok()?,
        })
    }
}

/// The process, from a task's `status` in /proc. The name above it has its newlines escaped.
fn process_of(status: &[u8]) -> Option<u32> {
    let line = status
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Tgid:"))?;
    str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Whether a thread of the process runs.
fn others_run(folder: &str) -> io::Result<bool> {
    let threads = format!("{folder}/task");
    for tid in there(numbers(&threads))?.into_iter().flatten() {
        if let Some(stat) = there(fs::read(format!("{threads}/{tid}/stat")))?
            && Stat::parse(&stat).is_some_and(|stat| !stat.ended)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    Ok(numbers)
}

/// Nothing where the task is gone.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Says what speaks against tracing `pid`, of which this was found.
fn judge(pid: u32, found: Option<&Task>, own: u32) -> Result<()> {
    let Some(task) = found else {
        bail!("process {pid} does not exist");
    };
    ensure!(task.process != own, "memtrace can't trace itself");
    ensure!(
        task.process == pid,
        "{pid} is a thread of process {}: attach to that",
        task.process
    );
    ensure!(
        !task.kernel,
        "process {pid} is a kernel thread: it has no memory of its own"
    );
    ensure!(
        !task.ended,
        "process {pid} has ended already (a zombie): there is nothing to trace"
    );
    Ok(())
}

/// `processes`, then those of their descendants among `all` that can be traced.
fn family(processes: &[u32], all: &BTreeMap<u32, Task>, own: u32) -> Vec<u32> {
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    for (&pid, task) in all {
        children.entry(task.parent).or_default().push(pid);
    }
    let mut family = processes.to_vec();
    // /proc isn't read at one moment, so that a pid that came again could make a circle.
    let mut seen: BTreeSet<u32> = processes.iter().copied().collect();
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            children
                .get(&parent)
                .into_iter()
                .flatten()
                .filter(|child| seen.insert(**child)),
        );
        next += 1;
    }
    family.retain(|pid| {
        processes.contains(pid)
            || all
                .get(pid)
                .is_some_and(|task| judge(*pid, Some(task), own).is_ok())
    });
    family
}

#[cfg(test)]
mod tests {
    use std::{
        path::{Path, PathBuf},
        process::{Command, Stdio},
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    use nix::{
        sys::wait::{Id, WaitPidFlag, waitid},
        unistd::{Pid, gettid},
    };

    use super::*;

    const OWN: u32 = 500;

    fn task(process: u32, parent: u32) -> Task {
        Task {
            process,
            parent,
            kernel: false,
            ended: false,
        }
    }

    fn judged(pid: u32, found: Option<&Task>) -> String {
        judge(pid, found, OWN)
            .expect_err("it can't be traced")
            .to_string()
    }

    #[test]
    fn each_reason_has_its_words() {
        assert!(judge(7, Some(&task(7, 1)), OWN).is_ok());
        assert_eq!(judged(7, None), "process 7 does not exist");
        assert_eq!(
            judged(8, Some(&task(7, 1))),
            "8 is a thread of process 7: attach to that"
        );
        for thread in [OWN, OWN + 1] {
            assert_eq!(
                judged(thread, Some(&task(OWN, 1))),
                "memtrace can't trace itself"
            );
        }
        let kernel = Task {
            kernel: true,
            ..task(2, 0)
        };
        assert_eq!(
            judged(2, Some(&kernel)),
            "process 2 is a kernel thread: it has no memory of its own"
        );
        let zombie = Task {
            ended: true,
            ..task(9, 1)
        };
        assert_eq!(
            judged(9, Some(&zombie)),
            "process 9 has ended already (a zombie): there is nothing to trace"
        );
    }

    #[test]
    fn a_name_can_not_disturb_the_reading() {
        let read = |ended, parent, flags| {
            Some(Stat {
                ended,
                parent,
                flags,
            })
        };
        for (stat, wanted) in [
            (
                &b"7 (cat) R 5 7 5 34816 7 4194304 112 0"[..],
                read(false, 5, 0x40_0000),
            ),
            (
                b"7 (a) Z 9 0 0 0) S 5 7 5 0 -1 4194304 0",
                read(false, 5, 0x40_0000),
            ),
            (
                b"7 (\xff\n (() Z 1 7 5 0 -1 4227084 0",
                read(true, 1, 0x40_800c),
            ),
            (
                b"2 (kthreadd) S 0 0 0 0 -1 2129984 0",
                read(false, 0, 0x20_8040),
            ),
            (b"7 () X 0 -1 -1 0 -1 1028", read(true, 0, 1028)),
            (b"7 (cat) R 5 7 5 34816", None),
            (b"7 (cat) R x 7 5 34816 7 4194304", None),
            (b"7 cat R 5", None),
            (b"", None),
        ] {
            assert_eq!(Stat::parse(stat), wanted, "{}", stat.escape_ascii());
        }
        assert_eq!(
            process_of(
                b"Name:\tTgid:\\nTgid: 1\xff\nState:\tS (sleeping)\nTgid:\t4711\nNgid:\t0\n"
            ),
            Some(4711)
        );
        assert_eq!(process_of(b"Name:\tx\nTgid:\t\n"), None);
    }

    #[test]
    fn a_family_is_all_descendants_once_but_for_what_can_not_be_traced() {
        let mut all: BTreeMap<u32, Task> = [
            (10, 1),
            (11, 10),
            (12, 11),
            // Born later, with a smaller id: ids start again from below.
            (3, 12),
            (13, 11),
            (20, 1),
            (21, 20),
            (OWN, 11),
            // What is made of a /proc that changes while it is read: a circle.
            (30, 31),
            (31, 30),
        ]
        .map(|(pid, parent)| (pid, task(pid, parent)))
        .into();
        assert_eq!(family(&[10], &all, OWN), [10, 11, 12, 13, 3]);
        assert_eq!(family(&[21, 20], &all, OWN), [21, 20]);
        assert_eq!(family(&[12, 10], &all, OWN), [12, 10, 3, 11, 13]);
        assert_eq!(family(&[30], &all, OWN), [30, 31]);
        // One that is gone by now stays: whoever takes it finds out.
        assert_eq!(family(&[99], &all, OWN), [99]);

        all.get_mut(&11).expect("it is there").ended = true;
        all.get_mut(&13).expect("it is there").kernel = true;
        assert_eq!(family(&[10], &all, OWN), [10, 12, 3]);
    }

    /// A folder as /proc has one for each process.
    struct Folder(PathBuf);

    impl Folder {
        fn of_process(name: &str, threads: &[(u32, char)]) -> Self {
            let folder =
                std::env::temp_dir().join(format!("memtrace-{name}-{}", std::process::id()));
            let stat = |state: char| format!("1 (x) {state} 1 1 1 0 -1 0 0");
            let write = |path: &Path, text: &str| fs::write(path, text).expect("a writable folder");
            for &(tid, state) in threads {
                let thread = folder.join("task").join(tid.to_string());
                fs::create_dir_all(&thread).expect("a writable folder");
                write(&thread.join("stat"), &stat(state));
            }
            write(&folder.join("stat"), &stat(threads[0].1));
            write(&folder.join("status"), "Name:\tx\nTgid:\t1\n");
            Self(folder)
        }

        fn ended(&self) -> bool {
            Task::read(self.0.to_str().expect("an ASCII path"))
                .expect("it can be read")
                .expect("it is there")
                .ended
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_process_lives_while_a_thread_runs() {
        assert!(!Folder::of_process("runs", &[(1, 'S'), (2, 'S')]).ended());
        assert!(!Folder::of_process("first-gone", &[(1, 'Z'), (2, 'Z'), (3, 'R')]).ended());
        assert!(Folder::of_process("gone", &[(1, 'Z'), (2, 'X')]).ended());
    }

    fn error(pid: u32) -> String {
        traceable(&[pid])
            .expect_err("it can't be traced")
            .to_string()
    }

    #[test]
    fn what_runs_can_be_traced_until_it_ends() {
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat runs");
        let pid = cat.id();
        assert_eq!(traceable(&[pid, pid]).expect("it runs"), [pid]);

        drop(cat.stdin.take());
        let ends = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(pid as i32)), ends).expect("it ends");
        assert!(error(pid).contains("a zombie"), "{}", error(pid));
        assert_eq!(with_descendants(&[pid]).expect("/proc is there"), [pid]);

        cat.wait().expect("it has ended");
        assert_eq!(error(pid), format!("process {pid} does not exist"));
    }

    #[test]
    fn descendants_are_found_at_any_distance() {
        // The second sh stays, since it has something to do after cat.
        let mut outer = Command::new("sh")
            .args(["-c", "sh -c 'cat; :'; :"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let family = || with_descendants(&[outer.id()]).expect("/proc is there");
        let limit = Instant::now() + Duration::from_secs(10);
        while family().len() < 3 && Instant::now() < limit {
            thread::yield_now();
        }
        let found = family();
        assert_eq!((found[0], found.len()), (outer.id(), 3));
        assert_eq!(traceable(&found).expect("all of them run"), found);
        let own = with_descendants(&[std::process::id()]).expect("/proc is there");
        assert!(found.iter().all(|pid| own.contains(pid)), "{own:?}");

        drop(outer.stdin.take());
        outer.wait().expect("it ends with its input");
    }

    #[test]
    fn a_thread_is_told_from_a_process() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            tell.send(gettid().as_raw() as u32)
                .expect("someone listens");
            ended.recv().ok();
        });
        let tid = told.recv().expect("it runs");
        assert_eq!(error(tid), "memtrace can't trace itself");
        assert_eq!(error(std::process::id()), "memtrace can't trace itself");
        let found = Task::read(&format!("/proc/{tid}")).expect("/proc is there");
        assert_eq!(
            judged(tid, found.as_ref()),
            format!(
                "{tid} is a thread of process {}: attach to that",
                std::process::id()
            )
        );
        drop(end);
        thread.join().expect("it ends");
    }
}

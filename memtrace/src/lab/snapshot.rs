//! A look at a process through /proc and kcmp(2), while it waits at a mark.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use nix::libc;
use procfs::process::{MMapPath, PageInfo, Process};

use super::observed::{Mapping, Snapshot, ThreadSnapshot};

const PAGE: u64 = 4096;

/// `enum kcmp_type` (include/uapi/linux/kcmp.h).
const KCMP: [(&str, libc::c_long); 6] = [
    ("VM", 1),
    ("FILES", 2),
    ("FS", 3),
    ("SIGHAND", 4),
    ("IO", 5),
    ("SYSVSEM", 6),
];

/// Looks at a process: at the pages of these addresses, too, and with `other` at what its thread `tid` and that one
/// have in common.
///
/// # Errors
/// /proc can't be read.
pub fn snapshot(
    pid: u32,
    tid: u32,
    addresses: impl Iterator<Item = u64>,
    other: Option<u32>,
) -> Result<Snapshot> {
    let process =
        Process::new(pid.cast_signed()).with_context(|| format!("can't read /proc/{pid}"))?;
    let stat = process.stat()?;
    let mut snapshot = Snapshot {
        faults: (stat.minflt, stat.majflt),
        ..Snapshot::default()
    };
    for map in process.maps()? {
        snapshot.maps.push(Mapping {
            start: map.address.0,
            end: map.address.1,
            perms: map.perms.as_str(),
            offset: map.offset,
            name: name(&map.pathname),
        });
    }
    let mut pages = process.pagemap()?;
    for address in addresses {
        let frame = match pages.get_info(usize::try_from(address / PAGE)?) {
            Ok(PageInfo::MemoryPage(flags))
                if flags.contains(procfs::process::MemoryPageFlags::PRESENT) =>
            {
                Some(flags.get_page_frame_number().0)
            }
            // Another half of the address space than the user's has no entry.
            Ok(_) | Err(_) => None,
        };
        snapshot.frames.insert(address, frame);
    }
    let status = process.status()?;
    snapshot.status = [
        ("VmPeak", status.vmpeak),
        ("VmSize", status.vmsize),
        ("VmLck", status.vmlck),
        ("VmHWM", status.vmhwm),
        ("VmRSS", status.vmrss),
        ("RssAnon", status.rssanon),
        ("RssFile", status.rssfile),
        ("RssShmem", status.rssshmem),
        ("VmData", status.vmdata),
        ("VmStk", status.vmstk),
        ("VmPTE", status.vmpte),
        ("Threads", Some(status.threads)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    snapshot.files = files(pid)?;
    for task in process.tasks()?.flatten() {
        // One that ends meanwhile has nothing to show.
        let (Ok(stat), Ok(status)) = (task.stat(), task.status()) else {
            continue;
        };
        snapshot.threads.push(ThreadSnapshot {
            tid: task.tid.cast_unsigned(),
            state: stat.state,
            policy: stat.policy.unwrap_or_default(),
            nice: stat.nice,
            switches: (
                status.voluntary_ctxt_switches.unwrap_or_default(),
                status.nonvoluntary_ctxt_switches.unwrap_or_default(),
            ),
        });
    }
    if let Some(other) = other {
        snapshot.kcmp = KCMP
            .into_iter()
            .filter_map(|(name, kind)| Some((name, same(tid, other, kind)?)))
            .collect();
    }
    Ok(snapshot)
}

/// The open files of a process by their numbers, and the position in each.
fn files(pid: u32) -> Result<BTreeMap<u64, u64>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let list = fs::read_dir(&folder).with_context(|| format!("can't read {folder}"))?;
    Ok(list
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            // One that is closed meanwhile isn't open.
            let text = fs::read_to_string(entry.path()).ok()?;
            let position = text.lines().find_map(|line| line.strip_prefix("pos:"))?;
            Some((number, position.trim().parse().ok()?))
        })
        .collect())
}

fn name(path: &MMapPath) -> String {
    match path {
        MMapPath::Path(path) => path.display().to_string(),
        MMapPath::Heap => "[heap]".to_owned(),
        MMapPath::Stack => "[stack]".to_owned(),
        MMapPath::Vdso => "[vdso]".to_owned(),
        MMapPath::Vvar => "[vvar]".to_owned(),
        MMapPath::Anonymous => String::new(),
        MMapPath::Other(name) => format!("[{name}]"),
        other => format!("{other:?}"),
    }
}

/// Whether kcmp(2) finds the same object behind two threads; nothing where it can't tell.
fn same(one: u32, other: u32, kind: libc::c_long) -> Option<bool> {
    // SAFETY: kcmp has no effect, and all its arguments are numbers.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, kind, 0, 0) };
    (order >= 0).then_some(order == 0)
}

/// What a mark's line says: its name, the thread, and the values.
pub fn parse(line: &str) -> Option<(String, u32, BTreeMap<String, u64>)> {
    let mut parts = line.splitn(3, '|');
    let (name, tid, values) = (parts.next()?, parts.next()?, parts.next()?);
    let values = values
        .split_whitespace()
        .map(|value| {
            let (key, number) = value.split_once('=')?;
            let number = match number.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok()?,
                // printf's %p of no address.
                None if number == "(nil)" => 0,
                None => number.parse::<i64>().ok()?.cast_unsigned(),
            };
            Some((key.to_owned(), number))
        })
        .collect::<Option<_>>()?;
    Some((name.to_owned(), tid.parse().ok()?, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_name_a_thread_and_values() {
        let (name, tid, values) =
            parse("before the fork|17|page=0x7f00 child=-1 none=(nil)").expect("a mark");
        assert_eq!((name.as_str(), tid), ("before the fork", 17));
        let wanted = [("child", u64::MAX), ("none", 0), ("page", 0x7f00)];
        assert_eq!(
            values,
            wanted.map(|(key, value)| (key.to_owned(), value)).into()
        );
        assert!(parse("end|17|").expect("a mark").2.is_empty());
        for broken in ["", "x", "x|y|", "x|1", "x|1|a", "x|1|a=b"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_look_at_oneself() {
        let here = Box::new(7_u64);
        let address = std::ptr::from_ref(&*here).addr() as u64;
        let pid = std::process::id();
        let snapshot =
            snapshot(pid, pid, [address].into_iter(), Some(pid)).expect("/proc is there");
        assert!(
            snapshot
                .maps
                .iter()
                .any(|map| (map.start..map.end).contains(&address))
        );
        assert!(snapshot.frames.contains_key(&address));
        assert!(snapshot.faults.0 > 0 && snapshot.status["VmRSS"] > 0);
        assert!(!snapshot.files.is_empty());
        assert!(snapshot.threads.iter().any(|thread| thread.tid == pid));
    }
}

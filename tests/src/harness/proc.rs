//! What /proc says of a process.

use std::fs;

use anyhow::{Context, Result};

use crate::subject::memory::PAGE;

/// A mapping, as /proc/PID/smaps has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
    /// As in `r-xp`.
    pub permissions: String,
    /// What is mapped, or a name in brackets, or nothing.
    pub name: String,
    /// Pages that are present, but for the zero page (`Rss`).
    pub resident: u64,
    /// Anonymous pages among them.
    pub anonymous: u64,
}

/// The mappings of a process that is at rest; without the one above the user's addresses.
pub fn mappings(pid: u32) -> Result<Vec<Mapping>> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        if let Some((start, end)) = range(words[0]) {
            mappings.push(Mapping {
                addr: start,
                len: end - start,
                permissions: words[1].to_owned(),
                name: line
                    .splitn(6, ' ')
                    .nth(5)
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                resident: 0,
                anonymous: 0,
            });
        } else if let "Rss:" | "Anonymous:" = words[0] {
            let last = mappings
                .last_mut()
                .context("a line before the first mapping")?;
            let pages = words[1].parse::<u64>()? * 1024 / PAGE as u64;
            match words[0] {
                "Rss:" => last.resident = pages,
                _ => last.anonymous = pages,
            }
        }
    }
    mappings.retain(|mapping| mapping.addr >> 63 == 0);
    Ok(mappings)
}

fn range(word: &str) -> Option<(u64, u64)> {
    let (start, end) = word.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

/// The ids of all processes. Any may be gone meanwhile.
pub fn processes() -> Result<Vec<u32>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        processes.extend(entry?.file_name().to_string_lossy().parse::<u32>().ok());
    }
    Ok(processes)
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for child in processes()? {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // After the name, which may hold anything: the state, then the parent.
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        if parent == Some(pid) {
            children.push(child);
        }
    }
    Ok(children)
}

//! What /proc says of a process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use crate::subject::memory::PAGE;

/// A mapping, as /proc/PID/maps, smaps and pagemap have it.
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
    /// Pages that are present.
    pub resident: u64,
    /// Anonymous pages among them.
    pub anonymous: u64,
}

/// The mappings of a process that is at rest; without the one above the user's addresses.
pub fn mappings(pid: i32) -> Result<Vec<Mapping>> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
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
                resident: if start >> 63 == 0 {
                    present(&pagemap, start, end)?
                } else {
                    0
                },
                anonymous: 0,
            });
        } else if words[0] == "Anonymous:" {
            let last = mappings
                .last_mut()
                .context("a line before the first mapping")?;
            last.anonymous = words[1].parse::<u64>()? * 1024 / PAGE as u64;
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

fn present(pagemap: &File, start: u64, end: u64) -> Result<u64> {
    const PRESENT: u64 = 1 << 63;
    let mut bytes = vec![0; ((end - start) / PAGE as u64 * 8) as usize];
    pagemap.read_exact_at(&mut bytes, start / PAGE as u64 * 8)?;
    let entries = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&entry| u64::from_ne_bytes(entry));
    Ok(entries.filter(|entry| entry & PRESENT != 0).count() as u64)
}

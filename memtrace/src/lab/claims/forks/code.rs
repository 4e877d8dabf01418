//! Pages of code: which frame a process has found behind each.

use std::collections::BTreeMap;

use crate::{
    lab::observed::Observed,
    trace::event::{Event, Events, Fault, Part, Region},
};

/// Whether an address belongs to code: the program's own or a library's.
pub fn is_code(fault: &Fault) -> bool {
    fault.region == Region::Text || fault.part == Some(Part::Text)
}

/// The frames that a process's faults in code have found, by page, with the first such fault of each page. Faults before
/// `from` and those from `until` on don't count.
pub fn frames(
    seen: &Observed,
    pid: u32,
    from: u64,
    until: u64,
) -> BTreeMap<u64, (u64, &Event, &Fault)> {
    let mut frames = BTreeMap::new();
    for (event, fault) in seen.faults() {
        if let Some(frame) = fault.pfn_after
            && event.pid == pid
            && (from..until).contains(&event.ts)
            && is_code(fault)
        {
            frames
                .entry(fault.addr.0 >> 12)
                .or_insert((frame, event, fault));
        }
    }
    frames
}

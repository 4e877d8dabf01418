//! Names of the kernel's functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use aya::util::kernel_symbols;

use crate::trace::event::{Event, EventKind};

/// All of the kernel's, by their addresses; none where it hides them.
static KERNEL: OnceLock<BTreeMap<u64, String>> = OnceLock::new();

/// No function is larger. What lies further behind one is other code: that of a hook, for one.
const LARGEST: u64 = 1 << 20;

/// The functions that the return addresses in these events lie in, by those addresses.
pub fn of(events: &[Event]) -> BTreeMap<u64, String> {
    let wanted: BTreeSet<u64> = events
        .iter()
        .filter_map(|event| match &event.what {
            EventKind::BirthDetail(born) => Some(born.callers.iter().map(|caller| caller.0)),
            _ => None,
        })
        .flatten()
        .collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let kernel = KERNEL.get_or_init(|| kernel_symbols().unwrap_or_default());
    wanted
        .into_iter()
        .filter_map(|address| Some((address, function(kernel, address)?)))
        .collect()
}

/// The function that a return address lies in.
fn function(kernel: &BTreeMap<u64, String>, address: u64) -> Option<String> {
    // A call may be the last that a function does: then it would return to the next function.
    let before = address.checked_sub(1)?;
    let (_, name) = kernel
        .range(..=before)
        .next_back()
        // Where the kernel hides addresses they are all 0.
        .filter(|(start, _)| **start != 0 && before - **start < LARGEST)?;
    // The compiler marks its variants of a function: copy_process.isra.0.
    Some(name.split('.').next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_address_belongs_to_the_function_that_calls() {
        let kernel = [(100, "first"), (200, "second.isra.0")];
        let kernel = kernel.map(|(start, name)| (start, name.to_owned())).into();
        let name = |address| function(&kernel, address);
        assert_eq!(name(150).as_deref(), Some("first"));
        assert_eq!(name(200).as_deref(), Some("first"));
        assert_eq!(name(201).as_deref(), Some("second"));
        assert_eq!(name(201 + LARGEST), None);
        assert_eq!(name(100), None);
        assert_eq!(name(0), None);
        let hidden = [(0, "first".to_owned())].into();
        assert_eq!(function(&hidden, 150), None);
    }
}

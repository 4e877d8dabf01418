//! Sets of pages, as numbers: the address divided by 4 KiB.

use std::{borrow::Cow, mem, ops::Range};

use roaring::RoaringTreemap;

/// A set of pages.
pub type Pages = RoaringTreemap;

/// The page so many pages further up.
pub fn moved_page(page: u64, by: i64) -> u64 {
    page.wrapping_add_signed(by)
}

/// The range so many pages further up.
pub fn moved_range(range: &Range<u64>, by: i64) -> Range<u64> {
    range.start.saturating_add_signed(by)..range.end.saturating_add_signed(by)
}

/// The set so many pages further up, as far as it comes to where `near` lies. Only where that is another place does it
/// go through the pages one by one.
pub fn moved_pages<'a>(pages: &'a Pages, by: i64, near: &Pages) -> Cow<'a, Pages> {
    if by == 0 {
        return Cow::Borrowed(pages);
    }
    let mut moved = Pages::new();
    if let (Some(first), Some(last)) = (near.min(), near.max()) {
        let mut iter = pages.iter();
        iter.advance_to(first.saturating_add_signed(-by));
        let result = moved.append(
            iter.filter_map(|page| page.checked_add_signed(by))
                .take_while(|page| *page <= last),
        );
        debug_assert!(result.is_ok(), "a set is in order");
    }
    Cow::Owned(moved)
}

/// Up to so many pages are copied one by one rather than with all of the set.
const FEW: u64 = 4096;

/// Takes the pages of a range out of a set.
pub fn take_range(pages: &mut Pages, range: &Range<u64>) -> Pages {
    let within = pages.range_cardinality(range.clone());
    if within == 0 {
        return Pages::new();
    }
    if within == pages.len() {
        return mem::take(pages);
    }
    let mut taken;
    if within <= FEW {
        let mut iter = pages.iter();
        iter.advance_to(range.start);
        taken = iter.take(within as usize).collect();
    } else {
        taken = pages.clone();
        taken.remove_range(..range.start);
        taken.remove_range(range.end..);
    }
    pages.remove_range(range.clone());
    taken
}

/// The same set without runs: taking single pages out of long runs makes ever more of them, each taking ever longer.
pub fn without_runs(pages: &Pages) -> Pages {
    let bitmaps = pages.bitmaps().map(|(high, bitmap)| {
        let mut bitmap = bitmap.clone();
        bitmap.remove_run_compression();
        (high, bitmap)
    });
    Pages::from_bitmaps(bitmaps)
}

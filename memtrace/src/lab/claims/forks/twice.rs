//! The two returns of one call.

use crate::{
    lab::{finding::Undecided, observed::Observed},
    trace::event::{Event, Events, Return},
};

/// What was seen of a call that makes a child, when it came back.
pub struct Twice<'a> {
    /// The parent's return with this child, each time it was seen.
    pub parent: Vec<(&'a Event, &'a Return)>,
    /// The child's.
    pub child: Vec<(&'a Event, &'a Return)>,
}

impl<'a> Twice<'a> {
    /// The returns of the call that made this child.
    ///
    /// # Errors
    /// None was seen.
    pub fn of(seen: &'a Observed, child: u32) -> Result<Self, Undecided> {
        let (birth, _) = seen.birth(child)?;
        // The first return in the parent after the birth is that call's: it is in it at the birth.
        let until = seen
            .clones()
            .map(|(event, _)| event)
            .find(|event| event.tid == birth.tid && event.ts > birth.ts)
            .map_or(u64::MAX, |next| next.ts);
        let parent: Vec<_> = seen
            .returns(birth.tid, false)
            .filter(|(event, _)| (birth.ts..until).contains(&event.ts))
            .collect();
        let child: Vec<_> = seen.returns(child, true).collect();
        if parent.is_empty() && child.is_empty() {
            return Err(Undecided::because("no return from the call was seen"));
        }
        Ok(Self { parent, child })
    }

    /// Both in the order of their times.
    pub fn events(&self) -> Vec<&'a Event> {
        let mut events: Vec<_> = self
            .parent
            .iter()
            .chain(&self.child)
            .map(|(event, _)| *event)
            .collect();
        events.sort_by_key(|event| event.ts);
        events
    }

    /// Once in each: what it returned in the parent, and in the child.
    pub fn values(&self) -> Option<(i64, i64)> {
        match (&self.parent[..], &self.child[..]) {
            ([(_, parent)], [(_, child)]) => Some((parent.ret, child.ret)),
            _ => None,
        }
    }
}

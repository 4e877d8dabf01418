//! All claims: a file each.

use super::claim::Claim;

mod beyond;
mod forks;
mod layout;
mod tasks;

/// Those of the notes in their order, then those beyond them.
pub fn all() -> impl Iterator<Item = &'static Claim> {
    [layout::CLAIMS, tasks::CLAIMS, forks::CLAIMS, beyond::CLAIMS]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::{claim::Method, programs};

    /// The longest [`Claim::short`], for the table.
    const SHORT: usize = 52;

    #[test]
    fn all_claims_of_the_notes_are_there_once() {
        let of_notes = [("L", 14), ("T", 9), ("F", 18)];
        let wanted = of_notes
            .into_iter()
            .flat_map(|(letter, count)| (1..=count).map(move |number| format!("{letter}{number}")));
        let ids: Vec<_> = all().map(|claim| claim.id.to_owned()).collect();
        assert_eq!(
            ids.iter().take(41).cloned().collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>()
        );
        assert!(ids.iter().skip(41).all(|id| id.starts_with('X')));
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }

    #[test]
    fn each_says_what_it_is_about() {
        for claim in all() {
            assert!(
                (1..=SHORT).contains(&claim.short.chars().count()),
                "{}",
                claim.id
            );
            for text in [claim.book, claim.experiment] {
                assert!(
                    text.ends_with('.') && !text.contains("  "),
                    "{}: {text}",
                    claim.id
                );
            }
            match claim.method {
                Method::Experiment { program, .. } => {
                    assert!(programs::find(program).is_some(), "{}: {program}", claim.id);
                    assert!(
                        !claim.expected.is_empty() && !claim.read.is_empty(),
                        "{}",
                        claim.id
                    );
                }
                Method::Never(why) => assert!(why.ends_with('.') && claim.expected.is_empty()),
            }
        }
    }
}

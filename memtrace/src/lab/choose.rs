//! Which claims are asked for.

use anyhow::{Result, bail};

use super::{claim::Claim, claims};

/// Those with these ids, each once, in the order of the notes. All of them for `all`, `list` or nothing.
///
/// # Errors
/// An id is none.
pub fn choose(ids: &[String]) -> Result<Vec<&'static Claim>> {
    let is_word = |id: &str| ["all", "list"].contains(&id);
    for id in ids {
        if !is_word(id) && !claims::all().any(|claim| claim.id.eq_ignore_ascii_case(id)) {
            bail!("there is no experiment \"{id}\"; \"memtrace lab list\" shows all");
        }
    }
    let words = ids.iter().filter(|id| is_word(id)).count();
    if words > 0 && ids.len() > words {
        return choose(
            &ids.iter()
                .filter(|id| !is_word(id))
                .cloned()
                .collect::<Vec<_>>(),
        );
    }
    Ok(claims::all()
        .filter(|claim| {
            words > 0 || ids.is_empty() || ids.iter().any(|id| claim.id.eq_ignore_ascii_case(id))
        })
        .collect())
}

/// Whether they are only to be listed.
pub fn is_list(ids: &[String]) -> bool {
    ids.first().is_some_and(|id| id == "list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(asked: &[&str]) -> Result<Vec<&'static str>> {
        let asked: Vec<_> = asked.iter().map(|id| (*id).to_owned()).collect();
        Ok(choose(&asked)?.into_iter().map(|claim| claim.id).collect())
    }

    #[test]
    fn all_some_or_an_error() {
        let all: Vec<_> = claims::all().map(|claim| claim.id).collect();
        for everything in [&[][..], &["all"], &["list"]] {
            assert_eq!(ids(everything).expect("valid"), all);
        }
        assert_eq!(ids(&["f9", "F9"]).expect("valid"), ["F9"]);
        assert_eq!(ids(&["list", "F9"]).expect("valid"), ["F9"]);
        assert!(
            ids(&["F9", "F99"])
                .expect_err("none such")
                .to_string()
                .contains("\"F99\"")
        );
    }
}

//! Which claims are asked for.

use anyhow::{Result, bail};

use super::{claim::Claim, claims};

/// Those with these ids, each once, in the order of the notes. All of them for `all`, `list` or nothing.
///
/// # Errors
/// An id is none.
pub fn choose(ids: &[String]) -> Result<Vec<&'static Claim>> {
    let named: Vec<_> = ids
        .iter()
        .filter(|id| !["all", "list"].contains(&id.as_str()))
        .collect();
    let is_named = |claim: &Claim, id: &str| claim.id.eq_ignore_ascii_case(id);
    for id in &named {
        if !claims::all().any(|claim| is_named(claim, id)) {
            bail!("there is no claim \"{id}\"; \"memtrace lab list\" shows all");
        }
    }
    Ok(claims::all()
        .filter(|claim| named.is_empty() || named.iter().any(|id| is_named(claim, id)))
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

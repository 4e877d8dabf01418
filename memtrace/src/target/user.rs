//! Whom PROG runs as.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};

/// What sudo puts into the environment and PROG wouldn't see without it.
const FROM_SUDO: [&str; 7] = [
    "MAIL",
    "SUDO_COMMAND",
    "SUDO_GID",
    "SUDO_HOME",
    "SUDO_TTY",
    "SUDO_UID",
    "SUDO_USER",
];

/// Fails with what to do about it unless memtrace is root.
pub fn require_root() -> anyhow::Result<()> {
    ensure!(
        geteuid().is_root(),
        "memtrace needs root to load BPF programs; run it with sudo"
    );
    Ok(())
}

/// Whom PROG runs as.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// As memtrace itself, which is root, with its environment.
    Own,
    /// As another user.
    Of(Account),
}

/// A user, as the user database has it.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: PathBuf,
    shell: PathBuf,
    /// Whether it is someone else than who typed sudo.
    is_stranger: bool,
}

impl Credentials {
    /// The user asked for with `--user`, or else the one who typed sudo, or else memtrace's own.
    pub fn choose(requested: Option<&str>) -> anyhow::Result<Self> {
        let variable = |name| std::env::var_os(name);
        match Choice::of(
            requested,
            variable("SUDO_UID").as_deref(),
            variable("SUDO_GID").as_deref(),
        )? {
            Choice::Own => Ok(Self::Own),
            Choice::Named(name) => {
                let user = User::from_name(name)
                    .with_context(|| format!("can't look up user {name:?}"))?
                    .with_context(|| format!("there is no user {name:?}"))?;
                let sudo = Choice::of(None, variable("SUDO_UID").as_deref(), None).ok();
                let is_stranger =
                    !matches!(sudo, Some(Choice::Sudo { uid, .. }) if uid == user.uid);
                Self::of(user, None, is_stranger)
            }
            Choice::Sudo { uid, gid } => {
                let user = User::from_uid(uid)
                    .with_context(|| format!("can't look up user id {uid}"))?
                    .with_context(|| {
                        format!("SUDO_UID: there is no user with id {uid}; name one with --user")
                    })?;
                Self::of(user, gid, false)
            }
        }
    }

    fn of(user: User, gid: Option<Gid>, is_stranger: bool) -> anyhow::Result<Self> {
        if user.uid == geteuid() {
            return Ok(Self::Own);
        }
        let gid = gid.unwrap_or(user.gid);
        let name = CString::new(user.name.as_str())?;
        let groups = getgrouplist(&name, gid)
            .with_context(|| format!("can't look up the groups of {:?}", user.name))?;
        Ok(Self::Of(Account {
            name: user.name,
            uid: user.uid,
            gid,
            groups,
            home: user.dir,
            shell: user.shell,
            is_stranger,
        }))
    }

    /// Whether they are neither root's nor those of who typed sudo: who sits at the terminal is someone else.
    pub(super) const fn are_a_strangers(&self) -> bool {
        matches!(self, Self::Of(account) if account.is_stranger)
    }

    /// Variables to set for PROG.
    pub(super) fn environment(&self) -> Vec<(&'static str, &OsStr)> {
        match self {
            Self::Own => vec![],
            Self::Of(account) => vec![
                ("HOME", account.home.as_os_str()),
                ("SHELL", account.shell.as_os_str()),
                ("USER", account.name.as_ref()),
                ("LOGNAME", account.name.as_ref()),
            ],
        }
    }

    /// Variables that PROG must not see.
    pub(super) fn unset(&self) -> &'static [&'static str] {
        match self {
            Self::Own => &[],
            Self::Of(_) => &FROM_SUDO,
        }
    }

    /// Becomes that user for good. To be called in the child, between fork and exec: async-signal-safe.
    pub(super) fn assume(&self) -> nix::Result<()> {
        let Self::Of(account) = self else {
            return Ok(());
        };
        setgroups(&account.groups)?;
        setgid(account.gid)?;
        setuid(account.uid)
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("root"),
            Self::Of(account) => write!(f, "user {}", account.name),
        }
    }
}

/// Whose credentials to look up.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    Own,
    Named(&'a str),
    Sudo { uid: Uid, gid: Option<Gid> },
}

impl<'a> Choice<'a> {
    fn of(
        requested: Option<&'a str>,
        uid: Option<&OsStr>,
        gid: Option<&OsStr>,
    ) -> anyhow::Result<Self> {
        Ok(match (requested, uid) {
            (Some(name), _) => Self::Named(name),
            (None, None) => Self::Own,
            (None, Some(uid)) => Self::Sudo {
                uid: Uid::from_raw(id("SUDO_UID", uid)?),
                gid: gid
                    .map(|gid| id("SUDO_GID", gid))
                    .transpose()?
                    .map(Gid::from_raw),
            },
        })
    }
}

fn id(variable: &str, value: &OsStr) -> anyhow::Result<u32> {
    let value = value.to_string_lossy();
    match value.parse() {
        // The kernel takes the highest number for "leave it as it is".
        Ok(id) if id != u32::MAX => Ok(id),
        _ => bail!("{variable} is {value:?}, which is no id; name the user with --user"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(
        requested: Option<&'static str>,
        uid: Option<&str>,
        gid: Option<&str>,
    ) -> Result<Choice<'static>, String> {
        Choice::of(requested, uid.map(OsStr::new), gid.map(OsStr::new))
            .map_err(|error| error.to_string())
    }

    fn sudo(uid: u32, gid: Option<u32>) -> Choice<'static> {
        Choice::Sudo {
            uid: Uid::from_raw(uid),
            gid: gid.map(Gid::from_raw),
        }
    }

    fn nobody() -> Account {
        match Credentials::choose(Some("nobody")) {
            Ok(Credentials::Of(account)) => account,
            other => panic!("tests don't run as nobody: {other:?}"),
        }
    }

    #[test]
    fn the_one_asked_for_comes_before_the_one_who_typed_sudo() {
        assert_eq!(choice(None, None, None), Ok(Choice::Own));
        assert_eq!(choice(None, None, Some("5")), Ok(Choice::Own));
        assert_eq!(
            choice(None, Some("1000"), Some("1001")),
            Ok(sudo(1000, Some(1001)))
        );
        assert_eq!(choice(None, Some("1000"), None), Ok(sudo(1000, None)));
        assert_eq!(
            choice(Some("root"), Some("1000"), Some("1001")),
            Ok(Choice::Named("root"))
        );
        assert_eq!(
            choice(Some("root"), Some("nonsense"), None),
            Ok(Choice::Named("root"))
        );
    }

    #[test]
    fn an_id_that_is_none_is_named() {
        for bad in ["", "-1", "alice", "4294967295", "99999999999", "1\n"] {
            let error = choice(None, Some(bad), Some("1000")).expect_err(bad);
            assert!(
                error.starts_with(&format!("SUDO_UID is {bad:?}")),
                "{error}"
            );
            let error = choice(None, Some("1000"), Some(bad)).expect_err(bad);
            assert!(
                error.starts_with(&format!("SUDO_GID is {bad:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_user_is_named() {
        let error = Credentials::choose(Some("no\nsuch"))
            .expect_err("no such user")
            .to_string();
        assert_eq!(error, r#"there is no user "no\nsuch""#);
    }

    #[test]
    fn memtraces_own_user_changes_nothing() {
        let own = User::from_uid(geteuid())
            .expect("a user database")
            .expect("an entry for who runs this");
        let credentials = Credentials::choose(Some(&own.name)).expect("known");
        assert!(matches!(credentials, Credentials::Own), "{credentials:?}");
        assert!(credentials.environment().is_empty() && credentials.unset().is_empty());
    }

    #[test]
    fn another_user_has_their_own_groups_and_variables() {
        let nobody = nobody();
        assert_eq!((nobody.uid.as_raw(), nobody.gid.as_raw()), (65534, 65534));
        assert!(nobody.groups.contains(&nobody.gid), "{nobody:?}");
        let home = nobody.home.clone();
        let credentials = Credentials::Of(nobody);
        let environment = credentials.environment();
        assert!(environment.contains(&("HOME", home.as_os_str())));
        for name in ["USER", "LOGNAME"] {
            assert!(
                environment.contains(&(name, OsStr::new("nobody"))),
                "{name} of {environment:?}"
            );
        }
        assert!(credentials.unset().contains(&"SUDO_UID"));
    }

    #[test]
    fn the_group_sudo_was_typed_with_is_kept() {
        let user = User::from_name("nobody")
            .expect("a user database")
            .expect("nobody");
        let Ok(Credentials::Of(account)) = Credentials::of(user, Some(Gid::from_raw(12345)), false)
        else {
            panic!("another user");
        };
        assert_eq!(account.gid.as_raw(), 12345);
        assert!(account.groups.contains(&account.gid));
    }
}

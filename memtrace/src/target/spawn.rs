//! Starts PROG.
//!
//! No stop and continue is needed: the hooks know memtrace, and trace its next child from its birth. So the one fork
//! here must be the first since they were attached.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use tokio::process::{Child, Command};

use super::status;
use super::user::Credentials;
use super::{
    early::pass_on,
    inherit::{Inherited, set_ignored},
};

/// Marks an errno of the child as one of becoming another user. Its number is all that comes back from the child, and
/// exec may fail with the same one.
const WHILE_BECOMING_USER: i32 = 1 << 16;

/// The file that `command` runs.
///
/// # Errors
/// There is none.
pub fn program(command: &[OsString], credentials: &Credentials) -> Result<PathBuf, SpawnError> {
    let Some(program) = command.first() else {
        return Err(SpawnError::failed("no program is given"));
    };
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    find(program).ok_or_else(|| SpawnError::new(program, credentials, &missing()))
}

/// Starts `command` (a program, looked up in PATH unless it has a slash, and its arguments) in memtrace's own process
/// group, session and folder, with all that memtrace was started with, but for what `adapt` changes. It isn't killed when
/// memtrace ends.
///
/// Returns once PROG runs: its exec has succeeded. Wants a tokio runtime around it.
pub fn spawn(
    command: &[OsString],
    adapt: impl FnOnce(&mut Command),
    credentials: &Credentials,
    inherited: &Inherited,
) -> Result<Child, SpawnError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(SpawnError::failed("no program is given"));
    };
    // Where SIGCHLD is ignored the kernel throws the child's exit status away.
    set_ignored(libc::SIGCHLD, false)
        .map_err(|error| SpawnError::new(program, credentials, &error))?;

    let mut command = Command::new(program);
    command.args(arguments).envs(credentials.environment());
    for variable in credentials.unset() {
        command.env_remove(variable);
    }
    adapt(&mut command);
    let (who, inherited) = (credentials.clone(), *inherited);
    let in_child = move || {
        who.assume()
            .map_err(|errno| io::Error::from_raw_os_error(errno as i32 | WHILE_BECOMING_USER))?;
        inherited.restore()?;
        pass_on();
        Ok(())
    };
    // SAFETY: all of them only make system calls: no lock is taken and no memory allocated between fork and exec.
    unsafe { command.pre_exec(in_child) };
    command
        .spawn()
        .map_err(|error| SpawnError::new(program, credentials, &error))
}

/// Why PROG didn't start, in one line.
#[derive(Debug)]
pub struct SpawnError {
    message: String,
    exit_status: u8,
}

impl SpawnError {
    /// What memtrace should exit with: 127, 126 or 125.
    pub const fn exit_status(&self) -> u8 {
        self.exit_status
    }

    fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit_status: status::FAILED,
        }
    }

    fn new(program: &OsStr, who: &Credentials, error: &io::Error) -> Self {
        let name = quoted(program.as_ref());
        let Some(number) = error.raw_os_error() else {
            return Self::failed(format!("can't start {name}: {error}"));
        };
        if number & WHILE_BECOMING_USER != 0 {
            let errno = Errno::from_raw(number & !WHILE_BECOMING_USER);
            return Self::failed(format!(
                "can't become {who} to start {name}: {}",
                errno.desc()
            ));
        }
        let errno = Errno::from_raw(number);
        let (exit_status, message) = match (errno, find(program)) {
            // exec also fails with EACCES when a directory of PATH is closed to the user.
            (Errno::ENOENT | Errno::EACCES, None) if !has_slash(program) => (
                status::NOT_FOUND,
                format!("{name} is not in PATH; give the program's path if it is elsewhere"),
            ),
            (Errno::ENOENT, Some(_)) if !Path::new("/dev/null").exists() => {
                return Self::failed(format!("can't start {name}: there is no /dev/null"));
            }
            (Errno::ENOENT, None) => (status::NOT_FOUND, format!("{name} doesn't exist")),
            (Errno::ENOENT, Some(file)) => (
                status::NOT_FOUND,
                format!(
                    "can't run {}: the interpreter it names (after #!, or the dynamic linker) doesn't exist",
                    quoted(&file)
                ),
            ),
            (Errno::EACCES, Some(file)) if file.is_dir() => (
                status::NOT_EXECUTABLE,
                format!("{} is a directory, not a program", quoted(&file)),
            ),
            (Errno::EACCES, Some(file)) => (
                status::NOT_EXECUTABLE,
                format!(
                    "{who} may not run {}: it, or a directory above it, lacks the permission (chmod +x)",
                    quoted(&file)
                ),
            ),
            // What fork, and the pipe that brings exec's error, fail with.
            (Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE, _) => (
                status::FAILED,
                format!("can't start {name}: {}", errno.desc()),
            ),
            _ => (
                status::NOT_EXECUTABLE,
                format!("can't run {name}: {}", errno.desc()),
            ),
        };
        Self {
            message,
            exit_status,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SpawnError {}

fn has_slash(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/')
}

/// The file that exec came upon, as far as there is one.
fn find(program: &OsStr) -> Option<PathBuf> {
    if has_slash(program) {
        return Some(program.into()).filter(|file: &PathBuf| file.exists());
    }
    // Where there is none exec looks in these (`_CS_PATH` in `confstr(3)`).
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut files = env::split_paths(&path)
        .map(|directory| directory.join(program))
        .filter(|file| file.is_file())
        .peekable();
    // exec goes on where it may not run one, and is refused if there is no other.
    let first = files.peek().cloned();
    files.find(|file| is_executable(file)).or(first)
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|file| file.mode() & 0o111 != 0)
}

/// The name in quotes, with control characters escaped.
fn quoted(name: &Path) -> String {
    format!("{:?}", name.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Direct, Output};

    use nix::unistd::geteuid;

    use super::*;
    use crate::target::{STOP, Signals};

    fn words(command: &[&str]) -> Vec<OsString> {
        command.iter().map(Into::into).collect()
    }

    async fn run(command: &[OsString], credentials: &Credentials) -> Result<u8, SpawnError> {
        let mut child = spawn(command, |_| (), credentials, Inherited::at_start())?;
        Ok(status::of(child.wait().await.expect("a status")))
    }

    async fn error_of(command: &[&str]) -> (u8, String) {
        let error = run(&words(command), &Credentials::Own)
            .await
            .expect_err("it can't start");
        (error.exit_status(), error.to_string())
    }

    #[tokio::test]
    async fn prog_runs_and_its_end_is_known() {
        for (script, status) in [
            ("exit 0", 0),
            ("exit 42", 42),
            ("ulimit -c 0; kill -SEGV $$", 139),
        ] {
            let ended = run(&words(&["sh", "-c", script]), &Credentials::Own).await;
            assert_eq!(ended.expect("sh starts"), status, "{script}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_127() {
        let (status, message) = error_of(&["no-such-program"]).await;
        assert_eq!(status, 127);
        assert!(
            message.starts_with(r#""no-such-program" is not in PATH"#),
            "{message}"
        );
        assert_eq!(
            error_of(&["./no/such"]).await,
            (127, r#""./no/such" doesn't exist"#.into())
        );
        assert_eq!(error_of(&[""]).await.0, 127);
    }

    #[tokio::test]
    async fn what_is_no_program_is_126() {
        assert_eq!(
            error_of(&["/"]).await,
            (126, r#""/" is a directory, not a program"#.into())
        );
        let (status, message) = error_of(&["/etc/passwd"]).await;
        assert_eq!(status, 126);
        assert!(
            message.starts_with(r#"root may not run "/etc/passwd""#),
            "{message}"
        );
        let below_a_file = (126, r#"can't run "/etc/passwd/x": Not a directory"#.into());
        assert_eq!(error_of(&["/etc/passwd/x"]).await, below_a_file);
        let too_long = "x".repeat(200_000);
        assert_eq!(error_of(&["true", &too_long]).await.0, 126);
    }

    #[tokio::test]
    async fn a_missing_interpreter_is_told_from_a_missing_program() {
        let script = env::temp_dir().join(format!("memtrace-test-{}", std::process::id()));
        // Another process writes it: a file that is open for writing here can't be run.
        let made = Direct::new("sh")
            .args(["-c", r#"echo '#!/no/such/shell' > "$0" && chmod +x "$0""#])
            .arg(&script)
            .status();
        assert!(made.expect("sh runs").success());
        let (status, message) = error_of(&[script.to_str().expect("an ASCII path")]).await;
        std::fs::remove_file(&script).expect("it is there");
        assert_eq!(status, 127);
        assert!(message.contains("interpreter"), "{message}");
    }

    #[test]
    fn a_closed_directory_of_path_hides_nothing_that_is_not_there() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        let status_of = |program: &str| {
            SpawnError::new(program.as_ref(), &Credentials::Own, &error).exit_status()
        };
        assert_eq!(status_of("no-such-program"), 127);
        assert_eq!(status_of("sh"), 126);
    }

    #[tokio::test]
    async fn a_message_is_one_line_whatever_the_name() {
        let (status, message) = error_of(&["./a\nb\u{1b}[31m"]).await;
        assert_eq!(
            (status, message.as_str()),
            (127, r#""./a\nb\u{1b}[31m" doesn't exist"#)
        );
    }

    #[test]
    fn what_fails_on_our_side_is_125() {
        let error = |number| {
            let error = io::Error::from_raw_os_error(number);
            let error = SpawnError::new("prog".as_ref(), &Credentials::Own, &error);
            (error.exit_status(), error.to_string())
        };
        let no_memory = (125, r#"can't start "prog": Out of memory"#.into());
        assert_eq!(error(libc::ENOMEM), no_memory);
        let (status, message) = error(libc::EINVAL | WHILE_BECOMING_USER);
        assert_eq!(
            (status, message.as_str()),
            (
                125,
                r#"can't become root to start "prog": Invalid argument"#
            )
        );
        assert_eq!(error(libc::EPERM).0, 126);
    }

    #[tokio::test]
    async fn prog_becomes_another_user_or_does_not_start() {
        let nobody = Credentials::choose(Some("nobody")).expect("a user of every system");
        let script = r#"
            [ "$(id -u) $(id -ru) $(id -g) $(id -rg)" = "65534 65534 65534 65534" ] &&
            [ "$(id -G)" = "$(id -G nobody)" ] && [ "$USER $LOGNAME" = "nobody nobody" ] &&
            [ "$HOME" = "$(getent passwd nobody | cut -d: -f6)" ] && [ -z "${SUDO_UID+set}" ] &&
            grep -q '^Groups:.*65534' /proc/self/status && grep -q '^CapEff:.0*$' /proc/self/status"#;
        let ended = run(&words(&["sh", "-c", script]), &nobody).await;
        if geteuid().is_root() {
            assert_eq!(ended.expect("sh starts"), 0);
        } else {
            let error = ended.expect_err("only root can");
            assert_eq!(error.exit_status(), 125);
            assert!(
                error
                    .to_string()
                    .starts_with("can't become user nobody to start"),
                "{error}"
            );
        }
    }

    /// What PROG can tell of how it was started, but for its parent. Left out are the signals around 32 and 33: those
    /// are the C library's, which changes them for itself when a test starts a thread.
    const SHOW: &str = r"{
        sed -n 's/^\(SigIgn:.*\)..\(.......\)$/\1__\2/p' /proc/self/status
        grep -E '^(Sig(Blk|Cgt)|ShdPnd|NoNewPrivs|Seccomp|Groups|[UG]id|Cap)' /proc/self/status
        cut -d ' ' -f 5,6,7,8,19 /proc/$$/stat
        ls /proc/$$/fd
        ulimit -a
        cat /proc/self/limits
        umask
        pwd
        tr '\0' '\n' < /proc/self/environ
        cat /proc/self/oom_score_adj
    } >&2";

    /// Set when this test binary is started by the test below, to start PROG as memtrace would.
    const INNER: &str = "MEMTRACE_TEST_INNER";

    #[tokio::test]
    async fn prog_is_started_as_it_would_be_without_memtrace() {
        let prog = ["sh", "-c", SHOW];
        if env::var_os(INNER).is_some_and(|inner| inner == "with") {
            let _signals =
                Signals::new(Inherited::at_start(), &[STOP]).expect("a runtime is there");
            assert_eq!(
                run(&words(&prog), &Credentials::Own)
                    .await
                    .expect("sh starts"),
                0
            );
            return;
        }
        let this_test = "prog_is_started_as_it_would_be_without_memtrace";
        let (_, module) = module_path!()
            .split_once("::")
            .expect("the crate's name is first");
        let this_test = format!("{module}::{this_test}");
        let memtrace = env::current_exe().expect("this test's path");
        let memtrace = [
            memtrace.to_str().expect("UTF-8"),
            "--test-threads=1",
            "--exact",
            &this_test,
        ];

        let shell = |setup| vec!["sh", "-c", setup, "sh"];
        for starter in [
            vec!["env"],
            vec!["env", "--ignore-signal=PIPE"],
            vec!["env", "--default-signal=PIPE", "--ignore-signal=INT,QUIT"],
            vec!["env", "--ignore-signal=HUP,TERM,CHLD,USR1"],
            vec!["env", "--block-signal=INT,USR2,PIPE"],
            shell(r#"exec <&-; exec "$@""#),
            shell(r#"umask 027; ulimit -n 77; ulimit -c 0; cd /; exec "$@" 9</dev/null"#),
        ] {
            let start = |inner, command: &[&str]| -> Output {
                let (starter, arguments) = starter.split_first().expect("not empty");
                let mut start = Direct::new(starter);
                start
                    .args(arguments)
                    .args(command)
                    .env(INNER, inner)
                    .output()
                    .expect("it starts")
            };
            let (without, with) = (start("wout", &prog), start("with", &memtrace));
            let report = String::from_utf8_lossy(&with.stdout);
            assert!(
                with.status.success() && report.contains("1 passed"),
                "{starter:?}: {report}"
            );
            let stderr = |output: &Output| {
                String::from_utf8_lossy(&output.stderr)
                    .replace("TEST_INNER=with", "TEST_INNER=wout")
            };
            assert!(stderr(&without).contains("SigIgn:"), "{}", stderr(&without));
            assert_eq!(stderr(&without), stderr(&with), "{starter:?}");
        }
    }
}

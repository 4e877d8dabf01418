//! The interpreter that a script names, as the kernel reads it (`load_script` in `fs/binfmt_script.c`).

use std::{
    ffi::OsString,
    io::Read as _,
    iter::successors,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use crate::kernel::regular;

/// How much of a file the kernel looks at (`BINPRM_BUF_SIZE`).
const START: u64 = 256;
/// How many interpreters one may name the next of (`exec_binprm` in `fs/exec.c`).
const DEEPEST: usize = 5;

/// The files that run a program which is a script, the first of them first.
pub fn interpreters(program: &Path) -> impl Iterator<Item = PathBuf> {
    successors(named_by(program), |file| named_by(file)).take(DEEPEST)
}

fn named_by(file: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    regular::open(file)
        .ok()?
        .take(START)
        .read_to_end(&mut start)
        .ok()?;
    let line = start.strip_prefix(b"#!")?;
    let name = line
        .split(|byte| b"\n\0".contains(byte))
        .next()?
        .split(|byte| b" \t".contains(byte))
        .find(|word| !word.is_empty())?;
    Some(OsString::from_vec(name.to_vec()).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn as_the_kernel_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("script");
        let named = |text: &str| {
            fs::write(&script, text).expect("room");
            let all: Vec<_> = interpreters(&script).collect();
            all.into_iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        for text in [
            "#!/no/sh\n",
            "#! \t/no/sh -e\n",
            "#!/no/sh",
            "#!/no/sh\0x\n",
        ] {
            assert_eq!(named(text), ["/no/sh"], "{text:?}");
        }
        for text in ["", "#", "#!", "#! \n/no/sh", "\n#!/no/sh", "\x7fELF"] {
            assert!(named(text).is_empty(), "{text:?}");
        }
        // One that names itself is refused by the kernel.
        let itself = script.to_str().expect("UTF-8").to_owned();
        assert_eq!(named(&format!("#!{itself}\n")), vec![itself; DEEPEST]);
    }
}

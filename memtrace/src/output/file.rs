//! The file that a trace is written to. What was in it before stays until the first line comes.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write, stderr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A file that the trace must not go to: what it is, and where.
pub type Kept = (String, PathBuf);

/// Opens the file at `path`, or makes it; whether it was made. One in `kept` is refused, under whatever name.
///
/// # Errors
/// It is none that can be written, or shouldn't be.
pub fn open(path: &Path, kept: &[Kept]) -> Result<(Output, bool)> {
    let name = named(path);
    if let Ok(there) = fs::metadata(path) {
        ensure!(!there.is_dir(), "can't write to {name}: it is a directory");
        let same = |other: &Metadata| (other.dev(), other.ino()) == (there.dev(), there.ino());
        if let Some((what, _)) = kept
            .iter()
            .find(|(_, kept)| fs::metadata(kept).is_ok_and(|kept| same(&kept)))
        {
            bail!("can't write to {name}: it is {what}");
        }
    }
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    let (file, is_made) = match made {
        // It may be a link to nowhere, too.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path),
            false,
        ),
        made => (made, true),
    };
    let file = file.with_context(|| format!("can't write to {name}"))?;
    let output = Output {
        name: Some(name),
        file,
    };
    Ok((output, is_made))
}

/// A file as it is named in what memtrace says.
pub fn named(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// A file that is emptied before the first line is written.
pub struct Output {
    /// Its name, until then.
    name: Option<String>,
    file: File,
}

impl Output {
    fn begin(&self, name: &str) -> io::Result<()> {
        let is = self.file.metadata()?;
        if is.is_file() && is.len() > 0 {
            self.file.set_len(0)?;
            // Where stderr is closed there is no one to tell.
            let _ = writeln!(stderr(), "memtrace: {name} was there, and is replaced");
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(name) = self.name.take() {
            self.begin(&name)?;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, kept: &[Kept]) -> String {
        let error = open(path, kept).err().expect("it is refused");
        format!("{error:#}")
    }

    #[test]
    fn what_was_there_stays_until_the_first_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace");
        fs::write(&path, "what was there").expect("room");
        let (mut output, is_made) = open(&path, &[]).expect("it can be written");
        assert!(!is_made);
        let read = || fs::read_to_string(&path).expect("it is there");
        assert_eq!(read(), "what was there");
        output.write_all(b"a line\n").expect("room");
        assert_eq!(read(), "a line\n");
        output.write_all(b"another\n").expect("room");
        assert_eq!(read(), "a line\nanother\n");
        let (_, is_made) = open(&folder.path().join("new"), &[]).expect("it can be made");
        assert!(is_made);
    }

    #[test]
    fn a_file_that_is_needed_is_refused_by_any_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let [program, hard, soft] =
            ["program", "hard", "soft"].map(|name| folder.path().join(name));
        fs::write(&program, "#!").expect("room");
        fs::hard_link(&program, &hard).expect("a link");
        std::os::unix::fs::symlink("program", &soft).expect("a link");
        let kept = [("the program to run".to_owned(), program.clone())];
        for name in [&program, &hard, &soft] {
            let line = refused(name, &kept);
            assert!(line.ends_with("it is the program to run"), "{line}");
        }
        assert!(refused(folder.path(), &kept).ends_with("it is a directory"));
        assert!(refused(&program.join("x"), &kept).contains("Not a directory"));
        assert_eq!(fs::read(&program).expect("it is there"), b"#!");
    }
}

//! What a guest finds at its root: memtrace, the tests and what they need, as an archive that the kernel unpacks.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc::{self, Builder};

const FOLDER: u32 = 0o040_755;
/// Where everybody may write.
const SHARED_FOLDER: u32 = 0o041_777;
const PROGRAM: u32 = 0o100_755;
const TEXT: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// Of busybox, what init, the tests and the programs that they trace call.
const APPLETS: [&str; 17] = [
    "cat", "chroot", "cp", "echo", "env", "false", "ls", "mkdir", "mke2fs", "mkfifo", "mount",
    "printf", "sh", "sleep", "true", "unshare", "yes",
];
/// Users that tests become.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// A program, and where the guest has it.
pub(crate) struct Packed {
    pub(crate) file: PathBuf,
    pub(crate) place: String,
}

/// Writes the archive that all guests of an architecture share.
pub(crate) fn write(path: &Path, programs: &[Packed], links: &[(String, String)]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in ["tmp", "var/tmp"] {
        archive.folder(folder, SHARED_FOLDER)?;
    }
    for folder in ["dev", "proc", "sys", "root", "etc"] {
        archive.folder(folder, FOLDER)?;
    }
    archive.file("etc/passwd", TEXT, PASSWD.as_bytes())?;
    archive.file("etc/group", TEXT, GROUP.as_bytes())?;
    for program in programs {
        let contents = fs::read(&program.file)
            .with_context(|| format!("cannot read {}", program.file.display()))?;
        archive.file(&program.place, PROGRAM, &contents)?;
    }
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "/bin/busybox")?;
    }
    for (place, target) in links {
        archive.link(place, target)?;
    }
    archive
        .finish()
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the archive of one guest: that one, a module of its kernel's, and the list of what init is to run. (The kernel
/// unpacks one archive after the other: init/initramfs.c, `unpack_to_rootfs`.)
pub(crate) fn write_for(path: &Path, common: &Path, module: &Path, list: &str) -> Result<()> {
    fs::copy(common, path).with_context(|| format!("cannot write {}", path.display()))?;
    let file = File::options().append(true).open(path)?;
    let mut archive = Archive::new(file);
    archive.file("etc/guest", TEXT, list.as_bytes())?;
    let contents = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let name = module.file_name().unwrap_or_default().to_string_lossy();
    archive.file(&format!("lib/modules/{name}"), TEXT, &contents)?;
    archive
        .finish()
        .with_context(|| format!("cannot write {}", path.display()))
}

/// An archive in the making, in cpio's format "newc".
struct Archive<W: Write> {
    output: W,
    inodes: u32,
    /// The folders that are there already.
    folders: Vec<String>,
}

impl<W: Write> Archive<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            inodes: 0,
            folders: Vec::new(),
        }
    }

    /// A folder, and those above it.
    fn folder(&mut self, place: &str, mode: u32) -> io::Result<()> {
        if place.is_empty() || self.folders.iter().any(|folder| folder == place) {
            return Ok(());
        }
        self.folder(parent(place), FOLDER)?;
        self.folders.push(place.to_owned());
        self.entry(place, mode, &[])
    }

    fn file(&mut self, place: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.folder(parent(place), FOLDER)?;
        self.entry(place, mode, contents)
    }

    fn link(&mut self, place: &str, target: &str) -> io::Result<()> {
        self.file(place, LINK, target.as_bytes())
    }

    fn entry(&mut self, place: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.inodes += 1;
        let size = u32::try_from(contents.len()).map_err(io::Error::other)?;
        let entry = Builder::new(place).ino(self.inodes).mode(mode);
        let mut writer = entry.write(&mut self.output, size);
        writer.write_all(contents)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        newc::trailer(&mut self.output)?;
        self.output.flush()
    }
}

fn parent(place: &str) -> &str {
    place.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    /// A name, a mode and the contents.
    type Entry = (String, u32, String);

    /// An archive's entries up to its trailer, and what follows that.
    fn entries(mut archive: &[u8]) -> Result<(Vec<Entry>, &[u8])> {
        let mut entries = Vec::new();
        loop {
            let mut reader = Reader::new(archive)?;
            let entry = (reader.entry().name().to_owned(), reader.entry().mode());
            let is_trailer = reader.entry().is_trailer();
            let mut contents = String::new();
            reader.read_to_string(&mut contents)?;
            archive = reader.finish()?;
            if is_trailer {
                return Ok((entries, archive));
            }
            entries.push((entry.0, entry.1, contents));
        }
    }

    #[test]
    fn a_guest_has_what_all_have_and_its_own_list() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("program");
        fs::write(&program, "odd")?;
        let module = folder.path().join("overlay.ko.xz");
        fs::write(&module, "packed")?;
        let (common, own) = (folder.path().join("common"), folder.path().join("own"));
        let packed = Packed {
            file: program,
            place: "usr/bin/program".to_owned(),
        };
        write(
            &common,
            &[packed],
            &[("lib64".to_owned(), "/lib".to_owned())],
        )?;
        write_for(&own, &common, &module, "cow 60 /bin/live cow::\n")?;

        let archive = fs::read(own)?;
        let (first, rest) = entries(&archive)?;
        let place = |name: &str| first.iter().position(|entry| entry.0 == name);
        assert_eq!(
            first[place("usr/bin/program").context("no program")?].1,
            PROGRAM
        );
        assert!(place("usr") < place("usr/bin") && place("usr/bin") < place("usr/bin/program"));
        assert!(first.contains(&("lib64".to_owned(), LINK, "/lib".to_owned())));
        assert!(first.contains(&("var/tmp".to_owned(), SHARED_FOLDER, String::new())));

        let (second, _) = entries(rest)?;
        for (name, contents) in [
            ("etc/guest", "cow 60 /bin/live cow::\n"),
            ("lib/modules/overlay.ko.xz", "packed"),
        ] {
            let entry = (name.to_owned(), TEXT, contents.to_owned());
            assert!(second.contains(&entry), "{second:?}");
        }
        Ok(())
    }
}

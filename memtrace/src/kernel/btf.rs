//! Offsets of structure members from the kernel's type information (BTF).
//!
//! The crates that read BTF either take 300 ms for a kernel's five megabytes, more than memtrace may take to start, or
//! hide the members of a structure. This reads just that, in a few milliseconds.
//! Format: `Documentation/bpf/btf.rst`.

use std::{collections::HashMap, fs, io, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

use super::regular::read;

/// Where the running kernel shows its type information.
pub const RUNNING: &str = "/sys/kernel/btf/vmlinux";

/// What is there wherever sysfs is mounted.
const KERNEL: &str = "/sys/kernel";

const MAGIC: u16 = 0xeb9f;
/// Members at most that are looked at for one name, with those of structures without a name: a kernel's `task_struct` has
/// 300. A file may nest types in each other so that there is no end of it.
const LOOKS: u32 = 1 << 12;
/// How an ELF file begins.
const ELF: &[u8] = b"\x7fELF";

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Bytes of a type's common part: name, info, size or type.
const COMMON: usize = 12;
/// Bytes of a structure's member: name, type, offset.
const MEMBER: usize = 12;
/// Bytes of an enumerator: name, value.
const ENUMERATOR: usize = 8;

/// A kernel's type information.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins, by its id; id 0 is void.
    types: Vec<u32>,
    /// Ids of the structures and enumerations that were asked for.
    structures: HashMap<&'static str, u32>,
}

impl Btf {
    /// Reads the running kernel's own type information, for the members of these structures.
    ///
    /// # Errors
    /// The kernel has none, or it can't be read.
    pub fn running(structures: &[&'static str]) -> Result<Self> {
        let bytes = match fs::read(RUNNING) {
            Err(_) if !Path::new(KERNEL).exists() => bail!(
                "{KERNEL} doesn't exist, where the kernel shows its types: mount sysfs on /sys"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "this kernel shows no type information ({RUNNING} doesn't exist): take a kernel with \
                 CONFIG_DEBUG_INFO_BTF=y, as distributions build theirs, or give its BTF file with --btf FILE"
            ),
            read => read.with_context(|| format!("can't read {RUNNING}"))?,
        };
        Self::parse(bytes, structures).with_context(|| format!("{RUNNING} is not valid BTF"))
    }

    /// Reads the BTF file that the user names, for the members of these structures.
    ///
    /// # Errors
    /// The file can't be read, or isn't BTF.
    pub fn file(path: &Path, structures: &[&'static str]) -> Result<Self> {
        // As the user has it, but nothing that a terminal acts on.
        let name = format!("--btf {:?}", path.to_string_lossy());
        let bytes = read(path).with_context(|| format!("can't read {name}"))?;
        ensure!(
            !bytes.starts_with(ELF),
            "{name} is an ELF file: take the BTF out of it with \"objcopy -O binary --only-section=.BTF \
             --set-section-flags .BTF=alloc IN OUT\""
        );
        Self::parse(bytes, structures).with_context(|| format!("{name} is not valid BTF"))
    }

    /// Indexes the types in `bytes`, and these structures by their names.
    ///
    /// # Errors
    /// They aren't BTF of this machine's byte order, or end too early.
    pub fn parse(bytes: Vec<u8>, structures: &[&'static str]) -> Result<Self> {
        ensure!(half(&bytes, 0)? == MAGIC, "wrong magic number");
        let header = word(&bytes, 4)? as usize;
        let first = header + word(&bytes, 8)? as usize;
        let end = first + word(&bytes, 12)? as usize;
        let strings = header + word(&bytes, 16)? as usize;
        ensure!(
            strings + word(&bytes, 20)? as usize <= bytes.len(),
            "it ends too early"
        );
        let mut btf = Self {
            bytes,
            strings,
            types: vec![0],
            structures: HashMap::new(),
        };
        let mut at = first;
        while at < end {
            let info = word(&btf.bytes, at + 4)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            if [KIND_STRUCT, KIND_ENUM].contains(&kind) {
                let name = word(&btf.bytes, at)?;
                if let Some(wanted) = structures.iter().find(|wanted| btf.is_named(name, wanted)) {
                    btf.structures
                        .entry(wanted)
                        .or_insert(btf.types.len() as u32);
                }
            }
            btf.types.push(at as u32);
            at += COMMON
                + match kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                    _ if kind <= KIND_ENUM64 => 0,
                    _ => bail!("type {} is of the unknown kind {kind}", btf.types.len() - 1),
                };
        }
        Ok(btf)
    }

    /// The id of the kernel's function of this name; `None` where there is none, as when it was inlined.
    pub fn function(&self, name: &str) -> Option<u32> {
        (1..).zip(&self.types[1..]).find_map(|(id, &at)| {
            let at = at as usize;
            let kind = word(&self.bytes, at + 4).ok()? >> 24 & 0x1f;
            let is = kind == KIND_FUNC && self.is_named(word(&self.bytes, at).ok()?, name);
            is.then_some(id)
        })
    }

    /// The id of a structure; `None` where there is none.
    pub fn id_of(&self, structure: &str) -> Option<u32> {
        self.structures.get(structure).copied()
    }

    /// The whole of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The size in bytes of a structure; `None` where there is none.
    pub fn size_of(&self, structure: &str) -> Option<u32> {
        let at = self.structure(*self.structures.get(structure)?)?;
        word(&self.bytes, at + 8).ok()
    }

    /// Whether there is a typedef of this name.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.types.iter().skip(1).any(|&at| {
            let (at, info) = (at as usize, word(&self.bytes, at as usize + 4));
            info.is_ok_and(|info| info >> 24 & 0x1f == KIND_TYPEDEF)
                && word(&self.bytes, at).is_ok_and(|found| self.is_named(found, name))
        })
    }

    /// The offset of a structure's member, or the value of an enumeration's: [`Self::offset_of`], [`Self::value_of`].
    pub fn number_of(&self, name: &str, path: &str) -> Option<u32> {
        self.offset_of(name, path)
            .or_else(|| self.value_of(name, path))
    }

    /// The value of an enumerator, in an enumeration of 32 bits; `None` where there is none.
    fn value_of(&self, enumeration: &str, enumerator: &str) -> Option<u32> {
        let at = *self
            .types
            .get(*self.structures.get(enumeration)? as usize)? as usize;
        let info = word(&self.bytes, at + 4).ok()?;
        if info >> 24 & 0x1f != KIND_ENUM {
            return None;
        }
        let mut all = (0..(info & 0xffff) as usize).map(|index| at + COMMON + index * ENUMERATOR);
        let is_it =
            |&at: &usize| word(&self.bytes, at).is_ok_and(|name| self.is_named(name, enumerator));
        let found = all.find(is_it)?;
        word(&self.bytes, found + 4).ok()
    }

    /// The offset in bytes of a member such as `f_path.mnt` in a structure; `None` where there is none. A name may be an
    /// array's with an index, as `rss_stat[1]`. With `+8` after it all, for a part of an array, so much more.
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structures.get(structure)?;
        let (path, inside) = path.split_once('+').unwrap_or((path, "0"));
        let mut offset = inside.parse().ok()?;
        for name in path.split('.') {
            let (name, index) = match name.strip_suffix(']') {
                Some(indexed) => indexed.split_once('[')?,
                None => (name, ""),
            };
            let (member, bits) = self.member(id, name, 0, &mut LOOKS.clone())?;
            offset = u32::checked_add(offset, bits / 8)?;
            id = member;
            if !index.is_empty() {
                let (element, size) = self.element(member)?;
                offset = offset.checked_add(size.checked_mul(index.parse().ok()?)?)?;
                id = element;
            }
        }
        Some(offset)
    }

    /// The type of an array's elements, which is a number or a structure, and its size.
    fn element(&self, array: u32) -> Option<(u32, u32)> {
        let (at, kind) = self.plain(array)?;
        if kind != KIND_ARRAY {
            return None;
        }
        let element = word(&self.bytes, at + COMMON).ok()?;
        let (at, kind) = self.plain(element)?;
        let sized = [KIND_INT, KIND_STRUCT, KIND_UNION].contains(&kind);
        sized
            .then(|| word(&self.bytes, at + 8).ok())?
            .map(|size| (element, size))
    }

    /// Finds a member by name in a structure or union, and in those without a name inside of it: its type, and its
    /// offset in bits. `looks` more members are looked at.
    fn member(&self, id: u32, name: &str, depth: u8, looks: &mut u32) -> Option<(u32, u32)> {
        let at = self.structure(id)?;
        let info = word(&self.bytes, at + 4).ok()?;
        for index in 0..(info & 0xffff) as usize {
            *looks = looks.checked_sub(1)?;
            let member = at + COMMON + index * MEMBER;
            let found = word(&self.bytes, member).ok()?;
            let kind = word(&self.bytes, member + 4).ok()?;
            // With the kind flag set, the upper eight bits are the size of a bit field.
            let mask = if info >> 31 == 1 {
                0x00ff_ffff
            } else {
                u32::MAX
            };
            let bits = word(&self.bytes, member + 8).ok()? & mask;
            if self.is_named(found, name) {
                return Some((kind, bits));
            }
            if self.is_named(found, "")
                && depth < 8
                && let Some((inner, more)) = self.member(kind, name, depth + 1, looks)
            {
                return Some((inner, bits.checked_add(more)?));
            }
        }
        None
    }

    /// Where the structure or union is that a type stands for.
    fn structure(&self, id: u32) -> Option<usize> {
        let (at, kind) = self.plain(id)?;
        [KIND_STRUCT, KIND_UNION].contains(&kind).then_some(at)
    }

    /// Where the type is that others only give names and qualities to, and its kind.
    fn plain(&self, mut id: u32) -> Option<(usize, u32)> {
        for _ in 0..16 {
            let at = *self.types.get(id as usize)? as usize;
            match word(&self.bytes, at + 4).ok()? >> 24 & 0x1f {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = word(&self.bytes, at + 8).ok()?;
                }
                kind if id != 0 => return Some((at, kind)),
                _ => return None,
            }
        }
        None
    }

    /// Whether this is the name at an offset among the strings.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        self.bytes
            .get(self.strings + offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = bytes.get(at..at + 2).context("it ends too early")?;
    Ok(u16::from_ne_bytes(bytes.try_into()?))
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("it ends too early")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}

/// BTF with one structure of so many bytes, with members at these offsets in bytes.
#[cfg(test)]
pub fn sample(structure: &'static str, members: &[(&str, u32)], size: u32) -> Btf {
    let mut strings = vec![0];
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(text.bytes().chain([0]));
        at
    };
    let mut types = vec![name("int"), KIND_INT << 24, 4, 32];
    types.extend([
        name(structure),
        KIND_STRUCT << 24 | members.len() as u32,
        size,
    ]);
    for (member, offset) in members {
        types.extend([name(member), 1, offset * 8]);
    }
    Btf::parse(tests::file(&types, &strings), &[structure]).expect("well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of these types and strings.
    pub fn file(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let bytes = size_of_val(types) as u32;
        let header = [24, 0, bytes, bytes, strings.len() as u32];
        let mut file = Vec::new();
        file.extend(MAGIC.to_ne_bytes());
        file.extend([1, 0]);
        file.extend(
            header
                .iter()
                .chain(types)
                .flat_map(|word| word.to_ne_bytes()),
        );
        file.extend(strings);
        file
    }

    /// `struct inner { int a; int b; }; struct outer { long pad; struct { inner in; }; }; struct row { struct inner all[3]; };
    /// enum flags { a, b = 6 }` by hand.
    fn nested() -> Vec<u8> {
        let strings = b"\0inner\0a\0b\0outer\0pad\0in\0int\0flags\0row\0all\0";
        let name = |text: &str| {
            let wanted = [text.as_bytes(), b"\0"].concat();
            strings
                .windows(wanted.len())
                .position(|w| w == wanted)
                .expect("a string of the sample") as u32
        };
        let structure = |count: u32| KIND_STRUCT << 24 | count;
        let types: Vec<u32> = [
            vec![name("int"), KIND_INT << 24, 4, 32],
            vec![
                name("inner"),
                structure(2),
                8,
                name("a"),
                1,
                0,
                name("b"),
                1,
                32,
            ],
            vec![0, structure(1), 8, name("in"), 2, 0],
            vec![name("outer"), structure(2), 16, name("pad"), 1, 0, 0, 3, 64],
            // struct inner[3]; its members are the element's type, the index's, and the number of elements.
            vec![0, KIND_ARRAY << 24, 0, 2, 1, 3],
            vec![name("row"), structure(1), 24, name("all"), 5, 0],
            vec![
                name("flags"),
                KIND_ENUM << 24 | 2,
                4,
                name("a"),
                0,
                name("b"),
                6,
            ],
        ]
        .concat();
        file(&types, strings)
    }

    #[test]
    fn finds_members_in_structures_without_a_name() {
        let btf = Btf::parse(nested(), &["inner", "outer", "missing"]).expect("well-formed");
        assert_eq!(btf.offset_of("inner", "b"), Some(4));
        assert_eq!(btf.offset_of("outer", "in.b"), Some(12));
        assert_eq!(btf.offset_of("outer", "in.b+16"), Some(28));
        assert_eq!(btf.offset_of("outer", "in.c"), None);
        assert_eq!(btf.offset_of("missing", "a"), None);
        assert_eq!(btf.size_of("outer"), Some(16));
        assert_eq!(btf.size_of("missing"), None);
    }

    #[test]
    fn finds_members_in_the_elements_of_arrays() {
        let btf = Btf::parse(nested(), &["inner", "row"]).expect("well-formed");
        assert_eq!(btf.offset_of("row", "all"), Some(0));
        assert_eq!(btf.offset_of("row", "all[2].b"), Some(20));
        assert_eq!(btf.offset_of("row", "all.b"), None);
        assert_eq!(btf.offset_of("inner", "a[1]"), None);
    }

    #[test]
    fn finds_the_values_of_enumerators() {
        let btf = Btf::parse(nested(), &["inner", "flags"]).expect("well-formed");
        assert_eq!(btf.number_of("flags", "b"), Some(6));
        assert_eq!(btf.number_of("flags", "c"), None);
        assert_eq!(btf.number_of("inner", "b"), Some(4));
    }

    /// What is said of a file with these bytes, in one line.
    fn said_of(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a\nb");
        fs::write(&path, bytes).expect("room");
        let error = Btf::file(&path, &[]).err().expect("a broken file");
        let line = format!("{error:#}");
        assert!(line.contains(r"a\nb") && !line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn a_file_that_is_none_is_named_with_what_is_wrong() {
        assert!(said_of(b"").contains("is not valid BTF: it ends too early"));
        assert!(said_of(b"hello, world").contains("is not valid BTF: wrong magic number"));
        assert!(said_of(b"\x7fELF...").contains("is an ELF file: take the BTF out"));
        let error = Btf::file(Path::new("/no/such/file"), &[]).err();
        let line = format!("{:#}", error.expect("a missing file"));
        assert!(
            line.starts_with("can't read --btf \"/no/such/file\": No such file"),
            "{line}"
        );
    }

    #[test]
    fn types_nested_without_end_are_searched_for_a_while() {
        // A union without a name of so many of its own kind, and a structure with one of it.
        let many = 60_000;
        let mut types = vec![0, KIND_UNION << 24 | many, 4];
        types.extend((0..many).flat_map(|_| [0, 1, 0]));
        types.extend([1, KIND_STRUCT << 24 | 1, 4, 0, 1, 0]);
        let btf = Btf::parse(file(&types, b"\0outer\0"), &["outer"]).expect("well-formed");
        for _ in 0..1000 {
            assert_eq!(btf.offset_of("outer", "a.b"), None);
        }
    }

    #[test]
    fn names_without_an_end_are_none() {
        let names = [b"\0".as_slice(), &vec![b'a'; 1 << 20]].concat();
        let types: Vec<u32> = (0..1 << 16)
            .flat_map(|_| [1, KIND_STRUCT << 24, 4])
            .collect();
        let btf = Btf::parse(file(&types, &names), &["aaaa"]).expect("well-formed");
        assert_eq!(btf.size_of("aaaa"), None);
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(Btf::parse(Vec::new(), &[]).is_err());
        assert!(Btf::parse(vec![0; 64], &[]).is_err());
        let whole = nested();
        for len in 0..whole.len() {
            assert!(
                Btf::parse(whole[..len].to_vec(), &[]).is_err(),
                "{len} bytes"
            );
        }
    }
}

//! JSON in which nothing is hidden: it is read on terminals, too.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

use super::escape::is_hidden;

/// Writes each hidden character of a string as `\u` with its UTF-16 code.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_hidden(c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for code in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{code:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// Writes a value.
pub(super) fn write(out: impl Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Visible))?;
    Ok(())
}

/// Writes a string. Most are names of which each character stands for itself: those are found much sooner than escapes are
/// looked for.
pub(super) fn write_str(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    // Not `all`, which would stop at the first that isn't, and look at one at a time.
    if !text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return write(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Whether it is a character of ASCII that stands for itself: none that JSON escapes, or that is hidden.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')
}

/// A value on one line, without its end.
///
/// # Errors
/// None that is known: serde asks for it.
pub fn to_json(value: &impl Serialize) -> io::Result<String> {
    let mut json = Vec::new();
    write(&mut json, value)?;
    String::from_utf8(json).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_a_code() {
        let name = "a\x1b\x7f\u{9b}\u{202e}\u{feff}\u{e0041}\"\\é日😀 ";
        let json = to_json(&name).expect("JSON");
        assert_eq!(
            json,
            r#""a\u001b\u007f\u009b\u202e\ufeff\udb40\udc41\"\\é日😀 ""#
        );
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), name);
    }

    #[test]
    fn a_string_is_written_alike_by_either_way() {
        let all = (0..=0x2fff).filter_map(char::from_u32).map(String::from);
        for name in all.chain(["", "fork-write", "a \"b\"", "a\\b", "é日😀"].map(String::from))
        {
            let mut json = Vec::new();
            write_str(&mut json, &name).expect("a Vec takes everything");
            assert_eq!(json, to_json(&name).expect("JSON").as_bytes());
        }
    }
}

//! Makes what a traced program or a user chose (names, arguments, paths) safe to show on a terminal.

use std::{
    fmt::{self, Display, Formatter, Write},
    ops::RangeInclusive,
};

/// Characters that are not seen, or have a terminal show those around them in another order: Unicode's
/// `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`), which most of `Bidi_Control` is among; the marks of
/// annotations; and the empty Braille pattern. What looks like a space is found by [`char::is_whitespace`].
const UNSEEN: [RangeInclusive<char>; 19] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Whether a character isn't simply seen: a terminal acts on it, or shows nothing, or what looks like a space.
pub(super) fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control() || c.is_whitespace() || UNSEEN.iter().any(|range| range.contains(&c))
}

/// Text of which all is seen. A backslash is doubled, so that no two texts look the same; one with a space at an end is
/// in quotes.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.starts_with([' ', '"']) || self.0.ends_with(' ') {
            return write_quoted(f, self.0);
        }
        write_escaped(f, self.0, |c| c == '\\')
    }
}

/// A sentence of memtrace's own about something that may have any name: as it is, but all of it is seen.
pub struct Visible<'a>(pub &'a str);

impl Display for Visible<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0, |_| false)
    }
}

/// An argument as one would type it in a shell: in quotes where it isn't a plain word.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() && !is_hidden(c) || "%+,-./:=@^_".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        write_quoted(f, self.0)
    }
}

fn write_quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    write_escaped(f, text, |c| c == '\\' || c == '"')?;
    f.write_char('"')
}

fn write_escaped(f: &mut Formatter<'_>, text: &str, also: impl Fn(char) -> bool) -> fmt::Result {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_hidden(c) || also(c)) {
        f.write_str(&rest[..at])?;
        match c {
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            '\\' | '"' => write!(f, "\\{c}")?,
            c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
            c => write!(f, "{}", c.escape_unicode())?,
        }
        rest = &rest[at + c.len_utf8()..];
    }
    f.write_str(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: C0, DEL, C1, direction, zero width, byte order mark, variation, tag, space, line.
    const HIDDEN: &str = "\x1b\x7f\u{9b}\u{85}\u{202e}\u{2066}\u{61c}\u{200b}\u{200d}\u{ad}\u{feff}\u{fe0f}\u{e0041}\u{a0}\u{3000}\u{2028}";

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        let name = "a\nb\x1b[31m\x07\u{9b}2J\x7f\\\u{202e}é";
        assert_eq!(
            Escaped(name).to_string(),
            r"a\nb\x1b[31m\x07\u{9b}2J\x7f\\\u{202e}é"
        );
        for c in (0..=0x2070).filter_map(char::from_u32) {
            let escaped = Escaped(&c.to_string()).to_string();
            assert!(!escaped.contains(char::is_control), "{c:?}");
        }
    }

    #[test]
    fn nothing_is_hidden() {
        for c in HIDDEN.chars() {
            let name = format!("a{c}b");
            for shown in [
                Escaped(&name).to_string(),
                Quoted(&name).to_string(),
                Visible(&name).to_string(),
            ] {
                assert!(shown.is_ascii() && shown.contains('\\'), "{shown:?}");
            }
        }
        for name in ["Grüße", "日本語", "عربى", "naïve café", "😀"] {
            assert_eq!(Escaped(name).to_string(), name);
        }
    }

    #[test]
    fn spaces_at_the_ends_are_seen() {
        let shown = |name| Escaped(name).to_string();
        assert_eq!(shown("a b"), "a b");
        assert_eq!(shown(" a"), r#"" a""#);
        assert_eq!(shown("a\" "), r#""a\" ""#);
        // Else it would look like the one before.
        assert_eq!(shown("\"a "), r#""\"a ""#);
        assert_eq!(shown("\" a\""), r#""\" a\"""#);
    }

    #[test]
    fn a_sentence_keeps_its_backslashes() {
        assert_eq!(Visible(r#""a\n" isn't"#).to_string(), r#""a\n" isn't"#);
    }

    #[test]
    fn arguments_are_quoted_where_a_shell_would_split_them() {
        let shown = |argument| Quoted(argument).to_string();
        assert_eq!(shown("--format=json"), "--format=json");
        assert_eq!(shown(""), r#""""#);
        assert_eq!(shown("a b"), r#""a b""#);
        assert_eq!(shown("say \"hi\"\n"), r#""say \"hi\"\n""#);
    }
}

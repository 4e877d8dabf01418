//! Makes what a traced program chose (its name, arguments, paths) safe to show on a terminal.

use std::fmt::{self, Display, Formatter, Write};

/// Text without anything that a terminal acts on. A backslash is doubled, so that no two texts look the same.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0, |_| false)
    }
}

/// An argument as one would type it in a shell: in quotes where it isn't a plain word.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || "%+,-./:=@^_".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        write_escaped(f, self.0, |c| c == '"')?;
        f.write_char('"')
    }
}

fn write_escaped(f: &mut Formatter<'_>, text: &str, also: impl Fn(char) -> bool) -> fmt::Result {
    let acted_on = |c: char| c == '\\' || c.is_control() || reorders(c) || also(c);
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| acted_on(c)) {
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

/// Whether a terminal may show the characters around it in another order, or break the line.
const fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn arguments_are_quoted_where_a_shell_would_split_them() {
        let shown = |argument| Quoted(argument).to_string();
        assert_eq!(shown("--format=json"), "--format=json");
        assert_eq!(shown(""), r#""""#);
        assert_eq!(shown("a b"), r#""a b""#);
        assert_eq!(shown("say \"hi\"\n"), r#""say \"hi\"\n""#);
    }
}

//! Tables on standard output.

use std::fmt::{self, Formatter};

/// Markdown, and aligned for a terminal too.
pub(crate) fn write_table(f: &mut Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                write!(f, "| {cell:width$} |")?;
            } else {
                write!(f, " {cell:>width$} |")?;
            }
        }
        writeln!(f)?;
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (open, close) = if column == 0 { ("|", "-") } else { ("", ":") };
                write!(f, "{open}-{}{close}|", "-".repeat(*width))?;
            }
            writeln!(f)?;
        }
    }
    Ok(())
}

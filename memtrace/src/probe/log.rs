//! Diagnostics of the hooks themselves, for `--verbose`.

use std::io::{Write as _, stderr};

use log::{Log, Metadata, Record};

/// Writes each to stderr, a line.
pub struct ToStderr;

impl Log for ToStderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Where stderr is closed there is no one to tell.
        let _ = writeln!(
            stderr(),
            "memtrace: hooks: {}: {}",
            record.level().as_str().to_lowercase(),
            record.args()
        );
    }

    fn flush(&self) {}
}

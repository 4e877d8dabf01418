//! Waits for SIGINT, and exits with 42 when it came, having reported how often.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{SigHandler, Signal, signal};
use tests::subject::process;
use tests::subject::report::note;

static COUNT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

fn main() -> Result<()> {
    process::begin();
    // SAFETY: the handler only counts.
    unsafe { signal(Signal::SIGINT, SigHandler::Handler(count)) }?;
    note("ready", std::process::id())?;
    while COUNT.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(10));
    }
    // A second one, if there is any, has time to come.
    sleep(Duration::from_millis(300));
    note("interrupts", COUNT.load(Ordering::Relaxed))?;
    std::process::exit(42);
}

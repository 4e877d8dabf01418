//! Writing in a thread of its own: who reads the output may be slow, or read nothing at all, and memtrace heeds signals
//! meanwhile.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::target::Mask;

/// Bytes that wait to be written, from which on no more should be made.
const FULL: usize = 4 << 20;
/// Bytes that wait at most.
const MOST: usize = 32 << 20;
/// Bytes that are written at a time: what a pipe holds.
const PIECE: usize = 64 << 10;
/// How long a reader who reads nothing is waited for once memtrace is to end.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is asked meanwhile whether memtrace is to end.
const LOOK: Duration = Duration::from_millis(10);

/// What is to be written. All handles are of the same.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a signal waits that asks memtrace to end.
    is_asked: fn() -> bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes in there, and of what is being written.
    bytes: usize,
    /// Bytes that were written.
    written: u64,
    /// Why no more can be written.
    error: Option<(io::ErrorKind, String)>,
    /// Memtrace is to end.
    hurry: bool,
}

impl Queue {
    /// One that is written to `to`, by a thread that takes no signals: they are the others'. `is_asked` tells whether memtrace
    /// is to end.
    ///
    /// # Errors
    /// The machine has no room for the thread.
    pub fn new(to: impl Write + Send + 'static, is_asked: fn() -> bool) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            is_asked,
        });
        let queue = Self(Arc::clone(&shared));
        // A new thread blocks what the one that makes it does, but for the C library's own.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let writer = thread::Builder::new().spawn(move || {
            // Where that is refused, nobody sends one.
            let _ = Mask::ALL.block();
            shared.write_all(to);
        });
        before.thread_set_mask()?;
        writer.map(|_| queue)
    }

    /// Whether so much waits that no more should be made.
    pub fn is_full(&self) -> bool {
        let state = self.0.state();
        state.bytes > FULL && state.error.is_none()
    }

    /// Memtrace is to end: a reader who reads nothing isn't waited for much longer.
    pub fn hurry(&self) {
        self.0.state().hurry = true;
    }

    /// No more is to be written, for this reason, which [`Self::finish`] tells unless there was one before.
    pub fn fail(&self, error: &io::Error) {
        self.0.state().fail(error);
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// It can't be written, or memtrace is to end and nobody reads it.
    pub fn finish(&self) -> io::Result<()> {
        self.until(0)
    }

    /// Waits until so many bytes wait at most.
    fn until(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.0.state();
        let (mut since, mut written) = (Instant::now(), state.written);
        loop {
            if let Some((kind, words)) = &state.error {
                return Err(io::Error::new(*kind, words.clone()));
            }
            if state.bytes <= bytes {
                return Ok(());
            }
            let changed = &self.0.changed;
            (state, _) = changed
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            if state.written != written {
                (since, written) = (Instant::now(), state.written);
            } else if since.elapsed() >= PATIENCE && (state.hurry || (self.0.is_asked)()) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"));
            }
        }
    }
}

impl State {
    fn fail(&mut self, error: &io::Error) {
        self.error
            .get_or_insert_with(|| (error.kind(), error.to_string()));
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until(MOST)?;
        let mut state = self.0.state();
        state.waiting.push_back(bytes.to_vec());
        state.bytes += bytes.len();
        self.0.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until that fails. Memtrace's end is the thread's.
    fn write_all(&self, mut to: impl Write) {
        loop {
            let mut state = self.state();
            let next = loop {
                if let Some(next) = state.waiting.pop_front() {
                    break next;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            for piece in next.chunks(PIECE) {
                let result = to.write_all(piece);
                let mut state = self.state();
                state.bytes -= piece.len();
                state.written += piece.len() as u64;
                if let Err(error) = &result {
                    state.fail(error);
                }
                self.changed.notify_all();
                if result.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        sync::atomic::{AtomicBool, Ordering::SeqCst},
    };

    use super::*;

    #[test]
    fn all_comes_out_in_order() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut queue = Queue::new(writer, || false).expect("a thread");
        let lines: Vec<String> = (0..50_000).map(|n| format!("line {n}\n")).collect();
        let all = lines.concat();
        let read = thread::spawn(move || {
            let mut read = vec![0; all.len()];
            reader.read_exact(&mut read).expect("all of it");
            assert!(read == all.as_bytes());
        });
        for line in lines {
            queue.write_all(line.as_bytes()).expect("someone reads");
        }
        queue.finish().expect("someone reads");
        read.join().expect("it is the same");
    }

    #[test]
    fn an_error_is_told_and_nothing_waits_for_more() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let mut queue = Queue::new(writer, || false).expect("a thread");
        queue.write_all(b"something").expect("it is only taken");
        let error = queue.finish().expect_err("nobody can read it");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(queue.write_all(b"more").is_err() && !queue.is_full());
    }

    #[test]
    fn who_reads_nothing_is_not_waited_for_once_it_is_to_end() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        let (_reader, writer) = io::pipe().expect("a pipe");
        let mut queue = Queue::new(writer, || ASKED.load(SeqCst)).expect("a thread");
        let much = vec![0; MOST + FULL];
        queue.write_all(&much).expect("it is only taken");
        assert!(queue.is_full());
        ASKED.store(true, SeqCst);
        let error = queue.write_all(b"more").expect_err("there is no room");
        assert_eq!(error.to_string(), "nobody reads it");
        ASKED.store(false, SeqCst);
        queue.hurry();
        let error = queue.finish().expect_err("nobody reads");
        assert_eq!(error.to_string(), "nobody reads it");
    }
}

//! What `--help` says at its end: examples, and the exit status.

/// Of `memtrace run`.
pub(super) const RUN_HELP: &str = "\
Examples:
  sudo memtrace run ls -l
          Show what happens in memory while ls runs
  sudo memtrace run --summary make -j2
          Show only how many faults of each kind every process took
  sudo memtrace run --only cow-copy,clone -- redis-server --save 60 1
          Show who copies pages after a fork
  sudo memtrace run -o trace.json python3 prog.py
          Keep the whole trace in a file, an object a line; with -o - -o trace.json show it, too

Exit status:
  PROG's own, or 128+N when signal N ended it; 127 when PROG is not found, 126 when it can't be
  run, 125 when memtrace itself fails.

Ctrl-C reaches PROG as it would without memtrace, which shows its tables once PROG has ended.
SIGTERM or SIGHUP to memtrace ends the trace, and PROG goes on; what PROG sends to its own group
does not. When PROG is stopped memtrace stops, too, and both go on when one is continued.";

/// Of `memtrace attach`.
pub(super) const ATTACH_HELP: &str = "\
Examples:
  sudo memtrace attach --only clone,cow-copy $(pidof redis-server)
          Show which pages are copied, and by whom, when redis forks to save (redis-cli bgsave)
  sudo memtrace attach --tree --summary --duration 1m $(cat /run/nginx.pid)
          Account for a minute of a pre-forking server: its master and all its workers
  sudo memtrace attach -o trace.json --duration 10s $(pidof postgres)
          Keep ten seconds of all those processes in a file, an object a line

Exit status:
  0 when the trace ended by Ctrl-C, after T, or because all that was traced has ended; 125 when
  memtrace itself fails; 143 when SIGTERM or SIGHUP ended it; 130 when Ctrl-C came before anything
  was traced. The processes go on in any case.";

/// Of `memtrace lab`.
pub(super) const LAB_HELP: &str = "\
Examples:
  sudo memtrace lab
          Decide all claims on this kernel, which takes a minute or two
  sudo memtrace lab F9 T3
          Only these
  sudo memtrace lab --explain F9
          And say what the book says, what was done, what was seen, and what to read
  memtrace lab list
          Which claims there are

Exit status:
  0 when each was decided as a Linux of today should have it, 1 when one differed, 2 when none did
  and one was not decided: T9, about another system, never is, so all claims give 2 at best; 125
  when memtrace itself fails, 130 or 143 when a signal ended it.";

/// Of `memtrace doctor`.
pub(super) const DOCTOR_HELP: &str = "\
Examples:
  sudo memtrace doctor
          See what memtrace can show on this kernel, what it can't, and what to do about it
  sudo memtrace doctor --format json | jq -r '.rows[] | select(.state != \"ok\") | .remedy'
          In a script: only what to do

Exit status:
  0 when the main job works: a small program was traced, and the page that it copied was seen, with
  the frames before and after; 1 when not; 125 when memtrace itself fails.";

//! End-to-end tests on the live kernel, and the small programs they trace.

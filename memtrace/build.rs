//! Builds the kernel side and leaves its object where `include_bytes_aligned!` finds it.

use std::env;

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let toolchain = include_str!("../rust-toolchain.toml")
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .context("rust-toolchain.toml has no channel")?
        .trim_matches('"');
    // The BPF target has no prebuilt core, and building it is unstable. SAFETY: a build script with one thread.
    // Only the nested build sees this: set for all, it would switch unstable features on in every dependency.
    // Quiet, as aya-build shows each line of progress as a warning.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    build_ebpf(
        [Package {
            name: "memtrace-ebpf",
            root_dir: &format!("{root}/../memtrace-ebpf"),
            features: &["probe"],
            ..Package::default()
        }],
        Toolchain::Custom(toolchain),
    )
}

//! Builds what memtrace carries: the kernel side, and the programs of the lab. It leaves them where the sources include
//! them from.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    lab_programs(&root.join("src/lab/programs"))?;
    kernel_side(&root)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo sets {name}"))
}

fn kernel_side(root: &Path) -> Result<()> {
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
        // The compiler inlines less where it is incremental: the hooks would be others than those that are shipped.
        env::remove_var("CARGO_PROFILE_RELEASE_INCREMENTAL");
        env::remove_var("CARGO_INCREMENTAL");
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    // Whichever ways a kernel doesn't know would have to be cut out of the hooks by its verifier, at each start.
    for (features, name) in [("probe", "probe-by-helpers"), ("direct", "probe-direct")] {
        build_ebpf(
            [Package {
                name: "memtrace-ebpf",
                root_dir: &format!("{}/../memtrace-ebpf", root.display()),
                features: &[features],
                ..Package::default()
            }],
            Toolchain::Custom(toolchain),
        )?;
        fs::rename(out.join("memtrace-probe"), out.join(name)).context("no BPF object")?;
    }
    Ok(())
}

/// Compiles each program of the lab, by the C compiler that links Rust's programs, too. Not optimised: each access to
/// memory is where the source has it.
fn lab_programs(folder: &Path) -> Result<()> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let out = PathBuf::from(variable("OUT_DIR")?);
    let compiler = cc::Build::new()
        .opt_level(0)
        .debug(false)
        .try_get_compiler()
        .context("no C compiler; install gcc and libc6-dev")?;
    // Where memtrace itself is static, too, the dynamic linker maps the programs' C library.
    let arguments: Vec<_> = compiler
        .args()
        .iter()
        .filter(|&word| word != "-static")
        .collect();
    let mut sources: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("can't list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    let mut table = String::from("static PROGRAMS: &[Program] = &[\n");
    for source in &sources {
        let name = source
            .file_stem()
            .and_then(|name| name.to_str())
            .context("a name")?;
        let executable = out.join(format!("lab-{name}"));
        let status = Command::new(compiler.path())
            .args(&arguments)
            // Constants apart from code, as the linker does it unasked on some architectures only.
            .args([
                "-std=gnu11",
                "-Wall",
                "-Wextra",
                "-pthread",
                "-Wl,-z,separate-code",
                "-o",
            ])
            .args([&executable, source])
            .status()
            .with_context(|| format!("can't start {}", compiler.path().display()))?;
        ensure!(
            status.success(),
            "{} doesn't compile: {status}",
            source.display()
        );
        writeln!(
            table,
            "Program {{ name: {name:?}, source: include_str!({:?}), executable: include_bytes!({:?}) }},",
            source.display().to_string(),
            executable.display().to_string(),
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("programs.rs"), table).context("can't write the table of programs")
}

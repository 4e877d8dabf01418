//! Has the programs that the tests trace linked alike on all architectures.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Constants apart from code, as the linker does it unasked on some architectures only.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,separate-code");
}

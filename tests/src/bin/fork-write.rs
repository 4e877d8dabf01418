//! A small program to watch: it touches a few pages, forks, and both sides write.

use anyhow::Result;
use tests::subject::memory::{PAGE, Pages};
use tests::subject::process;

const COUNT: usize = 8;

fn main() -> Result<()> {
    process::begin();
    process::stay_on_one_cpu()?;
    let pages = Pages::private(COUNT)?;
    let end = pages.addr(COUNT - 1) + PAGE as u64;

    println!(
        "parent {}: writes {COUNT} fresh pages, {:#x}-{end:#x}",
        std::process::id(),
        pages.addr(0)
    );
    pages.write_all(1);

    println!("parent: forks; from now on both share each of the {COUNT} pages");
    process::in_child(|| {
        println!(
            "child {}: writes the first {} pages",
            std::process::id(),
            COUNT / 2
        );
        for i in 0..COUNT / 2 {
            pages.write(i, 2);
        }
        Ok(())
    })?;

    println!("parent: the child has ended; writes all {COUNT} pages again");
    pages.write_all(3);
    Ok(())
}

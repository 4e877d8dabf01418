//! scratch
#![allow(missing_docs, dead_code, unused)]
mod kernel; mod probe; mod trace;
fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let mut p = probe::Probe::attach(probe::Options { follow: true, summary: std::env::var("SUMMARY").is_ok(), verbose: false })?;
    eprintln!("attached {:?}", t.elapsed());
    let mut r = p.reader()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut c = std::process::Command::new(&args[0]).args(&args[1..]).spawn()?;
    let mut v = vec![]; let mut n = 0usize;
    let dump = std::env::var("DUMP").is_ok();
    loop {
        let done = c.try_wait()?.is_some();
        r.drain(1 << 20, &mut v); n += v.len();
        if dump { for x in &v { println!("{x:x?}"); } }
        v.clear();
        if done { break; }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    eprintln!("{n} records, lost {:?}, living {} until {:?}", r.lost()?, r.living().len(), r.written_until()?);
    Ok(())
}

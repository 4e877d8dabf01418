//! System calls on the address space, and what their events must say.

use anyhow::Result;
use libc::c_long;
use serde_json::{Value, json};

use super::report::{Call, Fact, report};
use super::witness::now;

/// Makes a call and reports it; `fields` are what its event must say, given what the call returned.
pub fn made(
    name: &str,
    call: &str,
    make: impl FnOnce() -> c_long,
    fields: impl FnOnce(i64) -> Value,
) -> Result<i64> {
    let from = now()?;
    let ret = make();
    let until = now()?;
    let tid = nix::unistd::gettid().as_raw() as u32;
    report(&Fact::Call(Call {
        name: name.to_owned(),
        call: call.to_owned(),
        tid,
        fields: serde_json::from_value(fields(ret))?,
        ret,
        from,
        until,
    }))?;
    Ok(ret)
}

/// A system call's result as the kernel gives it: negative for an errno.
pub fn result(ret: c_long) -> c_long {
    if ret == -1 {
        -c_long::from(nix::errno::Errno::last_raw())
    } else {
        ret
    }
}

/// An address as JSON has it.
pub fn hex(addr: u64) -> Value {
    json!(format!("{addr:#x}"))
}

/// The address that a call returned, or its errno, as JSON has it.
pub fn address(ret: i64) -> Value {
    if ret < 0 { json!(ret) } else { hex(ret as u64) }
}

/// The names of the flags that are set.
pub fn names(bits: i32, table: &[(i32, &str)]) -> Value {
    json!(
        table
            .iter()
            .filter(|(bit, _)| bits & bit != 0)
            .map(|(_, name)| name)
            .collect::<Vec<_>>()
    )
}

//! Calls: what each says, 32-bit ones among them, and those that fail to make a task or to run a program.

use memtrace_ebpf::{
    arch::COMPAT_ABI,
    record::{COMPAT_CALL, FAILED_FATALLY, Failed},
    syscall,
};
use serde_json::{Value, json};

use super::{
    regions::{PROG, program},
    story::{Outcome, Story},
};
use crate::output;

const AT: u64 = 0x7b00_0000;

/// What the JSON says of the last event of a story, but for when and who.
fn last(outcome: &Outcome) -> Value {
    let event = outcome.events.last().expect("an event");
    let mut value = output::as_json(event).expect("JSON");
    for name in ["ts", "pid", "tid", "comm"] {
        value.as_object_mut().expect("an object").remove(name);
    }
    value
}

/// The event of a call of process 100, whose child is 200.
fn call(number: u32, args: [u64; 6], ret: i64) -> Value {
    let mut story = program(100, 0xa);
    story.fork(100, 200, 0xb);
    story.call(100, number, args, ret);
    last(&story.play())
}

#[test]
fn system_v_memory_is_attached_and_detached() {
    let attached = call(syscall::SHMAT, [7, 0, 0o10000, 65536, 0, 0], AT as i64);
    assert_eq!(
        attached,
        json!({
            "type": "shmat", "addr": "0x7b000000", "len": 65536, "id": 7,
            "flags": ["SHM_RDONLY"], "ret": "0x7b000000",
        })
    );
    let refused = call(syscall::SHMAT, [7, AT + 1, 0, 0, 0, 0], -22);
    assert_eq!(
        refused,
        json!({
            "type": "shmat", "addr": "0x7b000001", "len": null, "id": 7, "flags": [], "ret": -22,
        })
    );
    assert_eq!(
        call(syscall::SHMDT, [AT, 65536, 0, 0, 0, 0], 0),
        json!({"type": "shmdt", "addr": "0x7b000000", "len": 65536, "ret": 0})
    );
    assert_eq!(
        call(syscall::SHMDT, [AT, 0, 0, 0, 0, 0], -22),
        json!({"type": "shmdt", "addr": "0x7b000000", "len": null, "ret": -22})
    );
}

#[test]
fn a_call_that_is_like_another_has_its_name() {
    let protected = [AT, 4096, 1, u64::from(u32::MAX), 0, 0];
    assert_eq!(
        call(syscall::PKEY_MPROTECT, protected, 0),
        json!({
            "type": "mprotect", "addr": "0x7b000000", "len": 4096, "prot": ["PROT_READ"],
            "call": "pkey_mprotect", "pkey": -1, "ret": 0,
        })
    );
    let plain = call(syscall::MPROTECT, protected, 0);
    assert_eq!(
        (&plain["call"], &plain["pkey"]),
        (&Value::Null, &Value::Null)
    );
    let advised = |process, ret| call(syscall::PROCESS_MADVISE, [AT, 8192, 21, process, 0, 0], ret);
    assert_eq!(
        advised(200, 0),
        json!({
            "type": "madvise", "addr": "0x7b000000", "len": 8192, "advice": "MADV_PAGEOUT",
            "call": "process_madvise", "process": 200, "ret": 0,
        })
    );
    assert_eq!(advised(0, -3)["process"], Value::Null);
    assert_eq!(
        call(syscall::MADVISE, [AT, 8192, 21, 200, 0, 0], 0)["process"],
        Value::Null
    );
}

#[test]
fn locks_and_seals() {
    assert_eq!(
        call(syscall::MLOCK2, [AT, 8192, 1, 0, 0, 0], 0),
        json!({
            "type": "mlock", "call": "mlock2", "addr": "0x7b000000", "len": 8192,
            "flags": ["MLOCK_ONFAULT"], "ret": 0,
        })
    );
    assert_eq!(
        call(syscall::MLOCKALL, [3, 5, 5, 5, 5, 5], -12),
        json!({
            "type": "mlock", "call": "mlockall", "addr": null, "len": null,
            "flags": ["MCL_CURRENT", "MCL_FUTURE"], "ret": -12,
        })
    );
    let named = |number| {
        let event = call(number, [AT, 8192, 0, 0, 0, 0], 0);
        [event["type"].clone(), event["call"].clone()]
    };
    assert_eq!(named(syscall::MLOCK), ["mlock", "mlock"]);
    assert_eq!(named(syscall::MUNLOCK), ["munlock", "munlock"]);
    assert_eq!(named(syscall::MUNLOCKALL), ["munlock", "munlockall"]);
    assert_eq!(
        call(syscall::MSEAL, [AT, 8192, 0, 0, 0, 0], 0),
        json!({"type": "mseal", "addr": "0x7b000000", "len": 8192, "ret": 0})
    );
    assert_eq!(
        call(syscall::REMAP_FILE_PAGES, [AT, 8192, 0, 3, 0x1_0000, 0], 0),
        json!({
            "type": "remap_file_pages", "addr": "0x7b000000", "len": 8192, "offset": 12288,
            "flags": ["MAP_NONBLOCK"], "ret": 0,
        })
    );
}

#[test]
fn a_32_bit_call_is_said_to_be_one() {
    let of = |flags| {
        let mut story = program(100, 0xa);
        story.call_by(100, syscall::MUNMAP, [AT, 4096, 0, 0, 0, 0], 0, flags);
        last(&story.play())["abi"].clone()
    };
    assert_eq!(of(COMPAT_CALL), COMPAT_ABI);
    assert_eq!(of(0), Value::Null);

    let mut story = program(100, 0xa);
    story.clone_as(100, (200, 200), (0, 0xb), &[], |birth| {
        birth.head.flags = COMPAT_CALL;
    });
    let outcome = story.play();
    let mut clones = outcome
        .events
        .iter()
        .filter(|event| event.what.name() == "clone");
    let abi = clones.next().and_then(|event| event.abi.as_deref());
    assert_eq!(abi, Some(COMPAT_ABI));
}

/// What is told of a call of process 100 that fails.
fn failed(number: u32, name: &str, change: impl FnOnce(&mut Failed)) -> Value {
    let mut story = program(100, 0xa);
    story.failed(100, number, name, change);
    last(&story.play())
}

#[test]
fn a_fork_that_is_refused_says_why() {
    let refused = failed(syscall::CLONE, "", |failed| {
        (failed.flags, failed.ret) = (0x0120_0011, -11);
    });
    assert_eq!(
        refused,
        json!({
            "type": "failed", "call": "clone",
            "flags": ["CLONE_CHILD_CLEARTID", "CLONE_CHILD_SETTID"], "ret": -11,
        })
    );
    let by = |number, flags| {
        failed(number, "", |failed| {
            (failed.flags, failed.ret) = (flags, -12);
        })
    };
    let flags = |number, flags| by(number, flags)["flags"].clone();
    assert_eq!(
        flags(syscall::CLONE3, 1 << 32),
        json!(["CLONE_CLEAR_SIGHAND"]),
        "it has flags beyond the lower half"
    );
    assert_eq!(flags(syscall::CLONE, 1 << 32), json!([]));
    assert_eq!(flags(syscall::FORK, 0), json!([]));
    assert_eq!(flags(syscall::VFORK, 0), json!(["CLONE_VM", "CLONE_VFORK"]));
}

#[test]
fn an_exec_that_fails_says_of_what() {
    let execve = failed(syscall::EXECVE, "/bin/nothing", |failed| failed.ret = -2);
    assert_eq!(
        execve,
        json!({"type": "failed", "call": "execve", "file": "/bin/nothing", "ret": -2})
    );
    let unreadable = failed(syscall::EXECVE, "", |failed| failed.ret = -14);
    assert_eq!(unreadable["file"], Value::Null);
    let execveat = |dirfd, name: &str| {
        failed(syscall::EXECVEAT, name, |failed| {
            (failed.dirfd, failed.ret) = (dirfd, -2);
        })["file"]
            .clone()
    };
    assert_eq!(execveat(5, "prog"), "/dev/fd/5/prog");
    assert_eq!(execveat(5, "/prog"), "/prog");
    assert_eq!(execveat(-100, "prog"), "prog");
}

/// An empty name is one, too: the file that the descriptor stands for.
#[test]
fn an_exec_by_a_file_descriptor_has_its_name() {
    let mut story = program(100, 0xa);
    story.failed(100, syscall::EXECVEAT, "\0", |failed| {
        (failed.dirfd, failed.ret) = (7, -8);
    });
    assert_eq!(last(&story.play())["file"], "/dev/fd/7");
}

#[test]
fn an_exec_that_fails_too_late_is_fatal() {
    let fatal = failed(syscall::EXECVE, "", |failed| {
        failed.head.flags = FAILED_FATALLY;
        (failed.path, failed.ret) = (PROG, -12);
    });
    assert_eq!(
        fatal,
        json!({
            "type": "failed", "call": "execve", "exe": "/usr/bin/prog", "fatal": true, "ret": -12,
        })
    );
}

#[test]
fn a_core_dump_is_told_at_the_end() {
    let ended = |status| {
        let mut story: Story = program(100, 0xa);
        story.exit(100, status);
        let exit = last(&story.play());
        (
            exit["signal"].clone(),
            exit["code"].clone(),
            exit["core"].clone(),
        )
    };
    assert_eq!(ended(0x80 + 11), (json!(11), Value::Null, json!(true)));
    assert_eq!(ended(11), (json!(11), Value::Null, Value::Null));
    assert_eq!(ended(0x80 << 8), (Value::Null, json!(128), Value::Null));
}

//! Bytes that are a record, and bytes that are none.

use bytemuck::{Pod, bytes_of};
use memtrace_ebpf::record::{
    Birth, BirthDetail, Call, Detail, Exec, ExistingTask, Exit, Failed, Fault, FaultPending, Gone,
    Handled, Header, Kind, Objects, Pages, Path, Rename, Returned, Surveyed, SwitchIn, SwitchOut,
    Unobserved, Vma, VmaReason,
};

use super::random::Random;
use memtrace_ebpf::record::Record;

/// The bytes of a record of each kind, with what follows it.
fn each() -> Vec<(Kind, Vec<u8>)> {
    fn bytes<T: Pod>(kind: Kind, mut record: T, rest: &[u8]) -> (Kind, Vec<u8>) {
        let head = Header {
            ts: 1 << 40,
            tid: 7,
            kind: kind as u8,
            flags: 1,
            stack: 2,
            cpu: 3,
            detail: Detail::reason(VmaReason::Exec as u8),
        };
        bytemuck::bytes_of_mut(&mut record)[..size_of::<Header>()].copy_from_slice(bytes_of(&head));
        (kind, [bytes_of(&record), rest].concat())
    }
    let path = Path {
        len: 5,
        ..Path::default()
    };
    let exec = Exec {
        name_len: 3,
        args_len: 4,
        ..Exec::default()
    };
    let failed = Failed {
        name_len: 3,
        ..Failed::default()
    };
    vec![
        bytes(Kind::Fault, Fault::default(), b""),
        bytes(Kind::Vma, Vma::default(), b""),
        bytes(Kind::Path, path, b"a\0bc\0"),
        bytes(Kind::Birth, Birth::default(), b""),
        bytes(Kind::Exec, exec, b"ls\0a\0b\0"),
        bytes(Kind::Exit, Exit::default(), b""),
        bytes(Kind::Gone, Gone::default(), b""),
        bytes(Kind::Call, Call::default(), b""),
        bytes(Kind::Unobserved, Unobserved::default(), b""),
        bytes(Kind::Rename, Rename::default(), b""),
        bytes(Kind::FaultPending, FaultPending::default(), b""),
        bytes(Kind::Pages, Pages::default(), b""),
        bytes(Kind::Returned, Returned::default(), b""),
        bytes(Kind::Objects, Objects::default(), b""),
        bytes(Kind::ExistingTask, ExistingTask::default(), b""),
        bytes(Kind::Surveyed, Surveyed::default(), b""),
        bytes(Kind::BirthDetail, BirthDetail::default(), b""),
        bytes(Kind::SwitchIn, SwitchIn::default(), b""),
        bytes(Kind::SwitchOut, SwitchOut::default(), b""),
        bytes(Kind::Handled, Handled::default(), b""),
        bytes(Kind::Failed, failed, b"ls\0"),
    ]
}

#[test]
fn every_kind_is_read_whole() {
    assert_eq!(each().len(), Kind::ALL.len());
    for (kind, bytes) in each() {
        let record = Record::decode(&bytes).expect("whole");
        let head = record.header();
        assert_eq!((head.kind, head.tid, head.ts), (kind as u8, 7, 1 << 40));
        assert_eq!((head.flags, head.stack, head.cpu), (1, 2, 3));
        assert!(head.detail.is(VmaReason::Exec) && !head.detail.is(VmaReason::Fork));
        // The ring buffer rounds sizes up.
        let padded = [&bytes[..], &[0xff; 7]].concat();
        assert_eq!(Record::decode(&padded).as_ref(), Some(&record));
        // Its memory is aligned as it comes.
        let shifted = [&[0][..], &bytes].concat();
        assert_eq!(Record::decode(&shifted[1..]), Some(record));
    }
}

#[test]
fn what_follows_comes_with_it() {
    let rest = |kind: Kind| {
        let (_, bytes) = each().swap_remove(kind as usize - 1);
        match Record::decode(&bytes) {
            Some(Record::Path(_, rest) | Record::Exec(_, rest)) => rest.to_vec(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rest(Kind::Path), b"a\0bc\0");
    assert_eq!(rest(Kind::Exec), b"ls\0a\0b\0");
}

#[test]
fn a_truncated_record_is_none() {
    for (kind, bytes) in each() {
        for len in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..len]), None, "{} {len}", kind.name());
        }
    }
}

#[test]
fn a_length_beyond_the_end_is_none() {
    for (kind, at) in [
        (Kind::Path, std::mem::offset_of!(Path, len)),
        (Kind::Exec, std::mem::offset_of!(Exec, name_len)),
        (Kind::Exec, std::mem::offset_of!(Exec, args_len)),
    ] {
        let (_, mut bytes) = each().swap_remove(kind as usize - 1);
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(Record::decode(&bytes), None, "{}", kind.name());
    }
}

#[test]
fn an_unknown_kind_is_none() {
    let at = std::mem::offset_of!(Header, kind);
    for number in (0..=u8::MAX).filter(|number| !(1..=Kind::ALL.len() as u8).contains(number)) {
        let mut bytes = [0; 4096];
        bytes[at] = number;
        assert_eq!(Record::decode(&bytes), None, "{number}");
    }
}

#[test]
fn garbage_is_a_record_of_its_kind_or_none() {
    let at = std::mem::offset_of!(Header, kind);
    let mut random = Random(42);
    let mut decoded = 0;
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.below(400))
            .map(|_| random.below(256) as u8)
            .collect();
        if let Some(kind) = bytes.get_mut(at) {
            *kind %= Kind::ALL.len() as u8 + 1;
        }
        if let Some(record) = Record::decode(&bytes) {
            decoded += 1;
            assert_eq!(record.header().kind, bytes[at]);
        }
    }
    assert!(decoded > 1000, "garbage of all lengths: {decoded}");
}

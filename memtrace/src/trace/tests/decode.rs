//! Bytes that are a record, and bytes that are none.

use std::mem::offset_of;

use bytemuck::bytes_of;
use memtrace_ebpf::record::{Detail, Exec, Failed, Header, Kind, Path, Record, VmaReason};

use super::random::Random;

/// The lengths of what follows a record: its kind, where that stands, and an example.
const LENGTHS: [(Kind, usize, &[u8]); 4] = [
    (Kind::Path, offset_of!(Path, len), b"a\0bc\0"),
    (Kind::Exec, offset_of!(Exec, name_len), b"ls\0"),
    (Kind::Exec, offset_of!(Exec, args_len), b"a\0b\0"),
    (Kind::Failed, offset_of!(Failed, name_len), b"ls\0"),
];

/// The bytes of a record, with what follows it.
fn example(kind: Kind) -> Vec<u8> {
    let head = Header {
        ts: 1 << 40,
        tid: 7,
        kind: kind as u8,
        flags: 1,
        stack: 2,
        cpu: 3,
        detail: Detail::reason(VmaReason::Exec as u8),
    };
    let mut bytes = vec![0; kind.size()];
    bytes[..size_of::<Header>()].copy_from_slice(bytes_of(&head));
    for (_, at, text) in LENGTHS.iter().filter(|(of, ..)| *of == kind) {
        bytes[*at..at + 4].copy_from_slice(&(text.len() as u32).to_ne_bytes());
        bytes.extend(*text);
    }
    bytes
}

/// An example of each kind.
fn each() -> impl Iterator<Item = (Kind, Vec<u8>)> {
    Kind::ALL.iter().map(|&kind| (kind, example(kind)))
}

#[test]
fn every_kind_is_read_whole() {
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
    let rest = |kind: Kind| match Record::decode(&example(kind)) {
        Some(Record::Path(_, rest) | Record::Exec(_, rest) | Record::Failed(_, rest)) => {
            rest.to_vec()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(rest(Kind::Path), b"a\0bc\0");
    assert_eq!(rest(Kind::Exec), b"ls\0a\0b\0");
    assert_eq!(rest(Kind::Failed), b"ls\0");
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
    for (kind, at, _) in LENGTHS {
        let mut bytes = example(kind);
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(Record::decode(&bytes), None, "{}", kind.name());
    }
}

#[test]
fn an_unknown_kind_is_none() {
    let at = offset_of!(Header, kind);
    for number in (0..=u8::MAX).filter(|number| !(1..=Kind::ALL.len() as u8).contains(number)) {
        let mut bytes = [0; 4096];
        bytes[at] = number;
        assert_eq!(Record::decode(&bytes), None, "{number}");
    }
}

#[test]
fn garbage_is_a_record_of_its_kind_or_none() {
    let at = offset_of!(Header, kind);
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

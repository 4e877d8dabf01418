//! JSON, one object a line; `SCHEMA.md` beside this file describes it.
//!
//! Faults come by the hundred thousand, and what isn't written in time is lost: they are written by hand. Everything
//! else is written by serde, and the tests hold the two against each other.

use std::io::{self, Write};

use serde::Serialize;

use super::sink::{BUFFER, Out, Sink};
use super::visible_json;
use crate::trace::event::{
    Access, Address, Cause, Counted, End, Event, EventKind, Fault, Global, Handled, Mode, Start,
};

/// Writes JSON.
pub(super) struct Json {
    out: Out,
    /// Lines of faults, which go to `out` before anything else does: many at a time, so that it needn't gather them, too.
    faults: Bytes,
}

impl Json {
    pub(super) fn new(out: Out) -> Self {
        Self {
            out,
            faults: Bytes(Vec::with_capacity(BUFFER + 1024)),
        }
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.write_faults()?;
        visible_json::write(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    fn write_faults(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.faults.0);
        self.faults.0.clear();
        written
    }
}

/// An event as a value.
pub(super) fn value(event: &Event) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(event)
}

impl Sink for Json {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.write(&Bound {
            r#type: "start",
            what: start,
        })
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.what {
            EventKind::Fault(fault) => {
                self.faults.fault(event, fault)?;
                if self.faults.0.len() < BUFFER {
                    return Ok(());
                }
                self.write_faults()
            }
            _ => self.write(event),
        }
    }

    fn flush(&mut self, _: u64) -> io::Result<()> {
        self.write_faults()?;
        self.out.flush()
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.write(&Bound {
            r#type: "end",
            what: end,
        })?;
        self.out.flush()
    }
}

/// The first or the last line.
#[derive(Serialize)]
struct Bound<'a, T> {
    r#type: &'static str,
    #[serde(flatten)]
    what: &'a T,
}

/// The bytes of faults' lines.
struct Bytes(Vec<u8>);

impl Bytes {
    fn fault(&mut self, event: &Event, fault: &Fault) -> io::Result<()> {
        self.raw("{\"type\":\"fault\",\"ts\":").number(event.ts);
        self.raw(",\"pid\":").number(event.pid.into());
        self.raw(",\"tid\":").number(event.tid.into());
        if let Some(Global { pid, tid }) = event.global {
            self.raw(",\"global_pid\":").number(pid.into());
            self.raw(",\"global_tid\":").number(tid.into());
        }
        self.raw(",\"comm\":").string(&event.comm)?;
        self.raw(",\"addr\":").address(fault.addr);
        self.raw(",\"ip\":").address(fault.ip);
        self.raw(match fault.access {
            Access::Read => ",\"access\":\"read\"",
            Access::Write => ",\"access\":\"write\"",
            Access::Exec => ",\"access\":\"exec\"",
        });
        self.raw(match fault.mode {
            Mode::User => ",\"mode\":\"user\"",
            Mode::Kernel => ",\"mode\":\"kernel\"",
            Mode::Gup => ",\"mode\":\"gup\"",
        });
        self.raw(",\"kind\":\"").raw(fault.kind.name());
        self.raw("\",\"region\":\"").raw(fault.region.name());
        if let Some(part) = fault.part {
            self.raw("\",\"part\":\"").raw(part.name());
        }
        self.raw("\",\"file\":");
        match &fault.file {
            Some(file) => self.string(file)?,
            None => self.raw("null"),
        };
        self.raw(",\"offset\":").number_or_null(fault.offset);
        self.raw(",\"page_size\":").number(fault.page_size);
        self.raw(",\"pfn_before\":")
            .number_or_null(fault.pfn_before);
        self.raw(",\"pfn_after\":").number_or_null(fault.pfn_after);
        self.raw(match fault.counted {
            Some(Counted::Minor) => ",\"counted\":\"minor\"",
            Some(Counted::Major) => ",\"counted\":\"major\"",
            None => ",\"counted\":null",
        });
        if let Some(signal) = fault.signal {
            self.raw(",\"signal\":").number(signal.into());
        }
        if let Some(detail) = &fault.detail {
            self.raw(",\"detail\":").string(detail)?;
        }
        if let Some(handled) = &fault.handled {
            self.handled(handled);
        }
        if let Some(cause) = &fault.cause {
            self.cause(cause);
        }
        if fault.late != 0 {
            self.raw(",\"late\":").number(fault.late);
        }
        self.raw("}\n");
        Ok(())
    }

    fn handled(&mut self, handled: &Handled) {
        self.raw(",\"dur\":").number_or_null(handled.dur);
        for (name, number) in [
            (",\"retries\":", handled.retries),
            (",\"waited\":", handled.waited),
        ] {
            if number != 0 {
                self.raw(name).number(number);
            }
        }
        if let Some(call) = &handled.call {
            self.raw(",\"call\":\"").raw(call).raw("\"");
        }
        if handled.unshare {
            self.raw(",\"unshare\":true");
        }
        if let Some(owner) = handled.owner {
            self.raw(",\"owner\":").number(owner.into());
        }
    }

    fn cause(&mut self, cause: &Cause) {
        self.raw(",\"cause\":\"").raw(cause.cause.name()).raw("\"");
        if let Some(fork) = cause.fork {
            self.raw(",\"fork\":{\"number\":")
                .number(fork.number.into());
            self.raw(",\"parent\":").number(fork.parent.into());
            self.raw(",\"child\":").number(fork.child.into());
            self.raw(",\"ago\":").number(fork.ago).raw("}");
        }
        self.raw(",\"sharers\":[");
        for (at, &sharer) in cause.sharers.iter().enumerate() {
            self.raw(if at == 0 { "" } else { "," })
                .number(sharer.into());
        }
        self.raw("],\"sharer_count\":")
            .number(cause.sharer_count.into());
        self.raw(",\"map_count\":")
            .number_or_null(cause.map_count.map(u64::from));
    }

    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn string(&mut self, text: &str) -> io::Result<&mut Self> {
        visible_json::write_str(&mut self.0, text)?;
        Ok(self)
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.raw(itoa::Buffer::new().format(number))
    }

    fn number_or_null(&mut self, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.number(number),
            None => self.raw("null"),
        }
    }

    fn address(&mut self, Address(address): Address) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.raw("\"0x");
        let count = (u64::BITS - (address | 1).leading_zeros()).div_ceil(4);
        self.0.extend(
            (0..count)
                .rev()
                .map(|at| DIGITS[(address >> (4 * at)) as usize & 15]),
        );
        self.raw("\"")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::output::samples::{self, PLAIN, end, event, faults, story, whole_end};
    use crate::output::{Format, Options};
    use crate::trace::event::Line;

    fn lines(events: &[Event]) -> Vec<String> {
        let text = samples::written(Format::Json, PLAIN, events, &whole_end());
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_fault_by_hand_is_what_serde_makes_of_it() {
        for (fault, inside) in faults().into_iter().zip([true, false].iter().cycle()) {
            let mut event = event(1, 1235, EventKind::Fault(fault.clone()));
            event.global = inside.then_some(Global { pid: 7, tid: 8 });
            let by_serde = serde_json::to_string(&event).expect("JSON");
            assert_eq!(lines(&[event])[1], by_serde);
        }
    }

    #[test]
    fn a_line_that_is_read_back_is_the_same() {
        for line in lines(&story()) {
            let read: Line = serde_json::from_str(&line).expect("a line");
            assert_eq!(visible_json::to_json(&read).expect("JSON"), line);
        }
    }

    #[test]
    fn addresses_are_hex_whatever_their_size() {
        for address in (0..64)
            .map(|bit| 1 << bit)
            .chain([0, 0xff, u64::MAX, 0x1234_5678_9abc_def0])
        {
            let mut line = Bytes(Vec::new());
            line.address(Address(address));
            assert_eq!(line.0, format!("\"{address:#x}\"").as_bytes());
        }
    }

    #[test]
    fn lines_are_as_they_were() {
        // A change here that isn't an addition needs another version of the schema.
        expect_file!["snapshots/story.json"].assert_eq(&(lines(&story()).join("\n") + "\n"));
    }

    #[test]
    fn a_summary_is_the_first_line_and_the_last() {
        let options = Options {
            summary_only: true,
            ..PLAIN
        };
        let text = samples::written(Format::Json, options, &story(), &end(vec![]));
        assert_eq!(text.lines().count(), 2);
    }
}

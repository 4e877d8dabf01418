//! F11: an exec gives the child code of its own, too.

use std::collections::BTreeSet;

use super::code;
use crate::{
    lab::{
        claim::{Claim, Method},
        finding::{Evidence, Finding, Undecided, Verdict},
        observed::{Mark, Observed},
    },
    trace::event::{Event, Events, Exec, ObjectKind, Region},
};

pub const CLAIM: Claim = Claim {
    id: "F11",
    short: "with exec the child has code of its own, too",
    book: "If the child execs it runs other code than its parent, so its code segment gets physical memory of its own, \
           too.",
    experiment: "A program forks a child that execs true(1). The address space of the child before and after the exec \
                 is compared, and the frames of its code with the parent's. A second child execs the same program \
                 anew, to see what becomes of its code then.",
    expected: &[Verdict::Confirmed],
    read: &[
        "fs/exec.c: exec_mmap - puts the new address space in the place of the old one",
        "fs/binfmt_elf.c: load_elf_binary - maps the new program's file",
        "mm/filemap.c: filemap_fault - takes the code's frames from the page cache, one set for each file",
    ],
    method: Method::Experiment {
        program: "becomes",
        judge,
    },
};

/// A child's exec, and what it brought.
struct Became<'a> {
    exec: (&'a Event, &'a Exec),
    /// The numbers of its address spaces, before and after.
    spaces: (u32, u32),
    /// The frames of the program's code after the exec.
    frames: BTreeSet<u64>,
    /// The first fault in it.
    first: &'a Event,
}

fn judge(seen: &Observed) -> Result<Finding, Undecided> {
    let before = seen.mark("before the forks")?;
    let about_to = seen.mark("about to become another program")?;
    let anew = seen.mark("the same program anew")?;
    let end = seen.mark("end")?;
    let other = became(seen, end.value("other")? as u32)?;
    let same = became(seen, end.value("same")? as u32)?;
    let own = programs_code(seen, before.pid, 0);
    let Some((parents, first_of_parent)) = own else {
        return Err(Undecided::because(
            "the parent's steps in its code were not seen",
        ));
    };

    let mut evidence = Evidence::default();
    evidence
        .say("The parent's first step in its code:")
        .event(first_of_parent);
    let until_exec = code::frames(seen, about_to.pid, 0, other.exec.0.ts);
    if let Some((_, event, _)) = until_exec
        .values()
        .find(|(frame, ..)| parents.contains(frame))
    {
        evidence
            .say("The first child's, before its exec, was in the same frame:")
            .event(event);
    }
    evidence
        .say(format!(
            "Its exec, which replaced its address space mm#{} by mm#{}, and its first step in the new code; look at \
             the frame:",
            other.spaces.0, other.spaces.1
        ))
        .event(other.exec.0)
        .event(other.first);
    let again_shared = same.frames.iter().any(|frame| parents.contains(frame));
    evidence
        .say(format!(
            "The second child's exec of the same program replaced mm#{} by mm#{}, too, but its code is in {}:",
            same.spaces.0,
            same.spaces.1,
            if again_shared {
                "its parent's frame: the file's page in the page cache serves all who run it"
            } else {
                "another frame than its parent's"
            }
        ))
        .event(same.exec.0)
        .event(same.first);

    let pagemap = |mark: &Mark| mark.frame("code");
    evidence.agree(
        pagemap(before)?.is_some() && pagemap(before)? == pagemap(about_to)?,
        "/proc/PID/pagemap showed the same frame for the page of main() in the parent and in the first child before \
         its exec",
    )?;
    evidence.agree(
        (pagemap(anew)? == pagemap(before)?) == again_shared,
        format!(
            "/proc/PID/pagemap showed {} frame for the code of the second child after its exec, as its fault does",
            if again_shared { "the parent's" } else { "another" }
        ),
    )?;

    let replaced = other.spaces.0 != other.spaces.1;
    let common = other.frames.intersection(&parents).count();
    let figure = format!(
        "mm#{} -> mm#{}, {common} common code frames",
        other.spaces.0, other.spaces.1
    );
    match (replaced, common) {
        (true, 0) => evidence.decide(
            Verdict::Confirmed,
            figure,
            "The exec gave the child a new address space, and its code comes from the other program's file, in other \
             frames. It is the other program that makes the difference, not the exec as such: a child that execs the \
             same file has the same frames again.",
        ),
        (true, _) => evidence.decide(
            Verdict::Qualified,
            figure,
            "The exec gave the child a new address space, but some of its code is in the parent's frames.",
        ),
        (false, _) => evidence.decide(
            Verdict::Refuted,
            figure,
            "The child went on in the same address space after its exec.",
        ),
    }
}

/// The frames of a process's own code from then on, and the first fault in it.
fn programs_code(seen: &Observed, pid: u32, from: u64) -> Option<(BTreeSet<u64>, &Event)> {
    let frames = code::frames(seen, pid, from, u64::MAX);
    let own = frames
        .values()
        .filter(|(_, _, fault)| fault.region == Region::Text);
    let first = own
        .clone()
        .map(|(_, event, _)| *event)
        .min_by_key(|event| event.ts)?;
    Some((own.map(|(frame, ..)| *frame).collect(), first))
}

fn became(seen: &Observed, pid: u32) -> Result<Became<'_>, Undecided> {
    let exec = seen
        .execs()
        .find(|(event, _)| event.pid == pid)
        .ok_or_else(|| Undecided::because(format!("the exec of {pid} was not seen")))?;
    let lives = seen.end.iter().flat_map(|end| &end.tasks);
    let spaces = lives
        .filter(|life| life.tid == pid)
        .flat_map(|life| &life.uses)
        .filter(|used| used.kind == ObjectKind::Mm);
    let at = |ts: u64| {
        spaces
            .clone()
            .find(|used| used.from <= ts && used.until.is_none_or(|until| ts < until))
            .map(|used| used.number)
            .ok_or_else(|| Undecided::because(format!("the address space of {pid} is not known")))
    };
    let (frames, first) = programs_code(seen, pid, exec.0.ts).ok_or_else(|| {
        Undecided::because(format!(
            "no step of {pid} in its code was seen after its exec"
        ))
    })?;
    Ok(Became {
        exec,
        spaces: (at(exec.0.ts.saturating_sub(1))?, at(exec.0.ts)?),
        frames,
        first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::story::Story,
        trace::event::{End, FaultKind, TaskLifetime, Use},
    };

    const CODE: u64 = 0x1000;

    /// The parent's code is in frame 11. The first child has these address spaces and this frame after its exec, the
    /// second this frame.
    fn story(spaces: [u32; 2], other: u64, same: u64) -> Observed {
        let mut story = Story::default();
        let step = |story: &mut Story, pid, frame| {
            story.fault(pid, CODE, FaultKind::FileMap, 0, frame).region = Region::Text;
        };
        let code = [("code", CODE)];
        let mut tasks = Vec::new();
        let mut execs = |story: &mut Story, pid: u32, spaces: [u32; 2]| {
            story.exec(pid, "/bin/true");
            let at = story.seen().events.last().map_or(0, |event| event.ts);
            let used = |number, from, until| Use {
                kind: ObjectKind::Mm,
                number,
                from,
                until,
            };
            tasks.push(TaskLifetime {
                pid,
                tid: pid,
                parent: Some(1),
                comm: "prog".into(),
                uses: vec![used(spaces[0], 0, Some(at)), used(spaces[1], at, None)],
                ..TaskLifetime::default()
            });
        };
        step(&mut story, 1, 11);
        story.mark(1, "before the forks", &code).frames(&[11]);
        story.birth(1, 2, None);
        step(&mut story, 2, 11);
        story
            .mark(2, "about to become another program", &code)
            .frames(&[11]);
        execs(&mut story, 2, spaces);
        step(&mut story, 2, other);
        story.birth(1, 3, None);
        execs(&mut story, 3, [5, 6]);
        step(&mut story, 3, same);
        story
            .mark(3, "the same program anew", &code)
            .frames(&[same]);
        story.mark(1, "end", &[("other", 2), ("same", 3)]);
        story.seen().end = Some(End {
            tasks,
            ..End::default()
        });
        story.observed()
    }

    #[test]
    fn the_verdict_is_that_of_the_records() {
        let verdict = |seen: Observed| judge(&seen).expect("decided").verdict;
        assert_eq!(verdict(story([3, 4], 12, 11)), Verdict::Confirmed);
        assert_eq!(verdict(story([3, 4], 12, 13)), Verdict::Confirmed);
        assert_eq!(verdict(story([3, 4], 11, 11)), Verdict::Qualified);
        assert_eq!(verdict(story([3, 3], 12, 11)), Verdict::Refuted);
    }

    #[test]
    fn pagemap_must_agree() {
        for mark in 0..3 {
            let mut seen = story([3, 4], 12, 11);
            seen.marks[mark].snapshot.frames.insert(CODE, Some(99));
            assert!(matches!(judge(&seen), Err(Undecided::Contradiction(_))));
        }
    }
}

//! What a trace is written to: stderr, or files, each in its format.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write, stderr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cli::OutputArgs,
    output::{
        self, Format, Queue, Sink,
        file::{self, Kept, named},
    },
    target::are_waiting,
    trace::event::{End, Event, Start},
};

/// The FILE that stands for where a trace goes without one.
const STDERR: &str = "-";

/// Where each output goes, none being stderr, and in which format. `asked` is the format that was asked for.
///
/// # Errors
/// Something was asked for that can't be.
pub fn plan(files: &[PathBuf], asked: Option<Format>) -> Result<Vec<(Option<&Path>, Format)>> {
    let format = asked.unwrap_or(Format::Text);
    if files.is_empty() {
        return Ok(vec![(None, format)]);
    }
    let mut plan = Vec::new();
    for file in files {
        let to = (file.as_os_str() != STDERR).then_some(file.as_path());
        let by_ending = to.and_then(Format::of);
        plan.push((to, by_ending.unwrap_or(format)));
    }
    let to_stderr = plan.iter().filter(|(to, _)| to.is_none());
    ensure!(to_stderr.count() < 2, "-o - is given twice");
    if let (Some(asked), Some((Some(file), other))) = (asked, plan.first())
        && plan.iter().all(|(_, format)| *format != asked)
    {
        let (asked, other) = (asked.name(), other.name());
        bail!(
            "--format {asked} is for no output: {} is written as {other}, by its ending",
            named(file)
        );
    }
    Ok(plan)
}

/// What is written, and may wait for who reads it.
pub struct Outputs(Vec<Output>);

struct Output {
    queue: Queue,
    name: String,
    /// Where it was made.
    made: Option<PathBuf>,
}

impl Outputs {
    /// Opens the outputs of a plan, none of which is to be one of `kept`; and the sink that writes to them all.
    ///
    /// # Errors
    /// One of them can't be opened. Then no file is left that was made.
    pub fn open(
        plan: &[(Option<&Path>, Format)],
        shown: &OutputArgs,
        mut kept: Vec<Kept>,
    ) -> Result<(Box<dyn Sink>, Self)> {
        let mut outputs = Self(Vec::new());
        let mut sinks = Vec::new();
        for &(to, format) in plan {
            match open(to, format, shown, &kept) {
                Ok((sink, output)) => {
                    let (name, queue) = (output.name.clone(), output.queue.clone());
                    sinks.push(One { sink, queue, name });
                    outputs.0.push(output);
                }
                Err(error) => {
                    outputs.discard();
                    return Err(error);
                }
            }
            kept.extend(to.map(|to| ("another output".to_owned(), to.to_owned())));
        }
        Ok((Box::new(All(sinks)), outputs))
    }

    /// Whether so much waits that no more should be made.
    pub fn are_full(&self) -> bool {
        self.0.iter().any(|output| output.queue.is_full())
    }

    /// Memtrace is to end: a reader who reads nothing isn't waited for much longer.
    pub fn hurry(&self) {
        for output in &self.0 {
            output.queue.hurry();
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// Some of it can't be: which.
    pub fn finish(&self) -> Result<()> {
        let mut failed = String::new();
        for Output { queue, name, .. } in &self.0 {
            if let Err(error) = queue.finish() {
                let between = if failed.is_empty() { "" } else { "; " };
                // Writing to a string doesn't fail.
                let _ = write!(failed, "{between}{}", cannot_write(name, &error));
            }
        }
        ensure!(failed.is_empty(), failed);
        Ok(())
    }

    /// Nothing was written: files that were made for it go.
    pub fn discard(self) {
        for made in self.0.into_iter().filter_map(|output| output.made) {
            // An empty file that stays does no harm.
            let _ = fs::remove_file(made);
        }
    }
}

/// Opens one output.
fn open(
    to: Option<&Path>,
    format: Format,
    shown: &OutputArgs,
    kept: &[Kept],
) -> Result<(Box<dyn Sink>, Output)> {
    let mut made = None;
    let (to, colour, name): (Box<dyn Write + Send>, bool, String) = if let Some(path) = to {
        let (file, is_made) = file::open(path, kept)?;
        made = is_made.then(|| path.to_owned());
        (Box::new(file), false, named(path))
    } else {
        // Not by way of the library's stderr: memtrace would wait for its lock, should nobody read this.
        let fd = stderr().as_fd().try_clone_to_owned()?;
        let colour = output::colour_wanted(&stderr());
        (Box::new(File::from(fd)), colour, "stderr".to_owned())
    };
    let options = output::Options {
        fold: !shown.no_fold,
        colour,
        summary_only: shown.summary,
    };
    let queue = Queue::new(to, are_waiting).context("can't start a thread")?;
    let sink = output::sink(format, Box::new(queue.clone()), options);
    Ok((sink, Output { queue, name, made }))
}

/// Writes to each of several sinks. One that fails gets no more, and the others go on.
struct All(Vec<One>);

struct One {
    sink: Box<dyn Sink>,
    queue: Queue,
    name: String,
}

impl All {
    /// Fails when no sink is left, as the last of them did.
    fn each(&mut self, write: impl Fn(&mut dyn Sink) -> io::Result<()>) -> io::Result<()> {
        let mut failed = None;
        self.0.retain_mut(|one| match write(&mut *one.sink) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(io::Error::new(
                    error.kind(),
                    cannot_write(&one.name, &error),
                ));
                one.queue.fail(&error);
                false
            }
        });
        match failed {
            Some(error) if self.0.is_empty() => Err(error),
            _ => Ok(()),
        }
    }
}

fn cannot_write(name: &str, error: &io::Error) -> String {
    format!("can't write the trace to {name}: {error}")
}

impl Sink for All {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.each(|sink| sink.start(start))
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.each(|sink| sink.event(event))
    }

    fn flush(&mut self, now: u64) -> io::Result<()> {
        self.each(|sink| sink.flush(now))
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.each(|sink| sink.end(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn planned(files: &[&str], asked: Option<Format>) -> Result<Vec<(Option<String>, Format)>> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let plan = plan(&files, asked)?.into_iter();
        let path = |path: &Path| path.to_string_lossy().into_owned();
        Ok(plan.map(|(to, format)| (to.map(path), format)).collect())
    }

    fn refused(files: &[&str], asked: Option<Format>) -> String {
        planned(files, asked)
            .expect_err("it is refused")
            .to_string()
    }

    #[test]
    fn a_format_is_by_the_ending_or_as_asked() {
        use Format::{Json, Text};
        let is = |files: &[&str], asked, formats: &[Format]| {
            let plan = planned(files, asked).expect("it can be");
            let planned: Vec<Format> = plan.iter().map(|(_, format)| *format).collect();
            assert_eq!(planned, formats, "{files:?} {asked:?}");
        };
        is(&[], None, &[Text]);
        is(&[], Some(Json), &[Json]);
        is(&["trace"], Some(Json), &[Json]);
        is(
            &["a.json", "a.jsonl", "a.txt", "a.log"],
            None,
            &[Json, Json, Text, Text],
        );
        is(&["-", "a.json"], None, &[Text, Json]);
        is(&["-", "a.txt"], Some(Json), &[Json, Text]);
        is(&["a.txt", "a.json"], Some(Json), &[Text, Json]);
        let plan = planned(&["-", "./-"], None).expect("it can be");
        assert_eq!(plan, [(None, Text), (Some("./-".to_owned()), Text)]);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        assert_eq!(
            refused(&["a.txt"], Some(Format::Json)),
            "--format json is for no output: \"a.txt\" is written as text, by its ending"
        );
        assert_eq!(refused(&["-", "a", "-"], None), "-o - is given twice");
    }

    #[test]
    fn one_that_fails_does_not_keep_the_others() {
        let (mut sinks, mut outputs) = (Vec::new(), Outputs(Vec::new()));
        let page = samples::Page::default();
        let (reader, pipe) = io::pipe().expect("a pipe");
        drop(reader);
        let none = || Box::new(io::sink()) as Box<dyn Write + Send>;
        for (name, to) in [("full", Box::new(pipe) as _), ("good", none())] {
            let queue = Queue::new(to, || false).expect("a thread");
            let to: Box<dyn Write> = match name {
                "good" => page.writer(),
                _ => Box::new(queue.clone()),
            };
            let sink = output::sink(Format::Json, to, samples::PLAIN);
            let name = name.to_owned();
            sinks.push(One {
                sink,
                queue: queue.clone(),
                name: name.clone(),
            });
            outputs.0.push(Output {
                queue,
                name,
                made: None,
            });
        }
        let mut all = All(sinks);
        all.start(&samples::start()).expect("one is left");
        all.flush(0).expect("one is left");
        while all.0.len() == 2 {
            all.event(&samples::story()[0]).expect("one is left");
            all.flush(0).expect("one is left");
        }
        all.end(&End::default()).expect("one is left");
        let text = page.text();
        assert!(text.starts_with("{\"type\":\"start\"") && text.contains("{\"type\":\"end\""));
        let error = outputs.finish().expect_err("one has failed").to_string();
        assert_eq!(
            error,
            "can't write the trace to full: Broken pipe (os error 32)"
        );
    }
}

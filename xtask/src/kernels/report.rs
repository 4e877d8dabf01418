//! What a guest said on its console: which kernel it is, and how each program ended. Only what `init` and the programs
//! themselves told counts; QEMU's exit status says nothing.

/// What the lines of `init` begin with.
const MARK: &str = "@guest ";

/// A guest's console, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Such as `linux=6.12.107 cpus=2`.
    pub(crate) facts: Option<String>,
    pub(crate) ended: Vec<Ended>,
    /// The program that ran when the console fell silent.
    pub(crate) unfinished: Option<String>,
    /// How many programs init has run, told last.
    pub(crate) done: Option<usize>,
    /// Its lines.
    pub(crate) console: Vec<String>,
}

/// A program that has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) name: String,
    /// Its exit code, the signal that ended it, or that it was late.
    pub(crate) status: String,
    pub(crate) milliseconds: u64,
    pub(crate) output: Vec<String>,
}

impl Report {
    pub(crate) fn read(console: &str) -> Self {
        let mut report = Self::default();
        let mut output = Vec::new();
        for line in console.lines().map(|line| line.trim_end_matches('\r')) {
            let Some(said) = line.strip_prefix(MARK) else {
                output.push(line.to_owned());
                continue;
            };
            let words: Vec<_> = said.split(' ').collect();
            match words[..] {
                ["facts", ..] => {
                    report.facts = said.split_once(' ').map(|(_, facts)| facts.to_owned());
                }
                ["begin", name] => {
                    report.unfinished = Some(name.to_owned());
                    output.clear();
                }
                ["end", name, status, time] if report.unfinished.as_deref() == Some(name) => {
                    report.unfinished = None;
                    report.ended.push(Ended {
                        name: name.to_owned(),
                        status: status.to_owned(),
                        milliseconds: time.parse().unwrap_or_default(),
                        output: std::mem::take(&mut output),
                    });
                }
                ["done", count] => report.done = count.parse().ok(),
                // Among them init's errors.
                _ => output.push(line.to_owned()),
            }
        }
        report.console = console.lines().map(str::to_owned).collect();
        report
    }

    /// What is wrong with the guest as a whole: it didn't come to its end, or isn't what it was to be.
    pub(crate) fn fault(&self, expected: &[&str], programs: usize) -> Option<String> {
        let Some(facts) = &self.facts else {
            return Some("it didn't boot".to_owned());
        };
        let facts: Vec<_> = facts.split(' ').collect();
        if let Some(missing) = expected.iter().find(|fact| !facts.contains(fact)) {
            return Some(format!(
                "it was to have {missing}, and has {}",
                facts.join(" ")
            ));
        }
        if let Some(name) = &self.unfinished {
            return Some(format!("it ended in {name}"));
        }
        if self.done != Some(programs) || self.ended.len() != programs {
            let ended = self.ended.len();
            return Some(format!(
                "{ended} of {programs} programs ended, and init didn't come to its end"
            ));
        }
        None
    }
}

impl Ended {
    /// How many of its tests passed, if it is one of Rust's test programs and all did.
    pub(crate) fn passed(&self) -> Option<usize> {
        let counts = |line: &String| {
            let rest = line.strip_prefix("test result: ok. ")?;
            rest.split_once(" passed; 0 failed;")?.0.parse().ok()
        };
        // One that ran no test has shown nothing.
        let passed = self
            .output
            .iter()
            .find_map(counts)
            .filter(|&passed| passed > 0);
        passed.filter(|_| self.status == "0")
    }

    /// In a word or two: how many tests passed, or how it failed.
    pub(crate) fn cell(&self) -> String {
        match (self.passed(), self.failed().len()) {
            (Some(passed), _) => passed.to_string(),
            (None, 0) if self.status == "0" => "NO TEST".to_owned(),
            (None, 0) => self.status.to_uppercase(),
            (None, failed) => format!("{failed} FAILED"),
        }
    }

    /// The names of its tests that failed.
    pub(crate) fn failed<'a>(&'a self) -> Vec<&'a str> {
        let name = |line: &'a String| line.strip_prefix("test ")?.strip_suffix(" ... FAILED");
        self.output.iter().filter_map(name).collect()
    }
}

/// Without what would paint or move on a terminal: firmware does.
pub(crate) fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\u{1b}[2JSeaBIOS\r\n\
        \r\n@guest facts linux=6.12.107+deb13-cloud-amd64 cpus=2 levels=5 kaslr=on lockdown=none\r\n\
        \r\n@guest begin cow\r\n\
        running 3 tests\r\n\
        test a ... ok\r\n\
        test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.1s\r\n\
        \r\n@guest end cow 0 3210\r\n\
        \r\n@guest begin kinds\r\n\
        test huge ... FAILED\r\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\r\n\
        unfinished line\r\n@guest end kinds 101 900\r\n\
        \r\n@guest done 2\r\n";

    #[test]
    fn a_console_tells_how_each_program_ended() {
        let report = Report::read(GOOD);
        assert_eq!(report.fault(&["cpus=2", "lockdown=none"], 2), None);
        let [cow, kinds] = &report.ended[..] else {
            panic!("{report:?}");
        };
        assert_eq!((cow.cell().as_str(), cow.milliseconds), ("3", 3210));
        assert_eq!(cow.failed(), [""; 0]);
        assert_eq!(
            (kinds.cell().as_str(), kinds.failed()),
            ("1 FAILED", vec!["huge"])
        );
        assert_eq!(kinds.passed(), None);
    }

    #[test]
    fn a_guest_that_does_not_come_to_its_end_has_failed() {
        let until = |end: &str| {
            let whole = GOOD.find(end).unwrap_or_default();
            Report::read(&GOOD[..whole]).fault(&[], 2)
        };
        assert_eq!(until("\r\n@guest facts").as_deref(), Some("it didn't boot"));
        assert_eq!(until("@guest end cow").as_deref(), Some("it ended in cow"));
        assert!(until("@guest begin kinds").is_some_and(|fault| fault.starts_with("1 of 2 ")));
        assert!(until("@guest done").is_some());
    }

    #[test]
    fn a_guest_that_is_not_what_it_was_to_be_has_failed() {
        let fault = Report::read(GOOD).fault(&["levels=4"], 2);
        assert!(fault.is_some_and(|fault| fault.starts_with("it was to have levels=4, ")));
    }

    #[test]
    fn a_program_passes_only_by_tests_that_ran() {
        let ended = |status: &str, line: &str| Ended {
            status: status.to_owned(),
            output: vec![line.to_owned()],
            ..Ended::default()
        };
        let none = ended(
            "0",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out",
        );
        assert_eq!((none.passed(), none.cell().as_str()), (None, "NO TEST"));
        let late = ended("late", "test a ...");
        assert_eq!((late.passed(), late.cell().as_str()), (None, "LATE"));
        let killed = ended("SIGSEGV", "test result: ok. 3 passed; 0 failed;");
        assert_eq!((killed.passed(), killed.cell().as_str()), (None, "SIGSEGV"));
    }
}

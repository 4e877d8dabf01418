//! The machine that a benchmark runs on.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) cpus: usize,
    /// The model's name.
    pub(super) cpu: String,
}

impl Machine {
    pub(super) fn this() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: kernel.trim().to_owned(),
            cpus: available_parallelism().map_or(0, usize::from),
            cpu: cpu_model(&cpuinfo).to_owned(),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, {} CPUs, {}", self.kernel, self.cpus, self.cpu)
    }
}

fn cpu_model(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    model
        .and_then(|line| line.split_once(':'))
        .map_or("model not told", |(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel\t: 7\n";
        assert_eq!(cpu_model(cpuinfo), "A CPU @ 2 GHz");
        assert_eq!(cpu_model(""), "model not told");
    }
}

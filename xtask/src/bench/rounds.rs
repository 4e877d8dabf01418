//! The rounds of a benchmark: in each of them every tool has a turn, in an order that chance decides, so that what else the
//! machine does, and what the turn before has left in its caches, falls on all of them alike.

use anyhow::{Error, Result, bail};
use fastrand::Rng;

use super::beside;
use super::load::{Kind, Load, ROUNDS};
use super::owned::interrupted;
use super::results::{Absent, Failure, Figures, Metric, Results, Run, Unmeasured};
use super::servers::{self, Server};
use super::tool::{Places, Tool};
use super::traced;
use crate::command::say;

/// The same order each time.
const SEED: u64 = 1;

pub(super) struct Rounds<'a> {
    places: &'a Places,
    /// Those that are here.
    tools: Vec<Tool>,
    random: Rng,
    results: Results,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(places: &'a Places) -> Self {
        let mut results = Results::default();
        let mut tools = Vec::new();
        let asked = |tool: &Tool| !tool.is_other() || places.other.is_some();
        for tool in Tool::ALL.into_iter().filter(asked) {
            match tool.find(places) {
                Ok(_) => tools.push(tool),
                Err(reason) => results.absent.push(Absent { tool, reason }),
            }
        }
        Self {
            places,
            tools,
            random: Rng::with_seed(SEED),
            results,
        }
    }

    /// Measures all these loads. [`Load::Start`] is among them anyway, and the first: it shows which tools can't run here at all,
    /// and what of a tool's CPU time is its start's.
    pub(super) fn measure(mut self, loads: &[Load], rounds: Option<u32>) -> Result<Results> {
        let rest = loads.iter().filter(|&&load| load != Load::Start);
        for &load in std::iter::once(&Load::Start).chain(rest) {
            self.load(load, rounds.unwrap_or(ROUNDS))?;
        }
        Ok(self.results)
    }

    fn load(&mut self, load: Load, rounds: u32) -> Result<()> {
        let server = match self.server(load)? {
            Ok(server) => server,
            Err(reason) => {
                say(format_args!("{}: not measured: {reason}", load.name()));
                self.results.unmeasured.push(Unmeasured { load, reason });
                return Ok(());
            }
        };
        let all = rounds + load.rounds_apart();
        for round in 1..=all {
            say(format_args!("{}, round {round} of {all}", load.name()));
            for tool in order(&self.tools, load, round, rounds, &mut self.random) {
                let results = &self.results;
                if results.has_failed(tool, Load::Start) || results.has_failed(tool, load) {
                    continue;
                }
                let measured = match (load.kind(), &server) {
                    (Kind::Server, Some(server)) => {
                        servers::measure(tool, &**server, self.places).map(without_memory)
                    }
                    (Kind::Beside, _) => {
                        beside::measure(tool, load, self.places).map(without_memory)
                    }
                    _ => traced::measure(tool, load, self.places),
                };
                if interrupted() {
                    bail!("interrupted: nothing is kept");
                }
                match measured {
                    Ok((figures, resident_kib)) => {
                        eprintln!("    {:20} {}", tool.name(), told(&figures));
                        self.results.runs.push(Run {
                            load,
                            round,
                            tool,
                            figures,
                            resident_kib,
                        });
                    }
                    Err(error) if tool.is_untraced() => {
                        self.unmeasured(load, &error);
                        return Ok(());
                    }
                    Err(error) => self.failed(tool, load, &error),
                }
            }
        }
        Ok(())
    }

    /// The server of a load that has one; the inner error says why there is none.
    fn server(&self, load: Load) -> Result<Result<Option<Box<dyn Server>>, String>> {
        if load.kind() != Kind::Server {
            return Ok(Ok(None));
        }
        let prepared = servers::prepare(load, &self.places.scratch);
        if interrupted() {
            bail!("interrupted: nothing is kept");
        }
        Ok(match prepared {
            Ok(server) => server.map(Some),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// A load that doesn't work untraced says nothing of the tools.
    fn unmeasured(&mut self, load: Load, error: &Error) {
        let reason = format!("{error:#}");
        eprintln!("    failed untraced: {reason}");
        self.results.runs.retain(|run| run.load != load);
        self.results.failed.retain(|failure| failure.load != load);
        self.results.unmeasured.push(Unmeasured { load, reason });
    }

    fn failed(&mut self, tool: Tool, load: Load, error: &Error) {
        let reason = format!("{error:#}");
        eprintln!("    {:20} failed: {reason}", tool.name());
        self.results.failed.push(Failure { tool, load, reason });
    }
}

fn without_memory(figures: Figures) -> (Figures, Vec<u64>) {
    (figures, Vec::new())
}

/// The tools that have a turn in a round, shuffled.
fn order(tools: &[Tool], load: Load, round: u32, rounds: u32, random: &mut Rng) -> Vec<Tool> {
    let last = |tool: &Tool| tool.rounds(rounds) + load.rounds_apart();
    let has_turn = |tool: &Tool| tool.takes(load) && round <= last(tool);
    let mut order: Vec<_> = tools.iter().copied().filter(has_turn).collect();
    random.shuffle(&mut order);
    order
}

/// A run's figures, for whoever waits.
fn told(figures: &Figures) -> String {
    let told = figures.iter().map(|(metric, figure)| match metric {
        Metric::TimeNs => format!("{:.1} ms", figure / 1e6),
        Metric::StartNs => format!("{:.1} ms to the program's start", figure / 1e6),
        Metric::CallNs => format!("{figure:.0} ns a call"),
        Metric::FaultNs => format!("{figure:.0} ns a fault"),
        Metric::PerSecond => format!("{figure:.0} a second"),
        Metric::OwnCpuNs => format!("own CPU {:.0} ms", figure / 1e6),
        Metric::IdleCpuPercent => format!("{figure:.3} % of a CPU"),
        Metric::IdleSwitches => format!("{figure:.0} switches a second"),
        Metric::PeakKib => format!("{:.1} MiB", figure / 1024.0),
        Metric::Faults => format!("{figure} faults"),
        Metric::Lost => format!("{figure} lost"),
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_changes_from_round_to_round() {
        let mut random = Rng::with_seed(SEED);
        let mut first = Vec::new();
        for round in 1..=15 {
            let order = order(&Tool::ALL, Load::CowStorm, round, 15, &mut random);
            let all = if round <= 6 { 12 } else { 7 };
            assert_eq!(order.len(), all, "round {round}");
            first.push(order[0]);
        }
        first.dedup();
        assert!(first.len() > 5, "{first:?}");
    }

    #[test]
    fn a_run_is_told_in_a_line() {
        let figures = Figures::from([(Metric::TimeNs, 1.5e6), (Metric::Lost, 0.0)]);
        assert_eq!(told(&figures), "1.5 ms, 0 lost");
    }
}

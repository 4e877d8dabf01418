//! The file that a benchmark leaves: every run, and what was made of them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::figure::{Figure, ratios};
use super::goals::Goal;
use super::load::Load;
use super::machine::Machine;
use super::results::{Metric, Results};
use super::statistics::Estimate;
use super::tool::Tool;

/// Raised when a reader of an older file would be wrong.
const SCHEMA: u32 = 1;

/// What the results are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    /// When it was begun, UTC.
    pub(super) date: String,
    /// The commit that memtrace was built from; `-dirty` if there were changes.
    pub(super) revision: String,
    /// The build that it was compared with.
    pub(super) against: Option<String>,
    pub(super) machine: Machine,
}

/// What is read again.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Kept {
    schema: u32,
    pub(super) about: About,
    pub(super) results: Results,
}

/// What is written.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    about: &'a About,
    results: &'a Results,
    derived: Vec<Derived>,
    compared: Vec<Compared>,
    goals: &'a [Goal],
}

/// A figure with its interval.
#[derive(Serialize)]
struct Derived {
    load: Load,
    tool: Tool,
    figure: Figure,
    #[serde(flatten)]
    estimate: Estimate,
}

/// The figures of the first tool, divided by those of the second in the same round.
#[derive(Serialize)]
struct Compared {
    load: Load,
    tools: [Tool; 2],
    metric: Metric,
    #[serde(flatten)]
    ratio: Estimate,
}

/// Writes the file, which belongs to the owner of its folder: the benchmark runs as root, who called it need not be.
pub(super) fn write(file: &Path, about: &About, results: &Results, goals: &[Goal]) -> Result<()> {
    let kept = Written {
        schema: SCHEMA,
        about,
        results,
        derived: derived(results),
        compared: compared(results),
        goals,
    };
    let cannot = || format!("cannot write {}", file.display());
    let mut writer = BufWriter::new(File::create(file).with_context(cannot)?);
    serde_json::to_writer_pretty(&mut writer, &kept).with_context(cannot)?;
    writer.write_all(b"\n").with_context(cannot)?;
    writer.flush().with_context(cannot)?;
    let folder = file.parent().map(fs::metadata).transpose();
    if let Some(folder) = folder.with_context(cannot)? {
        chown(file, Some(folder.uid()), Some(folder.gid())).with_context(cannot)?;
    }
    Ok(())
}

pub(super) fn read(file: &Path) -> Result<Kept> {
    let text = fs::read(file).with_context(|| {
        format!(
            "cannot read {}: run `cargo xtask bench` first",
            file.display()
        )
    })?;
    let kept: Kept = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not of `cargo xtask bench`", file.display()))?;
    ensure!(
        kept.schema == SCHEMA,
        "{} is of another version of `cargo xtask bench`",
        file.display()
    );
    Ok(kept)
}

fn derived(results: &Results) -> Vec<Derived> {
    let mut all = Vec::new();
    for &load in Load::value_variants() {
        for tool in Tool::ALL {
            for &figure in Figure::of(load) {
                all.extend(
                    figure
                        .estimate(results, tool, load)
                        .map(|estimate| Derived {
                            load,
                            tool,
                            figure,
                            estimate,
                        }),
                );
            }
        }
    }
    all
}

/// memtrace beside the other build, and beside perf record.
fn compared(results: &Results) -> Vec<Compared> {
    const PAIRS: [[Tool; 2]; 4] = [
        [Tool::MemtraceJson, Tool::OtherJson],
        [Tool::MemtraceSummary, Tool::OtherSummary],
        [Tool::MemtraceJson, Tool::PerfRecord],
        [Tool::MemtraceSummary, Tool::PerfRecord],
    ];
    let mut all = Vec::new();
    for &load in Load::value_variants() {
        for tools in PAIRS {
            let ratios = ratios(results, tools, load).into_iter();
            all.extend(ratios.filter_map(|(metric, ratio)| {
                Some(Compared {
                    load,
                    tools,
                    metric,
                    ratio: ratio?,
                })
            }));
        }
    }
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::goals;
    use super::super::results::tests::results;
    use super::*;

    pub(in super::super) fn about() -> About {
        About {
            date: "2026-01-02T03:04:05Z".to_owned(),
            revision: "0123456789ab".to_owned(),
            against: None,
            machine: Machine {
                kernel: "6.18.1-own".to_owned(),
                cpus: 2,
                cpu: "A CPU @ 2 GHz".to_owned(),
            },
        }
    }

    pub(in super::super) fn kept(results: Results) -> Kept {
        Kept {
            schema: SCHEMA,
            about: about(),
            results,
        }
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<()> {
        let some = results(
            Load::CowStorm,
            Metric::TimeNs,
            &[
                (Tool::Untraced, &[100.0; 6]),
                (Tool::MemtraceJson, &[110.0; 6]),
            ],
        );
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("results.json");
        write(&file, &about(), &some, &goals::judge(&some))?;
        assert_eq!(read(&file)?, kept(some));

        let json: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
        let derived = json["derived"].as_array().context("derived")?;
        let ratio = derived
            .iter()
            .find(|one| one["tool"] == "memtrace-json")
            .context("ratio")?;
        assert_eq!(ratio["figure"], "slowdown");
        assert_eq!(ratio["median"], 1.1);
        assert_eq!(ratio["interval"]["high"], 1.1);
        assert_eq!(json["goals"][0]["verdict"], "met");
        Ok(())
    }

    #[test]
    fn another_file_is_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("other.json");
        assert!(read(&file).is_err());
        fs::write(&file, "{}")?;
        assert!(read(&file).is_err());
        Ok(())
    }
}

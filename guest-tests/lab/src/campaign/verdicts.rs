//! The table as a document: `verdicts.json`. Everything else that a campaign writes is made from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::entry::{Attempt, Ending, Entry, Said};
use super::plan::Plan;
use super::wording::one_line;
use crate::scenario::Scenario;
use crate::statistics::{Share, percentile};

/// The version of the document; counted up when a field changes its meaning or goes away.
pub const FORMAT: u32 = 1;

/// All that a campaign found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// [`FORMAT`].
    pub format: u32,
    /// The lab's version.
    pub lab: String,
    /// When its first run was over, in UTC; empty if there is none.
    pub began: String,
    /// When its last run was over.
    pub ended: String,
    /// The machines, each with the number of its runs.
    pub machines: BTreeMap<String, usize>,
    /// How QEMU ran the guests: `kvm`, `tcg`.
    pub accel: BTreeMap<String, usize>,
    /// QEMU's versions.
    pub qemu: BTreeMap<String, usize>,
    /// The builds of `sdmorph` that were the device, by the first digits of their SHA-256.
    pub devices: BTreeMap<String, usize>,
    /// The table's columns.
    pub kernels: Vec<Column>,
    /// Its rows.
    pub scenarios: Vec<Row>,
    /// Its cells: scenario by scenario, kernel by kernel.
    pub cells: Vec<Cell>,
}

/// A kernel on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// `uname -r`; empty if it never booted.
    pub release: String,
}

/// What kernels are tried by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The scenario's name.
    pub name: String,
    /// What it provokes.
    pub purpose: String,
}

/// A kernel under a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "CellRuns")]
pub struct Cell {
    /// The kernel's name.
    pub kernel: String,
    /// The scenario's name.
    pub scenario: String,
    /// How many runs it is to have.
    pub planned: usize,
    /// The runs together; follows from them.
    #[serde(flatten)]
    pub summary: Summary,
    /// Every run that there is, by number.
    pub runs: Vec<Run>,
}

/// A cell as it is read: what follows from the runs is not believed.
#[derive(Deserialize)]
struct CellRuns {
    kernel: String,
    scenario: String,
    planned: usize,
    runs: Vec<Run>,
}

impl From<CellRuns> for Cell {
    fn from(CellRuns { kernel, scenario, planned, runs }: CellRuns) -> Self {
        Self { kernel, scenario, planned, summary: Summary::of(&runs), runs }
    }
}

/// One run in the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its number, from 1.
    pub run: u32,
    /// What it said. Its release and QEMU are the whole campaign's, and left out; so is what it means and what happened
    /// when, unless all of its evidence is kept.
    #[serde(flatten)]
    pub said: Said,
    /// Tries before it that said nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Attempt>,
    /// Whether all of its evidence is kept.
    #[serde(default)]
    pub whole: bool,
}

/// What the runs of a cell come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Faults among the conclusive runs.
    pub faults: Share,
    /// Runs in which a task waits for ever.
    pub hangs: u32,
    /// Runs that ended with neither.
    pub clean: u32,
    /// Runs that say nothing, with their reasons.
    pub inconclusive: BTreeMap<String, u32>,
    /// Runs that were not made, with the reasons.
    pub failed: BTreeMap<String, u32>,
    /// Tries that said nothing and were made again.
    pub again: BTreeMap<String, u32>,
    /// Half of the removals took at most this, in milliseconds.
    pub removal_median_ms: Option<f64>,
    /// 95 % of the removals took at most this.
    pub removal_p95_ms: Option<f64>,
    /// Idle callbacks that began on a dead device, in all runs; `None` if no run counted them.
    pub idle_callbacks_on_dead_device: Option<u32>,
    /// What lockdep, KASAN and WARN said, and in how many runs.
    pub warnings: BTreeMap<String, u32>,
    /// The first words of the first fault or hang.
    pub headline: Option<String>,
}

/// What a cell says of its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// No conclusive run has a fault or a hang.
    Holds,
    /// Some have.
    Fails,
    /// There is no conclusive run.
    Open,
}

impl Summary {
    fn of(runs: &[Run]) -> Self {
        let count = |ending: Ending| {
            u32::try_from(runs.iter().filter(|run| run.said.outcome == ending).count()).unwrap_or(u32::MAX)
        };
        let conclusive = u32::try_from(runs.iter().filter(|run| run.said.outcome.is_conclusive()).count());
        let reasons = |ending: Ending| {
            let runs = runs.iter().filter(|run| run.said.outcome == ending);
            counted(runs.map(|run| run.said.reason.clone().unwrap_or_default()))
        };
        let mut removals: Vec<f64> = runs.iter().filter_map(|run| run.said.removal_ms).collect();
        removals.sort_by(f64::total_cmp);
        let callbacks: Vec<u32> =
            runs.iter().filter_map(|run| run.said.idle_callbacks_on_dead_device).collect();
        let bad = |run: &&Run| matches!(run.said.outcome, Ending::Fault | Ending::Hang);
        Self {
            faults: Share::of(count(Ending::Fault), conclusive.unwrap_or(u32::MAX)),
            hangs: count(Ending::Hang),
            clean: count(Ending::Clean),
            inconclusive: reasons(Ending::Inconclusive),
            failed: reasons(Ending::Failed),
            again: counted(runs.iter().flat_map(|run| &run.again).map(|attempt| attempt.reason.clone())),
            removal_median_ms: percentile(&removals, 50),
            removal_p95_ms: percentile(&removals, 95),
            idle_callbacks_on_dead_device: (!callbacks.is_empty()).then(|| callbacks.iter().sum()),
            warnings: counted(runs.iter().flat_map(|run| run.said.warnings.clone())),
            headline: runs.iter().filter(bad).find_map(|run| run.said.headline.clone()),
        }
    }

    /// What the cell says of its kernel.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match (self.faults.runs, self.faults.hits + self.hangs) {
            (0, _) => Finding::Open,
            (_, 0) => Finding::Holds,
            _ => Finding::Fails,
        }
    }
}

fn counted(texts: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_insert(0) += 1;
    }
    counts
}

impl Cell {
    /// The run whose evidence shows best what the cell says: the first fault or hang, or else the first run, among those
    /// that are kept whole.
    #[must_use]
    pub fn example(&self) -> Option<&Run> {
        let bad = |run: &&Run| matches!(run.said.outcome, Ending::Fault | Ending::Hang);
        let whole = || self.runs.iter().filter(|run| run.whole);
        whole().find(bad).or_else(|| whole().next())
    }

    /// A run's directory, relative to the campaign's.
    #[must_use]
    pub fn place(&self, run: &Run) -> PathBuf {
        ["cells", &self.kernel, &self.scenario, &run.run.to_string()].iter().collect()
    }

    /// How many of its runs are missing: they are another shard's, or were not reached.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.planned.saturating_sub(self.runs.len())
    }
}

impl Verdicts {
    /// What the entries of a campaign come to.
    #[must_use]
    pub fn of(plan: &Plan, entries: &[Entry]) -> Self {
        let tally = |what: &dyn Fn(&Entry) -> &String| {
            let mut counts = BTreeMap::new();
            for text in entries.iter().map(what).filter(|text| !text.is_empty()) {
                *counts.entry(text.clone()).or_insert(0) += 1;
            }
            counts
        };
        let release = |name: &str| {
            let mut runs = entries.iter().filter(|entry| entry.run.kernel == name);
            runs.find(|entry| !entry.said.release.is_empty()).map(|entry| entry.said.release.clone())
        };
        let kernels = plan.kernels.iter().map(|kernel| Column {
            name: kernel.name.clone(),
            title: kernel.title.clone(),
            release: release(&kernel.name).unwrap_or_default(),
        });
        let scenarios = plan.scenarios.iter().map(|scenario| Row {
            name: scenario.name.clone(),
            purpose: Scenario::load(scenario.name_or_path())
                .map(|found| one_line(&found.purpose))
                .unwrap_or_default(),
        });
        let mut cells = Vec::new();
        for scenario in &plan.scenarios {
            for kernel in &plan.kernels {
                let planned = plan.runs_of(&kernel.name, &scenario.name);
                let of_cell =
                    |entry: &&Entry| entry.run.kernel == kernel.name && entry.run.scenario == scenario.name;
                let mut runs: Vec<Run> = entries.iter().filter(of_cell).map(run).collect();
                runs.sort_by_key(|run| run.run);
                if planned > 0 {
                    let (kernel, scenario) = (kernel.name.clone(), scenario.name.clone());
                    cells.push(Cell { kernel, scenario, planned, summary: Summary::of(&runs), runs });
                }
            }
        }
        Self {
            format: FORMAT,
            lab: plan.lab.clone(),
            began: entries.iter().map(|entry| &entry.ended).min().cloned().unwrap_or_default(),
            ended: entries.iter().map(|entry| &entry.ended).max().cloned().unwrap_or_default(),
            machines: tally(&|entry| &entry.surroundings.machine),
            accel: tally(&|entry| &entry.surroundings.accel),
            qemu: tally(&|entry| &entry.said.qemu),
            devices: tally(&|entry| &entry.surroundings.device),
            kernels: kernels.collect(),
            scenarios: scenarios.collect(),
            cells,
        }
    }

    /// The cell of a kernel and a scenario.
    #[must_use]
    pub fn cell(&self, kernel: &str, scenario: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.kernel == kernel && cell.scenario == scenario)
    }

    /// Runs that there are, and runs that there are to be.
    #[must_use]
    pub fn runs(&self) -> (usize, usize) {
        (
            self.cells.iter().map(|cell| cell.runs.len()).sum(),
            self.cells.iter().map(|cell| cell.planned).sum(),
        )
    }

    /// Whether every run that there is says something.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        self.cells.iter().flat_map(|cell| &cell.runs).all(|run| run.said.outcome.is_conclusive())
    }

    /// Whether every run that was planned is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cells.iter().all(|cell| cell.missing() == 0)
    }

    /// As text: JSON, a run a line, so that two of them can be compared by lines.
    ///
    /// # Errors
    /// If a number is none that JSON has.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut head = serde_json::to_value(self)?;
        let mut cells = Vec::new();
        for cell in &self.cells {
            let mut about = serde_json::to_value(cell)?;
            take(&mut about, "runs");
            let runs = cell.runs.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
            let runs = runs.iter().map(|run| format!("      {run}")).collect::<Vec<_>>().join(",\n");
            cells.push(format!("    {},\n      \"runs\": [\n{runs}\n    ]}}", open(&about.to_string())));
        }
        take(&mut head, "cells");
        let head = serde_json::to_string_pretty(&head)?;
        Ok(format!("{},\n  \"cells\": [\n{}\n  ]\n}}\n", open(&head), cells.join(",\n")))
    }

    /// From such a text.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let verdicts: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if verdicts.format == FORMAT {
            Ok(verdicts)
        } else {
            Err(format!("format {} is not known here: this lab reads {FORMAT}", verdicts.format))
        }
    }
}

fn take(object: &mut serde_json::Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

/// The text of a JSON object that has members, without its end.
fn open(object: &str) -> &str {
    object.strip_suffix('}').unwrap_or(object).trim_end()
}

fn run(entry: &Entry) -> Run {
    let mut said = Said { release: String::new(), qemu: String::new(), ..entry.said.clone() };
    if !entry.whole {
        // One that can be looked at says it for all that end as it did.
        said.means.clear();
        said.course.clear();
    }
    Run { run: entry.run.run, said, again: entry.again.clone(), whole: entry.whole }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::entry::tests::entry;
    use super::super::plan::tests::plan;
    use super::*;

    /// Two kernels under two scenarios, four runs each: faults, a hang, an inconclusive run, a kernel without a build.
    pub(crate) fn verdicts() -> Verdicts {
        let kernels = ["6.1-none", "6.1-diff-2"];
        let plan = plan(&kernels, &["sd7-idle-race", "card-pull"], 4);
        let mut entries = Vec::new();
        for run in &plan.runs {
            let outcome = match (run.kernel.as_str(), run.scenario.as_str(), run.run) {
                ("6.1-none", "sd7-idle-race", 4) => Ending::Inconclusive,
                ("6.1-none", "sd7-idle-race", _) => Ending::Fault,
                ("6.1-none", "card-pull", 2) => Ending::Hang,
                ("6.1-diff-2", "card-pull", _) => Ending::Failed,
                _ => Ending::Clean,
            };
            let mut made = entry(&run.kernel, &run.scenario, run.run, outcome);
            if outcome == Ending::Failed {
                made.said = Said::failed("the patch <v9> does not apply: hunk 1 & 2\nfailed".to_owned());
                made.whole = false;
            }
            if run.run == 3 && outcome == Ending::Clean {
                made.said.warnings =
                    vec!["WARNING: possible circular locking dependency detected".to_owned()];
                made.again = vec![Attempt { reason: "waited 900 s for init".to_owned(), wall_s: 900.0 }];
            }
            entries.push(made);
        }
        Verdicts::of(&plan, &entries)
    }

    #[test]
    fn a_cell_sums_its_runs_up() {
        let verdicts = verdicts();
        let race = &verdicts.cell("6.1-none", "sd7-idle-race").unwrap().summary;
        assert_eq!((race.faults.hits, race.faults.runs), (3, 3));
        assert!((race.faults.low - 0.4385).abs() < 1e-3);
        assert_eq!(race.inconclusive["the rule bar-dies never fired"], 1);
        assert_eq!((race.removal_median_ms, race.finding()), (Some(250.0), Finding::Fails));
        assert_eq!(race.idle_callbacks_on_dead_device, Some(4));
        assert!(race.headline.as_ref().unwrap().starts_with("BUG:"));
        let pull = &verdicts.cell("6.1-none", "card-pull").unwrap().summary;
        assert_eq!((pull.hangs, pull.clean, pull.finding()), (1, 3, Finding::Fails));
        assert_eq!(pull.again["waited 900 s for init"], 1);
        let fixed = &verdicts.cell("6.1-diff-2", "sd7-idle-race").unwrap().summary;
        assert_eq!((fixed.finding(), fixed.warnings.len()), (Finding::Holds, 1));
        let unbuilt = &verdicts.cell("6.1-diff-2", "card-pull").unwrap().summary;
        assert_eq!((unbuilt.finding(), unbuilt.failed.values().sum::<u32>()), (Finding::Open, 4));
        assert!(!verdicts.is_conclusive());
        assert_eq!(verdicts.runs(), (16, 16));
    }

    #[test]
    fn the_document_is_the_same_when_it_is_read_again_and_has_a_run_a_line() {
        let verdicts = verdicts();
        let text = verdicts.to_json().unwrap();
        assert_eq!(Verdicts::from_json(&text).unwrap(), verdicts);
        let runs: Vec<&str> = text.lines().filter(|line| line.contains("\"outcome\":")).collect();
        assert_eq!(runs.len(), 16);
        assert!(runs.iter().all(|line| line.trim_end_matches(',').ends_with('}')), "{runs:?}");
    }

    #[test]
    fn what_follows_from_the_runs_is_not_believed() {
        let text = verdicts().to_json().unwrap();
        let forged = text.replace("\"hangs\":1", "\"hangs\":0");
        assert_ne!(forged, text);
        assert_eq!(Verdicts::from_json(&forged).unwrap(), verdicts());
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        assert!(Verdicts::from_json(&newer).unwrap_err().contains("format 2 is not known"));
    }

    #[test]
    fn a_cell_is_shown_by_its_first_fault_that_is_kept_whole() {
        let verdicts = verdicts();
        let race = verdicts.cell("6.1-none", "sd7-idle-race").unwrap();
        let example = race.example().unwrap();
        assert_eq!(race.place(example), PathBuf::from("cells/6.1-none/sd7-idle-race/1"));
        assert_eq!(verdicts.cell("6.1-diff-2", "card-pull").unwrap().example(), None);
        assert!(race.runs.iter().all(|run| run.said.course.is_empty() != run.whole));
    }
}

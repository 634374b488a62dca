//! A campaign's output directory: a directory for each run, and what is kept in it.
//!
//! ```text
//! OUT/campaign.json                      the plan
//! OUT/cells/KERNEL/SCENARIO/RUN/run.json       written last: with it, the run is there
//!                               result.json, console.log   of every run
//!                               again-1/       the same of a try that was inconclusive and made again
//!                               record.jsonl, status.json, server.log, qemu.log, report.html   of some
//! OUT/verdicts.{json,ktap,xml,md}, OUT/index.html
//! ```
//!
//! A whole run takes 2 to 3 MB, one without its record 40 KB. A cell keeps its first run whole, and the first
//! [`WHOLE_OF_OTHERS`] of every other ending: of those that all end alike, one record says as much as twenty.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::entry::{Ending, Entry, MadeOf};
use super::plan::{Plan, PlannedRun};
use crate::failure::Failure;
use crate::session::write_json;

/// How many runs of a cell are kept whole, of each ending that is not its first run's.
pub(crate) const WHOLE_OF_OTHERS: usize = 3;
/// What has to be free on the disk before a run begins, in bytes: its record may be longer than others.
pub(crate) const FREE_BYTES: u64 = 64 << 20;

const CAMPAIGN: &str = "campaign.json";
const RUN: &str = "run.json";
/// What every run keeps.
const ALWAYS: [&str; 3] = [RUN, "result.json", "console.log"];

/// The output directory of a campaign.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A run's directory, relative to the campaign's.
    pub(crate) fn place(run: &PlannedRun) -> PathBuf {
        ["cells", &run.kernel, &run.scenario, &run.run.to_string()].iter().collect()
    }

    pub(crate) fn directory(&self, run: &PlannedRun) -> PathBuf {
        self.root.join(Self::place(run))
    }

    /// The plan that is there.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        let path = self.path(CAMPAIGN);
        let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
        Ok(Plan::parse(&path.display().to_string(), &text)?)
    }

    pub(crate) fn write_plan(&self, plan: &Plan) -> Result<(), Failure> {
        write_json(&self.path(CAMPAIGN), plan)
    }

    /// What is there of a run; `None` if it has not come to its end.
    pub(crate) fn entry(&self, run: &PlannedRun) -> Result<Option<Entry>, Failure> {
        let path = self.directory(run).join(RUN);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file("read", &path)(error)),
        };
        let entry: Entry = serde_json::from_str(&text).map_err(|error| {
            Failure::file("read", &path)(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        if entry.run == *run {
            Ok(Some(entry))
        } else {
            let moved = format!("it is of {}, and lies where {run} should", entry.run);
            Err(Failure::file("use", &path)(io::Error::new(io::ErrorKind::InvalidData, moved)))
        }
    }

    /// What is there of a campaign's runs, in the plan's order. What is damaged, of something else than the plan's
    /// kernel or scenario, or made by another `sdmorph` than `device` (any, if `None`), counts as not there. `warn` is
    /// told of it, once for all runs that differ in the same.
    pub(crate) fn entries(
        &self,
        plan: &Plan,
        device: Option<&str>,
        mut warn: impl FnMut(&str),
    ) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut others: Vec<(String, &PlannedRun, usize)> = Vec::new();
        for run in &plan.runs {
            let entry = match self.entry(run) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(failure) => {
                    warn(&failure.to_string());
                    continue;
                }
            };
            let difference = entry.made_of.difference(&made_of(plan, run));
            match difference.or_else(|| other_device(&entry, device?)) {
                None => found.push(entry),
                Some(difference) => match others.iter_mut().find(|(known, ..)| *known == difference) {
                    Some((_, _, count)) => *count += 1,
                    None => others.push((difference, run, 1)),
                },
            }
        }
        for (difference, first, count) in others {
            let root = self.root.display();
            warn(&match count {
                1 => format!("{first} in {root} was {difference}: it does not count"),
                _ => format!("{first} and {} more in {root} were {difference}: they do not count", count - 1),
            });
        }
        found
    }

    /// An empty directory for a run: what was there of it was of before.
    pub(crate) fn clear(&self, run: &PlannedRun) -> Result<PathBuf, Failure> {
        let path = self.directory(run);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::file("remove", &path)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&path).map_err(Failure::file("create", &path))?;
        Ok(path)
    }

    /// Puts a try aside that is made again: its console and its result stay.
    pub(crate) fn set_aside(&self, run: &PlannedRun, number: usize) -> Result<(), Failure> {
        let path = self.directory(run);
        let aside = path.join(format!("again-{number}"));
        fs::create_dir_all(&aside).map_err(Failure::file("create", &aside))?;
        for name in ALWAYS {
            let from = path.join(name);
            if from.exists() {
                fs::rename(&from, aside.join(name)).map_err(Failure::file("move", &from))?;
            }
        }
        strip(&path)
    }

    /// Removes what only a whole run has.
    pub(crate) fn strip(&self, run: &PlannedRun) -> Result<(), Failure> {
        strip(&self.directory(run))
    }

    /// The run has come to its end.
    pub(crate) fn finish(&self, entry: &Entry) -> Result<(), Failure> {
        let directory = self.directory(&entry.run);
        fs::create_dir_all(&directory).map_err(Failure::file("create", &directory))?;
        let new = directory.join("run.json.new");
        write_json(&new, entry)?;
        let path = directory.join(RUN);
        fs::rename(&new, &path).map_err(Failure::file("write", &path))
    }

    /// Bytes that are free for it.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

fn strip(directory: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(directory).map_err(Failure::file("read", directory))?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if path.is_file() && !ALWAYS.iter().any(|kept| name == *kept) {
            fs::remove_file(&path).map_err(Failure::file("remove", &path))?;
        }
    }
    Ok(())
}

/// In what a run that was made by another `sdmorph` differs. One that was not made has none.
fn other_device(entry: &Entry, device: &str) -> Option<String> {
    let by = &entry.surroundings.device;
    let is_other = entry.said.outcome != Ending::Failed && by != device;
    is_other.then(|| format!("made by another build of sdmorph ({by}, and this is {device})"))
}

/// What a run of this campaign is made of.
pub(crate) fn made_of(plan: &Plan, run: &PlannedRun) -> MadeOf {
    MadeOf {
        lab: plan.lab.clone(),
        kernel: plan.kernel(&run.kernel).map(|kernel| kernel.content.clone()).unwrap_or_default(),
        scenario: plan.scenario(&run.scenario).map(|scenario| scenario.content.clone()).unwrap_or_default(),
        deadline_s: plan.deadline_s,
    }
}

/// The result that a run left, for `run.json`.
pub(crate) fn read_result(directory: &Path) -> Result<Value, Failure> {
    let path = directory.join("result.json");
    let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::file("read", &path)(io::Error::new(io::ErrorKind::InvalidData, error)))
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::super::plan::tests::plan;
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_is_there_when_its_last_file_is() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        let done = entry("6.1", "a", 1, Ending::Clean);
        let directory = folder.clear(&done.run).unwrap();
        fs::write(directory.join("result.json"), "{}").unwrap();
        assert_eq!(folder.entry(&done.run).unwrap(), None);
        folder.finish(&done).unwrap();
        assert_eq!(folder.entry(&done.run).unwrap(), Some(done.clone()));
        assert_eq!(folder.entries(&plan(&["6.1"], &["a"], 2), None, |warning| panic!("{warning}")), [done]);
    }

    #[test]
    fn a_run_of_another_scenario_does_not_count_and_that_is_said() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        folder.finish(&entry("6.1", "a", 1, Ending::Clean)).unwrap();
        let mut changed = plan(&["6.1"], &["a"], 1);
        changed.scenarios[0].content = "another text".to_owned();
        let mut said = Vec::new();
        assert!(folder.entries(&changed, None, |warning| said.push(warning.to_owned())).is_empty());
        assert!(said[0].contains("6.1 a, run 1") && said[0].contains("does not count"), "{said:?}");
    }

    #[test]
    fn runs_of_another_build_of_sdmorph_do_not_count_and_that_is_said_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        let one = plan(&["6.1", "6.12"], &["a"], 2);
        for (run, device) in one.runs.iter().zip(["old", "new", "old", ""]) {
            let outcome = if device.is_empty() { Ending::Failed } else { Ending::Clean };
            let mut made = entry(&run.kernel, "a", run.run, outcome);
            made.surroundings.device = device.to_owned();
            folder.finish(&made).unwrap();
        }
        let mut said = Vec::new();
        let found = folder.entries(&one, Some("new"), |warning| said.push(warning.to_owned()));
        let runs: Vec<&PlannedRun> = found.iter().map(|entry| &entry.run).collect();
        assert_eq!(runs, [&one.runs[1], &one.runs[3]]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("6.1 a, run 1 and 1 more in "), "{said:?}");
        assert!(said[0].contains("another build of sdmorph (old, and this is new)"), "{said:?}");
        assert_eq!(folder.entries(&one, None, |warning| panic!("{warning}")).len(), 4);
    }

    #[test]
    fn a_damaged_run_is_said_with_its_file_and_counts_as_not_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        let done = entry("6.1", "a", 1, Ending::Clean);
        folder.finish(&done).unwrap();
        let path = folder.directory(&done.run).join(RUN);
        fs::write(&path, "{\"kernel\": ").unwrap();
        let mut said = Vec::new();
        let found = folder.entries(&plan(&["6.1"], &["a"], 1), None, |warning| said.push(warning.to_owned()));
        assert!(found.is_empty());
        assert!(said[0].contains(path.to_str().unwrap()) && said[0].contains("line 1"), "{said:?}");
        // One that was copied to another run's place.
        fs::write(&path, serde_json::to_string(&entry("6.1", "a", 2, Ending::Clean)).unwrap()).unwrap();
        assert!(folder.entry(&done.run).unwrap_err().to_string().contains("lies where"));
    }

    #[test]
    fn what_only_a_whole_run_has_goes_and_tries_of_before_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        let run = entry("6.1", "a", 1, Ending::Clean).run;
        let directory = folder.clear(&run).unwrap();
        let write = || {
            for name in ["result.json", "console.log", "record.jsonl", "status.json", "card.img"] {
                fs::write(directory.join(name), "x").unwrap();
            }
        };
        write();
        folder.set_aside(&run, 1).unwrap();
        assert_eq!(names(&directory), ["again-1"]);
        write();
        folder.strip(&run).unwrap();
        assert_eq!(names(&directory), ["again-1", "console.log", "result.json"]);
        assert_eq!(names(&directory.join("again-1")), ["console.log", "result.json"]);
        // Made once more: nothing of before is left.
        assert!(names(&folder.clear(&run).unwrap()).is_empty());
    }

    #[test]
    fn a_place_has_kernel_scenario_and_number() {
        let run = entry("6.1-v3", "idle-between", 12, Ending::Clean).run;
        assert_eq!(Folder::place(&run), Path::new("cells/6.1-v3/idle-between/12"));
        let root = tempfile::tempdir().unwrap();
        assert!(Folder::at(root.path()).free_bytes().unwrap() > 0);
    }
}

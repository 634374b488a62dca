//! Joining the shards of a campaign: what each has made goes into one directory, if nothing contradicts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::entry::{Ending, Entry};
use super::folder::Folder;
use super::plan::Plan;
use super::verdicts::Verdicts;
use super::{Outputs, write_outputs};
use crate::failure::Failure;
use crate::run::claim_output;

/// Joins the directories of shards in `out`, which may have runs of the campaign already, and writes everything that a
/// campaign writes. `warn` is told of runs that are damaged: they count as not there.
///
/// # Errors
/// The directories are of different campaigns; a run is in two of them and differs; runs of one kernel were made with
/// different builds of it, or with different builds of sdmorph. Nothing is copied then. Or a file cannot be read or written.
pub fn merge(shards: &[PathBuf], out: &Path, mut warn: impl FnMut(&str)) -> Result<Verdicts, Failure> {
    let _output = claim_output(out)?;
    let folder = Folder::at(out);
    let mut sources: Vec<(PathBuf, Folder)> = Vec::new();
    if out.join("campaign.json").is_file() {
        sources.push((out.to_owned(), folder.clone()));
    }
    sources.extend(shards.iter().map(|path| (path.clone(), Folder::at(path))));
    let plan = same_plan(&sources)?;
    let mut found: BTreeMap<_, (Entry, usize)> = BTreeMap::new();
    for (index, (path, source)) in sources.iter().enumerate() {
        for entry in source.entries(&plan, None, &mut warn) {
            if let Some((known, first)) = found.get(&entry.run) {
                let other = sources.get(*first).map_or(out, |(path, _)| path);
                if !is_better(known, &entry, other, path)? {
                    continue;
                }
            }
            found.insert(entry.run.clone(), (entry, index));
        }
    }
    check_builds(
        found.values().map(|(entry, index)| (entry, sources.get(*index).map_or(out, |(path, _)| path))),
    )?;
    folder.write_plan(&plan)?;
    for (run, (_, index)) in &found {
        let Some((path, source)) = sources.get(*index) else { continue };
        if path != out {
            let target = folder.clear(run)?;
            copy(&source.directory(run), &target)?;
        }
    }
    let verdicts = Verdicts::of(&plan, &folder.entries(&plan, None, &mut warn));
    write_outputs(&Outputs::of(&verdicts)?, out)?;
    Ok(verdicts)
}

fn same_plan(sources: &[(PathBuf, Folder)]) -> Result<Plan, Failure> {
    let mut first: Option<(Plan, &Path)> = None;
    for (path, source) in sources {
        let plan = source.plan()?;
        match &first {
            None => first = Some((plan, path)),
            Some((known, other)) => {
                if let Some(difference) = known.difference(&plan) {
                    let (path, other) = (path.display(), other.display());
                    return Err(Failure::Contradiction(format!(
                        "{path} is of another campaign than {other}: {difference}"
                    )));
                }
            }
        }
    }
    let nothing = || Failure::Options("there is nothing to join".to_owned());
    first.map(|(plan, _)| plan).ok_or_else(nothing)
}

/// Whether the second of two entries of one run replaces the first: if the first was not made. Both made and not the same
/// is a contradiction.
fn is_better(known: &Entry, new: &Entry, known_in: &Path, new_in: &Path) -> Result<bool, Failure> {
    match (known.said.outcome, new.said.outcome) {
        (Ending::Failed, Ending::Failed) | (_, Ending::Failed) => Ok(false),
        (Ending::Failed, _) => Ok(true),
        _ if known == new => Ok(false),
        (before, now) => Err(Failure::Contradiction(format!(
            "{} is in {} and in {}, and is not the same: {} at {}, and {} at {}. Leave one of them out",
            known.run,
            known_in.display(),
            new_in.display(),
            before.as_str(),
            known.ended,
            now.as_str(),
            new.ended
        ))),
    }
}

/// One name, one kernel; and one device for all.
fn check_builds<'a>(entries: impl Iterator<Item = (&'a Entry, &'a Path)>) -> Result<(), Failure> {
    let mut kernels: BTreeMap<&str, (&str, &Path)> = BTreeMap::new();
    let mut device: Option<(&str, &Path)> = None;
    for (entry, path) in entries.filter(|(entry, _)| entry.said.outcome != Ending::Failed) {
        let build = entry.surroundings.kernel_build.as_str();
        let (known, first) = *kernels.entry(&entry.run.kernel).or_insert((build, path));
        let short = |build: &str| build.chars().take(12).collect::<String>();
        if known != build {
            return Err(Failure::Contradiction(format!(
                "the kernel {} is not the same in {} and in {} (builds {} and {}): its runs cannot be put into one column",
                entry.run.kernel,
                first.display(),
                path.display(),
                short(known),
                short(build)
            )));
        }
        let build = entry.surroundings.device.as_str();
        let (known, first) = *device.get_or_insert((build, path));
        if known != build {
            return Err(Failure::Contradiction(format!(
                "the runs in {} and in {} were made by two builds of sdmorph ({} and {}): they cannot be put into one table",
                first.display(),
                path.display(),
                short(known),
                short(build)
            )));
        }
    }
    Ok(())
}

/// A run's directory, with all that is in it. Its last file comes last, so that a copy that is cut off is no run.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(Failure::file("create", to))?;
    let entries = fs::read_dir(from).map_err(Failure::file("read", from))?;
    let mut entries: Vec<fs::DirEntry> = entries.flatten().collect();
    entries.sort_by_key(|entry| entry.file_name() == "run.json");
    for entry in entries {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(Failure::file("copy", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::entry::Said;
    use super::super::entry::tests::entry;
    use super::super::plan::Shard;
    use super::super::plan::tests::plan;
    use super::*;

    /// The directories of so many shards, and one to join them in.
    fn shards(plan: &Plan, count: usize, outcome: Ending) -> (tempfile::TempDir, Vec<PathBuf>, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for index in 1..=count {
            let shard: Shard = format!("{index}/{count}").parse().unwrap();
            let path = root.path().join(format!("shard-{index}"));
            fs::create_dir(&path).unwrap();
            let folder = Folder::at(&path);
            folder.write_plan(plan).unwrap();
            for (_, run) in plan.runs.iter().enumerate().filter(|(place, _)| shard.has(*place)) {
                let directory = folder.clear(run).unwrap();
                fs::write(directory.join("console.log"), format!("log of {run}")).unwrap();
                folder.finish(&entry(&run.kernel, &run.scenario, run.run, outcome)).unwrap();
            }
            paths.push(path);
        }
        let out = root.path().join("out");
        (root, paths, out)
    }

    fn contradiction(shards: &[PathBuf], out: &Path) -> String {
        let failure = merge(shards, out, |warning| panic!("{warning}")).unwrap_err();
        assert!(matches!(failure, Failure::Contradiction(_)), "{failure}");
        assert!(!out.join("campaign.json").exists() && !out.join("cells").exists(), "something was copied");
        failure.to_string()
    }

    #[test]
    fn shards_joined_are_the_whole_campaign() {
        let plan = plan(&["6.1", "6.12"], &["sd7-idle-race"], 4);
        let (_root, paths, out) = shards(&plan, 3, Ending::Clean);
        let verdicts = merge(&paths, &out, |warning| panic!("{warning}")).unwrap();
        assert_eq!(verdicts.runs(), (8, 8));
        for run in &plan.runs {
            let log = Folder::at(&out).directory(run).join("console.log");
            assert_eq!(fs::read_to_string(log).unwrap(), format!("log of {run}"));
        }
        for name in
            ["verdicts.json", "verdicts.ktap", "verdicts.xml", "verdicts.md", "index.html", "campaign.json"]
        {
            assert!(out.join(name).is_file(), "{name}");
        }
        // The shards one after the other come to the same.
        let later = out.with_file_name("later");
        for path in &paths {
            merge(std::slice::from_ref(path), &later, |warning| panic!("{warning}")).unwrap();
        }
        let read = |out: &Path| fs::read_to_string(out.join("verdicts.json")).unwrap();
        assert_eq!(read(&later), read(&out));
    }

    #[test]
    fn a_shard_that_is_missing_leaves_its_runs_out() {
        let plan = plan(&["6.1"], &["sd7-idle-race"], 4);
        let (_root, paths, out) = shards(&plan, 2, Ending::Fault);
        let verdicts = merge(&paths[..1], &out, |warning| panic!("{warning}")).unwrap();
        assert_eq!(verdicts.runs(), (2, 4));
        assert_eq!(verdicts.cells[0].missing(), 2);
    }

    #[test]
    fn a_run_that_is_there_twice_and_differs_is_refused_with_both_places() {
        let plan = plan(&["6.1"], &["sd7-idle-race"], 2);
        let (_root, paths, out) = shards(&plan, 2, Ending::Clean);
        // The same run in both, and the same: no matter.
        let again = entry("6.1", "sd7-idle-race", 1, Ending::Clean);
        Folder::at(&paths[1]).finish(&again).unwrap();
        merge(&paths, &out.with_file_name("fine"), |warning| panic!("{warning}")).unwrap();
        Folder::at(&paths[1]).finish(&entry("6.1", "sd7-idle-race", 1, Ending::Fault)).unwrap();
        let message = contradiction(&paths, &out);
        assert!(message.contains("6.1 sd7-idle-race, run 1 is in"), "{message}");
        assert!(message.contains("shard-1") && message.contains("shard-2"), "{message}");
        assert!(message.contains("clean at") && message.contains("fault at"), "{message}");
    }

    #[test]
    fn a_run_that_failed_in_one_shard_is_taken_from_the_other() {
        let plan = plan(&["6.1"], &["sd7-idle-race"], 2);
        let (_root, paths, out) = shards(&plan, 2, Ending::Clean);
        Folder::at(&paths[1]).finish(&entry("6.1", "sd7-idle-race", 1, Ending::Failed)).unwrap();
        for (name, order) in [("one", [0, 1]), ("other", [1, 0])] {
            let order = order.map(|index: usize| paths[index].clone());
            let verdicts = merge(&order, &out.with_file_name(name), |warning| panic!("{warning}")).unwrap();
            assert!(verdicts.is_conclusive(), "{name}");
        }
    }

    #[test]
    fn another_campaign_and_another_build_are_refused() {
        let ours = plan(&["6.1"], &["sd7-idle-race"], 2);
        let (_root, paths, out) = shards(&ours, 2, Ending::Clean);
        let mut theirs = ours.clone();
        theirs.scenarios[0].content = "another text".to_owned();
        Folder::at(&paths[1]).write_plan(&theirs).unwrap();
        let message = contradiction(&paths, &out);
        assert!(message.contains("its scenario sd7-idle-race is another one"), "{message}");
        Folder::at(&paths[1]).write_plan(&ours).unwrap();
        let mut rebuilt = entry("6.1", "sd7-idle-race", 2, Ending::Clean);
        rebuilt.surroundings.kernel_build = "another".to_owned();
        Folder::at(&paths[1]).finish(&rebuilt).unwrap();
        let message = contradiction(&paths, &out);
        assert!(message.contains("the kernel 6.1 is not the same in"), "{message}");
        let mut judged = entry("6.1", "sd7-idle-race", 2, Ending::Clean);
        judged.surroundings.device = "ba9876543210".to_owned();
        Folder::at(&paths[1]).finish(&judged).unwrap();
        let message = contradiction(&paths, &out);
        assert!(message.contains("two builds of sdmorph (0123456789ab and ba9876543210)"), "{message}");
        // One that was not made there says nothing of it.
        judged.said = Said::failed("no kernel".to_owned());
        Folder::at(&paths[1]).finish(&judged).unwrap();
        merge(&paths, &out, |warning| panic!("{warning}")).unwrap();
    }

    #[test]
    fn a_damaged_run_is_said_and_left_out() {
        let plan = plan(&["6.1"], &["sd7-idle-race"], 2);
        let (_root, paths, out) = shards(&plan, 2, Ending::Clean);
        let run = Folder::at(&paths[0]).directory(&plan.runs[0]).join("run.json");
        fs::write(&run, "{").unwrap();
        let mut warnings = Vec::new();
        let verdicts = merge(&paths, &out, |warning| warnings.push(warning.to_owned())).unwrap();
        assert_eq!(verdicts.runs(), (1, 2));
        assert!(warnings[0].contains(run.to_str().unwrap()), "{warnings:?}");
    }

    #[test]
    fn a_directory_without_a_campaign_is_named() {
        let root = tempfile::tempdir().unwrap();
        let message =
            merge(&[root.path().join("x")], &root.path().join("out"), |_| ()).unwrap_err().to_string();
        assert!(message.contains("x/campaign.json"), "{message}");
    }
}

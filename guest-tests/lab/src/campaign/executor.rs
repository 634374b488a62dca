//! Runs made several at once, each with its own VM: what is there already is kept, what says nothing is made again, what
//! cannot be made is written down, and the rest goes on.
//!
//! A verdict must not depend on how many VMs there are at once. What a host can do that has no time for its guests is to
//! make a run inconclusive: a deadline, a moment that came too late. So a run that is inconclusive is made again alone,
//! at most [`TRIES`] times in all; each try is listed. If alone it says the same, that is what it says, and the other runs
//! of its cell that say so are not made again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;

use super::entry::{Attempt, Ending, Entry, Said, Surroundings};
use super::estimate::{Estimate, minutes};
use super::folder::{FREE_BYTES, Folder, WHOLE_OF_OTHERS, made_of};
use super::machine;
use super::plan::{Plan, PlannedRun};
use crate::assets::Progress;
use crate::failure::Failure;
use crate::interrupt;

/// How often a run is made until it is conclusive.
pub(crate) const TRIES: usize = 3;

/// Who makes the runs: guests, or in tests something faster.
pub(crate) trait Runner: Sync {
    /// Gets what the run's cell needs, once for all of its runs. The error says why it is not to be had.
    fn prepare(&self, run: &PlannedRun) -> Result<Surroundings, String>;

    /// Whether only preparing a kernel tells if it is the same as before: the user's tree.
    fn may_have_changed(&self, kernel: &str) -> bool;

    /// Makes a run of a cell that is prepared. Its evidence and its `result.json`, which is returned, are then in the
    /// directory.
    fn run(&self, run: &PlannedRun, directory: &Path) -> Result<Value, Failure>;

    /// A run is kept whole: somebody may want to see it.
    fn show(&self, directory: &Path);
}

/// A campaign under way.
pub(crate) struct Executor<'a, R> {
    pub(crate) plan: &'a Plan,
    pub(crate) folder: &'a Folder,
    pub(crate) runner: &'a R,
    pub(crate) jobs: usize,
    pub(crate) progress: Progress,
    /// How many bytes are free for the output.
    pub(crate) free_bytes: &'a (dyn Fn() -> io::Result<u64> + Sync),
}

/// What changes while it is under way.
struct State {
    queue: VecDeque<PlannedRun>,
    /// Those of before that are kept, until their kernel turns out to be another one.
    kept: Vec<Entry>,
    done: Vec<Entry>,
    /// In how many of its runs of each ending a cell is kept whole, and how its first run ended.
    whole: BTreeMap<(String, String), (Ending, BTreeMap<Ending, usize>)>,
    /// Reasons that a run gave which was alone, by cell.
    confirmed: BTreeSet<(String, String, String)>,
    estimate: Estimate,
    /// All of them, whenever they are made.
    total: usize,
}

impl<R: Runner> Executor<'_, R> {
    /// Makes the runs; `kept` are those that are there. Returns all of them, in the plan's order, and whether it was
    /// interrupted.
    pub(crate) fn execute(&self, runs: Vec<PlannedRun>, kept: Vec<Entry>) -> (Vec<Entry>, bool) {
        let mut state = State {
            total: runs.len() + kept.len(),
            queue: runs.into(),
            kept: Vec::new(),
            done: Vec::new(),
            whole: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            estimate: Estimate::default(),
        };
        for entry in &kept {
            state.note_whole(entry);
            state.estimate.made(&entry.run, entry.said.wall_s);
        }
        let mut doubtful: BTreeMap<String, PlannedRun> =
            kept.iter().map(|entry| (entry.run.kernel.clone(), entry.run.clone())).collect();
        // Of two builds one is left over from a start that was interrupted before its runs were made again.
        let has_two_builds = |kernel: &str| {
            let mut builds = kept.iter().filter(|entry| entry.run.kernel == kernel);
            let first = builds.next().map(|entry| &entry.surroundings.kernel_build);
            builds.any(|entry| Some(&entry.surroundings.kernel_build) != first)
        };
        doubtful.retain(|kernel, _| self.runner.may_have_changed(kernel) || has_two_builds(kernel));
        state.kept = kept;
        let state = Mutex::new(state);
        for run in doubtful.values() {
            // One that cannot be had any more changes nothing about what there is.
            if let Ok(surroundings) = self.runner.prepare(run) {
                self.compare_kept(run, &surroundings, &state);
            }
        }
        // Many at a time read, one that has to be alone writes.
        let alone = RwLock::new(());
        let stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| self.work(&state, &alone, &stopped));
            }
        });
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut entries = state.kept;
        entries.extend(state.done);
        let place = |entry: &Entry| self.plan.runs.iter().position(|run| *run == entry.run);
        entries.sort_by_key(place);
        (entries, stopped.into_inner())
    }

    fn work(&self, state: &Mutex<State>, alone: &RwLock<()>, stopped: &AtomicBool) {
        loop {
            if interrupt::interrupted() {
                stopped.store(true, Ordering::Relaxed);
            }
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let Some(run) = lock(state).queue.pop_front() else { return };
            match self.make(&run, state, alone) {
                Ok(entry) => self.finish(entry, state),
                Err(Interrupted) => {
                    // What it left is not a run.
                    let _ = self.folder.clear(&run);
                    stopped.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// One run, as often as it takes. Whatever goes wrong is what is said of it.
    fn make(&self, run: &PlannedRun, state: &Mutex<State>, alone: &RwLock<()>) -> Result<Entry, Interrupted> {
        let mut entry = Entry {
            run: run.clone(),
            made_of: made_of(self.plan, run),
            surroundings: Surroundings::default(),
            ended: machine::now(),
            said: Said::failed(String::new()),
            again: Vec::new(),
            whole: false,
        };
        let prepared = {
            // A kernel that is built takes the processors from whoever has to be alone.
            let _one_of_many = alone.read().unwrap_or_else(PoisonError::into_inner);
            self.runner.prepare(run)
        };
        match prepared {
            Ok(surroundings) => entry.surroundings = surroundings,
            // What was being fetched or built was interrupted as well.
            Err(_) if interrupt::interrupted() => return Err(Interrupted),
            Err(reason) => {
                entry.said = Said::failed(reason);
                return Ok(entry);
            }
        }
        self.compare_kept(run, &entry.surroundings, state);
        for attempt in 1..=TRIES {
            let said = {
                let (_one_of_many, _alone) = if attempt == 1 {
                    (Some(alone.read().unwrap_or_else(PoisonError::into_inner)), None)
                } else {
                    (None, Some(alone.write().unwrap_or_else(PoisonError::into_inner)))
                };
                self.attempt(run, attempt)
            };
            entry.said = match said {
                Ok(said) => said,
                Err(Failure::Interrupted) => return Err(Interrupted),
                Err(failure) => {
                    let full = is_disk_full(&failure);
                    entry.said = Said::failed(failure.to_string());
                    if full {
                        // Others may need the place, and half a run is worth nothing.
                        let _ = self.folder.clear(run);
                        break;
                    }
                    entry.said.clone()
                }
            };
            if entry.said.outcome.is_conclusive() || attempt == TRIES {
                break;
            }
            let reason = entry.said.reason.clone().unwrap_or_default();
            let key = (run.kernel.clone(), run.scenario.clone(), without_numbers(&reason));
            let same_as_before =
                entry.again.last().is_some_and(|before| without_numbers(&before.reason) == key.2);
            // Alone in the first place, if there is one job: the host may still have had other things to do.
            if attempt > 1 && same_as_before {
                lock(state).confirmed.insert(key);
                break;
            }
            if lock(state).confirmed.contains(&key) || interrupt::interrupted() {
                break;
            }
            if self.folder.set_aside(run, attempt).is_err() {
                break;
            }
            self.progress.say(&format!("{run}: {}; again, alone", first_line(&reason)));
            entry.again.push(Attempt { reason, wall_s: entry.said.wall_s });
        }
        entry.ended = machine::now();
        Ok(entry)
    }

    fn attempt(&self, run: &PlannedRun, attempt: usize) -> Result<Said, Failure> {
        let root = self.folder.path("");
        let free = (self.free_bytes)().map_err(Failure::file("look at the disk of", &root))?;
        if free < FREE_BYTES {
            let why = format!("{} MiB are free, and a run may need {}", free >> 20, FREE_BYTES >> 20);
            let full = io::Error::new(io::ErrorKind::StorageFull, why);
            return Err(Failure::file("write into", &root)(full));
        }
        let directory = if attempt == 1 { self.folder.clear(run)? } else { self.folder.directory(run) };
        let result = self.runner.run(run, &directory)?;
        Said::of(&result).map_err(|error| Failure::file("use", &directory.join("result.json"))(error.into()))
    }

    /// Runs of before that were made with another build of this kernel are made again: one name, one kernel.
    fn compare_kept(&self, run: &PlannedRun, surroundings: &Surroundings, state: &Mutex<State>) {
        let mut state = lock(state);
        let is_other = |entry: &Entry| {
            entry.run.kernel == run.kernel && entry.surroundings.kernel_build != surroundings.kernel_build
        };
        let (others, kept): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut state.kept).into_iter().partition(is_other);
        state.kept = kept;
        if !others.is_empty() {
            let message = format!(
                "the kernel {} is not the one that {} runs of before were made with: they are made again",
                run.kernel,
                others.len()
            );
            self.progress.say(&message);
            state.queue.extend(others.into_iter().map(|entry| entry.run));
        }
    }

    /// Decides what is kept of a run, writes it down, and says how far the campaign is.
    fn finish(&self, mut entry: Entry, state: &Mutex<State>) {
        let directory = self.folder.directory(&entry.run);
        entry.whole = entry.said.outcome != Ending::Failed && lock(state).is_wanted_whole(&entry);
        let kept = if entry.whole {
            self.runner.show(&directory);
            Ok(())
        } else if directory.is_dir() {
            self.folder.strip(&entry.run)
        } else {
            Ok(())
        };
        if let Err(failure) = kept.and_then(|()| self.folder.finish(&entry)) {
            // What is not on the disk is not kept; the table of this campaign still has it.
            self.progress.say(&format!("{}: {failure}", entry.run));
            if entry.said.outcome.is_conclusive() {
                entry.said = Said::failed(failure.to_string());
            }
        }
        let mut state = lock(state);
        state.note_whole(&entry);
        if entry.said.outcome != Ending::Failed {
            let tries: f64 = entry.again.iter().map(|attempt| attempt.wall_s).sum();
            state.estimate.made(&entry.run, entry.said.wall_s + tries);
        }
        let line = outcome_line(&entry);
        state.done.push(entry);
        let (done, total) = (state.done.len() + state.kept.len(), state.total);
        let time = state.estimate.left(&state.queue, self.jobs);
        let time = time.map(|left| format!("; about {} left", minutes(left))).unwrap_or_default();
        drop(state);
        self.progress.say(&format!("{done} of {total}: {line}{time}"));
    }
}

/// The user wants it to end.
struct Interrupted;

impl State {
    fn cell(entry: &Entry) -> (String, String) {
        (entry.run.kernel.clone(), entry.run.scenario.clone())
    }

    /// Of the ending of a cell's first run, that one; of the others, some.
    fn is_wanted_whole(&self, entry: &Entry) -> bool {
        match self.whole.get(&Self::cell(entry)) {
            None => true,
            Some((first, whole)) => {
                let limit = if entry.said.outcome == *first { 1 } else { WHOLE_OF_OTHERS };
                whole.get(&entry.said.outcome).copied().unwrap_or(0) < limit
            }
        }
    }

    fn note_whole(&mut self, entry: &Entry) {
        if entry.whole {
            let first = (entry.said.outcome, BTreeMap::new());
            let (_, whole) = self.whole.entry(Self::cell(entry)).or_insert(first);
            *whole.entry(entry.said.outcome).or_default() += 1;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing is left half done in it by a thread that ended.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_disk_full(failure: &Failure) -> bool {
    matches!(failure, Failure::File { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}

/// A reason without its numbers: times and addresses differ from run to run.
fn without_numbers(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len());
    for character in reason.chars() {
        if !character.is_ascii_digit() {
            text.push(character);
        } else if !text.ends_with('#') {
            text.push('#');
        }
    }
    text
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn outcome_line(entry: &Entry) -> String {
    let Said { outcome, reason, wall_s, .. } = &entry.said;
    match reason {
        Some(reason) => format!("{}: {}: {}", entry.run, outcome.as_str(), first_line(reason)),
        None => format!("{}: {} in {wall_s:.1} s", entry.run, outcome.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicUsize;

    use super::super::plan::tests::plan;
    use super::*;

    /// Says of each run what a function says of its number of tries, and counts.
    struct Script<F> {
        say: F,
        refuse: Option<&'static str>,
        changed: Option<&'static str>,
        build: &'static str,
        made: Mutex<Vec<PlannedRun>>,
        at_once: AtomicUsize,
        most: AtomicUsize,
        shown: AtomicUsize,
    }

    impl<F> Script<F> {
        fn new(say: F) -> Self {
            Self {
                say,
                refuse: None,
                changed: None,
                build: "one",
                made: Mutex::default(),
                at_once: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
                shown: AtomicUsize::new(0),
            }
        }

        fn made(&self) -> usize {
            self.made.lock().unwrap().len()
        }
    }

    impl<F: Fn(&PlannedRun, usize) -> Result<Value, Failure> + Sync> Runner for Script<F> {
        fn prepare(&self, run: &PlannedRun) -> Result<Surroundings, String> {
            match self.refuse {
                Some(kernel) if run.kernel == kernel => {
                    Err(format!("{kernel}: patch v9.patch does not apply"))
                }
                _ => Ok(Surroundings { kernel_build: self.build.to_owned(), ..Surroundings::default() }),
            }
        }

        fn may_have_changed(&self, kernel: &str) -> bool {
            self.changed == Some(kernel)
        }

        fn run(&self, run: &PlannedRun, directory: &Path) -> Result<Value, Failure> {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let attempt = {
                let mut made = self.made.lock().unwrap();
                made.push(run.clone());
                made.iter().filter(|other| *other == run).count()
            };
            for name in ["result.json", "console.log", "record.jsonl"] {
                fs::write(directory.join(name), format!("{attempt}")).unwrap();
            }
            let said = (self.say)(run, attempt);
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            said
        }

        fn show(&self, directory: &Path) {
            assert!(directory.join("record.jsonl").exists());
            self.shown.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn said(outcome: &str, reason: Option<&str>) -> Result<Value, Failure> {
        Ok(serde_json::json!({ "outcome": outcome, "reason": reason, "wall_s": 2.0 }))
    }

    struct Made {
        entries: Vec<Entry>,
        interrupted: bool,
        root: tempfile::TempDir,
    }

    impl Made {
        fn outcomes(&self) -> Vec<&'static str> {
            self.entries.iter().map(|entry| entry.said.outcome.as_str()).collect()
        }

        fn reason(&self, index: usize) -> &str {
            self.entries[index].said.reason.as_deref().unwrap()
        }
    }

    fn execute(plan: &Plan, runner: &impl Runner, jobs: usize) -> Made {
        execute_in(tempfile::tempdir().unwrap(), plan, runner, jobs, &|| Ok(u64::MAX))
    }

    fn execute_in(
        root: tempfile::TempDir,
        plan: &Plan,
        runner: &impl Runner,
        jobs: usize,
        free_bytes: &(dyn Fn() -> io::Result<u64> + Sync),
    ) -> Made {
        let folder = Folder::at(root.path());
        let kept = folder.entries(plan, None, |failure| panic!("{failure}"));
        let kept: Vec<Entry> =
            kept.into_iter().filter(|entry| entry.said.outcome != Ending::Failed).collect();
        let there = |run: &&PlannedRun| !kept.iter().any(|entry| entry.run == **run);
        let runs = plan.runs.iter().filter(there).cloned().collect();
        let executor =
            Executor { plan, folder: &folder, runner, jobs, progress: Progress::Silent, free_bytes };
        let (entries, interrupted) = executor.execute(runs, kept);
        Made { entries, interrupted, root }
    }

    #[test]
    fn every_run_is_made_once_and_comes_out_in_the_plan_s_order() {
        let plan = plan(&["6.1", "6.12"], &["a", "b"], 3);
        for jobs in 1..=4 {
            let script = Script::new(|_: &PlannedRun, _| said("clean", None));
            let made = execute(&plan, &script, jobs);
            let runs: Vec<PlannedRun> = made.entries.iter().map(|entry| entry.run.clone()).collect();
            assert_eq!(runs, plan.runs);
            assert_eq!(script.made(), plan.runs.len());
            assert!(script.most.into_inner() <= jobs);
            assert!(!made.interrupted);
        }
    }

    #[test]
    fn a_kernel_that_cannot_be_had_costs_only_its_own_cells() {
        let plan = plan(&["6.1", "6.1-v9"], &["a", "b"], 1);
        let script =
            Script { refuse: Some("6.1-v9"), ..Script::new(|_: &PlannedRun, _| said("clean", None)) };
        let made = execute(&plan, &script, 2);
        assert_eq!(made.outcomes(), ["clean", "clean", "failed", "failed"]);
        assert_eq!(made.reason(3), "6.1-v9: patch v9.patch does not apply");
        assert_eq!(script.made(), 2);
    }

    #[test]
    fn an_inconclusive_run_is_made_again_alone_and_its_tries_are_listed() {
        let plan = plan(&["6.1"], &["a", "b"], 2);
        let script =
            Script::new(|run: &PlannedRun, attempt| match (run.scenario.as_str(), run.run, attempt) {
                ("b", 2, 1) => said("inconclusive", Some("waited 900 s for init")),
                ("b", 2, 2) => said("inconclusive", Some("the rule bar-dies never fired")),
                _ => said("fault", None),
            });
        let made = execute(&plan, &script, 2);
        assert_eq!(made.outcomes(), ["fault"; 4]);
        let again: Vec<&str> = made.entries[3].again.iter().map(|attempt| attempt.reason.as_str()).collect();
        assert_eq!(again, ["waited 900 s for init", "the rule bar-dies never fired"]);
        // The evidence of each try is there.
        let directory = Folder::at(made.root.path()).directory(&made.entries[3].run);
        for (place, attempt) in
            [("again-1/console.log", "1"), ("again-2/console.log", "2"), ("console.log", "3")]
        {
            assert_eq!(fs::read_to_string(directory.join(place)).unwrap(), attempt);
        }
    }

    #[test]
    fn a_reason_that_is_the_same_alone_is_not_asked_for_again() {
        let plan = plan(&["6.1"], &["a"], 4);
        let script = Script::new(|_: &PlannedRun, attempt| {
            said("inconclusive", Some(&format!("waited {attempt} s for init")))
        });
        let made = execute(&plan, &script, 1);
        assert_eq!(made.outcomes(), ["inconclusive"; 4]);
        // Twice the first, and each of the others once.
        assert_eq!(script.made(), 5);
        assert_eq!(made.entries[0].again.len(), 1);
        assert!(made.entries[1..].iter().all(|entry| entry.again.is_empty()));
    }

    #[test]
    fn a_run_that_never_says_the_same_twice_is_given_up_after_some_tries() {
        let plan = plan(&["6.1"], &["a"], 1);
        let reasons = ["x", "y", "z", "never asked for"];
        let script = Script::new(|_: &PlannedRun, attempt| said("inconclusive", Some(reasons[attempt - 1])));
        let made = execute(&plan, &script, 3);
        assert_eq!(script.made(), TRIES);
        assert_eq!((made.reason(0), made.entries[0].again.len()), ("z", 2));
    }

    #[test]
    fn a_device_that_cannot_be_started_is_tried_again() {
        let plan = plan(&["6.1"], &["a"], 1);
        let script = Script::new(|_: &PlannedRun, attempt| match attempt {
            1 => Err(Failure::Server { what: "did not listen".to_owned(), log: "(nothing)".to_owned() }),
            _ => said("clean", None),
        });
        let made = execute(&plan, &script, 1);
        assert_eq!(made.outcomes(), ["clean"]);
        assert!(made.entries[0].again[0].reason.contains("did not listen"));
    }

    #[test]
    fn an_interrupt_keeps_what_is_done_and_a_second_start_makes_the_rest() {
        let plan = plan(&["6.1"], &["a", "b"], 2);
        let script = Script::new(|run: &PlannedRun, _| match (run.scenario.as_str(), run.run) {
            ("a", 2) => Err(Failure::Interrupted),
            _ => said("clean", None),
        });
        let first = execute(&plan, &script, 1);
        assert!(first.interrupted);
        assert_eq!(first.entries.len(), 2);
        let script = Script::new(|_: &PlannedRun, _| said("clean", None));
        let second = execute_in(first.root, &plan, &script, 1, &|| Ok(u64::MAX));
        assert!(!second.interrupted);
        assert_eq!(second.outcomes(), ["clean"; 4]);
        assert_eq!(*script.made.lock().unwrap(), plan.runs[2..]);
    }

    #[test]
    fn runs_of_another_build_of_the_kernel_are_made_again() {
        let two = plan(&["6.1", "6.12"], &["a"], 2);
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        for run in &two.runs[..3] {
            // Run 1 of both kernels and run 2 of 6.1, with a build of before.
            let mut entry = super::super::entry::tests::entry(&run.kernel, "a", run.run, Ending::Clean);
            entry.surroundings.kernel_build = "before".to_owned();
            folder.finish(&entry).unwrap();
        }
        let script = Script::new(|_: &PlannedRun, _| said("fault", None));
        let made = execute_in(root, &two, &script, 1, &|| Ok(u64::MAX));
        // 6.12's second run had to be made, and with it its first; 6.1 was not looked at.
        assert_eq!(made.outcomes(), ["clean", "fault", "clean", "fault"]);
        // A tree is looked at, although all of its runs are there.
        let script = Script { changed: Some("6.1"), ..Script::new(|_: &PlannedRun, _| said("fault", None)) };
        let made = execute_in(made.root, &two, &script, 1, &|| Ok(u64::MAX));
        assert_eq!((made.outcomes(), script.made()), (vec!["fault"; 4], 2));
    }

    #[test]
    fn two_builds_of_one_kernel_do_not_stay_side_by_side() {
        let one = plan(&["6.1"], &["a"], 2);
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        for (run, build) in one.runs.iter().zip(["before", "one"]) {
            let mut entry = super::super::entry::tests::entry(&run.kernel, "a", run.run, Ending::Clean);
            entry.surroundings.kernel_build = build.to_owned();
            folder.finish(&entry).unwrap();
        }
        let script = Script::new(|_: &PlannedRun, _| said("fault", None));
        let made = execute_in(root, &one, &script, 1, &|| Ok(u64::MAX));
        assert_eq!((made.outcomes(), script.made()), (vec!["fault", "clean"], 1));
    }

    #[test]
    fn a_full_disk_is_said_by_each_run_and_the_rest_goes_on() {
        let plan = plan(&["6.1"], &["a"], 3);
        let asked = AtomicUsize::new(0);
        let free = || Ok(if asked.fetch_add(1, Ordering::SeqCst) == 1 { 1 << 20 } else { u64::MAX });
        let script = Script::new(|_: &PlannedRun, _| said("clean", None));
        let made = execute_in(tempfile::tempdir().unwrap(), &plan, &script, 1, &free);
        assert_eq!(made.outcomes(), ["clean", "failed", "clean"]);
        assert!(made.reason(1).contains("1 MiB are free, and a run may need 64"), "{}", made.reason(1));
        assert_eq!(script.made(), 2);
    }

    #[test]
    fn a_disk_that_fills_up_in_mid_run_leaves_no_half_run() {
        let plan = plan(&["6.1"], &["a"], 2);
        let script = Script::new(|run: &PlannedRun, _| {
            let full = io::Error::from(rustix::io::Errno::NOSPC);
            if run.run == 1 {
                Err(Failure::file("write", Path::new("record.jsonl"))(full))
            } else {
                said("clean", None)
            }
        });
        let made = execute(&plan, &script, 1);
        assert_eq!(made.outcomes(), ["failed", "clean"]);
        assert!(made.reason(0).contains("No space left on device"), "{}", made.reason(0));
        let directory = Folder::at(made.root.path()).directory(&made.entries[0].run);
        assert!(directory.join("run.json").exists() && !directory.join("record.jsonl").exists());
        // Asked for once: making it again would not make room.
        assert_eq!(script.made(), 2);
    }

    #[test]
    fn a_cell_keeps_its_first_run_whole_and_some_of_each_other_ending() {
        let plan = plan(&["6.1"], &["a"], 12);
        let script =
            Script::new(|run: &PlannedRun, _| said(if run.run % 2 == 0 { "fault" } else { "clean" }, None));
        let made = execute(&plan, &script, 1);
        let whole: Vec<u32> =
            made.entries.iter().filter(|entry| entry.whole).map(|entry| entry.run.run).collect();
        assert_eq!(whole, [1, 2, 4, 6]);
        assert_eq!(script.shown.into_inner(), 4);
        let folder = Folder::at(made.root.path());
        for entry in &made.entries {
            let directory = folder.directory(&entry.run);
            assert!(directory.join("console.log").exists() && directory.join("result.json").exists());
            assert_eq!(directory.join("record.jsonl").exists(), entry.whole);
        }
    }

    #[test]
    fn reasons_are_the_same_whatever_their_numbers() {
        assert_eq!(without_numbers("a (12.5 ms) b 0x1f"), without_numbers("a (7.25 ms) b 0x2f"));
        assert_ne!(without_numbers("the rule a"), without_numbers("the rule b"));
    }
}

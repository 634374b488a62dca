//! `sdmorph lab bisect`: what `git bisect run` is told of one commit of a kernel's tree.
//!
//! git knows three answers (git-bisect(1)): good, or old; bad, or new; and that the commit cannot be tested. Everything that
//! keeps a commit from a verdict is the third: to take a kernel that does not build for a bad one would send the bisection
//! into the wrong half, and a code above 127 would end it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::assets::{self, KernelChoice, Overrides, OwnKernel, OwnTree, Progress, Store};
use crate::failure::Failure;
use crate::run::{self, Fix, RunOptions};
use crate::scenario::Scenario;
use crate::verdict::Outcome;

/// What git is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// git's good, or old.
    Good,
    /// git's bad, or new.
    Bad,
    /// Cannot be tested.
    Skip,
}

impl Mark {
    /// The exit code that says it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Bad => 1,
            Self::Skip => 125,
        }
    }

    /// As it is written in output, in the words of `git bisect`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Skip => "skip",
        }
    }
}

/// Which outcomes are good, and which are bad; a commit with another one is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    good: Vec<Outcome>,
    bad: Vec<Outcome>,
}

impl Terms {
    /// The outcomes there are, but for inconclusive, which says nothing of a commit.
    pub const OUTCOMES: [Outcome; 3] = [Outcome::Clean, Outcome::Fault, Outcome::Hang];

    /// Good is clean, and bad is every other outcome, unless said otherwise; if only one of the two is said, the other is
    /// the rest. To look for the commit that repaired something, clean is bad (git's new), and the rest is good (its old).
    ///
    /// # Errors
    /// An outcome that is to be both, in words.
    pub fn new(good: &[Outcome], bad: &[Outcome]) -> Result<Self, String> {
        let rest = |of: &[Outcome]| Self::OUTCOMES.into_iter().filter(|one| !of.contains(one)).collect();
        if let Some(both) = good.iter().find(|outcome| bad.contains(outcome)) {
            return Err(format!("{} cannot be both good and bad", both.as_str()));
        }
        Ok(match (good, bad) {
            ([], []) => Self { good: vec![Outcome::Clean], bad: rest(&[Outcome::Clean]) },
            (good, []) => Self { good: good.to_vec(), bad: rest(good) },
            ([], bad) => Self { good: rest(bad), bad: bad.to_vec() },
            (good, bad) => Self { good: good.to_vec(), bad: bad.to_vec() },
        })
    }

    fn mark(&self, outcome: Outcome) -> Option<Mark> {
        if self.good.contains(&outcome) {
            Some(Mark::Good)
        } else if self.bad.contains(&outcome) {
            Some(Mark::Bad)
        } else {
            None
        }
    }
}

/// One run of the commit's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What it has to say of that: the kernel's fault, or what is missing; may be empty.
    pub detail: String,
    /// The directory of its evidence.
    pub evidence: PathBuf,
}

/// What was found out about a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What git is told.
    pub mark: Mark,
    /// Why.
    pub reason: String,
    /// The directory of the run that settled it, if one did.
    pub evidence: Option<PathBuf>,
}

impl Finding {
    /// A commit that there is no verdict on.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self { mark: Mark::Skip, reason: reason.into(), evidence: None }
    }
}

/// Runs the commit's kernel up to `repeat` times, and says what that makes it.
///
/// One run that is not clean settles it, whether that is called good or bad: a fault that was seen is there, while a clean
/// run may have been lucky. A kernel counts as clean if every run that came to a verdict was.
pub fn judge(terms: &Terms, repeat: u32, mut run: impl FnMut(u32) -> Result<Run, Failure>) -> Finding {
    let (mut clean_runs, mut clean) = (0, None);
    let mut nothing_said = Vec::new();
    for number in 1..=repeat {
        let Run { outcome, detail, evidence } = match run(number) {
            Ok(run) => run,
            Err(failure) => return Finding::skip(failure.to_string()),
        };
        let what = match detail.as_str() {
            "" => outcome.as_str().to_owned(),
            detail => format!("{}: {detail}", outcome.as_str()),
        };
        match terms.mark(outcome) {
            Some(mark) if outcome == Outcome::Clean => {
                clean_runs += 1;
                let reason = format!("clean in {clean_runs} of {repeat} runs");
                clean = Some(Finding { mark, reason, evidence: Some(evidence) });
            }
            Some(mark) => {
                return Finding { mark, reason: format!("run {number}: {what}"), evidence: Some(evidence) };
            }
            None if nothing_said.contains(&what) => {}
            None => nothing_said.push(what),
        }
    }
    clean.unwrap_or_else(|| Finding::skip(nothing_said.join("; ")))
}

/// What is asked about the commit that is checked out.
#[derive(Debug, Clone)]
pub struct Options {
    /// The tree.
    pub tree: OwnTree,
    /// A shipped scenario's name, or the path of a file.
    pub scenario: String,
    /// Runs at most, from 1.
    pub repeat: u32,
    /// Which outcomes are good and bad.
    pub terms: Terms,
    /// Wall time for one run; the scenario's if `None`.
    pub deadline: Option<Duration>,
    /// Where the evidence goes, below the commit's name; in the tree's git directory if `None`.
    pub out_dir: Option<PathBuf>,
    /// The `sdmorph` executable, whose `serve` is the device.
    pub server_exe: PathBuf,
    /// The user's own QEMU and busybox.
    pub overrides: Overrides,
}

/// Builds the commit, boots it, and says what it is. Blocks, for minutes; steps are shown on stderr.
pub fn commit(options: &Options, progress: Progress) -> Finding {
    find(options, progress).unwrap_or_else(|failure| Finding::skip(failure.to_string()))
}

fn find(options: &Options, progress: Progress) -> Result<Finding, Failure> {
    // What is wrong with the question is found out before a kernel is built.
    Scenario::load(&options.scenario)?;
    let name = git(&options.tree.dir, &["rev-parse", "--short=12", "HEAD"]).unwrap_or("tree".to_owned());
    let out_dir = match &options.out_dir {
        Some(directory) => directory.clone(),
        None => in_git_directory(&options.tree.dir).ok_or_else(|| {
            let tree = options.tree.dir.display();
            Failure::Options(format!(
                "{tree} is in no git repository: say where the evidence is to go (--out)"
            ))
        })?,
    };
    let kernel = assets::build_tree(&options.tree, &Store::open()?, progress)?;
    Ok(judge(&options.terms, options.repeat, |number| {
        run_once(options, &kernel, out_dir.join(&name).join(number.to_string()))
    }))
}

fn run_once(options: &Options, kernel: &OwnKernel, evidence: PathBuf) -> Result<Run, Failure> {
    let run = RunOptions {
        kernel: KernelChoice::Own(kernel.clone()),
        fix: Fix::OnTrial,
        deadline: options.deadline,
        overrides: options.overrides.clone(),
        ..RunOptions::new(&options.scenario, options.server_exe.clone(), evidence.clone())
    };
    let summary = run::run_each(&run, |_| Ok(()))?;
    let result = summary.results.first().ok_or_else(|| Failure::Options("nothing was run".to_owned()))?;
    let headline = || result.oops.as_ref().map(|oops| oops.headline.clone());
    let detail = result.verdict.reason.clone().or_else(headline).unwrap_or_default();
    // On trial, a warning is told of beside the verdict; a commit that has one is not good.
    match (result.verdict.outcome, result.warnings.first()) {
        (Outcome::Clean, Some(warning)) => {
            let detail = format!("the kernel complained: {warning}");
            Ok(Run { outcome: Outcome::Inconclusive, detail, evidence })
        }
        (outcome, _) => Ok(Run { outcome, detail, evidence }),
    }
}

/// The commit that is checked out, in a line: its name and its subject.
pub fn describe(tree: &Path) -> Option<String> {
    git(tree, &["log", "-1", "--format=%h %s"])
}

/// git keeps what it knows of a bisection there, too; in the tree itself it would be in the way.
fn in_git_directory(tree: &Path) -> Option<PathBuf> {
    git(tree, &["rev-parse", "--git-path", "sdmorph-bisect"]).map(|path| tree.join(path))
}

fn git(tree: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(tree).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(terms: &Terms, outcomes: &[Outcome]) -> (Mark, usize) {
        let mut runs = 0;
        let repeat = u32::try_from(outcomes.len()).unwrap();
        let finding = judge(terms, repeat, |number| {
            runs += 1;
            let outcome = outcomes[usize::try_from(number).unwrap() - 1];
            Ok(Run { outcome, detail: "why".into(), evidence: number.to_string().into() })
        });
        assert!(!finding.reason.is_empty());
        assert_eq!(finding.evidence.is_none(), finding.mark == Mark::Skip);
        (finding.mark, runs)
    }

    use Outcome::{Clean, Fault, Hang, Inconclusive};

    #[test]
    fn one_fault_or_hang_settles_it_and_the_rest_is_not_run() {
        let terms = Terms::new(&[], &[]).unwrap();
        assert_eq!(judged(&terms, &[Clean, Fault, Clean]), (Mark::Bad, 2));
        assert_eq!(judged(&terms, &[Hang, Clean, Clean]), (Mark::Bad, 1));
        assert_eq!(judged(&terms, &[Clean, Clean, Clean]), (Mark::Good, 3));
    }

    #[test]
    fn runs_without_a_verdict_count_only_if_there_is_no_other() {
        let terms = Terms::new(&[], &[]).unwrap();
        assert_eq!(judged(&terms, &[Inconclusive, Clean]), (Mark::Good, 2));
        assert_eq!(judged(&terms, &[Inconclusive, Fault]), (Mark::Bad, 2));
        assert_eq!(judged(&terms, &[Inconclusive, Inconclusive]), (Mark::Skip, 2));
    }

    #[test]
    fn a_fault_is_proof_also_where_it_is_the_old_state() {
        let terms = Terms::new(&[], &[Clean]).unwrap();
        assert_eq!(judged(&terms, &[Clean, Fault]), (Mark::Good, 2));
        assert_eq!(judged(&terms, &[Clean, Clean]), (Mark::Bad, 2));
    }

    #[test]
    fn what_is_neither_good_nor_bad_is_skipped() {
        let terms = Terms::new(&[Clean], &[Fault]).unwrap();
        assert_eq!(judged(&terms, &[Hang]), (Mark::Skip, 1));
        assert_eq!(judged(&terms, &[Hang, Fault]), (Mark::Bad, 2));
    }

    #[test]
    fn one_side_of_the_terms_implies_the_other() {
        assert_eq!(Terms::new(&[], &[Clean]), Terms::new(&[Fault, Hang], &[]));
        assert_eq!(Terms::new(&[], &[]), Terms::new(&[Clean], &[Fault, Hang]));
        assert!(Terms::new(&[Fault], &[Fault]).unwrap_err().contains("fault cannot be both"));
    }

    #[test]
    fn the_reason_says_how_often_it_was_clean_or_what_was_not() {
        let terms = Terms::new(&[], &[]).unwrap();
        let reason = |outcomes: &[(Outcome, &str)]| {
            let mut runs = outcomes.iter();
            let repeat = u32::try_from(outcomes.len()).unwrap();
            let run = |_| {
                let (outcome, detail) = *runs.next().unwrap();
                Ok(Run { outcome, detail: detail.into(), evidence: PathBuf::new() })
            };
            judge(&terms, repeat, run).reason
        };
        assert_eq!(reason(&[(Clean, ""), (Inconclusive, "x"), (Clean, "")]), "clean in 2 of 3 runs");
        assert_eq!(reason(&[(Clean, ""), (Fault, "BUG: x")]), "run 2: fault: BUG: x");
        let nothing = [(Inconclusive, "x"), (Inconclusive, "y"), (Inconclusive, "x")];
        assert_eq!(reason(&nothing), "inconclusive: x; inconclusive: y");
    }

    #[test]
    fn what_ends_a_run_is_no_verdict_on_the_commit() {
        let terms = Terms::new(&[], &[]).unwrap();
        let finding = judge(&terms, 3, |_| Err(Failure::Interrupted));
        assert_eq!(finding.mark, Mark::Skip);
        assert!(finding.reason.contains("interrupted"), "{finding:?}");
        assert!([Mark::Good, Mark::Bad, Mark::Skip].iter().all(|mark| mark.exit_code() <= 127));
    }
}

//! `git bisect run` over a small history, with the lab's own decision; only the build and the guest are stood in for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

use sdmorph_lab::bisect::{Finding, Run, Terms, judge};
use sdmorph_lab::verdict::Outcome;

/// Says that this test program is what git runs, and which outcome is bad.
const BAD: &str = "SDMORPH_TEST_BISECT_BAD";
/// What stands for a kernel.
const DRIVER: &str = "pci-driver.c";

/// Eight commits, the first one first: subject, and the driver. Three of them cannot be tested.
const HISTORY: [(&str, &str); 8] = [
    ("import", "barrier();\n"),
    ("comment", "barrier(); /* for idle callbacks */\n"),
    ("half a change", "barrier(;\n"),
    ("the other half", "wait(); barrier();\n"),
    ("simplify", "wait();\n"),
    ("no panic", "wait(); hang_at_boot();\n"),
    ("a typo", "wait(;\n"),
    ("clean up", "wait(); return;\n"),
];

fn git(tree: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(tree);
    for (name, value) in
        [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null"), ("LC_ALL", "C")]
    {
        command.env(name, value);
    }
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "test").env(format!("GIT_{who}_EMAIL"), "test@example.org");
    }
    // What a hook of this repository's own checkout would leave.
    command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
    command.output().unwrap()
}

fn must(tree: &Path, arguments: &[&str]) -> String {
    let output = git(tree, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

/// The commits' names, the first one first; `drivers` are their drivers.
fn history(tree: &Path, drivers: &[(&str, &str)]) -> Vec<String> {
    must(tree, &["init", "-q"]);
    let commit = |(subject, driver): &(&str, &str)| {
        std::fs::write(tree.join(DRIVER), driver).unwrap();
        must(tree, &["add", DRIVER]);
        must(tree, &["commit", "-qm", subject]);
        must(tree, &["rev-parse", "HEAD"])
    };
    drivers.iter().map(commit).collect()
}

/// Runs the bisection with this program as its command, and returns what git printed.
fn bisect(tree: &Path, bad: &str) -> String {
    let me = std::env::current_exe().unwrap();
    let assignment = format!("{BAD}={bad}");
    let command = [
        "bisect",
        "run",
        "env",
        &assignment,
        me.to_str().unwrap(),
        "the_stand_in",
        "--exact",
        "--ignored",
        "--nocapture",
    ];
    must(tree, &command)
}

/// What git runs at each commit.
#[test]
#[ignore = "it is what the other tests have git run"]
fn the_stand_in() {
    let Ok(bad) = std::env::var(BAD) else { return };
    let bad: Vec<_> = Terms::OUTCOMES.into_iter().filter(|outcome| outcome.as_str() == bad).collect();
    let terms = Terms::new(&[], &bad).unwrap();
    let driver = std::fs::read_to_string(DRIVER).unwrap();
    let finding = if driver.contains("(;") {
        Finding::skip("pci-driver.c:1: error: expected expression before ';' token")
    } else {
        judge(&terms, 3, |number| {
            let outcome = if driver.contains("hang_at_boot()") {
                Outcome::Inconclusive
            } else if number == 3 && !driver.contains("barrier()") {
                // The race is not always lost.
                Outcome::Fault
            } else {
                Outcome::Clean
            };
            Ok(Run { outcome, detail: String::new(), evidence: number.to_string().into() })
        })
    };
    std::process::exit(finding.mark.exit_code().into());
}

/// The name of the commit with this subject.
fn named<'a>(history: &[(&str, &str)], commits: &'a [String], subject: &str) -> &'a str {
    let at = history.iter().position(|(of, _)| *of == subject).unwrap();
    &commits[at]
}

#[test]
fn the_commit_that_broke_it_is_found_past_those_that_cannot_be_tested() {
    let directory = tempfile::tempdir().unwrap();
    let commits = history(directory.path(), &HISTORY);
    must(directory.path(), &["bisect", "start", "HEAD", &commits[0]]);
    let said = bisect(directory.path(), "fault");
    let simplify = named(&HISTORY, &commits, "simplify");
    assert!(said.contains(&format!("{simplify} is the first bad commit")), "{said}");
    let log = must(directory.path(), &["bisect", "log"]);
    assert!(log.contains("git bisect skip"), "{log}");
}

#[test]
fn with_the_terms_turned_round_the_commit_that_repaired_it_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let backwards: Vec<_> = HISTORY.into_iter().rev().collect();
    let commits = history(directory.path(), &backwards);
    let start = ["bisect", "start", "--term-old=broken", "--term-new=repaired", "HEAD", &commits[0]];
    must(directory.path(), &start);
    let said = bisect(directory.path(), "clean");
    let repairs = named(&backwards, &commits, "the other half");
    assert!(said.contains(&format!("{repairs} is the first repaired commit")), "{said}");
}

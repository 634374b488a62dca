//! `sdmorph lab bisect`: what `git bisect run` is told.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use sdmorph_lab::assets::{self, Overrides, OwnTree, Progress};
use sdmorph_lab::bisect::{self, Finding, Mark, Options, Terms};

use crate::arguments::BisectOptions;
use crate::{Failure, output, report};

/// Whether the command line is of this command, right or wrong.
pub(crate) fn is_asked_for(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.any(|argument| argument == "lab")
        && arguments.next().is_some_and(|argument| argument == "bisect")
}

/// Never anything but a mark: every other exit code would be one, too, and a wrong one.
pub(crate) fn run(options: &BisectOptions) -> Result<(), Failure> {
    let tree = tree(options);
    // A panic would be exit code 101, and the commit bad.
    let finding = catch_unwind(AssertUnwindSafe(|| find(options, &tree)))
        .unwrap_or_else(|_| Finding::skip("the lab failed; its message is above"));
    let commit = bisect::describe(&tree.dir).unwrap_or_else(|| tree.dir.display().to_string());
    let mut text = format!("{commit}: {}: {}\n", finding.mark.as_str(), finding.reason);
    if let Some(evidence) = &finding.evidence {
        let place = report::page(evidence).unwrap_or_else(|_| evidence.clone());
        text.push_str(&format!("evidence: {}\n", place.display()));
    }
    // Whoever does not read it still wants the exit code.
    drop(output::print(&text));
    if finding.mark == Mark::Good { Ok(()) } else { Err(Failure::Shown(finding.mark.exit_code())) }
}

fn tree(options: &BisectOptions) -> OwnTree {
    let dir = options.tree.clone().or_else(|| assets::path_from_env("KERNEL_TREE"));
    let dir = dir.unwrap_or_else(|| PathBuf::from("."));
    OwnTree { dir, configs: options.config.clone() }
}

fn find(options: &BisectOptions, tree: &OwnTree) -> Finding {
    let terms = match Terms::new(&options.good, &options.bad) {
        Ok(terms) => terms,
        Err(why) => return Finding::skip(why),
    };
    let server_exe = match std::env::current_exe() {
        Ok(path) => path,
        Err(error) => return Finding::skip(format!("where is this program? {error}")),
    };
    let options = Options {
        tree: tree.clone(),
        scenario: options.scenario.clone(),
        repeat: options.repeat,
        terms,
        deadline: options.deadline.map(Duration::from_secs),
        out_dir: options.out.clone(),
        server_exe,
        overrides: Overrides::from_env(),
    };
    bisect::commit(&options, Progress::detect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_known_by_its_words_whatever_comes_after() {
        let asked = |line: &str| is_asked_for(line.split(' ').map(OsString::from));
        assert!(asked("sdmorph lab bisect"));
        assert!(asked("sdmorph --log debug lab bisect --no-such-option"));
        assert!(!asked("sdmorph lab run bisect"));
        assert!(!asked("sdmorph lab"));
    }
}

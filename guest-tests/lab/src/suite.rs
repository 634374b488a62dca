//! `sdmorph lab test`: scenarios one after the other, as a test run.

use std::io::Write;
use std::path::Path;

use crate::assets::KernelChoice;
use crate::failure::{EXIT_EXPECTED, EXIT_INCONCLUSIVE, EXIT_UNEXPECTED, Failure};
use crate::result::RunResult;
use crate::run::{self, RunOptions, RunSummary};
use crate::scenario::Scenario;
use crate::verdict::Outcome;

/// What `make test` runs: the scenarios whose verdict is certain. Not among them are `card-fio` and `drive-admin`, which
/// need large packages; `drive-suspend`, which is slow; `drive-pull` and `drive-pull-early`, since what a kernel says of a
/// drive that is pulled depends on the moment, and not all of it has been seen.
pub const QUICK: &[&str] = &[
    "boot-insert-remove",
    "sd7-idle-race",
    "card-sd",
    "card-pull",
    "card-write-protect",
    "card-classes",
    "card-uhs",
    "card-corrupt",
    "card-over-current",
    "card-suspend",
    "card-rtd3",
    "card-express-as-sd",
    "card-lock",
    "reader-probe-insert",
    "slot-presence-late",
    "slot-bus-reset",
    "card-cycles",
    "morph-cycle",
    "drive-reset",
    "chip-rts5260",
    "chip-rts5228",
    "chip-rts525a",
    "chip-rts522a",
];

/// Runs every scenario on every kernel, all variants, and prints TAP 14: one test a run, its verdict's line as the
/// description. What `options` says of scenario, kernel and output is replaced for each. Returns the exit code.
///
/// # Errors
/// What keeps the lab from running at all: see [`Failure`].
pub fn test(
    options: &RunOptions,
    scenarios: &[String],
    kernels: &[KernelChoice],
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    // A misspelt name at the end of the list is not found out half an hour later.
    for scenario in scenarios {
        Scenario::load(scenario)?;
    }
    let mut summaries = Vec::new();
    say(out, "TAP version 14\n")?;
    let (mut number, mut skipped) = (0, 0);
    for kernel in kernels {
        for scenario in scenarios {
            let options = RunOptions {
                scenario: scenario.clone(),
                kernel: kernel.clone(),
                out_dir: options.out_dir.join(scenario).join(kernel_name(kernel)),
                ..options.clone()
            };
            let ran = run::run_each(&options, |result| {
                number += 1;
                say(out, &result_line(number, result, &options.out_dir))
            });
            match ran {
                Ok(summary) => summaries.push(summary),
                Err(failure @ Failure::TooOld { .. }) => {
                    number += 1;
                    skipped += 1;
                    say(
                        out,
                        &format!(
                            "ok {number} - {} # SKIP {}\n",
                            escaped(scenario),
                            escaped(&failure.to_string())
                        ),
                    )?;
                }
                Err(failure) => {
                    // Whoever reads the stream learns that it is not whole; people read the same on stderr.
                    let reason = failure.to_string();
                    say(out, &format!("Bail out! {}\n", reason.lines().next().unwrap_or_default()))?;
                    return Err(failure);
                }
            }
        }
    }
    let passed = results(&summaries).filter(|result| result.as_expected).count();
    let failed = number - passed - skipped;
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    say(out, &format!("1..{number}\n{passed} passed, {failed} failed{skipped}\n"))?;
    Ok(exit_code(&summaries))
}

/// One test point; a failed one is followed by where its evidence is, and by the most telling part of it.
fn result_line(number: usize, result: &RunResult, out_dir: &Path) -> String {
    let description = escaped(&result.line());
    if result.as_expected {
        format!("ok {number} - {description}\n")
    } else {
        format!(
            "not ok {number} - {description}\n# evidence: {}\n{}",
            out_dir.display(),
            result.diagnostics()
        )
    }
}

/// In TAP 14, `#` starts a directive (`# SKIP`, `# TODO`) unless escaped, and a line's end ends the test point.
fn escaped(description: &str) -> String {
    description.replace('\\', "\\\\").replace('#', "\\#").replace(['\n', '\r'], " ")
}

fn results(summaries: &[RunSummary]) -> impl Iterator<Item = &RunResult> {
    summaries.iter().flat_map(|summary| &summary.results)
}

fn exit_code(summaries: &[RunSummary]) -> u8 {
    if results(summaries).all(|result| result.as_expected) {
        EXIT_EXPECTED
    } else if results(summaries)
        .any(|result| !result.as_expected && result.verdict.outcome != Outcome::Inconclusive)
    {
        EXIT_UNEXPECTED
    } else {
        EXIT_INCONCLUSIVE
    }
}

/// A kernel as part of a path: its name with what was added to it, or `own`.
#[must_use]
pub fn kernel_name(kernel: &KernelChoice) -> String {
    match kernel {
        KernelChoice::Named(named) => named.full_name(),
        KernelChoice::Own(_) | KernelChoice::Tree(_) => "own".to_owned(),
    }
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(Failure::file("write to", Path::new("stdout")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{clean, inconclusive};

    #[test]
    fn an_expected_verdict_is_one_ok_line() {
        let line = result_line(3, &clean(), Path::new("out"));
        assert!(line.starts_with("ok 3 - sd7-idle-race with-fix"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_reason_cannot_become_a_directive_or_a_second_line() {
        let line =
            result_line(1, &inconclusive("last console line: x # TODO a\\b\nok 2 - no"), Path::new("out"));
        assert!(line.starts_with("not ok 1 - "), "{line}");
        assert!(line.contains(r"x \# TODO a\\b ok 2 - no"), "{line}");
        assert_eq!(line.lines().nth(1), Some("# evidence: out"));
        assert_eq!(line.lines().nth(2), Some("# the guest's console"));
    }

    #[test]
    fn a_misspelt_scenario_at_the_end_is_found_before_the_first_runs() {
        let directory = tempfile::tempdir().unwrap();
        let options = RunOptions::new("", "/nonexistent".into(), directory.path().to_owned());
        let names = ["boot-insert-remove".to_owned(), "sd7-idle-rase".to_owned()];
        let mut out = Vec::new();
        let failure = test(&options, &names, &[KernelChoice::default()], &mut out).unwrap_err();
        assert_eq!(failure.exit_code(), crate::failure::EXIT_USAGE);
        assert!(out.is_empty());
    }
}

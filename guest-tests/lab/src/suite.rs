//! `sdmorph lab test`: scenarios one after the other, as a test run.

use std::io::Write;
use std::path::Path;

use crate::assets::KernelChoice;
use crate::failure::{EXIT_EXPECTED, EXIT_INCONCLUSIVE, EXIT_UNEXPECTED, Failure};
use crate::run::{self, RunOptions, RunSummary};
use crate::verdict::Outcome;

/// What `make test` runs: the scenarios whose verdict is certain.
pub const QUICK: &[&str] = &["boot-insert-remove", "sd7-idle-race"];

/// Runs every scenario on every kernel, all variants, and prints KTAP: one test a run, its verdict's line as the
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
    let mut summaries = Vec::new();
    say(out, "TAP version 14\n")?;
    let mut number = 0;
    for kernel in kernels {
        for scenario in scenarios {
            let options = RunOptions {
                scenario: scenario.clone(),
                kernel: kernel.clone(),
                out_dir: options.out_dir.join(scenario).join(kernel_name(kernel)),
                ..options.clone()
            };
            summaries.push(run::run_each(&options, |result| {
                number += 1;
                let ok = if result.as_expected { "ok" } else { "not ok" };
                say(out, &format!("{ok} {number} - {}\n", result.line()))
            })?);
        }
    }
    let passed = results(&summaries).filter(|result| result.as_expected).count();
    say(out, &format!("1..{number}\n{passed} passed, {} failed\n", number - passed))?;
    Ok(exit_code(&summaries))
}

fn results(summaries: &[RunSummary]) -> impl Iterator<Item = &crate::result::RunResult> {
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

/// A kernel as part of a path: a stock one's name, or `own`.
#[must_use]
pub fn kernel_name(kernel: &KernelChoice) -> String {
    match kernel {
        KernelChoice::Stock(stock) => stock.to_string(),
        KernelChoice::Own(_) => "own".to_owned(),
    }
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(Failure::file("write to", Path::new("stdout")))
}

//! The table as KTAP (Documentation/dev-tools/ktap.rst): a kernel is a test, its scenarios are its subtests.
//!
//! `ok`: the kernel holds. A cell that says nothing is `not ok` too, with the directive ERROR: what was not tested has
//! not passed.

use std::fmt::Write as _;

use super::verdicts::{Cell, Finding, Verdicts};
use super::wording::{headline, interval, ms, remarks, short, total};

/// The document.
#[must_use]
pub fn write(verdicts: &Verdicts) -> String {
    let mut text = format!("KTAP version 1\n1..{}\n", verdicts.kernels.len());
    for (number, kernel) in (1..).zip(&verdicts.kernels) {
        let cells: Vec<&Cell> = verdicts.cells.iter().filter(|cell| cell.kernel == kernel.name).collect();
        let name = escaped(&kernel.name);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  KTAP version 1\n  # Subtest: {name}\n  1..{}", cells.len());
        for (number, cell) in (1..).zip(&cells) {
            test_point(&mut text, number, cell);
        }
        let holds = !cells.is_empty() && cells.iter().all(|cell| cell.summary.finding() == Finding::Holds);
        let _ = writeln!(text, "{} {number} {name}", if holds { "ok" } else { "not ok" });
    }
    text
}

fn test_point(text: &mut String, number: usize, cell: &Cell) {
    let summary = &cell.summary;
    let mut lines = vec![short(cell)];
    let share = interval(&super::wording::bad(summary));
    if !share.is_empty() {
        lines.push(format!("faults and hangs: {share} of runs, at 95 %"));
    }
    if summary.removal_median_ms.is_some() {
        let (median, p95) = (ms(summary.removal_median_ms), ms(summary.removal_p95_ms));
        lines.push(format!("removal: median {median}, p95 {p95}"));
    }
    lines.extend(headline(cell));
    lines.extend(remarks(cell));
    if let Some(run) = cell.example() {
        lines.push(format!("evidence: {}", cell.place(run).display()));
    }
    for line in lines {
        let _ = writeln!(text, "  # {line}");
    }
    let name = escaped(&cell.scenario);
    let directive = match summary.finding() {
        Finding::Open if total(&summary.failed) > 0 => " # ERROR not run",
        Finding::Open => " # ERROR inconclusive",
        _ => "",
    };
    let ok = if summary.finding() == Finding::Holds { "ok" } else { "not ok" };
    let _ = writeln!(text, "  {ok} {number} {name}{directive}");
}

/// `#` would begin a directive.
fn escaped(name: &str) -> String {
    name.replace('#', "_")
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn each_kernel_is_a_test_and_each_scenario_a_subtest() {
        let text = write(&verdicts());
        let points: Vec<&str> = text.lines().filter(|line| line.trim_start().contains("ok ")).collect();
        assert_eq!(
            points,
            [
                "  not ok 1 sd7-idle-race",
                "  not ok 2 card-pull",
                "not ok 1 6.1-none",
                "  ok 1 sd7-idle-race",
                "  not ok 2 card-pull # ERROR not run",
                "not ok 2 6.1-diff-2",
            ]
        );
        assert!(text.starts_with("KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: 6.1-none\n  1..2\n"));
    }

    #[test]
    fn what_a_guest_says_is_a_diagnostic_of_one_line() {
        let text = write(&verdicts());
        assert!(
            text.contains("\n  # BUG: unable to handle page fault for address: ff5e2c4780051010\n"),
            "{text}"
        );
        assert!(text.contains("\n  # evidence: cells/6.1-none/sd7-idle-race/1\n"), "{text}");
        let known = |line: &str| {
            let line = line.trim_start();
            ["#", "ok ", "not ok ", "1..", "KTAP version 1"].iter().any(|start| line.starts_with(start))
        };
        assert!(text.lines().all(known), "{text}");
    }
}

//! The table on a terminal.

use std::fmt::Write as _;

use super::verdicts::{Cell, Finding, Verdicts};
use super::wording::{bad, count, interval, made, ms, remarks, short, total};
use crate::report::Style;

/// The table, what it was made of, and what is to be said of its cells.
#[must_use]
pub fn text(verdicts: &Verdicts, style: Style) -> String {
    let mut text = String::new();
    let names = verdicts.scenarios.iter().map(|row| row.name.chars().count());
    let first = names.max().unwrap_or(0) + 2;
    let widths: Vec<usize> = verdicts
        .kernels
        .iter()
        .map(|kernel| {
            let cells = verdicts.cells.iter().filter(|cell| cell.kernel == kernel.name);
            let widest = cells.map(|cell| short(cell).len()).max().unwrap_or(0);
            widest.max(kernel.name.len()) + 2
        })
        .collect();
    let mut head = pad("", first);
    for (kernel, width) in verdicts.kernels.iter().zip(&widths) {
        head.push_str(&pad(&kernel.name, *width));
    }
    let _ = writeln!(text, "{}", style.paint("1", head.trim_end()));
    for row in &verdicts.scenarios {
        let (mut results, mut intervals) = (pad(&row.name, first), pad("", first));
        for (kernel, width) in verdicts.kernels.iter().zip(&widths) {
            let cell = verdicts.cell(&kernel.name, &row.name);
            results.push_str(&painted(cell, *width, style));
            intervals
                .push_str(&pad(&cell.map(|cell| interval(&bad(&cell.summary))).unwrap_or_default(), *width));
        }
        let _ = writeln!(text, "{}\n{}", results.trim_end(), intervals.trim_end());
    }
    text.push_str("\nfaults and hangs of the conclusive runs, with their 95 % interval (Wilson)\n\n");
    details(&mut text, verdicts, first, style);
    let mut remarked = false;
    for cell in &verdicts.cells {
        for line in remarks(cell) {
            let _ = writeln!(text, "{} {}: {line}", cell.kernel, cell.scenario);
            remarked = true;
        }
    }
    if remarked {
        text.push('\n');
    }
    for line in made(verdicts) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn painted(cell: Option<&Cell>, width: usize, style: Style) -> String {
    let Some(cell) = cell else { return pad("", width) };
    let colour = match cell.summary.finding() {
        Finding::Holds => "32",
        Finding::Fails => "31",
        Finding::Open => "33",
    };
    // The blanks are not painted.
    let text = short(cell);
    let blanks = width.saturating_sub(text.chars().count());
    format!("{}{}", style.paint(colour, &text), " ".repeat(blanks))
}

fn details(text: &mut String, verdicts: &Verdicts, first: usize, style: Style) {
    let kernels = verdicts.kernels.iter().map(|kernel| kernel.name.chars().count());
    let second = kernels.max().unwrap_or(0).max("kernel".len()) + 2;
    let columns = ["fault", "hang", "clean", "?", "median", "p95", "dead idle"];
    let head = format!(
        "{}{}{}",
        pad("scenario", first),
        pad("kernel", second),
        columns.map(|column| format!("{column:>10}")).concat()
    );
    let _ = writeln!(text, "{}", style.paint("1", &head));
    for cell in &verdicts.cells {
        let summary = &cell.summary;
        let values = [
            summary.faults.hits.to_string(),
            summary.hangs.to_string(),
            summary.clean.to_string(),
            (total(&summary.inconclusive) + total(&summary.failed)).to_string(),
            ms(summary.removal_median_ms),
            ms(summary.removal_p95_ms),
            count(summary.idle_callbacks_on_dead_device),
        ];
        let values = values.map(|value| format!("{value:>10}")).concat();
        let _ = writeln!(text, "{}{}{values}", pad(&cell.scenario, first), pad(&cell.kernel, second));
    }
    text.push_str(
        "\nmedian, p95: of the time from the beginning of the removal to its end; dead idle: idle callbacks that began on a \
         dead device\n\n",
    );
}

fn pad(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(blanks))
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn the_table_has_scenarios_down_and_kernels_across() {
        let text = text(&verdicts(), Style { colour: false });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["6.1-none", "6.1-diff-2"]);
        assert!(lines[1].starts_with("sd7-idle-race  3/3 fault, 1 inconclusive  0/4"), "{text}");
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["44-100", "%", "0-49", "%"]);
        assert!(lines[3].starts_with("card-pull      1/4 hang"), "{text}");
        assert!(text.contains("6.1-diff-2 card-pull: 4 x not run: the patch <v9>"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let plain = text(&verdicts(), Style { colour: false });
        let mut coloured = text(&verdicts(), Style { colour: true });
        for code in ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
            assert!(coloured.contains(code), "{code:?}");
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }
}

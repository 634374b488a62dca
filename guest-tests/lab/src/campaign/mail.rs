//! What goes into a mail to a list: plain text of 72 columns, the table, and a trailer.

use std::fmt::Write as _;

use super::verdicts::{Cell, Finding, Verdicts};
use super::wording::{made, plural, total};

/// As wide as a mail is.
const WIDTH: usize = 72;
/// The width of a kernel's column.
const COLUMN: usize = 9;

/// The text; `tested_by` is `Name <mail>`.
///
/// # Errors
/// If a trailer is asked for and there is no kernel that it could be for: one that holds in every cell.
pub fn write(verdicts: &Verdicts, tested_by: Option<&str>) -> Result<String, String> {
    let holding: Vec<&str> = verdicts.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    let holding: Vec<&str> = holding.into_iter().filter(|kernel| holds(verdicts, kernel)).collect();
    if tested_by.is_some() && holding.is_empty() {
        return Err("no kernel of this campaign holds under all of its scenarios: there is none to be tested by anybody"
            .to_owned());
    }
    let mut text = String::new();
    let (runs, _) = verdicts.runs();
    let about = format!(
        "I ran {} against an emulated Realtek RTS5261 whose BAR vanishes and whose slot's link goes down \
         (sdmorph {}): {} under {}. Faults and hangs of the conclusive runs:",
        plural(runs, "guest"),
        verdicts.lab,
        plural(verdicts.kernels.len(), "kernel"),
        plural(verdicts.scenarios.len(), "scenario"),
    );
    paragraph(&mut text, "", &about);
    text.push('\n');
    let names = verdicts.scenarios.iter().map(|row| row.name.chars().count());
    let first = names.max().unwrap_or(0).min(WIDTH - 2 * COLUMN) + 2;
    let across = ((WIDTH - first) / COLUMN).max(1);
    for (part, kernels) in verdicts.kernels.chunks(across).enumerate() {
        let mut head = " ".repeat(first);
        for number in (part * across + 1..).take(kernels.len()) {
            let _ = write!(head, "{:>COLUMN$}", format!("[{number}]"));
        }
        let _ = writeln!(text, "{head}");
        for row in &verdicts.scenarios {
            let mut line = format!("{:first$}", row.name);
            for kernel in kernels {
                let cell = verdicts.cell(&kernel.name, &row.name);
                let _ = write!(line, "{:>COLUMN$}", cell.map(tiny).unwrap_or_default());
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.push('\n');
    }
    for (number, kernel) in (1..).zip(&verdicts.kernels) {
        let release = if kernel.release.is_empty() { "never booted" } else { &kernel.release };
        paragraph(
            &mut text,
            &format!("[{number}] "),
            &format!("{}: {} ({release})", kernel.name, kernel.title),
        );
    }
    let has = |sign: char| verdicts.cells.iter().any(|cell| tiny(cell).contains(sign));
    for (sign, meaning) in [
        ('f', "f: a page fault, in so many of the runs"),
        ('h', "h: a task that waits for ever, in so many of the runs"),
        ('?', "?: inconclusive, or not run"),
    ] {
        if has(sign) {
            let _ = writeln!(text, "{meaning}");
        }
    }
    text.push('\n');
    for line in made(verdicts) {
        paragraph(&mut text, "- ", &line);
    }
    if let Some(who) = tested_by {
        let _ = writeln!(text);
        let of = format!("Without a fault or a hang: {}.", holding.join(", "));
        paragraph(&mut text, "", &of);
        let _ = writeln!(text, "\nTested-by: {who}");
    }
    Ok(text)
}

/// Every cell of the kernel holds in all of its runs, without a warning, and there is a cell.
fn holds(verdicts: &Verdicts, kernel: &str) -> bool {
    let mut cells = verdicts.cells.iter().filter(|cell| cell.kernel == kernel).peekable();
    let whole = |cell: &Cell| {
        let summary = &cell.summary;
        let open = [&summary.inconclusive, &summary.failed, &summary.warnings];
        cell.missing() == 0 && open.iter().all(|reasons| reasons.is_empty())
    };
    cells.peek().is_some() && cells.all(|cell| cell.summary.finding() == Finding::Holds && whole(cell))
}

/// A cell in at most eight characters: `20/20f`, `1/20h`, `0/20`, `?`.
fn tiny(cell: &Cell) -> String {
    let summary = &cell.summary;
    let runs = summary.faults.runs;
    let open = total(&summary.inconclusive) + total(&summary.failed) > 0;
    match (summary.faults.hits, summary.hangs) {
        _ if runs == 0 => "?".to_owned(),
        (0, 0) => format!("0/{runs}{}", if open { "?" } else { "" }),
        (faults, 0) => format!("{faults}/{runs}f"),
        (0, hangs) => format!("{hangs}/{runs}h"),
        (faults, hangs) => format!("{faults}f{hangs}h/{runs}"),
    }
}

/// Words, broken at the width; `start` comes first, and later lines are indented by as much.
fn paragraph(text: &mut String, start: &str, words: &str) {
    let mut line = start.to_owned();
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(start.chars().count());
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::super::entry::Ending;
    use super::super::entry::tests::entry;
    use super::super::plan::tests::plan;
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn the_mail_has_the_table_its_legend_and_no_line_over_72_columns() {
        let text = write(&verdicts(), None).unwrap();
        assert!(text.contains("\n                     [1]      [2]\n"), "{text}");
        assert!(text.contains("\nsd7-idle-race       3/3f      0/4\n"), "{text}");
        assert!(text.contains("\ncard-pull           1/4h        ?\n"), "{text}");
        assert!(text.contains("[1] 6.1-none: kernel 6.1-none (6.1.192)\n"), "{text}");
        assert!(text.contains("f: a page fault") && text.contains("?: inconclusive"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 72 && line == line.trim_end()), "{text}");
        assert!(!text.contains("Tested-by"));
    }

    #[test]
    fn many_kernels_are_put_below_each_other() {
        let names: Vec<String> = (0..13).map(|number| format!("6.1-idea-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plan = plan(&names, &["sd7-idle-race"], 1);
        let entries: Vec<_> =
            plan.runs.iter().map(|run| entry(&run.kernel, &run.scenario, 1, Ending::Clean)).collect();
        let text = write(&Verdicts::of(&plan, &entries), Some("A. Tester <a@example.org>")).unwrap();
        assert_eq!(text.matches("\nsd7-idle-race ").count(), 3, "{text}");
        assert!(text.contains("[13] 6.1-idea-12"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 72), "{text}");
        assert!(text.ends_with("\nTested-by: A. Tester <a@example.org>\n"), "{text}");
    }

    #[test]
    fn nobody_has_tested_what_does_not_hold() {
        let refusal = write(&verdicts(), Some("A. Tester <a@example.org>")).unwrap_err();
        assert!(refusal.contains("no kernel of this campaign holds"), "{refusal}");
    }
}

//! Cells in words, the same in every output.

use std::collections::BTreeMap;

use super::verdicts::{Cell, Run, Summary, Verdicts};
use crate::statistics::Share;

/// A cell in a few characters: `20/20 fault`, `3/20 hang`, `0/20`; `?` if nothing is known, with what there is.
pub(crate) fn short(cell: &Cell) -> String {
    let Summary { faults, hangs, inconclusive, failed, .. } = &cell.summary;
    let runs = faults.runs;
    let mut parts = Vec::new();
    if faults.hits > 0 {
        parts.push(format!("{}/{runs} fault", faults.hits));
    }
    if *hangs > 0 {
        parts.push(format!("{hangs}/{runs} hang"));
    }
    if runs > 0 && parts.is_empty() {
        parts.push(format!("0/{runs}"));
    }
    for (count, word) in [(total(inconclusive), "inconclusive"), (total(failed), "not run")] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    if parts.is_empty() { "not yet run".to_owned() } else { parts.join(", ") }
}

pub(crate) fn total(counts: &BTreeMap<String, u32>) -> u32 {
    counts.values().sum()
}

/// The share of faults and hangs together.
pub(crate) fn bad(summary: &Summary) -> Share {
    Share::of(summary.faults.hits + summary.hangs, summary.faults.runs)
}

/// The interval in per cent: `84-100 %`.
pub(crate) fn interval(share: &Share) -> String {
    if share.runs == 0 {
        return String::new();
    }
    format!("{:.0}-{:.0} %", share.low * 100.0, share.high * 100.0)
}

/// Milliseconds, with as many digits as say something.
pub(crate) fn ms(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 100.0 => format!("{value:.1} ms"),
        Some(value) if value < 10_000.0 => format!("{value:.0} ms"),
        Some(value) => format!("{:.1} s", value / 1000.0),
    }
}

pub(crate) fn count(value: Option<u32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 run`, `2 runs`.
pub(crate) fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// The kernel's first words about the cell's first fault or hang.
pub(crate) fn headline(cell: &Cell) -> Option<String> {
    cell.summary.headline.as_deref().map(plain)
}

/// Text with its lines joined.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What happened when in a run: `switch requested 0.0 ms; link down 257.1 ms`.
pub(crate) fn course(run: &Run) -> String {
    let moments = run.said.course.iter().map(|(name, at)| format!("{} {at:.1} ms", plain(name)));
    moments.collect::<Vec<_>>().join("; ")
}

/// A text of a guest or a tool in one line, without what a terminal would take for a command.
fn plain(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let legal = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    lines.join(" / ").chars().map(legal).collect()
}

/// What is to be said of a cell beside its numbers, a line each: reasons, warnings, runs that are missing.
pub(crate) fn remarks(cell: &Cell) -> Vec<String> {
    let summary = &cell.summary;
    let mut lines = Vec::new();
    let groups = [
        ("inconclusive", &summary.inconclusive),
        ("not run", &summary.failed),
        ("made again", &summary.again),
        ("warning", &summary.warnings),
    ];
    for (what, counts) in groups {
        lines.extend(counts.iter().map(|(reason, times)| format!("{times} x {what}: {}", plain(reason))));
    }
    if cell.missing() > 0 {
        lines.push(format!("{} of {} are not there yet", plural(cell.missing(), "run"), cell.planned));
    }
    lines
}

/// How the table was made, a line each.
pub(crate) fn made(verdicts: &Verdicts) -> Vec<String> {
    let (there, planned) = verdicts.runs();
    let mut lines = Vec::new();
    let runs = if there == planned { plural(there, "run") } else { format!("{there} of {planned} runs") };
    match (verdicts.began.as_str(), verdicts.ended.as_str()) {
        ("", _) => lines.push(runs),
        (began, ended) => lines.push(format!("{runs}, which ended between {began} and {ended}")),
    }
    let accel = |name: &str| match name {
        "kvm" => "hardware virtualisation (KVM)".to_owned(),
        "tcg" => "emulation (TCG), no hardware virtualisation".to_owned(),
        other => other.to_owned(),
    };
    let each = |counts: &BTreeMap<String, usize>, name: &dyn Fn(&str) -> String| {
        let several = counts.len() > 1;
        let named = counts.iter().map(|(text, runs)| {
            let times = if several { format!(" ({})", plural(*runs, "run")) } else { String::new() };
            format!("{}{times}", name(text))
        });
        named.collect::<Vec<_>>().join("; ")
    };
    let same = |text: &str| text.to_owned();
    for (what, text) in [
        ("on", each(&verdicts.machines, &same)),
        ("guests by", each(&verdicts.accel, &accel)),
        ("QEMU", each(&verdicts.qemu, &same)),
    ] {
        if !text.is_empty() {
            lines.push(format!("{what} {text}"));
        }
    }
    let builds = each(&verdicts.devices, &same);
    let builds = if builds.is_empty() { String::new() } else { format!(", build {builds}") };
    lines.push(format!("sdmorph {}{builds}", verdicts.lab));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    #[test]
    fn a_cell_is_said_in_a_few_characters() {
        let verdicts = verdicts();
        let said = |kernel: &str, scenario: &str| short(verdicts.cell(kernel, scenario).unwrap());
        assert_eq!(said("6.1-none", "sd7-idle-race"), "3/3 fault, 1 inconclusive");
        assert_eq!(said("6.1-none", "card-pull"), "1/4 hang");
        assert_eq!(said("6.1-diff-2", "sd7-idle-race"), "0/4");
        assert_eq!(said("6.1-diff-2", "card-pull"), "4 not run");
    }

    #[test]
    fn every_reason_is_a_remark_of_one_line() {
        let verdicts = verdicts();
        let lines = remarks(verdicts.cell("6.1-diff-2", "card-pull").unwrap());
        assert_eq!(lines, ["4 x not run: the patch <v9> does not apply: hunk 1 & 2 / failed"]);
        let lines = remarks(verdicts.cell("6.1-diff-2", "sd7-idle-race").unwrap());
        assert_eq!(lines[0], "1 x made again: waited 900 s for init");
        assert!(lines[1].starts_with("1 x warning: WARNING: possible circular"));
    }

    #[test]
    fn what_a_guest_says_gives_a_terminal_no_command() {
        assert_eq!(plain("BUG: \x1b[2J\n\n  at \u{9b}x\t1"), "BUG: \u{fffd}[2J / at \u{fffd}x\u{fffd}1");
    }

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        assert_eq!(interval(&Share::of(20, 20)), "84-100 %");
        assert_eq!(
            (ms(Some(3.06)), ms(Some(512.7)), ms(Some(31_000.0))),
            ("3.1 ms".into(), "513 ms".into(), "31.0 s".into())
        );
        assert_eq!(ms(None), "-");
    }

    #[test]
    fn how_it_was_made_says_runs_time_machine_and_versions() {
        let text = made(&verdicts()).join("\n");
        for part in [
            "16 runs, which ended between 2026-",
            "on 2 x processor",
            "emulation (TCG)",
            "QEMU 11.1.3",
            "sdmorph 0.1.0, build 0123456789ab",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }
}

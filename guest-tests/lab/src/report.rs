//! Verdicts for people: side by side, as a statistic, and as `report.md`.

use std::fmt::Write as _;

use crate::hang::Hang;
use crate::inlining::InlinedFrame;
use crate::notes::Note;
use crate::oops::{Frame, Oops};
use crate::result::RunResult;
use crate::run::RunSummary;
use crate::statistics::Statistics;
use crate::verdict::{Outcome, Variant};

/// The width of the column of names.
const NAME_WIDTH: usize = 34;
/// The width of a column of values.
const VALUE_WIDTH: usize = 22;
/// Callers that an excerpt of an oops shows.
const CHAIN_LIMIT: usize = 12;

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours: only for a terminal, and not if NO_COLOR is set.
    pub colour: bool,
}

impl Style {
    /// Text in an ANSI colour (SGR parameter), or as it is.
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn outcome(self, result: &RunResult, text: &str) -> String {
        match (result.as_expected, result.verdict.outcome) {
            (true, _) => self.paint("32", text),
            (false, Outcome::Inconclusive) => self.paint("33", text),
            (false, _) => self.paint("31", text),
        }
    }

    /// A run's line, the verdict coloured by whether it was expected.
    pub fn line(self, result: &RunResult) -> String {
        self.outcome(result, &result.line())
    }
}

/// The report on a terminal.
pub fn text(summary: &RunSummary, style: Style) -> String {
    let mut text = String::from("\n");
    if summary.statistics.iter().any(|statistics| statistics.runs > 1) {
        for statistics in &summary.statistics {
            text.push_str(&statistics_text(statistics, style));
        }
        return text;
    }
    let results: Vec<&RunResult> = summary.results.iter().collect();
    text.push_str(&side_by_side(&summary.scenario, &results, style));
    for result in results {
        let title = format!("The guest's kernel ({})", words(result.variant));
        let _ = writeln!(text, "\n{}", style.paint("1", &title));
        for line in &result.kernel_log {
            let _ = writeln!(text, "  {line}");
        }
        let mut part = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ =
                    writeln!(text, "\n{}", style.paint("1", &format!("{title} ({})", words(result.variant))));
                for line in lines {
                    let _ = writeln!(text, "  {line}");
                }
            }
        };
        let oops = result.oops.as_ref();
        part("The oops", oops.map(|oops| excerpt(oops, &result.verdict.inlined)).unwrap_or_default());
        part("The task that hangs", result.hang.as_ref().map(hang_excerpt).unwrap_or_default());
        part("Who ran when, as sdmorph_race noted it", result.notes.iter().map(note_line).collect());
    }
    for result in &summary.results {
        if !result.means.is_empty() {
            let _ = writeln!(text, "\n{}: {}", style.paint("1", words(result.variant)), result.means);
        }
    }
    text
}

fn words(variant: Variant) -> &'static str {
    match variant {
        Variant::WithoutFix => "without the fix",
        Variant::WithFix => "with the fix",
        Variant::OnTrial => "on trial",
    }
}

/// The rows of the comparison: a name, and a value for each run.
fn rows(results: &[&RunResult]) -> Vec<(String, Vec<String>)> {
    let row = |name: &str, value: &dyn Fn(&RunResult) -> String| {
        (name.to_owned(), results.iter().map(|result| value(result)).collect())
    };
    let mut rows = vec![
        row("verdict", &|result| result.verdict.outcome.as_str().to_owned()),
        row("kernel", &|result| result.kernel.clone()),
    ];
    let names = results.first().map(|result| result.moments.as_slice()).unwrap_or_default();
    for name in names.iter().map(|moment| moment.name.as_str()) {
        rows.push(row(name, &|result| {
            let moment = result.moments.iter().find(|moment| moment.name == name);
            moment.and_then(|moment| moment.t_ms).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
        }));
    }
    if results.iter().any(|result| result.removal_ms.is_some()) {
        rows.push(row("the removal took", &|result| {
            result.removal_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
        }));
    }
    rows.push(row("idle callbacks begun when dead", &|result| {
        result.idle_callbacks_on_dead_device.to_string()
    }));
    rows.push(row("reads of the vanished BAR", &|result| result.counts.dead_reads.to_string()));
    rows.push(row("guest and device", &|result| {
        if result.verdict.disagreements.is_empty() { "agree".to_owned() } else { "DISAGREE".to_owned() }
    }));
    rows
}

fn side_by_side(scenario: &str, results: &[&RunResult], style: Style) -> String {
    let mut text = style.paint("1", &pad(scenario, NAME_WIDTH));
    for result in results {
        text.push_str(&style.paint("1", &pad(words(result.variant), VALUE_WIDTH)));
    }
    let mut text = text.trim_end().to_owned() + "\n";
    for (name, values) in rows(results) {
        let mut line = pad(&name, NAME_WIDTH);
        for (value, result) in values.iter().zip(results) {
            let cell = pad(value, VALUE_WIDTH);
            line.push_str(&if name == "verdict" { style.outcome(result, &cell) } else { cell });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Left-aligned in `width` columns, with at least one blank after it.
fn pad(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.chars().count()).max(1);
    format!("{text}{}", " ".repeat(blanks))
}

/// The lines of an oops that say what happened, with the inlined functions in their places.
fn excerpt(oops: &Oops, inlined: &[InlinedFrame]) -> Vec<String> {
    let mut lines = vec![oops.headline.clone()];
    if let (Some(cpu), Some(comm)) = (oops.cpu, &oops.comm) {
        lines.push(format!("CPU: {cpu}  task: {comm}"));
    }
    if let Some(workqueue) = &oops.workqueue {
        lines.push(format!("Workqueue: {workqueue} {}", oops.work.as_deref().unwrap_or("")));
    }
    if let Some(rip) = &oops.rip {
        lines.push(format!("RIP: {}+{:#x}/{:#x}", rip.symbol, rip.offset, rip.size));
    }
    let reliable = oops.chain.iter().enumerate().filter(|(_, frame)| frame.reliable).take(CHAIN_LIMIT);
    for (index, frame) in reliable {
        let here = inlined.iter().filter(|inlined| inlined.chain_index == index);
        lines.extend(here.map(|inlined| format!(" {}", inlined.line())));
        lines.push(frame_line(frame));
    }
    lines
}

/// The lines about a task that hangs that say where.
fn hang_excerpt(hang: &Hang) -> Vec<String> {
    let mut lines = vec![hang.headline.clone()];
    lines.extend(hang.workqueue.as_ref().map(|workqueue| format!("Workqueue: {workqueue}")));
    lines.extend(chain(&hang.chain));
    lines
}

/// A note on one line, with the kernel's time.
fn note_line(note: &Note) -> String {
    let Note { time_us, cpu, task, .. } = note;
    let (seconds, micros) = (time_us / 1_000_000, time_us % 1_000_000);
    format!("[{seconds:5}.{micros:06}] CPU {cpu} {task}: {}", note.words())
}

fn chain(frames: &[Frame]) -> impl Iterator<Item = String> + '_ {
    let reliable = frames.iter().filter(|frame| frame.reliable).take(CHAIN_LIMIT);
    reliable.map(frame_line)
}

fn frame_line(frame: &Frame) -> String {
    let module = frame.module.as_ref().map(|module| format!(" [{module}]")).unwrap_or_default();
    format!(" {}+{:#x}/{:#x}{module}", frame.symbol, frame.offset, frame.size)
}

fn statistics_text(statistics: &Statistics, style: Style) -> String {
    let runs = statistics.runs;
    let (fault, clean, inconclusive) = (statistics.fault, statistics.clean, statistics.inconclusive);
    let hang = if statistics.hang > 0 { format!("{} hang, ", statistics.hang) } else { String::new() };
    let mut text = style.paint("1", words(statistics.variant));
    let _ = writeln!(text, ": {runs} runs: {fault} fault, {hang}{clean} clean, {inconclusive} inconclusive");
    for (reason, times) in &statistics.reasons {
        let _ = writeln!(text, "  {times} x {reason}");
    }
    let header = ["runs", "min", "p25", "median", "p75", "max"];
    let _ = write!(text, "  {}", pad("ms", NAME_WIDTH));
    let _ = writeln!(text, "{}", header.map(|word| format!("{word:>9}")).concat());
    for (name, spread) in &statistics.moments {
        let _ = write!(text, "  {}{:>9}", pad(name, NAME_WIDTH), spread.runs);
        let values = [spread.min_ms, spread.p25_ms, spread.median_ms, spread.p75_ms, spread.max_ms];
        let _ = writeln!(text, "{}", values.map(|value| format!("{value:>9.1}")).concat());
    }
    text.push('\n');
    text
}

/// `report.md`: verdicts, times, oopses and versions.
pub fn markdown(summary: &RunSummary) -> String {
    let mut text = format!("# {}\n\n{}\n\n", summary.scenario, summary.purpose.trim());
    if let Some(first) = summary.results.first() {
        let origin = &first.origin;
        let _ = match origin.unreported() {
            Some(why) => writeln!(text, "- no report: {why}"),
            None => writeln!(text, "- reported as: {}", origin.thread),
        };
        let more = [("CVE", &origin.cve), ("fixed by", &origin.commit)];
        for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let _ = writeln!(text, "- kernel: {}\n- QEMU: {}\n", first.kernel, first.qemu);
    }
    if summary.statistics.iter().any(|statistics| statistics.runs > 1) {
        text.push_str("## Statistics\n\n```\n");
        for statistics in &summary.statistics {
            text.push_str(&statistics_text(statistics, Style { colour: false }));
        }
        text.push_str("```\n\n");
    }
    // Side by side, the first run of each variant; all of them have a document of their own.
    let firsts: Vec<&RunResult> = summary
        .statistics
        .iter()
        .filter_map(|statistics| summary.results.iter().find(|result| result.variant == statistics.variant))
        .collect();
    text.push_str("## Side by side\n\n|");
    for cell in std::iter::once("").chain(firsts.iter().map(|result| words(result.variant))) {
        let _ = write!(text, " {cell} |");
    }
    text.push_str("\n|");
    text.push_str(&"---|".repeat(firsts.len() + 1));
    text.push('\n');
    for (name, values) in rows(&firsts) {
        let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
    }
    text.push_str(
        "\nTimes are of the device's clock. Those that only the guest knows (page fault, reader removed) are the earliest \
         that they can have been; `latest_ms` in `result.json` is the latest.\n\n## Verdicts\n\n",
    );
    for result in &summary.results {
        let _ = writeln!(text, "- {}", result.line());
    }
    for result in firsts {
        if !result.means.is_empty() {
            let _ = writeln!(text, "\n**{}**: {}", words(result.variant), result.means);
        }
        if let Some(oops) = &result.oops {
            let _ = writeln!(
                text,
                "\n## The oops {}\n\n```\n{}\n```\n\nAs the kernel printed it:\n\n```\n{}\n```",
                words(result.variant),
                excerpt(oops, &result.verdict.inlined).join("\n"),
                oops.text.join("\n")
            );
        }
        let fenced = |lines: Vec<String>| lines.join("\n");
        if let Some(hang) = &result.hang {
            let _ = writeln!(
                text,
                "\n## The task that hangs {}\n\n```\n{}\n```",
                words(result.variant),
                fenced(hang_excerpt(hang))
            );
        }
        if !result.notes.is_empty() {
            let _ = writeln!(
                text,
                "\n## Who ran when {}\n\n```\n{}\n```",
                words(result.variant),
                fenced(result.notes.iter().map(note_line).collect())
            );
        }
        for warning in &result.warnings {
            let _ = writeln!(text, "\nA warning {}: `{warning}`", words(result.variant));
        }
        let _ = writeln!(
            text,
            "\n## QEMU's command line {}\n\n```\n{}\n```",
            words(result.variant),
            result.qemu_command
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{clean, fault};

    fn summary(results: Vec<RunResult>) -> RunSummary {
        let variants = [Variant::WithoutFix, Variant::WithFix];
        let statistics = variants.iter().filter_map(|&variant| Statistics::of(variant, &results)).collect();
        RunSummary { scenario: "sd7-idle-race".into(), purpose: "why\n".into(), results, statistics }
    }

    #[test]
    fn two_verdicts_stand_side_by_side_with_their_times() {
        let text = text(&summary(vec![fault(), clean()]), Style { colour: false });
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert_eq!(line("verdict").split_whitespace().collect::<Vec<_>>(), ["verdict", "fault", "clean"]);
        assert!(line("page fault").contains("285.8 ms") && line("page fault").ends_with('-'), "{text}");
        assert!(text.contains("RIP: ioread32+0x2e/0x60"), "{text}");
        assert!(text.contains(" rtsx_pci_runtime_idle+0xa7/0x160 [rtsx_pci]"), "{text}");
        let lines: Vec<_> = text.lines().collect();
        let inlined =
            "   rtsx_pci_write_register (inlined into rtsx_set_l1off_sub: rtsx_pci.ko calls ioread32 there)";
        let at = lines.iter().position(|line| *line == inlined).unwrap();
        assert!(lines[at + 1].starts_with("   rtsx_set_l1off_sub+0x3d"), "{text}");
        assert!(!text.contains("rescuer_thread"), "unreliable frames are left out:\n{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn colours_are_there_only_if_asked_for() {
        let both = summary(vec![fault(), clean()]);
        assert!(!text(&both, Style { colour: false }).contains('\x1b'));
        assert!(text(&both, Style { colour: true }).contains("\x1b[32mfault"));
    }

    #[test]
    fn many_runs_are_counted_and_their_times_spread() {
        let text = text(&summary(vec![fault(), fault(), clean(), clean()]), Style { colour: false });
        assert!(text.contains("without the fix: 2 runs: 2 fault, 0 clean, 0 inconclusive"), "{text}");
        let row = text.lines().find(|line| line.trim_start().starts_with("link down")).unwrap();
        let numbers: Vec<_> = row.split_whitespace().skip(2).collect();
        assert_eq!(numbers, ["2", "257.1", "257.1", "257.1", "257.1", "257.1"]);
    }

    #[test]
    fn the_markdown_has_verdicts_oops_times_and_versions() {
        let text = markdown(&summary(vec![fault(), clean()]));
        for part in [
            "# sd7-idle-race",
            "CVE: CVE-2024-35809",
            "kernel: 6.1.0-56-amd64",
            "QEMU: 11.1.3",
            "| verdict | fault | clean |",
            "| link down | 257.1 ms | 252.5 ms |",
            "Workqueue: pm pm_runtime_work",
            " rtsx_pci_write_register (inlined into rtsx_set_l1off_sub: rtsx_pci.ko calls ioread32 there)\n rtsx_set",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }
}

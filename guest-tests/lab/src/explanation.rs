//! What a run that did not end as expected is explained with: enough to understand it from the lab's output alone, as
//! that of a machine whose files are gone when somebody looks.

use std::path::Path;

use crate::klog::KtapOutcome;
use crate::result::Files;
use crate::verdict::Evidenced;

/// Lines of the console up to the one in question.
const CONSOLE_LINES: usize = 25;
/// Lines of the end of a log file.
const LOG_LINES: usize = 10;
/// Lines that the guest's script said of tests that failed, these among them.
const SCRIPT_LINES: usize = 30;
/// Characters of a line.
const LINE_LENGTH: usize = 240;

/// The explanation, a line each: the failed tests with what the guest's script said of them, the console up to the first
/// of them (or else to the first error that was not expected, or else its end), the ends of the logs of the device's
/// process and of QEMU, and how busy the host was.
pub(crate) fn explain(evidence: &Evidenced<'_>, files: &Files) -> Vec<String> {
    let mut lines = script(evidence);
    lines.extend(console(evidence));
    for (whose, path) in [("the device's process", &files.server_log), ("QEMU", &files.qemu_log)] {
        let text = end_of(path);
        if !text.is_empty() {
            lines.push(format!("the end of the log of {whose}:"));
            lines.extend(text);
        }
    }
    lines.extend(load());
    lines.iter().map(|line| printable(line)).collect()
}

/// How busy the host is. The guest's drivers have time limits of their own: 100 ms for a card's response, for one.
fn load() -> Option<String> {
    let averages = std::fs::read_to_string("/proc/loadavg").ok()?;
    let averages: Vec<&str> = averages.split_whitespace().take(3).collect();
    let processors = std::thread::available_parallelism().ok()?;
    Some(format!(
        "the host's load (1, 5 and 15 minutes): {}; it has {processors} processors",
        averages.join(", ")
    ))
}

fn script(evidence: &Evidenced<'_>) -> Vec<String> {
    let ktap = &evidence.log.ktap;
    let failed = ktap.results.iter().filter(|result| result.outcome == KtapOutcome::Fail);
    let mut lines: Vec<String> = failed
        .flat_map(|result| {
            let said = result.diagnostics.iter().map(|line| format!("  {line}"));
            let head = format!("the guest's test {} failed: {}", result.number, result.description);
            std::iter::once(head).chain(said)
        })
        .collect();
    if !ktap.finished && !ktap.diagnostics.is_empty() {
        lines.push("the guest's script said last:".to_owned());
        lines.extend(ktap.diagnostics.iter().rev().take(LOG_LINES).rev().map(|line| format!("  {line}")));
    }
    if lines.len() > SCRIPT_LINES {
        let more = lines.len() - SCRIPT_LINES;
        lines.truncate(SCRIPT_LINES);
        lines.push(format!("  (and {more} lines more)"));
    }
    lines
}

fn console(evidence: &Evidenced<'_>) -> Vec<String> {
    let lines = &evidence.log.lines;
    let failed = evidence.failed_test().map(|result| result.line);
    let at = failed.or_else(|| {
        let error = evidence.unexpected_error()?;
        lines.iter().position(|line| std::ptr::eq(line, error))
    });
    let (until, where_to) = match at {
        Some(at) => (at + 1, "to the line in question"),
        None => (lines.len(), "to its end"),
    };
    let from = until.saturating_sub(CONSOLE_LINES);
    let shown = lines.get(from..until).unwrap_or_default();
    let head = format!("the guest's console, {} lines {where_to}:", shown.len());
    std::iter::once(head).chain(shown.iter().map(|line| format!("  {line}"))).collect()
}

/// The last lines of a file that say something; none if there is no such file.
fn end_of(path: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines.into_iter().skip(from).map(|line| format!("  {line}")).collect()
}

/// Without what would move a terminal's cursor, and not for ever.
fn printable(line: &str) -> String {
    let line: String = line.trim_end().replace(char::is_control, " ");
    match line.char_indices().nth(LINE_LENGTH) {
        Some((at, _)) => format!("{}...", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::klog::Klog;
    use crate::record::Record;
    use crate::verdict::Variant;

    /// The explanation of a run with the fix, of which this is the console.
    fn explained(console: &str, files: &Files) -> Vec<String> {
        let scenario = crate::verdict::tests::scenario();
        let evidence = Evidenced {
            scenario: &scenario,
            variant: Variant::WithFix,
            module: false,
            log: &Klog::from_bytes(console.as_bytes()),
            record: &Record::default(),
            unmodelled: Some(&[]),
            counters: &BTreeMap::new(),
            device_memory_kib: &[],
            host_hashes: &[],
            cut_short: None,
            modules: &[],
        };
        let mut lines = explain(&evidence, files);
        let load = lines.pop().unwrap();
        assert!(load.starts_with("the host's load (1, 5 and 15 minutes): ") && load.contains('.'), "{load}");
        lines
    }

    /// 40 lines of the kernel, the script's words among them.
    fn console(said: &[&str]) -> String {
        let mut text = String::from("<14>[    0.500000] sdmorph-init: kernel 6.1.0, test card-pull\n");
        for number in 0..40 {
            text.push_str(&format!("<6>[    1.{number:06}] mmc0: line {number}\n"));
        }
        for line in said {
            text.push_str(&format!("<14>[    2.000000] sdmorph-ktap: {line}\n"));
        }
        text + "<6>[    3.000000] mmc0: afterwards\n"
    }

    #[test]
    fn a_failed_test_comes_with_what_was_said_of_it_and_the_console_up_to_it() {
        let text = console(&[
            "# of the first",
            "ok 1 - the card becomes a disk",
            "# mmcblk0 has 0 bytes, the image second has 8589934592",
            "# sh: can't open /dev/mmcblk0: no such device",
            "not ok 2 - second: the disk has the image's size",
            "ok 3 - later",
        ]);
        let lines = explained(&text, &Files::default());
        assert_eq!(lines[0], "the guest's test 2 failed: second: the disk has the image's size");
        assert_eq!(lines[1], "  mmcblk0 has 0 bytes, the image second has 8589934592");
        assert_eq!(lines[2], "  sh: can't open /dev/mmcblk0: no such device");
        assert_eq!(lines[3], "the guest's console, 25 lines to the line in question:");
        assert_eq!(lines.len(), 4 + 25);
        assert_eq!(lines[4], "  <6>[    1.000020] mmc0: line 20");
        let last = lines.last().unwrap();
        assert_eq!(
            last,
            "  <6>[    2.000000] sdmorph-ktap: not ok 2 - second: the disk has the image's size"
        );
    }

    #[test]
    fn an_unexpected_error_is_the_line_in_question_if_no_test_failed() {
        let text = console(&["ok 1 - a"]).replace("<6>[    1.000030]", "<3>[    1.000030]");
        let lines = explained(&text, &Files::default());
        assert_eq!(lines[0], "the guest's console, 25 lines to the line in question:");
        assert_eq!(lines.last().unwrap(), "  <3>[    1.000030] mmc0: line 30");
    }

    #[test]
    fn without_either_it_is_the_console_s_end_and_a_short_one_is_whole() {
        let lines = explained(&console(&["ok 1 - a", "# and then"]), &Files::default());
        assert_eq!(lines[..2], ["the guest's script said last:", "  and then"]);
        assert_eq!(lines[2], "the guest's console, 25 lines to its end:");
        assert_eq!(lines.last().unwrap(), "  <6>[    3.000000] mmc0: afterwards");
        let lines = explained("SeaBIOS\x1b[2J (version 1.17)\n", &Files::default());
        assert_eq!(lines, ["the guest's console, 1 lines to its end:", "  SeaBIOS [2J (version 1.17)"]);
    }

    #[test]
    fn the_ends_of_both_logs_are_shown_if_there_is_something_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files {
            server_log: directory.path().join("server.log"),
            qemu_log: directory.path().join("qemu.log"),
            ..Files::default()
        };
        let text: String = (0..100).map(|number| format!("line {number}\n\n")).collect();
        std::fs::write(&files.server_log, text).unwrap();
        std::fs::write(&files.qemu_log, " \n").unwrap();
        let lines = explained("", &files);
        assert_eq!(lines[1], "the end of the log of the device's process:");
        assert_eq!((lines.len(), lines[2].as_str()), (2 + LOG_LINES, "  line 90"));
        std::fs::write(&files.qemu_log, "x".repeat(1000)).unwrap();
        let lines = explained("", &files);
        assert_eq!(lines.last().unwrap().len(), LINE_LENGTH + "...".len());
    }

    #[test]
    fn a_script_that_fails_everywhere_is_not_told_of_without_end() {
        let said: Vec<String> = (1..=100).map(|number| format!("not ok {number} - x")).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let lines = explained(&console(&said), &Files::default());
        assert_eq!(lines[SCRIPT_LINES], "  (and 70 lines more)");
        assert_eq!(lines.len(), SCRIPT_LINES + 2 + CONSOLE_LINES);
    }
}

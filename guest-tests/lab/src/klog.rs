//! The guest's serial console, read while it is written: kernel lines, KTAP lines, faults.
//!
//! The lab boots every guest with `console_msg_format=syslog`, so that the kernel puts the level before each line
//! of the console as `dmesg -r` does: `<6>[    3.123456] text`. Lines with a time but no level (a console without that
//! parameter) are kernel lines of unknown level.
//!
//! What the guest's script says comes in the kernel's log as well: `/init` makes a record of each of its lines, which
//! begins with `sdmorph-ktap: `. A record is printed whole, so that no other line can cut it, as a line that user land writes to
//! the same UART by itself can be. A line without a prefix is firmware's, or a program's that knows the UART.
//!
//! A record can be cut short only by a panic, which prints without asking who else does. A prefix in mid-line therefore
//! starts a line of its own.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::hang::{Hang, HangParser};
use crate::notes::Note;
use crate::oops::{Oops, OopsParser};

/// The longest line that is kept, in bytes; more is cut off. The kernel's own limit is 1024.
const LINE_LIMIT_BYTES: usize = 4096;

/// What a line of the guest's script begins with, after level and time. init.sh puts it there.
const SCRIPT: &str = "sdmorph-ktap: ";

/// What a line of the device's drivers holds: VMD's domain, and the drivers' names.
const DEVICE_WORDS: [&str; 5] = ["10000:", "vmd", "rtsx", "pciehp", "mmc"];

/// What the kernel says, as an emergency, when it turns the power off (`kernel_power_off` of kernel/reboot.c). A console that
/// is read to its end has it.
const POWER_DOWN: &str = "reboot: Power down";

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// The kernel's level, 0 (emergency) to 7 (debug); `None` for user land or if the console does not show it.
    pub level: Option<u8>,
    /// Microseconds of the kernel's log clock; `None` for user land.
    pub time_us: Option<u64>,
    /// The text after the prefix.
    pub text: String,
}

impl LogLine {
    /// Take one line apart: `<level>[seconds.micros] text`, each part optional; after the time may come the
    /// caller (`[   T34]`, CONFIG_PRINTK_CALLER).
    pub fn parse(line: &str) -> Self {
        let user = Self { level: None, time_us: None, text: line.to_owned() };
        let (level, rest) = match take_level(line) {
            Some((level, rest)) => (Some(level), rest),
            None => (None, line),
        };
        let Some((time_us, rest)) = take_time(rest) else { return user };
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let text = take_caller(rest).unwrap_or(rest);
        Self { level, time_us: Some(time_us), text: text.to_owned() }
    }

    /// Whether it was in the kernel's log.
    pub fn is_kernel(&self) -> bool {
        self.time_us.is_some()
    }

    /// The note of sdmorph_race that the script has copied, if it is one.
    fn note(&self) -> Option<Note> {
        if self.is_kernel() { Note::parse(&self.text) } else { None }
    }

    /// What the guest's script said, if this is a line of it.
    fn of_script(&self) -> Option<&str> {
        if self.is_kernel() { self.text.strip_prefix(SCRIPT) } else { None }
    }
}

impl std::fmt::Display for LogLine {
    /// As it was on the console: level 6 is not told from user land's 14 any more.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(level) = self.level {
            write!(f, "<{level}>")?;
        }
        if let Some(us) = self.time_us {
            write!(f, "[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000)?;
        }
        f.write_str(&self.text)
    }
}

fn take_level(line: &str) -> Option<(u8, &str)> {
    let (digits, rest) = line.strip_prefix('<')?.split_once('>')?;
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Facility in the upper bits, level in the lower three (include/linux/kern_levels.h, syslog(2)).
    let priority: u16 = digits.parse().ok()?;
    Some((u8::try_from(priority & 7).ok()?, rest))
}

fn take_time(line: &str) -> Option<(u64, &str)> {
    let (inside, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = inside.trim_start_matches(' ').split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || micros.len() != 6 || !digits(micros) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let micros: u64 = micros.parse().ok()?;
    Some((seconds.checked_mul(1_000_000)?.checked_add(micros)?, rest))
}

fn take_caller(line: &str) -> Option<&str> {
    let (inside, rest) = line.strip_prefix('[')?.split_once(']')?;
    let caller = inside.trim_start_matches(' ');
    let number = caller.strip_prefix(['T', 'C'])?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(rest.strip_prefix(' ').unwrap_or(rest))
}

/// Where the next kernel line starts inside `line`, beyond its first byte.
/// On a console that shows levels, a time without one is the script quoting the kernel.
fn embedded_prefix(line: &str, levels_shown: bool) -> Option<usize> {
    line.char_indices().skip(1).find_map(|(at, character)| {
        let rest = line.get(at..)?;
        let starts = match character {
            '<' => take_level(rest).is_some_and(|(_, rest)| take_time(rest).is_some()),
            // After a `<6>` it belongs to that prefix, which was looked at before.
            '[' if !levels_shown => {
                !line.get(..at)?.ends_with('>')
                    && take_time(rest).is_some_and(|(_, rest)| rest.starts_with(' '))
            }
            _ => false,
        };
        starts.then_some(at)
    })
}

/// How one KTAP test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KtapOutcome {
    /// `ok`
    Pass,
    /// `not ok`
    Fail,
    /// `ok … # SKIP`
    Skip,
}

/// One result line of KTAP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KtapResult {
    /// The number in the line.
    pub number: u32,
    /// How it ended.
    pub outcome: KtapOutcome,
    /// What was tested; without the directive.
    pub description: String,
    /// What the script said since the result before, without the leading `# `.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<String>,
    /// Which of the console's lines it is.
    #[serde(skip)]
    pub line: usize,
}

/// The guest script's own report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ktap {
    /// Results that were planned.
    pub plan: Option<u32>,
    /// Results, in the order of the lines.
    pub results: Vec<KtapResult>,
    /// What the script said since the last result, without the leading `# `; the totals are not among them.
    pub diagnostics: Vec<String>,
    /// The totals line came: the script reached its end.
    pub finished: bool,
    /// What that line says.
    pub totals: Option<KtapTotals>,
}

/// The script's own count of its results. A result line can be lost: it may begin behind what a program left on the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct KtapTotals {
    /// `pass:`
    pub pass: usize,
    /// `fail:`
    pub fail: usize,
    /// `skip:`
    pub skip: usize,
}

impl KtapTotals {
    fn parse(text: &str) -> Self {
        let count = |name: &str| {
            let word = text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
            word.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Self { pass: count("pass"), fail: count("fail"), skip: count("skip") }
    }
}

impl Ktap {
    /// Take in a line of the script, which is the console's line number `at`.
    fn push(&mut self, line: &str, at: usize) {
        let line = line.trim();
        if let Some(count) = line.strip_prefix("1..") {
            let digits = count.split_whitespace().next().unwrap_or("");
            if let Ok(count) = digits.parse() {
                self.plan = Some(count);
                // `1..0 # SKIP`: nothing will follow.
                self.finished |= count == 0;
            }
        } else if let Some(text) = line.strip_prefix("# ") {
            if let Some(totals) = text.strip_prefix("Totals: ") {
                self.finished = true;
                self.totals = Some(KtapTotals::parse(totals));
            } else {
                self.diagnostics.push(text.to_owned());
            }
        } else if let Some((number, outcome, description)) = parse_ktap_result(line) {
            let diagnostics = std::mem::take(&mut self.diagnostics);
            self.results.push(KtapResult { number, outcome, description, diagnostics, line: at });
        }
    }
}

fn parse_ktap_result(line: &str) -> Option<(u32, KtapOutcome, String)> {
    let (failed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix("ok ")?),
    };
    let digits = rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, rest) = rest.split_at_checked(digits)?;
    let number = number.parse().ok()?;
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (description, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let outcome = if failed {
        KtapOutcome::Fail
    } else if directive.starts_with("SKIP") {
        KtapOutcome::Skip
    } else {
        KtapOutcome::Pass
    };
    Some((number, outcome, description.trim().to_owned()))
}

/// Everything known about a guest from its console so far.
#[derive(Debug, Default)]
pub struct Klog {
    /// Every line, in order.
    pub lines: Vec<LogLine>,
    /// Faults and warnings of the kernel, in order.
    pub oopses: Vec<Oops>,
    /// Tasks that hang, in order.
    pub hangs: Vec<Hang>,
    /// Notes of the module sdmorph_race, in the order of their times.
    pub notes: Vec<Note>,
    /// The guest script's report.
    pub ktap: Ktap,
    /// What the kernel panicked of.
    pub panic: Option<String>,
    /// Which of `lines` belong to an oops or frame one, or are about a task that hangs.
    oops_lines: BTreeSet<usize>,
    parser: OopsParser,
    hang_parser: HangParser,
    levels_shown: bool,
    pending: Vec<u8>,
}

impl Klog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Read a whole console log at once.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut log = Self::new();
        log.push(bytes);
        log.finish();
        log
    }

    /// Take in what the serial port has just said; lines may be cut anywhere. Returns how many lines were completed.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let before = self.lines.len();
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                // The console's driver makes `\r\n` of the kernel's `\n`.
                b'\r' | 0 => {}
                _ if self.pending.len() < LINE_LIMIT_BYTES => self.pending.push(byte),
                _ => {}
            }
        }
        self.lines.len() - before
    }

    /// The port is closed: what is left is the last line, and an oops without its end is all there will be of it.
    pub fn finish(&mut self) {
        if !self.pending.is_empty() {
            self.end_line();
        }
        self.oopses.extend(self.parser.finish());
        self.hangs.extend(self.hang_parser.finish());
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.pending);
        let line = String::from_utf8_lossy(&bytes);
        let mut rest: &str = &line;
        while let Some(at) = embedded_prefix(rest, self.levels_shown) {
            let (head, tail) = rest.split_at(at);
            self.add_line(LogLine::parse(head));
            rest = tail;
        }
        self.add_line(LogLine::parse(rest));
    }

    fn add_line(&mut self, mut line: LogLine) {
        self.levels_shown |= line.level.is_some();
        if self.levels_shown && line.level.is_none() {
            line.time_us = None;
        }
        if let Some(said) = line.of_script() {
            self.ktap.push(said, self.lines.len());
        } else if let Some(note) = line.note() {
            let at = self.notes.partition_point(|other| other.time_us <= note.time_us);
            self.notes.insert(at, note);
        } else if line.is_kernel() {
            let (about_a_hang, hang) = self.hang_parser.push(&line);
            self.hangs.extend(hang);
            let (about_an_oops, oops) = self.parser.push(&line);
            self.oopses.extend(oops);
            if about_a_hang || about_an_oops {
                self.oops_lines.insert(self.lines.len());
            }
            if self.panic.is_none() {
                self.panic = line.text.strip_prefix("Kernel panic - ").map(str::to_owned);
            }
        }
        self.lines.push(line);
    }

    /// The first line that matches `pattern` (see [`matches()`]).
    pub fn find(&self, pattern: &str) -> Option<&LogLine> {
        self.lines.iter().find(|line| matches(pattern, &line.text))
    }

    /// First lines of warnings of the kernel: WARN, and what lockdep and KASAN report.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.oopses.iter().filter(|oops| oops.is_warning()).map(|oops| oops.headline.as_str())
    }

    /// The last line that says something; what a guest that hangs is remembered by.
    pub fn last_line(&self) -> &str {
        let lines = self.lines.iter().rev();
        lines.map(|line| line.text.as_str()).find(|text| !text.trim().is_empty()).unwrap_or("(nothing)")
    }

    /// Whether the console shows levels at all.
    pub fn shows_levels(&self) -> bool {
        self.levels_shown
    }

    /// Kernel lines of level error or worse, outside of an oops, whose text is not expected.
    ///
    /// Before init, only the device's own lines count: an emulated platform under load makes the kernel complain of
    /// timers and the like while it boots, and that is nobody's fault here.
    pub fn unexpected_errors<'a>(
        &'a self,
        is_expected: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a LogLine> {
        let init = self.lines.iter().position(|line| line.text.starts_with("sdmorph-init: "));
        let lines = self.lines.iter().enumerate();
        lines
            .filter(move |(index, line)| {
                init.is_some_and(|init| *index > init)
                    || DEVICE_WORDS.iter().any(|word| line.text.contains(word))
            })
            .filter(|(index, _)| !self.oops_lines.contains(index))
            // 3 is KERN_ERR.
            .filter(|(_, line)| line.level.is_some_and(|level| level <= 3) && line.text != POWER_DOWN)
            .filter(move |(_, line)| !is_expected(&line.text))
            .map(|(_, line)| line)
    }

    /// What the kernel calls itself, from its first line (`Linux version 6.1.0-35-amd64 (…) #1 SMP …`): its release and,
    /// if the lab has built it, its name, since others have the same release.
    pub fn kernel(&self) -> Option<String> {
        let text = self.lines.iter().find_map(|line| line.text.strip_prefix("Linux version "))?;
        let release = text.split_whitespace().next()?;
        let version = text.rsplit_once(" #").and_then(|(_, version)| version.split_whitespace().next());
        Some(match version {
            Some(name) if name.parse::<u32>().is_err() => format!("{release} #{name}"),
            _ => release.to_owned(),
        })
    }
}

/// Whether the whole of `text` matches `pattern`, in which `*` stands for any text, also none.
pub fn matches(pattern: &str, text: &str) -> bool {
    let text = text.trim_end();
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    // The last part is held against the end; the others are found from left to right, each as early as possible.
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_level_time_and_caller_is_taken_apart() {
        let line = LogLine::parse("<14>[   12.000345][   T34] sdmorph-test: inserting sd-express");
        assert_eq!(line.level, Some(6));
        assert_eq!(line.time_us, Some(12_000_345));
        assert_eq!(line.text, "sdmorph-test: inserting sd-express");
    }

    #[test]
    fn a_line_without_level_has_a_time_and_no_level() {
        let line =
            LogLine::parse("[    0.000000] Linux version 6.1.0-35-amd64 (debian-kernel@lists.debian.org)");
        assert_eq!((line.level, line.time_us), (None, Some(0)));
    }

    #[test]
    fn what_only_looks_like_a_prefix_is_text() {
        for text in ["[ok] started", "<b>[    1.0] x", "[    1.23] short", "<6>no time", "", "<"] {
            let line = LogLine::parse(text);
            assert_eq!((line.level, line.time_us, line.text.as_str()), (None, None, text));
        }
    }

    #[test]
    fn what_a_panic_cuts_off_does_not_hide_it() {
        let log = Klog::from_bytes(
            b"<14>[    3.000000] sdmorph-ktap: ok 1 - the dri<0>[    3.100000] Kernel panic - not syncing: Fatal exception\r\n",
        );
        assert_eq!(log.lines.len(), 2);
        assert_eq!(log.panic.as_deref(), Some("not syncing: Fatal exception"));
        assert_eq!(log.ktap.results[0].number, 1);
    }

    #[test]
    fn only_records_of_the_script_are_its_results() {
        let log = Klog::from_bytes(
            b"<14>[    3.000000] sdmorph-ktap: ok 1 - a\r\n\
              ok 2 - written past the log\r\n\
              <6>[    3.200000] ok 3 - the kernel's own test\r\n\
              <14>[    3.300000] sdmorph-ktap: ok 4 - b\r\n",
        );
        let numbers: Vec<_> = log.ktap.results.iter().map(|result| (result.number, result.line)).collect();
        assert_eq!(numbers, [(1, 0), (4, 3)]);
    }

    #[test]
    fn the_script_s_lines_are_neither_errors_nor_part_of_an_oops() {
        let log = Klog::from_bytes(
            b"<14>[    3.000000] sdmorph-init: kernel 6.1.0-56-amd64, test card-pull\n\
              <14>[    3.100000] sdmorph-ktap: # BUG: unable to handle page fault for address: ff5e2c4780051010\n\
              <14>[    3.200000] sdmorph-ktap: # sh: can't open /dev/mmcblk0: no such file\n\
              <14>[    3.300000] sdmorph-ktap: not ok 1 - a\n\
              <1>[    4.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010\n\
              <14>[    4.000100] sdmorph-ktap: # CPU: 7 Comm: nobody\n\
              <4>[    4.000200] ---[ end trace 0000000000000000 ]---\n",
        );
        assert_eq!(log.unexpected_errors(|_| false).count(), 0);
        assert_eq!(log.oopses.len(), 1);
        assert_eq!((log.oopses[0].cpu, log.oopses[0].time_us), (None, Some(4_000_000)));
        assert!(log.ktap.results[0].diagnostics[1].contains("can't open /dev/mmcblk0"));
        assert_eq!(log.ktap.diagnostics, ["CPU: 7 Comm: nobody"]);
    }

    #[test]
    fn lines_that_arrive_in_pieces_are_put_together() {
        let mut log = Klog::new();
        assert_eq!(log.push(b"<6>[    1.5000"), 0);
        assert_eq!(log.push(b"00] hello\r"), 0);
        assert_eq!(log.push(b"\n<4>[    1.6"), 1);
        log.finish();
        assert_eq!(log.lines[0].text, "hello");
        // Truncated: it can no longer be known for a kernel line, and is kept as it is.
        assert_eq!(log.lines[1].text, "<4>[    1.6");
    }

    #[test]
    fn a_script_that_quotes_the_kernel_is_not_the_kernel() {
        let log = Klog::from_bytes(
            b"<6>[    1.000000] x\n\
              <14>[    5.000000] sdmorph-ktap: # [    4.500000] BUG: unable to handle page fault for address: ffffb24d403e5010\n",
        );
        assert!(log.oopses.is_empty());
        assert_eq!(log.lines.len(), 2);
    }

    /// What the script said, as it comes from the console.
    fn said(lines: &str) -> Klog {
        let lines: Vec<_> =
            lines.lines().map(|line| format!("<14>[    5.000000] sdmorph-ktap: {line}\r\n")).collect();
        Klog::from_bytes(lines.concat().as_bytes())
    }

    #[test]
    fn ktap_results_plan_diagnostics_and_end_are_read() {
        let ktap = said(
            "KTAP version 1\n1..3\nok 1 - a\n# saw b\nnot ok 2 - b\nok 3 - c # SKIP no c here\n# later\n\
             # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0\n",
        )
        .ktap;
        let outcomes: Vec<_> = ktap.results.iter().map(|result| result.outcome).collect();
        assert_eq!(outcomes, [KtapOutcome::Pass, KtapOutcome::Fail, KtapOutcome::Skip]);
        assert_eq!(ktap.results[2].description, "c");
        assert_eq!(ktap.plan, Some(3));
        assert_eq!(ktap.results[1].diagnostics, ["saw b"]);
        assert!(ktap.results[0].diagnostics.is_empty() && ktap.results[2].diagnostics.is_empty());
        assert_eq!(ktap.diagnostics, ["later"]);
        assert!(ktap.finished);
        assert_eq!(ktap.totals, Some(KtapTotals { pass: 1, fail: 1, skip: 1 }));
    }

    #[test]
    fn error_lines_outside_an_oops_are_unexpected_unless_a_pattern_allows_them() {
        let log = Klog::from_bytes(
            b"<3>[    0.500000] ..MP-BIOS bug: 8254 timer not connected to IO-APIC\n<3>[    0.900000] vmd 0000:00:05.0: early\n<14>[    0.950000] sdmorph-init: kernel x, test y\n<3>[    1.000000] mmc0: error -110 whilst initialising SD card\n<4>[    1.100000] a warning\n<2>[    1.200000] critical\n<0>[    1.300000] reboot: Power down\n",
        );
        let expected = |text: &str| matches("mmc0: error -110*", text);
        let left: Vec<_> = log.unexpected_errors(expected).map(|line| line.text.as_str()).collect();
        assert_eq!(left, ["vmd 0000:00:05.0: early", "critical"]);
    }

    #[test]
    fn patterns_match_the_whole_line() {
        assert!(matches("*pciehp: Slot(8): Link Down", "pcieport 10000:00:1c.0: pciehp: Slot(8): Link Down"));
        assert!(matches("a*b*c", "aXbYc"));
        assert!(matches("*", ""));
        assert!(!matches("a*b", "ab c"));
        assert!(!matches("Slot(8)", "Slot(8): x"));
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn bytes_that_are_no_text_and_lines_without_end_are_survived() {
        let mut bytes = vec![0xff, 0xfe, b'\n'];
        bytes.extend(std::iter::repeat_n(b'x', 100_000));
        let log = Klog::from_bytes(&bytes);
        assert_eq!(log.lines[1].text.len(), LINE_LIMIT_BYTES);
    }

    #[test]
    fn a_kernel_that_the_lab_has_built_has_a_name() {
        let log = Klog::from_bytes(
            b"<5>[    0.000000] Linux version 6.1.192-sdmorph (sdmorph@lab) (gcc 12) #6.1-v3 SMP PREEMPT\n",
        );
        assert_eq!(log.kernel().as_deref(), Some("6.1.192-sdmorph #6.1-v3"));
    }

    #[test]
    fn a_panic_and_the_kernel_release_are_found() {
        let log = Klog::from_bytes(
            b"<5>[    0.000000] Linux version 6.1.0-35-amd64 (x) #1\n<0>[    2.000000] Kernel panic - not syncing: VFS: Unable to mount root fs\n",
        );
        assert_eq!(log.kernel().as_deref(), Some("6.1.0-35-amd64"));
        assert_eq!(log.panic.as_deref(), Some("not syncing: VFS: Unable to mount root fs"));
    }
}

//! Faults and warnings as the x86-64 kernel prints them: page fault, BUG, WARNING, general protection fault, stalls, what
//! KASAN and lockdep report. Tasks that hang are `hang`'s.
//!
//! Written for the formats of 6.1 to 6.12 (arch/x86/kernel/dumpstack.c, arch/x86/mm/fault.c, kernel/panic.c).
//! What it does not read: the registers, the stack's contents, the disassembly of the `Code:` bytes, other
//! architectures.

use serde::Serialize;

use crate::klog::LogLine;

/// The most lines of one oops that are kept. A full one has about 60.
const TEXT_LIMIT_LINES: usize = 200;

/// What kind of complaint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OopsKind {
    /// `BUG: unable to handle page fault for address: …`
    PageFault,
    /// `BUG: kernel NULL pointer dereference, address: …`
    NullPointer,
    /// `general protection fault`
    GeneralProtection,
    /// `kernel BUG at FILE:LINE!`
    Bug,
    /// `WARNING: CPU: … at …`
    Warning,
    /// `BUG: KASAN: …`
    Kasan,
    /// A CPU or RCU stall.
    Stall,
    /// Any other `BUG:` or `Oops:` line.
    Other,
}

/// One entry of a call chain, or the instruction that faulted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The function's name.
    pub symbol: String,
    /// Bytes from its start.
    pub offset: u64,
    /// The function's size in bytes.
    pub size: u64,
    /// The module it is in; `None` for the kernel image.
    pub module: Option<String>,
    /// False for `?` entries: an address found on the stack that the unwinder does not vouch for.
    pub reliable: bool,
}

impl Frame {
    /// Read `? symbol+0x12/0x34 [module]`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (reliable, text) = match text.strip_prefix("? ") {
            Some(rest) => (false, rest),
            None => (true, text),
        };
        let mut words = text.split_whitespace();
        let (symbol, place) = words.next()?.split_once("+0x")?;
        let (offset, size) = place.split_once("/0x")?;
        if symbol.is_empty() {
            return None;
        }
        let module =
            words.next().and_then(|word| word.strip_prefix('[')).map(|word| word.trim_end_matches(']'));
        Some(Self {
            symbol: symbol.to_owned(),
            offset: u64::from_str_radix(offset, 16).ok()?,
            size: u64::from_str_radix(size, 16).ok()?,
            module: module.map(str::to_owned),
            reliable,
        })
    }
}

/// One fault or warning of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Oops {
    /// What kind it is.
    pub kind: OopsKind,
    /// Its first line.
    pub headline: String,
    /// When it was printed, in microseconds of the kernel's log clock.
    pub time_us: Option<u64>,
    /// The address that was accessed, as the kernel prints it: 16 hexadecimal digits, no `0x`.
    pub address: Option<String>,
    /// `supervisor read access in kernel mode`, and so on.
    pub access: Option<String>,
    /// The CPU it happened on.
    pub cpu: Option<u32>,
    /// The task's process id.
    pub pid: Option<u32>,
    /// The task's name.
    pub comm: Option<String>,
    /// The workqueue that the task was working for.
    pub workqueue: Option<String>,
    /// The work function.
    pub work: Option<String>,
    /// The instruction.
    pub rip: Option<Frame>,
    /// The callers, innermost first, also the unreliable ones.
    pub chain: Vec<Frame>,
    /// The bytes around the instruction, as printed.
    pub code: Option<String>,
    /// The end marker came. Without it the log stopped, or something else broke in.
    pub complete: bool,
    /// Every line of it, with whatever other CPUs said in between.
    pub text: Vec<String>,
}

impl Oops {
    /// Whether `symbol` is among the callers that the unwinder vouches for.
    pub fn calls(&self, symbol: &str) -> bool {
        self.chain.iter().any(|frame| frame.reliable && frame.symbol == symbol)
    }

    /// Whether the kernel went on after it as before: a warning, or a report of KASAN or lockdep.
    pub fn is_warning(&self) -> bool {
        matches!(self.kind, OopsKind::Warning | OopsKind::Kasan)
    }

    fn new(kind: OopsKind, line: &LogLine) -> Self {
        Self {
            kind,
            headline: line.text.clone(),
            time_us: line.time_us,
            address: None,
            access: None,
            cpu: None,
            pid: None,
            comm: None,
            workqueue: None,
            work: None,
            rip: None,
            chain: Vec::new(),
            code: None,
            complete: false,
            text: Vec::new(),
        }
    }

    /// `CPU: 1 UID: 0 PID: 34 Comm: kworker/1:2 Not tainted 6.12 #1`; 6.1 has no UID. A name may hold spaces, and
    /// ends where the taint or the rest of the line begins.
    fn read_task(&mut self, line: &str) {
        let after = |key: &str| line.split_once(key).map(|(_, rest)| rest.trim_start());
        let number = |key: &str| -> Option<u32> { after(key)?.split_whitespace().next()?.parse().ok() };
        self.cpu = number("CPU: ").or(self.cpu);
        self.pid = number("PID: ").or(self.pid);
        if let Some(rest) = after("Comm: ") {
            let end = ["Not tainted", "Tainted:", " at "].iter().filter_map(|mark| rest.find(mark)).min();
            let name = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
            self.comm = Some(name.trim().to_owned());
        }
    }

    fn read_line(&mut self, text: &str, in_chain: &mut bool) {
        let line = text.trim();
        if let Some(access) = line.strip_prefix("#PF: supervisor ") {
            self.access = Some(format!("supervisor {access}"));
        } else if line.starts_with("CPU: ") {
            self.read_task(line);
        } else if let Some(work) = line.strip_prefix("Workqueue: ") {
            let mut words = work.split_whitespace();
            self.workqueue = words.next().map(str::to_owned);
            self.work = words.next().map(str::to_owned);
        } else if let Some(place) = line.strip_prefix("RIP: 0010:") {
            // It is printed twice; the first is the fault's.
            if self.rip.is_none() {
                self.rip = Frame::parse(place);
            }
        } else if let Some(code) = line.strip_prefix("Code: ") {
            if self.code.is_none() {
                self.code = Some(code.to_owned());
            }
        } else if line.starts_with("Call Trace:") {
            *in_chain = true;
        } else if ["Modules linked in:", "CR2: ", "</TASK>"].iter().any(|end| line.starts_with(end)) {
            *in_chain = false;
        } else if *in_chain {
            self.chain.extend(Frame::parse(line));
        }
    }
}

/// What a report ends with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// `---[ end trace`: an oops, a WARN.
    #[default]
    Trace,
    /// A rule of `=`: KASAN (mm/kasan/report.c, end_report).
    Rule,
    /// The end of the call trace behind `stack backtrace:`: lockdep (kernel/locking/lockdep.c).
    Backtrace {
        /// That line has come.
        begun: bool,
    },
    /// Its first line: a `WARNING: ` of neither, as the unwinder has them.
    Headline,
}

impl End {
    fn of(kind: OopsKind, headline: &str, after_rule: bool) -> Self {
        match kind {
            OopsKind::Kasan => Self::Rule,
            // `WARNING: CPU: 0 PID: 9 at FILE:LINE`; since 6.18 `WARNING: FILE:LINE at SYMBOL, CPU#0: COMM/PID`
            // (kernel/panic.c, __warn).
            OopsKind::Warning if headline.starts_with("WARNING: CPU: ") || headline.contains(", CPU#") => {
                Self::Trace
            }
            OopsKind::Warning if after_rule => Self::Backtrace { begun: false },
            OopsKind::Warning => Self::Headline,
            _ => Self::Trace,
        }
    }

    /// Whether a line is the end.
    fn is(&mut self, text: &str) -> bool {
        let text = text.trim();
        match self {
            Self::Trace => text.starts_with("---[ end "),
            Self::Rule => is_rule(text),
            Self::Backtrace { begun } => {
                *begun |= text == "stack backtrace:";
                *begun && text == "</TASK>"
            }
            Self::Headline => true,
        }
    }
}

/// Whether a line is a rule of `=`, as it frames reports.
fn is_rule(text: &str) -> bool {
    text.len() >= 10 && text.bytes().all(|byte| byte == b'=')
}

/// Finds oopses in a stream of kernel lines.
#[derive(Debug, Default)]
pub(crate) struct OopsParser {
    open: Option<Oops>,
    end: End,
    in_chain: bool,
    /// The line before was a rule.
    after_rule: bool,
}

impl OopsParser {
    /// Take in one kernel line. Returns whether it belongs to an oops, and the one that is over with it, or was before.
    pub(crate) fn push(&mut self, line: &LogLine) -> (bool, Option<Oops>) {
        let mut done = if self.end == End::Headline { self.open.take() } else { None };
        match headline_kind(&line.text) {
            // `Oops: 0000 [#1]` follows the headline of the oops that it belongs to.
            Some(OopsKind::Other) if self.open.is_some() && line.text.starts_with("Oops: ") => {}
            Some(kind) => {
                done = self.open.take().or(done);
                self.end = End::of(kind, &line.text, self.after_rule);
                self.open = Some(Self::start(kind, line));
                self.in_chain = false;
            }
            None => {}
        }
        let is_frame = is_rule(line.text.trim());
        self.after_rule = is_frame;
        let Some(oops) = self.open.as_mut() else {
            let ends = End::Trace.is(&line.text);
            return (is_frame || ends, done);
        };
        if oops.text.len() < TEXT_LIMIT_LINES {
            oops.text.push(line.text.clone());
        }
        // All that lockdep says is of level warning (4): what is worse is another's, and lockdep has reports without an end.
        let is_others =
            matches!(self.end, End::Backtrace { .. }) && line.level.is_some_and(|level| level < 4);
        if self.end.is(&line.text) {
            oops.complete = true;
            // Of a single line, another one may be the next.
            if self.end != End::Headline {
                return (true, self.open.take());
            }
        } else {
            oops.read_line(&line.text, &mut self.in_chain);
        }
        (!is_others, done)
    }

    /// The log is over. Returns the oops that was not.
    pub(crate) fn finish(&mut self) -> Option<Oops> {
        self.open.take()
    }

    fn start(kind: OopsKind, line: &LogLine) -> Oops {
        let mut oops = Oops::new(kind, line);
        let text = &line.text;
        oops.address = ["for address: ", "address: "]
            .iter()
            .find_map(|key| text.split_once(key))
            .and_then(|(_, address)| address.split_whitespace().next())
            .map(str::to_owned);
        if kind == OopsKind::Warning {
            oops.read_task(text);
            oops.rip = text.split_whitespace().last().and_then(Frame::parse);
        }
        oops
    }
}

fn headline_kind(text: &str) -> Option<OopsKind> {
    let starts = |heads: &[&str]| heads.iter().any(|head| text.starts_with(head));
    if starts(&["BUG: unable to handle "]) {
        Some(OopsKind::PageFault)
    } else if starts(&["BUG: kernel NULL pointer dereference"]) {
        Some(OopsKind::NullPointer)
    } else if starts(&["general protection fault", "Oops: general protection fault"]) {
        Some(OopsKind::GeneralProtection)
    } else if starts(&["kernel BUG at "]) {
        Some(OopsKind::Bug)
    } else if starts(&["WARNING: "]) {
        Some(OopsKind::Warning)
    } else if starts(&["BUG: KASAN: "]) {
        Some(OopsKind::Kasan)
    } else if starts(&["watchdog: BUG: ", "rcu: INFO: ", "NMI watchdog: Watchdog detected "]) {
        Some(OopsKind::Stall)
    } else if starts(&["BUG: ", "Oops: "]) {
        Some(OopsKind::Other)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klog::Klog;

    const FAULT: &[u8] = include_bytes!("../fixtures/fault-6.1.log");

    #[test]
    fn the_page_fault_of_the_report_is_read_whole() {
        let log = Klog::from_bytes(FAULT);
        assert_eq!(log.oopses.len(), 1);
        let oops = &log.oopses[0];
        assert_eq!(oops.kind, OopsKind::PageFault);
        assert_eq!(oops.address.as_deref(), Some("ff5e2c4780051010"));
        assert_eq!(oops.access.as_deref(), Some("supervisor read access in kernel mode"));
        assert_eq!((oops.cpu, oops.pid, oops.comm.as_deref()), (Some(1), Some(22), Some("kworker/1:0")));
        assert_eq!((oops.workqueue.as_deref(), oops.work.as_deref()), (Some("pm"), Some("pm_runtime_work")));
        let rip = oops.rip.as_ref().unwrap();
        assert_eq!((rip.symbol.as_str(), rip.offset, rip.size), ("ioread32", 0x2e, 0x60));
        assert!(oops.calls("rtsx_set_l1off_sub") && oops.calls("rtsx_pci_runtime_idle"));
        let idle = oops.chain.iter().find(|frame| frame.symbol == "rtsx_pci_runtime_idle").unwrap();
        assert_eq!(idle.module.as_deref(), Some("rtsx_pci"));
        assert!(oops.complete);
    }

    #[test]
    fn a_question_mark_frame_is_kept_and_not_vouched_for() {
        let log = Klog::from_bytes(FAULT);
        let oops = &log.oopses[0];
        assert!(oops.chain.iter().any(|frame| frame.symbol == "rescuer_thread" && !frame.reliable));
        assert!(!oops.calls("rescuer_thread"));
    }

    #[test]
    fn an_oops_cut_anywhere_is_never_complete_and_never_lost() {
        let start = FAULT.windows(4).position(|window| window == b"BUG:").unwrap() + 60;
        let end = FAULT.windows(10).position(|window| window == b"---[ end t").unwrap();
        for length in start..end {
            let log = Klog::from_bytes(&FAULT[..length]);
            assert_eq!(log.oopses.len(), 1, "cut at {length}");
            assert!(!log.oopses[0].complete, "cut at {length}");
        }
    }

    #[test]
    fn the_task_line_of_6_12_has_a_user_id() {
        let mut parser = OopsParser::default();
        parser.push(&LogLine::parse(
            "<1>[    5.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010",
        ));
        parser.push(&LogLine::parse("<4>[    5.000001] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI"));
        parser.push(&LogLine::parse(
            "<4>[    5.000002] CPU: 3 UID: 0 PID: 12 Comm: my prog Tainted: G           OE      6.12.38 #1",
        ));
        let oops = parser.finish().unwrap();
        assert_eq!(oops.kind, OopsKind::NullPointer);
        assert_eq!((oops.cpu, oops.pid, oops.comm.as_deref()), (Some(3), Some(12), Some("my prog")));
        assert_eq!(oops.address.as_deref(), Some("0000000000000010"));
    }

    #[test]
    fn a_warning_has_its_place_and_a_second_fault_ends_the_first() {
        let mut parser = OopsParser::default();
        let first = "<4>[    5.000000] WARNING: CPU: 0 PID: 9 at kernel/workqueue.c:3187 __flush_work.isra.0+0x212/0x230";
        assert_eq!(parser.push(&LogLine::parse(first)), (true, None));
        let (_, broken_off) = parser.push(&LogLine::parse(
            "<1>[    5.100000] BUG: unable to handle page fault for address: ffff888000000000",
        ));
        let warning = broken_off.unwrap();
        assert_eq!((warning.kind, warning.complete), (OopsKind::Warning, false));
        assert_eq!(warning.rip.unwrap().symbol, "__flush_work.isra.0");
        assert_eq!(parser.finish().unwrap().kind, OopsKind::PageFault);
    }

    #[test]
    fn what_kasan_and_lockdep_report_are_warnings() {
        for (text, kind) in [
            ("BUG: KASAN: slab-use-after-free in rtsx_pci_runtime_idle+0x2f/0x160", OopsKind::Kasan),
            ("WARNING: possible circular locking dependency detected", OopsKind::Warning),
            ("WARNING: CPU: 0 PID: 9 at kernel/workqueue.c:3187 __flush_work+0x212/0x230", OopsKind::Warning),
        ] {
            let mut parser = OopsParser::default();
            assert_eq!(parser.push(&LogLine::parse(&format!("<4>[    5.000000] {text}"))), (true, None));
            let oops = parser.finish().unwrap();
            assert_eq!((oops.kind, oops.is_warning()), (kind, true), "{text}");
        }
    }

    /// A log of lines with their levels, one millisecond after the other.
    fn log(parts: &[(u8, &str)]) -> Klog {
        let mut text = String::from("<14>[    1.000000] sdmorph-init: kernel x, test y\n");
        for (number, (level, line)) in
            parts.iter().flat_map(|(level, lines)| lines.lines().map(move |line| (level, line))).enumerate()
        {
            text.push_str(&format!("<{level}>[    5.{number:03}000] {line}\n"));
        }
        Klog::from_bytes(text.as_bytes())
    }

    /// As mm/kasan/report.c and kernel/locking/lockdep.c of 6.1 print them; of no run.
    const KASAN: &str = include_str!("../fixtures/kasan.txt");
    const LOCKDEP: &str = include_str!("../fixtures/lockdep.txt");
    const ERROR: &str = "rtsx_pci 10000:01:00.0: something broke";

    fn errors(log: &Klog) -> Vec<&str> {
        log.unexpected_errors(|_| false).map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_report_of_kasan_ends_with_its_rule_and_what_comes_later_is_on_trial() {
        let taint = "Disabling lock debugging due to kernel taint";
        let log = log(&[(3, KASAN), (4, taint), (3, ERROR)]);
        assert_eq!(errors(&log), [ERROR]);
        let report = &log.oopses[0];
        assert_eq!((log.oopses.len(), report.kind, report.complete), (1, OopsKind::Kasan, true));
        assert!(report.headline.starts_with("BUG: KASAN: use-after-free in rtsx_pci_runtime_idle"));
        assert!(report.calls("pm_runtime_work") && !report.calls("device_release_driver_internal"));
        assert_eq!(report.text.len(), KASAN.lines().count() - 1);
        // Cut off, it has no end, and says no less.
        let (cut, _) = KASAN.rsplit_once("===\n").unwrap();
        let log = self::log(&[(3, cut.trim_end_matches('='))]);
        assert_eq!((log.oopses.len(), log.oopses[0].complete), (1, false));
    }

    #[test]
    fn a_report_of_lockdep_ends_with_its_stack_and_what_comes_later_is_on_trial() {
        let log = log(&[(4, LOCKDEP), (3, ERROR)]);
        assert_eq!(errors(&log), [ERROR]);
        let report = &log.oopses[0];
        assert_eq!((log.oopses.len(), report.kind, report.complete), (1, OopsKind::Warning, true));
        assert_eq!(report.headline, "WARNING: possible circular locking dependency detected");
        assert!(report.calls("check_noncircular") && !report.text.iter().any(|line| line == ERROR));
    }

    #[test]
    fn an_error_within_a_report_of_lockdep_or_after_one_without_an_end_is_on_trial() {
        let (head, tail) = LOCKDEP.split_once("stack backtrace:\n").unwrap();
        let log = self::log(&[(4, head), (3, ERROR), (4, "stack backtrace:"), (4, tail)]);
        assert_eq!((errors(&log), log.oopses[0].complete), (vec![ERROR], true));
        // lockdep_sys_exit has no stack.
        let log = self::log(&[
            (4, "================================================"),
            (4, "WARNING: lock held when returning to user space!"),
            (4, "sh/147 is leaving the kernel with locks still held!"),
            (3, ERROR),
        ]);
        assert_eq!((errors(&log), log.oopses.len()), (vec![ERROR], 1));
    }

    #[test]
    fn a_warning_of_one_line_ends_with_it() {
        let line = "WARNING: kernel stack frame pointer at 0000000012345678 in sh:147 has bad value";
        let log = log(&[(4, line), (3, ERROR), (4, line), (4, line)]);
        assert_eq!(errors(&log), [ERROR]);
        let whole: Vec<bool> = log.oopses.iter().map(|oops| oops.complete).collect();
        assert_eq!(whole, [true, true, true]);
        assert!(log.oopses.iter().all(|oops| oops.text.len() == 1));
    }

    #[test]
    fn a_warn_lasts_until_its_trace_ends() {
        for headline in [
            "WARNING: CPU: 0 PID: 9 at kernel/workqueue.c:3187 __flush_work+0x212/0x230",
            "WARNING: kernel/workqueue.c:4307 at __flush_work+0x212/0x230, CPU#0: kworker/0:1/9",
        ] {
            let log = log(&[
                (4, headline),
                (4, "Call Trace:\n <TASK>\n cancel_work_sync+0x10/0x20\n </TASK>"),
                (3, "of the report"),
                (4, "---[ end trace 0000000000000000 ]---"),
                (3, ERROR),
            ]);
            assert_eq!(errors(&log), [ERROR], "{headline}");
            assert!(log.oopses[0].complete && log.oopses[0].calls("cancel_work_sync"));
        }
    }

    #[test]
    fn stalls_are_complaints_too() {
        for text in [
            "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kworker/1:1:37]",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        ] {
            assert_eq!(headline_kind(text), Some(OopsKind::Stall), "{text}");
        }
        // `hang` reads these.
        assert_eq!(headline_kind("INFO: task kworker/0:1:10 blocked for more than 120 seconds."), None);
        // Every guest without a performance counter says this.
        assert_eq!(headline_kind("NMI watchdog: Perf NMI watchdog permanently disabled"), None);
    }
}

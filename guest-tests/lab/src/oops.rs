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
        } else if line.starts_with("Modules linked in:") || line.starts_with("CR2: ") {
            *in_chain = false;
        } else if *in_chain {
            self.chain.extend(Frame::parse(line));
        }
    }
}

/// Finds oopses in a stream of kernel lines.
#[derive(Debug, Default)]
pub struct OopsParser {
    open: Option<Oops>,
    in_chain: bool,
}

impl OopsParser {
    /// Whether a line that ends an oops was seen.
    pub fn ends(text: &str) -> bool {
        text.trim_start().starts_with("---[ end ")
    }

    /// Whether the lines now belong to an oops.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Take in one kernel line. Returns an oops that is over with it.
    pub fn push(&mut self, line: &LogLine) -> Option<Oops> {
        let done = match headline_kind(&line.text) {
            // `Oops: 0000 [#1]` follows the headline of the oops that it belongs to.
            Some(OopsKind::Other) if self.open.is_some() && line.text.starts_with("Oops: ") => None,
            Some(kind) => {
                let broken_off = self.open.take();
                self.open = Some(Self::start(kind, line));
                self.in_chain = false;
                broken_off
            }
            None => None,
        };
        let in_chain = &mut self.in_chain;
        if let Some(oops) = self.open.as_mut() {
            if oops.text.len() < TEXT_LIMIT_LINES {
                oops.text.push(line.text.clone());
            }
            if Self::ends(&line.text) {
                oops.complete = true;
                return self.open.take();
            }
            oops.read_line(&line.text, in_chain);
        }
        done
    }

    /// The log is over. Returns the oops that was not.
    pub fn finish(&mut self) -> Option<Oops> {
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
        assert_eq!(parser.push(&LogLine::parse(first)), None);
        let broken_off = parser.push(&LogLine::parse(
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
            assert_eq!(parser.push(&LogLine::parse(&format!("<4>[    5.000000] {text}"))), None);
            let oops = parser.finish().unwrap();
            assert_eq!((oops.kind, oops.is_warning()), (kind, true), "{text}");
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

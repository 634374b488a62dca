//! Tasks that hang, as khungtaskd tells of them: blocked, without having run, for as long as
//! `/proc/sys/kernel/hung_task_timeout_secs` says (kernel/hung_task.c, sched_show_task of kernel/sched/core.c; 6.1 to 6.12).

use serde::Serialize;

use crate::klog::LogLine;
use crate::oops::Frame;

/// One task that hangs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hang {
    /// The first line.
    pub headline: String,
    /// When it was printed, in microseconds of the kernel's log clock.
    pub time_us: Option<u64>,
    /// The task's name.
    pub task: String,
    /// Its process id.
    pub pid: u32,
    /// For how many seconds it had been blocked.
    pub seconds: u32,
    /// The workqueue that it was working for.
    pub workqueue: Option<String>,
    /// Where it waits, innermost first, also the unreliable entries.
    pub chain: Vec<Frame>,
    /// The call trace came to its end.
    pub complete: bool,
}

impl Hang {
    /// `INFO: task irq/40-pciehp:101 blocked for more than 20 seconds.` A name may hold spaces and colons.
    fn start(line: &LogLine) -> Option<Self> {
        let (task, rest) = line.text.strip_prefix("INFO: task ")?.split_once(" blocked for more than ")?;
        let (task, pid) = task.rsplit_once(':')?;
        Some(Self {
            headline: line.text.clone(),
            time_us: line.time_us,
            task: task.to_owned(),
            pid: pid.parse().ok()?,
            seconds: rest.split_whitespace().next()?.parse().ok()?,
            workqueue: None,
            chain: Vec::new(),
            complete: false,
        })
    }

    fn read_line(&mut self, text: &str) {
        let line = text.trim();
        if line == "</TASK>" {
            self.complete = true;
        } else if let Some(work) = line.strip_prefix("Workqueue: ") {
            self.workqueue = work.split_whitespace().next().map(str::to_owned);
        } else {
            self.chain.extend(Frame::parse(line));
        }
    }
}

/// Finds tasks that hang in a stream of kernel lines.
#[derive(Debug, Default)]
pub(crate) struct HangParser {
    open: Option<Hang>,
}

impl HangParser {
    /// Take in one kernel line. Returns whether it is about a task that hangs, and the one that is over with it.
    pub(crate) fn push(&mut self, line: &LogLine) -> (bool, Option<Hang>) {
        if let Some(hang) = Hang::start(line) {
            return (true, self.open.replace(hang));
        }
        let Some(hang) = self.open.as_mut() else { return (false, None) };
        hang.read_line(&line.text);
        (true, if hang.complete { self.open.take() } else { None })
    }

    /// The log is over, or something else begins. Returns what had not come to its end.
    pub(crate) fn finish(&mut self) -> Option<Hang> {
        self.open.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klog::Klog;

    const HANG: &[u8] = include_bytes!("../fixtures/resumes-hang-6.1.log");

    #[test]
    fn a_task_that_hangs_has_name_time_workqueue_and_where_it_waits() {
        let log = Klog::from_bytes(HANG);
        let hang = &log.hangs[0];
        assert!(hang.task.starts_with("kworker/") && hang.pid > 0, "{hang:?}");
        assert_eq!((hang.workqueue.as_deref(), hang.complete), (Some("pm"), true));
        let symbols: Vec<_> = hang.chain.iter().map(|frame| frame.symbol.as_str()).collect();
        let at = |symbol: &str| symbols.iter().position(|found| *found == symbol).unwrap();
        assert!(at("rpm_resume") < at("resumes_idle") && at("resumes_idle") < at("pm_runtime_work"));
        assert!(log.oopses.is_empty(), "it is no oops");
        assert_eq!(log.unexpected_errors(|_| false).count(), 0, "nor are its lines errors of their own");
    }

    #[test]
    fn a_name_may_have_colons_and_a_second_task_ends_the_first() {
        let mut parser = HangParser::default();
        let line = |text: &str| LogLine::parse(&format!("<3>[    5.000000] {text}"));
        assert_eq!(parser.push(&line("task:sh state:D")), (false, None));
        let (about, none) =
            parser.push(&line("INFO: task kworker/0:1:10 blocked for more than 120 seconds."));
        assert_eq!((about, none), (true, None));
        let (_, first) = parser.push(&line("INFO: task sh:147 blocked for more than 20 seconds."));
        let first = first.unwrap();
        assert_eq!((first.task.as_str(), first.pid, first.seconds), ("kworker/0:1", 10, 120));
        assert!(!first.complete);
        assert_eq!(parser.finish().unwrap().task, "sh");
    }
}

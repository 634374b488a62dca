//! The trace of the guest's kernel, as tracefs prints it: the function graph tracer's format, with time, processor and
//! task on every line (kernel/trace/trace_functions_graph.c).
//!
//! ```text
//! # task 28 kworker/1:1
//!    14.158403 |   1)  kworker-28  |               |  pm_runtime_work() {
//!    14.158411 |   1)  kworker-28  |   1.520 us    |    rpm_resume();
//!    14.158466 |   1)  kworker-28  |               |  /* sched_switch: prev_comm=… */
//!    14.158500 |   1)  kworker-28  | + 97.0 us     |  } /* pm_runtime_work */
//! # complete
//! ```
//!
//! A call is put together from its two lines by its task's stack of calls, not by their indentation: a task may go on on
//! another processor.

use std::collections::BTreeMap;

/// A call of a traced function. Times are nanoseconds of the trace's clock, which prints microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// The processor on which it was entered.
    pub(crate) cpu: u32,
    pub(crate) pid: u32,
    /// How many traced calls of its task it is in.
    pub(crate) depth: usize,
    pub(crate) end: End,
    /// When its task did not run.
    pub(crate) away: Vec<Away>,
}

/// A time in which a task did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Away {
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// It waited for something; if not, others had the processor.
    pub(crate) asleep: bool,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Returned,
    /// The trace ended before.
    Open,
    /// The same, since its task died in it: an oops ends the trace (`oops_enter`, kernel/panic.c).
    Died,
}

/// Anything but a call: an event's line, or a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) at: i64,
    pub(crate) cpu: u32,
    pub(crate) pid: u32,
    pub(crate) text: String,
}

/// A trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ftrace {
    /// In the order of their beginnings.
    pub(crate) calls: Vec<Call>,
    /// In their order.
    pub(crate) notes: Vec<Note>,
    /// The lines with a time, as they are, and their times.
    pub(crate) lines: Vec<(i64, String)>,
    /// The names of tasks, by process id.
    tasks: BTreeMap<u32, String>,
    /// Its last line is there.
    pub(crate) complete: bool,
}

/// A line, taken apart.
enum What<'a> {
    Enter(&'a str),
    Return(&'a str),
    /// Entered, and left again after so many nanoseconds.
    Leaf(&'a str, i64),
    Note(&'a str),
}

impl Ftrace {
    pub(crate) fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        // The calls that each task is in, as places in `calls`; and since when a task is away, and why.
        let mut stacks: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut away: BTreeMap<u32, (i64, bool)> = BTreeMap::new();
        let mut last = 0;
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix('#') {
                trace.comment(comment.trim());
                continue;
            }
            let Some((at, cpu, pid, what)) = parse_line(line) else { continue };
            last = at;
            trace.lines.push((at, line.to_owned()));
            let stack = stacks.entry(pid).or_default();
            let call = |function: &str, to: i64, end: End| Call {
                function: function.to_owned(),
                from: at,
                to,
                cpu,
                pid,
                depth: stack.len(),
                end,
                away: Vec::new(),
            };
            match what {
                What::Leaf(function, length) => trace.calls.push(call(function, at + length, End::Returned)),
                What::Enter(function) => {
                    trace.calls.push(call(function, at, End::Open));
                    stack.push(trace.calls.len() - 1);
                }
                What::Return(function) => {
                    let of =
                        |index: &usize| trace.calls.get(*index).is_some_and(|call| call.function == function);
                    // Of a call that began before the trace, there is only the return.
                    let Some(place) = stack.iter().rposition(of) else { continue };
                    let mut ended = stack.split_off(place);
                    trace.close(&mut ended, at, End::Returned);
                }
                What::Note(text) => {
                    trace.notes.push(Note { at, cpu, pid, text: text.to_owned() });
                    if let Some([gone, come]) = switched(text) {
                        trace.tasks.entry(gone.0).or_insert_with(|| gone.1.to_owned());
                        trace.tasks.entry(come.0).or_insert_with(|| come.1.to_owned());
                        away.insert(gone.0, (at, !text.contains(" prev_state=R")));
                        if let Some((since, asleep)) = away.remove(&come.0) {
                            for index in stacks.get(&come.0).into_iter().flatten() {
                                if let Some(call) = trace.calls.get_mut(*index) {
                                    call.away.push(Away { from: since.max(call.from), to: at, asleep });
                                }
                            }
                        }
                    }
                }
            }
        }
        for stack in stacks.values_mut() {
            trace.close(stack, last, End::Open);
        }
        trace
    }

    fn comment(&mut self, comment: &str) {
        if comment == "complete" {
            self.complete = true;
        }
        let task = comment.strip_prefix("task ").and_then(|task| task.trim().split_once(' '));
        if let Some((Ok(pid), name)) = task.map(|(pid, name)| (pid.parse(), name)) {
            self.tasks.insert(pid, name.to_owned());
        }
    }

    /// All calls of a task end here.
    fn close(&mut self, stack: &mut Vec<usize>, at: i64, end: End) {
        for index in stack.drain(..) {
            if let Some(call) = self.calls.get_mut(index) {
                (call.to, call.end) = (at, end);
            }
        }
    }

    /// The task's name: `kworker/1:1`.
    pub(crate) fn task(&self, pid: u32) -> String {
        self.tasks.get(&pid).cloned().unwrap_or_else(|| format!("process {pid}"))
    }
}

fn parse_line(line: &str) -> Option<(i64, u32, u32, What<'_>)> {
    let (time, rest) = line.split_once('|')?;
    let (seconds, micros) = time.trim().split_once('.')?;
    let at = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)?;
    let (cpu, rest) = rest.split_once(')')?;
    let (task, rest) = rest.split_once('|')?;
    let (_, pid) = task.trim().rsplit_once('-')?;
    let (duration, text) = rest.split_once('|')?;
    let text = text.trim();
    let what = if let Some(note) = text.strip_prefix("/*") {
        What::Note(note.strip_suffix("*/").unwrap_or(note).trim())
    } else if let Some(end) = text.strip_prefix('}') {
        // With its option `funcgraph-tail` the tracer says whose.
        let function = end.trim().trim_start_matches("/*").trim_start();
        What::Return(function.split([' ', '*']).next()?)
    } else {
        let (function, rest) = text.split_once('(')?;
        // A module's function is followed by ` [module]`.
        let function = function.split(' ').next()?;
        if rest.trim_end().ends_with('{') {
            What::Enter(function)
        } else {
            // Before the number stands a sign if it is a large one: `! 150.123 us`.
            let number = duration.split_whitespace().find_map(|word| word.parse::<f64>().ok())?;
            What::Leaf(function, (number * 1000.0) as i64)
        }
    };
    Some((at.checked_mul(1000)?, cpu.trim().parse().ok()?, pid.parse().ok()?, what))
}

/// Of a `sched_switch`: the task that went, and the one that came.
fn switched(text: &str) -> Option<[(u32, &str); 2]> {
    let (gone, come) = text.strip_prefix("sched_switch: ")?.split_once(" ==> ")?;
    let task = |text: &'_ str, side: &str| -> Option<(u32, usize, usize)> {
        let name = text.find(&format!("{side}_comm="))? + side.len() + "_comm=".len();
        let end = text.find(&format!(" {side}_pid="))?;
        let pid = text.get(end + side.len() + " _pid=".len()..)?.split(' ').next()?;
        Some((pid.parse().ok()?, name, end))
    };
    let (gone_pid, from, to) = task(gone, "prev")?;
    let (come_pid, next_from, next_to) = task(come, "next")?;
    Some([(gone_pid, gone.get(from..to)?), (come_pid, come.get(next_from..next_to)?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: function_graph
# task 28 kworker/1:1
#     TIME        CPU  TASK/PID         DURATION                  FUNCTION CALLS
   14.000001 |   1)  kworker-28  |               |  pm_runtime_work() {
   14.000002 |   1)  kworker-28  | + 11.500 us   |    rpm_resume();
 ------------------------------------------
   0)  swapper-0  =>  irq/26-61
 ------------------------------------------

   14.000020 |   0)  irq/26--61  |               |  pciehp_ist() {
   14.000030 |   1)  kworker-28  |               |    rtsx_pci_runtime_idle [rtsx_pci]() {
   14.000040 |   0)  irq/26--61  |               |    /* sched_switch: prev_comm=irq/26-pciehp prev_pid=61 prev_prio=49 prev_state=D ==> next_comm=yes next_pid=70 next_prio=120 */
   14.000050 |   0)     yes-70   |               |  /* sched_switch: prev_comm=yes prev_pid=70 prev_prio=120 prev_state=R ==> next_comm=irq/26-pciehp next_pid=61 next_prio=49 */
   14.000060 |   0)  irq/26--61  | + 40.000 us   |  } /* pciehp_ist */
   14.000070 |   1)  kworker-28  |               |      /* console: pcieport 10000:00:1c.0: pciehp: Slot(8): Link Down */
   14.000080 |   1)  kworker-28  |               |  cut off
# complete
";

    #[test]
    fn calls_are_put_together_by_task_with_the_time_that_it_was_away() {
        let trace = Ftrace::parse(TRACE);
        let told: Vec<_> = trace
            .calls
            .iter()
            .map(|call| (call.function.as_str(), call.cpu, call.depth, call.to - call.from, call.end))
            .collect();
        assert_eq!(
            told,
            [
                ("pm_runtime_work", 1, 0, 69_000, End::Open),
                ("rpm_resume", 1, 1, 11_500, End::Returned),
                ("pciehp_ist", 0, 0, 40_000, End::Returned),
                ("rtsx_pci_runtime_idle", 1, 1, 40_000, End::Open),
            ]
        );
        let slept = Away { from: 14_000_040_000, to: 14_000_050_000, asleep: true };
        assert_eq!(trace.calls[2].away, [slept]);
        assert_eq!(
            [trace.task(28), trace.task(61), trace.task(9)],
            ["kworker/1:1", "irq/26-pciehp", "process 9"]
        );
        assert!(trace.complete);
        assert_eq!(trace.notes.len(), 3);
    }

    #[test]
    fn trace_that_is_cut_off_leaves_its_calls_open() {
        let half = TRACE.split("   14.000060").next().unwrap();
        let trace = Ftrace::parse(half);
        assert!(!trace.complete);
        assert!(trace.calls.iter().any(|call| call.function == "pciehp_ist" && call.end == End::Open));
    }

    #[test]
    fn what_is_no_line_of_a_trace_is_passed_over() {
        for line in
            ["", "|", "1.2 | 3)", "x.y |  0) a-1 | | f();", "1.5 | 0) a-b | | f();", "1.5 | 0) a-1 | | f();"]
        {
            assert!(parse_line(line).is_none(), "{line}");
        }
        assert_eq!(Ftrace::parse("CPU:1 [LOST 12 EVENTS]\n"), Ftrace::default());
    }
}

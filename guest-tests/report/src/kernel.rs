//! What the guest's kernel did, from its trace: calls in rows, in a lane for each virtual processor.
//!
//! A call is in the lane of the processor on which it was entered, below the call that it is in. What several tasks do at a
//! time, because all but one of them wait, is in rows below each other.

use std::collections::BTreeMap;

use crate::clocks::GuestClock;
use crate::ftrace::{Call, End, Ftrace};

/// Rows that a lane has at most; a call that would be further down is in trace and table only.
pub(crate) const ROWS: usize = 10;

/// A call, and where it is drawn. Its times are nanoseconds since the run's zero, the earliest that they can have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) call: Call,
    pub(crate) task: String,
    pub(crate) row: usize,
}

impl Placed {
    /// The name of its function; of the first in a row of calls, with its task.
    pub(crate) fn label(&self) -> String {
        if self.call.depth == 0 {
            format!("{}: {}", self.task, self.call.function)
        } else {
            self.call.function.clone()
        }
    }
}

/// An interrupt handler's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handler {
    pub(crate) at: i64,
    pub(crate) cpu: u32,
    /// `irq=26 name=pciehp`
    pub(crate) text: String,
}

/// What is drawn of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) calls: Vec<Placed>,
    pub(crate) handlers: Vec<Handler>,
    /// Its lines as they are, and their times since the run's zero.
    pub(crate) lines: Vec<(i64, String)>,
    pub(crate) complete: bool,
}

impl Kernel {
    /// `died`: the task that died in an oops, and when, since the run's zero.
    pub(crate) fn of(trace: Ftrace, clock: &GuestClock, zero_ns: i64, died: Option<(&str, i64)>) -> Self {
        let since = |at: i64| clock.of_trace(at) - zero_ns;
        let handlers = trace.notes.iter().filter_map(|note| {
            let text = note.text.strip_prefix("irq_handler_entry: ")?.to_owned();
            Some(Handler { at: since(note.at), cpu: note.cpu, text })
        });
        let handlers = handlers.collect();
        let rows = rows(&trace.calls);
        let placed = trace.calls.iter().zip(rows).map(|(call, row)| {
            let mut call = call.clone();
            (call.from, call.to) = (since(call.from), since(call.to));
            for away in &mut call.away {
                (away.from, away.to) = (since(away.from), since(away.to));
            }
            let task = trace.task(call.pid);
            if let (End::Open, Some((_, at))) = (call.end, died.filter(|(died, _)| *died == task)) {
                (call.end, call.to) = (End::Died, at.max(call.from));
            }
            Placed { call, task, row }
        });
        let calls = placed.collect();
        let lines = trace.lines.into_iter().map(|(at, line)| (since(at), line)).collect();
        Self { calls, handlers, lines, complete: trace.complete }
    }

    /// The processors that something was traced on.
    pub(crate) fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.calls.iter().map(|placed| placed.call.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }

    /// How many rows the lane of a processor has, as far as something of it `is_shown`.
    pub(crate) fn rows(&self, cpu: u32, is_shown: impl Fn(&Call) -> bool) -> usize {
        let shown = self.calls.iter().filter(|placed| placed.call.cpu == cpu && is_shown(&placed.call));
        shown.map(|placed| placed.row + 1).max().unwrap_or(0).min(ROWS)
    }

    /// The reader's removal: `function` in the task that was in rtsx_pci_remove, as long as it had to do with that.
    pub(crate) fn removing(&self, function: &str) -> Option<&Call> {
        let calls = || self.calls.iter().map(|placed| &placed.call);
        let remove = calls().find(|call| call.function == "rtsx_pci_remove")?;
        let around = calls().rfind(|call| {
            call.function == "pci_device_remove" && call.pid == remove.pid && call.from <= remove.from
        })?;
        let inside = |call: &&Call| {
            call.function == function
                && call.pid == remove.pid
                && (around.from..=around.to).contains(&call.from)
                && (function != "iounmap" || call.from >= remove.from)
        };
        calls().find(inside)
    }
}

/// The row of each call in its processor's lane.
fn rows(calls: &[Call]) -> Vec<usize> {
    // Whose block each call is in, how deep; blocks are drawn as one.
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    let mut open: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut heights = vec![0; calls.len()];
    for (index, call) in calls.iter().enumerate() {
        let stack = open.entry(call.pid).or_default();
        stack.truncate(call.depth);
        let parent = stack.last().filter(|parent| calls.get(**parent).is_some_and(|it| it.cpu == call.cpu));
        let block = match parent.and_then(|parent| blocks.get(*parent)) {
            Some((root, depth)) => (*root, depth + 1),
            None => (index, 0),
        };
        stack.push(index);
        if let Some(height) = heights.get_mut(block.0) {
            *height = (block.1 + 1).max(*height);
        }
        blocks.push(block);
    }
    // Until when each row of each lane is taken.
    let mut taken: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    let mut rows: Vec<usize> = Vec::new();
    for (index, (call, (root, depth))) in calls.iter().zip(&blocks).enumerate() {
        if *root != index {
            rows.push(rows.get(*root).copied().unwrap_or(0) + depth);
            continue;
        }
        let height = heights.get(index).copied().unwrap_or(1);
        let until = taken.entry(call.cpu).or_default();
        let is_free = |row: usize| until.get(row).is_none_or(|until| *until <= call.from);
        let first = (0..).find(|first| (*first..first + height).all(is_free)).unwrap_or(0);
        until.resize(until.len().max(first + height), i64::MIN);
        for row in until.iter_mut().skip(first).take(height) {
            *row = call.to;
        }
        rows.push(first);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pid: u32, cpu: u32, depth: usize, from: i64, to: i64) -> Call {
        Call { function: "f".into(), from, to, cpu, pid, depth, end: End::Returned, away: Vec::new() }
    }

    #[test]
    fn tasks_that_wait_at_the_same_time_are_below_each_other() {
        let calls = [
            call(1, 0, 0, 0, 100),
            call(1, 0, 1, 10, 90),
            call(2, 0, 0, 20, 30),
            call(3, 1, 0, 20, 80),
            // The first task goes on on the other processor, which another one's call has the first row of.
            call(1, 1, 2, 40, 50),
            call(2, 0, 0, 100, 120),
        ];
        assert_eq!(rows(&calls), [0, 1, 2, 0, 1, 0]);
    }

    #[test]
    fn call_that_is_too_deep_to_be_drawn_is_still_known() {
        let placed = |row, function: &str| {
            let call = Call { function: function.into(), ..call(1, 0, row, row as i64, 100) };
            Placed { call, task: String::new(), row }
        };
        let calls =
            vec![placed(0, "pci_device_remove"), placed(1, "rtsx_pci_remove"), placed(ROWS + 1, "iounmap")];
        let kernel = Kernel { calls, ..Kernel::default() };
        assert_eq!(kernel.rows(0, |_| true), ROWS);
        assert!(kernel.removing("iounmap").is_some());
    }
}

//! Whether a task hangs, is the scenario's, and has had the time not to.
//!
//! The kernel's clock goes on when the host has no processor for the guest: "blocked for more than 20 seconds" may be some
//! milliseconds of the guest's work. A task that waits for one that is slow, or had no turn, is told from one that waits
//! for ever by two things. Behind the kernel's line the guest's script still has results to report, for which it starts
//! processes; whoever only had no turn has it then, and ends the wait, which the scenario's `never` looks for. And in the
//! second half of the time, and after it, nobody works at the device in the slot: a callback that is waited for would.

use super::Evidenced;
use crate::clocks;
use crate::hang::Hang;
use crate::klog::matches;
use crate::scenario::BlockedPattern;

impl Evidenced<'_> {
    /// The scenario's task that hangs, among those that the kernel has told of: whoever waits for it hangs as well.
    pub(super) fn scenario_hang(&self) -> Result<Option<usize>, String> {
        let Some(first) = self.log.hangs.first() else { return Ok(None) };
        let hang = self.scenario.verdict.hang.as_ref();
        let Some(pattern) = hang.and_then(|hang| hang.blocked.as_ref()) else {
            return Err(format!("a task hangs, and the scenario has no hang: {}", first.headline));
        };
        let mut hangs = self.log.hangs.iter().enumerate();
        match hangs.find(|(_, hang)| difference(hang, pattern).is_none()) {
            Some((index, hang)) => match self.why_it_may_end(hang) {
                None => Ok(Some(index)),
                Some(why) => {
                    Err(format!("a task waits, and perhaps not for ever: {why} ({})", hang.headline))
                }
            },
            None => {
                let difference = difference(first, pattern).unwrap_or_default();
                Err(format!("the task that hangs is not the scenario's: {difference} ({})", first.headline))
            }
        }
    }

    /// Why a task that is blocked for long may not be so for ever.
    fn why_it_may_end(&self, hang: &Hang) -> Option<String> {
        let Some(time_us) = hang.time_us else { return Some("the line about it has no time".to_owned()) };
        let mut results = self.log.ktap.results.iter().filter_map(|result| self.log.lines.get(result.line));
        if !results.any(|line| line.time_us > Some(time_us)) {
            return Some(
                "the guest's script reported no result after it, and may have had no turn either".to_owned(),
            );
        }
        let last_ns = self.record.last_slot_access_ns?;
        let half_us = u64::from(hang.seconds) * 500_000;
        let alignment = clocks::align(&self.record.entries, self.log);
        let quiet_from = alignment.and_then(|found| found.earliest_ns(time_us.saturating_sub(half_us)));
        let Some(quiet_from) = quiet_from else {
            return Some(
                "nobody knows when the device was accessed for the last time by the guest's clock".to_owned(),
            );
        };
        let late_ns = i64::try_from(last_ns).unwrap_or(i64::MAX).saturating_sub(quiet_from);
        (late_ns > 0).then(|| {
            format!(
                "somebody was still at work at the device in the slot, {} ms into the second half of the time",
                late_ns / 1_000_000
            )
        })
    }
}

/// In what a task that hangs differs from the one that is looked for.
fn difference(hang: &Hang, pattern: &BlockedPattern) -> Option<String> {
    if !matches(&pattern.task, &hang.task) {
        return Some(format!("it is {}, not {}", hang.task, pattern.task));
    }
    if !hang.complete {
        return Some("the end of its call trace is missing".to_owned());
    }
    let mut frames = hang.chain.iter().filter(|frame| frame.reliable);
    let missing = pattern.chain.iter().find(|symbol| !frames.any(|frame| frame.symbol == **symbol))?;
    Some(format!("{missing} is not in its call trace, or not where it should be"))
}

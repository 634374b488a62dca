//! What a verdict stands on: events, rules, reads, lines, counters, order, memory, and the fix.

use super::{Evidenced, Outcome, Variant};
use crate::moments;
use crate::scenario::Evidence;

/// How much too early a guest's time may come out, in milliseconds, if nothing bounds it from above (`clocks`): mostly the
/// time from the link's fall to the guest's line about it. In a traced guest on a busy host 110 ms were seen.
const GUEST_EARLY_MS: f64 = 1000.0;
/// How far the log's clock may go wrong between two lines, in milliseconds: it stays within a tick of the last tick
/// (sched_clock_local of kernel/sched/clock.c), which a busy host serves late; 13 ms were seen. And the most by which it
/// goes faster or slower than the device's.
const LOG_ERROR_MS: f64 = 50.0;
const LOG_RATE: f64 = 0.0005;
/// Counters of the device that are 0 in a clean run, unless the scenario says what they are: accesses to guest memory
/// that failed, rules that hit without end, and messages that were to be late and are lost.
const ZERO_WHEN_CLEAN: [&str; 3] = ["dma-errors", "rule-storms", "late-interrupts-lost"];

impl Evidenced<'_> {
    pub(super) fn check_evidence(&self, evidence: &Evidence) -> Result<(), String> {
        if let Some(event) = evidence.events.iter().find(|name| self.record.event(name).is_none()) {
            return Err(format!("the device never recorded the event {event}"));
        }
        if let Some(rule) = evidence.rules.iter().find(|name| self.record.rule_hits(name) == 0) {
            return Err(format!("the rule {rule} never fired"));
        }
        let dead_reads = self.record.dead_reads();
        if dead_reads < evidence.dead_reads {
            let least = evidence.dead_reads;
            return Err(format!("{dead_reads} reads of the vanished BAR, and at least {least} were to be"));
        }
        self.check_order(&evidence.order)?;
        self.check_never(&evidence.never)?;
        match evidence.log.iter().find(|pattern| self.log.find(pattern).is_none()) {
            Some(pattern) => Err(format!("the guest never logged `{pattern}`")),
            None => Ok(()),
        }
    }

    pub(super) fn check_counters(&self, evidence: &Evidence, outcome: Outcome) -> Result<(), String> {
        for (name, expected) in &evidence.counters {
            match self.counters.get(name) {
                Some(value) if value == expected => {}
                Some(value) => {
                    return Err(format!("the device counted {value} {name}, and it should be {expected}"));
                }
                None => return Err(format!("the device's state has no counter {name}")),
            }
        }
        let zero = ZERO_WHEN_CLEAN.iter().filter(|name| !evidence.counters.contains_key(**name));
        let wrong =
            zero.filter_map(|name| Some((name, self.counters.get(*name).filter(|value| **value > 0)?)));
        match wrong.take(usize::from(outcome == Outcome::Clean)).next() {
            Some((name, value)) => Err(format!("the device counted {value} {name}")),
            None => Ok(()),
        }
    }

    /// The device's process did not grow more than it may. What it keeps of any run, it has by the middle of this one.
    pub(super) fn check_memory(&self, evidence: &Evidence) -> Result<(), String> {
        let Some(most) = evidence.memory_growth_mib else { return Ok(()) };
        let samples = self.device_memory_kib;
        let (Some(middle), Some(last)) = (samples.get(samples.len() / 2), samples.last()) else {
            return Err("nobody knows how much memory the device's process had".to_owned());
        };
        let growth = last.saturating_sub(*middle) / 1024;
        if growth <= most {
            return Ok(());
        }
        Err(format!(
            "the device's process grew by {growth} MiB, from {} to {} MiB",
            middle / 1024,
            last / 1024
        ))
    }

    /// Each of these moments came before the next one, as far as the clocks can tell.
    fn check_order(&self, names: &[String]) -> Result<(), String> {
        let (moments, _) = moments::locate(&self.scenario.moments, self.record, self.log);
        let mut times = Vec::new();
        for name in names {
            let found = moments.iter().find(|moment| moment.name == *name);
            let at = found.and_then(|moment| Some((moment, moment.t_ms?)));
            times.push(at.ok_or_else(|| format!("`{name}` never came"))?);
        }
        for pair in times.windows(2) {
            if let [(before, first_ms), (after, second_ms)] = pair {
                // Times of one clock are exact among themselves, and the record has an order. The log's clock stands still
                // between two ticks, now and then: of two equal ones it is not known which came first.
                let reversed = before.entry.zip(after.entry).is_some_and(|(first, second)| first >= second);
                let latest_ms = if before.clock == after.clock {
                    *second_ms
                } else {
                    let latest = after.latest_ms.unwrap_or(second_ms + GUEST_EARLY_MS);
                    latest + LOG_ERROR_MS + LOG_RATE * second_ms.abs()
                };
                if reversed || *first_ms > latest_ms {
                    let later =
                        if latest_ms > *second_ms { format!(" to {latest_ms:.1}") } else { String::new() };
                    return Err(format!(
                        "`{}` ({first_ms:.1} ms) did not come before `{}` ({second_ms:.1}{later} ms)",
                        before.name, after.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// None of these moments came.
    fn check_never(&self, names: &[String]) -> Result<(), String> {
        let (moments, _) = moments::locate(&self.scenario.moments, self.record, self.log);
        let came = moments.iter().find(|moment| names.contains(&moment.name) && moment.t_ms.is_some());
        came.map_or(Ok(()), |moment| Err(format!("`{}` came, and never should have", moment.name)))
    }

    /// The module that takes the fix out did so, or was not there at all. A kernel on trial runs without it.
    pub(super) fn check_fix(&self) -> Result<(), String> {
        let Some(pattern) = &self.scenario.kernel.fix_skipped else { return Ok(()) };
        let skipped = self.log.find(pattern).is_some();
        match (self.variant, self.module) {
            (Variant::WithoutFix, true) if !skipped => {
                Err(format!("the fix was not skipped: no line `{pattern}`"))
            }
            (Variant::WithFix | Variant::OnTrial, _) if skipped => {
                Err(format!("the fix was skipped in the run with it: `{pattern}`"))
            }
            _ => Ok(()),
        }
    }
}

//! Which completions are told of together, when the guest has not said so by Interrupt Coalescing.
//!
//! A guest that has many commands under way is better told of several completions at once: an interrupt costs it about
//! as much as the rest of a command. How many it could have under way cannot be seen from outside, since an interrupt
//! after every command keeps it from submitting the next. So now and then an interrupt waits until no more commands come,
//! and what has been gathered then says how many the next ones may wait for.
//!
//! This is for a controller that is looked at all the time: there is no timer.

use std::time::Duration;

/// A guest that has not submitted a command for so long has no more.
const QUIET: Duration = Duration::from_micros(100);
/// The longest that a completion waits.
const LONGEST: Duration = Duration::from_micros(1000);
/// The most completions that are waited for.
const MOST: u32 = 64;
/// Interrupts from one trial to the next while the trials find something.
const TRIAL_EVERY: u32 = 64;
/// The same when they have found nothing for long.
const TRIAL_AT_LEAST_EVERY: u32 = 1024;

/// What is known of the guest behind one vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathering {
    /// Completions that one interrupt tells of.
    batch: u32,
    /// When the last command was fetched.
    asked: Duration,
    /// This interrupt waits for all that comes.
    trial: bool,
    /// Interrupts before the next trial.
    before_trial: u32,
    /// How many those were.
    pause: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        let (pause, before_trial) = (TRIAL_EVERY, TRIAL_EVERY);
        Self { batch: 1, asked: Duration::ZERO, trial: false, before_trial, pause }
    }
}

impl Gathering {
    /// Commands were fetched.
    pub(crate) fn asked(&mut self, now: Duration) {
        self.asked = now;
    }

    /// Whether the interrupt waits that tells of `count` completions, the first of them posted at `since`.
    pub(crate) fn waits(&self, now: Duration, since: Duration, count: u32) -> bool {
        let wanted = if self.trial { MOST } else { self.batch };
        count < wanted && now < self.asked.saturating_add(QUIET) && now < since.saturating_add(LONGEST)
    }

    /// An interrupt told of `count` completions.
    pub(crate) fn told(&mut self, count: u32) {
        if self.trial {
            self.trial = false;
            self.batch = (count / 2).max(1);
            self.pause =
                if self.batch > 1 { TRIAL_EVERY } else { (self.pause * 2).min(TRIAL_AT_LEAST_EVERY) };
            self.before_trial = self.pause;
        } else {
            self.batch = self.batch.min(count).max(1);
            self.before_trial = self.before_trial.saturating_sub(1);
            self.trial = self.before_trial == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// Interrupts while a guest has up to `depth` commands under way, one each `step`, which are completed at once.
    /// Returns the completions that each told of, and how long the first of them waited.
    fn run(gathering: &mut Gathering, depth: u32, step: Duration, interrupts: usize) -> Vec<(u32, Duration)> {
        let mut now = Duration::from_secs(1);
        let mut told = Vec::new();
        while told.len() < interrupts {
            let since = now;
            let mut count = 0;
            while count < depth {
                gathering.asked(now);
                count += 1;
                if !gathering.waits(now, since, count) {
                    break;
                }
                now += step;
            }
            while gathering.waits(now, since, count) {
                now += MICROSECOND;
            }
            gathering.told(count);
            told.push((count, now - since));
            now += step;
        }
        told
    }

    #[test]
    fn guest_with_one_command_at_a_time_is_told_at_once_but_for_rare_trials() {
        let told = run(&mut Gathering::default(), 1, 20 * MICROSECOND, 4000);
        assert!(told.iter().all(|(count, _)| *count == 1));
        let waited: Vec<_> = told.iter().filter(|(_, waited)| !waited.is_zero()).collect();
        assert!((3..=8).contains(&waited.len()), "{}", waited.len());
        assert!(waited.iter().all(|(_, waited)| *waited <= QUIET));
    }

    #[test]
    fn guest_with_many_is_told_of_several_together() {
        for step in [MICROSECOND, 60 * MICROSECOND] {
            let told = run(&mut Gathering::default(), 32, step, 400);
            let (late, completions) = (&told[200..], told[200..].iter().map(|(count, _)| count).sum::<u32>());
            assert!(completions as usize > 5 * late.len(), "{step:?}: {completions} in {}", late.len());
            assert!(told.iter().all(|(_, waited)| *waited <= LONGEST + step));
        }
    }

    #[test]
    fn guest_that_gets_slower_is_not_waited_for_twice() {
        let mut gathering = Gathering::default();
        run(&mut gathering, 32, MICROSECOND, 200);
        let told = run(&mut gathering, 1, 20 * MICROSECOND, 10);
        let waited = told.iter().filter(|(_, waited)| !waited.is_zero()).count();
        assert!(waited <= 2, "{told:?}");
    }

    #[test]
    fn completion_that_comes_long_after_its_command_is_told_of_at_once() {
        let mut gathering = Gathering { batch: 16, ..Gathering::default() };
        gathering.asked(Duration::ZERO);
        assert!(!gathering.waits(QUIET, QUIET, 1));
    }
}

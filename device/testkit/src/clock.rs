//! Time that moves when a test says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use sdmorph_pci::Clock;

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Cell<Duration>,
    deadlines: RefCell<BTreeSet<Duration>>,
}

impl ManualClock {
    /// Moves time forward by `by`.
    pub fn advance(&self, by: Duration) {
        self.now.set(self.now.get().saturating_add(by));
    }

    /// The earliest time that [`Clock::wake_at`] was asked for and that has not been taken.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.borrow().first().copied()
    }

    /// Takes the deadlines that have come; true if there was one.
    pub fn take_due(&self) -> bool {
        let now = self.now.get();
        let mut deadlines = self.deadlines.borrow_mut();
        let before = deadlines.len();
        deadlines.retain(|at| *at > now);
        deadlines.len() != before
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn wake_at(&self, at: Duration) {
        self.deadlines.borrow_mut().insert(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_is_due_only_once_its_time_has_come() {
        let clock = ManualClock::default();
        clock.wake_at(Duration::from_millis(5));
        clock.wake_at(Duration::from_millis(2));
        assert_eq!(clock.next_deadline(), Some(Duration::from_millis(2)));
        assert!(!clock.take_due());
        clock.advance(Duration::from_millis(3));
        assert!(clock.take_due());
        assert!(!clock.take_due());
        assert_eq!(clock.next_deadline(), Some(Duration::from_millis(5)));
    }
}

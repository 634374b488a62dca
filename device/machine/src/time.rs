//! Virtual time: the time since the machine was made.

// The one place in the device where the host's clock is read.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use sdmorph_pci::Clock;

/// Virtual time as the host's monotonic clock drives it.
#[derive(Debug, Clone, Copy)]
pub struct Timebase {
    start: Instant,
    wall: SystemTime,
}

impl Timebase {
    /// Time starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The wall clock's time at virtual time `at`, since the Unix epoch; for people to read, never to compute with.
    #[must_use]
    pub fn wall_clock(&self, at: Duration) -> Duration {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_add(at)
    }
}

/// The clock of one call: time stands still in it, and requests to be woken are kept.
#[derive(Debug, Default)]
pub(crate) struct CallClock {
    now: Cell<Duration>,
    wake: Cell<Option<Duration>>,
}

impl CallClock {
    /// Moves on to `now`; never back.
    pub(crate) fn set(&self, now: Duration) {
        self.now.set(now.max(self.now.get()));
    }

    /// The earliest time at which a function wants to be woken.
    pub(crate) fn wake(&self) -> Option<Duration> {
        self.wake.get()
    }

    /// Takes the request if it is due. A function that still has a deadline asks again when it is woken.
    pub(crate) fn take_due(&self) -> bool {
        let due = self.wake.get().is_some_and(|at| at <= self.now.get());
        if due {
            self.wake.set(None);
        }
        due
    }
}

impl Clock for CallClock {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn wake_at(&self, at: Duration) {
        self.wake.set(Some(self.wake.get().map_or(at, |other| other.min(at))));
    }
}

//! Polling before sleeping: when it pays.
//!
//! To wake a sleeping thread on an idle core takes longer than to answer a read. A client that sends its next message
//! within some tens of microseconds is met by a thread that is still looking. A client that does not costs that time
//! for nothing; so after a miss some messages go by without polling, and more after each further miss.

use std::time::{Duration, Instant};

/// Most messages that go by without polling after misses.
const LONGEST_PAUSE: u32 = 255;

/// Decides, before each sleep, how long to poll.
#[derive(Debug)]
pub(crate) struct Poller {
    window: Duration,
    /// Messages that are still to go by without polling.
    pause: u32,
    /// How many that were after the last miss.
    last_pause: u32,
    until: Option<Instant>,
}

impl Poller {
    /// Polls for at most `window` before a sleep; not at all if it is zero, or if there is only one core to be on, where
    /// polling only keeps the client from running.
    pub(crate) fn new(window: Duration) -> Self {
        let alone = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        Self { window: if alone { Duration::ZERO } else { window }, pause: 0, last_pause: 0, until: None }
    }

    /// Something was just received or answered: a wait begins that may be polled for.
    pub(crate) fn begin(&mut self) {
        self.until = None;
        if self.window.is_zero() {
            return;
        }
        match self.pause.checked_sub(1) {
            Some(pause) => self.pause = pause,
            None => self.until = Some(Instant::now() + self.window),
        }
    }

    /// Is it still worth looking?
    pub(crate) fn go_on(&mut self) -> bool {
        let Some(until) = self.until else { return false };
        if Instant::now() < until {
            return true;
        }
        self.until = None;
        self.last_pause = (self.last_pause * 2 + 1).min(LONGEST_PAUSE);
        self.pause = self.last_pause;
        false
    }

    /// Something came while it was being looked for.
    pub(crate) fn hit(&mut self) {
        self.last_pause = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A poller as on a machine with several cores, whatever this one has.
    fn poller(window: Duration) -> Poller {
        Poller { window, pause: 0, last_pause: 0, until: None }
    }

    /// Lets one wait pass without anything coming. True if it was polled for.
    fn miss(poller: &mut Poller) -> bool {
        poller.begin();
        let polled = poller.until.is_some();
        while poller.go_on() {}
        polled
    }

    #[test]
    fn misses_make_pauses_that_grow_up_to_a_limit_and_a_hit_ends_them() {
        let mut poller = poller(Duration::from_nanos(1));
        let polled: Vec<_> = (0..20).map(|_| miss(&mut poller)).collect();
        let at: Vec<_> = polled.iter().enumerate().filter(|(_, polled)| **polled).map(|(at, _)| at).collect();
        // Pauses of 1, 3 and 7 messages.
        assert_eq!(at, [0, 2, 6, 14]);
        for _ in 0..5000 {
            miss(&mut poller);
        }
        assert_eq!(poller.last_pause, LONGEST_PAUSE);
        while !miss(&mut poller) {}
        poller.hit();
        poller.pause = 0;
        assert!(miss(&mut poller));
        assert_eq!(poller.pause, 1);
    }

    #[test]
    fn window_of_zero_never_polls() {
        let mut poller = poller(Duration::ZERO);
        assert!((0..1000).all(|_| !miss(&mut poller)));
    }

    #[test]
    fn poll_goes_on_within_its_window() {
        let mut poller = poller(Duration::from_secs(3600));
        poller.begin();
        assert!((0..1000).all(|_| poller.go_on()));
    }
}

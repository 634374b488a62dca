//! Polling before sleeping: when it pays.
//!
//! To wake a sleeping thread on an idle core takes longer than to answer a read. A client that sends its next message
//! within some tens of microseconds is met by a thread that is still looking. A client that does not costs that time
//! for nothing; so after a miss some messages go by without polling, and more after each further miss.
//!
//! A client on the same core can only send while this thread does not run. Its message is there before the first look,
//! or else polling keeps it from being sent; so what is found at the first look says nothing for polling, and the misses
//! soon end it. Which cores there are is not asked: a server that is pinned to one may have its client on another.

use std::time::{Duration, Instant};

use crate::link::after;

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
    /// How often this wait was looked at.
    looks: u32,
}

impl Poller {
    /// Polls for at most `window` before a sleep; not at all if it is zero.
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, pause: 0, last_pause: 0, until: None, looks: 0 }
    }

    /// Something was just received or answered: a wait begins that may be polled for.
    pub(crate) fn begin(&mut self) {
        self.until = None;
        self.looks = 0;
        if self.window.is_zero() {
            return;
        }
        match self.pause.checked_sub(1) {
            Some(pause) => self.pause = pause,
            None => self.until = Some(after(self.window)),
        }
    }

    /// Is it still worth looking?
    pub(crate) fn go_on(&mut self) -> bool {
        let Some(until) = self.until else { return false };
        if Instant::now() < until {
            self.looks = self.looks.saturating_add(1);
            return true;
        }
        self.until = None;
        self.last_pause = (self.last_pause * 2 + 1).min(LONGEST_PAUSE);
        self.pause = self.last_pause;
        false
    }

    /// Something came while it was being looked for, or was there already.
    pub(crate) fn hit(&mut self) {
        if self.looks > 1 {
            self.last_pause = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets one wait pass without anything coming. True if it was polled for.
    fn miss(poller: &mut Poller) -> bool {
        poller.begin();
        let polled = poller.until.is_some();
        while poller.go_on() {}
        polled
    }

    #[test]
    fn misses_make_pauses_that_grow_up_to_a_limit() {
        let mut poller = Poller::new(Duration::from_nanos(1));
        let polled: Vec<_> = (0..20).map(|_| miss(&mut poller)).collect();
        let at: Vec<_> = polled.iter().enumerate().filter(|(_, polled)| **polled).map(|(at, _)| at).collect();
        // Pauses of 1, 3 and 7 messages.
        assert_eq!(at, [0, 2, 6, 14]);
        for _ in 0..5000 {
            miss(&mut poller);
        }
        assert_eq!(poller.last_pause, LONGEST_PAUSE);
    }

    #[test]
    fn what_comes_while_it_is_looked_for_ends_the_pauses_and_what_was_there_already_does_not() {
        let mut poller = Poller { last_pause: 7, ..Poller::new(Duration::from_secs(3600)) };
        for (looks, then) in [(1, 7), (2, 0)] {
            poller.begin();
            assert!((0..looks).all(|_| poller.go_on()));
            poller.hit();
            assert_eq!(poller.last_pause, then);
        }
    }

    #[test]
    fn window_of_zero_never_polls() {
        let mut poller = Poller::new(Duration::ZERO);
        assert!((0..1000).all(|_| !miss(&mut poller)));
    }

    #[test]
    fn poll_goes_on_within_its_window() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        poller.begin();
        assert!((0..1000).all(|_| poller.go_on()));
    }
}

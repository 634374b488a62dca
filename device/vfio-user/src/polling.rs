//! Polling before sleeping: when it pays.
//!
//! To wake a sleeping thread on an idle core takes longer than to answer a read. A client that sends its next message
//! within some tens of microseconds is met by a thread that is still looking. A client that does not costs that time
//! for nothing; so after a miss there is no polling for a while, and for longer after each further miss: of the time in
//! which nothing is found, at most one part in [`LONGEST_PAUSE`] is spent on looking.
//!
//! A client on the same core can only send while this thread does not run: before the first look, or while this thread
//! lets others run between two looks. So what is found at the first look says nothing for polling; and what is always
//! found at the second one, after the core was given away once, would have come as soon to a thread that sleeps: there
//! is no polling for a window then. Which cores there are is not asked: a server that is pinned to one may have its client
//! on another.

use std::time::{Duration, Instant};

use crate::link::later;

/// The longest pause after misses, in windows.
const LONGEST_PAUSE: u32 = 128;

/// After so many messages in turn that were there at the second look, sleeping would have done.
const SECOND_LOOKS: u32 = 8;

/// In a pause, of so many messages one looks at the clock: that takes its time, too.
const MESSAGES_A_LOOK: u32 = 8;

/// Decides, before each sleep, how long to poll.
#[derive(Debug)]
pub(crate) struct Poller {
    window: Duration,
    /// How long the pause after the last miss was; zero after a hit.
    pause: Duration,
    /// Until then nothing is polled for.
    resume: Option<Instant>,
    /// Messages of the pause that do not look whether it is over.
    unseen: u32,
    until: Option<Instant>,
    /// How often this wait was looked at.
    looks: u32,
    /// Messages in turn that were there at the second look, not counting those of the first.
    second_looks: u32,
}

impl Poller {
    /// Polls for at most `window` before a sleep; not at all if it is zero.
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window,
            pause: Duration::ZERO,
            resume: None,
            unseen: 0,
            until: None,
            looks: 0,
            second_looks: 0,
        }
    }

    /// Something was just received or answered: a wait begins that may be polled for.
    pub(crate) fn begin(&mut self) {
        self.until = None;
        self.looks = 0;
        if self.window.is_zero() {
            return;
        }
        match self.unseen.checked_sub(1) {
            Some(unseen) => self.unseen = unseen,
            None => self.begin_at(Instant::now()),
        }
    }

    fn begin_at(&mut self, now: Instant) {
        if self.resume.is_some_and(|resume| now < resume) {
            self.unseen = MESSAGES_A_LOOK - 1;
        } else {
            self.resume = None;
            self.until = Some(later(now, self.window));
        }
    }

    /// Is it still worth looking?
    pub(crate) fn go_on(&mut self) -> bool {
        self.until.is_some() && self.go_on_at(Instant::now())
    }

    fn go_on_at(&mut self, now: Instant) -> bool {
        let Some(until) = self.until else { return false };
        if now < until {
            self.looks = self.looks.saturating_add(1);
            return true;
        }
        self.until = None;
        let longest = self.window.saturating_mul(LONGEST_PAUSE);
        self.pause = self.pause.saturating_mul(2).clamp(self.window.min(longest), longest);
        self.resume = Some(later(now, self.pause));
        false
    }

    /// Something came while it was being looked for, or was there already.
    pub(crate) fn hit(&mut self) {
        match self.looks {
            0 | 1 => {}
            // For one window and no longer: where threads run changes from moment to moment.
            2 if self.second_looks >= SECOND_LOOKS => {
                self.until = None;
                self.resume = Some(later(Instant::now(), self.window));
            }
            2 => self.second_looks += 1,
            _ => {
                self.pause = Duration::ZERO;
                self.second_looks = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(200);

    #[test]
    fn misses_make_pauses_that_grow_up_to_a_limit() {
        let mut poller = Poller::new(WINDOW);
        let start = Instant::now();
        let mut now = start;
        let mut polled = Vec::new();
        // A message each window, and none while it is looked for.
        for message in 0..2000u32 {
            poller.begin_at(now);
            if poller.until.is_some() {
                polled.push(message);
                assert!(poller.go_on_at(now));
            }
            now += WINDOW;
            poller.until.is_some().then(|| assert!(!poller.go_on_at(now)));
            assert!(poller.until.is_none());
        }
        // What is looked at lasts a window, and then a pause of 1, 2, 4, … windows goes by.
        assert_eq!(polled[..8], [0, 2, 5, 10, 19, 36, 69, 134]);
        assert!(polled.windows(2).skip(8).all(|pair| pair[1] - pair[0] == LONGEST_PAUSE + 1), "{polled:?}");
    }

    #[test]
    fn what_comes_while_it_is_looked_for_ends_the_pauses_and_what_was_there_already_does_not() {
        let long = WINDOW * 8;
        let mut poller = Poller { pause: long, ..Poller::new(WINDOW) };
        for (looks, then) in [(1, long), (2, long), (3, Duration::ZERO)] {
            let now = Instant::now();
            poller.looks = 0;
            poller.begin_at(now);
            assert!((0..looks).all(|_| poller.go_on_at(now)));
            poller.hit();
            assert_eq!(poller.pause, then);
        }
    }

    /// Whether a message that is there at that look was polled for.
    fn polled(poller: &mut Poller, looks: u32) -> bool {
        poller.looks = 0;
        poller.begin_at(Instant::now());
        let polls = poller.until.is_some();
        if polls {
            (0..looks).for_each(|_| assert!(poller.go_on()));
            poller.hit();
        }
        polls
    }

    #[test]
    fn client_that_sends_whenever_others_may_run_is_not_polled_for() {
        // The pause lasts longer than the test.
        let mut poller = Poller::new(Duration::from_secs(3600));
        let polls = (0..100).filter(|_| polled(&mut poller, 2)).count();
        assert_eq!(polls, SECOND_LOOKS as usize + 1);
    }

    #[test]
    fn one_that_also_comes_later_is() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        assert!((0..100).all(|message| polled(&mut poller, if message % 5 == 0 { 3 } else { 2 })));
    }

    #[test]
    fn window_of_zero_never_polls() {
        let mut poller = Poller::new(Duration::ZERO);
        for _ in 0..1000 {
            poller.begin();
            assert!(!poller.go_on());
        }
    }

    #[test]
    fn window_without_a_nameable_end_does_not_panic() {
        for window in [Duration::MAX, Duration::from_secs(u64::MAX / 64)] {
            let mut poller = Poller::new(window);
            poller.begin();
            assert!(poller.go_on());
        }
    }

    #[test]
    fn poll_goes_on_within_its_window() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        poller.begin();
        assert!((0..1000).all(|_| poller.go_on()));
    }
}

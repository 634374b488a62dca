//! Polling before sleeping: when it pays.
//!
//! To wake a sleeping thread on an idle core takes longer than to answer a read. A client that sends its next message
//! within some tens of microseconds is met by a thread that is still looking. A client that does not costs that time
//! for nothing; so after a miss there is no polling for a while, and for longer after each further miss: of the time in
//! which nothing is found, at most one part in [`LONGEST_PAUSE`] is spent on looking.
//!
//! A client on the same core can send while this thread does not run: before the first look, or when this thread lets
//! others run; and else only if it takes the core away, which it seldom does. What is found right after others could run
//! would have come as soon to a thread that sleeps; what is found at any other look but the first comes from another core.
//! If what is found never does, there is no polling for [`SHARED_CORE_PAUSE`] windows. A client that did take the core away
//! costs one more row of such messages. Which cores there are is not asked: a server that is pinned to one may have its
//! client on another.
//!
//! To let others run takes as long as a look even if nobody wants to, and a client on another core waits meanwhile; the
//! answer that comes before that client has gone to sleep comes several times sooner. But where others do want to run, they
//! are to run at once: it may be they who bring the client its answer, as QEMU's threads do. So others run now and then;
//! and once somebody did, which is seen by the time that it took, after the first look as well, until nobody did for some
//! waits. One wait of a few does it the one way and one the other: to learn whether the client is on another core, however
//! quick it is, and whether somebody wants to run.

use std::time::{Duration, Instant};

use crate::link::{after, later};

/// The longest pause after misses, in windows.
const LONGEST_PAUSE: u32 = 128;

/// After so many messages in turn that can have come from this core, sleeping would have done.
const FROM_THIS_CORE: u32 = 64;

/// How long there is no polling after them, in windows; after that, one more such message will do. It has to end, since
/// where threads run changes from moment to moment.
const SHARED_CORE_PAUSE: u32 = 16;

/// Of so many empty looks, others may run after one.
const LOOKS_A_TURN: u32 = 16;

/// A turn of others' that took so long was somebody's: two changes from thread to thread, and what the other one does. One that
/// nobody takes is a system call, of some 0.4 µs.
const SOMEBODYS_TURN: Duration = Duration::from_nanos(1500);

/// After so many waits in a row whose first turn nobody took, others do not run after the first look.
const IDLE_TURNS: u32 = 16;

/// Of so many waits with an empty look, the first one lets others run late, not before [`LOOKS_A_TURN`] empty looks, and the
/// second one after its first look, whoever took the turns before.
const WAITS_A_TEST: u32 = 8;

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
    /// Waits with an empty look, since the last pause for the sake of this core.
    waits: u32,
    /// How often there was nothing in this wait.
    empty_looks: u32,
    /// Others do not run after the first look of this wait.
    late: bool,
    /// First turns of a wait, in a row, that nobody took.
    idle_turns: u32,
    /// Messages in turn that came right after others could run, not counting those of the first look.
    from_this_core: u32,
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
            waits: 0,
            empty_looks: 0,
            late: true,
            idle_turns: IDLE_TURNS,
            from_this_core: 0,
        }
    }

    /// Something was just received or answered: a wait begins that may be polled for.
    pub(crate) fn begin(&mut self) {
        self.until = None;
        self.empty_looks = 0;
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
            return true;
        }
        self.until = None;
        let longest = self.window.saturating_mul(LONGEST_PAUSE);
        self.pause = self.pause.saturating_mul(2).clamp(self.window.min(longest), longest);
        self.resume = Some(later(now, self.pause));
        false
    }

    /// There was nothing. Whether others may run before the next look.
    pub(crate) fn missed(&mut self) -> bool {
        // One that ends at its first look proves nothing: it must not be one of the two that are tests.
        if self.empty_looks == 0 {
            self.waits = self.waits.wrapping_add(1);
            self.late = match self.waits % WAITS_A_TEST {
                1 => true,
                2 => false,
                _ => self.idle_turns >= IDLE_TURNS,
            };
        }
        // Past its end the same turns come again.
        self.empty_looks = self.empty_looks.checked_add(1).unwrap_or(LOOKS_A_TURN);
        self.gave_way()
    }

    /// Lets others run, and learns by the time that it takes whether anybody did: the kernel does not say.
    pub(crate) fn give_way(&mut self) {
        let began = Instant::now();
        std::thread::yield_now();
        self.turn_took(began.elapsed());
    }

    fn turn_took(&mut self, took: Duration) {
        if took >= SOMEBODYS_TURN {
            self.idle_turns = 0;
        } else if self.empty_looks <= LOOKS_A_TURN {
            // The later turns of a long wait say nothing of the next one's first.
            self.idle_turns = self.idle_turns.saturating_add(1);
        }
    }

    /// Whether others could run since the last look.
    fn gave_way(&self) -> bool {
        self.empty_looks != 0 && self.empty_looks % LOOKS_A_TURN == u32::from(!self.late)
    }

    /// Something came while it was being looked for, or was there already.
    pub(crate) fn hit(&mut self) {
        match (self.empty_looks, self.gave_way()) {
            (0, _) => {}
            (_, true) if self.from_this_core >= FROM_THIS_CORE => {
                self.until = None;
                self.resume = Some(after(self.window.saturating_mul(SHARED_CORE_PAUSE)));
                // The first wait after it is a test.
                self.waits = 0;
            }
            (_, true) => self.from_this_core += 1,
            (_, false) => {
                self.pause = Duration::ZERO;
                self.from_this_core = 0;
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

    /// How long a look takes, and a turn that nobody takes.
    const LOOK: Duration = Duration::from_nanos(300);

    /// Waits for a message that is there once `is_there` says so, of the poller and of the time that has passed. A turn of
    /// others' takes `turn`. Whether it was polled for.
    fn polled(poller: &mut Poller, turn: Duration, is_there: impl Fn(&Poller, Duration) -> bool) -> bool {
        poller.begin();
        if poller.until.is_none() {
            return false;
        }
        let mut passed = Duration::ZERO;
        while !is_there(poller, passed) {
            assert!(poller.go_on());
            passed += LOOK;
            if poller.missed() {
                passed += turn;
                poller.turn_took(turn);
            }
        }
        poller.hit();
        true
    }

    fn end_pause(poller: &mut Poller) {
        (poller.resume, poller.unseen) = (None, 0);
    }

    /// A client on this core, whose message is there once it could run, and which takes some looks for it.
    fn from_this_core(poller: &mut Poller) -> bool {
        polled(poller, LOOK * 10, |poller, _| poller.gave_way())
    }

    /// After which empty looks of a wait without a message others run.
    fn turns(poller: &mut Poller) -> Vec<u32> {
        poller.begin();
        (1..=2 * LOOKS_A_TURN).filter(|_| poller.missed()).collect()
    }

    #[test]
    fn others_run_now_and_then_and_where_they_want_to_after_the_first_look_but_for_tests() {
        for idle_turns in [IDLE_TURNS, IDLE_TURNS - 1] {
            let mut poller = Poller { idle_turns, ..Poller::new(Duration::from_secs(3600)) };
            for wait in 0..100 {
                let late = wait % 8 == 0 || wait % 8 != 1 && idle_turns == IDLE_TURNS;
                assert_eq!(turns(&mut poller), if late { [16, 32] } else { [1, 17] }, "{idle_turns}, {wait}");
            }
        }
    }

    #[test]
    fn others_run_after_the_first_look_once_somebody_did_and_until_nobody_does() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        // Whether others run late in a wait that is no test and has so many empty looks.
        let mut late = |turn, looks| {
            poller.waits = 2;
            assert!(polled(&mut poller, turn, |poller, _| poller.empty_looks == looks));
            poller.late
        };
        // Nobody wants to.
        assert!((0..100).all(|_| late(LOOK, 40)));
        assert!(late(SOMEBODYS_TURN - Duration::from_nanos(1), 16) && late(LOOK, 16));
        // Somebody did, after the 16th look.
        assert!(late(SOMEBODYS_TURN, 16));
        // Only the first turn of a wait counts, however long the wait.
        assert!((0..IDLE_TURNS).all(|wait| !late(LOOK, 2 + 100 * (wait % 2))));
        assert!(late(LOOK, 2));
        // Somebody did, in a later turn.
        let mut poller = Poller::new(Duration::from_secs(3600));
        poller.empty_looks = 10 * LOOKS_A_TURN;
        poller.turn_took(SOMEBODYS_TURN);
        assert_eq!(poller.idle_turns, 0);
    }

    #[test]
    fn turn_is_timed() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        poller.idle_turns = 5;
        poller.give_way();
        assert!([0, 6].contains(&poller.idle_turns));
    }

    #[test]
    fn message_that_comes_after_somebodys_turn_came_after_one() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        assert!(from_this_core(&mut poller));
        assert_eq!((poller.idle_turns, poller.from_this_core), (0, 1));
    }

    #[test]
    fn what_comes_while_it_is_looked_for_ends_the_pauses_and_what_may_have_come_from_this_core_does_not() {
        let long = WINDOW * 8;
        // Others ran after 1 and 17 empty looks, or after 16: this is the third wait, and no test.
        let (first, late) = (0, IDLE_TURNS);
        let (kept, ended) = (long, Duration::ZERO);
        for (idle_turns, empty_looks, then) in [
            (first, 0, kept),
            (first, 1, kept),
            (first, 2, ended),
            (first, 16, ended),
            (first, 17, kept),
            (late, 0, kept),
            (late, 1, ended),
            (late, 16, kept),
            (late, 17, ended),
        ] {
            let hour = Duration::from_secs(3600);
            let mut poller = Poller { pause: long, waits: 2, idle_turns, ..Poller::new(hour) };
            assert!(polled(&mut poller, LOOK, |poller, _| poller.empty_looks == empty_looks));
            assert_eq!(poller.pause, then, "{idle_turns}, {empty_looks}");
        }
    }

    #[test]
    fn what_was_missed_in_one_wait_says_nothing_in_the_next_one_polled_or_not() {
        let mut poller = Poller { from_this_core: 3, ..Poller::new(Duration::from_secs(3600)) };
        poller.begin();
        poller.missed();
        poller.resume = Some(after(poller.window));
        poller.begin();
        poller.hit();
        assert_eq!(poller.from_this_core, 3);
    }

    #[test]
    fn client_that_sends_whenever_others_may_run_is_not_polled_for() {
        // The pause lasts longer than the test.
        let window = Duration::from_secs(3600);
        let mut poller = Poller::new(window);
        let over = after(window * SHARED_CORE_PAUSE);
        let polls = (0..200).filter(|_| from_this_core(&mut poller)).count();
        assert_eq!(polls, FROM_THIS_CORE as usize + 1);
        assert!(poller.resume.unwrap() >= over);
        // When it is over, one more is enough, and it is one that could tell another core.
        end_pause(&mut poller);
        assert!(from_this_core(&mut poller) && poller.empty_looks == LOOKS_A_TURN);
        assert!(!from_this_core(&mut poller));
    }

    #[test]
    fn client_that_has_moved_to_another_core_is_polled_for_again() {
        let mut poller = Poller::new(Duration::from_secs(3600));
        assert!((0..200).any(|_| !from_this_core(&mut poller)));
        end_pause(&mut poller);
        assert!((0..1000).all(|_| polled(&mut poller, LOOK, |poller, _| poller.empty_looks == 1)));
    }

    #[test]
    fn client_on_another_core_is_polled_for_however_quick_it_is() {
        // How long the client takes, and how long it takes to let others run, both in looks.
        let turns = [0, 1, 2, 3, 4, 5, 8];
        for (client, turn) in (0..40).flat_map(|client| turns.map(|turn| (client, turn))) {
            // So many messages in turn are there already, before one that is not.
            for there in [0, 1, 3, 7] {
                let mut poller = Poller::new(Duration::from_secs(3600));
                for wait in 0..1000 {
                    let takes = if wait % (there + 1) == there { LOOK * client } else { Duration::ZERO };
                    let polled = polled(&mut poller, LOOK * turn, |_, passed| passed >= takes);
                    assert!(polled, "{client}, {turn}, {there}");
                }
            }
        }
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

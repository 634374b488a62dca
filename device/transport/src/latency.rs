//! Injected latency.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sdmorph_machine::faults::MAX_LATENCY;

/// Sleeps latencies off, until it is stopped: then there are none any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latency {
    stopped: Arc<(Mutex<bool>, Condvar)>,
}

impl Latency {
    /// Sleeps `delay` off. An access in pieces adds up their delays, and must not: QEMU gives an answer up after 5 s, and
    /// takes a late one for that to its next question.
    pub(crate) fn sleep_off(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let until = Instant::now() + delay.min(MAX_LATENCY);
        let (stopped, told) = &*self.stopped;
        let mut stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            stopped = told.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Cuts short what is being slept off, and whatever would be.
    pub(crate) fn stop(&self) {
        let (stopped, told) = &*self.stopped;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        told.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many that nobody would wait for their end.
    fn sleep_off_many(latency: &Latency) {
        (0..10_000).for_each(|_| latency.sleep_off(MAX_LATENCY));
    }

    #[test]
    fn stop_ends_what_is_slept_off_and_what_would_be() {
        let latency = Latency::default();
        let sleeping = std::thread::spawn({
            let latency = latency.clone();
            move || sleep_off_many(&latency)
        });
        latency.stop();
        sleeping.join().unwrap();
        sleep_off_many(&latency);
    }

    #[test]
    fn latency_is_slept_off_whole_and_none_takes_none() {
        let latency = Latency::default();
        let began = Instant::now();
        latency.sleep_off(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        (0..1_000_000).for_each(|_| latency.sleep_off(Duration::ZERO));
    }
}

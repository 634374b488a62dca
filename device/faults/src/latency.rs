//! How long a read of a BAR takes: fixed or drawn, never longer than QEMU waits.

use std::sync::Arc;
use std::time::Duration;

use crate::random::Random;

/// The longest latency that may be injected. QEMU gives up on a reply after 5 s (`x-msg-timeout`), and a reply that
/// comes later than that can desynchronise its stream.
pub const MAX_LATENCY: Duration = Duration::from_secs(4);

/// Most latencies of a recorded trace.
pub const MAX_TRACE: usize = 4096;

/// What a `read-latency` action sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadLatency {
    /// Reads are answered at once.
    Off,
    /// Every read takes this long.
    Fixed(Duration),
    /// Every read takes a time between `min` and `max`, both included, all equally likely.
    Uniform {
        /// Shortest.
        min: Duration,
        /// Longest; not below `min`.
        max: Duration,
        /// Start of the sequence: the same seed gives the same latencies.
        seed: u64,
    },
    /// Every read takes a time of an exponential distribution, as waiting for something does that comes at random.
    Exponential {
        /// Its mean.
        mean: Duration,
        /// Start of the sequence.
        seed: u64,
    },
    /// The first read takes the first of these times, and so on; after the last one comes the first.
    Trace(Arc<[Duration]>),
}

/// Draws latencies.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    latency: ReadLatency,
    random: Random,
    /// Where in the trace the next read is.
    at: usize,
}

impl Generator {
    pub(crate) fn new(latency: ReadLatency) -> Self {
        let seed = match latency {
            ReadLatency::Uniform { seed, .. } | ReadLatency::Exponential { seed, .. } => seed,
            ReadLatency::Off | ReadLatency::Fixed(_) | ReadLatency::Trace(_) => 0,
        };
        Self { latency, random: Random::new(seed), at: 0 }
    }

    pub(crate) fn latency(&self) -> &ReadLatency {
        &self.latency
    }

    /// The next read's latency; `None` if it is answered at once. Never above [`MAX_LATENCY`], whatever was asked for.
    pub(crate) fn draw(&mut self) -> Option<Duration> {
        let drawn = match &self.latency {
            ReadLatency::Off => Duration::ZERO,
            ReadLatency::Fixed(latency) => *latency,
            ReadLatency::Uniform { min, max, .. } => {
                // Both are cut first, so that a range that reaches beyond the limit does not pile up on it more than it
                // must.
                let min = nanoseconds(*min);
                let span = nanoseconds(*max).saturating_sub(min) + 1;
                Duration::from_nanos(min + self.random.below(span))
            }
            ReadLatency::Exponential { mean, .. } => {
                // The inverse of the distribution function, of a number above 0 and up to 1 in steps of 2^-53.
                let uniform = ((self.random.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                Duration::from_nanos((-uniform.ln() * nanoseconds(*mean) as f64) as u64)
            }
            ReadLatency::Trace(trace) => {
                let drawn = trace.get(self.at).copied().unwrap_or_default();
                self.at = (self.at + 1) % trace.len().max(1);
                drawn
            }
        };
        let latency = drawn.min(MAX_LATENCY);
        (!latency.is_zero()).then_some(latency)
    }
}

fn nanoseconds(latency: Duration) -> u64 {
    latency.min(MAX_LATENCY).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_draws_stay_in_range_and_reach_both_ends() {
        let (min, max) = (Duration::from_nanos(10), Duration::from_nanos(13));
        let mut generator = Generator::new(ReadLatency::Uniform { min, max, seed: 7 });
        let mut seen = [0u32; 4];
        for _ in 0..1000 {
            let latency = generator.draw().unwrap();
            assert!(latency >= min && latency <= max, "{latency:?}");
            seen[(latency - min).as_nanos() as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 150), "{seen:?}");
    }

    #[test]
    fn exponential_draws_have_the_mean_and_are_below_it_more_often_than_not() {
        let mean = Duration::from_micros(100);
        let mut generator = Generator::new(ReadLatency::Exponential { mean, seed: 7 });
        let drawn: Vec<_> = (0..10_000).map(|_| generator.draw().unwrap_or_default()).collect();
        let average = drawn.iter().sum::<Duration>() / 10_000;
        assert!((mean * 97 / 100..mean * 103 / 100).contains(&average), "{average:?}");
        // 1 - 1/e of them.
        let below = drawn.iter().filter(|latency| **latency < mean).count();
        assert!((6200..6450).contains(&below), "{below}");
        let longest = Generator::new(ReadLatency::Exponential { mean: Duration::MAX, seed: 7 }).draw();
        assert!(longest.unwrap() <= MAX_LATENCY);
    }

    #[test]
    fn trace_is_played_in_order_and_again() {
        let times = [3, 0, 5].map(Duration::from_nanos);
        let mut generator = Generator::new(ReadLatency::Trace(times.into()));
        let drawn: Vec<_> = (0..5).map(|_| generator.draw().map_or(0, |time| time.as_nanos())).collect();
        assert_eq!(drawn, [3, 0, 5, 3, 0]);
    }

    #[test]
    fn latency_above_the_limit_is_cut_to_it() {
        assert_eq!(Generator::new(ReadLatency::Fixed(Duration::MAX)).draw(), Some(MAX_LATENCY));
        let latency = ReadLatency::Uniform { min: Duration::MAX, max: Duration::ZERO, seed: 0 };
        assert_eq!(Generator::new(latency).draw(), Some(MAX_LATENCY));
    }

    #[test]
    fn latency_of_zero_and_off_delay_nothing() {
        assert_eq!(Generator::new(ReadLatency::Off).draw(), None);
        assert_eq!(Generator::new(ReadLatency::Fixed(Duration::ZERO)).draw(), None);
    }
}

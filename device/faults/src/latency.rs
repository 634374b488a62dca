//! How long a read of a BAR takes: fixed or drawn, never longer than QEMU waits.

use std::time::Duration;

use crate::random::Random;

/// The longest latency that may be injected. QEMU gives up on a reply after 5 s (`x-msg-timeout`), and a reply that
/// comes later than that can desynchronise its stream.
pub const MAX_LATENCY: Duration = Duration::from_secs(4);

/// What a `read-latency` action sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// Draws latencies.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    latency: ReadLatency,
    random: Random,
}

impl Generator {
    pub(crate) fn new(latency: ReadLatency) -> Self {
        let seed = match latency {
            ReadLatency::Uniform { seed, .. } => seed,
            ReadLatency::Off | ReadLatency::Fixed(_) => 0,
        };
        Self { latency, random: Random::new(seed) }
    }

    pub(crate) fn latency(&self) -> ReadLatency {
        self.latency
    }

    /// The next read's latency; `None` if it is answered at once. Never above [`MAX_LATENCY`], whatever was asked for.
    pub(crate) fn draw(&mut self) -> Option<Duration> {
        let drawn = match self.latency {
            ReadLatency::Off => Duration::ZERO,
            ReadLatency::Fixed(latency) => latency,
            ReadLatency::Uniform { min, max, .. } => {
                // Both are cut first: the product below then fits, and a range that reaches beyond the limit does not
                // pile up on it more than it must.
                let min = nanoseconds(min);
                let span = nanoseconds(max).saturating_sub(min) + 1;
                Duration::from_nanos(min + self.random.below(span))
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

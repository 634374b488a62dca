//! Percentiles and medians.

use std::time::Duration;

use serde::Serialize;

/// Percentiles of a round's times, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
}

impl Percentiles {
    /// By nearest rank. None without samples.
    pub(crate) fn of(mut samples: Vec<u64>) -> Option<Self> {
        samples.sort_unstable();
        let at = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100);
            samples.get(rank.checked_sub(1)?).copied()
        };
        Some(Self { p50_ns: at(50)?, p90_ns: at(90)?, p99_ns: at(99)? })
    }
}

/// The median; of an even number of values, the mean of the two in the middle. None without values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values.get(middle.checked_sub(1)?).map(|lower| (lower + upper) / 2.0)
}

/// A time in nanoseconds.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let of = Percentiles::of((1..=1000).rev().collect()).unwrap();
        assert_eq!(of, Percentiles { p50_ns: 500, p90_ns: 900, p99_ns: 990 });
        assert_eq!(Percentiles::of(vec![7]).unwrap(), Percentiles { p50_ns: 7, p90_ns: 7, p99_ns: 7 });
        assert_eq!(Percentiles::of(vec![]), None);
    }

    #[test]
    fn median_takes_one_outlier_calmly() {
        assert_eq!(median([3.0, 1000.0, 1.0]), Some(3.0));
        assert_eq!(median([1.0, 2.0, 3.0, 4.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}

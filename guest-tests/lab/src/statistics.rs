//! How often and how long: counts of verdicts, how sure a part of them is, and the spread of times over many runs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::result::RunResult;
use crate::verdict::{Outcome, Variant};

/// Order statistics of one moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many runs had it.
    pub runs: usize,
    /// The least.
    pub min_ms: f64,
    /// A quarter of the runs is below.
    pub p25_ms: f64,
    /// Half of the runs is below.
    pub median_ms: f64,
    /// Three quarters of the runs are below.
    pub p75_ms: f64,
    /// The greatest.
    pub max_ms: f64,
}

impl Spread {
    /// Of values in any order; `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            runs: values.len(),
            min_ms: *values.first()?,
            p25_ms: percentile(&values, 25)?,
            median_ms: percentile(&values, 50)?,
            p75_ms: percentile(&values, 75)?,
            max_ms: *values.last()?,
        })
    }
}

/// What so many percent of sorted values are at most, between two neighbours in proportion.
pub(crate) fn percentile(sorted: &[f64], percent: u8) -> Option<f64> {
    let place = sorted.len().checked_sub(1)? * usize::from(percent.min(100));
    let (below, rest) = (place / 100, place % 100);
    let low = *sorted.get(below)?;
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    let share = f64::from(u8::try_from(rest).ok()?) / 100.0;
    Some(low + (high - low) * share)
}

/// The part of runs that ended in some way, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many did.
    pub hits: u32,
    /// Of how many.
    pub runs: u32,
    /// The true part is at least this, from 0 to 1.
    pub low: f64,
    /// The true part is at most this.
    pub high: f64,
}

impl Share {
    /// With Wilson's score interval at 95 % (E. B. Wilson, 1927), which holds for few runs and for none or all of them
    /// as well. Of no run, nothing is known: 0 to 1.
    #[must_use]
    pub fn of(hits: u32, runs: u32) -> Self {
        // Of the normal distribution, 95 % lies within so many standard deviations.
        const Z: f64 = 1.959_963_984_540_054;
        if runs == 0 {
            return Self { hits, runs, low: 0.0, high: 1.0 };
        }
        let n = f64::from(runs);
        let part = f64::from(hits) / n;
        let scale = 1.0 + Z * Z / n;
        let centre = (part + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (part * (1.0 - part) / n + Z * Z / (4.0 * n * n)).sqrt();
        Self { hits, runs, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

/// All runs of one scenario against one kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Against which kernel.
    pub variant: Variant,
    /// How many runs.
    pub runs: usize,
    /// How many ended as `fault`.
    pub fault: usize,
    /// How many ended as `hang`.
    pub hang: usize,
    /// How many ended as `clean`.
    pub clean: usize,
    /// How many ended as `inconclusive`.
    pub inconclusive: usize,
    /// Why, and how often.
    pub reasons: BTreeMap<String, usize>,
    /// The scenario's moments, in its order.
    pub moments: Vec<(String, Spread)>,
}

impl Statistics {
    /// Of the runs of one variant; `None` if there are none.
    pub fn of(variant: Variant, results: &[RunResult]) -> Option<Self> {
        let runs: Vec<&RunResult> = results.iter().filter(|result| result.variant == variant).collect();
        let first = runs.first()?;
        let count = |outcome: Outcome| runs.iter().filter(|run| run.verdict.outcome == outcome).count();
        let mut reasons = BTreeMap::new();
        for reason in runs.iter().filter_map(|run| run.verdict.reason.clone()) {
            *reasons.entry(reason).or_insert(0) += 1;
        }
        let spread = |name: &str| {
            let times = runs.iter().flat_map(|run| &run.moments).filter(|moment| moment.name == name);
            Spread::of(times.filter_map(|moment| moment.t_ms).collect())
        };
        let moments =
            first.moments.iter().filter_map(|moment| Some((moment.name.clone(), spread(&moment.name)?)));
        Some(Self {
            variant,
            runs: runs.len(),
            fault: count(Outcome::Fault),
            hang: count(Outcome::Hang),
            clean: count(Outcome::Clean),
            inconclusive: count(Outcome::Inconclusive),
            reasons,
            moments: moments.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_neighbours_in_proportion() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.min_ms, spread.max_ms), (1.0, 4.0));
        assert_eq!((spread.p25_ms, spread.median_ms, spread.p75_ms), (1.75, 2.5, 3.25));
    }

    #[test]
    fn percentile_95_of_20_runs_is_nearly_the_greatest() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert!((percentile(&values, 95).unwrap() - 19.05).abs() < 1e-9);
        assert_eq!(percentile(&values, 100), Some(20.0));
        assert_eq!(percentile(&[], 95), None);
    }

    #[test]
    fn wilson_s_interval_is_the_textbook_s() {
        let near = |share: Share, low: f64, high: f64| {
            assert!((share.low - low).abs() < 5e-4 && (share.high - high).abs() < 5e-4, "{share:?}");
        };
        // Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
        near(Share::of(81, 263), 0.2553, 0.3662);
        near(Share::of(15, 148), 0.0624, 0.1605);
        near(Share::of(0, 20), 0.0, 0.1611);
        near(Share::of(1, 29), 0.0061, 0.1718);
        near(Share::of(20, 20), 0.8389, 1.0);
        assert_eq!((Share::of(0, 0).low, Share::of(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn one_value_is_all_of_its_quartiles_and_none_has_no_spread() {
        let spread = Spread::of(vec![7.0]).unwrap();
        assert_eq!((spread.runs, spread.p25_ms, spread.median_ms, spread.p75_ms), (1, 7.0, 7.0, 7.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn verdicts_are_counted_by_variant_with_their_reasons() {
        let results = [
            crate::result::tests::fault(),
            crate::result::tests::clean(),
            crate::result::tests::inconclusive("the rule bar-dies never fired"),
        ];
        let without = Statistics::of(Variant::WithoutFix, &results).unwrap();
        assert_eq!((without.runs, without.fault, without.clean, without.inconclusive), (2, 1, 0, 1));
        assert_eq!(without.reasons["the rule bar-dies never fired"], 1);
        let with = Statistics::of(Variant::WithFix, &results).unwrap();
        assert_eq!((with.runs, with.clean), (1, 1));
        assert!(with.moments.iter().any(|(name, _)| name == "link down"));
    }
}

//! How much longer a campaign takes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::plan::PlannedRun;

/// How long runs take.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    cells: BTreeMap<(String, String), (f64, f64)>,
    all: (f64, f64),
}

impl Estimate {
    /// A run took so long, in seconds.
    pub(crate) fn made(&mut self, run: &PlannedRun, wall_s: f64) {
        let cell = self.cells.entry((run.kernel.clone(), run.scenario.clone())).or_default();
        for (sum, count) in [cell, &mut self.all] {
            *sum += wall_s;
            *count += 1.0;
        }
    }

    /// As long as the runs of the same cell took, else as all did; fetching and building not counted.
    pub(crate) fn left(&self, queue: &VecDeque<PlannedRun>, jobs: usize) -> Option<Duration> {
        let mean = |(sum, count): (f64, f64)| if count > 0.0 { Some(sum / count) } else { None };
        let all = mean(self.all)?;
        let cell = |run: &PlannedRun| self.cells.get(&(run.kernel.clone(), run.scenario.clone())).copied();
        let left: f64 = queue.iter().map(|run| cell(run).and_then(mean).unwrap_or(all)).sum();
        let jobs = f64::from(u32::try_from(jobs.max(1)).ok()?);
        Duration::try_from_secs_f64(left / jobs).ok().filter(|left| !left.is_zero())
    }
}

/// A time in words.
pub(crate) fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{:.1} h", Duration::from_secs(seconds).as_secs_f64() / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn the_time_left_is_of_the_runs_that_are_left() {
        let plan = plan(&["6.1"], &["a", "b"], 2);
        let mut estimate = Estimate::default();
        let queue: VecDeque<PlannedRun> = plan.runs[2..].to_vec().into();
        assert_eq!(estimate.left(&queue, 1), None);
        estimate.made(&plan.runs[0], 10.0);
        assert_eq!(estimate.left(&queue, 1), Some(Duration::from_secs(20)));
        estimate.made(&plan.runs[1], 50.0);
        assert_eq!(estimate.left(&queue, 2), Some(Duration::from_secs(30)));
        assert_eq!(minutes(Duration::from_secs(30)), "30 s");
        assert_eq!(minutes(Duration::from_secs(601)), "11 min");
        assert_eq!(minutes(Duration::from_secs(7200)), "2.0 h");
    }
}

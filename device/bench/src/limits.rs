//! The ratios that the server has to keep to, judged on medians over the rounds.

use serde::Serialize;

use crate::placement::Placement;
use crate::report::{Contest, DiskWork, Disks, Measured, MeasuredDisk, Task, ThroughQemu, Wire, of};
use crate::rules::{Row, RuleCosts};
use crate::servers::ServerKind;

/// A ratio and its limit.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limit {
    /// What is divided by what.
    pub(crate) what: String,
    pub(crate) bound: Bound,
    /// The ratio of the medians; None if one of them was not measured.
    pub(crate) ratio: Option<f64>,
    /// The same ratio of a socket alone, which takes descriptors, answers, and has nothing else to do. None if none is
    /// comparable.
    pub(crate) alone: Option<f64>,
    /// Lowest and highest ratio of two values of the same round.
    pub(crate) rounds: Option<(f64, f64)>,
    pub(crate) met: Option<bool>,
}

/// On which side of a number a ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(limit) => ratio <= limit,
            Self::AtLeast(limit) => ratio >= limit,
        }
    }
}

impl Limit {
    fn new(what: String, bound: Bound, ratio: Option<f64>, rounds: Option<(f64, f64)>) -> Self {
        let met = ratio.map(|ratio| bound.holds(ratio));
        Self { what, bound, ratio, alone: None, rounds, met }
    }

    /// Adds what `alone` comes to, against the same `other`.
    fn beside(mut self, servers: &[Measured], alone: ServerKind, other: ServerKind, value: Value) -> Self {
        let median = |server| of(servers, server).and_then(value).map(|(median, _)| median);
        self.alone = median(alone).zip(median(other)).map(|(alone, other)| alone / other);
        self
    }
}

/// What of a server is compared: its median over the rounds, and each round's value.
type Value = fn(&Measured) -> Option<(f64, Vec<f64>)>;

fn time(of: &Measured) -> Option<(f64, Vec<f64>)> {
    Some((of.median.p50_ns, of.rounds.iter().map(|round| round.times.p50_ns as f64).collect()))
}

/// A read's mean time.
///
/// On one core the kernel's scheduler goes through patterns of a few messages, of 7.2, 9.0 and 9.5 µs for example, again and
/// again. Their mean is what a read takes; p50 is one of them, and another one when the pattern shifts.
fn mean(of: &Measured) -> Option<(f64, Vec<f64>)> {
    let mean = |reads_per_s: f64| 1e9 / reads_per_s;
    Some((mean(of.median.reads_per_s), of.rounds.iter().map(|round| mean(round.reads_per_s)).collect()))
}

fn posted(of: &Measured) -> Option<(f64, Vec<f64>)> {
    let rounds = of.rounds.iter().filter_map(|round| round.posted_writes_per_s).collect();
    Some((of.median.posted_writes_per_s?, rounds))
}

/// Judges what was measured of the vfio-user server.
pub(crate) fn judge_wire(wire: &[Wire], through_qemu: Option<&ThroughQemu>) -> Vec<Limit> {
    let placed = |is: fn(Placement) -> bool| {
        let found = wire.iter().find(|wire| is(wire.placement));
        found.map_or(&[][..], |wire| &wire.servers)
    };
    let one_core = placed(|placement| matches!(placement, Placement::OneCore { .. }));
    let two_cores = placed(|placement| matches!(placement, Placement::TwoCores { .. }));
    let two_cores_awake = placed(|placement| matches!(placement, Placement::TwoCoresAwake { .. }));
    let qemu = through_qemu.map_or(&[][..], |measured| &measured.servers);
    vec![
        limit(
            "read on one core: mean time / bare socket's",
            Bound::AtMost(1.15),
            one_core,
            ServerKind::Bare,
            mean,
        )
        .beside(one_core, ServerKind::BareTaking, ServerKind::Bare, mean),
        limit(
            "read across cores: time / crate's",
            Bound::AtMost(1.0 / 3.0),
            two_cores,
            ServerKind::Crate,
            time,
        )
        .beside(two_cores, ServerKind::BarePolling, ServerKind::Crate, time),
        limit(
            "read across cores, awake: time / crate's",
            Bound::AtMost(1.0 / 3.0),
            two_cores_awake,
            ServerKind::Crate,
            time,
        )
        .beside(two_cores_awake, ServerKind::BarePolling, ServerKind::Crate, time),
        limit(
            "posted writes across cores: rate / crate's",
            Bound::AtLeast(1.5),
            two_cores,
            ServerKind::Crate,
            posted,
        ),
        limit("read through QEMU: time / crate's", Bound::AtMost(0.5), qemu, ServerKind::Crate, time),
    ]
}

fn limit(what: &'static str, bound: Bound, servers: &[Measured], other: ServerKind, value: Value) -> Limit {
    let values = of(servers, ServerKind::Own).and_then(value).zip(of(servers, other).and_then(value));
    let ratio = values.as_ref().map(|((own, _), (other, _))| own / other);
    let rounds = values.and_then(|((_, own), (_, other))| range(own.into_iter().zip(other)));
    Limit::new(what.to_owned(), bound, ratio, rounds)
}

/// Judges what rules cost: an access takes its round trip, and in the machine somewhat longer than without rules. One limit
/// for each row; a single one that is not judged if nothing was measured.
pub(crate) fn judge_rules(measured: Option<&RuleCosts>) -> Vec<Limit> {
    let Some(RuleCosts { without, rows }) = measured else {
        let what = "read with rules: round trip / that without".to_owned();
        return vec![Limit::new(what, Bound::AtMost(1.1), None, None)];
    };
    let judge = |row: &Row| {
        let medians = without.medians().zip(row.cost.medians());
        let ratio = medians.map(|((trip, before), (_, after))| (trip + after - before) / trip);
        let trips = without.round_trip_ns.iter().zip(&without.machine_ns);
        let rounds = trips.zip(&row.cost.machine_ns);
        let rounds = range(rounds.map(|((trip, before), after)| (trip + after - before, *trip)));
        let plural = if row.rules == 1 { "rule" } else { "rules" };
        let what = format!("read with {} {plural}, {}: time / none", row.rules, row.kind.title());
        let bound = Bound::AtMost(if row.rules == 1 { 1.01 } else { 1.1 });
        Limit::new(what, bound, ratio, rounds)
    };
    rows.iter().map(judge).collect()
}

/// Judges the disks of a guest: one limit for each task. None of them is judged if they were not measured.
pub(crate) fn judge_disks(contest: Contest, disks: Option<&Disks>) -> Vec<Limit> {
    let judge = |task: &Task| {
        let row = disks.and_then(|disks| disks.rows.iter().find(|row| row.task == *task));
        let rate =
            |disk: &MeasuredDisk| disk.rounds.iter().map(|round| round.bytes_per_s).collect::<Vec<_>>();
        let ratio = row.map(|row| row.own.median.bytes_per_s / row.other.median.bytes_per_s);
        let rounds = row.and_then(|row| range(rate(&row.own).into_iter().zip(rate(&row.other))));
        let work = match task.work {
            DiskWork::SequentialRead => "sequential read",
            DiskWork::SequentialWrite => "sequential write",
            DiskWork::RandomRead => "random read",
            DiskWork::RandomWrite => "random write",
        };
        let depth = if task.depth == 1 { String::new() } else { format!(" at {}", task.depth) };
        let what = format!("{work}{depth}: rate / {}'s", contest.other());
        let bound = Bound::AtLeast(1.0);
        Limit::new(what, bound, ratio, rounds)
    };
    contest.tasks().iter().map(judge).collect()
}

/// The lowest and the highest ratio of these pairs.
fn range(pairs: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    pairs.map(|(own, other)| own / other).fold(None, |range: Option<(f64, f64)>, ratio| {
        let (low, high) = range.unwrap_or((ratio, ratio));
        Some((low.min(ratio), high.max(ratio)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::JobResult;
    use crate::report::{DiskRow, Round};
    use crate::statistics::Percentiles;

    /// With reads that take twice as long on average.
    fn measured(server: ServerKind, p50s: &[u64]) -> Measured {
        let round = |p50_ns: &u64| Round {
            times: Percentiles { p50_ns: *p50_ns, p90_ns: 0, p99_ns: 0 },
            reads_per_s: 0.5e9 / *p50_ns as f64,
            cpu_ns: None,
            calls: None,
            posted_writes_per_s: None,
        };
        Measured::new(server, p50s.iter().map(round).collect()).unwrap()
    }

    #[test]
    fn limit_is_judged_on_medians_so_one_bad_round_does_not_count() {
        let servers = vec![
            measured(ServerKind::Bare, &[1000, 1000, 1000]),
            measured(ServerKind::BareTaking, &[1050, 1050, 1]),
            measured(ServerKind::Own, &[1100, 9000, 1100]),
        ];
        let wire = [Wire { placement: Placement::OneCore { cpu: 0 }, servers }];
        let limits = judge_wire(&wire, None);
        let one = &limits[0];
        assert_eq!((one.met, one.ratio, one.rounds), (Some(true), Some(1.1), Some((1.1, 9.0))));
        assert_eq!(one.alone, Some(1.05));
        // Nothing else was measured.
        assert!(limits[1..].iter().all(|limit| limit.met.is_none() && limit.ratio.is_none()));
        assert_eq!(limits.len(), 5);
    }

    #[test]
    fn on_one_core_it_is_the_mean_that_counts_and_across_cores_it_is_p50() {
        let with_mean = |server, p50_ns, mean_ns: f64| {
            let mut measured = measured(server, &[p50_ns; 3]);
            measured.median.reads_per_s = 1e9 / mean_ns;
            measured
        };
        let one_core = Wire {
            placement: Placement::OneCore { cpu: 0 },
            servers: vec![
                with_mean(ServerKind::Bare, 1000, 2000.0),
                with_mean(ServerKind::BareTaking, 1500, 2100.0),
                with_mean(ServerKind::Own, 1300, 2200.0),
            ],
        };
        let two_cores = Wire {
            placement: Placement::TwoCores { client: 0, server: 1 },
            servers: vec![
                with_mean(ServerKind::Crate, 1000, 1000.0),
                with_mean(ServerKind::BarePolling, 100, 900.0),
                with_mean(ServerKind::Own, 200, 900.0),
            ],
        };
        let limits = judge_wire(&[one_core, two_cores], None);
        let close = |is: Option<f64>, expected: f64| (is.unwrap() - expected).abs() < 1e-9;
        assert!(close(limits[0].ratio, 1.1) && close(limits[0].alone, 1.05), "{limits:?}");
        assert!(close(limits[1].ratio, 0.2) && close(limits[1].alone, 0.1), "{limits:?}");
    }

    #[test]
    fn client_that_sleeps_and_one_that_does_not_are_judged_each_by_its_own_placement() {
        let wire = |placement, own: u64| Wire {
            placement,
            servers: vec![
                measured(ServerKind::Crate, &[1000]),
                measured(ServerKind::Own, &[own]),
                measured(ServerKind::BarePolling, &[own / 2]),
            ],
        };
        let (client, server) = (0, 1);
        let wire = [
            wire(Placement::TwoCores { client, server }, 500),
            wire(Placement::TwoCoresAwake { client, server }, 100),
        ];
        let limits = judge_wire(&wire, None);
        let judged = |at: usize| (limits[at].ratio, limits[at].alone, limits[at].met);
        assert_eq!(judged(1), (Some(0.5), Some(0.25), Some(false)));
        assert_eq!(judged(2), (Some(0.1), Some(0.05), Some(true)));
        // Rates have none.
        assert_eq!(judged(3), (None, None, None));
    }

    #[test]
    fn disk_has_to_be_as_fast_as_the_other_one() {
        let disk = |rates: [f64; 3]| {
            let round = |bytes_per_s| JobResult { bytes_per_s, p50_us: 1.0, p99_us: 1.0 };
            MeasuredDisk::new(rates.map(round).to_vec()).unwrap()
        };
        let row = |work, own| {
            let task = Task { work, depth: 1 };
            DiskRow { task, own: disk(own), other: disk([10.0, 10.0, 10.0]) }
        };
        let disks = Disks {
            contest: Contest::Reader,
            qemu: String::new(),
            accel: "tcg",
            kernel: String::new(),
            vcpus: 1,
            image_bytes: 0,
            rows: vec![
                row(DiskWork::RandomWrite, [9.0, 9.0, 40.0]),
                row(DiskWork::RandomRead, [5.0, 10.0, 20.0]),
            ],
        };
        let limits = judge_disks(Contest::Reader, Some(&disks));
        let found: Vec<_> = limits.iter().map(|limit| (limit.met, limit.ratio, limit.rounds)).collect();
        let expected = [
            (None, None, None),
            (None, None, None),
            (Some(true), Some(1.0), Some((0.5, 2.0))),
            (Some(false), Some(0.9), Some((0.9, 4.0))),
        ];
        assert_eq!(found, expected);
        assert_eq!(limits[3].what, "random write: rate / sdhci-pci's");
        let drive = judge_disks(Contest::Drive, None);
        assert_eq!(drive.len(), 6);
        assert_eq!(drive[4].what, "random read at 32: rate / QEMU nvme's");
    }

    #[test]
    fn bound_itself_is_met() {
        assert!(Bound::AtMost(0.5).holds(0.5) && !Bound::AtMost(0.5).holds(0.51));
        assert!(Bound::AtLeast(1.5).holds(1.5) && !Bound::AtLeast(1.5).holds(1.49));
    }
}

//! What was measured, as it is written for programs.

use std::fs;

use serde::Serialize;

use crate::limits::Limit;
use crate::placement::Placement;
use crate::servers::{Counted, ServerKind};
use crate::statistics::{Percentiles, median};
use crate::system_calls::SystemCalls;

/// The load from which on somebody else must be at work.
const BUSY_LOAD: f64 = 0.5;

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) settings: Settings,
    /// Over the socket, one entry a placement.
    pub(crate) wire: Vec<Wire>,
    pub(crate) system_calls: Vec<SystemCalls>,
    pub(crate) through_qemu: Option<ThroughQemu>,
    /// What could not be measured, and why.
    pub(crate) not_measured: Vec<String>,
    pub(crate) limits: Vec<Limit>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    /// Reads in each round.
    pub(crate) reads: u32,
    /// Posted writes in each round.
    pub(crate) posted_writes: u32,
    pub(crate) qemu_rounds: u32,
}

/// The machine.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) version: &'static str,
    /// Load average of the last minute, before anything was measured.
    pub(crate) load: f64,
}

impl Host {
    /// Looks at this one. What the kernel does not say is "unknown".
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        let uname = rustix::system::uname();
        Self {
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: uname.release().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION"),
            load: load.unwrap_or(0.0),
        }
    }

    /// Is somebody else at work here?
    pub(crate) fn is_busy(&self) -> bool {
        self.load > BUSY_LOAD
    }
}

/// One placement.
#[derive(Debug, Serialize)]
pub(crate) struct Wire {
    #[serde(flatten)]
    pub(crate) placement: Placement,
    pub(crate) servers: Vec<Measured>,
}

/// Reads as a guest does them.
#[derive(Debug, Serialize)]
pub(crate) struct ThroughQemu {
    pub(crate) qemu: String,
    pub(crate) accel: &'static str,
    pub(crate) servers: Vec<Measured>,
}

/// One server in one placement.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) server: ServerKind,
    /// Medians over the rounds.
    pub(crate) median: Medians,
    pub(crate) rounds: Vec<Round>,
}

/// One round of one server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    #[serde(flatten)]
    pub(crate) times: Percentiles,
    pub(crate) reads_per_s: f64,
    /// Processor time of the server for one read.
    pub(crate) cpu_ns: Option<f64>,
    /// What the server itself counted.
    pub(crate) calls: Option<Counted>,
    pub(crate) posted_writes_per_s: Option<f64>,
}

/// Medians over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Medians {
    pub(crate) p50_ns: f64,
    pub(crate) p90_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) reads_per_s: f64,
    pub(crate) cpu_ns: Option<f64>,
    pub(crate) empty_receives: Option<f64>,
    pub(crate) posted_writes_per_s: Option<f64>,
}

impl Measured {
    /// None without rounds.
    pub(crate) fn new(server: ServerKind, rounds: Vec<Round>) -> Option<Self> {
        let all = |of: fn(&Round) -> f64| median(rounds.iter().map(of));
        let some = |of: fn(&Round) -> Option<f64>| median(rounds.iter().filter_map(of));
        let median = Medians {
            p50_ns: all(|round| round.times.p50_ns as f64)?,
            p90_ns: all(|round| round.times.p90_ns as f64)?,
            p99_ns: all(|round| round.times.p99_ns as f64)?,
            reads_per_s: all(|round| round.reads_per_s)?,
            cpu_ns: some(|round| round.cpu_ns),
            empty_receives: some(|round| {
                round.calls.map(|calls| calls.empty_receives as f64 / calls.messages.max(1) as f64)
            }),
            posted_writes_per_s: some(|round| round.posted_writes_per_s),
        };
        Some(Self { server, median, rounds })
    }
}

/// The entry of one server.
pub(crate) fn of(servers: &[Measured], server: ServerKind) -> Option<&Measured> {
    servers.iter().find(|measured| measured.server == server)
}

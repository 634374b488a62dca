//! What was measured, as it is written for programs.

use std::fs;

use serde::Serialize;

use crate::disks::JobResult;
use crate::limits::Limit;
use crate::placement::Placement;
use crate::rules::RuleCosts;
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
    pub(crate) reader: Option<InProcess>,
    /// The drive, by the testkit's driver.
    pub(crate) over_socket: Option<OverSocket>,
    /// What fault rules cost.
    pub(crate) rules: Option<RuleCosts>,
    /// In guests, one entry a contest.
    pub(crate) disks: Vec<Disks>,
    /// What could not be measured, and why.
    pub(crate) not_measured: Vec<String>,
    pub(crate) limits: Vec<Limit>,
}

impl Report {
    /// Nothing was measured yet.
    pub(crate) fn new(host: Host, settings: Settings) -> Self {
        Self {
            host,
            settings,
            wire: Vec::new(),
            system_calls: Vec::new(),
            through_qemu: None,
            reader: None,
            over_socket: None,
            rules: None,
            disks: Vec::new(),
            not_measured: Vec::new(),
            limits: Vec::new(),
        }
    }
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
    /// Rounds of the reader alone and of the drive over its socket, and how long each row of one takes.
    pub(crate) reader_rounds: u32,
    pub(crate) reader_ms: u32,
    /// Rounds in the guest, and how long each job of one runs.
    pub(crate) guest_rounds: u32,
    pub(crate) guest_ms: u32,
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

/// The reader without a guest.
#[derive(Debug, Serialize)]
pub(crate) struct InProcess {
    pub(crate) steps: Vec<MeasuredStep>,
}

/// Something done to the reader, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// An internal register is read, as a driver does it: HAIMR written, and read.
    Haimr,
    /// CMD13, with all that Linux's driver does around a command.
    Command,
    /// Data, with CMD12 after it.
    Data { work: DiskWork, storage: Storage },
}

/// What keeps the card's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Memory.
    Memory,
    /// A raw image, on the file system of temporary files.
    Raw,
}

impl Step {
    pub(crate) const ALL: [Self; 10] = [
        Self::Haimr,
        Self::Command,
        Self::Data { work: DiskWork::SequentialRead, storage: Storage::Memory },
        Self::Data { work: DiskWork::SequentialWrite, storage: Storage::Memory },
        Self::Data { work: DiskWork::RandomRead, storage: Storage::Memory },
        Self::Data { work: DiskWork::RandomWrite, storage: Storage::Memory },
        Self::Data { work: DiskWork::SequentialRead, storage: Storage::Raw },
        Self::Data { work: DiskWork::SequentialWrite, storage: Storage::Raw },
        Self::Data { work: DiskWork::RandomRead, storage: Storage::Raw },
        Self::Data { work: DiskWork::RandomWrite, storage: Storage::Raw },
    ];

    pub(crate) fn storage(self) -> Option<Storage> {
        match self {
            Self::Haimr | Self::Command => None,
            Self::Data { storage, .. } => Some(storage),
        }
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Data { work: DiskWork::SequentialWrite | DiskWork::RandomWrite, .. })
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Haimr => "HAIMR: a register read".to_owned(),
            Self::Command => "CMD13".to_owned(),
            Self::Data { work, storage: Storage::Memory } => format!("{}, in memory", work.title()),
            Self::Data { work, storage: Storage::Raw } => format!("{}, raw image", work.title()),
        }
    }

    /// Bytes of data.
    pub(crate) fn bytes(self) -> Option<u32> {
        match self {
            Self::Haimr | Self::Command => None,
            Self::Data { work, .. } => Some(work.bytes()),
        }
    }
}

/// A step, measured.
#[derive(Debug, Serialize)]
pub(crate) struct MeasuredStep {
    pub(crate) what: String,
    /// Bytes of data that one moves, if it moves any.
    pub(crate) bytes: Option<u32>,
    /// How often a second: the median over the rounds.
    pub(crate) median_per_s: f64,
    pub(crate) rounds_per_s: Vec<f64>,
}

impl MeasuredStep {
    /// None without rounds.
    pub(crate) fn new(step: Step, rounds_per_s: Vec<f64>) -> Option<Self> {
        let median_per_s = median(rounds_per_s.iter().copied())?;
        Some(Self { what: step.title(), bytes: step.bytes(), median_per_s, rounds_per_s })
    }
}

/// The drive over its socket.
#[derive(Debug, Serialize)]
pub(crate) struct OverSocket {
    pub(crate) rows: Vec<SocketRow>,
}

/// How the driver tells of new commands, and of completions that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Doorbells {
    /// By registers.
    Registers,
    /// By memory that the drive looks at, and by registers when it does not (Doorbell Buffer Config).
    Shadow,
}

impl Doorbells {
    pub(crate) const ALL: [Self; 2] = [Self::Registers, Self::Shadow];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Registers => "doorbell registers",
            Self::Shadow => "shadow doorbells",
        }
    }
}

/// One task, with one kind of doorbells.
#[derive(Debug, Serialize)]
pub(crate) struct SocketRow {
    pub(crate) doorbells: Doorbells,
    #[serde(flatten)]
    pub(crate) task: Task,
    /// Medians over the rounds.
    pub(crate) median: SocketRound,
    pub(crate) rounds: Vec<SocketRound>,
}

/// What a round of it came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SocketRound {
    pub(crate) requests_per_s: f64,
    /// From before a command is put into its queue until its completion is found.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Processor time of the server for one request, all its threads.
    pub(crate) cpu_us: f64,
    /// Doorbell registers written for one request.
    pub(crate) doorbells: f64,
}

impl SocketRow {
    /// None without rounds.
    pub(crate) fn new(doorbells: Doorbells, task: Task, rounds: Vec<SocketRound>) -> Option<Self> {
        let all = |of: fn(&SocketRound) -> f64| median(rounds.iter().map(of));
        let median = SocketRound {
            requests_per_s: all(|round| round.requests_per_s)?,
            p50_us: all(|round| round.p50_us)?,
            p99_us: all(|round| round.p99_us)?,
            cpu_us: all(|round| round.cpu_us)?,
            doorbells: all(|round| round.doorbells)?,
        };
        Some(Self { doorbells, task, median, rounds })
    }
}

/// The disks of a guest.
#[derive(Debug, Serialize)]
pub(crate) struct Disks {
    pub(crate) contest: Contest,
    pub(crate) qemu: String,
    pub(crate) accel: &'static str,
    pub(crate) kernel: String,
    /// Processors of the guest.
    pub(crate) vcpus: u32,
    /// Of each of the two.
    pub(crate) image_bytes: u64,
    pub(crate) rows: Vec<DiskRow>,
}

/// Which two disks are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contest {
    /// The card in this project's reader, and one in QEMU's sdhci-pci.
    Reader,
    /// The same card as an NVMe drive, and QEMU's own nvme.
    Drive,
}

impl Contest {
    /// As the guest's script has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Drive => "drive",
        }
    }

    /// The other one's name.
    pub(crate) fn other(self) -> &'static str {
        match self {
            Self::Reader => "sdhci-pci",
            Self::Drive => "QEMU nvme",
        }
    }

    /// What is done to the disks, in this order.
    pub(crate) fn tasks(self) -> &'static [Task] {
        const fn task(work: DiskWork, depth: u32) -> Task {
            Task { work, depth }
        }
        match self {
            Self::Reader => {
                const {
                    &[
                        task(DiskWork::SequentialRead, 1),
                        task(DiskWork::SequentialWrite, 1),
                        task(DiskWork::RandomRead, 1),
                        task(DiskWork::RandomWrite, 1),
                    ]
                }
            }
            Self::Drive => {
                const {
                    &[
                        task(DiskWork::SequentialRead, 1),
                        task(DiskWork::SequentialWrite, 1),
                        task(DiskWork::RandomRead, 1),
                        task(DiskWork::RandomWrite, 1),
                        task(DiskWork::RandomRead, 32),
                        task(DiskWork::RandomWrite, 32),
                    ]
                }
            }
        }
    }
}

/// Work, and how many requests of it are under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Task {
    pub(crate) work: DiskWork,
    pub(crate) depth: u32,
}

impl Task {
    /// What fio does, the size of its requests and how many there are, as the guest's script has it.
    pub(crate) fn name(self) -> String {
        let (work, kib) = match self.work {
            DiskWork::SequentialRead => ("read", 128),
            DiskWork::SequentialWrite => ("write", 128),
            DiskWork::RandomRead => ("randread", 4),
            DiskWork::RandomWrite => ("randwrite", 4),
        };
        format!("{work}-{kib}k-{}", self.depth)
    }

    pub(crate) fn title(self) -> String {
        let Self { work, depth } = self;
        if depth == 1 { work.title().to_owned() } else { format!("{}, {depth} at a time", work.title()) }
    }
}

/// What is done to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskWork {
    SequentialRead,
    SequentialWrite,
    RandomRead,
    RandomWrite,
}

impl DiskWork {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SequentialRead => "sequential read, 128 KiB",
            Self::SequentialWrite => "sequential write, 128 KiB",
            Self::RandomRead => "random read, 4 KiB",
            Self::RandomWrite => "random write, 4 KiB",
        }
    }

    /// Of a request.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::SequentialRead | Self::SequentialWrite => 128 << 10,
            Self::RandomRead | Self::RandomWrite => 4 << 10,
        }
    }
}

/// One task on both disks.
#[derive(Debug, Serialize)]
pub(crate) struct DiskRow {
    #[serde(flatten)]
    pub(crate) task: Task,
    /// This project's.
    pub(crate) own: MeasuredDisk,
    /// The one it is compared with.
    pub(crate) other: MeasuredDisk,
}

/// One kind of work on one disk.
#[derive(Debug, Serialize)]
pub(crate) struct MeasuredDisk {
    /// Medians over the rounds.
    pub(crate) median: JobResult,
    pub(crate) rounds: Vec<JobResult>,
}

impl MeasuredDisk {
    /// None without rounds.
    pub(crate) fn new(rounds: Vec<JobResult>) -> Option<Self> {
        let all = |of: fn(&JobResult) -> f64| median(rounds.iter().map(of));
        let median = JobResult {
            bytes_per_s: all(|round| round.bytes_per_s)?,
            p50_us: all(|round| round.p50_us)?,
            p99_us: all(|round| round.p99_us)?,
        };
        Some(Self { median, rounds })
    }
}

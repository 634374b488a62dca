//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::report::Settings;
use crate::servers::ServerKind;

/// What the user asks for.
#[derive(Debug, Parser)]
#[command(
    name = "sdmorph-bench",
    version,
    about = "Measures the vfio-user server, the card reader, and a guest's disks, each next to others",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  make bench                                   everything, some fifteen minutes
  make bench ARGS='--only guest'               the reader's disk and sdhci-pci's in one guest
  make bench ARGS='--quick --no-qemu'          a first impression of what needs no QEMU, some seconds
  make bench ARGS='--json bench.json --check'  for a program: every round as JSON, exit code 1 if a limit is missed

Progress goes to standard error, the table to standard output. QEMU= names a qemu-system-x86_64 of your own; without it
the system's is used, or the lab's, which is fetched if it is not there. So are the guest's kernel (KERNEL= and MODULES=
name one of your own) and fio. System calls need strace.

Exit codes: 0 measured, 1 with --check: a limit was missed or could not be judged, 2 bad input, 3 nothing could be measured"
)]
pub(crate) struct Arguments {
    /// Measure only this; may be given several times
    #[arg(long, value_enum, value_name = "PART")]
    pub(crate) only: Vec<Part>,
    /// Few and short rounds: for a first impression
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure nothing that needs QEMU
    #[arg(long)]
    pub(crate) no_qemu: bool,
    /// Write everything measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Exit with 1 if a limit is missed, or could not be judged
    #[arg(long)]
    pub(crate) check: bool,
    /// Rounds over the socket, and with rules; default 60, with --quick 6
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// Reads in each round; default 2500, with --quick 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub(crate) reads: Option<u32>,
    /// Rounds through QEMU, which is started anew for each; default 15, with --quick 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) qemu_rounds: Option<u32>,
    /// Rounds of the reader alone, and of the drive over its socket; default 7, with --quick 3
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) reader_rounds: Option<u32>,
    /// How long each row of such a round takes; default 200, with --quick 50
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) reader_ms: Option<u32>,
    /// Rounds in a guest; default 7, with --quick 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) guest_rounds: Option<u32>,
    /// How long each job of such a round runs; default 3000, with --quick 1000
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(100..=600_000))]
    pub(crate) guest_ms: Option<u32>,
    #[command(flatten)]
    pub(crate) guest: GuestOptions,
    #[command(subcommand)]
    pub(crate) hidden: Option<Hidden>,
}

impl Arguments {
    pub(crate) fn settings(&self) -> Settings {
        let pick = |given: Option<u32>, full, quick| given.unwrap_or(if self.quick { quick } else { full });
        let reads = pick(self.reads, 2_500, 1_000);
        Settings {
            rounds: pick(self.rounds, 60, 6),
            reads,
            posted_writes: reads.saturating_mul(5),
            qemu_rounds: pick(self.qemu_rounds, 15, 1),
            reader_rounds: pick(self.reader_rounds, 7, 3),
            reader_ms: pick(self.reader_ms, 200, 50),
            guest_rounds: pick(self.guest_rounds, 7, 1),
            guest_ms: pick(self.guest_ms, 3000, 1000),
        }
    }

    /// Whether this part is to be measured.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The vfio-user server, over its socket and through QEMU
    Wire,
    /// The reader without guest and socket
    Reader,
    /// The reader's disk in a guest, next to that of QEMU's sdhci-pci
    Guest,
    /// The drive that the card becomes, over its socket without a guest
    SocketDrive,
    /// The drive that the card becomes, next to QEMU's own nvme
    Drive,
    /// What fault rules cost an access that does not set them off
    Rules,
}

/// What the device of the guest is.
#[derive(Debug, Args)]
pub(crate) struct GuestOptions {
    /// The sdmorph whose `serve` is the guest's device; default: the one next to this program
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) device: Option<PathBuf>,
    /// How long that one polls before it sleeps (`serve --poll`); default: its own
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) poll: Option<u64>,
    /// Processors of the guest; default: one less than there are here, but 1 or 2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) vcpus: Option<u32>,
}

impl GuestOptions {
    /// A device in a process of its own, and QEMU's threads that speak to it, need a processor as well.
    pub(crate) fn vcpus(&self, cpus: usize) -> u32 {
        self.vcpus.unwrap_or(if cpus > 2 { 2 } else { 1 })
    }
}

/// What only this program itself calls.
#[derive(Debug, Subcommand)]
pub(crate) enum Hidden {
    /// Be one of the servers
    #[command(hide = true)]
    Serve(ServeOptions),
}

/// How to be a server. Commands come over standard input, reports go to standard output, and the end of standard input
/// is the server's end.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Which one
    #[arg(long, value_enum)]
    pub(crate) kind: ServerKind,
    /// Where to listen
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// The only core to be on
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Keep the times at which reads arrive
    #[arg(long)]
    pub(crate) keep_arrivals: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent_and_quick_is_less() {
        Arguments::command().debug_assert();
        let settings = |line: &[&str]| Arguments::parse_from(line).settings();
        let (full, quick) = (settings(&["b"]), settings(&["b", "--quick"]));
        assert!(
            quick.rounds < full.rounds && quick.reads < full.reads && quick.qemu_rounds < full.qemu_rounds
        );
        assert!(quick.reader_rounds < full.reader_rounds && quick.reader_ms < full.reader_ms);
        assert!(quick.guest_rounds < full.guest_rounds && quick.guest_ms < full.guest_ms);
        assert_eq!(settings(&["b", "--quick", "--reads", "500"]).reads, 500);
    }

    #[test]
    fn without_a_choice_all_parts_are_measured() {
        let has = |line: &[&str]| {
            let arguments = Arguments::parse_from(line);
            [Part::Wire, Part::Reader, Part::SocketDrive, Part::Guest, Part::Drive, Part::Rules]
                .map(|part| arguments.has(part))
        };
        assert_eq!(has(&["b"]), [true; 6]);
        assert_eq!(has(&["b", "--only", "guest"]), [false, false, false, true, false, false]);
        assert_eq!(
            has(&["b", "--only", "guest", "--only", "wire"]),
            [true, false, false, true, false, false]
        );
    }

    #[test]
    fn guest_leaves_a_processor_to_the_device() {
        let vcpus = |line: &[&str], cpus| Arguments::parse_from(line).guest.vcpus(cpus);
        assert_eq!([1, 2, 3, 64].map(|cpus| vcpus(&["b"], cpus)), [1, 1, 2, 2]);
        assert_eq!(vcpus(&["b", "--vcpus", "4"], 2), 4);
    }
}

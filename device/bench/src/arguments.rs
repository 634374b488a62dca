//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::report::Settings;
use crate::servers::ServerKind;

/// What the user asks for.
#[derive(Debug, Parser)]
#[command(
    name = "sdmorph-bench",
    version,
    about = "Measures vfio-user servers: this project's, the crate vfio_user's, and a bare Unix socket",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  make bench                                   everything, some minutes
  make bench ARGS='--quick --no-qemu'          a first impression of the wire alone, some seconds
  make bench ARGS='--json bench.json --check'  for a program: every round as JSON, exit code 1 if a limit is missed

Progress goes to standard error, the table to standard output. QEMU= names a qemu-system-x86_64 of your own; without it
the system's is used, or the lab's, which is fetched if it is not there. System calls need strace.

Exit codes: 0 measured, 1 with --check: a limit was missed or could not be judged, 2 bad input, 3 nothing could be measured"
)]
pub(crate) struct Arguments {
    /// Few and short rounds: for a first impression
    #[arg(long)]
    pub(crate) quick: bool,
    /// Do not measure through QEMU
    #[arg(long)]
    pub(crate) no_qemu: bool,
    /// Write everything measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Exit with 1 if a limit is missed, or could not be judged
    #[arg(long)]
    pub(crate) check: bool,
    /// Rounds over the socket; default 15, with --quick 3
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// Reads in each round; default 10000, with --quick 2000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub(crate) reads: Option<u32>,
    /// Rounds through QEMU, which is started anew for each; default 5, with --quick 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) qemu_rounds: Option<u32>,
    #[command(subcommand)]
    pub(crate) hidden: Option<Hidden>,
}

impl Arguments {
    pub(crate) fn settings(&self) -> Settings {
        let pick = |given: Option<u32>, full, quick| given.unwrap_or(if self.quick { quick } else { full });
        let reads = pick(self.reads, 10_000, 2_000);
        Settings {
            rounds: pick(self.rounds, 15, 3),
            reads,
            posted_writes: reads.saturating_mul(5),
            qemu_rounds: pick(self.qemu_rounds, 5, 1),
        }
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
        assert_eq!(settings(&["b", "--quick", "--reads", "500"]).reads, 500);
    }
}

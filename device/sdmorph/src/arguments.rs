//! The command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use sdmorph_lab::bisect::Terms;
use sdmorph_lab::campaign;
use sdmorph_lab::verdict::Outcome;
use sdmorph_machine::{Equipment, Model, Settings, Setup};

/// A virtual SD Express card reader whose BAR vanishes.
#[derive(Debug, Parser)]
#[command(
    name = "sdmorph",
    version,
    about = "A virtual PCIe card reader whose BAR vanishes when an SD Express card is inserted",
    after_help = "Examples:
  sdmorph lab demo                             the reported page fault and the clean run, one after the other
  sdmorph report target/lab/sd7-idle-race      a page of what happened in both
  sdmorph serve                                a device for your own QEMU; see qemu-config/
  sdmorph ctl card-insert kind=sd-express      insert the card that makes the slot morph
  sdmorph ctl events --follow                  watch what happens

Exit codes: 0 done, 1 failed or not the expected verdict, 2 bad input, 3 surroundings (no QEMU, no socket, inconclusive)"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Log options, for every command.
#[derive(Debug, Args)]
pub(crate) struct Logging {
    /// Log filter: a level (error, warn, info, debug, trace) or target=level,…; default RUST_LOG, else info
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Log as text or as one JSON object a line, on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the device on a vfio-user socket, for one QEMU after the other
    Serve(ServeOptions),
    /// Send a command to a server's control socket
    Ctl(CtlOptions),
    /// Run scenarios in stock guests and judge what happens
    Lab(LabOptions),
    /// Make a page, a picture or a trace of what runs have left
    Report(ReportOptions),
    /// Drive the device with a record, without QEMU, and compare its answers
    Replay(ReplayOptions),
    /// Print every register that is modelled, with reset value, masks and source
    Registers(RegistersOptions),
    /// Print how the last word of a command line may go on; for completion scripts
    #[command(hide = true)]
    Complete {
        /// The command line up to the cursor
        line: String,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sdmorph serve
  sdmorph serve --socket-path /run/user/1000/vfu.sock --control /run/user/1000/ctl.sock --record run.jsonl
  sdmorph serve --record run.jsonl --record-inputs
  sdmorph serve --rules guest-tests/scenarios/sd7-idle-race.toml
  sdmorph serve --vendor-settings rtd3,mmc,aspm=l1
  sdmorph serve --slot attention-button,indicators,power-controller
  sdmorph serve --on-disconnect keep

Without paths the sockets are vfu.sock and control.sock in $XDG_RUNTIME_DIR/sdmorph, or in /tmp/sdmorph-UID where that
is not set; the directory is made with mode 0700, the sockets with 0600. QEMU attaches with
  -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":\"PATH\"}}'
and is faster with shared guest memory; qemu-config/ has the rest. A second QEMU meanwhile is turned away.")]
pub(crate) struct ServeOptions {
    /// Where to make the vfio-user socket
    #[arg(long, value_name = "PATH")]
    pub(crate) socket_path: Option<PathBuf>,
    /// Serve on this inherited descriptor, a listening Unix socket, instead
    #[arg(long, value_name = "NUMBER", conflicts_with = "socket_path")]
    pub(crate) fd: Option<i32>,
    /// Where to make the control socket
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Write the flight record to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Record what `sdmorph replay` needs as well: each access as QEMU made it, what was read from guest memory and from
    /// images. The record has twice as many lines and more, and what the guest writes to its card
    #[arg(long)]
    pub(crate) record_inputs: bool,
    /// Which Realtek chip the reader is
    #[arg(long, value_name = "NAME", value_parser = chip_parser(), default_value = Model::DEFAULT.name)]
    pub(crate) chip: &'static Model,
    /// What a firmware has set for the board, in configuration space; what is not said is off, or 0. Without this the
    /// driver keeps its own settings
    #[arg(long, value_name = "WORD,…", value_parser = settings_parser(), value_delimiter = ',')]
    pub(crate) vendor_settings: Vec<String>,
    /// What the slot and its port are equipped with, beside presence and link; nothing by default
    #[arg(long, value_name = "WORD,…", value_parser = equipment_parser(), value_delimiter = ',')]
    pub(crate) slot: Vec<String>,
    /// Load the rules of this scenario file at the start
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Take only files in this directory: images for cards, traces of latencies for rules; a relative path is one in it.
    /// For control sockets that others reach
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Write records by command (record-start, record-dump) only into this directory; a relative path is one in it. Also
    /// for control sockets that others reach. A record never replaces a file
    #[arg(long, value_name = "DIR")]
    pub(crate) records: Option<PathBuf>,
    /// What becomes of the device when QEMU leaves; its memory and interrupt routes go, rules and the card stay
    #[arg(long, value_enum, default_value_t)]
    pub(crate) on_disconnect: OnDisconnect,
    /// Look for QEMU's next message for this long before sleeping, while there is traffic; 0 turns that off
    #[arg(long, value_name = "MICROSECONDS", default_value_t = default_poll_us())]
    #[arg(value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub(crate) poll: u64,
}

fn chip_parser() -> impl TypedValueParser<Value = &'static Model> {
    PossibleValuesParser::new(Model::ALL.iter().map(|model| model.name))
        .map(|name| Model::by_name(&name).unwrap_or(Model::DEFAULT))
}

fn settings_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Settings::WORDS.iter().map(|(word, _)| *word))
}

fn equipment_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Equipment::WORDS.iter())
}

impl ServeOptions {
    /// The reader that is asked for, and its slot.
    pub(crate) fn setup(&self) -> anyhow::Result<Setup> {
        let words = self.vendor_settings.iter().map(String::as_str);
        let settings = (!self.vendor_settings.is_empty()).then(|| Settings::from_words(words)).transpose();
        let setup =
            settings.and_then(|settings| Setup::new(self.chip, settings)).context("--vendor-settings")?;
        let slot = Equipment::from_words(self.slot.iter().map(String::as_str));
        let setup = setup.with_equipment(slot);
        Ok(if self.record_inputs { setup.with_inputs_recorded() } else { setup })
    }
}

fn default_poll_us() -> u64 {
    let polling = sdmorph_transport::Options::default().wire.polling;
    u64::try_from(polling.as_micros()).unwrap_or(0)
}

/// `--on-disconnect`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum OnDisconnect {
    /// It is as after power-on.
    #[default]
    Reset,
    /// Registers, slot and link stay as they are. (QEMU resets the registers itself when it attaches.)
    Keep,
}

#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sdmorph ctl commands                         all commands with their arguments
  sdmorph ctl card-insert kind=sd-express
  sdmorph ctl card-insert kind=sd image=$PWD/card.img write-protect=true
  sdmorph ctl card-corrupt what=data-crc times=3
  sdmorph ctl query-status path=reader.BIPR
  sdmorph ctl watch slot
  sdmorph ctl inject do.bar=vanish name=pulled
  sdmorph ctl rule-add 'rule={\"name\":\"slow\",\"on\":{\"event\":\"card-inserted\"},\"do\":{\"read-latency\":\"500us\"}}'
  sdmorph ctl link-set up=false
  sdmorph ctl events --follow"
)]
pub(crate) struct CtlOptions {
    /// The server's control socket; default as for serve
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Seconds to wait for the server
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) timeout: u64,
    /// Print replies and events as they come over the socket, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// With `events`: go on until the server ends, instead of printing what comes within the timeout
    #[arg(long)]
    pub(crate) follow: bool,
    /// With `commands` and `events`: as a page of the book
    #[arg(long)]
    pub(crate) markdown: bool,
    /// A command of the control protocol; or `commands`, which lists them, `events`, which prints events as they come (of
    /// the names given, or all), or `watch`, which prints what changes in the status (below the path given) and events
    pub(crate) command: String,
    /// Its arguments, as key=value; a value that is JSON is taken as such, and dots nest
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sdmorph report target/lab/sd7-idle-race                      both variants: report.html beside them
  sdmorph report target/lab/sd7-idle-race/without-fix          one run
  sdmorph report target/lab/sd7-idle-race --svg race.svg --png race.png
  sdmorph report target/lab/sd7-idle-race --perfetto race.json for ui.perfetto.dev

DIR is the directory of a run (with result.json, record.jsonl and console.log), or of a scenario with the directories of
its runs; of a series, the first run of each variant is shown. The page needs no network and no other file.")]
pub(crate) struct ReportOptions {
    /// The directory of a run, or of a scenario
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Where to write the page; default report.html in DIR, unless something else is asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the critical moments as a picture
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// The same picture as pixels
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,
    /// Write everything as a trace, in the Chrome JSON trace event format
    #[arg(long, value_name = "FILE")]
    pub(crate) perfetto: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sdmorph serve --record run.jsonl --record-inputs
  sdmorph replay run.jsonl
  xz -k run.jsonl; sdmorph replay run.jsonl.xz --json
  sdmorph replay run.jsonl --write now.jsonl

Exit code 0: every answer is as it was; 1: one is not, and is shown; 2: the record cannot be replayed;
3: the new record cannot be written.")]
pub(crate) struct ReplayOptions {
    /// A record made with `serve --record-inputs`, as it is or compressed by xz
    #[arg(value_name = "RECORD")]
    pub(crate) record: PathBuf,
    /// Print the outcome as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the record that the device makes now, whether it is the same or not, into a file that is not there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistersOptions {
    /// As a page of the book
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LabOptions {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Fetch and build what runs need: QEMU, a kernel, busybox, the guest module
    Setup(SetupOptions),
    /// The reported page fault without the fix, then the clean run with it
    Demo(RunOptions),
    /// Run one scenario
    #[command(after_help = "Examples:
  sdmorph lab run sd7-idle-race
  sdmorph lab run sd7-idle-race --repeat 20
  sdmorph lab run sd7-idle-race --kernel 6.12 --fix with
  sdmorph lab run sd7-idle-race --kernel ./bzImage --modules ./lib/modules/6.9.0 --json
  sdmorph lab run ./my-scenario.toml --no-place")]
    Run {
        /// A shipped scenario (see `lab list`) or the path of a scenario file
        scenario: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Run the quick scenarios, as `make test` does
    #[command(after_help = "Examples:
  sdmorph lab test
  sdmorph lab test --all --kernel backports      every scenario, on the newest kernel that Debian 13 has
  sdmorph lab test card-pull drive-pull --kernel 6.12")]
    Test {
        /// Scenarios to run instead of the quick ones
        scenarios: Vec<String>,
        /// Every shipped scenario
        #[arg(long, conflicts_with = "scenarios")]
        all: bool,
        #[command(flatten)]
        options: RunOptions,
    },
    /// List the shipped scenarios
    List(ListOptions),
    /// Build and run the commit that is checked out, and tell `git bisect run` what it is
    #[command(after_help = "Examples, in a kernel's tree:
  git bisect start v6.8-rc1 v6.7
  git bisect run sdmorph lab bisect
  git bisect run sdmorph lab bisect --scenario idle-requested --repeat 5

  git bisect start --term-old=broken --term-new=repaired v6.9 v6.8
  git bisect run sdmorph lab bisect --bad clean

One fault settles it; a commit is clean if all runs that came to a verdict are. Exit code 0: good, or old; 1: bad, or new;
125: the commit cannot be tested, whatever the reason (it does not build, no run is conclusive, a wrong option), which is
said. There is no other code, as git would take it for bad, or end the bisection.")]
    Bisect(BisectOptions),
    /// List the kernels that are known by name
    Kernels(KernelsOptions),
    /// Build a kernel, or fetch it, and print where its image is
    #[command(after_help = "Examples:
  sdmorph lab build 6.1-diff-2
  sdmorph lab build 6.1-none --patch my-fix.patch --config lockdep.config
  KERNEL_TREE=~/linux sdmorph lab build

Exit code 3: it could not be built or fetched; 2: there is no such kernel.")]
    Build(BuildOptions),
    /// Put kernels on trial: every kernel under every scenario, many times, and one table
    Verdicts(VerdictsOptions),
    /// Join the shards of a campaign
    Merge(MergeOptions),
    /// Print a campaign's table as the text of a mail
    Summary(SummaryOptions),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sdmorph lab verdicts
  sdmorph lab verdicts --kernels 6.1,6.12 --scenarios sd7-idle-race,card-pull --repeat 20
  sdmorph lab verdicts --patch my-fix.patch                   without and with it
  sdmorph lab verdicts --plan campaign.json --repeat 20       the list of runs, to be run elsewhere
  sdmorph lab verdicts --campaign campaign.json --shard 2/4 --out shard-2
  sdmorph lab merge shard-1 shard-2 shard-3 shard-4 --out all

Interrupted or started again with the same --out, it goes on where it was: what is there of the same kernels and
scenarios is kept.

Exit code 0: every run says something, whatever it is; 2: bad input; 3: a run is inconclusive or could not be made,
or it was interrupted.")]
pub(crate) struct VerdictsOptions {
    /// Kernels: names (see `lab kernels`), paths of images and of trees; default the proposals of the thread
    #[arg(long, value_name = "NAME|PATH,…", value_delimiter = ',', conflicts_with = "campaign")]
    pub(crate) kernels: Vec<String>,
    /// A patch on top of each kernel's own, again for more; without --kernels, on 6.1-none, which is compared with it
    #[arg(long, value_name = "FILE", conflicts_with = "campaign")]
    pub(crate) patch: Vec<PathBuf>,
    /// A fragment on top of each kernel's configuration, again for more: lockdep.config, kasan.config, or a path
    #[arg(long, value_name = "FRAGMENT", conflicts_with = "campaign")]
    pub(crate) config: Vec<String>,
    /// Scenarios: shipped ones (see `lab list`), paths of scenario files
    #[arg(long, value_name = "NAME|PATH,…", value_delimiter = ',', conflicts_with = "campaign")]
    pub(crate) scenarios: Vec<String>,
    /// Runs of each cell
    #[arg(long, value_name = "N", default_value_t = campaign::REPEAT, conflicts_with = "campaign")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Seconds of wall time that one run may take; default as the scenario says
    #[arg(long, value_name = "SECONDS", conflicts_with = "campaign")]
    pub(crate) deadline: Option<u64>,
    /// VMs at once; default as many as processors and memory carry
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub(crate) jobs: Option<usize>,
    /// Run only the I-th of N parts
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<campaign::Shard>,
    /// Write the list of runs to this file, and run nothing
    #[arg(long, value_name = "FILE", conflicts_with = "campaign")]
    pub(crate) plan: Option<PathBuf>,
    /// Run the list in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) campaign: Option<PathBuf>,
    /// Where runs and results go; default target/lab/verdicts
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Run nothing: print a verdicts.json as a page of the book
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(crate) render: Option<PathBuf>,
}

fn at_least_one() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(1..).map(usize::from)
}

#[derive(Debug, Args)]
pub(crate) struct MergeOptions {
    /// The output directories of the shards
    #[arg(value_name = "DIR", required = true)]
    pub(crate) shards: Vec<PathBuf>,
    /// Where all of it goes; runs of the campaign that are there stay
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sdmorph lab summary target/lab/verdicts
  sdmorph lab summary target/lab/verdicts --tested-by 'A. Tester <a.tester@example.org>'")]
pub(crate) struct SummaryOptions {
    /// A campaign's output directory, or a verdicts.json
    #[arg(value_name = "DIR|FILE")]
    pub(crate) directory: PathBuf,
    /// Add this trailer; refused if no kernel holds in all of its cells
    #[arg(long, value_name = "NAME <MAIL>")]
    pub(crate) tested_by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BisectOptions {
    /// The kernel's tree; with a .config it is built in place, without one out of tree with the lab's small configuration.
    /// Default KERNEL_TREE, else where it is called
    #[arg(long, value_name = "DIR")]
    pub(crate) tree: Option<PathBuf>,
    /// A fragment on top of the small configuration: lockdep.config, kasan.config, or a path; again for more
    #[arg(long, value_name = "FRAGMENT")]
    pub(crate) config: Vec<String>,
    /// A shipped scenario (see `lab list`) or the path of a scenario file
    #[arg(long, value_name = "NAME|PATH", default_value = "sd7-idle-race")]
    pub(crate) scenario: String,
    /// Runs at most; the first one that is not clean is the last
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Outcomes that git is to take for good, or old; default clean, or what is not bad
    #[arg(long, value_name = "OUTCOME,…", value_delimiter = ',', value_parser = outcome_parser())]
    pub(crate) good: Vec<Outcome>,
    /// Outcomes that git is to take for bad, or new; default what is not good
    #[arg(long, value_name = "OUTCOME,…", value_delimiter = ',', value_parser = outcome_parser())]
    pub(crate) bad: Vec<Outcome>,
    /// Seconds of wall time that one run may take; default as the scenario says
    #[arg(long, value_name = "SECONDS")]
    pub(crate) deadline: Option<u64>,
    /// Where logs, records and pages go, each commit's by its name; default sdmorph-bisect in the git directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

fn outcome_parser() -> impl TypedValueParser<Value = Outcome> {
    PossibleValuesParser::new(Terms::OUTCOMES.map(Outcome::as_str)).try_map(|word| {
        Terms::OUTCOMES.into_iter().find(|outcome| outcome.as_str() == word).ok_or("no outcome is called so")
    })
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// As a page of the book, with rules and criteria
    #[arg(long)]
    pub(crate) markdown: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KernelsOptions {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// A kernel by name (see `lab kernels`), or the path of a kernel tree; default KERNEL_TREE
    #[arg(value_name = "NAME|PATH")]
    pub(crate) kernel: Option<String>,
    /// A patch on top of the kernel's own; again for more
    #[arg(long, value_name = "FILE")]
    pub(crate) patch: Vec<PathBuf>,
    /// A fragment on top of the kernel's configuration: lockdep.config, kasan.config, or a path; again for more
    #[arg(long, value_name = "FRAGMENT")]
    pub(crate) config: Vec<String>,
    /// Ask the archive for newer versions of source and compiler
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Print image, modules and configuration as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetupOptions {
    /// Kernels to fetch or build, by name (see `lab kernels`); default KERNEL_TREE or KERNEL, else 6.1
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) kernel: Vec<String>,
    /// Get what the runs in this file need, of `lab verdicts --plan`; a kernel that is not to be had is named, and the others
    /// are got
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "json"])]
    pub(crate) campaign: Option<PathBuf>,
    /// Ask the archive for newer versions of what is cached
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Print what there is as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) kernel: KernelOptions,
    /// Modules of a kernel given by path, its lib/modules/RELEASE; default MODULES
    #[arg(long, value_name = "DIR")]
    pub(crate) modules: Option<PathBuf>,
    /// Build tree of a kernel given by path, to build the guest module against; default KDIR
    #[arg(long, value_name = "DIR")]
    pub(crate) kdir: Option<PathBuf>,
    /// With the fix (the kernel as it is), without (a guest module takes it out), or both; default both for a stock
    /// kernel, as far as the scenario is about the fix, and with for all others
    #[arg(long, value_enum)]
    pub(crate) fix: Option<FixChoice>,
    /// Your kernel lacks the fix by itself: judge it as `without`, and load no module
    #[arg(long, conflicts_with = "fix")]
    pub(crate) unfixed_kernel: bool,
    /// Runs of each variant
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Where logs, records, results and the report go; default target/lab/SCENARIO
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Do not place interrupts and threads on CPUs in the guest
    #[arg(long)]
    pub(crate) no_place: bool,
    /// Do not share guest memory with the device: it reads and writes it by messages to QEMU
    #[arg(long)]
    pub(crate) no_share: bool,
    /// Trace the guest's kernel (removal, pciehp, runtime PM) and show it in the page
    #[arg(long)]
    pub(crate) trace: bool,
    /// Have the device record what `sdmorph replay` needs
    #[arg(long)]
    pub(crate) record_inputs: bool,
    /// A word for the guest kernel's command line, such as a test's own parameter (sdmorph.cycles=1000); again for more
    #[arg(long, value_name = "WORD")]
    pub(crate) append: Vec<String>,
    /// Seconds of wall time that one run may take; default as the scenario says
    #[arg(long, value_name = "SECONDS")]
    pub(crate) deadline: Option<u64>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which kernel.
#[derive(Debug, Args)]
pub(crate) struct KernelOptions {
    /// A kernel by name (see `lab kernels`), the path of a kernel image, or that of a kernel tree, which is built first;
    /// default KERNEL_TREE or KERNEL, else 6.1
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) kernel: Option<String>,
    /// A patch on top of the kernel's own, if it is one that the lab builds; again for more
    #[arg(long, value_name = "FILE")]
    pub(crate) patch: Vec<PathBuf>,
    /// A fragment on top of the kernel's configuration, if it is one that the lab configures: lockdep.config,
    /// kasan.config, or a path; again for more
    #[arg(long, value_name = "FRAGMENT")]
    pub(crate) config: Vec<String>,
}

/// `--fix`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FixChoice {
    /// The kernel as it is.
    With,
    /// The fix is taken out by the guest module.
    Without,
    /// First without, then with.
    Both,
}

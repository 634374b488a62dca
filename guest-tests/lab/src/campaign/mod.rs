//! Kernels on trial: every kernel under every scenario, many times, several VMs at once; one table in the end.
//!
//! In the order of a campaign:
//! - [`plan`]: the list of independent runs, as a file; its shards. `kernels`: the columns.
//! - `guests`: what a run needs and the run itself; `unchanged`: that it is the same for all runs; `executor`: several at once, made again where they say nothing, after
//!   an interrupt gone on with. `folder`: what lies where, and what is kept. `machine`: how many at once.
//! - [`entry`]: what is kept of a run. [`merge`]: shards joined.
//! - [`verdicts`]: the table as a document; [`claims`]: what was said in the thread, held against it.
//! - [`table`], [`ktap`], [`junit`], [`markdown`], [`page`], [`mail`]: the table as they have it; `wording`: cells in words.
//!
//! A campaign expects nothing: a run is made with [`Variant::OnTrial`](crate::verdict::Variant), and its kernel is booted
//! as it is.

pub mod claims;
pub mod entry;
mod estimate;
mod executor;
mod folder;
mod guests;
pub mod junit;
mod kernels;
pub mod ktap;
mod machine;
pub mod mail;
pub mod markdown;
pub mod markup;
mod merge;
pub mod page;
pub mod plan;
pub mod table;
mod unchanged;
pub mod verdicts;
mod wording;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::assets::{Overrides, Progress};
use crate::failure::{EXIT_EXPECTED, EXIT_INCONCLUSIVE, Failure};
use crate::interrupt;
use crate::report::Style;
use crate::run::claim_output;
use claims::Claims;
use entry::{Ending, Entry};
use executor::Executor;
use folder::Folder;
use guests::Guests;
pub use merge::merge;
use plan::PlannedRun;
pub use plan::{Plan, PlanError, Shard};
pub use verdicts::Verdicts;

/// The kernels that are on trial if nothing else is said: the proposals of the thread, and none of them.
pub const KERNELS: &[&str] = &["6.1-none", "6.1-v3", "6.1-idea-1", "6.1-idea-2", "6.1-diff-1", "6.1-diff-2"];
/// What a patch is put on if nothing else is said, and compared with.
pub const UNPATCHED: &str = "6.1-none";
/// What they are tried by if nothing else is said.
pub const SCENARIOS: &[&str] = &[
    "sd7-idle-race",
    "idle-requested",
    "idle-between",
    "idle-autosuspend",
    "idle-resumes",
    "idle-unbind",
    "idle-sysfs-remove",
    "idle-slot-power",
];
/// Runs of a cell if nothing else is said.
pub const REPEAT: u32 = 3;

/// The document in a campaign's directory that everything else is made from.
const VERDICTS: &str = "verdicts.json";

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The campaign.
    pub plan: Plan,
    /// The part of it that is to be run.
    pub shard: Shard,
    /// VMs at once; as many as the machine carries if `None`.
    pub jobs: Option<usize>,
    /// Where everything is left; what is there of this campaign is kept.
    pub out_dir: PathBuf,
    /// Write one JSON document instead of text.
    pub json: bool,
    /// Colours in the text.
    pub colour: bool,
    /// The `sdmorph` executable, whose `serve` is the device.
    pub server_exe: PathBuf,
    /// The user's own QEMU and busybox.
    pub overrides: Overrides,
}

/// Runs a campaign, or goes on with it. Blocks, for hours if it is long; says what it does on stderr, writes the table to
/// `out` and everything into the output directory. `page` makes the page of a run that is kept whole; it may be called by
/// several threads. Returns the exit code.
///
/// # Errors
/// What keeps the campaign as a whole from being run. What concerns a cell is written into the cell.
pub fn run(options: &Options, page: &(dyn Fn(&Path) + Sync), out: &mut dyn Write) -> Result<u8, Failure> {
    let Options { plan, shard, .. } = options;
    let progress = if options.json { Progress::Silent } else { Progress::detect() };
    let guests = Guests::check(plan, &options.server_exe, &options.overrides, progress, page)?;
    let _output = claim_output(&options.out_dir)?;
    let folder = Folder::at(&options.out_dir);
    // From here on, a signal is noticed between two runs: what is finished is kept.
    interrupt::listen();
    let kept = folder.entries(plan, Some(guests.device()), |warning| tracing::warn!("{warning}"));
    let kept: Vec<Entry> = kept.into_iter().filter(|entry| entry.said.outcome != Ending::Failed).collect();
    folder.write_plan(plan)?;
    let is_left = |run: &PlannedRun| !kept.iter().any(|entry| entry.run == *run);
    let of_shard = plan.runs.iter().enumerate().filter(|(place, _)| shard.has(*place)).map(|(_, run)| run);
    let left: Vec<PlannedRun> = of_shard.filter(|run| is_left(run)).cloned().collect();
    let (jobs, why) = match options.jobs {
        Some(jobs) => (jobs, wording::plural(jobs, "VM") + " at once, as asked for"),
        None => {
            let (vcpus, memory_mib) = guests.largest();
            machine::jobs(vcpus, memory_mib)
        }
    };
    let there = if kept.is_empty() { String::new() } else { format!(", {} are there", kept.len()) };
    progress.say(&format!(
        "{} to make{there}; {why}; {}",
        wording::plural(left.len(), "run"),
        guests.machine()
    ));
    let free_bytes = || folder.free_bytes();
    let executor =
        Executor { plan, folder: &folder, runner: &guests, jobs, progress, free_bytes: &free_bytes };
    let (entries, interrupted) = executor.execute(left, kept);
    let verdicts = Verdicts::of(plan, &entries);
    let outputs = Outputs::of(&verdicts)?;
    // If the disk is full, the table is seen at least.
    let written = write_outputs(&outputs, &options.out_dir);
    say(out, &if options.json { outputs.json.clone() } else { text(&verdicts, options) })?;
    written?;
    if interrupted {
        progress.say("the same command goes on where this one ends");
        return Err(Failure::Interrupted);
    }
    Ok(exit_code(&verdicts))
}

fn text(verdicts: &Verdicts, options: &Options) -> String {
    let table = table::text(verdicts, Style { colour: options.colour });
    format!("\n{table}\npage:   {}\n", options.out_dir.join(Outputs::PAGE).display())
}

/// The exit code: a run that says nothing has not passed.
#[must_use]
pub fn exit_code(verdicts: &Verdicts) -> u8 {
    if verdicts.is_conclusive() { EXIT_EXPECTED } else { EXIT_INCONCLUSIVE }
}

/// The exit code of a campaign that is said to be whole: a run that is missing has not passed either.
#[must_use]
pub fn exit_code_of_all(verdicts: &Verdicts) -> u8 {
    if verdicts.is_complete() { exit_code(verdicts) } else { EXIT_INCONCLUSIVE }
}

/// What a campaign writes beside its runs.
struct Outputs {
    json: String,
    files: Vec<(&'static str, String)>,
}

impl Outputs {
    const PAGE: &'static str = "index.html";

    fn of(verdicts: &Verdicts) -> Result<Self, Failure> {
        let claims = Claims::shipped().map_err(Failure::Options)?;
        let json = verdicts.to_json().map_err(|error| Failure::File {
            what: "write",
            path: VERDICTS.into(),
            source: error.into(),
        })?;
        let files = vec![
            (VERDICTS, json.clone()),
            ("verdicts.ktap", ktap::write(verdicts)),
            ("verdicts.xml", junit::write(verdicts)),
            ("verdicts.md", markdown::write(verdicts, &claims)),
            (Self::PAGE, page::write(verdicts, &claims)),
        ];
        Ok(Self { json, files })
    }
}

fn write_outputs(outputs: &Outputs, directory: &Path) -> Result<(), Failure> {
    for (name, content) in &outputs.files {
        let path = directory.join(name);
        fs::write(&path, content).map_err(Failure::file("write", &path))?;
    }
    Ok(())
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(Failure::file("write to", Path::new("stdout")))
}

/// The table of a `verdicts.json`, or of the campaign's directory that it is in.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(path: &Path) -> Result<Verdicts, Failure> {
    let path = if path.is_dir() { path.join(VERDICTS) } else { path.to_owned() };
    let text = fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
    Verdicts::from_json(&text)
        .map_err(|message| PlanError::Other { file: path.display().to_string(), message }.into())
}

/// The table as the page of the book, with the claims of the thread.
///
/// # Errors
/// As [`read`].
pub fn render(path: &Path) -> Result<String, Failure> {
    let claims = Claims::shipped().map_err(Failure::Options)?;
    Ok(markdown::write(&read(path)?, &claims))
}

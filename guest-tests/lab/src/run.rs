//! What the command line asks for: one scenario, one kernel, with and without the fix, any number of times.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;

use crate::assets::{self, KernelChoice, Overrides, Progress, Request, Store};
use crate::failure::{EXIT_EXPECTED, EXIT_INCONCLUSIVE, EXIT_UNEXPECTED, Failure};
use crate::interrupt;
use crate::keeper::Keeper;
use crate::report::{self, Style};
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::server;
use crate::session::{Bench, write_json};
use crate::statistics::Statistics;
use crate::verdict::{Outcome, Variant};
use crate::vm;

/// The report's file in the output directory.
const REPORT: &str = "report.md";
/// The guest's scripts, in the private directory.
const TESTS: &str = "tests";

/// Which kernels a scenario is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fix {
    /// The kernel as it is.
    With,
    /// The fix is taken out by the guest module.
    Without,
    /// First without, then with.
    Both,
    /// The kernel as it is, whatever is in it.
    OnTrial,
}

impl Fix {
    fn variants(self) -> &'static [Variant] {
        match self {
            Self::With => &[Variant::WithFix],
            Self::Without => &[Variant::WithoutFix],
            Self::Both => &[Variant::WithoutFix, Variant::WithFix],
            Self::OnTrial => &[Variant::OnTrial],
        }
    }
}

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// A shipped scenario's name, or the path of a file.
    pub scenario: String,
    /// The guest's kernel.
    pub kernel: KernelChoice,
    /// Against which variants of it, as far as the scenario is about them.
    pub fix: Fix,
    /// The kernel lacks the fix by itself: no guest module is built or loaded for [`Variant::WithoutFix`].
    pub unfixed_kernel: bool,
    /// Runs of each variant, from 1.
    pub repeat: u32,
    /// Where everything is left; made if it is not there.
    pub out_dir: PathBuf,
    /// Place interrupts and threads in the guest; `false` for the statistic of how often it hits by itself.
    pub place: bool,
    /// The device maps guest memory; `false`: it is QEMU's own, and the device reads and writes it by messages.
    pub share_memory: bool,
    /// Trace the guest's kernel, and keep the trace, whether or not the scenario asks for it.
    pub trace: bool,
    /// The device records what a replay needs, too.
    pub record_inputs: bool,
    /// More words for the kernel's command line; the test's script sees them too.
    pub append: Vec<String>,
    /// Wall time for one run; the scenario's if `None`.
    pub deadline: Option<Duration>,
    /// Write one JSON document instead of text.
    pub json: bool,
    /// Colours in the text.
    pub colour: bool,
    /// The `sdmorph` executable, whose `serve` is the device.
    pub server_exe: PathBuf,
    /// The user's own QEMU and busybox.
    pub overrides: Overrides,
}

impl RunOptions {
    /// The variants to run: those asked for that the scenario is about.
    fn variants(&self, scenario: &Scenario) -> Result<Vec<Variant>, Failure> {
        let asked = self.fix.variants().iter().copied();
        let variants: Vec<_> = asked.filter(|variant| variant.expected(scenario).is_some()).collect();
        if variants.is_empty() {
            return Err(Failure::Options(format!(
                "the scenario {} has nothing to do with the fix (it has no `expect.without_fix`): run it with --fix with",
                scenario.name
            )));
        }
        Ok(variants)
    }

    /// Whether the guest's kernel is traced.
    fn traces(&self, scenario: &Scenario) -> bool {
        self.trace || scenario.guest.trace
    }

    /// Whether the guest module is needed.
    fn takes_the_fix_out(&self, variants: &[Variant]) -> bool {
        variants.contains(&Variant::WithoutFix) && !self.unfixed_kernel
    }

    /// The documented defaults: Debian 6.1, both variants, once, placed, text without colours.
    pub fn new(scenario: &str, server_exe: PathBuf, out_dir: PathBuf) -> Self {
        Self {
            scenario: scenario.to_owned(),
            kernel: KernelChoice::default(),
            fix: Fix::Both,
            unfixed_kernel: false,
            repeat: 1,
            out_dir,
            place: true,
            share_memory: true,
            trace: false,
            record_inputs: false,
            append: Vec::new(),
            deadline: None,
            json: false,
            colour: false,
            server_exe,
            overrides: Overrides::default(),
        }
    }
}

/// Everything that came out of [`run`]: also the JSON document `summary.json`.
#[derive(Debug, Serialize)]
pub struct RunSummary {
    /// The scenario's name.
    pub scenario: String,
    /// What it provokes.
    pub purpose: String,
    /// Every run, in the order they were made.
    pub results: Vec<RunResult>,
    /// By variant.
    pub statistics: Vec<Statistics>,
}

impl RunSummary {
    /// The exit code: an unexpected verdict weighs more than a missing one.
    pub fn exit_code(&self) -> u8 {
        let conclusive = |result: &&RunResult| result.verdict.outcome != Outcome::Inconclusive;
        if self.results.iter().filter(conclusive).any(|result| !result.as_expected) {
            EXIT_UNEXPECTED
        } else if self.results.iter().all(|result| result.as_expected) {
            EXIT_EXPECTED
        } else {
            EXIT_INCONCLUSIVE
        }
    }
}

/// Run a scenario. Blocks; steps are shown on stderr, verdicts and the report are written to `out`.
///
/// # Errors
/// Whatever keeps it from coming to verdicts: see [`Failure`]. What had been found by then is in the output directory.
pub fn run(options: &RunOptions, out: &mut dyn Write) -> Result<RunSummary, Failure> {
    let style = Style { colour: options.colour };
    let summary = run_each(options, |result| {
        if options.json {
            Ok(())
        } else {
            say(out, &format!("{}\n{}", style.line(result), result.diagnostics()))
        }
    })?;
    if options.json {
        let text = serde_json::to_string(&summary).map_err(|error| Failure::File {
            what: "write",
            path: PathBuf::from("stdout"),
            source: error.into(),
        })?;
        say(out, &format!("{text}\n"))?;
    } else {
        say(out, &report::text(&summary, style))?;
        say(out, &format!("report: {}\n", options.out_dir.join(REPORT).display()))?;
    }
    Ok(summary)
}

/// As [`run`], without a word: `each` is told of every result, and the files are written.
///
/// # Errors
/// As [`run`], and those of `each`.
pub fn run_each(
    options: &RunOptions,
    mut each: impl FnMut(&RunResult) -> Result<(), Failure>,
) -> Result<RunSummary, Failure> {
    let Prepared { ready, variants, _private, _keeper, _output } = Prepared::check(options)?;
    let Ready { scenario, rules, tests } = ready;
    let progress = if options.json { Progress::Silent } else { Progress::detect() };
    let request = Request {
        kernels: vec![options.kernel.clone()],
        unfix: options.takes_the_fix_out(&variants),
        needs: scenario.guest.needs(),
        refresh: false,
        overrides: options.overrides.clone(),
    };
    let assets = assets::setup(&request, &Store::open()?, progress)?;
    let kernel =
        assets.kernels.first().ok_or_else(|| Failure::Options("no kernel was asked for".to_owned()))?;
    Failure::unless_as_new(&scenario, &kernel.kernel.release)?;
    // Until here a signal ends the process at once: nothing was started that would stay, and the cache cleans up
    // after a set-up that was cut off.
    interrupt::listen();
    let bench = Bench {
        scenario: &scenario,
        rules: &rules,
        assets: &assets,
        kernel,
        tests: &tests,
        server_exe: &options.server_exe,
        place: options.place,
        share_memory: options.share_memory,
        trace: options.traces(&scenario),
        record_inputs: options.record_inputs,
        append: &options.append,
        deadline: options.deadline.unwrap_or(Duration::from_secs(scenario.deadline_s)),
    };
    let mut results = Vec::new();
    let ran = run_variants(options, &variants, &bench, progress, &mut results, &mut each);
    if let Err(failure) = ran {
        // A long series that is cut off still says what it found.
        if !results.is_empty() {
            if let Err(error) = write_reports(options, &summarise(&scenario, &variants, results)) {
                tracing::warn!("the runs so far are not in the report: {error}");
            }
        }
        return Err(failure);
    }
    let summary = summarise(&scenario, &variants, results);
    write_reports(options, &summary)?;
    Ok(summary)
}

/// A scenario that can be run: the device takes its rules, and the guest's scripts are where the initramfs takes them from.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) scenario: Scenario,
    pub(crate) rules: serde_json::Value,
    /// The directory that becomes the guest's /tests.
    pub(crate) tests: PathBuf,
}

impl Ready {
    /// `private` is a directory of this process's own, which `keeper` watches over or one above it; `name_or_path` is what
    /// the scenario was loaded by.
    pub(crate) fn check(
        scenario: Scenario,
        name_or_path: &str,
        server_exe: &Path,
        private: &Path,
        keeper: &mut Keeper,
    ) -> Result<Self, Failure> {
        let rules = serde_json::Value::from(scenario.rules_json()?);
        let scenario_file = Path::new(name_or_path);
        let files = scenario.test_files(scenario_file.is_file().then_some(scenario_file))?;
        let tests = private.join(TESTS);
        fs::create_dir(&tests).map_err(Failure::file("create", &tests))?;
        for (name, text) in files {
            let path = tests.join(name);
            fs::write(&path, text).map_err(Failure::file("write", &path))?;
        }
        server::check_rules(server_exe, &scenario, &rules, private, keeper)?;
        Ok(Self { scenario, rules, tests })
    }
}

/// What a run needs that can be wrong and costs no time to find out: all of it before anything is fetched or booted.
struct Prepared {
    ready: Ready,
    variants: Vec<Variant>,
    /// Private to this process; the guest's scripts are in it.
    _private: tempfile::TempDir,
    _keeper: Keeper,
    /// Holds the output directory's lock.
    _output: File,
}

impl Prepared {
    fn check(options: &RunOptions) -> Result<Self, Failure> {
        let scenario = Scenario::load(&options.scenario)?;
        if options.repeat == 0 {
            return Err(Failure::Options("--repeat 0: there is nothing to run".to_owned()));
        }
        let variants = options.variants(&scenario)?;
        if let (Some(image), true) = (options.kernel.without_tree(), options.takes_the_fix_out(&variants)) {
            return Err(Failure::Options(format!(
                "kernel {}: to take the fix out of it, give KDIR=, the tree it was built in; \
                 if it lacks the fix by itself, say --unfixed-kernel",
                image.display()
            )));
        }
        if let (Some(image), Some(module)) =
            (options.kernel.without_tree(), scenario.guest.kernel_modules.first())
        {
            return Err(Failure::Options(format!(
                "kernel {}: the scenario needs the module {module}; to build it, give KDIR=, the tree it was built in",
                image.display()
            )));
        }
        let private = vm::run_dir()?;
        let mut keeper = Keeper::start(private.path());
        let ready =
            Ready::check(scenario, &options.scenario, &options.server_exe, private.path(), &mut keeper)?;
        let output = claim_output(&options.out_dir)?;
        Ok(Self { ready, variants, _private: private, _keeper: keeper, _output: output })
    }
}

/// Makes the output directory, sees that it can be written, and keeps other labs out of it while the result lives.
pub(crate) fn claim_output(path: &Path) -> Result<File, Failure> {
    fs::create_dir_all(path).map_err(Failure::file("create the output directory", path))?;
    tempfile::tempfile_in(path).map_err(Failure::file("write into the output directory", path))?;
    let directory = File::open(path).map_err(Failure::file("open", path))?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => Err(Failure::OutputInUse(path.to_owned())),
        // A file system without locks: two labs at once are then the user's to avoid.
        Err(_) => Ok(directory),
    }
}

fn run_variants(
    options: &RunOptions,
    variants: &[Variant],
    bench: &Bench<'_>,
    progress: Progress,
    results: &mut Vec<RunResult>,
    each: &mut impl FnMut(&RunResult) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for &variant in variants {
        for number in 1..=options.repeat {
            let name = format!("{} {} {number}/{}", bench.scenario.name, variant.as_str(), options.repeat);
            let step = progress.step(&name, None);
            let out_dir = options.out_dir.join(run_name(variant, number, options.repeat));
            let result = bench.run(variant, number, &out_dir)?;
            step.finish();
            each(&result)?;
            results.push(result);
        }
    }
    Ok(())
}

fn summarise(scenario: &Scenario, variants: &[Variant], results: Vec<RunResult>) -> RunSummary {
    let statistics = variants.iter().filter_map(|&variant| Statistics::of(variant, &results)).collect();
    RunSummary { scenario: scenario.name.clone(), purpose: scenario.purpose.clone(), results, statistics }
}

fn write_reports(options: &RunOptions, summary: &RunSummary) -> Result<(), Failure> {
    write_json(&options.out_dir.join("summary.json"), summary)?;
    let path = options.out_dir.join(REPORT);
    fs::write(&path, report::markdown(summary)).map_err(Failure::file("write", &path))
}

/// The demonstration: `sd7-idle-race` without and with the fix, once each, side by side.
///
/// # Errors
/// As [`run`].
pub fn demo(options: &RunOptions, out: &mut dyn Write) -> Result<RunSummary, Failure> {
    let demo =
        RunOptions { scenario: "sd7-idle-race".to_owned(), fix: Fix::Both, repeat: 1, ..options.clone() };
    run(&demo, out)
}

/// The directory of one run inside the output directory.
fn run_name(variant: Variant, number: u32, repeat: u32) -> String {
    if repeat == 1 { variant.as_str().to_owned() } else { format!("{}-{number:03}", variant.as_str()) }
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(Failure::file("write to", Path::new("stdout")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::OwnKernel;
    use crate::result::tests::{clean, fault, inconclusive};

    fn summary(results: Vec<RunResult>) -> RunSummary {
        RunSummary { scenario: "x".into(), purpose: String::new(), results, statistics: Vec::new() }
    }

    #[test]
    fn the_exit_code_is_0_only_if_every_verdict_is_the_expected_one() {
        assert_eq!(summary(vec![fault(), clean()]).exit_code(), EXIT_EXPECTED);
        assert_eq!(summary(vec![fault(), inconclusive("x")]).exit_code(), EXIT_INCONCLUSIVE);
        let mut unexpected = clean();
        unexpected.as_expected = false;
        assert_eq!(summary(vec![inconclusive("x"), unexpected]).exit_code(), EXIT_UNEXPECTED);
    }

    #[test]
    fn a_scenario_that_does_not_exist_fails_before_anything_is_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let options = RunOptions::new("sd7-idle-rase", "/nonexistent".into(), directory.path().join("out"));
        let failure = run(&options, &mut Vec::new()).unwrap_err();
        assert_eq!(failure.exit_code(), crate::failure::EXIT_USAGE);
        assert!(!directory.path().join("out").exists());
    }

    #[test]
    fn a_scenario_that_has_nothing_to_do_with_the_fix_is_run_with_it_only() {
        let mut scenario = Scenario::load("boot-insert-remove").unwrap();
        let mut options = RunOptions::new("x", "/nonexistent".into(), "/nonexistent".into());
        assert_eq!(options.variants(&scenario).unwrap(), [Variant::WithoutFix, Variant::WithFix]);
        scenario.expect.without_fix = None;
        let variants = options.variants(&scenario).unwrap();
        assert_eq!(variants, [Variant::WithFix]);
        assert!(!options.takes_the_fix_out(&variants));
        options.fix = Fix::Without;
        let refusal = options.variants(&scenario).unwrap_err();
        assert!(refusal.to_string().contains("expect.without_fix"), "{refusal}");
        assert_eq!(refusal.exit_code(), crate::failure::EXIT_USAGE);
    }

    #[test]
    fn a_kernel_is_traced_if_the_scenario_or_the_command_line_asks_for_it() {
        let mut scenario = Scenario::load("boot-insert-remove").unwrap();
        let mut options = RunOptions::new("x", "/nonexistent".into(), "/nonexistent".into());
        assert!(!options.traces(&scenario));
        scenario.guest.trace = true;
        assert!(options.traces(&scenario));
        (scenario.guest.trace, options.trace) = (false, true);
        assert!(options.traces(&scenario));
    }

    #[test]
    fn an_output_directory_is_one_labs_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let first = claim_output(&path).unwrap();
        assert!(matches!(claim_output(&path), Err(Failure::OutputInUse(_))));
        drop(first);
        claim_output(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn an_output_directory_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = claim_output(file.path()).unwrap_err().to_string();
        assert!(message.contains("output directory") && message.contains(file.path().to_str().unwrap()));
    }

    #[test]
    fn taking_the_fix_out_of_an_own_kernel_needs_its_tree_before_anything_is_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let own = OwnKernel { image: "bzImage".into(), modules: None, tree: None };
        let options = RunOptions {
            kernel: KernelChoice::Own(own),
            ..RunOptions::new("sd7-idle-race", "/nonexistent".into(), directory.path().join("out"))
        };
        let failure = run(&options, &mut Vec::new()).unwrap_err();
        assert_eq!(failure.exit_code(), crate::failure::EXIT_USAGE);
        assert!(failure.to_string().contains("KDIR="), "{failure}");
    }

    #[test]
    fn a_scenario_with_a_module_needs_the_tree_of_an_own_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let own = OwnKernel { image: "bzImage".into(), modules: None, tree: None };
        let options = RunOptions {
            kernel: KernelChoice::Own(own),
            fix: Fix::With,
            ..RunOptions::new("idle-between", "/nonexistent".into(), directory.path().join("out"))
        };
        let failure = run(&options, &mut Vec::new()).unwrap_err();
        assert!(failure.to_string().contains("the module sdmorph_race"), "{failure}");
    }

    #[test]
    fn runs_have_directories_of_their_own() {
        assert_eq!(run_name(Variant::WithFix, 1, 1), "with-fix");
        assert_eq!(run_name(Variant::WithoutFix, 7, 20), "without-fix-007");
    }
}

//! `sdmorph lab`: the command line put onto the lab.

pub(crate) mod bisect;
mod kernels;
mod verdicts;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use sdmorph_lab::assets::{self, KernelChoice, NamedKernel, Needs, Overrides, Progress, Request, Store};
use sdmorph_lab::run::{self, Fix};
use sdmorph_lab::scenario::{SHIPPED, Scenario};
use sdmorph_lab::suite;

use crate::arguments::{FixChoice, LabCommand, LabOptions, ListOptions, RunOptions, SetupOptions};
use crate::scenario_rules::ScenarioRules;
use crate::{Failure, output, report, scenario_list};

/// What `lab demo` shows.
const DEMO: &str = "sd7-idle-race";

/// Runs a command of the lab.
pub(crate) fn run(options: &LabOptions) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match &options.command {
        LabCommand::Setup(options) => setup(options),
        LabCommand::List(options) => list(options),
        LabCommand::Bisect(options) => bisect::run(options),
        LabCommand::Kernels(options) => kernels::list(options),
        LabCommand::Build(options) => kernels::build(options),
        LabCommand::Verdicts(options) => verdicts::run(options),
        LabCommand::Merge(options) => verdicts::merge(options),
        LabCommand::Summary(options) => verdicts::summary(options),
        LabCommand::Demo(options) => {
            let options = run_options(DEMO, options)?;
            let summary = run::demo(&options, &mut out).map_err(failure)?;
            page(&options);
            ended(summary.exit_code())
        }
        LabCommand::Run { scenario, options } => {
            let options = run_options(scenario, options)?;
            check_rules(scenario)?;
            let summary = run::run(&options, &mut out).map_err(failure)?;
            page(&options);
            if options.repeat > 1 {
                say_page(&options, report::series(&options.out_dir));
            }
            ended(summary.exit_code())
        }
        LabCommand::Test { scenarios, all, options } => {
            let scenarios: Vec<String> = if *all {
                SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect()
            } else if scenarios.is_empty() {
                suite::QUICK.iter().map(|name| (*name).to_owned()).collect()
            } else {
                scenarios.clone()
            };
            let options = run::RunOptions {
                out_dir: options.out.clone().unwrap_or_else(|| PathBuf::from("target/lab/test")),
                ..run_options("", options)?
            };
            scenarios.iter().try_for_each(|scenario| check_rules(scenario))?;
            let kernels = [options.kernel.clone()];
            let code = suite::test(&options, &scenarios, &kernels, &mut out).map_err(failure)?;
            // Standard output is TAP.
            match report::series(&options.out_dir) {
                Ok(path) => drop(writeln!(std::io::stderr(), "pages: {}", path.display())),
                Err(error) => no_page(error),
            }
            ended(code)
        }
    }
}

/// The page beside the report. A run has its verdict without it.
fn page(options: &run::RunOptions) {
    say_page(options, report::page(&options.out_dir));
}

fn say_page(options: &run::RunOptions, page: Result<PathBuf, Failure>) {
    match page {
        Ok(_) if options.json => {}
        // The verdict goes on to be the exit code, whether anybody still reads or not.
        Ok(path) => drop(output::print(&format!("page:   {}\n", path.display()))),
        Err(failure) => no_page(failure),
    }
}

fn no_page(failure: Failure) {
    match failure {
        Failure::Failed(error) | Failure::BadInput(error) | Failure::Surroundings(error) => {
            tracing::warn!("there is no page of this run: {error:#}")
        }
        Failure::Shown(_) => {}
    }
}

fn ended(code: u8) -> Result<(), Failure> {
    if code == 0 { Ok(()) } else { Err(Failure::Shown(code)) }
}

fn failure(failure: sdmorph_lab::failure::Failure) -> Failure {
    let code = failure.exit_code();
    let error = anyhow::Error::from(failure);
    if code == sdmorph_lab::failure::EXIT_USAGE {
        Failure::BadInput(error)
    } else {
        Failure::Surroundings(error)
    }
}

/// The device would refuse wrong rules, too, but not before there is one, and without their lines.
fn check_rules(scenario: &str) -> Result<(), Failure> {
    ScenarioRules::read(scenario).and_then(|rules| rules.check()).map_err(Failure::BadInput)
}

/// This program, whose `serve` is the device.
fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::Surroundings(anyhow!("where is this program? {error}")))
}

fn run_options(scenario: &str, options: &RunOptions) -> Result<run::RunOptions, Failure> {
    let server_exe = this_program()?;
    let kernel = kernels::chosen(&options.kernel, options.modules.as_ref(), options.kdir.as_ref())?;
    let fix = match options.fix {
        Some(FixChoice::With) => Fix::With,
        Some(FixChoice::Without) => Fix::Without,
        Some(FixChoice::Both) => Fix::Both,
        None if options.unfixed_kernel => Fix::Without,
        None if kernel.is_stock() => Fix::Both,
        None => Fix::With,
    };
    let name = Path::new(scenario).file_stem().map_or_else(|| scenario.into(), |stem| stem.to_string_lossy());
    let default_out = || Path::new("target/lab").join(&*name);
    Ok(run::RunOptions {
        kernel,
        fix,
        unfixed_kernel: options.unfixed_kernel,
        repeat: options.repeat,
        place: !options.no_place,
        share_memory: !options.no_share,
        trace: options.trace,
        record_inputs: options.record_inputs,
        append: options.append.clone(),
        deadline: options.deadline.map(Duration::from_secs),
        json: options.json,
        colour: output::colour(),
        overrides: Overrides::from_env(),
        ..run::RunOptions::new(scenario, server_exe, options.out.clone().unwrap_or_else(default_out))
    })
}

fn setup(options: &SetupOptions) -> Result<(), Failure> {
    if let Some(path) = &options.campaign {
        return verdicts::setup(path, options.refresh);
    }
    let named = |name: &String| {
        let kernel = NamedKernel { name: name.clone(), ..NamedKernel::default() };
        KernelChoice::named(kernel).map_err(|error| Failure::BadInput(anyhow!("--kernel: {error}")))
    };
    let kernels = match KernelChoice::from_env() {
        _ if !options.kernel.is_empty() => options.kernel.iter().map(named).collect::<Result<_, _>>()?,
        Some(own) => vec![own],
        None => vec![KernelChoice::default()],
    };
    let unfix = kernels.iter().all(KernelChoice::is_stock);
    let mut needs =
        shipped()?.iter().fold(Needs::default(), |needs, scenario| needs.and(&scenario.guest.needs()));
    // Whether modules can be built for a kernel of the user's own is seen when a run asks for it.
    if !kernels.iter().all(|kernel| matches!(kernel, KernelChoice::Named(_))) {
        needs.kernel_modules.clear();
    }
    let request =
        Request { kernels, unfix, needs, refresh: options.refresh, overrides: Overrides::from_env() };
    let wrap = |error: assets::Error| Failure::Surroundings(error.into());
    let progress = if options.json { Progress::Silent } else { Progress::detect() };
    let assets = assets::setup(&request, &Store::open().map_err(wrap)?, progress).map_err(wrap)?;
    if options.json {
        return output::json(&assets);
    }
    let kernels: String =
        assets.kernels.iter().map(|kernel| format!("kernel  {}\n", kernel.kernel.release)).collect();
    output::print(&format!("QEMU    {}\n{kernels}cache   {}\n", assets.qemu.version, assets.cache.display()))
}

/// The scenarios that come with the lab.
fn shipped() -> Result<Vec<Scenario>, Failure> {
    let parse = |(name, text): &(&str, &str)| {
        Scenario::parse(name, name, text)
            .map_err(|error| Failure::Failed(anyhow!("shipped scenario {name}: {error}")))
    };
    SHIPPED.iter().map(parse).collect()
}

fn list(options: &ListOptions) -> Result<(), Failure> {
    let scenarios = shipped()?;
    if options.markdown {
        return output::print(&scenario_list::markdown(&scenarios));
    }
    let lines = scenarios.iter().map(|Scenario { name, purpose, .. }| {
        let purpose = purpose.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{name}\n    {purpose}\n")
    });
    output::print(&lines.collect::<String>())
}

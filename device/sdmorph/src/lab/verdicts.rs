//! `sdmorph lab verdicts`, `merge` and `summary`, and `setup` for a campaign: kernels on trial.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use sdmorph_lab::assets::{self, KernelChoice, Needs, Overrides, Progress, Request, Store};
use sdmorph_lab::campaign::{self, Plan, Shard, mail, table};
use sdmorph_lab::report::Style;
use sdmorph_lab::scenario::Scenario;

use super::kernels::{by_name_or_path, with};
use super::{check_rules, ended, failure, this_program};
use crate::arguments::{MergeOptions, SummaryOptions, VerdictsOptions};
use crate::{Failure, output, report};

/// Plans, runs or renders a campaign.
pub(super) fn run(options: &VerdictsOptions) -> Result<(), Failure> {
    if let Some(file) = &options.render {
        return output::print(&campaign::render(file).map_err(failure)?);
    }
    let plan = plan(options)?;
    if let Some(path) = &options.plan {
        let text = serde_json::to_string_pretty(&plan).map_err(|error| Failure::Failed(error.into()))?;
        return std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(Failure::Failed);
    }
    plan.scenarios.iter().try_for_each(|scenario| check_rules(scenario.name_or_path()))?;
    let server_exe = this_program()?;
    let options = campaign::Options {
        plan,
        shard: options.shard.unwrap_or(Shard::WHOLE),
        jobs: options.jobs,
        out_dir: options.out.clone().unwrap_or_else(|| PathBuf::from("target/lab/verdicts")),
        json: options.json,
        colour: output::colour(),
        server_exe,
        overrides: Overrides::from_env(),
    };
    let page = |directory: &Path| match report::page(directory) {
        Ok(_) => {}
        Err(failure) => super::no_page(failure),
    };
    ended(campaign::run(&options, &page, &mut std::io::stdout()).map_err(failure)?)
}

/// Gets what a campaign's runs need, each kernel for itself: one that does not build costs its own cells, and says so there
/// again.
pub(super) fn setup(path: &Path, refresh: bool) -> Result<(), Failure> {
    let plan = read_plan(path)?;
    let mut needs = Needs::default();
    for planned in &plan.scenarios {
        let scenario = Scenario::load(planned.name_or_path())
            .map_err(|error| Failure::BadInput(anyhow!("{}: {error}", planned.name)))?;
        needs = needs.and(&scenario.guest.needs());
    }
    let wrap = |error: assets::Error| Failure::Surroundings(error.into());
    let (store, progress) = (Store::open().map_err(wrap)?, Progress::detect());
    let mut last_failure = None;
    let mut ready = 0;
    for planned in &plan.kernels {
        let request = Request {
            kernels: vec![planned.choice.clone()],
            unfix: false,
            needs: needs.clone(),
            refresh,
            overrides: Overrides::from_env(),
        };
        match assets::setup(&request, &store, progress) {
            Ok(_) => {
                ready += 1;
                output::print(&format!("kernel  {}\n", planned.name))?;
            }
            Err(error) => {
                tracing::warn!("{}: {error}", planned.name);
                last_failure = Some(error);
            }
        }
    }
    match last_failure {
        Some(error) if ready == 0 => Err(wrap(error)),
        _ => output::print(&format!("cache   {}\n", store.root().display())),
    }
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {file}"))
        .map_err(Failure::BadInput)?;
    let plan = Plan::parse(&file, &text).map_err(|error| Failure::BadInput(error.into()))?;
    plan.check(&file).map_err(failure)?;
    Ok(plan)
}

fn plan(options: &VerdictsOptions) -> Result<Plan, Failure> {
    if let Some(path) = &options.campaign {
        return read_plan(path);
    }
    let scenarios =
        if options.scenarios.is_empty() { named(campaign::SCENARIOS) } else { options.scenarios.clone() };
    let deadline = options.deadline;
    Plan::new(&kernels(options)?, &scenarios, options.repeat, deadline).map_err(failure)
}

/// Those that are named, each with what is put on top of it; without names, the thread's. A patch alone is compared with
/// the kernel that it is put on.
fn kernels(options: &VerdictsOptions) -> Result<Vec<KernelChoice>, Failure> {
    let VerdictsOptions { kernels: names, patch, config, .. } = options;
    let with_all = |name: &String| with(by_name_or_path(name, None, None)?, patch, config);
    if names.is_empty() && !patch.is_empty() {
        let unpatched = by_name_or_path(campaign::UNPATCHED, None, None)?;
        return Ok(vec![with(unpatched.clone(), &[], config)?, with(unpatched, patch, config)?]);
    }
    let names = if names.is_empty() { named(campaign::KERNELS) } else { names.clone() };
    names.iter().map(with_all).collect()
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Joins the shards of a campaign.
pub(super) fn merge(options: &MergeOptions) -> Result<(), Failure> {
    let warn = |warning: &str| tracing::warn!("{warning}");
    let verdicts = campaign::merge(&options.shards, &options.out, warn).map_err(failure)?;
    output::print(&table::text(&verdicts, Style { colour: output::colour() }))?;
    ended(campaign::exit_code_of_all(&verdicts))
}

/// The text for a mail.
pub(super) fn summary(options: &SummaryOptions) -> Result<(), Failure> {
    let verdicts = campaign::read(&options.directory).map_err(failure)?;
    let text = mail::write(&verdicts, options.tested_by.as_deref());
    output::print(&text.map_err(|error| Failure::Failed(anyhow!(error)))?)
}

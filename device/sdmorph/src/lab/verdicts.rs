//! `sdmorph lab verdicts`, `merge` and `summary`: kernels on trial.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use sdmorph_lab::assets::{KernelChoice, Overrides};
use sdmorph_lab::campaign::{self, Plan, Shard, mail, table};
use sdmorph_lab::report::Style;

use super::{check_rules, ended, failure, named_kernel};
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
    let server_exe = std::env::current_exe()
        .map_err(|error| Failure::Surroundings(anyhow!("where is this program? {error}")))?;
    let options = campaign::Options {
        plan,
        shard: options.shard.unwrap_or(Shard::WHOLE),
        jobs: options.jobs,
        out_dir: options.out.clone().unwrap_or_else(|| PathBuf::from("target/lab/verdicts")),
        json: options.json,
        colour: colour(),
        server_exe,
        overrides: Overrides::from_env(),
    };
    let page = |directory: &Path| match report::page(directory) {
        Ok(_) => {}
        Err(failure) => super::no_page(failure),
    };
    ended(campaign::run(&options, &page, &mut std::io::stdout()).map_err(failure)?)
}

fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn plan(options: &VerdictsOptions) -> Result<Plan, Failure> {
    if let Some(path) = &options.campaign {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {file}"))
            .map_err(Failure::BadInput)?;
        let plan = Plan::parse(&file, &text).map_err(|error| Failure::BadInput(error.into()))?;
        plan.check(&file).map_err(failure)?;
        return Ok(plan);
    }
    let names = |given: &[String], default: &[&str]| {
        if given.is_empty() {
            default.iter().map(|name| (*name).to_owned()).collect()
        } else {
            given.to_vec()
        }
    };
    let kernels = names(&options.kernels, campaign::KERNELS);
    let kernels = kernels.iter().map(|name| named_kernel(name, None, None));
    let kernels = kernels.collect::<Result<Vec<KernelChoice>, Failure>>()?;
    let scenarios = names(&options.scenarios, campaign::SCENARIOS);
    Plan::new(&kernels, &scenarios, options.repeat, options.deadline).map_err(failure)
}

/// Joins the shards of a campaign.
pub(super) fn merge(options: &MergeOptions) -> Result<(), Failure> {
    let warn = |warning: &str| tracing::warn!("{warning}");
    let verdicts = campaign::merge(&options.shards, &options.out, warn).map_err(failure)?;
    output::print(&table::text(&verdicts, Style { colour: colour() }))?;
    ended(campaign::exit_code(&verdicts))
}

/// The text for a mail.
pub(super) fn summary(options: &SummaryOptions) -> Result<(), Failure> {
    let verdicts = campaign::read(&options.directory).map_err(failure)?;
    let text = mail::write(&verdicts, options.tested_by.as_deref());
    output::print(&text.map_err(|error| Failure::Failed(anyhow!(error)))?)
}

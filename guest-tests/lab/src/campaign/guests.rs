//! The runs of a campaign made in guests: what a cell needs is obtained once, when the first of its runs comes up.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::entry::Surroundings;
use super::executor::Runner;
use super::folder::read_result;
use super::machine;
use super::plan::{Plan, PlannedKernel, PlannedRun, hexadecimal};
use super::unchanged::{BootFiles, Program};
use crate::assets::{
    self, Accel, Assets, ErrorKind, KernelChoice, Needs, Overrides, Progress, Request, Store,
};
use crate::failure::Failure;
use crate::keeper::Keeper;
use crate::run::Ready;
use crate::scenario::Scenario;
use crate::session::Bench;
use crate::verdict::Variant;
use crate::vm;

/// Digits of the digest that tell one `sdmorph` from another.
const DIGEST_DIGITS: usize = 12;

/// Who makes runs in guests.
pub(crate) struct Guests<'a> {
    server_exe: &'a Path,
    overrides: &'a Overrides,
    progress: Progress,
    deadline: Option<Duration>,
    /// Of a run that is kept whole.
    page: &'a (dyn Fn(&Path) + Sync),
    store: Store,
    scenarios: Vec<(String, Ready)>,
    kernels: Vec<Column>,
    /// One fetches or builds at a time: the cache has one lock.
    obtaining: Mutex<()>,
    program: Program,
    device: String,
    machine: String,
    _keeper: Keeper,
    _private: tempfile::TempDir,
}

/// What the runs of a cell need, once it has been asked for; why it is not to be had.
type CellAssets = OnceLock<Result<Assets, String>>;

/// A kernel on trial.
struct Column {
    name: String,
    choice: KernelChoice,
    /// What it is made from, as the plan has it.
    planned: String,
    /// Which build it is; why it is not to be had.
    build: OnceLock<Result<Build, String>>,
    /// One for each scenario.
    cells: Vec<CellAssets>,
}

/// A kernel when it was obtained first.
struct Build {
    content: String,
    files: BootFiles,
}

impl Column {
    /// Why it is no longer what the runs of before were made with.
    fn rebuilt(&self, file: &str) -> String {
        let place = match &self.choice {
            KernelChoice::Named(_) => self.name.clone(),
            KernelChoice::Own(own) => own.image.display().to_string(),
            KernelChoice::Tree(tree) => tree.dir.display().to_string(),
        };
        format!(
            "{place} was built anew or replaced since the campaign began ({file} is another one): \
             the same command makes the runs of this kernel with it"
        )
    }
}

impl<'a> Guests<'a> {
    /// Checks everything that can be wrong and costs no time to find out: scenarios, their rules, their scripts.
    pub(crate) fn check(
        plan: &Plan,
        server_exe: &'a Path,
        overrides: &'a Overrides,
        progress: Progress,
        page: &'a (dyn Fn(&Path) + Sync),
    ) -> Result<Self, Failure> {
        let private = vm::run_dir()?;
        let mut keeper = Keeper::start(private.path());
        let mut scenarios = Vec::new();
        for planned in &plan.scenarios {
            let directory = private.path().join(&planned.name);
            fs::create_dir(&directory).map_err(Failure::file("create", &directory))?;
            let file = planned.name_or_path();
            let ready = Ready::check(Scenario::load(file)?, file, server_exe, &directory, &mut keeper)?;
            scenarios.push((planned.name.clone(), ready));
        }
        let column = |planned: &PlannedKernel| {
            Ok(Column {
                name: planned.name.clone(),
                choice: planned.choice.clone(),
                planned: planned.content.clone(),
                build: OnceLock::new(),
                cells: scenarios.iter().map(|_| OnceLock::new()).collect(),
            })
        };
        let kernels = plan.kernels.iter().map(column).collect::<Result<Vec<_>, Failure>>()?;
        let program = Program::at(server_exe)?;
        let content = fs::read(server_exe).map_err(Failure::file("read", server_exe))?;
        let device = hexadecimal(&Sha256::digest(&content)).chars().take(DIGEST_DIGITS).collect();
        Ok(Self {
            server_exe,
            overrides,
            progress,
            deadline: plan.deadline_s.map(Duration::from_secs),
            page,
            store: Store::open()?,
            scenarios,
            kernels,
            obtaining: Mutex::new(()),
            program,
            device,
            machine: machine::describe(),
            _keeper: keeper,
            _private: private,
        })
    }

    /// Virtual CPUs and memory in MiB, each of the guest that has most.
    pub(crate) fn largest(&self) -> (u32, u32) {
        let guests = || self.scenarios.iter().map(|(_, ready)| &ready.scenario.guest);
        let memory_mib = guests().filter_map(|guest| guest.memory_mib()).max();
        (guests().map(|guest| guest.vcpus).max().unwrap_or(1), memory_mib.unwrap_or(512))
    }

    /// The machine, in one line.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// The `sdmorph` that is the device, by the first digits of its SHA-256.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    fn place(&self, run: &PlannedRun) -> Option<(&Column, &CellAssets, &Ready)> {
        let column = self.kernels.iter().find(|column| column.name == run.kernel)?;
        let index = self.scenarios.iter().position(|(name, _)| *name == run.scenario)?;
        Some((column, column.cells.get(index)?, self.scenarios.get(index).map(|(_, ready)| ready)?))
    }

    fn obtain(&self, choice: &KernelChoice, needs: Needs) -> Result<Assets, assets::Error> {
        let _one = self.obtaining.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Request {
            kernels: vec![choice.clone()],
            unfix: false,
            needs,
            refresh: false,
            overrides: self.overrides.clone(),
        };
        assets::setup(&request, &self.store, self.progress)
    }

    /// The kernel, with the modules of all scenarios: what is fetched for one cell is then there for the others. A module
    /// that it lacks costs only the cells that want it.
    fn obtain_kernel(&self, column: &Column) -> Result<Build, String> {
        let mut all = Needs::default();
        for (_, ready) in &self.scenarios {
            all.modules.extend(ready.scenario.guest.needs().modules);
        }
        let choice = &column.choice;
        let assets = self.obtain(choice, all).or_else(|error| match error.kind() {
            ErrorKind::Unusable => self.obtain(choice, Needs::default()),
            _ => Err(error),
        });
        let assets = assets.map_err(|error| error.to_string())?;
        let kernel = assets.kernels.first().ok_or("no kernel was obtained")?;
        let files = BootFiles::of(&kernel.kernel).map_err(|error| error.to_string())?;
        // It may be hours since the plan was made.
        if let (KernelChoice::Own(own), true) = (choice, files.image() != column.planned) {
            return Err(column.rebuilt(&own.image.display().to_string()));
        }
        Ok(Build { content: kernel.content.clone(), files })
    }

    /// What a cell's guests need, with the kernel that the column began with.
    fn obtain_cell(&self, column: &Column, build: &Build, needs: Needs) -> Result<Assets, String> {
        let assets = self.obtain(&column.choice, needs).map_err(|error| error.to_string())?;
        for kernel in &assets.kernels {
            let files = BootFiles::of(&kernel.kernel).map_err(|error| error.to_string())?;
            if let Some(file) = build.files.changed(&files) {
                return Err(column.rebuilt(file));
            }
        }
        Ok(assets)
    }
}

impl Runner for Guests<'_> {
    fn prepare(&self, run: &PlannedRun) -> Result<Surroundings, String> {
        let (column, cell, ready) = self.place(run).ok_or("it is not in the campaign")?;
        self.program.check()?;
        let build = column.build.get_or_init(|| self.obtain_kernel(column));
        let build = build.as_ref().map_err(String::clone)?;
        let assets = cell.get_or_init(|| self.obtain_cell(column, build, ready.scenario.guest.needs()));
        let assets = assets.as_ref().map_err(String::clone)?;
        for kernel in &assets.kernels {
            Failure::unless_as_new(&ready.scenario, &kernel.kernel.release).map_err(|old| old.to_string())?;
        }
        let accel = match assets.accel {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        };
        Ok(Surroundings {
            kernel_build: build.content.clone(),
            device: self.device.clone(),
            machine: self.machine.clone(),
            accel: accel.to_owned(),
        })
    }

    fn may_have_changed(&self, kernel: &str) -> bool {
        let mut columns = self.kernels.iter();
        columns.any(|column| column.name == kernel && matches!(column.choice, KernelChoice::Tree(_)))
    }

    fn run(&self, run: &PlannedRun, directory: &Path) -> Result<Value, Failure> {
        let missing = || Failure::Options(format!("{run}: it was not prepared"));
        let (_, cell, ready) = self.place(run).ok_or_else(missing)?;
        let assets = cell.get().and_then(|assets| assets.as_ref().ok()).ok_or_else(missing)?;
        let bench = Bench {
            scenario: &ready.scenario,
            rules: &ready.rules,
            assets,
            kernel: assets.kernels.first().ok_or_else(missing)?,
            tests: &ready.tests,
            server_exe: self.server_exe,
            place: true,
            share_memory: true,
            trace: ready.scenario.guest.trace,
            record_inputs: false,
            append: &[],
            deadline: self.deadline.unwrap_or(Duration::from_secs(ready.scenario.deadline_s)),
        };
        bench.run(Variant::OnTrial, run.run, directory)?;
        // As whoever reads the directory has it.
        read_result(directory)
    }

    fn show(&self, directory: &Path) {
        (self.page)(directory);
    }
}

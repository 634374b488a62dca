//! The disk that a guest makes of a card, and one of QEMU's own: both in one machine, read and written by turns.

mod fio;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sdmorph_lab::assets::{
    self, Assets, Contents, KernelChoice, Needs, Overrides, Packages, Progress, Request, Store,
};
use sdmorph_lab::scenario::SHIPPED_TESTS;
use sdmorph_lab::server::Server;
use sdmorph_lab::vm::{Vm, VmConfig, path_in_option};

use crate::arguments::GuestOptions;
use crate::report::{Contest, DiskRow, Disks, Host, MeasuredDisk, Settings};
use crate::serving::{IMAGE_BYTES, Serving, device_program, make_image};
use fio::Job;
pub(crate) use fio::JobResult;

/// The guest's side.
const SCRIPT: &str = include_str!("disks.sh");
const TEST: &str = "disks";
/// fio and its libraries are 80 MB of the guest's memory.
const MEMORY_MIB: u32 = 768;
/// How long the guest may say nothing. Nothing is measured with it: it ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much of what the guest said last is told if it ends early.
const LAST_LINES: usize = 12;
/// The names of the two disks, as the guest's script has them.
const OWN: &str = "own";
const OTHER: &str = "other";
/// What the guest's lines for the host begin with.
const MARK: &str = "sdmorph-bench ";

/// Measures both disks.
///
/// # Errors
/// There is no QEMU, kernel, fio or device, or the guest does not do it.
pub(crate) fn measure(
    contest: Contest,
    host: &Host,
    settings: &Settings,
    options: &GuestOptions,
) -> Result<Disks> {
    let vcpus = options.vcpus(host.cpus);
    let device = device_program(options)?;
    let kernel = KernelChoice::from_env().unwrap_or_default();
    let needs = Needs {
        modules: [module(contest).to_owned()].into(),
        packages: Packages::from([("fio".to_owned(), ["fio".to_owned()].into())]),
        ..Needs::default()
    };
    let request = Request {
        kernels: vec![kernel],
        unfix: false,
        needs,
        refresh: false,
        overrides: Overrides::from_env(),
    };
    let assets = assets::setup(&request, &Store::open()?, Progress::detect())?;
    let kernel = assets.kernels.first().context("no kernel was asked for")?;
    let (rounds, ms) = (settings.guest_rounds, settings.guest_ms);
    crate::say(&format!(
        "in a guest ({}, QEMU {}, {}): {rounds} rounds of {} jobs of {ms} ms",
        kernel.kernel.release,
        assets.qemu.version,
        assets.accel.name(),
        2 * contest.tasks().len()
    ));
    let jobs = run(contest, &device, &assets, vcpus, settings, options)?;
    let rows = contest.tasks().iter().map(|task| {
        let of = |disk: &str| {
            let name = format!("{disk}:{}", task.name());
            let rounds: Vec<JobResult> =
                jobs.iter().filter(|job| job.name == name).map(|job| job.result).collect();
            if rounds.len() != settings.guest_rounds as usize {
                bail!("fio told of {name} {} times in {} rounds", rounds.len(), settings.guest_rounds);
            }
            MeasuredDisk::new(rounds).context("no rounds")
        };
        Ok(DiskRow { task: *task, own: of(OWN)?, other: of(OTHER)? })
    });
    Ok(Disks {
        contest,
        qemu: assets.qemu.version.clone(),
        accel: assets.accel.name(),
        kernel: kernel.kernel.release.clone(),
        vcpus,
        image_bytes: IMAGE_BYTES,
        rows: rows.collect::<Result<_>>()?,
    })
}

/// The driver that the guest needs besides VMD's and the reader's.
fn module(contest: Contest) -> &'static str {
    match contest {
        Contest::Reader => "sdhci_pci",
        Contest::Drive => "nvme",
    }
}

/// The disk that QEMU has itself, as its arguments.
fn other_disk(contest: Contest, image: &Path) -> Result<Vec<String>> {
    let drive = format!("if=none,id=other0,format=raw,file={}", path_in_option(image)?);
    let devices: &[&str] = match contest {
        Contest::Reader => &["-device", "sdhci-pci,addr=0x6", "-device", "sd-card,drive=other0"],
        Contest::Drive => &["-device", "nvme,addr=0x6,serial=other,drive=other0"],
    };
    Ok(["-drive", &drive].iter().chain(devices).map(|word| (*word).to_owned()).collect())
}

/// Boots the guest and returns what fio said there.
fn run(
    contest: Contest,
    device: &Path,
    assets: &Assets,
    vcpus: u32,
    settings: &Settings,
    options: &GuestOptions,
) -> Result<Vec<Job>> {
    let kind = match contest {
        Contest::Reader => "sd",
        Contest::Drive => "sd-express",
    };
    let mut serving = Serving::start(device, options, kind)?;
    let dir = serving.dir.path().to_path_buf();
    let path = |name: &str| dir.join(name);
    let other = path("other.raw");
    make_image(&other).with_context(|| other.display().to_string())?;

    let kernel = assets.kernels.first().context("no kernel was asked for")?;
    let tests = path("tests");
    std::fs::create_dir(&tests)?;
    for (name, text) in SHIPPED_TESTS.iter().copied().chain([("disks.sh", SCRIPT)]) {
        std::fs::write(tests.join(name), text)?;
    }
    let contents = Contents {
        busybox: &assets.busybox,
        modules: &kernel.kernel.modules,
        own_modules: &[],
        tests: &tests,
        programs: &kernel.programs,
        files: &[],
    };
    let initramfs = path("initramfs");
    contents.write(&initramfs)?;
    let image = kernel.kernel.image.clone();
    let mut config = VmConfig::new(assets.qemu.clone(), assets.accel, image, initramfs, dir.clone());
    config.vcpus = vcpus;
    config.memory_mib = MEMORY_MIB;
    config.device_socket = Some(serving.socket.clone());
    config.test = TEST.to_owned();
    config.append = vec![
        format!("sdmorph.contest={}", contest.name()),
        format!("sdmorph.rounds={}", settings.guest_rounds),
        format!("sdmorph.ms={}", settings.guest_ms),
    ];
    config.qemu_arguments = other_disk(contest, &other)?;
    let mut machine = Vm::start(&config)?;
    serving.keeper.watch(machine.pid());
    let console = machine.take_console().context("the console is already being read")?;
    let heard = listen(&lines(console), settings, &mut serving.server);
    machine.kill();
    let said = machine.stderr();
    serving.server.quit();
    heard.with_context(|| format!("QEMU said: {}", said.trim()))
}

/// The console's lines, read all the time: a guest whose console is not read stops.
fn lines(console: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        while let Ok(1..) = console.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            // Who listened has what it wanted.
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Hears what the guest has for the host, until it ends.
fn listen(console: &Receiver<String>, settings: &Settings, server: &mut Server) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let mut last: Vec<String> = Vec::new();
    let mut heard = Instant::now();
    loop {
        let line = match console.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => {
                bail!("QEMU ended; the guest said last:\n{}", last.join("\n"))
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(how) = server.ended() {
                    bail!("the device's process ended: {how}");
                }
                if heard.elapsed() > PATIENCE {
                    bail!("the guest said nothing for {PATIENCE:?}, and last:\n{}", last.join("\n"));
                }
                continue;
            }
        };
        heard = Instant::now();
        // In the kernel's log: the time comes before it.
        if let Some((_, code)) = line.split_once("sdmorph-init: exit ") {
            if code.trim() == "0" {
                return Ok(jobs);
            }
            bail!("the guest's script ended with {code}; it said last:\n{}", last.join("\n"));
        }
        if let Some(news) = line.strip_prefix(MARK) {
            match news.split_once(' ') {
                Some(("fio", result)) => jobs.push(Job::parse(result).map_err(|error| anyhow!(error))?),
                Some(("round", round)) => {
                    crate::say(&format!(
                        "  round {round} of 0 to {}",
                        settings.guest_rounds.saturating_sub(1)
                    ));
                }
                Some(("disk", disk)) => crate::say(&format!("  disk {disk}")),
                _ => {}
            }
        }
        if last.len() >= LAST_LINES {
            last.remove(0);
        }
        last.push(line);
    }
}
